# SPDX-License-Identifier: GPL-2.0-or-later
"""The functions of a patch as a graph, from a closure or an estimate: for Graphviz, and as GraphML.

An arrow leads from what comes along to what brought it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from kgbuild.closure.model import Closure
from kgbuild.estimation.estimate import Estimate
from kgbuild.objects.atoms import FUNCTION

SHOWN = ("changed", "pulled", "new", "carried")


@dataclass(frozen=True)
class Node:
    """One function: `redirected` where the kernel's function is replaced by it."""

    id: str
    name: str
    role: str
    unit: str
    object: str
    redirected: bool


@dataclass(frozen=True)
class Arrow:
    """Who came because of whom, and why."""

    source: str
    target: str
    reason: str


@dataclass(frozen=True)
class PatchGraph:
    """A whole patch. `estimate` where it was not compiled."""

    nodes: tuple[Node, ...]
    arrows: tuple[Arrow, ...]
    estimate: bool


def graph_of_closure(closure: Closure) -> PatchGraph:
    """The functions of a compiled patch, halves and padding left out."""
    members = [m for m in closure.members.values() if m.atom.kind == FUNCTION and m.role in SHOWN]
    members.sort(key=lambda m: (m.unit, m.atom.id))
    redirected = {(r.unit, r.atom.id) for r in closure.redirects}
    nodes, arrows = [], []
    for m in members:
        unit = closure.units[m.unit]
        key = (m.unit, m.atom.id)
        nodes.append(Node(_id(*key), m.atom.name, m.role, unit.source, unit.target, key in redirected))
        if m.via is not None:
            arrows.append(Arrow(_id(*key), _id(*m.via), m.reason))
    return PatchGraph(tuple(nodes), tuple(arrows), False)


def graph_of_estimate(result: Estimate) -> PatchGraph:
    """The functions that a patch would touch. A function of the source that stands in others only because it was
    inlined is a node of its own, with the role "source"."""
    nodes, arrows = [], []
    sources: dict[tuple[str, str], Node] = {}
    bodies = {(t.unit, t.origin): f"f{t.function.id}" for t in result.of("changed") if t.function.name == t.origin}
    for t in [*result.of("changed"), *result.of("pulled")]:
        f = t.function
        nodes.append(Node(f"f{f.id}", f.name, t.role, t.unit, f.object, t.stays and f.trace_site is not None))
        if t.via is not None:
            arrows.append(Arrow(f"f{f.id}", f"f{t.via}", t.reason))
        elif t.origin != f.name:
            origin = bodies.get((t.unit, t.origin))
            if origin is None:
                key = (t.unit, t.origin)
                sources.setdefault(key, Node(f"s{len(sources)}", t.origin, "source", t.unit, f.object, False))
                origin = sources[key].id
            arrows.append(Arrow(f"f{f.id}", origin, t.reason))
    nodes += sources.values()
    nodes += [Node(f"n{i}", name, "new", unit, "", False) for i, (name, unit) in enumerate(result.new)]
    return PatchGraph(tuple(nodes), tuple(arrows), True)


def render_dot(graph: PatchGraph) -> Iterator[str]:
    """A graph for Graphviz; what is redirected has a bold frame."""
    yield "digraph patch {"
    if graph.estimate:
        yield '  label="an estimate: nothing was compiled";'
    yield '  node [shape=box, fontname="monospace"];'
    for n in graph.nodes:
        where = n.unit + (f" ({n.object})" if n.object not in ("vmlinux", "") else "")
        style = ", style=bold" if n.redirected else ", style=dashed" if n.role == "source" else ""
        yield f'  {n.id} [label="{_quoted(n.name)}\\n{n.role}\\n{_quoted(where)}"{style}];'
    for a in graph.arrows:
        yield f'  {a.source} -> {a.target} [label="{_quoted(a.reason)}"];'
    yield "}"


def render_graphml(graph: PatchGraph) -> Iterator[str]:
    """GraphML by networkx: nodes have name, role, unit, object, redirected; edges a reason; the graph, estimate."""
    import networkx as nx
    from networkx.readwrite import graphml

    out = nx.DiGraph(estimate=graph.estimate)
    for n in graph.nodes:
        out.add_node(n.id, name=n.name, role=n.role, unit=n.unit, object=n.object, redirected=n.redirected)
    for a in graph.arrows:
        out.add_edge(a.source, a.target, reason=a.reason)
    write: Callable[[Any], Iterator[str]] = graphml.generate_graphml
    yield from write(out)


def _id(unit: int, atom: int) -> str:
    return f"f{unit}_{atom}"


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
