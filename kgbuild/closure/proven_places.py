# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the kernel has what a unit's objects define, as far as parity proves it."""

from __future__ import annotations

from kgbuild.closure.binding import Bound, NotBound, World
from kgbuild.closure.model import UnitResult
from kgbuild.objects.atoms import Atom
from kgbuild.objects.clone_names import clone_key
from kgbuild.objects.symbol_kinds import stem
from kgbuild.proof.parity import EXACT, names_at


def proven_function(world: World, unit: UnitResult, patched: Atom, allowed: frozenset[str]) -> Bound | NotBound | None:
    """What a function of a patched object is in the kernel, by parity; None where that is not proven. What is named in
    `allowed` is taken to be the one at the place where parity found it."""
    for i in unit.changes.correlation.to_original.get(patched.id, ()):
        binding, result = unit.parity.bindings.get(i), unit.parity.of(i)
        if binding is None:
            continue
        proof, proven = binding.evidence, result is None or result.status == EXACT
        if result is not None and not proven:
            if patched.name not in allowed:
                continue
            proof = f"not proven ({result.reason}), accepted by --allow-unproven; {proof}"
        names = unit.changes.orig.atoms[i].names
        for name in names_at(world.image(unit.target), names, binding.address):
            found = world.at(unit.target, name, binding.address, proof)
            if isinstance(found, Bound) and not proven:
                found = found._replace(unproven=True)
            if found is not None:
                return found
    return None


def why_not_proven(unit: UnitResult, patched: Atom) -> str:
    """Why a function of the unit is not bound to the kernel's."""
    results = [unit.parity.of(i) for i in unit.changes.correlation.to_original.get(patched.id, ())]
    reasons = [r.reason for r in results if r is not None and r.reason]
    what = "not the same clone in the kernel" if clone_key(patched.name) else "not proven to be the kernel's"
    return f"{what} ({reasons[0]})" if reasons else what


def proven_data(world: World, unit: UnitResult, patched: Atom) -> Bound | NotBound | None:
    """What a variable of a patched object is in the kernel, by parity, or by a name that only one variable of the
    kernel's object has; None where that is not proven."""
    return proven_place(world, unit, unit.changes.correlation.to_original.get(patched.id, ()))


def proven_place(world: World, unit: UnitResult, originals: tuple[int, ...]) -> Bound | NotBound | None:
    """Where the kernel has a variable of an original object, given as the atoms of it that it is."""
    image = world.image(unit.target)
    for i in originals:
        binding = unit.parity.bindings.get(i)
        for name in unit.changes.orig.atoms[i].names:
            if binding is not None:
                found = world.at(unit.target, name, binding.address, binding.evidence)
            elif stem(name) != name:
                continue  # numbers prove nothing
            else:
                places = [s.value for s in image.named(name) if image.in_kallsyms(s)]
                if len(places) != 1:
                    continue
                found = world.at(unit.target, name, places[0], "its name is unique")
            if found is not None:
                return found
    return None
