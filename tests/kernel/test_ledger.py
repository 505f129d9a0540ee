# SPDX-License-Identifier: GPL-2.0-or-later
"""What nobody refers to: each case is said or refused, and in one guest it is shown that what is said is so."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from kgbuild.host.vm.run import TestRun, run_vm
from kgbuild.model import Kernel
from kgbuild.progress import SilentProgress
from tests.support.booting.booted import SCHEMA, test_report, test_the_guest_as_a_whole, test_works  # noqa: F401
from tests.support.booting.cases import HERE, Built, KernelCase, Ran, kgbuild, load_cases

ALL = load_cases(HERE / "ledger" / "ledger.toml")
CASES = [c for c in ALL if not c.fields.get("exit")]
OTHERS = [c for c in ALL if c.fields.get("exit")]
MODULE = "kgbuild_ledger"


def run_case(case: KernelCase, kernel_name: str, guest_modules: dict[str, Path], folder: Path) -> tuple[Ran, Built]:
    """Build a case, whatever comes of it."""
    module, report, proof = (folder / f"{case.name}{end}" for end in (".ko", ".json", ".proof.json"))
    module = module.with_name(f"livepatch-{module.name}")
    path = guest_modules[MODULE]
    oot = ("--oot", path.parent, "--oot-module", path) if case.fields.get("oot") else ()
    words = (HERE / "ledger" / f"{case.name}.patch", "--kernel", kernel_name, "-o", module, "--report", report)
    ran = kgbuild("build", *words, *oot, *(() if case.fields.get("exit") else ("--proof", proof)))
    said = json.loads(report.read_text()) if report.exists() else {}
    return ran, Built(case, module, said, ran.stdout + ran.stderr, proof)


def check_said(case: KernelCase, output: str) -> None:
    for text in case.list("text"):
        assert text in output, output
    for text in case.list("silent"):
        assert text not in output, output


@pytest.fixture(scope="session")
def built(
    kernel_name: str, guest_modules: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Built]:
    """Every case that gives a module."""
    folder, out = tmp_path_factory.mktemp("ledger"), {}
    for case in CASES:
        ran, out[case.name] = run_case(case, kernel_name, guest_modules, folder)
        assert ran.status == 0, f"{case.name}: {ran.stdout}{ran.stderr}"
    return out


@pytest.fixture(scope="session")
def booted(kernel: Kernel, built: dict[str, Built], guest_modules: dict[str, Path]) -> TestRun:
    """One boot for all of them."""
    runs = [b.run for b in built.values()]
    for of_module in (False, True):
        shown = [line for c in OTHERS if bool(c.fields.get("oot")) == of_module for line in c.list("shown")]
        at = next(i for i, case in enumerate(CASES) if bool(case.list("targets")) == of_module)
        runs[at] = replace(runs[at], before=[*runs[at].before, *shown])
    silent = SilentProgress()
    return run_vm(kernel, runs, progress=silent, timeout=900, oot_modules={MODULE: guest_modules[MODULE]})


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_said(case: KernelCase, built: dict[str, Built]) -> None:
    check_said(case, built[case.name].output)
    # each line that tells a user is in the report as well
    told = [d for unit in built[case.name].report["accounting"] for d in unit["differences"] if d["said"]]
    lines = [line for line in built[case.name].output.splitlines() if line.startswith("no effect ")]
    assert len(lines) == len(told)


@pytest.mark.parametrize("case", OTHERS, ids=lambda c: c.name)
def test_refused(case: KernelCase, kernel_name: str, guest_modules: dict[str, Path], tmp_path: Path) -> None:
    ran, made = run_case(case, kernel_name, guest_modules, tmp_path)
    assert ran.status == case.fields["exit"], made.output
    jsonschema.validate(made.report, SCHEMA)
    assert {r["code"] for r in made.report["refusals"]} == set(case.list("codes")), made.output
    assert not made.module.exists()
    check_said(case, made.output)


def test_every_patch_is_a_case() -> None:
    assert {c.name for c in ALL} == {p.stem for p in (HERE / "ledger").glob("*.patch")}
