# SPDX-License-Identifier: GPL-2.0-or-later
"""What a command has found, before it is known in which form it is wanted: each part is made when a format asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import networkx

    from kgbuild.report.formats.drawing import Drawing


class Answer(NamedTuple):
    """The parts of an answer that formats are made of. A part that is None means that no format which needs it is
    offered for the command.

    data     the answer as plain data, by one of the schemas in docs/schema
    lines    the answer as lines of text; the argument says whether they may hold more than ASCII. None: the command
             says it in lines while it runs
    drawing  the answer as a picture for Graphviz
    graph    the answer as a graph for programs
    rows     the answer as a table, its head first
    """

    data: Callable[[], Any]
    lines: Callable[[bool], Iterable[str]] | None = None
    drawing: Callable[[], Drawing] | None = None
    graph: Callable[[], networkx.DiGraph] | None = None
    rows: Callable[[], Iterable[Sequence[Any]]] | None = None


class Format(NamedTuple):
    """An output format: its name for --format, and the lines that it makes of an answer. The second argument of
    `render` says whether text may hold more than ASCII. `of_data`: it is made of the answer's data
    alone, which a run that failed has too."""

    name: str
    render: Callable[[Answer, bool], Iterator[str]]
    of_data: bool = False
