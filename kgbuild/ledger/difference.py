# SPDX-License-Identifier: GPL-2.0-or-later
"""One difference between two objects, as the ledger writes it down."""

from __future__ import annotations

from dataclasses import dataclass

from kgbuild.ledger.pieces import Place

CAME, WENT, CONTENT, REFERENCE, ENTRIES, SIZE, ALIGN, BIND, VISIBILITY, TYPE, SECTION, ORDER, ALIAS, TEXT, GROUP = (
    "came",
    "went",
    "content",
    "reference",
    "entries",
    "size",
    "alignment",
    "binding",
    "visibility",
    "type",
    "section",
    "order",
    "alias",
    "text",
    "group",
)
# of what BPF reads: types of a function that it calls or is called for; nothing but names of parameters or members
PROTOTYPE, NAMES = "prototype", "names"
SHOWN = 16  # bytes of a difference that are shown


@dataclass(frozen=True, order=True)
class Difference:
    """One difference. `section` is the kind of section, without the name of the one symbol that it is for; `symbol` is
    the patched object's name where it has one; `offset` is that of the first byte that differs, in the symbol (of the
    owner, for entries of a table), -1 where that says nothing. `original` and `patched` show what was and what is, as
    hex digits or as what is meant, "" for what is not there. `before` and `after` are the places in the two files."""

    section: str
    symbol: str
    kind: str
    offset: int = -1
    original: str = ""
    patched: str = ""
    before: Place | None = None
    after: Place | None = None

    def __str__(self) -> str:
        where = f"{self.symbol or self.section}" + (f"+{self.offset:#x}" if self.offset >= 0 else "")
        inside = f" in {self.section}" if self.symbol else ""
        return f"{where}{inside}: {self.kind}: {self.original or 'nothing'} -> {self.patched or 'nothing'}"


class Book:
    """Where the parts of the ledger write."""

    def __init__(self) -> None:
        self.out: list[Difference] = []

    def say(
        self,
        section: str,
        symbol: str,
        kind: str,
        original: str = "",
        patched: str = "",
        offset: int = -1,
        before: Place | None = None,
        after: Place | None = None,
    ) -> None:
        self.out.append(Difference(section, symbol, kind, offset, original, patched, before, after))
