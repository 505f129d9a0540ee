# SPDX-License-Identifier: GPL-2.0-or-later
"""Relocated fields: what is put into one comes out of it, what does not fit is said, and binutils agree."""

from __future__ import annotations

import random
import subprocess
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from kgbuild.arch import arch_of, for_kernel, for_object, known
from kgbuild.arch.howto import DoesNotFit, Howto, Howtos, Overflow
from kgbuild.elf.object import Object
from kgbuild.elf.read import read
from kgbuild.errors import UserError

X86_64 = arch_of(62)
PLACE = 0xFFFF_FFFF_8123_4568
ADDRESS = (1 << 64) - 1

# Forms of other architectures (ELF for the Arm 64-bit Architecture, 5.7; s390x ABI, table 4), to show that rows can say
# them: the distance of pages, low bits, scaled branches, fields in pieces, words that are not the field alone.
ADRP = Howto(
    275,
    "R_AARCH64_ADR_PREL_PG_HI21",
    4,
    pc_relative=True,
    overflow=Overflow.SIGNED,
    shift=12,
    page=4096,
    pieces=((0, 29, 2), (2, 5, 19)),
)
LO12 = Howto(277, "R_AARCH64_ADD_ABS_LO12_NC", 4, signed=False, low=12, pieces=((0, 10, 12),))
LDST64 = Howto(286, "R_AARCH64_LDST64_ABS_LO12_NC", 4, signed=False, low=12, shift=3, pieces=((0, 10, 9),))
CALL26 = Howto(283, "R_AARCH64_CALL26", 4, pc_relative=True, overflow=Overflow.SIGNED, shift=2, pieces=((0, 0, 26),))
ABS32 = Howto(258, "R_AARCH64_ABS32", 4, overflow=Overflow.EITHER, signed=False)
PC32DBL = Howto(19, "R_390_PC32DBL", 4, pc_relative=True, overflow=Overflow.SIGNED, shift=1)
DISP20 = Howto(57, "R_390_20", 4, overflow=Overflow.SIGNED, pieces=((0, 16, 12), (12, 8, 8)))


def reachable(howto: Howto, number: int) -> int:
    """The address that a field means whose stored number is this one."""
    value = number << howto.shift
    return (value + (PLACE & -howto.page if howto.page else PLACE if howto.pc_relative else 0)) & ADDRESS


def stored(howto: Howto) -> list[int]:
    """Numbers at the borders of what a field can hold, and others."""
    bits = howto.bits
    if not bits:
        return []
    low, high = (-1 << bits - 1, (1 << bits - 1) - 1) if howto.signed else (0, (1 << bits) - 1)
    chance = random.Random(howto.type)
    return [low, low + 1, 0, 1, high - 1, high, *(chance.randint(low, high) for _ in range(200))]


@pytest.mark.parametrize(
    "howto", [*X86_64.relocs.rows, ADRP, LO12, LDST64, CALL26, ABS32, PC32DBL, DISP20], ids=lambda h: h.name
)
@pytest.mark.parametrize("order", ["little", "big"])
def test_what_is_put_into_a_field_comes_out_of_it(howto: Howto, order: str) -> None:
    chance = random.Random(howto.type)
    for number in stored(howto):
        word = chance.randbytes(howto.size)
        value = reachable(howto, number)
        made = howto.insert(word, value, PLACE, order)
        assert howto.extract(made, PLACE, order) == value
        # no bit beside the field changes
        assert howto.clear(made, order) == howto.clear(word, order)
    assert bool(stored(howto)) == bool(howto.size)


@pytest.mark.parametrize("howto", [*X86_64.relocs.rows, ADRP, CALL26, ABS32, PC32DBL, DISP20], ids=lambda h: h.name)
def test_what_does_not_fit_is_said(howto: Howto) -> None:
    """One beyond each end; fields of a whole address, and those that drop bits, take everything."""
    if howto.bits in (0, 64):
        assert howto.overflow is Overflow.IGNORED
        return
    low = -1 << howto.bits - 1 if howto.overflow is not Overflow.UNSIGNED else 0
    high = (1 << howto.bits - (howto.overflow is Overflow.SIGNED)) - 1
    for number in (low, high):
        howto.insert(bytes(howto.size), reachable(howto, number), PLACE, "little")
    for number in (low - 1, high + 1):
        with pytest.raises(DoesNotFit, match=howto.name):
            howto.insert(bytes(howto.size), reachable(howto, number), PLACE, "little")
        unchecked = howto.insert(bytes(howto.size), reachable(howto, number), PLACE, "little", checked=False)
        assert len(unchecked) == howto.size


def test_what_is_no_multiple_of_the_unit_is_said() -> None:
    with pytest.raises(DoesNotFit, match="no multiple of 2"):
        PC32DBL.insert(bytes(4), PLACE + 5, PLACE, "big")
    with pytest.raises(DoesNotFit, match="no multiple of 8"):
        LDST64.insert(bytes(4), 0x1004, 0, "little")


def test_words_of_other_architectures() -> None:
    """Instructions as the manuals encode them: adrp x0, two pages on; add x0, x0, #0x468; bl; larl; lg."""
    assert ADRP.insert(bytes.fromhex("00000090"), PLACE + 0x2000, PLACE, "little").hex() == "000000d0"
    assert ADRP.extract(bytes.fromhex("e0ffffb0"), 0x40_1234, "little") == 0x3F_E000
    assert LO12.insert(bytes.fromhex("00000091"), 0xFFFF_8000_0123_4468, 0, "little").hex() == "00a01191"
    assert CALL26.insert(bytes.fromhex("00000094"), PLACE - 4, PLACE, "little").hex() == "ffffff97"
    # the field of larl is 2 bytes behind its instruction, and the addend says so
    assert PC32DBL.insert(bytes(4), PLACE + 0x100, PLACE, "big").hex() == "00000080"
    assert DISP20.insert(bytes.fromhex("f0001004"), -8 & ADDRESS, 0, "big").hex() == "fff8ff04"
    assert DISP20.extract(bytes.fromhex("fff8ff04"), 0, "big") == -8 & ADDRESS


def test_short_branches_have_a_field_of_their_own_size() -> None:
    """The assembler writes `jmp` to a near place with one byte, and leaves no relocation."""
    howto = X86_64.relocs.in_bytes(4, 1)
    assert howto.extract(b"\xfe", 0x1000, "little") == 0xFFE
    assert X86_64.relocs.in_bytes(4, 4) is X86_64.relocs[4]
    with pytest.raises(KeyError):
        X86_64.relocs.in_bytes(200, 4)


def test_only_the_field_is_cleared() -> None:
    table = Howtos((Howto(0, "NONE", 0), ADRP, PC32DBL))
    raw = bytearray.fromhex("ffffffff ffffffff ffffffff")
    fields = [SimpleNamespace(offset=10, type=275, size=4), SimpleNamespace(offset=16, type=19, size=4)]
    table.clear(raw, fields, "little", base=8)
    assert raw.hex() == "ffff1f00009fffff00000000"
    assert table.partial == {275} and table.plain == {0}


def test_rows_that_contradict_themselves_are_refused() -> None:
    with pytest.raises(ValueError, match="outside"):
        Howto(1, "WIDE", 2, pieces=((0, 10, 8),))
    with pytest.raises(ValueError, match="overlap"):
        Howto(1, "TWICE", 4, pieces=((0, 0, 8), (8, 4, 8)))
    with pytest.raises(ValueError, match="two rows"):
        Howtos((Howto(0, "NONE", 0), Howto(1, "A", 4), Howto(1, "B", 4)))
    with pytest.raises(ValueError, match="bytes instead of 4"):
        CALL26.extract(b"\0\0", 0, "little")


def assemble(text: str) -> bytes:
    """The object of some assembly."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "a.o"
        subprocess.run(["as", "--64", "-o", out, "-"], input=text.encode(), check=True)
        return out.read_bytes()


# R_X86_64_64, PC32, PLT32, 32, 32S and PC64 of symbols that the linker places where it is told.
SOURCE = """
    .text
    .globl _start
_start:
    call outside
    lea outside+0x10(%rip), %rax
    mov $outside, %rax
    movl $low+3, %ecx
    cmpl $7, outside(%rip)
    movabs $outside-1, %rdx
    .data
    .quad outside+8
    .long outside - .
    .long low
    .quad outside - . + 0x20
"""


def test_the_linker_agrees(tmp_path: Path) -> None:
    """Each relocated field of an object, filled from its row, is what ld writes; read back, it means the symbol."""
    values = {"outside": 0xFFFF_FFFF_8100_1230, "low": 0x7654_3210}
    (tmp_path / "a.o").write_bytes(assemble(SOURCE))
    symbols = [f"--defsym={name}={value:#x}" for name, value in values.items()]
    places = {".text": 0xFFFF_FFFF_8100_0000, ".data": 0xFFFF_FFFF_8180_0000}
    argv = ["ld", "-o", "a.out", "a.o", *symbols, *(f"--section-start={n}={v:#x}" for n, v in places.items())]
    subprocess.run(argv, cwd=tmp_path, check=True, capture_output=True)
    made, linked = (read((tmp_path / name).read_bytes()) for name in ("a.o", "a.out"))
    seen = set()
    for name, address in places.items():
        section, other = made.section_named(name), linked.section_named(name)
        assert section is not None and other is not None and other.addr == address
        raw, filled = bytes(made.contents(section.index)), bytes(linked.contents(other.index))
        for offset, kind, sym, addend in made.reloc_rows(section.index):
            howto, value = X86_64.relocs[kind], values[made.name_of(sym)] + addend
            span = slice(offset, offset + howto.size)
            assert howto.insert(raw[span], value, address + offset, made.order) == filled[span], (name, offset)
            assert howto.extract(filled[span], address + offset, made.order) == value & ADDRESS
            seen.add(kind)
    assert seen == {*X86_64.relocs} - {X86_64.relocs.none}


def test_the_linker_refuses_the_same(tmp_path: Path) -> None:
    """What is said not to fit is "relocation truncated to fit" for ld."""
    for code, kind, value in (
        ("movl $s, %ecx", 10, 0x1_0000_0000),
        ("movl $s, %ecx", 10, 0xFFFF_FFFF_8000_0000),
        ("mov $s, %rcx", 11, 0x8000_0000),
        ("call s", 4, 0x1_0000_0000),
    ):
        (tmp_path / "a.o").write_bytes(assemble(f".text\n.globl _start\n_start: {code}\n"))
        argv = ["ld", "-o", "a.out", "a.o", f"--defsym=s={value:#x}", "--section-start=.text=0x1000"]
        done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
        obj = read((tmp_path / "a.o").read_bytes())
        ((offset, found, _, addend),) = obj.reloc_rows(obj.by_name[".text"][0])
        assert found == kind and "truncated to fit" in done.stderr
        with pytest.raises(DoesNotFit):
            X86_64.relocs[kind].insert(bytes(4), value + addend, 0x1000 + offset, "little")


def test_an_architecture_is_found_by_what_it_is_called() -> None:
    for name in ("x86_64", "x86", "amd64"):
        assert for_kernel(name) is X86_64
    with pytest.raises(UserError, match=r"fs/x\.ko: architecture 'alpha' is not supported; use an x86_64 kernel"):
        for_kernel("alpha", "fs/x.ko")
    assert X86_64 in known()


def test_an_object_of_another_machine_or_byte_order_is_refused() -> None:
    def obj(machine: int, order: str = "little", word: int = 8) -> Object:
        return SimpleNamespace(machine=machine, order=order, word=word)  # type: ignore[return-value]

    assert for_object(obj(62)) is X86_64
    with pytest.raises(
        UserError, match=r"a\.o: architecture with e_machine 183 is not supported; use an x86_64 object"
    ):
        for_object(obj(183), "a.o")
    with pytest.raises(UserError, match="a big-endian object of 64 bits, where x86_64 has a little-endian one of 64"):
        for_object(obj(62, "big"))
    with pytest.raises(UserError, match="object of 32 bits"):
        for_object(obj(62, word=4))
