# SPDX-License-Identifier: GPL-2.0-or-later
"""Lines of text fitted to the width of a terminal: broken at blanks, and the rest below what it belongs to."""

from __future__ import annotations

import re
from collections.abc import Iterator

# colours and the like take no room (ECMA-48 SGR)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# a label or a column of a table: text behind two blanks or more is where what follows should stand
_COLUMN = re.compile(r"\s*\S+(?: \S+)*?\s{2,}(?=\S)")
_PIECE = re.compile(r"\s+|(?:\x1b\[[0-9;]*m|[^\s\x1b])+|\x1b")
_LEAST = 20  # columns that are left for text at least, else it begins at the left


def width_of(text: str) -> int:
    """Columns that a text takes; wide characters of East Asian scripts take two."""
    bare = _COLOUR.sub("", text)
    if bare.isascii():
        return len(bare)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in bare)


def fit_line(line: str, width: int) -> list[str]:
    """A line as lines of at most `width` columns. It is broken at blanks; a word that is longer is broken, too."""
    if width_of(line) <= width:
        return [line]
    indent = len(line) - len(line.lstrip(" "))
    column = _COLUMN.match(_COLOUR.sub("", line))
    hang = column.end() if column is not None and indent < 4 else indent + 2
    hang = hang if width - hang >= _LEAST else 2
    out: list[str] = []
    now = ""
    for piece in _pieces(line, width - max(hang, indent)):
        if now.strip() and width_of(now + piece.rstrip(" ")) > width:
            out.append(now.rstrip(" "))
            now = " " * hang + piece.lstrip(" ")
        else:
            now += piece
    return [*out, now.rstrip(" ")] if now.strip() else out


def _pieces(line: str, longest: int) -> Iterator[str]:
    """Words and blanks of a line; a word that no line could hold in parts, two columns a character at most."""
    for found in _PIECE.finditer(line):
        piece = found[0]
        if width_of(piece) <= longest or piece.isspace():
            yield piece
            continue
        step = longest if piece.isascii() else max(1, longest // 2)
        bare = _COLOUR.sub("", piece)
        yield from (bare[at : at + step] for at in range(0, len(bare), step))
