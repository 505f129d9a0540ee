# SPDX-License-Identifier: GPL-2.0-or-later
"""Which functions of the kernel are redirected, and who comes along where one can't be.

A changed function is redirected by name and position, if parity has proven it. One that ftrace can't redirect pulls its
callers (`pull`); one that gcc folded with others is told apart by its callers; one that is gone must have left nothing
behind that still reaches it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from kgbuild.callgraph.outside_callers import OutsideCaller, users_outside
from kgbuild.closure.binding import World
from kgbuild.closure.callers import users_in
from kgbuild.closure.kernel_literals import Literals
from kgbuild.closure.model import Closure, Member, Redirect, UnitResult
from kgbuild.closure.name_lookup import left_behind, say_object
from kgbuild.closure.state_verdicts import Judge
from kgbuild.diagnostics.refusals import Refusal
from kgbuild.elf.consts import STB
from kgbuild.kernel.module_image import ModuleImage
from kgbuild.model import VMLINUX
from kgbuild.objects.atoms import DATA, FUNCTION, UNDEFINED, Ambiguous, Atom
from kgbuild.objects.clone_names import clone_key
from kgbuild.objects.symbol_kinds import is_branch, is_init, is_prefix
from kgbuild.objects.view import View
from kgbuild.proof.parity import ABSENT, AMBIGUOUS, DIFFERS, EXACT, OVERRIDDEN, OWN_BYTES, FunctionParity, names_at

if TYPE_CHECKING:
    from kgbuild.callgraph.model import CallGraph
    from kgbuild.diff.labels import LabelTables
    from kgbuild.kernel.vmlinux_image import KernelImage

# Roles of members that take the place of the kernel's function, by a redirection of their own or of their callers.
REPLACED = ("changed", "pulled")


class Redirects:
    """Members and redirections of a closure under way; `closure` adds what they refer to."""

    def __init__(
        self,
        c: Closure,
        world: World,
        allowed: frozenset[str],
        graph: Callable[[], CallGraph] | None = None,
        pull_always: bool = False,
    ) -> None:
        self.c, self.world, self.allowed, self.graph, self.pull_always = c, world, allowed, graph, pull_always
        self.judge = Judge(c.units)
        self.todo: list[tuple[int, Atom]] = []
        self.literals: dict[int, Literals] = {}  # by unit
        # global functions and variables that only the patch has, and pulled ones, by object and name: unit and atom
        self.new_globals: dict[tuple[str, str], tuple[int, Atom]] = {}
        # what was local before the patch, or had no such alias, and is global with it; who refers to it elsewhere
        self.made_global: dict[tuple[str, str], tuple[int, Atom]] = {}
        self.promoted: list[tuple[int, Atom, int, Atom]] = []
        self.pulled_for: set[tuple[int, int]] = set()
        self.labels: dict[int, LabelTables] = {}

    def _image(self, unit: UnitResult) -> KernelImage:
        return self.world.image(unit.target)

    def _refuse(self, code: str, unit: UnitResult, symbol: str, fact: str, section: str = "", remedy: str = "") -> None:
        if not section:
            atoms = unit.changes.patched.by_name.get(symbol) or unit.changes.original.by_name.get(symbol) or []
            view = unit.changes.patched if symbol in unit.changes.patched.by_name else unit.changes.original
            section = view.section_name(atoms[0]) if len(atoms) == 1 else ""
        self.c.refusals.append(Refusal(code, f"{unit.source}: {symbol}", fact, symbol, section, remedy))

    def _add(self, number: int, atom: Atom, role: str, reason: str, via: tuple[int, int] | None = None) -> None:
        key = (number, atom.id)
        if key in self.c.members:
            return
        self.c.members[key] = Member(number, atom, role, reason, via)
        self.todo.append((number, atom))
        view = self.c.units[number].changes.patched
        if atom.kind == FUNCTION and role not in ("cold", "prefix"):
            for name in atom.names:
                for half in (f"{name}.cold", *_numbered_cold(view.by_name, name)):
                    for cold in view.by_name.get(half, ()):
                        self._add(number, cold, "cold", f"the cold half of {atom.name}", key)
        if atom.kind == FUNCTION and role != "prefix":
            prefix = view.just_before(atom)
            if prefix is not None and is_prefix(prefix):
                self._add(number, prefix, "prefix", f"the padding before {atom.name}", key)

    def _note_global(
        self, table: dict[tuple[str, str], tuple[int, Atom]], number: int, unit: UnitResult, atom: Atom
    ) -> None:
        for name in new_names(unit, atom):
            # a weak definition gives way to one that the object has
            if atom.bind != STB.WEAK or self.world.only_global(unit.target, name) is None:
                table.setdefault((unit.target, name), (number, atom))

    # -- checks on the unit as a whole --------------------------------------------------------------------------

    def _check_parity(self, unit: UnitResult) -> None:
        for f in unit.parity.functions:
            if f.status not in (DIFFERS, ABSENT):
                continue
            atom = unit.changes.original.atoms[f.atom]
            if is_init(unit.changes.original, atom) and f.status == DIFFERS:
                continue
            if f.name in self.allowed or unit.source in self.allowed:
                self.c.warnings.append(
                    f"{unit.source}: {f.name}: not proven ({f.reason}), accepted by --allow-unproven"
                )
                continue
            if _is_clone(atom):
                continue  # _check_clones
            self._refuse_parity(unit, f)

    def _check_allowed(self) -> None:
        """A name given to --allow-unproven that accepts nothing is a slip of the pen, or out of date."""
        used = {
            name
            for unit in self.c.units
            for f in unit.parity.functions
            if f.status in (DIFFERS, ABSENT)
            for name in (f.name, unit.source)
        }
        for name in sorted(self.allowed - used):
            self.c.warnings.append(
                f"{name}: --allow-unproven accepts nothing: no unproven function or unit of that name"
            )

    def _refuse_parity(self, unit: UnitResult, f: FunctionParity) -> None:
        self._refuse("Y1-parity", unit, f.name, f"the recompiled original is not what runs: {f.reason}")

    def _check_clones(self, number: int, unit: UnitResult) -> None:
        """A local clone that is not proven is judged by who uses it.

        The kernel may have made another clone there, or none; what the patch calls is carried as a copy. The kernel's
        own one may hold what the patch changes, inlined, and must not run any more: only functions of this unit
        can call it, and each of them must be replaced by the patch, or not proven itself, and so refused or accepted.
        """
        original = unit.changes.original
        replaced = {
            o
            for m in self.c.members.values()
            if m.unit == number and m.role in REPLACED
            for o in unit.changes.correlation.to_original.get(m.atom.id, ())
        }
        unproven = {f.atom for f in unit.parity.functions if f.status in (DIFFERS, ABSENT)}
        for f in unit.parity.functions:
            atom = original.atoms[f.atom]
            if f.status not in (DIFFERS, ABSENT) or not _is_clone(atom):
                continue
            if f.name in self.allowed or unit.source in self.allowed or is_init(original, atom):
                continue
            users = users_in(original, atom, unit.target == VMLINUX)
            if users.takers or any(c.id not in replaced | unproven for c in users.callers):
                self._refuse_parity(unit, f)

    def _check_vanished(self, unit: UnitResult) -> None:
        """A function gone from the unit must have left nothing behind that still refers to it."""
        changes = unit.changes
        # what is freed after boot has left nothing
        gone = {a.id: a for a in changes.removed if not changes.original.section_name(a).startswith(".init")}
        if not gone:
            return
        for atom in changes.removed:
            if atom.bind != STB.LOCAL and not is_init(changes.original, atom):
                stale = self._stale_callers(unit, atom)
                if stale:
                    self._refuse("K14-vanished", unit, atom.name, f"global function {atom.name} is gone; {stale}")
        for atom in changes.original.data + changes.original.functions:
            try:
                refs = [r for r in changes.original.refs(atom) if r.atom in gone]
            except Ambiguous:
                continue
            for r in refs:
                if r.delta == 0 and not is_branch(changes.original, atom, r):
                    name = gone[r.atom].name
                    where = f"{atom.name} of the running kernel" + (" still" if atom.kind == DATA else "")
                    self._refuse("K14-vanished", unit, name, f"{where} points to {name}")

    def _stale_callers(self, unit: UnitResult, gone: Atom) -> str:
        """Who in the running kernel still reaches a global function that is gone, "" where nobody does."""
        return self._callers_left(self._in_graph(unit, gone), unit.source, unit.target)

    def _callers_left(self, found: int | None, source: str, target: str) -> str:
        """Who calls function `found` of the graph from outside the unit `source`, and is not replaced."""
        if found is None:
            return "other units may call it"
        assert self.graph is not None
        callers, against = users_outside(self.graph(), found, source, target)
        replaced = {
            OutsideCaller(self.c.units[m.unit].source, self.c.units[m.unit].target, n)
            for m in self.c.members.values()
            if m.role in REPLACED
            for n in m.atom.names
        }
        left = [c for c in callers if c not in replaced]
        return "; ".join([f"{c.function} in {c.source} calls it" for c in left[:3]] + against[:3])

    def _check_taken_names(self, number: int, unit: UnitResult) -> None:
        """A new global function or variable, or a static that is made global, whose name the kernel has already takes
        its place in the patched source: it overrides a weak definition, or was moved here; in a module it hides what
        others export. The kernel's own stays in use by all that the patch leaves."""
        image, changes = self._image(unit), unit.changes
        for atom in changes.patched.functions + changes.patched.data:
            if is_init(changes.patched, atom):
                continue
            for name in new_names(unit, atom):
                others = [u for n, u in enumerate(self.c.units) if n != number and u.target == unit.target]
                if any(name in new_names(u, a) for u in others for a in u.changes.patched.by_name.get(name, ())):
                    self._refuse("K10-weak", unit, name, f"{name} is defined anew in several units")
                if left := self._left_undefined(unit, name):
                    fact = (
                        f"the new {name} is not what {', '.join(left[:3])} of {say_object(unit.target)} was linked with"
                    )
                    self._refuse("K14-vanished", unit, name, fact, remedy="give it another name")
                places = sorted({s.value for s in image.named(name) if s.bind != STB.LOCAL})
                if not places or atom.bind == STB.WEAK:
                    continue
                if atom.kind != FUNCTION:
                    if self.judge.of(number, atom).original is not None:
                        continue
                    fact = f"the kernel has a variable {name} in another unit, with state of its own"
                    self._refuse("K1-data", unit, name, fact)
                elif stale := self._callers_left(self._at_place(unit, name, places), "", unit.target):
                    fact = f"the new {name} takes the place of the kernel's, which the patch does not redirect; {stale}"
                    self._refuse("K14-vanished", unit, name, fact)

    def _left_undefined(self, unit: UnitResult, name: str) -> list[str]:
        """Code of an object that takes a name from elsewhere, or has NULL for it, and is not replaced: it would go on
        doing so when the object has a symbol of that name itself."""
        mine = [(n, u) for n, u in enumerate(self.c.units) if u.target == unit.target]
        numbers = {n for n, _ in mine}
        replaced = {n for m in self.c.members.values() if m.unit in numbers for n in m.atom.names}
        image = self._image(unit)
        rest = unit.target == VMLINUX and name in image.undefined
        if isinstance(image, ModuleImage) or (
            rest and any(image.obj.sections[i].executable for i in image.obj.rela_of)
        ):
            return left_behind(image, name, replaced)
        out: dict[str, None] = {}
        for _, other in mine:
            view = other.changes.original
            for symbol in (a for a in view.atoms if a.kind == UNDEFINED and a.name == name and a.bind == STB.WEAK):
                users = users_in(view, symbol, True)
                for user in (*(f.name for f in users.callers), *users.takers):
                    if user not in replaced:
                        out.setdefault(user)
        if rest and not out:
            out.setdefault("code of other units")  # which, the file does not say
        return list(out)

    def _at_place(self, unit: UnitResult, name: str, places: list[int]) -> int | None:
        """The number in the call graph of the one function of that name; None where that is not sure."""
        if self.graph is None or len(places) != 1:
            return None
        if unit.target == VMLINUX:
            function = self.graph().function_at(VMLINUX, places[0])
            return function.id if function is not None else None
        named = [f for f in self.graph().functions_named(name) if f.object == unit.target]
        return named[0].id if len(named) == 1 else None

    def _in_graph(self, unit: UnitResult, atom: Atom) -> int | None:
        """The number of a function of an original object in the kernel's call graph; None where that is not sure."""
        found = unit.parity.of(atom.id)
        return self._at_place(unit, atom.name, [found.address] if found is not None and found.address else [])

    def _pull_callers(self, number: int, unit: UnitResult, original: Atom, patched: Atom) -> None:
        """Bring in whoever calls a function that can't be redirected."""
        name, key = patched.name, (number, patched.id)
        if key in self.pulled_for:
            return
        self.pulled_for.add(key)
        why = f"{name} has no __fentry__ site in the kernel, ftrace can't redirect it"
        if (chain := self._chain(key)) and len(chain) > 1:
            why = f"{name} would come along ({' calls '.join(chain)}) and has no __fentry__ site either"
        known = unit.target == VMLINUX and any(self.world.exported(n) for n in original.names)
        if known or any(n in self.world.exports for n in original.names):
            self._refuse("K4-not-traceable", unit, name, f"{why}; it is exported, so not all its callers are known")
            return
        users = users_in(unit.changes.patched, patched, unit.target == VMLINUX)
        if users.takers:
            self._refuse("K4-not-traceable", unit, name, f"{why}; {', '.join(users.takers[:3])} holds its address")
            return
        if original.bind != STB.LOCAL:
            found = self._in_graph(unit, original)
            if found is None:
                self._refuse("K4-not-traceable", unit, name, why)
                return
            assert self.graph is not None
            outside, against = users_outside(self.graph(), found, unit.source, unit.target)
            if against:
                self._refuse("K4-not-traceable", unit, name, f"{why}; {'; '.join(against[:3])}")
                return
            names = _names_of(unit, original, patched)
            for n in names:
                self.new_globals.setdefault((unit.target, n), (number, patched))
            for caller in outside:
                self._pull_from(caller, original, names, key)
        for function in users.callers:
            self._pull_in(number, unit, function, name, key)
        if not users.callers and original.bind == STB.LOCAL and not self._is_used(number, patched):
            self._refuse("K4-not-traceable", unit, name, f"{why}; no caller of it is known")

    def _chain(self, key: tuple[int, int]) -> list[str]:
        """The names of a member and of what brought it, up to what the patch changes."""
        names: list[str] = []
        at: tuple[int, int] | None = key
        while at is not None and at in self.c.members and len(names) < 20:
            names.append(self.c.members[at].atom.name)
            at = self.c.members[at].via
        return names

    def _is_used(self, number: int, patched: Atom) -> bool:
        """Whether a member of this unit refers to a function. One whose references can't be told may; that is refused
        where it is followed."""
        view = self.c.units[number].changes.patched
        for member in self.c.members.values():
            if member.unit != number:
                continue
            try:
                if any(r.atom == patched.id for r in view.refs(member.atom)):
                    return True
            except Ambiguous:
                return True
        return False

    def _pull_from(self, caller: OutsideCaller, original: Atom, names: list[str], key: tuple[int, int]) -> None:
        """Bring in the functions of another unit that call a global function by one of `names`. Who calls it by a name
        that the patch gives to another function means that one, and stays."""
        name = self.c.members[key].atom.name
        numbers = [i for i, u in enumerate(self.c.units) if (u.source, u.target) == (caller.source, caller.object)]
        if not numbers:
            reason = f"{caller.function} calls {name}, which can't be redirected"
            if reason not in self.c.needs.setdefault(caller.source, []):
                self.c.needs[caller.source].append(reason)
            return
        other = self.c.units[numbers[0]]
        view = other.changes.patched
        stays = False
        for symbol in (a for a in view.atoms if a.kind == UNDEFINED and a.name in original.names):
            users = users_in(view, symbol, other.target == VMLINUX)
            if symbol.name not in names:
                stays |= any(caller.function in f.names for f in users.callers)
                continue
            if users.takers:
                fact = f"{name} can't be redirected, and {', '.join(users.takers[:3])} holds its address"
                self._refuse("K4-not-traceable", other, name, fact)
            for function in users.callers:
                self._pull_in(numbers[0], other, function, name, key)
        mine = (m for m in self.c.members.values() if m.unit == numbers[0] and m.role in REPLACED)
        if not stays and not any(caller.function in m.atom.names for m in mine):
            fact = f"calls {name} by the kernel's call graph, and its unit, compiled again, does not show it"
            self._refuse("K15-pull", other, caller.function, f"{caller.function} {fact}")

    def _pull_in(self, number: int, unit: UnitResult, caller: Atom, name: str, key: tuple[int, int]) -> None:
        if (number, caller.id) in self.c.members:
            return
        self._add(number, caller, "pulled", f"calls {name}, which can't be redirected", key)
        for o in unit.changes.correlation.to_original.get(caller.id, ()):
            self._redirect(number, unit, unit.changes.original.atoms[o], caller)

    def _redirect(self, number: int, unit: UnitResult, original: Atom, patched: Atom) -> None:
        changes, parity = unit.changes, unit.parity
        found = parity.of(original.id)
        name = patched.name
        if found is None or found.status == OVERRIDDEN:
            why = found.reason if found is not None and found.reason else "the kernel overrides it elsewhere"
            self._refuse("K10-weak", unit, name, f"{name} is a weak definition, and {why}")
            return
        if found.status == AMBIGUOUS:
            self._refuse("K13-ambiguous", unit, name, f"{name} has {found.reason}: which one is meant can't be told")
            return
        address = found.address
        if found.status != EXACT:
            if name not in self.allowed and unit.source not in self.allowed:
                return  # reported by _check_parity
            if not address:
                self._refuse("K5-symbol", unit, name, f"no single place of {name} is known in the kernel")
                return
        if self._image(unit).is_init(address):
            self._refuse(
                "K3-init", unit, name, f"{name} lies in {self._image(unit).section_at(address)}, freed after boot"
            )
            return
        if not changes.original.has_trace_site(original):
            self._pull_callers(number, unit, original, patched)
            return
        names = [s.name for s in self._image(unit).functions_at(address)]
        own = names_at(self._image(unit), original.names, address)
        foreign = sorted(set(names) - {*original.names, *own})
        if foreign:
            self._refuse("K12-folded", unit, name, f"{name} shares its address with {', '.join(foreign)}")
            return
        split = [changes.patched.atoms[p] for p in changes.correlation.to_patched.get(original.id, ())]
        if len(split) > 1:
            # told apart by the patch: whoever means this one differs in what it calls and comes along, and calls the
            # copy in the module; pointers and callers elsewhere can't be told apart
            if all(p.bind == STB.LOCAL for p in split) and original.bind == STB.LOCAL:
                takers = users_in(changes.original, original, unit.target == VMLINUX).takers
                if not takers:
                    return
            kept = ", ".join(sorted({n for p in split for n in p.names if p.id != patched.id}))
            fact = f"in the kernel {name} is one body with {kept}, which does not change so"
            self._refuse("K12-folded", unit, name, fact)
            return
        if not set(own) <= set(original.names) and unit.parity.bindings[original.id].evidence == OWN_BYTES:
            # another unit may have a clone of the same code
            fact = f"{name} is {', '.join(own)} in the kernel by its bytes alone, and no proven function refers to it"
            self._refuse("K13-ambiguous", unit, name, fact)
            return
        for candidate in own:
            sympos = self._image(unit).sympos(candidate, address)
            if sympos is not None:
                self.c.redirects.append(Redirect(number, patched, candidate, sympos, address, unit.target))
                return
        self._refuse("K5-symbol", unit, name, f"kallsyms does not list {name}")


def new_names(unit: UnitResult, atom: Atom) -> list[str]:
    """Global names of a function or variable of the patched object that its original has not: all of what is new, that
    of a static made global, a new alias."""
    if atom.kind not in (FUNCTION, DATA) or atom.bind == STB.LOCAL:
        return []
    changes = unit.changes
    originals = [changes.original.atoms[o] for o in changes.correlation.to_original.get(atom.id, ())]
    if len(atom.names) == 1 and any(o.bind != STB.LOCAL and o.names == atom.names for o in originals):
        return []  # most of them
    had = {name for o in originals for name in _global_names(changes.original, o)}
    return [name for name in _global_names(changes.patched, atom) if name not in had]


def _global_names(view: View, atom: Atom) -> list[str]:
    bound = zip(atom.names, atom.symbols, strict=True)
    return list(dict.fromkeys(name for name, symbol in bound if view.obj.symbol(symbol).bind != STB.LOCAL))


def _names_of(unit: UnitResult, original: Atom, patched: Atom) -> list[str]:
    """The names of an original function that mean `patched` now: where one body had several names, the patch may have
    given some of them to another function."""
    by_name = unit.changes.patched.by_name
    return [n for n in original.names if n in patched.names or not any(a.kind == FUNCTION for a in by_name.get(n, ()))]


def _is_clone(atom: Atom) -> bool:
    """A function that only gcc can have made, and only its unit can call."""
    return atom.bind == STB.LOCAL and all(clone_key(name) for name in atom.names)


def _numbered_cold(by_name: dict[str, list[Atom]], name: str) -> list[str]:
    """`f.cold.7` and `f.isra.0.cold.3` of older gcc."""
    prefix = f"{name}.cold."
    return [n for n in by_name if n.startswith(prefix)]
