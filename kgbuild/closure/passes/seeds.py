# SPDX-License-Identifier: GPL-2.0-or-later
"""The first passes: what the units themselves refuse, which global names the patch makes, and what it changes."""

from __future__ import annotations

from kgbuild.closure.builder import ClosureBuilder, refusal_of
from kgbuild.closure.model import Callback, UnitResult
from kgbuild.diagnostics.refusals import Refusal
from kgbuild.diff.author_macros import check_authors
from kgbuild.diff.changes import new_parameters
from kgbuild.elf.consts import STB
from kgbuild.objects.atoms import DATA, FUNCTION, Atom
from kgbuild.objects.clone_names import clone_key
from kgbuild.objects.symbol_kinds import is_init
from kgbuild.objects.view import View
from kgbuild.proof.parity import ABSENT, DIFFERS, FunctionParity


def take_findings(builder: ClosureBuilder) -> None:
    """What the comparison of each unit refuses, and what is not proven of its original."""
    for unit in builder.units:
        builder.refusals.extend(unit.changes.refusals)
        _check_parity(builder, unit)


def _check_parity(builder: ClosureBuilder, unit: UnitResult) -> None:
    orig = unit.changes.orig
    for found in unit.parity.functions:
        if found.status not in (DIFFERS, ABSENT):
            continue
        atom = orig.atoms[found.atom]
        if is_init(orig, atom) and found.status == DIFFERS:
            continue
        if found.name in builder.allowed or unit.source in builder.allowed:
            accepted = f"not proven ({found.reason}), accepted by --allow-unproven"
            builder.warnings.append(f"{unit.source}: {found.name}: {accepted}")
        elif not is_local_clone(atom):  # those are judged by who uses them (unit_checks)
            builder.refusals.append(refuse_parity(unit, found))


def refuse_parity(unit: UnitResult, found: FunctionParity) -> Refusal:
    """The refusal for a function whose recompiled original is not what runs."""
    return refusal_of(unit, "Y1-parity", found.name, f"the recompiled original is not what runs: {found.reason}")


def is_local_clone(atom: Atom) -> bool:
    """Whether a function is one that only gcc can have made, and only its unit can call."""
    return atom.bind == STB.LOCAL and all(clone_key(name) for name in atom.names)


# -- global names --------------------------------------------------------------------------------------------------


def note_globals(builder: ClosureBuilder) -> None:
    """The global names that are new with the patch: of new functions and variables, and of those that were local."""
    for number, unit in enumerate(builder.units):
        changes = unit.changes
        known = changes.correlation.to_original
        new = [*changes.new, *(a for a in changes.patched.data if a.id not in known)]
        had = [a for a in changes.patched.functions + changes.patched.data if a.id in known]
        for table, atoms in ((builder.new_globals, new), (builder.made_global, had)):
            for atom in atoms:
                for name in new_names(unit, atom):
                    # a weak definition gives way to one that the object has
                    if atom.bind != STB.WEAK or builder.world.only_global(unit.target, name) is None:
                        table.setdefault((unit.target, name), (number, atom))


def new_names(unit: UnitResult, atom: Atom) -> list[str]:
    """Global names of a function or variable of the patched object that its original has not: all of what is new, that
    of a static made global, a new alias."""
    if atom.kind not in (FUNCTION, DATA) or atom.bind == STB.LOCAL:
        return []
    changes = unit.changes
    originals = [changes.orig.atoms[i] for i in changes.correlation.to_original.get(atom.id, ())]
    if len(atom.names) == 1 and any(orig.bind != STB.LOCAL and orig.names == atom.names for orig in originals):
        return []  # most of them
    had = {name for orig in originals for name in _global_names(changes.orig, orig)}
    return [name for name in _global_names(changes.patched, atom) if name not in had]


def _global_names(view: View, atom: Atom) -> list[str]:
    bound = zip(atom.names, atom.symbols, strict=True)
    return list(dict.fromkeys(name for name, symbol in bound if view.obj.symbol(symbol).bind != STB.LOCAL))


# -- what the patch touches itself ---------------------------------------------------------------------------------


def take_authors(builder: ClosureBuilder) -> None:
    """The callbacks and states that macros in the patched text ask for."""
    builder.refusals += check_authors((u.source, u.target, u.author) for u in builder.units)
    for number, unit in enumerate(builder.units):
        for kind, atom in unit.author.callbacks:
            if unit.changes.correlation.to_original.get(atom.id):
                fact = f"the {kind} callback is a function of the kernel, not of the patch"
                builder.refuse("P14-callback", number, atom.name, fact)
                continue
            builder.add(number, atom, "new", f"the {kind} callback of {unit.target}")
            builder.callbacks.append(Callback(number, atom, kind, unit.target))
        builder.states.update(unit.author.states)


def check_declarations(builder: ClosureBuilder) -> None:
    """What the author declares to be a variable of the kernel, and can't be."""
    for number, name, fact in builder.judge.wrong_declarations():
        builder.refuse("K22-state", number, name, fact)


def add_seeds(builder: ClosureBuilder) -> None:
    """What the patch itself changes or adds."""
    for number, unit in enumerate(builder.units):
        for change in unit.changes.changed:
            builder.add(number, change.patched, "changed", str(change.reason))
        for atom in unit.changes.new:
            builder.add(number, atom, "new", "new in the patched source")
        for atom in new_parameters(unit.changes.patched, unit.changes.correlation):
            builder.add(number, atom, "data", "a new module parameter")
