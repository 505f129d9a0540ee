# SPDX-License-Identifier: GPL-2.0-or-later
"""Everything that the index stores about one object, vmlinux or a module."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kgbuild.callgraph.address_map import AddressMap, Places
from kgbuild.callgraph.direct_edges import Edges, read_edges
from kgbuild.callgraph.function_pointers import Pointers, read_pointers
from kgbuild.callgraph.functions import Functions, read_functions
from kgbuild.elf.object import Object


@dataclass(frozen=True, eq=False)
class ObjectGraph:
    """Functions, edges and pointers of one object. `users` are (holder, function) pairs: the function takes the address
    of data that contains a function pointer, so it may pass that pointer on."""

    layout: AddressMap
    functions: Functions
    edges: Edges
    pointers: Pointers
    users: tuple[Places, Places]


def read_graph(obj: Object, *, ignore_relocations: bool = False) -> ObjectGraph:
    """The graph of one object. Input: a linked vmlinux or a relocatable module with its symbol table."""
    layout = AddressMap(obj)
    functions = read_functions(layout)
    edges = read_edges(functions, layout, ignore_relocations=ignore_relocations)
    pointers = read_pointers(functions, layout, ignore_relocations=ignore_relocations)
    return ObjectGraph(layout, functions, edges, pointers, _users(edges, pointers))


def _users(edges: Edges, pointers: Pointers) -> tuple[Places, Places]:
    """(holder, function) pairs. A holder's range is known up to its last pointer; an address anywhere in that range
    refers to the holder."""
    none = np.zeros(0, np.int64)
    if not len(pointers.place) or not len(edges.uses[0]):
        return none, none
    last = np.zeros(len(pointers.place), np.int64)
    np.maximum.at(last, pointers.holder, pointers.offset)
    order = np.argsort(pointers.place, kind="stable")
    starts = pointers.place[order]
    row = np.searchsorted(starts, edges.uses[1], "right") - 1
    holder = order[np.maximum(row, 0)]
    inside = (row >= 0) & (edges.uses[1] <= pointers.place[holder] + last[holder])
    pairs = np.unique(np.stack([holder[inside], edges.uses[0][inside]]), axis=1)
    return pairs[0].astype(np.int64), pairs[1].astype(np.int64)
