# SPDX-License-Identifier: GPL-2.0-or-later
"""Compares the types of a unit that BPF uses: they may differ although no code does.

The BPF verifier and trampolines use prototypes and types from the kernel's BTF: those of functions and types in a set
of .BTF_ids (kfuncs, hooks, types of arguments), of struct_ops and their stubs, of the arguments of tracepoints and
iterators. Names count as well: a parameter `buf__sz` is a size, `p__ign` is not checked (Documentation/bpf/kfuncs.rst).
The kernel's BTF is made from DWARF when it is linked; here the BTF that gcc writes beside the code is compared instead,
and only the types above, since no code of the kernel looks up other types by name. Source of the format:
Documentation/bpf/btf.rst, include/linux/btf_ids.h.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from kgbuild.elf.consts import SHN
from kgbuild.elf.records import PREFIX, order_of_magic, words_of
from kgbuild.elf.strings import StringTable
from kgbuild.ledger.difference import NAMES, PROTOTYPE, TYPE, Book
from kgbuild.ledger.pieces import BTF, ObjectPieces

_IDS = ".BTF_ids"
_ENTRY = re.compile(r"__BTF_ID__(func|struct|union|typedef)__(.+)__\d+$")
_FLAGGED, _ANY = "__BTF_ID__set8__", "__BTF_ID__"
# recognised by the names that the kernel's macros make: kind and prefix
_MADE = (("struct", "bpf_struct_ops_"), ("typedef", "btf_trace_"), ("struct", "bpf_iter__"), ("func", "bpf_iter_"))
_OPS = "bpf_struct_ops_"
_INT = 1
_MAGIC, _HEADER = 0xEB9F, "HBBIIIII"
_PTR, _ARRAY, _STRUCT, _UNION, _ENUM, _FORWARD, _TYPEDEF = 2, 3, 4, 5, 6, 7, 8
_VOLATILE, _CONST, _RESTRICT, _FUNC, _PROTO, _DECL_TAG, _TYPE_TAG, _ENUM64 = 9, 10, 11, 12, 13, 17, 18, 19
_BEHIND = {_INT: 1, _ARRAY: 3, 14: 1, _DECL_TAG: 1}
_EACH = {_STRUCT: 3, _UNION: 3, _ENUM: 2, _PROTO: 2, 15: 3, _ENUM64: 3}
_KINDS = {_STRUCT: "struct", _UNION: "union", _TYPEDEF: "typedef", _FUNC: "func"}
_WORDS = {_STRUCT: "struct ", _UNION: "union ", _ENUM: "enum ", _ENUM64: "enum ", _FORWARD: "struct "}
_BEFORE = {_CONST: "const ", _VOLATILE: "volatile ", _RESTRICT: "restrict "}
_DEPTH, _MOST = 24, 1 << 20  # how deep types may nest, and how many may be looked at
_SHOWN = 80

TypeName = tuple[str, str]  # kind and name


class _Item(NamedTuple):
    """A parameter, a member, or a return value: its name, its type, its offset in bits, and how it is passed if the
    type alone does not tell."""

    name: str
    type: str
    offset: int = 0
    passed: str = ""

    def __str__(self) -> str:
        return f"{self.type} {self.name}".strip()[:_SHOWN]


class _Steps(dict[int, int]):
    """How many words a type takes, by its second word."""

    def __missing__(self, info: int) -> int:
        kind = info >> 24 & 31
        found = self[info] = 3 + _EACH.get(kind, 0) * (info & 0xFFFF) + _BEHIND.get(kind, 0)
        return found


class _BtfTypes:
    """The types of a .BTF section; `named` holds those that have one of the names `wanted`, or one that BPF finds by a
    prefix. Raises ValueError, IndexError or struct.error if it can't be read."""

    def __init__(self, data: bytes, wanted: Iterable[str] = ()) -> None:
        order = order_of_magic(_MAGIC, data)
        if order is None:
            raise ValueError("wrong magic number")
        _, _, _, header, type_at, type_size, string_at, string_size = struct.unpack_from(PREFIX[order] + _HEADER, data)
        raw = data[header + type_at : header + type_at + type_size]
        self.words = words = words_of(raw, order)
        self.strings = data[header + string_at : header + string_at + string_size]
        self.name = StringTable(self.strings).at
        self.at = [-1]
        self.named: dict[TypeName, int] = {}
        self.steps = 0
        names = set(_places_of(self.strings, wanted))
        # a type is three words and what its kind and number of members say
        at, end, starts, steps = 0, len(words), self.at, _Steps()
        while at < end:
            info = words[at + 1]
            if words[at] in names and (kind := _KINDS.get(info >> 24 & 31)):
                self.named.setdefault((kind, self.name(words[at])), len(starts))
            starts.append(at)
            at += steps[info]

    def text(self, index: int, depth: int = 0) -> str:
        """A type roughly as it is written in C, with types it refers to given by name."""
        if not index:
            return "void"
        self.steps += 1
        if depth > _DEPTH or self.steps > _MOST:
            raise ValueError("types nest too deeply")
        at = self.at[index]
        words, name = self.words, self.name(self.words[at])
        kind, of = words[at + 1] >> 24 & 31, words[at + 2]
        if kind == _PTR:
            return f"{self.text(of, depth + 1)} *"
        if kind in _BEFORE:
            return _BEFORE[kind] + self.text(of, depth + 1)
        if kind == _TYPE_TAG:
            return f"{name} {self.text(of, depth + 1)}"
        if kind == _ARRAY:
            return f"{self.text(words[at + 3], depth + 1)} [{words[at + 5]}]"
        if kind == _PROTO or (not name and kind in (_STRUCT, _UNION)):
            inner = "; ".join(f"{i.type} {i.name} {i.offset}" for i in self.items(index, depth + 1))
            return f"{_WORDS.get(kind, 'function')}{{{inner}}}"
        return _WORDS.get(kind, "") + (name or "?")

    def passed(self, index: int) -> str:
        """How a value is passed: an integer by size, a pointer by its unqualified target."""
        stars = ""
        for _ in range(_DEPTH):
            if not index:
                break
            at = self.at[index]
            kind, of = self.words[at + 1] >> 24 & 31, self.words[at + 2]
            if kind == _PTR:
                stars += "*"
            elif kind in (_INT, _ENUM, _ENUM64):
                return f"{of} bytes{stars}"
            elif kind not in _BEFORE and kind != _TYPEDEF:
                break
            index = of
        return self.text(index) + stars

    def items(self, index: int, depth: int = 0) -> list[_Item]:
        """The parameters or members of a function, structure, union or typedef."""
        at = self.at[index]
        words = self.words
        info, of = words[at + 1], words[at + 2]
        kind, count = info >> 24 & 31, info & 0xFFFF
        if kind == _FUNC:
            return self.items(of, depth)
        if kind == _PROTO:
            found = [_Item("", self.text(of, depth + 1), 0, self.passed(of))]
            for i in range(at + 3, at + 3 + 2 * count, 2):
                kind = words[i + 1]
                found.append(_Item(self.name(words[i]), self.text(kind, depth + 1), 0, self.passed(kind)))
            return found
        if kind in (_STRUCT, _UNION):
            found = [_Item("", f"{of} bytes")]
            for i in range(at + 3, at + 3 + 3 * count, 3):
                found.append(_Item(self.name(words[i]), self.text(words[i + 1], depth + 1), words[i + 2]))
            return found
        if kind == _PTR and of and self.words[self.at[of] + 1] >> 24 & 31 == _PROTO:
            return self.items(of, depth)
        return (
            self.items(of, depth + 1) if kind == _TYPEDEF and of and depth < _DEPTH else [_Item("", self.text(index))]
        )


def _places_of(strings: bytes, wanted: Iterable[str]) -> Iterator[int]:
    """Where the names may begin that are compared: those wanted, those with a prefix that BPF knows, and those that a
    structure of operations is found by. One name may be the end of another."""
    made = {prefix.encode() for _, prefix in _MADE}
    operations = {strings[at + len(_OPS) : strings.find(b"\0", at)] for at in _all_of(strings, _OPS.encode())}
    whole = {name.encode() + b"\0" for name in wanted} | {name + b"\0" for name in operations}
    for text in made | whole | {name + b"__" for name in operations}:
        yield from _all_of(strings, text)


def _all_of(strings: bytes, text: bytes) -> Iterator[int]:
    at = strings.find(text, 1)  # offset 0 is no name
    while at >= 0:
        yield at
        at = strings.find(text, at + 1)


def compare_btf(orig: ObjectPieces, patched: ObjectPieces, book: Book) -> None:
    """Record the differences in types that BPF uses by name. Unreadable types are recorded as one difference."""
    sections = [side.obj.section_named(BTF) for side in (orig, patched)]
    if sections[0] is None or sections[1] is None:
        return
    raw = [
        bytes(side.obj.contents(s.index)) for side, s in zip((orig, patched), sections, strict=True) if s is not None
    ]
    if raw[0] == raw[1]:
        return
    wanted = _named_in_sets(orig)
    for key, flagged in _named_in_sets(patched).items():
        wanted[key] = flagged or wanted.get(key, False)
    made = any(prefix.encode() in data for data in raw for _, prefix in _MADE)
    if not wanted and not made:
        return
    try:
        names = {name for _, name in wanted}
        orig_types, patched_types = _BtfTypes(raw[0], names), _BtfTypes(raw[1], names)
        if made:
            for key in _made(orig_types) | _made(patched_types):
                wanted.setdefault(key, key[0] != "struct")
        for key in sorted(wanted):
            if key in orig_types.named and key in patched_types.named:
                found = _difference(
                    orig_types.items(orig_types.named[key]), patched_types.items(patched_types.named[key])
                )
                if found is not None:
                    kind, orig_shown, patched_shown = found
                    if kind == PROTOTYPE and not wanted[key]:
                        kind = TYPE
                    book.say(
                        BTF, key[1] if key[0] in ("func", "typedef") else " ".join(key), kind, orig_shown, patched_shown
                    )
    except (ValueError, IndexError, struct.error) as error:
        book.say(BTF, "", TYPE, "types", f"can't be read: {error}")


def _named_in_sets(side: ObjectPieces) -> dict[TypeName, bool]:
    """The types and functions named in .BTF_ids; the value tells whether it is a function in a set with flags
    (kfunc)."""
    out: dict[TypeName, bool] = {}
    found = side.obj.section_named(_IDS)
    if found is None:
        return out
    columns = side.obj.columns
    at: dict[int, list[str]] = {}
    for symbol, shndx in enumerate(columns.shndx):
        if shndx == found.index and shndx < SHN.LORESERVE and side.names[symbol]:
            at.setdefault(columns.value[symbol], []).append(side.names[symbol])
    flagged = False
    for value in sorted(at):
        names = at[value]
        if any(name.startswith(_FLAGGED) for name in names):
            flagged = True
        elif not any(_ENTRY.match(name) for name in names):
            flagged = False
        for name in names:
            entry = _ENTRY.match(name)
            if entry:
                key = entry[1], entry[2]
                out[key] = out.get(key, False) or (flagged and entry[1] == "func")
    return out


def _made(types: _BtfTypes) -> set[TypeName]:
    """The types and functions that BPF finds by a name made by a macro."""
    out = {key for key in types.named if any(key[0] == kind and key[1].startswith(start) for kind, start in _MADE)}
    operations = {name.removeprefix(_OPS) for kind, name in out if kind == "struct" and name.startswith(_OPS)}
    stubs = tuple(f"{name}__" for name in operations)
    out |= {("struct", name) for name in operations}
    return out | {key for key in types.named if key[0] == "func" and key[1].startswith(stubs)}


def _difference(orig: list[_Item], patched: list[_Item]) -> tuple[str, str, str] | None:
    """The kind of a difference between two lists, and the first item that differs on each side; None if they are
    equal."""
    if orig == patched:
        return None
    plain = [[(item.type, item.offset) for item in items] for items in (orig, patched)]
    names = plain[0] == plain[1]
    orig_keys, patched_keys = (orig, patched) if names else plain
    first = next(
        (i for i, pair in enumerate(zip(orig_keys, patched_keys, strict=False)) if pair[0] != pair[1]),
        min(len(orig_keys), len(patched_keys)),
    )
    shown = [str(items[first]) if first < len(items) else "" for items in (orig, patched)]
    if shown[0] == shown[1]:
        shown = [f"{text} at bit {items[first].offset}" for text, items in zip(shown, (orig, patched), strict=True)]
    if names:
        return NAMES, shown[0], shown[1]
    passed = [[item.passed for item in items] for items in (orig, patched)]
    return TYPE if passed[0] == passed[1] and any(passed[0]) else PROTOTYPE, shown[0], shown[1]
