# SPDX-License-Identifier: GPL-2.0-or-later
"""Without a record: relocations against what they fill in, struct module, and the wrapper's own code."""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kgbuild import __version__
from kgbuild import module_abi as abi
from kgbuild.arch.relocated_fields import FieldKind
from kgbuild.arch.x86_64.relocated_fields import TYPES, instruction_fields
from kgbuild.elf.consts import STB, STT
from kgbuild.elf.read import read
from kgbuild.elf.write import OutReloc, OutSection, OutSymbol
from kgbuild.verification.reading.reader import read_module
from kgbuild.verification.wrapper import ModuleStruct, check_wrapper, read_struct, wrapper_macros
from tests.support.small_module import ARCH, CALL, FACTS, NAME, R_64, R_PC32, R_PLT32, A, Small, W, X, check
from tests.support.small_target import SmallTarget, check_target

R_NONE, R_32, R_32S, R_PC64 = 0, 10, 11, 24
LATE_TEXT = ".klp.rela.vmlinux..text.new"


# -- fields of instructions --------------------------------------------------------------------------------------------

OPERANDS = """
        call outside
        jmp outside
        jz outside
        mov variable(%rip), %rax
        mov $1, variable(%rip)
        movl $0x12345678, variable(%rip)
        lea variable+4(%rip), %rdi
        mov variable, %eax
        mov variable(,%rax,8), %rax
        jmp *table(,%rax,8)
        mov variable(%rbx), %rcx
        mov %gs:variable, %rax
        incl %gs:variable(%rip)
        mov $variable, %rdi
        mov $variable, %edi
        movabs $variable, %rdi
        movabs variable, %al
        cmp $variable, %rax
        push $variable
        movq $variable, 8(%rsp)
        cmpl $variable, (%rax)
        add $variable, %rbp
        lock cmpxchg %ecx, variable(%rip)
"""


def test_each_operand_that_the_assembler_relocates_is_a_field_of_that_type(tmp_path: Path) -> None:
    source = tmp_path / "a.s"
    source.write_text(OPERANDS)
    subprocess.run(["gcc", "-c", source, "-o", tmp_path / "a.o"], check=True)
    obj = read((tmp_path / "a.o").read_bytes())
    (text,) = (s for s in obj.sections if s.name == ".text")
    code = bytes(obj.contents(text.index))
    fields = {f.offset: f for f in instruction_fields(code)}
    rows = obj.relocs(text.index).tolist()
    lines = [line for line in OPERANDS.splitlines() if "outside" in line or "variable" in line or "table" in line]
    assert len(rows) == len(lines)
    kinds = set()
    for (offset, kind, _, _), line in zip(rows, lines, strict=True):
        field = fields[offset]
        kinds.add(field.kind)
        assert kind in TYPES[field.kind] and field.size == ARCH.relocs.sizes[kind], line
        assert field.start < offset < offset + field.size <= field.end
    assert kinds == set(FieldKind) - {FieldKind.SHORT}


def test_short_constants_and_displacements_are_no_fields_for_a_relocation() -> None:
    # mov $1, 8(%rax) (byte); enter $16, $0; jmp +2
    fields = instruction_fields(bytes.fromhex("c6400801 c8100000 eb02".replace(" ", "")))
    assert fields and {f.kind for f in fields} == {FieldKind.SHORT} and not TYPES[FieldKind.SHORT]


# -- relocations ---------------------------------------------------------------------------------------------------


def change(section: str, number: int, **values: object) -> Callable[[Small], object]:
    """A spoiler that changes fields of a relocation."""

    def spoil(m: Small) -> None:
        for name, value in values.items():
            setattr(m.sections[section].relocs[number], name, value)

    return spoil


class WithData(Small):
    """With a variable that has pointers, and code that reads it and takes addresses."""

    def __init__(self) -> None:
        super().__init__()
        data = self.section(".data.own", A | W, bytes(24), align=8)
        own = self.symbol(OutSymbol("own", data, 0, 24, STB.LOCAL, STT.OBJECT))
        data.relocs.append(OutReloc(8, R_64, self.symbols["new"], 0))
        data.relocs.append(OutReloc(16, R_64, own, 0))
        # mov own(%rip), %rax; mov $own, %rdi; mov own(,%rax,8), %rax; call new; table of the kernel's: mov, ret
        code = "488b0500000000 48c7c700000000 488b04c500000000 e800000000 488b0500000000 c3".replace(" ", "")
        user = self.section(".text.user", A | X, bytes.fromhex(code), align=16)
        self.symbol(OutSymbol("user", user, 0, len(user.data), STB.LOCAL, STT.FUNC))
        new, late = self.symbols["new"], self.livepatch(".klp.sym.vmlinux.table,0")
        user.relocs += [OutReloc(3, R_PC32, own, -4), OutReloc(10, R_32S, own, 0), OutReloc(18, R_32S, own, -800)]
        user.relocs.append(OutReloc(23, R_PLT32, new, -4))
        self.late(".text.user", OutReloc(30, R_PC32, late, -4))


def room(m: Small) -> None:
    m.sections[USER].data.extend(b"\x90\x90\x90\xc3")
    m.symbols["user"].size += 4


def no_unwinding(m: Small) -> None:
    """The entries are for another function."""
    for row in m.sections[".orc_unwind_ip"].relocs:
        row.symbol = m.symbols["user"]
        row.addend = 0


USER, LATE_USER, OWN = ".text.user", ".klp.rela.vmlinux..text.user", ".data.own"
SPOILERS: dict[str, tuple[str, Callable[[Small], object]]] = {
    "branch as an absolute address": ("V41-reloc-field", change(".text.new", 0, type=R_32S)),
    "branch of 64 bits": ("V41-reloc-field", change(".text.new", 0, type=R_PC64)),
    "beside the field": ("V41-reloc-field", change(".text.new", 0, offset=2)),
    "in an opcode": ("V41-reloc-field", change(USER, 0, offset=0)),
    "beside a function of the kernel": ("V41-reloc-field", change(LATE_TEXT, 0, addend=-3)),
    "before a function of the kernel": ("V41-reloc-field", change(LATE_TEXT, 0, addend=-8)),
    "a branch that lacks its relocation": ("V41-reloc-field", lambda m: m.sections[USER].relocs.pop()),
    "a read that lacks its relocation": ("V41-reloc-field", lambda m: m.sections[USER].relocs.pop(0)),
    "a branch of no type": ("V41-reloc-field", change(USER, 3, type=R_NONE)),
    "into an instruction": ("V41-reloc-field", change(USER, 3, addend=-3)),
    "a branch into data": ("V41-reloc-field", lambda m: change(USER, 3, symbol=m.symbols["own"])(m)),
    "a read as an absolute address": ("V41-reloc-field", change(USER, 0, type=R_32S)),
    "a constant as a distance": ("V41-reloc-field", change(USER, 1, type=R_PC32)),
    "a constant without its sign": ("V41-reloc-field", change(USER, 1, type=R_32)),
    "an index as a distance": ("V41-reloc-field", change(USER, 2, type=R_PC32)),
    "beyond a variable": ("V41-reloc-field", change(USER, 0, addend=0x1000)),
    "before a variable": ("V41-reloc-field", change(USER, 0, addend=-5)),
    "beyond a variable of the kernel": ("V41-reloc-field", change(LATE_USER, 0, addend=13)),
    "before a variable of the kernel": ("V41-reloc-field", change(LATE_USER, 0, addend=-8)),
    "a pointer of 32 bits": ("V41-reloc-field", change(OWN, 0, type=R_32S)),
    "a pointer into an instruction": ("V41-reloc-field", change(OWN, 0, addend=1)),
    "a pointer beyond data": ("V41-reloc-field", change(OWN, 1, addend=4096)),
    "a pointer that is not aligned": ("V41-reloc-field", change(OWN, 0, offset=4)),
    "no type in a table": ("V41-reloc-field", change("__bug_table", 1, type=R_NONE)),
    "a key as 32 bits": ("V41-reloc-field", change("__jump_table", 2, type=R_PC32)),
    "an entry's distance as a constant": ("V41-reloc-field", change(".smp_locks", 0, type=R_32)),
    "room for an alternative": ("V22-unlisted-site", room),
    "no unwinding": ("V20-special", no_unwinding),
}


def test_a_good_module_has_no_finding() -> None:
    assert check(WithData().data) == []


@pytest.mark.parametrize("what", SPOILERS)
def test_relocations_that_do_not_fit(what: str) -> None:
    code, spoil = SPOILERS[what]
    small = WithData()
    spoil(small)
    assert code in {f.code for f in check(small.data)}


@pytest.mark.parametrize("addend", [-4, 0, 12])
def test_places_of_a_variable_and_its_end_are_fine(addend: int) -> None:
    small = WithData()
    change(LATE_USER, 0, addend=addend)(small)
    assert check(small.data) == []


def test_single_instructions_of_no_effect_are_nobodys_room() -> None:
    small = WithData()
    small.sections[USER].data.extend(b"\x90\x90\xc3")
    small.symbols["user"].size += 3
    assert check(small.data) == []


# -- what is cleared when a target goes -------------------------------------------------------------------------------


class Clearing(SmallTarget):
    """With the table of what is cleared: the one field that is relocated late."""

    def __init__(self) -> None:
        super().__init__()
        rows = abi.LATE.pack(size=4) + bytes(abi.LATE.size)
        table = self.section(abi.LATE.section, A, rows, align=8)
        texts = self.table.relocs[0].symbol
        place = self.symbol(OutSymbol("", self.sections[".text.new"], type=STT.SECTION))
        table.relocs += [OutReloc(0, R_64, texts, len("old") + 1), OutReloc(8, R_64, place, CALL + 1)]
        self.data_object(abi.LATE.symbol, table)


def test_what_is_cleared_is_what_is_relocated_late() -> None:
    assert check_target(Clearing()) == []
    for field, value in (("addend", CALL + 2), ("offset", 4)):
        small = Clearing()
        setattr(small.sections[abi.LATE.section].relocs[1], field, value)
        assert "V27-late-special" in {f.code for f in check_target(small)}
    small = Clearing()
    small.sections[abi.LATE.section].data[16] = 8
    assert {f.code for f in check_target(small)} == {"V27-late-special"}
    small = Clearing()
    del small.sections[abi.LATE.section].data[:24]
    small.sections[abi.LATE.section].relocs.clear()
    small.symbols[abi.LATE.symbol].size = 24
    assert {f.code for f in check_target(small)} == {"V27-late-special"}


# -- struct module ----------------------------------------------------------------------------------------------------

STRUCT = ModuleStruct(name=8, init=0, exit=72)


class WithStruct(Small):
    """With what modpost writes into struct module."""

    def __init__(self) -> None:
        super().__init__()
        section = self.sections[".gnu.linkonce.this_module"]
        section.data[:] = bytes(8) + b"livepatch_small".ljust(56, b"\0") + bytes(16)
        for offset, name in ((0, "init_module"), (72, "cleanup_module")):
            section.relocs.append(OutReloc(offset, R_64, self.symbols[name], 0))

    @property
    def struct(self) -> OutSection:
        return self.sections[".gnu.linkonce.this_module"]


STRUCT_SPOILERS: dict[str, Callable[[WithStruct], object]] = {
    "another name": lambda m: m.struct.data.__setitem__(8, ord("L")),
    "something behind the name": lambda m: m.struct.data.__setitem__(62, 1),
    "something else": lambda m: m.struct.data.__setitem__(65, 1),
    "no init": lambda m: m.struct.relocs.pop(0),
    "no exit": lambda m: m.struct.relocs.pop(1),
    "init elsewhere": lambda m: setattr(m.struct.relocs[0], "symbol", m.symbols["new"]),
    "init in its middle": lambda m: setattr(m.struct.relocs[0], "addend", 4),
    "init as 32 bits": lambda m: setattr(m.struct.relocs[0], "type", R_PC32),
    "exit at another place": lambda m: setattr(m.struct.relocs[1], "offset", 64),
    "a third pointer": lambda m: m.struct.relocs.append(OutReloc(64, R_64, m.symbols["new"], 0)),
    "exchanged": lambda m: [setattr(r, "offset", 72 - r.offset) for r in m.struct.relocs],
}


@pytest.mark.parametrize("what", [*STRUCT_SPOILERS, ""])
def test_struct_module_holds_name_init_and_exit(what: str) -> None:
    facts = dataclasses.replace(FACTS, module_size=80, struct=STRUCT)
    small = WithStruct()
    if what:
        STRUCT_SPOILERS[what](small)
    assert ("V25-this-module" in {f.code for f in check(small.data, facts=facts)}) == bool(what)


def test_a_module_of_the_kernel_tells_the_layout() -> None:
    module = read_module(WithStruct().data, NAME, 62)
    assert read_struct(module, "livepatch_small") == STRUCT
    assert read_struct(module, "other") is None
    assert read_struct(read_module(Small().data, NAME, 62), "livepatch_small") is None


# -- the wrapper ------------------------------------------------------------------------------------------------------


class Wrapper(WithData):
    """As the wrapper stands alone: it names its livepatch symbols as C does."""

    def __init__(self) -> None:
        super().__init__()
        self.symbols[".klp.sym.vmlinux.helper,0"].name = "kgbuild_klp_helper"


def faults(spoil: Callable[[Small], object]) -> set[str]:
    small = WithData()
    spoil(small)
    wrapper = read_module(Wrapper().data, NAME, 62)
    return {f.place for f in check_wrapper(read_module(small.data, NAME, 62), wrapper, ARCH)}


def test_the_wrapper_is_in_the_module() -> None:
    assert faults(lambda m: None) == set()
    assert faults(lambda m: m.sections[".text.new"].data.__setitem__(CALL, 0xE9)) == {"new"}
    assert faults(lambda m: m.sections[".init.text"].data.__setitem__(0, 0xCC)) == {"init_module"}
    assert faults(change(LATE_TEXT, 0, addend=0)) == {"new"}
    assert faults(lambda m: change(LATE_TEXT, 0, symbol=m.symbols[".klp.sym.vmlinux.old,0"])(m)) == {"new"}
    assert faults(lambda m: m.sections[".text.new"].relocs.pop()) == {"new"}
    assert faults(lambda m: setattr(m.symbols["user"], "name", "other")) == {"user"}
    assert faults(lambda m: setattr(m.symbols["init_module"], "bind", STB.LOCAL)) == {"init_module"}
    assert faults(lambda m: m.sections[OWN].data.__setitem__(0, 1)) == {"own"}


def test_verify_asks_for_the_wrapper_of_the_same_kgbuild() -> None:
    wrapper = read_module(Wrapper().data, NAME, 62)
    facts = dataclasses.replace(FACTS, wrapper=lambda module: wrapper)
    for tool, wanted in ((f"kgbuild {__version__}", {"V42-wrapper"}), ("kgbuild 0.0.0", set())):
        small = WithData()
        small.note["tool"] = tool
        small.symbols["user"].name = "other"
        assert {f.code for f in check(small.data, facts=facts)} == wanted


def test_tables_of_a_module_tell_the_parts_of_its_wrapper() -> None:
    assert wrapper_macros(read_module(Small().data, NAME, 62)) == ()
    assert wrapper_macros(read_module(Clearing().data, NAME, 62)) == ("KGBUILD_CLEAR_LATE",)
    small = Small()
    rows = b"".join(abi.INITIAL.pack(size=8, kind=kind) for kind in (0, 2)) + bytes(abi.INITIAL.size)
    small.data_object(abi.INITIAL.symbol, small.section(abi.INITIAL.section, A, rows, align=8))
    assert wrapper_macros(read_module(small.data, NAME, 62)) == ("KGBUILD_INITIAL", "KGBUILD_KEYS")


def test_code_that_takes_its_own_place_needs_no_relocation() -> None:
    """lea 0(%rip), %rdi is what gcc makes of _THIS_IP_."""
    small = WithData()
    small.sections[USER].data.extend(bytes.fromhex("488d3d00000000c3"))
    small.symbols["user"].size += 8
    assert check(small.data) == []


@pytest.mark.parametrize("addend", [-8, 4096])
def test_an_address_that_code_computes_with_may_be_beside_the_variable(addend: int) -> None:
    small = WithData()
    change(USER, 1, addend=addend)(small)
    assert check(small.data) == []
