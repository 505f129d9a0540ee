# SPDX-License-Identifier: GPL-2.0-or-later
"""Which function a place in a C file is in, by lines that begin in the first column: as diff -p sees it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kgbuild.patch.apply import HunkFinder
from kgbuild.patch.unified_diff import Hunk

# `static int name(`, `name(`; not a declaration of one line, nor EXPORT_SYMBOL(name);
_DEFINED = re.compile(rb"(?:[A-Za-z_][\w\s*]*[\s*])?([A-Za-z_]\w*)\s*\((?![^()]*\)\s*;)")
_NO_FUNCTION = frozenset({b"if", b"for", b"while", b"switch", b"return", b"sizeof", b"__attribute__"})
_SHOWN = 200  # characters of a line that are looked at


def name_in(line: bytes) -> str:
    """The name of the function that a line begins to define; "" where it does not."""
    found = _DEFINED.match(line[:_SHOWN])
    return found[1].decode() if found and found[1] not in _NO_FUNCTION else ""


def heading(lines: Sequence[bytes], before: int) -> str:
    """The name of the function that the line of index `before` is in; "" where it is in none."""
    for index in range(before - 1, -1, -1):
        if lines[index][:1] == b"}":
            return ""
        if name := name_in(lines[index]):
            return name
    return ""


def function_of(hunk: Hunk, before: Sequence[bytes]) -> str:
    """The name of the function that a hunk changes behind its lines `before`; "" where neither these nor the hunk's
    header tell."""
    if any(line[:1] == b"}" for line in before):
        return heading(before, len(before))
    return heading(before, len(before)) or name_in(hunk.header.strip().encode("utf-8", "surrogateescape"))


def other_function(finder: HunkFinder, hunk: Hunk, before: Sequence[bytes], place: int) -> tuple[str, str] | None:
    """The function that a change is for and the one that the line of index `place` is in, where these are two."""
    wanted, found = function_of(hunk, before), heading(finder.lines, place)
    return (wanted, found) if wanted and found and wanted != found else None


def defines(finder: HunkFinder, name: str) -> bool:
    """Whether a file defines a function of that name."""
    return any(name_in(line) == name for line in finder.lines)
