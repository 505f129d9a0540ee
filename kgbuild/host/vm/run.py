# SPDX-License-Identifier: GPL-2.0-or-later
"""Boot the real kernel in QEMU, load live patches, check, disable, unload.

The guest has two serial ports: the console, for people, and a channel on which its /init says what happened (see
guest/session.py). A verdict comes from the channel alone; the console is only quoted where the guest died.

Nothing is written to disk: the initramfs and the console are memory files that QEMU opens through /proc/self/fd, so
that a killed run leaves nothing behind. QEMU is told to die with us (setpriv --pdeathsig).
"""

from __future__ import annotations

import copy
import os
import selectors
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from kgbuild.errors import ToolError, UserError
from kgbuild.guest.channel import ChannelParser
from kgbuild.guest.kernel_log import find_faults, parse_console
from kgbuild.guest.model import PHASES, CommandRun, GuestPlan, PhaseRun
from kgbuild.guest.reload_scenario import NotTried
from kgbuild.guest.session import Session
from kgbuild.host.kernels.vmlinux import arch_of_kernel
from kgbuild.host.system.children import child_environment
from kgbuild.host.system.required_packages import remedy_for
from kgbuild.host.vm import initramfs, kvm
from kgbuild.host.vm.firmware import trusting_firmware
from kgbuild.host.vm.plans import PatchRun, prepare
from kgbuild.host.vm.qemu import (
    HUNG_SECONDS,
    KVM_BOOT_SECONDS,
    Machine,
    confined,
    die_with_us,
    own_status,
    qemu_command,
)
from kgbuild.limits import CONSOLE_BYTES
from kgbuild.model import Finding, Kernel
from kgbuild.progress import Progress

__all__ = ["PHASES", "CommandRun", "PatchRun", "PhaseRun", "TestRun", "run_vm"]

SCHEMA = "kgbuild/vm/1"  # docs/schema/vm-1.json
SCHEMA_VERSION = 1
_CONSOLE_LINES = 15


@dataclass(frozen=True)
class TestRun:
    """What one boot showed. `verdict` is True where nothing was found and all was tried, `outcome` says it in a word;
    `not_tried` are target modules that this machine can't load; `warnings` are of options that accept nothing; `log` is
    the console, `kernel_log` what the guest's `dmesg -r` said during each run; seconds are of the host's clock, `accel`
    is "kvm" or "tcg"."""

    __test__: ClassVar[bool] = False  # pytest: no test class

    kernel: str
    release: str
    accel: str
    cpus: int
    phases: tuple[PhaseRun, ...]
    findings: tuple[Finding, ...]
    verdict: bool
    outcome: str
    not_tried: tuple[NotTried, ...]
    log: str
    kernel_log: str
    boot_seconds: float
    seconds: float
    warnings: tuple[str, ...] = ()

    def of(self, patch: str) -> dict[str, PhaseRun]:
        """The phases of one patch module (by the module's name), by phase."""
        return {phase.phase: phase for phase in self.phases if phase.patch == patch}

    def to_json(self) -> dict[str, Any]:
        """Everything but the console's text, as plain data."""
        values = asdict(self)
        del values["log"]
        return {"schema": SCHEMA, "version": SCHEMA_VERSION, **values}


class _NotBooted(Exception):
    """Leaves the step that waits for the boot."""


@dataclass
class _Boot:
    """One started QEMU and what came of it."""

    session: Session
    accel: str
    program: str
    console: str = ""
    stderr: str = ""
    status: int | None = None
    timed_out: bool = False
    hung: bool = False
    parser: ChannelParser = field(default_factory=ChannelParser)
    boot_seconds: float = 0.0


def run_vm(
    kernel: Kernel,
    patches: Sequence[PatchRun],
    *,
    progress: Progress,
    smp: int = 1,
    append: str = "",
    memory: int = 512,
    timeout: float = 120.0,
    cpu: str = "max",
    accel: str = "auto",
    files: Mapping[str, bytes | Path] | None = None,
    modules: Sequence[str] = (),
    oot_modules: Mapping[str, Path] | None = None,
    transition_timeout: float = 60.0,
    command_timeout: float = 60.0,
    trusted: Sequence[Path] = (),
    on_phase: Callable[[PhaseRun], None] | None = None,
    on_console: Callable[[str], None] | None = None,
) -> TestRun:
    """Boot `kernel` once and run every patch through all phases, one after the other.

    `files` puts files into the guest (bytes become executable files); `modules` are the kernel's own modules, loaded
    first; `oot_modules` out-of-tree ones by name, for the patches that are for them. `trusted` are certificates (PEM)
    that the guest's firmware has in its `db`: the guest boots through UEFI then. `timeout` (seconds) is for
    everything; a command or a transition that takes longer than its own limit (or half of `timeout`) is a finding.
    `on_phase` hears of each phase as it ends, `on_console` gets the console's text at the end, also where this raises.

    Raises ToolError where the guest did not boot or did not finish, UserError where the input can't be used. A kernel
    that dies after a patch began to load is no error but a finding.
    """
    began = time.monotonic()
    arch = arch_of_kernel(kernel)
    program = arch.platform.emulator.command
    firmware = trusting_firmware(arch.platform.emulator, trusted) if trusted else None
    machine = Machine(arch.platform.emulator, smp, memory, cpu, append, firmware)
    machine.check()
    if accel not in ("auto", "kvm", "tcg"):
        raise UserError(f"unknown accelerator {accel!r}", place="--accel", remedy="use auto, kvm or tcg")
    if shutil.which(program) is None:
        raise ToolError("not found on this machine", place=program, remedy=remedy_for(program))
    if not kernel.image.is_file():
        raise ToolError("the kernel's image is gone", place=str(kernel.image), remedy="fetch the kernel again")
    plans, entries = prepare(kernel, arch, patches, files or {}, modules, oot_modules or {})
    limits = f"{_limit(transition_timeout, timeout)} {_limit(command_timeout, timeout)}\n"
    archive = initramfs.write_cpio([*entries, initramfs.regular("kgbuild/limits", limits.encode())])

    chosen = accel
    if accel == "auto":
        chosen = "kvm" if kvm.kvm_works(machine.emulator, cpu, smp) else "tcg"
    may_fall_back = accel == "auto" and chosen == "kvm"
    boot = _boot(kernel, machine, chosen, archive, plans, timeout, progress, on_phase, may_fall_back)
    if may_fall_back and not boot.session.booted:
        # The probe ran under this KVM, but a kernel does not.
        kvm.remember(machine.emulator, cpu, smp, False)
        progress.note("the kernel did not boot under KVM; once more under TCG")
        boot = _boot(kernel, machine, "tcg", archive, plans, timeout, progress, on_phase, False)
    if _died_early(boot):
        progress.note("the kernel died before a patch was loaded; once more")
        boot = _boot(kernel, machine, boot.accel, archive, plans, timeout, progress, on_phase, False)
    if on_console is not None:
        on_console(boot.console)
    return _conclude(kernel, machine, boot, timeout, time.monotonic() - began)


def _limit(wanted: float, timeout: float) -> int:
    return max(1, int(min(wanted, timeout / 2)))


# The boot


def _boot(
    kernel: Kernel,
    machine: Machine,
    accel: str,
    archive: bytes,
    plans: list[GuestPlan],
    timeout: float,
    progress: Progress,
    on_phase: Callable[[PhaseRun], None] | None,
    may_fall_back: bool,
) -> _Boot:
    """Start QEMU and listen until it ends, the guest is finished, or the time is up."""
    boot = _Boot(Session(copy.deepcopy(plans)), accel, machine.emulator.command)  # they learn what the guest says
    early: list[PhaseRun] = []  # phases that came in one piece with the word that the guest is up
    files = [os.memfd_create(f"kgbuild-{name}", 0) for name in ("initrd", "console", "stderr", "variables")]
    initrd, console, stderr, variables = files
    process: subprocess.Popen[bytes] | None = None
    try:
        with os.fdopen(initrd, "wb", closefd=False) as stream:
            stream.write(archive)
        if machine.firmware is not None:
            with os.fdopen(variables, "wb", closefd=False) as stream:
                stream.write(machine.firmware.variables)
        command, env = qemu_command(machine, accel, kernel.image, initrd, console, variables), child_environment()
        if kernel.sandboxed:
            command = confined(command, kernel.image, accel, env, machine.firmware)
        began = time.monotonic()
        process = subprocess.Popen(
            [*die_with_us(), *command],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            pass_fds=(initrd, console, variables),
            start_new_session=True,  # Ctrl-C at the terminal is for us; we kill it
        )
        boot_limit = KVM_BOOT_SECONDS if may_fall_back else timeout
        cpus = f"{machine.smp} CPU{'s' if machine.smp != 1 else ''}"
        with progress.step(f"booted {kernel.id.release} under {accel.upper()}, {cpus}"):
            _listen(
                boot, process, console, began, min(boot_limit, timeout), early.append, lambda session: session.booted
            )
            boot.boot_seconds = time.monotonic() - began
            if not boot.session.booted:
                raise _NotBooted  # so that the step isn't shown as done
        if on_phase is not None:
            for phase in early:
                on_phase(phase)
        _listen(boot, process, console, began, timeout, on_phase, lambda session: session.finished)
    except _NotBooted:
        pass
    finally:
        if process is not None:
            kvm.kill(process)
            boot.status = own_status(process.returncode, kernel.sandboxed)
            if process.stdout is not None:
                process.stdout.close()
        boot.console = _text(console)
        boot.stderr = _text(stderr)
        for descriptor in files:
            os.close(descriptor)
    return boot


def _listen(
    boot: _Boot,
    process: subprocess.Popen[bytes],
    console: int,
    began: float,
    limit: float,
    on_phase: Callable[[PhaseRun], None] | None,
    enough: Callable[[Session], bool],
) -> None:
    """Feed the session with what arrives on the channel, until `enough`, the end of QEMU, or `limit` seconds.

    A guest that is silent after its kernel reported a serious fault hangs; waiting longer is of no use.
    """
    assert process.stdout is not None
    descriptor = process.stdout.fileno()
    heard = time.monotonic()
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while not enough(boot.session):
            if os.fstat(console).st_size > CONSOLE_BYTES.most:
                raise ToolError(f"the guest does not stop writing: {CONSOLE_BYTES.statement}", place=boot.program)
            remaining = limit - (time.monotonic() - began)
            if remaining <= 0:
                boot.timed_out = True
                return
            if not selector.select(min(remaining, 1.0)):
                boot.hung = time.monotonic() - heard > HUNG_SECONDS and bool(_complaint(_text(console)))
                if boot.hung:
                    return
                continue
            heard = time.monotonic()
            data = os.read(descriptor, 1 << 16)
            if not data:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(2)
                return
            for record in boot.parser.feed(data):
                phase = boot.session.feed(record)
                if phase is not None and on_phase is not None:
                    on_phase(phase)


def _text(descriptor: int) -> str:
    chunks = []
    offset = 0
    while chunk := os.pread(descriptor, 1 << 20, offset):
        chunks.append(chunk)
        offset += len(chunk)
    return b"".join(chunks).decode("utf-8", "replace").replace("\r\n", "\n").replace("\0", "")


# After


def _conclude(kernel: Kernel, machine: Machine, boot: _Boot, timeout: float, seconds: float) -> TestRun:
    """The verdict, or the error that says why there is none."""
    session = boot.session
    if not session.booted:
        raise _not_booted(boot, timeout)
    if session.faulty_modules:
        name, said = session.faulty_modules[0]
        raise ToolError(f"could not be loaded in the guest: {said.strip()}", place=f"--module {name}")
    if not session.finished:
        complaint = _complaint(boot.console)
        if session.loading and (complaint or _died_by_itself(boot)):
            how = "the guest hung" if boot.hung or boot.timed_out else "the kernel died"
            session.died(f"{how} at {session.step}: {complaint or 'without a word'}")
        else:
            raise _not_finished(boot, timeout, complaint)
    elif session.incomplete:
        raise ToolError(
            f"the guest's report is not complete ({boot.parser.lost} records lost, {boot.parser.garbage} not readable)",
            place=boot.program,
            remedy="run it again; --keep-log FILE keeps the console",
        )
    return TestRun(
        kernel=str(kernel.id),
        release=session.release,
        accel=boot.accel,
        cpus=session.cpus or machine.smp,
        phases=tuple(session.phases),
        findings=tuple(session.findings),
        verdict=session.finished and not session.findings and not session.not_tried,
        outcome=session.outcome,
        not_tried=tuple(session.not_tried),
        warnings=session.warnings,
        log=boot.console,
        kernel_log="\n".join(session.kernel_log),
        boot_seconds=boot.boot_seconds,
        seconds=seconds,
    )


def _died_early(boot: _Boot) -> bool:
    """Whether the kernel died when nothing of a patch was in it yet: a fault of the emulator or of its host, most
    likely one that does not come again."""
    session = boot.session
    return not (session.loading or session.finished or boot.timed_out) and bool(_complaint(boot.console))


def _died_by_itself(boot: _Boot) -> bool:
    """QEMU ended with status 0 before we asked for it: with -no-reboot that is a guest that reset itself."""
    return not boot.timed_out and not boot.hung and boot.status == 0


def _complaint(console: str) -> str:
    """The gravest thing the kernel said on its console, or ""."""
    faults = find_faults(parse_console(console))
    grave = [f for f in faults if f.kind in ("panic", "oops", "bug", "lockup", "hung task", "stall", "sanitizer")]
    panics = [f for f in grave if f.kind == "panic"]
    first = [grave[0].headline] if grave else []
    return "; ".join(dict.fromkeys([*first, *(f.headline for f in panics)]))


def _tail(console: str) -> str:
    lines = [line for line in console.splitlines() if line.strip()][-_CONSOLE_LINES:]
    return "the console's last lines:\n  " + "\n  ".join(lines) if lines else "the console is empty"


def _not_booted(boot: _Boot, timeout: float) -> ToolError:
    if boot.stderr.strip() and not boot.console.strip() and not boot.timed_out:
        said = boot.stderr.replace(f"{boot.program}: ", "").strip()
        remedy = "use --accel tcg" if boot.accel == "kvm" else "check --cpu, --smp and --memory"
        return ToolError(f"could not start the guest: {said}", place=boot.program, remedy=remedy)
    reason = f"within {timeout:.0f} s" if boot.timed_out else f"(QEMU ended with status {boot.status})"
    return ToolError(
        f"the guest did not boot {reason}; {_tail(boot.console)}",
        place=boot.program,
        remedy="try more --memory or a longer --timeout; --keep-log FILE keeps the console",
    )


def _not_finished(boot: _Boot, timeout: float, complaint: str) -> ToolError:
    step = boot.session.step
    if boot.timed_out:
        fact = f"the guest did not finish within {timeout:.0f} s; it was at {step}"
    elif boot.hung:
        fact = f"the guest hung at {step}"
    elif boot.status is not None and boot.status < 0:
        fact = f"QEMU was killed by signal {-boot.status} at {step}"
    else:
        fact = f"the guest ended at {step} (QEMU's status {boot.status})"
    for more in (complaint, boot.stderr.strip(), _tail(boot.console)):
        fact += f"; {more}" if more else ""
    return ToolError(fact, place=boot.program, remedy="a longer --timeout may help; --keep-log FILE keeps the console")
