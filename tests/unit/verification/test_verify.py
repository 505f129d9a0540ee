# SPDX-License-Identifier: GPL-2.0-or-later
"""verify: a good module has no finding, and each rule is broken once, in a small module made in memory."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable

import pytest

from kgbuild.diagnostics.module_findings import finding, in_order
from kgbuild.elf.consts import SHF, SHN, STB
from kgbuild.elf.write import OutObject, OutReloc, OutSection, OutSymbol, write
from kgbuild.errors import UserError
from kgbuild.verification.reading.reader import read_module
from tests.support.small_module import (
    BUG,
    CALL,
    FACTS,
    JUMP,
    NAME,
    R_64,
    R_PC32,
    R_PLT32,
    VERMAGIC,
    A,
    Small,
    W,
    X,
    check,
)


def test_a_good_module_has_no_finding() -> None:
    assert check(Small().data) == []


def rename(m: Small, old: str, new: str) -> None:
    m.symbols[old].name = new


def klp(name: str, new: str) -> Callable[[Small], object]:
    """A spoiler that renames a livepatch symbol."""
    return lambda m: rename(m, f".klp.sym.vmlinux.{name},0", new)


def put(section: str, offset: int, data: bytes) -> Callable[[Small], object]:
    """A spoiler that overwrites bytes of a section."""

    def spoil(m: Small) -> None:
        m.sections[section].data[offset : offset + len(data)] = data

    return spoil


def move(section: str, number: int, **fields: object) -> Callable[[Small], object]:
    """A spoiler that changes a relocation of a section."""

    def spoil(m: Small) -> None:
        for field, value in fields.items():
            setattr(m.sections[section].relocs[number], field, value)

    return spoil


def change(section: str, **fields: object) -> Callable[[Small], object]:
    """A spoiler that changes a section's header."""

    def spoil(m: Small) -> None:
        for field, value in fields.items():
            setattr(m.sections[section], field, value)

    return spoil


def swap_info(old: str, new: str) -> Callable[[Small], object]:
    return lambda m: m.info.__setitem__(m.info.index(old), new)


def misplace(m: Small) -> None:
    """A livepatch symbol relocated by a normal section."""
    late = m.sections[".klp.rela.vmlinux..text.new"]
    m.sections[".text.new"].relocs.append(late.relocs[0])
    m.out.sections.remove(late)


def ordinary_in_late(m: Small) -> None:
    m.sections[".klp.rela.vmlinux..text.new"].relocs[0].symbol = m.symbols["__fentry__"]


def parameter_of_another(m: Small) -> None:
    """A parameter whose module is bound by a livepatch symbol, so another one."""
    section = m.section("__param", A, bytes(40))
    section.relocs.append(OutReloc(8, 1, m.sections[".klp.rela.vmlinux..text.new"].relocs[0].symbol, 0))


def same_target(m: Small) -> None:
    m.sections[".text.new"].relocs.append(OutReloc(CALL + 1, R_PLT32, m.symbols["__fentry__"], -4))


def second_late(m: Small) -> None:
    m.late(".text.new")


def twice(m: Small) -> None:
    m.table.data[:] = bytes(96)
    m.symbols["kgbuild_funcs"].size = 96
    m.table.relocs += [OutReloc(r.offset + 32, r.type, r.symbol, r.addend) for r in m.table.relocs]
    m.note["functions"] = [{"object": "vmlinux", "name": "old", "sympos": 0}] * 2


def no_end(m: Small) -> None:
    m.symbols["kgbuild_funcs"].size = 32


def other_object(m: Small) -> None:
    m.sections[".rodata.kgbuild_strings"].data.extend(b"ext4\0")
    m.table.relocs.append(OutReloc(0, R_64, m.table.relocs[0].symbol, 4))
    m.note["functions"] = [{"object": "ext4", "name": "old", "sympos": 0}]


def no_name(m: Small) -> None:
    m.out.symbols.remove(m.symbols["init_module"])


def unlist(section: str) -> Callable[[Small], object]:
    return lambda m: m.out.sections.remove(m.sections[section])


def cut(section: str, size: int) -> Callable[[Small], object]:
    def spoil(m: Small) -> None:
        del m.sections[section].data[size:]

    return spoil


NOTES = ".klp.rela.vmlinux..rodata.kgbuild_notes"
LONG = "x" * 512
SPOILERS: list[tuple[str, Callable[[Small], object]]] = [
    ("V1-identity", put(".rodata.kgbuild_build_id", 3, b"\xff")),
    ("V1-identity", put(".rodata.kgbuild_build_id_size", 0, b"\x10")),
    ("V1-identity", put(".note.kgbuild", 0, b"junk, no note at all")),
    ("V1-identity", unlist(".note.kgbuild")),
    ("V1-identity", lambda m: m.note.update(build_ids={"vmlinux": "00" * 20})),
    ("V1-identity", lambda m: m.note.update(build_ids=[])),
    ("V1-identity", lambda m: m.note.update(functions=[])),
    ("V1-identity", move(NOTES, 0, offset=8)),
    ("V2-vermagic", swap_info(f"vermagic={VERMAGIC}", "vermagic=6.1.0-other SMP ")),
    ("V3-sympos", klp("helper", ".klp.sym.vmlinux.helper,2")),
    ("V3-sympos", klp("helper", ".klp.sym.vmlinux.nothing,0")),
    ("V3-sympos", klp("helper", ".klp.sym.vmlinux.twin,0")),
    ("V3-sympos", lambda m: m.rename_function("twin", 3)),
    ("V3-sympos", lambda m: m.rename_function("twin", 0)),
    ("V4-modinfo", swap_info("livepatch=Y", "livepatch=N")),
    ("V4-modinfo", swap_info("license=GPL", "license=Proprietary")),
    ("V4-modinfo", swap_info("name=livepatch_small", "name=other")),
    ("V4-modinfo", lambda m: m.undefined("kgr_patch_kernel")),
    ("V4-modinfo", swap_info("depends=", "depends=ext4")),
    ("V4-modinfo", swap_info("depends=", "alias=net-pf-1")),
    ("V5-crc", lambda m: m.versions.update(__fentry__=1)),
    ("V5-crc", lambda m: m.versions.pop("__fentry__")),
    ("V5-crc", lambda m: m.versions.pop("module_layout")),
    ("V5-crc", lambda m: m.versions.update(unknown=1)),
    ("V5-crc", put("__versions", 0, bytes(65))),
    ("V6-undefined", lambda m: m.undefined("nowhere")),
    ("V6-undefined", lambda m: m.undefined("elsewhere")),
    ("V6-undefined", lambda m: m.undefined("mine", STB.LOCAL)),
    ("V7-namespace", lambda m: (m.undefined("spaced"), m.versions.update(spaced=0x44444444))),
    ("V8-livepatch-symbol", klp("old", ".klp.sym.vmlinux.old")),
    ("V8-livepatch-symbol", klp("old", ".klp.sym.vmlinux.old,x")),
    ("V8-livepatch-symbol", klp("old", "old")),
    ("V9-object", klp("old", ".klp.sym.ext4.old,0")),
    ("V9-object", other_object),
    ("V10-init-memory", klp("old", ".klp.sym.vmlinux.boot,0")),
    ("V10-init-memory", lambda m: m.rename_function("boot")),
    ("V11-function", twice),
    ("V11-function", no_end),
    ("V11-function", lambda m: m.rename_function("table")),
    ("V11-function", move(".rodata.kgbuild_funcs", 1, addend=5)),
    ("V11-function", lambda m: m.out.symbols.remove(m.symbols["kgbuild_funcs"])),
    ("V12-not-traceable", lambda m: m.rename_function("plain")),
    ("V13-reloc-type", move(".text.new", 0, type=9)),
    ("V14-reloc-place", put(".text.new", 1, b"\x01")),
    ("V14-reloc-place", move(".rodata.kgbuild_funcs", 0, offset=1000)),
    ("V14-reloc-place", same_target),
    ("V15-livepatch-section", change(NOTES, flags=SHF.ALLOC | SHF.INFO_LINK)),
    ("V15-livepatch-section", change(NOTES, name=".klp.rela.vmlinux..rodata.other")),
    ("V15-livepatch-section", change(NOTES, name=".klp.rela.vmlinux")),
    ("V15-livepatch-section", second_late),
    ("V16-reloc-symbol", misplace),
    ("V16-reloc-symbol", ordinary_in_late),
    ("V17-section-flags", change(".text.new", flags=A | X | W)),
    ("V17-section-flags", change(".rodata.kgbuild_strings", flags=A | W)),
    ("V17-section-flags", change(".rodata.kgbuild_strings", flags=A | X)),
    ("V17-section-flags", change("__versions", flags=0)),
    ("V17-section-flags", lambda m: m.section(".bss", A | W, b"\0")),
    ("V18-section-name", lambda m: m.section(".data..percpu..shared_aligned", A | W, b"\0")),
    ("V18-section-name", lambda m: m.section(".data.once", A | W, b"\0") and m.section(".data.once", A | W, b"\0")),
    ("V18-section-name", lambda m: m.section(".modinfo", A, b"a=b\0")),
    ("V19-leftover", lambda m: m.section("__ksymtab_gpl", A, bytes(12))),
    ("V19-leftover", lambda m: m.section(".initcall6.init", A, bytes(4))),
    ("V19-leftover", lambda m: m.section("__param", A, bytes(39))),
    ("V19-leftover", parameter_of_another),
    ("V20-special", cut("__bug_table", 11)),
    ("V20-special", move("__bug_table", 0, offset=2)),
    ("V20-special", move("__bug_table", 0, addend=BUG - 1)),
    ("V20-special", move("__bug_table", 0, addend=1000)),
    ("V20-special", put(".altinstructions", 11, b"\x04")),
    ("V20-special", lambda m: m.sections["__jump_table"].relocs.pop()),
    ("V20-special", cut(".orc_unwind", 6)),
    ("V21-site", move("__bug_table", 0, addend=JUMP)),
    ("V21-site", move("__jump_table", 0, addend=BUG)),
    ("V21-site", move(".smp_locks", 0, addend=BUG)),
    ("V21-site", move("__mcount_loc", 0, addend=CALL)),
    ("V21-site", move(".return_sites", 0, addend=CALL)),
    ("V22-unlisted-site", unlist("__mcount_loc")),
    ("V22-unlisted-site", unlist(".return_sites")),
    ("V22-unlisted-site", lambda m: rename(m, ".klp.sym.vmlinux.helper,0", ".klp.sym.vmlinux.__SCT__call,0")),
    ("V23-symbol", no_name),
    ("V23-symbol", lambda m: m.data_object("cleanup_module", m.table)),
    ("V23-symbol", lambda m: m.symbol(OutSymbol("common", bind=STB.GLOBAL, shndx=SHN.COMMON))),
    ("V24-name-length", klp("old", f".klp.sym.vmlinux.{LONG},0")),
    ("V24-name-length", klp("old", f".klp.sym.{'o' * 56}.old,0")),
    ("V24-name-length", swap_info("name=livepatch_small", f"name={'n' * 56}")),
    ("V25-this-module", unlist(".gnu.linkonce.this_module")),
    ("V25-this-module", cut(".gnu.linkonce.this_module", 56)),
    ("V35-literal", lambda m: m.note.update(literals=[])),
    ("V35-literal", lambda m: m.note.update(literals={"__fentry__": {"0x5000,4": "00" * 32}})),
]


@pytest.mark.parametrize(("code", "spoil"), SPOILERS, ids=[f"{i}-{code}" for i, (code, _) in enumerate(SPOILERS)])
def test_what_is_spoiled_is_found(code: str, spoil: Callable[[Small], object]) -> None:
    small = Small()
    spoil(small)
    found = check(small.data)
    assert code in {f.code for f in found}
    assert all(f.place and f.fact and f.remedy for f in found)


def test_all_findings_come_at_once_and_in_the_order_of_the_registry() -> None:
    small = Small()
    small.versions["__fentry__"] = 1
    small.info[0] = "livepatch=N"
    small.rename_function("plain")
    assert [f.code for f in check(small.data)] == ["V4-modinfo", "V5-crc", "V12-not-traceable"]


def test_order_has_no_repetition() -> None:
    late, early = finding("V12-not-traceable", "a", "b"), finding("V2-vermagic", "a", "b")
    assert in_order([late, early, late]) == [early, late]


@pytest.mark.parametrize("sympos", [1, 2])
def test_positions_of_a_name_that_repeats(sympos: int) -> None:
    small = Small()
    small.rename_function("twin", sympos)
    assert check(small.data) == []


def test_weak_and_imported_references_are_fine() -> None:
    small = Small()
    small.undefined("nowhere", STB.WEAK)
    small.undefined("spaced")
    small.versions["spaced"] = 0x44444444
    small.info.append("import_ns=SPACE")
    assert check(small.data) == []


def test_an_alternative_that_replaces_by_nothing_needs_no_replacement() -> None:
    small = Small()
    put(".altinstructions", 11, b"\0")(small)
    small.sections[".altinstructions"].relocs.pop()
    assert check(small.data) == []


@pytest.mark.parametrize("late", [False, True])
def test_an_alternative_may_bring_a_function_of_the_kernel(late: bool) -> None:
    """objtool of 5.13 to 5.15 wrote such entries: an export, or what a livepatch relocation names."""
    small = Small()
    table = small.sections[".altinstructions"]
    table.relocs.pop()
    name = ".klp.sym.vmlinux.helper,0" if late else "__x86_return_thunk"
    reloc = OutReloc(4, R_PC32, small.symbols[name], 0)
    if late:
        small.late(".altinstructions", reloc)
    else:
        table.relocs.append(reloc)
    assert check(small.data) == []


def test_unwind_entries_may_lead_into_what_an_alternative_replaces() -> None:
    small = Small()
    move(".orc_unwind_ip", 1, addend=JUMP + 2)(small)
    assert check(small.data) == []
    move(".orc_unwind_ip", 1, addend=JUMP + 4)(small)
    assert [f.code for f in check(small.data)] == ["V20-special"]


def test_unknown_facts_are_not_compared() -> None:
    facts = dataclasses.replace(FACTS, vermagic="", module_size=0, modversions=False)
    small = Small()
    small.versions.clear()
    small.info.pop(3)
    del small.sections[".gnu.linkonce.this_module"].data[8:]
    assert check(small.data, facts=facts) == []


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no ELF file"),
        (b"\x7fELF" + bytes(200), "no ELF file of 64 bits"),
        (random.Random(1).randbytes(4096), "no ELF file"),
        (Small().data[:2000], "damaged"),
        (Small().data[:18] + b"\xb7\0" + Small().data[20:], "another architecture"),
        (Small().data[:16] + b"\3\0" + Small().data[18:], "no relocatable"),
        (write(OutObject(62, [OutSection(".text", data=bytearray(4))])), "not a kernel module"),
    ],
    ids=["empty", "zeros", "random", "truncated", "aarch64", "shared-object", "object-file"],
)
def test_what_is_no_module_is_the_users_error(data: bytes, words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_module(data, NAME, 62)


def test_flipped_bytes_never_crash() -> None:
    good, chance = Small().data, random.Random(7)
    for _ in range(300):
        data = bytearray(good)
        for _ in range(chance.randrange(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            check(bytes(data))
        except UserError as error:
            assert error.exit_code == 2
