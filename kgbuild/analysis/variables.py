# SPDX-License-Identifier: GPL-2.0-or-later
"""What kind of thing a variable is, by DWARF: as much as is needed to say what it could stand for.

Whether two variables are of one type is asked elsewhere (`vartypes`). Here types that differ are put into kinds: a
number, a pointer, an array of such, a structure with its members. A structure of one member counts as that member
(atomic_t is a number).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from kgbuild.analysis.dwarf import places_meant
from kgbuild.elf.dwarf import (
    AT_LOCATION,
    AT_NAME,
    EXPRLOC,
    REF4,
    TAG_INLINED,
    TAG_LEXICAL_BLOCK,
    TAG_STRUCTURE,
    TAG_SUBPROGRAM,
    TAG_VARIABLE,
    Die,
    Dwarf,
)
from kgbuild.elf.object import Object
from kgbuild.elf.read import FormatError
from kgbuild.special.view import Atom, View

_AT_TYPE, _AT_ORIGIN, _AT_SPECIFICATION = 0x49, 0x31, 0x47
_ARRAY, _ENUM, _MEMBER, _POINTER, _TYPEDEF, _UNION, _BASE = 0x01, 0x04, 0x0D, 0x0F, 0x16, 0x17, 0x24
_QUALIFIERS = frozenset({_TYPEDEF, 0x26, 0x35, 0x37, 0x47})  # typedef, const, volatile, restrict, _Atomic
_OP_ADDR = 0x03
_DEPTH = 16
_MEMBERS = 64
NUMBER, POINTER, ARRAY, STRUCTURE, UNKNOWN = "number", "pointer", "array", "structure", "unknown"


@dataclass(frozen=True)
class Shape:
    """A type, roughly. `name` is that of the structure; `of` the kind of an array's elements, or the kinds of a
    structure's members with their names."""

    kind: str
    name: str = ""
    of: tuple[tuple[str, Shape], ...] = ()


UNKNOWN_SHAPE = Shape(UNKNOWN)


class Declared(NamedTuple):
    """The entry of a variable, and the function that declares it ("" for one of the file)."""

    die: Die
    end: int
    table: Any
    function: str


def shape_of(view: View, atom: Atom) -> Shape:
    """The shape of a variable's type; of kind UNKNOWN without debugging information, or where it can't be followed."""
    kept: dict[int, Shape] = view.__dict__.setdefault("_shapes", {})
    if atom.id not in kept:
        kept[atom.id] = UNKNOWN_SHAPE
        try:
            found = _Finder(view.obj, atom.section)
            declared = found.at.get((atom.section, atom.offset))
            if declared is not None:
                kept[atom.id] = found.shape(declared)
        except FormatError:
            pass
    return kept[atom.id]


class _Finder:
    """The entries of the variables in one section."""

    def __init__(self, obj: Object, section: int) -> None:
        self.at: dict[tuple[int, int], Declared] = {}
        info = obj.section_named(".debug_info")
        if info is None:
            return
        self.dwarf = Dwarf(obj, info)
        self.places = places_meant(obj, self.dwarf.relocs, {section})
        if not self.places:
            return
        offsets = sorted(self.places)
        tags = frozenset({TAG_SUBPROGRAM, TAG_VARIABLE})
        for header, first, end, table in self.dwarf.units():
            if not any(first <= o < end for o in offsets):
                continue
            top = self.dwarf.top(first, header, end, table)
            for child, sibling in self.dwarf.children(top, end, table, tags) if top is not None else ():
                if child.tag == TAG_VARIABLE:
                    self._take(child, end, table, "")
                elif child.children and any(child.next <= o < (sibling or end) for o in offsets):
                    self._walk(child, self.dwarf.name(child, end, table), end, table, 0)

    def _walk(self, die: Die, function: str, end: int, table: Any, depth: int) -> None:
        if depth > 256:
            raise self.dwarf.fault(die.offset, "entries nest too deeply")
        for child, _ in self.dwarf.children(
            die, end, table, frozenset({TAG_VARIABLE, TAG_LEXICAL_BLOCK, TAG_INLINED})
        ):
            if child.tag == TAG_VARIABLE:
                self._take(child, end, table, function)
            else:
                self._walk(child, function, end, table, depth + 1)

    def _take(self, die: Die, end: int, table: Any, function: str) -> None:
        form, at, _ = die.attributes.get(AT_LOCATION, (0, 0, 0))
        if form == EXPRLOC and self.dwarf.data[at + 1 : at + 2] == bytes((_OP_ADDR,)):
            place = self.places.get(at + 2)
            if place is not None:
                self.at.setdefault(place, Declared(die, end, table, function))

    def shape(self, declared: Declared) -> Shape:
        return self._shape(self._type(declared.die, declared.end, declared.table), declared.end, declared.table, 0)

    def _linked(self, die: Die, attribute: int, end: int, table: Any) -> Die | None:
        form, at, _ = die.attributes.get(attribute, (0, 0, 0))
        if form != REF4:
            return None
        where = die.unit + int.from_bytes(self.dwarf.data[at : at + 4], "little")
        if not die.unit < where < end:
            raise self.dwarf.fault(die.offset, f"a type is said to be at {where:#x}")
        return self.dwarf.die(where, die.unit, end, table)

    def _type(self, die: Die, end: int, table: Any) -> Die | None:
        found: Die | None = die
        for _ in range(4):
            if found is None or _AT_TYPE in found.attributes:
                break
            link = _AT_ORIGIN if _AT_ORIGIN in found.attributes else _AT_SPECIFICATION
            found = self._linked(found, link, end, table)
        return self._linked(found, _AT_TYPE, end, table) if found is not None else None

    def _shape(self, die: Die | None, end: int, table: Any, depth: int) -> Shape:
        for _ in range(_DEPTH):
            if die is None or die.tag not in _QUALIFIERS:
                break
            die = self._linked(die, _AT_TYPE, end, table)
        if die is None or depth > _DEPTH:
            return UNKNOWN_SHAPE
        if die.tag in (_BASE, _ENUM):
            return Shape(NUMBER)
        if die.tag == _POINTER:
            return Shape(POINTER)
        if die.tag == _ARRAY:
            element = self._shape(self._linked(die, _AT_TYPE, end, table), end, table, depth + 1)
            return Shape(ARRAY, "", (("", element),))
        if die.tag in (TAG_STRUCTURE, _UNION):
            name = self.dwarf.name(die, end, table) if AT_NAME in die.attributes else ""
            members: list[tuple[str, Shape]] = []
            for child, _ in self.dwarf.children(die, end, table, frozenset({_MEMBER})):
                if depth > 2 and len(members) > 1:
                    break  # only whether it is one
                inner = self._linked(child, _AT_TYPE, end, table)
                members.append((self.dwarf.name(child, end, table), self._shape(inner, end, table, depth + 1)))
                if len(members) >= _MEMBERS:
                    break
            if len(members) == 1:
                kind = members[0][1]
                return Shape(kind.kind, name or kind.name, kind.of)
            return Shape(STRUCTURE, name, tuple(members))
        return UNKNOWN_SHAPE

