# SPDX-License-Identifier: GPL-2.0-or-later
"""Every case of built-in code is built by the real command, then all are booted in one guest: loaded, checked,
disabled, unloaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kgbuild.host.vm import TestRun, run_vm
from kgbuild.model import Kernel, SilentProgress
from tests.kernel.conftest import HERE, Built, Case, build_cases, check_report, check_works, kgbuild, load_cases

CASES = [c for c in load_cases(HERE / "cases" / "cases.toml") if not c.list("targets")]
SCHEMA = json.loads((HERE.parent.parent / "docs" / "schema" / "report-1.json").read_text())


@pytest.fixture(scope="session")
def built(kernel_name: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Built]:
    """Every case, built."""
    return build_cases(CASES, kernel_name, tmp_path_factory.mktemp("built-in"))


@pytest.fixture(scope="session")
def booted(
    kernel: Kernel, built: dict[str, Built], guest_files: dict[str, bytes], guest_modules: dict[str, Path]
) -> TestRun:
    """One boot for all of them."""
    runs = [b.run for b in built.values()]
    modules = sorted({name for case in CASES for name in case.list("modules")})
    silent = SilentProgress()
    return run_vm(
        kernel, runs, progress=silent, timeout=900, files=guest_files, modules=modules, oot_modules=guest_modules
    )


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_report(case: Case, built: dict[str, Built]) -> None:
    check_report(built[case.name], SCHEMA)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_works(case: Case, built: dict[str, Built], booted: TestRun) -> None:
    check_works(built[case.name], booted)


def test_the_guest_as_a_whole(booted: TestRun) -> None:
    assert booted.verdict
    assert booted.findings == ()


def test_two_builds_are_the_same(kernel_name: str, built: dict[str, Built], tmp_path: Path) -> None:
    """In another directory, with nothing cached of the results."""
    for name in ("proc-version", "fork"):
        patches = [HERE / "cases" / p for p in built[name].case.list("patches")]
        again = tmp_path / f"livepatch-{name}.ko"
        ran = kgbuild("build", *patches, "--kernel", kernel_name, "-o", again, cwd=tmp_path)
        assert ran.status == 0, ran.stderr
        assert again.read_bytes() == built[name].module.read_bytes()


def test_crypto_binds_the_third(built: dict[str, Built]) -> None:
    """Three functions are called c_start; the position is proven by the function's own bytes."""
    assert [(f["name"], f["sympos"]) for f in built["crypto"].report["module"]["functions"]] == [("c_start", 3)]
