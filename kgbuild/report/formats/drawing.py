# SPDX-License-Identifier: GPL-2.0-or-later
"""A graph as Graphviz is to draw it: nodes and arrows in order, with their attributes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class DrawnNode:
    """A node: `id` is a bare identifier; `attributes` are Graphviz' own, the values of label and tooltip any text."""

    id: str
    attributes: Mapping[str, str]


@dataclass(frozen=True)
class DrawnArrow:
    """An arrow between the nodes of these ids."""

    source: str
    target: str
    attributes: Mapping[str, str]


@dataclass(frozen=True)
class Drawing:
    """A directed graph: its name, statements about the whole, a remark for who reads the text (""), what is in it."""

    name: str
    settings: tuple[str, ...]
    parts: tuple[DrawnNode | DrawnArrow, ...]
    remark: str = field(default="")
