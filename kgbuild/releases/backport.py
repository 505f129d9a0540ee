# SPDX-License-Identifier: GPL-2.0-or-later
"""Puts the changes of a fix where they belong in a text that differs from the one they were made for.

Each run of changed lines is looked for by itself, with as much of the lines around it as are there: first all of them,
then fewer, from the outside in, as patch(1) does with its fuzz. Unlike there, a place counts only if it is the only one
in the file, or in the function that is nearest; what is left of the hunk must be able to tell it from other code. Every
place that was chosen is said, since a person must look at it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kgbuild.patch.apply import HunkFinder
from kgbuild.patch.unified_diff import FilePatch, Hunk
from kgbuild.releases.hunk_states import APPLIES, THERE, function_around, judge_hunk, tells
from kgbuild.shown_text import printable


@dataclass(frozen=True)
class Ported:
    """A text with the changes that found their place. `notes` say what was done with each hunk that was not exact,
    `missing` which found no place, each with the nearest line."""

    text: bytes
    notes: tuple[str, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True)
class _ChangedLines:
    """A run of changed lines with the lines around it: `before` and `behind` are context, nearest last and first."""

    before: tuple[bytes, ...]
    lines: tuple[bytes, ...]
    behind: tuple[bytes, ...]
    start: int  # index of its first line in the hunk's old side

    @property
    def old(self) -> tuple[bytes, ...]:
        return tuple(line[1:] for line in self.lines if line[:1] != b"+")

    @property
    def new(self) -> tuple[bytes, ...]:
        return tuple(line[1:] for line in self.lines if line[:1] != b"-")


def port_file(orig: bytes, file: FilePatch, path: str) -> Ported:
    """Apply what a fix does to one file. Hunks that are in the text already are left out."""
    notes: list[str] = []
    missing: list[str] = []
    text = orig
    offset = 0
    for number, hunk in enumerate(file.hunks, 1):
        finder = HunkFinder(text, path)
        state = judge_hunk(finder, hunk, number, offset)
        if state.state in THERE:
            notes.append(f"hunk {number} is left out: it is in the source already, at line {state.line}")
            continue
        if state.state == APPLIES:
            start = state.line - 1
            text = _replaced(finder, start, hunk.old_count, hunk.new)
            offset = state.line - hunk.old_start + hunk.new_count - hunk.old_count
            continue
        made = _port_hunk(text, hunk, path, offset)
        if isinstance(made, str):
            missing.append(f"{path}:{state.line}: hunk {number}: {made}; {state.fact}")
            continue
        text, lines = made
        places = ", ".join(map(str, lines))
        notes.append(f"hunk {number} went to line {places}, where not all of its context is: please look at it")
        offset = lines[0] - hunk.old_start
    return Ported(text, tuple(notes), tuple(missing))


def _replaced(finder: HunkFinder, start: int, count: int, new: tuple[bytes, ...]) -> bytes:
    return b"".join([*finder.lines[:start], *new, *finder.lines[start + count :]])


def _port_hunk(text: bytes, hunk: Hunk, path: str, offset: int) -> tuple[bytes, list[int]] | str:
    """The text with a hunk, and the lines (from 1) where its runs went; or why a run found no place."""
    lines: list[int] = []
    shift = 0
    for run in _runs(hunk):
        finder = HunkFinder(text, path)
        if run.new and finder.matches((*run.before[-1:], *run.new, *run.behind[:1])):
            continue
        expected = hunk.old_start - 1 + offset + run.start + shift
        place = _place(finder, run, expected)
        if isinstance(place, str):
            return place
        text = _replaced(finder, place, len(run.old), run.new)
        lines.append(place + 1)
        shift += place - expected + len(run.new) - len(run.old)
    return (text, lines) if lines else "nothing of it is left to apply"


def _runs(hunk: Hunk) -> Iterator[_ChangedLines]:
    """The runs of changed lines of a hunk; lines that are left alone separate them."""
    at = start = 0
    lines = hunk.lines
    old = 0
    while at < len(lines):
        if lines[at][:1] == b" ":
            at, old = at + 1, old + 1
            continue
        start, begin = at, old
        while at < len(lines) and lines[at][:1] != b" ":
            old += lines[at][:1] == b"-"
            at += 1
        # what stands around it as it is after the runs before it
        before = tuple(line[1:] for line in lines[:start] if line[:1] != b"-")
        behind = tuple(line[1:] for line in lines[at:] if line[:1] != b"+")
        yield _ChangedLines(before, lines[start:at], behind, begin)


def _place(finder: HunkFinder, run: _ChangedLines, expected: int) -> int | str:
    """The index of the line at which a run's old lines are, or would be; else why there is none."""
    longest = max(len(run.before), len(run.behind))
    near = finder.nearest((*run.before, *run.old, *run.behind), expected)
    around = function_around(finder, *_span(run, expected if near is None else near[0] + len(run.before)))
    for kept in range(longest, -1, -1):
        for before, behind in _sides(kept, run):
            block = (*before, *run.old, *behind)
            if not any(map(tells, block)) or (not run.old and not (before or behind)):
                continue
            found = [place + len(before) for place in finder.matches(block)]
            inside = [place for place in found if around[0] <= place <= around[1]]
            if len(found) == 1 and (len(inside) == 1 or kept >= 2):
                return found[0]
            if len(inside) == 1:
                return inside[0]
            if len(inside) > 1:
                shown = " and ".join(str(place + 1) for place in inside[:3])
                return f"it fits at lines {shown} alike"
    gone = next((line for line in run.old if tells(line)), b"")
    wanted = f" (`{printable(gone.strip())[:60]}`)" if gone else ""
    return f"the lines that it changes are not there{wanted}"


def _span(run: _ChangedLines, start: int) -> tuple[int, int]:
    return start, start + len(run.old)


def _sides(kept: int, run: _ChangedLines) -> Iterator[tuple[tuple[bytes, ...], tuple[bytes, ...]]]:
    """Which lines around a run are asked for: as many on both sides, then on one side alone."""
    before, behind = run.before[-kept:] if kept else (), run.behind[:kept]
    yield before, behind
    if kept and not run.old:
        yield before, ()
        yield (), behind
