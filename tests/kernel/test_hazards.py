# SPDX-License-Identifier: GPL-2.0-or-later
"""The laboratory of optimisations: every patch of examples/hazards is built as a user would build it, for modules that
kbuild built, and booted; beside it the naive patches, which the kernel refuses or which answer wrongly.

All answers are held against what the source says: computed in user space at -O0 (hazards/lab.py).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from kgbuild.diagnostics.refusals import Refused
from kgbuild.diagnostics.warnings import HANDED, INIT_ONLY, LAST_WRITE, READ_ONLY, VMALLOC
from kgbuild.elf.read import read
from kgbuild.host.vm.run import PatchRun, TestRun
from kgbuild.model import Kernel
from kgbuild.pipeline.stages.values import Checked
from tests.support.hazards.booting import Lab, boot, boot_built, build_lab, check_right, module_of
from tests.support.hazards.lab import SOURCE, Hazard, Naive, compute_answer, load_hazards

HAZARDS = load_hazards()
BUILT = [h for h in HAZARDS if not h.refused]
LATE = {HANDED, READ_ONLY, LAST_WRITE, INIT_ONLY, VMALLOC}
_HARM = ("refused", "wrong", "oops", "lost")
NAIVE = [(h, n) for h in HAZARDS for n in h.naive]


@pytest.fixture(scope="session")
def lab(kernel: Kernel, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """Everything, built in this process."""
    return build_lab(kernel, HAZARDS, tmp_path_factory.mktemp("hazards"))


@pytest.fixture(scope="session")
def booted(kernel: Kernel, lab: Lab) -> TestRun:
    """One boot for what kgbuild built."""
    return boot_built(kernel, lab, BUILT)


@pytest.fixture(scope="session")
def booted_naive(kernel: Kernel, lab: Lab) -> TestRun:
    """One boot for the naive patches; those that harm the kernel come last."""
    ordered = sorted(NAIVE, key=lambda item: _HARM.index(item[1].result))
    runs = [
        PatchRun(lab.patches[n.name], before=[h.command(False)], after=[h.command(True)], targets=())
        for h, n in ordered
    ]
    return boot(kernel, lab, runs)


def names(report: list[dict[str, str]]) -> tuple[str, ...]:
    return tuple(sorted(item["function"] for item in report))


@pytest.mark.parametrize("hazard", [h for h in HAZARDS if h.module], ids=lambda h: h.name)
def test_gcc_made_it(hazard: Hazard, lab: Lab) -> None:
    """The module has the symbols that the case is about."""
    have = {s.name for s in read(lab.modules[hazard.module].read_bytes()).iter_symbols()}
    assert set(hazard.symbols) <= have


@pytest.mark.parametrize("hazard", HAZARDS, ids=lambda h: h.name)
def test_page(hazard: Hazard) -> None:
    """The page of a case names what the tests find: symbols, sets, codes, wrong answers."""
    page = (SOURCE / hazard.folder / "README.md").read_text()
    naive = [line for n in hazard.naive for line in n.reads]
    sets = [*hazard.symbols, *hazard.changed, *hazard.pulled, *hazard.new]
    wanted = [*sets, *hazard.refused, *hazard.warned, *hazard.wrong, *hazard.left, *naive]
    assert [name for name in wanted if f"`{name}`" not in page] == []
    assert hazard.patch in page
    index = SOURCE.parent.parent / "docs" / "hazards.md"
    assert f"examples/hazards/{hazard.folder}/README.md" in index.read_text()


@pytest.mark.parametrize("hazard", HAZARDS, ids=lambda h: h.name)
def test_set(hazard: Hazard, lab: Lab) -> None:
    """What is in the patch, or the codes of the refusal."""
    trail = lab.states[hazard.name]
    report, error = trail.report(), trail.error
    if hazard.refused:
        assert isinstance(error, Refused)
        assert tuple(r.code for r in error.refusals) == hazard.refused
    else:
        assert error is None
        assert trail.the(Checked).findings == ()
        assert {w["code"] for w in report["consistency"]} & LATE == set(hazard.warned)
    assert names(report["changed"]) == hazard.changed
    assert names(report["pulled"]) == hazard.pulled
    assert names(report["new"]) == hazard.new
    for unit in report["units"]:
        assert unit["parity"]["matched"] == unit["parity"]["total"] > 0


@pytest.mark.parametrize("hazard", BUILT, ids=lambda h: h.name)
def test_right(hazard: Hazard, booted: TestRun, tmp_path: Path) -> None:
    check_right(hazard, booted, tmp_path)


def test_clean_log(booted: TestRun) -> None:
    assert booted.findings == ()


def test_every_warning_of_what_comes_too_late_is_booted() -> None:
    assert {code for h in HAZARDS for code in h.warned} == LATE


@pytest.mark.parametrize(("hazard", "naive"), NAIVE, ids=lambda v: v.name)
def test_naive_is_not(hazard: Hazard, naive: Naive, booted_naive: TestRun, tmp_path: Path) -> None:
    """The kernel refuses it, or it answers something else than the source."""
    phases = booted_naive.of(module_of(naive.name))
    assert phases["before"].ok
    assert phases["load"].ok == (naive.result != "refused")
    if naive.result == "refused":
        assert "after" not in phases
        return
    if naive.result == "lost":
        lost = any(f.place == module_of(naive.name) and "hung" in f.fact for f in booted_naive.findings)
        assert lost or phases["after"].commands[0].output != compute_answer(hazard, True, tmp_path)
        return
    (command,) = phases["after"].commands
    if naive.result == "oops":
        assert command.status != 0
        assert any(fault.kind in ("oops", "bug") for phase in phases.values() for fault in phase.faults)
        return
    assert command.output != compute_answer(hazard, True, tmp_path)
    assert set(naive.reads) <= set(command.output.splitlines())
