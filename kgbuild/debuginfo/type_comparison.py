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

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import islice
from typing import NamedTuple

from kgbuild.debuginfo.plain_types import COMPOSITE, MOST_LEAVES, MOST_NESTED, PlainType, PlainTypes
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
_WHOLE = frozenset((INTEGER, ENUM))
_TAGGED = frozenset((STRUCT, UNION, ENUM, FORWARD))
_MOST_PAIRS = 1 << 20
# removed members at one place that a new one is compared with
_MOST_RENAMED = 64


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


class _PathStep(NamedTuple):
    pair: tuple[int, int]
    previous: int  # index of the step that led here, -1 for the first
    word: str  # how: "->", "[]", ".name"


class Comparison:
    """Compares types of an original object with types of a patched one. Results are kept, so that the total cost of
    many questions is bounded by the size of the graph.

    `by_name`: types that have the same name on both sides are taken to be equal where another type refers to them,
    since each of them is compared separately. This never applies to a type defined inside a function.
    """

    def __init__(self, orig: TypeGraph, patched: TypeGraph, by_name: bool = False) -> None:
        self.orig, self.patched, self.by_name = PlainTypes(orig), PlainTypes(patched), by_name
        self.equal: set[tuple[int, int]] = {(0, 0)}
        self.signs: dict[tuple[int, int], TypeDifference] = {}
        self._different: dict[tuple[int, int], TypeDifference] = {}
        self._sign: dict[tuple[int, int], str] = {}
        self._assumed: list[tuple[int, int]] = []  # structures whose members are being compared

    def difference(self, orig: int, patched: int) -> TypeDifference | None:
        """The nearest difference between two types, given by their numbers; None if they are equal by structure."""
        first = (orig, patched)
        if first in self.equal:
            return None
        known = self._different.get(first)
        if known is not None:
            return known
        steps = [_PathStep(first, -1, "")]
        seen = {first}
        at = 0
        while at < len(steps):
            step = steps[at]
            for word, pair in self._parts(*step.pair):
                if pair is None:
                    return self._tell(steps, at, word)
                if pair not in seen and pair not in self.equal and not self._is_assumed(*pair):
                    seen.add(pair)
                    steps.append(_PathStep(pair, at, word))
            if step.pair in self._sign:
                self.signs.setdefault(first, TypeDifference(_path(_words(steps, at)), self._sign[step.pair]))
            at += 1
            if at > _MOST_PAIRS:
                return TypeDifference("", "unknown: the types are too many to compare")
        if not self._assumed:
            self.equal |= seen
        return None

    def _is_assumed(self, orig: int, patched: int) -> bool:
        if self._assumed and (self.orig.plain(orig).number, self.patched.plain(patched).number) in self._assumed:
            return True
        return self._taken(orig, patched)

    def difference_of_use(self, orig: int, patched: int) -> TypeDifference | None:
        """The nearest difference between the types of two variables; None if equal, or if they are compared by name."""
        return None if self._taken(orig, patched) else self.difference(orig, patched)

    def _taken(self, orig: int, patched: int) -> bool:
        """Whether two types that another type refers to are taken to be equal by name."""
        if not self.by_name:
            return False
        orig_plain, patched_plain = self.orig.plain(orig), self.patched.plain(patched)
        orig_type, patched_type = orig_plain.type, patched_plain.type
        if orig_plain.names and patched_plain.names and orig_plain.names[0] == patched_plain.names[0]:
            same = True
        elif orig_type.kind in _TAGGED and patched_type.kind in _TAGGED:
            same = (
                bool(orig_type.name)
                and orig_type.name == patched_type.name
                and (orig_type.kind == patched_type.kind or FORWARD in (orig_type.kind, patched_type.kind))
            )
        else:
            same = False
        return (
            same
            and not self.orig.graph.is_local(orig_plain.first)
            and not self.patched.graph.is_local(patched_plain.first)
        )

    def _tell(self, steps: list[_PathStep], at: int, fact: str) -> TypeDifference:
        """The difference, remembered for each type on the path to it."""
        words: list[str] = []
        where = self.orig.plain(steps[at].pair[0]).number, self.patched.plain(steps[at].pair[1]).number
        while at >= 0:
            step = steps[at]
            found = TypeDifference(_path(words), fact, where)
            self._different.setdefault(step.pair, found)
            words.insert(0, step.word)
            at = step.previous
        return found

    # -- two types ----------------------------------------------------------------------------------------------------

    def _parts(self, orig: int, patched: int) -> Iterator[tuple[str, tuple[int, int] | None]]:
        """The pairs of types that must be equal for two types to be equal, as (path element, pair). None instead of a
        pair means that the types differ; the first item is then the reason."""
        orig_plain, patched_plain = self.orig.plain(orig), self.patched.plain(patched)
        orig_type, patched_type = orig_plain.type, patched_plain.type
        if patched_plain.align > orig_plain.align and patched_plain.align > (natural := self._natural(orig_plain)):
            yield f"is aligned to {patched_plain.align} bytes now, to {natural} before", None
        if orig_type.kind in _WHOLE and patched_type.kind in _WHOLE:
            fact = self._integers(orig_plain, patched_plain, (orig, patched))
            if fact:
                yield fact, None
        elif orig_type.kind in COMPOSITE and patched_type.kind in COMPOSITE:
            yield from self._members(orig_plain, patched_plain)
        elif FORWARD in (orig_type.kind, patched_type.kind):
            # a tag without a definition here: equal if the tags are, else unknown
            if not {orig_type.kind, patched_type.kind} <= _TAGGED or (
                orig_type.name and patched_type.name and orig_type.name != patched_type.name
            ):
                yield self._two(orig, patched), None
        elif orig_type.kind != patched_type.kind:
            yield self._two(orig, patched), None
        elif orig_type.kind == POINTER:
            yield from self._pointers(orig_type, patched_type)
        elif orig_type.kind == ARRAY:
            if orig_type.length != patched_type.length and min(orig_type.length, patched_type.length) >= 0:
                yield self._two(orig, patched), None
            yield "[]", (orig_type.to, patched_type.to)
        elif orig_type.kind == FUNCTION:
            if len(orig_type.members) != len(patched_type.members) or orig_type.length != patched_type.length:
                yield self._two(orig, patched), None
            yield "(what it returns)", (orig_type.to, patched_type.to)
            for number, (orig_parameter, patched_parameter) in enumerate(
                zip(orig_type.members, patched_type.members, strict=False), 1
            ):
                yield f"(parameter {number})", (orig_parameter.type, patched_parameter.type)
        elif orig_type.kind in (BOOLEAN, FLOAT):
            if orig_type.size != patched_type.size:
                yield self._two(orig, patched), None
        elif orig_type.kind == UNKNOWN:
            yield f"unknown: {orig_type.name or 'a type'} is of a kind that has no rule", None

    def _integers(self, orig: PlainType, patched: PlainType, pair: tuple[int, int]) -> str:
        orig_type, patched_type = orig.type, patched.type
        if orig_type.size != patched_type.size:
            sizes = f"{orig_type.size} -> {patched_type.size} bytes"
            return f"{self.orig.describe(orig)} -> {self.patched.describe(patched)}, {sizes}"
        if orig_type.kind == ENUM == patched_type.kind:
            orig_values = {member.name: member.offset for member in orig_type.members}
            for member in patched_type.members:
                if member.name in orig_values and orig_values[member.name] != member.offset:
                    return f"{member.name} changes from {orig_values[member.name]} to {member.offset}"
            if (
                orig_type.name != patched_type.name
                and (ENUM, patched_type.name) in self.orig.graph.named
                and orig_values.keys().isdisjoint(member.name for member in patched_type.members)
            ):
                return f"{self.orig.describe(orig)} -> {self.patched.describe(patched)}"
        if not self._same_meaning(orig.names, patched.names):
            return f"{self.orig.describe(orig)} -> {self.patched.describe(patched)}"
        if orig_type.kind == INTEGER == patched_type.kind and orig_type.signed != patched_type.signed:
            self._sign[pair] = f"{self.orig.describe(orig)} -> {self.patched.describe(patched)}"
        return ""

    def _same_meaning(self, orig: tuple[str, ...], patched: tuple[str, ...]) -> bool:
        orig_names = [n.removeprefix("__kernel_") for n in orig if n not in NEUTRAL]
        patched_names = [n.removeprefix("__kernel_") for n in patched if n not in NEUTRAL]
        short, long = sorted((orig_names, patched_names), key=len)
        # the typedefs of one side are further names for those of the other
        if orig_names == patched_names or (short and long[-len(short) :] == short):
            return True
        # a typedef that replaces another one, or one that the patch introduces where there was none
        gone = not any(n in self._typedefs[1] or n.startswith(_MEANINGFUL) for n in orig if n not in NEUTRAL)
        new = not any(n in self._typedefs[0] or n.startswith(_MEANINGFUL) for n in patched if n not in NEUTRAL)
        return gone and new

    @cached_property
    def _typedefs(self) -> tuple[frozenset[str], frozenset[str]]:
        return tuple(frozenset(n for k, n in types.graph.named if k == TYPEDEF) for types in (self.orig, self.patched))  # type: ignore[return-value]

    def _natural(self, plain: PlainType, depth: int = 0) -> int:
        """The alignment of an original type in bytes by the ABI, if the source asks for none."""
        kind = plain.type
        self.orig.count_opened(depth)
        if kind.kind in COMPOSITE and depth < 32:
            inner = [self._natural(self.orig.plain(m.type), depth + 1) for m in kind.members]
            return max(plain.align, 1, *inner)
        if kind.kind == ARRAY and depth < 32:
            return max(plain.align, self._natural(self.orig.plain(kind.to), depth + 1))
        return max(plain.align, kind.size, 1)

    def _pointers(self, orig_type: Type, patched_type: Type) -> Iterator[tuple[str, tuple[int, int] | None]]:
        orig, patched = self.orig.plain(orig_type.to), self.patched.plain(patched_type.to)
        if VOID in (orig.type.kind, patched.type.kind) and orig.type.kind != patched.type.kind:
            # what it points to was unknown before, or is unknown now
            other = patched.type if orig.type.kind == VOID else orig.type
            unknown = (
                other is patched.type
                and other.kind in COMPOSITE
                and self.patched.key(patched_type.to) not in self.orig.graph.named
            )
            if other.kind == FUNCTION or unknown:
                note = ", which is new" if unknown else ""
                yield (
                    f"{self.orig.describe_number(orig_type.to)} * -> "
                    f"{self.patched.describe_number(patched_type.to)} *{note}",
                    None,
                )
            return
        yield "->", (orig_type.to, patched_type.to)

    # -- structures and unions ----------------------------------------------------------------------------------------

    def _members(self, orig: PlainType, patched: PlainType) -> Iterator[tuple[str, tuple[int, int] | None]]:
        orig_type, patched_type = orig.type, patched.type
        orig_name, patched_name = self.orig.describe(orig), self.patched.describe(patched)
        names = f"{orig_name} -> {patched_name}, " if orig_name != patched_name else ""
        text = f"{orig_type.size} -> {patched_type.size} bytes" if orig_type.size != patched_type.size else ""
        orig_members, patched_members = self.orig.flat(orig_type), self.patched.flat(patched_type)
        unmatched = {member.name: member for member in orig_members}
        pairs, added = [], []
        for member in patched_members:
            orig_member = unmatched.pop(member.name, None) if member.name else None
            if orig_member is None:
                added.append(member)
            else:
                pairs.append((orig_member, member))
        self._assumed.append((orig.number, patched.number))
        added, gone = self._renamed(added, unmatched.values(), pairs)
        if (added or gone) and not text and self._same_leaves(orig, patched):
            added, gone = [], []
        self._assumed.pop()
        if added:
            yield names + _join(text, f"new member {added[0].name} at {_place(added[0])}"), None
        for orig_member, member in pairs:
            if orig_member.offset != member.offset:
                yield names + _join(text, f"{member.name} moves from {_place(orig_member)} to {_place(member)}"), None
        for orig_member, member in pairs:
            if self.orig.bits(orig_member) != self.patched.bits(member):
                yield (
                    names
                    + _join(
                        text,
                        f"{member.name} changes from {self.orig.bits(orig_member)} to {self.patched.bits(member)} bits",
                    ),
                    None,
                )
        if gone:
            yield names + _join(text, f"member {gone[0].name} is gone"), None
        if text:
            yield names + text, None
        for orig_member, member in pairs:
            if orig_member.bits or member.bits:
                # a bit field is only its offset and width, whatever its declared type is
                kinds = self.orig.plain(orig_member.type).type.kind, self.patched.plain(member.type).type.kind
                if kinds != (ENUM, ENUM):
                    continue
            yield f".{member.name or orig_member.name}", (orig_member.type, member.type)

    def _renamed(
        self, added: Iterable[TypeMember], gone: Iterable[TypeMember], pairs: list[tuple[TypeMember, TypeMember]]
    ) -> tuple[list[TypeMember], list[TypeMember]]:
        """Adds to `pairs` the new members that may only be renamed ones: same offset, same width, and the same type
        where several removed members were there. Returns what remains, new and removed, each in its order."""
        remaining = dict(enumerate(gone))
        there: defaultdict[tuple[int, int], deque[int]] = defaultdict(deque)
        for index, member in remaining.items():
            there[member.offset, self.orig.bits(member)].append(index)
        really_added = []
        for member in added:
            candidates = there[member.offset, self.patched.bits(member)]
            if not candidates:
                really_added.append(member)
                continue
            # of a union with more members than that the first is compared, and what differs is said
            few = list(islice(candidates, _MOST_RENAMED)) if len(candidates) > 1 else []
            found = next((i for i in few if self._nested(remaining[i].type, member.type)), candidates[0])
            candidates.remove(found)
            pairs.append((remaining.pop(found), member))
        return really_added, list(remaining.values())

    def _nested(self, orig: int, patched: int) -> bool:
        """Whether two types are equal, asked while other types are being compared."""
        return len(self._assumed) < MOST_NESTED and self.difference(orig, patched) is None

    def _same_leaves(self, orig: PlainType, patched: PlainType) -> bool:
        """Whether the same bytes have the same meaning, however they are grouped: members may move into a structure of
        their own (struct_group()) or out of one."""
        orig_leaves, patched_leaves = list(self.orig.leaves(orig.type)), list(self.patched.leaves(patched.type))
        if len(orig_leaves) > MOST_LEAVES or len(patched_leaves) > MOST_LEAVES:
            return False
        table: dict[tuple[int, int], list[TypeMember]] = {}
        for member in orig_leaves:
            table.setdefault((member.offset, self.orig.bits(member)), []).append(member)
        places: dict[str, set[int]] = {}
        for member in orig_leaves:
            places.setdefault(member.name, set()).add(member.offset)
        met: set[tuple[int, int]] = set()
        for member in patched_leaves:
            key = (member.offset, self.patched.bits(member))
            if not any(self._nested(orig_member.type, member.type) for orig_member in table.get(key, ())):
                return False
            if member.name in places and member.offset not in places[member.name]:
                return False
            met.add(key)
        return met == table.keys()

    def shared_names(self, orig: int, patched: int) -> list[str]:
        """The member names that two structures share, if they are more than half of the names of either."""
        orig_names = [m.name for m in self.orig.flat(self.orig.plain(orig).type)]
        patched_names = {m.name for m in self.patched.flat(self.patched.plain(patched).type)}
        shared = [name for name in orig_names if name in patched_names]
        return shared if 2 * len(shared) >= min(len(orig_names), len(patched_names)) else []

    # -- words --------------------------------------------------------------------------------------------------------

    def _two(self, orig: int, patched: int) -> str:
        return f"{self.orig.describe_number(orig)} -> {self.patched.describe_number(patched)}"


def _place(member: TypeMember) -> str:
    return f"bit {member.offset}" if member.bits else f"byte {member.offset // 8}"


def _join(text: str, fact: str) -> str:
    return f"{text}, {fact}" if text else fact


def _words(steps: list[_PathStep], at: int) -> list[str]:
    out: list[str] = []
    while at >= 0:
        out.insert(0, steps[at].word)
        at = steps[at].previous
    return out


def _path(words: list[str]) -> str:
    """A path as text: `.next`, `->`, `.owner` becomes `next->owner`."""
    out = ""
    for word in words:
        out += word.removeprefix(".") if out.endswith("->") else word
    out = out.removesuffix("->") if out.endswith("->") and out != "->" else out
    return out.replace("->(", "(").removeprefix(".")
