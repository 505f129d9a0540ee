# SPDX-License-Identifier: GPL-2.0-or-later
"""Tables of strings with NUL at their ends, whose entries may lie inside each other.

A linker lets "bar" be the end of "foobar". A broken file may name each byte of one long string as the beginning of a
name: then reading all names takes the square of the file's size. Real tables have hardly more
bytes of names than bytes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate

# Bytes of names that may be read for each byte of the table, and for each name.
_TIMES, _EACH = 16, 256


def names_overlap(strings: bytes, starts: Iterable[int]) -> bool:
    """Whether the names that begin at `starts` are many times longer, together, than their table is. Takes time in
    proportion to the table and to the number of names."""
    lengths = list(map(len, strings.split(b"\0")))
    if max(lengths) <= _EACH:
        return False
    # place behind the end of each string
    ends = list(accumulate(length + 1 for length in lengths))
    total, budget = 0, _TIMES * len(strings)
    for start in starts:
        at = bisect_right(ends, start)
        total += ends[at] - start if at < len(ends) else 0
        budget += _EACH
    return total > budget


class StringTable:
    """The strings of a table, by offset. Each is read once; together they may not be many times the table."""

    def __init__(self, strings: bytes) -> None:
        self.strings = strings
        self._known: dict[int, str] = {}
        self._budget = _TIMES * len(strings)

    def at(self, place: int) -> str:
        """The string at an offset. Raises ValueError where it has no end, or strings overlap too much."""
        found = self._known.get(place)
        if found is None:
            end = self.strings.index(b"\0", place)
            self._budget += _EACH - (end - place)
            if self._budget < 0:
                raise ValueError("its strings lie inside each other")
            found = self._known[place] = self.strings[place:end].decode("utf-8", "replace")
        return found
