# SPDX-License-Identifier: GPL-2.0-or-later
"""Parity: is the recompiled original what runs?

Every function of the original object is compared with the running kernel's bytes: the bytes themselves, and for each
reference the address that the kernel's own bytes hold at that place. The kernel needs no relocations for it: the
recompiled object has them. The address also says *which* of several symbols of one name is meant, and so binds the
object's local symbols to proven positions.

Two compiles of one function may differ in one harmless way: a tail jump to a function in the same section takes two
bytes where the distance fits, and five with -ffunction-sections. Where sizes differ, the instructions are compared.

A function's entries in the special sections (static keys, alternatives, bug flags, exception fixups) are part of it and
are compared with the kernel's own tables in the same way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from kgbuild.elf.consts import STB
from kgbuild.kernel.vmlinux_image import KernelImage
from kgbuild.objects.atoms import ABSOLUTE, ANON, STRING, UNDEFINED, Ambiguous, Atom, Ref
from kgbuild.objects.special_entries import SpecialEntry, read_entries
from kgbuild.objects.symbol_kinds import cold_parents, is_anonymous, is_cold
from kgbuild.objects.view import View

OWN_BYTES = "own bytes"
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
    may have given one of them several places, or several of them one."""

    functions: tuple[FunctionParity, ...]
    bindings: dict[int, Binding] = field(repr=False)
    literals: dict[int, dict[int, str]] = field(repr=False, default_factory=dict)

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
    """What the bytes of one function say of the places of others, by atom; `literals` as in ParityProof."""

    def __init__(self) -> None:
        self.literals: dict[int, dict[int, str]] = {}


class _Mismatch(Exception):
    """The candidate is not this function; args[0] says why."""


def compute_parity(view: View, image: KernelImage) -> ParityProof:
    """Compare every function of `view` (the recompiled original) with `image` (the kernel that runs)."""
    return _Parity(view, image).run()


class _Parity:
    def __init__(self, view: View, image: KernelImage) -> None:
        self.view = view
        self.image = image
        self.bindings: dict[int, Binding] = {}
        self.literals: dict[int, dict[int, str]] = {}
        self.results: dict[int, FunctionParity] = {}
        self.entries = read_entries(view, "")
        self.tables: dict[tuple[str, int, int], _Table | None] = {}

    def run(self) -> ParityProof:
        pending: list[tuple[Atom, list[tuple[int, _Found]]]] = []
        for atom in self.view.functions:
            if not self._settle(atom, pending):
                continue
        # functions whose own bytes fit several places: decided by what proven functions refer to
        progress = True
        while pending and progress:
            progress = False
            for item in list(pending):
                atom, fits = item
                bound = self.bindings.get(atom.id)
                if bound is None:
                    continue
                for address, found in fits:
                    if address == bound.address:
                        self._accept(atom, address, found, bound.evidence)
                        pending.remove(item)
                        progress = True
        for atom, fits in pending:
            places = ", ".join(f"{a:#x}" for a, _ in fits)
            self._result(atom, AMBIGUOUS, reason=f"the same bytes at {places}")
        self._settle_overridden_halves()
        order = [self.results[a.id] for a in self.view.functions if a.id in self.results]
        return ParityProof(tuple(order), self.bindings, self.literals)

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

    def _settle(self, atom: Atom, pending: list[tuple[Atom, list[tuple[int, _Found]]]]) -> bool:
        candidates = sorted({s.value for name in atom.names for s in self.image.named(name)})
        fits: list[tuple[int, _Found]] = []
        reasons = []
        for address in candidates:
            try:
                fits.append((address, self._compare(atom, address)))
            except _Mismatch as mismatch:
                reasons.append(str(mismatch))
        bound = self.bindings.get(atom.id)
        fits = fits or self._renumbered(atom)
        if len(fits) == 1 and bound is not None and bound.address != fits[0][0]:
            fact = f"its bytes are at {fits[0][0]:#x}, but {bound.evidence} it is at {bound.address:#x}"
            self._result(atom, DIFFERS, reason=fact)
        elif len(fits) == 1:
            self._accept(atom, fits[0][0], fits[0][1], OWN_BYTES)
        elif fits:
            pending.append((atom, fits))
        elif not candidates:
            self._result(atom, ABSENT, reason="the kernel has no symbol of that name")
            return False
        elif atom.bind == STB.WEAK and len(candidates) == 1 and self.image.is_global(atom.name, candidates[0]):
            self._result(atom, OVERRIDDEN, candidates[0], "the kernel has another definition")
        else:
            self._result(atom, DIFFERS, candidates[0] if len(candidates) == 1 else 0, reasons[0])
        return True

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
        found = _Found()
        raw = self.image.read(address, atom.size)
        try:
            if raw is None:
                # the last function of a section may be shorter there, by the width of a jump
                self._compare_instructions(atom, address, found)
                return found
            refs = self.view.refs(atom)
            masked = bytearray(raw)
            self._clear(masked, refs)
            if bytes(masked) == self.view.masked(atom) and self._has_size(atom, address):
                for r in refs:
                    where = raw[r.offset : r.offset + r.size]
                    self._check_ref(atom, r, self._address(r, address + r.offset, where), found, 0)
                self._check_entries(atom, address, found)
            else:
                self._compare_instructions(atom, address, found)
        except Ambiguous as error:
            raise _Mismatch(": ".join(error.args)) from error
        return found

    # -- its entries in the special sections -------------------------------------------------------------------

    def _table(self, entry: SpecialEntry) -> _Table | None:
        """The kernel's table of an entry's kind, by the address its entries belong to."""
        owner = entry.spec.owner
        ref = next(r for r in entry.refs if r.offset == owner)
        key = (entry.section, entry.size, ref.type)
        if key not in self.tables:
            found = self.image.table(entry.section)
            self.tables[key] = _Table(*found, entry.size, owner, ref, self) if found is not None else None
        return self.tables[key]

    def _check_entries(self, atom: Atom, address: int, found: _Found) -> None:
        """Each entry of the function must be in the kernel's table, and no other for its code. Raises _Mismatch."""
        compiled: dict[str, list[SpecialEntry]] = {}
        for entry in self.entries.of(atom.id):
            if entry.spec.compared:
                compiled.setdefault(entry.section, []).append(entry)
        for section, entries in sorted(compiled.items()):
            table = self._table(entries[0])
            if table is None:
                continue
            entries.sort(key=lambda e: (e.owner_offset, e.index))
            in_kernel = table.between(address, address + atom.size)
            if len(in_kernel) != len(entries):
                raise _Mismatch(f"{len(in_kernel)} entries in {section} of the kernel, {len(entries)} recompiled")
            for entry, place in zip(entries, in_kernel, strict=True):
                self._check_entry(atom, address, entry, table, place, found)

    def _check_entry(
        self, atom: Atom, address: int, entry: SpecialEntry, table: _Table, place: int, found: _Found
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
            elif means != address + ref.delta:
                raise _Mismatch(f"+{entry.owner_offset:#x}: {entry.section} of the kernel means another place")

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
        address = (means - ref.delta) & 0xFFFF_FFFF_FFFF_FFFF
        where = f"{atom.name or self.view.section_name(atom)}+{ref.offset:#x}"
        if target.kind == STRING:
            content = self.view.content(target)
            if self.image.read(address, target.size) != content:
                raise _Mismatch(f"{where}: another string in the kernel")
            found.literals.setdefault(target.id, {}).setdefault(address, f"read at {where}")
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
        raw = self.image.read(address, target.size)
        if raw is None:
            return False
        masked = bytearray(raw)
        refs = self.view.refs(target)
        self._clear(masked, refs)
        if bytes(masked) != self.view.masked(target):
            return False
        for r in refs:
            means = self._address(r, address + r.offset, raw[r.offset : r.offset + r.size])
            self._check_ref(target, r, means, found, depth + 1)
        return True

    # -- where a tail jump is shorter in the kernel -------------------------------------------------------------

    def _compare_instructions(self, atom: Atom, address: int, found: _Found) -> None:
        """Instruction by instruction; only the width of branches may differ. Raises _Mismatch."""
        sizes = [s.size for s in self.image.functions_at(address)]
        size = max(sizes, default=0) or atom.size
        raw = self.image.read(address, size)
        if raw is None:
            raise _Mismatch("it lies outside the kernel's sections")
        compiled, in_kernel = self.view.instructions(atom), self.view.arch.decode(raw)
        refs = {ref.offset: ref for ref in self.view.refs(atom)}
        if len(compiled) != len(in_kernel):
            raise _Mismatch(f"{len(in_kernel)} instructions in the kernel, {len(compiled)} recompiled")
        place = {own.offset: shipped.offset for own, shipped in zip(compiled, in_kernel, strict=True)}
        place[atom.size] = size
        code = self.view.content(atom)
        for own, shipped in zip(compiled, in_kernel, strict=True):
            own_bytes, kernel_bytes = (
                code[own.offset : own.offset + own.length],
                raw[shipped.offset : shipped.offset + shipped.length],
            )
            inside = [refs[o] for o in range(own.offset, own.offset + own.length) if o in refs]
            if own.is_branch and shipped.is_branch:
                if own.mnemonic != shipped.mnemonic:
                    raise _Mismatch(f"+{own.offset:#x}: another branch in the kernel")
                assert shipped.target is not None
                if inside:
                    ref = inside[0]
                    # read what the kernel's branch means, whatever its width
                    self._check_ref(atom, ref, address + shipped.target, found, 0)
                elif own.target is None or place.get(own.target) != shipped.target:
                    raise _Mismatch(f"+{own.offset:#x}: branches elsewhere in the kernel")
                continue
            if len(own_bytes) != len(kernel_bytes):
                raise _Mismatch(f"+{own.offset:#x}: another instruction in the kernel")
            own_masked, kernel_masked = bytearray(own_bytes), bytearray(kernel_bytes)
            self._clear(own_masked, inside, own.offset)
            self._clear(kernel_masked, inside, own.offset)
            for ref in inside:
                at = ref.offset - own.offset
                means = self._address(ref, address + shipped.offset + at, kernel_bytes[at : at + ref.size])
                self._check_ref(atom, ref, means, found, 0)
            if own_masked != kernel_masked:
                raise _Mismatch(
                    f"+{own.offset:#x}: {kernel_bytes.hex(' ')} in the kernel, {own_bytes.hex(' ')} recompiled"
                )


class _Table:
    """One special section of the kernel, its entries found by the address they belong to."""

    def __init__(self, address: int, data: bytes, size: int, owner: int, ref: Ref, parity: _Parity) -> None:
        import numpy as np  # takes longer to import than comparing two objects does

        self.address, self.data = address, data
        count = (len(data) + size - 1) // size
        rows = np.frombuffer(data.ljust(count * size, b"\0"), "u1").reshape(count, size)
        places = np.arange(count, dtype=np.int64) * size
        field = np.ascontiguousarray(rows[:, owner : owner + ref.size])
        howto, byte_order = parity.view.arch.relocs[ref.type], parity.view.obj.order
        if howto.is_plain:
            form = f"{'i' if howto.signed else 'u'}{ref.size}"
            owners = field.view(np.dtype(form).newbyteorder(byte_order)).ravel().astype(np.int64).astype(np.uint64)
            if howto.pc_relative:
                owners = owners + places.astype(np.uint64) + np.uint64(address + owner)
        else:
            meant = [
                howto.extract(bytes(f), address + owner + int(p), byte_order)
                for f, p in zip(field, places, strict=True)
            ]
            owners = np.array(meant, np.uint64)
        by_owner = np.argsort(owners, kind="stable")
        self.owners, self.places = owners[by_owner], places[by_owner]

    def between(self, start: int, end: int) -> list[int]:
        """Places in the table of the entries that belong to code in [start, end), by address."""
        import numpy as np

        first, last = np.searchsorted(self.owners, np.array([start, end], np.uint64))
        return [int(p) for p in self.places[first:last]]
