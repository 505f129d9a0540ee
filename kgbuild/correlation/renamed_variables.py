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

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from kgbuild.correlation.alignment import Aligned, CodeSide, MeaningOf, align
from kgbuild.correlation.correlate import Correlation, drop_settled
from kgbuild.correlation.pair_evidence import (
    PairEvidence,
    difference,
    equal_strangers,
    is_state,
    meaning_of,
    referring,
)
from kgbuild.objects.atoms import DATA, FUNCTION, Ambiguous, Atom, Ref
from kgbuild.objects.variable_shapes import still_declared, was_declared
from kgbuild.objects.view import View

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

    def _follow_tables(self, out: PairEvidence, meaning: MeaningOf) -> None:
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
