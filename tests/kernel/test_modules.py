# SPDX-License-Identifier: GPL-2.0-or-later
"""Patches of loadable modules, booted: each case with its target loaded first, loaded last, and loaded again; and a
module of the same name that is not the one the patch was made for."""

from __future__ import annotations

import gzip
import lzma
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard

from kgbuild.elf.read import read
from kgbuild.host.compile.compile import compile_units
from kgbuild.host.kernels.unit_listing import read_units
from kgbuild.host.modules.files import index_modules, read_module_bytes
from kgbuild.host.modules.images import ModuleImages
from kgbuild.host.system.cache import Cache
from kgbuild.host.vm.patch_targets import collect_targets
from kgbuild.host.vm.run import PatchRun, TestRun, run_vm
from kgbuild.model import Kernel
from kgbuild.objects.view import View
from kgbuild.progress import SilentProgress
from kgbuild.proof.parity import EXACT, compute_parity
from kgbuild.verification.reading.reader import read_module as read_sections
from tests.support.booting.booted import test_report, test_the_guest_as_a_whole  # noqa: F401
from tests.support.booting.cases import HERE, Built, KernelCase, build_cases, check_works, kgbuild, load_cases

CASES = [c for c in load_cases(HERE / "cases" / "cases.toml") if c.list("targets")]


@pytest.fixture(scope="session")
def built(kernel_name: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Built]:
    """Every case, built."""
    return build_cases(CASES, kernel_name, tmp_path_factory.mktemp("modules"))


@pytest.fixture(scope="session")
def booted(kernel: Kernel, built: dict[str, Built], guest_files: dict[str, bytes]) -> TestRun:
    """One boot for all of them."""
    runs = [b.run for b in built.values()]
    modules = sorted({name for case in CASES for name in case.list("modules")})
    return run_vm(kernel, runs, progress=SilentProgress(), timeout=1800, files=guest_files, modules=modules)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_works(case: KernelCase, built: dict[str, Built], booted: TestRun) -> None:
    check_works(built[case.name], booted)
    phases = booted.of(built[case.name].report["module"]["name"])
    absent = ", absent 4 times" if case.list("absent") else ""
    assert phases["targets"].fact == f"{', '.join(case.list('targets'))}  both orders, reloaded 3 times{absent}"


def test_verify_accepts_them(kernel_name: str, built: dict[str, Built]) -> None:
    for name in ("af-key", "three-objects", "raid"):
        ran = kgbuild("verify", built[name].module, "--kernel", kernel_name, "--proof", built[name].proof)
        assert ran.status == 0, ran.stdout


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".xz": lzma.compress,
    ".gz": gzip.compress,
    ".zst": lambda data: zstandard.ZstdCompressor().compress(data),
}


@pytest.mark.parametrize("suffix", PACKERS)
def test_compressed_modules(suffix: str, kernel: Kernel, tmp_path: Path) -> None:
    """A kernel whose package has its modules compressed: parity, the patch and its booting see the same modules."""
    names = ("xfrm_algo", "af_key")
    for name in names:
        packed = PACKERS[suffix](read_module_bytes(index_modules(kernel.modules)[name]))
        (tmp_path / f"{name}.ko{suffix}").write_bytes(packed)
    modules, plain = (ModuleImages(k) for k in (replace(kernel, modules=tmp_path), kernel))
    assert sorted(modules.paths) == sorted(names)
    ours, theirs = modules.image("af_key"), plain.image("af_key")
    assert ours is not None and theirs is not None
    assert ours.build_id == theirs.build_id != ""
    assert ours.depends == theirs.depends
    (unit,) = read_units(kernel, ["net/key/af_key.c"])["net/key/af_key.c"]
    text = {unit.source: (kernel.source / unit.source).read_bytes()}
    (compiled,) = compile_units(kernel, [unit], text, Cache(), SilentProgress())
    proof = compute_parity(View(read(compiled.orig)), ours)
    assert set(proof.counts) == {EXACT}
    found = collect_targets(tmp_path, ["af_key"])
    assert list(found.files) == list(names)
    assert found.files["af_key"] == read_module_bytes(plain.paths["af_key"])


# A module of the same name

NEEDED = ["xfrm_algo"]  # what af_key depends on


def unsigned(module: bytes) -> bytes:
    """A module without its signature, as one from DKMS is on this kernel. Layout: struct module_signature, 6.1."""
    mark = b"~Module signature appended~\n"
    if not module.endswith(mark):
        return module
    (length,) = struct.unpack_from(">I", module, len(module) - len(mark) - 4)
    return module[: -len(mark) - 12 - length]


def foreign(module: bytes) -> bytes:
    """The module with another build-id: what it would be if it came from DKMS."""
    plain = unsigned(module)
    section = read_sections(plain, "af_key.ko", 62).section(".note.gnu.build-id")
    assert section is not None and plain.count(section.data) == 1
    other = section.data[:-1] + bytes([section.data[-1] ^ 0xFF])
    return plain.replace(section.data, other)


def lacking(module: bytes, symbol: str) -> bytes:
    """The foreign module, and a symbol in it has another name."""
    name = b"\0" + symbol.encode() + b"\0"
    assert module.count(name) == 1
    return foreign(module).replace(name, name[:-2] + b"X\0")


REFUSED_FIRST = "livepatch_af_key: refused: this module af_key is not the one with build-id"
REFUSED_LATER = "livepatch_af_key_data: refused: this module af_key is not the one with build-id"


@pytest.fixture(scope="session")
def strangers(kernel: Kernel, built: dict[str, Built], guest_files: dict[str, bytes]) -> TestRun:
    """A boot with the foreign module there first; then one patch that has nothing to do with it; then patches that
    are there before the foreign module comes, and before the right one does."""
    shipped = read_module_bytes(index_modules(kernel.modules)["af_key"])
    files = {
        **guest_files,
        "/guest/foreign.ko": foreign(shipped),
        "/guest/af_key.ko": shipped,
    }
    kept_out = [r"^livepatch: .*refusing to load module 'af_key'"]
    right = [
        "insmod /guest/af_key.ko",
        "/guest/pfkey show | grep kgbuild",
        "rmmod af_key",
        "insmod /guest/af_key.ko; /guest/pfkey show | grep kgbuild; r=$?; rmmod af_key; exit $r",
    ]
    runs = [
        PatchRun(
            built["af-key"].module,
            before=["insmod /guest/foreign.ko", "/guest/pfkey show | grep Inode"],
            targets=(),
        ),
        PatchRun(
            built["overlay"].module,
            before=["/guest/pfkey show | grep Inode", "! /guest/pfkey show | grep kgbuild", "rmmod af_key"],
            targets=(),
        ),
        PatchRun(
            built["af-key-data"].module,
            after=[
                "! insmod /guest/foreign.ko",
                f"dmesg | grep '{REFUSED_LATER}'",
                "[ ! -e /sys/module/af_key ]",
                *right,
                "! insmod /guest/foreign.ko",
            ],
            disabled=["insmod /guest/foreign.ko", "/guest/pfkey show | grep Inode", "rmmod af_key"],
            allow_log=kept_out,
            targets=(),
        ),
        PatchRun(
            built["loop"].module,
            after=["ls /sys/kernel/livepatch/livepatch_loop/loop"],
            targets=(),
        ),
    ]
    return run_vm(kernel, runs, progress=SilentProgress(), timeout=600, files=files, modules=NEEDED)


def test_a_foreign_module_that_is_there_keeps_the_patch_out(strangers: TestRun) -> None:
    assert [f.code for f in strangers.findings] == ["G2-load"]
    finding = strangers.findings[0]
    assert finding.place == "livepatch_af_key"
    assert REFUSED_FIRST in finding.fact


def test_the_rest_of_the_system_goes_on(strangers: TestRun) -> None:
    assert all(phase.ok for phase in strangers.of("livepatch_overlay").values())
    assert all(phase.ok for phase in strangers.of("livepatch_loop").values())


def test_a_patch_that_is_there_keeps_a_foreign_module_out(strangers: TestRun) -> None:
    phases = strangers.of("livepatch_af_key_data")
    assert len(phases) == 6
    assert [str(c) for p in phases.values() for c in p.commands if not c.ok] == []
    assert all(phase.ok for phase in phases.values())


@pytest.mark.parametrize(
    "symbol",
    [
        "pfkey_mutex",
        "_note_10",
    ],
)
def test_the_right_module_loads_after_a_foreign_one_that_lacks_a_symbol(
    symbol: str, kernel: Kernel, built: dict[str, Built], guest_files: dict[str, bytes]
) -> None:
    shipped = read_module_bytes(index_modules(kernel.modules)["af_key"])
    files = {**guest_files, "/guest/lacking.ko": lacking(shipped, symbol), "/guest/af_key.ko": shipped}
    commands = [
        "! insmod /guest/lacking.ko",
        "insmod /guest/af_key.ko",
        "/guest/pfkey show | grep kgbuild",
        "rmmod af_key",
    ]
    allowed = [r"^livepatch: .*(refusing to load|failed to initialize patch .* for) module 'af_key'"]
    run = PatchRun(built["af-key"].module, after=commands, allow_log=allowed, targets=())
    result = run_vm(kernel, [run], progress=SilentProgress(), timeout=300, files=files, modules=NEEDED)
    assert result.findings == ()
