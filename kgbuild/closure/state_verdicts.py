# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a new variable of the patch takes the place of one of the running kernel's, over all units of the patch.

For each writable variable that only the patched objects have, and that code of the patch uses, one of these holds:

  same      a variable that the patch takes away, by evidence: equal type, size, kind of memory and initial bytes; and
            all references in code that is equal otherwise lead from the one to the other, or both have one name in the
            source and the same functions use them
  declared  the author says so (state_declared)
  filled    a callback of the patch fills it
  new       the patch removes no variable that it could replace
  refused   something did

What a new variable could replace: what references lead from, what has its name or its type, and what the same
functions used if it could hold the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, NamedTuple

from kgbuild.closure.model import UnitResult
from kgbuild.closure.shape_similarity import could_hold_the_same
from kgbuild.correlation.alignment import Aligned, CodeSide, align
from kgbuild.correlation.declared_variables import MACRO, find_named, parse_declared_name, why_not_same
from kgbuild.correlation.pair_evidence import (
    PairEvidence,
    difference,
    equal_strangers,
    is_state,
    meaning_of,
    referring,
    source_name,
)
from kgbuild.elf.consts import STB
from kgbuild.objects.atoms import DATA, FUNCTION, UNDEFINED, Ambiguous, Atom
from kgbuild.objects.stateless import is_plain_flag, is_stateless, may_be_once_flag
from kgbuild.objects.symbol_kinds import stem
from kgbuild.objects.variable_shapes import (
    still_declared,
    was_declared,
)
from kgbuild.objects.variable_types import variable_difference
from kgbuild.objects.view import View

SAME, DECLARED, FILLED, NEW, REFUSED = "same", "declared", "filled", "new", "refused"
FILLING = ("pre_patch", "post_patch")
_SHOWN = 3
# A variable: the number of its unit, and its atom in the original or the patched object.
UnitVariable = tuple[int, int]


class Verdict(NamedTuple):
    """What a new variable is. `orig` is the kernel's variable that it goes on, `why` the evidence or the fact."""

    kind: str
    why: str = ""
    orig: UnitVariable | None = None


class Judge:
    """Judges the new variables of a patch; `units` are all its units, compared."""

    def __init__(self, units: tuple[UnitResult, ...]) -> None:
        self.units = units
        self._known: dict[UnitVariable, Verdict] = {}

    def of(self, number: int, atom: Atom) -> Verdict:
        """The verdict on a variable that only the patched object of a unit has."""
        key = (number, atom.id)
        if key not in self._known:
            self._known[key] = self._judge(number, atom)
        return self._known[key]

    def _judge(self, number: int, patched: Atom) -> Verdict:
        view = self.units[number].changes.patched
        if not is_state(view, patched):
            return Verdict(NEW)
        declared = self._declared(number, patched)
        if declared is not None:
            return declared
        gone = [orig for orig in self.gone if self._together(orig[0], number)]
        if (
            patched.id in self.units[number].changes.correlation.needless[1]
            or is_plain_flag(view, patched)
            or (is_stateless(view, patched) if gone else may_be_once_flag(view, patched))
        ):
            return Verdict(NEW)
        if not gone:
            return Verdict(NEW, "nothing that was writable went away")
        if was_declared(self.units[number].changes.orig, view, patched):
            return Verdict(NEW, "the kernel's source has it, and its code does not")
        place = (number, patched.id)
        if place in self.matched:
            return self.matched[place]
        filled = self._filled(number, patched)
        if filled:
            return Verdict(FILLED, f"the callback {filled} fills it")
        taken = {v.orig for v in self.matched.values()}
        found = [(orig, why) for orig in gone if orig not in taken and (why := self._could_be(orig, place))]
        if not found:
            return Verdict(NEW, "the patch removes no variable that it could replace")
        named = "; or ".join(f"{self._name(orig, number)} ({why})" for orig, why in found[:_SHOWN])
        more = f"; or one of {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        return Verdict(
            REFUSED, f"the new variable {patched.name} may be what was {named}{more}, which the patch takes away"
        )

    def _name(self, orig: UnitVariable, number: int) -> str:
        unit = self.units[orig[0]]
        name = unit.changes.orig.atoms[orig[1]].name
        return name if unit.source == self.units[number].source else f"{name} of {unit.source}"

    def _together(self, number: int, other: int) -> bool:
        """Whether two units are of one object of the running kernel."""
        return self.units[number].target == self.units[other].target

    # -- what went away, and what is new ------------------------------------------------------------------------------

    @cached_property
    def gone(self) -> list[UnitVariable]:
        """The writable variables of the originals that are missing in the patched objects, if a fresh one does not
        suffice."""
        out = []
        for number, unit in enumerate(self.units):
            correlation = unit.changes.correlation
            if correlation.orig is correlation.patched:
                continue
            undecided = {
                i for originals, _ in correlation.undecided.values() for i in originals
            } | correlation.needless[0]
            for atom in correlation.orig.data:
                if atom.id in correlation.to_patched or atom.id in undecided or not is_state(correlation.orig, atom):
                    continue
                if not still_declared(correlation.orig, correlation.patched, atom) and not is_stateless(
                    correlation.orig, atom
                ):
                    out.append((number, atom.id))
        return out

    @cached_property
    def fresh(self) -> list[UnitVariable]:
        """The writable variables that only the patched objects have, and only the patched source."""
        return [
            (number, atom.id)
            for number, unit in enumerate(self.units)
            if unit.changes.orig is not unit.changes.patched
            for atom in unit.changes.patched.data
            if atom.id not in unit.changes.correlation.to_original and is_state(unit.changes.patched, atom)
            if atom.id not in unit.changes.correlation.needless[1]
            and not was_declared(unit.changes.orig, unit.changes.patched, atom)
        ]

    def _gone_atom(self, orig: UnitVariable) -> tuple[View, Atom]:
        view = self.units[orig[0]].changes.orig
        return view, view.atoms[orig[1]]

    def _fresh_atom(self, patched: UnitVariable) -> tuple[View, Atom]:
        view = self.units[patched[0]].changes.patched
        return view, view.atoms[patched[1]]

    # -- evidence ----------------------------------------------------------------------------------------------------

    @cached_property
    def votes(self) -> PairEvidence:
        out = PairEvidence()
        for number, unit in enumerate(self.units):
            changes = unit.changes
            sides = self._sides(number)
            asked = self._asked(number)
            meaning = meaning_of(changes.correlation, asked)
            for orig, patched in changes.differing:
                if _refers(changes.orig, sides[0], orig, asked) and _refers(changes.patched, sides[1], patched, asked):
                    self._count(out, number, number, orig, align(sides[0], orig, sides[1], patched, meaning))
            for view, side, places, total in (
                (changes.orig, sides[0], self.gone, out.orig_count),
                (changes.patched, sides[1], self.fresh, out.patched_count),
            ):
                ids = {i for n, i in places if n == number}
                for atom in referring(view, side, ids) if ids else ():
                    for i in _refs_of(view, side, atom):
                        if i in ids:
                            total[number, i] += 1
        for target in {u.target for u in self.units}:
            gone, new = self._strangers(target)
            for (orig_number, _, orig), (patched_number, _, patched) in equal_strangers(gone, new):
                meaning = meaning_of(self.units[orig_number].changes.correlation, self._asked(orig_number))
                sides = self._sides(orig_number)[0], self._sides(patched_number)[1]
                found = align(sides[0], orig, sides[1], patched, meaning)
                self._count(out, orig_number, patched_number, orig, found)
        return out

    def _strangers(self, target: str) -> tuple[list[tuple[int, View, Atom]], list[tuple[int, View, Atom]]]:
        numbers = [n for n, u in enumerate(self.units) if u.target == target]
        return (
            [(n, self.units[n].changes.orig, a) for n in numbers for a in self.units[n].changes.removed],
            [(n, self.units[n].changes.patched, a) for n in numbers for a in self.units[n].changes.new],
        )

    def _sides(self, number: int) -> tuple[CodeSide, CodeSide]:
        changes = self.units[number].changes
        return CodeSide(changes.orig, changes.original_entries), CodeSide(changes.patched, changes.patched_entries)

    def _asked(self, number: int) -> _Asked:
        return _Asked(self, number)

    def _count(self, out: PairEvidence, orig_number: int, patched_number: int, where: Atom, found: Aligned) -> None:
        gone, fresh = set(self.gone), set(self.fresh)
        for orig_ref, patched_ref in found.refs:
            orig = self._place(orig_number, self.units[orig_number].changes.orig, orig_ref.atom, self._gone_globals)
            patched = self._place(
                patched_number, self.units[patched_number].changes.patched, patched_ref.atom, self._new_globals
            )
            if orig in gone or patched in fresh:
                out.add(orig, patched, found.whole, where.name.partition(".cold")[0])

    def _place(self, number: int, view: View, i: int, known: dict[tuple[str, str], UnitVariable]) -> object:
        atom = view.atoms[i]
        if atom.kind == UNDEFINED:
            return known.get((self.units[number].target, atom.name), atom.name)
        return number, i

    @cached_property
    def _gone_globals(self) -> dict[tuple[str, str], UnitVariable]:
        return self._globals(self.gone, self._gone_atom)

    @cached_property
    def _new_globals(self) -> dict[tuple[str, str], UnitVariable]:
        return self._globals(self.fresh, self._fresh_atom)

    def _globals(
        self, places: list[UnitVariable], atom_of: Callable[[UnitVariable], tuple[View, Atom]]
    ) -> dict[Any, UnitVariable]:
        return {
            (self.units[place[0]].target, name): place
            for place in places
            if (atom := atom_of(place)[1]).bind != STB.LOCAL
            for name in atom.names
        }

    # -- the same by evidence, or by name -----------------------------------------------------------------------------

    @cached_property
    def matched(self) -> dict[UnitVariable, Verdict]:
        """New variables that are shown to be ones that went away."""
        out: dict[UnitVariable, Verdict] = {}
        if not self.gone or not self.fresh:
            return out
        for patched in self.fresh:
            for orig in self.votes.by_patched.get(patched, ()):
                if orig in self.gone and self.votes.proves(orig, patched) and self._why_not(orig, patched) == "":
                    out[patched] = Verdict(SAME, self.votes.words(orig, patched), orig)
        taken = {v.orig for v in out.values()}
        for patched in self.fresh:
            alike = [orig for orig in self.gone if orig not in taken and self._same_name(orig, patched)]
            if patched in out or len(alike) != 1:
                continue
            (orig,) = alike
            if sum(self._same_name(orig, other) for other in self.fresh if other not in out) != 1:
                continue
            against = (self.votes.by_orig.get(orig, set()) - {patched}) | (
                self.votes.by_patched.get(patched, set()) - {orig}
            )
            shared = self._shared_user(orig, patched)
            if shared and not against and self._why_not(orig, patched) == "":
                out[patched] = Verdict(SAME, f"of the same name, used by {shared} before and after", orig)
        return out

    def _same_name(self, orig: UnitVariable, patched: UnitVariable) -> bool:
        return self._together(orig[0], patched[0]) and source_name(self._gone_atom(orig)[1]) == source_name(
            self._fresh_atom(patched)[1]
        )

    def _why_not(self, orig: UnitVariable, patched: UnitVariable) -> str:
        """What is against two variables being the same kind of thing with the same initial value."""
        (orig_view, orig_atom), (patched_view, patched_atom) = self._gone_atom(orig), self._fresh_atom(patched)
        if orig[0] == patched[0] and (
            found := self.units[orig[0]].changes.correlation.against.get((orig_atom.id, patched_atom.id))
        ):
            return found
        why = difference(orig_view, orig_atom, patched_view, patched_atom)
        return why or ("" if self._same_content(orig, patched) else "other initial values")

    def _same_content(self, orig: UnitVariable, patched: UnitVariable) -> bool:
        (orig_view, orig_atom), (patched_view, patched_atom) = self._gone_atom(orig), self._fresh_atom(patched)
        try:
            orig_refs, patched_refs = orig_view.refs(orig_atom), patched_view.refs(patched_atom)
            if orig_view.masked(orig_atom) != patched_view.masked(patched_atom) or len(orig_refs) != len(patched_refs):
                return False
        except Ambiguous:
            return False
        correlation = self.units[orig[0]].changes.correlation
        for orig_ref, patched_ref in zip(orig_refs, patched_refs, strict=True):
            if (orig_ref.offset, orig_ref.type, orig_ref.delta) != (
                patched_ref.offset,
                patched_ref.type,
                patched_ref.delta,
            ):
                return False
            orig_target, patched_target = orig_view.atoms[orig_ref.atom], patched_view.atoms[patched_ref.atom]
            own = orig_target.id == orig_atom.id and patched_target.id == patched_atom.id
            paired = orig[0] == patched[0] and correlation.paired(orig_target.id, patched_target.id)
            named = (
                orig_target.kind == patched_target.kind
                and orig_target.name == patched_target.name != ""
                and (orig_target.bind, patched_target.bind) != (STB.LOCAL, STB.LOCAL)
            )
            if not (own or paired or named):
                return False
        return True

    # -- what a new variable could replace ----------------------------------------------------------------------------

    def _could_be(self, orig: UnitVariable, patched: UnitVariable) -> str:
        """Why a new variable may be one that went away; "" where it can't be."""
        (orig_view, orig_atom), (patched_view, patched_atom) = self._gone_atom(orig), self._fresh_atom(patched)
        why = self._why_not(orig, patched)
        but = f"; {why}" if why else ""
        if self.votes.strong[orig, patched] + self.votes.weak[orig, patched]:
            others = (self.votes.by_orig[orig] - {patched}) | (self.votes.by_patched[patched] - {orig})
            not_all = "; others lead elsewhere" if others else ""
            return f"{self.votes.words(orig, patched)}, from it to this one{not_all}{but}"
        if self._same_name(orig, patched):
            return f"of the same name in the source{but}"
        found = variable_difference(orig_view, orig_atom, patched_view, patched_atom)
        if found is None:
            return f"of the same type{but}"
        shared = self._shared_user(orig, patched)
        if found.startswith("unknown") and (shared or orig_atom.size == patched_atom.size):
            return found
        if shared and could_hold_the_same(orig_view, orig_atom, patched_view, patched_atom):
            return f"used by {shared}, where the new one is used{but}"
        return ""

    def _shared_user(self, orig: UnitVariable, patched: UnitVariable) -> str:
        """A function that used the one and uses the other, itself or through functions that the patch makes or takes
        away; "" where there is none."""
        (_, orig_atom), (_, patched_atom) = self._gone_atom(orig), self._fresh_atom(patched)
        if STB.LOCAL not in (orig_atom.bind, patched_atom.bind) and not set(orig_atom.names).isdisjoint(
            patched_atom.names
        ):
            return "all units"
        both = self._users(orig, True) & self._users(patched, False)
        return sorted(both)[0] if both else ""

    def _users(self, place: UnitVariable, before: bool) -> set[str]:
        """Names of the functions that use a variable; of those that only one side has, their callers too."""
        number, atom = place
        changes = self.units[number].changes
        view = changes.orig if before else changes.patched
        side = self._sides(number)[0 if before else 1]
        paired = changes.correlation.to_patched if before else changes.correlation.to_original
        out: set[str] = set()
        todo, seen = [atom], {atom}
        while todo:
            target = todo.pop()
            for user in referring(view, side, [target]):
                if user.kind != FUNCTION or target not in _refs_of(view, side, user):
                    continue
                out.add(stem(user.name.partition(".cold")[0]))
                if user.id not in paired and user.id not in seen:
                    seen.add(user.id)
                    todo.append(user.id)
        return out

    # -- what the author says -----------------------------------------------------------------------------------------

    def _declared(self, number: int, patched: Atom) -> Verdict | None:
        unit = self.units[number]
        texts = [d.text for d in unit.author.same if d.atom == patched.id]
        if not texts:
            return None
        text = texts[0]
        name = parse_declared_name(text)
        assert name is not None
        found = [
            (n, a)
            for n, u in enumerate(self.units)
            if u.target == unit.target and (not name.path or u.source == name.path)
            for a in find_named(u.changes.orig, name)
        ]
        own = [(n, a) for n, a in found if n == number]
        found = own or found
        said = f'{MACRO}({source_name(patched)}, "{text}")'
        if len(found) != 1:
            what = f"names {len(found)} variables" if found else "names no variable of the patch's units"
            return Verdict(REFUSED, f"{said} {what}")
        n, orig = found[0]
        owner = self.units[n].changes
        if orig.id in owner.correlation.to_patched:
            return Verdict(REFUSED, f"{said}: {orig.name} is still there")
        why = why_not_same(owner.orig, orig, unit.changes.patched, patched)
        if why:
            return Verdict(REFUSED, f"{said}: {why}")
        return Verdict(DECLARED, MACRO, (n, orig.id))

    def wrong_declarations(self) -> Iterator[tuple[int, str, str]]:
        """What is declared and can't be: the unit's number, the variable, the fact."""
        for number, unit in enumerate(self.units):
            correlation = unit.changes.correlation
            for atom, text in unit.author.same:
                patched, name = correlation.patched.atoms[atom], parse_declared_name(text)
                there = [correlation.orig.atoms[i] for i in correlation.to_original.get(atom, ())]
                if there and name is not None and there[0] not in find_named(correlation.orig, name):
                    said = f'{MACRO}({source_name(patched)}, "{text}")'
                    yield number, patched.name, f"{said}: it is the kernel's {there[0].name} already"
                elif not there and (found := self.of(number, patched)).kind == REFUSED:
                    yield number, patched.name, found.why

    def _filled(self, number: int, patched: Atom) -> str:
        """The callback that refers to a variable, itself or through new functions; "" for none."""
        unit = self.units[number]
        view, paired = unit.changes.patched, unit.changes.correlation.to_original
        for kind, function in unit.author.callbacks:
            todo, seen = [function], {function.id}
            while todo and kind in FILLING:
                at = todo.pop()
                for i in _refs_of(view, self._sides(number)[1], at):
                    if i == patched.id:
                        return function.name
                    atom = view.atoms[i]
                    if atom.kind == FUNCTION and i not in paired and i not in seen:
                        seen.add(i)
                        todo.append(atom)
        return ""


class _Asked:
    """Whether a reference of a unit may lead to a variable that went away or is new."""

    def __init__(self, judge: Judge, number: int) -> None:
        self.orig = judge.units[number].changes.orig
        self.names = {name for _, name in (*judge._gone_globals, *judge._new_globals)}
        self.gone = {i for n, i in judge.gone if n == number}
        self.fresh = {i for n, i in judge.fresh if n == number}

    def __call__(self, view: View, atom: Atom) -> bool:
        if atom.kind == UNDEFINED:
            return atom.name in self.names
        return atom.kind == DATA and atom.id in (self.gone if view is self.orig else self.fresh)


def _refers(view: View, side: CodeSide, atom: Atom, asked: _Asked) -> bool:
    """Whether an atom refers to a variable in question."""
    return any(asked(view, view.atoms[i]) for i in _refs_of(view, side, atom))


def _refs_of(view: View, side: CodeSide, atom: Atom) -> Iterator[int]:
    """What an atom and its entries in special sections refer to."""
    try:
        yield from [r.atom for r in view.refs(atom)]
        yield from [r.atom for e in side.entries.of(atom.id) for r in e.refs]
    except Ambiguous:
        return


__all__ = ["DECLARED", "FILLED", "NEW", "REFUSED", "SAME", "Judge", "Verdict"]
