# SPDX-License-Identifier: GPL-2.0-or-later
"""What gcc made of the functions that a patch edits, and which of it is in the patch: the steps between a hunk of the
source and a redirected symbol.

A function of the source may have a body of its own, clones (isra, constprop, part), and copies inside of others. gcc
says so itself (.ipa-clones); names and symbols of the object say the rest. That gcc is silent proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from kgbuild.closure.model import Closure, UnitResult
from kgbuild.diff.ipa_clones import EVIDENCE, CloneStep, describe
from kgbuild.estimation.edits import SourceEdit, SourceHunk
from kgbuild.objects.atoms import Atom
from kgbuild.objects.clone_names import SUFFIXES, clone_of
from kgbuild.objects.symbol_kinds import is_cold, is_prefix

BODY, CLONE, INLINED, NO_CODE = "body", "clone", "inlined", "no code"


@dataclass(frozen=True)
class EditResult:
    """One thing that became of an edited function in one unit.

    unit, object  where; `object` is "vmlinux" or a module's name
    how           BODY, CLONE, INLINED, or NO_CODE where neither the object nor gcc has anything of it
    function      the symbol of the patched object: the body, the clone, or the function that holds a copy
    kinds         what gcc did, for a clone: "isra", "constprop", "part"
    role          that symbol's role in the patch; "" where its code stays as it is
    redirected    whether the kernel's function is redirected to it
    evidence      how that is known
    member        the unit's number and the atom's id, None for NO_CODE
    """

    unit: str
    object: str
    how: str
    function: str
    kinds: tuple[str, ...]
    role: str
    redirected: bool
    evidence: str
    member: tuple[int, int] | None = None


@dataclass(frozen=True)
class SourceEdits:
    """The hunks that were applied, the definitions that they edit, and for each of these what became of it (empty while
    the patch is not closed)."""

    hunks: tuple[SourceHunk, ...] = ()
    edits: tuple[SourceEdit, ...] = ()
    results: tuple[tuple[EditResult, ...], ...] = field(default=())

    def rows(self) -> list[tuple[SourceEdit, tuple[EditResult, ...]]]:
        """Each edit with its results."""
        return list(zip(self.edits, self.results, strict=True))


NO_EDITS = SourceEdits()


def results_of(closure: Closure, edit: SourceEdit) -> list[EditResult]:
    """What became of one edited function in each unit of the patch that knows it, in the order of the units. Empty for
    what is no function, and for a patch in which no unit has it."""
    if not edit.is_function:
        return []
    redirected = {(r.unit, r.atom.id) for r in closure.redirects}
    out: list[EditResult] = []
    for number, unit in enumerate(closure.units):
        own = unit.source == edit.path
        found = list(_in_unit(closure, number, unit, edit, redirected))
        if not found and own:
            fact = "neither gcc nor the object has code of it"
            found = [EditResult(unit.source, unit.target, NO_CODE, edit.name, (), "", False, fact)]
        out += found
    return out


def _in_unit(
    closure: Closure, number: int, unit: UnitResult, edit: SourceEdit, redirected: set[tuple[int, int]]
) -> Iterable[EditResult]:
    view, clones = unit.changes.patched, unit.clones
    atoms = [a for a in view.functions if not is_cold(a) and not is_prefix(a)]
    written = _written_names(unit, atoms, edit)
    family = _family(unit, atoms, written)
    by_name = {name: atom for atom in atoms for name in atom.names}
    holders: dict[str, str] = {}
    for name in sorted(family):
        for holder in clones.inlined_into(name):
            if holder not in family:
                holders.setdefault(holder, name)

    def result(how: str, atom: Atom, name: str, kinds: tuple[str, ...], evidence: str) -> EditResult:
        key = (number, atom.id)
        member = closure.members.get(key)
        role = member.role if member is not None else ""
        return EditResult(unit.source, unit.target, how, name, kinds, role, key in redirected, evidence, key)

    for name in sorted(family):
        atom = by_name.get(name)
        if atom is None:
            continue
        clone = clone_of(name)
        if name in written or clone is None:
            yield result(BODY, atom, name, (), "a symbol of the object")
        else:
            history = clones.history(name)
            words = "; ".join(SUFFIXES.get(kind, kind) for kind in clone.kinds)
            said = f"gcc made {describe(history)}: {EVIDENCE}" if history else f"{words}: its name"
            yield result(CLONE, atom, name, clone.kinds, said)
    for name, source in sorted(holders.items()):
        atom = by_name.get(name)
        if atom is not None:
            yield result(INLINED, atom, name, (), _say_inlined(unit, source, name))


def _written_names(unit: UnitResult, atoms: Sequence[Atom], edit: SourceEdit) -> set[str]:
    """The names that one definition of the source has in a unit: its own; those that a macro made of its argument, as
    __do_sys_read of SYSCALL_DEFINE3(read)."""
    if not edit.macro:
        return {edit.name}
    known = {n for a in atoms for n in a.names}
    known.update(name for step in unit.clones.steps for name in (step.source.name, step.result.name))
    made = (n for n in known if n == edit.name or n.endswith(f"_{edit.name}") or n.startswith(f"{edit.name}_"))
    return {name for name in made if clone_of(name) is None}


def _family(unit: UnitResult, atoms: Sequence[Atom], written: set[str]) -> set[str]:
    """Names of a function and of everything that gcc made of it, by what gcc says and by names."""
    found = set(written)
    todo = list(written)
    while todo:
        for step in unit.clones.made_of(todo.pop()):
            if step.result.name not in found:
                found.add(step.result.name)
                todo.append(step.result.name)
    for atom in atoms:
        for name in atom.names:
            clone = clone_of(name)
            if clone is not None and clone.family in written:
                found.add(name)
    return found


def _say_inlined(unit: UnitResult, source: str, holder: str) -> str:
    """The step by which gcc put a function into another, with the line of that other."""
    steps: list[CloneStep] = [s for s in unit.clones.steps if s.source.name == source and s.result.name == holder]
    if not steps:  # by way of others
        between = [s.result.name for s in unit.clones.steps if s.source.name == source]
        way = f" by way of {between[0]}" if between else ""
        return f"gcc put {source} into it{way}: {EVIDENCE}"
    place = steps[0].result
    return f"gcc put {source} into it ({place.file}:{place.line}): {EVIDENCE}"
