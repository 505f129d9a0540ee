# SPDX-License-Identifier: GPL-2.0-or-later
"""Entries of the special sections, each with the code it belongs to.

A special section is an array; which entry belongs to a function is told by one relocation of the entry (`owner` in
the architecture's table). An entry size that does not fit the relocations is refused: nothing is guessed.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from kgbuild.arch.base import SpecialSection
from kgbuild.diagnostics.refusals import Refusal
from kgbuild.elf.consts import SHN
from kgbuild.elf.object import Section
from kgbuild.objects.atoms import Ambiguous, Atom, Ref
from kgbuild.objects.entry_sizes import entry_size
from kgbuild.objects.view import View


class SpecialEntry(NamedTuple):
    """One entry: its section's name and index, place and size in it, bytes, references (offsets in the entry, with
    the owner's among them), the id of the atom it belongs to and the offset in it; `spec` is its section's rule.
    `replacement` is the piece of code that an alternative brings, None where that is another object's function: objtool
    of 5.13 to 5.15 wrote such for calls through retpolines (9bc0bb50727c)."""

    section: str
    section_index: int
    index: int  # type: ignore[assignment]  # tuple has a method of that name, which nobody misses
    size: int
    data: bytes
    refs: tuple[Ref, ...]
    owner: int
    owner_offset: int
    spec: SpecialSection
    replacement: int | None = None
    companion: bytes = b""


class BadEntry(Ambiguous):
    """An entry that can't be followed; `section` is its table."""

    def __init__(self, section: str, fact: str) -> None:
        super().__init__(section, fact)
        self.section = section


class Entries:
    """The entries of an object's special sections, read when they are asked for. `refusals` names the sections whose
    entries can't be separated; what can't be followed inside an entry raises Ambiguous when it is asked for."""

    def __init__(
        self, view: View | None = None, tables: tuple[_SectionEntries, ...] = (), refusals: tuple[Refusal, ...] = ()
    ):
        self.view, self.tables, self.refusals = view, tables, refusals
        self._of: dict[int, tuple[SpecialEntry, ...]] = {}

    def of(self, atom_id: int) -> tuple[SpecialEntry, ...]:
        """The entries that belong to an atom, in section and table order. Raises Ambiguous."""
        found = self._of.get(atom_id)
        if found is None:
            found = self._of[atom_id] = tuple(self._read(atom_id, self.tables))
        return found

    def at(self, atom_id: int, entry: Atom) -> SpecialEntry | None:
        """The entry that an atom of a special section is, where it belongs to the atom with that number. Raises
        Ambiguous."""
        own = (e for e in self.of(atom_id) if e.section_index == entry.section)
        return next((e for e in own if e.index * e.size == entry.offset), None)

    def compared(self, atom_id: int) -> list[SpecialEntry]:
        """Those of them that are part of what a function does. Raises Ambiguous."""
        return list(self._read(atom_id, (t for t in self.tables if t.spec.compared)))

    def _read(self, atom_id: int, tables: Iterable[_SectionEntries]) -> Iterator[SpecialEntry]:
        if self.view is None:
            return
        atom = self.view.atoms[atom_id]
        replaced = atom.section >= 0 and self.view.section_name(atom) in self.view.arch.auxiliary
        for table in tables:
            for number in table.of_section.get(atom.section, ()):
                entry = table.entry(number)
                if replaced:
                    entry = _in_replacement(self.view, entry, atom)
                if entry.owner == atom_id:
                    yield entry

    @property
    def by_owner(self) -> dict[int, tuple[SpecialEntry, ...]]:
        """All entries by owner."""
        owners = sorted({t.entry(i).owner for t in self.tables for of in t.of_section.values() for i in of})
        return {owner: self.of(owner) for owner in owners}

    def owner_sections(self, sections: set[int]) -> set[int]:
        """The sections of code that have entries in one of some special sections."""
        return {owner for t in self.tables if t.section.index in sections for owner in t.of_section}


def read_entries(view: View, place: str) -> Entries:
    """All entries of the special sections that `view`'s architecture names. `place` names the object in refusals."""
    tables: list[_SectionEntries] = []
    refusals: list[Refusal] = []
    for section in view.obj.sections:
        spec = view.arch.special_of(section.name)
        if spec is None or not section.alloc or section.size == 0:
            continue
        size = entry_size(view, section.index, spec)
        if size is None:
            refusals.append(
                Refusal(
                    "K2-special",
                    f"{place}: {section.name}",
                    f"{section.size} bytes do not divide into entries of {' or '.join(map(str, spec.sizes))} bytes "
                    "that fit its relocations",
                    section=section.name,
                )
            )
            continue
        tables.append(_SectionEntries(view, section, spec, size))
    return Entries(view, tuple(tables), tuple(refusals))


class _SectionEntries:
    """One special section, its entries by number; `of_section` are those whose owner lies in a section."""

    def __init__(self, view: View, section: Section, spec: SpecialSection, size: int) -> None:
        self.view, self.section, self.spec, self.size = view, section, spec, size
        self.count = -(-section.size // size)
        self.of_section: dict[int, list[int]] = {}
        none, owner, shndx = view.arch.relocs.none, spec.owner, view.obj.columns.shndx
        self.rows = [row for row in view.obj.reloc_rows(section.index) if row[1] != none]
        for offset, _, sym, _ in self.rows:
            if offset % size == owner:
                self.of_section.setdefault(shndx[sym], []).append(offset // size)
        self._entries: dict[int, SpecialEntry] = {}

    def entry(self, number: int) -> SpecialEntry:
        """One entry. Raises Ambiguous."""
        found = self._entries.get(number)
        if found is None:
            try:
                found = self._entries[number] = self._read(number)
            except Ambiguous as error:
                raise BadEntry(self.section.name, f"entry {number}: {', '.join(error.args)}") from error
        return found

    def _companion(self, number: int) -> bytes:
        other = self.view.obj.section_named(self.spec.companion) if self.spec.companion else None
        if other is None or other.size % self.count:
            return b""
        each = other.size // self.count
        return self.view.raw(other.index)[number * each : (number + 1) * each]

    def _read(self, number: int) -> SpecialEntry:
        view, spec, size = self.view, self.spec, self.size
        place = spec.replacement.get(size)
        data = self.view.raw(self.section.index)[number * size : (number + 1) * size].ljust(size, b"\0")
        first, last = (bisect.bisect_left(self.rows, (i * size,)) for i in (number, number + 1))
        refs = []
        owner, owner_offset = -1, 0
        replacement = None
        for at, kind, sym, addend in self.rows[first:last]:
            offset = at % size
            elsewhere = sym != 0 and view.obj.columns.shndx[sym] == SHN.UNDEF
            if place is not None and offset == place[0] and not elsewhere:
                target, delta = _replacement(view, sym, addend, data[place[1]])
                replacement = target
            else:
                target, delta = view.target(sym, addend, code_start=offset == spec.owner)
            if kind not in view.arch.relocs.sizes:
                raise Ambiguous(f"relocation type {kind} has no rule")
            width = view.arch.relocs.sizes[kind]
            if offset + width > size:
                raise Ambiguous("relocation across the end of an entry")
            refs.append(Ref(offset, kind, width, target, delta, 0))
            if offset == spec.owner:
                owner, owner_offset = target, delta
        return SpecialEntry(
            self.section.name,
            self.section.index,
            number,
            size,
            data,
            tuple(refs),
            owner,
            owner_offset,
            spec,
            replacement,
            self._companion(number),
        )


def _in_replacement(view: View, entry: SpecialEntry, piece: Atom) -> SpecialEntry:
    """An entry about replacement code as one of the piece that an alternative brings, if it is inside."""
    place = view.atoms[entry.owner].offset + entry.owner_offset
    if not piece.offset <= place < piece.offset + piece.size:
        return entry
    at = place - piece.offset
    refs = (r._replace(atom=piece.id, delta=at) if r.offset == entry.spec.owner else r for r in entry.refs)
    return entry._replace(owner=piece.id, owner_offset=at, refs=tuple(refs))


def _replacement(view: View, sym: int, addend: int, size: int) -> tuple[int, int]:
    symbol = view.obj.symbol(sym)
    if symbol.shndx == SHN.UNDEF or symbol.shndx >= SHN.LORESERVE:
        raise Ambiguous(symbol.name or f"symbol {sym}", "replacement code that lies in no section")
    start = symbol.value + addend
    if not 0 <= start <= start + size <= view.obj.sections[symbol.shndx].size:
        name = view.obj.sections[symbol.shndx].name
        raise Ambiguous(f"{name}+{start:#x}", f"{size} bytes of replacement code lie outside its section")
    return view.piece(symbol.shndx, start, size).id, 0
