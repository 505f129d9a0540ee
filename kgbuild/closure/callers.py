# SPDX-License-Identifier: GPL-2.0-or-later
"""Who must come along when a function can't be redirected: its callers, wherever they are.

ftrace redirects a function by a call at its beginning. One without it (notrace, noinstr, all of lib/) can only be
replaced by patching everything that calls it, and what can't be redirected among those in turn. In the function's own
unit the object says who calls it; elsewhere the kernel's call graph does, and those units are compiled as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from kgbuild.callgraph.outside_callers import OutsideCaller, holds_for_no_call, users_outside
from kgbuild.closure.model import REPLACED, Contents, UnitResult
from kgbuild.model import VMLINUX
from kgbuild.objects.atoms import ANON, DATA, FUNCTION, UNDEFINED, Ambiguous, Atom, Ref
from kgbuild.objects.symbol_kinds import cold_parents, is_branch, is_cold, is_init
from kgbuild.objects.view import View

if TYPE_CHECKING:
    from kgbuild.callgraph.model import CallGraph

Graph = Callable[[], "CallGraph"]  # gives the kernel's call graph when it is first asked for


class Users(NamedTuple):
    """Who refers to a function in one object: functions that call it (never a `.cold` half: its parent), and what holds
    its address, by name."""

    callers: tuple[Atom, ...]
    takers: tuple[str, ...]


def users_in(view: View, target: Atom, built_in: bool) -> Users:
    """Who refers to a function of an object, or to a symbol that it leaves undefined.

    Init and exit code of vmlinux (`built_in`) has run or is not there, and does not count. A module's runs whenever it
    comes and goes, patched or not, and can't be redirected: it stands among the takers, as does replacement code of
    alternatives, which is no function of its own.
    """
    callers: dict[int, Atom] = {}
    takers: dict[str, None] = {}
    for atom, ref in _references(view, target):
        branch = atom.kind == FUNCTION and is_branch(view, atom, ref)
        if not branch and ref.delta != 0:
            continue
        for function in cold_parents(atom, view) if branch and is_cold(atom) else [atom]:
            gone = atom.kind == FUNCTION and is_init(view, function)
            if gone and not built_in:
                takers.setdefault(function.name)
            elif branch and not gone and function.id != target.id:
                callers.setdefault(function.id, function)
            elif not branch and not gone:
                takers.setdefault(function.name or view.section_name(function))
    for section in sorted(_sections_referring_to(view, target)):
        if view.obj.sections[section].name in view.arch.auxiliary and _enters(view, section, target):
            takers.setdefault(view.obj.sections[section].name)
    return Users(tuple(callers.values()), tuple(takers))


def _enters(view: View, section: int, target: Atom) -> bool:
    """Whether replacement code means the beginning of a function; jumps back into the middle of one are its own."""
    for _, kind, sym, addend in view.obj.reloc_rows(section):
        bias = view.arch.relocs.sizes.get(kind, 0) if kind in view.arch.relocs.pc_relative else 0
        try:
            meant = view.target(sym, addend + bias)
        except Ambiguous:
            return True
        if meant == (target.id, 0):
            return True
    return False


def _sections_referring_to(view: View, target: Atom) -> set[int]:
    """Sections with a relocation that may mean a function: against a symbol of it or of its section."""
    if target.kind != UNDEFINED:
        return view.sections_referring_to({target.section})
    symbols = set(target.symbols)
    return {i for i in view.obj.rela_of if any(sym in symbols for _, _, sym, _ in view.obj.reloc_rows(i))}


def _references(view: View, target: Atom) -> Iterator[tuple[Atom, Ref]]:
    """Every reference to an atom from code and from data, tables of special sections aside."""
    sections = _sections_referring_to(view, target) | {target.section}
    for atom in view.atoms:
        if atom.section not in sections or atom.kind not in (FUNCTION, DATA, ANON):
            continue
        if holds_for_no_call(atom.name, view.section_name(atom)):
            continue
        try:
            refs = view.refs(atom)
        except Ambiguous:
            continue
        yield from ((atom, ref) for ref in refs if ref.atom == target.id)


# -- by the kernel's call graph ------------------------------------------------------------------------------------


def function_at(graph: Graph | None, target: str, name: str, addresses: list[int]) -> int | None:
    """The number in the call graph of the one function `name` of an object, at the one address that it has there; None
    where that is not sure."""
    if graph is None or len(addresses) != 1:
        return None
    if target == VMLINUX:
        function = graph().function_at(VMLINUX, addresses[0])
        return function.id if function is not None else None
    named = [f for f in graph().functions_named(name) if f.object == target]
    return named[0].id if len(named) == 1 else None


def original_in_graph(graph: Graph | None, unit: UnitResult, atom: Atom) -> int | None:
    """The number in the call graph of a function of a unit's original object; None where that is not sure."""
    found = unit.parity.of(atom.id)
    return function_at(graph, unit.target, atom.name, [found.address] if found is not None and found.address else [])


def callers_left(contents: Contents, graph: Graph | None, found: int | None, source: str, target: str) -> str:
    """Who calls function `found` of the graph from outside the unit `source` of an object, and is not replaced; "" for
    nobody."""
    if found is None:
        return "other units may call it"
    assert graph is not None
    callers, against = users_outside(graph(), found, source, target)
    replaced = {
        OutsideCaller(contents.units[m.unit].source, contents.units[m.unit].target, name)
        for m in contents.members.values()
        if m.role in REPLACED
        for name in m.atom.names
    }
    remaining = [c for c in callers if c not in replaced]
    return "; ".join([f"{c.function} in {c.source} calls it" for c in remaining[:3]] + against[:3])
