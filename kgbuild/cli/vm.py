# SPDX-License-Identifier: GPL-2.0-or-later
"""`kgbuild vm`: boot the kernel, load the patch, check, disable, unload."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from kgbuild.cli import options, ui
from kgbuild.cli.contract.commands import KgbuildCommand
from kgbuild.errors import ToolError
from kgbuild.guest import reload_scenario
from kgbuild.guest.loaded_patches import describe_loads
from kgbuild.guest.model import PHASES
from kgbuild.guest.session import NO, PARTLY_TRIED
from kgbuild.host.system.output_kinds import LOG
from kgbuild.report.documents import ErrorRow, error_row, rows_of
from kgbuild.report.formats import FOR_REVIEW, Answer

if TYPE_CHECKING:
    from kgbuild.guest.model import PhaseRun
    from kgbuild.host.vm.run import TestRun
    from kgbuild.model import ToolChoice

_FAULT_LINES = 12
# Further phases of a patch of loadable modules: `targets` sums them up in one line.
_QUIET = frozenset(reload_scenario.PHASES) - frozenset(PHASES) - {"targets", "absent-1"}
_COMMANDS = ("before", "after", "absent-1", "disabled")


@click.command(cls=KgbuildCommand)
@click.argument(
    "patches",
    metavar="PATCH.ko...",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@options.kernel_option
@click.option(
    "--check", "checks", multiple=True, metavar="CMD", help="Must fail before, succeed after, fail when disabled."
)
@click.option("--before", multiple=True, metavar="CMD", help="Must succeed before the patch is loaded.")
@click.option("--after", multiple=True, metavar="CMD", help="Must succeed while the patch is active, each time.")
@click.option(
    "--absent",
    multiple=True,
    metavar="CMD",
    help="Must succeed while the patch is active and its target modules are unloaded, each time.",
)
@click.option("--disabled", multiple=True, metavar="CMD", help="Must succeed when the patch is unloaded again.")
@click.option("--allow-log", multiple=True, metavar="REGEX", help="A kernel log line or warning that is expected.")
@click.option("--module", "modules", multiple=True, metavar="NAME", help="Load this module of the kernel first.")
@click.option(
    "--on-top-of",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="OLD.ko",
    help="Load this patch before, and remove it afterwards; repeat it in load order.",
)
@options.oot_module_option
@click.option("--smp", default=1, show_default=True, metavar="N", help="Number of CPUs.")
@click.option("--memory", default=512, show_default=True, metavar="MB", help="Memory of the guest.")
@click.option("--cpu", default="max", show_default=True, metavar="MODEL", help="QEMU's CPU model.")
@click.option("--append", default="", metavar="ARGS", help="More arguments for the kernel's command line.")
@click.option(
    "--trust-cert",
    "trusted",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="CERT",
    help="Boot through UEFI firmware that has this certificate (PEM) in its db (repeatable).",
)
@click.option(
    "--accel",
    type=click.Choice(["auto", "kvm", "tcg"]),
    default="auto",
    show_default=True,
    help="KVM or emulation; auto uses KVM if a probe shows that it works.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(1),
    default=120.0,
    show_default=True,
    metavar="S",
    help="Time limit in seconds.",
)
@click.option("--keep-log", type=options.OutputFile(LOG), metavar="FILE", help="Write the guest's console here.")
@options.jobs_option
@options.tool_options
@options.common_options(*FOR_REVIEW, about=options.ABOUT_REVIEW)
def vm(
    patches: tuple[Path, ...],
    kernel_name: str,
    checks: tuple[str, ...],
    before: tuple[str, ...],
    after: tuple[str, ...],
    absent: tuple[str, ...],
    disabled: tuple[str, ...],
    allow_log: tuple[str, ...],
    modules: tuple[str, ...],
    on_top_of: tuple[Path, ...],
    oot_modules: tuple[Path, ...],
    smp: int,
    memory: int,
    cpu: str,
    append: str,
    trusted: tuple[Path, ...],
    accel: str,
    timeout: float,
    keep_log: Path | None,
    jobs: int,
    tools: ToolChoice,
    common: options.Common,
) -> None:
    """Boot the kernel in QEMU and test each patch: load, wait, check, disable, unload.

    Commands run in the guest with busybox's `sh -c`. The log of the kernel must be clean. With several patches, each
    is loaded and removed in turn, in one boot. With --on-top-of, --before and --check find the older patches active.

    A patch of loadable modules is tried in both orders: its target modules, found in the kernel's package with what
    they need, are loaded before it and after it, and taken out and put in three times while it is active, each time
    with --check and --after. So these commands must bear being repeated and leave the module unused. While the targets
    are out and the patch is active, --absent runs alone: what it calls is code that a module's absence must not harm.

    A target module that this machine can't load even without the patch, because it has no such device, is not tried.

    \b
    Example:
      kgbuild vm livepatch-fix.ko --kernel debian:newest-6.1-cloud \\
          --check 'grep -q kgbuild /proc/version'
    """
    from kgbuild.host.kernels.acquire import ensure_kernel
    from kgbuild.host.modules.images import name_modules
    from kgbuild.host.vm.firmware import read_certificate
    from kgbuild.host.vm.patch_notes import check_kernel_of
    from kgbuild.host.vm.run import PatchRun, run_vm

    out = common.output()
    own = name_modules(oot_modules)
    runs = [
        PatchRun(path, before, after, disabled, checks, allow_log, older=on_top_of, absent=absent) for path in patches
    ]
    several = len(runs) > 1
    shown: set[str] = set()

    def show(phase: PhaseRun) -> None:
        if several and phase.patch not in shown:
            shown.add(phase.patch)
            out.line("patch", phase.patch)
        show_phase(out, phase)

    def keep(console: str) -> None:
        if keep_log is not None:
            common.write(keep_log, console.encode(errors="replace"))

    for path in trusted:
        read_certificate(path)  # what is none is said before a kernel is fetched
    prepared = ensure_kernel(kernel_name, progress=out, offline=common.offline, jobs=jobs, choice=tools)
    for path in (*on_top_of, *patches):
        check_kernel_of(path, prepared)
    if on_top_of:
        out.line("before", f"{', '.join(path.name for path in on_top_of)} (--on-top-of)")
    result = run_vm(
        prepared,
        runs,
        progress=out,
        smp=smp,
        append=append,
        memory=memory,
        timeout=timeout,
        cpu=cpu,
        accel=accel,
        modules=modules,
        oot_modules=own,
        trusted=trusted,
        on_phase=show,
        on_console=keep,
    )
    for text in result.warnings:
        out.line("warning", text, style="yellow")
    status = 0 if result.verdict else 1 if result.outcome == NO else ToolError.exit_code
    common.deliver(Answer(result.to_json), status=status, errors=_errors(result))
    show_end(out, result, bool(checks or before or after or absent or disabled))
    click.get_current_context().exit(status)


def _errors(result: TestRun) -> list[ErrorRow]:
    """Why a run does not end well: what was found, and what could not be tried."""
    if result.verdict:
        return []
    remedy = "try it on a machine that has the device"
    untried = [error_row(ToolError.code, one.fact, f"{one.patch} on {one.module}", remedy) for one in result.not_tried]
    return [*rows_of(result.findings), *untried] or [error_row(ToolError.code, result.outcome)]


def show_phase(out: ui.Output, phase: PhaseRun) -> None:
    """The line of one phase; a phase without commands has none. Its faults follow."""
    if phase.ok and phase.phase in _QUIET:
        out.note(f"{phase.phase}: {phase.fact}")
        show_commands(out, phase)
        return
    if phase.ok and phase.phase in _COMMANDS and not phase.commands:
        return
    label = {"load": "loaded", "disable": "removed", "absent-1": "absent"}.get(phase.phase, phase.phase)
    if not phase.ok:
        label = phase.phase
    seconds = phase.seconds if phase.phase in ("load", "disable") else None
    if len(label) >= ui.LABEL_WIDTH:
        label += " "
    out.line(label, phase.fact if phase.ok else f"FAILED: {phase.fact}", seconds, "" if phase.ok else "red")
    for text in describe_loads(phase.loads, first=out.verbose):
        out.line("", text)
    for fault in phase.faults:
        for line in fault.lines[:_FAULT_LINES]:
            out.line("", f"  {line}")
        if len(fault.lines) > _FAULT_LINES:
            out.line("", f"  ({len(fault.lines) - _FAULT_LINES} more lines)")
    show_commands(out, phase)


def show_commands(out: ui.Output, phase: PhaseRun) -> None:
    """What the commands of a phase printed: the last lines of those that went wrong, with --verbose all of all."""
    for run in phase.commands:
        lines = run.output.strip().splitlines()
        if out.verbose:
            status = "stopped" if run.status is None else f"status {run.status}"
            out.note(f"  $ {run.cmd.strip()}  ({status}, {run.seconds:.1f} s)")
        for line in lines if out.verbose else lines[-_FAULT_LINES:] if not run.ok else ():
            out.line("", f"  {line}")


def show_end(out: ui.Output, result: TestRun, told: bool = True) -> None:
    """Print the verdict; `told` if commands were given that try what the patch does. If it is no, the findings go to
    standard error, so that --quiet shows them too."""
    if result.verdict and not told:
        out.line("verdict", "ok: it loads and unloads; what it does was not tried (--check)", result.seconds, "green")
        return
    if result.verdict:
        out.line("verdict", "ok", result.seconds, "green")
        return
    if result.outcome != NO:
        out.line("verdict", result.outcome, result.seconds, "yellow")
    for one in result.not_tried:
        rest = "; the rest is as it should be" if result.outcome == PARTLY_TRIED else ""
        out.say(
            f"{one.patch}: not tried on {one.module}, which this machine can't load without the patch either: "
            f"{one.fact}{rest}; try it on a machine that has the device",
            err=True,
        )
    if result.outcome != NO:
        return
    count = len(result.findings)
    out.line("verdict", f"no, {count} finding{'s' if count != 1 else ''}", result.seconds, "red")
    for finding in result.findings:
        out.say(f"{finding.code}   {finding}", err=True)
