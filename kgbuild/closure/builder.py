# SPDX-License-Identifier: GPL-2.0-or-later
"""A closure under way: what the passes have brought in and bound so far, and what they still have to look at.

`ClosureBuilder` has no rules but those of what belongs to one atom: its cold halves and its prefix. The passes
(closure/passes) are functions that take it, in the order that closure/close.py lists; `finish` makes the value.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from kgbuild.closure.binding import EXPORT, Bound, NotBound, World
from kgbuild.closure.kernel_literals import Literals
from kgbuild.closure.model import (
    Callback,
    Closure,
    DroppedEntry,
    DroppedKey,
    LateKey,
    Literal,
    Member,
    MemberKey,
    Redirect,
    StateLine,
    UnitResult,
    kept_entries,
    leaves_module,
)
from kgbuild.closure.state_verdicts import Judge
from kgbuild.diagnostics.refusals import Refusal
from kgbuild.diff.labels import LabelTables
from kgbuild.objects.atoms import FUNCTION, Atom, Ref
from kgbuild.objects.special_entries import SpecialEntry
from kgbuild.objects.symbol_kinds import is_prefix

if TYPE_CHECKING:
    from kgbuild.callgraph.model import CallGraph


@dataclass(eq=False, repr=False)
class ClosureBuilder:
    """The parts of a `Closure` (which see), and the state of the passes.

    units, world   the compared units, and what references are bound to
    allowed        units and functions that the user accepts without proof
    graph          gives the kernel's call graph; None where there is none
    pull_always    whether every local callee that is a clone is carried, proven or not
    assume_callers  whether an exported function is taken to have no callers but those of the kernel and its modules
    todo           members whose references are not followed yet
    judge          says what a variable is that only the patched source has
    new_globals    global functions and variables that only the patch has, and pulled ones, by object and name
    made_global    what was local before the patch, or had no such alias, and is global with it, by object and name
    promoted       references to such: unit and symbol that refer to it, unit and atom that it is
    pulled_for     members whose callers have been brought in
    """

    units: tuple[UnitResult, ...]
    world: World
    allowed: frozenset[str] = frozenset()
    graph: Callable[[], CallGraph] | None = None
    pull_always: bool = False
    assume_callers: bool = False
    assumed: set[str] = field(default_factory=set)
    members: dict[MemberKey, Member] = field(default_factory=dict)
    bound: dict[MemberKey, Bound] = field(default_factory=dict)
    redirects: list[Redirect] = field(default_factory=list)
    callbacks: list[Callback] = field(default_factory=list)
    states: dict[int, int] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    namespaces: set[str] = field(default_factory=set)
    defined: dict[MemberKey, MemberKey] = field(default_factory=dict)
    dropped: set[DroppedEntry] = field(default_factory=set)
    dropped_keys: set[DroppedKey] = field(default_factory=set)
    late_keys: set[LateKey] = field(default_factory=set)
    needs: dict[str, list[str]] = field(default_factory=dict)
    constants: dict[str, Bound] = field(default_factory=dict)
    thunks: dict[str, Bound] = field(default_factory=dict)
    state: dict[MemberKey, StateLine] = field(default_factory=dict)
    literals: dict[tuple[int, int, int], Literal] = field(default_factory=dict)
    todo: deque[tuple[int, Atom]] = field(default_factory=deque)
    new_globals: dict[tuple[str, str], tuple[int, Atom]] = field(default_factory=dict)
    made_global: dict[tuple[str, str], tuple[int, Atom]] = field(default_factory=dict)
    promoted: list[tuple[int, Atom, int, Atom]] = field(default_factory=list)
    pulled_for: set[MemberKey] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.judge = Judge(self.units)
        self._literals: dict[int, Literals] = {}
        self._label_tables: dict[int, LabelTables] = {}

    def finish(self) -> Closure:
        """The closure as it is now."""
        return Closure(
            self.units,
            MappingProxyType(dict(self.members)),
            MappingProxyType(dict(self.bound)),
            tuple(self.redirects),
            tuple(self.callbacks),
            MappingProxyType(dict(self.states)),
            tuple(self.refusals),
            tuple(self.warnings),
            frozenset(self.namespaces),
            MappingProxyType(dict(self.defined)),
            frozenset(self.dropped),
            frozenset(self.dropped_keys),
            MappingProxyType({unit: tuple(reasons) for unit, reasons in self.needs.items()}),
            MappingProxyType(dict(self.constants)),
            MappingProxyType(dict(self.thunks)),
            MappingProxyType(dict(self.state)),
            MappingProxyType(dict(self.literals)),
            frozenset(self.late_keys),
            assumed=tuple(sorted(self.assumed)),
        )

    # -- what rules read ---------------------------------------------------------------------------------------------

    def entries(self, unit: int, atom: Atom) -> tuple[SpecialEntry, ...]:
        """Special-section entries that come along with an atom."""
        return kept_entries(self.units[unit], unit, atom, self.dropped)

    def binds_to_kernel(self, unit: int, source: Atom, ref: Ref) -> bool:
        """Whether a reference leaves the module, also where its target is in it."""
        return leaves_module(self.units[unit], self.members.get((unit, ref.atom)), source, ref)

    def kernel_literals(self, number: int) -> Literals:
        """The kernel's constants of a unit, for its patched code."""
        if number not in self._literals:
            self._literals[number] = Literals(self.units[number], self.world)
        return self._literals[number]

    def label_tables(self, number: int) -> LabelTables:
        """The data of a unit's patched object that holds addresses inside functions."""
        if number not in self._label_tables:
            self._label_tables[number] = LabelTables(self.units[number].changes.patched)
        return self._label_tables[number]

    # -- what rules write --------------------------------------------------------------------------------------------

    def refuse(self, code: str, number: int, symbol: str, fact: str, section: str = "", remedy: str = "") -> None:
        """Refuse the patch for a symbol of a unit."""
        self.refusals.append(refusal_of(self.units[number], code, symbol, fact, section, remedy))

    def add(self, number: int, atom: Atom, role: str, reason: str, via: MemberKey | None = None) -> None:
        """Bring an atom of a unit into the module, with its cold halves and its prefix; one that is there stays as it
        is. What it refers to is followed later."""
        key = (number, atom.id)
        if key in self.members:
            return
        self.members[key] = Member(number, atom, role, reason, via)
        self.todo.append((number, atom))
        view = self.units[number].changes.patched
        if atom.kind == FUNCTION and role not in ("cold", "prefix"):
            for name in atom.names:
                for half in (f"{name}.cold", *_numbered_cold(view.by_name, name)):
                    for cold in view.by_name.get(half, ()):
                        self.add(number, cold, "cold", f"the cold half of {atom.name}", key)
        if atom.kind == FUNCTION and role != "prefix":
            prefix = view.just_before(atom)
            if prefix is not None and is_prefix(prefix):
                self.add(number, prefix, "prefix", f"the padding before {atom.name}", key)

    def take(self, number: int, source: Atom, target: Atom, found: Bound | NotBound | None) -> bool:
        """Bind `target`, to which `source` of the same unit refers, to what was found for it, or refuse for what stands
        against it. False where there was neither."""
        if isinstance(found, NotBound):
            self.refuse(found.code, number, source.name, found.fact)
            return True
        if found is None:
            return False
        if found.how == EXPORT:
            export = self.world.exports[found.name]
            if export.namespace:
                self.namespaces.add(export.namespace)
        self.bound[number, target.id] = found
        return True


def refusal_of(unit: UnitResult, code: str, symbol: str, fact: str, section: str = "", remedy: str = "") -> Refusal:
    """A refusal for a symbol of a unit. Where no section is given, it is the one of the only atom of that name."""
    if not section:
        changes = unit.changes
        atoms = changes.patched.by_name.get(symbol) or changes.orig.by_name.get(symbol) or []
        view = changes.patched if symbol in changes.patched.by_name else changes.orig
        section = view.section_name(atoms[0]) if len(atoms) == 1 else ""
    return Refusal(code, f"{unit.source}: {symbol}", fact, symbol, section, remedy)


def _numbered_cold(by_name: dict[str, list[Atom]], name: str) -> list[str]:
    """`f.cold.7` and `f.isra.0.cold.3` of older gcc."""
    prefix = f"{name}.cold."
    return [n for n in by_name if n.startswith(prefix)]
