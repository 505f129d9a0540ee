# SPDX-License-Identifier: GPL-2.0-or-later
"""What `verify` reads a finished module with: LIEF, and a little of its own; nothing of kgbuild.elf.

A fault that our reader and our writer share would pass unseen, so another reader looks at what was written. LIEF gives
sections and symbols (with raw sh_flags and st_shndx, so that SHF_RELA_LIVEPATCH and SHN_LIVEPATCH are seen as they
stand in the file). It does not say which of two relocation sections of one target a relocation stands in, gives types
and bindings it does not know in a form that differs by version, reads bytes of the file for NOBITS sections, and is
lenient with damaged files; so the file's extents are checked here first, and relocations, types and bindings are taken
out of the bytes. Source of the layout: gABI chapter 4.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from kgbuild.errors import UserError

_ORDERS: dict[int, Literal["little", "big"]] = {1: "little", 2: "big"}  # e_ident[EI_DATA]
EHDR_SIZE, SHDR_SIZE, SYM_SIZE, RELA_SIZE = 64, 64, 24, 24
_EHDR, _SHDR, _RELA = "16sHHIQQQIHHHHHH", "IIQQQQIIQQ", "QQq"
SIGNED = b"~Module signature appended~\n"
SIGNATURE = struct.Struct(">BBBBB3xI")
PKCS7 = 2

ET_REL = 1
SHT_NULL, SHT_PROGBITS, SHT_SYMTAB, SHT_STRTAB, SHT_RELA, SHT_NOTE, SHT_NOBITS = 0, 1, 2, 3, 4, 7, 8
SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR, SHF_INFO_LINK = 0x1, 0x2, 0x4, 0x40
SHF_RELA_LIVEPATCH = 0x0010_0000
SHN_UNDEF, SHN_LORESERVE, SHN_LIVEPATCH, SHN_ABS, SHN_COMMON = 0, 0xFF00, 0xFF20, 0xFFF1, 0xFFF2
STB_LOCAL, STB_GLOBAL, STB_WEAK = 0, 1, 2
STT_OBJECT, STT_FUNC, STT_SECTION, STT_FILE = 1, 2, 3, 4

REMEDY = "give a live patch module that kgbuild built"


@dataclass(frozen=True)
class ModuleSection:
    """One section. `flags` is the raw sh_flags, `data` is empty for NOBITS; offset and sizes in bytes. `addr` and
    `entsize` are as in its header."""

    index: int
    name: str
    type: int
    flags: int
    size: int
    link: int
    info: int
    data: bytes
    align: int = 1
    addr: int = 0
    entsize: int = 0

    @property
    def alloc(self) -> bool:
        return bool(self.flags & SHF_ALLOC)

    @property
    def executable(self) -> bool:
        return bool(self.flags & SHF_EXECINSTR)

    @property
    def writable(self) -> bool:
        return bool(self.flags & SHF_WRITE)


@dataclass(frozen=True)
class ModuleSymbol:
    """One symbol. `shndx` is the raw st_shndx, `other` the raw st_other."""

    index: int
    name: str
    value: int
    size: int
    bind: int
    type: int
    shndx: int
    other: int = 0


@dataclass(frozen=True)
class Reloc:
    """One relocation: offset in its target section, type, number of its symbol, addend, and the index of the
    relocation section it stands in."""

    offset: int
    type: int
    sym: int
    addend: int
    source: int


@dataclass(frozen=True, eq=False)
class ModuleFile:
    """A module as read. `relocs` holds the rows of each relocation section, by the index of that section; `header` the
    fields of the ELF header, e_ident first; `stray` the first byte of the file that is not zero and belongs to no part
    of it, or that lies behind all of them (-1: there is none); `signed` whether a signature follows."""

    machine: int
    sections: tuple[ModuleSection, ...]
    symbols: tuple[ModuleSymbol, ...]
    relocs: dict[int, tuple[Reloc, ...]]
    header: tuple[Any, ...] = ()
    stray: int = -1
    signed: bool = False

    @property
    def order(self) -> Literal["little", "big"]:
        """The byte order of every number in the file."""
        return _ORDERS[self.header[0][5]]

    def unpack(self, form: str, data: bytes, at: int = 0) -> tuple[Any, ...]:
        """Fields of some of the file's bytes, as struct's `form` says, in the file's byte order."""
        return struct.unpack_from(_prefix(self.order) + form, data, at)

    @cached_property
    def by_name(self) -> dict[str, list[ModuleSection]]:
        """Sections by name."""
        out: dict[str, list[ModuleSection]] = {}
        for section in self.sections[1:]:
            out.setdefault(section.name, []).append(section)
        return out

    def section(self, name: str) -> ModuleSection | None:
        """The first section of a name, or None."""
        found = self.by_name.get(name)
        return found[0] if found else None

    @cached_property
    def targets(self) -> dict[int, dict[int, list[Reloc]]]:
        """Relocations by the index of the section they apply to, then by offset."""
        out: dict[int, dict[int, list[Reloc]]] = {}
        for source, rows in self.relocs.items():
            by_offset = out.setdefault(self.sections[source].info, {})
            for row in rows:
                by_offset.setdefault(row.offset, []).append(row)
        return out

    def at(self, section: int, offset: int) -> Reloc | None:
        """The relocation of one field, or None."""
        found = self.targets.get(section, {}).get(offset)
        return found[0] if found else None

    def symbol_of(self, reloc: Reloc) -> ModuleSymbol | None:
        """The symbol a relocation names, or None where the number is out of range."""
        return self.symbols[reloc.sym] if reloc.sym < len(self.symbols) else None

    def place_of(self, reloc: Reloc) -> tuple[ModuleSection, int] | None:
        """(section, offset) that a relocation leads to, or None where that is not in this file."""
        symbol = self.symbol_of(reloc)
        if symbol is None or not 0 < symbol.shndx < len(self.sections):
            return None
        return self.sections[symbol.shndx], symbol.value + reloc.addend

    @cached_property
    def global_symbols(self) -> dict[str, list[ModuleSymbol]]:
        """Defined global and weak symbols by name."""
        out: dict[str, list[ModuleSymbol]] = {}
        for s in self.symbols:
            if s.bind != STB_LOCAL and s.shndx not in (SHN_UNDEF, SHN_LIVEPATCH):
                out.setdefault(s.name, []).append(s)
        return out

    def object_bytes(self, name: str) -> bytes | None:
        """Bytes of a global data object, or None where it is not defined, or not wholly inside its section."""
        for symbol in self.global_symbols.get(name, ()):
            if symbol.shndx < len(self.sections):
                data = self.sections[symbol.shndx].data
                if symbol.value + symbol.size <= len(data):
                    return data[symbol.value : symbol.value + symbol.size]
        return None


def _prefix(order: str) -> str:
    return "<" if order == "little" else ">"


def _header(data: bytes) -> tuple[Any, ...]:
    return struct.unpack_from(_prefix(_ORDERS[data[5]]) + _EHDR, data)


def machine_of(data: bytes) -> int:
    """e_machine of an ELF file; -1 for another file."""
    known = data[:4] == b"\x7fELF" and len(data) >= EHDR_SIZE and data[5] in _ORDERS
    return int(_header(data)[2]) if known else -1


def read_module(data: bytes, name: str, machine: int) -> ModuleFile:
    """Read a module for the architecture with this e_machine.

    Input: the whole file; `name` is for messages. Raises UserError (exit 2) for what is no intact relocatable ELF64
    file of that architecture, or no kernel module.
    """
    whole, data = data, without_signature(data)
    headers = _check_extents(data, name, machine)
    import lief

    lief.logging.disable()
    config = lief.ELF.ParserConfig()
    config.parse_relocations = config.parse_notes = config.parse_dyn_symbols = config.parse_symbol_versions = False
    binary = lief.ELF.parse(io.BytesIO(data), config)
    if not isinstance(binary, lief.ELF.Binary):
        raise _damaged(name, "LIEF can't read it")
    if [(s.offset, s.size) for s in binary.sections] != [(h[4], h[5]) for h in headers]:
        raise _damaged(name, "LIEF reads other sections than its headers say")
    sections = tuple(_section(i, headers[i], s) for i, s in enumerate(binary.sections))
    table = next(s for s in sections if s.type == SHT_SYMTAB)
    infos, others = table.data[4::SYM_SIZE], table.data[5::SYM_SIZE]
    if len(binary.symtab_symbols) != len(infos):
        raise _damaged(name, f"LIEF reads {len(binary.symtab_symbols)} of {len(infos)} symbols")
    symbols = tuple(_symbol(i, infos[i], others[i], s) for i, s in enumerate(binary.symtab_symbols))
    found = ModuleFile(
        machine,
        sections,
        symbols,
        {s.index: _rows(s, _ORDERS[data[5]]) for s in sections if s.type == SHT_RELA},
        _header(data),
        _find_stray(data, headers),
        len(whole) != len(data),
    )
    if found.section(".modinfo") is None and found.section(".gnu.linkonce.this_module") is None:
        raise UserError("is an object file, not a kernel module", place=name, remedy=REMEDY)
    return found


def without_signature(data: bytes) -> bytes:
    """A module without the signature that scripts/sign-file appends (struct module_signature of the kernel's
    include/linux/module_signature.h, and a marker); the same bytes where there is none, or one that is not whole."""
    if not data.endswith(SIGNED):
        return data
    at = len(data) - len(SIGNED) - SIGNATURE.size
    if at < 0:
        return data
    algorithm, digest, kind, signer, key, size = SIGNATURE.unpack_from(data, at)
    start = at - size
    # what the kernel takes: PKCS#7 alone, which says all else itself (mod_check_sig of kernel/module_signature.c)
    whole = (algorithm, digest, kind, signer, key) == (0, 0, PKCS7, 0, 0) and start >= EHDR_SIZE
    return data[:start] if whole else data


def _find_stray(data: bytes, headers: list[tuple[int, ...]]) -> int:
    """The first byte that belongs to nothing and may not be there: between parts only zeros may lie, behind the last
    one not even those beyond an alignment of 8."""
    shoff, count = _header(data)[6], len(headers)
    parts = [(0, EHDR_SIZE), (shoff, count * SHDR_SIZE)]
    parts += [(h[4], h[5]) for h in headers if h[1] not in (SHT_NULL, SHT_NOBITS) and h[5]]
    end = 0
    for offset, size in sorted(parts):
        if offset > end and any(gap := data[end:offset]):
            return end + next(i for i, byte in enumerate(gap) if byte)
        end = max(end, offset + size)
    rest = data[end:]
    if any(rest) or len(rest) >= 8:
        return end
    return -1


def _damaged(name: str, fact: str) -> UserError:
    return UserError(f"is damaged: {fact}", place=name, remedy=REMEDY)


def _check_extents(data: bytes, name: str, machine: int) -> list[tuple[int, ...]]:
    """The section headers, after everything a reader would follow lies inside the file. Raises UserError."""
    if len(data) < EHDR_SIZE or data[:4] != b"\x7fELF":
        raise UserError("is no ELF file", place=name, remedy=REMEDY)
    order = _ORDERS.get(data[5])
    if data[4] != 2 or order is None:
        raise UserError("is no ELF file of 64 bits", place=name, remedy=REMEDY)
    fields = _header(data)
    e_type, e_machine, phoff, shoff = fields[1], fields[2], fields[5], fields[6]
    phnum, entry, count, names = fields[10:14]
    if e_machine != machine:
        raise UserError(f"is for another architecture (e_machine {e_machine})", place=name, remedy=REMEDY)
    if e_type != ET_REL or phnum or phoff:
        raise UserError("is no relocatable ELF file", place=name, remedy=REMEDY)
    if count == 0 or entry != SHDR_SIZE or shoff + count * SHDR_SIZE > len(data):
        raise _damaged(name, f"{count} section headers at {shoff:#x} do not fit its {len(data)} bytes")
    headers = [struct.unpack_from(_prefix(order) + _SHDR, data, shoff + i * SHDR_SIZE) for i in range(count)]
    for i, h in enumerate(headers):
        if h[1] not in (SHT_NULL, SHT_NOBITS) and h[4] + h[5] > len(data):
            raise _damaged(name, f"section {i} ({h[4]:#x}, {h[5]:#x} bytes) ends after its {len(data)} bytes")
    if names >= count or headers[names][1] != SHT_STRTAB or any(h[0] >= headers[names][5] for h in headers):
        raise _damaged(name, "its section names are not all in their table")
    tables = [h for h in headers if h[1] == SHT_SYMTAB]
    if len(tables) != 1:
        raise _damaged(name, f"it has {len(tables)} symbol tables")
    offset, size, link = tables[0][4:7]
    if size % SYM_SIZE or tables[0][9] != SYM_SIZE or link >= count or headers[link][1] != SHT_STRTAB:
        raise _damaged(name, "its symbol table has no whole number of symbols, or no names")
    text, length = headers[link][4], headers[link][5]
    if not length or data[text + length - 1] != 0:
        raise _damaged(name, "its symbol names do not end with NUL")
    for at in range(offset, offset + size, SYM_SIZE):
        if int.from_bytes(data[at : at + 4], order) >= length:
            raise _damaged(name, f"the name of symbol {(at - offset) // SYM_SIZE} is not in its table")
    return headers


def _section(index: int, header: tuple[int, ...], section: Any) -> ModuleSection:
    kind = header[1]
    held = kind not in (SHT_NULL, SHT_NOBITS)
    return ModuleSection(
        index,
        _text(section.name),
        kind,
        int(section.flags),
        section.size,
        section.link,
        section.information,
        bytes(section.content) if held else b"",
        header[8],
        header[3],
        header[9],
    )


def _symbol(index: int, info: int, other: int, symbol: Any) -> ModuleSymbol:
    return ModuleSymbol(
        index,
        _text(symbol.name),
        symbol.value,
        symbol.size,
        info >> 4,
        info & 15,
        int(symbol.shndx),
        other,
    )


def _text(name: str | bytes) -> str:
    """LIEF gives bytes where a name is no UTF-8."""
    return name if isinstance(name, str) else name.decode("utf-8", "replace")


def _rows(section: ModuleSection, order: Literal["little", "big"]) -> tuple[Reloc, ...]:
    """The relocations of a RELA section; a last one that is cut off is left out, as by the kernel."""
    data = section.data[: len(section.data) // RELA_SIZE * RELA_SIZE]
    return tuple(
        Reloc(offset, info & 0xFFFFFFFF, info >> 32, addend, section.index)
        for offset, info, addend in struct.iter_unpack(_prefix(order) + _RELA, data)
    )
