# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether one hunk applies to a text, is in it already, or neither.

A stable kernel has many fixes in another form than the mail: with other context, in several pieces, a few lines away.
So a hunk that neither applies nor is there word for word is laid beside the function that it is for, line by line. It
counts as applied only where every line that it adds stands between the lines that it should stand between, and none of
the lines that it removes is left there: to call a kernel fixed that is not is the worst mistake here, and what is not
clear is a conflict.
"""

from __future__ import annotations

import bisect
import difflib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from kgbuild.patch.apply import HunkFinder
from kgbuild.patch.unified_diff import Hunk
from kgbuild.releases.function_names import defines, other_function
from kgbuild.shown_text import printable

APPLIES, APPLIED, PIECES, MOVED, CONFLICT = "applies", "applied", "in pieces", "moved", "conflict"
THERE = frozenset({APPLIED, PIECES, MOVED})
# Lines that stand in every function say nothing about what a piece of code is.
_COMMON = frozenset(
    b"".join(text.split())
    for text in (
        b"", b"{", b"}", b"};", b"{}", b"});", b"} else {", b"else", b"else {", b"return;", b"return 0;", b"break;",
        b"continue;", b"return ret;", b"return err;", b"goto out;", b"goto err;", b"out:", b"err:", b"/*", b"*/", b"*",
        b"#endif", b"#else", b"do {", b"return -EINVAL;", b"return -ENOMEM;", b"return false;", b"return true;",
        b"return NULL;", b"int ret;", b"int err;", b"int i;", b"unlock:", b"goto unlock;", b"fallthrough;",
    )
)  # fmt: skip
_FAR = 400  # lines of a function that are looked at, above and below
_GAP = 6  # lines of its own that a kernel may have between two lines of a hunk
_MANY = 64  # places of a line that tells little
_WORK = 5_000_000  # pairs of lines that are compared in one file; what comes then is compared word for word only
_LONG = 1000  # lines of a hunk; a longer one is compared word for word only
_SHORT = 24  # characters of code that tell a piece of code from others


@dataclass(frozen=True)
class HunkState:
    """One hunk (counted from 1) of a file: `state`, the line (from 1) of the kernel's file that it is about, and `fact`
    for a person where it is a conflict or not word for word."""

    path: str
    hunk: int
    state: str
    line: int
    fact: str = ""


def judge_hunk(finder: HunkFinder, hunk: Hunk, number: int, offset: int) -> HunkState:
    """The state of a hunk in the text of `finder`; `offset` is how far the hunks before it were from their places."""
    state = _judge(finder, hunk, number, offset)
    if state.state != APPLIES:
        return state
    # lines that several functions have: the place that fits must be in the one that the hunk is for
    before = [line[1:] for line in itertools.takewhile(lambda line: line[:1] == b" ", hunk.lines)]
    other = other_function(finder, hunk, before, state.line - 1 + len(before))
    if other is None or state.line == hunk.old_start + offset or not defines(finder, other[0]):
        return state
    fact = f"fits only in {other[1]}(), at line {state.line}, and is for {other[0]}()"
    return HunkState(state.path, number, CONFLICT, state.line, fact)


def _judge(finder: HunkFinder, hunk: Hunk, number: int, offset: int) -> HunkState:
    path = finder.path
    expected = hunk.old_start - 1 + offset if hunk.old_count else hunk.old_start + offset
    there = finder.matches(hunk.new) if hunk.new and hunk.new != hunk.old else []
    fits = finder.find(hunk, expected, 0) if hunk.old_count else []
    # a text may have both, where code is repeated: what is nearer to the hunk's place is meant
    nearest = min(there, key=lambda at: abs(at - expected), default=None)
    if nearest is not None and (len(there) == 1 or nearest == expected or _alone(there, nearest, expected)):
        told = HunkState(path, number, APPLIED, nearest + 1)
        if not fits or abs(nearest - expected) < abs(fits[0] - expected):
            return told
    if len(fits) == 1 and (nearest is None or abs(fits[0] - expected) < abs(nearest - expected)):
        return HunkState(path, number, APPLIES, fits[0] + 1)
    if len(fits) == 1 and fits[0] == nearest and hunk.old_count != hunk.new_count:
        # one is the beginning of the other: the longer one tells more
        return HunkState(path, number, APPLIES if hunk.old_count > hunk.new_count else APPLIED, nearest + 1)
    if fits and nearest is not None and abs(fits[0] - expected) == abs(nearest - expected):
        fact = f"line {nearest + 1} has it already, and line {fits[0] + 1} not; both are equally near"
        return HunkState(path, number, CONFLICT, nearest + 1, fact)
    place, differing = finder.nearest(hunk.old or hunk.new, expected) or (None, [])
    if len(fits) != 1 and not (hunk.old_count and len(fits) > 1):
        found = _in_pieces(finder, hunk, expected if place is None else place)
        if found is not None:
            return HunkState(path, number, found[0], found[1] + 1, "has other lines around it here")
    if len(fits) > 1:
        return HunkState(path, number, CONFLICT, fits[0] + 1, f"fits at lines {fits[0] + 1} and {fits[1] + 1} alike")
    if place is None:
        return HunkState(path, number, CONFLICT, max(expected, 0) + 1, "nothing like it is in the file")
    first = differing[0] if differing else 0
    wanted, seen = (hunk.old or hunk.new)[first], finder.at(place + first)
    shown = "the end of the file" if seen is None else f"`{_excerpt(seen)}`"
    count = "1 line differs" if len(differing) == 1 else f"{len(differing)} lines differ"
    fact = f"{count}: expected `{_excerpt(wanted)}`, found {shown}"
    return HunkState(path, number, CONFLICT, place + first + 1, fact)


def _alone(there: Sequence[int], nearest: int, expected: int) -> bool:
    """Whether no other place is as near."""
    return sum(abs(at - expected) == abs(nearest - expected) for at in there) == 1


def _excerpt(line: bytes) -> str:
    return printable(line.strip())[:70]


def _bare(line: bytes) -> bytes:
    return b"".join(line.split())


def _in_pieces(finder: HunkFinder, hunk: Hunk, place: int) -> tuple[str, int] | None:
    """(PIECES or MOVED, index of its first line) where the text has what the hunk makes, in other surroundings."""
    if len(hunk.lines) > _LONG:
        return None
    added = {_bare(line[1:]) for line in hunk.lines if line[:1] == b"+"} - _COMMON
    removed = {_bare(line[1:]) for line in hunk.lines if line[:1] == b"-"} - _COMMON
    kept = {_bare(line[1:]) for line in hunk.lines if line[:1] == b" "}
    gone = removed - added - kept
    if not added and not gone:
        return None
    if any(text not in finder.dense_lines[1] for text in added):
        return None  # most fixes that are not there end here
    start, end = function_around(finder, place, place + len(hunk.old))
    finder.compared += len(hunk.lines) * (end - start)
    if finder.compared > _WORK:
        return None
    region = finder.bare_lines[start:end]
    aligned = _aligned(hunk, region)
    if aligned is not None and not gone & set(region):
        return PIECES, start + aligned
    at = _block(hunk, finder)
    if at is not None and not gone & set(region):
        return MOVED, at
    return None


def function_around(finder: HunkFinder, start: int, end: int) -> tuple[int, int]:
    """The lines (index of the first, and of the one behind the last) from the end of the definition before `start` to
    the end of the one that `end` is in, by closing braces in the first column; not further than _FAR lines."""
    size = len(finder.lines)
    first = min(max(start, 0), size)
    last = min(max(end, first), size)
    before = bisect.bisect_left(finder.closings, first)
    behind = bisect.bisect_left(finder.closings, max(last - 1, 0))
    begin = finder.closings[before - 1] + 1 if before else 0
    finish = finder.closings[behind] + 1 if behind < len(finder.closings) else size
    return max(begin, first - _FAR), min(max(finish, last), last + _FAR)


def _aligned(hunk: Hunk, region: Sequence[bytes]) -> int | None:
    """The index in `region` of the hunk's first change, where all its changes are there in order and between lines of
    the hunk that it leaves alone; None if they are not."""
    marked = [(line[:1], _bare(line[1:])) for line in hunk.lines if line[:1] != b"-" and _bare(line[1:])]
    wanted = [text for _, text in marked]
    own = [index for index, text in enumerate(region) if text]
    matcher = difflib.SequenceMatcher(None, wanted, [region[index] for index in own], autojunk=False)
    found = {start + k: at + k for start, at, size in matcher.get_matching_blocks() for k in range(size)}
    changed = [i for i, (sign, text) in enumerate(marked) if sign == b"+" and text not in _COMMON]
    if any(i not in found for i in changed):
        return None
    context = [i for i, (sign, text) in enumerate(marked) if sign == b" " and i in found and text not in _COMMON]
    places = changed or _cuts(hunk)
    for i in places:
        beside = [c for c in (i - 1, i) if c in found and c not in changed]
        if not changed and len(beside) == 2 and found[i] == found[i - 1] + 1 and {wanted[i - 1], wanted[i]} - _COMMON:
            continue
        before = max((c for c in context if c < i), default=None)
        behind = min((c for c in context if c >= i and c not in changed), default=None)
        told = [c for c in (before, behind) if c is not None]
        wanted_sides = sum((any(s == b" " for s, _ in marked[:i]), any(s == b" " for s, _ in marked[i:])))
        if not told or (not changed and len(told) < 2) or (wanted_sides == 2 and len(told) < 2 and len(changed) < 2):
            return None
        at = found.get(i)
        for c in told:
            if at is not None and abs(found[c] - at) > abs(c - i) + _GAP:
                return None
        if at is None and found[told[1]] - found[told[0]] > told[1] - told[0] + 1:
            return None
    first = found.get(places[0], found.get(max((c for c in context if c < places[0]), default=0), 0)) if places else 0
    return own[first] if first < len(own) else None


def _cuts(hunk: Hunk) -> list[int]:
    """Where a hunk takes lines out: how many of the lines it leaves (blank ones not counted) come before."""
    out: list[int] = []
    count = 0
    for line in hunk.lines:
        if line[:1] == b"-":
            if _bare(line[1:]) and (not out or out[-1] != count):
                out.append(count)
        elif _bare(line[1:]):
            count += 1
    return out


def _block(hunk: Hunk, finder: HunkFinder) -> int | None:
    """The index in a file of all that a hunk adds, as one block that occurs once and that can be nothing else; None
    where there is no such block. Blank lines do not count."""
    runs: list[list[bytes]] = [[]]
    for line in hunk.lines:
        if line[:1] == b"+":
            if _bare(line[1:]):
                runs[-1].append(_bare(line[1:]))
        elif runs[-1] and _bare(line[1:]):
            runs.append([])
    blocks = [run for run in runs if run]
    lines = finder.bare_lines
    own, index = finder.dense_lines
    first: int | None = None
    for block in blocks:
        telling = [text for text in block if text not in _COMMON]
        if len(telling) < 3 or sum(map(len, telling)) < 3 * _SHORT:
            return None
        rarest = min(range(len(block)), key=lambda k: len(index.get(block[k], ())))
        near = index.get(block[rarest], ())
        if len(near) > _MANY:
            return None
        starts = [place - rarest for place in near if place >= rarest]
        places = [s for s in starts if [lines[at] for at in own[s : s + len(block)]] == block]
        if len(places) != 1:
            return None
        first = own[places[0]] if first is None else first
    return first


def tells(line: bytes) -> bool:
    """Whether a line can tell a piece of code from another."""
    return _bare(line) not in _COMMON
