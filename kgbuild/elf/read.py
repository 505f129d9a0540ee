# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading ELF: `read(buffer)` checks every count, offset and link before anything uses it.

A fault raises FormatError with the offset and the fact; nothing large is copied.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from kgbuild.elf.consts import ET, SHF, SHN, SHT, STT
from kgbuild.elf.object import RELA_DTYPE, SYMBOL_DTYPE, Object, Table
from kgbuild.elf.sections import CHDR, EHDR, SHDR, FormatError, Section, read_sections

_LIVEPATCH, _COMPRESSED = int(SHF.RELA_LIVEPATCH), int(SHF.COMPRESSED)


def read(data: bytes | memoryview, machines: tuple[int, ...] = ()) -> Object:
    """Parse an ELF64 little-endian buffer.

    Input: the whole file; `machines`, where given, are the e_machine values accepted. Returns an Object whose
    tables are views of the buffer. Raises FormatError. Source of the rules: gABI chapter 4.
    """
    found, shoff = read_sections(data, machines)
    if found.type == ET.REL:
        _check_layout(list(found.sections), shoff)
    return _with_symbols(found.data, found.type, found.machine, found.sections, shoff)


def _check_layout(sections: list[Section], shoff: int) -> None:
    """Sections of a relocatable object have bytes of their own, and their links end somewhere."""
    headers = SHDR.size * len(sections)
    spans = [(0, EHDR.size, "the ELF header", 0), (shoff, shoff + headers, "the section headers", 40)]
    for s in sections:
        if s.size and s.type not in (SHT.NULL, SHT.NOBITS):
            spans.append((s.offset, s.offset + s.size, f"section {s.index}", shoff + s.index * SHDR.size))
    spans.sort()
    for before, after in pairwise(spans):
        if after[0] < before[1]:
            where = max(before[3], after[3])
            raise FormatError(where, f"{before[2]} and {after[2]} overlap at {after[0]:#x}")
    ends: set[int] = {0}
    for s in sections:
        path: list[int] = []
        at = s.index
        while at not in ends:
            where = shoff + at * SHDR.size
            link = sections[at].link
            if link >= len(sections):
                raise FormatError(where, f"section {at} links to section {link}, which does not exist")
            path.append(at)
            if link in path:
                raise FormatError(where, f"section {at} links to section {link}, which leads back to it")
            at = link
        ends.update(path)


def _with_symbols(view: memoryview, e_type: int, machine: int, sections: tuple[Section, ...], shoff: int) -> Object:
    tables = [s for s in sections if s.type == SHT.SYMTAB]
    if len(tables) > 1:
        raise FormatError(shoff + tables[1].index * SHDR.size, "more than one symbol table")
    symbols = np.zeros(0, SYMBOL_DTYPE)
    strtab = memoryview(b"\0")
    if tables:
        symtab = tables[0]
        where = shoff + symtab.index * SHDR.size
        if symtab.size % SYMBOL_DTYPE.itemsize:
            raise FormatError(where, f"symbol table of {symtab.size} bytes is no multiple of {SYMBOL_DTYPE.itemsize}")
        if symtab.link >= len(sections) or sections[symtab.link].type != SHT.STRTAB:
            raise FormatError(where, f"symbol table links to section {symtab.link}, no string table")
        symbols = np.frombuffer(view[symtab.offset : symtab.offset + symtab.size], SYMBOL_DTYPE)
        strings = sections[symtab.link]
        strtab = view[strings.offset : strings.offset + strings.size]
        if len(strtab) == 0 or strtab[-1] != 0:
            raise FormatError(strings.offset, "symbol string table does not end with NUL")
        if len(symbols) and int(symbols["name"].max()) >= len(strtab):
            bad = int(np.argmax(symbols["name"]))
            raise FormatError(
                symtab.offset + bad * SYMBOL_DTYPE.itemsize, f"name of symbol {bad} lies outside its table"
            )
        ordinary = symbols["shndx"] < SHN.LORESERVE
        if len(symbols) and int(np.where(ordinary, symbols["shndx"], 0).max()) >= len(sections):
            bad = int(np.argmax(np.where(ordinary, symbols["shndx"], 0)))
            raise FormatError(symtab.offset + bad * SYMBOL_DTYPE.itemsize, f"section of symbol {bad} does not exist")
        _check_symbols(symbols, sections, symtab.offset, e_type)
    relocated = set()
    for s in sections:
        where = shoff + s.index * SHDR.size
        if s.type == SHT.GROUP and e_type == ET.REL:
            _check_group(view, s, len(sections), len(symbols), where)
        if s.type == SHT.REL:
            raise FormatError(where, f"{s.name}: relocations without addends (REL)")
        if s.type != SHT.RELA or e_type != ET.REL:
            continue  # nothing reads the relocations a linked file kept, and vmlinux has millions of them
        if tables and s.link == tables[0].index:
            _check_rela(view, s, sections, len(symbols), shoff)
        else:
            raise FormatError(where, f"{s.name} links to section {s.link}, not to the symbol table")
        if not s.flags & _LIVEPATCH:
            if s.info in relocated:
                raise FormatError(where, f"section {s.info} has relocations twice")
            relocated.add(s.info)
    return Object(view, e_type, machine, sections, symbols, strtab, tables[0].index if tables else 0)


def _check_symbols(symbols: Table, sections: tuple[Section, ...], offset: int, e_type: int) -> None:
    special = symbols["shndx"] >= SHN.LORESERVE
    kind = symbols["info"] & 15
    # files with so many sections that an index does not fit are refused above
    wrong = (symbols["shndx"] == SHN.XINDEX) | (special & (kind == STT.SECTION))
    if wrong.any():
        bad = int(np.argmax(wrong))
        raise FormatError(offset + bad * SYMBOL_DTYPE.itemsize, f"section of symbol {bad} does not exist")
    if e_type == ET.REL:
        sizes = np.array([s.size for s in sections], "<u8")
        end = sizes[np.where(special, 0, symbols["shndx"])]
        outside = (symbols["shndx"] != SHN.UNDEF) & ~special & (symbols["value"] > end)
        if outside.any():
            bad = int(np.argmax(outside))
            raise FormatError(offset + bad * SYMBOL_DTYPE.itemsize, f"symbol {bad} lies outside its section")


def _check_group(view: memoryview, s: Section, count: int, nsyms: int, where: int) -> None:
    if s.size < 4 or s.size % 4:
        raise FormatError(where, f"section group {s.index} has {s.size} bytes")
    if s.info >= nsyms:
        raise FormatError(where, f"section group {s.index}: symbol {s.info} does not exist")
    members = np.frombuffer(view[s.offset : s.offset + s.size], "<u4")[1:]
    outside = (members == 0) | (members >= count)
    if outside.any():
        bad = int(np.argmax(outside))
        raise FormatError(s.offset + 4 + 4 * bad, f"section group {s.index}: section {members[bad]} does not exist")


def _check_rela(view: memoryview, s: Section, sections: tuple[Section, ...], nsyms: int, shoff: int) -> None:
    where = shoff + s.index * SHDR.size
    if s.size % RELA_DTYPE.itemsize:
        raise FormatError(where, f"{s.name} of {s.size} bytes is no multiple of {RELA_DTYPE.itemsize}")
    if s.info >= len(sections):
        raise FormatError(where, f"{s.name} applies to section {s.info}, which does not exist")
    rows = np.frombuffer(view[s.offset : s.offset + s.size], RELA_DTYPE)
    if not len(rows):
        return
    if int(rows["sym"].max()) >= nsyms:
        bad = int(np.argmax(rows["sym"]))
        raise FormatError(s.offset + bad * RELA_DTYPE.itemsize, f"{s.name}: symbol {rows['sym'][bad]} does not exist")
    if s.info and sections[s.info].type == SHT.NOBITS:
        raise FormatError(where, f"{s.name} applies to section {s.info}, which has no contents")
    if sections[s.info].addr == 0 and s.info and int(rows["offset"].max()) >= max(_extent(view, sections[s.info]), 1):
        bad = int(np.argmax(rows["offset"]))
        raise FormatError(s.offset + bad * RELA_DTYPE.itemsize, f"{s.name}: relocation past the end of its section")


def _extent(view: memoryview, s: Section) -> int:
    """Bytes of a section as relocations count them: of a compressed one, what it is decompressed to."""
    if not s.flags & _COMPRESSED or s.size < CHDR.size:
        return s.size
    return int(CHDR.unpack_from(view, s.offset)[2])
