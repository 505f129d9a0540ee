# SPDX-License-Identifier: GPL-2.0-or-later
"""What changed between the original and the patched object of one unit.

A function is the same only if its bytes, the entity behind each of its references, its `.cold` half, the anonymous
data it reads and its entries in the special sections are the same. Names prove nothing by themselves: at a folded
address the assembler writes whichever name it likes.
"""

from __future__ import annotations

from typing import NamedTuple

from kgbuild.correlation import noise
from kgbuild.correlation.alignment import CodeSide
from kgbuild.correlation.correlate import Correlation, correlate
from kgbuild.correlation.declared_variables import pair_declared
from kgbuild.correlation.noise import Noise
from kgbuild.correlation.registration_tables import is_registration, new_registrations
from kgbuild.correlation.renamed_variables import Renamed, find_renamed
from kgbuild.correlation.replaced_functions import pair_replaced
from kgbuild.diagnostics.refusals import Refusal
from kgbuild.diff.changed_pointers import changed_pointers, refuse_pointers
from kgbuild.diff.compare import Comparer, Reason, first_difference
from kgbuild.diff.labels import part_changed
from kgbuild.elf.consts import SHT
from kgbuild.kernel.section_readers import HOOKS, REFERRED, reader_of
from kgbuild.objects.atoms import ANON, DATA, FUNCTION, Ambiguous, Atom
from kgbuild.objects.call_metadata import is_call_metadata
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

# in the name of a section that -fdata-sections makes for what only the compiler has a name for, a sanitizer's location:
# no table, and out of reach where no code refers to it
COMPILERS_OWN = "..L"


class Changed(NamedTuple):
    """A function of the patched object that is not the original's."""

    orig: Atom
    patched: Atom
    reason: Reason


class Changes(NamedTuple):
    """The difference of one unit. Atoms of `changed.patched` and `new` are the patched object's, of `removed` the
    original's. `.cold` halves are part of their parents and are not listed. `traced` are variables that only tracing
    shows, `hooks` tables of devices and functions, whose changes have no effect."""

    place: str
    orig: View
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
    traced: tuple[str, ...] = ()
    hooks: tuple[str, ...] = ()

    @property
    def nothing(self) -> bool:
        return not (self.changed or self.new or self.refusals)


def new_parameters(view: View, correlation: Correlation) -> list[Atom]:
    """Module parameters of the patched object that the original has not: the patch module has them for itself."""
    return [
        a for a in view.data if view.section_name(a) == PARAMETERS and a.id not in correlation.to_original and a.size
    ]


def compute_changes(orig: View, patched: View, place: str, lines: bool = True) -> Changes:
    """Compare two objects of one unit; `place` is the unit's name in refusals. `lines` says whether line numbers may
    differ by accident: not where #line held them in place (see noise). Never raises for what it can't follow: that
    becomes a refusal."""
    return _Differ(orig, patched, place, lines).run()


class _Differ:
    def __init__(self, orig: View, patched: View, place: str, lines: bool) -> None:
        self.orig, self.patched, self.place = orig, patched, place
        self.orig_entries, self.patched_entries = read_entries(orig, place), read_entries(patched, place)
        self.correlation = correlate(orig, patched, self.orig_entries, self.patched_entries, lines)
        self._part_moved()
        part_changed(self.correlation)
        self.replaced = {patched.id: orig.name for orig, patched in pair_replaced(self.correlation)}
        self.renamed: list[Renamed] = []
        self.declared = pair_declared(self.correlation)
        self._begin()

    def _begin(self) -> None:
        """Start comparing, with the pairs as they are."""
        self.comparer = Comparer(self.correlation, self.orig_entries, self.patched_entries)
        self.changed: dict[tuple[int, int], Changed] = {}
        self.init_changed: list[str] = []
        self.refusals: list[Refusal] = [*self.patched_entries.refusals]
        self.differing: list[tuple[Atom, Atom]] = []
        self.traced: list[str] = []
        self.hooks: list[str] = []

    def _part_moved(self) -> None:
        """A static that gets its first write lay in read-only memory: writing the kernel's would fault. It is another
        variable now, and whoever refers to it refers to that."""
        for orig, patched in self.correlation.pairs(DATA):
            if orig.is_local and patched.is_local and self.orig.is_const(orig) and not self.patched.is_const(patched):
                if (
                    is_anonymous(self.orig, orig)
                    or is_stateless(self.patched, patched)
                    or ".." in self.patched.section_name(patched)
                ):
                    continue
                self.correlation.part(orig.id, patched.id)

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
            self.orig,
            self.patched,
            self.correlation,
            self.orig_entries,
            self.patched_entries,
            tuple(self.changed[i] for i in sorted(self.changed)),
            tuple(new),
            tuple(removed),
            self._noise(),
            tuple(self.refusals),
            tuple(self.init_changed),
            (*self.declared, *self.renamed),
            tuple(self.differing),
            tuple(self.traced),
            tuple(self.hooks),
        )

    def _find_renamed(self) -> None:
        """Variables that go on under another name: with them paired, what only refers to them is the same."""
        sides = CodeSide(self.orig, self.orig_entries), CodeSide(self.patched, self.patched_entries)
        found, doubts = find_renamed(self.correlation, *sides, self.differing, self._same_content)
        if found:
            self.renamed = found
            self._begin()
            self._compare_pairs()
        for doubt in doubts:
            atom = self.patched.atoms[doubt.patched]
            self._refuse("K22-state", atom.name, doubt.fact, atom)

    def _same_content(self, orig: Atom, patched: Atom) -> bool:
        try:
            return self.comparer.same_content(orig, patched)
        except Ambiguous:
            return False

    def _noise(self) -> tuple[Noise, ...]:
        """What was set aside, by function; a `.cold` half is part of its function."""
        found = {n._replace(function=n.function.partition(".cold")[0]) for n in self.comparer.noise}
        orig_index, patched_index = (noise.index_of_messages(view) for view in (self.orig, self.patched))
        for function in orig_index.keys() & patched_index.keys():
            if orig_index[function] != patched_index[function]:
                found.add(Noise(function, noise.PRINTK_INDEX))
        return tuple(sorted(found))

    def _compare_pairs(self) -> None:
        for orig, patched in self.correlation.pairs(FUNCTION):
            reason = self.comparer.compare(orig, patched)
            if reason is None:
                continue
            self.differing.append((orig, patched))
            if is_prefix(patched) and is_prefix(orig):
                for parent in self.orig.by_name.get(patched.name[len(PREFIXES[0]) :], []):
                    self._changed_by_cold(parent, Reason("prefix", reason.offset, f"{patched.name}: {reason}"))
            elif is_init(self.patched, patched) or is_init(self.orig, orig):
                self._init(patched, self._init_fact(orig, patched))
            elif is_cold(patched):
                because = Reason("cold", reason.offset, f"{patched.name}: {reason}")
                # by the original's name: a function that takes another one's place has another
                for parent in cold_parents(patched, self.orig) or cold_parents(orig, self.orig):
                    self._changed_by_cold(parent, because)
            else:
                if self.replaced.get(patched.id) == orig.name:
                    reason = reason._replace(detail=f"in place of {self.replaced[patched.id]}, {reason.detail}")
                self.changed[patched.id, orig.id] = Changed(orig, patched, reason)

    def _changed_by_cold(self, orig: Atom, reason: Reason) -> None:
        """A function whose `.cold` half differs is changed, with whatever it became."""
        for patched in self.correlation.to_patched.get(orig.id, ()):
            self.changed.setdefault((patched, orig.id), Changed(orig, self.patched.atoms[patched], reason))

    def _init_fact(self, orig: Atom, patched: Atom) -> str:
        orig_section, patched_section = self.orig.section_name(orig), self.patched.section_name(patched)
        if not is_init(self.patched, patched):
            gone = f"{_when(orig_section)}: the kernel has it no more"
            return f"{patched.name} moves to {patched_section} from {orig_section}, {gone}"
        if not is_init(self.orig, orig):
            return f"{patched.name} moves from {orig_section} to {patched_section}, {_when(patched_section)}"
        return f"{patched.name} is in {patched_section}, {_when(patched_section)}"

    def _init(self, atom: Atom, fact: str) -> None:
        self.init_changed.append(atom.name)
        self._refuse("K3-init", atom.name, fact, atom)

    def _sort_out_new(self) -> list[Atom]:
        new = []
        for atom in self.patched.functions:
            if atom.id in self.correlation.to_original or is_prefix(atom):
                continue
            if is_init(self.patched, atom):
                self._init(atom, f"new function {atom.name} is in {self.patched.section_name(atom)}, freed after boot")
            elif is_cold(atom):
                for parent in cold_parents(atom, self.patched):
                    for orig in self.correlation.to_original.get(parent.id, ()):
                        self._changed_by_cold(self.orig.atoms[orig], Reason("cold", -1, f"{atom.name} is new"))
            else:
                new.append(atom)
        return new

    def _sort_out_removed(self) -> list[Atom]:
        removed = []
        for atom in self.orig.functions:
            if atom.id in self.correlation.to_patched or is_prefix(atom):
                continue
            if is_cold(atom):
                for parent in cold_parents(atom, self.orig):
                    self._changed_by_cold(parent, Reason("cold", -1, f"{atom.name} is gone"))
            else:
                removed.append(atom)
        return removed

    def _refuse(self, code: str, symbol: str, fact: str, atom: Atom | None = None, view: View | None = None) -> None:
        section = (view or self.patched).section_name(atom) if atom is not None else ""
        self.refusals.append(Refusal(code, f"{self.place}: {symbol}", fact, symbol=symbol, section=section))

    # -- data ---------------------------------------------------------------------------------------------------

    def _check_data(self) -> None:
        for orig, patched in self.correlation.pairs(DATA):
            if is_anonymous(self.patched, patched):
                continue
            if is_registration(self.patched.section_name(patched)):
                self._check_registered(orig, patched)
                continue
            if self.patched.section_name(patched).startswith((*DEBUG_SECTIONS, "__bug", ".discard")):
                continue
            try:
                same = self.comparer.same_content(orig, patched)
            except Ambiguous as error:
                self._refuse("K13-ambiguous", patched.name, ": ".join(error.args), patched)
                continue
            orig_section, patched_section = self.orig.section_of(orig), self.patched.section_of(patched)
            if not same:
                if is_stateless(self.patched, patched):
                    continue
                if is_call_metadata(self.orig, orig) and is_call_metadata(self.patched, patched):
                    self.traced.append(patched.name)
                    continue
                if orig.size != patched.size:
                    fact = f"changed data {patched.name} ({orig.size} -> {patched.size} bytes)"
                elif is_init(self.patched, patched):
                    fact = f"changed initial value of {patched.name} in {patched_section.name}"
                else:
                    at = first_difference(self.orig.masked(orig), self.patched.masked(patched))
                    fact = f"changed initial value of {patched.name}" + (f" at byte {at}" if at >= 0 else "")
                    if pointers := changed_pointers(self.correlation, orig, patched):
                        self.refusals.append(refuse_pointers(self.place, patched, patched_section.name, fact, pointers))
                        continue
                self._refuse("K3-init" if is_init(self.patched, patched) else "K1-data", patched.name, fact, patched)
            elif (
                orig_section.writable != patched_section.writable
                or (orig_section.type == SHT.NOBITS) != (patched_section.type == SHT.NOBITS)
                or (
                    orig_section.name != patched_section.name
                    and (".data.." in orig_section.name or ".data.." in patched_section.name)
                )
            ):
                # .data..percpu, .data..ro_after_init and their like are other memory
                if is_stateless(self.patched, patched):
                    continue
                self._refuse(
                    "K1-data",
                    patched.name,
                    f"{patched.name} moves from {_group(orig_section.name)} to {_group(patched_section.name)}",
                    patched,
                )

    def _check_registered(self, orig: Atom, patched: Atom) -> None:
        try:
            same = self.comparer.same_content(orig, patched)
        except Ambiguous:
            same = False
        if not same:
            fact = f"{patched.name} in {self.patched.section_name(patched)} changes, which takes effect at boot only"
            self._refuse("K7-export", patched.name, fact, patched)

    def _check_unknown(self) -> None:
        """A table without names that nothing refers to: its entries belong to code in a way that is not known here.

        What lies in a section that is read through references alone is no table: the compiler has left it over, and
        nothing reads it (what the undefined behaviour sanitizer says of a check that turns out not to be needed)."""
        orig_tables, patched_tables = _tables(self.orig), _tables(self.patched)
        for name in sorted(orig_tables.keys() | patched_tables.keys()):
            reader = reader_of(name)
            if reader is not None and reader.when == REFERRED:
                continue
            hooks = name.startswith(HOOKS)
            orig, patched = orig_tables.get(name), patched_tables.get(name)
            try:
                same = orig is not None and patched is not None and self.comparer.same_content(orig, patched)
            except Ambiguous:
                same = False
            if not same and hooks:
                self.hooks.append(name)
            elif not same:
                fact = f"section {name} differs, and what its entries belong to is not known"
                self.refusals.append(Refusal("K2-special", f"{self.place}: {name}", fact, section=name))

    def _check_groups(self, new: list[Atom]) -> None:
        """A section group is kept or dropped as a whole by linkers. A function can be taken out of one only where the
        rest of the group is its own: its prefix, its cold half, what has no code or data."""
        groups = self.patched.obj.groups
        for atom in [*(c.patched for c in self.changed.values()), *new]:
            for group in groups.get(atom.section, ()):
                others = [
                    a
                    for section in group
                    for i in self.patched.in_section.get(section, ())
                    if section != atom.section and (a := self.patched.atoms[i]).names and not _of_family(a, atom)
                ]
                if others:
                    fact = f"{atom.name} is in a section group with {', '.join(sorted(a.name for a in others))}"
                    self._refuse("K20-group", atom.name, fact, atom)

    def _check_registration(self) -> None:
        # new parameters are the patch module's own
        own = sum(a.size for a in new_parameters(self.patched, self.correlation))
        for new in new_registrations(self.orig, self.patched, {PARAMETERS: own}):
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
        if len(atoms) > 1 or atoms[0].kind != ANON or is_init(view, atoms[0]) or COMPILERS_OWN in section.name:
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
