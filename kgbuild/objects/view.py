# SPDX-License-Identifier: GPL-2.0-or-later
"""An object seen as atoms and references, the form that parity, diff and extraction share.

An atom is the smallest piece that has an identity of its own: a function or variable (with all its names, for
aliases and folded bodies share one place), a string, a piece of anonymous data, or an undefined symbol; an `AtomTable`
cuts them. A reference says where in an atom, by which relocation type, which atom and which offset in it are meant.
Section symbols, the end-of-instruction bias of PC-relative relocations and the branches that the assembler resolved
without leaving a relocation are all worked out here, so that nothing later looks at relocation addends again.
"""

from __future__ import annotations

import bisect
from functools import cached_property

from kgbuild.elf.consts import SHN, STT
from kgbuild.elf.object import Object
from kgbuild.objects.atom_table import AtomTable
from kgbuild.objects.atoms import DATA, FUNCTION, Ambiguous, Atom, Ref

_ZEROS = [bytes(size) for size in range(33)]
_SECTION = int(STT.SECTION)  # a plain integer: each comparison with a member of an enumeration is a call


class View(AtomTable):
    """Atoms and references of one relocatable object."""

    def __init__(self, obj: Object) -> None:
        super().__init__(obj)
        self._refs: dict[int, tuple[Ref, ...]] = {}
        # symbols that mean one atom, whatever is added to them: the atom, and how far from its start the symbol is
        self._fixed: dict[int, tuple[int, int]] = {}
        # symbols of sections and labels, which mean a place: the section, and the offset
        self._places: dict[int, tuple[int, int]] = {}

    def refs(self, atom: Atom) -> tuple[Ref, ...]:
        """Every reference from `atom`, ordered by offset. Raises Ambiguous for one that can't be resolved."""
        found = self._refs.get(atom.id)
        if found is None:
            found = self._compute_refs(atom) if atom.section >= 0 else ()
            self._refs[atom.id] = found
        return found

    def _compute_refs(self, atom: Atom) -> tuple[Ref, ...]:
        section = self.obj.sections[atom.section]
        code = section.executable
        out = []
        shndx, kinds, several = self.obj.columns.shndx, self._kinds, self._several
        relocs, call = self.arch.relocs, self.arch.call_reloc
        none, sizes, relative = relocs.none, relocs.sizes, relocs.pc_relative
        start, length = atom.offset, atom.size
        starts: list[int] | None = None
        for offset, kind, sym, addend in self.relocs_in(atom.section, start, start + length):
            if kind == none:
                continue
            size = sizes.get(kind)
            if size is None:
                raise Ambiguous(f"{section.name}+{offset:#x}", f"relocation type {kind} has no rule")
            field_offset = offset - start
            if field_offset + size > length:
                raise Ambiguous(f"{section.name}+{offset:#x}", "relocation across the end of its function or data")
            bias = 0
            if code and kind in relative:
                if kind == call:
                    bias = size
                else:
                    if starts is None:
                        starts = self._instruction_starts(atom)
                    bias = starts[bisect.bisect_right(starts, field_offset)] - field_offset
            target, delta = self.target(sym, addend + bias)
            loose = kinds[sym] == _SECTION and shndx[sym] in several
            out.append(Ref(field_offset, kind, size, target, delta, bias, False, loose))
        if code and len(self.in_section.get(atom.section, ())) > 1:
            out.extend(self._resolved_by_assembler(atom, {r.offset for r in out}))
            out.sort(key=lambda r: r.offset)
        return tuple(out)

    def _instruction_starts(self, atom: Atom) -> list[int]:
        """Where the atom's instructions begin, and its end."""
        return [*self.arch.boundaries(self.content(atom)), atom.size]

    @cached_property
    def _kinds(self) -> bytes:
        return self.obj.columns.kinds

    @cached_property
    def _several(self) -> frozenset[int]:
        """The sections that hold several named variables."""
        return frozenset(
            index
            for index, ids in self.in_section.items()
            if len(ids) > 1 and sum(self.atoms[i].kind == DATA for i in ids) > 1
        )

    def target(self, sym: int, where: int, *, code_start: bool = False) -> tuple[int, int]:
        """(atom id, delta) that symbol `sym` plus `where` means. With `code_start` an address at the very end of a
        piece of code belongs to that piece (ORC's end markers), not to what follows."""
        if not code_start:
            known = self._fixed.get(sym)
            if known is not None:
                return known[0], known[1] + where
            place = self._places.get(sym)
            if place is not None:
                return self.locate(place[0], place[1] + where)
        symbol = self._symbol(sym)
        if code_start and symbol.shndx and symbol.shndx < SHN.LORESERVE:
            section = self.obj.sections[symbol.shndx]
            if symbol.value + where == section.size and section.size:
                atom, delta = self.locate(symbol.shndx, symbol.value + where - 1)
                return atom, delta + 1
        if symbol.shndx == SHN.UNDEF or symbol.shndx >= SHN.LORESERVE:
            self._fixed[sym] = (self.atom_of(sym), 0)
            return self._fixed[sym][0], where
        if symbol.name.startswith(".L") and self.obj.sections[symbol.shndx].merge:
            # the assembler keeps the label of a constant or string where something is added to it (`"abc" + 4`)
            atom, delta = self.locate(symbol.shndx, symbol.value)
            return atom, delta + where
        if symbol.type == _SECTION or symbol.name.startswith(".L"):
            self._places[sym] = (symbol.shndx, symbol.value)
            return self.locate(symbol.shndx, symbol.value + where)
        atom, delta = self.locate(symbol.shndx, symbol.value + where, symbol=sym)
        if self._of_symbol.get(sym) == atom:
            self._fixed[sym] = (atom, delta - where)
        return atom, delta

    def _resolved_by_assembler(self, atom: Atom, known: set[int]) -> list[Ref]:
        """Branches and RIP-relative operands that leave the atom without a relocation (same section)."""
        out = []
        for i in self.instructions(atom):
            if i.target is None or i.field_offset in known or 0 <= i.target < atom.size:
                continue
            target, delta = self.locate(atom.section, atom.offset + i.target)
            kind = self.arch.call_reloc if i.is_branch else self.arch.per_field_pcrel32
            bias = i.offset + i.length - i.field_offset
            out.append(Ref(i.field_offset, kind, i.field_size, target, delta, bias, synthetic=True))
        return out

    def masked(self, atom: Atom) -> bytes:
        """The atom's bytes with every referenced field zeroed."""
        refs = self.refs(atom)
        if not refs:
            return self.content(atom)  # no second copy of a large .bss
        raw = bytearray(self.content(atom))
        if self.arch.relocs.partial:
            self.arch.relocs.clear(raw, refs, self.obj.order)
            return bytes(raw)
        for offset, _, size, _, _, _, _, _ in refs:
            raw[offset : offset + size] = _ZEROS[size]
        return bytes(raw)

    def same_masked(self, atom: Atom, other: View, patched: Atom) -> bool:
        """Whether `masked` is the same of an atom of this object and of one of another."""
        refs, patched_refs = self.refs(atom), other.refs(patched)
        if atom.size != patched.size:
            return False
        if len(refs) == len(patched_refs) and self.content(atom) == other.content(patched):
            fields = [(r.offset, r.type, r.size) for r in refs]
            if fields == [(r.offset, r.type, r.size) for r in patched_refs]:
                return True
        return self.masked(atom) == other.masked(patched)

    # -- who refers to a section -------------------------------------------------------------------------------

    def sections_referring_to(self, sections: set[int]) -> set[int]:
        """The loaded sections with a relocation against a symbol that is defined in one of `sections`."""
        return set().union(*(self._referring.get(i, ()) for i in sections))

    @cached_property
    def _referring(self) -> dict[int, set[int]]:
        """By section, the loaded sections with a relocation against a symbol that is defined there."""
        table = self.obj.columns.shndx
        out: dict[int, set[int]] = {}
        for index in self.obj.rela_of:
            if self.obj.sections[index].alloc:
                symbols = {row[2] for row in self.obj.reloc_rows(index)}
                for section in {table[sym] for sym in symbols}:
                    out.setdefault(section, set()).add(index)
        return out

    # -- trace sites -------------------------------------------------------------------------------------------

    def has_trace_site(self, atom: Atom) -> bool:
        """Whether a function begins with a call that ftrace can turn, by the relocation of that call (kept, with type
        NONE, where the compiler or objtool has made a nop of it) or by the tables of such places."""
        end = min(atom.offset + self.arch.trace_reach, atom.offset + atom.size)
        rows = self.relocs_in(atom.section, atom.offset, end)
        if any(self._symbol(sym).name == self.arch.trace_call for _, _, sym, _ in rows):
            return True
        before = self.just_before(atom)
        padded = before is None or before.kind != FUNCTION or before.name.startswith("__pfx_")
        places = self._trace_places.get(atom.section, [])
        at = bisect.bisect_left(places, atom.offset - (self.arch.trace_reach if padded else 0))
        return at < len(places) and places[at] < end

    @cached_property
    def _trace_places(self) -> dict[int, list[int]]:
        """Offsets of trace sites by section, as the tables of the compiler say."""
        out: dict[int, list[int]] = {}
        for section in self.obj.sections:
            if section.name in self.arch.trace_tables:
                for _, _, sym, addend in self.obj.reloc_rows(section.index):
                    symbol = self._symbol(sym)
                    out.setdefault(symbol.shndx, []).append(symbol.value + addend)
        return {index: sorted(places) for index, places in out.items()}
