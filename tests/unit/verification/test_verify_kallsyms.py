# SPDX-License-Identifier: GPL-2.0-or-later
"""What verify finds in the tables of the back end kallsyms."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import pytest

from kgbuild import module_abi as abi
from kgbuild.arch.x86_64.table import ARCH
from kgbuild.elf.consts import SHF, SHN, SHT, STB, STT
from kgbuild.elf.write import OutObject, OutReloc, OutSection, OutSymbol, write
from kgbuild.model import Finding
from kgbuild.proof.record import SymbolKey
from kgbuild.verification.kallsyms import check_kallsyms, read_tables
from kgbuild.verification.modules import no_modules
from kgbuild.verification.reading.reader import read_module

CODE = bytes(range(64))
RANGES = ((4, 8), (20, 4))
CRC = zlib.crc32(CODE[4:12] + CODE[20:24])
A, W, X, R_64 = SHF.ALLOC, SHF.WRITE, SHF.EXECINSTR, 1
STUB_SECTION = ".text.kgbuild_stubs"


class Looking:
    """A module that looks up `helper` and writes its address into a slot and into a stub; in parts to be spoiled."""

    def __init__(self) -> None:
        self.out = OutObject(62)
        self.sections: dict[str, OutSection] = {}
        self.section(".modinfo", A, b"name=x\0")
        names = self.section(".rodata.kgbuild_names", A, b"helper\0")
        self.names = OutSymbol("", names, type=STT.SECTION)
        slot = self.section(".data.slot", A | W, bytes(16))
        self.slot = OutSymbol("", slot, type=STT.SECTION)
        stubs = self.section(STUB_SECTION, A | X, ARCH.stub)
        self.stub = OutSymbol("kgbuild_stub_helper", stubs, ARCH.stub_entry, 5, STB.LOCAL, STT.FUNC)
        self.stubs = OutSymbol("", stubs, type=STT.SECTION)
        self.out.symbols += [self.names, self.slot, self.stubs, self.stub]
        self.rows = [[0, 0, 0, 0, len(RANGES), CRC, 0]]
        self.sites: list[list[int]] = [[0, 0, 0, 0, 0], [0, -4, 1, 0, 0]]
        self.places = [(self.slot, 0), (self.stubs, ARCH.stub_field)]
        self.size = len(self.rows) * abi.SYMBOLS.layout.size
        self.end = bytes(abi.SITES.layout.size)

    def section(self, name: str, flags: int, data: bytes) -> OutSection:
        made = OutSection(name, SHT.PROGBITS, flags, bytearray(data), 8)
        self.out.sections.append(made)
        self.sections[name] = made
        return made

    def table(self, name: str, data: bytes) -> OutSection:
        made = self.section(f".rodata.{name}", A, data)
        self.out.symbols.append(OutSymbol(name, made, 0, len(data), STB.GLOBAL, STT.OBJECT))
        return made

    def findings(self) -> list[Finding]:
        symbols = self.table("kgbuild_symbols", b"".join(abi.SYMBOLS.layout.pack(*row) for row in self.rows))
        symbols.relocs += [
            OutReloc(at * abi.SYMBOLS.layout.size + 8, R_64, self.names, 0) for at in range(len(self.rows))
        ]
        self.table(
            "kgbuild_ranges", b"".join(abi.RANGES.layout.pack(*r) for r in RANGES) + bytes(abi.RANGES.layout.size)
        )
        sites = self.table("kgbuild_sites", b"".join(abi.SITES.layout.pack(*s) for s in self.sites) + self.end)
        for at, (symbol, offset) in enumerate(self.places):
            sites.relocs.append(OutReloc(at * abi.SITES.layout.size, R_64, symbol, offset))
        self.table("kgbuild_symbols_size", struct.pack("<I", self.size))
        module = read_module(write(self.out), "x.ko", 62)

        def read(key: SymbolKey, offset: int, size: int) -> bytes | None:
            return CODE[offset : offset + size] if key == ("vmlinux", "helper", 0) else None

        return list(check_kallsyms(module, read_tables(module), ARCH, read, no_modules))


def test_a_good_module_has_no_finding() -> None:
    assert Looking().findings() == []


def set_row(at: int, value: int) -> Callable[[Looking], object]:
    return lambda m: m.rows[0].__setitem__(at, value)


def set_site(at: int, value: int) -> Callable[[Looking], object]:
    return lambda m: m.sites[0].__setitem__(at, value)


def twice(m: Looking) -> None:
    m.rows.append(m.rows[0])
    m.size += abi.SYMBOLS.layout.size


SPOILERS: list[tuple[str, Callable[[Looking], object], str]] = [
    ("V33-kallsyms", set_row(5, CRC ^ 1), "its digest is not that"),
    ("V33-kallsyms", set_row(2, 3), "bytes that the kernel's function does not have"),
    ("V33-kallsyms", set_row(4, 9), "ranges are not all in"),
    ("V33-kallsyms", twice, "is in the table twice"),
    ("V33-kallsyms", lambda m: setattr(m, "size", 4), "not the length of kgbuild_symbols"),
    ("V33-kallsyms", lambda m: setattr(m, "end", b""), "does not end with an empty row"),
    ("V33-kallsyms", set_site(2, 77), "of the unknown kind 77"),
    ("V33-kallsyms", set_site(3, 5), "is for symbol 5 of 1"),
    ("V33-kallsyms", lambda m: m.sections[".data.slot"].data.__setitem__(3, 1), "holds something already"),
    ("V33-kallsyms", lambda m: m.places.__setitem__(0, (m.slot, 12)), "are not in the section"),
    ("V33-kallsyms", lambda m: m.places.__setitem__(0, (m.stubs, ARCH.stub_field)), "written by something else"),
    ("V33-kallsyms", lambda m: m.places.__setitem__(1, (m.slot, 8)), "its jump leads nowhere"),
    ("V33-kallsyms", lambda m: m.sections[STUB_SECTION].data.__setitem__(ARCH.stub_entry, 0x90), "is no stub"),
    ("V33-kallsyms", lambda m: setattr(m.stub, "name", "kgbuild_stub_other"), "jumps to helper"),
    (
        "V33-kallsyms",
        lambda m: m.out.symbols.append(OutSymbol(".klp.sym.vmlinux.x,0", bind=STB.GLOBAL, shndx=SHN.LIVEPATCH)),
        "is a livepatch symbol beside the tables",
    ),
]


@pytest.mark.parametrize(("code", "spoil", "fact"), SPOILERS, ids=[fact for _, _, fact in SPOILERS])
def test_what_is_spoiled_is_found(code: str, spoil: Callable[[Looking], object], fact: str) -> None:
    module = Looking()
    spoil(module)
    found = module.findings()
    assert found
    assert {f.code for f in found} == {code}
    assert any(fact in f.fact for f in found), found
