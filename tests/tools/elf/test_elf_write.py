# SPDX-License-Identifier: GPL-2.0-or-later
"""Writing ELF: what readelf, ld, LIEF and our own reader make of it."""

from __future__ import annotations

import io
import re

import lief
import pytest
from elftools.elf.elffile import ELFFile

from kgbuild.elf.consts import SHF, SHN, SHT, STB, STT
from kgbuild.elf.read import read
from kgbuild.elf.write import OutObject, OutReloc, OutSection, OutSymbol, write
from kgbuild.emit.klp_relocations import inject, split_livepatch_name
from tests.support.toolchain import compile_text, pair_flags, run, scratch


def small() -> OutObject:
    text = OutSection(
        ".text.f", flags=SHF.ALLOC | SHF.EXECINSTR, data=bytearray(b"\xe8\0\0\0\0\xe8\0\0\0\0\xc3"), align=16
    )
    data = OutSection(".data.v", flags=SHF.ALLOC | SHF.WRITE, data=bytearray(16), align=8)
    bss = OutSection(".bss.b", SHT.NOBITS, SHF.ALLOC | SHF.WRITE, size=4096, align=64)
    strings = OutSection(
        ".rodata.str", flags=SHF.ALLOC | SHF.MERGE | SHF.STRINGS, data=bytearray(b"a\0bc\0"), entsize=1
    )
    f = OutSymbol("f", text, 0, 11, STB.GLOBAL, STT.FUNC)
    v = OutSymbol("v", data, 8, 8, STB.LOCAL, STT.OBJECT)
    b = OutSymbol("b", bss, 64, 4, STB.WEAK, STT.OBJECT, 2)
    outside = OutSymbol("outside", bind=STB.GLOBAL)
    late = OutSymbol(".klp.sym.vmlinux.inner,3", bind=STB.GLOBAL)
    strings_symbol = OutSymbol("", strings, type=STT.SECTION)
    text.relocs = [OutReloc(1, 4, outside, -4), OutReloc(6, 4, late, -4)]
    data.relocs = [OutReloc(0, 1, strings_symbol, 2), OutReloc(8, 1, b, -(1 << 40))]
    return OutObject(62, [text, data, bss, strings], [f, v, b, outside, late, strings_symbol])


def on_disk(data: bytes) -> str:
    path = scratch() / "written.o"
    path.write_bytes(data)
    return str(path)


def facts(data: bytes) -> tuple[object, ...]:
    """Everything an object says, by pyelftools, with names instead of numbers."""
    elf = ELFFile(io.BytesIO(data))
    sections = list(elf.iter_sections())
    symbols = list(elf.get_section_by_name(".symtab").iter_symbols())

    def name(symbol) -> str:
        return symbol.name or sections[symbol["st_shndx"]].name

    content, relocs = {}, {}
    for s in sections:
        if s["sh_type"] == "SHT_RELA":
            relocs[s.name] = [
                (r["r_offset"], r["r_info_type"], name(symbols[r["r_info_sym"]]), r["r_addend"])
                for r in s.iter_relocations()
            ]
        elif s.name and s["sh_type"] not in ("SHT_SYMTAB", "SHT_STRTAB"):
            body = s.data() if s["sh_type"] != "SHT_NOBITS" else s["sh_size"]
            content[s.name] = (s["sh_type"], s["sh_flags"], s["sh_addralign"], s["sh_entsize"], body)
    named = {}
    for s in symbols[1:]:
        place = s["st_shndx"]
        where = sections[place].name if isinstance(place, int) and place < len(sections) else place
        named[name(s)] = (where, s["st_value"], s["st_size"], s["st_info"]["bind"], s["st_info"]["type"])
    return content, relocs, named


def test_everything_written_is_read_back() -> None:
    obj = read(write(small()))
    names = [s.name for s in obj.sections]
    assert names[1:5] == [".text.f", ".data.v", ".bss.b", ".rodata.str"]
    assert names[5:7] == [".rela.text.f", ".rela.data.v"]
    symbols = {s.name: s for s in obj.iter_symbols()}
    assert (symbols["b"].other, symbols["b"].bind, symbols["b"].size) == (2, STB.WEAK, 4)
    assert symbols["outside"].shndx == SHN.UNDEF
    rows = obj.relocs(names.index(".data.v"))
    assert [int(a) for a in rows["addend"]] == [2, -(1 << 40)]
    assert obj.sections[3].size == 4096


def test_local_symbols_come_first() -> None:
    obj = read(write(small()))
    table = obj.sections[obj.symtab_index]
    binds = [s.bind for s in obj.iter_symbols()]
    assert binds == sorted(binds, key=lambda b: b != STB.LOCAL)
    assert table.info == 1 + sum(b == STB.LOCAL for b in binds)


def test_readelf_and_lief_accept_it() -> None:
    data = write(small())
    out = run("readelf", "-a", "-W", on_disk(data))
    assert "Warning" not in out and "Error" not in out
    assert re.search(r"R_X86_64_PLT32 +0+ +outside - 4", out)
    parsed = lief.ELF.parse(list(data))
    assert parsed is not None
    assert {s.name for s in parsed.symbols} >= {"f", "v", "b", "outside", ".klp.sym.vmlinux.inner,3"}
    assert len(list(parsed.object_relocations)) == 4


def test_ld_accepts_it_and_loses_nothing() -> None:
    path = on_disk(write(small()))
    linked = scratch() / "written-linked.o"
    run("ld", "-r", "-o", linked, path)
    before, after = facts(write(small())), facts(linked.read_bytes())
    for name, value in before[0].items():
        assert after[0][name] == value, name
    assert after[1] == before[1]
    for name, value in before[2].items():
        assert after[2][name] == value, name


def test_same_input_same_bytes() -> None:
    assert write(small()) == write(small())


def test_alignment_of_contents() -> None:
    for s in read(write(small())).sections:
        if s.type not in (SHT.NULL, SHT.NOBITS):
            assert s.offset % max(s.align, 1) == 0


def test_symbol_that_is_not_there() -> None:
    broken = small()
    broken.symbols.pop(3)
    with pytest.raises(ValueError, match="outside"):
        write(broken)
    broken = small()
    broken.sections.pop(2)
    with pytest.raises(ValueError, match="b is defined in a section"):
        write(broken)


def test_empty_object() -> None:
    obj = read(write(OutObject(62)))
    assert [s.name for s in obj.sections] == ["", ".symtab", ".strtab", ".shstrtab"]


# -- injection -------------------------------------------------------------------------------------------------------


def test_injection_moves_late_relocations() -> None:
    data = inject(read(write(small())))
    _content, relocs, symbols = facts(data)
    assert relocs[".klp.rela.vmlinux..text.f"] == [(6, 4, ".klp.sym.vmlinux.inner,3", -4)]
    assert relocs[".rela.text.f"] == [(1, 4, "outside", -4)]
    assert symbols[".klp.sym.vmlinux.inner,3"][0] == SHN.LIVEPATCH
    obj = read(data)
    section = obj.section_named(".klp.rela.vmlinux..text.f")
    assert section is not None
    assert section.flags == SHF.ALLOC | SHF.INFO_LINK | SHF.RELA_LIVEPATCH
    assert obj.sections[section.info].name == ".text.f"
    assert section.link == obj.symtab_index
    assert len(obj.relocs(section.info)) == 1
    assert "Warning" not in run("readelf", "-a", "-W", on_disk(data))


def test_injection_keeps_the_rest() -> None:
    before, after = facts(write(small())), facts(inject(read(write(small()))))
    assert after[0].items() >= before[0].items()
    assert after[1][".rela.data.v"] == before[1][".rela.data.v"]


def test_injection_of_two_objects() -> None:
    out = small()
    other = OutSymbol(".klp.sym.nf_tables.thing,0", bind=STB.GLOBAL)
    out.symbols.append(other)
    out.sections[0].relocs[0] = OutReloc(1, 4, other, -4)
    _, relocs, symbols = facts(inject(read(write(out))))
    assert {n for n in relocs if n.startswith(".klp")} == {
        ".klp.rela.nf_tables..text.f",
        ".klp.rela.vmlinux..text.f",
    }
    assert "outside" not in symbols, "an undefined symbol that nothing refers to is dropped"
    assert ".rela.text.f" not in relocs


def test_injection_drops_debug_information_unless_told() -> None:
    data = compile_text("int f(int x) { return x; }", *pair_flags(("-g",)))
    assert not [s.name for s in read(inject(read(data))).sections if ".debug" in s.name]
    kept = [s.name for s in read(inject(read(data), keep_debug=True)).sections if ".debug" in s.name]
    assert ".debug_info" in kept and ".rela.debug_info" in kept


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        (".klp.sym.vmlinux.printk,0", ("vmlinux", "printk", 0)),
        (".klp.sym.vmlinux.f.isra.0,12", ("vmlinux", "f.isra.0", 12)),
        (".klp.sym.nf_tables.a_b,1", ("nf_tables", "a_b", 1)),
    ],
)
def test_livepatch_names(name: str, parts: tuple[str, str, int]) -> None:
    assert split_livepatch_name(name) == parts


@pytest.mark.parametrize(
    "name", ["printk", ".klp.sym.vmlinux", ".klp.sym.vmlinux.f", ".klp.sym.vmlinux.f,x", ".klp.sym.f,1"]
)
def test_malformed_livepatch_names(name: str) -> None:
    with pytest.raises(ValueError, match="livepatch symbol"):
        split_livepatch_name(name)
    if name.startswith(".klp.sym."):
        out = small()
        out.symbols[4].name = name
        with pytest.raises(ValueError, match="malformed"):
            inject(read(write(out)))
