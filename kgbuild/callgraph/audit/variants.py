# SPDX-License-Identifier: GPL-2.0-or-later
"""What a unit becomes with an optimisation taken away: functions whose code differs, size, how far a change reaches.

Two compiles of a unit are compared by name: a function counts as changed if its bytes without relocated fields, or what
its references name, differ. How far a change of one function of the source reaches within its unit is how many symbols
hold code of it: its body, its clones, and the functions that it was inlined into.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kgbuild.diff.ipa_clones import IpaClones
from kgbuild.objects.atoms import Ambiguous
from kgbuild.objects.clone_names import clone_of
from kgbuild.objects.symbol_kinds import is_cold, is_init, is_prefix
from kgbuild.objects.view import View

# gcc's options of a variant, in the order in which they are shown; the first is how the kernel is compiled
VARIANTS: Mapping[str, tuple[str, ...]] = {
    "as built": (),
    "-fno-ipa-sra": ("-fno-ipa-sra",),
    "-fno-ipa-cp": ("-fno-ipa-cp",),
    "-fno-partial-inlining": ("-fno-partial-inlining",),
    "-fno-ipa-icf": ("-fno-ipa-icf",),
    "-fno-ipa-ra": ("-fno-ipa-ra",),
    "-fno-ipa-pure-const": ("-fno-ipa-pure-const",),
    "-fno-ipa-vrp": ("-fno-ipa-vrp",),
    "-flive-patching=inline-clone": ("-flive-patching=inline-clone",),
    "-flive-patching=inline-only-static": ("-flive-patching=inline-only-static",),
}
AS_BUILT = "as built"


@dataclass(frozen=True)
class UnitCode:
    """One compile of a unit: a digest of each function's code by name, bytes of code, clones, and for each function of
    the source that has code how many symbols hold it."""

    code: Mapping[str, str]
    size: int
    clones: int
    reach: Mapping[str, int]


@dataclass(frozen=True)
class VariantFigures:
    """All units of a sample, compiled with one set of options, beside how the kernel is compiled.

    units, functions  compiled; functions in them (halves are parts)
    changed           functions of the kernel's own compile that differ or are not there
    size              bytes of code, and of the kernel's own compile of the same units
    clones            isra, constprop and part clones
    reach, reach_as_built  symbols that a change of one function of the source touches within its unit, on average
    failed            units that do not compile so
    """

    name: str
    units: int = 0
    functions: int = 0
    changed: int = 0
    size: int = 0
    size_as_built: int = 0
    clones: int = 0
    reach: float = 0.0
    reach_as_built: float = 0.0
    failed: int = 0


def read_unit_code(view: View, clones: IpaClones) -> UnitCode:
    """What is to be compared of an object. Init code and padding are left out."""
    code: dict[str, str] = {}
    size = 0
    names: set[str] = set()
    for atom in view.functions:
        if is_prefix(atom) or is_init(view, atom):
            continue
        size += atom.size
        digest = hashlib.sha256(view.masked(atom))
        try:
            digest.update(repr([(r.offset, view.atoms[r.atom].name, r.delta) for r in view.refs(atom)]).encode())
        except Ambiguous:
            digest.update(b"?")
        for name in atom.names:
            code[name] = digest.hexdigest()[:16]
        if not is_cold(atom):
            names.update(atom.names)
    return UnitCode(code, size, sum(clone_of(name) is not None for name in names), _reach(names, clones))


def _reach(names: set[str], clones: IpaClones) -> dict[str, int]:
    """For each function of the source, the symbols of `names` that hold code of it."""
    family: dict[str, set[str]] = {}
    for name in names:
        clone = clone_of(name)
        family.setdefault(clone.family if clone is not None else name, set()).add(name)
    every = {step.source.name for step in clones.steps} | names
    roots = {c.family if (c := clone_of(name)) is not None else name for name in every}
    out = {}
    for root in roots:
        own = {root, *family.get(root, ()), *(step.result.name for step in clones.made_of(root))}
        holders = {holder for name in own for holder in clones.inlined_into(name)}
        found = len((own | holders) & names)
        if found:
            out[root] = found
    return out


def sum_up(name: str, pairs: Iterable[tuple[UnitCode, UnitCode]], failed: int) -> VariantFigures:
    """The figures of one variant, from pairs of the kernel's own compile of a unit and the variant's."""
    units = functions = changed = size = before = clones = 0
    reach: list[int] = []
    reach_before: list[int] = []
    for built, other in pairs:
        units += 1
        functions += len(built.code)
        changed += sum(other.code.get(key) != digest for key, digest in built.code.items())
        size, before, clones = size + other.size, before + built.size, clones + other.clones
        both = built.reach.keys() & other.reach.keys()
        reach += [other.reach[key] for key in both]
        reach_before += [built.reach[key] for key in both]
    return VariantFigures(
        name, units, functions, changed, size, before, clones, _mean(reach), _mean(reach_before), failed
    )


def _mean(values: Sequence[int]) -> float:
    return round(sum(values) / len(values), 4) if values else 0.0
