# SPDX-License-Identifier: GPL-2.0-or-later
"""The back end kgraft at object level: its module, linked into a program that acts as the kernel. No kernel with kGraft
is booted; include/linux/kgraft.h stands in for that kernel's header."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest

from kgbuild.arch import arch_of
from kgbuild.arch.x86_64.relocations import R_64, R_PC32, R_PLT32
from kgbuild.elf.consts import SHF, SHT, STB, STT
from kgbuild.elf.read import read
from kgbuild.elf.write import OutObject, OutReloc, OutSection, OutSymbol, write
from kgbuild.emit.backends.backend import Request
from kgbuild.emit.backends.kgraft import Kgraft
from kgbuild.host.link.module_objects import wrapper_source
from kgbuild.kernel.feature_probes import KGRAFT, LOOKUP_EXPORTED
from kgbuild.kernel.vmlinux_image import KernelImage
from kgbuild.module_abi import FUNCTIONS
from kgbuild.proof.record import DATA, FUNCTION, BoundSymbol, SymbolKey
from tests.support.kgraft import FLAGS, HERE, gcc, run

FEATURES = frozenset({KGRAFT, LOOKUP_EXPORTED})
BUILD_ID, MODULE_ID = bytes(range(1, 21)), bytes(range(20, 0, -1))
# helper() + counter, with the argument left alone; and mod_helper(argument) + helper()
SHOW = bytes.fromhex("4883ec08 e800000000 030500000000 4883c408 c3")
MOD = bytes.fromhex("53 e800000000 89c3 e800000000 01d8 5b c3")
HELPER, COUNTER = ("vmlinux", "helper", 2), ("vmlinux", "counter", 0)
MOD_HELPER, ANCHOR = ("target", "mod_helper", 0), ("target", "mod_anchor", 0)


class Output:
    """The output object as extraction would make it: sections, and the tables that the wrapper reads."""

    def __init__(self) -> None:
        self.obj = OutObject(62)
        self.bound: dict[str, OutSymbol] = {}
        self.strings = self.section(".rodata.kgbuild_strings", b"")
        self.named = self.symbol("", self.strings, STT.SECTION)
        self.funcs = self.section(FUNCTIONS.section, b"")

    def section(self, name: str, data: bytes, flags: int = 0) -> OutSection:
        made = OutSection(name, SHT.PROGBITS, SHF.ALLOC | flags, bytearray(data), align=8)
        self.obj.sections.append(made)
        return made

    def symbol(self, name: str, section: OutSection | None, kind: int = 0, bind: int = STB.LOCAL) -> OutSymbol:
        size = len(section.data) if section is not None else 0
        self.obj.symbols.append(OutSymbol(name, section, 0, size, bind, kind))
        return self.obj.symbols[-1]

    def text(self, text: str) -> int:
        at = len(self.strings.data)
        self.strings.data += text.encode() + b"\0"
        return at

    def to(self, key: SymbolKey, patched: str = "") -> OutSymbol:
        name = f".klp.sym.{key[0]}.{key[1]},{key[2]}{patched}"
        return self.bound.setdefault(name, self.symbol(name, None, bind=STB.GLOBAL))

    def replaces(self, key: SymbolKey, code: bytes, refs: dict[int, tuple[int, OutSymbol]]) -> None:
        section = self.section(f".text.{key[1]}", code, SHF.EXECINSTR)
        section.relocs = [OutReloc(at, kind, symbol, -4) for at, (kind, symbol) in refs.items()]
        base = len(self.funcs.data)
        self.funcs.data += struct.pack("<QQQQ", 0, 0, 0, key[2])
        if key[0] != "vmlinux":
            self.funcs.relocs.append(OutReloc(base, R_64, self.named, self.text(key[0])))
        self.funcs.relocs.append(OutReloc(base + 8, R_64, self.named, self.text(key[1])))
        self.funcs.relocs.append(OutReloc(base + 16, R_64, self.symbol(key[1], section, STT.FUNC), 0))

    def finish(self, **values: bytes) -> OutObject:
        self.funcs.data += bytes(32)
        for name, value in values.items():
            self.symbol(f"kgbuild_{name}", self.section(f".rodata.kgbuild_{name}", value), STT.OBJECT, STB.GLOBAL)
        self.symbol("kgbuild_funcs", self.funcs, STT.OBJECT, STB.GLOBAL)
        return self.obj


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[SymbolKey, BoundSymbol], KernelImage]:
    """Where this kernel has what the patch is bound to, by an image of its code."""
    folder = tmp_path_factory.mktemp("image")
    for unit in ("first", "second"):
        gcc(*FLAGS, "-c", HERE / f"{unit}.c", "-o", folder / f"{unit}.o")
    subprocess.run(["ld", "-e", "0", "-o", "image", "first.o", "second.o"], cwd=folder, check=True, timeout=60)
    image = KernelImage(read((folder / "image").read_bytes()))
    helpers = image.named("helper")
    assert len(helpers) == 2
    symbols = {HELPER: helpers[1], COUNTER: image.named("counter")[0], MOD_HELPER: image.named("mod_helper")[0]}
    out = {}
    for key, s in symbols.items():
        kind = FUNCTION if s.type == STT.FUNC else DATA
        out[key] = BoundSymbol(*key, kind, image.section_at(s.value), s.value, s.size, "")
    # the harness's own, and a note: nothing to compare
    for key in (ANCHOR, ("vmlinux", "text_poke", 0), ("vmlinux", "text_mutex", 0)):
        out[key] = BoundSymbol(*key, DATA, ".data", 0, 0, "")
    return out, image


def make(
    folder: Path, places: tuple[dict[SymbolKey, BoundSymbol], KernelImage], modules: bool, replace: bool = True
) -> Path:
    """The program: harness, wrapper and output object."""
    output, backend = Output(), Kgraft()
    show = ("vmlinux", "show", 3)
    functions: list[SymbolKey] = [("vmlinux", "version_show.isra.0", 0), show]
    refs = {5: (R_PLT32, output.to(HELPER)), 11: (R_PC32, output.to(COUNTER))}
    for key in functions:
        output.replaces(key, SHOW, refs)
    values = {
        "build_id": BUILD_ID,
        "build_id_size": struct.pack("<I", 20),
        "replace": struct.pack("<I", int(replace)),
    }
    defines = []
    if modules:
        functions += [("target", "mod_show", 0), ("target", "mod_twice", 2)]
        refs = {2: (R_PLT32, output.to(MOD_HELPER)), 9: (R_PLT32, output.to(HELPER, "@target"))}
        for key in functions[2:]:
            output.replaces(key, MOD, refs)
        defines.append("KGBUILD_TARGETS")
        values["objects"] = struct.pack("<QQqI20s", 0, 0, 0, 20, MODULE_ID) + bytes(48)
    obj = output.finish(**values)
    if modules:
        (table,) = (s for s in obj.sections if s.name == ".rodata.kgbuild_objects")
        table.relocs.append(OutReloc(0, R_64, output.named, output.text("target")))
        table.relocs.append(OutReloc(8, R_64, output.to(ANCHOR), 0))
    arch = arch_of(62)
    request = Request(arch, FEATURES, places[0], lambda name: places[1])
    assert backend.check(obj, request) == []
    (folder / "patched.o").write_bytes(write(backend.transform(obj, request)))
    defines += [*backend.defines(FEATURES), *backend.macros(functions)]
    (folder / "wrapper.c").write_text(wrapper_source(backend.wrapper, defines))
    sources = [folder / "wrapper.c", *(HERE / f"{name}.c" for name in ("harness", "first", "second"))]
    gcc(*FLAGS, f"-I{HERE / 'include'}", "-no-pie", "-o", folder / "program", *sources, folder / "patched.o")
    return folder / "program"


@pytest.fixture(scope="module")
def program(places: tuple[dict[SymbolKey, BoundSymbol], KernelImage], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("modules"), places, modules=True)


def test_registration(program: Path) -> None:
    """Names, objects, positions and order; the right one of two functions is called; what was held is let go."""
    done = run(program)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "patch livepatch_kgraft owner livepatch_kgraft replace_all 1 held 1",
        "function version_show.isra.0 of vmlinux position 0 gives 207",
        "function show of vmlinux position 3 gives 207",
        "function mod_show of target position 0 gives 238",
        "function mod_twice of target position 2 gives 238",
        "init 0 held 1",
        "removed livepatch_kgraft",
        "at the end held 0",
    ]


def test_a_patch_of_vmlinux_alone_needs_no_module(
    places: tuple[dict[SymbolKey, BoundSymbol], KernelImage], tmp_path: Path
) -> None:
    done = run(make(tmp_path, places, modules=False, replace=False), "unloaded")
    assert (done.returncode, done.stderr) == (0, "")
    assert "replace_all 0 held 0" in done.stdout
    assert "of target" not in done.stdout


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("missing=helper", "helper,2 of the kernel is not there"),
        ("missing=counter", "counter,0 of the kernel is not there"),
        ("missing=text_poke", "text_poke,0 of the kernel is not there"),
        ("twice=counter", "counter,0 of the kernel is there more than once"),
        ("other=helper", "helper,2 of the kernel has other code than this patch was made for"),
        ("missing=mod_helper", "mod_helper,0 of target is not there"),
        ("twice=mod_helper", "mod_helper,0 of target is there more than once"),
        ("other=mod_helper", "mod_helper,0 of target has other code than this patch was made for"),
        ("unloaded", "the module target is not loaded"),
        ("going", "the module target is not loaded"),
        ("rebuilt", "this module target is not the one with build-id"),
        ("kernel", "made for the kernel with build-id"),
    ],
)
def test_what_is_not_as_it_should_be_is_refused(program: Path, wrong: str, said: str) -> None:
    """Before anything is registered, and nothing stays held."""
    done = run(program, wrong)
    assert done.returncode == 1
    assert said in done.stderr
    assert "patch " not in done.stdout
    assert "at the end held 0" in done.stdout


def test_a_registration_that_fails_leaves_nothing(program: Path) -> None:
    done = run(program, "fails")
    assert done.returncode == 1
    assert done.stdout.splitlines() == ["init -22 held 0", "at the end held 0"]


@pytest.mark.parametrize("table", ["callbacks", "states", "constants"])
def test_what_kgraft_does_not_know_is_refused(
    table: str, places: tuple[dict[SymbolKey, BoundSymbol], KernelImage]
) -> None:
    obj = Output().finish(**{table: bytes(8)})
    request = Request(arch_of(62), FEATURES, places[0], lambda name: places[1])
    (refusal,) = Kgraft().check(obj, request)
    assert refusal.code == "B3-interface"
    assert table in refusal.fact
