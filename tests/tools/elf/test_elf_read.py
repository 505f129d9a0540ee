# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading ELF: the same as readelf and pyelftools see it, and a FormatError for whatever is broken."""

from __future__ import annotations

import io
import random
import re
import struct
from collections.abc import Callable

import pytest
from elftools.elf.elffile import ELFFile

from kgbuild.diff.changes import compute_changes
from kgbuild.elf.consts import SHT
from kgbuild.elf.object import Object
from kgbuild.elf.read import EHDR, SHDR, FormatError, read
from kgbuild.errors import UserError
from kgbuild.objects.atoms import Ambiguous
from kgbuild.objects.special_entries import read_entries
from kgbuild.objects.view import View
from tests.support.broken import (
    SMALL,
    of_type,
    rela,
    rela_offset,
    symbol_offset,
    symtab,
    with_bytes,
    with_header,
    with_section,
)
from tests.support.toolchain import compile_text, pair_flags, run, scratch

TEXT = """
#include "kernel.h"
static struct static_key key;
static int state, table[4] = { 1, 2, 3, 4 };
weak int hook(int x) { return x; }
static noinline int helper(int x) { static int count; return count++ + source(x); }
int f(int x)
{
    if (static_branch(&key, false))
        return 3;
    if (x == 4)
        bug_entry(BUGFLAG_WARNING, 5);
    printk("hello %d\\n", table[x & 3]);
    return helper(x) + state;
}
u64 g(u64 *p) { alternative("nop", "lfence", 7); return load_faulting(p, 3) + hook(3); }
int __init start(void) { state = 1; sink(f); return 0; }
"""


def sample(text: str = TEXT) -> bytes:
    return compile_text(text, *pair_flags())


def readelf(option: str, data: bytes) -> str:
    path = scratch() / "readelf.o"
    path.write_bytes(data)
    return run("readelf", option, "-W", path)


def test_sections_as_readelf_sees_them() -> None:
    data = sample()
    obj = read(data)
    line = re.compile(
        r"^\s*\[\s*(\d+)\] (\S*)\s+(\S+)\s+([0-9a-f]{16}) ([0-9a-f]{6}) ([0-9a-f]{6}) ([0-9a-f]{2})\s+([A-Za-z]*)"
        r"\s+(\d+)\s+(\d+)\s+(\d+)$"
    )
    rows = [m.groups() for m in map(line.match, readelf("-S", data).splitlines()) if m]
    assert len(rows) == len(obj.sections) > 30
    letters = {1: "W", 2: "A", 4: "X", 0x10: "M", 0x20: "S", 0x40: "I", 0x80: "L", 0x200: "G"}
    for row, s in zip(rows, obj.sections, strict=True):
        flags = "".join(letter for bit, letter in letters.items() if s.flags & bit)
        assert (int(row[0]), row[1]) == (s.index, s.name)
        assert row[2] == ("NULL" if s.type == 0 else SHT(s.type).name)
        numbers = [int(n, 16) for n in row[3:7]]
        assert numbers == [s.addr, s.offset, s.size, s.entsize]
        assert row[7] == flags
        assert [int(n) for n in row[8:]] == [s.link, s.info, s.align]


def test_symbols_as_readelf_sees_them() -> None:
    data = sample()
    obj = read(data)
    line = re.compile(r"^\s*(\d+): ([0-9a-f]{16})\s+(\d+) (\S+)\s+(\S+)\s+(\S+)\s+(\S+)(?: (\S+))?\s*$")
    rows = [m.groups() for m in map(line.match, readelf("-s", data).splitlines()) if m]
    assert len(rows) == len(obj.symbols) > 20
    kinds = ("NOTYPE", "OBJECT", "FUNC", "SECTION", "FILE")
    for row, s in zip(rows, map(obj.symbol, range(len(rows))), strict=True):
        place = {0: "UND", 0xFFF1: "ABS"}.get(s.shndx, str(s.shndx))
        ours = (s.index, s.value, s.size, kinds[s.type], ("LOCAL", "GLOBAL", "WEAK")[s.bind], place, s.name)
        assert (int(row[0]), int(row[1], 16), int(row[2]), row[3], row[4], row[6], row[7] or "") == ours


def test_relocations_as_readelf_sees_them() -> None:
    data = sample()
    obj = read(data)
    out: dict[str, list[tuple[int, int, int]]] = {}
    for line in readelf("-r", data).splitlines():
        if line.startswith("Relocation section"):
            name = line.split("'")[1]
        match = re.match(r"^([0-9a-f]{16})\s+([0-9a-f]{8})([0-9a-f]{8}) ", line)
        if match:
            out.setdefault(name, []).append(tuple(int(g, 16) for g in match.groups()))
    assert len(out) > 8
    for section in obj.sections:
        rows = obj.relocs(section.index)
        seen = [(int(r["offset"]), int(r["sym"]), int(r["type"])) for r in rows]
        assert seen == out.get(f".rela{section.name}", [])


def test_relocations_and_contents_as_pyelftools_sees_them() -> None:
    data = sample()
    obj, elf = read(data), ELFFile(io.BytesIO(data))
    for index, other in enumerate(elf.iter_sections()):
        if other["sh_type"] == "SHT_RELA":
            addends = [r["r_addend"] for r in other.iter_relocations()]
            assert [int(a) for a in obj.relocs(other["sh_info"])["addend"]] == addends
        elif other["sh_type"] != "SHT_NOBITS":
            assert bytes(obj.contents(index)) == other.data()
        else:
            assert bytes(obj.contents(index)) == b""


def test_identity_of_an_object_is_its_bytes() -> None:
    assert read(sample()).digest == read(memoryview(sample())).digest != read(sample(SMALL)).digest


# -- what is broken --------------------------------------------------------------------------------------------------


def use(obj: Object, good: View) -> None:
    """Everything the core does with what was read. Only a refusal may come of it."""
    for index in range(len(obj.symbols)):
        obj.symbol(index)
    for section in obj.sections:
        obj.contents(section.index)
        obj.relocs(section.index)
    view = View(obj)
    read_entries(view, "unit.c")
    for atom in list(view.atoms):
        try:
            view.refs(atom)
        except Ambiguous:
            continue
        view.masked(atom) if atom.section >= 0 else None
    compute_changes(good, view, "unit.c")
    compute_changes(view, good, "unit.c")


def attempt(data: bytes, good: View) -> bool:
    """True where the bytes were read and used, False where they were refused."""
    try:
        use(read(data), good)
    except UserError:
        return False
    return True


def test_truncated_at_every_byte() -> None:
    data = sample(SMALL)
    for size in range(len(data)):
        with pytest.raises(FormatError):
            read(data[:size])
    read(data)


@pytest.mark.parametrize("seed", range(4))
def test_flipped_bytes(seed: int) -> None:
    data, rng = sample(), random.Random(seed)
    good = View(read(data))
    used = 0
    for _ in range(400):
        broken = bytearray(data)
        for _ in range(rng.choice((1, 1, 2, 5))):
            broken[rng.randrange(len(data))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        used += attempt(bytes(broken), good)
    assert used


def test_every_byte_of_the_tables_broken() -> None:
    """Header, section headers, symbols and relocations of a small object, each byte on its own."""
    data = sample(SMALL)
    obj, good = read(data), View(read(data))
    shoff = EHDR.unpack_from(data)[6]
    places = [*range(EHDR.size), *range(shoff, shoff + SHDR.size * len(obj.sections))]
    for s in obj.sections:
        if s.type in (SHT.SYMTAB, SHT.RELA):
            places += range(s.offset, s.offset + s.size)
    for at in places:
        for value in (0xFF, 0x80, 1):
            broken = bytearray(data)
            broken[at] = value if broken[at] != value else value ^ 1
            try:
                obj = read(bytes(broken))
                view = View(obj)
                read_entries(view, "unit.c")
                if at % 16 == 0:
                    use(obj, good)
            except UserError:
                continue


def nothing(data: bytes) -> bytes:
    return data[:0]


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "no bytes": nothing,
    "zeros": lambda d: bytes(len(d)),
    "text": lambda d: b"#!/bin/sh\n" * 20,
    "class 32": lambda d: d[:4] + b"\1" + d[5:],
    "big endian": lambda d: d[:5] + b"\2" + d[6:],
    "no sections": lambda d: with_header(d, shoff=0),
    "sections far away": lambda d: with_header(d, shoff=1 << 60),
    "sections at the end": lambda d: with_header(d, shoff=len(d) - 10),
    "many sections": lambda d: with_header(d, shnum=0xFEFF),
    "2^32 sections": lambda d: with_header(with_section(d, lambda h: h[1] == 0, size=1 << 32), shnum=0),
    "2^63 sections": lambda d: with_header(with_section(d, lambda h: h[1] == 0, size=1 << 63), shnum=0),
    "small section headers": lambda d: with_header(d, shentsize=40),
    "names in no string table": lambda d: with_header(d, shstrndx=1),
    "names nowhere": lambda d: with_header(d, shstrndx=0xFFFF),
    "section past the end": lambda d: with_section(d, lambda h: h[1] == SHT.PROGBITS and h[5] > 1, offset=len(d) - 1),
    "section of 2^32 bytes": lambda d: with_section(d, of_type(SHT.PROGBITS), size=1 << 32),
    "section of 2^64 - 1 bytes": lambda d: with_section(d, of_type(SHT.PROGBITS), size=(1 << 64) - 1),
    "bss of 2^62 bytes": lambda d: with_section(d, of_type(SHT.NOBITS), size=1 << 62),
    "name past the names": lambda d: with_section(d, of_type(SHT.PROGBITS), name=0xFFFF_FFFF),
    "alignment of 2^63": lambda d: with_section(d, of_type(SHT.PROGBITS), align=1 << 63),
    "alignment of 3": lambda d: with_section(d, of_type(SHT.PROGBITS), align=3),
    "symbols link to themselves": lambda d: with_section(d, of_type(SHT.SYMTAB), link=symtab(d)),
    "symbols link nowhere": lambda d: with_section(d, of_type(SHT.SYMTAB), link=0xFFFF_FFFF),
    "half a symbol": lambda d: with_section(d, of_type(SHT.SYMTAB), size=25),
    "two symbol tables": lambda d: with_section(d, of_type(SHT.PROGBITS), type=SHT.SYMTAB, link=0),
    "half a relocation": lambda d: with_section(d, of_type(SHT.RELA), size=25),
    "relocations of relocations": lambda d: with_section(d, of_type(SHT.RELA), info=0xFFFF_FFFF),
    "relocations against no symbols": lambda d: with_section(d, of_type(SHT.RELA), link=0),
    "relocations that link to themselves": lambda d: with_section(d, of_type(SHT.RELA), link=rela(d), info=rela(d)),
    "relocations without addends": lambda d: with_section(d, of_type(SHT.RELA), type=SHT.REL),
    "relocation past its section": lambda d: with_bytes(d, rela_offset(d), struct.pack("<Q", 1 << 40)),
    "relocation against symbol 2^32 - 1": lambda d: with_bytes(d, rela_offset(d) + 12, b"\xff\xff\xff\xff"),
    "symbol in section 0x3000": lambda d: with_bytes(d, symbol_offset(d) + 6, b"\x00\x30"),
    "symbol in an extended section": lambda d: with_bytes(d, symbol_offset(d) + 6, b"\xff\xff"),
    "symbol past its section": lambda d: with_bytes(d, symbol_offset(d) + 8, struct.pack("<Q", (1 << 64) - 1)),
    "symbol name past the names": lambda d: with_bytes(d, symbol_offset(d), b"\xff\xff\xff\xff"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken(what: str) -> None:
    with pytest.raises(FormatError) as caught:
        read(BROKEN[what](sample(SMALL)))
    assert re.match(r"offset 0x[0-9a-f]+: ", str(caught.value))
    assert caught.value.exit_code == 2


def test_two_relocation_sections_for_one() -> None:
    data = sample(SMALL)
    first, second = [s for s in read(data).sections if s.type == SHT.RELA][:2]
    with pytest.raises(FormatError, match="relocations twice"):
        read(with_section(data, lambda h: h[1] == SHT.RELA and h[4] == second.offset, info=first.info))


def test_another_machine() -> None:
    data = with_header(sample(SMALL), machine=183)
    with pytest.raises(FormatError, match="machine 183"):
        read(data, machines=(62,))
    with pytest.raises(UserError, match="183 is not supported"):
        View(read(data))
    assert read(sample(SMALL), machines=(62,)).machine == 62


def test_object_without_symbols() -> None:
    data = with_section(sample(SMALL), of_type(SHT.SYMTAB), type=SHT.NULL)
    with pytest.raises(FormatError):
        read(data)
    data = sample("")
    assert [s.name for s in read(data).iter_symbols() if s.name] == ["unit.c"]
    assert View(read(data)).functions == []
