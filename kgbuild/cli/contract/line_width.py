# SPDX-License-Identifier: GPL-2.0-or-later
"""No line on a terminal is wider than the terminal: the one place that breaks lines, for all commands.

A line is broken at blanks, and goes on below its text or below its column. A word without blanks, as a path, a symbol
or a URL, is never broken, so that it can be copied: where it is too long for the rest of a line it begins its own, at
the left if need be. Only text in a script that is written without blanks is broken inside. What goes to a pipe or a
file is not touched, nor is data (JSON, graphs, patches).
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any, TextIO
from unicodedata import category, east_asian_width

# colours and the like take no room (ECMA-48 SGR)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# a label or a column of a table: text behind two blanks or more is where what follows should stand
_COLUMN = re.compile(r"\s*\S+(?: \S+)*?\s{2,}(?=\S)")
_PIECE = re.compile(r"\s+|(?:\x1b\[[0-9;]*m|[^\s\x1b])+|\x1b")
_LEAST = 20  # columns that are left for text at least, else it begins at the left
_DEFAULT = 80  # where the terminal does not know its width
_DATA_OPTIONS = frozenset({"--format", "--report", "--json", "-o", "--output", "--proof"})
_DATA = frozenset({"json", "dot", "graphml", "openvex", "csaf", "osv", "-"})


def width_of(text: str) -> int:
    """Columns that a text takes: two for a wide character of East Asian scripts or an emoji, none for one that combines
    with the character before it or is only a mark of format."""
    bare = _COLOUR.sub("", text)
    return len(bare) if bare.isascii() else sum(map(_width, bare))


def _width(char: str) -> int:
    if category(char) in ("Mn", "Me", "Cf") or char in "\u200b\u2028\u2029":
        return 0
    return 2 if east_asian_width(char) in "WF" else 1


def terminal_width(stream: Any) -> int:
    """Columns of the terminal that a stream writes to; where it does not say, COLUMNS of the environment, or 80."""
    said = os.environ.get("COLUMNS", "")
    otherwise = int(said) if said.isdecimal() and 0 < len(said) < 6 else 0
    try:
        found = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError, AttributeError):
        found = 0
    return found or otherwise or _DEFAULT


def fit_line(line: str, width: int) -> list[str]:
    """A line as lines of at most `width` columns. A word that is longer has a line of its own."""
    line = line.expandtabs() if "\t" in line else line
    if width_of(line) <= width:
        return [line]
    indent = len(line) - len(line.lstrip(" "))
    if indent > 2 and width - indent < _LEAST:
        indent = 2
        line = " " * indent + line.lstrip(" ")
    column = _COLUMN.match(_COLOUR.sub("", line))
    hang = column.end() if column is not None and indent < 4 else indent + 2
    hang = hang if width - hang >= _LEAST else 2 if width >= _LEAST else 0
    out: list[str] = []
    now = ""
    for piece in _pieces(line, width - hang):
        word = piece.strip(" ")
        if not word or width_of(now + word) <= width:
            now += piece
            continue
        if now.strip():
            out.append(now.rstrip(" "))
        # as far in as it fits
        now = " " * max(0, min(hang if out else indent, width - width_of(word))) + word
    return [*out, now.rstrip(" ")] if now.strip() else out


def _pieces(line: str, most: int) -> Iterator[str]:
    """Words and blanks of a line. A word of wide characters may be broken between any two of them; a path never."""
    for found in _PIECE.finditer(line):
        piece = found[0]
        if width_of(piece) <= most or piece.isascii() or "/" in piece or not any(_width(c) == 2 for c in piece):
            yield piece
            continue
        part = ""
        for char in _COLOUR.sub("", piece):
            if part and width_of(part) + _width(char) > max(most, 2):
                yield part
                part = ""
            part += char
        yield part


class FittingStream:
    """A terminal's stream on which no line is wider than the terminal. Everything but writing is the stream's own."""

    # what moves the cursor is not text: progress bars
    _MOVES = re.compile(r"\r|\x1b(?!\[[0-9;]*m)")

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write text, its lines broken where they are too wide. Returns the number of characters given."""
        if self._MOVES.search(text):
            self._stream.write(text)
        else:
            width = terminal_width(self._stream)
            lines = text.split("\n")
            self._stream.write("\n".join("\n".join(fit_line(line, width)) if line else "" for line in lines))
        return len(text)


def fit_streams(words: Sequence[str]) -> None:
    """Break too wide lines of standard output and standard error from here on, where these are terminals. `words` are
    those of the command line: data that was asked for is not touched."""
    if not asks_for_data(words) and sys.stdout is not None and sys.stdout.isatty():
        sys.stdout = FittingStream(sys.stdout)
    if sys.stderr is not None and sys.stderr.isatty():
        sys.stderr = FittingStream(sys.stderr)


def asks_for_data(words: Sequence[str]) -> bool:
    """Whether standard output is to be data, by the words of the command line: a form of --format, or "-" for a file.
    What `remedy` writes is a patch."""
    before = ""
    for word in words:
        option, _, value = word.partition("=")
        if (before in _DATA_OPTIONS and word in _DATA) or (option in _DATA_OPTIONS and value in _DATA):
            return True
        before = word
    return bool({"-h", "--help"}.isdisjoint(words)) and "remedy" in words[:1]
