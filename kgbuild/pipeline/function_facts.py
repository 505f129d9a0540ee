# SPDX-License-Identifier: GPL-2.0-or-later
"""Everything known about one function of a kernel, each fact with its evidence."""

from __future__ import annotations

from dataclasses import replace

from kgbuild.callgraph.edge_kinds import EdgeKind
from kgbuild.callgraph.function_facts import (
    Caller,
    CompilerFacts,
    FunctionFacts,
    Holder,
    InlinedInto,
    Relative,
    compiler_facts,
    summarise_inlined,
)
from kgbuild.callgraph.model import CALLEES, CALLERS, Function, split_name
from kgbuild.callgraph.traversal import NO_BODY
from kgbuild.debuginfo.dwarf_units import DwarfUnit
from kgbuild.host.index.queries import Index, read_unit_at
from kgbuild.host.index.schema import NoBody
from kgbuild.host.index.store import with_index
from kgbuild.host.kernels.build_tools import tools_of
from kgbuild.host.kernels.unit_listing import read_units
from kgbuild.host.system.cache import Cache
from kgbuild.model import VMLINUX, Kernel
from kgbuild.objects.clone_names import clone_of, judge_shared
from kgbuild.progress import Progress


def read_facts(index: Index, kernel: Kernel, function: Function, limit: int = 20) -> FunctionFacts:
    """Facts about one function. `limit` bounds the length of each list (0: no bound); the full counts are kept.

    Inlining and the types of data come from the debugging information of the function's unit, if vmlinux has it.
    """
    names = index.aliases(function.id)
    own = {n.name for n in names}
    stems = {n.family or n.name for n in names}
    unit: DwarfUnit | None = None
    unknown = ""
    offset = index.dwarf_unit(function.id)
    if not function.in_vmlinux:
        unknown = "not known: modules are shipped without debugging information"
    elif offset is None:
        unknown = "not known: vmlinux has no debugging information for its unit"
    else:
        unit, unknown = read_unit_at(kernel, offset)
    caller_count, direct = index.callers_by_function(function.id, taken=False, limit=limit)
    taker_count, takers = index.callers_by_function(function.id, taken=True, limit=limit)
    source, evidence = index.unit_with_evidence(function.id)
    holders = index.address_takers(function.id)
    bound = limit or None

    def caller(number: int, places: list[tuple[int, EdgeKind]]) -> Caller:
        found = index.function(number)
        kinds = sorted({kind.label for _, kind in places})
        return Caller(found.name, found.object, found.unit, tuple(place for place, _ in places), tuple(kinds))

    inlined: list[InlinedInto] = []
    if unit is not None:
        inlined = summarise_inlined([i for i in unit.inlined if i.callee in stems])
    types = unit.data if unit is not None else {}
    callees = index.callees(function.id)
    source = function.unit or index.unit_of(function.id)
    return FunctionFacts(
        function=function,
        unit=source,
        unit_evidence=evidence,
        noinstr=function.id in index.noinstr,
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
        callers=tuple(caller(n, places) for n, places in direct.items()),
        caller_count=caller_count,
        takers=tuple(caller(n, places) for n, places in takers.items()),
        taker_count=taker_count,
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
        indirect_calls=sum(e.kind is EdgeKind.INDIRECT for e in callees),
        compiler=_compiler_facts(kernel, function.object, source, own, bound),
        neighbours={CALLERS: index.count(function.id, CALLERS), CALLEES: index.count(function.id, CALLEES)},
    )


def ask_facts(kernel: Kernel, name: str, progress: Progress, *, limit: int = 20) -> FunctionFacts:
    """Facts about the function of that name (NAME, NAME@UNIT, NAME@MODULE or NAME,POSITION), also where it has no body
    of its own; each list has at most `limit` rows (0: all). Makes the kernel's index where there is none. Raises
    UserError for a name that means no function or several."""

    def answer(index: Index) -> FunctionFacts:
        try:
            return read_facts(index, kernel, index.choose(name), limit)
        except NoBody:
            return read_inlined_facts(index, name, limit)

    return with_index(kernel, progress, answer)


def read_inlined_facts(index: Index, wanted: str, limit: int = 20) -> FunctionFacts:
    """Facts about a function without a body of its own, because gcc inlined every call of it: where, by the debugging
    information of the units that mention it. Each place is NAME@UNIT."""
    name, place, _ = split_name(wanted)
    found, units = index.inlinings(name, place, limit)
    held = summarise_inlined([replace(one, into=f"{one.into}@{source}") for source, one in found])
    sources = sorted({source for source, _ in found})
    more = f"{units - limit} more units of vmlinux mention it: --limit 0 looks at all" if 0 < limit < units else ""
    return FunctionFacts(
        function=Function(NO_BODY, "", name, "", 0, 0, None, False, sources[0] if len(sources) == 1 else ""),
        unit=sources[0] if len(sources) == 1 else "",
        unit_evidence="debugging information" if len(sources) == 1 else "",
        noinstr=False,
        names=(),
        shared=None,
        clone=None,
        relatives=(),
        inlined=tuple(held[: limit or None]),
        inlined_count=len(held),
        inlined_unknown=more,
        callers=(),
        caller_count=0,
        takers=(),
        taker_count=0,
        holders=(),
        holder_count=0,
        callee_count=0,
        indirect_calls=0,
        neighbours={CALLERS: 0, CALLEES: 0},
    )


def inlined_into(index: Index, wanted: str, limit: int = 0) -> list[Function]:
    """The functions of vmlinux into which a function without a body was inlined, by unit (see `Index.inlinings`)."""
    name, place, _ = split_name(wanted)
    out: dict[int, Function] = {}
    for source, one in index.inlinings(name, place, limit)[0]:
        for function in index.functions_named(one.into):
            if (one.address is None or (function.address - one.address) % 2**64 == 0) and index.unit_of(
                function.id
            ) == source:
                out[function.id] = function
    return list(out.values())


def _compiler_facts(
    kernel: Kernel, object_name: str, source: str, names: set[str], limit: int | None
) -> CompilerFacts | None:
    """What an earlier build's compile of the unit recorded; None if there was none. Nothing is compiled."""
    from kgbuild.host.compile.result_cache import find_original

    if not source.endswith(".c") or tools_of(kernel).path_of(kernel.cc) is None:
        return None
    for unit in read_units(kernel, [source])[source]:
        objects = unit.modname.split(":") if unit.module else [VMLINUX]
        compiled = find_original(kernel, unit, Cache()) if object_name in objects else None
        if compiled is not None:
            # these import numpy, which takes longer to load than the rest of the answer
            from kgbuild.debuginfo.compile_flags import flags_of, read_producer
            from kgbuild.diff.ipa_clones import parse_ipa_clones
            from kgbuild.elf.read import read

            flags = flags_of(read_producer(read(compiled.data)))
            dump = parse_ipa_clones(compiled.clones)
            return compiler_facts(dump, sorted(names), flags, compiled.optimized, limit)
    return None
