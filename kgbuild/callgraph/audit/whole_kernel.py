# SPDX-License-Identifier: GPL-2.0-or-later
"""Figures about all functions of a kernel, from its index and its debugging information.

A patch of a function of the source reaches the running kernel where its code is: in its body, in clones, and in the
functions that gcc inlined it into. What ftrace can't redirect is reached by way of its callers, up to functions that
can be redirected (as `closure/passes/redirects.py` does it); a pointer to it, an export or a caller in assembly ends
that.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import NamedTuple

from kgbuild.callgraph.edge_kinds import EdgeKind
from kgbuild.callgraph.model import Edge, Function, Name
from kgbuild.debuginfo.dwarf_units import DwarfUnit
from kgbuild.model import VMLINUX
from kgbuild.objects.clone_names import PAD_PREFIX, clone_of, judge_shared

ISRA, CONSTPROP, PART, COLD, ICF, INLINED = "isra", "constprop", "part", "cold", "icf", "inlining"
OPTIMISATIONS = {
    INLINED: "functions of the source that gcc inlined somewhere, of vmlinux",
    ISRA: "clones with parameters removed or passed by value (ipa-sra)",
    CONSTPROP: "clones with parameters replaced by constants (ipa-cp)",
    PART: "tails of functions whose heads were inlined (partial inlining)",
    COLD: "functions with an unlikely half elsewhere",
    ICF: "names that share the body of another function (ipa-icf)",
}
INIT, NOINSTR, ASSEMBLY, NO_FENTRY = "init", "noinstr", "assembly", "no fentry"
EXIT, TRAMPOLINE, TRACING = "exit", "static call", "tracing"
NOT_REDIRECTED = {
    INIT: "runs once, and its memory is freed",
    NOINSTR: "noinstr code and kernel entry: it is never traced",
    ASSEMBLY: "written in assembly",
    EXIT: "runs when a module is unloaded: it is not traced",
    TRAMPOLINE: "the trampoline of a static call, which the kernel rewrites itself",
    TRACING: "made by tracepoint macros, as notrace",
    NO_FENTRY: "no call of __fentry__: notrace, or its file is compiled without",
}
REDIRECTED, BY_CALLERS, BLOCKED = "redirected", "by its callers", "not at all"
POINTER, EXPORT, ASM_CALLER, NOBODY = "a pointer to it", "exported", "a caller in assembly", "no caller is known"
_TRAMPOLINE, _TRACING = "__SCT__", ("trace_event_raw_event_", "perf_trace_", "trace_raw_output_")
HARDEST = 100
STEPS = (1, 2, 3, 6, 11, 21, 51, 101, 501)  # lower ends of the ranges of a distribution
_RUNS = frozenset({EdgeKind.CALL, EdgeKind.TAIL_CALL, EdgeKind.STATIC_CALL, EdgeKind.ALTERNATIVE, EdgeKind.JUMP_TABLE})


class KernelTables(NamedTuple):
    """What an index has: functions, their names, edges, functions of noinstr code, functions whose address lies in
    data, and those that code without a symbol leads to."""

    functions: Sequence[Function]
    names: Mapping[int, Sequence[Name]]
    edges: Iterable[Edge]
    noinstr: AbstractSet[int]
    pointed: AbstractSet[int]
    strays: AbstractSet[int]


class SourceFunction(NamedTuple):
    """A function of the source: its name and the file that defines it."""

    name: str
    file: str


@dataclass(frozen=True)
class Inlinings:
    """What the debugging information of vmlinux says: for each function of the source the functions (unit, name) that
    hold a copy of it, those that have a body (unit, name) -> addresses, and how many copies there are."""

    holders: Mapping[SourceFunction, AbstractSet[tuple[str, str]]]
    bodies: Mapping[SourceFunction, AbstractSet[tuple[str, str]]]
    copies: int


@dataclass(frozen=True)
class HardFunction:
    """One of the functions that are hardest to patch: how many functions have to be replaced for it, its copies, and
    what stands in the way ("" where nothing does)."""

    name: str
    file: str
    replaced: int
    copies: int
    blocked: str


@dataclass(frozen=True)
class WholeKernel:
    """Figures about a whole kernel.

    functions       functions that stay after boot, without halves, padding and trampolines: vmlinux, modules
    optimised       how many of each optimisation
    not_redirected  by reason: functions without an ftrace site
    patchable       REDIRECTED, BY_CALLERS, BLOCKED -> functions
    blocked         by what ends the way over callers -> functions
    exported        exported functions without an ftrace site
    same_name       names that several functions have, and functions with such a name; those that no position names
    sources         functions of the source in vmlinux that have code
    touched         lower end of a range -> functions of the source whose change replaces so many functions
    mean, median, most   how many functions a change of one function of the source replaces
    hardest         at most HARDEST
    """

    functions: Mapping[str, int]
    optimised: Mapping[str, int]
    not_redirected: Mapping[str, int]
    patchable: Mapping[str, int]
    blocked: Mapping[str, int]
    exported: int
    same_name: Mapping[str, int]
    sources: int
    copies: int
    touched: Mapping[int, int]
    mean: float
    median: int
    most: int
    hardest: tuple[HardFunction, ...] = field(default=())


def read_inlinings(units: Iterable[tuple[str, DwarfUnit]]) -> Inlinings:
    """What the units of vmlinux say of inlining. A unit is named by its source."""
    holders: dict[SourceFunction, set[tuple[str, str]]] = defaultdict(set)
    bodies: dict[SourceFunction, set[tuple[str, str]]] = defaultdict(set)
    copies = 0
    for source, unit in units:
        files = {d.name: d.file for d in unit.declared}
        for one in unit.inlined:
            holders[SourceFunction(one.callee, files.get(one.callee) or source)].add((source, one.into))
            copies += 1
        for name in unit.bodies:
            bodies[SourceFunction(name, files.get(name) or source)].add((source, name))
    return Inlinings(holders, bodies, copies)


def audit_kernel(tables: KernelTables, inlinings: Inlinings) -> WholeKernel:
    """All figures. Takes time that grows with functions and edges."""
    graph = _Callers(tables)
    living = [f for f in tables.functions if not f.init and not _is_half(f.name) and not f.name.startswith(_TRAMPOLINE)]
    verdicts = {f.id: graph.verdict(f.id) for f in living if f.trace_site is None}
    patchable = Counter({REDIRECTED: len(living) - len(verdicts)})
    patchable.update(BLOCKED if blocked else BY_CALLERS for _, blocked in verdicts.values())
    why_not = Counter(_why_not(f, tables) for f in tables.functions if f.trace_site is None and not _is_half(f.name))
    blocked = Counter(blocked for _, blocked in verdicts.values() if blocked)
    exported = sum(any(n.exported for n in tables.names.get(f.id, ())) for f in living if f.trace_site is None)
    hard = _by_source(living, inlinings, verdicts)
    counts = sorted(one.replaced for one in hard)
    hard.sort(key=lambda one: (-one.replaced, not one.blocked, one.name, one.file))
    return WholeKernel(
        {"vmlinux": sum(f.in_vmlinux for f in living), "modules": sum(not f.in_vmlinux for f in living)},
        {INLINED: len(inlinings.holders), **_derived(tables)},
        dict(why_not.most_common()),
        dict(patchable),
        dict(blocked.most_common()),
        exported,
        _same_names(living, tables.names),
        len(counts),
        inlinings.copies,
        _distribution(counts),
        round(sum(counts) / len(counts), 3) if counts else 0.0,
        counts[len(counts) // 2] if counts else 0,
        counts[-1] if counts else 0,
        tuple(hard[:HARDEST]),
    )


def _is_half(name: str) -> bool:
    """Whether a name is of a part of a function: its cold half, or the padding before it."""
    clone = clone_of(name)
    return name.startswith(PAD_PREFIX) or (clone is not None and clone.kinds[-1] in ("cold", "warn"))


def _why_not(function: Function, tables: KernelTables) -> str:
    if function.init:
        return INIT
    if function.id in tables.noinstr:
        return NOINSTR
    if function.section.startswith(".exit"):
        return EXIT
    if function.name.startswith(_TRAMPOLINE):
        return TRAMPOLINE
    if function.name.startswith(_TRACING):
        return TRACING
    # each unit of vmlinux that a compiler made has debugging information, and so a source
    written = function.unit.endswith(".c") or not function.in_vmlinux
    return NO_FENTRY if written and not function.unit.endswith(".S") else ASSEMBLY


def _derived(tables: KernelTables) -> dict[str, int]:
    """How many functions gcc derived, by suffix, and how many names it folded into others' bodies."""
    out: Counter[str] = Counter({ISRA: 0, CONSTPROP: 0, PART: 0, COLD: 0, ICF: 0})
    for function in tables.functions:
        if function.name.startswith(PAD_PREFIX):
            continue
        names = [n for n in tables.names.get(function.id, ()) if not n.name.startswith(PAD_PREFIX)]
        clone = clone_of(function.name)
        out.update(kind for kind in set(clone.kinds if clone is not None else ()) if kind in out)
        if len(names) > 1 and judge_shared([(n.name, n.bind == "local") for n in names]).folded:
            out[ICF] += len(names) - 1
    return dict(out)


def _same_names(living: Sequence[Function], names: Mapping[int, Sequence[Name]]) -> dict[str, int]:
    by_name: dict[tuple[str, str], set[int]] = defaultdict(set)
    unnamed = set()
    for function in living:
        for name in names.get(function.id, ()):
            by_name[function.object, name.name].add(function.id)
            if name.sympos is None:
                unnamed.add(function.id)
    several = [ids for ids in by_name.values() if len(ids) > 1]
    return {"names": len(several), "functions": len(set().union(*several)), "without position": len(unnamed)}


def _distribution(counts: Sequence[int]) -> dict[int, int]:
    out = dict.fromkeys(STEPS, 0)
    for count in counts:
        out[max((step for step in STEPS if step <= count), default=STEPS[0])] += 1
    return out


class _Callers:
    """Who calls what, halves counted as the functions that they are part of."""

    def __init__(self, tables: KernelTables) -> None:
        self.tables = tables
        self.functions = {f.id: f for f in tables.functions}
        whole: dict[tuple[str, str, str], int] = {}
        for function in tables.functions:
            for name in tables.names.get(function.id, ()):
                whole.setdefault((function.object, function.unit, name.name), function.id)
        self.part_of = {
            f.id: whole.get((f.object, f.unit, f.name.rpartition(".cold")[0]), f.id)
            for f in tables.functions
            if _is_half(f.name)
        }
        self.callers: dict[int, set[int]] = defaultdict(set)
        self.taken = set(tables.pointed)
        for edge in tables.edges:
            if edge.kind in _RUNS and not edge.delta:
                self.callers[edge.callee].add(self.part_of.get(edge.caller, edge.caller))
            elif edge.kind is EdgeKind.ADDRESS_TAKEN and not edge.delta:
                self.taken.add(edge.callee)
        self.exported = {i for i, names in tables.names.items() if any(n.exported for n in names)}

    def verdict(self, number: int) -> tuple[frozenset[int], str]:
        """For a function without an ftrace site: the functions that have to be redirected in its place, and what ends
        the way ("" where nothing does)."""
        seen, pulled, todo = {number}, set(), [number]
        while todo:
            now = todo.pop()
            function = self.functions[now]
            if now in self.taken:
                return frozenset(), POINTER
            if now in self.exported:
                return frozenset(), EXPORT
            if now in self.tables.strays or (function.unit.endswith(".S") and now != number):
                return frozenset(), ASM_CALLER
            above = {c for c in self.callers.get(now, ()) if not self.functions[c].init}
            if not above and not self.callers.get(now):
                return frozenset(), NOBODY
            for caller in above - seen:
                seen.add(caller)
                if self.functions[caller].trace_site is not None:
                    pulled.add(caller)
                else:
                    todo.append(caller)
        return frozenset(pulled), ""


def _by_source(
    living: Sequence[Function], inlinings: Inlinings, verdicts: Mapping[int, tuple[frozenset[int], str]]
) -> list[HardFunction]:
    """How many functions a change of each function of the source in vmlinux replaces."""
    numbers: dict[tuple[str, str], list[int]] = defaultdict(list)
    clones: dict[tuple[str, str], list[int]] = defaultdict(list)
    for function in living:
        if function.object == VMLINUX:
            numbers[function.unit, function.name].append(function.id)
            clone = clone_of(function.name)
            if clone is not None:
                clones[function.unit, clone.family].append(function.id)
    out = []
    for source in {**inlinings.holders, **inlinings.bodies}:
        holders = inlinings.holders.get(source, frozenset())
        places = {*holders, *inlinings.bodies.get(source, ())}
        found = {n for place in places for n in (*numbers.get(place, ()), *clones.get(place, ()))}
        if not found:
            continue  # of init code, or without code
        reached: set[int] = set()
        blocked = ""
        for number in found:
            pulled, why = verdicts.get(number, (frozenset((number,)), ""))
            reached |= pulled
            blocked = blocked or why
        out.append(HardFunction(source.name, source.file, max(len(reached), 1), len(holders), blocked))
    return out
