# SPDX-License-Identifier: GPL-2.0-or-later
"""verify on a module with variables of a target module: a good one has no finding, and each rule is broken once."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from kgbuild.elf.consts import SHF, SHT, STB, STT
from kgbuild.elf.write import OutReloc, OutSymbol
from tests.support.small_module import R_64, R_PC32
from tests.support.small_target import SmallTarget, check_target

A, W, X = SHF.ALLOC, SHF.WRITE, SHF.EXECINSTR
ROW = struct.Struct("<QQQQQQ")
# lea counter(%rip), %rdi; the same of pointer and kgbuild_patch; ret
USER_CODE = bytes.fromhex("488d3d00000000") * 3 + b"\xc3"
USED = ("counter", "pointer", "kgbuild_patch")
# the offset of ext4's name among the strings
OBJECT_NAME = 4


class SmallState(SmallTarget):
    """A callback of ext4 has a counter, which begins at zero, and a pointer for each CPU to a variable of ext4; a
    parameter shows another variable."""

    def __init__(self) -> None:
        super().__init__()
        counter = self.section(".bss.counter", A | W, kind=SHT.NOBITS, align=8)
        counter.size = 8
        pointer = self.section(".data..percpu", A | W, bytes(8), align=8)
        for name, section in (("counter", counter), ("pointer", pointer)):
            self.symbol(OutSymbol(name, section, 0, 8, STB.LOCAL, STT.OBJECT))
        patch = self.section(".bss", A | W, kind=SHT.NOBITS, align=8)
        patch.size = 64
        self.symbol(OutSymbol("kgbuild_patch", patch, 0, 64, STB.GLOBAL, STT.OBJECT))
        user = self.section(".text.user", A | X, USER_CODE, align=16)
        self.symbol(OutSymbol("user", user, 0, len(USER_CODE), STB.LOCAL, STT.FUNC))
        user.relocs += [OutReloc(3 + 7 * i, R_PC32, self.symbols[n], -4) for i, n in enumerate(USED)]
        table = self.section(".rodata.table", A, bytes(8), align=8)
        table.relocs.append(OutReloc(0, R_64, self.symbols["user"], 0))
        self.symbol(OutSymbol("table", table, 0, 8, STB.LOCAL, STT.OBJECT))
        values = self.section(".rodata.kgbuild_values", A, bytes(8), align=8)
        late = self.late(values.name, OutReloc(0, R_64, self.bound, 0))
        late.name = f".klp.rela.ext4.{values.name}"
        self.rows = self.section(
            ".rodata.kgbuild_initial", A, ROW.pack(0, 0, 0, 8, 0, 0) + ROW.pack(0, 0, 0, 8, 1, 0) + bytes(48), align=8
        )
        texts = self.table.relocs[0].symbol
        callbacks = self.section(".rodata.kgbuild_callbacks", A, bytes(48), align=8)
        callbacks.relocs += [OutReloc(0, R_64, texts, OBJECT_NAME), OutReloc(16, R_64, self.symbols["user"], 0)]
        self.data_object("kgbuild_callbacks", callbacks)
        for at, name in ((0, "counter"), (48, "pointer")):
            self.rows.relocs += [OutReloc(at, R_64, texts, OBJECT_NAME), OutReloc(at + 8, R_64, self.symbols[name], 0)]
        self.symbol(OutSymbol("", values, type=STT.SECTION))
        self.rows.relocs.append(OutReloc(64, R_64, self.symbols[""], 0))
        self.data_object("kgbuild_initial", self.rows)
        shown = self.section(".data.shown", A | W, bytes(8), align=8)
        self.symbol(OutSymbol("shown", shown, 0, 8, STB.LOCAL, STT.OBJECT))
        parameters = self.section("__param", A, bytes(40), align=8)
        self.symbol(OutSymbol("__param_shown", parameters, 0, 40, STB.LOCAL, STT.OBJECT))
        parameters.relocs.append(OutReloc(32, R_64, self.symbols["shown"], 0))


def late(m: SmallState, section: str, offset: int) -> None:
    made = m.late(section, OutReloc(offset, R_64, m.bound, 0))
    made.name = f".klp.rela.ext4.{section}"


def set_row(m: SmallState, number: int, *fields: int) -> None:
    m.rows.data[number * 48 : number * 48 + 48] = ROW.pack(*fields)


def drop_row(m: SmallState, number: int) -> None:
    m.rows.relocs = [r for r in m.rows.relocs if not number * 48 <= r.offset < number * 48 + 48]
    m.rows.relocs = [
        OutReloc(r.offset - 48 * (r.offset > number * 48), r.type, r.symbol, r.addend) for r in m.rows.relocs
    ]
    del m.rows.data[number * 48 : number * 48 + 48]
    m.symbols["kgbuild_initial"].size -= 48


def rename_section(m: SmallState, old: str, new: str) -> None:
    m.sections[old].name = new


def no_variable(m: SmallState) -> None:
    m.rows.relocs[1].symbol = m.symbols["table"]


DATA_SPOILERS: list[tuple[str, Callable[[SmallState], object]]] = [
    ("V27-late-special", lambda m: late(m, ".data.shown", 0)),
    ("V27-late-special", lambda m: late(m, "__param", 16)),
    ("V36-module-memory", lambda m: setattr(m.sections[".bss.counter"], "align", 8192)),
    ("V36-module-memory", lambda m: m.sections[".data..percpu"].data.extend(bytes(8192))),
    ("V36-module-memory", lambda m: late(m, ".data..percpu", 0)),
    ("V36-module-memory", lambda m: m.sections[".data..percpu"].relocs.append(OutReloc(0, R_64, m.symbols["new"], 0))),
    ("V36-module-memory", lambda m: rename_section(m, ".data.shown", ".data..nosave")),
    ("V36-module-memory", lambda m: rename_section(m, ".rodata.table", "___srcu_struct_ptrs")),
    ("V37-initial-value", lambda m: drop_row(m, 0)),
    ("V37-initial-value", lambda m: drop_row(m, 1)),
    ("V37-initial-value", lambda m: set_row(m, 0, 0, 0, 0, 4, 0, 0)),
    ("V37-initial-value", lambda m: set_row(m, 0, 0, 0, 0, 16, 0, 0)),
    ("V37-initial-value", lambda m: set_row(m, 0, 0, 0, 0, 8, 1, 0)),
    ("V37-initial-value", lambda m: set_row(m, 1, 0, 0, 0, 8, 0, 0)),
    ("V37-initial-value", lambda m: set_row(m, 0, 0, 0, 0, 8, 9, 0)),
    ("V37-initial-value", lambda m: setattr(m.rows.relocs[0], "addend", 0)),
    ("V37-initial-value", lambda m: m.rows.data.__setitem__(100, 1)),
    ("V37-initial-value", lambda m: m.rows.relocs.pop(0)),
    ("V37-initial-value", no_variable),
]


def test_a_good_module_has_no_finding() -> None:
    assert check_target(SmallState()) == []


@pytest.mark.parametrize(("code", "spoil"), DATA_SPOILERS)
def test_each_fault_is_found(code: str, spoil: Callable[[SmallState], object]) -> None:
    small = SmallState()
    spoil(small)
    assert code in {f.code for f in check_target(small)}


def test_what_a_parameter_shows_needs_no_row() -> None:
    """The user sets it with the patch, and it keeps that."""
    small = SmallState()
    small.sections["__param"].relocs[0].symbol = small.symbols["counter"]
    drop_row(small, 0)
    assert check_target(small) == []
