# SPDX-License-Identifier: GPL-2.0-or-later
"""ELF constants, names as in the gABI and, for livepatch, the kernel's include/uapi/linux/elf.h."""

from __future__ import annotations

from enum import IntEnum, IntFlag


class ET(IntEnum):
    REL = 1
    EXEC = 2
    DYN = 3


class SHT(IntEnum):
    NULL = 0
    PROGBITS = 1
    SYMTAB = 2
    STRTAB = 3
    RELA = 4
    NOTE = 7
    NOBITS = 8
    REL = 9
    INIT_ARRAY = 14
    FINI_ARRAY = 15
    GROUP = 17
    SYMTAB_SHNDX = 18


class SHF(IntFlag):
    WRITE = 0x1
    ALLOC = 0x2
    EXECINSTR = 0x4
    MERGE = 0x10
    STRINGS = 0x20
    INFO_LINK = 0x40
    LINK_ORDER = 0x80
    GROUP = 0x200
    COMPRESSED = 0x800
    RELA_LIVEPATCH = 0x0010_0000


class SHN(IntEnum):
    UNDEF = 0
    LORESERVE = 0xFF00
    LIVEPATCH = 0xFF20
    ABS = 0xFFF1
    COMMON = 0xFFF2
    XINDEX = 0xFFFF


class STB(IntEnum):
    LOCAL = 0
    GLOBAL = 1
    WEAK = 2


class STT(IntEnum):
    NOTYPE = 0
    OBJECT = 1
    FUNC = 2
    SECTION = 3
    FILE = 4
    COMMON = 5
    TLS = 6
