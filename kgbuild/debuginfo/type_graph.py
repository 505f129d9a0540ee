# SPDX-License-Identifier: GPL-2.0-or-later
"""The types of an object as a graph, and the type of each variable, from DWARF.

gcc leaves types that a unit does not use out of .debug_info, so the types found there are those that the unit's code
and data use. A type is read when it is first asked for. const, volatile and the like do not affect how a value is
stored and are skipped. Sources: DWARF 5, chapters 5 (types) and 4.1 (variables); 5.7.6 for bit fields; DWARF 4, 5.5.6
for the form of bit fields that older compilers write.
"""

from __future__ import annotations

import bisect
from functools import cached_property
from typing import Any, NamedTuple

from kgbuild.debuginfo.dwarf_entries import (
    AT_ABSTRACT_ORIGIN,
    AT_BYTE_SIZE,
    AT_NAME,
    AT_SPECIFICATION,
    TAG_SUBPROGRAM,
    TAG_VARIABLE,
    Die,
    Dwarf,
)
from kgbuild.debuginfo.static_locals import StaticLocals
from kgbuild.elf.object import Object
from kgbuild.elf.read import FormatError

VOID, INTEGER, BOOLEAN, FLOAT, POINTER, ARRAY, STRUCT, UNION, ENUM, TYPEDEF, FUNCTION, FORWARD, UNKNOWN = (
    "void",
    "integer",
    "bool",
    "float",
    "pointer",
    "array",
    "struct",
    "union",
    "enum",
    "typedef",
    "function",
    "forward",
    "unknown",
)
_TAG_ARRAY, _TAG_ENUM, _TAG_PARAMETER, _TAG_MEMBER, _TAG_POINTER, _TAG_STRUCT, _TAG_SUBROUTINE, _TAG_TYPEDEF = (
    0x01,
    0x04,
    0x05,
    0x0D,
    0x0F,
    0x13,
    0x15,
    0x16,
)
_TAG_UNION, _TAG_UNSPECIFIED, _TAG_SUBRANGE, _TAG_BASE, _TAG_ENUMERATOR, _TAG_UNSPECIFIED_TYPE = (
    0x17,
    0x18,
    0x21,
    0x24,
    0x28,
    0x3B,
)
_QUALIFIERS = frozenset((0x26, 0x35, 0x37, 0x47))  # const, volatile, restrict, atomic
_AT_BIT_OFFSET, _AT_BIT_SIZE, _AT_CONST_VALUE, _AT_UPPER_BOUND, _AT_COUNT, _AT_MEMBER_LOCATION = (
    0x0C,
    0x0D,
    0x1C,
    0x2F,
    0x37,
    0x38,
)
_AT_DECLARATION, _AT_ENCODING, _AT_TYPE, _AT_DATA_BIT_OFFSET, _AT_ALIGNMENT = 0x3C, 0x3E, 0x49, 0x6B, 0x88
_SIGNED = frozenset((0x05, 0x06, 0x0D))  # signed, signed_char, signed_fixed
_ENCODINGS = {0x02: BOOLEAN, 0x03: FLOAT, 0x04: FLOAT}
_COMPOSITES = {_TAG_STRUCT: STRUCT, _TAG_UNION: UNION, _TAG_ENUM: ENUM}
_NAMED_TAGS = frozenset((*_COMPOSITES, _TAG_TYPEDEF))
_FIXED_NUMBERS = {0x0B: 1, 0x05: 2, 0x06: 4, 0x07: 8}
_DATA16, _SDATA, _UDATA, _IMPLICIT, _EXPRLOC = 0x1E, 0x0D, 0x0F, 0x21, 0x18
_REF_SIZES = {0x11: 1, 0x12: 2, 0x13: 4, 0x14: 8}
_REF_UDATA = 0x15
_UNKNOWN_COUNT = -1
NO_TYPE = 0  # no type: the target of a pointer to void


class TypeMember(NamedTuple):
    """A member of a structure or union (offset and, for a bit field, size in bits; size 0 otherwise), an enumerator
    (the offset is its value) or a parameter. `type` is the number of its type."""

    name: str
    offset: int
    bits: int
    type: int


class Type(NamedTuple):
    """One type. `size` is in bytes. `to` is the type that a pointer points to, that an array has as elements, that a
    function returns, or that a typedef names. `length` is the number of elements of an array (-1 if not given), or 1
    for a function with a variable argument list. `align` is in bytes if the source asks for an alignment, else 0."""

    kind: str
    name: str = ""
    size: int = 0
    to: int = NO_TYPE
    members: tuple[TypeMember, ...] = ()
    length: int = 0
    signed: bool = False
    align: int = 0


_VOID = Type(VOID)


class TypeGraph:
    """The types of an object by number; the number is the type's offset in .debug_info, 0 for no type. Reading raises
    FormatError for debugging information that can't be read."""

    def __init__(self, obj: Object) -> None:
        section = obj.section_named(".debug_info")
        self.obj = obj
        self.dwarf = Dwarf(obj, section) if section is not None else None
        # at the top level of all units: functions (start, end), types, variables
        self.functions: list[tuple[int, int]] = []
        self._types_at_top: list[int] = []
        self._variables_at_top: list[int] = []
        self._aligned: list[int] = []
        self._units: list[tuple[int, int, int, dict[int, Any]]] = []
        self._unit: tuple[int, int, int, dict[int, Any]] = (0, 0, 0, {})
        self._types: dict[int, Type] = {NO_TYPE: _VOID}
        self._unqualified: dict[int, int] = {}
        if self.dwarf is not None:
            for unit in self.dwarf.units():
                self._units.append(unit)
                self._unit = unit
                self._read_top(self.dwarf, *unit)
        self._starts = [start for start, _ in self.functions]

    def _read_top(self, dwarf: Dwarf, header: int, first: int, end: int, table: dict[int, Any]) -> None:
        top = dwarf.top(first, header, end, table)
        aligned = {code for code, a in table.items() if any(name == _AT_ALIGNMENT for name, _, _ in a.attributes)}
        for at, tag, behind in dwarf.entries(top, end, table) if top is not None else ():
            if tag == TAG_SUBPROGRAM:
                self.functions.append((at, behind))
            elif tag == TAG_VARIABLE:
                self._variables_at_top.append(at)
            elif tag in _NAMED_TAGS:
                self._types_at_top.append(at)
                if dwarf.number(at) in aligned:
                    self._aligned.append(at)

    def variable(self, section: int, offset: int) -> TypedVariable | None:
        """The variable at an offset of a section, inside a function or not; None if DWARF does not describe it."""
        if self.dwarf is None:
            return None
        place = (section, offset)
        known = self._search.variables
        if place not in known:
            for at in self._meaning.get(place, ()):
                function = self.function_of(at)
                if not function and not self._variables_at_top:
                    continue  # the reference is not from a variable
                number = function[0] if function else self._variable_before(at)
                _, _, end, table = self.unit_of(number)
                if function:
                    self._search.function(self.entry(number), end, table)
                else:
                    self._search.at_top(self.entry(number), end, table)
        return known.get(place)

    def described(self, die: Die, end: int, table: Any) -> TypedVariable:
        """The type and alignment of the variable that an entry describes."""
        return self._search.described(die, end, table)

    @cached_property
    def _search(self) -> _Variables:
        sections = {s.index for s in self.obj.sections if s.alloc and not s.executable}
        assert self.dwarf is not None
        search = _Variables(self.dwarf, sections)
        if search.addresses:
            # there the locations are given by index: all are read at once
            for number in (*(start for start, _ in self.functions), *self._variables_at_top):
                _, _, end, table = self.unit_of(number)
                look = search.function if self.is_local(number) else search.at_top
                look(self.entry(number), end, table)
        return search

    @cached_property
    def _meaning(self) -> dict[tuple[int, int], list[int]]:
        """By (section, offset), the places in .debug_info that refer to it."""
        out: dict[tuple[int, int], list[int]] = {}
        for at, place in self._search.places.items():
            out.setdefault(place, []).append(at)
        return out

    def _variable_before(self, at: int) -> int:
        """The entry of the variable at the top level of a unit that contains a place in .debug_info."""
        return self._variables_at_top[max(bisect.bisect_right(self._variables_at_top, at) - 1, 0)]

    def function_of(self, number: int) -> tuple[int, int] | None:
        """The function at the top level of a unit, as (start, end), that an entry is or is part of."""
        at = bisect.bisect_right(self._starts, number) - 1
        return self.functions[at] if at >= 0 and number < self.functions[at][1] else None

    def type(self, number: int) -> Type:
        """The type with a number, without qualifiers."""
        found = self._types.get(number)
        if found is None:
            found = self._types[number] = self._read(number)
        return found

    def unqualified(self, number: int) -> int:
        """The number of a type without its qualifiers."""
        self.type(number)
        return self._unqualified.get(number, number)

    def is_local(self, number: int) -> bool:
        """Whether a type is defined inside a function."""
        return self.function_of(number) is not None

    @cached_property
    def named(self) -> dict[tuple[str, str], list[int]]:
        """Numbers of the named structures, unions, enumerations and typedefs at the top level of the units, by (kind,
        name)."""
        out: dict[tuple[str, str], list[int]] = {}
        for at in self._types_at_top:
            die = self.entry(at)
            if AT_NAME in die.attributes and _AT_DECLARATION not in die.attributes:
                assert self.dwarf is not None
                kind = _COMPOSITES.get(die.tag, TYPEDEF)
                out.setdefault((kind, self.dwarf.text(die, AT_NAME)), []).append(at)
        return out

    @property
    def enumerations(self) -> list[tuple[TypeMember, ...]]:
        """The members of all enumerations at the top level of the units."""
        return [kind.members for at in self._types_at_top if (kind := self.type(at)).kind == ENUM]

    @cached_property
    def aligned(self) -> dict[tuple[str, str], int]:
        """The alignments in bytes that named types ask for, by (kind, name); only types that ask for one."""
        out = {}
        for at in self._aligned:
            die = self.entry(at)
            if AT_NAME in die.attributes:
                assert self.dwarf is not None
                kind = _COMPOSITES.get(die.tag, TYPEDEF)
                out[kind, self.dwarf.text(die, AT_NAME)] = self._number(die, _AT_ALIGNMENT)
        return out

    @cached_property
    def externs(self) -> dict[str, TypedVariable]:
        """The variables that are declared but not defined in this object, by name."""
        out = {}
        for at in self._variables_at_top:
            assert self.dwarf is not None
            die = self.entry(at)
            if _AT_DECLARATION in die.attributes and AT_NAME in die.attributes:
                kind = reference(self.dwarf, die)
                out[self.dwarf.text(die, AT_NAME)] = TypedVariable(kind, self._number(die, _AT_ALIGNMENT))
        return out

    # -- reading ------------------------------------------------------------------------------------------------------

    def unit_of(self, number: int) -> tuple[int, int, int, dict[int, Any]]:
        """The unit that contains an entry: its header, its first entry, its end, its abbreviations."""
        unit = self._unit
        if not unit[0] < number < unit[2]:
            assert self.dwarf is not None
            at = bisect.bisect_right(self._units, (number,)) - 1
            unit = self._units[at] if at >= 0 else unit
            if not unit[0] < number < unit[2]:
                raise self.dwarf.fault(number, "a type is in no unit")
            # names are read as names of this unit from now on
            header, first, end, table = self._unit = unit
            self.dwarf.top(first, header, end, table)
        return unit

    def entry(self, number: int) -> Die:
        """The entry at an offset."""
        assert self.dwarf is not None
        header, _, end, table = self.unit_of(number)
        die = self.dwarf.die(number, header, end, table)
        if die is None:
            raise self.dwarf.fault(number, "a type is no entry")
        return die

    def _read(self, number: int) -> Type:
        assert self.dwarf is not None
        die = self.entry(number)
        for _ in range(64):
            if die.tag not in _QUALIFIERS:
                break
            to = self._unqualified[number] = reference(self.dwarf, die)
            if to == NO_TYPE:
                return _VOID
            die = self.entry(to)
        _, _, end, table = self.unit_of(number)
        return self._make(die, end, table)

    def _make(self, die: Die, end: int, table: dict[int, Any]) -> Type:
        dwarf = self.dwarf
        assert dwarf is not None
        tag = die.tag
        if tag == _TAG_POINTER:
            return Type(POINTER, size=self._number(die, AT_BYTE_SIZE) or 8, to=reference(dwarf, die))
        name = dwarf.text(die, AT_NAME)
        if tag == _TAG_TYPEDEF:
            return Type(TYPEDEF, name, to=reference(dwarf, die), align=self._number(die, _AT_ALIGNMENT))
        if tag in _COMPOSITES:
            kind = _COMPOSITES[tag]
            if _AT_DECLARATION in die.attributes:
                return Type(FORWARD, name)
            members = self._enumerators(die, end, table) if kind == ENUM else self._members(die, end, table)
            size = self._number(die, AT_BYTE_SIZE)
            return Type(kind, name, size, members=members, align=self._number(die, _AT_ALIGNMENT))
        if tag == _TAG_BASE:
            encoding = self._number(die, _AT_ENCODING)
            kind = _ENCODINGS.get(encoding, INTEGER)
            return Type(kind, name, self._number(die, AT_BYTE_SIZE), signed=encoding in _SIGNED)
        if tag == _TAG_ARRAY:
            return self._array(die, end, table)
        if tag == _TAG_SUBROUTINE:
            tags = frozenset((_TAG_PARAMETER, _TAG_UNSPECIFIED))
            found = [child for child, _ in dwarf.children(die, end, table, tags)]
            parameters = tuple(TypeMember("", 0, 0, reference(dwarf, c)) for c in found if c.tag == _TAG_PARAMETER)
            more = int(len(parameters) != len(found))
            return Type(FUNCTION, to=reference(dwarf, die), members=parameters, length=more)
        return Type(VOID if tag == _TAG_UNSPECIFIED_TYPE else UNKNOWN, name)

    def _array(self, die: Die, end: int, table: dict[int, Any]) -> Type:
        """An array type. An array of several dimensions becomes an array of arrays; the inner ones get numbers of their
        own."""
        assert self.dwarf is not None
        counts = []
        for child, _ in self.dwarf.children(die, end, table, frozenset((_TAG_SUBRANGE,))):
            if _AT_COUNT in child.attributes:
                counts.append(self._number(child, _AT_COUNT))
            elif _AT_UPPER_BOUND in child.attributes:
                # the upper bound of an array without elements is written as -1
                bound = self._number(child, _AT_UPPER_BOUND)
                counts.append((bound + 1) & 0xFFFFFFFF if bound + 1 == 1 << 32 else (bound + 1) & (1 << 64) - 1)
            else:
                counts.append(_UNKNOWN_COUNT)
        element = reference(self.dwarf, die)
        align = self._number(die, _AT_ALIGNMENT)
        for depth, count in enumerate(reversed(counts[1:])):
            # negative, so that it can't be the offset of an entry
            number = -(die.offset * 64 + depth + 1)
            self._types[number] = Type(ARRAY, to=element, length=count)
            element = number
        return Type(ARRAY, to=element, length=counts[0] if counts else _UNKNOWN_COUNT, align=align)

    def _members(self, die: Die, end: int, table: dict[int, Any]) -> tuple[TypeMember, ...]:
        assert self.dwarf is not None
        out = []
        for child, _ in self.dwarf.children(die, end, table, frozenset((_TAG_MEMBER,))):
            kind = reference(self.dwarf, child)
            offset, bits = self._place(child, kind)
            name = self.dwarf.text(child, AT_NAME)
            out.append(TypeMember(name, offset, bits, kind))
        return tuple(out)

    def _place(self, die: Die, kind: int) -> tuple[int, int]:
        """The offset of a member in bits, and its size in bits if it is a bit field, else 0."""
        bits = self._number(die, _AT_BIT_SIZE)
        if _AT_DATA_BIT_OFFSET in die.attributes:
            return self._number(die, _AT_DATA_BIT_OFFSET), bits
        offset = 8 * self._number(die, _AT_MEMBER_LOCATION)
        if bits and _AT_BIT_OFFSET in die.attributes:
            # counts from the most significant end of the storage unit
            storage = self._number(die, AT_BYTE_SIZE) or self.size(kind)
            offset += 8 * storage - self._number(die, _AT_BIT_OFFSET) - bits
        return offset, bits

    def _enumerators(self, die: Die, end: int, table: dict[int, Any]) -> tuple[TypeMember, ...]:
        assert self.dwarf is not None
        found = self.dwarf.children(die, end, table, frozenset((_TAG_ENUMERATOR,)))
        return tuple(TypeMember(self.dwarf.text(c, AT_NAME), self._number(c, _AT_CONST_VALUE), 0, 0) for c, _ in found)

    def _number(self, die: Die, attribute: int) -> int:
        """A number attribute of an entry; -1 if it is an expression, 0 if it is missing."""
        found = die.attributes.get(attribute)
        if found is None:
            return 0
        form, at, implicit = found
        assert self.dwarf is not None
        size = _FIXED_NUMBERS.get(form)
        if size is not None:
            return int.from_bytes(self.dwarf.data[at : at + size], self.dwarf.order)
        if form == _IMPLICIT:
            return implicit
        if form == _UDATA:
            return self.dwarf.number(at)
        if form == _SDATA:
            return self._signed(at)
        if form == _DATA16:
            return int.from_bytes(self.dwarf.data[at : at + 16], self.dwarf.order)
        if form == _EXPRLOC and attribute in (_AT_UPPER_BOUND, _AT_COUNT):
            return _UNKNOWN_COUNT - 1
        raise self.dwarf.fault(at, f"form {form:#x} is no number")

    def _signed(self, at: int) -> int:
        """The signed LEB128 number at an offset."""
        assert self.dwarf is not None
        value, last = self.dwarf.number(at), at
        while self.dwarf.data[last] & 0x80:
            last += 1
        return value - (1 << 7 * (last - at + 1)) if self.dwarf.data[last] & 0x40 else value

    def size(self, number: int) -> int:
        """Size of a type in bytes."""
        factor = 1
        for _ in range(64):
            found = self.type(number)
            if found.kind == ARRAY:
                factor *= max(found.length, 0)
            elif found.kind != TYPEDEF:
                return factor * found.size
            number = found.to
        return 0


class TypedVariable(NamedTuple):
    """A variable: the number of its type, and the alignment in bytes that its declaration asks for, else 0."""

    type: int
    align: int


class _Variables(StaticLocals):
    """Reads the types of variables into `variables`, by (section, offset)."""

    def __init__(self, dwarf: Dwarf, sections: set[int]) -> None:
        super().__init__(dwarf, sections)
        self.variables: dict[tuple[int, int], TypedVariable] = {}

    def at_top(self, die: Die, end: int, table: Any) -> None:
        """Read a variable at the top level of a unit."""
        place = self.location(die)
        if place is not None:
            self.found(place, "", die, end, table)

    def found(self, place: tuple[int, int], function: str, die: Die, end: int, table: Any) -> None:
        self.variables[place] = self.described(die, end, table)

    def described(self, die: Die, end: int, table: Any) -> TypedVariable:
        """What an entry says of its variable, directly or through the entries it links to."""
        kind = align = 0
        link: Die | None = die
        for _ in range(4):
            if link is None:
                break
            if _AT_TYPE in link.attributes:
                kind = kind or reference(self.dwarf, link)
            if _AT_ALIGNMENT in link.attributes:
                align = align or self.dwarf.constant(link, _AT_ALIGNMENT)
            at = reference(self.dwarf, link, AT_SPECIFICATION) or reference(self.dwarf, link, AT_ABSTRACT_ORIGIN)
            link = self.dwarf.die(at, die.unit, end, table) if at else None
        return TypedVariable(kind, align)


def reference(dwarf: Dwarf, die: Die, attribute: int = _AT_TYPE) -> int:
    """The offset in .debug_info that an attribute refers to; 0 if it is missing."""
    found = die.attributes.get(attribute)
    if found is None:
        return NO_TYPE
    form, at, _ = found
    if form == 0x13:
        return die.unit + int.from_bytes(dwarf.data[at : at + 4], dwarf.order)
    if form in _REF_SIZES:
        return die.unit + int.from_bytes(dwarf.data[at : at + _REF_SIZES[form]], dwarf.order)
    if form == _REF_UDATA:
        return die.unit + dwarf.number(at)
    raise dwarf.fault(at, f"form {form:#x} leads to another unit")


def read_types(obj: Object) -> TypeGraph:
    """The types of an object; a graph without variables if there is no DWARF. Raises FormatError."""
    try:
        return TypeGraph(obj)
    except (IndexError, RecursionError) as error:
        raise FormatError(0, f"debugging information can't be read ({error})") from error
