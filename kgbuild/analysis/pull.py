# SPDX-License-Identifier: GPL-2.0-or-later
"""Who must come along when a function can't be redirected: its callers, wherever they are.

ftrace redirects a function by a call at its beginning. One without it (notrace, noinstr, all of lib/) can only be
replaced by patching everything that calls it, and what can't be redirected among those in turn. In the function's own
unit the object says who calls it; elsewhere the kernel's call graph does, and those units are compiled as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from kgbuild.analysis.diff import cold_parents, is_cold, is_init
from kgbuild.special.view import ANON, DATA, FUNCTION, UNDEFINED, Ambiguous, Atom, Ref, View

if TYPE_CHECKING:
    from kgbuild.analysis.callgraph import CallGraph

# What holds the address of a function for other reasons than to call it.
_NO_TAKERS = ("__ksymtab", "__kstrtab", "__UNIQUE_ID___addressable", "__crc_")
_NO_TAKER_SECTIONS = ("___ksymtab", "__ksymtab", ".discard", "_kprobe_blacklist", "_error_injection_whitelist")


def holds_for_no_call(name: str, section: str) -> bool:
    """Whether what holds the address of a function does so for other reasons than to call it: exports, lists of places
    that may not be probed, what only keeps the compiler from dropping it."""
    return name.startswith(_NO_TAKERS) or section.startswith(_NO_TAKER_SECTIONS)


class Users(NamedTuple):
    """Who refers to a function in one object: functions that call it (never a `.cold` half: its parent), and what holds
    its address, by name."""

    callers: tuple[Atom, ...]
    takers: tuple[str, ...]


class Outside(NamedTuple):
    """A caller in another unit: the unit's source, the object it is part of, the function."""

    source: str
    object: str
    function: str


def is_branch(view: View, source: Atom, ref: Ref) -> bool:
    """Whether a reference is the target of a call or jump, not a pointer being taken."""
    if not view.section_of(source).executable:
        return False
    return any(i.is_branch and i.field_offset == ref.offset for i in view.instructions(source))


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
        bias = view.arch.reloc_size.get(kind, 0) if kind in view.arch.pc_relative else 0
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


def users_outside(graph: CallGraph, number: int, source: str, target: str) -> tuple[list[Outside], list[str]]:
    """Who calls function `number` of the graph from outside the unit `source` of the object `target`, and what stands
    against pulling them in: holders of its address, callers that are no C code or no plain calls (the target of a
    static call, say, stays what the kernel set), init code of modules."""
    from kgbuild.analysis.kinds import Kind

    callers: set[Outside] = set()
    against: dict[str, None] = {}
    for edge in graph.callers(number):
        caller = graph.function(edge.caller)
        unit = graph.unit_of(edge.caller)
        # "" is the unit of a caller whose unit is not known, and no unit at all where none is left out
        if edge.kind is Kind.SPLIT or (source and unit == source and caller.object == target):
            continue
        if caller.init and caller.in_vmlinux:
            continue
        if caller.init:
            against.setdefault(f"{caller.name}, which runs when {caller.object} comes, calls it")
        elif edge.kind not in (Kind.CALL, Kind.TAIL_CALL):
            against.setdefault(f"{caller.name} reaches it another way ({edge.kind.label})")
        elif not unit.endswith(".c"):
            against.setdefault(f"{caller.name} in {unit or 'code of an unknown unit'} calls it")
        else:
            callers.add(Outside(unit, caller.object, caller.name.partition(".cold")[0]))
    for taker in graph.address_takers(number):
        if not holds_for_no_call(taker.name, taker.section):
            against.setdefault(f"{taker.name or taker.section} of {taker.object} holds its address")
    for place in graph.strays(number):
        against.setdefault(f"code without a symbol in {place} leads to it")
    return sorted(callers), list(against)
