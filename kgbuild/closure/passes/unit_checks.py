# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks on a unit as a whole: what is gone, whose name is taken, which clones stay, tables that nobody has a rule for.

Each is given what it looks at, and says what it refuses or warns of; none of them brings anything in.
"""

from __future__ import annotations

from collections.abc import Iterator

from kgbuild.closure.binding import World
from kgbuild.closure.builder import refusal_of
from kgbuild.closure.callers import Graph, callers_left, function_at, original_in_graph, users_in
from kgbuild.closure.model import PR_DEBUG, REPLACED, Contents, DroppedKey, UnitResult
from kgbuild.closure.name_lookup import left_behind, say_object
from kgbuild.closure.passes.seeds import is_local_clone, new_names, refuse_parity
from kgbuild.closure.state_verdicts import Judge
from kgbuild.diagnostics.refusals import Refusal
from kgbuild.diagnostics.unused_options import unused_option
from kgbuild.elf.consts import STB
from kgbuild.kernel.module_image import ModuleImage
from kgbuild.kernel.section_readers import HOOKS
from kgbuild.model import VMLINUX
from kgbuild.objects.atoms import ANON, DATA, FUNCTION, UNDEFINED, Ambiguous, Atom
from kgbuild.objects.special_entries import BadEntry, Entries
from kgbuild.objects.stateless import DEBUG_SECTIONS
from kgbuild.objects.symbol_kinds import is_branch, is_init
from kgbuild.objects.view import View
from kgbuild.proof.parity import ABSENT, DIFFERS

# -- names ---------------------------------------------------------------------------------------------------------


def check_vanished(contents: Contents, graph: Graph | None, unit: UnitResult) -> Iterator[Refusal]:
    """A function gone from the unit must have left nothing behind that still refers to it."""
    orig = unit.changes.orig
    # what is freed after boot has left nothing
    gone = {a.id: a for a in unit.changes.removed if not orig.section_name(a).startswith(".init")}
    if not gone:
        return
    for atom in unit.changes.removed:
        if atom.bind != STB.LOCAL and not is_init(orig, atom):
            stale = callers_left(contents, graph, original_in_graph(graph, unit, atom), unit.source, unit.target)
            if stale:
                yield refusal_of(unit, "K14-vanished", atom.name, f"global function {atom.name} is gone; {stale}")
    for atom in orig.data + orig.functions:
        try:
            refs = [r for r in orig.refs(atom) if r.atom in gone]
        except Ambiguous:
            continue
        for ref in refs:
            if ref.delta == 0 and not is_branch(orig, atom, ref):
                name = gone[ref.atom].name
                where = f"{atom.name} of the running kernel" + (" still" if atom.kind == DATA else "")
                yield refusal_of(unit, "K14-vanished", name, f"{where} points to {name}")


def check_taken_names(
    contents: Contents, number: int, world: World, graph: Graph | None, judge: Judge
) -> Iterator[Refusal]:
    """A new global function or variable, or a static that is made global, whose name the kernel has already takes its
    place in the patched source: it overrides a weak definition, or was moved here; in a module it hides what others
    export. The kernel's own stays in use by all that the patch leaves."""
    unit = contents.units[number]
    image, patched = world.image(unit.target), unit.changes.patched
    for atom in patched.functions + patched.data:
        if is_init(patched, atom):
            continue
        for name in new_names(unit, atom):
            others = [u for n, u in enumerate(contents.units) if n != number and u.target == unit.target]
            if any(name in new_names(u, a) for u in others for a in u.changes.patched.by_name.get(name, ())):
                yield refusal_of(unit, "K10-weak", name, f"{name} is newly defined in several units")
            if remaining := _left_undefined(contents, world, unit, name):
                linked = f"{', '.join(remaining[:3])} of {say_object(unit.target)} was linked with"
                fact = f"the new {name} is not what {linked}"
                yield refusal_of(unit, "K14-vanished", name, fact, remedy="give it another name")
            places = sorted({s.value for s in image.named(name) if s.bind != STB.LOCAL})
            if not places or atom.bind == STB.WEAK:
                continue
            if atom.kind != FUNCTION:
                if judge.of(number, atom).orig is not None:
                    continue
                fact = f"the kernel has a variable {name} in another unit, with state of its own"
                yield refusal_of(unit, "K1-data", name, fact)
                continue
            found = function_at(graph, unit.target, name, places)
            if stale := callers_left(contents, graph, found, "", unit.target):
                fact = f"the new {name} takes the place of the kernel's, which the patch does not redirect; {stale}"
                yield refusal_of(unit, "K14-vanished", name, fact)


def _left_undefined(contents: Contents, world: World, unit: UnitResult, name: str) -> list[str]:
    """Code of an object that takes a name from elsewhere, or has NULL for it, and is not replaced: it would go on doing
    so when the object has a symbol of that name itself."""
    numbered = [(n, u) for n, u in enumerate(contents.units) if u.target == unit.target]
    numbers = {n for n, _ in numbered}
    replaced = {n for m in contents.members.values() if m.unit in numbers for n in m.atom.names}
    image = world.image(unit.target)
    rest = unit.target == VMLINUX and name in image.undefined
    if isinstance(image, ModuleImage) or (rest and any(image.obj.sections[i].executable for i in image.obj.rela_of)):
        return left_behind(image, name, replaced)
    out: dict[str, None] = {}
    for _, other in numbered:
        view = other.changes.orig
        for symbol in (a for a in view.atoms if a.kind == UNDEFINED and a.name == name and a.bind == STB.WEAK):
            users = users_in(view, symbol, True)
            for user in (*(f.name for f in users.callers), *users.takers):
                if user not in replaced:
                    out.setdefault(user)
    if rest and not out:
        out.setdefault("code of other units")  # which, the file does not say
    return list(out)


# -- what is not proven --------------------------------------------------------------------------------------------


def check_clones(contents: Contents, number: int, allowed: frozenset[str]) -> Iterator[Refusal]:
    """A local clone that is not proven is judged by who uses it.

    The kernel may have made another clone there, or none; what the patch calls is carried as a copy. The kernel's own
    one may hold what the patch changes, inlined, and must not run any more: only functions of this unit can call it,
    and each of them must be replaced by the patch, or not proven itself, and so refused or accepted.
    """
    unit = contents.units[number]
    orig = unit.changes.orig
    replaced = {
        i
        for m in contents.members.values()
        if m.unit == number and m.role in REPLACED
        for i in unit.changes.correlation.to_original.get(m.atom.id, ())
    }
    unproven = {f.atom for f in unit.parity.functions if f.status in (DIFFERS, ABSENT)}
    for found in unit.parity.functions:
        atom = orig.atoms[found.atom]
        if found.status not in (DIFFERS, ABSENT) or not is_local_clone(atom):
            continue
        if found.name in allowed or unit.source in allowed or is_init(orig, atom):
            continue
        users = users_in(orig, atom, unit.target == VMLINUX)
        if users.takers or any(caller.id not in replaced | unproven for caller in users.callers):
            yield refuse_parity(unit, found)


def needless_allowances(units: tuple[UnitResult, ...], allowed: frozenset[str]) -> Iterator[str]:
    """A warning for each name given to --allow-unproven that accepts nothing: a slip of the pen, or out of date."""
    used = {
        name
        for unit in units
        for found in unit.parity.functions
        if found.status in (DIFFERS, ABSENT)
        for name in (found.name, unit.source)
    }
    for name in sorted(allowed - used):
        yield unused_option("--allow-unproven", "no unproven function or unit of that name", name)


# -- tables --------------------------------------------------------------------------------------------------------


def check_tables(contents: Contents) -> Iterator[Refusal]:
    """An entry of an unknown table that belongs to a function in the module would be lost."""
    for number, unit in enumerate(contents.units):
        view = unit.changes.patched
        code = {m.atom.section for m in contents.members.values() if m.unit == number and m.atom.kind == FUNCTION}
        referring = view.sections_referring_to(code) if code else set()
        for atom in view.atoms:
            if atom.kind != ANON or atom.section not in referring:
                continue
            if (number, atom.id) in contents.members or is_init(view, atom):
                continue
            section = view.section_of(atom)
            # entries of the sections that are known come along with the code that they belong to
            spec = view.arch.special_of(section.name)
            if section.executable or (spec is not None and spec.carried) or section.name.startswith(HOOKS):
                continue
            try:
                targets = [view.atoms[r.atom] for r in view.refs(atom)]
            except Ambiguous:
                continue
            functions = [t for t in targets if t.kind == FUNCTION and (number, t.id) in contents.members]
            for name in sorted({f.name for f in functions}):
                fact = f"{name} has an entry in section {section.name}, for which there is no rule"
                yield refusal_of(unit, "K2-special", name, fact, section.name)


# -- pr_debug ------------------------------------------------------------------------------------------------------


def debug_keys(contents: Contents) -> tuple[list[DroppedKey], list[str]]:
    """What becomes of the switches of pr_debug: those of the kernel that do nothing for patched code, and warnings of
    new ones.

    A pr_debug of patched code has a descriptor in the patch module: what switched on the kernel's does nothing for it,
    and `module NAME` of dynamic_debug/control means the patch module's name.
    """
    functions: dict[tuple[int, str], tuple[set[int], set[int]]] = {}
    for member in contents.members.values():
        if member.atom.kind != FUNCTION:
            continue
        changes = contents.units[member.unit].changes
        name = member.atom.name.removesuffix(".cold")
        orig, patched = functions.setdefault((member.unit, name), (set(), set()))
        patched |= _descriptors(changes.patched, changes.patched_entries, member.atom)
        for i in changes.correlation.to_original.get(member.atom.id, ()):
            orig |= _descriptors(changes.orig, changes.original_entries, changes.orig.atoms[i])
    keys, warnings = [], []
    for (number, name), (orig, patched) in functions.items():
        unit = contents.units[number]
        if orig:
            keys.append(DroppedKey(unit.source, name, unit.target, PR_DEBUG, own=len(patched)))
        elif patched:
            fact = f"{name}: {len(patched)} new pr_debug: off until switched on under the patch module's name"
            warnings.append(f"{unit.source}: {fact}")
    return keys, warnings


def _descriptors(view: View, entries: Entries, function: Atom) -> set[int]:
    """The pr_debug descriptors of a function, as atoms: those it prints with and those that switch it."""
    try:
        refs = [*view.refs(function), *(r for e in entries.of(function.id) for r in e.refs)]
    except (Ambiguous, BadEntry):  # refused where it is followed
        return set()
    return {r.atom for r in refs if view.section_name(view.atoms[r.atom]) in DEBUG_SECTIONS}
