# SPDX-License-Identifier: GPL-2.0-or-later
"""Where in a TOML text each key is.

`tomllib` gives values without their places, and a message about a wrong key needs a line and a column. The text is read
once more here: only as far as keys, tables, strings and brackets go (TOML 1.0), since `tomllib` has accepted it before.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any

from kgbuild.errors import UserError

Key = tuple[str | int, ...]
Place = tuple[int, int]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_PLAIN = re.compile(r"[^\s,\]}#]+")
_PARTS = 10  # of a dotted key that are distinguished
_LINE = re.compile(r"\(at line (\d+), column (\d+)\)$")


def parse_toml(text: str, name: str) -> tuple[dict[str, Any], Mapping[Key, Place]]:
    """The values of a TOML text, and the line and column (from 1) of each of its keys and of each item of its arrays.

    A key is the path to it: ("fix", 0, "id"). Raises UserError (place "name:line:column") where it is no TOML.
    """
    try:
        values = tomllib.loads(text)
        return values, _TomlReader(text.replace("\r\n", "\n")).read()
    except ValueError as error:  # also of a number with too many digits, which is no TOMLDecodeError
        found = _LINE.search(str(error))
        lines = text.split("\n")
        line, column = (int(found[1]), int(found[2])) if found else (len(lines), len(lines[-1]) + 1)
        fact = _LINE.sub("", str(error).replace("(at end of document)", "(at the end of the file)")).strip()
        remedy = "correct the line; docs/releases.md describes the file"
        raise UserError(f"is no TOML: {fact}", place=f"{name}:{line}:{column}", remedy=remedy) from error
    except RecursionError as error:
        raise UserError("is nested too deep", place=name, remedy="docs/releases.md describes the file") from error


class _TomlReader:
    """Reads a text from top to bottom; `at` is the index of the next character."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line = 1
        self._line_start = 0
        self._counts: dict[Key, int] = {}
        self._places: dict[Key, Place] = {}

    def read(self) -> dict[Key, Place]:
        table: Key = ()
        while self._skip_blank():
            place = self._place()
            if self._text.startswith("[[", self._at):
                self._move(2)
                table = self._resolved(self._key())
                number = self._counts.get(table, 0)
                self._counts[table] = number + 1
                self._places.setdefault(table, place)
                table = (*table, number)
                self._places[table] = place
                self._find("]]")
            elif self._text[self._at] == "[":
                self._move(1)
                table = self._resolved(self._key())
                self._places.setdefault(table, place)
                self._find("]")
            else:
                self._pair(table)
        return self._places

    def _resolved(self, key: Key) -> Key:
        """A table's name in which each array of tables that was begun is followed by the number of its last table."""
        out: Key = ()
        for number, part in enumerate(key):
            out = (*out, part)
            if out in self._counts and number + 1 < len(key):
                out = (*out, self._counts[out] - 1)
        return out

    def _pair(self, table: Key) -> None:
        place = self._place()
        key = (*table, *self._key())
        for end in range(len(table) + 1, min(len(key), len(table) + _PARTS) + 1):
            self._places.setdefault(key[:end], place)
        self._find("=")
        self._value(key)

    def _value(self, key: Key) -> None:
        self._skip_blank()
        char = self._text[self._at]
        if char in "\"'":
            self._string()
        elif char == "[":
            self._move(1)
            number = 0
            while self._skip_blank() and self._text[self._at] != "]":
                self._places[*key, number] = self._place()
                self._value((*key, number))
                number += 1
                self._skip_blank()
                if self._text[self._at] == ",":
                    self._move(1)
            self._move(1)
        elif char == "{":
            self._move(1)
            while self._skip_blank() and self._text[self._at] != "}":
                self._pair(key)
                self._skip_blank()
                if self._text[self._at] == ",":
                    self._move(1)
            self._move(1)
        else:
            found = _PLAIN.match(self._text, self._at)
            self._move(found.end() - self._at if found else 1)

    def _key(self) -> Key:
        parts: list[str | int] = []
        while True:
            self._skip_blank()
            if self._text[self._at] in "\"'":
                parts.append(self._string())
            else:
                found = _BARE.match(self._text, self._at)
                end = found.end() if found else self._at + 1
                parts.append(self._text[self._at : end])
                self._move(end - self._at)
            self._skip_blank()
            if self._text[self._at : self._at + 1] != ".":
                return tuple(parts)
            self._move(1)

    def _string(self) -> str:
        """Pass a string; its value."""
        quote = self._text[self._at]
        begin = self._at
        long = self._text.startswith(quote * 3, self._at)
        end = quote * 3 if long else quote
        at = begin + len(end)
        while not self._text.startswith(end, at):
            at += 2 if quote == '"' and self._text[at] == "\\" else 1
        at += len(end)
        while long and self._text[at : at + 1] == quote:  # up to two quotes may stand before the end
            at += 1
        self._move(at - begin)
        return str(tomllib.loads(f"k = {self._text[begin:at]}")["k"])

    def _skip_blank(self) -> bool:
        """Pass blanks, line ends and comments; whether anything follows."""
        while self._at < len(self._text):
            char = self._text[self._at]
            if char == "#":
                end = self._text.find("\n", self._at)
                self._move((end if end >= 0 else len(self._text)) - self._at)
            elif char.isspace():
                self._move(1)
            else:
                return True
        return False

    def _find(self, text: str) -> None:
        self._move(self._text.index(text, self._at) + len(text) - self._at)

    def _move(self, count: int) -> None:
        piece = self._text[self._at : self._at + count]
        if "\n" in piece:
            self._line += piece.count("\n")
            self._line_start = self._at + piece.rindex("\n") + 1
        self._at += count

    def _place(self) -> Place:
        return self._line, self._at - self._line_start + 1
