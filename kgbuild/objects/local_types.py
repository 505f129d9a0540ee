# SPDX-License-Identifier: GPL-2.0-or-later
"""The types of parameters and local variables of some functions, by DWARF, with those of what is inlined into them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kgbuild.debuginfo.dwarf_entries import AT_ABSTRACT_ORIGIN, TAG_INLINED, TAG_LEXICAL_BLOCK, TAG_VARIABLE, Die, Dwarf
from kgbuild.debuginfo.type_graph import TypeGraph, reference
from kgbuild.objects.atoms import Atom

_TAG_PARAMETER = 0x05
_TAGS = frozenset((_TAG_PARAMETER, TAG_VARIABLE, TAG_LEXICAL_BLOCK, TAG_INLINED))
_MAX_DEPTH = 256
PARAMETER = "parameter "  # and its number, beside its name

Local = tuple[str, str, str]  # function, function inlined there or "", name of a variable or number of a parameter


def locals_of(graph: TypeGraph, functions: Iterable[Atom]) -> dict[Local, int]:
    """Numbers of the types of what some functions declare. A parameter is there by its name and by its number. Raises
    FormatError."""
    wanted = {name.partition(".")[0] for atom in functions for name in atom.names}
    out: dict[Local, int] = {}
    dwarf = graph.dwarf
    if dwarf is None or not wanted:
        return out
    for start, _ in graph.functions:
        _, _, end, table = graph.unit_of(start)
        die = graph.entry(start)
        if die.children and (name := dwarf.name(die, end, table)) in wanted:
            _read(dwarf, die, (name, ""), end, table, out, 0)
    return out


def _read(
    dwarf: Dwarf, die: Die, where: tuple[str, str], end: int, table: Any, out: dict[Local, int], depth: int
) -> None:
    if depth > _MAX_DEPTH:
        raise dwarf.fault(die.offset, "entries nest too deeply")
    number = 0
    for child, _ in dwarf.children(die, end, table, _TAGS):
        if child.tag in (_TAG_PARAMETER, TAG_VARIABLE):
            kind = reference(dwarf, child)
            origin = 0 if kind else reference(dwarf, child, AT_ABSTRACT_ORIGIN)
            if origin and (found := dwarf.die(origin, child.unit, end, table)) is not None:
                kind = reference(dwarf, found)
            name = dwarf.name(child, end, table)
            if kind and name:
                out.setdefault((*where, name), kind)
            if kind and child.tag == _TAG_PARAMETER:
                number += 1
                out.setdefault((*where, f"{PARAMETER}{number}"), kind)
        elif child.children:
            inner = (where[0], dwarf.name(child, end, table)) if child.tag == TAG_INLINED else where
            _read(dwarf, child, inner, end, table, out, depth + 1)
