# SPDX-License-Identifier: GPL-2.0-or-later
"""The functions of a patch as a graph, from a closure or an estimate: as a drawing, and for other programs.

An arrow leads from what comes along to what brought it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from kgbuild.closure.edit_results import INLINED, NO_EDITS, EditResult, SourceEdits
from kgbuild.closure.model import Closure
from kgbuild.estimation.estimate import Estimate
from kgbuild.objects.atoms import FUNCTION
from kgbuild.report.formats import drawing
from kgbuild.report.formats.drawing import Drawing

if TYPE_CHECKING:
    import networkx

_EDITED = {"new": "added", "removed": "removed"}
_STYLES = {"source": {"style": "dashed"}, "hunk": {"shape": "note"}}
SHOWN = ("changed", "pulled", "new", "carried")


@dataclass(frozen=True)
class PatchNode:
    """One function: `redirected` where the kernel's function is replaced by it."""

    id: str
    name: str
    role: str
    unit: str
    object: str
    redirected: bool


@dataclass(frozen=True)
class PatchArrow:
    """Who came because of whom, and why."""

    source: str
    target: str
    reason: str


@dataclass(frozen=True)
class PatchGraph:
    """A whole patch. `estimate` where it was not compiled."""

    nodes: tuple[PatchNode, ...]
    arrows: tuple[PatchArrow, ...]
    estimate: bool


def graph_of_closure(closure: Closure, edits: SourceEdits = NO_EDITS) -> PatchGraph:
    """The functions of a compiled patch, halves and padding left out. With `edits` also its hunks (role "hunk") and the
    functions of the source that they edit (role "source"), with arrows from what gcc made of them."""
    members = [member for member in closure.members.values() if member.atom.kind == FUNCTION and member.role in SHOWN]
    members.sort(key=lambda member: (member.unit, member.atom.id))
    redirected = {(r.unit, r.atom.id) for r in closure.redirects}
    nodes, arrows = [], []
    for member in members:
        unit = closure.units[member.unit]
        key = (member.unit, member.atom.id)
        nodes.append(PatchNode(_id(*key), member.atom.name, member.role, unit.source, unit.target, key in redirected))
        if member.via is not None:
            arrows.append(PatchArrow(_id(*key), _id(*member.via), member.reason))
    shown = {node.id for node in nodes}
    used: set[int] = set()
    for at, (edit, results) in enumerate(edits.rows()):
        ways = [r for r in results if r.role and r.member is not None and _id(*r.member) in shown]
        if not ways:
            continue
        nodes.append(PatchNode(f"s{at}", edit.name, "source", f"{edit.path}:{edit.line}", "", False))
        arrows += [PatchArrow(_id(*r.member), f"s{at}", _reason(r)) for r in ways if r.member is not None]
        arrows += [
            PatchArrow(f"s{at}", f"h{hunk}", edit.because or _EDITED.get(edit.status, "edited")) for hunk in edit.hunks
        ]
        used.update(edit.hunks)
    nodes += [PatchNode(f"h{at}", f"hunk {at + 1}", "hunk", edits.hunks[at].place, "", False) for at in sorted(used)]
    return PatchGraph(tuple(nodes), tuple(arrows), False)


def _reason(result: EditResult) -> str:
    """What an arrow from a function of the patch to one of the source says."""
    if result.how == INLINED:
        return "gcc inlined it"
    return f"gcc's {', '.join(result.kinds)}" if result.kinds else "compiled"


def graph_of_estimate(result: Estimate) -> PatchGraph:
    """The functions that a patch would touch. A function of the source that stands in others only because it was
    inlined is a node of its own, with the role "source"."""
    nodes, arrows = [], []
    sources: dict[tuple[str, str], PatchNode] = {}
    bodies = {
        (touched.unit, touched.origin): f"f{touched.function.id}"
        for touched in result.of("changed")
        if touched.function.name == touched.origin
    }
    for touched in [*result.of("changed"), *result.of("pulled")]:
        function = touched.function
        nodes.append(
            PatchNode(
                f"f{function.id}",
                function.name,
                touched.role,
                touched.unit,
                function.object,
                touched.stays and function.trace_site is not None,
            )
        )
        if touched.via is not None:
            arrows.append(PatchArrow(f"f{function.id}", f"f{touched.via}", touched.reason))
        elif touched.origin != function.name:
            origin = bodies.get((touched.unit, touched.origin))
            if origin is None:
                key = (touched.unit, touched.origin)
                sources.setdefault(
                    key, PatchNode(f"s{len(sources)}", touched.origin, "source", touched.unit, function.object, False)
                )
                origin = sources[key].id
            arrows.append(PatchArrow(f"f{function.id}", origin, touched.reason))
    nodes += sources.values()
    nodes += [PatchNode(f"n{i}", name, "new", unit, "", False) for i, (name, unit) in enumerate(result.new)]
    return PatchGraph(tuple(nodes), tuple(arrows), True)


def draw_patch(graph: PatchGraph) -> Drawing:
    """For Graphviz; what is redirected has a bold frame."""
    parts: list[drawing.DrawnNode | drawing.DrawnArrow] = []
    for n in graph.nodes:
        where = n.unit + (f" ({n.object})" if n.object not in ("vmlinux", "") else "")
        style = {"style": "bold"} if n.redirected else _STYLES.get(n.role, {})
        parts.append(drawing.DrawnNode(n.id, {"label": f"{n.name}\n{n.role}\n{where}", **style}))
    parts += [drawing.DrawnArrow(a.source, a.target, {"label": a.reason}) for a in graph.arrows]
    settings = ('label="an estimate: nothing was compiled"',) if graph.estimate else ()
    return Drawing("patch", (*settings, 'node [shape=box, fontname="monospace"]'), tuple(parts))


def graph_of_patch(graph: PatchGraph) -> networkx.DiGraph:
    """For other programs: nodes have name, role, unit, object, redirected; edges a reason; the graph, estimate."""
    import networkx as nx

    out = nx.DiGraph(estimate=graph.estimate)
    for n in graph.nodes:
        out.add_node(n.id, name=n.name, role=n.role, unit=n.unit, object=n.object, redirected=n.redirected)
    for a in graph.arrows:
        out.add_edge(a.source, a.target, reason=a.reason)
    return out


def graph_report(graph: PatchGraph) -> dict[str, Any]:
    """As plain data, for a report: arrows lead from what comes along to what brought it."""
    return {"nodes": [asdict(node) for node in graph.nodes], "arrows": [asdict(arrow) for arrow in graph.arrows]}


def _id(unit: int, atom: int) -> str:
    return f"f{unit}_{atom}"
