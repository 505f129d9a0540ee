# SPDX-License-Identifier: GPL-2.0-or-later
"""Who calls a function from other units of the kernel, or holds a pointer to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from kgbuild.callgraph.model import CallGraph


class OutsideCaller(NamedTuple):
    """A caller in another unit: the unit's source, the object it is part of, the function."""

    source: str
    object: str
    function: str


def users_outside(graph: CallGraph, number: int, source: str, target: str) -> tuple[list[OutsideCaller], list[str]]:
    """Who calls function `number` of the graph from outside the unit `source` of the object `target`, and the reasons
    against pulling these callers in: holders of its address, callers that are not in C or do not call plainly (a static
    call, for example, keeps the target that the kernel set), init code of modules."""
    from kgbuild.callgraph.edge_kinds import EdgeKind

    callers: set[OutsideCaller] = set()
    against: dict[str, None] = {}
    for edge in graph.callers(number):
        caller = graph.function(edge.caller)
        unit = graph.unit_of(edge.caller)
        # "" is an unknown unit; if no unit is left out, `source` is "" and matches none
        if edge.kind is EdgeKind.SPLIT or (source and unit == source and caller.object == target):
            continue
        if caller.init and caller.in_vmlinux:
            continue
        if caller.init:
            against.setdefault(f"{caller.name}, which runs when {caller.object} comes, calls it")
        elif edge.kind not in (EdgeKind.CALL, EdgeKind.TAIL_CALL):
            against.setdefault(f"{caller.name} reaches it another way ({edge.kind.label})")
        elif not unit.endswith(".c"):
            against.setdefault(f"{caller.name} in {unit or 'code of an unknown unit'} calls it")
        else:
            callers.add(OutsideCaller(unit, caller.object, caller.name.partition(".cold")[0]))
    for taker in graph.address_takers(number):
        if not holds_for_no_call(taker.name, taker.section):
            against.setdefault(f"{taker.name or taker.section} of {taker.object} holds its address")
    for place in graph.strays(number):
        against.setdefault(f"code without a symbol in {place} leads to it")
    return sorted(callers), list(against)


# Names and sections of data that contains a function's address for another purpose than calling it.
_NO_TAKERS = ("__ksymtab", "__kstrtab", "__UNIQUE_ID___addressable", "__crc_")


_NO_TAKER_SECTIONS = ("___ksymtab", "__ksymtab", ".discard", "_kprobe_blacklist", "_error_injection_whitelist")


def holds_for_no_call(name: str, section: str) -> bool:
    """Whether data contains the address of a function for another purpose than calling it: exports, the kprobe
    blacklist, references that only keep the compiler from dropping the function."""
    return name.startswith(_NO_TAKERS) or section.startswith(_NO_TAKER_SECTIONS)
