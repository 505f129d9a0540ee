# SPDX-License-Identifier: GPL-2.0-or-later
"""Every case is built by the real command, then all are booted in one guest: loaded, checked, disabled, unloaded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from kgbuild.host.vm import PatchRun, TestRun, run_vm
from kgbuild.model import Kernel, SilentProgress
from tests.kernel.conftest import HERE, Case, kgbuild, load_cases

CASES = load_cases(HERE / "cases" / "cases.toml")
SCHEMA = json.loads((HERE.parent.parent / "docs" / "schema" / "report-1.json").read_text())


def _plain(name: str) -> str:
    """A clone's name without what gcc appended."""
    return name.partition(".")[0]


@dataclass(frozen=True)
class Built:
    """One built case: the module and the report."""

    case: Case
    module: Path
    report: dict[str, Any]
    output: str


@pytest.fixture(scope="session")
def built(kernel_name: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Built]:
    """Every case, built."""
    folder = tmp_path_factory.mktemp("modules")
    out = {}
    for case in CASES:
        module = folder / f"livepatch-{case.name}.ko"
        report = folder / f"{case.name}.json"
        patches = [HERE / "cases" / p for p in case.list("patches")]
        ran = kgbuild("build", *patches, "--kernel", kernel_name, "-o", module, "--report", report)
        assert ran.status == 0, f"{case.name}: {ran.stdout}{ran.stderr}"
        out[case.name] = Built(case, module, json.loads(report.read_text()), ran.stdout)
    return out


@pytest.fixture(scope="session")
def booted(kernel: Kernel, built: dict[str, Built]) -> TestRun:
    """One boot for all of them."""
    runs = [
        PatchRun(
            b.module,
            before=b.case.list("before"),
            after=b.case.list("after"),
            disabled=b.case.list("disabled"),
            checks=b.case.list("check"),
            allow_log=b.case.list("allow_log"),
        )
        for b in built.values()
    ]
    return run_vm(kernel, runs, progress=SilentProgress(), timeout=900)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_report(case: Case, built: dict[str, Built]) -> None:
    report = built[case.name].report
    jsonschema.validate(report, SCHEMA)
    assert sorted(_plain(c["function"]) for c in report["changed"]) == sorted(case.list("changed"))
    assert sorted(c["function"] for c in report["new"]) == sorted(case.list("new"))
    assert report["findings"] == []
    assert report["refusals"] == []
    for unit in report["units"]:
        assert unit["parity"]["unmatched"] == []
        assert unit["parity"]["matched"] == unit["parity"]["total"] > 0
    if "unit" in case.fields:
        assert {u["source"] for u in report["units"]} == set(case.list("unit"))


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_works(case: Case, built: dict[str, Built], booted: TestRun) -> None:
    name = built[case.name].report["module"]["name"]
    phases = booted.of(name)
    assert {"before", "load", "after", "disable", "disabled", "log"} <= set(phases)
    faults = [f"{p.phase}: {p.fact} {p.faults}" for p in phases.values() if not p.ok]
    commands = [c for p in phases.values() for c in p.commands]
    assert not faults, faults + [str(c) for c in commands]
    assert len(commands) >= 3 * len(case.list("check")) + len(case.list("after"))


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
