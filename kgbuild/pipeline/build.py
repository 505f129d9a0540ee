# SPDX-License-Identifier: GPL-2.0-or-later
"""The two main use cases: find out what a patch does to a kernel, and build the module."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kgbuild.errors import KgbuildError
from kgbuild.host.compile.apply_patches import PatchInput
from kgbuild.host.modules.running import RunningKernel
from kgbuild.host.system.cache import Cache
from kgbuild.host.system.tree_manifest import DamagedSource
from kgbuild.pipeline.module_names import check_free, patch_module_name
from kgbuild.pipeline.stages.assemble import assemble, check, put_on_older
from kgbuild.pipeline.stages.close import close
from kgbuild.pipeline.stages.compare import compare
from kgbuild.pipeline.stages.events import Observer, Run
from kgbuild.pipeline.stages.options import Options
from kgbuild.pipeline.stages.prepare import apply, ask, choose_kernel, open_patched_tree, prepare
from kgbuild.pipeline.stages.prove import compile_prepared, prove
from kgbuild.pipeline.stages.trail import Trail
from kgbuild.pipeline.stages.values import Assembled, Checked, Closed, Inputs, Prepared


@dataclass(frozen=True)
class Built:
    """A module and everything that was found while building it; `trail` makes the report."""

    prepared: Prepared
    closed: Closed
    assembled: Assembled
    checked: Checked
    trail: Trail

    def to_json(self) -> dict[str, Any]:
        """The report as plain data (docs/schema/report-1.json)."""
        return self.trail.report()


def build(
    patches: Sequence[PatchInput],
    kernel: str | RunningKernel,
    output: Path,
    options: Options,
    observer: Observer | None = None,
) -> Built:
    """Build a live patch module. `output` only gives its name; no file is written there.

    Nothing is written outside the cache (and `options.keep`). Raises Refused with all refusals of the stage that found
    them, NoChange if nothing is left to patch, ToolError or UserError for other failures. `observer` receives each
    value as it is reached; a Trail keeps them, so that a failed run can be reported as well.
    """
    trail = observer if isinstance(observer, Trail) else Trail(observer)
    with _on(trail, options, output) as run:
        name = patch_module_name(output)
        asked, prepared, closed = _find_out(patches, kernel, run, name)
        # every reference is bound; nothing is refused any more but by what is loaded before and by the back end
        closed = put_on_older(asked, prepared, closed, name, run)
        assembled = assemble(prepared, closed, name, run)
        # the module is complete; nothing below changes it
        checked = check(prepared, assembled, output, run)
    return Built(prepared, closed, assembled, checked, trail)


def analyse(
    patches: Sequence[PatchInput],
    kernel: str | RunningKernel,
    options: Options,
    observer: Observer | None = None,
) -> Closed:
    """What `build` would put into a module, and why, without making the module. Raises the exceptions of `build`."""
    trail = observer if isinstance(observer, Trail) else Trail(observer)
    with _on(trail, options, None) as run:
        return _find_out(patches, kernel, run)[2]


def _find_out(
    patches: Sequence[PatchInput], kernel: str | RunningKernel, run: Run, name: str = ""
) -> tuple[Inputs, Prepared, Closed]:
    """All stages up to the closure, once more where a file of the source was damaged. `name` is the module's, where one
    is made."""
    try:
        return _find_out_once(patches, kernel, run, name)
    except DamagedSource as damage:
        if not isinstance(kernel, str):
            raise
        run.observer.note(f"{damage.place}: {damage.fact}")
        return _find_out_once(patches, kernel, run, name)


def _find_out_once(
    patches: Sequence[PatchInput], kernel: str | RunningKernel, run: Run, name: str
) -> tuple[Inputs, Prepared, Closed]:
    asked = ask(patches, kernel, run.options)
    run.observer.reached(asked)
    chosen = choose_kernel(asked, run)
    if name:
        check_free(name, chosen.running.modules.paths, chosen.kernel.id.release)
    # from here on the kernel is known, and its compiler is the right one
    with open_patched_tree(chosen, run) as tree:
        applied = apply(asked, tree, run)
        prepared = prepare(chosen, applied, tree, run)
        # every unit that the patch changes is known, and is part of this kernel
        compiled = compile_prepared(prepared, run)
        proven = prove(prepared, compiled, run)
        # for each function of the originals it is known whether it is what runs
        compared = compare(prepared, proven, run)
        # what changed is known; types in use keep their layout
        return asked, prepared, close(asked, prepared, proven, compared, run)


@contextmanager
def _on(trail: Trail, options: Options, output: Path | None) -> Iterator[Run]:
    """The parameters that all stages need; the trail learns what ends the run."""
    trail.options, trail.output = options, output
    try:
        yield Run(options, Cache(), trail)
    except KgbuildError as error:
        trail.error = error
        raise
