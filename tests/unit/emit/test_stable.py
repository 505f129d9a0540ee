# SPDX-License-Identifier: GPL-2.0-or-later
"""Which instructions a module compares before it relies on a function: none that a kernel writes when it boots."""

from __future__ import annotations

import struct
import zlib
from types import SimpleNamespace
from typing import Any

import pytest

from kgbuild.arch import arch_of
from kgbuild.arch.x86_64.stable_code import stable_instructions
from kgbuild.emit.backends.stable_bytes import NOTHING, Stable, StableCode
from kgbuild.errors import ToolError
from kgbuild.proof.record import BoundSymbol

ARCH = arch_of(62)

STABLE = {
    "push %rbp": "55",
    "mov %rdi,%rbp": "4889fd",
    "mov $0xa,%edx": "ba0a000000",
    "mov $0xffffffc2,%esi": "bec2ffffff",  # -62
    "mov 0x10(%rdi),%rax": "488b4710",
    "movq $-1,%rbx": "48c7c3ffffffff",
    "test $0x40000000,%eax": "a900000040",
    "add $0x1000,%rax": "480500100000",
}
WRITTEN = {
    "call": "e800000000",
    "jmp, short": "eb10",
    "je": "0f8400000000",
    "ret": "c3",
    "int3": "cc",
    "ud2": "0f0b",
    "nop": "0f1f440000",
    "nop of one byte": "90",
    "endbr64": "f30f1efa",
    "lock incl (%rdi)": "f0ff07",
    "mov x(%rip),%rax": "488b0500100000",
    "lea x(%rip),%rax": "488d0500100000",
    "mov %gs:0x28,%rax": "65488b042528000000",
    "mov $address,%rdi": "48c7c7cc203782",
    "mov $address,%edi": "bfcc203782",
    "mov table(,%rax,8),%rax": "488b04c5203a2382",
    "movabs, may be a constant of the kernel's": "48ba efcdab8967452301".replace(" ", ""),
    "mov $kaslr_offset(),%rbx": "48c7c300000000",
    "xor $kaslr_offset(),%rbx": "4881f300000000",
    "xor $kaslr_offset(),%rax": "483500000000",
}


@pytest.mark.parametrize("name", STABLE)
def test_what_stays(name: str) -> None:
    code = bytes.fromhex(STABLE[name])
    assert stable_instructions(code) == [(0, len(code))]


@pytest.mark.parametrize("name", WRITTEN)
def test_what_a_kernel_may_write(name: str) -> None:
    assert stable_instructions(bytes.fromhex(WRITTEN[name])) == []


START, TABLE = 0x1000, 0x8000


class CodeImage:
    """A kernel of one function, with an entry of 12 bytes in .altinstructions for each (offset, length)."""

    obj = SimpleNamespace(sections=(), order="little")
    section = ".text"
    copied: tuple[int, int] | None = None  # where code is that lies in data

    def __init__(self, code: bytes, replaced: list[tuple[int, int]]) -> None:
        self.code = code
        self.entries = b"".join(
            struct.pack("<iiHBB", START + offset - TABLE - 12 * n, 0, 0, length, 0)
            for n, (offset, length) in enumerate(replaced)
        )

    def read(self, address: int, size: int) -> bytes:
        return self.code[address - START :][:size]

    def section_at(self, address: int) -> str:
        return self.section if START <= address < START + len(self.code) else ""

    def named(self, name: str) -> list[SimpleNamespace]:
        ends = {"__relocate_kernel_start": 0, "__relocate_kernel_end": 1}
        return [SimpleNamespace(value=self.copied[ends[name]])] if self.copied else []

    def table(self, section: str) -> tuple[int, bytes] | None:
        return (TABLE, self.entries) if section == ".altinstructions" else None


def stable(code: bytes, *replaced: tuple[int, int]) -> Stable:
    image: Any = CodeImage(code, list(replaced))
    return StableCode(ARCH, image).of(BoundSymbol("vmlinux", "f", 0, "function", ".text", START, len(code), ""))


def test_instructions_in_tables_are_left_out() -> None:
    parts = [bytes.fromhex(STABLE[n]) for n in ("push %rbp", "mov %rdi,%rbp", "mov 0x10(%rdi),%rax", "mov $0xa,%edx")]
    code = b"".join(parts)
    assert stable(code) == (((0, len(code)),), zlib.crc32(code))
    # the last byte of the second is replaced: all of it is left out
    left = parts[0] + b"".join(parts[2:])
    assert stable(code, (3, 1)) == (((0, 1), (4, len(code) - 4)), zlib.crc32(left))
    assert stable(code, (0, len(code))) == NOTHING


def test_a_table_that_leads_nowhere_is_not_believed() -> None:
    with pytest.raises(ToolError, match="fit 0 of the known sizes"):
        stable(bytes.fromhex("55"), (0x400, 1))


@pytest.mark.parametrize("section", [".init.text", ".text.unlikely", ".altinstr_aux"])
def test_code_is_replaced_in_any_section_of_code(section: str) -> None:
    image: Any = CodeImage(bytes.fromhex("5555"), [(0, 1)])
    image.section = section
    found = StableCode(ARCH, image).of(BoundSymbol("vmlinux", "f", 0, "function", section, START, 2, ""))
    assert found.ranges == ((1, 1),)


@pytest.mark.parametrize(("start", "believed"), [(START, True), (START + 1, False)])
def test_code_that_kexec_copies_lies_in_data(start: int, believed: bool) -> None:
    image: Any = CodeImage(bytes.fromhex("5555"), [(0, 1)])
    image.section, image.copied = ".data", (start, START + 2)
    place = BoundSymbol("vmlinux", "f", 0, "function", ".data", START, 2, "")
    if believed:
        assert StableCode(ARCH, image).of(place).ranges == ((1, 1),)
        return
    with pytest.raises(ToolError, match="fit 0 of the known sizes"):
        StableCode(ARCH, image).of(place)


def test_a_table_cut_in_an_entry_is_not_believed() -> None:
    image: Any = CodeImage(bytes.fromhex("55"), [(0, 1)])
    image.entries = image.entries[:-1]
    with pytest.raises(ToolError, match="fit 0 of the known sizes"):
        StableCode(ARCH, image).of(BoundSymbol("vmlinux", "f", 0, "function", ".text", START, 1, ""))
