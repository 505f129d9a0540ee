# SPDX-License-Identifier: GPL-2.0-or-later
"""What verify finds in slots and in code that goes through them."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from kgbuild import module_abi as abi
from kgbuild.arch.x86_64.special_sections import ORC_ENTRY
from kgbuild.arch.x86_64.table import ARCH
from kgbuild.elf.consts import SHF, SHT, STB, STT
from kgbuild.elf.write import OutObject, OutReloc, OutSection, OutSymbol, write
from kgbuild.emit.backends.slots import SlotWriter, plan_steps
from kgbuild.model import Finding
from kgbuild.verification.code import DecodedCode
from kgbuild.verification.kallsyms import read_tables
from kgbuild.verification.reading.reader import read_module
from kgbuild.verification.slots import check_slots

A, X = SHF.ALLOC, SHF.EXECINSTR
R_64, R_PC32 = 1, 2
# push %rbx; lock incl target(%rip); lea target(%rip), %rax; pop %rbx; ret
TEXT = bytes.fromhex("53 f0ff0500000000 488d0500000000 5b c3")
LOCKED, TAKEN = 1, 8
# sp+8, previous sp at 0; then sp+16, as behind a push; then none
STATES = [(0, struct.pack("<hhH", 8, 0, 0x15)), (1, struct.pack("<hhH", 16, 0, 0x15)), (len(TEXT), bytes(6))]


class Slotted:
    """A module with one function, whose references to `target` go through a slot; in parts to be spoiled."""

    def __init__(self, text: bytes = TEXT, references: tuple[int, ...] = (LOCKED, TAKEN)) -> None:
        self.out = OutObject(62)
        self.section(".modinfo", A, b"name=x\0")
        self.text = self.section(".text.f", A | X, text)
        self.function = OutSymbol("f", self.text, 0, len(text), type=STT.FUNC)
        self.named = OutSymbol("", self.text, type=STT.SECTION)
        target = OutSymbol(".klp.sym.vmlinux.target,0", bind=STB.GLOBAL)
        self.text.relocs = [OutReloc(at + 3, R_PC32, target, -4) for at in references]
        self.locks = self.section(".smp_locks", A, bytes(4))
        self.locks.relocs = [OutReloc(0, R_PC32, self.named, LOCKED)]
        self.places = self.section(".orc_unwind_ip", A, bytes(4 * len(STATES)))
        self.places.relocs = [OutReloc(4 * n, R_PC32, self.named, at) for n, (at, _) in enumerate(STATES)]
        self.states = self.section(".orc_unwind", A, b"".join(state for _, state in STATES))
        self.out.symbols += [self.function, self.named, target]
        writer = SlotWriter(self.out, ARCH)
        steps = plan_steps(self.out, ARCH, lambda s, r: r.symbol is target and s is self.text)
        assert [u.addend for u in writer.run(steps)] == [0]
        self.out.symbols.remove(target)
        self.slots, self.moved = writer.section, writer.moved
        self.sites = [(self.slots, 0, 0)]

    def section(self, name: str, flags: int, data: bytes) -> OutSection:
        made = OutSection(name, SHT.PROGBITS, flags, bytearray(data), align=8)
        self.out.sections.append(made)
        return made

    @property
    def to(self) -> int:
        return self.moved.relocs[1].addend

    def findings(self) -> list[Finding]:
        names = self.section(".rodata.kgbuild_names", A, b"target\0")
        symbols = self.section(".rodata.kgbuild_symbols", A, abi.SYMBOLS.layout.pack(0, 0, 0, 0, 0, 0, 0))
        symbols.relocs = [OutReloc(8, R_64, OutSymbol("", names, type=STT.SECTION), 0)]
        self.out.symbols.append(symbols.relocs[0].symbol)
        rows = b"".join(abi.SITES.layout.pack(0, 0, kind, 0, 0) for _, _, kind in self.sites)
        sites = self.section(".rodata.kgbuild_sites", A, rows + bytes(abi.SITES.layout.size))
        for n, (section, offset, _) in enumerate(self.sites):
            symbol = OutSymbol("", section, type=STT.SECTION)
            self.out.symbols.append(symbol)
            sites.relocs.append(OutReloc(n * abi.SITES.layout.size, R_64, symbol, offset))
        ranges = self.section(".rodata.kgbuild_ranges", A, bytes(8))
        size = self.section(".rodata.kgbuild_symbols_size", A, struct.pack("<I", abi.SYMBOLS.layout.size))
        for made in (symbols, sites, ranges, size):
            name = made.name.removeprefix(".rodata.")
            self.out.symbols.append(OutSymbol(name, made, 0, len(made.data), STB.GLOBAL, STT.OBJECT))
        module = read_module(write(self.out), "x.ko", 62)
        tables = read_tables(module)
        assert tables.faults == ()
        return list(check_slots(module, tables, ARCH, DecodedCode(module, ARCH)))


def test_a_good_module_has_no_finding() -> None:
    module = Slotted()
    assert module.findings() == []
    assert [s.name for s in module.out.sections].count(abi.SLOTS_SECTION) == 1


def test_what_belongs_to_a_moved_instruction_follows() -> None:
    module = Slotted()
    data, to = module.text.data, module.to
    assert data[LOCKED : LOCKED + 7] == b"\xe9" + struct.pack("<i", to - LOCKED - 5) + b"\xcc\xcc"
    assert data[TAKEN + 1] == 0x8B
    assert module.function.size == len(data)
    lock = module.locks.relocs[0].addend
    assert lock > to
    assert data[lock] == 0xF0
    # in order: two that are as before, the end, and in what was moved before the push, behind it, behind the pop
    states = [module.states.data[at : at + ORC_ENTRY] for at in range(0, len(module.states.data), ORC_ENTRY)]
    assert [struct.unpack("<hhH", s)[0] for s in states] == [8, 16, 0, 16, 24, 16]
    assert [r.addend for r in module.places.relocs] == [0, 1, len(data), to, to + 1, len(data) - 5]


def test_a_jump_of_the_compiler_s_is_none_of_a_moved_instruction() -> None:
    """jmp to `lea target(%rip), %rax`, which jumps back right behind it."""
    module = Slotted(bytes.fromhex("e901000000 c3 488d0500000000 e9f3ffffff"), (6,))
    module.locks.relocs.clear()
    assert module.text.data[6:9] == b"\x48\x8b\x05"
    assert module.findings() == []


def put(section: str, at: Callable[[Slotted], int], value: bytes) -> Callable[[Slotted], None]:
    def spoil(m: Slotted) -> None:
        start = at(m)
        getattr(m, section).data[start : start + len(value)] = value

    return spoil


def in_moved(offset: int, value: bytes) -> Callable[[Slotted], None]:
    return put("text", lambda m: m.to + offset, value)


def shorter(m: Slotted) -> None:
    m.function.size = len(TEXT)


def entered(m: Slotted) -> None:
    """Something else jumps to what was moved."""
    m.text.data += b"\xe9" + struct.pack("<i", m.to - len(m.text.data) - 5)


def entered_inside(m: Slotted) -> None:
    """Something jumps into what fills the place of the instruction that was moved."""
    m.text.data += b"\xe9" + struct.pack("<i", LOCKED + 5 - len(m.text.data) - 5)


def entered_from_another(m: Slotted) -> None:
    """A branch with a relocation, from another section."""
    cold = m.section(".text.unlikely.f", A | X, b"\xe9" + bytes(4))
    cold.relocs.append(OutReloc(1, R_PC32, m.named, m.to + 1 - 4))


def pointed_to(m: Slotted) -> None:
    m.section(".rodata.table", A, bytes(8)).relocs.append(OutReloc(0, R_64, m.named, m.to + 1))


def in_exception_table(m: Slotted) -> None:
    table = m.section("__ex_table", A, bytes(12))
    table.relocs += [OutReloc(0, R_PC32, m.named, LOCKED), OutReloc(4, R_PC32, m.named, TAKEN)]


def unlisted(m: Slotted) -> None:
    m.moved.data.clear()
    m.moved.relocs.clear()


def another_function(m: Slotted) -> None:
    m.out.symbols.append(OutSymbol("g", m.text, len(TEXT), 1, type=STT.FUNC))


def other_type(m: Slotted) -> None:
    m.text.relocs[0].type = 24


def from_data(m: Slotted) -> None:
    data = m.section(".data.x", A | SHF.WRITE, bytes(8))
    data.relocs.append(OutReloc(0, R_64, m.text.relocs[0].symbol, 0))


def beside(m: Slotted) -> None:
    m.text.relocs[0].addend += 4


def row(m: Slotted, at: int) -> OutReloc:
    return m.moved.relocs[at]


SPOILERS: list[tuple[Callable[[Slotted], object], str]] = [
    (lambda m: m.sites.clear(), "is a slot that nothing writes"),
    (lambda m: m.sites.__setitem__(0, (m.slots, 0, 1)), "is no whole slot"),
    (lambda m: m.sites.append((m.text, 0, 2)), "is code that is written when the module is loaded"),
    (beside, "otherwise than by loading one"),
    (other_type, "otherwise than by loading one"),
    (from_data, "otherwise than by loading one"),
    (put("text", lambda m: TAKEN + 1, b"\x8d"), "otherwise than by loading one"),
    (put("text", lambda m: TAKEN, b"\x40"), "otherwise than by loading one"),
    (put("text", lambda m: LOCKED + 1, b"\x00"), "is no jump to where it was moved"),
    (put("text", lambda m: LOCKED + 6, b"\x90"), "is no jump to where it was moved"),
    (in_moved(0, b"\x90"), "is not what one instruction becomes"),
    (in_moved(0, b"\x51"), "does not restore what it saves"),
    (put("text", lambda m: len(m.text.data) - 6, b"\x5b"), "does not restore what it saves"),
    (put("text", lambda m: len(m.text.data) - 4, b"\x00"), "does not come back behind the instruction"),
    (put("text", lambda m: len(m.text.data) - 5, b"\xe8"), "does not come back behind the instruction"),
    (put("text", lambda m: m.locks.relocs[0].addend, b"\xf0\xff\x03"), "does not use once what it loads"),
    (shorter, "which is outside its function"),
    (entered, "leads to +"),
    (entered_inside, "leads to +"),
    (entered_from_another, "leads to +"),
    (pointed_to, "leads to +"),
    (in_exception_table, "and __ex_table+0x0 leads to +0x1"),
    (unlisted, "does not say so"),
    (another_function, "which is outside its function"),
    (put("states", lambda m: 4 * ORC_ENTRY, b"\x10"), "is not of its stack"),
    (lambda m: m.places.relocs.pop(4), "is not of its stack"),
    (lambda m: m.moved.relocs.pop(), "leads to no code, or to two sections"),
    (lambda m: m.moved.data.extend(b"\0"), "are no whole number of rows"),
    (put("moved", lambda m: 20, struct.pack("<I", 500)), "is not wholly in the section"),
    (lambda m: setattr(row(m, 1), "addend", m.to - 1), "is no jump to where it was moved"),
]


@pytest.mark.parametrize(("spoil", "fact"), SPOILERS, ids=[f"{n}-{fact}" for n, (_, fact) in enumerate(SPOILERS)])
def test_what_is_spoiled_is_found(spoil: Callable[[Slotted], object], fact: str) -> None:
    module = Slotted()
    spoil(module)
    found = module.findings()
    assert {f.code for f in found} == {"V33-kallsyms"}
    assert any(fact in f.fact for f in found), found


def test_the_table_of_moved_instructions_is_not_loaded() -> None:
    module = Slotted()
    assert not module.moved.flags & SHF.ALLOC
    assert module.moved.name == abi.MOVED.section
    assert len(module.moved.data) == abi.MOVED.layout.size
