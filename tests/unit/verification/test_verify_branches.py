# SPDX-License-Identifier: GPL-2.0-or-later
"""verify on a kernel that tracks indirect branches and writes constants into code: a good module has no finding, and
each rule is broken once."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable

import pytest

from kgbuild.elf.consts import SHF, SHN, STB, STT
from kgbuild.elf.write import OutReloc, OutSymbol
from kgbuild.model import Finding
from tests.support.small_module import CALL, FACTS, PLAIN, R_64, R_PC32, TWIN, FakeImage, Small, check

A, W, X = SHF.ALLOC, SHF.WRITE, SHF.EXECINSTR
ENDBR = bytes.fromhex("f30f1efa")
PLACEHOLDER = (0x0123456789ABCDEF).to_bytes(8, "little")
# movabs $placeholder, %rax; shr $12, %eax; ret
CONSTANT_CODE = b"\x48\xb8" + PLACEHOLDER + bytes.fromhex("c1e80cc3")
POINTER, SHIFT = 2, 12
# lea callback(%rip), %rdi; ret
TAKER_CODE = bytes.fromhex("488d3d00000000c3")


class TrackedImage(FakeImage):
    """Both `twin` begin with endbr64, `helper` and `plain` do not; the second `twin` is sealed."""

    def read(self, address: int, size: int) -> bytes | None:
        code = super().read(address, size) or b""
        return (ENDBR + code.removeprefix(ENDBR))[:size] if address in (TWIN, TWIN + 0x100) else code

    @property
    def sealed(self) -> frozenset[int]:
        return frozenset({TWIN + 0x100})


TRACKED = dataclasses.replace(FACTS, image=TrackedImage(), tracked=True)


class SmallTracked(Small):
    """Has a function whose address its code and its data take, a pointer to a `twin` of the kernel, two constants, and
    a call that is counted."""

    image = TrackedImage()

    def __init__(self) -> None:
        super().__init__()
        callback = self.section(".text.callback", A | X, ENDBR + b"\xc3", align=16)
        self.symbol(OutSymbol("callback", callback, 0, 5, STB.LOCAL, STT.FUNC))
        taker = self.section(".text.taker", A | X, TAKER_CODE, align=16)
        taker.relocs.append(OutReloc(3, R_PC32, self.symbols["callback"], -4))
        operations = self.section(".data.operations", A | W, bytes(16), align=8)
        operations.relocs.append(OutReloc(0, R_64, self.symbols["callback"], 0))
        self.pointer = self.livepatch(".klp.sym.vmlinux.twin,1")
        self.late(".data.operations", OutReloc(8, R_64, self.pointer, 0))
        text = self.section(".text.constant", A | X, CONSTANT_CODE, align=16)
        place = self.symbol(OutSymbol("constant", text, 0, len(CONSTANT_CODE), STB.LOCAL, STT.FUNC))
        rows = struct.pack("<9Q", 0, 0, 8, 0, 0, 1, 0, 0, 0)
        self.constants = self.section(".rodata.kgbuild_constants", A, rows, align=8)
        self.constants.relocs += [OutReloc(0, R_64, place, POINTER), OutReloc(24, R_64, place, SHIFT)]
        self.value = self.livepatch(".klp.sym.vmlinux.table,0")
        self.late(self.constants.name, OutReloc(8, R_64, self.value, 0), OutReloc(32, R_64, self.value, 0))
        self.data_object("kgbuild_constants", self.constants)
        self.entries(".call_sites", 4, (0, CALL))


def check_tracked(small: Small) -> list[Finding]:
    return check(small.data, facts=TRACKED)


def test_a_good_module_has_no_finding() -> None:
    assert check_tracked(SmallTracked()) == []


def code(section: str, data: bytes) -> Callable[[SmallTracked], object]:
    def spoil(m: SmallTracked) -> None:
        m.sections[section].data[:] = data

    return spoil


def point_to(name: str) -> Callable[[SmallTracked], object]:
    return lambda m: setattr(m.pointer, "name", name)


def seal(m: SmallTracked) -> None:
    entry = m.section(".ibt_endbr_seal", A, bytes(4))
    entry.relocs.append(OutReloc(0, R_PC32, m.symbols["callback"], 0))


def drop_row(m: SmallTracked) -> None:
    """The row of the pointer is gone."""
    m.constants.data[:] = m.constants.data[24:]
    m.symbols["kgbuild_constants"].size = 48
    late = m.sections[f".klp.rela.vmlinux.{m.constants.name}"]
    for section in (m.constants, late):
        section.relocs[:] = [dataclasses.replace(section.relocs[1], offset=section.relocs[1].offset - 24)]


def no_end(m: SmallTracked) -> None:
    m.symbols["kgbuild_constants"].size = 48


def no_value(m: SmallTracked) -> None:
    del m.sections[f".klp.rela.vmlinux.{m.constants.name}"].relocs[0]


def own_value(m: SmallTracked) -> None:
    no_value(m)
    m.constants.relocs.append(OutReloc(8, R_64, m.symbols["callback"], 0))


def site(number: int, symbol: str, addend: int) -> Callable[[SmallTracked], object]:
    def spoil(m: SmallTracked) -> None:
        row = m.constants.relocs[number]
        m.constants.relocs[number] = dataclasses.replace(row, symbol=m.symbols[symbol], addend=addend)

    return spoil


def late_call(m: SmallTracked) -> None:
    """The counted call is of a module that may come later."""
    m.symbols[".klp.sym.vmlinux.helper,0"].name = ".klp.sym.ext4.helper,0"


SPOILERS: list[tuple[str, Callable[[SmallTracked], object]]] = [
    ("V27-late-special", late_call),
    ("V31-constant", drop_row),
    ("V31-constant", no_end),
    ("V31-constant", no_value),
    ("V31-constant", own_value),
    ("V31-constant", site(0, "constant", POINTER + 1)),
    ("V31-constant", site(1, "constant", SHIFT + 1)),
    ("V31-constant", site(1, "kgbuild_notes", 0)),
    ("V31-constant", site(1, "constant", len(CONSTANT_CODE))),
    ("V32-endbr", code(".text.callback", b"\x66\x90" * 2 + b"\xc3")),
    ("V32-endbr", seal),
    ("V32-endbr", point_to(".klp.sym.vmlinux.plain,0")),
    ("V32-endbr", point_to(".klp.sym.vmlinux.twin,2")),
]


@pytest.mark.parametrize(("expected", "spoil"), SPOILERS)
def test_what_is_spoiled_is_found(expected: str, spoil: Callable[[SmallTracked], object]) -> None:
    small = SmallTracked()
    spoil(small)
    assert expected in {f.code for f in check_tracked(small)}


def test_pointers_in_code_and_in_data_are_found() -> None:
    small = SmallTracked()
    code(".text.callback", b"\x66\x90" * 2 + b"\xc3")(small)
    assert [f.place for f in check_tracked(small)] == [".data.operations+0x0", ".text.taker+0x3"]


def test_a_call_is_no_pointer() -> None:
    """`helper` is called by the new code and need not begin with endbr64; as a pointer it would have to."""
    small = SmallTracked()
    assert check_tracked(small) == []
    small.pointer.name = ".klp.sym.vmlinux.helper,0"
    assert "V32-endbr" in {f.code for f in check_tracked(small)}


def test_an_export_without_endbr64() -> None:
    small = SmallTracked()
    small.pointer.name, small.pointer.shndx = "__fentry__", SHN.UNDEF
    late = small.sections[".klp.rela.vmlinux..data.operations"]
    small.sections[".data.operations"].relocs.append(late.relocs.pop())
    found = [f for f in check_tracked(small) if f.code == "V32-endbr"]
    assert [f.fact for f in found] == [
        "takes the address of __fentry__, which does not begin with endbr64 in the kernel"
    ]


def test_a_weak_reference_to_what_is_not_exported_is_no_pointer() -> None:
    """The loader leaves it at 0, whatever vmlinux has of that name."""
    small = SmallTracked()
    small.pointer.name, small.pointer.shndx, small.pointer.bind = "plain", SHN.UNDEF, STB.WEAK
    late = small.sections[".klp.rela.vmlinux..data.operations"]
    small.sections[".data.operations"].relocs.append(late.relocs.pop())
    assert "V32-endbr" not in {f.code for f in check_tracked(small)}


def test_a_kernel_that_does_not_track_them_has_no_such_rule() -> None:
    small = SmallTracked()
    small.image = FakeImage()  # type: ignore[assignment]
    code(".text.callback", b"\x66\x90" * 2 + b"\xc3")(small)
    point_to(".klp.sym.vmlinux.plain,0")(small)
    assert check(small.data) == []
    assert PLAIN not in TRACKED.image.sealed
