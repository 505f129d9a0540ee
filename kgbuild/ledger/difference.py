# SPDX-License-Identifier: GPL-2.0-or-later
"""One difference between two objects, as the ledger records it."""

from __future__ import annotations

from typing import NamedTuple

from kgbuild.ledger.pieces import SectionOffset

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
# of what BPF uses: the types of a function in a set with flags; only names of parameters or members
PROTOTYPE, NAMES = "prototype", "names"
SHOWN = 16  # how many bytes of a difference are shown


class Difference(NamedTuple):
    """One difference. `section` is the kind of section, without the name of the symbol it is for; `symbol` is the name
    in the patched object if it exists there; `offset` is that of the first differing byte within the symbol (for table
    entries, within the symbol that owns the entry), -1 if there is none. `orig` and `patched` show both contents,
    as hex digits or by their meaning, "" on a side without any. `orig_place` and `patched_place` are the places in the
    two files."""

    section: str
    symbol: str
    kind: str
    offset: int = -1
    orig: str = ""
    patched: str = ""
    orig_place: SectionOffset | None = None
    patched_place: SectionOffset | None = None

    def __str__(self) -> str:
        where = f"{self.symbol or self.section}" + (f"+{self.offset:#x}" if self.offset >= 0 else "")
        inside = f" in {self.section}" if self.symbol else ""
        return f"{where}{inside}: {self.kind}: {self.orig or 'nothing'} -> {self.patched or 'nothing'}"


class Book:
    """Collects the differences that the parts of the ledger find."""

    def __init__(self) -> None:
        self.out: list[Difference] = []

    def say(
        self,
        section: str,
        symbol: str,
        kind: str,
        orig: str = "",
        patched: str = "",
        offset: int = -1,
        orig_place: SectionOffset | None = None,
        patched_place: SectionOffset | None = None,
    ) -> None:
        self.out.append(Difference(section, symbol, kind, offset, orig, patched, orig_place, patched_place))
