# SPDX-License-Identifier: GPL-2.0-or-later
"""Estimates what a patch would change, without compiling: from its text, the kernel's call graph and debugging
information.

1. The definitions that a diff touches (`source_changes`) name source functions. Functions made by a macro are found by
   their line in the debugging information, else by the macro's arguments.
2. What the compiler made of these: bodies of that name, its clones, and the functions it was inlined into. Without
   debugging information (shipped modules have none), a function whose source uses another one but does not call it in
   the call graph is assumed to contain an inlined copy of it.
3. A static function that is now used once, or no longer only once, may be inlined differently: its users change.
4. The closure's rule 3: a function that ftrace can't redirect pulls in its callers, up to a fixed point.

How gcc compiles the changed code itself (inlining, clones) can't be known without running it; docs/impact.md says how
often the estimate agrees with the compiled answer.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from kgbuild.callgraph.edge_kinds import EdgeKind
from kgbuild.callgraph.model import CallGraph, Edge, Function, Name
from kgbuild.callgraph.outside_callers import OutsideCaller, users_outside
from kgbuild.csource.definitions import CALL, FUNCTION, MACRO, TYPE, VARIABLE, SourceItem
from kgbuild.debuginfo.dwarf_units import DwarfUnit
from kgbuild.diagnostics.refusals import IN_A_CALLBACK, Refusal
from kgbuild.estimation.source_changes import (
    CHANGED,
    NEW,
    REMOVED,
    Change,
    adds_to_table,
    calls_in,
    compare_items,
    mentions,
    pasted,
    spread,
    users_of,
)
from kgbuild.objects.clone_names import clone_of, judge_shared
from kgbuild.objects.symbol_kinds import INIT_SECTIONS

_HALVES = frozenset({"cold", "pad", "warn"})
# Limit of functions pulled in over the graph; reaching it is reported.
_MAX_PULLED = 500
# Body size, in tokens, up to which gcc at -O2 roughly inlines a function wherever it is called.
_SMALL = 60
_LONG_NAME = 512  # KSYM_NAME_LEN: no function of the kernel has a longer name
# If an inlined function has at least this many calls and none is in a body, it is not inlined there.
_MANY_CALLS = 3


@dataclass(frozen=True)
class UnitView:
    """One unit as the estimate sees it.

    source, target  the unit, and the object of the running kernel that it is part of
    orig, patched   the items of its own text and of every changed file that it includes, of both versions
    functions       its functions in the index with all their names; for a module with several units, all of the module
    facts           what debugging information says of it; None if there is none
    """

    source: str
    target: str
    orig: tuple[SourceItem, ...] = field(repr=False)
    patched: tuple[SourceItem, ...] = field(repr=False)
    functions: tuple[tuple[Function, tuple[Name, ...]], ...] = field(repr=False)
    facts: DwarfUnit | None = field(default=None, repr=False)

    @cached_property
    def pieces(self) -> dict[str, list[Function]]:
        """The bodies made from each source function, by its name, without cold halves."""
        out: dict[str, list[Function]] = {}
        for function, names in self.functions:
            for name in names:
                clone = clone_of(name.name)
                if clone is None or not _HALVES & set(clone.kinds):
                    found = out.setdefault(clone.family if clone is not None else name.name, [])
                    if function not in found:
                        found.append(function)
        return out

    @cached_property
    def at(self) -> dict[int, Function]:
        """Functions by their address, signed as in debugging information."""
        return {f.address - (1 << 64) if f.address >> 63 else f.address: f for f, _ in self.functions}

    @cached_property
    def names(self) -> dict[int, tuple[Name, ...]]:
        return {function.id: names for function, names in self.functions}

    @cached_property
    def inlined_into(self) -> dict[str, list[Function]]:
        """The bodies that each function was inlined into, by the function's name."""
        out: dict[str, dict[int, Function]] = {}
        for one in self.facts.inlined if self.facts is not None else ():
            body = self.at.get(one.address) if one.address is not None else None
            for function in [body] if body is not None else self.pieces.get(one.into, ()):
                out.setdefault(one.callee, {})[function.id] = function
        return {name: list(found.values()) for name, found in out.items()}


@dataclass(frozen=True)
class Touched:
    """A body of the kernel that would be replaced: its role ("changed" or "pulled"), the reason, and the source
    function (`origin`, for changed ones) or the other body (`via`, its number in the graph) that caused it."""

    function: Function
    unit: str
    role: str
    reason: str
    origin: str = ""
    via: int | None = None

    @property
    def stays(self) -> bool:
        """Whether there is anything to replace: code that only runs at start or exit has run or will not matter."""
        return not is_transient(self.function)


def is_transient(function: Function) -> bool:
    """Whether code runs only when the kernel or a module starts, or when a module exits."""
    return function.init or function.section.startswith(INIT_SECTIONS)


@dataclass(frozen=True)
class Reference:
    """What the patch would refer to in the kernel. `how` is "export", "local", or "clone" (needs proof or a copy)."""

    name: str
    object: str
    how: str


@dataclass
class Estimate:
    """The estimate. `inlined`: (source function, body it was inlined into). `folded`: bodies with the names that share
    them. `possible`: what may be refused, judging by the text. `unknown`: what could not be determined.
    `left_out`: init code that is left out on request."""

    touched: dict[int, Touched] = field(default_factory=dict)
    new: list[tuple[str, str]] = field(default_factory=list)
    removed: list[tuple[str, str]] = field(default_factory=list)
    inlined: list[tuple[str, Function]] = field(default_factory=list)
    folded: list[tuple[Function, tuple[str, ...]]] = field(default_factory=list)
    references: list[Reference] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    possible: list[Refusal] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def of(self, role: str) -> list[Touched]:
        """Bodies with a role, by object, unit and name."""
        found = (t for t in self.touched.values() if t.role == role)
        return sorted(found, key=lambda t: (t.function.object != "vmlinux", t.function.object, t.unit, t.function.name))


def estimate(
    units: Sequence[UnitView], graph: CallGraph, place: Callable[[Change], tuple[str, str]], ignore_init: bool = False
) -> Estimate:
    """Estimate everything that a patch of these units would change. `place` gives the file and the hunk in which the
    patch makes a change."""
    result = Estimate()
    changes: list[tuple[str, Change]] = []
    for unit in units:
        unit_estimate = _UnitEstimate(unit, graph, place, result, ignore_init)
        unit_estimate.run()
        changes += ((unit.target, change) for change in unit_estimate.changes)
    _pull(result, graph)
    _refer(result, changes, graph)
    return result


class _UnitEstimate:
    def __init__(
        self,
        unit: UnitView,
        graph: CallGraph,
        place: Callable[[Change], tuple[str, str]],
        result: Estimate,
        ignore_init: bool,
    ) -> None:
        self.unit, self.graph, self.place, self.result, self.ignore_init = unit, graph, place, result, ignore_init
        self.changes = compare_items(unit.orig, unit.patched)
        self.source_functions = {i.name for i in unit.orig if i.kind == FUNCTION}
        self.affected: dict[str, str] = {}
        self._said = set(result.possible)
        self._own = {(i.kind, i.name, i.start, i.end) for i in unit.orig}

    def run(self) -> None:
        unit = self.unit
        for change in self.changes:
            self._judge(change)
        names = spread(self.changes, [*unit.orig, *unit.patched])
        if names:
            for item, origin in users_of(names, (*unit.orig, *unit.patched), (FUNCTION, CALL)):
                for name in self._made_by(item):
                    self.affected.setdefault(name, f"uses {origin}")
            variables: dict[str, str] = {}
            for item, origin in users_of(names, unit.orig, (VARIABLE,)):
                variables.setdefault(item.name, origin)
            for name, origin in variables.items():
                self._possible(None, "K1-data", name, f"its initial value uses {origin}, which changes")
        self._inlined_otherwise()
        gone = {name for name, _ in self.result.removed}
        for name, reason in self.affected.items():
            if name not in gone:
                self._bodies(name, reason)

    def _judge(self, change: Change) -> None:
        item, name = change.item, change.name
        if change.kind == FUNCTION or (change.kind == CALL and not adds_to_table(change)):
            file, where = self.place(change)
            if change.status == CHANGED:
                for made in {**dict.fromkeys(self._made_by(change.orig)), **dict.fromkeys(self._made_by(item))}:
                    self.affected.setdefault(made, where)
            elif change.kind == FUNCTION and change.status == NEW:
                self.result.new.append((item.arguments[0] if item.arguments else name, file))
            elif change.kind == FUNCTION:
                self._removed(change)
        elif adds_to_table(change) and change.status != REMOVED:
            self._possible(
                change, "K7-export", item.arguments[0] if item.arguments else name, f"{name} is added or changed"
            )
        elif change.kind == VARIABLE and change.status == CHANGED:
            self._possible(change, "K1-data", name, "its declaration or initial value changes")
        elif change.kind == TYPE and change.status == CHANGED and name.startswith(("struct", "union")):
            self._possible(change, "K9-type-layout", name, "its definition changes; its size or offsets may")

    def _possible(self, change: Change | None, code: str, symbol: str, fact: str) -> None:
        file = self.place(change)[0] if change is not None else self.unit.source
        refusal = Refusal(code, f"{file}: {symbol}", fact, symbol=symbol)
        if refusal not in self._said:
            self._said.add(refusal)
            self.result.possible.append(refusal)

    def _removed(self, change: Change) -> None:
        item = change.item
        for name in self._made_by(item):
            self.result.removed.append((name, self.unit.source))
            bodies = self.unit.pieces.get(name, [])
            if not item.static and bodies:
                fact = "it is removed from the source; its callers in other units keep the old code"
                self._possible(change, "K14-vanished", name, fact)
            for holder in self.unit.inlined_into.get(name, ()):
                self._touch(holder, f"{name} is inlined into it and goes", name)

    def _made_by(self, item: SourceItem | None) -> list[str]:
        """The functions that a definition makes: its own name, or what a macro makes of its arguments."""
        if item is None:
            return []
        if not item.arguments and item.kind == FUNCTION:
            return [item.name]
        facts = self.unit.facts
        if facts is not None:
            # line numbers refer to the original text
            lines = self._declared
            first, end = (bisect_left(lines, place) for place in ((item.start, ""), (item.end + 1, "")))
            if first < end and (item.kind, item.name, item.start, item.end) in self._own:
                return sorted({name for _, name in lines[first:end]})
        if item.kind == CALL and not item.arguments:
            return []
        stem = item.arguments[0]
        if item.kind == CALL:
            made = {n for n in (f"{stem}_open", f"{stem}_show", f"{stem}_fops") if n in self.unit.pieces}
        else:
            made = {*self._by_ending.get(stem, ()), *self._by_ending.get(stem.lower(), ())}
            made |= {stem} & self.unit.pieces.keys()
            made -= self.source_functions - {stem}
        return sorted(made)

    def _inlined_otherwise(self) -> None:
        """Find static functions that are now used once, or no longer only once: gcc inlines a function that is called
        once whatever its size, and a small one wherever it is called."""
        orig_counts, patched_counts = mentions(self.unit.orig), mentions(self.unit.patched)
        texts = {i.name: i for i in self.unit.orig if i.kind == FUNCTION and i.static and not i.arguments}
        for name, text in texts.items():
            orig_count, patched_count = orig_counts[name.encode()], patched_counts[name.encode()]
            inlined = not self.unit.pieces.get(name)
            large = len(text.tokens) - text.head > _SMALL
            if text.inline or not orig_count or not patched_count:
                continue
            if large and (
                (orig_count == 1 and patched_count > 1 and inlined) or (orig_count > 1 and patched_count == 1)
            ):
                for user in self._users(name):
                    self.affected.setdefault(
                        user, f"{name}, which it uses, is used {patched_count} times instead of {orig_count}"
                    )

    @cached_property
    def _declared(self) -> list[tuple[int, str]]:
        """What debugging information declares in the unit's source: lines and names, sorted."""
        facts = self.unit.facts
        return sorted((d.line, d.name) for d in facts.declared if d.file == self.unit.source) if facts else []

    @cached_property
    def _by_ending(self) -> dict[str, list[str]]:
        """The source functions that have bodies, by what is behind each underscore of their names."""
        out: dict[str, list[str]] = {}
        for name in self.unit.pieces:
            for place in (at for at, letter in enumerate(name[:_LONG_NAME]) if letter == "_"):
                out.setdefault(name[place + 1 :], []).append(name)
        return out

    @cached_property
    def _by_word(self) -> dict[bytes, list[SourceItem]]:
        """The functions and macros of the original text by each word in them."""
        out: dict[bytes, list[SourceItem]] = {}
        for item in self.unit.orig:
            for word in item.words if item.kind in (FUNCTION, MACRO) else ():
                out.setdefault(word, []).append(item)
        return out

    @cached_property
    def _by_name(self) -> dict[str, list[SourceItem]]:
        """The functions of the original text by their names, and by the first argument of those that a macro makes."""
        out: dict[str, list[SourceItem]] = {}
        for item in self.unit.orig:
            for name in {item.name, *item.arguments[:1]} if item.kind == FUNCTION else ():
                out.setdefault(name, []).append(item)
        return out

    def _users(self, name: str) -> list[str]:
        using = self._by_word.get(name.encode(), ())
        return [i.name for i in using if i.kind == FUNCTION and i.name != name]

    def _bodies(self, name: str, reason: str) -> None:
        for body in self.unit.pieces.get(name, ()):
            self._touch(body, reason, name)
        holders = self.unit.inlined_into.get(name, []) if self.unit.facts is not None else self._guess_holders(name)
        for holder in holders:
            self.result.inlined.append((name, holder))
            self._touch(holder, f"{name} is inlined into it: {reason}", name)

    def _guess_holders(self, name: str) -> list[Function]:
        """The bodies into which a function must have been inlined: those whose source uses it, but which do not reach a
        body of it in the call graph."""
        own_bodies = self.unit.pieces.get(name, [])
        bodies = {f.id for f in own_bodies}
        whole = {f.id for f in own_bodies if clone_of(f.name) is None}
        out: dict[int, Function] = {}
        calls = self._known_calls(name)
        seen, queue = {name}, [name]
        while queue:
            for user in self._callers_by_text(queue.pop()):
                if user in seen:
                    continue
                seen.add(user)
                holders = self.unit.pieces.get(user, [])
                for body in holders:
                    every = {e.callee for e in self._callees(body)}
                    reached = every & bodies
                    if not bodies and len(calls) >= _MANY_CALLS and calls.isdisjoint(every):
                        continue  # an inlined copy would have its calls: this kernel does not use the code
                    # a call of the tail that gcc split off comes from a copy of the head
                    if body.id not in bodies and (
                        not reached or (whole and not reached & whole and len(own_bodies) > 1)
                    ):
                        out[body.id] = body
                if not holders:
                    queue.append(user)
        return list(out.values())

    def _known_calls(self, name: str) -> set[int]:
        """Numbers of the functions that a function of the unit calls according to its source, if they have a body."""
        out: set[int] = set()
        for item in self._by_name.get(name, ()):
            for callee in calls_in(item):
                out |= {f.id for f in self.unit.pieces.get(callee, ())}
                out |= {f.id for f in self.graph.functions_named(callee) if f.object != self.unit.target}
        return out

    @cached_property
    def _by_call(self) -> dict[str, list[SourceItem]]:
        out: dict[str, list[SourceItem]] = {}
        for item in self.unit.orig:
            if item.kind == FUNCTION:
                for name in calls_in(item):
                    out.setdefault(name, []).append(item)
        return out

    @cached_property
    def _pasted(self) -> list[tuple[str, re.Pattern[str]]]:
        return pasted(self.unit.orig)

    def _callers_by_text(self, callee: str) -> list[str]:
        """Functions whose source calls a function, directly or through a macro that calls it or pastes its name
        together."""
        macros = {i.name for i in self._by_word.get(callee.encode(), ()) if i.kind == MACRO}
        macros |= {macro for macro, pattern in self._pasted if pattern.fullmatch(callee)}
        out: dict[str, None] = {}
        for name in (callee, *sorted(macros)):
            for item in self._by_call.get(name, ()):
                if item.name != callee:
                    out.update(dict.fromkeys(self._made_by(item)))
        return list(out)

    def _callees(self, body: Function) -> Iterator[Edge]:
        for edge in self.graph.callees(body.id):
            yield edge
            if edge.kind is EdgeKind.SPLIT:
                yield from self.graph.callees(edge.callee)

    def _touch(self, body: Function, reason: str, origin: str) -> None:
        if body.id in self.result.touched:
            return
        if is_transient(body) and self.ignore_init:
            self.result.left_out.append(body.name)
            return
        self.result.touched[body.id] = Touched(body, self.unit.source, "changed", reason, origin)
        if is_transient(body):
            fact = f"{body.name} is in {body.section}, which runs once and is freed"
            if body.section.startswith(".exit"):
                fact = f"{body.name} is in {body.section}, which only runs when its module goes"
            leave_out = "leave this hunk out if nothing else in the patch needs it (--ignore-init)"
            self._refuse("K3-init", body, fact, f"{leave_out}, or {IN_A_CALLBACK}")
        names = self.unit.names.get(body.id, ())
        if len(names) > 1:
            shared = judge_shared([(n.name, n.bind == "local") for n in names])
            if shared.folded:
                self.result.folded.append((body, shared.names))

    def _refuse(self, code: str, body: Function, fact: str, remedy: str = "") -> None:
        place = f"{self.unit.source}: {body.name}"
        self.result.refusals.append(Refusal(code, place, fact, symbol=body.name, remedy=remedy))


def _pull(result: Estimate, graph: CallGraph) -> None:
    """The closure's rule 3: pull in the callers of functions that can't be redirected, repeatedly."""
    queue = deque(result.touched.values())
    while queue:
        touched = queue.popleft()
        body = touched.function
        if not touched.stays or body.trace_site is not None:
            continue
        names = graph.aliases(body.id)
        why = f"{body.name} has no __fentry__ site, ftrace can't redirect it"
        if any(n.exported for n in names):
            _refuse_pull(result, touched, f"{why}; it is exported, so not all its callers are known")
            continue
        # no unit is left out: callers in the function's own unit count as well
        outside, against = users_outside(graph, body.id, "", "")
        if against:
            _refuse_pull(result, touched, f"{why}; {'; '.join(against[:3])}")
            continue
        for caller in outside:
            for found in _bodies_named(graph, caller):
                if found.id == body.id or found.id in result.touched:
                    continue
                reason = f"calls {body.name}, which can't be redirected"
                result.touched[found.id] = Touched(found, caller.source, "pulled", reason, via=body.id)
                queue.append(result.touched[found.id])
        if len(result.touched) > _MAX_PULLED:
            result.unknown.append(f"more than {_MAX_PULLED} functions would come along; not followed further")
            return


def _refuse_pull(result: Estimate, touched: Touched, fact: str) -> None:
    place = f"{touched.unit}: {touched.function.name}"
    result.refusals.append(Refusal("K4-not-traceable", place, fact, symbol=touched.function.name))


def _bodies_named(graph: CallGraph, caller: OutsideCaller) -> list[Function]:
    """The functions of a name in a unit."""
    named = [f for f in graph.functions_named(caller.function) if f.object == caller.object]
    if len(named) > 1:
        named = [f for f in named if graph.unit_of(f.id) == caller.source]
    return named


def _refer(result: Estimate, changes: Iterable[tuple[str, Change]], graph: CallGraph) -> None:
    """What the replaced functions refer to in the kernel, by the call graph, and what their new text calls."""
    found: dict[tuple[str, str], Reference] = {}
    for touched in (t for t in result.touched.values() if t.stays):
        for edge in graph.callees(touched.function.id):
            if edge.callee in result.touched or edge.kind in (EdgeKind.SPLIT, EdgeKind.INDIRECT):
                continue
            _add_reference(found, graph, graph.function(edge.callee))
    for target, change in changes:
        if change.kind != FUNCTION or change.patched is None:
            continue
        called_before = calls_in(change.orig) if change.orig is not None else set[str]()
        for name in sorted(calls_in(change.patched) - called_before):
            there = [f for f in graph.functions_named(name) if f.object in ("vmlinux", target)]
            if there and there[0].id not in result.touched:
                _add_reference(found, graph, there[0])
    result.references = [found[key] for key in sorted(found)]


def _add_reference(found: dict[tuple[str, str], Reference], graph: CallGraph, function: Function) -> None:
    clone = clone_of(function.name)
    exported = any(n.exported for n in graph.aliases(function.id))
    how = "export" if exported and function.in_vmlinux else "clone" if clone is not None else "local"
    found.setdefault((function.name, function.object), Reference(function.name, function.object, how))
