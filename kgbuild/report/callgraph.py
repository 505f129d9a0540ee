# SPDX-License-Identifier: GPL-2.0-or-later
"""The part of a call graph that a question reaches: as a tree, as data, as a drawing and as a graph."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from kgbuild.callgraph.edge_kinds import EdgeKind
from kgbuild.callgraph.model import CALLERS, Edge, Function
from kgbuild.callgraph.traversal import Reached
from kgbuild.report.documents import schema_name
from kgbuild.report.formats.answer import Answer
from kgbuild.report.formats.drawing import Drawing, DrawnArrow, DrawnNode

if TYPE_CHECKING:
    import networkx

_UNICODE = ("├─ ", "└─ ", "│  ", "   ")
_ASCII = ("|- ", "`- ", "|  ", "   ")


def render_tree(reach: Reached, *, unicode: bool) -> Iterator[str]:
    """A tree from the root outward, with what was not followed said where it was cut.

    Each function is opened once, at its least distance from the root; where it comes again, it says "(again)".
    """
    marks = _UNICODE if unicode else _ASCII
    outward: dict[int, dict[int, list[Edge]]] = {}
    for edge in reach.edges:
        near, far = (edge.callee, edge.caller) if reach.direction == CALLERS else (edge.caller, edge.callee)
        outward.setdefault(near, {}).setdefault(far, []).append(edge)
    root = reach.functions[reach.root]
    verb = "called by" if reach.direction == CALLERS else "calls"
    shown = len(outward.get(reach.root, {}))
    total = reach.uncut.get(reach.root, shown)
    yield f"{root.name}  {_where(root)}  {verb} {total} function{'s' * (total != 1)}"
    yield from _ways(reach, reach.root, "", marks[2])
    opened = {reach.root}
    # (indent, function, neighbours still to show): a stack, because kernels nest deeper than Python likes
    stack: list[tuple[str, int, list[tuple[int, list[Edge]]]]] = [("", reach.root, _sorted(reach, outward, reach.root))]
    while stack:
        indent, near, rest = stack.pop()
        if not rest:
            hidden = reach.uncut.get(near, 0) - len(outward.get(near, {}))
            if hidden > 0:
                yield f"{indent}{marks[1]}... {hidden} more: --limit 0 shows all"
            continue
        (number, edges), *rest = rest
        last = not rest and reach.uncut.get(near, 0) <= len(outward.get(near, {}))
        stack.append((indent, near, rest))
        opens = number not in opened and reach.level[number] == len(stack)
        again = not opens and number in outward
        yield f"{indent}{marks[1] if last else marks[0]}{_label(reach, number, edges)}{'  (again)' if again else ''}"
        if opens:
            opened.add(number)
            below = indent + (marks[3] if last else marks[2])
            yield from _ways(reach, number, below, marks[2])
            stack.append((below, number, _sorted(reach, outward, number)))


_SAYS = {
    "pointer": "its address is in",
    "initcall": "run once by",
    "export": "exported as",
    "stray": "led to by code without a symbol in",
}


def _ways(reach: Reached, number: int, indent: str, bar: str) -> Iterator[str]:
    """Lines for the ways into a function that are no calls."""
    more = reach.uncut.get(number, 0) or any(e.callee == number for e in reach.edges)
    lead = indent + (bar if more else "   ")
    for way in reach.ways.get(number, ()):
        users = ", ".join(way.users[:3]) + (f" and {way.user_count - 3} more" if way.user_count > 3 else "")
        used = f"  used by {users}" if users else ""
        yield f"{lead}* {_SAYS[way.kind]} {way.place}  {way.object}{used}"


def summarise_ways(reach: Reached) -> str:
    """How many ways in there are, and where nothing is known to lead in."""
    counts: dict[str, int] = {}
    for ways in reach.ways.values():
        for way in ways:
            counts[way.kind] = counts.get(way.kind, 0) + 1
    parts = [", ".join(f"{n} {kind}{'s' * (n != 1)}" for kind, n in sorted(counts.items())) or "none"]
    if reach.ends:
        names = sorted(reach.functions[n].name for n in reach.ends)
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        parts.append(f"no way in is known to {', '.join(names[:5])}{more}")
    if reach.further:
        parts.append(f"{len(reach.further)} function{'s' * (len(reach.further) != 1)} not followed (--depth)")
    if not reach.complete:
        parts.append("not all callers followed (--limit)")
    return f"ways in beside calls: {'; '.join(parts)}"


def _sorted(reach: Reached, outward: dict[int, dict[int, list[Edge]]], near: int) -> list[tuple[int, list[Edge]]]:
    def key(item: tuple[int, list[Edge]]) -> tuple[bool, str, str, int]:
        f = reach.functions[item[0]]
        return not f.in_vmlinux, f.object, f.name, f.id

    return sorted(outward.get(near, {}).items(), key=key)


def _where(function: Function) -> str:
    unit = function.unit
    return unit if function.in_vmlinux else f"{function.object}{': ' + unit if unit else ''}"


def _label(reach: Reached, number: int, edges: list[Edge]) -> str:
    function = reach.functions[number]
    first = edges[0]
    # evidence is always a place in the caller
    place = (
        ""
        if first.kind is EdgeKind.INLINED
        else f"+{first.offset:#x}" + (f" and {len(edges) - 1} more" if len(edges) > 1 else "")
    )
    kinds = sorted({e.kind.label for e in edges} - {"call"})
    how = f"  {', '.join(kinds)}" if kinds else ""
    return f"{function.name}{place}{how}  {_where(function)}".rstrip()


def graph_json(reach: Reached) -> dict[str, Any]:
    """Nodes and edges with their evidence."""
    functions = reach.functions
    return {
        "schema": schema_name("graph"),
        "schema_version": 1,
        "root": reach.root,
        "direction": reach.direction,
        "complete": reach.complete,
        "nodes": [
            {
                "id": f.id,
                "name": f.name,
                "object": f.object,
                "unit": f.unit,
                "section": f.section,
                "address": hex(f.address),
                "size": f.size,
                "level": reach.level[f.id],
                "neighbours": reach.uncut.get(f.id),
            }
            for f in sorted(functions.values(), key=lambda f: (reach.level[f.id], f.id))
        ],
        "edges": [
            {
                "caller": e.caller,
                "callee": e.callee,
                "kind": e.kind.label,
                "evidence": e.place_in(functions[e.caller].name),
                "delta": e.delta,
            }
            for e in reach.edges
        ],
        "ends": list(reach.ends),
        "further": list(reach.further),
        "ways": [
            {
                "function": number,
                "kind": way.kind,
                "object": way.object,
                "place": way.place,
                "users": list(way.users),
                "user_count": way.user_count,
            }
            for number, ways in sorted(reach.ways.items())
            for way in ways
        ],
    }


def draw_calls(reach: Reached) -> Drawing:
    """For Graphviz: one arrow for each pair of functions and kind, its places as tooltip."""
    parts: list[DrawnNode | DrawnArrow] = []
    for function in sorted(reach.functions.values(), key=lambda function: function.id):
        attributes = {"label": function.name, "tooltip": _where(function)}
        if function.id in reach.uncut:
            attributes["style"] = "dashed"
        if function.id == reach.root:
            attributes["penwidth"] = "2"
        parts.append(DrawnNode(f"n{function.id}", attributes))
    arrows: dict[tuple[int, int, str], list[str]] = {}
    for e in reach.edges:
        places = arrows.setdefault((e.caller, e.callee, e.kind.label), [])
        places.append(e.place_in(reach.functions[e.caller].name))
    for (caller, callee, kind), places in arrows.items():
        label = {} if kind == "call" else {"label": kind}
        parts.append(DrawnArrow(f"n{caller}", f"n{callee}", {**label, "tooltip": ", ".join(places[:16])}))
    for number, ways in sorted(reach.ways.items()):
        for place, way in enumerate(ways):
            node = f"w{number}_{place}"
            parts.append(DrawnNode(node, {"label": way.place, "tooltip": way.object, "shape": "ellipse"}))
            parts.append(DrawnArrow(node, f"n{number}", {"label": way.kind, "style": "dotted"}))
    remark = "" if reach.complete else "not complete: functions with a dashed frame have more neighbours"
    return Drawing("calls", ("rankdir=LR", "node [shape=box, fontname=monospace]"), tuple(parts), remark)


def graph_of_calls(reach: Reached) -> networkx.DiGraph:
    """For other programs: one edge for each pair of functions, with its kinds and evidence; the graph says whether it
    is complete."""
    graph = reach.digraph()
    graph.graph["complete"] = reach.complete
    return graph


def answer_of_calls(reach: Reached) -> Answer:
    """What `graph` answers."""
    return Answer(
        lambda: graph_json(reach),
        lambda unicode: render_tree(reach, unicode=unicode),
        lambda: draw_calls(reach),
        lambda: graph_of_calls(reach),
    )
