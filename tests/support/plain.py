# SPDX-License-Identifier: GPL-2.0-or-later
"""The difference of two objects as bytes and relocations show it: a plain reading, to hold kgbuild's answer against.

Nothing of kgbuild is used here. ELF is read with `struct`, and a function is its bytes with the relocated fields
zeroed, and what each relocation means: the name of a symbol, the text of a string, the content of what has no name or a
name that compilers number. No instruction is decoded, no accident is forgiven, and the tables beside the code (special
sections) are looked at only when asked for.
"""

from __future__ import annotations

import bisect
import re
import struct
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

ALLOC, EXECUTABLE, MERGE, STRINGS = 0x2, 0x4, 0x10, 0x20
SYMTAB, RELA, NOBITS = 2, 4, 8
FUNC, SECTION, FILE = 2, 3, 4
UNDEFINED, RESERVED = 0, 0xFF00
FIELD = {1: 8, 2: 4, 4: 4, 10: 4, 11: 4, 24: 8}  # psABI: bytes of the relocated field
RELATIVE = {2, 4}
NUMBER = re.compile(r"\.\d+(?=\.|$)")
UNIQUE = re.compile(r"(__UNIQUE_ID_[A-Za-z_]*?)\d+")
MAX_DEPTH = 6
# bytes of one entry, Linux 6.1; the first relocation of an entry says whose it is
ENTRY = {
    "__jump_table": 16,
    "__bug_table": 12,
    "__ex_table": 12,
    ".altinstructions": 12,
    ".parainstructions": 16,
    ".static_call_sites": 8,
    "__mcount_loc": 8,
    "_kprobe_blacklist": 8,
}


def without_number(name: str) -> str:
    """A name without what compilers count anew each time."""
    return UNIQUE.sub(r"\1", NUMBER.sub("", name))


@dataclass(frozen=True)
class Sym:
    name: str
    kind: int
    section: int
    value: int
    size: int


@dataclass(frozen=True)
class Sec:
    name: str
    type: int
    flags: int
    offset: int
    size: int
    link: int
    info: int
    entsize: int


@dataclass
class PlainFunction:
    """A function, and the `.cold` halves that are part of it."""

    name: str
    symbol: Sym
    halves: list[Sym] = field(default_factory=list)


class PlainObject:
    """One relocatable x86_64 object. With `numbers`, a name that compilers number counts as any other."""

    def __init__(self, data: bytes, numbers: bool = False) -> None:
        self.data, self.numbers = data, numbers
        (at,) = struct.unpack_from("<Q", data, 0x28)
        size, count, names = struct.unpack_from("<HHH", data, 0x3A)
        raw = [struct.unpack_from("<IIQQQQIIQQ", data, at + i * size) for i in range(count)]
        strings = raw[names][4]
        self.sections = [
            Sec(self._text(strings + n), t, f, o, s, link, info, e) for n, t, f, _, o, s, link, info, _, e in raw
        ]
        self.symbols = self._symbols()
        self._relocs: dict[int, list[tuple[int, int, int, int]]] = {}
        self._rela = {s.info: s for s in self.sections if s.type == RELA}
        self.at: dict[int, list[Sym]] = {}  # by section, by value
        for s in self.symbols:
            if s.kind not in (SECTION, FILE) and UNDEFINED < s.section < RESERVED and not s.name.startswith(".L"):
                self.at.setdefault(s.section, []).append(s)
        for symbols in self.at.values():
            symbols.sort(key=lambda s: (s.value, s.size))
        self._content: dict[tuple[int, int, int], Any] = {}

    def _text(self, at: int) -> str:
        return self.data[at : self.data.index(b"\0", at)].decode()

    def _symbols(self) -> list[Sym]:
        (table,) = [s for s in self.sections if s.type == SYMTAB]
        strings = self.sections[table.link].offset
        rows = struct.iter_unpack("<IBBHQQ", self.data[table.offset : table.offset + table.size])
        return [Sym(self._text(strings + n), i & 15, x, v, z) for n, i, _, x, v, z in rows]

    def relocs(self, section: int) -> list[tuple[int, int, int, int]]:
        """(offset, type, symbol, addend) of a section's relocations, by offset; R_X86_64_NONE says nothing."""
        if section not in self._relocs:
            table = self._rela.get(section)
            rows = []
            if table is not None:
                for offset, info, addend in struct.iter_unpack(
                    "<QQq", self.data[table.offset : table.offset + table.size]
                ):
                    if info & 0xFFFFFFFF:
                        rows.append((offset, info & 0xFFFFFFFF, info >> 32, addend))
            self._relocs[section] = sorted(rows)
        return self._relocs[section]

    def functions(self) -> dict[str, list[PlainFunction]]:
        """Every function by its name without numbers; a `.cold` half is in the function it belongs to."""
        found = [
            s
            for symbols in self.at.values()
            for s in symbols
            if s.kind == FUNC and self.sections[s.section].flags & EXECUTABLE
        ]
        whole = {s.name: PlainFunction(s.name, s) for s in found if ".cold" not in s.name}
        for s in found:
            if ".cold" in s.name:
                whole[s.name[: s.name.index(".cold")]].halves.append(s)
        out: dict[str, list[PlainFunction]] = {}
        for function in whole.values():
            out.setdefault(without_number(function.name), []).append(function)
        return out

    def code(self, symbol: Sym) -> tuple[bytes, tuple[Any, ...]]:
        """A function's bytes with the relocated fields zeroed, and (offset, meaning) of each."""
        return self._piece(symbol.section, symbol.value, symbol.value + symbol.size, 0)

    def body(self, function: PlainFunction) -> tuple[Any, ...]:
        """All of a function: its code and that of its cold half."""
        return (self.code(function.symbol), *sorted(self.code(s) for s in function.halves))

    def _piece(self, section: int, start: int, end: int, depth: int) -> tuple[bytes, tuple[Any, ...]]:
        s = self.sections[section]
        if s.type == NOBITS:
            return b"%d zeros" % (end - start), ()
        raw = bytearray(self.data[s.offset + start : s.offset + end])
        rows = self.relocs(section)
        means = []
        for offset, kind, sym, addend in rows[bisect.bisect_left(rows, (start,)) : bisect.bisect_left(rows, (end,))]:
            size = FIELD[kind]
            raw[offset - start : offset - start + size] = bytes(size)
            means.append((offset - start, self.meaning(sym, kind, addend, bool(s.flags & EXECUTABLE), depth)))
        return bytes(raw), tuple(means)

    def meaning(self, sym: int, kind: int, addend: int, code: bool, depth: int = 0) -> Any:
        """What a relocation leads to. In code a relative one counts from the end of its field: where an immediate
        follows, that is some bytes off, and the same bytes in both objects."""
        s = self.symbols[sym]
        if s.section == UNDEFINED or s.section >= RESERVED:
            return s.name, addend
        if s.kind != SECTION and not s.name.startswith(".L"):
            return self._named(s, addend, depth)
        where = s.value + addend + (4 if code and kind in RELATIVE else 0)
        section = self.sections[s.section]
        if section.flags & STRINGS:
            at = section.offset + where
            return "string", self.data[at : self.data.index(b"\0", at)]
        if section.flags & MERGE:
            return "constant", self.data[section.offset + where : section.offset + where + section.entsize]
        symbols = self.at.get(s.section, [])
        holding = [t for t in symbols if t.value <= where < t.value + t.size] or (
            symbols if len({t.value for t in symbols}) == 1 and symbols[0].value == 0 and symbols[0].size else []
        )
        if holding:
            return self._named(holding[0], where - holding[0].value - (4 if code and kind in RELATIVE else 0), depth)
        if section.flags & EXECUTABLE:
            return section.name, where
        return "anonymous", section.name, where, self._whole(s.section, 0, section.size, depth)

    def _named(self, s: Sym, addend: int, depth: int) -> Any:
        plain = without_number(s.name)
        shown = s.name if self.numbers else plain
        if plain == s.name or s.kind == FUNC:
            return shown, addend
        return shown, addend, self._whole(s.section, s.value, s.value + s.size, depth)

    def _whole(self, section: int, start: int, end: int, depth: int) -> Any:
        if depth >= MAX_DEPTH:
            return "deep"
        key = (section, start, end)
        if key not in self._content:
            self._content[key] = "itself"
            self._content[key] = self._piece(section, start, end, depth + 1)
        return self._content[key]

    def aliases(self, name: str) -> set[str]:
        """All names of what has this name."""
        places = {(s.section, s.value) for symbols in self.at.values() for s in symbols if s.name == name}
        return {s.name for section, value in places for s in self.at[section] if s.value == value and s.kind == FUNC}

    @cached_property
    def _entries(self) -> dict[int, list[tuple[int, str, Any]]]:
        """By section of code: (offset in it, special section, what an entry says) of each entry."""
        out: dict[int, list[tuple[int, str, Any]]] = {}
        for index, section in enumerate(self.sections):
            size = ENTRY.get(section.name)
            rows = self.relocs(index) if size else []
            for start in range(0, section.size, size) if size else ():
                of = rows[bisect.bisect_left(rows, (start,)) : bisect.bisect_left(rows, (start + size,))]
                owner = self.symbols[of[0][2]]
                raw, means = self._piece(index, start, min(start + size, section.size), 0)
                means = means[1:]
                if section.name == ".altinstructions":
                    means = self._replacement(of[1], raw[11]) if len(of) > 1 else ()
                out.setdefault(owner.section, []).append((owner.value + of[0][3], section.name, (raw, means)))
        return out

    def entries(self, function: PlainFunction) -> dict[str, list[Any]]:
        """The entries that belong to a function, by special section: the half, where in it, bytes, meanings."""
        out: dict[str, list[Any]] = {}
        for number, part in enumerate([function.symbol, *function.halves]):
            for where, table, what in self._entries.get(part.section, ()):
                if part.value <= where < part.value + part.size:
                    out.setdefault(table, []).append((number, where - part.value, what))
        return out

    def _replacement(self, row: tuple[int, int, int, int], length: int) -> Any:
        place = self.symbols[row[2]]
        start = place.value + row[3]
        return self._piece(place.section, start, start + length, 0)


@dataclass(frozen=True)
class PlainDiff:
    """Names in the patched object (of `removed` in the original). Of what changed, where: "code", "meaning", or the
    special sections whose entries differ."""

    changed: dict[str, tuple[str, ...]]
    new: frozenset[str]
    removed: frozenset[str]


def compare(o: PlainObject, p: PlainObject) -> PlainDiff:
    """Pair functions by name, those that are numbered by what they hold first, and say which differ."""
    ours, theirs = o.functions(), p.functions()
    changed, new, removed = {}, set(), set()
    for name in ours.keys() | theirs.keys():
        left, right = list(ours.get(name, ())), list(theirs.get(name, ()))
        pairs = [(a, b, _difference(o, a, p, b)) for a in left for b in right]
        pairs.sort(key=lambda pair: (len(pair[2]), pair[0].name != pair[1].name))
        for a, b, difference in pairs:
            if a in left and b in right:
                left.remove(a)
                right.remove(b)
                if difference:
                    changed[b.name] = difference
        new |= {b.name for b in right}
        removed |= {a.name for a in left}
    return PlainDiff(changed, frozenset(new), frozenset(removed))


def _difference(o: PlainObject, a: PlainFunction, p: PlainObject, b: PlainFunction) -> tuple[str, ...]:
    left, right = o.body(a), p.body(b)
    if [code for code, _ in left] != [code for code, _ in right]:
        return ("code",)
    if left != right:
        return ("meaning",)
    was, now = o.entries(a), p.entries(b)
    return tuple(sorted(t for t in was.keys() | now.keys() if was.get(t) != now.get(t)))
