# SPDX-License-Identifier: GPL-2.0-or-later
"""All that is known about one function of a kernel, each fact with what it was seen by."""

from __future__ import annotations

import shutil

from kgbuild.analysis.callgraph import CALLEES, CALLERS, Function
from kgbuild.analysis.dwarf5 import UnitFacts
from kgbuild.analysis.facts import (
    Caller,
    CompilerFacts,
    Facts,
    Holder,
    InlinedInto,
    Relative,
    compiler_facts,
    summarise,
)
from kgbuild.analysis.ipaclones import parse_ipa_clones
from kgbuild.analysis.kinds import Kind
from kgbuild.analysis.optimizations import clone_of, judge_shared
from kgbuild.analysis.resolve import VMLINUX
from kgbuild.elf.read import read
from kgbuild.host.cache import Cache
from kgbuild.host.index import Index, read_unit_at
from kgbuild.host.results import find_original
from kgbuild.host.units import read_units
from kgbuild.model import Kernel


def read_facts(index: Index, kernel: Kernel, function: Function, limit: int = 20) -> Facts:
    """Facts about one function. `limit` bounds each list (0: all); how many there are in all is kept.

    Inlining and the types of data come from the debugging information of the one unit, where vmlinux has it.
    """
    names = index.aliases(function.id)
    own = {n.name for n in names}
    stems = {n.family or n.name for n in names}
    unit: UnitFacts | None = None
    unknown = ""
    offset = index.dwarf_unit(function.id)
    if not function.in_vmlinux:
        unknown = "not known: modules are shipped without debugging information"
    elif offset is None:
        unknown = "not known: vmlinux has no debugging information for its unit"
    else:
        unit, unknown = read_unit_at(kernel, offset)
    callers = index.callers(function.id)
    direct: dict[int, list[tuple[int, Kind]]] = {}
    takers: dict[int, list[int]] = {}
    for edge in callers:
        if edge.kind.runs:
            direct.setdefault(edge.caller, []).append((edge.offset, edge.kind))
        else:
            takers.setdefault(edge.caller, []).append(edge.offset)
    holders = index.address_takers(function.id)
    bound = limit or None

    def caller(number: int, places: list[int], kinds: list[str]) -> Caller:
        found = index.function(number)
        return Caller(found.name, found.object, found.unit, tuple(places), tuple(sorted(set(kinds))))

    inlined: list[InlinedInto] = []
    if unit is not None:
        inlined = summarise([i for i in unit.inlined if i.callee in stems])
    types = unit.data if unit is not None else {}
    callees = index.callees(function.id)
    source = function.unit or index.unit_of(function.id)
    return Facts(
        function=function,
        unit=source,
        unit_evidence=_unit_evidence(index, function),
        names=tuple(names),
        shared=judge_shared([(n.name, n.bind == "local") for n in names]) if len(names) > 1 else None,
        clone=clone_of(function.name),
        relatives=tuple(
            Relative(f.name, f.size, clone.kinds if (clone := clone_of(f.name)) is not None else ())
            for f in index.family(function.id)
            if f.name not in own
        ),
        inlined=tuple(inlined[:bound]),
        inlined_count=len(inlined),
        inlined_unknown=unknown,
        callers=tuple(
            caller(n, [p for p, _ in places], [k.label for _, k in places])
            for n, places in list(direct.items())[:bound]
        ),
        caller_count=len(direct),
        takers=tuple(caller(n, places, ["address taken"]) for n, places in list(takers.items())[:bound]),
        taker_count=len(takers),
        holders=tuple(
            Holder(
                h.object,
                h.name,
                h.section,
                h.offset,
                types.get(h.address - (1 << 64) if h.address >> 63 else h.address, "") if h.object == "vmlinux" else "",
                tuple(index.function(user).name for user in h.users[:bound]),
                len(h.users),
            )
            for h in holders[:bound]
        ),
        holder_count=len(holders),
        callee_count=len({e.callee for e in callees if e.kind.runs}),
        indirect_calls=sum(e.kind is Kind.INDIRECT for e in callees),
        compiler=_compiler_facts(kernel, function.object, source, own, bound),
        neighbours={CALLERS: index.count(function.id, CALLERS), CALLEES: index.count(function.id, CALLEES)},
    )


def _compiler_facts(
    kernel: Kernel, object_name: str, source: str, names: set[str], limit: int | None
) -> CompilerFacts | None:
    """What an earlier build's compile of the unit tells; None where there was none. Nothing is compiled."""
    from kgbuild.analysis.unitflags import flags_of, read_producer

    if not source.endswith(".c") or shutil.which(kernel.cc) is None:
        return None
    for unit in read_units(kernel.units, [source])[source]:
        objects = unit.modname.split(":") if unit.module else [VMLINUX]
        compiled = find_original(kernel, unit, Cache()) if object_name in objects else None
        if compiled is not None:
            flags = flags_of(read_producer(read(compiled.data)))
            dump = parse_ipa_clones(compiled.clones)
            return compiler_facts(dump, sorted(names), flags, compiled.optimized, limit)
    return None


def _unit_evidence(index: Index, function: Function) -> str:
    if not function.in_vmlinux:
        return "only unit of the module" if function.unit else "the text of the module's sources"
    return ".debug_aranges" if index.dwarf_unit(function.id) is not None else "symbol table"
