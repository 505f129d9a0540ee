# SPDX-License-Identifier: GPL-2.0-or-later
"""Who must come along when a function can't be redirected: its callers, wherever they are.

ftrace redirects a function by a call at its beginning. One without it (notrace, noinstr, all of lib/) can only be
replaced by patching everything that calls it, and what can't be redirected among those in turn. In the function's own
unit the object says who calls it; elsewhere the kernel's call graph does, and those units are compiled as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kgbuild.analysis.callgraph import CallGraph
from kgbuild.analysis.diff import cold_parents, is_cold, is_init
from kgbuild.analysis.kinds import Kind
from kgbuild.special.view import DATA, FUNCTION, UNDEFINED, Ambiguous, Atom, Ref, View

# What holds the address of a function for other reasons than to call it.
_NO_TAKERS = ("__ksymtab", "__kstrtab", "__UNIQUE_ID___addressable", "__crc_")
_NO_TAKER_SECTIONS = ("___ksymtab", "__ksymtab", ".discard", "_kprobe_blacklist", "_error_injection_whitelist")


@dataclass(frozen=True)
class Users:
    """Who refers to a function in one object: functions that call it (never a `.cold` half: its parent), and what holds
    its address, by name."""

    callers: tuple[Atom, ...]
    takers: tuple[str, ...]


@dataclass(frozen=True, order=True)
class Outside:
    """A caller in another unit: the unit's source, the object it is part of, the function."""

    source: str
    object: str
    function: str


def is_branch(view: View, source: Atom, ref: Ref) -> bool:
    """Whether a reference is the target of a call or jump, not a pointer being taken."""
    if not view.section_of(source).executable:
        return False
    return any(i.is_branch and i.field_offset == ref.offset for i in view.instructions(source))


def users_in(view: View, target: Atom) -> Users:
    """Who refers to a function of an object, or to a symbol that it leaves undefined."""
    callers: dict[int, Atom] = {}
    takers: dict[str, None] = {}
    for atom, ref in _references(view, target):
        if atom.kind == FUNCTION and is_branch(view, atom, ref):
            for function in cold_parents(atom, view) if is_cold(atom) else [atom]:
                if function.id != target.id and not is_init(view, function):
                    callers.setdefault(function.id, function)
        elif ref.delta == 0 and not (atom.kind == FUNCTION and is_init(view, atom)):
            takers.setdefault(atom.name or view.section_name(atom))
    return Users(tuple(callers.values()), tuple(takers))


def _references(view: View, target: Atom) -> Iterator[tuple[Atom, Ref]]:
    """Every reference to an atom from code and from data, tables of special sections aside."""
    if target.kind == UNDEFINED:
        sections = {s.index for s in view.obj.sections if s.alloc}
    else:
        sections = view.sections_referring_to({target.section}) | {target.section}
    for atom in view.atoms:
        if atom.section not in sections or atom.kind not in (FUNCTION, DATA, "anon"):
            continue
        if view.section_name(atom).startswith(_NO_TAKER_SECTIONS) or atom.name.startswith(_NO_TAKERS):
            continue
        try:
            refs = view.refs(atom)
        except Ambiguous:
            continue
        yield from ((atom, ref) for ref in refs if ref.atom == target.id)


def users_outside(graph: CallGraph, number: int, source: str, target: str) -> tuple[list[Outside], list[str]]:
    """Who calls function `number` of the graph from outside the unit `source` of the object `target`, and what stands
    against pulling them in: holders of its address, callers that are no C code."""
    callers: set[Outside] = set()
    against: dict[str, None] = {}
    for edge in graph.callers(number):
        caller = graph.function(edge.caller)
        if caller.init or edge.kind is Kind.SPLIT:
            continue
        unit = graph.unit_of(edge.caller)
        if unit == source and caller.object == target:
            continue
        if not edge.kind.runs:
            against.setdefault(f"{caller.name} takes its address")
        elif not unit.endswith(".c"):
            against.setdefault(f"{caller.name} in {unit or 'code of an unknown unit'} calls it")
        else:
            callers.add(Outside(unit, caller.object, caller.name.partition(".cold")[0]))
    for taker in graph.address_takers(number):
        if not taker.name.startswith(_NO_TAKERS) and not taker.section.startswith(_NO_TAKER_SECTIONS):
            against.setdefault(f"{taker.name or taker.section} of {taker.object} holds its address")
    return sorted(callers), list(against)
