# SPDX-License-Identifier: GPL-2.0-or-later
"""What kernels before 5.1 and before 5.8 want otherwise, at object level: none of them is booted."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from kgbuild.arch import arch_of
from kgbuild.arch.x86_64.relocations import R_64, R_PC32, R_PLT32
from kgbuild.elf.consts import SHF, STB, STT
from kgbuild.elf.read import read
from kgbuild.elf.write import OutObject, OutReloc, OutSection, OutSymbol, write
from kgbuild.emit.backends.backend import Request
from kgbuild.emit.backends.klp import Klp
from kgbuild.emit.klp_relocations import inject
from kgbuild.host.link.module_objects import wrapper_source
from kgbuild.kernel.feature_probes import KLP_ARCH, KLP_STATES, REGISTERS
from tests.support.kgraft import FLAGS, HERE, gcc, run

ARCH = arch_of(62)


def request(*features: str) -> Request:
    def no_image(name: str) -> None:
        raise AssertionError(name)

    return Request(ARCH, frozenset(features), {}, no_image)  # type: ignore[arg-type]


# -- registration ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("registers")
    (folder / "wrapper.c").write_text(wrapper_source("main.c", Klp().defines(frozenset({REGISTERS}))))
    sources = (folder / "wrapper.c", HERE / "registers.c")
    gcc(*FLAGS, f"-I{HERE / 'include'}", "-no-pie", "-o", folder / "program", *sources)
    return folder / "program"


@pytest.mark.parametrize(
    ("fails", "calls"),
    [
        ("", ["register first,0 twice,2", "enable first,0 twice,2", "init 0", "unregister first,0 twice,2"]),
        ("register", ["register first,0 twice,2", "init -22"]),
        (
            "enable",
            ["register first,0 twice,2", "enable first,0 twice,2", "unregister first,0 twice,2", "init -22"],
        ),
    ],
)
def test_a_patch_is_registered_and_unregistered(program: Path, fails: str, calls: list[str]) -> None:
    assert run(program, fails).stdout.splitlines() == calls


@pytest.mark.parametrize(("value", "features", "codes"), [(1, [REGISTERS], 1), (0, [REGISTERS], 0), (1, [], 0)])
def test_replacing_is_refused_where_there_is_no_such_thing(value: int, features: list[str], codes: int) -> None:
    replace = OutSection(".rodata.kgbuild_replace", data=bytearray(struct.pack("<I", value)))
    refusals = Klp().check(OutObject(62, [replace]), request(*features))
    assert [r.code for r in refusals] == ["B3-interface"] * codes
    assert all("--no-replace" in r.remedy for r in refusals)


def test_states_are_refused_where_there_are_none() -> None:
    obj = OutObject(62, [OutSection(".rodata.kgbuild_states", data=bytearray(16))])
    assert [r.code for r in Klp().check(obj, request())] == ["B3-interface"]
    assert Klp().check(obj, request(KLP_STATES)) == []


# -- .klp.arch ---------------------------------------------------------------------------------------------------------


def patched() -> OutObject:
    """Three functions: one with a livepatch relocation of vmlinux, one with a module's, one with none; each with two
    alternatives, and the first with a paravirt call, whose table ends without padding."""
    obj = OutObject(62)
    owners = {"kernel": ".klp.sym.vmlinux.f,0", "module": ".klp.sym.vmlinux.f,0@ext4", "plain": "_printk"}
    code = {}
    for name, target in owners.items():
        code[name] = OutSection(f".text.{name}", flags=SHF.ALLOC | SHF.EXECINSTR, data=bytearray(32))
        obj.symbols.append(OutSymbol(target, bind=STB.GLOBAL))
        code[name].relocs.append(OutReloc(20, R_PLT32, obj.symbols[-1], -4))
    symbols = {name: OutSymbol("", section, type=STT.SECTION) for name, section in code.items()}
    replacement = OutSection(".altinstr_replacement", flags=SHF.ALLOC | SHF.EXECINSTR, data=bytearray(64))
    symbols["replacement"] = OutSymbol("", replacement, type=STT.SECTION)
    obj.symbols += symbols.values()
    alternatives, calls = OutSection(".altinstructions"), OutSection(".parainstructions", align=8)
    for number, name in enumerate(["kernel", "plain", "module", "module", "kernel", "plain"]):
        base = len(alternatives.data)
        alternatives.data += struct.pack("<iiHBBB", 0, 0, number, 4, 4, 0)
        alternatives.relocs.append(OutReloc(base, R_PC32, symbols[name], 4 * number))
        alternatives.relocs.append(OutReloc(base + 4, R_PC32, symbols["replacement"], 8 * number))
    for number, name in enumerate(["plain", "kernel"]):
        base = len(calls.data)
        calls.data += struct.pack("<QBB", 0, number, 6) + bytes(6 if number == 0 else 0)
        calls.relocs.append(OutReloc(base, R_64, symbols[name], 8))
    obj.sections = [*code.values(), replacement, alternatives, calls]
    return obj


def entries(data: bytes) -> dict[str, list[tuple[int, list[tuple[int, str, int]]]]]:
    """Of each table: number of each entry, and its relocations by offset in it, section and addend."""
    obj = read(data)
    out = {}
    for s in obj.sections:
        size = {"altinstructions": 13, "parainstructions": 16}.get(s.name.rpartition(".")[2])
        if size is None or s.name.startswith(".rela"):
            continue
        rows = []
        for base in range(0, s.size, size):
            number = obj.contents(s.index)[base + 8]
            inside = [r for r in obj.reloc_rows(s.index) if base <= r[0] < base + size]
            places = [(r[0] - base, obj.sections[obj.symbol(r[2]).shndx].name, r[3]) for r in inside]
            rows.append((number, places))
        out[s.name] = rows
    return out


def alternative(number: int, name: str) -> tuple[int, list[tuple[int, str, int]]]:
    return number, [(0, f".text.{name}", 4 * number), (4, ".altinstr_replacement", 8 * number)]


def test_entries_for_relocated_code_are_in_sections_of_their_own() -> None:
    obj, asked = patched(), request(KLP_ARCH, KLP_STATES)
    assert Klp().check(obj, asked) == []
    found = entries(inject(read(write(Klp().transform(obj, asked)))))
    assert found == {
        ".altinstructions": [alternative(1, "plain"), alternative(5, "plain")],
        ".klp.arch.vmlinux..altinstructions": [alternative(0, "kernel"), alternative(4, "kernel")],
        ".klp.arch.ext4..altinstructions": [alternative(2, "module"), alternative(3, "module")],
        ".parainstructions": [(0, [(0, ".text.plain", 8)])],
        ".klp.arch.vmlinux..parainstructions": [(1, [(0, ".text.kernel", 8)])],
    }


def test_other_kernels_keep_theirs() -> None:
    before = entries(write(patched()))
    assert entries(write(Klp().transform(patched(), request()))) == before
    assert set(before) == {".altinstructions", ".parainstructions"}


def test_code_that_two_objects_relocate_is_refused() -> None:
    obj = patched()
    first, second = obj.sections[0], obj.sections[1]
    first.relocs += second.relocs
    (one, *more) = Klp().check(obj, request(KLP_ARCH, KLP_STATES))
    assert one.code == "B3-interface"
    assert "ext4, vmlinux" in one.fact
    assert len(more) == 2
