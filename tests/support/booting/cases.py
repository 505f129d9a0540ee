# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests on a real kernel share: the command line, the cases and how they are built, programs for the guest."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kgbuild.elf.read import read
from kgbuild.host.modules.files import index_modules, read_module_bytes
from kgbuild.host.vm.run import PatchRun, TestRun
from kgbuild.model import Kernel
from kgbuild.module_abi import END_SECTION
from tests.support.booting.fat import fat_image

HERE = Path(__file__).resolve().parents[2] / "kernel"


KERNEL_NAME = os.environ.get("KGBUILD_TEST_KERNEL", "debian:newest-6.1-cloud")


NEWER_NAME = os.environ.get("KGBUILD_TEST_NEWER_KERNEL", "debian:newest-6.12-deb12-cloud")


# Kernels of other releases of Debian: make test-all
WANTED = os.environ.get("KGBUILD_TEST_SUITES", "").split()


@dataclass(frozen=True)
class Ran:
    """What one run of the command left."""

    status: int
    stdout: str
    stderr: str


def kgbuild(
    *words: str | Path, cwd: Path | None = None, timeout: float = 300, env: dict[str, str] | None = None
) -> Ran:
    """Run the real command in a process of its own; `env` is added to the environment."""
    argv = [sys.executable, "-m", "kgbuild.cli.main", *map(str, words)]
    full = {**os.environ, **(env or {})}
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False, env=full)
    return Ran(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True)
class KernelCase:
    """One [[case]] of a cases file."""

    name: str
    fields: dict[str, Any] = field(repr=False)

    def list(self, key: str) -> list[str]:
        return list(self.fields.get(key, []))


def load_cases(path: Path) -> list[KernelCase]:
    """Every [[case]] of a TOML file, in order; first those of cases.toml beside it that it names in `same`."""
    data = tomllib.loads(path.read_text())
    known = {c.name: c for c in load_cases(path.with_name("cases.toml"))} if "same" in data else {}
    return [*(known[name] for name in data.get("same", ())), *(KernelCase(c["name"], c) for c in data["case"])]


@dataclass(frozen=True)
class Built:
    """One built case: the module, the report, what was printed, the proof record's file."""

    case: KernelCase
    module: Path
    report: dict[str, Any]
    output: str
    proof: Path

    @property
    def run(self) -> PatchRun:
        """What the guest is to do with it."""
        c = self.case
        lists = {key: c.list(key) for key in ("before", "after", "absent", "disabled", "allow_log")}
        return PatchRun(self.module, checks=c.list("check"), **lists)


def build_cases(cases: Iterable[KernelCase], kernel_name: str, folder: Path) -> dict[str, Built]:
    """Build these cases by the real command; by name."""
    out = {}
    for case in cases:
        module = folder / f"livepatch-{case.name}.ko"
        report = folder / f"{case.name}.json"
        patches = [HERE / "cases" / p for p in case.list("patches")]
        proof = folder / f"{case.name}.proof.json"
        wanted = ("-o", module, "--report", report, "--proof", proof, *case.list("options"))
        ran = kgbuild("build", *patches, "--kernel", kernel_name, *wanted)
        assert ran.status == 0, f"{case.name}: {ran.stdout}{ran.stderr}"
        out[case.name] = Built(case, module, json.loads(report.read_text()), ran.stdout, proof)
    return out


def check_report(built: Built, schema: dict[str, Any], *, ended: bool = True) -> None:
    """Assert that the report of a built case says what the case expects; `ended`: that the module's code ends with a
    section of its own."""
    import jsonschema

    case, report = built.case, built.report
    jsonschema.validate(report, schema)
    # a clone is named without what gcc appended
    assert sorted(c["function"].partition(".")[0] for c in report["changed"]) == sorted(case.list("changed"))
    assert sorted(c["function"] for c in report["new"]) == sorted(case.list("new"))
    assert sorted(c["function"] for c in report["pulled"]) == sorted(case.list("pulled"))
    if "carried" in case.fields:
        assert sorted(c["function"].partition(".")[0] for c in report["carried"]) == sorted(case.list("carried"))
    for row in [*report["changed"], *report["new"], *report["pulled"], *report["carried"]]:
        assert row["evidence"], row
    assert report["findings"] == []
    assert report["refusals"] == []
    for unit in report["units"]:
        assert unit["parity"]["unmatched"] == []
        assert unit["parity"]["matched"] == unit["parity"]["total"] > 0
    if "unit" in case.fields:
        assert {u["source"] for u in report["units"]} == set(case.list("unit"))
    for text in case.list("warnings"):
        assert any(text in warning for warning in report["warnings"]), report["warnings"]
    if "dropped" in case.fields:
        keys = [
            " ".join(str(k[f]) for f in ("object", "function", "kind", "name", "own")) for k in report["dropped_keys"]
        ]
        assert keys == case.list("dropped")
    assert sorted({key["name"] for key in report.get("read_keys", ())}) == case.list("read")
    obj = read(built.module.read_bytes())
    assert not ended or [s.name for s in obj.sections if s.executable][-1] == END_SECTION
    patched = {f["object"] for f in report["module"]["functions"]}
    assert patched - {"vmlinux"} == set(case.list("targets"))


def check_works(built: Built, booted: TestRun) -> None:
    """Assert that a case went through all of its phases in the guest as it should."""
    phases = booted.of(built.report["module"]["name"])
    assert {"before", "load", "after", "disable", "disabled", "log"} <= set(phases)
    faults = [f"{p.phase}: {p.fact} {p.faults}" for p in phases.values() if not p.ok]
    commands = [c for p in phases.values() for c in p.commands]
    assert not faults, faults + [str(c) for c in commands]
    assert len(commands) >= 3 * len(built.case.list("check")) + len(built.case.list("after"))


def ext4_image(path: Path) -> bytes:
    """An empty ext4, 2 MiB, made by mkfs.ext4."""
    mkfs = shutil.which("mkfs.ext4", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    assert mkfs, "no mkfs.ext4: apt-get install e2fsprogs"
    subprocess.run([mkfs, "-qF", "-O", "^has_journal", path, "2048k"], check=True, timeout=60)
    return path.read_bytes()


def make_guest_files(kernel: Kernel, folder: Path) -> dict[str, bytes]:
    """The programs of tests/kernel/guest, compiled, images with file systems, and a module for KVM without hardware
    (QEMU emulates AMD's extensions), by their place in the guest."""
    files = {"/guest/fat.img": fat_image(), "/guest/ext4.img": ext4_image(folder / "ext4.img")}
    files["/guest/kvm-amd.ko"] = read_module_bytes(index_modules(kernel.modules)["kvm_amd"])
    flags = ["-Os", "-Wall", "-Wextra", "-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector", "-no-pie"]
    for source in sorted((HERE / "guest").glob("*.c")):
        program = folder / source.stem
        subprocess.run(["gcc", *flags, "-fno-pie", "-o", program, source], check=True, timeout=60)
        files[f"/guest/{source.stem}"] = program.read_bytes()
    return files
