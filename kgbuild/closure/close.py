# SPDX-License-Identifier: GPL-2.0-or-later
"""What must be in the module, and what each reference of it is bound to.

Seeds are the changed and the new functions. Everything they refer to is followed: what the kernel has and parity has
proven is bound to, and so are strings and constants whose place it has read; others, and new data, are carried; a
local function that is not proven is carried as a copy, and followed in turn. Whatever has no rule is a refusal, and all
refusals of a run come together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from kgbuild.callgraph.model import CallGraph
from kgbuild.closure.binding import EXPORT, KLP, NEW_GLOBAL, PLAIN, Bound, NotBound, World
from kgbuild.closure.callers import users_in
from kgbuild.closure.ibt import note_thunks
from kgbuild.closure.kernel_literals import Literals
from kgbuild.closure.label_checks import check_labels
from kgbuild.closure.lifetime import check_module_memory, shown_in_targets
from kgbuild.closure.model import (
    PR_DEBUG,
    TRACEPOINT,
    Callback,
    Closure,
    DroppedKey,
    Member,
    Redirect,
    StateLine,
    UnitResult,
)
from kgbuild.closure.name_lookup import find_provider, say_elsewhere, say_unexported
from kgbuild.closure.redirects import Redirects
from kgbuild.closure.state_verdicts import DECLARED, REFUSED, SAME
from kgbuild.correlation.declared_variables import MACRO
from kgbuild.correlation.noise import is_location
from kgbuild.correlation.section_references import may_mean, same_surroundings
from kgbuild.diff.author_macros import check_authors
from kgbuild.diff.changes import new_parameters
from kgbuild.diff.labels import LabelTables
from kgbuild.elf.consts import STB
from kgbuild.model import VMLINUX
from kgbuild.objects.atoms import ABSOLUTE, ANON, DATA, FUNCTION, STRING, UNDEFINED, Ambiguous, Atom, Ref
from kgbuild.objects.clone_names import clone_key
from kgbuild.objects.special_entries import BadEntry, Entries, SpecialEntry
from kgbuild.objects.stateless import DEBUG_SECTIONS, is_stateless
from kgbuild.objects.symbol_kinds import PARAMETERS, is_anonymous, is_branch, is_init, may_be_array, stem
from kgbuild.objects.view import View
from kgbuild.proof.parity import EXACT, names_at

if TYPE_CHECKING:
    from kgbuild.callgraph.model import CallGraph
    from kgbuild.kernel.exports import Export
    from kgbuild.kernel.module_image import ModuleImage
    from kgbuild.kernel.vmlinux_image import KernelImage

__all__ = ["Closure", "Member", "Redirect", "UnitResult", "close", "close_in"]

ALWAYS = "a clone: --pull always"
THIS_MODULE = "__this_module"
PATCH_SYMBOL = "kgbuild_patch"  # the wrapper's struct klp_patch (data/livepatch/main.c)
# Direct calls, for kernels that track the depth of calls.
CALL_SITES = ".call_sites"
# Keys that only switch tracing on.
INERT_KEYS = ("__tracepoint_", "__SCK__tp_func_")
STATIC_CALL = "__SCK__"


def close(
    units: tuple[UnitResult, ...],
    image: KernelImage,
    exports: dict[str, Export],
    allow_unproven: frozenset[str] = frozenset(),
    modules: Mapping[str, ModuleImage] | None = None,
    graph: Callable[[], CallGraph] | None = None,
    pull_always: bool = False,
    tracked: bool = False,
) -> Closure:
    """Close the changes of all units.

    `image` is vmlinux; `modules` holds every target module and all that those depend on, by name; `graph` gives the
    kernel's call graph when callers in other units matter; `tracked` is World's. Refusals are collected in the result,
    never raised; where its `needs` are not empty, those units must be compiled and the whole closed again.
    `pull_always` carries every local callee that is a clone, proven or not.
    """
    return close_in(units, World(image, exports, modules or {}, tracked), allow_unproven, graph, pull_always)


def close_in(
    units: tuple[UnitResult, ...],
    world: World,
    allow_unproven: frozenset[str] = frozenset(),
    graph: Callable[[], CallGraph] | None = None,
    pull_always: bool = False,
) -> Closure:
    """Close the changes of all units, with references bound as `world` says."""
    return _Closer(Closure(units), world, allow_unproven, graph, pull_always).run()


def _descriptors(view: View, entries: Entries, function: Atom) -> set[int]:
    """The pr_debug descriptors of a function, as atoms: those it prints with and those that switch it."""
    try:
        refs = [*view.refs(function), *(r for e in entries.of(function.id) for r in e.refs)]
    except (Ambiguous, BadEntry):  # refused where it is followed
        return set()
    return {r.atom for r in refs if view.section_name(view.atoms[r.atom]) in DEBUG_SECTIONS}


class _Closer(Redirects):
    def run(self) -> Closure:
        for number, unit in enumerate(self.c.units):
            self.c.refusals.extend(unit.changes.refusals)
            self._check_parity(unit)
            for atom in unit.changes.new:
                self._note_global(self.new_globals, number, unit, atom)
            for atom in unit.changes.patched.data:
                if atom.id not in unit.changes.correlation.to_original:
                    self._note_global(self.new_globals, number, unit, atom)
            for atom in unit.changes.patched.functions + unit.changes.patched.data:
                if atom.id in unit.changes.correlation.to_original:
                    self._note_global(self.made_global, number, unit, atom)
        self._take_authors()
        for number, name, fact in self.judge.wrong_declarations():
            self._refuse("K22-state", self.c.units[number], name, fact)
        for number, unit in enumerate(self.c.units):
            for change in unit.changes.changed:
                self._add(number, change.patched, "changed", str(change.reason))
            for atom in unit.changes.new:
                self._add(number, atom, "new", "new in the patched source")
            for atom in new_parameters(unit.changes.patched, unit.changes.correlation):
                self._add(number, atom, "data", "a new module parameter")
        # from here on all that the patch itself touches is a member, so that nothing of it is pulled in
        for number, unit in enumerate(self.c.units):
            for change in unit.changes.changed:
                self._redirect(number, unit, change.original, change.patched)
        for number, unit in enumerate(self.c.units):
            self._check_vanished(unit)
            self._check_taken_names(number, unit)
        while self.todo:
            number, atom = self.todo.pop(0)
            self._follow(number, atom)
        self._settle_promoted()
        for number, unit in enumerate(self.c.units):
            self._check_clones(number, unit)
        self._check_allowed()
        self._check_tables()
        self.c.refusals += check_labels(self.c, self._labels)
        self.c.refusals += check_module_memory(self.c)
        if self.world.tracked:
            note_thunks(self.c, self.world)
        self._note_debug()
        self._note_renamed()
        self._forget_dropped()
        self.c.warnings += shown_in_targets(self.c)
        self.c.warnings += map(str, sorted(self.c.dropped_keys))
        return self.c

    def _forget_dropped(self) -> None:
        """What only entries that were left out refer to is not bound to."""
        if not self.c.dropped or self.c.refusals:
            return
        used = {
            (number, ref.atom)
            for number, atom in ((m.unit, m.atom) for m in self.c.members.values())
            for refs in (
                self.c.units[number].changes.patched.refs(atom),
                *(e.refs for e in self.c.entries(number, atom)),
            )
            for ref in refs
        }
        self.c.bound = {key: bound for key, bound in self.c.bound.items() if key in used}

    def _note_renamed(self) -> None:
        """Say of the variables that go on under another name within a unit that they do."""
        for number, unit in enumerate(self.c.units):
            for o, p, how in unit.changes.renamed:
                if (number, p) not in self.c.bound:
                    continue
                was, now = unit.changes.original.atoms[o].name, unit.changes.patched.atoms[p].name
                if "." in was and "." in now and stem(was) == stem(now):
                    continue  # another number
                verdict = DECLARED if how == MACRO else SAME
                line = StateLine(now, unit.source, unit.target, verdict, was, unit.source, how)
                self.c.state[number, p] = line

    def _goes_on(self, key: tuple[int, int], source: Atom, home: int, atom: Atom) -> bool:
        """Bind what is referred to as a new variable, `atom` of unit `home`, to the kernel's that it goes on, or refuse
        where that is in doubt. False where it is really new."""
        unit, theirs = self.c.units[key[0]], self.c.units[home]
        verdict = self.judge.of(home, atom)
        if verdict.kind == REFUSED:
            if not any(r.code == "K22-state" and r.fact == verdict.why for r in self.c.refusals):
                self._refuse("K22-state", theirs, atom.name, verdict.why)
            return True
        was, where = "", ""
        if verdict.original is not None:
            number, o = verdict.original
            origin = self.c.units[number]
            was, where = origin.changes.original.atoms[o].name, origin.source
            if not self._take(key, unit, source, self._proven_place(origin, (o,))):
                fact = f"refers to {atom.name}, which is {was} of the running kernel, whose place there is not proven"
                self._refuse("K5-symbol", unit, source.name, fact)
        if verdict.why:
            line = StateLine(atom.name, theirs.source, theirs.target, verdict.kind, was, where, verdict.why)
            self.c.state[home, atom.id] = line
        return verdict.original is not None

    def _take_authors(self) -> None:
        """The callbacks and states that macros in the patched text ask for."""
        self.c.refusals += check_authors((u.source, u.target, u.author) for u in self.c.units)
        for number, unit in enumerate(self.c.units):
            for kind, atom in unit.author.callbacks:
                if unit.changes.correlation.to_original.get(atom.id):
                    fact = f"the {kind} callback is a function of the kernel, not of the patch"
                    self._refuse("P14-callback", unit, atom.name, fact)
                    continue
                self._add(number, atom, "new", f"the {kind} callback of {unit.target}")
                self.c.callbacks.append(Callback(number, atom, kind, unit.target))
            self.c.states.update(unit.author.states)

    def _note_debug(self) -> None:
        """A pr_debug of patched code has a descriptor in the patch module: what switched on the kernel's does nothing
        for it, and `module NAME` of dynamic_debug/control means the patch module's name."""
        functions: dict[tuple[int, str], tuple[set[int], set[int]]] = {}
        for member in self.c.members.values():
            if member.atom.kind != FUNCTION:
                continue
            changes = self.c.units[member.unit].changes
            name = member.atom.name.removesuffix(".cold")
            before, after = functions.setdefault((member.unit, name), (set(), set()))
            after |= _descriptors(changes.patched, changes.patched_entries, member.atom)
            for o in changes.correlation.to_original.get(member.atom.id, ()):
                before |= _descriptors(changes.original, changes.original_entries, changes.original.atoms[o])
        for (number, name), (before, after) in functions.items():
            unit = self.c.units[number]
            if before:
                key = DroppedKey(unit.source, name, unit.target, PR_DEBUG, own=len(after))
                self.c.dropped_keys.add(key)
            elif after:
                fact = f"{name}: {len(after)} new pr_debug: off until switched on under the patch module's name"
                self.c.warnings.append(f"{unit.source}: {fact}")

    def _check_tables(self) -> None:
        """An entry of an unknown table that belongs to a function in the module would be lost."""
        for number, unit in enumerate(self.c.units):
            view = unit.changes.patched
            mine = {m.atom.section for m in self.c.members.values() if m.unit == number and m.atom.kind == FUNCTION}
            referring = view.sections_referring_to(mine) if mine else set()
            for atom in view.atoms:
                if atom.kind != ANON or atom.section not in referring:
                    continue
                if (number, atom.id) in self.c.members or is_init(view, atom):
                    continue
                section = view.section_of(atom)
                if section.executable:
                    continue
                try:
                    targets = [view.atoms[r.atom] for r in view.refs(atom)]
                except Ambiguous:
                    continue
                for name in sorted(
                    {t.name for t in targets if (number, t.id) in self.c.members and t.kind == FUNCTION}
                ):
                    fact = f"{name} has an entry in section {section.name}, for which there is no rule"
                    self._refuse("K2-special", unit, name, fact, section.name)

    # -- following references -------------------------------------------------------------------------------------

    def _follow(self, number: int, atom: Atom) -> None:
        unit = self.c.units[number]
        view = unit.changes.patched
        if number not in self.literals:
            self.literals[number] = Literals(unit, self.world)
        try:
            for ref in view.refs(atom):
                literal = self.literals[number].find(atom, ref)
                if literal is not None:
                    self.c.literals[(number, atom.id, ref.offset)] = literal
                else:
                    self._resolve(number, atom, ref)
            for entry in self.c.entries(number, atom):
                if entry.spec.constant:
                    self._bind_constant(unit, atom, entry)
                for ref in entry.refs:
                    if ref.offset != entry.spec.owner:
                        self._resolve(number, atom, ref)
                if unit.target != VMLINUX:
                    self._check_late_entry(number, unit, atom, entry)
        except BadEntry as error:
            self._refuse("K2-special", unit, atom.name, ": ".join(error.args), error.section)
        except Ambiguous as error:
            self._refuse("K13-ambiguous", unit, atom.name or view.section_name(atom), ": ".join(error.args))

    def _bind_constant(self, unit: UnitResult, atom: Atom, entry: SpecialEntry) -> None:
        """Code that holds the value of a variable, which the kernel wrote there when it booted: the module has to write
        it into its own code in the same way."""
        name = entry.section.removeprefix(entry.spec.prefix)
        if unit.target != VMLINUX:
            fact = f"+{entry.owner_offset:#x}: the kernel writes {name} into built-in code only"
            self._refuse("K2-special", unit, atom.name, fact, entry.section)
        elif name not in self.c.constants:
            found = self.world.variable(name, len(entry.spec.constant))
            if isinstance(found, NotBound):
                self._refuse(found.code, unit, atom.name, f"+{entry.owner_offset:#x}: {found.fact}", entry.section)
            else:
                self.c.constants[name] = found

    def _check_late_entry(self, number: int, unit: UnitResult, atom: Atom, entry: SpecialEntry) -> None:
        """Alternatives, static keys and static calls are applied when the patch module loads (since 5.8), when symbols
        of a target module that comes later have no address yet. Entries of tracepoints and of pr_debug do nothing
        but switch them on, and are left out; any other is refused."""
        view = unit.changes.patched
        spec = entry.spec

        def late(target: int) -> bool:
            bound = self.c.bound.get((number, target))
            return bound is not None and bound.how in (KLP, PLAIN) and bound.object not in ("", VMLINUX)

        at, _ = spec.replacement.get(entry.size, (-1, 0))
        # a piece of code of its own, or a function elsewhere
        own = entry.replacement
        for ref in view.refs(view.atoms[own]) if own is not None else (r for r in entry.refs if r.offset == at):
            if late(ref.atom):
                name = view.atoms[ref.atom].name
                fact = f"an alternative at +{entry.owner_offset:#x} refers to {name} of the module {unit.target}"
                self._refuse("K2-special", unit, atom.name, fact, entry.section)
        if entry.section == CALL_SITES and any(
            late(r.atom) for r in view.refs(atom) if r.offset == entry.owner_offset + 1
        ):
            # counts calls on CPUs that need it; the target has no address yet when the entry is read
            self.c.dropped.add((number, entry.section, entry.index))
        for ref in entry.refs:
            if ref.offset != spec.key.get(entry.size) or not late(ref.atom):
                continue
            key = view.atoms[ref.atom]
            owner = self.c.bound[(number, key.id)].object
            name = atom.name.removesuffix(".cold")
            if key.name.startswith(INERT_KEYS):
                event = next(key.name.removeprefix(p) for p in INERT_KEYS if key.name.startswith(p))
                self.c.dropped.add((number, entry.section, entry.index))
                self.c.dropped_keys.add(DroppedKey(unit.source, name, owner, TRACEPOINT, event))
            elif view.section_name(key) in DEBUG_SECTIONS:
                self.c.dropped.add((number, entry.section, entry.index))
                self.c.dropped_keys.add(DroppedKey(unit.source, name, owner, PR_DEBUG))
            else:
                whose = f"{owner} itself" if owner == unit.target else f"{owner}, which may come after the patch module"
                fact = f"+{entry.owner_offset:#x} depends on {key.name}, a key of the module {whose}"
                call = key.name.removeprefix(STATIC_CALL)
                remedy = f"call the pointer that static_call_query({call}) gives" if call != key.name else ""
                self._refuse("K17-module-key", unit, atom.name, fact, entry.section, remedy)

    def _resolve(self, number: int, source: Atom, ref: Ref) -> None:
        unit = self.c.units[number]
        view = unit.changes.patched
        target = view.atoms[ref.atom]
        key = (number, target.id)
        if ref.type not in view.arch.loadable_relocs or (ref.synthetic and ref.size != 4):
            fact, remedy = f"{view.arch.reloc_names.get(ref.type, str(ref.type))} can't be carried", ""
            if ref.synthetic:
                # the assembler chose the short form because both are in one section
                fact = (
                    f"a short jump to {target.name or view.section_name(target)} of the same section "
                    f"{view.section_name(source)} does not reach from a module to there"
                )
                remedy = "make it a call that something follows (barrier(); behind it), or patch the callers instead"
            self._refuse("K11-reloc", unit, source.name, f"+{ref.offset:#x}: {fact}", remedy=remedy)
        if target.name == THIS_MODULE and view.section_name(source) == PARAMETERS:
            return  # a parameter is the patch module's own
        if ref.loose and target.kind == DATA and self._is_loose(unit, source, target, ref):
            return
        if key in self.c.members:
            if self.c.members[key].role == "carried":
                self._check_no_pointer(unit, source, target, ref)
            pointer = target.kind == FUNCTION and self.c.binds_to_kernel(number, source, ref)
            if not pointer or key in self.c.bound:
                return
        if key in self.c.bound:
            return
        if target.kind in (STRING, ANON):
            self._carry_anonymous(number, unit, source, target)
        elif target.kind == UNDEFINED:
            self._bind_external(number, unit, source, target, ref)
        elif target.kind == ABSOLUTE:
            self._refuse(
                "K11-reloc",
                unit,
                source.name,
                f"+{ref.offset:#x}: refers to the absolute symbol {target.name}",
            )
        elif target.kind == FUNCTION:
            self._bind_function(number, unit, source, target, ref)
        else:
            self._bind_data(number, unit, source, target)

    def _carry_anonymous(self, number: int, unit: UnitResult, source: Atom, target: Atom) -> None:
        view = unit.changes.patched
        section = view.section_of(target)
        # gcc puts what a location points to, the descriptor of a type, into writable memory too
        described = source.kind == ANON and is_location(view, source) and not view.refs(target)
        if section.writable and target.kind == ANON and not is_location(view, target) and not described:
            self._refuse(
                "K5-symbol",
                unit,
                source.name,
                f"refers to unnamed writable data in {section.name}",
                section.name,
            )
            return
        if is_init(view, target):
            self._refuse("K6-init-memory", unit, source.name, f"refers to data in {section.name}", section.name)
            return
        self._add(number, target, "data", f"read by {source.name}")

    def _bind_external(self, number: int, unit: UnitResult, source: Atom, target: Atom, ref: Ref) -> None:
        name = target.name
        key = (number, target.id)
        if name == PATCH_SYMBOL:
            self.c.bound[key] = Bound(name, NEW_GLOBAL, "", proof="the patch itself")
            return
        weak = target.bind == STB.WEAK
        provider = find_provider(self.world, unit.target, name, weak, self._has)
        if (made := self.new_globals.get((provider, name))) and self._may_use(unit.target, provider):
            if made[1].kind == DATA and self._goes_on(key, source, *made):
                return
            self._bind_new(number, source, target, *made)
        elif (provider, name) in self.made_global and provider in (unit.target, VMLINUX):
            self._bind_made_global(number, unit, source, target, ref, *self.made_global[provider, name])
        else:
            found = self.world.external(unit.target, name, weak)
            if isinstance(found, NotBound) and (elsewhere := self._new_elsewhere(unit.target, name)):
                found = NotBound("K18-other-module", elsewhere)
            self._take(key, unit, source, found)

    def _bind_new(self, number: int, source: Atom, target: Atom, home: int, atom: Atom) -> None:
        """Bind to a new global function or variable of a unit."""
        if is_init(self.c.units[home].changes.patched, atom):
            section = self.c.units[home].changes.patched.section_name(atom)
            fact = f"refers to {atom.name} in {section}, freed after boot"
            self._refuse("K6-init-memory", self.c.units[number], source.name, fact, section)
            return
        self._add(home, atom, "new" if atom.kind == FUNCTION else "data", f"used by {source.name}")
        self.c.bound[(number, target.id)] = Bound(target.name, NEW_GLOBAL, "", proof="defined by this patch")
        self.c.defined[(number, target.id)] = (home, atom.id)

    def _has(self, target: str, name: str) -> bool:
        """Whether an object has a global symbol of that name in the patched source."""
        if (target, name) in self.new_globals or (target, name) in self.made_global:
            return True
        return self.world.only_global(target, name) is not None

    def _may_use(self, target: str, provider: str) -> bool:
        """Whether what a provider has is there whenever code of `target` runs."""
        return provider in (target, VMLINUX) or provider in self.world.depends(target)

    def _new_elsewhere(self, target: str, name: str) -> str:
        """Why a name that the link of `target` does not find is not that of another object's global; "" where there is
        no such."""
        for table in (self.new_globals, self.made_global):
            for (owner, known), (home, _) in table.items():
                if known == name and owner != target:
                    is_new = table is self.new_globals
                    return say_elsewhere(self.world, target, name, self.c.units[home].source, owner, is_new)
        for owner in sorted(set(self.world.modules) - {target}) if name not in self.world.exports else ():
            if self.world.only_global(owner, name) is not None:
                return say_unexported(self.world, target, name, owner)
        return ""

    def _bind_made_global(
        self, number: int, unit: UnitResult, source: Atom, target: Atom, ref: Ref, home: int, atom: Atom
    ) -> None:
        """Bind to what was local to another unit until the patch: the kernel has it, and only that unit's parity tells
        where."""
        key = (number, target.id)
        theirs = self.c.units[home]
        if is_init(theirs.changes.patched, atom):
            section = theirs.changes.patched.section_name(atom)
            self._refuse("K6-init-memory", unit, source.name, f"refers to {atom.name} in {section}", section)
            return
        proven = self._proven_function if atom.kind == FUNCTION else self._proven_data
        if self._take(key, unit, source, proven(theirs, atom)):
            self.promoted.append((number, target, home, atom))
        elif atom.kind == FUNCTION and is_branch(unit.changes.patched, source, ref):
            why = f"called by {source.name}, not proven to be the kernel's"
            self._add(home, atom, "carried", why, (number, source.id))
            self.promoted.append((number, target, home, atom))
            self.c.bound[key] = Bound(atom.name, NEW_GLOBAL, "", proof="defined by this patch")
        else:
            fact = f"refers to {atom.name} of {theirs.source}, whose place in the kernel is not proven"
            self._refuse("K5-symbol", unit, source.name, fact)

    def _settle_promoted(self) -> None:
        """What came along and can't be redirected is called in the module; a pointer to it must not get out."""
        redirected = {(r.unit, r.atom.id) for r in self.c.redirects}
        for number, target, home, atom in self.promoted:
            if (home, atom.id) not in self.c.members or (home, atom.id) in redirected:
                continue
            unit = self.c.units[number]
            for taker in users_in(unit.changes.patched, target, unit.target == VMLINUX).takers:
                fact = f"takes the address of {target.name}, which is in the module and can't be redirected"
                self._refuse("K13-ambiguous", unit, taker, fact)
            self.c.bound[(number, target.id)] = Bound(atom.name, NEW_GLOBAL, "", proof="defined by this patch")
            self.c.defined[(number, target.id)] = (home, atom.id)

    def _take(self, key: tuple[int, int], unit: UnitResult, source: Atom, found: Bound | NotBound | None) -> bool:
        """Keep a binding, or refuse for what stands against it. False where there was neither."""
        if isinstance(found, NotBound):
            self._refuse(found.code, unit, source.name, found.fact)
            return True
        if found is None:
            return False
        if found.how == EXPORT:
            export = self.world.exports[found.name]
            if export.namespace:
                self.c.namespaces.add(export.namespace)
        self.c.bound[key] = found
        return True

    def _take_export(self, key: tuple[int, int], unit: UnitResult, source: Atom, target: Atom) -> bool:
        if target.bind == STB.LOCAL or unit.target != VMLINUX or self.world.exported(target.name) is None:
            return False
        return self._take(key, unit, source, Bound(target.name, EXPORT, proof="exported by vmlinux"))

    def _bind_function(self, number: int, unit: UnitResult, source: Atom, target: Atom, ref: Ref) -> None:
        changes = unit.changes
        key = (number, target.id)
        if is_init(changes.patched, target):
            self._refuse("K6-init-memory", unit, source.name, f"calls {target.name}, freed after boot")
            return
        originals = changes.correlation.to_original.get(target.id, ())
        if originals and self._take_export(key, unit, source, target):
            return
        if self.pull_always and target.bind == STB.LOCAL and any(clone_key(n) for n in target.names):
            self._carry(number, unit, source, target, ref, ALWAYS)
            return
        if self._take(key, unit, source, self._proven_function(unit, target)):
            return
        if target.bind != STB.LOCAL and self._take(key, unit, source, self.world.only_global(unit.target, target.name)):
            return
        self._carry(number, unit, source, target, ref, self._why_not(unit, target))

    def _carry(self, number: int, unit: UnitResult, source: Atom, target: Atom, ref: Ref, why: str) -> None:
        self._check_no_pointer(unit, source, target, ref)
        if (number, target.id) not in self.c.members:
            self._add(number, target, "carried", f"called by {source.name}, {why}", (number, source.id))

    def _why_not(self, unit: UnitResult, target: Atom) -> str:
        """Why a function of the unit is not bound to the kernel's."""
        changes = unit.changes
        results = [unit.parity.of(o) for o in changes.correlation.to_original.get(target.id, ())]
        reasons = [r.reason for r in results if r is not None and r.reason]
        what = "not the same clone in the kernel" if clone_key(target.name) else "not proven to be the kernel's"
        return f"{what} ({reasons[0]})" if reasons else what

    def _proven_function(self, unit: UnitResult, target: Atom) -> Bound | NotBound | None:
        """What a function of a patched object is in the kernel, by parity; None where that is not proven."""
        for o in unit.changes.correlation.to_original.get(target.id, ()):
            binding, result = unit.parity.bindings.get(o), unit.parity.of(o)
            if binding is None:
                continue
            proof, proven = binding.evidence, result is None or result.status == EXACT
            if result is not None and not proven:
                if target.name not in self.allowed:
                    continue
                proof = f"not proven ({result.reason}), accepted by --allow-unproven; {proof}"
            for name in names_at(self._image(unit), unit.changes.original.atoms[o].names, binding.address):
                found = self.world.at(unit.target, name, binding.address, proof)
                if isinstance(found, Bound) and not proven:
                    found = found._replace(unproven=True)
                if found is not None:
                    return found
        return None

    def _proven_data(self, unit: UnitResult, target: Atom) -> Bound | NotBound | None:
        """The same for data; a name that only one variable of the object has is proof too."""
        return self._proven_place(unit, unit.changes.correlation.to_original.get(target.id, ()))

    def _proven_place(self, unit: UnitResult, originals: tuple[int, ...]) -> Bound | NotBound | None:
        """Where the kernel has a variable of an original object, given as atoms that stand for it."""
        image = self._image(unit)
        for o in originals:
            binding = unit.parity.bindings.get(o)
            for name in unit.changes.original.atoms[o].names:
                if binding is not None:
                    found = self.world.at(unit.target, name, binding.address, binding.evidence)
                elif stem(name) != name:
                    continue  # numbers prove nothing
                else:
                    places = [s.value for s in image.named(name) if image.in_kallsyms(s)]
                    if len(places) != 1:
                        continue
                    found = self.world.at(unit.target, name, places[0], "its name is unique")
                if found is not None:
                    return found
        return None

    def _check_no_pointer(self, unit: UnitResult, source: Atom, target: Atom, ref: Ref) -> None:
        """A pointer to a copy must not get out: pointers are stored and compared."""
        if ref.delta == 0 and not is_branch(unit.changes.patched, source, ref):
            fact = f"takes the address of {target.name}, whose place is not proven"
            self._refuse("K13-ambiguous", unit, source.name or target.name, fact)

    def _labels(self, number: int) -> LabelTables:
        if number not in self.labels:
            self.labels[number] = LabelTables(self.c.units[number].changes.patched)
        return self.labels[number]

    def _is_loose(self, unit: UnitResult, source: Atom, target: Atom, ref: Ref) -> bool:
        """Refuse a reference by section and offset that may mean several variables, unless all of them lie in the
        kernel as they lie in the patched object: then every meaning is the same address."""
        c = unit.changes.correlation
        if any(same_surroundings(c, c.original.atoms[o], target) for o in c.to_original.get(target.id, ())):
            return False
        if not any(n is not None and may_be_array(c.patched, n) for n in c.patched.neighbours(target)):
            return False
        fact = f"+{ref.offset:#x}: {may_mean(c.patched, target)}"
        self._refuse("K13-ambiguous", unit, source.name, fact, c.patched.section_name(target))
        return True

    def _bind_data(self, number: int, unit: UnitResult, source: Atom, target: Atom) -> None:
        changes = unit.changes
        key = (number, target.id)
        if is_init(changes.patched, target):
            section = changes.patched.section_name(target)
            self._refuse("K6-init-memory", unit, source.name, f"refers to {target.name} in {section}", section)
            return
        if is_anonymous(changes.patched, target):
            self._add(number, target, "data", f"constant data read by {source.name}")
            return
        tables = self._labels(number)
        if tables.leads_into(target, source) and tables.is_own_constant(target):
            self._add(number, target, "data", f"holds addresses inside {', '.join(sorted(tables.inside[target.id]))}")
            return
        originals = changes.correlation.to_original.get(target.id, ())
        if not originals:
            for group, (ours, theirs) in changes.correlation.undecided.items():
                if target.id in theirs and not is_stateless(changes.patched, target):
                    names = " or ".join(sorted(changes.original.atoms[o].name for o in ours))
                    which = f"which {group.split()[-1]} is meant can't be told"
                    fact = f"{which}: {target.name} may be the original's {names}"
                    self._refuse("K13-ambiguous", unit, source.name, fact)
                    return
            section = changes.patched.section_name(target)
            if section == ".BTF_ids":
                self._refuse(
                    "K2-special", unit, source.name, f"uses {target.name}, to be filled by resolve_btfids", section
                )
                return
            if self._goes_on(key, source, number, target):
                return
            self._add(number, target, "data", f"new variable used by {source.name}")
            return
        if self._take_export(key, unit, source, target):
            return
        if self._take(key, unit, source, self._proven_data(unit, target)):
            return
        if is_stateless(changes.patched, target):
            self._add(number, target, "data", f"flag of {source.name}, not proven to be the kernel's")
            return
        self._refuse(
            "K5-symbol",
            unit,
            source.name,
            f"refers to {target.name}, whose place in the kernel is not proven",
        )
