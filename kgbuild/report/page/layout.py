# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the nodes of a patch's graph stand: in columns from the hunks on the left to what came along on the right."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_CHAR, _LINE = 7.4, 44  # width of a character of a name, and height of a box, in the drawing's units
_GAP_X, _GAP_Y, _MARGIN = 72, 14, 8
_NAMES = 34  # characters of a name that are shown
MOST_NODES = 400
_FIRST = {"hunk": 0, "source": 1}  # columns of what is in the source; what is in the module comes after


@dataclass(frozen=True)
class Box:
    """A node with its place: left upper corner, width and height; the name as it is shown, and a second line."""

    id: str
    name: str
    full_name: str
    below: str
    role: str
    redirected: bool
    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True)
class Line:
    """A curve from the right of one box to the left of another, as an SVG path, with what it says."""

    path: str
    reason: str
    source: str
    target: str


@dataclass(frozen=True)
class Picture:
    """A graph with places; `left_out` nodes did not fit."""

    width: float
    height: float
    boxes: tuple[Box, ...] = ()
    lines: tuple[Line, ...] = ()
    left_out: int = 0


def lay_out(graph: Mapping[str, Any]) -> Picture:
    """Places for the nodes and arrows of a report's `graph`. Time and room grow with the graph, of which at most
    MOST_NODES nodes are drawn."""
    nodes: Sequence[Mapping[str, Any]] = graph.get("nodes", ())[:MOST_NODES]
    known = {str(node["id"]) for node in nodes}
    # an arrow of a report leads to what brought something; the picture reads the other way, from left to right
    pairs = [
        (str(arrow["target"]), str(arrow["source"]), str(arrow["reason"]))
        for arrow in graph.get("arrows", ())
        if arrow["source"] in known and arrow["target"] in known
    ]
    first = {str(node["id"]): _FIRST.get(str(node["role"]), 2) for node in nodes}
    column = _columns(first, [(source, target) for source, target, _ in pairs])
    ordered = _order(nodes, column, pairs)
    if not ordered:
        return Picture(0, 0)
    widths = [max(_width(node) for node in row) for row in ordered]
    tallest = max(len(row) for row in ordered) * (_LINE + _GAP_Y)
    boxes: dict[str, Box] = {}
    x = float(_MARGIN)
    for row, width in zip(ordered, widths, strict=True):
        y = _MARGIN + (tallest - len(row) * (_LINE + _GAP_Y)) / 2
        for node in row:
            boxes[str(node["id"])] = _box(node, x, y, width)
            y += _LINE + _GAP_Y
        x += width + _GAP_X
    lines = tuple(
        Line(_curve(boxes[source], boxes[target]), reason, source, target) for source, target, reason in pairs
    )
    left_out = max(len(graph.get("nodes", ())) - MOST_NODES, 0)
    return Picture(x - _GAP_X + _MARGIN, tallest + _MARGIN, tuple(boxes.values()), lines, left_out)


def _columns(first: Mapping[str, int], pairs: Sequence[tuple[str, str]]) -> dict[str, int]:
    """The column of each node, from the one in which nodes of its role begin: one to the right of all that lead to it.
    Nodes of a circle are not moved for ever."""
    column = dict(first)
    for _ in range(min(len(first), 30)):
        moved = False
        for source, target in pairs:
            if source != target and column[target] <= column[source]:
                column[target] = column[source] + 1
                moved = True
        if not moved:
            break
    return column


def _order(
    nodes: Sequence[Mapping[str, Any]], column: Mapping[str, int], pairs: Sequence[tuple[str, str, str]]
) -> list[list[Mapping[str, Any]]]:
    """The nodes of each column from top to bottom: near what leads to them."""
    rows: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for node in nodes:
        rows[column[str(node["id"])]].append(node)
    before: dict[str, list[str]] = defaultdict(list)
    for source, target, _ in pairs:
        before[target].append(source)
    place: dict[str, float] = {}
    out = []
    for number in sorted(rows):
        row = rows[number]

        def height(node: Mapping[str, Any]) -> float:
            above = [place[source] for source in before[str(node["id"])] if source in place]
            return sum(above) / len(above) if above else 0.0

        row.sort(key=height)
        place.update({str(node["id"]): (at + 0.5) / len(row) for at, node in enumerate(row)})
        out.append(row)
    return out


def _shown(name: str) -> str:
    return name if len(name) <= _NAMES else f"{name[: _NAMES - 1]}…"


def _below(node: Mapping[str, Any]) -> str:
    where = str(node["unit"]).rpartition("/")[2]
    role = {"hunk": "", "source": "edited"}.get(str(node["role"]), str(node["role"]))
    return _shown(" · ".join(part for part in (role, where) if part))


def _width(node: Mapping[str, Any]) -> float:
    return max(len(_shown(str(node["name"]))), len(_below(node)) * 0.9, 8) * _CHAR + 26


def _box(node: Mapping[str, Any], x: float, y: float, width: float) -> Box:
    name = str(node["name"])
    below = _below(node)
    return Box(
        str(node["id"]), _shown(name), name, below, str(node["role"]), bool(node["redirected"]), x, y, width, _LINE
    )


def _curve(source: Box, target: Box) -> str:
    x, y = source.left + source.width, source.top + source.height / 2
    end_x, end_y = target.left - 5, target.top + target.height / 2
    bend = max((end_x - x) / 2, 24)
    return f"M{x:.1f} {y:.1f}C{x + bend:.1f} {y:.1f} {end_x - bend:.1f} {end_y:.1f} {end_x:.1f} {end_y:.1f}"
