# SPDX-License-Identifier: GPL-2.0-or-later
"""Entries of the special sections, each with the code it belongs to.

A special section is an array; which entry belongs to a function is told by one relocation of the entry (`owner` in
the architecture's table). An entry size that does not fit the relocations is refused: nothing is guessed.
"""

from __future__ import annotations

from dataclasses import dataclass

from kgbuild.arch.base import SpecialSection
from kgbuild.elf.consts import SHN
from kgbuild.refusals import Refusal
from kgbuild.special.view import Ambiguous, Ref, View


@dataclass(frozen=True)
class Entry:
    """One entry: its section's name and index, place and size in it, bytes, references (offsets in the entry, with
    the owner's among them), the id of the atom it belongs to and the offset in it."""

    section: str
    section_index: int
    index: int
    size: int
    data: bytes
    refs: tuple[Ref, ...]
    owner: int
    owner_offset: int
    replacement: int | None = None
    companion: bytes = b""


@dataclass(frozen=True)
class Entries:
    """Every entry of an object's special sections, by owner atom, in section and table order."""

    by_owner: dict[int, tuple[Entry, ...]]
    refusals: tuple[Refusal, ...]

    def of(self, atom_id: int) -> tuple[Entry, ...]:
        return self.by_owner.get(atom_id, ())


def read_entries(view: View, place: str) -> Entries:
    """All entries of the special sections that `view`'s architecture names. `place` names the object in refusals."""
    by_owner: dict[int, list[Entry]] = {}
    refusals: list[Refusal] = []
    for section in view.obj.sections:
        spec = view.arch.special.get(section.name)
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
        try:
            for entry in _entries(view, section.index, spec, size):
                by_owner.setdefault(entry.owner, []).append(entry)
        except Ambiguous as error:
            fact = f"{section.name}: {': '.join(error.args)}"
            refusals.append(Refusal("K2-special", f"{place}: {section.name}", fact, section=section.name))
    return Entries({k: tuple(v) for k, v in by_owner.items()}, tuple(refusals))


def entry_size(view: View, section_index: int, spec: SpecialSection) -> int | None:
    """The entry size of `spec.sizes` with which every entry has the relocations it needs in place, else None."""
    section = view.obj.sections[section_index]
    offsets = {int(o) for o in view.obj.relocs(section_index)["offset"]}
    for size, needed in spec.sizes.items():
        rest = section.size % size
        if rest and not (spec.last and rest >= spec.last):
            continue
        if all(i + n in offsets for i in range(0, section.size, size) for n in needed):
            return size
    return None


def _entries(view: View, section_index: int, spec: SpecialSection, size: int) -> list[Entry]:
    section = view.obj.sections[section_index]
    raw = bytes(view.obj.contents(section_index))
    companion = b""
    companion_size = 0
    count = -(-section.size // size)
    if spec.companion:
        other = view.obj.section_named(spec.companion)
        if other is not None and other.size % count == 0:
            companion, companion_size = bytes(view.obj.contents(other.index)), other.size // count
    place = spec.replacement.get(size)
    rows = view.obj.relocs(section_index)
    by_entry: dict[int, list[tuple[int, int, int, int]]] = {}
    for offset, kind, sym, addend in zip(
        rows["offset"].tolist(),
        rows["type"].tolist(),
        rows["sym"].tolist(),
        rows["addend"].tolist(),
        strict=True,
    ):
        if kind != view.arch.none_reloc:
            by_entry.setdefault(offset // size, []).append((offset % size, kind, sym, addend))
    out = []
    for i in range(count):
        refs = []
        owner, owner_offset = -1, 0
        replacement = None
        data = raw[i * size : (i + 1) * size].ljust(size, b"\0")
        for offset, kind, sym, addend in sorted(by_entry.get(i, ())):
            if place is not None and offset == place[0]:
                replacement_size = data[place[1]]
                target, delta = _replacement(view, sym, addend, replacement_size)
                replacement = target
            else:
                target, delta = view.target(sym, addend, code_start=offset == spec.owner)
            if kind not in view.arch.reloc_size:
                raise Ambiguous(f"entry {i}", f"relocation type {kind} has no rule")
            width = view.arch.reloc_size[kind]
            if offset + width > size:
                raise Ambiguous(f"entry {i}", "relocation across the end of an entry")
            refs.append(Ref(offset, kind, width, target, delta, 0))
            if offset == spec.owner:
                owner, owner_offset = target, delta
        out.append(
            Entry(
                section.name,
                section_index,
                i,
                size,
                data,
                tuple(refs),
                owner,
                owner_offset,
                replacement,
                companion[i * companion_size : (i + 1) * companion_size],
            )
        )
    return out


def _replacement(view: View, sym: int, addend: int, size: int) -> tuple[int, int]:
    symbol = view.obj.symbol(sym)
    if symbol.shndx == SHN.UNDEF or symbol.shndx >= SHN.LORESERVE:
        raise Ambiguous(symbol.name or f"symbol {sym}", "replacement code that lies in no section")
    start = symbol.value + addend
    if not 0 <= start <= start + size <= view.obj.sections[symbol.shndx].size:
        name = view.obj.sections[symbol.shndx].name
        raise Ambiguous(f"{name}+{start:#x}", f"{size} bytes of replacement code lie outside its section")
    return view.piece(symbol.shndx, start, size).id, 0
