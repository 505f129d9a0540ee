# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether functions and variables have the same type in two objects: what callers that are already compiled rely on.

Types are read from .BTF and compared by structure, through pointers, members, arrays and arguments. Names of members,
of arguments and of plain integer typedefs (u32) do not count. A typedef that gives a number a meaning (__be32, gfp_t,
ktime_t) counts, and so does the tag of a structure if the tag of the other side exists on this side too. A structure
that one side only declares (its header is not included) equals the structure of the same name on the other side. A
structure that is reached only through a pointer in a member may gain members in holes, and enumerations may gain
values, as in `type_comparison`: no code that is already compiled uses them. Source of the format:
Documentation/bpf/btf.rst.
"""

from __future__ import annotations

import re
import struct
from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from kgbuild.debuginfo.btf import (
    ARRAY,
    CONST,
    ENUM,
    ENUM64,
    FLOAT,
    FUNC,
    FUNC_PROTO,
    FWD,
    INT,
    PTR,
    RESTRICT,
    STRUCT,
    TYPE_TAG,
    TYPEDEF,
    UNION,
    VAR,
    VOLATILE,
    Btf,
)
from kgbuild.elf.object import Object
from kgbuild.errors import ToolError

VOID = 0
# Typedefs of integers that only give size and sign; every other typedef carries a meaning.
_PLAIN = re.compile(
    r"_?_?[us](?:8|16|32|64|128)|u?int(?:8|16|32|64)_t|u_?(?:char|short|int|long)|unchar|u_int(?:8|16|32|64)_t"
    r"|(?:__kernel_)?(?:size_t|ssize_t|ulong_t|long_t|ptrdiff_t)|uintptr_t|intptr_t|bool|__s128|__u128"
)
_QUALIFIERS = {CONST, VOLATILE, RESTRICT, TYPE_TAG}
_RECORD = {STRUCT: "struct", UNION: "union"}
_MAX_CHAIN = 64
_MAX_PAIRS = 1 << 17  # more than any unit has types

# How qualifiers count. On a value itself they do not; the target of an argument's pointer may become const, since the
# callee only promises more; in members they are left to the code that uses them.
_VALUE, _ARGUMENT, _BEHIND, _EXACT, _MEMBER = "value", "argument", "behind", "exact", "member"
_POINTED = {_VALUE: _EXACT, _ARGUMENT: _BEHIND, _BEHIND: _EXACT, _EXACT: _EXACT, _MEMBER: _MEMBER}


@dataclass(frozen=True)
class _Leaf:
    """A member, with the members of unnamed structures put in their place: name, offset and bit-field size in bits,
    type."""

    name: str
    offset: int
    bits: int
    type: int


@dataclass(frozen=True)
class _Plain:
    """A type without typedefs and qualifiers: its index, its kind, and the outermost typedef that carries a meaning."""

    index: int
    kind: int
    meaning: str
    const: bool


def compare_prototypes(
    orig: Object, patched: Object, names: Iterable[str], allowed: Collection[str] = ()
) -> dict[str, str | None]:
    """What differs in the type of each named function or variable, in words; "" if nothing differs, None if one of the
    objects has no type for it.

    allowed   names of types ("foo", "struct foo") that may differ
    Raises ToolError for type information that can't be read.
    """
    sections = [obj.section_named(".BTF") for obj in (orig, patched)]
    if sections[0] is None or sections[1] is None:
        return dict.fromkeys(names)
    try:
        sides = [
            _PrototypeTypes(bytes(obj.contents(section.index)))
            for obj, section in zip((orig, patched), sections, strict=True)
            if section is not None
        ]
        comparison = _PrototypeComparison(sides[0], sides[1], allowed)
        return {name: comparison.difference(name) for name in names}
    except (struct.error, IndexError, ValueError, KeyError) as error:
        raise ToolError(f"type information can't be read: {error}", place=".BTF") from error


class _PrototypeTypes(Btf):
    """The types of an object, each as (offset of its name, kind with its flag above it, number of members, size or
    type, index of the word at which its members begin)."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        words = self.words
        self.types = [(0, VOID, 0, 0, 0)]
        for at in self.at[1:]:
            info = words[at + 1]
            kind = (info >> 24) & 31 | info >> 31 << 8
            self.types.append((words[at], kind, info & 0xFFFF, words[at + 2], at + 3))
        self.declared: dict[str, int] = {}
        self.tags: set[tuple[int, str]] = set()
        for name_at, kind, _, value, _ in self.types[1:]:
            plain = kind & 31
            if plain in (FUNC, VAR) and name_at:
                self.declared.setdefault(self.name(name_at), value)
            elif plain in (STRUCT, UNION) and name_at:
                self.tags.add((plain, self.name(name_at)))

    def kind(self, index: int) -> int:
        return self.types[index][1] & 31 if index else VOID

    def tag(self, index: int) -> str:
        return self.name(self.types[index][0])

    def plain(self, index: int) -> _Plain:
        meaning, const = "", False
        for _ in range(_MAX_CHAIN):
            kind = self.kind(index)
            if kind == TYPEDEF:
                name = self.tag(index)
                meaning = meaning or ("" if _PLAIN.fullmatch(name) else name)
            elif kind in _QUALIFIERS:
                const = const or kind == CONST
            else:
                return _Plain(index, kind, meaning, const)
            index = self.types[index][3]
        raise ValueError("typedefs nest too deeply")

    def array(self, index: int) -> tuple[int, int]:
        body = self.types[index][4]
        return self.words[body], self.words[body + 2]

    def integer(self, index: int) -> tuple[int, int]:
        """Size in bytes, encoding (signed, char, bool)."""
        return self.types[index][3], self.words[
            self.types[index][4]
        ] >> 24 & ~2  # whether it is a char does not matter, only whether it is signed

    def arguments(self, index: int) -> list[int]:
        """The types of the arguments; VOID means the dots of a variable argument list."""
        _, _, count, _, body = self.types[index]
        return [self.words[body + 2 * i + 1] for i in range(count)]

    def values(self, index: int) -> dict[str, int]:
        _, kind, count, _, body = self.types[index]
        words, wide = self.words, kind & 31 == ENUM64
        out = {}
        for at in range(body, body + (3 if wide else 2) * count, 3 if wide else 2):
            value = words[at + 1]
            out[self.name(words[at])] = words[at + 2] << 32 | value if wide else value - (value >> 31 << 32)
        return out

    def leaves(self, index: int, base: int = 0, depth: int = 0) -> list[_Leaf]:
        _, kind, count, _, body = self.types[index]
        bitfields = bool(kind >> 8)
        out = []
        for i in range(count):
            name_at, member, offset = self.words[body + 3 * i : body + 3 * i + 3]
            start = base + (offset & 0xFFFFFF if bitfields else offset)
            inner = self.plain(member)
            if not name_at and inner.kind in _RECORD:
                if depth >= _MAX_CHAIN:
                    raise ValueError("types nest too deeply")
                out += self.leaves(inner.index, start, depth + 1)
            else:
                out.append(_Leaf(self.name(name_at), start, offset >> 24 if bitfields else 0, member))
        return out

    def describe(self, index: int, depth: int = 0) -> str:
        """A type roughly as it is written in C, shortened where it nests."""
        if depth > 8:
            return "..."
        kind = self.kind(index)
        if kind == VOID:
            return "void"
        name, value = self.tag(index), self.types[index][3]
        if kind in (CONST, VOLATILE, RESTRICT):
            word = {CONST: "const", VOLATILE: "volatile", RESTRICT: "restrict"}[kind]
            inner = self.describe(value, depth + 1)
            return f"{inner} {word}" if inner.endswith("*") else f"{word} {inner}"
        if kind == TYPE_TAG:
            return self.describe(value, depth + 1)
        if kind == PTR:
            inner = self.describe(value, depth + 1)
            return inner + ("*" if inner.endswith("*") else " *")
        if kind == ARRAY:
            element, count = self.array(index)
            return f"{self.describe(element, depth + 1)}[{count or ''}]"
        if kind == FUNC_PROTO:
            inside = [self.describe(a, depth + 1) if a else "..." for a in self.arguments(index)]
            return f"{self.describe(value, depth + 1)} ({', '.join(inside) or 'void'})"
        if kind == FWD:
            return f"{'union' if self.types[index][1] >> 8 else 'struct'} {name}"
        word = {**_RECORD, ENUM: "enum", ENUM64: "enum"}.get(kind, "")
        return f"{word} {name or '{...}'}" if word else name


@dataclass(frozen=True)
class _Pair:
    """Two types to compare: where they occur, how qualifiers count there, and which types to show in a message (for
    pointers and arrays the whole type)."""

    orig: int
    patched: int
    place: str
    mode: str
    shown: tuple[int, int] | None = None


class _PrototypeComparison:
    def __init__(self, orig: _PrototypeTypes, patched: _PrototypeTypes, allowed: Collection[str]) -> None:
        self.orig, self.patched, self.allowed = orig, patched, allowed
        self.same: set[tuple[int, int, str]] = set()  # pairs found equal by a complete comparison

    def difference(self, name: str) -> str | None:
        if name not in self.orig.declared or name not in self.patched.declared:
            return None
        orig, patched = self.orig.declared[name], self.patched.declared[name]
        mode = _VALUE if self.orig.kind(orig) == FUNC_PROTO else _EXACT
        queue = deque([_Pair(orig, patched, "", mode)])
        seen = set[tuple[int, int, str]]()
        # breadth first, so that the difference reported is the one nearest to the declaration
        while queue:
            pair = queue.popleft()
            key = (pair.orig, pair.patched, pair.mode)
            if key in seen or key in self.same:
                continue
            seen.add(key)
            if len(seen) > _MAX_PAIRS:
                return None
            found = self._step(pair)
            if isinstance(found, str):
                return found
            queue += found
        self.same |= seen
        return ""

    def _step(self, pair: _Pair) -> str | list[_Pair]:
        """What differs between two types themselves, or else the pairs of types that they refer to."""
        orig, patched = self.orig.plain(pair.orig), self.patched.plain(pair.patched)
        late = pair.mode == _BEHIND and patched.const
        if pair.mode in (_BEHIND, _EXACT) and orig.const != patched.const and not late:
            return self._differs(pair)
        if FWD in (orig.kind, patched.kind):
            return [] if self._named(self.orig, orig) == self._named(self.patched, patched) else self._differs(pair)
        if orig.kind != patched.kind:
            return self._differs(pair)
        if orig.kind in (INT, FLOAT, ENUM, ENUM64) and orig.meaning != patched.meaning:
            return self._differs(pair)
        if orig.kind == INT:
            return [] if self.orig.integer(orig.index) == self.patched.integer(patched.index) else self._differs(pair)
        if orig.kind == FLOAT:
            return [] if self.orig.types[orig.index][3] == self.patched.types[patched.index][3] else self._differs(pair)
        if orig.kind in (ENUM, ENUM64):
            return self._enum(pair, orig.index, patched.index)
        if orig.kind == PTR:
            targets = (self.orig.types[orig.index][3], self.patched.types[patched.index][3])
            return [_Pair(*targets, pair.place, _POINTED[pair.mode], pair.shown or (pair.orig, pair.patched))]
        if orig.kind == ARRAY:
            (element, count), (other, others) = self.orig.array(orig.index), self.patched.array(patched.index)
            if count != others:
                return self._differs(pair)
            return [_Pair(element, other, pair.place, pair.mode, pair.shown or (pair.orig, pair.patched))]
        if orig.kind == FUNC_PROTO:
            return self._function(pair, orig.index, patched.index)
        if orig.kind in _RECORD:
            return self._record(pair, orig, patched)
        return [] if orig.kind == VOID else self._differs(pair)

    def _differs(self, pair: _Pair) -> str:
        orig, patched = pair.shown or (pair.orig, pair.patched)
        orig_text, patched_text = self.orig.describe(orig), self.patched.describe(patched)
        if orig_text == patched_text:
            return f"{pair.place or 'it'} is another {patched_text}"
        return f"{pair.place or 'it'} is {patched_text}, was {orig_text}"

    @staticmethod
    def _named(types: _PrototypeTypes, plain: _Plain) -> tuple[int, str]:
        if plain.kind == FWD:
            return (UNION if types.types[plain.index][1] >> 8 else STRUCT), types.tag(plain.index)
        return plain.kind, types.tag(plain.index)

    def _enum(self, pair: _Pair, orig: int, patched: int) -> str | list[_Pair]:
        if self.orig.types[orig][3] != self.patched.types[patched][3]:
            return self._differs(pair)
        orig_values, patched_values = self.orig.values(orig), self.patched.values(patched)
        for name, value in orig_values.items():
            if name in patched_values and patched_values[name] != value:
                return f"{self.orig.describe(orig)}: {name} is {patched_values[name]}, was {value}"
        if len(patched_values) < len(orig_values):
            gone = next((name for name in orig_values if name not in patched_values), "a value")
            return f"{self.orig.describe(orig)}: {gone} is gone"
        return []

    def _function(self, pair: _Pair, orig: int, patched: int) -> str | list[_Pair]:
        of = f"{pair.place}: " if pair.place else ""
        orig_arguments, patched_arguments = self.orig.arguments(orig), self.patched.arguments(patched)
        if len(orig_arguments) != len(patched_arguments):
            return f"{of}it takes {_count(patched_arguments)}, it took {_count(orig_arguments)}"
        results = (self.orig.types[orig][3], self.patched.types[patched][3])
        out = [_Pair(*results, f"{of}its result", _VALUE)]
        for number, (orig_argument, patched_argument) in enumerate(
            zip(orig_arguments, patched_arguments, strict=True), 1
        ):
            out.append(_Pair(orig_argument, patched_argument, f"{of}argument {number}", _ARGUMENT))
        return out

    def _record(self, pair: _Pair, orig: _Plain, patched: _Plain) -> str | list[_Pair]:
        orig_tag, patched_tag = self.orig.tag(orig.index), self.patched.tag(patched.index)
        called = f"{_RECORD[orig.kind]} {orig_tag}" if orig_tag else orig.meaning
        if {orig_tag, called} & set(self.allowed):
            return []
        both_there = (patched.kind, patched_tag) in self.orig.tags or (orig.kind, orig_tag) in self.patched.tags
        if orig_tag != patched_tag and orig_tag and patched_tag and both_there:
            return self._differs(pair)
        called = called or pair.place or "an unnamed structure"
        orig_size, patched_size = self.orig.types[orig.index][3], self.patched.types[patched.index][3]
        if orig_size != patched_size:
            return f"{called} is {patched_size} bytes, was {orig_size}"
        places: dict[tuple[int, int], list[_Leaf]] = {}
        for leaf in self.patched.leaves(patched.index):
            places.setdefault((leaf.offset, leaf.bits), []).append(leaf)
        orig_leaves = self.orig.leaves(orig.index)
        names = {leaf.name for leaf in orig_leaves}
        out = []
        for leaf in orig_leaves:
            at = places.get((leaf.offset, leaf.bits), [])
            # the member of the same name, or else one with a new name
            found = next((m for m in at if m.name == leaf.name), None) or next(
                (m for m in at if m.name not in names), None
            )
            if found is None:
                return f"{called}: {leaf.name or 'a member'} is not at byte {leaf.offset // 8} any more"
            if not leaf.name or found.name != leaf.name:
                at.remove(found)
            out.append(_Pair(leaf.type, found.type, f"{called}.{leaf.name}", _MEMBER))
        return out


def _count(arguments: list[int]) -> str:
    fixed = len([a for a in arguments if a])
    text = f"{fixed} argument{'' if fixed == 1 else 's'}" if fixed else "no argument"
    return text + (" and more" if fixed != len(arguments) else "")
