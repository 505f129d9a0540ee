# SPDX-License-Identifier: GPL-2.0-or-later
"""What the rules of the accounting need to know about one unit: what is at a place, whether it is in the module, and
how the differ judged it."""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from typing import TYPE_CHECKING

from kgbuild.correlation import noise
from kgbuild.diagnostics.refusals import Refusal
from kgbuild.diff.changes import COMPILERS_OWN, Changes
from kgbuild.diff.compare import Comparer
from kgbuild.ledger.difference import Difference
from kgbuild.ledger.pieces import SectionOffset
from kgbuild.objects.atoms import ANON, FUNCTION, STRING, Ambiguous, Atom
from kgbuild.objects.stateless import DEBUG_SECTIONS, is_stateless
from kgbuild.objects.symbol_kinds import cold_parents, is_cold, is_prefix
from kgbuild.objects.view import View

if TYPE_CHECKING:
    from kgbuild.closure.model import Closure


REPLACED, CARRIED, BOUND, NOISE, REFUSED, NO_EFFECT, UNACCOUNTED = (
    "replaced",
    "carried",
    "bound",
    "noise",
    "refused",
    "no effect",
    "unaccounted",
)
ORDER = (REPLACED, CARRIED, BOUND, NOISE, NO_EFFECT, REFUSED, UNACCOUNTED)
# Refusals that apply to the whole section they name.
_OF_SECTIONS = ("K2-special", "K7-export")


class UnitFacts:
    """Facts about one unit and its part of the module."""

    def __init__(
        self,
        changes: Changes,
        closure: Closure | None,
        number: int,
        ignored: tuple[Refusal, ...],
        left_out: tuple[str, ...],
    ) -> None:
        self.changes, self.closure, self.number = changes, closure, number
        self.orig, self.patched, self.correlation = changes.orig, changes.patched, changes.correlation
        self.left_out = frozenset(left_out)
        here = (
            [refusal for refusal in closure.refusals if refusal.place.startswith(f"{changes.place}:")]
            if closure is not None
            else []
        )
        self.refused: dict[str, str] = {}
        self.refused_sections: dict[str, str] = {}
        self.against = [refusal for refusal in [*changes.refusals, *here] if refusal.code != "K26-unaccounted"]
        for refusal in self.against:
            if refusal.symbol:
                self.refused.setdefault(refusal.symbol, refusal.code)
            if refusal.section and (
                not refusal.symbol or refusal.symbol == refusal.section or refusal.code in _OF_SECTIONS
            ):
                self.refused_sections.setdefault(refusal.section, refusal.code)
        self.ignored = {refusal.symbol for refusal in ignored if refusal.symbol} | {
            refusal.section for refusal in ignored if not refusal.symbol
        }
        self.rules: dict[str, set[str]] = {}
        for noise_use in changes.noise:
            self.rules.setdefault(noise_use.function, set()).add(noise_use.rule)
        self.changed = {c.patched.id for c in changes.changed}
        self.was_changed = {c.orig.id for c in changes.changed}
        self.new = {a.id for a in changes.new}
        self.removed = {a.id for a in changes.removed}
        self.came_in: set[str] = set()
        self.touched: set[str] = set()
        self._comparer: Comparer | None = None

    @staticmethod
    def atom(view: View, place: SectionOffset | None) -> Atom | None:
        """The atom at a place; None in a section of literals."""
        if place is None:
            return None
        ids = view.in_section.get(place[0])
        if not ids:
            return None
        at = bisect.bisect_right(ids, place[1], key=lambda i: view.atoms[i].offset) - 1
        return view.atoms[ids[max(at, 0)]]

    def atoms(self, difference: Difference) -> tuple[Atom | None, Atom | None]:
        """The atoms of a difference in the original and in the patched object: the atom at the place or, if that has
        other names (one body became two), the only atom of that name."""
        found = self.atom(self.orig, difference.orig_place), self.atom(self.patched, difference.patched_place)
        orig, patched = (
            self.named(view, atom, difference.symbol)
            for view, atom in zip((self.orig, self.patched), found, strict=True)
        )
        return orig, patched

    @staticmethod
    def named(view: View, atom: Atom | None, name: str) -> Atom | None:
        if atom is None or not name or name in atom.names:
            return atom
        named = view.by_name.get(name, [])
        return named[0] if len(named) == 1 and named[0].kind == atom.kind else atom

    def member(self, patched: Atom | None) -> str:
        """The role in the module of an atom of the patched object; "" if it is not in the module."""
        if patched is None or self.closure is None:
            return ""
        found = self.closure.members.get((self.number, patched.id))
        return found.role if found is not None else ""

    def taken(self, orig: Atom | None, patched: Atom | None) -> tuple[str, str] | None:
        """The claim and its reason if a function or datum is in the module; else None."""
        if patched is not None and patched.kind == FUNCTION and self.is_replaced(orig, patched):
            return REPLACED, "a changed function"
        role = self.member(patched)
        if role in ("changed", "pulled"):
            return REPLACED, f"a {role} function"
        if role in ("cold", "prefix"):
            return REPLACED, "a part of a function that is in the module"
        if role:
            return CARRIED, "comes along in the module"
        if self.closure is None and patched is not None and patched.id in self.new:
            return CARRIED, "a new function"
        return None

    def is_replaced(self, orig: Atom | None, patched: Atom) -> bool:
        """Whether this pair counts as changed. A folded function can be changed for one of its names and not for
        another."""
        if patched.id in self.changed and (orig is None or orig.id in self.was_changed):
            return True
        if is_cold(patched):
            return any(parent.id in self.changed for parent in cold_parents(patched, self.patched))
        if is_prefix(patched):
            names = {n.partition("_pfx_")[2] for n in patched.names}
            return any(a.id in self.changed for n in names for a in self.patched.by_name.get(n, ()))
        return False

    def rules_of(self, patched: Atom) -> set[str]:
        return {rule for name in patched.names for rule in self.rules.get(name.partition(".cold")[0], ())}

    def unfolded(self, patched: Atom) -> bool:
        """Whether a function shared its place with others before and still has the same body. The padding before a
        function is judged by it."""
        if is_prefix(patched):
            names = {n.partition("_pfx_")[2] for n in patched.names}
            padded = [a for name in names for a in self.patched.by_name.get(name, ()) if not is_prefix(a)]
            return bool(padded) and all(map(self.unfolded, padded))
        return (
            patched.kind == FUNCTION and patched.id in self.correlation.to_original and patched.id not in self.changed
        )

    def is_line(self, orig: Atom, patched: Atom) -> bool:
        """Whether two source locations of a sanitizer differ only in the line number."""
        if not self.correlation.lines or orig.kind != ANON or patched.kind != ANON:
            return False
        try:
            if not noise.is_location(self.orig, orig) or not noise.is_location(self.patched, patched):
                return False
            orig_bytes, patched_bytes = self.orig.masked(orig), self.patched.masked(patched)
        except Ambiguous:
            return False
        return orig_bytes[:8] == patched_bytes[:8] and orig_bytes[12:] == patched_bytes[12:]

    def is_left_over(self, orig: Atom, patched: Atom) -> bool:
        """Whether both are data that only the compiler has a name for, and nothing refers to either."""
        for view, atom in ((self.orig, orig), (self.patched, patched)):
            if atom.kind != ANON or COMPILERS_OWN not in view.section_name(atom):
                return False
        return not [*self.users(patched), *self.users(orig, self.orig)]

    def is_shown(self, user: Atom) -> bool:
        return is_stateless(self.patched, user) and self.patched.section_name(user) in DEBUG_SECTIONS

    def users(self, used: Atom, of: View | None = None) -> Iterable[Atom | None]:
        """The atoms that refer to a datum of the patched object, or of the object `of`; None stands among them if a
        reference can't be followed."""
        view = of or self.patched
        for index in sorted(view.sections_referring_to({used.section}) | {used.section}):
            if view.is_table(view.obj.sections[index]):
                continue
            for atom_id in view.in_section.get(index, ()):
                try:
                    if any(r.atom == used.id for r in view.refs(view.atoms[atom_id])):
                        yield view.atoms[atom_id]
                except Ambiguous:
                    yield None

    def judged(self, difference: Difference) -> str:
        """The rule by which the differ judged this reference, at this place, as equal; "" if it did not."""
        orig, patched = self.atoms(difference)
        if orig is None or patched is None or difference.orig_place is None or difference.patched_place is None:
            return ""
        try:
            orig_refs = [
                r
                for r in self.orig.refs(orig)
                if r.offset == difference.offset + difference.orig_place[1] - orig.offset
            ]
            patched_refs = [
                r
                for r in self.patched.refs(patched)
                if r.offset == difference.offset + difference.patched_place[1] - patched.offset
            ]
        except Ambiguous:
            return ""
        if len(orig_refs) != 1 or len(patched_refs) != 1:
            return ""
        if self._comparer is None:
            self._comparer = Comparer(self.correlation, self.changes.original_entries, self.changes.patched_entries)
        same, rules = self._comparer.judge(orig_refs[0], patched_refs[0])
        if not same:
            return ""
        text = self.patched.atoms[patched_refs[0].atom].kind == STRING
        return " ".join(sorted(rules)) or (noise.CONSTANT if text else noise.STATIC_LOCAL)
