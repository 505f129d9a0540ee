# SPDX-License-Identifier: GPL-2.0-or-later
"""Parity: is the recompiled original what runs?

Every function of the original object is compared with the running kernel's bytes: the bytes themselves, and for each
reference the address that the kernel's own bytes hold at that place. The kernel needs no relocations for it: the
recompiled object has them. The address also says *which* of several symbols of one name is meant, and so binds the
object's local symbols to proven positions.

Two compiles of one function may differ in two harmless ways. A tail jump to a function in the same section takes two
bytes where the distance fits, and five with -ffunction-sections; where sizes differ, the instructions are compared. And
since gcc 14, padding before a loop depends on where the function lies in its section (proof/padding.py). Such a
function is proven by a second compile, with the kernel's own options alone: that must have the very bytes of the kernel
at the same address, and the function's own instructions, entries and references must be those of the kernel but for
padding.

A function's entries in the special sections (static keys, alternatives, bug flags, exception fixups) are part of it and
are compared with the kernel's own tables in the same way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from kgbuild.arch.base import Instruction
from kgbuild.elf.consts import STB
from kgbuild.kernel.vmlinux_image import KernelImage
from kgbuild.objects.atoms import ABSOLUTE, ANON, STRING, UNDEFINED, Ambiguous, Atom, Ref
from kgbuild.objects.special_entries import SpecialEntry, read_entries
from kgbuild.objects.symbol_kinds import cold_parents, is_anonymous, is_cold
from kgbuild.objects.view import View
from kgbuild.proof.kernel_tables import KernelTable
from kgbuild.proof.padding import ALIGNMENTS, Code, Layout, pair_instructions

OWN_BYTES = "own bytes"
LENGTH = "length"
_MASK = 0xFFFF_FFFF_FFFF_FFFF
PADDED_BYTES = "own bytes but for padding; compiled by the kernel's own options alone, all of them"
EXACT, OVERRIDDEN, DIFFERS, ABSENT, AMBIGUOUS = "exact", "weak-overridden", "differs", "absent", "ambiguous"


class FunctionParity(NamedTuple):
    """What was found for one function: its atom, status, address in the kernel (0 where unknown), and why."""

    atom: int
    name: str
    status: str
    address: int = 0
    reason: str = ""


class Binding(NamedTuple):
    """Where an atom of the object is in the kernel, and how that is known ("own bytes", "read at f+0x12")."""

    atom: int
    address: int
    evidence: str


@dataclass(frozen=True)
class ParityProof:
    """Parity of one unit: every function's result, and the proven places of functions and data by atom id; `literals`
    are the places of strings and of data without a name, by atom id, then by address, with the evidence. The linker
    may have given one of them several places, or several of them one. `padded` are the functions that were proven by
    the kernel's own options, `paddable` those that differ and whose instructions are the kernel's but for padding: the
    unit compiled by the kernel's own options would tell."""

    functions: tuple[FunctionParity, ...]
    bindings: dict[int, Binding] = field(repr=False)
    literals: dict[int, dict[int, str]] = field(repr=False, default_factory=dict)
    padded: frozenset[int] = frozenset()
    paddable: frozenset[int] = frozenset()

    def of(self, atom: int) -> FunctionParity | None:
        return self._by_atom.get(atom)

    @property
    def _by_atom(self) -> dict[int, FunctionParity]:
        cached: dict[int, FunctionParity] | None = self.__dict__.get("_index")
        if cached is None:
            cached = {f.atom: f for f in self.functions}
            self.__dict__["_index"] = cached
        return cached

    @property
    def counts(self) -> Counter[str]:
        return Counter(f.status for f in self.functions)


def names_at(image: KernelImage, names: Sequence[str], address: int) -> list[str]:
    """By which names the kernel has at an address what the object calls by `names`: by those of them that it has there,
    else, for a clone, by the same with other numbers."""
    own = [n for n in names if any(s.value == address for s in image.named(n))]
    return own or sorted({s.name for n in names for s in image.renumbered(n) if s.value == address})


class _Found(dict[int, Binding]):
    """What the bytes of one function say of the places of others, by atom; `literals` as in ParityProof. `comparing`:
    the data without a name, each with its address, whose content is being compared; `start`, `end`: of the function
    in the kernel."""

    def __init__(self, start: int, size: int) -> None:
        self.start, self.end = start, start + size
        self.literals: dict[int, dict[int, str]] = {}
        self.comparing: set[tuple[int, int]] = set()


class _Mismatch(Exception):
    """The candidate is not this function; args[0] says why."""


def compute_parity(view: View, image: KernelImage, plain: View | None = None) -> ParityProof:
    """Compare every function of `view` (the recompiled original) with `image` (the kernel that runs). `plain` is the
    unit compiled by the kernel's own options alone, which decides where functions differ in padding."""
    return _Parity(view, image).run(plain)


class _Parity:
    def __init__(self, view: View, image: KernelImage, padded_as_there: bool = False) -> None:
        self.view = view
        self.image = image
        self.padded_as_there = padded_as_there
        self.bindings: dict[int, Binding] = {}
        self.literals: dict[int, dict[int, str]] = {}
        self.results: dict[int, FunctionParity] = {}
        self.pending: list[tuple[Atom, list[tuple[int, _Found]]]] = []
        self.entries = read_entries(view, "")
        self.tables: dict[tuple[str, int, int], KernelTable | None] = {}
        self.layouts: dict[int, Layout] = {}
        self.evidence: dict[int, str] = {}
        self.rivals: dict[int, list[int]] = {}
        self.padded: set[int] = set()

    def run(self, plain: View | None) -> ParityProof:
        for atom in self.view.functions:
            self._settle(atom)
        self._decide_pending()
        if plain is not None:
            self._settle_padded(plain)
        for atom, fits in self.pending:
            places = ", ".join(f"{a:#x}" for a, _ in fits)
            others = ", ".join(f"{a:#x}" for a in self.rivals.get(atom.id, ()))
            self._result(
                atom,
                AMBIGUOUS,
                reason=f"the same bytes at {places}{f', but for padding at {others}' if others else ''}",
            )
        self._settle_overridden_halves()
        order = tuple(self.results[a.id] for a in self.view.functions if a.id in self.results)
        paddable: set[int] = set()
        if plain is None and not self.padded_as_there:
            paddable.update(atom.id for atom in self._differing() if self._may_be_padded(atom))
            paddable.update(atom.id for atom, _ in self.pending if atom.id in self.rivals)
        return ParityProof(order, self.bindings, self.literals, frozenset(self.padded), frozenset(paddable))

    def _decide_pending(self) -> None:
        """Functions whose own bytes fit several places are decided by what proven functions refer to."""
        progress = True
        while self.pending and progress:
            progress = False
            for item in list(self.pending):
                atom, fits = item
                bound = self.bindings.get(atom.id)
                if bound is None:
                    continue
                for address, found in fits:
                    if address == bound.address:
                        self._accept(atom, address, found, bound.evidence)
                        self.pending.remove(item)
                        progress = True

    # -- functions that differ in padding --------------------------------------------------------------------------

    def _differing(self) -> list[Atom]:
        return [a for a in self.view.functions if a.id in self.results and self.results[a.id].status == DIFFERS]

    def _may_be_padded(self, atom: Atom) -> bool:
        numbered = {s.value for name in atom.names for s in self.image.renumbered(name)}
        return any(self._layout(atom, address) for address in {*self._candidates(atom), *numbered})

    def _settle_padded(self, plain: View) -> None:
        """Prove functions that differ by the places of those that do not when they are compiled as the kernel was."""
        proven = _exact_places(plain, self.image)
        for item in [item for item in self.pending if item[0].id in self.rivals]:
            atom, fits = item
            place = proven.get(frozenset(atom.names))
            if place is None:
                continue
            self.pending.remove(item)
            fit = next((found for address, found in fits if address == place.address), None)
            if fit is not None:
                self._accept(atom, place.address, fit, place.evidence)
            else:
                self._result(atom, DIFFERS, place.address, "it has other padding in the kernel")
        for atom in self._differing():
            place = proven.get(frozenset(atom.names))
            layout = self._layout(atom, place.address) if place is not None else None
            if place is not None and layout is not None:
                self.layouts[atom.id] = layout
                self.evidence[atom.id] = f"{PADDED_BYTES}{'' if place.evidence == OWN_BYTES else f'; {place.evidence}'}"
        progress = True
        while progress:
            progress = False
            for atom in self._differing():
                if atom.id in self.layouts:
                    self._settle_laid_out(atom, self.layouts[atom.id])
                else:
                    self._settle(atom)  # it may lead into a function whose places are known now
                after = self.results.get(atom.id)
                progress = progress or after is None or after.status != DIFFERS
            self._decide_pending()

    def _settle_laid_out(self, atom: Atom, layout: Layout) -> None:
        """Compare a function with the kernel's where the same function, compiled as the kernel was, is proven."""
        found, bound = _Found(layout.address, layout.size), self.bindings.get(atom.id)
        try:
            if bound is not None and bound.address != layout.address:
                raise _Mismatch(f"{bound.evidence} it is at {bound.address:#x}")
            raw = self.image.read(layout.address, layout.size)
            assert raw is not None  # the layout was made of it
            self._compare_pairs(atom, layout, raw, found)
            self._check_laid_out_entries(atom, layout, found)
        except (_Mismatch, Ambiguous) as error:
            self._result(atom, DIFFERS, layout.address, f"besides padding: {': '.join(map(str, error.args))}")
            return
        self._accept(atom, layout.address, found, self.evidence[atom.id])
        self.padded.add(atom.id)

    def _layout(self, atom: Atom, address: int) -> Layout | None:
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
            own = Code(code, atom.offset, align, instructions, self._named(atom))
            named = self._named_in_kernel(address, size)
        except Ambiguous:
            return None
        kernel = Code(raw, address, max(ALIGNMENTS), self.view.arch.decode(raw), named)
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
        at, size = entry.spec.fields.get(entry.size, {}).get(LENGTH, (0, 0))
        return max(self.view.obj.number(data[at : at + size]), 1) if size else 1

    @cached_property
    def _all_tables(self) -> list[tuple[SpecialEntry, KernelTable]]:
        """The kernel's table for each special section of the object that is compared, with an entry of the object's."""
        firsts = (table.entry(0) for table in self.entries.tables if table.spec.compared)
        return [(entry, found) for entry in firsts if (found := self._table(entry)) is not None]

    def _settle_overridden_halves(self) -> None:
        """The `.cold` half of a weak definition that the kernel overrides may still be there. Nothing reaches it, and
        its way back leads to a body that has no name any more, so that it proves nothing and need not be proven."""
        for atom in self.view.functions:
            if not is_cold(atom) or self.results[atom.id].status != DIFFERS:
                continue
            parents = [self.results.get(parent.id) for parent in cold_parents(atom, self.view)]
            if parents and all(found is not None and found.status == OVERRIDDEN for found in parents):
                self._result(atom, OVERRIDDEN, 0, "the kernel has another definition of its function")

    def _result(self, atom: Atom, status: str, address: int = 0, reason: str = "") -> None:
        self.results[atom.id] = FunctionParity(atom.id, atom.name, status, address, reason)

    def _accept(self, atom: Atom, address: int, found: _Found, evidence: str) -> None:
        for key, binding in found.items():
            self.bindings.setdefault(key, binding)
        for key, places in found.literals.items():
            known = self.literals.setdefault(key, {})
            for place, read_at in places.items():
                known.setdefault(place, read_at)
        self.bindings[atom.id] = Binding(atom.id, address, evidence)
        self._result(atom, EXACT, address)

    def _candidates(self, atom: Atom) -> list[int]:
        """Where the kernel has something of the function's names."""
        return sorted({s.value for name in atom.names for s in self.image.named(name)})

    def _settle(self, atom: Atom) -> None:
        candidates = self._candidates(atom)
        fits: list[tuple[int, _Found]] = []
        reasons = []
        for address in candidates:
            try:
                fits.append((address, self._compare(atom, address)))
            except _Mismatch as mismatch:
                reasons.append(str(mismatch))
        bound = self.bindings.get(atom.id)
        fits = fits or self._renumbered(atom)
        several = len(candidates) > 1 and not self.padded_as_there
        rivals = self._rivals(atom, candidates, fits) if several else []
        if rivals and (bound is None or bound.address in rivals):
            # a copy in another unit may have, by chance, the padding that this compile made
            self.rivals[atom.id] = rivals
            self.results.pop(atom.id, None)
            self.pending.append((atom, fits))
        elif len(fits) == 1 and bound is not None and bound.address != fits[0][0]:
            fact = f"its bytes are at {fits[0][0]:#x}, but {bound.evidence} it is at {bound.address:#x}"
            self._result(atom, DIFFERS, reason=fact)
        elif len(fits) == 1:
            self._accept(atom, fits[0][0], fits[0][1], OWN_BYTES)
        elif fits:
            self.results.pop(atom.id, None)
            self.pending.append((atom, fits))
        elif not candidates:
            self._result(atom, ABSENT, reason="the kernel has no symbol of that name")
        elif atom.bind == STB.WEAK and len(candidates) == 1 and self.image.is_global(atom.name, candidates[0]):
            self._result(atom, OVERRIDDEN, candidates[0], "the kernel has another definition")
        else:
            self._result(atom, DIFFERS, candidates[0] if len(candidates) == 1 else 0, reasons[0])

    def _rivals(self, atom: Atom, candidates: list[int], fits: list[tuple[int, _Found]]) -> list[int]:
        """Where else the kernel has a function that is this one but for padding, if its bytes fit somewhere."""
        fitting = {address for address, _ in fits}
        return [a for a in candidates if fitting and a not in fitting and self._layout(atom, a) is not None]

    def _renumbered(self, atom: Atom) -> list[tuple[int, _Found]]:
        """Where the kernel has the code of a clone under another number."""
        places = sorted({s.value for name in atom.names for s in self.image.renumbered(name)})
        fits: list[tuple[int, _Found]] = []
        for address in places:
            with suppress(_Mismatch):
                fits.append((address, self._compare(atom, address)))
        return fits

    def _is_named(self, target: Atom, address: int) -> bool:
        """Whether the kernel has what is at an address by a name of the target, or a clone by another number."""
        if any(s.value == address for name in target.names for s in self.image.named(name)):
            return True
        return any(s.value == address for name in target.names for s in self.image.renumbered(name))

    # -- one function at one address -------------------------------------------------------------------------

    def _compare(self, atom: Atom, address: int) -> _Found:
        size = max((s.size for s in self.image.functions_at(address)), default=0)
        found = _Found(address, size or atom.size)
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
            raise _Mismatch(": ".join(error.args)) from error
        return found

    # -- its entries in the special sections -------------------------------------------------------------------

    def _table(self, entry: SpecialEntry) -> KernelTable | None:
        """The kernel's table of an entry's kind, by the address its entries belong to."""
        owner = entry.spec.owner
        ref = next(r for r in entry.refs if r.offset == owner)
        key = (entry.section, entry.size, ref.type)
        if key not in self.tables:
            found = self.image.table(entry.section)
            arch = self.view.arch
            self.tables[key] = KernelTable(*found, entry.size, owner, ref, arch) if found is not None else None
        return self.tables[key]

    def _check_entries(self, atom: Atom, address: int, found: _Found) -> None:
        """Each entry of the function must be in the kernel's table, and no other for its code. Raises _Mismatch."""
        for section, entries in sorted(self._compared_entries(atom).items()):
            table = self._table(entries[0])
            if table is not None:
                in_kernel = table.between(address, address + atom.size)
                self._check_table(atom, section, entries, table, in_kernel, None, address, found)

    def _check_laid_out_entries(self, atom: Atom, layout: Layout, found: _Found) -> None:
        """Each entry of the function must be in the kernel's table for the place where the kernel has its instruction,
        and no other entry of any table for the function. Raises _Mismatch."""
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
        layout: Layout | None,
        address: int,
        found: _Found,
    ) -> None:
        if len(in_kernel) != len(entries):
            raise _Mismatch(f"{len(in_kernel)} entries in {section} of the kernel, {len(entries)} recompiled")
        for entry, place in zip(entries, in_kernel, strict=True):
            self._check_entry(atom, address, entry, table, place, layout, found)

    def _check_entry(
        self,
        atom: Atom,
        address: int,
        entry: SpecialEntry,
        table: KernelTable,
        place: int,
        layout: Layout | None,
        found: _Found,
    ) -> None:
        raw = table.data[place : place + entry.size]
        if any(ref.offset + ref.size > len(raw) for ref in entry.refs):
            raise _Mismatch(f"+{entry.owner_offset:#x}: {entry.section} of the kernel ends in this entry")
        in_kernel, compiled = bytearray(raw), bytearray(entry.data[: len(raw)])
        self._clear(in_kernel, entry.refs)
        self._clear(compiled, entry.refs)
        if in_kernel != compiled:
            raise _Mismatch(f"+{entry.owner_offset:#x}: another entry in {entry.section} of the kernel")
        for ref in entry.refs:
            means = self._address(ref, table.address + place + ref.offset, raw[ref.offset : ref.offset + ref.size])
            if ref.atom != atom.id:
                self._check_ref(atom, ref, means, found, 0)
            elif means - address not in (layout.places.get(ref.delta, ()) if layout is not None else (ref.delta,)):
                raise _Mismatch(f"+{entry.owner_offset:#x}: {entry.section} of the kernel means another place")

    def _check_own_entry(self, atom: Atom, target: Atom, address: int, found: _Found, where: str) -> None:
        """A function that refers to an entry of its own in a special section must refer to the kernel's counterpart;
        what that holds is compared with the others. Raises _Mismatch."""
        entry = self.entries.at(atom.id, target)
        table = self._table(entry) if entry is not None else None
        if entry is None or table is None or not entry.spec.compared:
            raise _Mismatch(f"{where}: refers to an entry of something else in {self.view.section_name(target)}")
        number = self._compared_entries(atom)[entry.section].index(entry)
        in_kernel = table.between(found.start, found.end)
        if number >= len(in_kernel) or address != table.address + in_kernel[number]:
            raise _Mismatch(f"{where}: refers to another entry in {entry.section} of the kernel")

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

    def _check_ref(self, atom: Atom, ref: Ref, means: int, found: _Found, depth: int) -> None:
        target = self.view.atoms[ref.atom]
        address = (means - ref.delta) & _MASK
        where = f"{atom.name or self.view.section_name(atom)}+{ref.offset:#x}"
        if target.kind == STRING:
            content = self.view.content(target)
            if self.image.read(address, target.size) != content:
                raise _Mismatch(f"{where}: another string in the kernel")
            found.literals.setdefault(target.id, {}).setdefault(address, f"read at {where}")
        elif self.view.is_entry(target):
            self._check_own_entry(atom, target, address, found, where)
        elif target.kind == ANON:
            if depth > 4 or not self._same_content(target, address, found, depth):
                raise _Mismatch(f"{where}: other data in the kernel")
            found.literals.setdefault(target.id, {}).setdefault(address, f"read at {where}")
        elif target.kind == ABSOLUTE:
            if target.offset != address:
                raise _Mismatch(f"{where}: refers to {address:#x}, not to {target.name}")
        elif target.kind == UNDEFINED:
            if not self.image.is_global(target.name, address) and not (target.bind == STB.WEAK and address == 0):
                raise _Mismatch(f"{where}: refers to {self._describe(address)}, not to {target.name}")
            found[target.id] = Binding(target.id, address, f"read at {where}")
        else:
            layout = self.layouts.get(target.id)
            if layout is not None and ref.delta > 0:
                # a place inside a function that the kernel has with other padding
                if (means - layout.address) & _MASK not in layout.places.get(ref.delta, ()):
                    raise _Mismatch(f"{where}: leads to another place in {target.name} of the kernel")
                address = layout.address
            known = self.bindings.get(target.id) or found.get(target.id)
            if known is not None and known.address != address:
                raise _Mismatch(f"{where}: {target.name} is at {known.address:#x} elsewhere, here at {address:#x}")
            if is_anonymous(self.view, target) and not self._same_content(target, address, found, depth):
                raise _Mismatch(f"{where}: {target.name} holds other data in the kernel")
            if not self._is_named(target, address):
                raise _Mismatch(f"{where}: refers to {self._describe(address)}, not to {target.name}")
            if known is None:
                found[target.id] = Binding(target.id, address, f"read at {where}")

    def _describe(self, address: int) -> str:
        names = [s.name for s in self.image.functions_at(address)]
        return names[0] if names else f"{address:#x}"

    def _same_content(self, target: Atom, address: int, found: _Found, depth: int) -> bool:
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

    def _compare_instructions(self, atom: Atom, address: int, found: _Found) -> None:
        """Instruction by instruction; only the width of branches may differ. Raises _Mismatch."""
        sizes = [s.size for s in self.image.functions_at(address)]
        size = max(sizes, default=0) or atom.size
        raw = self.image.read(address, size)
        if raw is None:
            raise _Mismatch("it lies outside the kernel's sections")
        compiled, in_kernel = self.view.instructions(atom), self.view.arch.decode(raw)
        if len(compiled) != len(in_kernel):
            raise _Mismatch(f"{len(in_kernel)} instructions in the kernel, {len(compiled)} recompiled")
        pairs = tuple(zip(compiled, in_kernel, strict=True))
        places: dict[int, tuple[int, ...]] = {own.offset: (shipped.offset,) for own, shipped in pairs}
        places[atom.size] = (size,)
        self._compare_pairs(atom, Layout(address, size, pairs, places), raw, found)

    def _compare_pairs(self, atom: Atom, layout: Layout, raw: bytes, found: _Found) -> None:
        """Each instruction must be the kernel's, with the same references. Raises _Mismatch."""
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
            raise _Mismatch(f"{len(refs) - followed} references lie in no instruction")

    def _compare_branches(
        self, atom: Atom, own: Instruction, shipped: Instruction, inside: list[Ref], layout: Layout, found: _Found
    ) -> None:
        if own.mnemonic != shipped.mnemonic:
            raise _Mismatch(f"+{own.offset:#x}: another branch in the kernel")
        assert shipped.target is not None
        if inside:
            ref = inside[0]
            # read what the kernel's branch means, whatever its width
            at = shipped.field_offset
            self._check_ref(atom, ref._replace(offset=at), layout.address + shipped.target, found, 0)
        elif own.target is None or shipped.target not in layout.places.get(own.target, ()):
            raise _Mismatch(f"+{own.offset:#x}: branches elsewhere in the kernel")

    def _compare_pair(
        self,
        atom: Atom,
        own: Instruction,
        shipped: Instruction,
        inside: list[Ref],
        layout: Layout,
        raw: bytes,
        found: _Found,
    ) -> None:
        own_bytes = self.view.content(atom)[own.offset : own.offset + own.length]
        kernel_bytes = raw[shipped.offset : shipped.offset + shipped.length]
        if len(own_bytes) != len(kernel_bytes):
            raise _Mismatch(f"+{own.offset:#x}: another instruction in the kernel")
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
            raise _Mismatch(f"+{own.offset:#x}: {fact}")


def _exact_places(plain: View, image: KernelImage) -> dict[frozenset[str], Binding]:
    """Where the kernel has, byte for byte, the functions of a unit that was compiled by the kernel's own options alone,
    by all of their names. Functions that were told by their instructions only are left out."""
    parity = _Parity(plain, image, padded_as_there=True)
    proof = parity.run(None)
    out: dict[frozenset[str], Binding] = {}
    twice: set[frozenset[str]] = set()
    for result in proof.functions:
        atom, names = plain.atoms[result.atom], frozenset(plain.atoms[result.atom].names)
        twice.update({names} & out.keys())
        if result.status == EXACT and parity.has_bytes(atom, result.address):
            out[names] = proof.bindings[result.atom]
    return {names: place for names, place in out.items() if names not in twice}
