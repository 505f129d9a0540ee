# SPDX-License-Identifier: GPL-2.0-or-later
"""What this machine has and lacks for kgbuild, and the one command that mends it. Changes nothing."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kgbuild.errors import ToolError
from kgbuild.host.archives.apt import UPDATE_REMEDY, Apt
from kgbuild.host.archives.recipe import load_recipes
from kgbuild.host.kernels.kbuild import check_compiler, compiler_package
from kgbuild.host.system.cache import Cache, readable_size
from kgbuild.host.system.required_packages import PACKAGE_OF
from kgbuild.host.vm import kvm
from kgbuild.host.vm.initramfs import find_busybox
from kgbuild.report.documents import schema_name

NEEDED_BYTES = 5_000_000_000

# Program -> what it is for. Without the needed ones the demo does not work; the others are for what is said
# there.
NEEDED = {
    "gcc-12": "compiling units of the kernel",
    "ld": "linking the module",
    "objdump": "listings for people",
    "make": "preparing a kernel",
    "apt-cache": "finding kernels",
    "apt-get": "downloading kernels",
    "dpkg-deb": "unpacking kernels",
    "tar": "unpacking kernels",
    "xz": "unpacking kernels",
    "qemu-system-x86_64": "booting a kernel (vm)",
}
OPTIONAL = {
    "pahole": "BTF in the module",
    "flex": "kernel add",
    "bison": "kernel add",
    "bc": "kernel add",
}
# Headers that kbuild's own tools are compiled with: file -> (package, what it is for)
LIBRARIES = {
    "/usr/include/gelf.h": ("libelf-dev", "kernel add"),
    "/usr/include/openssl/opensslv.h": ("libssl-dev", "kernel add"),
}

OK = "ok"
MISSING = "missing"
OPTIONAL_MISSING = "optional"


@dataclass(frozen=True)
class Check:
    """One thing looked at. `state` is "ok", "missing" (needed) or "optional"; `package` mends it, if any."""

    name: str
    state: str
    detail: str
    package: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """All checks; `healthy` where nothing needed lacks; `mend` is the one command to run, or empty."""

    checks: tuple[Check, ...]
    mend: str

    @property
    def healthy(self) -> bool:
        return all(check.state != MISSING for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """The checks as plain data (docs/schema/doctor-1.json)."""
        checks = [asdict(check) for check in self.checks]
        named = schema_name("doctor")
        return {"schema": named, "format": 1, "healthy": self.healthy, "mend": self.mend, "checks": checks}


def diagnose(cache: Cache | None = None) -> Diagnosis:
    """Look at this machine. Takes as long as the probe of KVM, a few seconds at most."""
    cache = cache if cache is not None else Cache()
    checks = [
        check_python(sys.version_info[:3]),
        *check_programs(shutil.which),
        *check_libraries(LIBRARIES, Path("/")),
        check_busybox(),
        check_archive(),
        check_disk(cache),
        check_kvm(),
        *check_compilers(cache),
    ]
    return Diagnosis(tuple(checks), mend_command(checks, root=os.geteuid() == 0))


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


def check_archive() -> Check:
    """Whether the package lists of this machine name kernels."""
    archive = Apt()
    try:
        count = sum(len(archive.package_names(recipe.image_prefix)) for recipe in load_recipes().values())
    except ToolError as error:
        return Check("archive", MISSING, error.fact)
    return Check("archive", OK, f"{count} kernel packages in the package lists")


def check_disk(cache: Cache) -> Check:
    """Free space where the cache is or would be."""
    place = cache.root
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    detail = f"{readable_size(free)} free for {cache.root}"
    if not os.access(place, os.W_OK):
        return Check("disk", MISSING, f"{place} can't be written to; set XDG_CACHE_HOME")
    if free < NEEDED_BYTES:
        return Check(
            "disk",
            MISSING,
            f"{detail}, a kernel takes up to {readable_size(NEEDED_BYTES)}; set XDG_CACHE_HOME",
        )
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
        find_busybox()
    except ToolError as error:
        return Check("busybox", MISSING, f"{error.fact}; for the guest's programs (vm)", PACKAGE_OF["busybox"])
    return Check("busybox", OK, "static, with all that a guest needs")


def check_kvm(probe: Callable[[], bool] = lambda: kvm.probe("kvm", "max", 1)) -> Check:
    """Whether KVM really runs a guest here; without it QEMU emulates, which is only slower."""
    device = Path("/dev/kvm")
    if not device.exists():
        fact = "there is no /dev/kvm"
    elif not os.access(device, os.R_OK | os.W_OK):
        fact = "/dev/kvm may not be used by this user"
    elif probe():
        return Check("kvm", OK, "works")
    else:
        fact = f"/dev/kvm is there, but a guest did not come to its end within {kvm.PROBE_SECONDS:.0f} s"
    return Check("kvm", OPTIONAL_MISSING, f"{fact}; QEMU emulates, which is slower")


def mend_command(checks: Iterable[Check], *, root: bool) -> str:
    """One command that installs all that lacks, optional packages too; empty where none would help."""
    checks = list(checks)
    packages = sorted({check.package for check in checks if check.state != OK and check.package})
    stale = any(check.name == "archive" and check.state != OK for check in checks)
    sudo = "" if root else "sudo "
    commands = [f"{sudo}{UPDATE_REMEDY}"] if stale or packages else []
    if packages:
        commands.append(f"{sudo}apt-get install -y {' '.join(packages)}")
    return " && ".join(commands)
