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
from kgbuild.releases.function_names import defines, other_function
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
        text = made.text
        if made.lines:
            places = ", ".join(map(str, made.lines))
            notes.append(f"hunk {number} went to line {places}, where not all of its context is: please look at it")
            offset = made.lines[0] - hunk.old_start
        notes += (f"hunk {number}: {note}" for note in made.notes)
    return Ported(text, tuple(notes), tuple(missing))


def _replaced(finder: HunkFinder, start: int, count: int, new: tuple[bytes, ...]) -> bytes:
    return b"".join([*finder.lines[:start], *new, *finder.lines[start + count :]])


@dataclass(frozen=True)
class _PlacedLines:
    """The text with a hunk, the lines (from 1) where its runs went, and what must be looked at."""

    text: bytes
    lines: tuple[int, ...]
    notes: tuple[str, ...]


def _port_hunk(text: bytes, hunk: Hunk, path: str, offset: int) -> _PlacedLines | str:
    """The text with a hunk; or why a run of it found no place."""
    lines: list[int] = []
    notes: list[str] = []
    shift = 0
    for run in _runs(hunk):
        finder = HunkFinder(text, path)
        expected = hunk.old_start - 1 + offset + run.start + shift
        there = _is_there(finder, run, expected)
        if there is not None:
            notes.append(
                f"a part of it is left out: it is in the source already, at line {there + 1}: please look at it"
            )
            continue
        place = _place(finder, run, expected)
        if isinstance(place, str):
            return place
        other = other_function(finder, hunk, run.before, place)
        if other is not None:
            wanted, found = other
            if defines(finder, wanted):
                return f"it fits in {found}(), at line {place + 1}, and it is for {wanted}()"
            notes.append(f"it is for {wanted}(), which is not in this file, and went into {found}(): please look at it")
        text = _replaced(finder, place, len(run.old), run.new)
        lines.append(place + 1)
        shift += place - expected + len(run.new) - len(run.old)
    return _PlacedLines(text, tuple(lines), tuple(notes)) if lines else "nothing of it is left to apply"


def _is_there(finder: HunkFinder, run: _ChangedLines, expected: int) -> int | None:
    """The index of the line at which all lines that a run makes are, between a line of its context on either side and
    in the function that it is for; None where they are not."""
    if not run.new or not any(map(tells, run.new)):
        return None
    near = finder.nearest((*run.before, *run.old, *run.behind), expected)
    start, end = function_around(finder, *_span(run, expected if near is None else near[0] + len(run.before)))
    found = [place + len(run.before[-1:]) for place in finder.matches((*run.before[-1:], *run.new, *run.behind[:1]))]
    inside = [place for place in found if start <= place < end]
    gone = [line for line in run.old if tells(line) and line not in run.new]
    if len(inside) != 1 or any(line in finder.lines[start:end] for line in gone):
        return None
    return inside[0]


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
