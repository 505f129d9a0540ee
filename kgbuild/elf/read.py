# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading ELF: `read(buffer)` checks every count, offset and link before anything uses it.

A fault raises FormatError with the offset and the fact; nothing large is copied.
"""

from __future__ import annotations

from itertools import pairwise

from kgbuild.elf.consts import ET, SHF, SHN, SHT, STT
from kgbuild.elf.object import (
    RELA_SIZE,
    SYMBOL_SIZE,
    Object,
    Section,
    SymbolColumns,
    read_column,
    read_symbol_columns,
)
from kgbuild.elf.records import IDENT_CLASS, LITTLE, Records, records_of
from kgbuild.elf.strings import names_overlap
from kgbuild.errors import UserError

# sizes are the same in both byte orders
EHDR, SHDR, CHDR = LITTLE.header, LITTLE.section, LITTLE.compressed
# More than any section of kernel code asks for; what a broken header asks for is not allocated.
MAX_ALIGN = 1 << 24
MAX_NOBITS = 1 << 28
# Many times what the largest unit has; more would not be compared in reasonable memory.
MAX_LOADED = 1 << 27  # bytes of one section with contents that is loaded
MAX_SYMBOLS, MAX_RELOCS = 1 << 19, 1 << 21  # of a relocatable object, all its tables together
# Many times what a whole kernel has.
MAX_LINKED_SYMBOLS = 1 << 22
MAX_NAMES = 1 << 28  # bytes of a string table
_SOME = 24 << 16  # bytes of a table that are checked at a time
_LIVEPATCH, _COMPRESSED, _ALLOC = int(SHF.RELA_LIVEPATCH), int(SHF.COMPRESSED), int(SHF.ALLOC)


class FormatError(UserError):
    """The buffer is no ELF64 file we can trust; `offset` says where (exit 2)."""

    def __init__(self, offset: int, fact: str) -> None:
        super().__init__(f"offset {offset:#x}: {fact}", remedy="give an intact 64-bit ELF file")
        self.offset = offset


def read(data: bytes | memoryview, machines: tuple[int, ...] = ()) -> Object:
    """Parse an ELF64 buffer, of either byte order.

    Input: the whole file; `machines`, where given, are the e_machine values accepted. Returns an Object whose
    tables are views of the buffer. Raises FormatError. Source of the rules: gABI chapter 4.
    """
    view, records, e_type, machine, sections, shoff = read_headers(data, machines)
    if e_type == ET.REL:
        _check_layout(sections, shoff)
    return _with_symbols(view, records, e_type, machine, tuple(sections), shoff)


def read_headers(
    data: bytes | memoryview, machines: tuple[int, ...] = ()
) -> tuple[memoryview, Records, int, int, list[Section], int]:
    """The file as bytes, how its records look, its e_type and e_machine, its sections, and the offset of their
    headers. Raises FormatError."""
    view = memoryview(data)
    if view.ndim != 1 or view.itemsize != 1:
        view = view.cast("B")
    if len(view) < EHDR.size:
        raise FormatError(0, f"{len(view)} bytes are too few for an ELF header")
    if bytes(view[:4]) != b"\x7fELF":
        raise FormatError(0, "not an ELF file")
    records = records_of(bytes(view[:16]))
    if isinstance(records, str):
        raise FormatError(IDENT_CLASS, records)
    _, e_type, machine, _, _, _, shoff, _, _, _, _, shentsize, shnum, shstrndx = records.header.unpack_from(view)
    if machines and machine not in machines:
        raise FormatError(18, f"machine {machine} is not the expected one")
    if shoff == 0:
        raise FormatError(40, "no section headers")
    if shentsize != SHDR.size:
        raise FormatError(58, f"section headers of {shentsize} bytes instead of {SHDR.size}")
    if shoff + SHDR.size > len(view):
        raise FormatError(40, "section header table lies outside the file")
    first = records.section.unpack_from(view, shoff)
    if shnum == 0:
        shnum = first[5]
    if shstrndx == SHN.XINDEX:
        shstrndx = first[6]
    if shnum >= SHN.LORESERVE:
        raise FormatError(60, f"{shnum} sections: files with 64k sections or more are refused")
    if shoff + shnum * SHDR.size > len(view):
        raise FormatError(60, f"{shnum} section headers at {shoff:#x} lie outside the file")
    headers = [records.section.unpack_from(view, shoff + i * SHDR.size) for i in range(shnum)]
    for i, header in enumerate(headers):
        if header[1] not in (SHT.NULL, SHT.NOBITS) and header[4] + header[5] > len(view):
            raise FormatError(
                shoff + i * SHDR.size, f"section {i} ({header[4]:#x}, {header[5]:#x} bytes) lies outside the file"
            )
        if e_type == ET.REL and header[1] != SHT.NULL and (header[8] & (header[8] - 1) or header[8] > MAX_ALIGN):
            raise FormatError(shoff + i * SHDR.size, f"section {i} is to be aligned to {header[8]:#x}")
        loaded = header[1] not in (SHT.NULL, SHT.NOBITS) and header[2] & _ALLOC
        if e_type == ET.REL and header[5] > (
            MAX_NOBITS if header[1] == SHT.NOBITS else MAX_LOADED if loaded else header[5]
        ):
            raise FormatError(shoff + i * SHDR.size, f"section {i} is said to have {header[5]:#x} bytes")
    if shstrndx >= shnum or headers[shstrndx][1] != SHT.STRTAB:
        raise FormatError(62, f"section name table {shstrndx} is no string table")
    if headers[shstrndx][5] > MAX_NAMES:
        raise FormatError(shoff + shstrndx * SHDR.size, f"a section name table of {headers[shstrndx][5]:#x} bytes")
    names = bytes(view[headers[shstrndx][4] : headers[shstrndx][4] + headers[shstrndx][5]])
    if names_overlap(names, (h[0] for h in headers)):
        raise FormatError(shoff + shstrndx * SHDR.size, "the names of sections lie inside each other")
    sections = []
    for i, header in enumerate(headers):
        end = names.find(b"\0", header[0])
        if header[0] > len(names) or (end < 0 and names):
            raise FormatError(shoff + i * SHDR.size, f"name of section {i} lies outside the name table")
        sections.append(Section(i, names[header[0] : end].decode("utf-8", "replace"), *header[1:]))
    return view, records, e_type, machine, sections, shoff


def _check_layout(sections: list[Section], shoff: int) -> None:
    """Sections of a relocatable object have bytes of their own, and their links end somewhere."""
    headers = SHDR.size * len(sections)
    spans = [(0, EHDR.size, "the ELF header", 0), (shoff, shoff + headers, "the section headers", 40)]
    for section in sections:
        if section.size and section.type not in (SHT.NULL, SHT.NOBITS):
            spans.append(
                (
                    section.offset,
                    section.offset + section.size,
                    f"section {section.index}",
                    shoff + section.index * SHDR.size,
                )
            )
    spans.sort()
    for before, after in pairwise(spans):
        if after[0] < before[1]:
            where = max(before[3], after[3])
            raise FormatError(where, f"{before[2]} and {after[2]} overlap at {after[0]:#x}")
    ends: set[int] = {0}
    for section in sections:
        path: dict[int, None] = {}
        at = section.index
        while at not in ends:
            where = shoff + at * SHDR.size
            link = sections[at].link
            if link >= len(sections):
                raise FormatError(where, f"section {at} links to section {link}, which does not exist")
            path[at] = None
            if link in path:
                raise FormatError(where, f"section {at} links to section {link}, which leads back to it")
            at = link
        ends.update(path)


def _with_symbols(
    view: memoryview, records: Records, e_type: int, machine: int, sections: tuple[Section, ...], shoff: int
) -> Object:
    tables = [section for section in sections if section.type == SHT.SYMTAB]
    if len(tables) > 1:
        raise FormatError(shoff + tables[1].index * SHDR.size, "more than one symbol table")
    symbols = read_symbol_columns(memoryview(b""), records.order)
    strtab = memoryview(b"\0")
    if tables:
        symtab = tables[0]
        where = shoff + symtab.index * SHDR.size
        if symtab.size % SYMBOL_SIZE:
            raise FormatError(where, f"symbol table of {symtab.size} bytes is no multiple of {SYMBOL_SIZE}")
        if symtab.link >= len(sections) or sections[symtab.link].type != SHT.STRTAB:
            raise FormatError(where, f"symbol table links to section {symtab.link}, no string table")
        if symtab.size // SYMBOL_SIZE > (MAX_SYMBOLS if e_type == ET.REL else MAX_LINKED_SYMBOLS):
            raise FormatError(where, f"{symtab.size // SYMBOL_SIZE} symbols are more than can be")
        symbols = read_symbol_columns(view[symtab.offset : symtab.offset + symtab.size], records.order)
        strings = sections[symtab.link]
        if strings.size > MAX_NAMES:
            raise FormatError(shoff + strings.index * SHDR.size, f"a symbol string table of {strings.size:#x} bytes")
        strtab = view[strings.offset : strings.offset + strings.size]
        if len(strtab) == 0 or strtab[-1] != 0:
            raise FormatError(strings.offset, "symbol string table does not end with NUL")
        _check_symbols(symbols, sections, symtab.offset, e_type, len(strtab))
        if names_overlap(bytes(strtab), symbols.name):
            raise FormatError(strings.offset, "the names of symbols lie inside each other")
    count = len(symbols.name)
    relocated = set()
    if e_type == ET.REL:
        total = sum(section.size // RELA_SIZE for section in sections if section.type == SHT.RELA)
        if total > MAX_RELOCS:
            raise FormatError(40, f"{total} relocations are more than can be")
    for section in sections:
        where = shoff + section.index * SHDR.size
        if section.type == SHT.GROUP and e_type == ET.REL:
            _check_group(view, records, section, len(sections), count, where)
        if section.type == SHT.REL:
            raise FormatError(where, f"{section.name}: relocations without addends (REL)")
        if section.type != SHT.RELA or e_type != ET.REL:
            continue  # nothing reads the relocations a linked file kept, and vmlinux has millions of them
        if tables and section.link == tables[0].index:
            _check_rela(view, records, section, sections, count, shoff)
        else:
            raise FormatError(where, f"{section.name} links to section {section.link}, not to the symbol table")
        if not section.flags & _LIVEPATCH:
            if section.info in relocated:
                raise FormatError(where, f"section {section.info} has relocations twice")
            relocated.add(section.info)
    return Object(view, e_type, machine, sections, symbols, strtab, tables[0].index if tables else 0, records)


def _check_symbols(
    symbols: SymbolColumns, sections: tuple[Section, ...], offset: int, e_type: int, strings: int
) -> None:
    def fault(number: int, fact: str) -> FormatError:
        return FormatError(offset + number * SYMBOL_SIZE, fact)

    if max(symbols.name, default=0) >= strings:
        bad = symbols.name.index(max(symbols.name))
        raise fault(bad, f"name of symbol {bad} lies outside its table")
    for index in set(symbols.shndx):
        # files with so many sections that an index does not fit are refused above
        if len(sections) <= index < SHN.LORESERVE or index == SHN.XINDEX:
            bad = symbols.shndx.index(index)
            raise fault(bad, f"section of symbol {bad} does not exist")
    special = [i for i, shndx in enumerate(symbols.shndx) if shndx >= SHN.LORESERVE]
    for bad in special:
        if symbols.info[bad] & 15 == STT.SECTION:
            raise fault(bad, f"section of symbol {bad} does not exist")
    if e_type == ET.REL:
        # of an undefined symbol the value says nothing, of a special one it is no place
        ends = [1 << 64, *(s.size for s in sections[1:])]
        special_places = frozenset(special)
        for i, (shndx, value) in enumerate(zip(symbols.shndx, symbols.value, strict=True)):
            if i not in special_places and value > ends[shndx]:
                raise fault(i, f"symbol {i} lies outside its section")


def _check_group(view: memoryview, records: Records, section: Section, count: int, nsyms: int, where: int) -> None:
    if section.size < 4 or section.size % 4:
        raise FormatError(where, f"section group {section.index} has {section.size} bytes")
    if section.info >= nsyms:
        raise FormatError(where, f"section group {section.index}: symbol {section.info} does not exist")
    members = read_column(view[section.offset : section.offset + section.size], "I", 1, 1, records.order)
    for number, member in enumerate(members, 1):
        if not 0 < member < count:
            raise FormatError(
                section.offset + 4 * number, f"section group {section.index}: section {member} does not exist"
            )


def _check_rela(
    view: memoryview, records: Records, section: Section, sections: tuple[Section, ...], nsyms: int, shoff: int
) -> None:
    where = shoff + section.index * SHDR.size
    if section.size % RELA_SIZE:
        raise FormatError(where, f"{section.name} of {section.size} bytes is no multiple of {RELA_SIZE}")
    if section.info >= len(sections):
        raise FormatError(where, f"{section.name} applies to section {section.info}, which does not exist")
    if not section.size:
        return
    if section.info and sections[section.info].type == SHT.NOBITS:
        raise FormatError(where, f"{section.name} applies to section {section.info}, which has no contents")
    applied = section.info and sections[section.info].addr == 0
    extent = max(_extent(view, records, sections[section.info]), 1) if applied else 1 << 64
    for start in range(section.offset, section.offset + section.size, _SOME):
        table = view[start : min(start + _SOME, section.offset + section.size)]
        symbols = read_column(table, "I", 2 if records.symbol_first else 3, 6, records.order)
        offsets = read_column(table, "Q", 0, 3, records.order)
        if max(symbols) >= nsyms:
            bad = symbols.index(max(symbols))
            raise FormatError(start + bad * RELA_SIZE, f"{section.name}: symbol {symbols[bad]} does not exist")
        if max(offsets) >= extent:
            bad = offsets.index(max(offsets))
            raise FormatError(start + bad * RELA_SIZE, f"{section.name}: relocation past the end of its section")


def _extent(view: memoryview, records: Records, s: Section) -> int:
    """Bytes of a section as relocations count them: of a compressed one, what it is decompressed to."""
    if not s.flags & _COMPRESSED or s.size < CHDR.size:
        return s.size
    return int(records.compressed.unpack_from(view, s.offset)[2])
