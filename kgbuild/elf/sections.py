# SPDX-License-Identifier: GPL-2.0-or-later
"""The section headers of an ELF file, checked: all that a question needs which looks into one or two sections.

`read.read` adds symbols and relocations; those are numpy columns, and loading numpy takes longer than such a question.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from kgbuild.elf.consts import ET, SHF, SHN, SHT
from kgbuild.errors import UserError

EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
SHDR = struct.Struct("<IIQQQQIIQQ")
CHDR = struct.Struct("<IIQQ")  # of a compressed section: type, reserved, size and alignment when decompressed
# More than any section of kernel code asks for; what a broken header asks for is not allocated.
MAX_ALIGN = 1 << 24
MAX_NOBITS = 1 << 28
# plain numbers: an IntFlag is made anew by each operation on it
_ALLOC, _EXECINSTR, _WRITE, _STRINGS, _MERGE, _GROUP = (
    int(f) for f in (SHF.ALLOC, SHF.EXECINSTR, SHF.WRITE, SHF.STRINGS, SHF.MERGE, SHF.GROUP)
)


class FormatError(UserError):
    """The buffer is no ELF64 little-endian file we can trust; `offset` says where (exit 2)."""

    def __init__(self, offset: int, fact: str) -> None:
        super().__init__(f"offset {offset:#x}: {fact}", remedy="give an intact ELF64 little-endian file")
        self.offset = offset


@dataclass(frozen=True)
class Section:
    """One section header, its name resolved. `index` is its place in the section header table."""

    index: int
    name: str
    type: int
    flags: int
    addr: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entsize: int

    @property
    def alloc(self) -> bool:
        return bool(self.flags & _ALLOC)

    @property
    def executable(self) -> bool:
        return bool(self.flags & _EXECINSTR)

    @property
    def writable(self) -> bool:
        return bool(self.flags & _WRITE)

    @property
    def merge(self) -> bool:
        """True for a section whose elements the linker may fold."""
        return bool(self.flags & _MERGE)

    @property
    def grouped(self) -> bool:
        """True for a member of a section group."""
        return bool(self.flags & _GROUP)

    @property
    def strings(self) -> bool:
        """True for a section of NUL-terminated strings, whatever its name (a name proves nothing)."""
        return bool(self.flags & _STRINGS)


@dataclass(frozen=True, eq=False)
class Sections:
    """A file's section headers: data (the whole file), type (e_type), machine (e_machine), sections in table order."""

    data: memoryview
    type: int
    machine: int
    sections: tuple[Section, ...]

    def contents(self, index: int) -> memoryview:
        """Bytes of section `index` (empty for NOBITS)."""
        section = self.sections[index]
        if section.type == SHT.NOBITS:
            return memoryview(b"")
        return self.data[section.offset : section.offset + section.size]

    def section_named(self, name: str) -> Section | None:
        """The first section of that name, or None."""
        return next((s for s in self.sections if s.name == name), None)


def read_sections(data: bytes | memoryview, machines: tuple[int, ...] = ()) -> tuple[Sections, int]:
    """The section headers of an ELF64 little-endian buffer, and the offset of their table. Raises FormatError."""
    view = memoryview(data)
    if view.ndim != 1 or view.itemsize != 1:
        view = view.cast("B")
    if len(view) < EHDR.size:
        raise FormatError(0, f"{len(view)} bytes are too few for an ELF header")
    ident, e_type, machine, _, _, _, shoff, _, _, _, _, shentsize, shnum, shstrndx = EHDR.unpack_from(view)
    if ident[:4] != b"\x7fELF":
        raise FormatError(0, "not an ELF file")
    if ident[4] != 2 or ident[5] != 1:
        raise FormatError(4, "not a 64-bit little-endian ELF file")
    if machines and machine not in machines:
        raise FormatError(18, f"machine {machine} is not the expected one")
    if shoff == 0:
        raise FormatError(40, "no section headers")
    if shentsize != SHDR.size:
        raise FormatError(58, f"section headers of {shentsize} bytes instead of {SHDR.size}")
    if shoff + SHDR.size > len(view):
        raise FormatError(40, "section header table lies outside the file")
    first = SHDR.unpack_from(view, shoff)
    if shnum == 0:
        shnum = first[5]
    if shstrndx == SHN.XINDEX:
        shstrndx = first[6]
    if shnum >= SHN.LORESERVE:
        raise FormatError(60, f"{shnum} sections: files with 64k sections or more are refused")
    if shoff + shnum * SHDR.size > len(view):
        raise FormatError(60, f"{shnum} section headers at {shoff:#x} lie outside the file")
    headers = [SHDR.unpack_from(view, shoff + i * SHDR.size) for i in range(shnum)]
    for i, h in enumerate(headers):
        if h[1] not in (SHT.NULL, SHT.NOBITS) and h[4] + h[5] > len(view):
            raise FormatError(shoff + i * SHDR.size, f"section {i} ({h[4]:#x}, {h[5]:#x} bytes) lies outside the file")
        if e_type == ET.REL and h[1] != SHT.NULL and (h[8] & (h[8] - 1) or h[8] > MAX_ALIGN):
            raise FormatError(shoff + i * SHDR.size, f"section {i} is to be aligned to {h[8]:#x}")
        if e_type == ET.REL and h[1] == SHT.NOBITS and h[5] > MAX_NOBITS:
            raise FormatError(shoff + i * SHDR.size, f"section {i} is said to have {h[5]:#x} bytes")
    if shstrndx >= shnum or headers[shstrndx][1] != SHT.STRTAB:
        raise FormatError(62, f"section name table {shstrndx} is no string table")
    names = bytes(view[headers[shstrndx][4] : headers[shstrndx][4] + headers[shstrndx][5]])
    sections = []
    for i, h in enumerate(headers):
        end = names.find(b"\0", h[0])
        if h[0] > len(names) or (end < 0 and names):
            raise FormatError(shoff + i * SHDR.size, f"name of section {i} lies outside the name table")
        sections.append(Section(i, names[h[0] : end].decode("utf-8", "replace"), *h[1:]))
    return Sections(view, e_type, machine, tuple(sections)), shoff
