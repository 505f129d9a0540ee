# SPDX-License-Identifier: GPL-2.0-or-later
"""What a patch changes in the source, kept in its module's note, and whether a later patch's source has that change.

A later patch that replaces the same function puts its own version in the place of the older one. Whether that version
contains the older patch's fix can't be seen in code, but in the source: both patches are for one kernel, so
both texts come from one original. The record says which lines of the original an older patch replaced, and digests of
those it put there. With the original this gives back the older text line by line (as digests), which is compared with
the later one, between the nearest lines of the original that both have: a change is there when all lines that it
added are, in order, and those that it removed are not again.

Blanks within a line, blank lines and KGBUILD_STATE say nothing. Tools differ in which of several equal lines they call
new; so lines that a patch takes away and puts back are no change, and a change is moved down, by up to MOVED lines.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kgbuild.patch.mail import split_lines

# A state has a version, and which follows which is judged apart (L4-state).
APART = b"KGBUILD_STATE("
# How many lines further on each side two texts are compared, where they differ between the nearest.
WIDER = 4
# Longer pieces are not compared line by line. How many lines, and how many pairs of equal ones, which decides how
# long the comparison takes (with all lines equal, its third power).
LONG, PAIRS = 2000, 40_000
MOVED = 20  # lines that a change is moved down at most
DIGITS = 8  # of a line's digest; a line of the same file that happens to have the same is no danger


class KeptHunk(NamedTuple):
    """One change: `lines` lines of the original from `start` (from 0) give way to lines with the digests `added`. Lines
    that say nothing are not counted."""

    start: int
    lines: int
    added: tuple[str, ...]


@dataclass(frozen=True)
class FileChange:
    """What a patch does to one file; `orig` is the digest of the file's text without the patch."""

    orig: str
    hunks: tuple[KeptHunk, ...]


class MissingChange(NamedTuple):
    """A change of an older patch that a newer one's source does not have: its file, its line in the original, whether
    that line itself gives way (or something is put in before it)."""

    path: str
    line: int
    replaces: bool


def text_digest(text: bytes) -> str:
    """The digest by which a text is known again (hex)."""
    return hashlib.sha256(text).hexdigest()[: 2 * DIGITS]


@dataclass
class _Text:
    """The lines of a text that say something, in a form to compare; and which lines of the original they are, None for
    new ones."""

    lines: list[str]
    origin: list[int | None]
    place: dict[int, int] = field(default_factory=dict)  # the reverse of origin


def _plain(line: bytes) -> str:
    """A line without what blanks there are in it; "" for one that says nothing of the code."""
    words = line.split()
    return "" if not words or words[0].startswith(APART) else b" ".join(words).decode("latin-1")


def _digest(plain: str) -> str:
    return hashlib.sha256(plain.encode("latin-1")).hexdigest()[:DIGITS] if plain else ""


def _digest_line(line: bytes) -> str:
    return _digest(_plain(line))


def _read_original(text: bytes, form: Callable[[bytes], str]) -> tuple[list[str], list[int]]:
    """The lines that say something, in a form to compare, and their numbers (from 1)."""
    found = [(line, i) for i, raw in enumerate(split_lines(text), 1) if (line := form(raw))]
    return [line for line, _ in found], [number for _, number in found]


def _read_text(
    orig: list[str], numbers: list[int], map_: Sequence[int | None], text: bytes, form: Callable[[bytes], str]
) -> _Text:
    """A patched text; `map_` has for each line of it its number in the original (from 1), None for a new one."""
    index = {number: i for i, number in enumerate(numbers)}
    pairs = [(form(line), index.get(n or 0)) for line, n in zip(split_lines(text), map_, strict=True)]
    out = _Text([line for line, _ in pairs if line], [n for line, n in pairs if line])
    _rematch(orig, out)
    _move_down(orig, out)
    out.place = {n: i for i, n in enumerate(out.origin) if n is not None}
    return out


def _changes(size: int, text: _Text) -> Iterator[tuple[int, int, int, int]]:
    """Each change: the first line of the original, the first behind it, and the same of the text."""
    at = begin = 0
    for i, number in enumerate([*text.origin, size]):
        if number is not None:
            if i > begin or number > at:
                yield at, number, begin, i
            at, begin = number + 1, i + 1


def _rematch(orig: list[str], text: _Text) -> None:
    """Lines that are taken away and put back are the original's."""
    for start, stop, begin, end in list(_changes(len(orig), text)):
        if start < stop and begin < end:
            for orig_at, text_at, size in _matching_blocks(orig[start:stop], text.lines[begin:end]):
                text.origin[begin + text_at : begin + text_at + size] = range(start + orig_at, start + orig_at + size)


def _matching_blocks(orig: Sequence[str], patched: Sequence[str]) -> list[tuple[int, int, int]]:
    """Runs of lines that two texts have in common, in order: (line of the one, of the other, how many).

    In pieces that are long, only what they begin and end with is looked for: to find the rest takes the square of their
    length or more.
    """
    if len(orig) + len(patched) <= LONG and _equal_pairs(orig, patched) <= PAIRS:
        from difflib import SequenceMatcher  # most changes do without

        blocks = SequenceMatcher(None, orig, patched, autojunk=False).get_matching_blocks()
        return [(orig_at, patched_at, size) for orig_at, patched_at, size in blocks]
    shorter = min(len(orig), len(patched))
    head = next((i for i in range(shorter) if orig[i] != patched[i]), shorter)
    tail = next((i for i in range(shorter - head) if orig[-1 - i] != patched[-1 - i]), shorter - head)
    return [(0, 0, head), (len(orig) - tail, len(patched) - tail, tail)]


def _equal_pairs(orig: Sequence[str], patched: Sequence[str]) -> int:
    """How many pairs of a line of the one and a line of the other are equal."""
    times = Counter(patched)
    return sum(times[line] for line in orig)


def _move_down(orig: list[str], text: _Text) -> None:
    for start, stop, begin, end in reversed(list(_changes(len(orig), text))):
        if start == stop:
            _move_new(text, begin, end)
        elif begin == end:
            _move_gone(orig, text, start, stop, end)


def _move_new(text: _Text, begin: int, end: int) -> None:
    last = min(len(text.lines), end + MOVED)
    while end < last and text.origin[end] is not None and text.lines[begin] == text.lines[end]:
        text.origin[begin], text.origin[end] = text.origin[end], None
        begin, end = begin + 1, end + 1


def _move_gone(orig: list[str], text: _Text, start: int, stop: int, at: int) -> None:
    last = min(len(text.lines), at + MOVED)
    while at < last and text.origin[at] == stop and orig[start] == orig[stop]:
        text.origin[at] = start
        start, stop, at = start + 1, stop + 1, at + 1


def read_change(orig: bytes, map_: Sequence[int | None], text: bytes) -> FileChange:
    """What was changed in a file. `map_` has for each line of the patched text its number in the original (from 1),
    None for a new one."""
    lines, numbers = _read_original(orig, _plain)
    patched = _read_text(lines, numbers, map_, text, _plain)
    hunks = (
        KeptHunk(start, stop - start, tuple(map(_digest, patched.lines[begin:end])))
        for start, stop, begin, end in _changes(len(lines), patched)
    )
    return FileChange(text_digest(orig), tuple(hunks))


def find_missing_changes(
    changes: Mapping[str, FileChange], source: Mapping[str, tuple[bytes, Sequence[int | None], bytes]]
) -> list[MissingChange]:
    """The changes of an older patch that are missing in a newer source.

    `source` has, for each file that the older patch changed, the original, and the newer text with its map (as for
    `read_change`). If the original is not the same, nothing is known of the file, and all its changes count as missing.
    """
    out = []
    for path, change in sorted(changes.items()):
        orig, map_, text = source.get(path, (b"", (), b""))
        lines, numbers = _read_original(orig, _digest_line)
        missing: Sequence[KeptHunk] = change.hunks
        fits = all(h.start + h.lines <= len(lines) for h in change.hunks)  # a note may say anything
        if text_digest(orig) == change.orig and fits:
            missing = _missing(change.hunks, lines, _read_text(lines, numbers, map_, text, _digest_line))
        last = numbers[-1] if numbers else 0
        out += [
            MissingChange(path, numbers[h.start] if h.start < len(numbers) else last + 1, h.lines > 0) for h in missing
        ]
    return out


def _missing(hunks: Sequence[KeptHunk], orig: list[str], newer: _Text) -> list[KeptHunk]:
    older = _Text([], [])
    at, places = 0, []
    for start, count, added in (*hunks, KeptHunk(len(orig), 0, ())):
        older.lines += orig[at:start]
        older.origin += range(at, start)
        places.append(len(older.lines))
        older.lines += added
        older.origin += [None] * len(added)
        at = start + count
    older.place = {n: i for i, n in enumerate(older.origin) if n is not None}
    both = sorted(older.place.keys() & newer.place.keys())
    return [h for h, place in zip(hunks, places, strict=False) if not _has(h, place, both, orig, older, newer)]


def _has(hunk: KeptHunk, place: int, both: list[int], orig: list[str], older: _Text, newer: _Text) -> bool:
    """Whether the newer text has a change of the older one, which added its lines at `place`. `both` are the lines of
    the original that both have."""
    end = hunk.start + hunk.lines
    removed = orig[hunk.start : end]
    kept = {orig[n] for n in range(hunk.start, end) if n in newer.place}
    before, behind = bisect_left(both, hunk.start) - 1, bisect_left(both, end)

    def between(text: _Text, more: int) -> tuple[int, list[str]]:
        low, high = before - more, behind + more
        first = text.place[both[low]] + 1 if low >= 0 else 0
        return first, text.lines[first : text.place[both[high]] if high < len(both) else len(text.lines)]

    def is_back(older_lines: list[str], newer_lines: list[str]) -> bool:
        """Whether what was removed is there again."""
        before, now = Counter(older_lines), Counter(newer_lines)
        if any(now[line] > before[line] for line in kept):
            return True
        return bool(removed) and _count(newer_lines, removed) > _count(older_lines, removed)

    # equal lines near by may be said to be others' than they are: what all of it comes to is the same
    for more in range(WIDER):
        older_lines, newer_lines = between(older, more)[1], between(newer, more)[1]
        remaining = iter(newer_lines)
        if all(line in remaining for line in older_lines) and not is_back(older_lines, newer_lines):
            return True
    first, older_lines = between(older, 0)
    _, newer_lines = between(newer, 0)
    if is_back(older_lines, newer_lines) or (removed and all(n in newer.place for n in range(hunk.start, end))):
        return False
    matched: set[int] = set()
    for start, _, size in _matching_blocks(older_lines, newer_lines):
        matched.update(range(start, start + size))
    return matched.issuperset(range(place - first, place - first + len(hunk.added)))


def _count(lines: list[str], wanted: list[str]) -> int:
    """How often a run of lines, not an empty one, is among others; counted in steps of all lines once (Knuth, Morris
    and Pratt)."""
    back = [0] * len(wanted)
    matched = 0
    for i in range(1, len(wanted)):
        while matched and wanted[i] != wanted[matched]:
            matched = back[matched - 1]
        matched += wanted[i] == wanted[matched]
        back[i] = matched
    found = matched = 0
    for line in lines:
        while matched and (matched == len(wanted) or line != wanted[matched]):
            matched = back[matched - 1]
        matched += line == wanted[matched]
        found += matched == len(wanted)
    return found


# -- in the note (docs/schema/note.md) ---------------------------------------------------------------------------------


def as_note(changes: Mapping[str, FileChange]) -> dict[str, Any]:
    """What the note says of the changes, as JSON values."""
    return {
        path: {"original": c.orig, "hunks": [[h.start, h.lines, list(h.added)] for h in c.hunks]}
        for path, c in sorted(changes.items())
    }


def from_note(value: Any) -> dict[str, FileChange]:
    """The changes that a note tells of. Raises TypeError, ValueError, KeyError for what is none."""
    out = {}
    for path, change in value.items():
        hunks = [(int(start), int(count), tuple(map(str, added))) for start, count, added in change["hunks"]]
        if any(start < 0 or count < 0 for start, count, _ in hunks) or hunks != sorted(hunks):
            raise ValueError(f"hunks of {path}")
        out[str(path)] = FileChange(str(change["original"]), tuple(KeptHunk(*hunk) for hunk in hunks))
    return out
