# SPDX-License-Identifier: GPL-2.0-or-later
"""verify, for a patch of loadable modules: the module made in memory patches `old` of a small fake ext4."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kgbuild.elf.consts import SHF, STB, STT
from kgbuild.elf.write import OutReloc, OutSymbol
from tests.support.small_module import CALL, FACTS, R_64, R_PLT32, check
from tests.support.small_target import CALL_FENTRY, KNOWN, TARGET_ID, SmallTarget, check_target

A, W, X = SHF.ALLOC, SHF.WRITE, SHF.EXECINSTR


def bind(name: str) -> Callable[[SmallTarget], object]:
    return lambda m: setattr(m.bound, "name", name)


def late_jump_table(m: SmallTarget) -> None:
    m.late("__jump_table", OutReloc(8, 24, m.symbols[".klp.sym.vmlinux.helper,0"], 0))
    m.sections["__jump_table"].relocs.pop()
    m.sections[".klp.rela.vmlinux.__jump_table"].name = ".klp.rela.ext4.__jump_table"


def parted(m: SmallTarget) -> None:
    """ext4, vmlinux, ext4: rows of one object that do not stand together."""
    rows = m.table.relocs
    m.table.data[:] = bytes(128)
    m.symbols["kgbuild_funcs"].size = 128
    m.sections[".rodata.kgbuild_strings"].data.extend(b"twin\0")
    texts, new = rows[0].symbol, rows[1].symbol
    for at, text in ((32, 0), (64, 9)):
        m.table.relocs += [OutReloc(at + 8, R_64, texts, text), OutReloc(at + 16, R_64, new, 0)]
    m.table.relocs.append(OutReloc(64, R_64, texts, 4))
    m.table.data[88] = 1
    functions = [("ext4", "old", 0), ("vmlinux", "old", 0), ("ext4", "twin", 1)]
    m.note["functions"] = [{"object": o, "name": n, "sympos": p} for o, n, p in functions]


def twice(m: SmallTarget) -> None:
    m.table.data[:] = bytes(96)
    m.symbols["kgbuild_funcs"].size = 96
    m.table.relocs += [OutReloc(r.offset + 32, r.type, r.symbol, r.addend) for r in m.table.relocs]
    m.note["functions"] = m.note["functions"] * 2


def add_caller(m: SmallTarget, owner: str, way: str) -> None:
    """One more function, of `owner`, that gets to what is bound to ext4: by a call, by a table, not at all, or by code
    that only has it behind itself in the same section."""
    code = m.section(".text.caller", A | X, b"\xe8\0\0\0\0\xc3" + CALL_FENTRY, align=16)
    new, behind = m.symbols["new"], OutSymbol("behind", code, 6, 6, STB.LOCAL, STT.FUNC)
    caller = m.symbol(OutSymbol("caller", code, 0, 6, STB.LOCAL, STT.FUNC))
    m.symbol(behind)
    table = m.section(".rodata", A, bytes(24), align=8)
    unnamed = m.symbol(OutSymbol("", table, type=STT.SECTION))
    table.relocs.append(OutReloc(8, R_64, new, 0))
    at = {"call": (new, -4), "table": (unnamed, 4), "beside the table": (unnamed, 12)}.get(
        way, (m.symbols["__fentry__"], -4)
    )
    code.relocs += [OutReloc(1, R_PLT32, *at), OutReloc(7, R_PLT32, new, -4)]
    texts, old = m.table.relocs[0].symbol, m.table.relocs[1].symbol
    m.table.data[:] = bytes(96)
    m.symbols["kgbuild_funcs"].size = 96
    m.sections[".rodata.kgbuild_strings"].data[:] = b"old\0ext4\0" + owner.encode() + b"\0"
    m.table.relocs[:] = [OutReloc(at, R_64, texts, 4) for at in (0,)]
    for row, symbol in enumerate((old, caller)):
        m.table.relocs += [OutReloc(32 * row + 8, R_64, texts, 0), OutReloc(32 * row + 16, R_64, symbol, 0)]
    m.table.relocs.append(OutReloc(32, R_64, texts, 9))


MODULE_SPOILERS: list[tuple[str, Callable[[SmallTarget], object]]] = [
    ("V1-identity", lambda m: m.note.update(build_ids={"vmlinux": FACTS.build_id})),
    ("V1-identity", lambda m: m.note.update(build_ids={"vmlinux": FACTS.build_id, "ext4": "00" * 20})),
    ("V3-sympos", bind(".klp.sym.ext4.nothing,0")),
    ("V3-sympos", bind(".klp.sym.ext4.twin,0")),
    ("V3-sympos", bind(".klp.sym.ext4.twin,3")),
    ("V3-sympos", bind(".klp.sym.ext4.twin,4")),
    ("V3-sympos", bind(".klp.sym.ext4.__fentry__,0")),
    ("V3-sympos", lambda m: m.patch("ext4", "twin", 3)),
    ("V9-object", lambda m: m.patch("ext-4", "old")),
    ("V9-object", lambda m: m.patch("vmlinux", "old")),
    ("V9-object", bind(".klp.sym.unknown.table,0")),
    ("V10-init-memory", bind(".klp.sym.ext4.boot,0")),
    ("V10-init-memory", bind(".klp.sym.ext4.twin,2")),
    ("V10-init-memory", lambda m: m.patch("ext4", "boot")),
    ("V11-function", lambda m: m.patch("ext4", "table")),
    ("V11-function", parted),
    ("V11-function", twice),
    ("V12-not-traceable", lambda m: m.patch("ext4", "plain")),
    ("V26-module-reference", bind(".klp.sym.vmlinux.helper,0")),
    ("V26-module-reference", bind(".klp.sym.xfs.table,0")),
    ("V27-late-special", late_jump_table),
    ("V34-module-reach", lambda m: add_caller(m, "vmlinux", "call")),
]


def test_a_good_module_has_no_finding() -> None:
    assert check_target(SmallTarget()) == []


@pytest.mark.parametrize(
    ("code", "spoil"), MODULE_SPOILERS, ids=[f"{i}-{code}" for i, (code, _) in enumerate(MODULE_SPOILERS)]
)
def test_what_is_spoiled_is_found(code: str, spoil: Callable[[SmallTarget], object]) -> None:
    small = SmallTarget()
    spoil(small)
    found = check_target(small)
    assert code in {f.code for f in found}
    assert all(f.place and f.fact and f.remedy for f in found)


@pytest.mark.parametrize(
    ("owner", "way", "found"),
    [
        ("vmlinux", "call", True),
        ("vmlinux", "table", True),
        ("xfs", "call", True),
        ("jbd2", "call", True),
        ("vmlinux", "beside the table", False),
        ("vmlinux", "", False),
        ("ext4", "call", False),
    ],
)
def test_who_gets_to_what_waits_for_a_module(owner: str, way: str, found: bool) -> None:
    small = SmallTarget()
    add_caller(small, owner, way)
    facts = [f for f in check_target(small) if f.code == "V34-module-reach"]
    assert [f.place for f in facts] == ["caller"] * found
    for f in facts:
        assert f"as code of {owner} it gets to .klp.sym.ext4.table,0, bound when ext4 comes" in f.fact
        assert f.fact.endswith("-> new)")


@pytest.mark.parametrize(("owner", "found"), [("vmlinux", True), ("ext4", False)])
def test_a_callback_gets_to_what_waits_for_a_module(owner: str, found: bool) -> None:
    """The table of functions has only what ext4 needs; a callback of `owner` calls it."""
    small = SmallTarget()
    add_caller(small, "ext4", "call")
    table = small.section(".rodata.kgbuild_callbacks", A, bytes(48), align=8)
    table.relocs.append(OutReloc(16, R_64, small.symbols["caller"], 0))
    if owner != "vmlinux":
        table.relocs.append(OutReloc(0, R_64, small.table.relocs[0].symbol, 4))
    small.data_object("kgbuild_callbacks", table)
    facts = [f.fact for f in check_target(small) if f.code == "V34-module-reach"]
    assert len(facts) == found
    assert all("as code of vmlinux" in fact for fact in facts)


def test_a_module_that_needs_another_gets_to_its_code() -> None:
    small = SmallTarget()
    add_caller(small, "ext4", "call")
    small.sections[".klp.rela.vmlinux..text.new"].name = ".klp.rela.jbd2..text.new"
    assert "V34-module-reach" not in {f.code for f in check_target(small)}


def test_a_module_that_the_target_needs_may_be_named() -> None:
    small = SmallTarget()
    small.bound.name = ".klp.sym.jbd2.table,0"
    assert check_target(small) == []


def test_a_static_call_of_a_module_has_no_listed_site() -> None:
    small = SmallTarget()
    small.bound.name = ".klp.sym.jbd2.__SCT__call,0"
    assert [f.code for f in check_target(small)] == ["V3-sympos"]


def test_a_position_that_holds_in_both_tables() -> None:
    small = SmallTarget()
    small.bound.name = ".klp.sym.ext4.twin,1"
    small.patch("ext4", "twin", 1)
    assert check_target(small) == []


def test_a_position_that_moves_when_init_memory_goes_is_explained() -> None:
    found, fact = KNOWN["ext4"].locate("twin", 3)
    assert found is None
    assert fact == "twin is at position 3 while ext4 loads and at 2 afterwards"


def test_facts_of_a_shipped_module() -> None:
    ext4 = KNOWN["ext4"]
    assert ext4.build_id == TARGET_ID.hex()
    old, _ = ext4.locate("old", 0)
    boot, _ = ext4.locate("boot", 0)
    assert old is not None and ext4.is_core(old) and not ext4.is_init(old)
    assert boot is not None and ext4.is_init(boot) and not ext4.is_core(boot)


def test_a_kernel_without_modules_knows_none() -> None:
    assert "V9-object" in {f.code for f in check(SmallTarget().data, facts=FACTS)}


def test_the_call_is_where_the_test_expects_it() -> None:
    assert SmallTarget().sections[".text.new"].data[CALL] == 0xE8
