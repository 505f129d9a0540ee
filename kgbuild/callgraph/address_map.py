# SPDX-License-Identifier: GPL-2.0-or-later
"""Addresses in one object as sortable numbers, called places.

A place is a signed 64-bit number: in vmlinux the link address; in a relocatable module the section index shifted left
by 32, plus the offset. So a single sorted table serves both, and modules need no layout.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from kgbuild.elf.consts import ET, SHF, SHN, SHT, STB, STT
from kgbuild.elf.object import Object

Places = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
SECTION_SHIFT = 32
# plain integers: arithmetic on IntFlag members is too slow for 1,100 modules with 50 sections each
_MASK = 0xFFFF_FFFF_FFFF_FFFF
ALLOC, CODE = int(SHF.ALLOC), int(SHF.ALLOC | SHF.EXECINSTR)


def among(values: npt.NDArray[np.integer[Any]], chosen: Collection[int]) -> Flags:
    """Whether each of `values`, which are small numbers, is one of `chosen`."""
    table = np.zeros(max((*chosen, 255)) + 1, bool)
    table[list(chosen)] = True
    return np.where(values < len(table), table[np.minimum(values, len(table) - 1)], False)


def symbol_names(obj: Object, rows: Places) -> list[bytes]:
    """The names of the symbols at these rows."""
    raw = bytes(obj.strtab)
    find = raw.index
    return [raw[at : find(b"\0", at)] for at in obj.symbols["name"][rows].tolist()]


@dataclass(frozen=True, eq=False)
class Bodies:
    """Ranges with a start and a size, sorted by place. Where they nest, the innermost one counts."""

    place: Places
    size: Places

    @cached_property
    def _end(self) -> Places:
        return self.place + np.maximum(self.size, 1)

    def at(self, places: Places) -> Places:
        """The row of the range that contains each place, -1 if there is none."""
        row = np.searchsorted(self.place, places, "right").astype(np.int64) - 1
        if not len(self.place):
            return np.full(len(places), -1, np.int64)
        # a label inside an assembly routine ends before the routine does: go back to the enclosing range
        for _ in range(64):
            outside = (row >= 0) & (places >= self._end[np.maximum(row, 0)])
            if not outside.any():
                break
            steps = np.where(outside, self._enclosing[np.maximum(row, 0)], row)
            row = steps
        else:
            row = np.where(places < self._end[np.maximum(row, 0)], row, -1)
        return row

    @cached_property
    def _enclosing(self) -> Places:
        """For each row, the nearest earlier row that extends beyond its end, -1 if there is none."""
        reach = np.maximum.accumulate(self._end) if len(self._end) else self._end
        nested = np.nonzero(reach[:-1] > self._end[1:])[0] + 1
        # behind the last byte of a row that nothing encloses, a place belongs to no range
        out = np.full(len(self._end), -1, np.int64)
        ends = self._end
        for row in nested.tolist():
            candidate = row - 1
            while candidate >= 0 and ends[candidate] <= ends[row]:
                candidate = int(out[candidate])
            out[row] = candidate
        return out


@dataclass(frozen=True, eq=False)
class AddressMap:
    """Places of the sections and symbols of one object."""

    obj: Object

    @property
    def relocatable(self) -> bool:
        return self.obj.type == ET.REL

    @cached_property
    def relocated(self) -> bool:
        """Whether the file kept the relocations of its code."""
        return self.relocatable or any(len(self.obj.relocs(section)) for section in self.code_indices)

    @cached_property
    def code_indices(self) -> list[int]:
        """Indices of non-empty sections with loaded code."""
        return [i for i in np.nonzero(self.code_sections)[0].tolist() if self.obj.sections[i].size]

    @cached_property
    def data_sections(self) -> Flags:
        """For each section, whether it contains loaded data."""
        return np.array([s.flags & CODE == ALLOC for s in self.obj.sections], bool)

    @cached_property
    def bases(self) -> Places:
        """The place of the first byte of each section, by section index."""
        if self.relocatable:
            return np.arange(len(self.obj.sections), dtype=np.int64) << SECTION_SHIFT
        return np.array([s.addr for s in self.obj.sections], np.uint64).view(np.int64)

    @cached_property
    def in_section(self) -> Flags:
        """For each symbol, whether it is defined in a section."""
        shndx = self.obj.symbols["shndx"]
        out: Flags = (shndx != SHN.UNDEF) & (shndx < SHN.LORESERVE)
        return out

    @cached_property
    def section_of(self) -> npt.NDArray[np.int32]:
        """For each symbol, the index of its section, 0 if it has none."""
        return np.where(self.in_section, self.obj.symbols["shndx"], 0).astype(np.int32)

    @cached_property
    def places(self) -> Places:
        """The place of every symbol; 0 for symbols without a section."""
        values = np.ascontiguousarray(self.obj.symbols["value"]).view(np.int64)
        if self.relocatable:
            values = values + self.bases[self.section_of]
        return np.where(self.in_section, values, 0)

    @cached_property
    def code_sections(self) -> Flags:
        """For each section, whether it contains loaded code."""
        return np.array([s.flags & CODE == CODE for s in self.obj.sections], bool)

    @cached_property
    def _extents(self) -> tuple[Places, Places, Places]:
        loaded = [s for s in self.obj.sections if s.flags & ALLOC and s.size and s.type != SHT.NULL]
        loaded.sort(key=lambda s: int(self.bases[s.index]))
        index = np.array([s.index for s in loaded], np.int64)
        return self.bases[index], np.array([s.size for s in loaded], np.int64), index

    def section_at(self, places: Places) -> Places:
        """The index of the section that contains each place, -1 if there is none. The end of a section is outside of
        it."""
        starts, sizes, index = self._extents
        if not len(starts):
            return np.full(len(places), -1, np.int64)
        row = np.searchsorted(starts, places, "right") - 1
        inside = (row >= 0) & (places - starts[np.maximum(row, 0)] < sizes[np.maximum(row, 0)])
        return np.where(inside, index[np.maximum(row, 0)], -1)

    def is_code(self, places: Places) -> Flags:
        """Whether each place is in loaded code."""
        section = self.section_at(places)
        out: Flags = (section >= 0) & self.code_sections[section]
        return out

    def code(self, section: int) -> npt.NDArray[np.uint8]:
        """The bytes of a section as an array (a view of the file)."""
        return np.frombuffer(self.obj.contents(section), np.uint8)

    @cached_property
    def bounds(self) -> dict[str, int]:
        """Places of the symbols with which the linker script marks the ends of tables and of init memory."""
        table = self.obj.symbols
        wanted = ((table["info"] >> 4) != STB.LOCAL) & ((table["info"] & 15) == STT.NOTYPE)
        rows = np.nonzero(wanted)[0].astype(np.int64)
        return {
            name.decode("utf-8", "replace"): place
            for name, place in zip(symbol_names(self.obj, rows), self.places[rows].tolist(), strict=True)
            if name.startswith((b"__start_", b"__stop_", b"__init_")) or name.endswith((b"_text_start", b"_text_end"))
        }

    def extents(self, texts: Iterable[str]) -> dict[str, tuple[int, int]]:
        """Start and end address (unsigned) of special kinds of code within vmlinux's .text, for those of `texts` that
        exist. The linker script marks them with symbols like `__noinstr_text_start`
        (include/asm-generic/vmlinux.lds.h)."""
        out = {}
        for text in texts if not self.relocatable else ():
            start, end = (self.bounds.get(f"__{text}_text_{side}") for side in ("start", "end"))
            if start is not None and end is not None:
                out[text] = (start & _MASK, end & _MASK)
        return out

    def table_range(self, section: str) -> tuple[int, int] | None:
        """(first place, one past the last) of one of the kernel's tables: its own section or, if the linker script
        merges it into another one, the range between its start and stop symbols. None if there is neither."""
        own = self.obj.section_named(section)
        if own is not None:
            start = int(self.bases[own.index])
            return start, start + own.size
        if self.relocatable:
            return None
        for stem in (section, section.lstrip("._")):
            first, stop = self.bounds.get(f"__start_{stem}"), self.bounds.get(f"__stop_{stem}")
            if first is not None and stop is not None:
                return first, stop
        return None

    def read(self, start: int, stop: int) -> bytes:
        """The bytes of a linked file between two places; empty if they are in no section with contents."""
        section = int(self.section_at(np.array([start], np.int64))[0])
        if section < 0 or self.obj.sections[section].type == SHT.NOBITS:
            return b""
        at = start - int(self.bases[section])
        return bytes(self.obj.contents(section)[at : at + stop - start])

    def pointers_in(self, section: str) -> Places:
        """The places that the 8-byte pointers in a table refer to."""
        extent = self.table_range(section)
        if extent is None:
            return np.zeros(0, np.int64)
        if self.relocatable:
            own = self.obj.section_named(section)
            assert own is not None
            relocs = self.obj.relocs(own.index)
            named: Places = self.places[relocs["sym"]] + relocs["addend"]
            return named
        raw = self.read(*extent)
        return np.frombuffer(raw[: len(raw) // 8 * 8], self.obj.dtype("i8")).astype(np.int64)

    def relative_fields(self, section: str, entry: int, field: int) -> Places | None:
        """The places that the 4-byte self-relative fields of a table refer to, for entries of `entry` bytes with the
        field at offset `field`.

        None if there is no such table, or if its relocations do not fit entries of that size.
        """
        extent = self.table_range(section)
        if extent is None:
            return None
        count = (extent[1] - extent[0]) // entry
        at = extent[0] + field + entry * np.arange(count, dtype=np.int64)
        if self.relocatable:
            own = self.obj.section_named(section)
            assert own is not None
            relocs = self.obj.relocs(own.index)
            order = np.argsort(relocs["offset"], kind="stable")
            offsets = np.ascontiguousarray(relocs["offset"][order]).view(np.int64) + extent[0]
            found = np.searchsorted(offsets, at)
            if not len(offsets) or (offsets[np.minimum(found, len(offsets) - 1)] != at).any():
                return None if count else np.zeros(0, np.int64)
            rows = relocs[order][found]
            named: Places = self.places[rows["sym"]] + rows["addend"]
            return named
        raw = np.frombuffer(self.read(*extent)[: count * entry], np.uint8).reshape(count, entry)
        return at + np.ascontiguousarray(raw[:, field : field + 4]).view(self.obj.dtype("i4"))[:, 0].astype(np.int64)
