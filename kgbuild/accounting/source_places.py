# SPDX-License-Identifier: GPL-2.0-or-later
"""Where in the source a difference comes from: the line of the patch that has what the difference is about.

Symbols of tables are made by macros of what their argument names (`__ksymtab_kfree` by EXPORT_SYMBOL(kfree),
`__param_debug` by module_param(debug, ...)). So a line is looked for that the patch takes away, or adds, and that has
the longest word of which the symbol is made, or the text that the difference shows. Where no line has, the place stays
unknown.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from kgbuild.ledger.difference import WENT, Difference
from kgbuild.ledger.pieces import BTF, MODINFO
from kgbuild.patch.unified_diff import FilePatch

_WORD = re.compile(rb"[A-Za-z_]\w*")
_LEAST = 2  # letters of a word that is a part of a symbol


class Line(NamedTuple):
    """A line of a patch, with its number in the file as it was, or for an added one as it is."""

    path: str
    number: int
    text: bytes
    removed: bool

    @property
    def place(self) -> str:
        return f"{self.path}:{self.number}"


def changed_lines(files: Iterable[FilePatch], paths: Collection[str]) -> list[Line]:
    """Every line that some patches take away from the files `paths` of the tree or add to them, in order."""
    out = []
    for file in files:
        named = (file.old_path, file.new_path)
        path = max((p for p in paths if any(f"/{n}".endswith(f"/{p}") for n in named)), key=len, default="")
        if not path:
            continue
        for hunk in file.hunks:
            old, new = hunk.old_start, hunk.new_start
            for line in hunk.lines:
                sign = line[:1]
                if sign == b"-":
                    out.append(Line(path, old, line[1:], True))
                elif sign == b"+":
                    out.append(Line(path, new, line[1:], False))
                old += sign in b" -"
                new += sign in b" +"
    return out


def place_of(d: Difference, lines: Sequence[Line]) -> str:
    """`path:line` of a difference; "" where no line of the patch has it. What went is looked for in lines that were
    taken away, everything else first in lines that were added."""
    wanted = [line for line in lines if line.removed == (d.kind == WENT)]
    if d.kind != WENT:
        wanted += [line for line in lines if line.removed]
    best: tuple[tuple[int, bool], Line] | None = None
    values = _values(d)
    for line in wanted:
        words = set(_WORD.findall(line.text))
        if values:
            has = (v for v in values if (v in words if _WORD.fullmatch(v) else v in line.text))
        else:
            has = (w for w in words if _made_of(d.symbol, w.decode()))
        word = max(has, key=len, default=b"")
        # an argument of a macro, rather than the variable itself
        rank = len(word), bool(word) and b"(" in line.text.partition(word)[0]
        if word and (best is None or rank > best[0]):
            best = rank, line
    return best[1].place if best is not None else ""


def _values(d: Difference) -> list[bytes]:
    """Text of the source that the difference shows."""
    if d.section == MODINFO:
        text = d.patched or d.original
        return [text.encode(), text.partition(":")[0].encode()] if text else []
    if d.section == BTF:
        # the name of the parameter or member
        names = [text.split()[-1].encode() for text in (d.patched, d.original) if text.split()]
        return [name for name in names if _WORD.fullmatch(name)]
    return []


def _made_of(symbol: str, word: str) -> bool:
    """Whether a macro made a symbol of a word: between underscores, or with numbers and a level behind."""
    if word == symbol:
        return True
    return len(word) > _LEAST and re.search(rf"(?:^|_|\.){re.escape(word)}(?:$|\.|_|\d)", symbol) is not None
