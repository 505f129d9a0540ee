# SPDX-License-Identifier: GPL-2.0-or-later
"""Just enough of DWARF to find a few entries in a relocatable object quickly.

pyelftools reads everything and makes an object of each attribute, which takes seconds for one unit of the kernel. Here,
subtrees that are not needed are skipped by DW_AT_sibling, and entries whose attributes all have fixed sizes are skipped
as a whole. Supports versions 4 and 5, 32-bit DWARF, in the byte order of the object. Source: DWARF 5, sections 7.5
and 7.6.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from kgbuild.debuginfo.dwarf_forms import (
    AT_SIBLING,
    BLOCK,
    BLOCK_LENGTHS,
    EXPRLOC,
    FIXED_SIZES,
    IMPLICIT_CONST,
    LEB_FORMS,
    LINE_STRP,
    REF4,
    STRING,
    STRP,
    Abbreviation,
    make_abbreviation,
)
from kgbuild.decompression import DamagedError, decompress
from kgbuild.elf.consts import SHF
from kgbuild.elf.object import Object, Section
from kgbuild.elf.read import FormatError
from kgbuild.limits import SECTION_BYTES

TAG_LEXICAL_BLOCK, TAG_STRUCTURE, TAG_INLINED, TAG_SUBPROGRAM, TAG_VARIABLE = 0x0B, 0x13, 0x1D, 0x2E, 0x34
AT_BYTE_SIZE, AT_PRODUCER = 0x0B, 0x25
AT_LOCATION, AT_NAME, AT_ABSTRACT_ORIGIN, AT_DECL_LINE, AT_SPECIFICATION = 0x02, 0x03, 0x31, 0x3B, 0x47
AT_DECLARATION, AT_STR_OFFSETS_BASE, AT_ADDR_BASE = 0x3C, 0x72, 0x73
_STRX = {0x1A: 0, 0x25: 1, 0x26: 2, 0x27: 3, 0x28: 4}  # bytes of the index; 0 for LEB128
_STRUCTURES = frozenset({TAG_STRUCTURE})
_MAX_DEPTH = 256
_LONG_NAME, _TIMES = 256, 16  # longer names may be read for so many times the bytes of their section
_COMPRESSIONS = {1: "zlib", 2: "zstd"}  # gABI: ch_type


class Die(NamedTuple):
    """One entry: its offset in .debug_info, its tag, the offset of the entry that follows its attributes, the offset of
    its next sibling (0 if not given), and for each attribute the form and the offset of its value."""

    offset: int
    tag: int
    children: bool
    next: int
    sibling: int
    unit: int
    attributes: dict[int, tuple[int, int, int]]


class Dwarf:
    """The debugging entries of an object's .debug_info. Reading raises FormatError for what can't be read."""

    def __init__(self, obj: Object, section: Section) -> None:
        self.obj, self.section = obj, section
        self.order = obj.records.order
        self.data = self._bytes(section)
        self.relocs = obj.reloc_rows(section.index)
        self._abbreviations: dict[int, dict[int, Abbreviation]] = {}
        # of the current unit: the bases for strings and addresses that are given by index
        self._strings_base = self.addresses_base = 0
        self._names_read = 0  # bytes of long names, each time that one is read

    def fault(self, at: int, fact: str) -> FormatError:
        where = f"{self.section.name}+{at:#x}"
        return FormatError(self.section.offset, f"debugging information can't be read ({fact}; {where})")

    def _leb(self, data: bytes, at: int) -> tuple[int, int]:
        out = shift = 0
        while True:
            if at >= len(data) or shift > 63:
                raise self.fault(min(at, len(self.data)), "a number has no end")
            byte = data[at]
            out |= (byte & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if not byte & 0x80:
                return out, at

    @cached_property
    def _abbrev(self) -> bytes:
        section = self.obj.section_named(".debug_abbrev")
        return self._bytes(section) if section is not None else b""

    def _bytes(self, section: Section) -> bytes:
        """A section's contents, decompressed (gABI: SHF_COMPRESSED)."""
        SECTION_BYTES.check(section.size, section.name)
        raw, header = bytes(self.obj.contents(section.index)), self.obj.records.compressed
        if not section.flags & SHF.COMPRESSED or len(raw) < header.size:
            return raw
        kind, _, size, _ = header.unpack_from(raw)
        SECTION_BYTES.check(size, section.name)
        if kind not in _COMPRESSIONS:
            raise FormatError(section.offset, f"{section.name} is compressed in a way {kind} that is not known")
        try:
            out = decompress(raw[header.size :], _COMPRESSIONS[kind], section.name, SECTION_BYTES)
        except DamagedError as error:
            raise FormatError(section.offset, f"{section.name} {error.fact}") from error
        if len(out) != size:
            raise FormatError(section.offset, f"{section.name} is not {size} bytes when decompressed, but {len(out)}")
        return out

    def _table(self, at: int) -> dict[int, Abbreviation]:
        if at in self._abbreviations:
            return self._abbreviations[at]
        out: dict[int, Abbreviation] = {}
        data, start = self._abbrev, at
        while True:
            code, at = self._leb(data, at)
            if code == 0:
                break
            tag, at = self._leb(data, at)
            children = at < len(data) and data[at] == 1
            at += 1
            attributes = []
            while True:
                name, at = self._leb(data, at)
                form, at = self._leb(data, at)
                implicit = 0
                if form == IMPLICIT_CONST:
                    implicit, at = self._leb(data, at)
                if name == 0 and form == 0:
                    break
                attributes.append((name, form, implicit))
            out[code] = make_abbreviation(tag, children, attributes)
        self._abbreviations[start] = out
        return out

    def units(self) -> Iterator[tuple[int, int, int, dict[int, Abbreviation]]]:
        """Each unit: the offset of its header, the offset of its first entry, its end, and its abbreviations."""
        at = 0
        data = self.data
        while at + 12 <= len(data):
            length = int.from_bytes(data[at : at + 4], self.order)
            version = int.from_bytes(data[at + 4 : at + 6], self.order)
            if length >= 0xFFFFFFF0 or version not in (4, 5):
                raise self.fault(at, f"64-bit DWARF or version {version} has no rule")
            end = at + 4 + length
            if end > len(data) or length < 8:
                raise self.fault(at, f"a unit of {length} bytes does not fit")
            if version == 5:
                kind, where = data[at + 6], at + 8
                first = at + 12 + {2: 12, 4: 8, 5: 8, 6: 12}.get(kind, 0)
            else:
                where, first = at + 6, at + 11
            yield at, first, end, self._table(self.value_at(where, 4))
            at = end

    def value_at(self, at: int, size: int) -> int:
        """The number at an offset, including what a relocation there adds."""
        index = bisect.bisect_left(self.relocs, (at,))
        if index < len(self.relocs) and self.relocs[index][0] == at:
            _, _, sym, addend = self.relocs[index]
            return addend + self.obj.columns.value[sym]
        return int.from_bytes(self.data[at : at + size], self.order)

    def top(self, first: int, unit: int, end: int, table: dict[int, Abbreviation]) -> Die | None:
        """The first entry of a unit, which contains all others. Names are read as names of this unit from now on."""
        die = self.die(first, unit, end, table)
        if die is not None:
            # if there is no base attribute: behind the header of the only table (DWARF 5, 7.26 and 7.27)
            self._strings_base = self._base(die, AT_STR_OFFSETS_BASE)
            self.addresses_base = self._base(die, AT_ADDR_BASE)
        return die

    def _base(self, die: Die, attribute: int) -> int:
        found = die.attributes.get(attribute)
        return self.value_at(found[1], 4) if found is not None else 8

    def die(self, at: int, unit: int, end: int, table: dict[int, Abbreviation]) -> Die | None:
        """The entry at an offset; None at the end of a list of siblings."""
        code, place = self._leb(self.data, at)
        if code == 0:
            return None
        abbreviation = table.get(code)
        if abbreviation is None:
            raise self.fault(at, f"abbreviation {code} does not exist")
        attributes: dict[int, tuple[int, int, int]] = {}
        for name, form, implicit in abbreviation.attributes:
            attributes[name] = (form, place, implicit)
            place = self._skip(form, place)
        if place > end:
            raise self.fault(at, "an entry reaches over the end of its unit")
        sibling = 0
        if AT_SIBLING in attributes and attributes[AT_SIBLING][0] == REF4:
            where = attributes[AT_SIBLING][1]
            sibling = unit + int.from_bytes(self.data[where : where + 4], self.order)
            if not place <= sibling <= end:
                raise self.fault(at, f"the entry at {at:#x} has a sibling at {sibling:#x}")
        return Die(at, abbreviation.tag, abbreviation.children, place, sibling, unit, attributes)

    def _skip(self, form: int, at: int) -> int:
        size = FIXED_SIZES.get(form)
        if size is not None:
            return at + size
        if form in LEB_FORMS:
            return self._leb(self.data, at)[1]
        if form in (EXPRLOC, BLOCK):
            length, at = self._leb(self.data, at)
            return at + length
        if form in BLOCK_LENGTHS:
            width = BLOCK_LENGTHS[form]
            return at + width + int.from_bytes(self.data[at : at + width], self.order)
        if form == STRING:
            end = self.data.find(b"\0", at)
            if end < 0:
                raise self.fault(at, "a string has no end")
            return end + 1
        raise self.fault(at, f"form {form:#x} has no rule")

    def children(
        self, die: Die, end: int, table: dict[int, Abbreviation], tags: frozenset[int], depth: int = 0
    ) -> Iterator[tuple[Die, int]]:
        """Each child of an entry that has one of the given tags, and the end of its subtree (0 if not known)."""
        if not die.children:
            return
        at = die.next
        while at < end:
            behind = self._behind(at, die.unit, end, table, tags)
            if behind:
                at = behind
                continue
            child = self.die(at, die.unit, end, table)
            if child is None:
                return
            if child.tag in tags:
                yield child, child.sibling
            at = child.sibling if child.sibling else self._end_of(child, end, table, depth)

    def entries(self, die: Die, end: int, table: dict[int, Abbreviation]) -> Iterator[tuple[int, int, int]]:
        """Each child of an entry, without reading its attributes: its offset, its tag, and the end of its subtree."""
        if not die.children:
            return
        at, data, unit = die.next, self.data, die.unit
        while at < end:
            code = data[at]
            place = at + 1
            if code >= 0x80:
                code, place = self._leb(data, at)
            if code == 0:
                return
            abbreviation = table.get(code)
            if abbreviation is None:
                raise self.fault(at, f"abbreviation {code} does not exist")
            if not abbreviation.children and abbreviation.size >= 0:
                behind = place + abbreviation.size
            else:
                behind = self._passed(at, place, abbreviation, unit, end, table)
            if not at < behind <= end:
                raise self.fault(at, "an entry reaches over the end of its unit")
            yield at, abbreviation.tag, behind
            at = behind

    def _passed(
        self, at: int, place: int, abbreviation: Abbreviation, unit: int, end: int, table: dict[int, Abbreviation]
    ) -> int:
        """The offset behind the subtree of an entry whose attributes begin at `place`."""
        for name, form, _ in abbreviation.attributes:
            if name == AT_SIBLING and form == REF4 and abbreviation.children:
                return unit + int.from_bytes(self.data[place : place + 4], self.order)
            size = FIXED_SIZES.get(form)
            place = place + size if size is not None else self._skip(form, place)
        if not abbreviation.children:
            return place
        die = self.die(at, unit, end, table)
        assert die is not None
        return self._end_of(die, end, table, 0)

    def _behind(self, at: int, unit: int, end: int, table: dict[int, Abbreviation], tags: frozenset[int]) -> int:
        """The offset of the next sibling of an entry that has none of the wanted tags, if it can be found without
        reading the entry; else 0."""
        code = self.data[at]
        abbreviation = table.get(code) if code < 0x80 else None
        if abbreviation is None or abbreviation.tag in tags:
            return 0
        place = at + 1
        if not abbreviation.children:
            found = place + abbreviation.size if abbreviation.size >= 0 else 0
        elif abbreviation.sibling >= 0:
            where = place + abbreviation.sibling
            found = unit + int.from_bytes(self.data[where : where + 4], self.order)
        else:
            return 0
        return found if at < found <= end else 0

    def _end_of(self, die: Die, end: int, table: dict[int, Abbreviation], depth: int) -> int:
        """The offset behind a subtree, found by walking it."""
        if not die.children:
            return die.next
        if depth > _MAX_DEPTH:
            raise self.fault(die.offset, "entries nest too deeply")
        at = die.next
        while at < end:
            child = self.die(at, die.unit, end, table)
            if child is None:
                return at + 1
            at = child.sibling if child.sibling else self._end_of(child, end, table, depth + 1)
        raise self.fault(die.offset, "a list of entries has no end")

    def name(self, die: Die, end: int, table: dict[int, Abbreviation]) -> str:
        """An entry's name, or the name of its origin if it has none of its own; "" if there is none."""
        found: Die | None = die
        for _ in range(4):
            if found is None:
                break
            if AT_NAME in found.attributes:
                form, at, _ = found.attributes[AT_NAME]
                return self._text(form, at)
            link = found.attributes.get(AT_ABSTRACT_ORIGIN) or found.attributes.get(AT_SPECIFICATION)
            if link is None or link[0] != REF4:
                break
            where = found.unit + int.from_bytes(self.data[link[1] : link[1] + 4], self.order)
            if not found.unit < where < end:
                raise self.fault(found.offset, f"its origin is said to be at {where:#x}")
            found = self.die(where, found.unit, end, table)
        return ""

    def text(self, die: Die, attribute: int) -> str:
        """A string attribute of an entry; "" if it is missing."""
        form, at, _ = die.attributes.get(attribute, (0, 0, 0))
        return self._text(form, at) if form else ""

    def _text(self, form: int, at: int) -> str:
        raw, place = self.data, at
        if form in (STRP, LINE_STRP):
            section = self.obj.section_named(".debug_str" if form == STRP else ".debug_line_str")
            raw = self._strings(section)
            place = self.value_at(at, 4)
        elif form in _STRX:
            raw = self._strings(self.obj.section_named(".debug_str"))
            width = _STRX[form]
            index = int.from_bytes(self.data[at : at + width], self.order) if width else self._leb(self.data, at)[0]
            place = self._places_of_strings.get(self._strings_base + 4 * index, -1)
        elif form != STRING:
            return ""
        end = raw.find(b"\0", place)
        if not 0 <= place < len(raw) or end < 0:
            raise self.fault(at, "a name lies outside its section")
        if form != STRING:
            # many entries may share a name, and names may lie inside each other
            self._names_read += end - place if end - place > _LONG_NAME else 0
            if self._names_read > _TIMES * len(raw):
                raise self.fault(at, "names lie inside each other")
        return raw[place:end].decode("utf-8", "replace")

    @cached_property
    def _places_of_strings(self) -> dict[int, int]:
        """By offset in .debug_str_offsets, the offset in .debug_str that is meant."""
        section = self.obj.section_named(".debug_str_offsets")
        value = self.obj.columns.value
        rows = self.obj.reloc_rows(section.index) if section is not None else []
        return {offset: value[sym] + addend for offset, _, sym, addend in rows}

    def _strings(self, section: Section | None) -> bytes:
        if section is None:
            return b""
        cached: dict[int, bytes] = self.__dict__.setdefault("_string_sections", {})
        if section.index not in cached:
            cached[section.index] = self._bytes(section)
        return cached[section.index]

    def number(self, at: int) -> int:
        """The unsigned LEB128 number at an offset."""
        return self._leb(self.data, at)[0]

    def constant(self, die: Die, attribute: int) -> int:
        """A number attribute of an entry; 0 if it is missing."""
        form, at, implicit = die.attributes.get(attribute, (0, 0, 0))
        if form == IMPLICIT_CONST:
            return implicit
        if form in (0x0B, 0x05, 0x06, 0x07):
            return int.from_bytes(self.data[at : at + FIXED_SIZES[form]], self.order)
        return self._leb(self.data, at)[0] if form in (0x0F, 0x0D) else 0


def read_struct_sizes(obj: Object, names: frozenset[str]) -> dict[str, int]:
    """Sizes in bytes of some structures that are defined at the top level of a unit. Empty if there is no DWARF or it
    can't be read. A structure that is defined with several sizes is left out."""
    section = obj.section_named(".debug_info")
    if section is None:
        return {}
    found: dict[str, set[int]] = {}
    try:
        dwarf = Dwarf(obj, section)
        there = _named_in_debug(obj, names)
        for header, first, end, table in dwarf.units():
            top = dwarf.top(first, header, end, table)
            remaining = set(there)  # a C unit defines each structure only once at its top level
            for die, _ in dwarf.children(top, end, table, _STRUCTURES) if top is not None and remaining else ():
                if AT_BYTE_SIZE in die.attributes:
                    name = dwarf.name(die, end, table)
                    if name in remaining:
                        found.setdefault(name, set()).add(dwarf.constant(die, AT_BYTE_SIZE))
                        remaining.discard(name)
                        if not remaining:
                            break
    except FormatError:
        return {}
    return {name: sizes.pop() for name, sizes in found.items() if len(sizes) == 1}


def _named_in_debug(obj: Object, names: frozenset[str]) -> frozenset[str]:
    """Those of some names that occur in the debugging information at all; all of them if it is compressed."""
    sections = [s for s in obj.sections if s.name in (".debug_info", ".debug_str", ".debug_line_str")]
    if any(s.flags & SHF.COMPRESSED for s in sections):
        return names
    texts = [bytes(obj.contents(s.index)) for s in sections]
    return frozenset(n for n in names if any(n.encode() + b"\0" in text for text in texts))
