# SPDX-License-Identifier: GPL-2.0-or-later
"""The small part of DWARF (4 and 5) that is needed to answer questions about one function, read one unit at a time.

It tells which unit an address is in (.debug_aranges), the name of the unit, and what was inlined into what. A general
reader takes minutes for a vmlinux with 160 MB of debugging entries; this one reads a single unit and skips everything
but functions and the calls inlined into them. Source: DWARF 5, chapters 6.1.2 and 7.5.
"""

from __future__ import annotations

import bisect
import posixpath
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

from kgbuild.debuginfo.dwarf_forms import (
    BLOCK,
    BLOCK_LENGTHS,
    EXPRLOC,
    FIXED_SIZES,
    IMPLICIT_CONST,
    LEB_FORMS,
    LINE_STRP,
    STRING,
    STRP,
    Abbreviation,
    make_abbreviation,
)
from kgbuild.elf.consts import SHF
from kgbuild.elf.object import Section
from kgbuild.elf.records import PREFIX, Records

_NAME, _LOCATION, _COMP_DIR, _LOW_PC = 0x03, 0x02, 0x1B, 0x11
_INLINE, _ORIGIN, _DECL_LINE, _SPECIFICATION, _TYPE = 0x20, 0x31, 0x3B, 0x47, 0x49
_CALL_FILE, _CALL_LINE = 0x58, 0x59
_DECL_FILE, _DECLARATION, _STMT_LIST = 0x3A, 0x3C, 0x10
_SUBPROGRAM, _INLINED, _LEXICAL, _VARIABLE = 0x2E, 0x1D, 0x0B, 0x34
_WRAPPERS = {0x01: "[]", 0x26: "", 0x35: "", 0x0F: " *"}
_TYPES = {0x13: "struct ", 0x17: "union ", 0x04: "enum ", 0x16: "", 0x24: ""}
_REFERENCES = frozenset({0x11, 0x12, 0x13, 0x14, 0x15})
_MOST_STRINGS = 4  # how many strings ending in the name are considered in a search
_FIRST_ENTRY = 4096  # more than a unit's header and first entry take


class SectionSource(Protocol):
    """The part of a file that is read here: an Object, or a Sections, which has the section headers only."""

    @property
    def records(self) -> Records: ...
    def section_named(self, name: str) -> Section | None: ...
    def contents(self, index: int) -> memoryview: ...


class DwarfError(ValueError):
    """Debugging information that can't be read; the facts it would give are unknown."""


@dataclass(frozen=True)
class Inlined:
    """One place where a function was inlined: the callee, the containing function and its address (None if gcc split it
    into several parts), and the source line of the call."""

    callee: str
    into: str
    address: int | None
    line: int


@dataclass(frozen=True)
class DeclaredName:
    """A function that a unit defines, and where: the file relative to the compilation directory ("" if the file table
    can't be read), and the line."""

    name: str
    file: str
    line: int


@dataclass(frozen=True)
class DwarfUnit:
    """What the debugging information of one unit says: functions with a body of their own (name -> addresses),
    functions that were inlined somewhere, the type name of each datum by address, and functions with the lines of their
    definitions."""

    name: str
    bodies: dict[str, list[int]]
    inlined: list[Inlined]
    data: dict[int, str] = field(default_factory=dict)
    declared: list[DeclaredName] = field(default_factory=list)


def read_unit_ranges(obj: SectionSource) -> list[tuple[int, int, int]]:
    """(start, end, offset of the unit in .debug_info) of every address range of code, sorted; addresses are signed
    64-bit.

    Empty if the file has no .debug_aranges. Raises DwarfError.
    """
    raw, prefix = _section(obj, ".debug_aranges"), PREFIX[obj.records.order]
    out: list[tuple[int, int, int]] = []
    at = 0
    while at + 12 <= len(raw):
        length, version, unit, size, segment = struct.unpack_from(f"{prefix}IHIBB", raw, at)
        if length >= 0xFFFFFFF0 or version != 2 or size != 8 or segment:
            raise DwarfError(f".debug_aranges at {at:#x} has an unknown form")
        first = at + 16  # the header, padded to twice the size of an address
        pairs = struct.iter_unpack(f"{prefix}qq", raw[first : first + (at + 4 + length - first) // 16 * 16])
        out.extend((start, start + span, unit) for start, span in pairs if span)
        at += 4 + length
    return sorted(out)


def read_unit_name(obj: SectionSource, offset: int) -> str:
    """Path of the source file of the unit at `offset` in .debug_info, relative to its compilation directory. Raises
    DwarfError."""
    try:
        unit = _UnitReader(obj, offset, first_only=True)
        _, _, values, _ = unit.entry(unit.first)
        return unit.path(values)
    except (struct.error, IndexError, KeyError) as error:
        raise DwarfError(f"unit at {offset:#x} can't be read: {error}") from error


def find_units(obj: SectionSource, name: str, units: Sequence[int]) -> list[int]:
    """Offsets of the units that may describe something called `name`. `units` are the offsets of all units, sorted.

    A name is referred to by its offset in .debug_str. Wherever these four bytes occur in .debug_info, an entry may have
    the name; `read_unit` tells whether it does. Raises DwarfError.
    """
    strings, info = _section(obj, ".debug_str"), _section(obj, ".debug_info")
    found: set[int] = set()
    # the end of a longer string may be used as a string of its own
    for match in islice(re.finditer(re.escape(name.encode() + b"\0"), strings), _MOST_STRINGS):
        for place in re.finditer(re.escape(match.start().to_bytes(4, obj.records.order)), info, re.DOTALL):
            row = bisect.bisect_right(units, place.start()) - 1
            found |= {units[row]} if row >= 0 else set()
    return sorted(found)


def read_unit(obj: SectionSource, offset: int) -> DwarfUnit:
    """Bodies, inlining and data of the unit at `offset` in .debug_info. Raises DwarfError."""
    try:
        return _UnitReader(obj, offset).facts()
    except (struct.error, IndexError, KeyError) as error:
        raise DwarfError(f"unit at {offset:#x} can't be read: {error}") from error


def _section(obj: SectionSource, name: str) -> memoryview:
    section = obj.section_named(name)
    if section is None:
        return memoryview(b"")
    if section.flags & SHF.COMPRESSED:
        raise DwarfError(f"{name} is compressed")
    return obj.contents(section.index)


def _uleb(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


class _UnitReader:
    def __init__(self, obj: SectionSource, offset: int, *, first_only: bool = False) -> None:
        self.obj, self.order = obj, obj.records.order
        info = _section(obj, ".debug_info")
        length, version = self._unpack("IH", info, offset)
        if length >= 0xFFFFFFF0 or version not in (4, 5):
            raise DwarfError(f"unit at {offset:#x}: unknown DWARF version {version}")
        self.raw = bytes(info[offset : offset + (_FIRST_ENTRY if first_only else 4 + length)])
        self.offset = offset
        if version == 5:
            kind, size, abbreviations = self._unpack("BBI", self.raw, 6)
            self.first = 12
            if kind != 1:
                raise DwarfError(f"unit at {offset:#x} is of kind {kind}")
        else:
            abbreviations, size = self._unpack("IB", self.raw, 6)
            self.first = 11
        if size != 8:
            raise DwarfError(f"unit at {offset:#x} has addresses of {size} bytes")
        wanted = _uleb(self.raw, self.first)[0] if first_only else 0
        self.abbreviations = self._read_abbreviations(abbreviations, wanted)

    def _unpack(self, form: str, data: bytes | memoryview, at: int) -> tuple[int, ...]:
        """Numbers in the file's byte order, as struct's `form` says."""
        return struct.unpack_from(PREFIX[self.order] + form, data, at)

    def _read_abbreviations(self, start: int, wanted: int) -> dict[int, Abbreviation]:
        raw = bytes(_section(self.obj, ".debug_abbrev")[start : start + (1 << 16)])
        out: dict[int, Abbreviation] = {}
        # if only the unit's own entry is wanted: search for its abbreviation, which follows the end of another one (two
        # zeros) and has the tag DW_TAG_compile_unit and children
        at = raw.find(bytes([0, 0, wanted, 0x11, 1])) + 2 if 0 < wanted < 0x80 else 0
        at = max(at, 0) if at != 1 else 0
        while True:
            code, at = _uleb(raw, at)
            if not code or (wanted and wanted in out):
                return out
            tag, at = _uleb(raw, at)
            children = bool(raw[at])
            at += 1
            attributes = []
            while True:
                name, at = _uleb(raw, at)
                form, at = _uleb(raw, at)
                value = 0
                if form == IMPLICIT_CONST:
                    value, at = _uleb(raw, at)
                if not name and not form:
                    break
                attributes.append((name, form, value))
            out[code] = make_abbreviation(tag, children, attributes)

    def _skip(self, form: int, at: int) -> int:
        if form in FIXED_SIZES:
            return at + FIXED_SIZES[form]
        if form in LEB_FORMS:
            while self.raw[at] >= 0x80:
                at += 1
            return at + 1
        if form in (EXPRLOC, BLOCK):
            length, at = _uleb(self.raw, at)
            return at + length
        if form == STRING:
            return self.raw.index(b"\0", at) + 1
        if form in BLOCK_LENGTHS:
            width = BLOCK_LENGTHS[form]
            return at + width + int.from_bytes(self.raw[at : at + width], self.order)
        raise DwarfError(f"form {form:#x} has no rule")

    def entry(self, at: int) -> tuple[int, bool, dict[int, tuple[int, int, int]], int]:
        """Tag; whether children follow; (form, offset, implicit value) of each attribute; the offset behind the
        entry."""
        code, at = _uleb(self.raw, at)
        if not code:
            return 0, False, {}, at
        kind = self.abbreviations[code]
        values = {}
        for name, form, implicit in kind.attributes:
            values[name] = (form, at, implicit)
            at = self._skip(form, at)
        return kind.tag, kind.children, values, at

    def number(self, value: tuple[int, int, int] | None) -> int:
        if value is None:
            return 0
        form, at, implicit = value
        if form == IMPLICIT_CONST:
            return implicit
        if form in LEB_FORMS:
            return _uleb(self.raw, at)[0]
        return int.from_bytes(self.raw[at : at + FIXED_SIZES.get(form, 0)], self.order)

    def reference(self, value: tuple[int, int, int] | None) -> int | None:
        """The offset in this unit that a reference points to; None if it points into another unit."""
        if value is None or value[0] not in _REFERENCES:
            return None
        return self.number(value)

    def text(self, value: tuple[int, int, int] | None) -> str:
        if value is None:
            return ""
        form, at, _ = value
        if form == STRING:
            return self.raw[at : self.raw.index(b"\0", at)].decode("utf-8", "replace")
        table = {STRP: ".debug_str", LINE_STRP: ".debug_line_str"}.get(form)
        if table is None:
            return ""
        raw = _section(self.obj, table)
        start = self.number(value)
        piece = bytes(raw[start : start + 1024])
        return piece[: piece.find(b"\0")].decode("utf-8", "replace")

    def path(self, values: dict[int, tuple[int, int, int]]) -> str:
        """The unit's source file, relative to its compilation directory."""
        return self.text(values.get(_NAME)).removeprefix(self.text(values.get(_COMP_DIR)).rstrip("/") + "/")

    def _walk(self, at: int) -> Iterator[tuple[int, int, int, bool]]:
        """(offset, tag, depth, has children) of the entries from `at` on, skipping subtrees that have a sibling and
        contain no code. The first entry has depth 0; the walk ends at the end of its list of siblings."""
        raw, known, end = self.raw, self.abbreviations, len(self.raw)
        depth = 0
        while at < end:
            place = at
            code = raw[at]
            at += 1
            if code >= 0x80:
                code, at = _uleb(raw, place)
            if not code:
                depth -= 1
                if depth < 0:
                    return
                continue
            kind = known[code]
            tag = kind.tag
            yield place, tag, depth, kind.children
            if kind.children and kind.sibling >= 0 and tag not in (_SUBPROGRAM, _INLINED, _LEXICAL):
                at = int.from_bytes(raw[at + kind.sibling : at + kind.sibling + 4], self.order)
                continue
            if kind.size >= 0:
                at += kind.size
            else:
                for _, form, _ in kind.attributes:
                    at = self._skip(form, at)
            depth += kind.children

    def facts(self) -> DwarfUnit:
        _, _, values, at = self.entry(self.first)
        name = self.path(values)
        bodies: dict[str, list[int]] = {}
        pending: list[tuple[int, int, int]] = []
        functions: dict[int, dict[int, tuple[int, int, int]]] = {}
        data: dict[int, int] = {}
        owner = -1
        for place, tag, depth, _ in self._walk(at):
            if tag == _SUBPROGRAM:
                _, _, attributes, _ = self.entry(place)
                functions[place] = attributes
                owner = place if depth == 0 else owner
                if _LOW_PC in attributes:
                    bodies.setdefault(self._name(place, functions), []).append(self._address(attributes))
            elif tag == _INLINED:
                _, _, attributes, _ = self.entry(place)
                origin = self.reference(attributes.get(_ORIGIN))
                if origin is not None:
                    pending.append((origin, owner, self.number(attributes.get(_CALL_LINE))))
            elif tag == _VARIABLE and depth == 0:
                _, _, attributes, _ = self.entry(place)
                form, where, _ = attributes.get(_LOCATION, (0, 0, 0))
                # DW_OP_addr and 8 bytes
                if form == EXPRLOC and self.raw[where : where + 2] == b"\x09\x03":
                    kind = self.reference(attributes.get(_TYPE) or self._inherited(attributes, _TYPE))
                    if kind is not None:
                        data[self._unpack("q", self.raw, where + 2)[0]] = kind
        inlined = []
        for origin, into, line in pending:
            low = functions.get(into, {})
            address = self._address(low) if _LOW_PC in low else None
            inlined.append(Inlined(self._name(origin, functions), self._name(into, functions), address, line))
        types = {a: self._type(k) for a, k in data.items() if a}
        return DwarfUnit(name, bodies, inlined, types, self._declared(values, functions))

    def _declared(
        self, top: dict[int, tuple[int, int, int]], functions: dict[int, dict[int, tuple[int, int, int]]]
    ) -> list[DeclaredName]:
        files = self._files(top)
        out = []
        for attributes in functions.values():
            if _NAME in attributes and _DECL_LINE in attributes and _DECLARATION not in attributes:
                number = self.number(attributes.get(_DECL_FILE))
                file = files[number] if number < len(files) else ""
                out.append(DeclaredName(self.text(attributes[_NAME]), file, self.number(attributes[_DECL_LINE])))
        return out

    def _files(self, top: dict[int, tuple[int, int, int]]) -> list[str]:
        """The unit's file table, relative to the compilation directory (DWARF 5, 6.2.4); empty for version 4."""
        if _STMT_LIST not in top:
            return []
        line = bytes(_section(self.obj, ".debug_line")[self.number(top[_STMT_LIST]) :][: 1 << 20])
        (version,) = self._unpack("H", line, 4)
        if version != 5:
            return []
        at = 18 + line[17] - 1
        whole, self.raw = self.raw, line  # the methods that read forms use self.raw
        try:
            folders, at = self._table(at)
            files, _ = self._table(at)
        finally:
            self.raw = whole
        root = self.text(top.get(_COMP_DIR)).rstrip("/")
        names = [folder for folder, _ in folders]
        paths = (f"{names[d]}/{n}" if n[:1] != "/" and d < len(names) else n for n, d in files)
        return [posixpath.normpath(path).removeprefix(root + "/") for path in paths]

    def _table(self, at: int) -> tuple[list[tuple[str, int]], int]:
        """(name, directory index) of each row of a table in the header of a line program."""
        formats = []
        count = self.raw[at]
        at += 1
        for _ in range(count):
            content, at = _uleb(self.raw, at)
            form, at = _uleb(self.raw, at)
            formats.append((content, form))
        rows, at = _uleb(self.raw, at)
        out = []
        for _ in range(rows):
            name, folder = "", 0
            for content, form in formats:
                if content == 1:
                    name = self.text((form, at, 0))
                elif content == 2:
                    folder = self.number((form, at, 0))
                at = self._skip(form, at)
            out.append((name, folder))
        return out, at

    def _address(self, attributes: dict[int, tuple[int, int, int]]) -> int:
        return self._unpack("q", self.raw, attributes[_LOW_PC][1])[0]

    def _inherited(self, attributes: dict[int, tuple[int, int, int]], name: int) -> tuple[int, int, int] | None:
        origin = self.reference(attributes.get(_SPECIFICATION) or attributes.get(_ORIGIN))
        return self.entry(origin)[2].get(name) if origin is not None else None

    def _name(self, place: int, functions: dict[int, dict[int, tuple[int, int, int]]]) -> str:
        for _ in range(8):
            attributes = functions.get(place) or self.entry(place)[2]
            if _NAME in attributes:
                return self.text(attributes[_NAME])
            origin = self.reference(attributes.get(_ORIGIN) or attributes.get(_SPECIFICATION))
            if origin is None:
                return ""
            place = origin
        return ""

    def _type(self, place: int) -> str:
        suffix = ""
        for _ in range(16):
            tag, _, attributes, _ = self.entry(place)
            if tag in _TYPES:
                return f"{_TYPES[tag]}{self.text(attributes.get(_NAME))}{suffix}".strip()
            suffix = _WRAPPERS.get(tag, "") + suffix
            following = self.reference(attributes.get(_TYPE))
            if tag not in _WRAPPERS or following is None:
                return ""
            place = following
        return ""
