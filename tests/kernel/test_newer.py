# SPDX-License-Identifier: GPL-2.0-or-later
"""A third of the cases on a newer kernel: IBT, call padding, runtime constants, objtool on vmlinux.o, no relocations in
vmlinux. Built by the real command, and booted on two CPUs."""

from __future__ import annotations

from pathlib import Path

import pytest

from kgbuild.host.kernels.kernel_files import probe_kernel
from kgbuild.host.kernels.vmlinux import load_image
from kgbuild.host.vm.run import TestRun, run_vm
from kgbuild.model import Kernel
from kgbuild.module_abi import THUNK
from kgbuild.progress import SilentProgress
from kgbuild.verification.reading.reader import read_module
from tests.support.booting.booted import test_report, test_the_guest_as_a_whole, test_works  # noqa: F401
from tests.support.booting.cases import HERE, Built, build_cases, kgbuild, load_cases, make_guest_files

CASES = load_cases(HERE / "cases" / "newer.toml")


@pytest.fixture(scope="session")
def built(newer: Kernel, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Built]:
    """Every case, built."""
    return build_cases(CASES, f"{newer.id.name}={newer.id.version}", tmp_path_factory.mktemp("newer"))


@pytest.fixture(scope="session")
def booted(newer: Kernel, built: dict[str, Built], tmp_path_factory: pytest.TempPathFactory) -> TestRun:
    """One boot for all of them."""
    files = make_guest_files(newer, tmp_path_factory.mktemp("guest-newer"))
    modules = sorted({name for case in CASES for name in case.list("modules")})
    runs = [b.run for b in built.values()]
    return run_vm(newer, runs, progress=SilentProgress(), timeout=1200, files=files, modules=modules, smp=2)


def test_it_is_another_kind_of_kernel(newer: Kernel, kernel: Kernel) -> None:
    assert probe_kernel(newer, load_image(newer)) > probe_kernel(kernel, load_image(kernel))


@pytest.mark.parametrize(
    ("patch", "code", "text"),
    [
        # padding has an entry in __patchable_function_entries whether a function can be traced or not
        ("bad/noinstr.patch", "K4-not-traceable", "irqentry_enter"),
        ("cases/newer/no-endbr.patch", "K21-endbr", "ibt_save"),
    ],
)
def test_refused(patch: str, code: str, text: str, newer: Kernel, tmp_path: Path) -> None:
    name = f"{newer.id.name}={newer.id.version}"
    ran = kgbuild("build", HERE / patch, "--kernel", name, "-o", tmp_path / "livepatch-refused.ko")
    assert ran.status == 1
    assert code in ran.stdout + ran.stderr and text in ran.stdout + ran.stderr
    assert not list(tmp_path.iterdir())


def test_pointers_lead_through_thunks(built: dict[str, Built]) -> None:
    """What the emulated CPU does not enforce: see verify's V32 for what it would."""
    symbols = read_module(built["pointers"].module.read_bytes(), "livepatch-pointers.ko", 62).symbols
    thunks = {s.name for s in symbols if s.name.startswith(THUNK)}
    assert thunks == {f"{THUNK}nr_running", f"{THUNK}get_iowait_time"}


def test_verify_accepts_them(newer: Kernel, built: dict[str, Built]) -> None:
    for name in ("fork", "dcache", "pointers", "vfat"):
        ran = kgbuild("verify", built[name].module, "--kernel", f"{newer.id.name}={newer.id.version}")
        assert ran.status == 0, ran.stdout


def test_padding_is_counted_with_its_function(built: dict[str, Built]) -> None:
    (unit,) = built["proc-version"].report["units"]
    assert unit["parity"]["total"] == 2  # version_proc_show, proc_version_init
