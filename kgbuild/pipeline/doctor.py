# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks what kgbuild needs on this machine, and gives one command that installs what is missing. Changes nothing."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kgbuild.arch import default_arch
from kgbuild.errors import ToolError
from kgbuild.host.archives.archive import known_archives, open_archive
from kgbuild.host.archives.recipe import load_recipes
from kgbuild.host.kernels.kbuild import check_compiler, compiler_package
from kgbuild.host.kernels.toolchain import suites_of
from kgbuild.host.system import sandbox
from kgbuild.host.system.cache import Cache
from kgbuild.host.system.required_packages import PACKAGE_OF, install_command
from kgbuild.host.system.sandbox import PROGRAM as BWRAP
from kgbuild.host.vm import kvm
from kgbuild.host.vm.initramfs import find_busybox
from kgbuild.report.documents import schema_name
from kgbuild.shown_text import readable_size

# What fetching one kernel takes at most, and what builds for a kernel that is there need: its indexes take 0.1 GB, and
# objects, guests and modules some megabytes each.
NEEDED_BYTES = 5_000_000_000
WORKING_BYTES = 500_000_000

# Nothing says yet which kernel is meant.
_EMULATOR = default_arch().platform.emulator

# Program -> what it is for. The demo does not work without the needed ones.
NEEDED = {
    BWRAP: "compiling in a sandbox",
    "objdump": "listings for people",
    **{program: purpose for archive in known_archives().values() for program, purpose in archive.programs.items()},
    "tar": "unpacking kernels",
    "xz": "unpacking kernels",
    _EMULATOR.command: "booting a kernel (vm)",
}
OPTIONAL = {
    "pahole": "BTF in the module",
    "make": "kernel add",
    "ld": "kernel add",
    "flex": "kernel add",
    "bison": "kernel add",
    "bc": "kernel add",
}
# Headers needed to compile kbuild's own tools: file -> (package, what it is for)
LIBRARIES = {
    "/usr/include/gelf.h": ("libelf-dev", "kernel add"),
    "/usr/include/openssl/opensslv.h": ("libssl-dev", "kernel add"),
}

OK = "ok"
MISSING = "missing"
OPTIONAL_MISSING = "optional"


@dataclass(frozen=True)
class Check:
    """One check. `state` is "ok", "missing" (needed) or "optional"; `package` is the package to install, if any."""

    name: str
    state: str
    detail: str
    package: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """All checks. `healthy` if nothing needed is missing; `fix` is the one command to run, "" if none would help."""

    checks: tuple[Check, ...]
    fix: str

    @property
    def healthy(self) -> bool:
        return all(check.state != MISSING for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """The checks as plain data (docs/schema/doctor-1.json)."""
        checks = [asdict(check) for check in self.checks]
        named = schema_name("doctor")
        return {"schema": named, "format": 1, "healthy": self.healthy, "mend": self.fix, "checks": checks}


def diagnose(cache: Cache | None = None) -> Diagnosis:
    """Look at this machine. Takes as long as the probe of KVM, a few seconds at most."""
    cache = cache if cache is not None else Cache()
    checks = [
        check_python(sys.version_info[:3]),
        *check_programs(shutil.which),
        *check_libraries(LIBRARIES, Path("/")),
        check_busybox(),
        check_sandbox(),
        check_archive(cache),
        check_disk(cache),
        check_kvm(),
        *check_compilers(cache),
    ]
    return Diagnosis(tuple(checks), fix_command(checks, root=os.geteuid() == 0))


def check_python(version: tuple[int, ...]) -> Check:
    """Python 3.11 or later."""
    text = ".".join(map(str, version))
    return Check("python", OK if version >= (3, 11) else MISSING, f"{text} (3.11 or later is needed)")


def check_programs(which: Callable[[str], str | None]) -> list[Check]:
    """Every program kgbuild calls; `which` says where one is."""
    checks = []
    for programs, absent in ((NEEDED, MISSING), (OPTIONAL, OPTIONAL_MISSING)):
        for program, purpose in programs.items():
            path = which(program)
            package = PACKAGE_OF.get(program, program)
            checks.append(
                Check(program, OK, path) if path else Check(program, absent, f"not found; for {purpose}", package)
            )
    return checks


def check_libraries(libraries: dict[str, tuple[str, str]], root: Path) -> list[Check]:
    """Headers of libraries, by the file that must be there below `root`."""
    checks = []
    for file, (package, purpose) in libraries.items():
        there = (root / file.lstrip("/")).exists()
        checks.append(
            Check(package, OK, file)
            if there
            else Check(package, OPTIONAL_MISSING, f"not found; for {purpose}", package)
        )
    return checks


def check_sandbox() -> Check:
    """Whether this machine lets programs run in a sandbox."""
    try:
        sandbox.check_sandbox()
    except ToolError as error:
        return Check("sandbox", MISSING, f"{error.fact}; {error.remedy}", PACKAGE_OF.get(BWRAP, BWRAP))
    return Check("sandbox", OK, "works")


def check_archive(cache: Cache) -> Check:
    """Whether the distributions' archives can be asked for kernels and compilers; nothing is downloaded."""
    said = []
    try:
        for recipe in load_recipes().values():
            archive = suites_of(recipe, cache)
            if archive is not None:
                said.append(archive.check())
            else:
                said.append(f"{len(open_archive(recipe.archive).package_names(recipe.image_prefix))} kernel packages")
    except ToolError as error:
        return Check("archive", MISSING, f"{error.place}: {error.fact}; {error.remedy}")
    return Check("archive", OK, "; ".join(said))


def check_disk(cache: Cache) -> Check:
    """Free space where the cache is or would be. Too little for one more kernel is a fault only where there is none
    yet: what is in the cache can be used with a tenth of it."""
    place = cache.root
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    detail = f"{readable_size(free)} free for {cache.root}"
    if not os.access(place, os.W_OK):
        return Check("disk", MISSING, f"{place} can't be written to; set XDG_CACHE_HOME")
    if free < NEEDED_BYTES:
        there = bool(cache.kernels())
        state = OPTIONAL_MISSING if there and free >= WORKING_BYTES else MISSING
        remedy = "see kgbuild cache prune, or set XDG_CACHE_HOME" if there else "set XDG_CACHE_HOME"
        return Check("disk", state, f"{detail}, a kernel takes up to {readable_size(NEEDED_BYTES)}; {remedy}")
    return Check("disk", OK, detail)


def check_compilers(cache: Cache) -> list[Check]:
    """Whether the compiler of every kernel in the cache is the one of this machine."""
    checks = []
    for kernel in cache.kernels():
        refusal = check_compiler(kernel)
        name = f"compiler of {kernel.id.name}"
        if refusal is None:
            checks.append(Check(name, OK, kernel.compiler))
        else:
            checks.append(Check(name, OPTIONAL_MISSING, refusal.fact, compiler_package(kernel.cc)))
    return checks


def check_busybox() -> Check:
    """A busybox that a guest can run."""
    try:
        find_busybox(default_arch())
    except ToolError as error:
        return Check("busybox", MISSING, f"{error.fact}; for the guest's programs (vm)", PACKAGE_OF["busybox"])
    return Check("busybox", OK, "static, with all that a guest needs")


def check_kvm(probe: Callable[[], bool] = lambda: kvm.probe_acceleration(_EMULATOR, "kvm", "max", 1)) -> Check:
    """Whether KVM really runs a guest here; without it QEMU emulates, which is only slower."""
    device = Path("/dev/kvm")
    if not device.exists():
        fact = "there is no /dev/kvm"
    elif not os.access(device, os.R_OK | os.W_OK):
        fact = "/dev/kvm may not be used by this user"
    elif probe():
        return Check("kvm", OK, "works")
    else:
        fact = f"/dev/kvm is there, but a guest did not finish within {kvm.PROBE_SECONDS:.0f} s"
    return Check("kvm", OPTIONAL_MISSING, f"{fact}; QEMU emulates, which is slower")


def fix_command(checks: Iterable[Check], *, root: bool) -> str:
    """One command that installs everything missing, optional packages included; "" if none would help."""
    checks = list(checks)
    packages = sorted({check.package for check in checks if check.state != OK and check.package})
    stale = any(check.name == "archive" and check.state != OK for check in checks)
    sudo = "" if root else "sudo "
    refresh = [archive.refresh for archive in known_archives().values()]
    commands = [f"{sudo}{command}" for command in refresh] if stale or packages else []
    if packages:
        commands.append(f"{sudo}{install_command(*packages, unattended=True)}")
    return " && ".join(commands)
