# SPDX-License-Identifier: GPL-2.0-or-later
"""What the rules of the ledger need to know of one unit: what lies at a place, whether it is in the module, and how the
differ judged it."""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from typing import TYPE_CHECKING

from kgbuild.correlation import noise
from kgbuild.diagnostics.refusals import Refusal
from kgbuild.diff.changes import Changes
from kgbuild.diff.compare import Comparer
from kgbuild.ledger.difference import Difference
from kgbuild.ledger.pieces import Place
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
# Refusals that stand for the whole of the section that they name.
_OF_SECTIONS = ("K2-special", "K7-export")


class UnitFacts:
    """Facts about one unit and its part of the module."""

    def __init__(
        self,
        changes: Changes,
        closure: Closure | None,
        number: int,
        ignored: tuple[Refusal, ...],
        left: tuple[str, ...],
    ) -> None:
        self.changes, self.closure, self.number = changes, closure, number
        self.o, self.p, self.c = changes.original, changes.patched, changes.correlation
        self.left = frozenset(left)
        mine = [r for r in closure.refusals if r.place.startswith(f"{changes.place}:")] if closure is not None else []
        self.refused: dict[str, str] = {}
        self.refused_sections: dict[str, str] = {}
        self.against = [r for r in [*changes.refusals, *mine] if r.code != "K26-unaccounted"]
        for r in self.against:
            if r.symbol:
                self.refused.setdefault(r.symbol, r.code)
            if r.section and (not r.symbol or r.symbol == r.section or r.code in _OF_SECTIONS):
                self.refused_sections.setdefault(r.section, r.code)
        self.ignored = {r.symbol for r in ignored if r.symbol} | {r.section for r in ignored if not r.symbol}
        self.rules: dict[str, set[str]] = {}
        for n in changes.noise:
            self.rules.setdefault(n.function, set()).add(n.rule)
        self.changed = {c.patched.id for c in changes.changed}
        self.was_changed = {c.original.id for c in changes.changed}
        self.new = {a.id for a in changes.new}
        self.removed = {a.id for a in changes.removed}
        self.came_in: set[str] = set()
        self.touched: set[str] = set()
        self._comparer: Comparer | None = None

    @staticmethod
    def atom(view: View, place: Place | None) -> Atom | None:
        """The atom of a section that isn't of literals at a place."""
        if place is None:
            return None
        ids = view.in_section.get(place[0])
        if not ids:
            return None
        at = bisect.bisect_right(ids, place[1], key=lambda i: view.atoms[i].offset) - 1
        return view.atoms[ids[max(at, 0)]]

    def atoms(self, d: Difference) -> tuple[Atom | None, Atom | None]:
        """What a difference is about in either object: what lies at its place or, where that has other names (what was
        one body and is two now), the one thing that has the name."""
        found = self.atom(self.o, d.before), self.atom(self.p, d.after)
        o, p = (self.named(view, atom, d.symbol) for view, atom in zip((self.o, self.p), found, strict=True))
        return o, p

    @staticmethod
    def named(view: View, atom: Atom | None, name: str) -> Atom | None:
        if atom is None or not name or name in atom.names:
            return atom
        named = view.by_name.get(name, [])
        return named[0] if len(named) == 1 and named[0].kind == atom.kind else atom

    def member(self, p: Atom | None) -> str:
        """The role that an atom of the patched object has in the module, "" for none."""
        if p is None or self.closure is None:
            return ""
        found = self.closure.members.get((self.number, p.id))
        return found.role if found is not None else ""

    def taken(self, o: Atom | None, p: Atom | None) -> tuple[str, str] | None:
        """Whether a function or a piece of data is in the module: what to call that, and why."""
        if p is not None and p.kind == FUNCTION and self.is_replaced(o, p):
            return REPLACED, "a changed function"
        role = self.member(p)
        if role in ("changed", "pulled"):
            return REPLACED, f"a {role} function"
        if role in ("cold", "prefix"):
            return REPLACED, "a part of a function that is in the module"
        if role:
            return CARRIED, "comes along in the module"
        if self.closure is None and p is not None and p.id in self.new:
            return CARRIED, "a new function"
        return None

    def is_replaced(self, o: Atom | None, p: Atom) -> bool:
        """Whether this very pair counts as changed; what is folded is changed for one name and not for another."""
        if p.id in self.changed and (o is None or o.id in self.was_changed):
            return True
        if is_cold(p):
            return any(parent.id in self.changed for parent in cold_parents(p, self.p))
        if is_prefix(p):
            names = {n.partition("_pfx_")[2] for n in p.names}
            return any(a.id in self.changed for n in names for a in self.p.by_name.get(n, ()))
        return False

    def rules_of(self, p: Atom) -> set[str]:
        return {rule for name in p.names for rule in self.rules.get(name.partition(".cold")[0], ())}

    def unfolded(self, p: Atom) -> bool:
        """Whether a function shared its place with others, and has the body that it had there."""
        return p.kind == FUNCTION and p.id in self.c.to_original and p.id not in self.changed

    def is_line(self, o: Atom, p: Atom) -> bool:
        """Whether two locations of a sanitizer differ in nothing but the line."""
        if not self.c.lines or o.kind != ANON or p.kind != ANON:
            return False
        try:
            if not noise.is_location(self.o, o) or not noise.is_location(self.p, p):
                return False
            was, now = self.o.masked(o), self.p.masked(p)
        except Ambiguous:
            return False
        return was[:8] == now[:8] and was[12:] == now[12:]

    def is_shown(self, user: Atom) -> bool:
        return is_stateless(self.p, user) and self.p.section_name(user) in DEBUG_SECTIONS

    def users(self, p: Atom) -> Iterable[Atom | None]:
        """What refers to a piece of data of the patched object; None for what can't be followed."""
        for index in sorted(self.p.sections_referring_to({p.section}) | {p.section}):
            section = self.p.obj.sections[index]
            if self.p.is_table(section):
                continue
            for i in self.p.in_section.get(index, ()):
                try:
                    if any(r.atom == p.id for r in self.p.refs(self.p.atoms[i])):
                        yield self.p.atoms[i]
                except Ambiguous:
                    yield None

    def judged(self, d: Difference) -> str:
        """The rule by which the differ has this one reference as the same, at this very place; "" where it has not."""
        o, p = self.atoms(d)
        if o is None or p is None or d.before is None or d.after is None:
            return ""
        try:
            left = [r for r in self.o.refs(o) if r.offset == d.offset + d.before[1] - o.offset]
            right = [r for r in self.p.refs(p) if r.offset == d.offset + d.after[1] - p.offset]
        except Ambiguous:
            return ""
        if len(left) != 1 or len(right) != 1:
            return ""
        if self._comparer is None:
            self._comparer = Comparer(self.c, self.changes.original_entries, self.changes.patched_entries)
        same, rules = self._comparer.judge(left[0], right[0])
        if not same:
            return ""
        text = self.p.atoms[right[0].atom].kind == STRING
        return " ".join(sorted(rules)) or (noise.CONSTANT if text else noise.STATIC_LOCAL)
