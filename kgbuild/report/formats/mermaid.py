# SPDX-License-Identifier: GPL-2.0-or-later
"""A Mermaid flowchart (https://mermaid.js.org/syntax/flowchart.html), which forges show in comments and pages."""

from __future__ import annotations

from collections.abc import Iterator

from kgbuild.report.formats.answer import Answer, Format
from kgbuild.report.formats.drawing import Drawing, DrawnNode
from kgbuild.shown_text import printable

_LONG = 120  # characters of a label's line
_PLAIN = frozenset(" .,:;+-_/()=!?*@$%^~")
_CLASSES = {"bold": "redirected", "dashed": "source"}


def label(text: str) -> str:
    """Text as a quoted label: whatever could end it, or mean something to Mermaid or to HTML, is an entity code."""
    lines = [line if len(line) <= _LONG else f"{line[:_LONG]}..." for line in text.split("\n")]
    shown = ("".join(c if c.isalnum() or c in _PLAIN else f"#{ord(c)};" for c in printable(line)) for line in lines)
    return f'"{"<br/>".join(shown) or " "}"'


def render_flowchart(drawing: Drawing) -> Iterator[str]:
    """A drawing as lines."""
    yield "flowchart LR"
    yield "  %% made by kgbuild"
    used = set()
    for part in drawing.parts:
        if isinstance(part, DrawnNode):
            kind = _CLASSES.get(part.attributes.get("style", ""), "")
            kind = "hunk" if part.attributes.get("shape") == "note" else kind
            used.add(kind)
            named = label(part.attributes.get("label", part.id))
            yield f"  n_{part.id}[{named}]" + (f":::{kind}" if kind else "")
    for part in drawing.parts:
        if not isinstance(part, DrawnNode):
            said = part.attributes.get("label", "")
            yield f"  n_{part.source} -->" + (f"|{label(said)}|" if said else "") + f" n_{part.target}"
    for kind, style in (
        ("redirected", "stroke-width:3px"),
        ("source", "stroke-dasharray:4"),
        ("hunk", "stroke-dasharray:2"),
    ):
        if kind in used:
            yield f"  classDef {kind} {style}"


def render_mermaid(answer: Answer, unicode: bool) -> Iterator[str]:
    """The drawing of an answer; Mermaid reads UTF-8."""
    del unicode
    if answer.drawing is not None:
        yield from render_flowchart(answer.drawing())


OFFERED = (Format("mermaid", render_mermaid),)
