# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels of other releases of Debian, each with the compiler that built it: fetched, built for, verified, booted."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from kgbuild.host.kernels.acquire import find_kernel
from kgbuild.host.kernels.toolchain import record_of
from kgbuild.host.system.cache import Cache
from kgbuild.host.toolchains.store import is_unchanged, load_toolchain
from tests.support.booting.cases import HERE, kgbuild

KERNELS = os.environ.get("KGBUILD_TEST_SUITES", "debian:newest-6.12-deb13-cloud debian:newest-7.3-cloud").split()
# (options, whose programs compile, whether in a sandbox)
CHOICES: list[tuple[tuple[str, ...], str, bool]] = [
    ((), "exact", True),
    (("--toolchain", "host"), "host", True),
    (("--no-sandbox",), "host", False),
]
EXAMPLE = HERE.parent.parent / "examples" / "proc-version" / "fix.patch"


PADDED = HERE / "cases" / "newer" / "padded.patch"
# one of the two patches is in, and the message of the second one's warning is as it should be
CHECK = """
grep -q kgbuild /proc/version ||
{ grep -q Patched:.kgbuild /proc/self/status && dmesg | grep -q "kgbuild warned of status 7"; }
"""


def build_padded(kernel: str, folder: Path) -> Path:
    """A patch of a function that gcc 14 pads otherwise in a section of its own, and of a WARN with a message."""
    module, report = folder / "livepatch-padded.ko", folder / "padded.json"
    ran = kgbuild("build", PADDED, "--kernel", kernel, "-o", module, "--report", report, timeout=900)
    assert ran.status == 0, ran.stdout + ran.stderr
    said = json.loads(report.read_text())
    (unit,) = said["units"]
    # which functions differ so is the kernel's and the compiler's own
    assert unit["parity"]["unmatched"] == [] and unit["parity"]["padded"]
    assert [c["function"] for c in said["changed"]] == ["proc_pid_status"] and said["findings"] == []
    return module


@pytest.mark.parametrize("name", KERNELS)
def test_the_example_works(name: str, tmp_path: Path) -> None:
    module, report = tmp_path / "livepatch-example.ko", tmp_path / "report.json"
    ran = kgbuild("build", EXAMPLE, "--kernel", name, "-o", module, "--report", report, timeout=900)
    assert ran.status == 0, ran.stdout + ran.stderr
    said = json.loads(report.read_text())
    exact = f"{said['kernel']['name']}={said['kernel']['version']}"
    # the toolchain that the report lists is the one in the cache, and is as it was unpacked
    assert said["kernel"]["sandbox"] and said["toolchain"]["key"] == said["kernel"]["toolchain"]
    there = load_toolchain(Cache(), said["toolchain"]["key"])
    assert there is not None and is_unchanged(there) and there.digest == said["toolchain"]["digest"]
    command = there.command
    assert said["kernel"]["compiler"].partition(" ")[0].endswith(command)
    assert any(p["name"] == command and p["version"] == there.version for p in said["toolchain"]["packages"])
    assert said["module"]["options"]["toolchain"] == "exact" and said["findings"] == []
    for unit in said["units"]:
        assert unit["parity"]["unmatched"] == []
    assert kgbuild("verify", module, "--kernel", exact).status == 0
    padded = build_padded(exact, tmp_path)
    words = ("--check", CHECK, "--allow-log", "kgbuild warned of status 7", "--format", "json")
    booted = kgbuild("vm", module, padded, "--kernel", exact, *words, timeout=900)
    assert booted.status == 0, booted.stdout + booted.stderr
    # the same once more, with nothing fetched
    again = tmp_path / "again" / module.name
    again.parent.mkdir()
    assert kgbuild("build", EXAMPLE, "--kernel", exact, "-o", again, "--offline").status == 0
    assert again.read_bytes() == module.read_bytes()


def test_this_machines_compiler_gives_the_same_module(kernel_name: str, tmp_path: Path) -> None:
    """Where it is the very same; the module says that it was used. Where it is another, or none, it is refused."""
    kernel = find_kernel(kernel_name)
    assert kernel is not None
    own = shutil.which(kernel.cc)
    said = subprocess.run([own, "--version"], capture_output=True, text=True, check=True).stdout if own else ""
    same = said.partition("\n")[0].partition(" ")[2] == kernel.compiler.partition(" ")[2]
    functions = []
    for number, (words, toolchain, sandbox) in enumerate(CHOICES):
        module, report = tmp_path / f"{number}" / "livepatch-example.ko", tmp_path / f"{number}.json"
        module.parent.mkdir()
        ran = kgbuild("build", EXAMPLE, "--kernel", kernel_name, "-o", module, "--report", report, *words)
        if toolchain == "host" and not same:
            assert ran.status in (1, 3) and kernel.cc in ran.stderr, ran.stdout + ran.stderr
            continue
        assert ran.status == 0, ran.stdout + ran.stderr
        made = json.loads(report.read_text())
        options = made["module"]["options"]
        assert (options["toolchain"], options["sandbox"]) == (toolchain, sandbox)
        assert ("toolchain" in made) == (toolchain == "exact")
        assert ({"option": "--no-sandbox", "value": ""} in made["allowed"]) == (not sandbox)
        functions.append(made["module"]["functions"])
    assert functions and all(f == functions[0] for f in functions)


def test_a_changed_toolchain_is_made_again(kernel_name: str, tmp_path: Path) -> None:
    """Offline it is an error; else its packages are unpacked once more."""
    kernel = find_kernel(kernel_name)
    assert kernel is not None and kernel.toolchain is not None and record_of(kernel) is not None
    added = kernel.toolchain / "usr" / "bin" / "added-by-somebody"
    added.write_text("#!/bin/sh\n")
    try:
        ran = kgbuild("build", EXAMPLE, "--kernel", kernel_name, "-o", tmp_path / "livepatch-x.ko", "--offline")
        assert ran.status == 3 and "not as they were unpacked" in ran.stderr
    finally:
        added.unlink(missing_ok=True)
    assert kgbuild("toolchain", "fetch", kernel_name, timeout=600).status == 0
    assert not added.exists()
    ran = kgbuild("build", EXAMPLE, "--kernel", kernel_name, "-o", tmp_path / "livepatch-x.ko", "--offline")
    assert ran.status == 0, ran.stderr


def test_a_release_of_no_suite_names_the_nearest() -> None:
    ran = kgbuild("kernel", "fetch", "debian:6.1.0-555-cloud-amd64")
    assert ran.status == 2 and "nearest: debian:6.1.0-5" in ran.stderr
    ran = kgbuild("kernel", "fetch", "debian:newest-6.12-deb99-cloud")
    assert ran.status == 2 and "deb13" in ran.stderr
    ran = kgbuild("kernel", "fetch", "debian:newest-9.9-cloud")
    assert ran.status == 2 and "7.3" in ran.stderr


def test_a_mirror_that_is_none(tmp_path: Path) -> None:
    own = {"XDG_CACHE_HOME": str(tmp_path)}
    ran = kgbuild("kernel", "fetch", "debian:newest-6.1-cloud", "--mirror", "nonsense", env=own)
    assert ran.status == 2 and "not the address of a mirror" in ran.stderr
    ran = kgbuild("kernel", "fetch", "debian:newest-6.1-cloud", "--mirror", f"file:{tmp_path}/absent", env=own)
    assert ran.status == 3 and "mirror" in ran.stderr
