# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU: the machine that a guest gets, and its command line."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kgbuild.arch.platform import Emulator
from kgbuild.errors import UserError
from kgbuild.host.system.sandbox import Sandbox, check_sandbox, own_directories
from kgbuild.host.vm.firmware import Firmware
from kgbuild.host.vm.kvm import DEVICE

# Several CPUs take turns in one thread. With a thread each, a CPU can run a breakpoint that another has taken back
# already: a kernel that switches static calls when a transition begins (6.3 and later) died of "Oops: int3" in one of
# some thirty boots, in code that is none of the patch, where the instruction was whole again.
TCG = "tcg,thread=single"


KVM_BOOT_SECONDS = 20.0


HUNG_SECONDS = 8.0


@dataclass(frozen=True)
class Machine:
    """The virtual machine: everything of QEMU's command line that a caller chooses.

    emulator  QEMU for the kernel's architecture
    smp       number of CPUs; memory: in MB; cpu: QEMU's name of a model; append: more of the kernel's command line
    firmware  UEFI firmware that starts the kernel; None: QEMU starts it itself

    One CPU is the default because transitions are faster there: what runs on another CPU just then, its idle task too,
    can't be switched at the kernel's first look, and the next look is a second later (klp_transition_work).
    """

    emulator: Emulator
    smp: int = 1
    memory: int = 512
    cpu: str = "max"
    append: str = ""
    firmware: Firmware | None = None

    def check(self) -> None:
        """UserError for what QEMU would only refuse in its own words."""
        if not 1 <= self.smp <= 255:
            raise UserError(f"{self.smp} CPUs can't be emulated", place="--smp", remedy="give 1 to 255")
        if not 128 <= self.memory <= 1 << 20:
            raise UserError(
                f"{self.memory} MB of memory will not do",
                place="--memory",
                remedy="give at least 128, 512 is usual",
            )


def qemu_command(
    machine: Machine, accel: str, image: Path, initrd: int, console: int, variables: int = -1
) -> list[str]:
    """QEMU's command line. `initrd`, `console` and `variables` (of the firmware, where there is one) are file
    descriptors it inherits; the channel is its stdout."""
    # loglevel=7: the boot's messages cost nothing measurable and tell why a boot failed. devkmsg=on: our marks in the
    # kernel log must not be rate-limited.
    emulator = machine.emulator
    append = (
        f"console={emulator.console} panic=-1 loglevel=7 printk.devkmsg=on log_buf_len=1M {emulator.append} "
        f"{machine.append}"
    )
    flash: tuple[str, ...] = ()
    if machine.firmware is not None:
        code = str(machine.firmware.code).replace(",", ",,")  # as QEMU's options are written
        flash = (
            *("-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={code}"),
            *("-drive", f"if=pflash,unit=1,format=raw,file=/proc/self/fd/{variables}"),
        )
    return [
        *(
            emulator.command,
            *emulator.options,
            "-accel",
            TCG if accel == "tcg" and machine.smp > 1 else accel,
            "-cpu",
            machine.cpu,
            "-smp",
            str(machine.smp),
            "-m",
            str(machine.memory),
        ),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *flash,
        *("-kernel", str(image), "-initrd", f"/proc/self/fd/{initrd}", "-append", append.strip()),
        *("-chardev", f"file,id=console,path=/proc/self/fd/{console}", "-serial", "chardev:console"),
        *("-chardev", "stdio,id=channel,signal=off,mux=off", "-serial", "chardev:channel"),
    ]


def confined(
    command: list[str], image: Path, accel: str, env: Mapping[str, str], firmware: Firmware | None = None
) -> list[str]:
    """QEMU's command in a sandbox: of this machine it sees its own files, the kernel, the firmware, and KVM where it
    uses it. Raises ToolError where there can be no sandbox."""
    check_sandbox()
    devices = (DEVICE,) if accel == "kvm" else ()
    program = shutil.which(command[0])
    if program is None:
        return command  # starting it says so
    own = Path(program).resolve()
    code = (firmware.code.resolve(), firmware.code) if firmware is not None else ()
    return Sandbox(readable=(image, *code, *own_directories(own)), devices=devices).command(
        [str(own), *command[1:]], None, env
    )


def own_status(status: int | None, sandboxed: bool) -> int | None:
    """QEMU's own exit status; negative is a signal, which a sandbox tells as a shell does."""
    return 128 - status if sandboxed and status is not None and status > 128 else status


def die_with_us() -> list[str]:
    """A prefix that has QEMU killed when this process dies, however that happens."""
    return ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
