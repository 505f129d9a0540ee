# SPDX-License-Identifier: GPL-2.0-or-later
"""What a type of one object is behind its typedefs, which members it has in the end, and how it is written in C."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from kgbuild.debuginfo.type_graph import (
    ARRAY,
    ENUM,
    FORWARD,
    FUNCTION,
    POINTER,
    STRUCT,
    TYPEDEF,
    UNION,
    Type,
    TypeGraph,
    TypeMember,
)
from kgbuild.elf.read import FormatError

COMPOSITE = frozenset((STRUCT, UNION))
MOST_LEAVES = 4096
MOST_NESTED = 8


class PlainType(NamedTuple):
    """A type behind its typedefs: the number that refers to it, its own number, the type, the names of the typedefs,
    and the alignment that they and the type ask for."""

    first: int
    number: int
    type: Type
    names: tuple[str, ...]
    align: int


class PlainTypes:
    """The types of one object, behind their typedefs. Results are kept.

    `flat`, `leaves` and whoever calls `count_opened` raise FormatError for a type with too many members.
    """

    def __init__(self, graph: TypeGraph) -> None:
        self.graph = graph
        self._plain: dict[int, PlainType] = {}
        self._opened = 0

    def plain(self, number: int) -> PlainType:
        """A type behind its typedefs."""
        found = self._plain.get(number)
        if found is None:
            names = []
            at, align = self.graph.unqualified(number), 0
            kind = self.graph.type(at)
            for _ in range(64):
                if kind.kind != TYPEDEF:
                    break
                names.append(kind.name)
                align = max(align, kind.align)
                at = self.graph.unqualified(kind.to)
                kind = self.graph.type(at)
            found = self._plain[number] = PlainType(number, at, kind, tuple(names), max(align, kind.align))
        return found

    def flat(self, kind: Type, base: int = 0, depth: int = 0) -> list[TypeMember]:
        """The members of a structure or union, with the members of unnamed structures and unions put in their place."""
        out = []
        self.count_opened(depth)
        for member in kind.members:
            inner = self.plain(member.type).type
            if not member.name and inner.kind in COMPOSITE and not member.bits:
                if depth < 32:
                    out.extend(self.flat(inner, base + member.offset, depth + 1))
            elif member.name or not member.bits:
                out.append(member._replace(offset=base + member.offset))
        return out

    def bits(self, member: TypeMember) -> int:
        return member.bits or 8 * self.graph.size(member.type)

    def leaves(self, kind: Type, base: int = 0, depth: int = 0) -> Iterator[TypeMember]:
        self.count_opened(depth)
        for member in kind.members:
            inner = self.plain(member.type).type
            if inner.kind in COMPOSITE and not member.bits and depth < 32:
                yield from self.leaves(inner, base + member.offset, depth + 1)
            elif member.name or not member.bits:
                yield member._replace(offset=base + member.offset)

    def count_opened(self, depth: int) -> None:
        """Limit the work: structures that contain each other twice, thirty levels deep, have too many members to
        compare."""
        self._opened = self._opened + 1 if depth else 0
        if self._opened > MOST_LEAVES:
            raise FormatError(0, "debugging information can't be read (a type has too many members)")

    def pointed(self, number: int) -> int:
        """The structure or union that a pointer leads to, also through further pointers and arrays; 0 for anything
        else, and for a type that is no pointer."""
        found, first = self.plain(number), number
        for _ in range(8):
            if found.type.kind not in (POINTER, ARRAY):
                break
            number = found.type.to
            found = self.plain(number)
        return number if found.type.kind in COMPOSITE and number != first else 0

    def key(self, number: int) -> tuple[str, str]:
        """The (kind, name) by which a structure or union is known: its tag, or its typedef if it has no tag."""
        found = self.plain(number)
        if found.type.name or not found.names:
            return found.type.kind, found.type.name
        return TYPEDEF, found.names[-1]

    def describe(self, plain: PlainType, depth: int = 0) -> str:
        """A type roughly as it is written in C."""
        if plain.names or depth > MOST_NESTED:
            return plain.names[0] if plain.names else "..."
        kind = plain.type
        if kind.kind in COMPOSITE or kind.kind in (ENUM, FORWARD):
            word = "struct" if kind.kind == FORWARD else kind.kind
            return f"{word} {kind.name}" if kind.name else f"unnamed {word}"
        if kind.kind == POINTER:
            target = self.plain(kind.to)
            if target.type.kind == FUNCTION and not target.names:
                return f"pointer to {self.describe(target, depth + 1)}"
            inner = self.describe(target, depth + 1)
            return f"{inner}{'' if inner.endswith('*') else ' '}*"
        if kind.kind == ARRAY:
            bounds = ""
            while kind.kind == ARRAY and not plain.names and len(bounds) < 64:
                bounds += f"[{kind.length if kind.length >= 0 else ''}]"
                plain = self.plain(kind.to)
                kind = plain.type
            return f"{self.describe(plain, depth + 1)}{bounds}"
        if kind.kind == FUNCTION:
            inner = ", ".join(self.describe(self.plain(m.type), depth + 1) for m in kind.members)
            return f"{self.describe(self.plain(kind.to), depth + 1)} ({inner}{', ...' if kind.length else ''})"
        return kind.name or kind.kind

    def describe_number(self, number: int) -> str:
        """The type with a number, roughly as it is written in C."""
        return self.describe(self.plain(number))
