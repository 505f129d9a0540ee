# SPDX-License-Identifier: GPL-2.0-or-later
"""Applies hunks to a file's text, and gives the patched text `#line` directives.

Applying is exact: a hunk goes where all its old lines are, at the stated line or at the nearest other one
(as patch(1) does with a fuzz of 0), and nowhere else. What does not apply is refused, all hunks of a file at
once.

`#line` directives exist because WARN, BUG, lockdep and others put `__LINE__` into code: one inserted line
made 26 functions of net/core/dev.c "changed" that were not. Every line that the patch
leaves alone keeps its number, so only functions whose text changed can come out different.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from kgbuild.diagnostics.refusals import Refusal
from kgbuild.limits import SEARCH_STEPS
from kgbuild.patch.mail import split_lines
from kgbuild.patch.unified_diff import FilePatch, Hunk
from kgbuild.shown_text import printable

# A line that occurs more often than this ("}", "", "return 0;") says little about where a hunk belongs.
_COMMON = 64

"""A line continuation; gcc takes one with blanks after the backslash too (cpp manual, Initial processing)."""

"""C's tokens as far as lines and parentheses need them, for text without continuations. A quote without its
end reaches to the end of the line, as for gcc (`#error don't`)."""


@dataclass(frozen=True)
class HunkPlace:
    """Where a hunk (counted from 1) went: `line` of the text before it, `offset` = line - stated line."""

    hunk: int
    line: int
    offset: int


@dataclass(frozen=True)
class Applied:
    """A patched text. `map` has, per line of it, the number (from 1) of that line in the text before, or None
    for a line the patch adds."""

    text: bytes
    map: tuple[int | None, ...]
    hunks: tuple[HunkPlace, ...]

    def then(self, later: Applied) -> Applied:
        """Both steps as one: `later` was applied to this text; the map is from the text before this."""
        lines = tuple(None if number is None else self.map[number - 1] for number in later.map)
        return Applied(later.text, lines, self.hunks + later.hunks)

    @property
    def new_bytes(self) -> int:
        """How many bytes the lines have that the patch adds."""
        return sum(len(line) + 1 for line, number in self.final if number is None)

    @property
    def final(self) -> list[tuple[bytes, int | None]]:
        """Each line with its original number, as `with_line_directives` wants them."""
        return list(zip(split_lines(self.text), self.map, strict=True))


def unpatched(text: bytes) -> Applied:
    """The text as it is: what the first of several patches is applied after."""
    return Applied(text, tuple(range(1, len(split_lines(text)) + 1)), ())


def apply_file(orig: bytes, patch: FilePatch, path: str) -> Applied | list[Refusal]:
    """Applies the hunks of one file in order; a later hunk starts from the offset of those before it.

    original  the file's text; b"" for a new file
    path      what messages call the file
    Returns the result, or one refusal (P1-apply, P9-unsupported-file) per hunk that does not apply.
    """
    if patch.kind == "binary":
        return [Refusal("P9-unsupported-file", path, "the patch changes it in binary")]
    if patch.kind == "new" and orig:
        return [Refusal("P1-apply", path, "the patch creates it, and it exists already")]
    text = HunkFinder(orig, path)
    places: list[tuple[int, Hunk]] = []
    done: list[HunkPlace] = []
    refused: list[Refusal] = []
    reversed_hunks = 0
    offset = floor = 0
    for number, hunk in enumerate(patch.hunks, start=1):
        stated = _start(hunk)
        found = text.find(hunk, stated + offset, floor)
        checked = bool(hunk.old_count) or not orig  # without old lines any place would do
        if len(found) == 1 and checked and not text.has(hunk, stated + offset, found[0]):
            places.append((found[0], hunk))
            offset, floor = found[0] - stated, found[0] + hunk.old_count
            done.append(HunkPlace(number, found[0] + 1, offset))
            continue
        fact, is_reversed = _explain(text, hunk, stated + offset, found)
        reversed_hunks += is_reversed
        label = f", {hunk.header[:40]}" if hunk.header else ""
        title = f"hunk {number} of {len(patch.hunks)} (line {hunk.old_start}{label})"
        refused.append(Refusal("P1-apply", path, f"{title} {fact}"))
    if reversed_hunks and reversed_hunks == len(patch.hunks):
        fact = f"the patch is already applied: all {reversed_hunks} hunks are in the file"
        return [Refusal("P1-apply", path, fact, remedy="leave the patch out")]
    if not refused:
        result = _replace(text.lines, places, tuple(done))
        if patch.kind != "delete" or not result.text:
            return result
        refused.append(Refusal("P1-apply", path, f"the patch deletes it, but it has {len(result.map)} more lines"))
    return refused


def is_applied(text: bytes, patch: FilePatch) -> bool:
    """Whether a text has what every hunk of a file makes, so that the patch taken back would apply to it."""
    if patch.kind in ("binary", "delete") or not patch.hunks:
        return False
    there = HunkFinder(text, "")
    for hunk in patch.hunks:
        found = there.matches(hunk.new) if hunk.new != hunk.old else []
        if len(found) != 1 and hunk.new_start - 1 not in found:
            return False
    return True


def _start(hunk: Hunk) -> int:
    """The index (from 0) of a hunk's first old line. Without old lines @@ names the line before."""
    return hunk.old_start - 1 if hunk.old_count else hunk.old_start


def _replace(lines: list[bytes], places: list[tuple[int, Hunk]], done: tuple[HunkPlace, ...]) -> Applied:
    """The text with each hunk put in at its index; places are in order and do not overlap."""
    text: list[bytes] = []
    numbers: list[int | None] = []
    at = 0
    for start, hunk in places:
        text += lines[at:start]
        numbers += range(at + 1, start + 1)
        at = start
        for line in hunk.lines:
            if line[:1] != b"-":
                text.append(line[1:])
                numbers.append(None if line[:1] == b"+" else at + 1)
            at += line[:1] != b"+"
    text += lines[at:]
    numbers += range(at + 1, len(lines) + 1)
    return Applied(b"".join(text), tuple(numbers), done)


class HunkFinder:
    """Lines of a file with an index of where each line occurs."""

    def __init__(self, text: bytes, path: str) -> None:
        self.path = path
        self.compared = 0  # lines, while looking for hunks
        self.lines = split_lines(text)
        self._closings: list[int] | None = None
        self._bare: list[bytes] | None = None
        self._dense: tuple[list[int], dict[bytes, list[int]]] | None = None
        self.index: dict[bytes, list[int]] = {}
        for i, line in enumerate(self.lines):
            self.index.setdefault(line, []).append(i)

    @property
    def closings(self) -> list[int]:
        """The indexes of the lines that begin with a closing brace: where definitions end."""
        if self._closings is None:
            self._closings = [index for index, line in enumerate(self.lines) if line[:1] == b"}"]
        return self._closings

    @property
    def bare_lines(self) -> list[bytes]:
        """The lines without blanks and line ends, as `hunk_states` compares them."""
        if self._bare is None:
            self._bare = [b"".join(line.split()) for line in self.lines]
        return self._bare

    @property
    def dense_lines(self) -> tuple[list[int], dict[bytes, list[int]]]:
        """The indexes of the lines that are not blank, and where in that list each of `bare_lines` is."""
        if self._dense is None:
            own = [index for index, text in enumerate(self.bare_lines) if text]
            index: dict[bytes, list[int]] = {}
            for place, line in enumerate(own):
                index.setdefault(self.bare_lines[line], []).append(place)
            self._dense = own, index
        return self._dense

    def matches(self, block: Sequence[bytes]) -> list[int]:
        """All indexes at which `block` is found, looked for by its rarest line."""
        if not block:
            return []
        places, back = min(
            ((self.index.get(line, []), k) for k, line in enumerate(block)), key=lambda item: len(item[0])
        )
        wanted = list(block)
        self.compared += len(places) * min(len(wanted), 1 + len(places))
        SEARCH_STEPS.check(self.compared, self.path, "split the patch, or make it with more context")
        starts = (p - back for p in places)
        return [s for s in starts if s >= 0 and self.lines[s : s + len(wanted)] == wanted]

    def find(self, hunk: Hunk, expected: int, floor: int) -> list[int]:
        """The nearest index a hunk fits at, not before `floor`; two of them when they are equally near."""
        if not hunk.old_count:
            return [expected] if floor <= expected <= len(self.lines) else []
        whole = bool(hunk.new) and not hunk.new[-1].endswith(b"\n")
        old = list(hunk.old)
        if expected >= floor and not whole and self.lines[expected : expected + len(old)] == old:
            return [expected]
        fits = [s for s in self.matches(old) if s >= floor]
        if whole:  # a text without a last line end must end there
            fits = [s for s in fits if s + hunk.old_count == len(self.lines)]
        nearest = min((abs(s - expected) for s in fits), default=0)
        return [s for s in fits if abs(s - expected) == nearest]

    def has(self, hunk: Hunk, expected: int, found: int) -> bool:
        """Whether a hunk that fits elsewhere too has been applied already, where it is expected."""
        return found != expected and bool(hunk.new) and not self.differing(hunk.new, expected)

    def nearest(self, block: Sequence[bytes], expected: int) -> tuple[int, list[int]] | None:
        """Where most of a block is, and which of its lines differ; None if half of them or more do."""
        votes: Counter[int] = Counter()
        for k, line in enumerate(block):
            places = self.index.get(line, [])
            if len(places) <= _COMMON:
                votes.update(p - k for p in places)
        votes[expected] += 0
        best = max(votes, key=lambda s: (votes[s], -abs(s - expected)))
        differing = self.differing(block, best)
        return (best, differing) if len(differing) * 2 < len(block) else None

    def differing(self, block: Sequence[bytes], start: int) -> list[int]:
        """Which lines of a block (indexes into it) are not at `start`."""
        return [k for k, line in enumerate(block) if self.at(start + k) != line]

    def at(self, i: int) -> bytes | None:
        return self.lines[i] if 0 <= i < len(self.lines) else None


def _explain(text: HunkFinder, hunk: Hunk, expected: int, found: list[int]) -> tuple[str, bool]:
    """Why a hunk can't be applied, and whether that is because it has been already."""
    if not hunk.old_count:
        return "has no context lines: where it belongs can't be checked; make it with diff -U3", False
    if len(found) > 1:
        places = " and ".join(str(s + 1) for s in found)
        return f"is ambiguous: it fits equally well at lines {places}", False
    old, new = hunk.old, hunk.new
    there = text.matches(new) if new != old else []
    if len(there) == 1 or expected in there:
        return f"is already applied, at line {(expected if expected in there else there[0]) + 1}", True
    near = text.nearest(old, expected)
    place = expected if near is None else near[0]
    differing = near[1] if near and near[1] else text.differing(old, place)
    if not differing:
        return "overlaps a hunk before it, or ends the file where more lines follow", False
    wanted, seen = old[differing[0]], text.at(place + differing[0])
    shown = "the end of the file" if seen is None else f"`{_excerpt(seen)}`"
    fact = f"does not apply: line {place + differing[0] + 1}: expected `{_excerpt(wanted)}`, found {shown}"
    blanks = all(_blankless(old[k]) == _blankless(text.at(place + k)) for k in differing)
    note = ", in white space or line ends only (mail or an editor may have damaged the patch)" if blanks else ""
    if near is None:
        return f"{fact}{note or '; nothing like it is in the file'}", False
    lines = "1 line differs" if len(differing) == 1 else f"{len(differing)} lines differ"
    return f"{fact}; nearest: line {place + 1} ({place + 1 - hunk.old_start:+d}), {lines}{note}", False


def _excerpt(line: bytes) -> str:
    return printable(line.strip())[:70]


def _blankless(line: bytes | None) -> bytes | None:
    return None if line is None else b"".join(line.split())
