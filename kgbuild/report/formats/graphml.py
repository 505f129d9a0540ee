# SPDX-License-Identifier: GPL-2.0-or-later
"""GraphML (http://graphml.graphdrawing.org), which Gephi, yEd and networkx read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from kgbuild.report.formats.answer import Answer, Format

if TYPE_CHECKING:
    import networkx


def render_graph(graph: networkx.DiGraph) -> Iterator[str]:
    """A graph as lines; lists among the attributes of edges, which GraphML does not have, are joined by commas."""
    from networkx.readwrite import graphml

    for _, _, attributes in graph.edges(data=True):
        for key, value in attributes.items():
            if isinstance(value, (list, tuple)):
                attributes[key] = ", ".join(map(str, value))
    write: Callable[[networkx.DiGraph], Iterator[str]] = graphml.generate_graphml
    for number, line in enumerate(write(graph)):
        yield line
        if not number:
            yield "  <!-- made by kgbuild -->"


def render_graphml(answer: Answer, unicode: bool) -> Iterator[str]:
    """The graph of an answer; XML is UTF-8."""
    del unicode
    if answer.graph is not None:
        yield from render_graph(answer.graph())


OFFERED = (Format("graphml", render_graphml),)
