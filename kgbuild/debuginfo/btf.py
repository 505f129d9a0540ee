# SPDX-License-Identifier: GPL-2.0-or-later
"""Find quickly, by BTF, which named types of a unit may differ between two objects.

gcc writes BTF beside DWARF; it is several times shorter. Each named structure, union, enumeration and typedef is
written out as a text that mentions other types by name. Where the texts of both sides are equal, so are the types, as
far as BTF describes them. The few types whose texts differ are compared by DWARF (`type_comparison`). A type that did
change is never missed. Source of the format: Documentation/bpf/btf.rst.
"""

from __future__ import annotations

import bisect
import struct
from typing import NamedTuple

from kgbuild.elf.object import Object
from kgbuild.elf.records import PREFIX, order_of_magic, words_of
from kgbuild.elf.strings import StringTable
from kgbuild.errors import ToolError

_HEADER = "HBBIIIII"
_MAGIC = 0xEB9F
INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF = 1, 2, 3, 4, 5, 6, 7, 8
VOLATILE, CONST, RESTRICT, FUNC, FUNC_PROTO, VAR, DATASEC, FLOAT, DECL_TAG, TYPE_TAG, ENUM64 = range(9, 20)
# 32-bit words that follow the three words of each type: a fixed number, and a number for each member
_EXTRA = {INT: 1, ARRAY: 3, VAR: 1, DECL_TAG: 1}
_PER_ITEM = {STRUCT: 3, UNION: 3, ENUM: 2, FUNC_PROTO: 2, DATASEC: 3, ENUM64: 3}
_KINDS = {STRUCT: "struct", UNION: "union", ENUM: "enum", ENUM64: "enum", TYPEDEF: "typedef"}
_WRAPPERS = {PTR: "*", CONST: "", VOLATILE: "", RESTRICT: "", TYPE_TAG: ""}
_DEPTH = 64
# in an enumeration with wider values (in bytes), BTF holds only the lower half of each
_NARROW = 4
# no unit has as much text; types of unnamed structures that contain each other twice, thirty levels deep, would
_MOST_TEXT = 1 << 26

TypeKey = tuple[str, str]  # kind and name


class Btf:
    """The types of a .BTF section. Raises ValueError, struct.error or IndexError if it can't be read."""

    def __init__(self, data: bytes) -> None:
        order = order_of_magic(_MAGIC, data)
        if order is None:
            raise ValueError("wrong magic number")
        _, _, _, header, type_at, type_size, string_at, string_size = struct.unpack_from(PREFIX[order] + _HEADER, data)
        raw = data[header + type_at : header + type_at + type_size]
        self.words = words_of(raw, order)
        self.strings = data[header + string_at : header + string_at + string_size]
        self.name = StringTable(self.strings).at
        self.at = [-1]
        words, at, end, starts = self.words, 0, len(self.words), self.at
        while at < end:
            starts.append(at)
            info = words[at + 1]
            kind = (info >> 24) & 31
            if not INT <= kind <= ENUM64:
                raise ValueError(f"type {len(starts) - 1} is of an unknown kind {kind}")
            at += 3
            if kind in _PER_ITEM:
                at += _PER_ITEM[kind] * (info & 0xFFFF)
            else:
                at += _EXTRA.get(kind, 0)
        if at != end or len(raw) & 3:
            raise ValueError("the last type is cut off")
        self._texts: list[str | None] = [None] * len(starts)
        self._texts[0] = "void"
        self._written = 0

    def text(self, index: int, depth: int = 0) -> str:
        """A type as other types refer to it: by name if it has one."""
        found = self._texts[index]
        if found is None:
            if depth > _DEPTH:
                raise ValueError("types nest too deeply")
            at = self.at[index]
            kind = (self.words[at + 1] >> 24) & 31
            if kind in _WRAPPERS:
                found = self.text(self.words[at + 2], depth + 1) + _WRAPPERS[kind]
            elif kind == ARRAY:
                found = f"{self.text(self.words[at + 3], depth + 1)}[{self.words[at + 5]}]"
            elif kind == FUNC_PROTO:
                found = self._prototype(at, depth)
            elif self.words[at] == 0 and kind in _KINDS:
                found = f"{_KINDS[kind]}{{{self.body(index, depth)}}}"
            else:
                # a tag is written with a word before it, so that it can't be confused with another name
                word = "" if kind in (TYPEDEF, INT, FLOAT) else "tag "
                found = f"{word}{self.name(self.words[at])}"
            self._texts[index] = self._counted(found)
        return found

    def _prototype(self, at: int, depth: int) -> str:
        words, count = self.words, self.words[at + 1] & 0xFFFF
        inner = [self.text(words[at + 4 + 2 * i], depth + 1) for i in range(count)]
        return f"{self.text(words[at + 2], depth + 1)}({','.join(inner)})"

    def body(self, index: int, depth: int = 0) -> str:
        """The text of the definition of a structure, union, enumeration or typedef."""
        at = self.at[index]
        words, info = self.words, self.words[at + 1]
        kind, count = (info >> 24) & 31, info & 0xFFFF
        if kind == TYPEDEF:
            return self.text(words[at + 2], depth + 1)
        name, first = self.name, at + 3
        out = [str(words[at + 2])]
        if kind == ENUM:
            out += [f"{name(words[i])} {words[i + 1]}" for i in range(first, first + 2 * count, 2)]
        elif kind == ENUM64:
            out += [f"{name(words[i])} {words[i + 1]} {words[i + 2]}" for i in range(first, first + 3 * count, 3)]
        else:
            texts, long = self._texts, 0
            for i in range(first, first + 3 * count, 3):
                to = words[i + 1]
                part = texts[to] or self.text(to, depth + 1)
                long += len(part)
                if long > _MOST_TEXT:
                    raise ValueError("types have too many members")
                out.append(f"{name(words[i])} {words[i + 2]} {part}")
            # kind_flag: whether member offsets contain the sizes of bit fields
            out.append(str(info >> 31))
        return self._counted(";".join(out))

    def _counted(self, text: str) -> str:
        """A text; raises ValueError where all that were made of this section are too much."""
        self._written += len(text)
        if self._written > _MOST_TEXT:
            raise ValueError("types have too many members")
        return text

    def named(self) -> dict[TypeKey, list[int]]:
        """Type numbers, by kind and name, of the types that have both a definition and a name."""
        out: dict[TypeKey, list[int]] = {}
        words = self.words
        for index, at in enumerate(self.at):
            if index and words[at]:
                kind = _KINDS.get((words[at + 1] >> 24) & 31)
                if kind is not None:
                    out.setdefault((kind, self.name(words[at])), []).append(index)
        return out

    def enumerators(self, first: int) -> dict[str, Enumerator]:
        """Enumerators, by name, of the types numbered `first` and above, without those of which BTF holds only a
        half."""
        out: dict[str, Enumerator] = {}
        words = self.words
        for index in range(max(first, 1), len(self.at)):
            at = self.at[index]
            info = words[at + 1]
            kind, count = (info >> 24) & 31, info & 0xFFFF
            if kind == ENUM and words[at + 2] <= _NARROW:
                pairs = ((words[i], words[i + 1]) for i in range(at + 3, at + 3 + 2 * count, 2))
                out |= with_last({self.name(n): v - (v >> 31 << 32) for n, v in pairs})
            elif kind == ENUM64:
                wide = range(at + 3, at + 3 + 3 * count, 3)
                out |= with_last({self.name(words[i]): words[i + 2] << 32 | words[i + 1] for i in wide})
        return out

    def is_narrow(self, index: int) -> bool:
        """Whether an enumeration has values of which BTF holds only the lower half."""
        at = self.at[index]
        return (self.words[at + 1] >> 24) & 31 == ENUM and self.words[at + 2] > _NARROW


class Enumerator(NamedTuple):
    """The value of an enumerator, and whether it is the largest of its enumeration or the one before that."""

    value: int
    last: bool


class Moved(NamedTuple):
    """An enumerator whose value differs between the two sides, and whether it is one of the last on both (`last`)."""

    name: str
    orig: int
    patched: int
    last: bool


class Names(NamedTuple):
    """The named types of two objects, each as (kind, name): those on both sides that may differ, and those on one side
    only. `values`: the enumerators that have different values on the two sides."""

    suspects: frozenset[TypeKey]
    gone: frozenset[TypeKey]
    new: frozenset[TypeKey]
    values: tuple[Moved, ...]


def compare_names(orig: Object, patched: Object) -> Names | None:
    """Compare the named types of two objects; None if one of them has no BTF. Raises ToolError for BTF that can't be
    read."""
    found = []
    for obj in (orig, patched):
        section = obj.section_named(".BTF")
        if section is None:
            return None
        found.append(bytes(obj.contents(section.index)))
    if found[0] == found[1]:
        return Names(frozenset(), frozenset(), frozenset(), ())
    try:
        orig_btf, patched_btf = (Btf(data) for data in found)
        orig_named, patched_named = orig_btf.named(), patched_btf.named()
        both = orig_named.keys() & patched_named.keys()
        alike = _Alike(orig_btf, patched_btf)
        differ = frozenset(
            key
            for key in both
            if not alike.same(orig_named[key], patched_named[key])
            and _may_differ(orig_btf, orig_named[key], patched_btf, patched_named[key])
        )
        values = other_values(orig_btf.enumerators(alike.types), patched_btf.enumerators(alike.types))
    except (struct.error, IndexError, ValueError) as error:
        raise ToolError(f"type information can't be read: {error}", place=".BTF") from error
    return Names(differ, frozenset(orig_named.keys() - both), frozenset(patched_named.keys() - both), values)


def other_values(orig: dict[str, Enumerator], patched: dict[str, Enumerator]) -> tuple[Moved, ...]:
    """The enumerators that have different values on the two sides, in the order of the patched side."""
    return tuple(
        Moved(name, from_orig.value, from_patched.value, from_orig.last and from_patched.last)
        for name, from_patched in patched.items()
        if (from_orig := orig.get(name)) is not None and from_orig.value != from_patched.value
    )


def with_last(values: dict[str, int]) -> dict[str, Enumerator]:
    """The enumerators of one enumeration, by name, from their values."""
    most = max(values.values(), default=0)
    return {name: Enumerator(value, value >= most - 1) for name, value in values.items()}


class _Alike:
    """Types that have equal bytes on both sides. gcc numbers types and stores their names in the order in which it
    meets them, so the beginning of the two sections is mostly equal; no texts have to be made for that part."""

    def __init__(self, orig: Btf, patched: Btf) -> None:
        self.orig = orig
        self.strings = _common(memoryview(orig.strings), memoryview(patched.strings))
        words = _common(orig.words, patched.words)
        # a type that extends past the end of the common part is not counted
        self.types = max(bisect.bisect_right(orig.at, words) - 1, 0)
        if any(self._leads_out(i) for i in range(1, self.types)):
            self.types = 0

    def _leads_out(self, index: int) -> bool:
        """Whether an unnamed type refers to a type outside the common part: then equal bytes may mean different
        types."""
        at, words = self.orig.at[index], self.orig.words
        if words[at]:
            return words[at] >= self.strings
        info = words[at + 1]
        kind, count = (info >> 24) & 31, info & 0xFFFF
        if kind in _WRAPPERS:
            return words[at + 2] >= self.types
        if kind == ARRAY:
            return words[at + 3] >= self.types
        if kind == FUNC_PROTO:
            types = words[at + 4 : at + 3 + 2 * count : 2]
            return words[at + 2] >= self.types or (count > 0 and max(types) >= self.types)
        return kind in (STRUCT, UNION) and not self._inside(at, count)

    def _inside(self, at: int, count: int) -> bool:
        """Whether the names and the types of all members are in the common part."""
        first, end, words = at + 3, at + 3 + 3 * count, self.orig.words
        return not count or (max(words[first:end:3]) < self.strings and max(words[first + 1 : end : 3]) < self.types)

    def same(self, orig_numbers: list[int], patched_numbers: list[int]) -> bool:
        """Whether a type, given its numbers on the two sides, has equal bytes on both."""
        if (
            len(orig_numbers) != 1
            or orig_numbers != patched_numbers
            or orig_numbers[0] >= self.types
            or self.orig.is_narrow(orig_numbers[0])
        ):
            return False
        at, words = self.orig.at[orig_numbers[0]], self.orig.words
        info = words[at + 1]
        kind, count = (info >> 24) & 31, info & 0xFFFF
        if kind == TYPEDEF:
            return words[at + 2] < self.types
        if kind in (STRUCT, UNION):
            return self._inside(at, count)
        step = _PER_ITEM[kind]
        return not count or max(words[at + 3 : at + 3 + step * count : step]) < self.strings


def _common(orig: memoryview, patched: memoryview) -> int:
    """The number of equal items at the start of two sequences."""
    low, high = 0, min(len(orig), len(patched))
    while low < high:
        middle = (low + high + 1) // 2
        if orig[low:middle].tobytes() == patched[low:middle].tobytes():
            low = middle
        else:
            high = middle - 1
    return low


def _may_differ(orig: Btf, orig_numbers: list[int], patched: Btf, patched_numbers: list[int]) -> bool:
    if len(orig_numbers) != 1 or len(patched_numbers) != 1 or orig.is_narrow(orig_numbers[0]):
        return True
    return orig.body(orig_numbers[0]) != patched.body(patched_numbers[0])
