# SPDX-License-Identifier: GPL-2.0-or-later
"""The tables of the back end kallsyms, which data/livepatch/kallsyms.c reads: SYMBOLS, RANGES and SITES of
module_abi.py, and the names in them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from kgbuild import module_abi as abi
from kgbuild.arch.base import Arch
from kgbuild.elf.consts import SHF, SHT, STB, STT
from kgbuild.elf.write import OutObject, OutReloc, OutSection, OutSymbol
from kgbuild.emit.backends.stable_bytes import NOTHING, StableCode
from kgbuild.kernel.vmlinux_image import KernelImage
from kgbuild.model import VMLINUX
from kgbuild.proof.record import FUNCTION, BoundSymbol, SymbolKey


@dataclass(frozen=True)
class LookupRow:
    """A symbol to look up, and where the kernel's own file has it."""

    key: SymbolKey
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
        strings = OutSection(abi.LOOKUP_STRINGS_SECTION, SHT.PROGBITS, SHF.ALLOC)
        text = _StringPool(strings)
        symbols, ranges, sites = (
            OutSection(table.section, SHT.PROGBITS, SHF.ALLOC, align=8)
            for table in (abi.SYMBOLS, abi.RANGES, abi.SITES)
        )
        named = OutSymbol("", strings, type=STT.SECTION)
        out.symbols.append(named)
        abs64 = self.arch.pointer_reloc
        in_symbol, in_site = abi.SYMBOLS.offsets, abi.SITES.offsets
        codes: dict[str, StableCode] = {}
        for row in self.rows:
            object_name, name, sympos = row.key
            stable = NOTHING
            if row.place.kind == FUNCTION:
                if object_name not in codes:
                    codes[object_name] = StableCode(self.arch, image_of(object_name))
                stable = codes[object_name].of(row.place)
            base = len(symbols.data)
            first = len(ranges.data) // abi.RANGES.size
            symbols.data += abi.SYMBOLS.pack(sympos=sympos, range=first, ranges=len(stable.ranges), crc=stable.crc)
            ranges.data += b"".join(abi.RANGES.pack(offset=offset, size=size) for offset, size in stable.ranges)
            if object_name != VMLINUX:
                symbols.relocs.append(OutReloc(base + in_symbol["object"], abs64, named, text.at(object_name)))
            symbols.relocs.append(OutReloc(base + in_symbol["name"], abs64, named, text.at(name)))
        ranges.data += bytes(abi.RANGES.size)
        section_symbols: dict[int, OutSymbol] = {}
        for site in self.sites:
            symbol = section_symbols.get(id(site.section))
            if symbol is None:
                symbol = section_symbols[id(site.section)] = OutSymbol("", site.section, type=STT.SECTION)
                out.symbols.append(symbol)
            base = len(sites.data)
            kind = self.arch.written_late[site.type]
            sites.data += abi.SITES.pack(addend=site.addend, kind=kind, symbol=site.symbol)
            sites.relocs.append(OutReloc(base + in_site["site"], abs64, symbol, site.offset))
            if site.object:
                sites.relocs.append(OutReloc(base + in_site["object"], abs64, named, text.at(site.object)))
        sites.data += bytes(abi.SITES.size)
        count = bytearray(abi.NUMBER.pack(len(symbols.data)))
        size = OutSection(abi.value_section(abi.SYMBOLS_SIZE), data=count, align=4)
        for section in (strings, symbols, ranges, sites, size):
            out.sections.append(section)
            if section is not strings:
                name = section.name.removeprefix(".rodata.")
                out.symbols.append(OutSymbol(name, section, 0, len(section.data), STB.GLOBAL, STT.OBJECT))


class _StringPool:
    def __init__(self, section: OutSection) -> None:
        self._section = section
        self._known: dict[str, int] = {}

    def at(self, text: str) -> int:
        if text not in self._known:
            self._known[text] = len(self._section.data)
            self._section.data += text.encode() + b"\0"
        return self._known[text]
