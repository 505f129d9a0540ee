# SPDX-License-Identifier: GPL-2.0-or-later
"""Compares one function of a recompiled original with the kernel's code at one address: bytes or instructions, what
each reference means, and entries in the special sections. Which address is the function's is decided by parity.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

from kgbuild.arch.base import Instruction
from kgbuild.correlation.noise import is_file_name, is_location
from kgbuild.elf.consts import STB
from kgbuild.kernel.vmlinux_image import KernelImage
from kgbuild.objects.atoms import ABSOLUTE, ANON, STRING, UNDEFINED, Ambiguous, Atom, Ref
from kgbuild.objects.special_entries import SpecialEntry, read_entries
from kgbuild.objects.symbol_kinds import is_anonymous
from kgbuild.objects.view import View
from kgbuild.proof.kernel_tables import KernelTable
from kgbuild.proof.padding import ALIGNMENTS, PaddingLayout, PlacedCode, pair_instructions

_LENGTH = "length"
_MASK = 0xFFFF_FFFF_FFFF_FFFF
_DEPTH = 4  # levels of data without a name that are followed


class Binding(NamedTuple):
    """Where an atom of the object is in the kernel, and how that is known ("own bytes", "read at f+0x12")."""

    atom: int
    address: int
    evidence: str


class FoundPlaces(dict[int, Binding]):
    """What the bytes of one function say of the places of others, by atom; `literals` as in ParityProof. `comparing`:
    the data without a name, each with its address, whose content is being compared; `start`, `end`: of the function
    in the kernel."""

    def __init__(self, start: int, size: int) -> None:
        self.start, self.end = start, start + size
        self.literals: dict[int, dict[int, str]] = {}
        self.comparing: set[tuple[int, int]] = set()


class Mismatch(Exception):
    """The candidate is not this function; args[0] says why."""


class FunctionComparison:
    """Compares functions of `view` with the kernel's code. `bindings` are the places that are proven so far, and
    `layouts` the functions that the kernel has with other padding, by atom; both grow while a unit is proven."""

    def __init__(self, view: View, image: KernelImage) -> None:
        self.view, self.image = view, image
        self.bindings: dict[int, Binding] = {}
        self.layouts: dict[int, PaddingLayout] = {}
        self.entries = read_entries(view, "")
        self._tables: dict[tuple[str, int, int], KernelTable | None] = {}

    def is_named(self, target: Atom, address: int) -> bool:
        """Whether the kernel has what is at an address by a name of the target, or a clone by another number."""
        if any(s.value == address for name in target.names for s in self.image.named(name)):
            return True
        return any(s.value == address for name in target.names for s in self.image.renumbered(name))

    # -- one function at one address -------------------------------------------------------------------------

    def compare(self, atom: Atom, address: int) -> FoundPlaces:
        """Compare a function with the kernel's at an address: by its bytes or, where these differ, by its instructions.
        Returns what its references say of other places. Raises Mismatch."""
        size = max((s.size for s in self.image.functions_at(address)), default=0)
        found = FoundPlaces(address, size or atom.size)
        raw = self.image.read(address, atom.size)
        try:
            # the last function of a section may be shorter there, by the width of a jump
            if raw is not None and self.has_bytes(atom, address):
                for r in self.view.refs(atom):
                    where = raw[r.offset : r.offset + r.size]
                    self._check_ref(atom, r, self._address(r, address + r.offset, where), found, 0)
                self._check_entries(atom, address, found)
            else:
                self._compare_instructions(atom, address, found)
        except Ambiguous as error:
            raise Mismatch(": ".join(error.args)) from error
        return found

    def compare_laid_out(self, atom: Atom, layout: PaddingLayout) -> FoundPlaces:
        """Compare a function with the kernel's, whose instructions lie where `layout` says. Raises Mismatch."""
        found = FoundPlaces(layout.address, layout.size)
        raw = self.image.read(layout.address, layout.size)
        assert raw is not None  # the layout was made of it
        try:
            self._compare_pairs(atom, layout, raw, found)
            self._check_laid_out_entries(atom, layout, found)
        except Ambiguous as error:
            raise Mismatch(": ".join(error.args)) from error
        return found

    def layout(self, atom: Atom, address: int) -> PaddingLayout | None:
        """The function beside the kernel's code at an address, where they differ in padding at most and do differ."""
        sizes = {s.size for s in self.image.functions_at(address)}
        size = max(sizes, default=0)
        raw = self.image.read(address, size) if size and len(sizes) == 1 else None
        if raw is None:
            return None
        code, instructions, align = (
            self.view.content(atom),
            self.view.instructions(atom),
            self.view.section_of(atom).align,
        )
        try:
            own = PlacedCode(code, atom.offset, align, instructions, self._named(atom))
            named = self._named_in_kernel(address, size)
        except Ambiguous:
            return None
        kernel = PlacedCode(raw, address, max(ALIGNMENTS), self.view.arch.decode(raw), named)
        layout = pair_instructions(own, kernel, self.view.arch)
        moved = layout is not None and any(places != (offset,) for offset, places in layout.places.items())
        return layout if moved else None

    def _named(self, atom: Atom) -> frozenset[int]:
        """The offsets in a function of the bytes that entries of special sections name."""
        spans = ((e.owner_offset, self._span(e, e.data)) for e in self.entries.compared(atom.id))
        return frozenset(offset for start, length in spans for offset in range(start, start + length))

    def _named_in_kernel(self, address: int, size: int) -> frozenset[int]:
        """The offsets in a function of the kernel of the bytes that entries of its special sections name."""
        out: set[int] = set()
        for entry, table in self._all_tables:
            for owner, place in table.owned(address, address + size):
                start = owner - address
                data = table.data[place : place + entry.size]
                out.update(range(start, start + self._span(entry, data)))
        return frozenset(out)

    def _span(self, entry: SpecialEntry, data: bytes) -> int:
        """How many bytes of code an entry is about, by its bytes; 1 where it names a place alone."""
        at, size = entry.spec.fields.get(entry.size, {}).get(_LENGTH, (0, 0))
        return max(self.view.obj.number(data[at : at + size]), 1) if size else 1

    @cached_property
    def _all_tables(self) -> list[tuple[SpecialEntry, KernelTable]]:
        """The kernel's table for each special section of the object that is compared, with an entry of the object's."""
        firsts = (table.entry(0) for table in self.entries.tables if table.spec.compared)
        return [(entry, found) for entry in firsts if (found := self._table(entry)) is not None]

    def pointers(self, source: Atom, address: int) -> list[tuple[Ref, int]]:
        """The pointers in a variable of the unit, each with where the kernel's initial value leads; none where that is
        another value."""
        raw = self.image.read(address, source.size)
        try:
            refs = self.view.refs(source)
            if raw is None or not refs or self.view.section_of(source).executable:
                return []
            masked = bytearray(raw)
            self._clear(masked, refs)
            if bytes(masked) != self.view.masked(source):
                return []
        except Ambiguous:
            return []
        return [
            (ref, self._address(ref, address + ref.offset, raw[ref.offset : ref.offset + ref.size]) - ref.delta & _MASK)
            for ref in refs
            if ref.type == self.view.arch.pointer_reloc
        ]

    # -- its entries in the special sections -------------------------------------------------------------------

    def _table(self, entry: SpecialEntry) -> KernelTable | None:
        """The kernel's table of an entry's kind, by the address its entries belong to."""
        owner = entry.spec.owner
        ref = next(r for r in entry.refs if r.offset == owner)
        key = (entry.section, entry.size, ref.type)
        if key not in self._tables:
            found = self.image.table(entry.section)
            arch = self.view.arch
            self._tables[key] = KernelTable(*found, entry.size, owner, ref, arch) if found is not None else None
        return self._tables[key]

    def _check_entries(self, atom: Atom, address: int, found: FoundPlaces) -> None:
        """Each entry of the function must be in the kernel's table, and no other for its code. Raises Mismatch."""
        for section, entries in sorted(self._compared_entries(atom).items()):
            table = self._table(entries[0])
            if table is not None:
                in_kernel = table.between(address, address + atom.size)
                self._check_table(atom, section, entries, table, in_kernel, None, address, found)

    def _check_laid_out_entries(self, atom: Atom, layout: PaddingLayout, found: FoundPlaces) -> None:
        """Each entry of the function must be in the kernel's table for the place where the kernel has its instruction,
        and no other entry of any table for the function. Raises Mismatch."""
        compiled = self._compared_entries(atom)
        for entry, table in self._all_tables:
            entries = compiled.get(entry.section, [])
            in_kernel = table.between(layout.address, layout.address + layout.size)
            self._check_table(atom, entry.section, entries, table, in_kernel, layout, layout.address, found)

    def _compared_entries(self, atom: Atom) -> dict[str, list[SpecialEntry]]:
        """The entries of a function that are part of what it does, by section, in the order of their places."""
        compiled: dict[str, list[SpecialEntry]] = {}
        for entry in self.entries.of(atom.id):
            if entry.spec.compared:
                compiled.setdefault(entry.section, []).append(entry)
        for entries in compiled.values():
            entries.sort(key=lambda e: (e.owner_offset, e.index))
        return compiled

    def _check_table(
        self,
        atom: Atom,
        section: str,
        entries: Sequence[SpecialEntry],
        table: KernelTable,
        in_kernel: Sequence[int],
        layout: PaddingLayout | None,
        address: int,
        found: FoundPlaces,
    ) -> None:
        if len(in_kernel) != len(entries):
            raise Mismatch(f"{len(in_kernel)} entries in {section} of the kernel, {len(entries)} recompiled")
        for entry, place in zip(entries, in_kernel, strict=True):
            self._check_entry(atom, address, entry, table, place, layout, found)

    def _check_entry(
        self,
        atom: Atom,
        address: int,
        entry: SpecialEntry,
        table: KernelTable,
        place: int,
        layout: PaddingLayout | None,
        found: FoundPlaces,
    ) -> None:
        raw = table.data[place : place + entry.size]
        if any(ref.offset + ref.size > len(raw) for ref in entry.refs):
            raise Mismatch(f"+{entry.owner_offset:#x}: {entry.section} of the kernel ends in this entry")
        in_kernel, compiled = bytearray(raw), bytearray(entry.data[: len(raw)])
        self._clear(in_kernel, entry.refs)
        self._clear(compiled, entry.refs)
        if in_kernel != compiled:
            raise Mismatch(f"+{entry.owner_offset:#x}: another entry in {entry.section} of the kernel")
        for ref in entry.refs:
            means = self._address(ref, table.address + place + ref.offset, raw[ref.offset : ref.offset + ref.size])
            if ref.atom != atom.id:
                self._check_ref(atom, ref, means, found, 0)
            elif means - address not in (layout.places.get(ref.delta, ()) if layout is not None else (ref.delta,)):
                raise Mismatch(f"+{entry.owner_offset:#x}: {entry.section} of the kernel means another place")

    def _check_own_entry(self, atom: Atom, target: Atom, address: int, found: FoundPlaces, where: str) -> None:
        """A function that refers to an entry of its own in a special section must refer to the kernel's counterpart;
        what that holds is compared with the others. Raises Mismatch."""
        entry = self.entries.at(atom.id, target)
        table = self._table(entry) if entry is not None else None
        if entry is None or table is None or not entry.spec.compared:
            raise Mismatch(f"{where}: refers to an entry of something else in {self.view.section_name(target)}")
        number = self._compared_entries(atom)[entry.section].index(entry)
        in_kernel = table.between(found.start, found.end)
        if number >= len(in_kernel) or address != table.address + in_kernel[number]:
            raise Mismatch(f"{where}: refers to another entry in {entry.section} of the kernel")

    def has_bytes(self, atom: Atom, address: int) -> bool:
        """Whether the kernel has a function's size and bytes at an address, what its references hold left out."""
        raw = self.image.read(address, atom.size)
        if raw is None:
            return False
        masked = bytearray(raw)
        self._clear(masked, self.view.refs(atom))
        return bytes(masked) == self.view.masked(atom) and self._has_size(atom, address)

    def _has_size(self, atom: Atom, address: int) -> bool:
        sizes = {s.size for s in self.image.functions_at(address) if s.size}
        return not sizes or atom.size in sizes

    def _address(self, ref: Ref, place: int, raw: bytes) -> int:
        """The address that a relocated field of the kernel means, `delta` included."""
        howto = self.view.arch.relocs.in_bytes(ref.type, ref.size)
        return howto.extract(raw, place + ref.bias, self.view.obj.order)

    def _clear(self, raw: bytearray, refs: Sequence[Ref], base: int = 0) -> None:
        """Zero what the kernel's bytes, or the object's, from offset `base` on hold in the fields of references."""
        self.view.arch.relocs.clear(raw, refs, self.view.obj.order, base)

    def _check_ref(self, atom: Atom, ref: Ref, means: int, found: FoundPlaces, depth: int) -> None:
        target = self.view.atoms[ref.atom]
        address = (means - ref.delta) & _MASK
        where = f"{atom.name or self.view.section_name(atom)}+{ref.offset:#x}"
        if target.kind == STRING:
            content = self.view.content(target)
            if self.image.read(address, target.size) == content:
                found.literals.setdefault(target.id, {}).setdefault(address, f"read at {where}")
            elif not self._is_elsewhere(atom, ref, address, content):
                raise Mismatch(f"{where}: another string in the kernel")
        elif self.view.is_entry(target):
            self._check_own_entry(atom, target, address, found, where)
        elif target.kind == ANON:
            if depth > _DEPTH or not self._same_content(target, address, found, depth):
                raise Mismatch(f"{where}: other data in the kernel")
            found.literals.setdefault(target.id, {}).setdefault(address, f"read at {where}")
        elif target.kind == ABSOLUTE:
            if target.offset != address:
                raise Mismatch(f"{where}: refers to {address:#x}, not to {target.name}")
        elif target.kind == UNDEFINED:
            if not self.image.is_global(target.name, address) and not (target.bind == STB.WEAK and address == 0):
                raise Mismatch(f"{where}: refers to {self._describe(address)}, not to {target.name}")
            found[target.id] = Binding(target.id, address, f"read at {where}")
        else:
            layout = self.layouts.get(target.id)
            if layout is not None and ref.delta > 0:
                # a place inside a function that the kernel has with other padding
                if (means - layout.address) & _MASK not in layout.places.get(ref.delta, ()):
                    raise Mismatch(f"{where}: leads to another place in {target.name} of the kernel")
                address = layout.address
            known = self.bindings.get(target.id) or found.get(target.id)
            if known is not None and known.address != address:
                raise Mismatch(f"{where}: {target.name} is at {known.address:#x} elsewhere, here at {address:#x}")
            if is_anonymous(self.view, target) and not self._same_content(target, address, found, depth):
                raise Mismatch(f"{where}: {target.name} holds other data in the kernel")
            if not self.is_named(target, address):
                raise Mismatch(f"{where}: refers to {self._describe(address)}, not to {target.name}")
            if known is None:
                found[target.id] = Binding(target.id, address, f"read at {where}")

    def _is_elsewhere(self, atom: Atom, ref: Ref, address: int, content: bytes) -> bool:
        """Whether a string is the name of the same file in another directory, in what a sanitizer prints (struct
        source_location of lib/ubsan.h: file, line, column): the directory is the one in which the unit was compiled.
        Nothing but that message reads it."""
        if ref.offset or ref.delta or not is_location(self.view, atom):
            return False
        known = self.image.text(address) or b""
        return is_file_name(known) and known.rpartition(b"/")[2] == bytes(content).rpartition(b"/")[2]

    def _describe(self, address: int) -> str:
        names = [s.name for s in self.image.functions_at(address)]
        return names[0] if names else f"{address:#x}"

    def _same_content(self, target: Atom, address: int, found: FoundPlaces, depth: int) -> bool:
        if target.size == 0:  # the replacement of an alternative may be empty, and then behind the section's end
            return True
        if (target.id, address) in found.comparing:
            return True  # a reference back, from what it refers to: the same if all the rest is
        raw = self.image.read(address, target.size)
        if raw is None:
            return False
        masked = bytearray(raw)
        refs = self.view.refs(target)
        self._clear(masked, refs)
        if bytes(masked) != self.view.masked(target):
            return False
        found.comparing.add((target.id, address))
        for r in refs:
            means = self._address(r, address + r.offset, raw[r.offset : r.offset + r.size])
            self._check_ref(target, r, means, found, depth + 1)
        found.comparing.discard((target.id, address))
        return True

    # -- where a tail jump is shorter in the kernel, or padding differs ------------------------------------------

    def _compare_instructions(self, atom: Atom, address: int, found: FoundPlaces) -> None:
        """Instruction by instruction; only the width of branches may differ. Raises Mismatch."""
        sizes = [s.size for s in self.image.functions_at(address)]
        size = max(sizes, default=0) or atom.size
        raw = self.image.read(address, size)
        if raw is None:
            raise Mismatch("it lies outside the kernel's sections")
        compiled, in_kernel = self.view.instructions(atom), self.view.arch.decode(raw)
        if len(compiled) != len(in_kernel):
            raise Mismatch(f"{len(in_kernel)} instructions in the kernel, {len(compiled)} recompiled")
        pairs = tuple(zip(compiled, in_kernel, strict=True))
        places = {own.offset: (shipped.offset,) for own, shipped in pairs}
        places[atom.size] = (size,)
        self._compare_pairs(atom, PaddingLayout(address, size, pairs, places), raw, found)

    def _compare_pairs(self, atom: Atom, layout: PaddingLayout, raw: bytes, found: FoundPlaces) -> None:
        """Each instruction must be the kernel's, with the same references. Raises Mismatch."""
        refs = {ref.offset: ref for ref in self.view.refs(atom)}
        followed = 0
        for own, shipped in layout.pairs:
            inside = [refs[o] for o in range(own.offset, own.offset + own.length) if o in refs]
            followed += len(inside)
            if own.is_branch and shipped.is_branch:
                self._compare_branches(atom, own, shipped, inside, layout, found)
            else:
                self._compare_pair(atom, own, shipped, inside, layout, raw, found)
        if followed != len(refs):
            raise Mismatch(f"{len(refs) - followed} references lie in no instruction")

    def _compare_branches(
        self,
        atom: Atom,
        own: Instruction,
        shipped: Instruction,
        inside: list[Ref],
        layout: PaddingLayout,
        found: FoundPlaces,
    ) -> None:
        if own.mnemonic != shipped.mnemonic:
            raise Mismatch(f"+{own.offset:#x}: another branch in the kernel")
        assert shipped.target is not None
        if inside:
            ref = inside[0]
            # read what the kernel's branch means, whatever its width
            at = shipped.field_offset
            self._check_ref(atom, ref._replace(offset=at), layout.address + shipped.target, found, 0)
        elif own.target is None or shipped.target not in layout.places.get(own.target, ()):
            raise Mismatch(f"+{own.offset:#x}: branches elsewhere in the kernel")

    def _compare_pair(
        self,
        atom: Atom,
        own: Instruction,
        shipped: Instruction,
        inside: list[Ref],
        layout: PaddingLayout,
        raw: bytes,
        found: FoundPlaces,
    ) -> None:
        own_bytes = self.view.content(atom)[own.offset : own.offset + own.length]
        kernel_bytes = raw[shipped.offset : shipped.offset + shipped.length]
        if len(own_bytes) != len(kernel_bytes):
            raise Mismatch(f"+{own.offset:#x}: another instruction in the kernel")
        own_masked, kernel_masked = bytearray(own_bytes), bytearray(kernel_bytes)
        self._clear(own_masked, inside, own.offset)
        self._clear(kernel_masked, inside, own.offset)
        for ref in inside:
            at = ref.offset - own.offset
            place = shipped.offset + at
            means = self._address(ref, layout.address + place, kernel_bytes[at : at + ref.size])
            self._check_ref(atom, ref._replace(offset=place), means, found, 0)
        if own_masked != kernel_masked:
            fact = f"{kernel_bytes.hex(' ')} in the kernel, {own_bytes.hex(' ')} recompiled"
            raise Mismatch(f"+{own.offset:#x}: {fact}")
