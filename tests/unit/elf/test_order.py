# SPDX-License-Identifier: GPL-2.0-or-later
"""ELF files of both byte orders: what is in a file does not depend on how its numbers are written."""

from __future__ import annotations

import io
import struct

import pytest
from elftools.elf.elffile import ELFFile

from kgbuild.arch import for_object
from kgbuild.elf.consts import SHF, SHN, SHT, STB, STT
from kgbuild.elf.notes import find_build_id
from kgbuild.elf.read import FormatError, read
from kgbuild.elf.records import BIG, LITTLE, Records
from kgbuild.elf.section_headers import read_sections
from kgbuild.elf.write import OutObject, OutReloc, OutSection, OutSymbol, write
from kgbuild.errors import UserError

S390 = 22
BUILD_ID = bytes(range(20))


def small(records: Records, machine: int = S390) -> bytes:
    """An object with code, data, a group, a note, symbols and relocations."""

    def words(*values: int) -> bytearray:
        return bytearray(b"".join(value.to_bytes(4, records.order) for value in values))

    code = SHF.ALLOC | SHF.EXECINSTR
    text = OutSection(".text.f", flags=code | SHF.GROUP, data=bytearray(range(16)), align=16)
    data = OutSection(".data", flags=SHF.ALLOC | SHF.WRITE, data=bytearray(24), align=8)
    note = OutSection(".note.gnu.build-id", SHT.NOTE, data=words(4, 20, 3) + b"GNU\0" + BUILD_ID, align=4)
    zero = OutSection(".bss", SHT.NOBITS, SHF.ALLOC | SHF.WRITE, size=64, align=32)
    group = OutSection(".group", SHT.GROUP, 0, words(1, 1), align=4, entsize=4)
    f = OutSymbol("f", text, 4, 12, STB.GLOBAL, STT.FUNC)
    v = OutSymbol("v", data, 8, 16, STB.LOCAL, STT.OBJECT, other=2)
    outside = OutSymbol("outside", bind=STB.WEAK)
    number = OutSymbol("number", value=0x1122_3344_5566_7788, bind=STB.GLOBAL, shndx=SHN.ABS)
    text.relocs = [OutReloc(8, 19, outside, 2), OutReloc(2, 20, v, -(1 << 40))]
    data.relocs = [OutReloc(16, 22, f, 0x1_0000_0001)]
    return write(OutObject(machine, [text, data, note, zero, group], [f, v, outside, number], records=records))


@pytest.mark.parametrize("name", ["symbols", "relocs", "rows", "groups", "build-id", "sections"])
def test_both_orders_hold_the_same(name: str) -> None:
    little, big = (read(small(records)) for records in (LITTLE, BIG))
    assert (little.order, big.order, big.word) == ("little", "big", 8)

    def seen(obj: object) -> object:
        assert isinstance(obj, type(little))
        return {
            "symbols": (list(obj.iter_symbols()), obj.symbols["value"].tolist(), obj.symbols["shndx"].tolist()),
            "relocs": [
                [obj.relocs(s.index)[n].tolist() for n in ("offset", "type", "sym", "addend")] for s in obj.sections
            ],
            "rows": [obj.reloc_rows(s.index) for s in obj.sections],
            "groups": obj.groups,
            "build-id": [
                find_build_id(bytes(obj.contents(s.index)), obj.records) for s in obj.sections if s.type == SHT.NOTE
            ],
            "sections": obj.sections,
        }[name]

    assert seen(little) == seen(big)
    assert seen(little)


def test_what_is_read_is_what_was_written() -> None:
    obj = read(small(BIG))
    by_name = {s.name: s for s in obj.iter_symbols()}
    assert (by_name["f"].value, by_name["f"].size, by_name["f"].type) == (4, 12, STT.FUNC)
    assert by_name["number"].value == 0x1122_3344_5566_7788
    rows = obj.reloc_rows(obj.by_name[".text.f"][0])
    assert [(o, t, obj.name_of(s), a) for o, t, s, a in rows] == [(2, 20, "v", -(1 << 40)), (8, 19, "outside", 2)]
    assert obj.groups == {1: [(1,)]}
    assert obj.number(bytes((0x12, 0x34))) == 0x1234 and obj.dtype("i4") == ">i4"
    sections = read_sections(small(BIG))
    note = sections.section_named(".note.gnu.build-id")
    assert note is not None and find_build_id(bytes(sections.contents(note.index)), sections.records) == BUILD_ID.hex()


def test_another_reader_agrees() -> None:
    """pyelftools reads the big-endian file alike."""
    data = small(BIG)
    other, mine = ELFFile(io.BytesIO(data)), read(data)
    assert not other.little_endian and other["e_machine"] == "EM_S390"
    assert [s.name for s in other.iter_sections()] == [s.name for s in mine.sections]
    table = other.get_section_by_name(".symtab")
    assert [(s.name, s["st_value"], s["st_size"]) for s in table.iter_symbols()][1:] == [
        (s.name, s.value, s.size) for s in mine.iter_symbols()
    ]
    for name in (".text.f", ".data"):
        rela = other.get_section_by_name(f".rela{name}")
        found = [(r["r_offset"], r["r_info_type"], r["r_info_sym"], r["r_addend"]) for r in rela.iter_relocations()]
        assert sorted(found) == mine.reloc_rows(mine.by_name[name][0])


@pytest.mark.parametrize(
    ("at", "value", "fact"),
    [
        (4, 1, "not a 64-bit ELF file"),
        (4, 0, "not a 64-bit ELF file"),
        (5, 0, "neither a little-endian nor a big-endian"),
        (5, 3, "neither a little-endian nor a big-endian"),
    ],
)
def test_files_of_no_such_records_are_refused(at: int, value: int, fact: str) -> None:
    data = bytearray(small(BIG))
    data[at] = value
    with pytest.raises(FormatError, match=f"offset 0x4: {fact}"):
        read(bytes(data))


def test_faults_are_found_in_both_orders() -> None:
    """A symbol that does not exist, in a relocation: the symbol is the upper half of r_info, wherever that is."""
    for records in (LITTLE, BIG):
        data = bytearray(small(records))
        section = read(bytes(data)).section_named(".rela.data")
        assert section is not None
        info = (99 << 32 | 22).to_bytes(8, records.order)
        data[section.offset + 8 : section.offset + 16] = info
        with pytest.raises(FormatError, match=r"\.rela\.data: symbol 99 does not exist"):
            read(bytes(data))


def test_a_big_endian_object_of_a_little_endian_machine_is_refused() -> None:
    with pytest.raises(UserError, match="a big-endian object of 64 bits, where x86_64 has a little-endian one"):
        for_object(read(small(BIG, machine=62)))
    with pytest.raises(UserError, match="e_machine 22 is not supported"):
        for_object(read(small(BIG)))


def test_record_sizes_are_those_of_the_standard() -> None:
    for records in (LITTLE, BIG):
        sizes = [getattr(records, n).size for n in ("header", "section", "compressed", "symbol", "rela", "note")]
        assert sizes == [64, 64, 24, 24, 24, 12]
        assert struct.unpack_from("4sBBB", records.ident) == (b"\x7fELF", 2, 1 if records is LITTLE else 2, 1)
