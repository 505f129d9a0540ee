# SPDX-License-Identifier: GPL-2.0-or-later
"""What changed between the original and the patched object of one unit.

A function is the same only if its bytes, the entity behind each of its references, its `.cold` half, the anonymous
data it reads and its entries in the special sections are the same. Names prove nothing by themselves: at a folded
address the assembler writes whichever name it likes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from kgbuild.correlation import noise
from kgbuild.correlation.alignment import CodeSide
from kgbuild.correlation.correlate import Correlation, correlate
from kgbuild.correlation.declared_variables import pair_declared
from kgbuild.correlation.noise import Noise
from kgbuild.correlation.registration_tables import is_registration, new_registrations
from kgbuild.correlation.renamed_variables import Renamed, find_renamed
from kgbuild.diagnostics.refusals import Refusal
from kgbuild.diff.compare import Comparer, Reason, first_difference
from kgbuild.diff.labels import part_changed
from kgbuild.elf.consts import SHT
from kgbuild.objects.atoms import ANON, DATA, FUNCTION, Ambiguous, Atom
from kgbuild.objects.special_entries import Entries, read_entries
from kgbuild.objects.stateless import DEBUG_SECTIONS, is_stateless
from kgbuild.objects.symbol_kinds import (
    PARAMETERS,
    PREFIXES,
    cold_parents,
    is_anonymous,
    is_cold,
    is_init,
    is_prefix,
)
from kgbuild.objects.view import View


class Changed(NamedTuple):
    """A function of the patched object that is not the original's."""

    original: Atom
    patched: Atom
    reason: Reason


@dataclass(frozen=True)
class Changes:
    """The difference of one unit. Atoms of `changed.patched` and `new` are the patched object's, of `removed` the
    original's. `.cold` halves are part of their parents and are not listed."""

    place: str
    original: View
    patched: View
    correlation: Correlation
    original_entries: Entries
    patched_entries: Entries
    changed: tuple[Changed, ...]
    new: tuple[Atom, ...]
    removed: tuple[Atom, ...]
    noise: tuple[Noise, ...]
    refusals: tuple[Refusal, ...]
    init_changed: tuple[str, ...]
    renamed: tuple[Renamed, ...] = ()
    differing: tuple[tuple[Atom, Atom], ...] = ()

    @property
    def nothing(self) -> bool:
        return not (self.changed or self.new or self.refusals)


def new_parameters(view: View, correlation: Correlation) -> list[Atom]:
    """Module parameters of the patched object that the original has not: the patch module has them for itself."""
    return [
        a for a in view.data if view.section_name(a) == PARAMETERS and a.id not in correlation.to_original and a.size
    ]


def compute_changes(original: View, patched: View, place: str, lines: bool = True) -> Changes:
    """Compare two objects of one unit; `place` is the unit's name in refusals. `lines` says whether line numbers may
    differ by accident: not where #line held them in place (see noise). Never raises for what it can't follow: that
    becomes a refusal."""
    return _Differ(original, patched, place, lines).run()


class _Differ:
    def __init__(self, original: View, patched: View, place: str, lines: bool) -> None:
        self.o, self.p, self.place = original, patched, place
        self.oe, self.pe = read_entries(original, place), read_entries(patched, place)
        self.c = correlate(original, patched, self.oe, self.pe, lines)
        self._part_moved()
        part_changed(self.c)
        self.renamed: list[Renamed] = []
        self.declared = pair_declared(self.c)
        self._begin()

    def _begin(self) -> None:
        """Start comparing, with the pairs of `c` as they are."""
        self.comparer = Comparer(self.c, self.oe, self.pe)
        self.changed: dict[tuple[int, int], Changed] = {}
        self.init_changed: list[str] = []
        self.refusals: list[Refusal] = [*self.pe.refusals]
        self.differing: list[tuple[Atom, Atom]] = []

    def _part_moved(self) -> None:
        """A static that gets its first write lay in read-only memory: writing the kernel's would fault. It is another
        variable now, and whoever refers to it refers to that."""
        for o, p in self.c.pairs(DATA):
            if o.is_local and p.is_local and self.o.is_const(o) and not self.p.is_const(p):
                if is_anonymous(self.o, o) or is_stateless(self.p, p) or ".." in self.p.section_name(p):
                    continue
                self.c.part(o.id, p.id)

    def run(self) -> Changes:
        self._compare_pairs()
        self._find_renamed()
        new = self._sort_out_new()
        removed = self._sort_out_removed()
        self._check_data()
        self._check_registration()
        self._check_unknown()
        self._check_groups(new)
        return Changes(
            self.place,
            self.o,
            self.p,
            self.c,
            self.oe,
            self.pe,
            tuple(self.changed[i] for i in sorted(self.changed)),
            tuple(new),
            tuple(removed),
            self._noise(),
            tuple(self.refusals),
            tuple(self.init_changed),
            (*self.declared, *self.renamed),
            tuple(self.differing),
        )

    def _find_renamed(self) -> None:
        """Variables that go on under another name: with them paired, what only refers to them is the same."""
        sides = CodeSide(self.o, self.oe), CodeSide(self.p, self.pe)
        found, doubts = find_renamed(self.c, *sides, self.differing, self._same_content)
        if found:
            self.renamed = found
            self._begin()
            self._compare_pairs()
        for doubt in doubts:
            atom = self.p.atoms[doubt.patched]
            self._refuse("K22-state", atom.name, doubt.fact, atom)

    def _same_content(self, o: Atom, p: Atom) -> bool:
        try:
            return self.comparer.same_content(o, p)
        except Ambiguous:
            return False

    def _noise(self) -> tuple[Noise, ...]:
        """What was set aside, by function; a `.cold` half is part of its function."""
        found = {n._replace(function=n.function.partition(".cold")[0]) for n in self.comparer.noise}
        before, after = (noise.index_of_messages(view) for view in (self.o, self.p))
        for function in before.keys() & after.keys():
            if before[function] != after[function]:
                found.add(Noise(function, noise.PRINTK_INDEX))
        return tuple(sorted(found))

    def _compare_pairs(self) -> None:
        for o, p in self.c.pairs(FUNCTION):
            reason = self.comparer.compare(o, p)
            if reason is None:
                continue
            self.differing.append((o, p))
            if is_prefix(p) and is_prefix(o):
                for parent in self.o.by_name.get(p.name[len(PREFIXES[0]) :], []):
                    self._changed_by_cold(parent, Reason("prefix", reason.offset, f"{p.name}: {reason}"))
            elif is_init(self.p, p) or is_init(self.o, o):
                self._init(p, self._init_fact(o, p))
            elif is_cold(p):
                because = Reason("cold", reason.offset, f"{p.name}: {reason}")
                for parent in cold_parents(p, self.o):
                    self._changed_by_cold(parent, because)
            else:
                self.changed[p.id, o.id] = Changed(o, p, reason)

    def _changed_by_cold(self, original: Atom, reason: Reason) -> None:
        """A function whose `.cold` half differs is changed, with whatever it became."""
        for p in self.c.to_patched.get(original.id, ()):
            self.changed.setdefault((p, original.id), Changed(original, self.p.atoms[p], reason))

    def _init_fact(self, o: Atom, p: Atom) -> str:
        was, now = self.o.section_name(o), self.p.section_name(p)
        if not is_init(self.p, p):
            return f"{p.name} moves to {now} from {was}, {_when(was)}: the kernel has it no more"
        if not is_init(self.o, o):
            return f"{p.name} moves from {was} to {now}, {_when(now)}"
        return f"{p.name} is in {now}, {_when(now)}"

    def _init(self, atom: Atom, fact: str) -> None:
        self.init_changed.append(atom.name)
        self._refuse("K3-init", atom.name, fact, atom)

    def _sort_out_new(self) -> list[Atom]:
        new = []
        for atom in self.p.functions:
            if atom.id in self.c.to_original or is_prefix(atom):
                continue
            if is_init(self.p, atom):
                self._init(atom, f"new function {atom.name} is in {self.p.section_name(atom)}, freed after boot")
            elif is_cold(atom):
                for parent in cold_parents(atom, self.p):
                    for o in self.c.to_original.get(parent.id, ()):
                        self._changed_by_cold(self.o.atoms[o], Reason("cold", -1, f"{atom.name} is new"))
            else:
                new.append(atom)
        return new

    def _sort_out_removed(self) -> list[Atom]:
        removed = []
        for atom in self.o.functions:
            if atom.id in self.c.to_patched or is_prefix(atom):
                continue
            if is_cold(atom):
                for parent in cold_parents(atom, self.o):
                    self._changed_by_cold(parent, Reason("cold", -1, f"{atom.name} is gone"))
            else:
                removed.append(atom)
        return removed

    def _refuse(self, code: str, symbol: str, fact: str, atom: Atom | None = None, view: View | None = None) -> None:
        section = (view or self.p).section_name(atom) if atom is not None else ""
        self.refusals.append(Refusal(code, f"{self.place}: {symbol}", fact, symbol=symbol, section=section))

    # -- data ---------------------------------------------------------------------------------------------------

    def _check_data(self) -> None:
        for o, p in self.c.pairs(DATA):
            if is_anonymous(self.p, p):
                continue
            if is_registration(self.p.section_name(p)):
                self._check_registered(o, p)
                continue
            if self.p.section_name(p).startswith((*DEBUG_SECTIONS, "__bug", ".discard")):
                continue
            try:
                same = self.comparer.same_content(o, p)
            except Ambiguous as error:
                self._refuse("K13-ambiguous", p.name, ": ".join(error.args), p)
                continue
            was, now = self.o.section_of(o), self.p.section_of(p)
            if not same:
                if is_stateless(self.p, p):
                    continue
                if o.size != p.size:
                    fact = f"changed data {p.name} ({o.size} -> {p.size} bytes)"
                elif is_init(self.p, p):
                    fact = f"changed initial value of {p.name} in {now.name}"
                else:
                    at = first_difference(self.o.masked(o), self.p.masked(p))
                    fact = f"changed initial value of {p.name}" + (f" at byte {at}" if at >= 0 else "")
                self._refuse("K3-init" if is_init(self.p, p) else "K1-data", p.name, fact, p)
            elif (
                was.writable != now.writable
                or (was.type == SHT.NOBITS) != (now.type == SHT.NOBITS)
                or (was.name != now.name and (".data.." in was.name or ".data.." in now.name))
            ):
                # .data..percpu, .data..ro_after_init and their like are other memory
                if is_stateless(self.p, p):
                    continue
                self._refuse("K1-data", p.name, f"{p.name} moves from {_group(was.name)} to {_group(now.name)}", p)

    def _check_registered(self, o: Atom, p: Atom) -> None:
        try:
            same = self.comparer.same_content(o, p)
        except Ambiguous:
            same = False
        if not same:
            fact = f"{p.name} in {self.p.section_name(p)} changes, which takes effect at boot only"
            self._refuse("K7-export", p.name, fact, p)

    def _check_unknown(self) -> None:
        """A table without names that nothing refers to: its entries belong to code in a way that is not known here."""
        left, right = _tables(self.o), _tables(self.p)
        for name in sorted(left.keys() | right.keys()):
            x, y = left.get(name), right.get(name)
            try:
                same = x is not None and y is not None and self.comparer.same_content(x, y)
            except Ambiguous:
                same = False
            if not same:
                fact = f"section {name} differs, and what its entries belong to is not known"
                self.refusals.append(Refusal("K2-special", f"{self.place}: {name}", fact, section=name))

    def _check_groups(self, new: list[Atom]) -> None:
        """A section group is kept or dropped as a whole by linkers. A function can be taken out of one only where the
        rest of the group is its own: its prefix, its cold half, what has no code or data."""
        groups = self.p.obj.groups
        for atom in [*(c.patched for c in self.changed.values()), *new]:
            for group in groups.get(atom.section, ()):
                others = [
                    a
                    for section in group
                    for i in self.p.in_section.get(section, ())
                    if section != atom.section and (a := self.p.atoms[i]).names and not _of_family(a, atom)
                ]
                if others:
                    fact = f"{atom.name} is in a section group with {', '.join(sorted(a.name for a in others))}"
                    self._refuse("K20-group", atom.name, fact, atom)

    def _check_registration(self) -> None:
        # new parameters are the patch module's own
        own = sum(a.size for a in new_parameters(self.p, self.c))
        for new in new_registrations(self.o, self.p, {PARAMETERS: own}):
            place = f"{self.place}: {new.symbol}"
            self.refusals.append(Refusal("K7-export", place, new.fact, symbol=new.symbol, section=new.section))


def _of_family(atom: Atom, function: Atom) -> bool:
    """Whether an atom is the cold half or the prefix of a function."""
    own = {n.partition(".cold")[0].removeprefix(PREFIXES[0]) for n in atom.names}
    return (is_cold(atom) or is_prefix(atom)) and not own.isdisjoint(function.names)


def _tables(view: View) -> dict[str, Atom]:
    """Sections of data without names that nothing refers to, by name, each as the one atom it is."""
    whole: dict[int, list[Atom]] = {}
    for atom in view.atoms:
        if atom.section >= 0:
            whole.setdefault(atom.section, []).append(atom)
    out = {}
    for atoms in whole.values():
        section = view.section_of(atoms[0])
        if len(atoms) > 1 or atoms[0].kind != ANON or is_init(view, atoms[0]):
            continue
        if not section.executable and not section.merge:
            out[section.name] = atoms[0]
    return {name: atom for name, atom in out.items() if not _is_referred_to(view, atom.section)}


def _is_referred_to(view: View, section: int) -> bool:
    """Whether code or data refers to a section; another table does not count."""
    return any(
        not view.is_table(s) and s.alloc and s.index != section
        for s in (view.obj.sections[i] for i in view.sections_referring_to({section}))
    )


def _when(section: str) -> str:
    return "which only runs when its module goes" if section.startswith(".exit") else "which runs once and is freed"


def _group(section: str) -> str:
    return section if ".." in section else ".".join(section.split(".")[:2]) or section
