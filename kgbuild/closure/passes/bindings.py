# SPDX-License-Identifier: GPL-2.0-or-later
"""What one reference of a member is bound to, by the kind of what it leads to; what is not bound comes along, or is
refused."""

from __future__ import annotations

from kgbuild.closure.binding import EXPORT, NEW_GLOBAL, PATCH_SYMBOL, Bound, NotBound
from kgbuild.closure.builder import ClosureBuilder
from kgbuild.closure.callers import users_in
from kgbuild.closure.model import MemberKey, StateLine, UnitResult
from kgbuild.closure.name_lookup import find_provider, say_elsewhere, say_unexported
from kgbuild.closure.proven_places import proven_data, proven_function, proven_place, why_not_proven
from kgbuild.closure.state_verdicts import REFUSED
from kgbuild.correlation.noise import is_location
from kgbuild.correlation.section_references import may_mean, same_surroundings
from kgbuild.elf.consts import STB
from kgbuild.model import VMLINUX
from kgbuild.objects.atoms import ANON, DATA, FUNCTION, Atom, Ref
from kgbuild.objects.clone_names import clone_key
from kgbuild.objects.stateless import is_stateless
from kgbuild.objects.symbol_kinds import is_anonymous, is_branch, is_init, may_be_array

ALWAYS = "a clone: --pull always"


def carry_anonymous(builder: ClosureBuilder, number: int, source: Atom, target: Atom) -> None:
    """A string or data without a name comes along, if nothing writes to it."""
    view = builder.units[number].changes.patched
    section = view.section_of(target)
    # gcc puts what a location points to, the descriptor of a type, into writable memory too
    described = source.kind == ANON and is_location(view, source) and not view.refs(target)
    if section.writable and target.kind == ANON and not is_location(view, target) and not described:
        fact = f"refers to unnamed writable data in {section.name}"
        builder.refuse("K5-symbol", number, source.name, fact, section.name)
    elif is_init(view, target):
        builder.refuse("K6-init-memory", number, source.name, f"refers to data in {section.name}", section.name)
    else:
        builder.add(number, target, "data", f"read by {source.name}")


# -- what the unit leaves undefined --------------------------------------------------------------------------------


def bind_external(builder: ClosureBuilder, number: int, source: Atom, target: Atom, ref: Ref) -> None:
    """Bind a symbol that the unit leaves undefined, as the link of its object would."""
    unit, name, key = builder.units[number], target.name, (number, target.id)
    if name == PATCH_SYMBOL:
        builder.bound[key] = Bound(name, NEW_GLOBAL, "", proof="the patch itself")
        return

    def has(owner: str, wanted: str) -> bool:
        return _has_global(builder, owner, wanted)

    weak = target.bind == STB.WEAK
    provider = find_provider(builder.world, unit.target, name, weak, has)
    if (made := builder.new_globals.get((provider, name))) and _may_use(builder, unit.target, provider):
        home, atom = made
        if atom.kind == DATA and goes_on(builder, number, source, target, home, atom):
            return
        bind_new(builder, number, source, target, home, atom)
    elif (provider, name) in builder.made_global and provider in (unit.target, VMLINUX):
        _bind_made_global(builder, number, source, target, ref, *builder.made_global[provider, name])
    else:
        found = builder.world.external(unit.target, name, weak)
        if isinstance(found, NotBound) and (elsewhere := _new_elsewhere(builder, unit.target, name)):
            found = NotBound("K18-other-module", elsewhere)
        builder.take(number, source, target, found)


def _has_global(builder: ClosureBuilder, owner: str, name: str) -> bool:
    """Whether an object has a global symbol of that name in the patched source."""
    if (owner, name) in builder.new_globals or (owner, name) in builder.made_global:
        return True
    return builder.world.only_global(owner, name) is not None


def _may_use(builder: ClosureBuilder, target: str, provider: str) -> bool:
    """Whether what a provider has is there whenever code of `target` runs."""
    return provider in (target, VMLINUX) or provider in builder.world.depends(target)


def _new_elsewhere(builder: ClosureBuilder, target: str, name: str) -> str:
    """Why a name that the link of `target` does not find is not that of another object's global; "" where there is no
    such."""
    world = builder.world
    for table in (builder.new_globals, builder.made_global):
        for (owner, known), (home, _) in table.items():
            if known == name and owner != target:
                is_new = table is builder.new_globals
                return say_elsewhere(world, target, name, builder.units[home].source, owner, is_new)
    for owner in sorted(set(world.modules) - {target}) if name not in world.exports else ():
        if world.only_global(owner, name) is not None:
            return say_unexported(world, target, name, owner)
    return ""


def bind_new(builder: ClosureBuilder, number: int, source: Atom, target: Atom, home: int, atom: Atom) -> None:
    """Bind to a new global function or variable: `atom` of the unit `home`."""
    view = builder.units[home].changes.patched
    if is_init(view, atom):
        section = view.section_name(atom)
        fact = f"refers to {atom.name} in {section}, freed after boot"
        builder.refuse("K6-init-memory", number, source.name, fact, section)
        return
    builder.add(home, atom, "new" if atom.kind == FUNCTION else "data", f"used by {source.name}")
    builder.bound[number, target.id] = Bound(target.name, NEW_GLOBAL, "", proof="defined by this patch")
    builder.defined[number, target.id] = (home, atom.id)


def _bind_made_global(
    builder: ClosureBuilder, number: int, source: Atom, target: Atom, ref: Ref, home: int, atom: Atom
) -> None:
    """Bind to what was local to another unit until the patch: the kernel has it, and only that unit's parity tells
    where."""
    owner = builder.units[home]
    if is_init(owner.changes.patched, atom):
        section = owner.changes.patched.section_name(atom)
        builder.refuse("K6-init-memory", number, source.name, f"refers to {atom.name} in {section}", section)
        return
    if builder.take(number, source, target, _proven(builder, owner, atom)):
        builder.promoted.append((number, target, home, atom))
    elif atom.kind == FUNCTION and is_branch(builder.units[number].changes.patched, source, ref):
        why = f"called by {source.name}, not proven to be the kernel's"
        builder.add(home, atom, "carried", why, (number, source.id))
        builder.promoted.append((number, target, home, atom))
        builder.bound[number, target.id] = Bound(atom.name, NEW_GLOBAL, "", proof="defined by this patch")
    else:
        fact = f"refers to {atom.name} of {owner.source}, whose place in the kernel is not proven"
        builder.refuse("K5-symbol", number, source.name, fact)


def _proven(builder: ClosureBuilder, unit: UnitResult, atom: Atom) -> Bound | NotBound | None:
    if atom.kind == FUNCTION:
        return proven_function(builder.world, unit, atom, builder.allowed)
    return proven_data(builder.world, unit, atom)


def settle_promoted(builder: ClosureBuilder) -> None:
    """What was made global, came along and can't be redirected is called in the module; a pointer to it must not get
    out."""
    redirected = {(r.unit, r.atom.id) for r in builder.redirects}
    for number, target, home, atom in builder.promoted:
        if (home, atom.id) not in builder.members or (home, atom.id) in redirected:
            continue
        unit = builder.units[number]
        for taker in users_in(unit.changes.patched, target, unit.target == VMLINUX).takers:
            fact = f"takes the address of {target.name}, which is in the module and can't be redirected"
            builder.refuse("K13-ambiguous", number, taker, fact)
        builder.bound[number, target.id] = Bound(atom.name, NEW_GLOBAL, "", proof="defined by this patch")
        builder.defined[number, target.id] = (home, atom.id)


# -- functions of the unit -----------------------------------------------------------------------------------------


def bind_function(builder: ClosureBuilder, number: int, source: Atom, target: Atom, ref: Ref) -> None:
    """Bind a function of the unit to the kernel's, or carry a copy of it."""
    unit = builder.units[number]
    if is_init(unit.changes.patched, target):
        builder.refuse("K6-init-memory", number, source.name, f"calls {target.name}, freed after boot")
        return
    originals = unit.changes.correlation.to_original.get(target.id, ())
    if originals and _take_export(builder, number, source, target):
        return
    if builder.pull_always and target.bind == STB.LOCAL and any(clone_key(n) for n in target.names):
        _carry(builder, number, source, target, ref, ALWAYS)
        return
    if builder.take(number, source, target, proven_function(builder.world, unit, target, builder.allowed)):
        return
    if target.bind != STB.LOCAL:
        found = builder.world.only_global(unit.target, target.name)
        if builder.take(number, source, target, found):
            return
    _carry(builder, number, source, target, ref, why_not_proven(unit, target))


def _take_export(builder: ClosureBuilder, number: int, source: Atom, target: Atom) -> bool:
    """Bind to an export of vmlinux, where that is what a global of the unit is. False where it is not."""
    unit, world = builder.units[number], builder.world
    if target.bind == STB.LOCAL or unit.target != VMLINUX or world.exported(target.name) is None:
        return False
    return builder.take(number, source, target, Bound(target.name, EXPORT, proof="exported by vmlinux"))


def _carry(builder: ClosureBuilder, number: int, source: Atom, target: Atom, ref: Ref, why: str) -> None:
    refuse_pointer(builder, number, source, target, ref)
    if (number, target.id) not in builder.members:
        builder.add(number, target, "carried", f"called by {source.name}, {why}", (number, source.id))


def refuse_pointer(builder: ClosureBuilder, number: int, source: Atom, target: Atom, ref: Ref) -> None:
    """Refuse a reference to a copy that is a pointer and no branch: pointers are stored and compared, and one to a copy
    must not get out."""
    if ref.delta == 0 and not is_branch(builder.units[number].changes.patched, source, ref):
        fact = f"takes the address of {target.name}, whose place is not proven"
        builder.refuse("K13-ambiguous", number, source.name or target.name, fact)


# -- data of the unit ----------------------------------------------------------------------------------------------


def is_loose(builder: ClosureBuilder, number: int, source: Atom, target: Atom, ref: Ref) -> bool:
    """Refuse a reference by section and offset that may mean several variables, unless all of them lie in the kernel as
    they lie in the patched object: then every meaning is the same address. Whether it was refused."""
    pairs = builder.units[number].changes.correlation
    originals = (pairs.orig.atoms[i] for i in pairs.to_original.get(target.id, ()))
    if any(same_surroundings(pairs, orig, target) for orig in originals):
        return False
    if not any(n is not None and may_be_array(pairs.patched, n) for n in pairs.patched.neighbours(target)):
        return False
    fact = f"+{ref.offset:#x}: {may_mean(pairs.patched, target)}"
    builder.refuse("K13-ambiguous", number, source.name, fact, pairs.patched.section_name(target))
    return True


def bind_data(builder: ClosureBuilder, number: int, source: Atom, target: Atom) -> None:
    """Bind a variable of the unit to the kernel's, or bring in a new one, or data that nothing writes to."""
    unit = builder.units[number]
    view, section = unit.changes.patched, unit.changes.patched.section_name(target)
    if is_init(view, target):
        builder.refuse("K6-init-memory", number, source.name, f"refers to {target.name} in {section}", section)
        return
    if is_anonymous(view, target):
        builder.add(number, target, "data", f"constant data read by {source.name}")
        return
    tables = builder.label_tables(number)
    if tables.leads_into(target, source) and tables.is_own_constant(target):
        inside = ", ".join(sorted(tables.inside[target.id]))
        builder.add(number, target, "data", f"holds addresses inside {inside}")
        return
    if not unit.changes.correlation.to_original.get(target.id, ()):
        _bind_unpaired(builder, number, source, target)
        return
    if _take_export(builder, number, source, target):
        return
    if builder.take(number, source, target, proven_data(builder.world, unit, target)):
        return
    if is_stateless(view, target):
        builder.add(number, target, "data", f"flag of {source.name}, not proven to be the kernel's")
        return
    fact = f"refers to {target.name}, whose place in the kernel is not proven"
    builder.refuse("K5-symbol", number, source.name, fact)


def _bind_unpaired(builder: ClosureBuilder, number: int, source: Atom, target: Atom) -> None:
    """A variable that has no partner in the original object: one of several, one that goes on another, or a new one."""
    changes = builder.units[number].changes
    for group, (originals, candidates) in changes.correlation.undecided.items():
        if target.id in candidates and not is_stateless(changes.patched, target):
            names = " or ".join(sorted(changes.orig.atoms[i].name for i in originals))
            which = f"which {group.split()[-1]} is meant can't be told"
            fact = f"{which}: {target.name} may be the original's {names}"
            builder.refuse("K13-ambiguous", number, source.name, fact)
            return
    section = changes.patched.section_name(target)
    if section == ".BTF_ids":
        fact = f"uses {target.name}, to be filled by resolve_btfids"
        builder.refuse("K2-special", number, source.name, fact, section)
    elif not goes_on(builder, number, source, target, number, target):
        builder.add(number, target, "data", f"new variable used by {source.name}")


def goes_on(builder: ClosureBuilder, number: int, source: Atom, target: Atom, home: int, atom: Atom) -> bool:
    """Bind what is referred to as a new variable, `atom` of unit `home`, to the kernel's that it goes on, or refuse
    where that is in doubt. False where it is really new. `target` is what `source` of the unit `number` refers to."""
    owner = builder.units[home]
    verdict = builder.judge.of(home, atom)
    if verdict.kind == REFUSED:
        if not any(r.code == "K22-state" and r.fact == verdict.why for r in builder.refusals):
            builder.refuse("K22-state", home, atom.name, verdict.why)
        return True
    orig_name, orig_unit = "", ""
    if verdict.orig is not None:
        origin, i = builder.units[verdict.orig[0]], verdict.orig[1]
        orig_name, orig_unit = origin.changes.orig.atoms[i].name, origin.source
        if not builder.take(number, source, target, proven_place(builder.world, origin, (i,))):
            what = f"refers to {atom.name}, which is {orig_name} of the running kernel"
            builder.refuse("K5-symbol", number, source.name, f"{what}, whose place there is not proven")
    if verdict.why:
        key: MemberKey = (home, atom.id)
        builder.state[key] = StateLine(
            atom.name, owner.source, owner.target, verdict.kind, orig_name, orig_unit, verdict.why
        )
    return verdict.orig is not None
