# SPDX-License-Identifier: GPL-2.0-or-later
"""The line of the patch that a difference comes from.

Table symbols are named by macros after their argument (`__ksymtab_kfree` by EXPORT_SYMBOL(kfree), `__param_debug` by
module_param(debug, ...)). So this searches the removed and added lines for the one that contains the longest word of
the symbol, or the text that the difference shows. If no line does, the place stays unknown.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from kgbuild.ledger.difference import WENT, Difference
from kgbuild.ledger.pieces import BTF, MODINFO

if TYPE_CHECKING:
    from kgbuild.patch.unified_diff import FilePatch

_WORD = re.compile(rb"[A-Za-z_]\w*")
_LEAST = 2  # minimum length of a word that is part of a symbol


class PatchLine(NamedTuple):
    """A removed or added line of a patch, with its number in the original or in the patched file, respectively."""

    path: str
    number: int
    text: bytes
    removed: bool

    @property
    def place(self) -> str:
        return f"{self.path}:{self.number}"


def changed_lines(files: Iterable[FilePatch], paths: Collection[str]) -> list[PatchLine]:
    """Every line that the patches remove from or add to the files `paths` of the tree, in order."""
    out = []
    for file in files:
        named = (file.old_path, file.new_path)
        path = max((p for p in paths if any(f"/{n}".endswith(f"/{p}") for n in named)), key=len, default="")
        if not path:
            continue
        for hunk in file.hunks:
            orig_number, patched_number = hunk.old_start, hunk.new_start
            for line in hunk.lines:
                sign = line[:1]
                if sign == b"-":
                    out.append(PatchLine(path, orig_number, line[1:], True))
                elif sign == b"+":
                    out.append(PatchLine(path, patched_number, line[1:], False))
                orig_number += sign in b" -"
                patched_number += sign in b" +"
    return out


def place_of(difference: Difference, lines: Sequence[PatchLine]) -> str:
    """The place of a difference in the source, as `path:line`; "" if no line of the patch contains it. Something
    removed is searched for in removed lines, anything else in added lines first."""
    wanted = [line for line in lines if line.removed == (difference.kind == WENT)]
    if difference.kind != WENT:
        wanted += [line for line in lines if line.removed]
    best: tuple[tuple[int, bool], PatchLine] | None = None
    values = _values(difference)
    for line in wanted:
        words = set(_WORD.findall(line.text))
        if values:
            has = (v for v in values if (v in words if _WORD.fullmatch(v) else v in line.text))
        else:
            has = (w for w in words if _made_of(difference.symbol, w.decode()))
        word = max(has, key=len, default=b"")
        # prefer an argument of a macro to the variable itself
        rank = len(word), bool(word) and b"(" in line.text.partition(word)[0]
        if word and (best is None or rank > best[0]):
            best = rank, line
    return best[1].place if best is not None else ""


def _values(difference: Difference) -> list[bytes]:
    """Text from the source that the difference shows."""
    if difference.section == MODINFO:
        text = difference.patched or difference.orig
        return [text.encode(), text.partition(":")[0].encode()] if text else []
    if difference.section == BTF:
        # the name of the parameter or member
        names = [text.split()[-1].encode() for text in (difference.patched, difference.orig) if text.split()]
        return [name for name in names if _WORD.fullmatch(name)]
    return []


def _made_of(symbol: str, word: str) -> bool:
    """Whether a macro made a symbol from a word: the word between underscores, or followed by digits."""
    if word == symbol:
        return True
    return len(word) > _LEAST and re.search(rf"(?:^|_|\.){re.escape(word)}(?:$|\.|_|\d)", symbol) is not None
