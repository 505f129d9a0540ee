# SPDX-License-Identifier: GPL-2.0-or-later
"""The part of the call graph that a question reaches, from some functions towards their callers or callees."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from kgbuild.callgraph.edge_kinds import EdgeKind

if TYPE_CHECKING:
    import networkx

    from kgbuild.callgraph.entry_points import Way
from kgbuild.callgraph.model import CALLERS, CallGraph, Edge, Function

# The number of a function without a body of its own (`reach_inlined`); no index has so many functions.
NO_BODY = (1 << 31) - 1


@dataclass(frozen=True)
class Reached:
    """The part of a call graph that a question reaches.

    root       number of the function it starts at
    direction  CALLERS or CALLEES
    functions  every function reached, by its number
    level      its shortest distance from the root
    edges      edges among them that lead one step outward, sorted
    uncut      the full number of a function's neighbours, if not all were followed
    ways       ways into a function other than calls, if asked for
    ends       with ways: functions that have neither a caller nor a way in
    further    with ways: functions at the last step whose callers were not followed
    """

    root: int
    direction: str
    functions: dict[int, Function]
    level: dict[int, int]
    edges: list[Edge]
    uncut: dict[int, int]
    ways: dict[int, list[Way]] = field(default_factory=dict)
    ends: tuple[int, ...] = ()
    further: tuple[int, ...] = ()

    @property
    def complete(self) -> bool:
        return not self.uncut

    def digraph(self) -> networkx.DiGraph:
        """The answer as a networkx.DiGraph of functions; see `to_digraph`. Data that contains an address is a node
        "object:place" with an edge to the function, of the way's kind."""
        graph = to_digraph(self.functions.values(), self.edges)
        for number, ways in self.ways.items():
            for way in ways:
                node = f"{way.object}:{way.place}"
                graph.add_node(node, name=way.place, object=way.object)
                graph.add_edge(node, number, kinds=[way.kind], evidence=[f"used by {user}" for user in way.users])
        return graph


def reach(graph: CallGraph, root: int, direction: str, depth: int, limit: int) -> Reached:
    """What calls `root`, or what it calls, over at most `depth` steps and `limit` further functions (0: no bound).

    The search is breadth first, so that the most distant functions are cut off. Cycles end at functions already
    reached.
    """
    return _spread(graph, Reached(root, direction, {root: graph.function(root)}, {root: 0}, [], {}), 1, depth, limit)


def reach_inlined(graph: CallGraph, name: str, holders: Sequence[Function], depth: int, limit: int) -> Reached:
    """What leads to a function that has no body of its own: `holders`, into which it was inlined, and their callers. In
    the answer, the function has a number that no other has."""
    root = Function(NO_BODY, "", name, "", 0, 0, None, False, "")
    near = holders[: limit or None]
    begun = Reached(
        NO_BODY,
        CALLERS,
        {NO_BODY: root} | {f.id: f for f in near},
        {NO_BODY: 0} | {f.id: 1 for f in near},
        [Edge(f.id, 0, NO_BODY, 0, EdgeKind.INLINED) for f in near],
        {NO_BODY: len(holders)} if len(near) < len(holders) else {},
    )
    return _spread(graph, begun, 2, depth, limit)


def _spread(graph: CallGraph, begun: Reached, first: int, depth: int, limit: int) -> Reached:
    """`begun`, extended from its last level on, in steps from `first` to `depth`."""
    root, direction = begun.root, begun.direction
    functions, level = dict(begun.functions), dict(begun.level)
    edges, uncut = set(begun.edges), dict(begun.uncut)
    most = limit + 1 if limit else 0
    frontier = [number for number, far in level.items() if far == first - 1]
    for step in range(first, depth + 1):
        following: list[int] = []
        for number in frontier:
            known: set[int] = set()
            for edge in _neighbours(graph, number, direction, limit, full=bool(most) and len(functions) >= most):
                far = edge.caller if direction == CALLERS else edge.callee
                if far not in functions:
                    if most and len(functions) >= most:
                        continue
                    functions[far] = graph.function(far)
                    level[far] = step
                    following.append(far)
                known.add(far)
                edges.add(edge)
            if limit and (total := graph.count(number, direction)) > len(known):
                uncut[number] = total
        frontier = following
    return Reached(root, direction, functions, level, sorted(edges), uncut)


def reach_with_ways(graph: CallGraph, root: int, depth: int, limit: int) -> Reached:
    """Who can reach `root`: its callers, and for each function on a path the ways in that are no calls."""
    from kgbuild.callgraph.entry_points import ways_in

    found = reach(graph, root, CALLERS, depth, limit)
    ways = {number: ways_in(graph, number) for number in found.functions}
    followed = {edge.callee for edge in found.edges}
    not_followed = [n for n in sorted(found.functions) if n not in followed]
    called = [n for n in not_followed if graph.count(n, CALLERS)]
    return replace(
        found,
        ways={number: those for number, those in ways.items() if those},
        ends=tuple(n for n in not_followed if n not in called and not ways[n]),
        further=tuple(n for n in called if found.level[n] == depth),
    )


def _neighbours(graph: CallGraph, number: int, direction: str, limit: int, *, full: bool) -> list[Edge]:
    """Edges of one function, limited: one neighbour may account for several. Empty if no new function is added."""
    if full:
        return []
    rows = 4 * limit
    return graph.callers(number, rows) if direction == CALLERS else graph.callees(number, rows)


def to_digraph(functions: Iterable[Function], edges: Iterable[Edge]) -> networkx.DiGraph:
    """A networkx.DiGraph. Nodes are the functions' numbers with the attributes name, object, unit, address, size. An
    edge joins caller and callee, with `kinds` (sorted) and `evidence` (places `caller+offset`, the first 16)."""
    import networkx as nx

    out = nx.DiGraph()
    names = {}
    for function in functions:
        names[function.id] = function.name
        out.add_node(
            function.id,
            name=function.name,
            object=function.object,
            unit=function.unit,
            address=hex(function.address),
            size=function.size,
        )
    for edge in edges:
        if not out.has_edge(edge.caller, edge.callee):
            out.add_edge(edge.caller, edge.callee, kinds=[], evidence=[])
        attributes = out.edges[edge.caller, edge.callee]
        if edge.kind.label not in attributes["kinds"]:
            attributes["kinds"] = sorted([*attributes["kinds"], edge.kind.label])
        if len(attributes["evidence"]) < 16:
            attributes["evidence"].append(edge.place_in(names[edge.caller]))
    return out
