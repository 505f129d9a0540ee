# SPDX-License-Identifier: GPL-2.0-or-later
"""Does KVM work here? /dev/kvm may be there and yet hang or abort (seen in nested virtual machines): only a boot tells.

The probe starts QEMU on a small program of the architecture's (arch/platform.py, Probe) that needs interrupts and ends
QEMU in a fraction of a second where KVM works. The answer is kept for a day and for this boot of this host.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from kgbuild.arch.platform import Emulator
from kgbuild.host.system.cache import Cache
from kgbuild.host.system.children import child_environment
from kgbuild.host.system.sealed import read_sealed, write_sealed

PROBE_SECONDS = 4.0
KEPT_SECONDS = 86400.0
DEVICE = Path("/dev/kvm")


def probe_acceleration(emulator: Emulator, accel: str, cpu: str, smp: int, seconds: float = PROBE_SECONDS) -> bool:
    """Run the architecture's probe under this accelerator and say whether it came to its end in time."""
    disk = os.memfd_create("kgbuild-probe")
    try:
        given = emulator.probe
        os.write(disk, given.disk)
        argv = [
            *(emulator.command, *emulator.options, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
            *("-accel", accel, "-cpu", cpu, "-smp", str(smp), "-m", "32"),
            *(option.replace("{disk}", f"/proc/self/fd/{disk}") for option in given.options),
        ]
        return run_limited(argv, seconds, (disk,)) == given.status
    finally:
        os.close(disk)


def run_limited(argv: Sequence[str], seconds: float, fds: Sequence[int] = ()) -> int | None:
    """Exit status of a program, or None where it did not end in time or can't be started. It is killed hard.

    A process that hangs inside the kernel may not even die of that: it is left alone after two more seconds.
    """
    try:
        process = subprocess.Popen(
            argv,
            env=child_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=fds,
            start_new_session=True,
        )
    except OSError:
        return None
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process of ours and wait for it, two seconds at most."""
    if process.poll() is None:
        process.kill()
        with suppress(subprocess.TimeoutExpired):
            process.wait(2)


def kvm_works(emulator: Emulator, cpu: str, smp: int, cache: Cache | None = None) -> bool:
    """The remembered or probed answer for this emulator, CPU model and number of CPUs. Never raises."""
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        return False
    known = _read(cache or Cache())
    key = _key(emulator, cpu, smp)
    if key in known:
        return bool(known[key]["works"])
    works = probe_acceleration(emulator, "kvm", cpu, smp)
    remember(emulator, cpu, smp, works, cache)
    return works


def remember(emulator: Emulator, cpu: str, smp: int, works: bool, cache: Cache | None = None) -> None:
    """Keep an answer; also called when a kernel does not boot although the probe did."""
    cache = cache or Cache()
    known = _read(cache)
    known[_key(emulator, cpu, smp)] = {"works": works, "at": time.time()}
    with suppress(OSError):
        write_sealed(_file(cache), json.dumps(known, indent=1).encode())


def _file(cache: Cache) -> Path:
    return cache.root / "kvm.json"


def _key(emulator: Emulator, cpu: str, smp: int) -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = "?"
    return f"{boot} {os.uname().release} {emulator.command} {cpu} {smp}"


def _read(cache: Cache) -> dict[str, dict[str, float | bool]]:
    """Answers that are still good."""
    try:
        known = json.loads(read_sealed(_file(cache), unsealed=True) or b"")
        now = time.time()
        return {key: value for key, value in known.items() if 0 <= now - value["at"] < KEPT_SECONDS}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
