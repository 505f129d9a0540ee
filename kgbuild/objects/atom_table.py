# SPDX-License-Identifier: GPL-2.0-or-later
"""An object cut into atoms.

Symbols say where functions and variables lie; what lies between them is anonymous data. Strings, constants and pieces
of code without a name are found only when a reference leads there, and become atoms then (`AtomTable.locate`).
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from functools import cached_property

from kgbuild.arch import for_object
from kgbuild.arch.base import Arch, ArgumentLoad, Instruction
from kgbuild.elf.consts import SHN, SHT, STB, STT
from kgbuild.elf.object import Object, RelocRow, Section, Symbol
from kgbuild.objects.atoms import ABSOLUTE, ANON, DATA, FUNCTION, STRING, UNDEFINED, Ambiguous, Atom
from kgbuild.objects.entry_sizes import entry_size

_NO_PLACE = frozenset((int(STT.FILE), int(STT.SECTION)))
# plain integers: each comparison with a member of an enumeration is a call
_UNDEF, _RESERVED, _LOCAL = int(SHN.UNDEF), int(SHN.LORESERVE), int(STB.LOCAL)
# how the places of a section are read: as its atoms, as strings, each that is referred to by itself, as entries
_BY_ATOMS, _BY_STRINGS, _BY_PLACES, _BY_ENTRIES = range(4)


class AtomTable:
    """The atoms of one relocatable object, by number, section and name, with their bytes. `in_section` has the numbers
    of those that are cut from the beginning, by section and offset."""

    def __init__(self, obj: Object) -> None:
        self.obj = obj
        self.arch: Arch = for_object(obj)
        self.atoms: list[Atom] = []
        self.in_section: dict[int, list[int]] = {}
        self._starts: dict[int, list[int]] = {}
        self._of_symbol: dict[int, int] = {}
        self._strings: dict[tuple[int, int], int] = {}
        self._pieces: dict[tuple[int, int], int] = {}
        self._sized: dict[tuple[int, int, int], int] = {}
        self._entry_sizes: dict[int, int | None] = {}
        self._instructions: dict[int, list[Instruction]] = {}
        self._argument_loads: dict[int, list[ArgumentLoad]] = {}
        self._raws: dict[int, bytes] = {}
        self._symbols: dict[int, Symbol] = {}
        self._ways: dict[int, int] = {}
        self._make_atoms()

    # -- cutting -----------------------------------------------------------------------------------------------

    def _symbol(self, index: int) -> Symbol:
        found = self._symbols.get(index)
        if found is None:
            found = self._symbols[index] = self.obj.symbol(index)
        return found

    def _add(
        self,
        kind: str,
        section: int,
        offset: int,
        size: int,
        names: tuple[str, ...] = (),
        symbols: tuple[int, ...] = (),
        bind: int = _LOCAL,
    ) -> Atom:
        atom = Atom(len(self.atoms), kind, section, offset, size, names, symbols, bind)
        self.atoms.append(atom)
        return atom

    def _make_atoms(self) -> None:
        at: dict[int, dict[int, list[Symbol]]] = {}
        kinds = self.obj.columns.kinds
        wanted = (i for i in range(1, len(kinds)) if kinds[i] not in _NO_PLACE)
        for symbol in self.obj.symbols_at(wanted):
            self._symbols[symbol.index] = symbol
            if symbol.shndx == _UNDEF or symbol.shndx >= _RESERVED:
                kind = UNDEFINED if symbol.shndx == _UNDEF else ABSOLUTE
                atom = self._add(kind, -1, symbol.value, symbol.size, (symbol.name,), (symbol.index,), symbol.bind)
                self._of_symbol[symbol.index] = atom.id
            elif not symbol.name.startswith(".L"):
                at.setdefault(symbol.shndx, {}).setdefault(symbol.value, []).append(symbol)
        for section in self.obj.sections:
            if section.alloc and section.type in (SHT.PROGBITS, SHT.NOBITS, SHT.NOTE) and not self.is_table(section):
                self._atoms_of_section(section, at.get(section.index, {}))

    def is_entry(self, atom: Atom) -> bool:
        """True for an entry of a special section that code refers to."""
        return atom.kind == ANON and self.arch.special_of(self.section_name(atom)) is not None

    def is_table(self, section: Section) -> bool:
        """True for special sections, read entry by entry, and for what is dropped."""
        return (
            self.arch.special_of(section.name) is not None
            or section.name in self.arch.auxiliary
            or self.arch.is_dropped(section.name)
        )

    def _atoms_of_section(self, section: Section, at: dict[int, list[Symbol]]) -> None:
        if section.strings:
            return
        if len(at) == 1 and self._is_one(section, at.get(0, ())):
            return
        ids, cursor = [], 0
        sized, labels = [], {}
        for value in sorted(at):
            symbols = at[value]
            if symbols[0].size or any(symbol.size for symbol in symbols):
                sized.append((value, symbols))
            else:
                labels[value] = symbols
        extents = [(value, value + max(symbol.size for symbol in symbols)) for value, symbols in sized]
        # labels that lie in nothing sized divide what is between: hand-written data (the sets of .BTF_ids), and
        # variables of empty type (a lock_class_key without lockdep)
        free = {v: symbol for v, symbol in labels.items() if not _inside(v, extents)}
        if free:
            sized = sorted([*sized, *free.items()])
            labels = {v: symbol for v, symbol in labels.items() if v not in free}
        for i, (value, symbols) in enumerate(sized):
            if value > cursor:
                ids.append(self._gap(section, cursor, value))
            size = max(symbol.size for symbol in symbols)
            limit = sized[i + 1][0] if i + 1 < len(sized) else section.size
            if size == 0 or value + size > limit:
                size = limit - value
            ordered = sorted(symbols, key=lambda symbol: (symbol.is_local, symbol.weak, -symbol.size, symbol.index))
            kind = FUNCTION if section.executable else DATA
            atom = self._add(
                kind,
                section.index,
                value,
                size,
                tuple(symbol.name for symbol in ordered),
                tuple(symbol.index for symbol in ordered),
                ordered[0].bind,
            )
            for symbol in symbols:
                self._of_symbol[symbol.index] = atom.id
            ids.append(atom.id)
            cursor = value + size
        if cursor < section.size:
            ids.append(self._gap(section, cursor, section.size))
        self.in_section[section.index] = ids
        self._starts[section.index] = [self.atoms[i].offset for i in ids]
        for value, symbols in labels.items():
            for symbol in symbols:
                if ids:
                    self._of_symbol[symbol.index] = ids[
                        max(bisect.bisect_right(self._starts[section.index], value) - 1, 0)
                    ]

    def _is_one(self, section: Section, symbols: Sequence[Symbol]) -> bool:
        """Whether a section is one function or variable and nothing else, as most are (-ffunction-sections): then its
        atom is made."""
        if len(symbols) != 1 or symbols[0].size != section.size or not section.size:
            return False
        symbol, index = symbols[0], section.index
        kind = FUNCTION if section.executable else DATA
        atom = self._add(kind, index, 0, section.size, (symbol.name,), (symbol.index,), symbol.bind)
        self._of_symbol[symbol.index] = atom.id
        self.in_section[index], self._starts[index] = [atom.id], [0]
        return True

    def _gap(self, section: Section, start: int, end: int) -> int:
        return self._add(ANON, section.index, start, end - start).id

    # -- looking up --------------------------------------------------------------------------------------------

    @cached_property
    def functions(self) -> list[Atom]:
        """Every function, in table order."""
        return [a for a in self.atoms if a.kind == FUNCTION]

    @cached_property
    def data(self) -> list[Atom]:
        """Every named variable."""
        return [a for a in self.atoms if a.kind == DATA]

    @cached_property
    def by_name(self) -> dict[str, list[Atom]]:
        """Defined atoms by each of their names."""
        out: dict[str, list[Atom]] = {}
        for a in self.atoms:
            if a.section >= 0:
                for name in a.names:
                    out.setdefault(name, []).append(a)
        return out

    def section_of(self, atom: Atom) -> Section:
        return self.obj.sections[atom.section]

    def section_name(self, atom: Atom) -> str:
        return self.obj.sections[atom.section].name if atom.section >= 0 else ""

    def just_before(self, atom: Atom) -> Atom | None:
        """The atom of the same section that ends where this one begins, if there is one."""
        ids = self.in_section.get(atom.section, [])
        place = ids.index(atom.id) - 1 if atom.id in ids else -1
        before = self.atoms[ids[place]] if place >= 0 else None
        return before if before is not None and before.offset + before.size == atom.offset else None

    def neighbours(self, atom: Atom) -> tuple[Atom | None, Atom | None]:
        """The named variables that lie before and behind a variable in its section, padding between them left out."""
        return self._neighbours.get(atom.id, (None, None))

    @cached_property
    def _neighbours(self) -> dict[int, tuple[Atom | None, Atom | None]]:
        out: dict[int, tuple[Atom | None, Atom | None]] = {}
        for ids in self.in_section.values():
            row = [atom for i in ids if (atom := self.atoms[i]).kind == DATA]
            for before, atom, behind in zip([None, *row], row, [*row[1:], None], strict=False):
                out[atom.id] = (before, behind)
        return out

    def is_const(self, atom: Atom) -> bool:
        """True for data nothing writes after load."""
        return not self.section_of(atom).writable

    @cached_property
    def struct_sizes(self) -> dict[str, int]:
        """Sizes of the structures of special-section entries, as far as the object's DWARF has them."""
        from kgbuild.debuginfo.dwarf_entries import read_struct_sizes

        return read_struct_sizes(self.obj, frozenset(s.struct for s in self.arch.special.values() if s.struct))

    # -- bytes, relocations and instructions -------------------------------------------------------------------

    def content(self, atom: Atom) -> bytes:
        """The atom's bytes as in the file; zeros for NOBITS."""
        section = self.obj.sections[atom.section]
        if section.type == SHT.NOBITS:
            return bytes(atom.size)
        return bytes(self.obj.contents(atom.section)[atom.offset : atom.offset + atom.size])

    def raw(self, index: int) -> bytes:
        """The bytes of a section, kept."""
        if index not in self._raws:
            self._raws[index] = bytes(self.obj.contents(index))
        return self._raws[index]

    def relocs_in(self, index: int, start: int, end: int) -> list[RelocRow]:
        """The relocations of a section from one offset up to another, by offset."""
        rows = self.obj.reloc_rows(index)
        if not rows:
            return rows
        return rows[bisect.bisect_left(rows, (start,)) : bisect.bisect_left(rows, (end,))]

    def instructions(self, atom: Atom) -> list[Instruction]:
        """The atom's code, decoded; offsets are relative to the atom."""
        if atom.id not in self._instructions:
            self._instructions[atom.id] = self.arch.decode(self.content(atom))
        return self._instructions[atom.id]

    def argument_loads(self, atom: Atom) -> list[ArgumentLoad]:
        """What the atom's code loads into the registers of arguments; offsets are relative to the atom."""
        if atom.id not in self._argument_loads:
            self._argument_loads[atom.id] = self.arch.argument_loads(self.content(atom))
        return self._argument_loads[atom.id]

    def _decode_section(self, index: int) -> list[Instruction]:
        key = -1 - index
        if key not in self._instructions:
            self._instructions[key] = self.arch.decode(bytes(self.obj.contents(index)))
        return self._instructions[key]

    # -- where an address in a section leads -------------------------------------------------------------------

    def atom_of(self, symbol: int) -> int:
        """The atom of a symbol that has no section: an undefined or absolute one, or none at all, which is an absolute
        address. Raises Ambiguous for one that has no place."""
        if symbol == 0 and symbol not in self._of_symbol:
            self._of_symbol[symbol] = self._add(ABSOLUTE, -1, 0, 0).id
        if symbol not in self._of_symbol:
            name = self._symbol(symbol).name or f"symbol {symbol}"
            raise Ambiguous(name, "a relocation against a symbol that has no place")
        return self._of_symbol[symbol]

    def locate(self, section_index: int, offset: int, *, symbol: int | None = None) -> tuple[int, int]:
        """(atom id, delta) for an offset in a section; `symbol` where the reference named one.

        An offset past the end of a section that holds one atom, or before its start, belongs to that atom.
        """
        section = self.obj.sections[section_index]
        way = self._ways.get(section_index)
        if way is None:
            way = self._ways[section_index] = self._way(section)
        if way == _BY_STRINGS:
            return self._string(section, offset)
        if way == _BY_PLACES:
            return self._piece(section, offset)
        if way == _BY_ENTRIES:
            return self._entry(section, offset)
        if symbol is not None and symbol in self._of_symbol:
            atom = self.atoms[self._of_symbol[symbol]]
            return atom.id, offset - atom.offset
        ids = self.in_section.get(section_index)
        if not ids:
            return self._whole(section, offset)
        if section.merge and section.entsize:
            return self._constant(section, offset)
        place = max(bisect.bisect_right(self._starts[section_index], offset) - 1, 0)
        atom = self.atoms[ids[place]]
        if place and offset == atom.offset and self._is_padding(section, atom):
            # the end of an array, as in `p < table + N`
            before = self.atoms[ids[place - 1]]
            return before.id, offset - before.offset
        return atom.id, offset - atom.offset

    def _way(self, section: Section) -> int:
        if section.strings:
            return _BY_STRINGS
        if section.name in self.arch.auxiliary:
            return _BY_PLACES
        spec = self.arch.special_of(section.name)
        return _BY_ENTRIES if spec is not None and spec.sizes else _BY_ATOMS

    def _is_padding(self, section: Section, atom: Atom) -> bool:
        if atom.kind != ANON or section.executable or atom.size >= section.align or any(self.content(atom)):
            return False
        return not self.relocs_in(section.index, atom.offset, atom.offset + atom.size)

    def _whole(self, section: Section, offset: int) -> tuple[int, int]:
        key = (section.index, -1)
        if key not in self._pieces:
            self._pieces[key] = self._add(ANON, section.index, 0, section.size).id
        return self._pieces[key], offset

    def _string(self, section: Section, offset: int) -> tuple[int, int]:
        raw = self.raw(section.index)
        if not 0 <= offset < len(raw):
            raise Ambiguous(f"{section.name}+{offset:#x}", "reference outside its string section")
        width = max(section.entsize, 1)
        start = _terminator(raw, width, offset - offset % width, -width) + width
        key = (section.index, start)
        if key not in self._strings:
            end = min(_terminator(raw, width, start, width) + width, len(raw))
            self._strings[key] = self._add(STRING, section.index, start, end - start).id
        return self._strings[key], offset - start

    def _constant(self, section: Section, offset: int) -> tuple[int, int]:
        start = offset - offset % section.entsize
        key = (section.index, start)
        if key not in self._pieces:
            self._pieces[key] = self._add(ANON, section.index, start, section.entsize).id
        return self._pieces[key], offset - start

    def _piece(self, section: Section, offset: int) -> tuple[int, int]:
        """A piece of .altinstr_aux: from the place referred to up to the jump that ends it."""
        key = (section.index, offset)
        if key not in self._pieces:
            end = len(self.obj.contents(section.index))
            for i in self._decode_section(section.index):
                if i.offset >= offset and i.ends_flow:
                    end = i.offset + i.length
                    break
            self._pieces[key] = self._add(ANON, section.index, offset, end - offset).id
        return self._pieces[key], 0

    def _entry(self, section: Section, offset: int) -> tuple[int, int]:
        """The entry of a special section that an offset lies in, as an atom: since 6.19, code whose WARN is a
        call passes the address of its entry in the table of bugs."""
        if section.index not in self._entry_sizes:
            spec = self.arch.special_of(section.name)
            self._entry_sizes[section.index] = entry_size(self, section.index, spec) if spec is not None else None
        size = self._entry_sizes[section.index]
        if size is None or not 0 <= offset < section.size:
            raise Ambiguous(f"{section.name}+{offset:#x}", "a reference to no entry that can be told")
        start = offset - offset % size
        return self.piece(section.index, start, min(size, section.size - start)).id, offset - start

    def piece(self, section_index: int, offset: int, size: int) -> Atom:
        """An anonymous atom of a given extent (replacement code of one alternative)."""
        key = (section_index, offset, size)
        if key not in self._sized:
            self._sized[key] = self._add(ANON, section_index, offset, size).id
        return self.atoms[self._sized[key]]


def _terminator(raw: bytes, width: int, at: int, step: int) -> int:
    """Offset of the NUL character of `width` bytes that is nearest before (step < 0) or from `at` on (step > 0)."""
    if width == 1:
        if step < 0:
            return raw.rfind(b"\0", 0, at)
        found = raw.find(b"\0", at)
        return found if found >= 0 else len(raw)
    at = at + step if step < 0 else at
    while 0 <= at < len(raw) and any(raw[at : at + width]):
        at += step
    return at


def _inside(value: int, extents: list[tuple[int, int]]) -> bool:
    """Whether a place lies in one of these sorted extents."""
    at = bisect.bisect_right(extents, (value, 1 << 64)) - 1
    return at >= 0 and extents[at][0] <= value < extents[at][1]
