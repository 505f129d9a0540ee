# SPDX-License-Identifier: GPL-2.0-or-later
"""Which functions of the kernel are redirected, and who comes along where one can't be.

A changed function is redirected by name and position, if parity has proven it. One that ftrace can't redirect pulls its
callers; one that gcc folded with others is distinguished by its callers.
"""

from __future__ import annotations

from kgbuild.callgraph.outside_callers import OutsideCaller, users_outside
from kgbuild.closure.builder import ClosureBuilder
from kgbuild.closure.callers import original_in_graph, users_in
from kgbuild.closure.model import REPLACED, Contents, MemberKey, Redirect, UnitResult
from kgbuild.diagnostics.refusals import ASSUME_CALLERS, IN_A_CALLBACK
from kgbuild.elf.consts import STB
from kgbuild.model import VMLINUX
from kgbuild.objects.atoms import FUNCTION, UNDEFINED, Ambiguous, Atom
from kgbuild.proof.parity import AMBIGUOUS, EXACT, OVERRIDDEN, OWN_BYTES, PADDED_BYTES, names_at

_ASSUMED = (
    "it is exported and can't be redirected; its callers in the kernel and its modules come along "
    "(--assume-in-tree-callers). A module that is not the kernel's own would go on with the old code: the patch is not "
    "loaded beside one, and one that calls it is not loaded later"
)


def redirect_changed(builder: ClosureBuilder) -> None:
    """Redirect every function that the patch itself changes. All of them are members by now, so that none is pulled."""
    for number, unit in enumerate(builder.units):
        for change in unit.changes.changed:
            redirect(builder, number, change.orig, change.patched)


def redirect(builder: ClosureBuilder, number: int, orig: Atom, patched: Atom) -> None:
    """Redirect a function of the kernel to a member of its unit, bring in its callers instead, or refuse."""
    unit, name = builder.units[number], patched.name
    found = unit.parity.of(orig.id)
    if found is None or found.status == OVERRIDDEN:
        why = found.reason if found is not None and found.reason else "the kernel overrides it elsewhere"
        builder.refuse("K10-weak", number, name, f"{name} is a weak definition, and {why}")
        return
    if found.status == AMBIGUOUS:
        builder.refuse("K13-ambiguous", number, name, f"{name} has {found.reason}: which one is meant can't be told")
        return
    if found.status != EXACT:
        if name not in builder.allowed and unit.source not in builder.allowed:
            return  # refused as not proven (seeds)
        if not found.address:
            builder.refuse("K5-symbol", number, name, f"no single place of {name} is known in the kernel")
            return
    image = builder.world.image(unit.target)
    if image.is_init(found.address):
        fact = f"{name} lies in {image.section_at(found.address)}, freed after boot"
        builder.refuse(
            "K3-init", number, name, fact, remedy=IN_A_CALLBACK
        )  # --ignore-init is for init code of the object
    elif not unit.changes.orig.has_trace_site(orig):
        pull_callers(builder, number, orig, patched)
    else:
        _redirect_place(builder, number, orig, patched, found.address)


def _redirect_place(builder: ClosureBuilder, number: int, orig: Atom, patched: Atom, address: int) -> None:
    """Redirect the function at a proven address that ftrace can redirect."""
    unit, name = builder.units[number], patched.name
    changes, image = unit.changes, builder.world.image(unit.target)
    own = names_at(image, orig.names, address)
    foreign = sorted({s.name for s in image.functions_at(address)} - {*orig.names, *own})
    if foreign:
        builder.refuse("K12-folded", number, name, f"{name} shares its address with {', '.join(foreign)}")
        return
    split = [changes.patched.atoms[i] for i in changes.correlation.to_patched.get(orig.id, ())]
    if len(split) > 1:
        # distinguished by the patch: callers of this one differ in what they call, come along, and call the copy in
        # the module; pointers and callers elsewhere can't be distinguished
        if all(part.bind == STB.LOCAL for part in split) and orig.bind == STB.LOCAL:
            takers = users_in(changes.orig, orig, unit.target == VMLINUX).takers
            if not takers:
                return
        kept = ", ".join(sorted({n for part in split for n in part.names if part.id != patched.id}))
        builder.refuse(
            "K12-folded", number, name, f"in the kernel {name} is one body with {kept}, which does not change so"
        )
        return
    if not set(own) <= set(orig.names) and unit.parity.bindings[orig.id].evidence in (OWN_BYTES, PADDED_BYTES):
        # another unit may have a clone of the same code
        fact = f"{name} is {', '.join(own)} in the kernel by its bytes alone, and no proven function refers to it"
        builder.refuse("K13-ambiguous", number, name, fact)
        return
    for candidate in own:
        sympos = image.sympos(candidate, address)
        if sympos is not None:
            builder.redirects.append(Redirect(number, patched, candidate, sympos, address, unit.target))
            return
    builder.refuse("K5-symbol", number, name, f"kallsyms does not list {name}")


# -- what can't be redirected ---------------------------------------------------------------------------------------


def pull_callers(builder: ClosureBuilder, number: int, orig: Atom, patched: Atom) -> None:
    """Bring in whoever calls a function that can't be redirected."""
    unit, name, key = builder.units[number], patched.name, (number, patched.id)
    if key in builder.pulled_for:
        return
    builder.pulled_for.add(key)
    why = f"{name} has no __fentry__ site in the kernel, ftrace can't redirect it"
    if (chain := _chain(builder, key)) and len(chain) > 1:
        why = f"{name} would come along ({' calls '.join(chain)}) and has no __fentry__ site either"
    exports = builder.world.exports
    exported = [n for n in orig.names if n in exports or (unit.target == VMLINUX and builder.world.exported(n))]
    if exported and not builder.assume_callers:
        fact = f"{why}; it is exported, so not all its callers are known"
        builder.refuse("K4-not-traceable", number, name, fact, remedy=ASSUME_CALLERS)
        return
    users = users_in(unit.changes.patched, patched, unit.target == VMLINUX)
    if users.takers:
        fact = f"{why}; {', '.join(users.takers[:3])} holds its address"
        builder.refuse("K4-not-traceable", number, name, fact)
        return
    if (exported or orig.bind != STB.LOCAL) and not _pull_from_outside(builder, number, orig, patched, why):
        return
    for function in users.callers:
        _pull_in(builder, number, function, name, key)
    if exported:
        builder.assumed.update(exported)
        builder.warnings.append(f"{unit.source}: {name}: {_ASSUMED}")
    if not users.callers and orig.bind == STB.LOCAL and not _is_used(builder, number, patched):
        builder.refuse("K4-not-traceable", number, name, f"{why}; no caller of it is known")


def _pull_from_outside(builder: ClosureBuilder, number: int, orig: Atom, patched: Atom, why: str) -> bool:
    """Bring in the functions of other units that call a global function. False where that was refused."""
    unit = builder.units[number]
    found = original_in_graph(builder.graph, unit, orig)
    if found is None:
        builder.refuse("K4-not-traceable", number, patched.name, why)
        return False
    assert builder.graph is not None
    outside, against = users_outside(builder.graph(), found, unit.source, unit.target)
    if against:
        builder.refuse("K4-not-traceable", number, patched.name, f"{why}; {'; '.join(against[:3])}")
        return False
    names = _names_of(unit, orig, patched)
    for name in names:
        builder.new_globals.setdefault((unit.target, name), (number, patched))
    for caller in outside:
        _pull_from(builder, caller, orig, names, (number, patched.id))
    return True


def _pull_from(builder: ClosureBuilder, caller: OutsideCaller, orig: Atom, names: list[str], key: MemberKey) -> None:
    """Bring in the functions of another unit that call a global function by one of `names`. Who calls it by a name that
    the patch gives to another function means that one, and stays."""
    name = builder.members[key].atom.name
    numbers = [i for i, u in enumerate(builder.units) if (u.source, u.target) == (caller.source, caller.object)]
    if not numbers:
        reasons = builder.needs.setdefault(caller.source, [])
        reason = f"{caller.function} calls {name}, which can't be redirected"
        if reason not in reasons:
            reasons.append(reason)
        return
    number = numbers[0]
    unit = builder.units[number]
    view = unit.changes.patched
    stays = False
    for symbol in (a for a in view.atoms if a.kind == UNDEFINED and a.name in orig.names):
        users = users_in(view, symbol, unit.target == VMLINUX)
        if symbol.name not in names:
            stays |= any(caller.function in f.names for f in users.callers)
            continue
        if users.takers:
            fact = f"{name} can't be redirected, and {', '.join(users.takers[:3])} holds its address"
            builder.refuse("K4-not-traceable", number, name, fact)
        for function in users.callers:
            _pull_in(builder, number, function, name, key)
    replaced = (m for m in builder.members.values() if m.unit == number and m.role in REPLACED)
    if not stays and not any(caller.function in m.atom.names for m in replaced):
        fact = f"calls {name} by the kernel's call graph, and its unit, compiled again, does not show it"
        builder.refuse("K15-pull", number, caller.function, f"{caller.function} {fact}")


def _pull_in(builder: ClosureBuilder, number: int, caller: Atom, name: str, key: MemberKey) -> None:
    if (number, caller.id) in builder.members:
        return
    builder.add(number, caller, "pulled", f"calls {name}, which can't be redirected", key)
    changes = builder.units[number].changes
    for i in changes.correlation.to_original.get(caller.id, ()):
        redirect(builder, number, changes.orig.atoms[i], caller)


def _chain(contents: Contents, key: MemberKey) -> list[str]:
    """The names of a member and of what brought it, up to what the patch changes."""
    names: list[str] = []
    at: MemberKey | None = key
    while at is not None and at in contents.members and len(names) < 20:
        names.append(contents.members[at].atom.name)
        at = contents.members[at].via
    return names


def _is_used(contents: Contents, number: int, patched: Atom) -> bool:
    """Whether a member of a unit refers to a function. One whose references can't be told may; that is refused where it
    is followed."""
    view = contents.units[number].changes.patched
    for member in contents.members.values():
        if member.unit != number:
            continue
        try:
            if any(r.atom == patched.id for r in view.refs(member.atom)):
                return True
        except Ambiguous:
            return True
    return False


def _names_of(unit: UnitResult, orig: Atom, patched: Atom) -> list[str]:
    """The names of an original function that mean `patched` now: where one body had several names, the patch may have
    given some of them to another function."""
    by_name = unit.changes.patched.by_name
    return [n for n in orig.names if n in patched.names or not any(a.kind == FUNCTION for a in by_name.get(n, ()))]
