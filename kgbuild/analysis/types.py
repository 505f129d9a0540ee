# SPDX-License-Identifier: GPL-2.0-or-later
"""Types in use keep their layout: the classic way to corrupt a kernel is a patch that grows a structure.

Objects of that type already exist in the running kernel. gcc writes the types of a unit as BTF (-gbtf), which is read
here for the original and the patched object; structures, unions and enumerations of one name are compared by size and
by the offset and size of each member. Source of the format: Documentation/bpf/btf.rst.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from kgbuild.elf.object import Object
from kgbuild.errors import ToolError

_HEADER = struct.Struct("<HBBIIIII")
_TYPE = struct.Struct("<III")
INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF = 1, 2, 3, 4, 5, 6, 7, 8
VOLATILE, CONST, RESTRICT, FUNC, FUNC_PROTO, VAR, DATASEC, FLOAT, DECL_TAG, TYPE_TAG, ENUM64 = range(9, 20)
_EXTRA = {INT: 4, ARRAY: 12, VAR: 4, DECL_TAG: 4}
# More than a unit has, those of unnamed members counted at each level; types that hold each other twice, thirty deep,
# would have 2^30.
_MAX_MEMBERS = 1 << 18
_PER_ITEM = {STRUCT: 12, UNION: 12, ENUM: 8, FUNC_PROTO: 8, DATASEC: 12, ENUM64: 12}


@dataclass(frozen=True)
class Member:
    """A member: name, offset and size in bits."""

    name: str
    offset: int
    size: int


@dataclass(frozen=True)
class Layout:
    """Layout of one named type: kind ("struct", "union", "enum"), size in bytes, members (or enumerators, whose
    value stands as offset)."""

    kind: str
    name: str
    size: int
    members: tuple[Member, ...]


@dataclass(frozen=True)
class LayoutChange:
    """A type whose layout differs: its name with its kind, and what differs in a sentence."""

    type: str
    fact: str


def read_layouts(obj: Object) -> dict[tuple[str, str], list[Layout]]:
    """Layouts by (kind, name) of every named structure, union and enumeration in an object's .BTF section.

    Empty where there is no such section. Raises ToolError for one that can't be read.
    """
    section = obj.section_named(".BTF")
    if section is None:
        return {}
    try:
        return _Btf(bytes(obj.contents(section.index))).layouts()
    except (struct.error, IndexError, ValueError) as error:
        raise ToolError(f"type information can't be read: {error}", place=".BTF") from error


class _Btf:
    def __init__(self, data: bytes) -> None:
        magic, _, _, header, type_at, type_size, string_at, string_size = _HEADER.unpack_from(data)
        if magic != 0xEB9F:
            raise ValueError("wrong magic number")
        self.data = data[header + type_at : header + type_at + type_size]
        self.strings = data[header + string_at : header + string_at + string_size]
        self.types: list[tuple[int, int, int, int, int]] = [(0, 0, 0, 0, 0)]
        at = 0
        while at < len(self.data):
            name, info, size = _TYPE.unpack_from(self.data, at)
            kind, count = (info >> 24) & 31, info & 0xFFFF
            if not INT <= kind <= ENUM64:
                raise ValueError(f"type {len(self.types)} is of kind {kind}, which is not known")
            body = at + 12
            self.types.append((name, kind | (info >> 31 << 8), count, size, body))
            at = body + _EXTRA.get(kind, 0) + _PER_ITEM.get(kind, 0) * count
        self.sizes: dict[int, int] = {}
        self.read = 0

    def name(self, at: int) -> str:
        return self.strings[at : self.strings.index(b"\0", at)].decode()

    def size(self, index: int, depth: int = 0) -> int:
        """Size of a type in bits."""
        if index in self.sizes:
            return self.sizes[index]
        _, kind, _, value, body = self.types[index]
        kind &= 31
        if depth > 64:
            raise ValueError("types nest too deeply")
        if kind in (INT, STRUCT, UNION, ENUM, FLOAT, ENUM64):
            out = value * 8
        elif kind in (PTR, FUNC_PROTO):
            out = 64
        elif kind == ARRAY:
            element, _, count = struct.unpack_from("<III", self.data, body)
            out = self.size(element, depth + 1) * count
        elif kind in (TYPEDEF, VOLATILE, CONST, RESTRICT, TYPE_TAG):
            out = self.size(value, depth + 1) if value else 0
        else:
            out = 0
        self.sizes[index] = out
        return out

    def members(self, index: int, base: int = 0, depth: int = 0) -> list[Member]:
        """Members of a structure or union with those of its anonymous members in their place."""
        _, kind, count, _, body = self.types[index]
        bitfields = bool(kind >> 8)
        out = []
        for i in range(count):
            name_at, kind_of, offset = struct.unpack_from("<III", self.data, body + 12 * i)
            bits = offset >> 24 if bitfields else 0
            start = base + (offset & 0xFFFFFF if bitfields else offset)
            name = self.name(name_at)
            inner = self._element(kind_of)
            unnamed = (self.types[inner][1] & 31) in (STRUCT, UNION) and not self.types[inner][0]
            if name or not unnamed:
                out.append(Member(name, start, bits or self.size(kind_of)))
            if unnamed:
                if depth >= 32:
                    raise ValueError("types nest too deeply")
                prefix = f"{name}." if name else ""
                out.extend(Member(prefix + m.name, m.offset, m.size) for m in self.members(inner, start, depth + 1))
        self.read += len(out)
        if self.read > _MAX_MEMBERS:
            raise ValueError("types have too many members")
        return out

    def _element(self, index: int) -> int:
        """The type of an array's elements, or the type itself."""
        index = self._plain(index)
        for _ in range(64):
            if self.types[index][1] & 31 != ARRAY:
                break
            index = self._plain(struct.unpack_from("<III", self.data, self.types[index][4])[0])
        return index

    def _plain(self, index: int) -> int:
        for _ in range(64):
            _, kind, _, value, _ = self.types[index]
            if (kind & 31) not in (VOLATILE, CONST, RESTRICT, TYPE_TAG):
                break
            index = value
        return index

    def _enumerator(self, kind: int, body: int, index: int) -> tuple[int, int]:
        if kind == ENUM:
            name, value = struct.unpack_from("<Ii", self.data, body + 8 * index)
            return name, value
        name, low, high = struct.unpack_from("<III", self.data, body + 12 * index)
        return name, high << 32 | low

    def _named(self) -> list[tuple[int, int]]:
        """(type, offset of its name) of what has a layout and a name of its own or by a typedef."""
        out = []
        layouts = (STRUCT, UNION, ENUM, ENUM64)
        for index, (name_at, kind, _, value, _) in enumerate(self.types):
            plain = kind & 31
            if plain in layouts and name_at:
                out.append((index, name_at))
            elif plain == TYPEDEF and not self.types[value][0] and self.types[value][1] & 31 in layouts:
                out.append((value, name_at))
        return out

    def layouts(self) -> dict[tuple[str, str], list[Layout]]:
        out: dict[tuple[str, str], list[Layout]] = {}
        for index, name_at in self._named():
            _, kind, count, size, body = self.types[index]
            plain = kind & 31
            if plain in (STRUCT, UNION):
                layout = Layout(
                    "struct" if plain == STRUCT else "union",
                    self.name(name_at),
                    size,
                    tuple(self.members(index)),
                )
            else:
                pairs = [self._enumerator(plain, body, i) for i in range(count)]
                layout = Layout("enum", self.name(name_at), size, tuple(Member(self.name(n), v, 0) for n, v in pairs))
            known = out.setdefault((layout.kind, layout.name), [])
            if layout not in known:
                known.append(layout)
        return out


def compare_layouts(
    original: dict[tuple[str, str], list[Layout]], patched: dict[tuple[str, str], list[Layout]]
) -> list[LayoutChange]:
    """Types of both sides whose layout differs, by name. A member that is only renamed in its place is no change;
    an enumeration that only gains values is none either."""
    out = []
    for key in sorted(original.keys() & patched.keys()):
        for new in patched[key]:
            if new in original[key]:
                continue
            fact = _difference(original[key][0], new)
            if fact:
                out.append(LayoutChange(f"{new.kind} {new.name}", fact))
                break
    return out


def _difference(old: Layout, new: Layout) -> str:
    before = {m.name: m for m in old.members if m.name}
    after = {m.name: m for m in new.members if m.name}
    if old.kind == "enum":
        moved = [n for n in before if n in after and before[n] != after[n]]
        return f"{moved[0]} changes from {before[moved[0]].offset} to {after[moved[0]].offset}" if moved else ""
    added = [m for n, m in after.items() if n not in before]
    removed = [m for n, m in before.items() if n not in after]
    text = f"{old.size} -> {new.size} bytes" if old.size != new.size else ""
    places = {(m.offset, m.size) for m in removed}
    extra = [m for m in added if (m.offset, m.size) not in places]
    moved = [n for n in before if n in after and (before[n].offset, before[n].size) != (after[n].offset, after[n].size)]
    if extra:
        text += f"{', ' if text else ''}new member {extra[0].name} at byte {extra[0].offset // 8}"
    elif moved:
        n = moved[0]
        text += f"{', ' if text else ''}{n} moves from byte {before[n].offset // 8} to {after[n].offset // 8}"
        if before[n].offset == after[n].offset:
            text = f"{old.name}.{n} changes from {before[n].size} to {after[n].size} bits"
    elif removed and len(removed) > len(added):
        text += f"{', ' if text else ''}member {removed[0].name} is gone"
    return text
