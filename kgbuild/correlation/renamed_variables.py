# SPDX-License-Identifier: GPL-2.0-or-later
"""Variables of the running kernel that go on under another name, within one unit.

A patch may rename a variable, move it between file and function, or give it a name that another had. The running
kernel has one variable, with all that happened since boot, and patched code must use that one. Names can't say it; the
code does: where functions are equal but for what they refer to, each reference of the original corresponds to one of
the patched object. A pair is made only where all of them agree, in both directions, and where type, size, kind of
memory and initial bytes are equal.

Where both objects have a variable of that name, its name says that it is the same. Against that only a proof counts:
that every reference to it leads to the other variable, so that the patched source is the original with other names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from kgbuild.correlation.alignment import Aligned, CodeSide, Meaning, align
from kgbuild.correlation.correlate import Correlation, drop_settled
from kgbuild.correlation.registration_tables import is_registration
from kgbuild.elf.consts import SHT
from kgbuild.objects.atoms import DATA, FUNCTION, STRING, Ambiguous, Atom, Ref
from kgbuild.objects.stateless import DEBUG_SECTIONS
from kgbuild.objects.symbol_kinds import INIT_SECTIONS, stem, variable
from kgbuild.objects.variable_shapes import still_declared, was_declared
from kgbuild.objects.variable_types import variable_difference
from kgbuild.objects.view import View

RECORDS = ".kgbuild."
_NOT_STATE = (*INIT_SECTIONS, *DEBUG_SECTIONS, RECORDS, "__bug", ".discard", ".modinfo", ".note", "__ksymtab")
_LONG = 48  # bytes of code that are not equal by chance
STATIC_CALL, TRAMPOLINE = "__SCK__", "__SCT__"


class Renamed(NamedTuple):
    """A variable that goes on under another name: atoms of the original and the patched object, and how that is
    known."""

    orig: int
    patched: int
    how: str


class InDoubt(NamedTuple):
    """Variables whose names say one thing and whose references another."""

    orig: int
    patched: int
    fact: str


def is_state(view: View, atom: Atom) -> bool:
    """Whether an atom is a variable that code may write while the kernel runs."""
    if atom.kind != DATA or atom.section < 0 or view.is_const(atom) or not atom.size:
        return False
    name = view.section_name(atom)
    return not name.startswith(_NOT_STATE) and not is_registration(name)


def memory_of(view: View, atom: Atom) -> tuple[bool, str]:
    """The kind of memory that a variable is in: whether it begins with zeros that no file holds, and the name of the
    kind where it is a special one (.data..percpu, .data..ro_after_init)."""
    section = view.section_of(atom)
    name = section.name
    special = "" if name.startswith((".data.", ".bss.")) and not name.startswith((".data..", ".bss..")) else name
    if special in (".data", ".bss"):
        special = ""
    if special.startswith((".data..", ".bss..")):
        # -fdata-sections puts the variable's name behind the kind of some of them
        special = ".".join(special.split(".")[:4])
    return section.type == SHT.NOBITS, special


def kind_of_memory(view: View, atom: Atom) -> str:
    """The kind of memory that a variable is in, in words."""
    bss, special = memory_of(view, atom)
    return special or (".bss" if bss else ".data")


def source_name(atom: Atom) -> str:
    """What a variable is called in the source."""
    return variable(atom.name) or stem(atom.name)


def difference(orig_view: View, orig: Atom, patched_view: View, patched: Atom) -> str:
    """Why two variables are not the same kind of thing, "" where they are: type, size, kind of memory. Initial values
    are another question."""
    if orig.size != patched.size:
        return f"{orig.size} and {patched.size} bytes"
    orig_memory, patched_memory = kind_of_memory(orig_view, orig), kind_of_memory(patched_view, patched)
    if orig_memory != patched_memory:
        return f"in {orig_memory} and in {patched_memory}"
    found = variable_difference(orig_view, orig, patched_view, patched)
    return f"types: {found}" if found is not None else ""


def meaning_of(correlation: Correlation, asked: Callable[[View, Atom], bool]) -> Callable[[View, Ref], str]:
    """What references mean, the same for both sides; "" for variables that are asked for."""

    def meaning(view: View, ref: Ref) -> str:
        atom = view.atoms[ref.atom]
        if atom.kind == STRING:
            return f"text {view.content(atom)[max(ref.delta, 0) :]!r}"
        if asked(view, atom):
            return ""
        if atom.section >= 0 and view is correlation.patched:
            originals = correlation.to_original.get(atom.id, ())
            if originals:
                return f"{atom.kind} {originals[0]}"
        elif atom.section >= 0 and atom.id in correlation.to_patched:
            return f"{atom.kind} {atom.id}"
        return f"{atom.kind} {stem(atom.name)}"

    return meaning


class PairEvidence:
    """What references say of pairs of variables: votes in functions that are equal otherwise (`strong`) and in equal
    stretches of other functions (`weak`), and how many references there are to each variable at all."""

    def __init__(self) -> None:
        self.strong: Counter[tuple[object, object]] = Counter()
        self.weak: Counter[tuple[object, object]] = Counter()
        self.functions: dict[tuple[object, object], set[str]] = {}
        self.orig_count: Counter[object] = Counter()
        self.patched_count: Counter[object] = Counter()
        self.by_orig: dict[object, set[object]] = {}
        self.by_patched: dict[object, set[object]] = {}
        self.strong_by_orig: dict[object, set[object]] = {}
        self.strong_by_patched: dict[object, set[object]] = {}
        self.mapped_orig: Counter[object] = Counter()
        self.mapped_patched: Counter[object] = Counter()

    def add(self, orig: object, patched: object, whole: bool, where: str) -> None:
        (self.strong if whole else self.weak)[orig, patched] += 1
        if whole:
            self.strong_by_orig.setdefault(orig, set()).add(patched)
            self.strong_by_patched.setdefault(patched, set()).add(orig)
        self.by_orig.setdefault(orig, set()).add(patched)
        self.by_patched.setdefault(patched, set()).add(orig)
        self.mapped_orig[orig] += 1
        self.mapped_patched[patched] += 1
        self.functions.setdefault((orig, patched), set()).add(where)

    def agree(self, orig: object, patched: object) -> bool:
        """Whether all that is known leads from one to the other and back."""
        return self.by_orig.get(orig) == {patched} and self.by_patched.get(patched) == {orig}

    def covers_orig(self, orig: object) -> bool:
        """Whether it is known of every reference to a variable of the original where it leads."""
        return bool(self.orig_count[orig]) and self.mapped_orig[orig] >= self.orig_count[orig]

    def covers_patched(self, patched: object) -> bool:
        """Whether it is known of every reference to a variable of the patched object where it comes from."""
        return bool(self.patched_count[patched]) and self.mapped_patched[patched] >= self.patched_count[patched]

    def proves(self, orig: object, patched: object) -> bool:
        """Whether the one goes on as the other: all agree, and a function that is equal otherwise is among
        the witnesses, or every reference of both is."""
        return self.agree(orig, patched) and (
            bool(self.strong[orig, patched]) or (self.covers_orig(orig) and self.covers_patched(patched))
        )

    def words(self, orig: object, patched: object) -> str:
        """The evidence in words."""
        count = self.strong[orig, patched] + self.weak[orig, patched]
        where = sorted(self.functions.get((orig, patched), ()))
        named = ", ".join(where[:3]) + (f" and {len(where) - 3} more" if len(where) > 3 else "")
        return f"{count} reference{'s' * (count != 1)} in equal code of {named}"


class _Search:
    def __init__(
        self,
        correlation: Correlation,
        orig_side: CodeSide,
        patched_side: CodeSide,
        differing: Iterable[tuple[Atom, Atom]],
    ) -> None:
        self.correlation, self.orig_side, self.patched_side = correlation, orig_side, patched_side
        self.orig, self.patched = correlation.orig, correlation.patched
        self.differing = list(differing)
        self.orig_asked: set[int] = set()
        self.patched_asked: set[int] = set()

    def _asked(self, view: View, atom: Atom) -> bool:
        return atom.id in (self.orig_asked if view is self.orig else self.patched_asked)

    def find(self) -> PairEvidence | None:
        """The votes on all variables that are in question; None where there are none."""
        gone = {v.id for v in self.orig.data if v.id not in self.correlation.to_patched and is_state(self.orig, v)}
        new = {
            v.id for v in self.patched.data if v.id not in self.correlation.to_original and is_state(self.patched, v)
        }
        gone, new = gone - self.correlation.needless[0], new - self.correlation.needless[1]
        if gone and new:
            # what the source has on both sides keeps its name, though the compiler left it out of one object
            gone = {i for i in gone if not still_declared(self.orig, self.patched, self.orig.atoms[i])}
            new = {i for i in new if not was_declared(self.orig, self.patched, self.patched.atoms[i])}
        self.orig_asked, self.patched_asked = set(gone), set(new)
        seeds = False
        tables = [
            (orig, self.patched.atoms[patched])
            for orig in (referring(self.orig, self.orig_side, gone) if gone and new else ())
            if orig.kind == DATA
            for patched in self.correlation.to_patched.get(orig.id, ())
        ]
        self.differing += tables
        meaning = meaning_of(self.correlation, self._asked)
        for orig, patched in self.differing:
            whole = not (refers_to(self.orig, orig, gone) and refers_to(self.patched, patched, new))
            for orig_ref, patched_ref in align(self.orig_side, orig, self.patched_side, patched, meaning, whole).refs:
                orig_target, patched_target = self.orig.atoms[orig_ref.atom], self.patched.atoms[patched_ref.atom]
                if (
                    orig_target.kind != DATA
                    or patched_target.kind != DATA
                    or self.correlation.paired(orig_target.id, patched_target.id)
                ):
                    continue
                if orig_target.id not in self.correlation.to_patched and orig_target.id not in gone:
                    continue
                if patched_target.id not in self.correlation.to_original and patched_target.id not in new:
                    continue
                if is_state(self.orig, orig_target) and is_state(self.patched, patched_target):
                    seeds = True
                    self.orig_asked.add(orig_target.id)
                    self.patched_asked.add(patched_target.id)
        if not seeds:
            return None
        return self._vote()

    def _vote(self) -> PairEvidence:
        out = PairEvidence()
        meaning = meaning_of(self.correlation, self._asked)
        differing = {(orig.id, patched.id) for orig, patched in self.differing}
        for view, side, asked, total in (
            (self.orig, self.orig_side, self.orig_asked, out.orig_count),
            (self.patched, self.patched_side, self.patched_asked, out.patched_count),
        ):
            for atom in referring(view, side, asked):
                for ref in _all_refs(view, side, atom):
                    if ref.atom in asked:
                        total[ref.atom] += 1
        users = {user.id for user in referring(self.orig, self.orig_side, self.orig_asked)}
        for kind in (FUNCTION, DATA):
            for orig, patched in self.correlation.pairs(kind):
                if orig.id not in users and (orig.id, patched.id) not in differing:
                    continue
                if orig.id in self.orig_asked:
                    continue  # what it holds follows from what it is (_follow_tables)
                whole = not (
                    refers_to(self.orig, orig, self.orig_asked) and refers_to(self.patched, patched, self.patched_asked)
                )
                found = align(self.orig_side, orig, self.patched_side, patched, meaning, whole)
                self._count(out, found, orig)
        gone = [(0, self.orig, f) for f in self.orig.functions if f.id not in self.correlation.to_patched]
        new = [(0, self.patched, f) for f in self.patched.functions if f.id not in self.correlation.to_original]
        for (_, _, orig), (_, _, patched) in equal_strangers(gone, new):
            self._count(out, align(self.orig_side, orig, self.patched_side, patched, meaning), orig)
        self._follow_tables(out, meaning)
        return out

    def _follow_tables(self, out: PairEvidence, meaning: Meaning) -> None:
        """What corresponds in variables that are shown to correspond, as in a table of pointers."""
        done: set[int] = set()
        while True:
            found = [
                (orig, patched)
                for orig in sorted(self.orig_asked - done)
                for patched in out.by_orig.get(orig, ())
                if isinstance(patched, int) and patched in self.patched_asked and out.proves(orig, patched)
            ]
            if not found:
                return
            for orig, patched in found:
                done.add(orig)
                orig_atom, patched_atom = self.orig.atoms[orig], self.patched.atoms[patched]
                self._count(
                    out, align(self.orig_side, orig_atom, self.patched_side, patched_atom, meaning, True), orig_atom
                )

    def _count(self, out: PairEvidence, found: Aligned, orig: Atom) -> None:
        for orig_ref, patched_ref in found.refs:
            if orig_ref.atom in self.orig_asked or patched_ref.atom in self.patched_asked:
                out.add(orig_ref.atom, patched_ref.atom, found.whole, orig.name.partition(".cold")[0])


def referring(view: View, side: CodeSide, asked: Iterable[int]) -> list[Atom]:
    """Functions and data that refer to one of some atoms, by themselves or by an entry of a special section; records
    of the macros for authors are none."""
    wanted = {view.atoms[i].section for i in asked}
    sections = view.sections_referring_to(wanted) | wanted
    tables = {s for s in sections if view.arch.special_of(view.obj.sections[s].name)}
    if tables:
        sections = sections | side.entries.owner_sections(tables)
    return [
        view.atoms[i]
        for s in sorted(sections)
        for i in view.in_section.get(s, ())
        if view.atoms[i].kind in (FUNCTION, DATA) and not view.section_name(view.atoms[i]).startswith(RECORDS)
    ]


def refers_to(view: View, atom: Atom, wanted: set[int]) -> bool:
    """Whether an atom itself refers to one of some atoms."""
    try:
        return bool(wanted) and any(r.atom in wanted for r in view.refs(atom))
    except Ambiguous:
        return False


def _all_refs(view: View, side: CodeSide, atom: Atom) -> list[Ref]:
    try:
        return [*view.refs(atom), *(r for e in side.entries.of(atom.id) for r in e.refs)]
    except Ambiguous:
        return []


def equal_strangers(
    gone: list[tuple[int, View, Atom]], new: list[tuple[int, View, Atom]]
) -> list[tuple[tuple[int, View, Atom], tuple[int, View, Atom]]]:
    """Functions that were renamed or moved to another unit: of equal code, the only ones of it, and of one name or of
    some length."""
    by_code = _by_code(gone), _by_code(new)
    both = by_code[0].keys() & by_code[1].keys()
    alike = ((by_code[0][key], by_code[1][key]) for key in both)
    pairs = [(orig[0], patched[0]) for orig, patched in alike if len(orig) == 1 == len(patched)]
    return [
        (orig, patched)
        for orig, patched in pairs
        if stem(orig[2].name) == stem(patched[2].name) or orig[2].size >= _LONG
    ]


def _by_code(items: list[tuple[int, View, Atom]]) -> dict[object, list[tuple[int, View, Atom]]]:
    out: dict[object, list[tuple[int, View, Atom]]] = {}
    for item in items:
        _, view, atom = item
        try:
            key = (view.masked(atom), tuple((r.offset, r.delta) for r in view.refs(atom)))
        except Ambiguous:
            continue
        out.setdefault(key, []).append(item)
    return out


def find_renamed(
    correlation: Correlation,
    orig_side: CodeSide,
    patched_side: CodeSide,
    differing: Iterable[tuple[Atom, Atom]],
    same_content: Callable[[Atom, Atom], bool],
) -> tuple[list[Renamed], list[InDoubt]]:
    """Pair in `c` the variables that go on under another name, and say which; and those of which names and references
    say different things. `differing` are the pairs of functions and data that are not the same as `c` is,
    `same_content` says whether two variables begin with the same bytes and references."""
    search = _Search(correlation, orig_side, patched_side, differing)
    votes = search.find()
    if votes is None:
        return [], []
    wanted: list[tuple[int, int]] = []
    contested: list[tuple[int, int]] = []
    for orig in sorted(search.orig_asked):
        found = votes.by_orig.get(orig, set())
        if len(found) != 1:
            continue
        (patched,) = found
        assert isinstance(patched, int)
        if (
            correlation.paired(orig, patched)
            or correlation.patched.atoms[patched].kind != DATA
            or not votes.proves(orig, patched)
        ):
            continue
        if orig in correlation.to_patched or patched in correlation.to_original:
            contested.append((orig, patched))
        else:
            wanted.append((orig, patched))
    proven = _against_names(correlation, votes, contested)
    doubts = [
        InDoubt(orig, patched, fact)
        for orig, patched, fact in _exchanged(correlation, votes)
        if (orig, patched) not in proven
    ]
    return _pair(correlation, [*wanted, *proven], votes, same_content), doubts


def _exchanged(correlation: Correlation, votes: PairEvidence) -> Iterator[tuple[int, int, str]]:
    """Variables that are there before and after by their names, and have changed places by all functions that are
    equal otherwise: the name of each is another's there."""
    for orig, found in sorted(votes.strong_by_orig.items(), key=str):
        if len(found) != 1 or not isinstance(orig, int):
            continue
        (patched,) = found
        partners = correlation.to_patched.get(orig, ())
        if (
            not isinstance(patched, int)
            or not partners
            or patched in partners
            or votes.strong_by_patched.get(patched) != {orig}
        ):
            continue
        if patched not in correlation.to_original or correlation.affirmed.intersection((patched, *partners)):
            continue
        # all of it has become the other; or what has its name now is a third there
        whole = votes.agree(orig, patched) and votes.covers_orig(orig)
        if whole or all(
            votes.strong_by_patched.get(partner, {orig}) != {orig} and len(votes.strong_by_patched[partner]) == 1
            for partner in partners
        ):
            orig_name, patched_name = correlation.orig.atoms[orig].name, correlation.patched.atoms[patched].name
            leads = f"{votes.words(orig, patched)} lead from {orig_name} to {patched_name}"
            yield orig, patched, f"{leads}, and both names are there before and after"


def _against_names(
    correlation: Correlation, votes: PairEvidence, contested: list[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Which of some pairs are proven though a name is against them. Every variable whose name is there on both sides
    must be local, and all references to it must be known; so must be what becomes of the one whose name is taken."""
    kept = dict(contested)
    while True:
        bad = []
        for orig, patched in kept.items():
            involved = {orig, *correlation.to_original.get(patched, ())}
            for i in involved:
                atom = correlation.orig.atoms[i]
                stays = i != orig and i not in kept and patched in votes.by_orig.get(i, ())
                if not atom.is_local or not votes.covers_orig(i) or stays:
                    bad.append(orig)
            if not correlation.patched.atoms[patched].is_local:
                bad.append(orig)
        if not bad:
            break
        for orig in bad:
            kept.pop(orig, None)
    return sorted(kept.items())


def _pair(
    correlation: Correlation,
    wanted: list[tuple[int, int]],
    votes: PairEvidence,
    same_content: Callable[[Atom, Atom], bool],
) -> list[Renamed]:
    before = {orig: correlation.to_patched.get(orig, ()) for orig, _ in wanted} | {
        other_orig: correlation.to_patched.get(other_orig, ())
        for _, patched in wanted
        for other_orig in correlation.to_original.get(patched, ())
    }
    for other_orig, partners in before.items():
        for partner in partners:
            correlation.part(other_orig, partner)
    # together, for they may refer to each other
    for orig, patched in wanted:
        correlation.pair(orig, patched)
    bad = set()
    for orig, patched in wanted:
        orig_atom, patched_atom = correlation.orig.atoms[orig], correlation.patched.atoms[patched]
        why = difference(correlation.orig, orig_atom, correlation.patched, patched_atom)
        if not why and not same_content(orig_atom, patched_atom):
            why = "other initial values"
        if why:
            bad.add((orig, patched))
            correlation.against[orig, patched] = why
    if bad:
        for orig, patched in wanted:
            correlation.part(orig, patched)
        for other_orig, partners in before.items():
            for partner in partners:
                correlation.pair(other_orig, partner)
        return (
            _pair(correlation, [pair for pair in wanted if pair not in bad], votes, same_content)
            if len(bad) < len(wanted)
            else []
        )
    drop_settled(correlation)
    out = [Renamed(orig, patched, votes.words(orig, patched)) for orig, patched in wanted]
    _pair_trampolines(correlation, out)
    return out


def _pair_trampolines(correlation: Correlation, found: list[Renamed]) -> None:
    """The trampoline of a static call goes with its key."""
    for orig, patched, _ in found:
        orig_name, patched_name = correlation.orig.atoms[orig].name, correlation.patched.atoms[patched].name
        if not orig_name.startswith(STATIC_CALL) or not patched_name.startswith(STATIC_CALL):
            continue
        orig_found = correlation.orig.by_name.get(TRAMPOLINE + orig_name.removeprefix(STATIC_CALL), [])
        patched_found = correlation.patched.by_name.get(TRAMPOLINE + patched_name.removeprefix(STATIC_CALL), [])
        if (
            len(orig_found) == 1 == len(patched_found)
            and orig_found[0].id not in correlation.to_patched
            and patched_found[0].id not in correlation.to_original
        ):
            correlation.pair(orig_found[0].id, patched_found[0].id)


__all__ = [
    "InDoubt",
    "PairEvidence",
    "Renamed",
    "difference",
    "equal_strangers",
    "find_renamed",
    "is_state",
    "kind_of_memory",
    "referring",
    "source_name",
]
