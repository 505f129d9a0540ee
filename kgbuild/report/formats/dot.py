# SPDX-License-Identifier: GPL-2.0-or-later
"""The language of Graphviz (https://graphviz.org/doc/info/lang.html)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kgbuild.report.formats.answer import Answer, Format
from kgbuild.report.formats.drawing import Drawing, DrawnNode

_TEXT = frozenset({"label", "tooltip"})  # the attributes that hold any text; the others' values are Graphviz' own words


def render_drawing(drawing: Drawing) -> Iterator[str]:
    """A drawing as lines. Raises nothing: a label may hold any text."""
    yield f"digraph {drawing.name} {{"
    yield "  // made by kgbuild"
    for setting in drawing.settings:
        yield f"  {setting};"
    if drawing.remark:
        yield f"  // {drawing.remark}"
    for part in drawing.parts:
        named = part.id if isinstance(part, DrawnNode) else f"{part.source} -> {part.target}"
        yield f"  {named} [{_attributes(part.attributes)}];"
    yield "}"


def quoted(text: str) -> str:
    """Text as a quoted string; a line end in it is one in the drawing."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _attributes(attributes: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={quoted(value) if key in _TEXT else value}" for key, value in attributes.items())


def render_dot(answer: Answer, unicode: bool) -> Iterator[str]:
    """The drawing of an answer; Graphviz reads UTF-8."""
    del unicode
    if answer.drawing is not None:
        yield from render_drawing(answer.drawing())


OFFERED = (Format("dot", render_dot),)
