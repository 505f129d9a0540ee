# SPDX-License-Identifier: GPL-2.0-or-later
"""The tables of the back end kallsyms, as data/livepatch/kallsyms.c reads them:

.rodata.kgbuild_symbols   struct { const char *object, *name; u64 sympos; u32 range, ranges, crc, unused; }
.rodata.kgbuild_ranges    struct { u32 offset, size; }: bytes of a function that its CRC is of
.rodata.kgbuild_sites     struct { void *site; s64 addend; u32 kind, symbol; const char *object; }, ended by zeros
.rodata.kgbuild_names     the names
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from kgbuild.arch.base import Arch
from kgbuild.elf.consts import SHF, SHT, STB, STT
from kgbuild.elf.write import OutObject, OutReloc, OutSection, OutSymbol
from kgbuild.emit.backends.stable_bytes import NOTHING, StableCode
from kgbuild.kernel.vmlinux_image import KernelImage
from kgbuild.model import VMLINUX
from kgbuild.proof.record import FUNCTION, BoundSymbol, Key

SYMBOL_ROW = struct.Struct("<QQQIIII")
RANGE_ROW = struct.Struct("<II")
SITE_ROW = struct.Struct("<QqIIQ")


@dataclass(frozen=True)
class LookupRow:
    """A symbol to look up, and where the kernel's own file has it."""

    key: Key
    place: BoundSymbol


class LookupSite(NamedTuple):
    """A place to write: its section and offset, relocation type and addend, number of the symbol, and the module whose
    coming it is written at, "" for init."""

    section: OutSection
    offset: int
    type: int
    addend: int
    symbol: int
    object: str


@dataclass(frozen=True)
class LookupTables:
    """What is looked up, and where it is written."""

    arch: Arch
    rows: list[LookupRow]
    sites: list[LookupSite]

    def add_to(self, out: OutObject, image_of: Callable[[str], KernelImage]) -> None:
        """Append the tables to an object. `image_of` gives the kernel's files, whose code the digests are of."""
        strings = OutSection(".rodata.kgbuild_names", SHT.PROGBITS, SHF.ALLOC)
        text = _Texts(strings)
        symbols, ranges, sites = (
            OutSection(f".rodata.kgbuild_{name}", SHT.PROGBITS, SHF.ALLOC, align=8)
            for name in ("symbols", "ranges", "sites")
        )
        named = OutSymbol("", strings, type=STT.SECTION)
        out.symbols.append(named)
        abs64 = self.arch.pointer_reloc
        codes: dict[str, StableCode] = {}
        for row in self.rows:
            object_name, name, sympos = row.key
            stable = NOTHING
            if row.place.kind == FUNCTION:
                if object_name not in codes:
                    codes[object_name] = StableCode(self.arch, image_of(object_name))
                stable = codes[object_name].of(row.place)
            base = len(symbols.data)
            first = len(ranges.data) // RANGE_ROW.size
            symbols.data += SYMBOL_ROW.pack(0, 0, sympos, first, len(stable.ranges), stable.crc, 0)
            ranges.data += b"".join(RANGE_ROW.pack(*r) for r in stable.ranges)
            if object_name != VMLINUX:
                symbols.relocs.append(OutReloc(base, abs64, named, text.at(object_name)))
            symbols.relocs.append(OutReloc(base + 8, abs64, named, text.at(name)))
        ranges.data += bytes(RANGE_ROW.size)
        section_symbols: dict[int, OutSymbol] = {}
        for site in self.sites:
            symbol = section_symbols.get(id(site.section))
            if symbol is None:
                symbol = section_symbols[id(site.section)] = OutSymbol("", site.section, type=STT.SECTION)
                out.symbols.append(symbol)
            base = len(sites.data)
            kind = self.arch.written_late[site.type]
            sites.data += SITE_ROW.pack(0, site.addend, kind, site.symbol, 0)
            sites.relocs.append(OutReloc(base, abs64, symbol, site.offset))
            if site.object:
                sites.relocs.append(OutReloc(base + 24, abs64, named, text.at(site.object)))
        sites.data += bytes(SITE_ROW.size)
        size = OutSection(".rodata.kgbuild_symbols_size", data=bytearray(struct.pack("<I", len(symbols.data))), align=4)
        for section in (strings, symbols, ranges, sites, size):
            out.sections.append(section)
            if section is not strings:
                name = section.name.removeprefix(".rodata.")
                out.symbols.append(OutSymbol(name, section, 0, len(section.data), STB.GLOBAL, STT.OBJECT))


class _Texts:
    def __init__(self, section: OutSection) -> None:
        self._section = section
        self._known: dict[str, int] = {}

    def at(self, text: str) -> int:
        if text not in self._known:
            self._known[text] = len(self._section.data)
            self._section.data += text.encode() + b"\0"
        return self._known[text]
