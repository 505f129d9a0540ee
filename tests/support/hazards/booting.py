# SPDX-License-Identifier: GPL-2.0-or-later
"""The laboratory on one kernel: every patch built as a user would build it, and booted."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kgbuild.errors import KgbuildError
from kgbuild.host.vm.run import PatchRun, TestRun, run_vm
from kgbuild.model import Kernel
from kgbuild.pipeline.build import build
from kgbuild.pipeline.stages.options import Options
from kgbuild.pipeline.stages.trail import Trail
from kgbuild.pipeline.stages.values import Assembled
from kgbuild.progress import SilentProgress
from tests.support.hazards.lab import SOURCE, Hazard, build_modules, clean_copy, compute_answer
from tests.support.hazards.naive import build_naive


@dataclass(frozen=True)
class Lab:
    """The modules that run, and what was built for them. `states` are the builds by hazard or naive patch; `patches`
    the .ko files of both kinds, by the same names."""

    modules: dict[str, Path]
    states: dict[str, Trail]
    patches: dict[str, Path]


def module_of(name: str) -> str:
    """The module's name of a hazard's or naive patch's .ko."""
    return f"livepatch_hz_{name}".replace("-", "_")


def build_lab(kernel: Kernel, hazards: list[Hazard], folder: Path, naive: bool = True) -> Lab:
    """Build the modules and every patch for them, in this process; `naive`: also those that close over nothing."""
    name = f"{kernel.id.name}={kernel.id.version}"
    modules = build_modules(kernel, folder / "build")
    source = clean_copy(folder / "source")
    made = Lab(modules, {}, {})

    def run(patch: str, path: Path, output: Path, hazard: Hazard) -> None:
        trail = made.states[patch] = Trail()
        options = Options(offline=True)
        if hazard.module:
            loaded = tuple(modules[one] for one in (hazard.module, *hazard.beside))
            options = Options(oot=source, oot_modules=loaded, offline=True)
        with suppress(KgbuildError):  # the trail has it
            build([path], name, output, options, trail)

    for hazard in hazards:
        output = folder / f"livepatch-hz-{hazard.name}.ko"
        run(hazard.name, SOURCE / hazard.folder / hazard.patch, output, hazard)
        assembled = made.states[hazard.name].get(Assembled)
        if assembled is not None:
            output.write_bytes(assembled.module)
            made.patches[hazard.name] = output
        for one in hazard.naive if naive else ():
            trail = made.states[hazard.name]
            if one.patch != hazard.patch:
                run(one.name, SOURCE / hazard.folder / one.patch, folder / "unused.ko", hazard)
                trail = made.states[one.name]
            data = build_naive(trail, one.rules, module_of(one.name))
            made.patches[one.name] = folder / f"livepatch-hz-{one.name}.ko"
            made.patches[one.name].write_bytes(data)
    return made


def boot(kernel: Kernel, lab: Lab, runs: list[PatchRun]) -> TestRun:
    """Boot these patches in one guest that has all modules of the laboratory."""
    return run_vm(
        kernel,
        runs,
        progress=SilentProgress(),
        timeout=900,
        modules=sorted(lab.modules),
        oot_modules=lab.modules,
        command_timeout=20,
    )


def boot_built(kernel: Kernel, lab: Lab, hazards: list[Hazard]) -> TestRun:
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
        for h in hazards
    ]
    return boot(kernel, lab, runs)


def check_right(hazard: Hazard, booted: TestRun, folder: Path) -> None:
    """Assert that the answers are those of the source, before, while the patch is active, and after."""
    plain, patched = (compute_answer(hazard, side, folder / str(side)) for side in (False, True))
    phases = booted.of(module_of(hazard.name))
    before, after, disabled = (phases[p].commands[0].output for p in ("before", "after", "disabled"))
    assert before == plain
    for answer, right, otherwise in ((after, patched, hazard.wrong), (disabled, plain, hazard.left)):
        assert (answer != right) == bool(otherwise), answer
        assert set(otherwise) <= set(answer.splitlines()) - set(right.splitlines())
    assert all(phases[p].ok for p in ("before", "load", "after", "disable", "disabled", "log")), phases
    assert plain != patched or hazard.parameters
