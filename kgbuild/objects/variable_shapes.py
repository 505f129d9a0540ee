# SPDX-License-Identifier: GPL-2.0-or-later
"""What kind of thing a variable is: as much of its type as is needed to say what it could replace.

Whether two variables are of one type is asked elsewhere (`vartypes`). Here types that differ are put into kinds: a
number, a pointer, an array of such, a structure with its members. A structure of one member counts as that member
(atomic_t is a number).
"""

from __future__ import annotations

from typing import NamedTuple
from weakref import WeakKeyDictionary

from kgbuild.debuginfo import type_graph
from kgbuild.debuginfo.dwarf_entries import TAG_VARIABLE
from kgbuild.elf.read import FormatError
from kgbuild.errors import ToolError
from kgbuild.objects.atoms import Atom
from kgbuild.objects.variable_types import types_of, unit_types
from kgbuild.objects.view import View

NUMBER, POINTER, ARRAY, STRUCTURE, UNKNOWN = "number", "pointer", "array", "structure", "unknown"
_NUMBERS = frozenset({type_graph.INTEGER, type_graph.BOOLEAN, type_graph.FLOAT, type_graph.ENUM})
_AT_DECLARATION = 0x3C
_DEPTH = 4  # levels of structures that are looked into


class Shape(NamedTuple):
    """A type, roughly. `name` is that of the structure; `of` an array's elements, a structure's members by name, or
    what a variable that is a pointer leads to."""

    kind: str
    name: str = ""
    of: tuple[tuple[str, Shape], ...] = ()


UNKNOWN_SHAPE = Shape(UNKNOWN)
_defined: WeakKeyDictionary[View, dict[str, int]] = WeakKeyDictionary()
_known: WeakKeyDictionary[View, dict[int, Shape]] = WeakKeyDictionary()


def still_declared(orig: View, patched: View, atom: Atom) -> bool:
    """Whether the patched source defines a variable of the file of the name and the type of one of the original,
    though the patched object may not have it: the compiler leaves out what is never read. What has another type is
    another variable. Without debugging information, no."""
    types = [(_own_type(orig, atom), t) for t in _declared(patched, atom)]
    return _any_equal(orig, patched, types)


def was_declared(orig: View, patched: View, atom: Atom) -> bool:
    """Whether the original's source has a variable of the patched object, though the original object has not."""
    types = [(t, _own_type(patched, atom)) for t in _declared(orig, atom)]
    return _any_equal(orig, patched, types)


def _any_equal(orig: View, patched: View, types: list[tuple[int, int]]) -> bool:
    try:
        return any(
            orig_type and patched_type and unit_types(orig, patched).whole.difference(orig_type, patched_type) is None
            for orig_type, patched_type in types
        )
    except (FormatError, ToolError):
        return False


def _own_type(view: View, atom: Atom) -> int:
    try:
        found = types_of(view).variable(atom.section, atom.offset)
    except FormatError:
        return 0
    return found.type if found is not None else 0


def _declared(view: View, atom: Atom) -> list[int]:
    """The types of what the source of an object defines by the names of an atom."""
    known = _defined.get(view)
    if known is None:
        known = _defined[view] = _types_at_top(view)
    return [known[name] for name in atom.names if name in known]


def _types_at_top(view: View) -> dict[str, int]:
    """The type of each variable of the file that the source defines, by name."""
    out: dict[str, int] = {}
    try:
        graph = types_of(view)
        dwarf = graph.dwarf
        if dwarf is None:
            return {}
        for header, first, end, table in dwarf.units():
            top = dwarf.top(first, header, end, table)
            for die, _ in dwarf.children(top, end, table, frozenset({TAG_VARIABLE})) if top is not None else ():
                if _AT_DECLARATION not in die.attributes and (name := dwarf.name(die, end, table)):
                    out[name] = graph.described(die, end, table).type
    except FormatError:
        return {}
    return out


def shape_of(view: View, atom: Atom) -> Shape:
    """The shape of a variable's type; of kind UNKNOWN without debugging information, or where it can't be followed."""
    kept = _known.setdefault(view, {})
    if atom.id not in kept:
        kept[atom.id] = UNKNOWN_SHAPE
        try:
            graph = types_of(view)
            found = graph.variable(atom.section, atom.offset)
            if found is not None and found.type:
                kept[atom.id] = _shape(graph, found.type, 0)
        except FormatError:
            pass
    return kept[atom.id]


def _shape(graph: type_graph.TypeGraph, number: int, depth: int) -> Shape:
    found = graph.type(number)
    for _ in range(64):
        if found.kind != type_graph.TYPEDEF:
            break
        found = graph.type(found.to)
    if found.kind in _NUMBERS:
        return Shape(NUMBER)
    if found.kind == type_graph.POINTER:
        return Shape(POINTER, "", (("", _shape(graph, found.to, 1)),) if found.to and not depth else ())
    if depth >= _DEPTH:
        return Shape(STRUCTURE, found.name)
    if found.kind == type_graph.ARRAY:
        return Shape(ARRAY, "", (("", _shape(graph, found.to, depth + 1)),))
    if found.kind not in (type_graph.STRUCT, type_graph.UNION):
        return UNKNOWN_SHAPE
    members = tuple((m.name, _shape(graph, m.type, depth + 1)) for m in found.members)
    if len(members) == 1 and found.kind == type_graph.STRUCT:
        only = members[0][1]
        return Shape(only.kind, found.name or only.name, only.of)
    return Shape(STRUCTURE, found.name, members)
