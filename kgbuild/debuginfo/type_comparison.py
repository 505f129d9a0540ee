# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether two types are equal by structure, and if not, where they first differ.

What an object in memory means to the code that reads it depends on its size, the offsets of its members, and the types
of those. The names of types and members do not matter, except that a member that exists on both sides must be at the
same offset. So types are compared as graphs. Structures refer back to themselves; therefore pairs of types are assumed
to be equal while they are being compared. The search is breadth first, so that the shortest path to a difference is
reported.

Two integers of the same size hold the same bits for the same value, signed or not. A different typedef means that the
value has another meaning if the typedef carries one (`ktime_t`, `__be32`). All typedefs do, except those that only give
width and sign (`NEUTRAL`) and those that the patch introduces.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from kgbuild.debuginfo.type_graph import (
    ARRAY,
    BOOLEAN,
    ENUM,
    FLOAT,
    FORWARD,
    FUNCTION,
    INTEGER,
    POINTER,
    STRUCT,
    TYPEDEF,
    UNION,
    UNKNOWN,
    VOID,
    Type,
    TypeGraph,
    TypeMember,
)
from kgbuild.elf.read import FormatError

# typedefs of integers that give width and sign and nothing else
NEUTRAL = frozenset(
    f"{prefix}{name}"
    for prefix in ("", "__", "__kernel_")
    for name in (
        *(f"{letter}{width}" for letter in "us" for width in (8, 16, 32, 64, 128)),
        *(f"{sign}int{width}_t" for sign in ("", "u", "u_") for width in (8, 16, 32, 64)),
        *(
            "unchar",
            "ushort",
            "uint",
            "ulong",
            "u_char",
            "u_short",
            "u_int",
            "u_long",
            "ulong_t",
            "long_t",
            "ulonglong",
        ),
        *("size_t", "ssize_t", "ptrdiff_t", "intptr_t", "uintptr_t", "bool", "s128", "int128", "uint128_t"),
    )
)
# typedefs that carry a meaning even if the original does not have them
_MEANINGFUL = (
    "__be",
    "__le",
    "__sum",
    "__wsum",
    "ktime_t",
    "dma_addr_t",
    "phys_addr_t",
    "gfp_t",
    "time64_t",
    "timeu64_t",
    "cycles_t",
)
_COMPOSITE = frozenset((STRUCT, UNION))
_WHOLE = frozenset((INTEGER, ENUM))
_TAGGED = frozenset((STRUCT, UNION, ENUM, FORWARD))
_MOST_PAIRS = 1 << 20
_MOST_LEAVES = 4096
_MOST_NESTED = 8


class TypeDifference(NamedTuple):
    """Where two types differ: the path from the variable or type ("next->owner", "" for itself), what differs, and the
    numbers of the two types there."""

    path: str
    fact: str
    at: tuple[int, int] = (0, 0)

    @property
    def through_pointer(self) -> bool:
        """Whether the path leaves the object itself."""
        return "->" in self.path or "(" in self.path

    def __str__(self) -> str:
        path = "what it points to" if self.path == "->" else self.path
        return f"{path}: {self.fact}" if path else self.fact


class _Step(NamedTuple):
    pair: tuple[int, int]
    before: int  # index of the step that led here, -1 for the first
    word: str  # how: "->", "[]", ".name"


class Plain(NamedTuple):
    """A type behind its typedefs: the number that refers to it, its own number, the type, the names of the typedefs,
    and the alignment that they and the type ask for."""

    first: int
    number: int
    type: Type
    names: tuple[str, ...]
    align: int


class Comparison:
    """Compares types of an original object with types of a patched one. Results are kept, so that the total cost of
    many questions is bounded by the size of the graph.

    `by_name`: types that have the same name on both sides are taken to be equal where another type refers to them,
    since each of them is compared separately. This never applies to a type defined inside a function.
    """

    def __init__(self, original: TypeGraph, patched: TypeGraph, by_name: bool = False) -> None:
        self.o, self.p, self.by_name = original, patched, by_name
        self.equal: set[tuple[int, int]] = {(0, 0)}
        self.signs: dict[tuple[int, int], TypeDifference] = {}
        self._different: dict[tuple[int, int], TypeDifference] = {}
        self._plain: tuple[dict[int, Plain], dict[int, Plain]] = ({}, {})
        self._sign: dict[tuple[int, int], str] = {}
        self._opened = 0
        self._assumed: list[tuple[int, int]] = []  # structures whose members are being compared

    def difference(self, o: int, p: int) -> TypeDifference | None:
        """The nearest difference between two types, given by their numbers; None if they are equal by structure."""
        first = (o, p)
        if first in self.equal:
            return None
        known = self._different.get(first)
        if known is not None:
            return known
        steps = [_Step(first, -1, "")]
        seen = {first}
        at = 0
        while at < len(steps):
            step = steps[at]
            for word, pair in self._parts(*step.pair):
                if pair is None:
                    return self._tell(steps, at, word)
                if pair not in seen and pair not in self.equal and not self._is_assumed(*pair):
                    seen.add(pair)
                    steps.append(_Step(pair, at, word))
            if step.pair in self._sign:
                self.signs.setdefault(first, TypeDifference(_path(_words(steps, at)), self._sign[step.pair]))
            at += 1
            if at > _MOST_PAIRS:
                return TypeDifference("", "unknown: the types are too many to compare")
        if not self._assumed:
            self.equal |= seen
        return None

    def _is_assumed(self, o: int, p: int) -> bool:
        if self._assumed and (self.plain(0, o).number, self.plain(1, p).number) in self._assumed:
            return True
        return self._taken(o, p)

    def difference_of_use(self, o: int, p: int) -> TypeDifference | None:
        """The nearest difference between the types of two variables; None if equal, or if they are compared by name."""
        return None if self._taken(o, p) else self.difference(o, p)

    def _taken(self, o: int, p: int) -> bool:
        """Whether two types that another type refers to are taken to be equal by name."""
        if not self.by_name:
            return False
        was, now = self.plain(0, o), self.plain(1, p)
        a, b = was.type, now.type
        if was.names and now.names and was.names[0] == now.names[0]:
            same = True
        elif a.kind in _TAGGED and b.kind in _TAGGED:
            same = bool(a.name) and a.name == b.name and (a.kind == b.kind or FORWARD in (a.kind, b.kind))
        else:
            same = False
        return same and not self.o.is_local(was.first) and not self.p.is_local(now.first)

    def _tell(self, steps: list[_Step], at: int, fact: str) -> TypeDifference:
        """The difference, remembered for each type on the path to it."""
        words: list[str] = []
        where = self.plain(0, steps[at].pair[0]).number, self.plain(1, steps[at].pair[1]).number
        while at >= 0:
            step = steps[at]
            found = TypeDifference(_path(words), fact, where)
            self._different.setdefault(step.pair, found)
            words.insert(0, step.word)
            at = step.before
        return found

    # -- two types ----------------------------------------------------------------------------------------------------

    def plain(self, side: int, number: int) -> Plain:
        """A type behind its typedefs; `side` is 0 for the original and 1 for the patched object."""
        found = self._plain[side].get(number)
        if found is None:
            graph = self.p if side else self.o
            names = []
            at, align = graph.unqualified(number), 0
            kind = graph.type(at)
            for _ in range(64):
                if kind.kind != TYPEDEF:
                    break
                names.append(kind.name)
                align = max(align, kind.align)
                at = graph.unqualified(kind.to)
                kind = graph.type(at)
            found = self._plain[side][number] = Plain(number, at, kind, tuple(names), max(align, kind.align))
        return found

    def _parts(self, o: int, p: int) -> Iterator[tuple[str, tuple[int, int] | None]]:
        """The pairs of types that must be equal for two types to be equal, as (path element, pair). None instead of a
        pair means that the types differ; the first item is then the reason."""
        was, now = self.plain(0, o), self.plain(1, p)
        a, b = was.type, now.type
        if now.align > was.align and now.align > (natural := self._natural(was)):
            yield f"is aligned to {now.align} bytes now, to {natural} before", None
        if a.kind in _WHOLE and b.kind in _WHOLE:
            fact = self._integers(was, now, (o, p))
            if fact:
                yield fact, None
        elif a.kind in _COMPOSITE and b.kind in _COMPOSITE:
            yield from self._members(was, now)
        elif FORWARD in (a.kind, b.kind):
            # a tag without a definition here: equal if the tags are, else unknown
            if not {a.kind, b.kind} <= _TAGGED or (a.name and b.name and a.name != b.name):
                yield self._two(o, p), None
        elif a.kind != b.kind:
            yield self._two(o, p), None
        elif a.kind == POINTER:
            yield from self._pointers(a, b)
        elif a.kind == ARRAY:
            if a.length != b.length and min(a.length, b.length) >= 0:
                yield self._two(o, p), None
            yield "[]", (a.to, b.to)
        elif a.kind == FUNCTION:
            if len(a.members) != len(b.members) or a.length != b.length:
                yield self._two(o, p), None
            yield "(what it returns)", (a.to, b.to)
            for number, (x, y) in enumerate(zip(a.members, b.members, strict=False), 1):
                yield f"(parameter {number})", (x.type, y.type)
        elif a.kind in (BOOLEAN, FLOAT):
            if a.size != b.size:
                yield self._two(o, p), None
        elif a.kind == UNKNOWN:
            yield f"unknown: {a.name or 'a type'} is of a kind that has no rule", None

    def _integers(self, was: Plain, now: Plain, pair: tuple[int, int]) -> str:
        a, b = was.type, now.type
        if a.size != b.size:
            return f"{self.describe(0, was)} -> {self.describe(1, now)}, {a.size} -> {b.size} bytes"
        if a.kind == ENUM == b.kind:
            before = {m.name: m.offset for m in a.members}
            for m in b.members:
                if m.name in before and before[m.name] != m.offset:
                    return f"{m.name} changes from {before[m.name]} to {m.offset}"
            if (
                a.name != b.name
                and (ENUM, b.name) in self.o.named
                and before.keys().isdisjoint(m.name for m in b.members)
            ):
                return f"{self.describe(0, was)} -> {self.describe(1, now)}"
        if not self._same_meaning(was.names, now.names):
            return f"{self.describe(0, was)} -> {self.describe(1, now)}"
        if a.kind == INTEGER == b.kind and a.signed != b.signed:
            self._sign[pair] = f"{self.describe(0, was)} -> {self.describe(1, now)}"
        return ""

    def _same_meaning(self, was: tuple[str, ...], now: tuple[str, ...]) -> bool:
        before = [n.removeprefix("__kernel_") for n in was if n not in NEUTRAL]
        after = [n.removeprefix("__kernel_") for n in now if n not in NEUTRAL]
        short, long = sorted((before, after), key=len)
        # the typedefs of one side are further names for those of the other
        if before == after or (short and long[-len(short) :] == short):
            return True
        # a typedef that replaces another one, or one that the patch introduces where there was none
        gone = not any(n in self._typedefs[1] or n.startswith(_MEANINGFUL) for n in was if n not in NEUTRAL)
        new = not any(n in self._typedefs[0] or n.startswith(_MEANINGFUL) for n in now if n not in NEUTRAL)
        return gone and new

    @cached_property
    def _typedefs(self) -> tuple[frozenset[str], frozenset[str]]:
        return tuple(frozenset(n for k, n in graph.named if k == TYPEDEF) for graph in (self.o, self.p))  # type: ignore[return-value]

    def _natural(self, plain: Plain, depth: int = 0) -> int:
        """The alignment of an original type in bytes by the ABI, if the source asks for none."""
        kind = plain.type
        self._count(depth)
        if kind.kind in _COMPOSITE and depth < 32:
            inner = [self._natural(self.plain(0, m.type), depth + 1) for m in kind.members]
            return max(plain.align, 1, *inner)
        if kind.kind == ARRAY and depth < 32:
            return max(plain.align, self._natural(self.plain(0, kind.to), depth + 1))
        return max(plain.align, kind.size, 1)

    def _pointers(self, a: Type, b: Type) -> Iterator[tuple[str, tuple[int, int] | None]]:
        was, now = self.plain(0, a.to), self.plain(1, b.to)
        if VOID in (was.type.kind, now.type.kind) and was.type.kind != now.type.kind:
            # what it points to was unknown before, or is unknown now
            other = now.type if was.type.kind == VOID else was.type
            unknown = other is now.type and other.kind in _COMPOSITE and self.key(1, b.to) not in self.o.named
            if other.kind == FUNCTION or unknown:
                new = ", which is new" if unknown else ""
                yield f"{self.describe_number(0, a.to)} * -> {self.describe_number(1, b.to)} *{new}", None
            return
        yield "->", (a.to, b.to)

    # -- structures and unions ----------------------------------------------------------------------------------------

    def flat(self, side: int, kind: Type, base: int = 0, depth: int = 0) -> list[TypeMember]:
        """The members of a structure or union, with the members of unnamed structures and unions put in their place."""
        out = []
        self._count(depth)
        for m in kind.members:
            inner = self.plain(side, m.type).type
            if not m.name and inner.kind in _COMPOSITE and not m.bits:
                if depth < 32:
                    out.extend(self.flat(side, inner, base + m.offset, depth + 1))
            elif m.name or not m.bits:
                out.append(m._replace(offset=base + m.offset))
        return out

    def _bits(self, side: int, m: TypeMember) -> int:
        return m.bits or 8 * (self.p if side else self.o).size(m.type)

    def _members(self, was: Plain, now: Plain) -> Iterator[tuple[str, tuple[int, int] | None]]:
        a, b = was.type, now.type
        called, calls = self.describe(0, was), self.describe(1, now)
        names = f"{called} -> {calls}, " if called != calls else ""
        text = f"{a.size} -> {b.size} bytes" if a.size != b.size else ""
        before, after = self.flat(0, a), self.flat(1, b)
        left = {m.name: m for m in before}
        pairs, new = [], []
        for m in after:
            old = left.pop(m.name, None) if m.name else None
            if old is None:
                new.append(m)
            else:
                pairs.append((old, m))
        gone = list(left.values())
        self._assumed.append((was.number, now.number))
        for m in new[:]:
            other = self._in_place(m, gone)
            if other is not None:
                gone.remove(other)
                new.remove(m)
                pairs.append((other, m))
        if (new or gone) and not text and self._same_leaves(was, now):
            new, gone = [], []
        self._assumed.pop()
        if new:
            yield names + _join(text, f"new member {new[0].name} at {_place(new[0])}"), None
        for old, m in pairs:
            if old.offset != m.offset:
                yield names + _join(text, f"{m.name} moves from {_place(old)} to {_place(m)}"), None
        for old, m in pairs:
            if self._bits(0, old) != self._bits(1, m):
                yield (
                    names + _join(text, f"{m.name} changes from {self._bits(0, old)} to {self._bits(1, m)} bits"),
                    None,
                )
        if gone:
            yield names + _join(text, f"member {gone[0].name} is gone"), None
        if text:
            yield names + text, None
        for old, m in pairs:
            if old.bits or m.bits:
                # a bit field is only its offset and width, whatever its declared type is
                kinds = self.plain(0, old.type).type.kind, self.plain(1, m.type).type.kind
                if kinds != (ENUM, ENUM):
                    continue
            yield f".{m.name or old.name}", (old.type, m.type)

    def _in_place(self, m: TypeMember, gone: list[TypeMember]) -> TypeMember | None:
        """The removed member of which a new member may only be a renaming: same offset, same type."""
        bits = self._bits(1, m)
        there = [old for old in gone if old.offset == m.offset and self._bits(0, old) == bits]
        if len(there) > 1:
            for old in there:
                if self._nested(old.type, m.type):
                    return old
        return there[0] if there else None

    def _nested(self, o: int, p: int) -> bool:
        """Whether two types are equal, asked while other types are being compared."""
        return len(self._assumed) < _MOST_NESTED and self.difference(o, p) is None

    def _same_leaves(self, was: Plain, now: Plain) -> bool:
        """Whether the same bytes have the same meaning, however they are grouped: members may move into a structure of
        their own (struct_group()) or out of one."""
        before, after = list(self._leaves(0, was.type)), list(self._leaves(1, now.type))
        if len(before) > _MOST_LEAVES or len(after) > _MOST_LEAVES:
            return False
        table: dict[tuple[int, int], list[TypeMember]] = {}
        for m in before:
            table.setdefault((m.offset, self._bits(0, m)), []).append(m)
        places: dict[str, set[int]] = {}
        for m in before:
            places.setdefault(m.name, set()).add(m.offset)
        met: set[tuple[int, int]] = set()
        for m in after:
            key = (m.offset, self._bits(1, m))
            if not any(self._nested(old.type, m.type) for old in table.get(key, ())):
                return False
            if m.name in places and m.offset not in places[m.name]:
                return False
            met.add(key)
        return met == table.keys()

    def _count(self, depth: int) -> None:
        """Limit the work: structures that contain each other twice, thirty levels deep, have too many members to
        compare."""
        self._opened = self._opened + 1 if depth else 0
        if self._opened > _MOST_LEAVES:
            raise FormatError(0, "debugging information can't be read (a type has too many members)")

    def _leaves(self, side: int, kind: Type, base: int = 0, depth: int = 0) -> Iterator[TypeMember]:
        self._count(depth)
        for m in kind.members:
            inner = self.plain(side, m.type).type
            if inner.kind in _COMPOSITE and not m.bits and depth < 32:
                yield from self._leaves(side, inner, base + m.offset, depth + 1)
            elif m.name or not m.bits:
                yield m._replace(offset=base + m.offset)

    def pointed(self, side: int, number: int) -> int:
        """The structure or union that a pointer leads to, also through further pointers and arrays; 0 for anything
        else, and for a type that is no pointer."""
        found, first = self.plain(side, number), number
        for _ in range(8):
            if found.type.kind not in (POINTER, ARRAY):
                break
            number = found.type.to
            found = self.plain(side, number)
        return number if found.type.kind in _COMPOSITE and number != first else 0

    def key(self, side: int, number: int) -> tuple[str, str]:
        """The (kind, name) by which a structure or union is known: its tag, or its typedef if it has no tag."""
        found = self.plain(side, number)
        if found.type.name or not found.names:
            return found.type.kind, found.type.name
        return TYPEDEF, found.names[-1]

    def shared_names(self, o: int, p: int) -> list[str]:
        """The member names that two structures share, if they are more than half of the names of either."""
        before = [m.name for m in self.flat(0, self.plain(0, o).type)]
        after = {m.name for m in self.flat(1, self.plain(1, p).type)}
        shared = [name for name in before if name in after]
        return shared if 2 * len(shared) >= min(len(before), len(after)) else []

    # -- words --------------------------------------------------------------------------------------------------------

    def describe(self, side: int, plain: Plain, depth: int = 0) -> str:
        """A type roughly as it is written in C."""
        if plain.names or depth > _MOST_NESTED:
            return plain.names[0] if plain.names else "..."
        kind = plain.type
        if kind.kind in _COMPOSITE or kind.kind in (ENUM, FORWARD):
            word = "struct" if kind.kind == FORWARD else kind.kind
            return f"{word} {kind.name}" if kind.name else f"unnamed {word}"
        if kind.kind == POINTER:
            target = self.plain(side, kind.to)
            if target.type.kind == FUNCTION and not target.names:
                return f"pointer to {self.describe(side, target, depth + 1)}"
            inner = self.describe(side, target, depth + 1)
            return f"{inner}{'' if inner.endswith('*') else ' '}*"
        if kind.kind == ARRAY:
            bounds = ""
            while kind.kind == ARRAY and not plain.names and len(bounds) < 64:
                bounds += f"[{kind.length if kind.length >= 0 else ''}]"
                plain = self.plain(side, kind.to)
                kind = plain.type
            return f"{self.describe(side, plain, depth + 1)}{bounds}"
        if kind.kind == FUNCTION:
            inner = ", ".join(self.describe(side, self.plain(side, m.type), depth + 1) for m in kind.members)
            return (
                f"{self.describe(side, self.plain(side, kind.to), depth + 1)} ({inner}{', ...' if kind.length else ''})"
            )
        return kind.name or kind.kind

    def describe_number(self, side: int, number: int) -> str:
        """The type with a number, roughly as it is written in C."""
        return self.describe(side, self.plain(side, number))

    def _two(self, o: int, p: int) -> str:
        return f"{self.describe_number(0, o)} -> {self.describe_number(1, p)}"


def _place(m: TypeMember) -> str:
    return f"bit {m.offset}" if m.bits else f"byte {m.offset // 8}"


def _join(text: str, fact: str) -> str:
    return f"{text}, {fact}" if text else fact


def _words(steps: list[_Step], at: int) -> list[str]:
    out: list[str] = []
    while at >= 0:
        out.insert(0, steps[at].word)
        at = steps[at].before
    return out


def _path(words: list[str]) -> str:
    """A path as text: `.next`, `->`, `.owner` becomes `next->owner`."""
    out = ""
    for word in words:
        out += word.removeprefix(".") if out.endswith("->") else word
    out = out.removesuffix("->") if out.endswith("->") and out != "->" else out
    return out.replace("->(", "(").removeprefix(".")
