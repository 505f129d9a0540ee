# SPDX-License-Identifier: GPL-2.0-or-later
"""The records of an ELF file, in the byte order and for the word size that the file itself says (e_ident, gABI).

ELF64 in both byte orders. ELF32 has other records, and code of 32 bits has no rule anywhere; `records_of` refuses it.
"""

from __future__ import annotations

import struct
import sys
from array import array
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

ByteOrder = Literal["little", "big"]
# as struct and numpy write them
PREFIX: dict[ByteOrder, str] = {"little": "<", "big": ">"}
_DATA: dict[int, ByteOrder] = {1: "little", 2: "big"}  # ELFDATA2LSB, ELFDATA2MSB
_WORDS = {1: 4, 2: 8}  # ELFCLASS32, ELFCLASS64

IDENT_CLASS, IDENT_DATA = 4, 5


@dataclass(frozen=True)
class Records:
    """The records of ELF64 files of one byte order, as struct's; `word` is the bytes of an address."""

    order: ByteOrder
    word: int = 8

    def _make(self, form: str) -> struct.Struct:
        return struct.Struct(PREFIX[self.order] + form)

    @cached_property
    def header(self) -> struct.Struct:
        """Elf64_Ehdr."""
        return self._make("16sHHIQQQIHHHHHH")

    @cached_property
    def section(self) -> struct.Struct:
        """Elf64_Shdr."""
        return self._make("IIQQQQIIQQ")

    @cached_property
    def compressed(self) -> struct.Struct:
        """Elf64_Chdr: type, reserved, size and alignment when decompressed."""
        return self._make("IIQQ")

    @cached_property
    def segment(self) -> struct.Struct:
        """Elf64_Phdr."""
        return self._make("IIQQQQQQ")

    @cached_property
    def symbol(self) -> struct.Struct:
        """Elf64_Sym."""
        return self._make("IBBHQQ")

    @cached_property
    def rela(self) -> struct.Struct:
        """Elf64_Rela, r_info as two halves: see `symbol_first`."""
        return self._make("QIIq")

    @cached_property
    def symbol_first(self) -> bool:
        """Whether the symbol, the upper half of r_info, comes before the type in the file."""
        return self.order == "big"

    @cached_property
    def note(self) -> struct.Struct:
        """Elf64_Nhdr: size of the name, size of the contents, type."""
        return self._make("III")

    @property
    def ident(self) -> bytes:
        """e_ident of a file with such records."""
        data = next(number for number, order in _DATA.items() if order == self.order)
        return b"\x7fELF" + bytes((2, data, 1)) + bytes(9)

    @cached_property
    def symbol_fields(self) -> list[tuple[str, str]]:
        """Elf64_Sym as fields of a numpy dtype."""
        return self._fields("name:u4 info:u1 other:u1 shndx:u2 value:u8 size:u8")

    @cached_property
    def rela_fields(self) -> list[tuple[str, str]]:
        """Elf64_Rela as fields of a numpy dtype."""
        info = "sym:u4 type:u4" if self.symbol_first else "type:u4 sym:u4"
        return self._fields(f"offset:u8 {info} addend:i8")

    def _fields(self, fields: str) -> list[tuple[str, str]]:
        pairs = (f.split(":") for f in fields.split())
        return [(name, PREFIX[self.order] + form) for name, form in pairs]


def order_of_magic(magic: int, data: bytes | memoryview) -> ByteOrder | None:
    """The byte order of data that begins with this 16-bit number; None if it begins with another one."""
    return next((order for order in PREFIX if int.from_bytes(data[:2], order) == magic), None)


def words_of(data: bytes | memoryview, order: ByteOrder) -> memoryview:
    """The 32-bit numbers of data in one byte order; a rest of fewer than four bytes is left out."""
    words = array("I", bytes(data[: len(data) & ~3]))
    if order != sys.byteorder:
        words.byteswap()
    return memoryview(words)


LITTLE, BIG = Records("little"), Records("big")


def records_of(ident: bytes) -> Records | str:
    """The records of a file that begins with these 16 bytes, or in words why it can't be read."""
    if _WORDS.get(ident[IDENT_CLASS]) != LITTLE.word:
        return "not a 64-bit ELF file"
    order = _DATA.get(ident[IDENT_DATA])
    if order is None:
        return "neither a little-endian nor a big-endian ELF file"
    return LITTLE if order == "little" else BIG


def records_at(data: bytes) -> Records | None:
    """How the records of an ELF file look that begins with these bytes; None for what is no 64-bit ELF file."""
    known = data[:4] == b"\x7fELF" and len(data) >= LITTLE.header.size
    records = records_of(data[:16]) if known else ""
    return records if isinstance(records, Records) else None
