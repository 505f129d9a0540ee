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

from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from kgbuild.elf.consts import STB
from kgbuild.kernel.vmlinux_image import KernelImage
from kgbuild.objects.atoms import ANON, DATA, Atom
from kgbuild.objects.symbol_kinds import PREFIXES, cold_parents, is_cold, is_prefix
from kgbuild.objects.view import View
from kgbuild.proof.function_comparison import Binding, FoundPlaces, FunctionComparison, Mismatch
from kgbuild.proof.padding import PaddingLayout

OWN_BYTES = "own bytes"
PADDED_BYTES = "own bytes but for padding; compiled by the kernel's own options alone, all of them"
EXACT, OVERRIDDEN, DIFFERS, ABSENT, AMBIGUOUS = "exact", "weak-overridden", "differs", "absent", "ambiguous"


class FunctionParity(NamedTuple):
    """What was found for one function: its atom, status, address in the kernel (0 where unknown), and why."""

    atom: int
    name: str
    status: str
    address: int = 0
    reason: str = ""


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


def compute_parity(view: View, image: KernelImage, plain: View | None = None) -> ParityProof:
    """Compare every function of `view` (the recompiled original) with `image` (the kernel that runs). `plain` is the
    unit compiled by the kernel's own options alone, which decides where functions differ in padding."""
    return _Parity(view, image).run(plain)


class _Parity:
    def __init__(self, view: View, image: KernelImage, padded_as_there: bool = False) -> None:
        self.view = view
        self.image = image
        self.padded_as_there = padded_as_there
        self.comparison = FunctionComparison(view, image)
        self.bindings = self.comparison.bindings
        self.literals: dict[int, dict[int, str]] = {}
        self.results: dict[int, FunctionParity] = {}
        # functions whose bytes fit several places, by atom
        self.pending: dict[int, tuple[Atom, list[tuple[int, FoundPlaces]]]] = {}
        self.evidence: dict[int, str] = {}
        self.rivals: dict[int, list[int]] = {}
        self.padded: set[int] = set()

    def run(self, plain: View | None) -> ParityProof:
        for atom in self.view.functions:
            self._settle(atom)
        self._decide_pending()
        if plain is not None:
            self._settle_padded(plain)
        if self.pending:
            self._decide_by_data()
        for atom, fits in self.pending.values():
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
            paddable.update(atom.id for atom, _ in self.pending.values() if atom.id in self.rivals)
        return ParityProof(order, self.bindings, self.literals, frozenset(self.padded), frozenset(paddable))

    def _decide_pending(self) -> None:
        """Functions whose own bytes fit several places are decided by what proven functions refer to."""
        queue = deque(self.pending)
        while queue:
            number = queue.popleft()
            bound = self.bindings.get(number)
            if bound is None or number not in self.pending:
                continue
            atom, fits = self.pending[number]
            found = next((found for address, found in fits if address == bound.address), None)
            if found is not None:
                self._accept(atom, bound.address, found, bound.evidence)
                del self.pending[number]
                queue.extend(other for other in found if other in self.pending)

    def _decide_by_data(self) -> None:
        """Functions whose own bytes fit several places, and that no proven code refers to, are decided by the unit's
        variables: where the kernel's initial value of one leads. A variable counts where parity has read its place, or
        where the kernel has only one of its name, or where another such variable leads to it, and only if its initial
        value is the same."""
        fits = {atom.id: {address for address, _ in found} for atom, found in self.pending.values()}
        places: dict[int, int] = {}
        for atom in self.view.data:
            named = {s.value for name in atom.names for s in self.image.named(name)}
            binding = self.bindings.get(atom.id)
            if binding is not None or (len(named) == 1 and atom.bind != STB.WEAK):
                places[atom.id] = binding.address if binding is not None else named.pop()
        todo, told = list(places), dict[int, dict[int, str]]()
        while todo:
            source = self.view.atoms[todo.pop()]
            for ref, address in self.comparison.pointers(source, places[source.id]):
                target = self.view.atoms[ref.atom]
                if address in fits.get(target.id, ()):
                    where = f"{source.name or self.view.section_name(source)}+{ref.offset:#x}"
                    told.setdefault(target.id, {}).setdefault(address, f"read in {where}")
                elif target.id not in places and (
                    target.kind == ANON or (target.kind == DATA and self.comparison.is_named(target, address))
                ):
                    places[target.id] = address
                    todo.append(target.id)
        for number, found in told.items():
            if len(found) == 1:
                ((address, evidence),) = found.items()
                self.bindings.setdefault(number, Binding(number, address, evidence))
        self._decide_pending()

    # -- functions that differ in padding --------------------------------------------------------------------------

    def _differing(self) -> list[Atom]:
        return [a for a in self.view.functions if a.id in self.results and self.results[a.id].status == DIFFERS]

    def _may_be_padded(self, atom: Atom) -> bool:
        numbered = {s.value for name in atom.names for s in self.image.renumbered(name)}
        return any(self.comparison.layout(atom, address) for address in {*self._candidates(atom), *numbered})

    def _settle_padded(self, plain: View) -> None:
        """Prove functions that differ by the places of those that do not when they are compiled as the kernel was."""
        proven = _exact_places(plain, self.image)
        for atom, fits in [item for item in self.pending.values() if item[0].id in self.rivals]:
            place = proven.get(frozenset(atom.names))
            if place is None:
                continue
            del self.pending[atom.id]
            fit = next((found for address, found in fits if address == place.address), None)
            if fit is not None:
                self._accept(atom, place.address, fit, place.evidence)
            else:
                self._result(atom, DIFFERS, place.address, "it has other padding in the kernel")
        for atom in self._differing():
            place = proven.get(frozenset(atom.names))
            layout = self.comparison.layout(atom, place.address) if place is not None else None
            if place is not None and layout is not None:
                self.comparison.layouts[atom.id] = layout
                self.evidence[atom.id] = f"{PADDED_BYTES}{'' if place.evidence == OWN_BYTES else f'; {place.evidence}'}"
        progress = True
        while progress:
            progress = False
            for atom in self._differing():
                if atom.id in self.comparison.layouts:
                    self._settle_laid_out(atom, self.comparison.layouts[atom.id])
                else:
                    self._settle(atom)  # it may lead into a function whose places are known now
                after = self.results.get(atom.id)
                progress = progress or after is None or after.status != DIFFERS
            self._decide_pending()

    def _settle_laid_out(self, atom: Atom, layout: PaddingLayout) -> None:
        """Compare a function with the kernel's where the same function, compiled as the kernel was, is proven."""
        bound = self.bindings.get(atom.id)
        try:
            if bound is not None and bound.address != layout.address:
                raise Mismatch(f"{bound.evidence} it is at {bound.address:#x}")
            found = self.comparison.compare_laid_out(atom, layout)
        except Mismatch as mismatch:
            self._result(atom, DIFFERS, layout.address, f"besides padding: {mismatch}")
            return
        self._accept(atom, layout.address, found, self.evidence[atom.id])
        self.padded.add(atom.id)

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

    def _accept(self, atom: Atom, address: int, found: FoundPlaces, evidence: str) -> None:
        for key, binding in found.items():
            self.bindings.setdefault(key, binding)
        for key, places in found.literals.items():
            known = self.literals.setdefault(key, {})
            for place, read_at in places.items():
                known.setdefault(place, read_at)
        self.bindings[atom.id] = Binding(atom.id, address, evidence)
        self._result(atom, EXACT, address)

    def _candidates(self, atom: Atom) -> list[int]:
        """Where the kernel has something of the function's names. objtool calls the padding before a function that has
        several names by one of them, which may be another one in each run."""
        names = set(atom.names)
        if is_prefix(atom) and not any(self.image.named(name) for name in names):
            start = next(prefix for prefix in PREFIXES if atom.name.startswith(prefix))
            names |= {start + name for name in self._padded_names.get(atom.id, ())}
        return sorted({s.value for name in names for s in self.image.named(name)})

    @cached_property
    def _padded_names(self) -> dict[int, tuple[str, ...]]:
        """The names of the function that a padding is before, by the padding's atom."""
        before = [(self.view.just_before(atom), atom) for atom in self.view.functions]
        return {padding.id: atom.names for padding, atom in before if padding is not None and is_prefix(padding)}

    def _settle(self, atom: Atom) -> None:
        candidates = self._candidates(atom)
        fits: list[tuple[int, FoundPlaces]] = []
        reasons = []
        for address in candidates:
            try:
                fits.append((address, self.comparison.compare(atom, address)))
            except Mismatch as mismatch:
                reasons.append(str(mismatch))
        bound = self.bindings.get(atom.id)
        fits = fits or self._renumbered(atom)
        several = len(candidates) > 1 and not self.padded_as_there
        rivals = self._rivals(atom, candidates, fits) if several else []
        if rivals and (bound is None or bound.address in rivals):
            # a copy in another unit may have, by chance, the padding that this compile made
            self.rivals[atom.id] = rivals
            self.results.pop(atom.id, None)
            self.pending[atom.id] = (atom, fits)
        elif len(fits) == 1 and bound is not None and bound.address != fits[0][0]:
            fact = f"its bytes are at {fits[0][0]:#x}, but {bound.evidence} it is at {bound.address:#x}"
            self._result(atom, DIFFERS, reason=fact)
        elif len(fits) == 1:
            self._accept(atom, fits[0][0], fits[0][1], OWN_BYTES)
        elif fits:
            self.results.pop(atom.id, None)
            self.pending[atom.id] = (atom, fits)
        elif not candidates:
            self._result(atom, ABSENT, reason="the kernel has no symbol of that name")
        elif atom.bind == STB.WEAK and len(candidates) == 1 and self.image.is_global(atom.name, candidates[0]):
            self._result(atom, OVERRIDDEN, candidates[0], "the kernel has another definition")
        else:
            self._result(atom, DIFFERS, candidates[0] if len(candidates) == 1 else 0, reasons[0])

    def _rivals(self, atom: Atom, candidates: list[int], fits: list[tuple[int, FoundPlaces]]) -> list[int]:
        """Where else the kernel has a function that is this one but for padding, if its bytes fit somewhere."""
        fitting = {address for address, _ in fits}
        return [a for a in candidates if fitting and a not in fitting and self.comparison.layout(atom, a) is not None]

    def _renumbered(self, atom: Atom) -> list[tuple[int, FoundPlaces]]:
        """Where the kernel has the code of a clone under another number."""
        places = sorted({s.value for name in atom.names for s in self.image.renumbered(name)})
        fits: list[tuple[int, FoundPlaces]] = []
        for address in places:
            with suppress(Mismatch):
                fits.append((address, self.comparison.compare(atom, address)))
        return fits


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
        if result.status == EXACT and parity.comparison.has_bytes(atom, result.address):
            out[names] = proof.bindings[result.atom]
    return {names: place for names, place in out.items() if names not in twice}
