# SPDX-License-Identifier: GPL-2.0-or-later
"""Intact objects with one field set to something else."""

from __future__ import annotations

from collections.abc import Callable

from kgbuild.elf.consts import SHT
from kgbuild.elf.read import EHDR, SHDR, read

SMALL = "int f(int x) { return x + 1; } static int y = 4; int *g(void) { return &y; }"


def with_header(data: bytes, **fields: int) -> bytes:
    """`data` with fields of the ELF header set."""
    names = ("ident", "type", "machine", "version", "entry", "phoff", "shoff", "flags", "ehsize", "phentsize", "phnum")
    names += ("shentsize", "shnum", "shstrndx")
    values = dict(zip(names, EHDR.unpack_from(data), strict=True)) | fields
    out = bytearray(data)
    EHDR.pack_into(out, 0, *values.values())
    return bytes(out)


def with_section(data: bytes, choose: Callable[[tuple[int, ...]], bool], **fields: int) -> bytes:
    """`data` with fields set in the first section header that `choose` takes, given its fields."""
    names = ("name", "type", "flags", "addr", "offset", "size", "link", "info", "align", "entsize")
    ehdr = EHDR.unpack_from(data)
    out = bytearray(data)
    for i in range(ehdr[12]):
        values = dict(zip(names, SHDR.unpack_from(data, ehdr[6] + i * SHDR.size), strict=True))
        if choose(tuple(values.values())):
            SHDR.pack_into(out, ehdr[6] + i * SHDR.size, *(values | fields).values())
            return bytes(out)
    raise AssertionError("no such section")


def of_type(kind: SHT) -> Callable[[tuple[int, ...]], bool]:
    return lambda h: h[1] == kind


def with_bytes(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def symtab(data: bytes) -> int:
    return next(s.index for s in read(data).sections if s.type == SHT.SYMTAB)


def rela(data: bytes) -> int:
    return next(s.index for s in read(data).sections if s.type == SHT.RELA)


def rela_offset(data: bytes) -> int:
    return read(data).sections[rela(data)].offset


def symbol_offset(data: bytes) -> int:
    obj = read(data)
    symbol = next(s for s in obj.iter_symbols() if s.name == "f")
    return obj.sections[symtab(data)].offset + 24 * symbol.index
