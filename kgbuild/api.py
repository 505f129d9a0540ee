# SPDX-License-Identifier: GPL-2.0-or-later
"""kgbuild for programs: what the commands do, as functions (docs/api.md).

    import kgbuild

    kernel = kgbuild.open_kernel("debian:newest-6.1-cloud")
    print(kgbuild.impact([Path("fix.patch")], kernel).to_json()["changed"])
    built = kgbuild.build([Path("fix.patch")], kernel, name="livepatch-fix")
    Path("livepatch-fix.ko").write_bytes(built.assembled.module)

A patch is a file (a Path) or its text (str or bytes). A kernel is its name, as --kernel takes it, or what `open_kernel`
gives. Nothing is printed and nothing written outside the cache. Results are frozen; `to_json()` gives what the commands
write as reports, by the schemas in docs/schema. What a command ends with an exit status for is raised: Refused (1),
UserError (2), ToolError (3), NoChange (4), all of them KgbuildError. An `observer` is told of progress and of what is
reached; it stops a run by raising Cancelled. Several runs may go on side by side in threads of one process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kgbuild.diagnostics.refusals import Refusal, Refused
from kgbuild.errors import KgbuildError, NoChange, ToolError, UserError
from kgbuild.host.compile.apply_patches import PatchInput
from kgbuild.host.kernels.acquire import ensure_kernel
from kgbuild.host.modules.images import name_modules
from kgbuild.host.modules.running import RunningKernel
from kgbuild.model import EXACT_TOOLS, ToolChoice
from kgbuild.pipeline.build import Built
from kgbuild.pipeline.build import build as _build
from kgbuild.pipeline.impact import Impact, find_impact
from kgbuild.pipeline.stages.events import Cancelled, Observer, SilentObserver, StageEnded
from kgbuild.pipeline.stages.options import Options
from kgbuild.pipeline.stages.values import Closed

if TYPE_CHECKING:
    from kgbuild.host.vm.run import TestRun
    from kgbuild.pipeline.estimate import Estimated
    from kgbuild.pipeline.object_diff import ObjectDiff
    from kgbuild.pipeline.stages.verify import Verified
    from kgbuild.pipeline.why import WhyAnswer

DEFAULT = Options()


def open_kernel(
    name: str,
    *,
    offline: bool = False,
    jobs: int = 2,
    oot_modules: Sequence[Path] = (),
    tools: ToolChoice = EXACT_TOOLS,
    observer: Observer | None = None,
) -> RunningKernel:
    """The kernel of that name, fetched and prepared if it is not in the cache; what is known of it is read once.

    `oot_modules` are .ko files that are loaded beside its own; `tools` says which programs compile. Raises UserError
    for a name that means nothing, ToolError where the archive, the network, the disk or a tool fails.
    """
    progress = observer or SilentObserver()
    kernel = ensure_kernel(name, progress=progress, offline=offline, jobs=jobs, choice=tools)
    return RunningKernel(kernel, name_modules(oot_modules))


def build(
    patches: Sequence[PatchInput],
    kernel: str | RunningKernel,
    *,
    name: str = "livepatch",
    options: Options = DEFAULT,
    observer: Observer | None = None,
) -> Built:
    """A live patch module; its bytes are `assembled.module`, its name is `name` with "_" for "-".

    What a second reader finds wrong in it is in `checked.findings`: a module with findings is not to be used. Raises
    Refused with every reason for not making one, NoChange where nothing is left to patch.
    """
    return _build(patches, kernel, Path(f"{name}.ko"), options, observer)


def impact(
    patches: Sequence[PatchInput],
    kernel: str | RunningKernel,
    *,
    options: Options = DEFAULT,
    observer: Observer | None = None,
) -> Impact:
    """What `build` would put into a module, and why. What is refused once the patch is closed is in the result; Refused
    is raised for what comes before. `options.make_index`: make the kernel's index for the sake of warnings."""
    return find_impact(patches, kernel, options, observer)


def estimate(
    patches: Sequence[PatchInput],
    kernel: str | RunningKernel,
    *,
    options: Options = DEFAULT,
    observer: Observer | None = None,
) -> Estimated:
    """What patches would touch, from sources, index and debugging information; nothing is compiled (docs/impact.md)."""
    from kgbuild.pipeline.estimate import estimate_patches

    return estimate_patches(
        patches,
        kernel,
        observer,
        offline=options.offline,
        jobs=options.jobs,
        max_units=options.max_units,
        ignore_init=options.ignore_init,
    )


def why(
    function: str,
    patches: Sequence[PatchInput],
    kernel: str | RunningKernel,
    *,
    options: Options = DEFAULT,
    observer: Observer | None = None,
) -> WhyAnswer:
    """The chain that brings `function` into the patch, or how the patch refers to it in the kernel. Raises UserError
    where it does neither."""
    from kgbuild.pipeline.why import answer_why

    return answer_why(function, patches, kernel, replace(options, make_index=True), observer)


def diff_objects(
    orig: Path | bytes,
    patched: Path | bytes,
    *,
    place: str = "",
    symvers: Path | str | None = None,
    ignore_init: bool = False,
) -> ObjectDiff:
    """Compare two relocatable objects of one unit, and close the difference; no kernel is needed.

    `place` names the unit in refusals; `symvers` is Module.symvers, as a file or its text. Refusals are in the result.
    Raises UserError for what is no relocatable object.
    """
    from kgbuild.host.system.input_files import read_input_text
    from kgbuild.kernel.exports import parse_symvers
    from kgbuild.limits import SYMVERS_BYTES
    from kgbuild.pipeline.object_diff import diff_objects as compare
    from kgbuild.pipeline.object_diff import read_relocatable

    objects = [read_relocatable(_bytes(side), _name(side)) for side in (orig, patched)]
    text = read_input_text(symvers, SYMVERS_BYTES) if isinstance(symvers, Path) else symvers or ""
    return compare(objects[0], objects[1], place or _name(patched), parse_symvers(text), None, ignore_init)


def verify(
    module: Path | bytes,
    kernel: str | RunningKernel,
    *,
    name: str = "livepatch",
    proof: Path | None = None,
    offline: bool = False,
    observer: Observer | None = None,
) -> Verified:
    """Everything that is wrong with a finished module for this kernel; `name` names one that is given as bytes.

    `proof` is a record of `build`. Raises UserError for what is no kernel module.
    """
    from kgbuild.pipeline.stages.verify import read_record
    from kgbuild.pipeline.stages.verify import verify as check

    record = read_record(proof) if proof is not None else None
    running = kernel if isinstance(kernel, RunningKernel) else open_kernel(kernel, offline=offline, observer=observer)
    path = str(module) if isinstance(module, Path) else f"{name}.ko"
    given = str(proof) if proof is not None else None
    return check(_bytes(module), running.kernel, path, record=record, own=running.oot_modules, proof=given)


def boot(
    modules: Sequence[Path],
    kernel: str | RunningKernel,
    *,
    checks: Sequence[str] = (),
    before: Sequence[str] = (),
    after: Sequence[str] = (),
    disabled: Sequence[str] = (),
    absent: Sequence[str] = (),
    load: Sequence[str] = (),
    allow_log: Sequence[str] = (),
    on_top_of: Sequence[Path] = (),
    timeout: float = 300,
    offline: bool = False,
    observer: Observer | None = None,
    **machine: Any,
) -> TestRun:
    """Boot the kernel in QEMU, and load, check, disable and unload each live patch module in turn.

    checks     commands that must succeed while the patch is active, and fail before and after
    before, after, disabled, absent   commands for that phase alone (`kgbuild vm --help`)
    load       modules of the kernel that the guest loads first
    timeout    seconds for one boot
    machine    smp, memory (MiB), cpu, accel, append: as `host/vm/run.py` takes them

    Raises ToolError where the guest does not boot, UserError for a file that is no live patch.
    """
    from kgbuild.host.vm.run import PatchRun, run_vm

    running = kernel if isinstance(kernel, RunningKernel) else open_kernel(kernel, offline=offline, observer=observer)
    runs = [
        PatchRun(path, before, after, disabled, checks, allow_log, older=tuple(on_top_of), absent=absent)
        for path in modules
    ]
    return run_vm(
        running.kernel,
        runs,
        progress=observer or SilentObserver(),
        timeout=timeout,
        modules=tuple(load),
        oot_modules=running.oot_modules,
        **machine,
    )


def _bytes(given: Path | bytes) -> bytes:
    if isinstance(given, bytes):
        return given
    from kgbuild.host.system.input_files import read_packed

    return read_packed(given)


def _name(given: Path | bytes) -> str:
    return given.name if isinstance(given, Path) else "object"


__all__ = [
    "Built",
    "Cancelled",
    "Closed",
    "Impact",
    "KgbuildError",
    "NoChange",
    "Observer",
    "Options",
    "Refusal",
    "Refused",
    "RunningKernel",
    "SilentObserver",
    "StageEnded",
    "ToolError",
    "UserError",
    "boot",
    "build",
    "diff_objects",
    "estimate",
    "impact",
    "open_kernel",
    "verify",
    "why",
]
