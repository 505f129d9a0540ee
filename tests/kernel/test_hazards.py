# SPDX-License-Identifier: GPL-2.0-or-later
"""The laboratory of optimisations: every patch of examples/hazards is built as a user would build it, for modules that
kbuild built, and booted; beside it the naive patches, which the kernel refuses or which answer wrongly.

All answers are held against what the source says: computed in user space at -O0 (hazards/lab.py).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from kgbuild.diagnostics.refusals import Refused
from kgbuild.diagnostics.warnings import HANDED, INIT_ONLY, LAST_WRITE, READ_ONLY, VMALLOC
from kgbuild.elf.read import read
from kgbuild.errors import KgbuildError
from kgbuild.host.vm.run import PatchRun, TestRun, run_vm
from kgbuild.model import Kernel
from kgbuild.pipeline.build import build
from kgbuild.pipeline.stages.options import Options
from kgbuild.pipeline.stages.trail import Trail
from kgbuild.pipeline.stages.values import Assembled, Checked
from kgbuild.progress import SilentProgress
from tests.support.hazards.lab import SOURCE, Hazard, Naive, build_modules, clean_copy, compute_answer, load_hazards
from tests.support.hazards.naive import build_naive

HAZARDS = load_hazards()
BUILT = [h for h in HAZARDS if not h.refused]
LATE = {HANDED, READ_ONLY, LAST_WRITE, INIT_ONLY, VMALLOC}
_HARM = ("refused", "wrong", "oops", "lost")
NAIVE = [(h, n) for h in HAZARDS for n in h.naive]


@dataclass(frozen=True)
class Lab:
    """The modules that run, and what was built for them. `states` are the builds by hazard or naive patch; `patches`
    the .ko files of both kinds, by the same names."""

    modules: dict[str, Path]
    states: dict[str, Trail]
    patches: dict[str, Path]


def module_of(name: str) -> str:
    return f"livepatch_hz_{name}".replace("-", "_")


@pytest.fixture(scope="session")
def lab(kernel: Kernel, kernel_name: str, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """Everything, built in this process."""
    folder = tmp_path_factory.mktemp("hazards")
    modules = build_modules(kernel, folder / "build")
    source = clean_copy(folder / "source")
    made = Lab(modules, {}, {})

    def run(name: str, path: Path, output: Path, hazard: Hazard) -> None:
        trail = made.states[name] = Trail()
        options = Options(offline=True)
        if hazard.module:
            loaded = tuple(modules[one] for one in (hazard.module, *hazard.beside))
            options = Options(oot=source, oot_modules=loaded, offline=True)
        with suppress(KgbuildError):  # the trail has it
            build([path], kernel_name, output, options, trail)

    for hazard in HAZARDS:
        output = folder / f"livepatch-hz-{hazard.name}.ko"
        run(hazard.name, SOURCE / hazard.folder / hazard.patch, output, hazard)
        assembled = made.states[hazard.name].get(Assembled)
        if assembled is not None:
            output.write_bytes(assembled.module)
            made.patches[hazard.name] = output
        for naive in hazard.naive:
            trail = made.states[hazard.name]
            if naive.patch != hazard.patch:
                run(naive.name, SOURCE / hazard.folder / naive.patch, folder / "unused.ko", hazard)
                trail = made.states[naive.name]
            data = build_naive(trail, naive.rules, module_of(naive.name))
            made.patches[naive.name] = folder / f"livepatch-hz-{naive.name}.ko"
            made.patches[naive.name].write_bytes(data)
    return made


@pytest.fixture(scope="session")
def booted(kernel: Kernel, lab: Lab) -> TestRun:
    """One boot for what kgbuild built."""
    runs = [
        PatchRun(
            lab.patches[h.name],
            before=[h.command(False)],
            after=[h.command(True)],
            disabled=[h.command(False)],
            allow_log=h.allow_log,
            targets=(),
        )
        for h in BUILT
    ]
    return boot(kernel, lab, runs)


@pytest.fixture(scope="session")
def booted_naive(kernel: Kernel, lab: Lab) -> TestRun:
    """One boot for the naive patches; those that harm the kernel come last."""
    ordered = sorted(NAIVE, key=lambda item: _HARM.index(item[1].result))
    runs = [
        PatchRun(lab.patches[n.name], before=[h.command(False)], after=[h.command(True)], targets=())
        for h, n in ordered
    ]
    return boot(kernel, lab, runs)


def boot(kernel: Kernel, lab: Lab, runs: list[PatchRun]) -> TestRun:
    return run_vm(
        kernel,
        runs,
        progress=SilentProgress(),
        timeout=900,
        modules=sorted(lab.modules),
        oot_modules=lab.modules,
        command_timeout=20,
    )


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
    """The answers are those of the source, before, while the patch is active, and after."""
    plain, patched = (compute_answer(hazard, side, tmp_path / str(side)) for side in (False, True))
    phases = booted.of(module_of(hazard.name))
    before, after, disabled = (phases[p].commands[0].output for p in ("before", "after", "disabled"))
    assert before == plain
    for answer, right, otherwise in ((after, patched, hazard.wrong), (disabled, plain, hazard.left)):
        assert (answer != right) == bool(otherwise), answer
        assert set(otherwise) <= set(answer.splitlines()) - set(right.splitlines())
    assert all(phases[p].ok for p in ("before", "load", "after", "disable", "disabled", "log")), phases
    assert plain != patched or hazard.parameters


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
