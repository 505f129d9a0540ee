# SPDX-License-Identifier: GPL-2.0-or-later
"""Which declaration a static local variable comes from, by DWARF.

gcc numbers static locals separately in every compile, so `count.4` of one object may be `count.5` of the other, and two
variables may have swapped numbers. The debugging entry names the function that declares the variable, and the line;
#line keeps the line numbers of unchanged source. Only functions that declare one of the wanted variables are read: the
relocations of .debug_info tell where they are.
"""

from __future__ import annotations

import bisect
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, NamedTuple

from kgbuild.elf.object import Object, RelocRow

if TYPE_CHECKING:
    from kgbuild.debuginfo.dwarf_entries import Die, Dwarf

_MAX_DEPTH = 256
_AT_DECL_FILE = 0x3A
_OP_ADDR, _OP_ADDRX = 0x03, 0xA1


class LocalDeclaration(NamedTuple):
    """The declaration of a static local: declaring function, variable, line."""

    function: str
    name: str
    line: int


def read_static_locals(obj: Object, sections: set[int] | None = None) -> dict[tuple[int, int], LocalDeclaration]:
    """Declarations of the variables that are declared inside a function, by (section index, offset); only those in the
    given sections, by default all. Empty without DWARF. Raises FormatError for what can't be read."""
    section = obj.section_named(".debug_info")
    if sections is None:
        sections = {s.index for s in obj.sections if s.alloc}
    if section is None or not sections:
        return {}
    from kgbuild.debuginfo.dwarf_entries import Dwarf

    search = StaticLocals(Dwarf(obj, section), sections)
    search.run()
    return search.out


def read_placeless(obj: Object) -> dict[tuple[str, str], int]:
    """Lines of the variables that are defined but have no place in memory, by (declaring function, name); the function
    is "" for variables at file level. Automatic variables are included. Empty without DWARF."""
    from kgbuild.debuginfo.dwarf_entries import (
        AT_DECL_LINE,
        AT_DECLARATION,
        AT_LOCATION,
        TAG_INLINED,
        TAG_LEXICAL_BLOCK,
        TAG_SUBPROGRAM,
        TAG_VARIABLE,
        Dwarf,
    )

    section = obj.section_named(".debug_info")
    if section is None:
        return {}
    dwarf = Dwarf(obj, section)
    inner = frozenset({TAG_VARIABLE, TAG_LEXICAL_BLOCK, TAG_INLINED})
    out: dict[tuple[str, str], int] = {}

    def walk(die: Die, function: str, end: int, table: Any, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise dwarf.fault(die.offset, "entries nest too deeply")
        wanted = inner if depth else frozenset({TAG_VARIABLE, TAG_SUBPROGRAM})
        for child, _ in dwarf.children(die, end, table, wanted):
            if child.tag != TAG_VARIABLE:
                name = dwarf.name(child, end, table) if child.tag == TAG_SUBPROGRAM else function
                walk(child, name, end, table, depth + 1)
            elif not child.attributes.keys() & {AT_LOCATION, AT_DECLARATION}:
                key = (function, dwarf.name(child, end, table))
                out.setdefault(key, dwarf.constant(child, AT_DECL_LINE))

    for header, first, end, table in dwarf.units():
        top = dwarf.top(first, header, end, table)
        if top is not None:
            walk(top, "", end, table, 0)
    return out


def read_declaration_lines(obj: Object, names: Collection[str]) -> dict[str, int]:
    """Lines, in the unit's own source file, of some functions and file-level variables, by name. Empty without DWARF.
    Raises FormatError for what can't be read."""
    from kgbuild.debuginfo.dwarf_entries import AT_DECL_LINE, AT_DECLARATION, TAG_SUBPROGRAM, TAG_VARIABLE, Dwarf

    section = obj.section_named(".debug_info")
    if section is None or not names:
        return {}
    dwarf = Dwarf(obj, section)
    wanted = frozenset({TAG_SUBPROGRAM, TAG_VARIABLE})
    out: dict[str, int] = {}
    for header, first, end, table in dwarf.units():
        top = dwarf.top(first, header, end, table)
        if top is None:
            continue
        for child, _ in dwarf.children(top, end, table, wanted):
            if AT_DECL_LINE not in child.attributes or AT_DECLARATION in child.attributes:
                continue
            # the first entry of the file table is the unit itself
            if dwarf.constant(child, _AT_DECL_FILE) <= 1 and (name := dwarf.name(child, end, table)) in names:
                out.setdefault(name, dwarf.constant(child, AT_DECL_LINE))
    return out


class StaticLocals:
    """Finds the entries of variables that are in the given sections and declared inside a function."""

    def __init__(self, dwarf: Dwarf, sections: set[int]) -> None:
        self.dwarf = dwarf
        # offset in .debug_info of an address -> (section, offset) that it refers to; sorted by offset
        self.places = _meant(dwarf.obj, dwarf.relocs, sections)
        self.offsets = list(self.places)
        # for DWARF 5, clang writes addresses into a section of their own, and their indices into .debug_info
        own = dwarf.obj.section_named(".debug_addr")
        self.addresses = _meant(dwarf.obj, dwarf.obj.reloc_rows(own.index), sections) if own is not None else {}
        self.out: dict[tuple[int, int], LocalDeclaration] = {}

    def run(self) -> None:
        """Read all units; the results are in `out`."""
        from kgbuild.debuginfo.dwarf_entries import TAG_SUBPROGRAM

        functions = frozenset({TAG_SUBPROGRAM})

        for header, first, end, table in self.dwarf.units():
            if not self.any_in(first, end):
                continue
            top = self.dwarf.top(first, header, end, table)
            if top is None:
                continue
            for child, sibling in self.dwarf.children(top, end, table, functions):
                if child.children and self.any_in(child.next, sibling or end):
                    self.function(child, end, table)

    def function(self, die: Die, end: int, table: Any) -> None:
        """Read one function."""
        self._walk(die, self.dwarf.name(die, end, table), end, table, 0)

    def found(self, place: tuple[int, int], function: str, die: Die, end: int, table: Any) -> None:
        """Called for each variable found: its place (section index, offset), its function, and its entry."""
        from kgbuild.debuginfo.dwarf_entries import AT_DECL_LINE

        line = self.dwarf.constant(die, AT_DECL_LINE)
        self.out[place] = LocalDeclaration(function, self.dwarf.name(die, end, table), line)

    def any_in(self, start: int, end: int) -> bool:
        """Whether a range of .debug_info contains one of the wanted addresses."""
        if self.addresses:
            return True  # an index does not tell where it is used
        at = bisect.bisect_left(self.offsets, start)
        return at < len(self.offsets) and self.offsets[at] < end

    def _walk(self, die: Die, function: str, end: int, table: Any, depth: int) -> None:
        from kgbuild.debuginfo.dwarf_entries import TAG_INLINED, TAG_LEXICAL_BLOCK, TAG_VARIABLE

        if depth > _MAX_DEPTH:
            raise self.dwarf.fault(die.offset, "entries nest too deeply")
        wanted = frozenset({TAG_VARIABLE, TAG_LEXICAL_BLOCK, TAG_INLINED})
        for child, sibling in self.dwarf.children(die, end, table, wanted):
            if child.tag == TAG_VARIABLE:
                place = self.location(child)
                if place is not None:
                    self.found(place, function, child, end, table)
            elif self.any_in(child.next, sibling or end):
                self._walk(child, function, end, table, depth + 1)

    def location(self, die: Die) -> tuple[int, int] | None:
        """What a variable's location refers to, if it is a fixed address."""
        from kgbuild.debuginfo.dwarf_entries import AT_LOCATION
        from kgbuild.debuginfo.dwarf_forms import EXPRLOC

        form, at, _ = die.attributes.get(AT_LOCATION, (0, 0, 0))
        # one byte for the length of the expression (an opcode and an address), the opcode, the address
        operation = self.dwarf.data[at + 1 : at + 2] if form == EXPRLOC else b""
        if operation == bytes((_OP_ADDRX,)):
            return self.addresses.get(self.dwarf.addresses_base + 8 * self.dwarf.number(at + 2))
        return self.places.get(at + 2) if operation == bytes((_OP_ADDR,)) else None


def _meant(obj: Object, rows: list[RelocRow], sections: set[int]) -> dict[int, tuple[int, int]]:
    """By offset of a relocation, the (section, offset) that it refers to, if that is in one of the given sections."""
    shndx, value = obj.columns.shndx, obj.columns.value
    return {offset: (shndx[sym], value[sym] + addend) for offset, _, sym, addend in rows if shndx[sym] in sections}
