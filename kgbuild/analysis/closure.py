# SPDX-License-Identifier: GPL-2.0-or-later
"""What must be in the module, and what each reference of it is bound to.

Seeds are the changed and the new functions. Everything they refer to is followed: what the kernel has and parity has
proven is bound to; strings, anonymous data and new data are carried; a local function that is not proven is carried
as a copy, and followed in turn. Whatever has no rule is a refusal, and all refusals of a run come together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kgbuild.analysis.correlate import DEBUG_SECTIONS, is_anonymous, is_stateless, stem
from kgbuild.analysis.diff import Changes, is_init, is_prefix
from kgbuild.analysis.exports import Export
from kgbuild.analysis.image import KernelImage
from kgbuild.analysis.module_image import ModuleImage
from kgbuild.analysis.noise import is_location
from kgbuild.analysis.parity import ABSENT, AMBIGUOUS, DIFFERS, EXACT, OVERRIDDEN, ParityProof
from kgbuild.analysis.resolve import EXPORT, KLP, NEW_GLOBAL, PLAIN, VMLINUX, Bound, NotBound, World
from kgbuild.elf.consts import STB
from kgbuild.refusals import Refusal
from kgbuild.special.entries import BadEntry, Entry
from kgbuild.special.view import ABSOLUTE, ANON, DATA, FUNCTION, STRING, UNDEFINED, Ambiguous, Atom, Ref, View

# Keys that only switch tracing on.
INERT_KEYS = ("__tracepoint_", "__SCK__tp_func_")


@dataclass(frozen=True)
class UnitResult:
    """One unit, compiled, compared and proven: what the closure starts from. `target` is the object of the running
    kernel that it is part of: "vmlinux" or a module's name. A unit in two modules is there twice."""

    source: str
    changes: Changes
    parity: ParityProof
    target: str = VMLINUX


@dataclass(frozen=True)
class Member:
    """One atom that goes into the module, and why. `role` is changed, new, carried, cold, prefix or data."""

    unit: int
    atom: Atom
    role: str
    reason: str


@dataclass(frozen=True)
class Redirect:
    """One klp_func: the kernel's function and the module's."""

    unit: int
    atom: Atom
    name: str
    sympos: int
    address: int
    object: str = "vmlinux"


@dataclass
class Closure:
    """The whole of a patch. `bound[(unit, atom id)]` says what an atom outside the module is bound to where it is
    referred to; atoms in `members` are in the module. `defined[(unit, atom id)]` is the member, of any unit, that an
    undefined symbol stands for. `dropped` are special-section entries left out on purpose, by section and index."""

    units: tuple[UnitResult, ...]
    members: dict[tuple[int, int], Member] = field(default_factory=dict)
    bound: dict[tuple[int, int], Bound] = field(default_factory=dict)
    redirects: list[Redirect] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    namespaces: set[str] = field(default_factory=set)
    defined: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    dropped: set[tuple[int, str, int]] = field(default_factory=set)

    @property
    def targets(self) -> list[str]:
        """Modules that this patch changes, in order."""
        return sorted({r.object for r in self.redirects} - {VMLINUX})

    def entries(self, unit: int, atom: Atom) -> tuple[Entry, ...]:
        """Special-section entries that come along with an atom."""
        found = self.units[unit].changes.patched_entries.of(atom.id)
        return tuple(e for e in found if (unit, e.section, e.index) not in self.dropped)

    def binds_to_kernel(self, unit: int, source: Atom, ref: Ref) -> bool:
        """Whether this reference leaves the module although its target is in it: a pointer to a patched function
        must be the kernel's, since pointers are stored and compared elsewhere."""
        changes = self.units[unit].changes
        target = changes.patched.atoms[ref.atom]
        member = self.members.get((unit, target.id))
        if member is None:
            return True
        if member.role != "changed" or target.kind != FUNCTION or ref.delta != 0:
            return False
        return not is_branch(changes.patched, source, ref)


def is_branch(view: View, source: Atom, ref: Ref) -> bool:
    """Whether a reference is the target of a call or jump, not a pointer being taken."""
    if not view.section_of(source).executable:
        return False
    return any(i.is_branch and i.field_offset == ref.offset for i in view.instructions(source))


def close(
    units: tuple[UnitResult, ...],
    image: KernelImage,
    exports: dict[str, Export],
    allow_unproven: frozenset[str] = frozenset(),
    modules: Mapping[str, ModuleImage] | None = None,
) -> Closure:
    """Close the changes of all units.

    `image` is vmlinux; `modules` holds every target module and all that those depend on, by name. Refusals are
    collected in the result, never raised.
    """
    return close_in(units, World(image, exports, modules or {}), allow_unproven)


def close_in(units: tuple[UnitResult, ...], world: World, allow_unproven: frozenset[str] = frozenset()) -> Closure:
    """Close the changes of all units, with references bound as `world` says."""
    return _Closer(Closure(units), world, allow_unproven).run()


class _Closer:
    def __init__(self, c: Closure, world: World, allowed: frozenset[str]) -> None:
        self.c, self.world, self.allowed = c, world, allowed
        self.todo: list[tuple[int, Atom]] = []
        self.new_globals: dict[str, list[tuple[int, Atom]]] = {}

    def _image(self, unit: UnitResult) -> KernelImage:
        return self.world.image(unit.target)

    def run(self) -> Closure:
        for number, unit in enumerate(self.c.units):
            self.c.refusals.extend(unit.changes.refusals)
            self._check_parity(unit)
            for atom in unit.changes.new:
                if atom.bind != STB.LOCAL:
                    self.new_globals.setdefault(atom.name, []).append((number, atom))
            for atom in unit.changes.patched.data:
                if atom.bind != STB.LOCAL and atom.id not in unit.changes.correlation.to_original:
                    self.new_globals.setdefault(atom.name, []).append((number, atom))
        for number, unit in enumerate(self.c.units):
            for change in unit.changes.changed:
                self._redirect(number, unit, change.original, change.patched)
                self._add(number, change.patched, "changed", str(change.reason))
            for atom in unit.changes.new:
                self._add(number, atom, "new", "new in the patched source")
            self._check_vanished(number, unit)
        while self.todo:
            number, atom = self.todo.pop(0)
            self._follow(number, atom)
        self._check_tables()
        self._say_debug()
        return self.c

    def _say_debug(self) -> None:
        """A pr_debug of patched code has a descriptor in the patch module: what switched on the kernel's does nothing
        for it, and `module NAME` of dynamic_debug/control means the patch module's name."""
        for number, unit in enumerate(self.c.units):
            view = unit.changes.patched
            members = (m.atom for m in self.c.members.values() if m.unit == number)
            count = sum(view.section_name(atom) in DEBUG_SECTIONS for atom in members)
            if count:
                fact = f"{count} pr_debug in patched code: off until switched on, as part of the patch module"
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

    def _refuse(self, code: str, unit: UnitResult, symbol: str, fact: str, section: str = "") -> None:
        self.c.refusals.append(Refusal(code, f"{unit.source}: {symbol}", fact, symbol=symbol, section=section))

    def _add(self, number: int, atom: Atom, role: str, reason: str) -> None:
        key = (number, atom.id)
        if key in self.c.members:
            return
        self.c.members[key] = Member(number, atom, role, reason)
        self.todo.append((number, atom))
        view = self.c.units[number].changes.patched
        if atom.kind == FUNCTION and role not in ("cold", "prefix"):
            for name in atom.names:
                for half in (f"{name}.cold", *_numbered_cold(view.by_name, name)):
                    for cold in view.by_name.get(half, ()):
                        self._add(number, cold, "cold", f"the cold half of {atom.name}")
        if atom.kind == FUNCTION and role != "prefix":
            prefix = view.just_before(atom)
            if prefix is not None and is_prefix(prefix):
                self._add(number, prefix, "prefix", f"the padding before {atom.name}")

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
            self._refuse("Y1-parity", unit, f.name, f"the recompiled original is not what runs: {f.reason}")

    def _check_vanished(self, number: int, unit: UnitResult) -> None:
        """A function gone from the unit must have left nothing behind that still refers to it."""
        del number
        changes = unit.changes
        gone = {a.id: a for a in changes.removed}
        if not gone:
            return
        for atom in changes.removed:
            if atom.bind != STB.LOCAL and not is_init(changes.original, atom):
                self._refuse(
                    "K14-vanished",
                    unit,
                    atom.name,
                    f"global function {atom.name} is gone; other units may call it",
                )
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
            self._refuse(
                "K4-not-traceable",
                unit,
                name,
                f"{name} has no __fentry__ site in the kernel, ftrace can't redirect it",
            )
            return
        names = [s.name for s in self._image(unit).functions_at(address)]
        foreign = sorted(set(names) - set(original.names))
        if foreign:
            self._refuse("K12-folded", unit, name, f"{name} shares its address with {', '.join(foreign)}")
            return
        split = [changes.patched.atoms[p] for p in changes.correlation.to_patched.get(original.id, ())]
        if len(split) > 1:
            kept = ", ".join(sorted({n for p in split for n in p.names if p.id != patched.id}))
            fact = f"in the kernel {name} is one body with {kept}, which does not change so"
            self._refuse("K12-folded", unit, name, fact)
            return
        for candidate in original.names:
            sympos = self._image(unit).sympos(candidate, address)
            if sympos is not None:
                self.c.redirects.append(Redirect(number, patched, candidate, sympos, address, unit.target))
                return
        self._refuse("K5-symbol", unit, name, f"kallsyms does not list {name}")

    # -- following references -------------------------------------------------------------------------------------

    def _follow(self, number: int, atom: Atom) -> None:
        unit = self.c.units[number]
        view = unit.changes.patched
        try:
            for ref in view.refs(atom):
                self._resolve(number, atom, ref)
            for entry in self.c.entries(number, atom):
                spec = view.arch.special[entry.section]
                for ref in entry.refs:
                    if ref.offset != spec.owner:
                        self._resolve(number, atom, ref)
                if unit.target != VMLINUX:
                    self._check_late_entry(number, unit, atom, entry)
        except BadEntry as error:
            self._refuse("K2-special", unit, atom.name, ": ".join(error.args), error.section)
        except Ambiguous as error:
            self._refuse("K13-ambiguous", unit, atom.name or view.section_name(atom), ": ".join(error.args))

    def _check_late_entry(self, number: int, unit: UnitResult, atom: Atom, entry: Entry) -> None:
        """Alternatives, static keys and static calls are applied when the patch module loads (since 5.8), when symbols
        of a target module that comes later have no address yet. Entries of tracepoints and of pr_debug do nothing
        but switch them on, and are left out; any other is refused."""
        view = unit.changes.patched
        spec = view.arch.special[entry.section]

        def late(target: int) -> bool:
            bound = self.c.bound.get((number, target))
            return bound is not None and bound.how in (KLP, PLAIN) and bound.object not in ("", VMLINUX)

        if entry.replacement is not None:
            for ref in view.refs(view.atoms[entry.replacement]):
                if late(ref.atom):
                    name = view.atoms[ref.atom].name
                    fact = f"an alternative at +{entry.owner_offset:#x} refers to {name} of the module {unit.target}"
                    self._refuse("K2-special", unit, atom.name, fact, entry.section)
        for ref in entry.refs:
            if ref.offset != spec.key.get(entry.size) or not late(ref.atom):
                continue
            key = view.atoms[ref.atom]
            if key.name.startswith(INERT_KEYS) or view.section_name(key) in DEBUG_SECTIONS:
                what = "pr_debug" if view.section_name(key) in DEBUG_SECTIONS else key.name
                self.c.dropped.add((number, entry.section, entry.index))
                self.c.warnings.append(
                    f"{unit.source}: {atom.name}+{entry.owner_offset:#x}: {what} of the module {unit.target} stays off "
                    "in patched code"
                )
            else:
                fact = f"+{entry.owner_offset:#x} depends on {key.name}, a key of the module {unit.target} itself"
                self._refuse("K17-module-key", unit, atom.name, fact, entry.section)

    def _resolve(self, number: int, source: Atom, ref: Ref) -> None:
        unit = self.c.units[number]
        view = unit.changes.patched
        target = view.atoms[ref.atom]
        key = (number, target.id)
        if ref.type not in view.arch.loadable_relocs or (ref.synthetic and ref.size != 4):
            kind = view.arch.reloc_names.get(ref.type, str(ref.type))
            what = "a short jump to another function" if ref.synthetic else kind
            self._refuse("K11-reloc", unit, source.name, f"+{ref.offset:#x}: {what} can't be carried")
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
            self._bind_external(number, unit, source, target)
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

    def _bind_external(self, number: int, unit: UnitResult, source: Atom, target: Atom) -> None:
        name = target.name
        key = (number, target.id)
        # a new symbol of the patch itself; of several (a unit in two modules) the one of the same object
        for unit_number, atom in sorted(
            self.new_globals.get(name, ()), key=lambda item: self.c.units[item[0]].target != unit.target
        ):
            self._add(unit_number, atom, "new" if atom.kind == FUNCTION else "data", f"used by {source.name}")
            self.c.bound[key] = Bound(name, NEW_GLOBAL, "", proof="defined by this patch")
            self.c.defined[key] = (unit_number, atom.id)
            return
        self._take(key, unit, source, self.world.external(unit.target, name, target.bind == STB.WEAK))

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
        for o in originals:
            binding = unit.parity.bindings.get(o)
            if binding is None:
                continue
            result = unit.parity.of(o)
            if result is not None and result.status != EXACT and target.name not in self.allowed:
                continue
            for name in changes.original.atoms[o].names:
                if self._take(key, unit, source, self.world.at(unit.target, name, binding.address, binding.evidence)):
                    return
        if target.bind != STB.LOCAL and self._take(key, unit, source, self.world.only_global(unit.target, target.name)):
            return
        self._check_no_pointer(unit, source, target, ref)
        if key in self.c.members:
            return
        self._add(number, target, "carried", f"called by {source.name}, not proven to be the kernel's")

    def _check_no_pointer(self, unit: UnitResult, source: Atom, target: Atom, ref: Ref) -> None:
        """A pointer to a copy must not get out: pointers are stored and compared."""
        if ref.delta == 0 and not is_branch(unit.changes.patched, source, ref):
            fact = f"takes the address of {target.name}, whose place is not proven"
            self._refuse("K13-ambiguous", unit, source.name or target.name, fact)

    def _may_be_an_end(self, unit: UnitResult, source: Atom, target: Atom) -> bool:
        """Refuse where a reference to a new variable may mean the end of the array before it.

        The assembler writes local references as section plus offset, and `array + N` is then what a variable behind
        the array is. With that variable carried along, a loop over the kernel's array would never end.
        """
        view = unit.changes.patched
        before = view.just_before(target)
        if before is None or target.bind != STB.LOCAL or before.kind != DATA or before.size <= 8:
            return False
        if is_stateless(view, before) or not any(r.atom == before.id for r in view.refs(source)):
            return False
        fact = f"a reference may mean the new variable {target.name} or the end of {before.name} before it"
        self._refuse("K13-ambiguous", unit, source.name, fact, view.section_name(target))
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
        originals = changes.correlation.to_original.get(target.id, ())
        if not originals:
            for group, (_, theirs) in changes.correlation.undecided.items():
                if target.id in theirs and not is_stateless(changes.patched, target):
                    names = ", ".join(sorted(changes.patched.atoms[p].name for p in theirs))
                    self._refuse(
                        "K13-ambiguous",
                        unit,
                        source.name,
                        f"which {group.split()[-1]} is meant can't be told: {names}",
                    )
                    return
            section = changes.patched.section_name(target)
            if section == ".BTF_ids":
                self._refuse(
                    "K2-special", unit, source.name, f"uses {target.name}, to be filled by resolve_btfids", section
                )
                return
            if self._may_be_an_end(unit, source, target):
                return
            self._add(number, target, "data", f"new variable used by {source.name}")
            return
        if self._take_export(key, unit, source, target):
            return
        image = self._image(unit)
        for o in originals:
            binding = unit.parity.bindings.get(o)
            for name in changes.original.atoms[o].names:
                if binding is not None:
                    found = self.world.at(unit.target, name, binding.address, binding.evidence)
                elif stem(name) != name:
                    continue  # numbers prove nothing
                else:
                    places = [s.value for s in image.named(name) if image.in_kallsyms(s)]
                    if len(places) != 1:
                        continue
                    found = self.world.at(unit.target, name, places[0], "its name is unique")
                if self._take(key, unit, source, found):
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


def _numbered_cold(by_name: dict[str, list[Atom]], name: str) -> list[str]:
    """`f.cold.7` and `f.isra.0.cold.3` of older gcc."""
    prefix = f"{name}.cold."
    return [n for n in by_name if n.startswith(prefix)]
