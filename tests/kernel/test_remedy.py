# SPDX-License-Identifier: GPL-2.0-or-later
"""Refused patches are written again by `kgbuild remedy`, built as they come out, and booted."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import jsonschema
import pytest

from kgbuild.host.vm.run import PatchRun, TestRun, run_vm
from kgbuild.model import Kernel
from kgbuild.progress import SilentProgress
from tests.support.booting.cases import HERE, kgbuild

SCHEMA = json.loads((HERE.parent.parent / "docs" / "schema" / "remedy-1.json").read_text())


@dataclass(frozen=True)
class Remedy:
    """A patch of tests/kernel/remedy, the code to mend, what is seen of it in the guest, what its author writes in the
    place of the TODO, and what the patch is refused for where that is not only the code."""

    name: str
    code: str
    checks: tuple[str, ...]
    after: tuple[str, ...] = ()
    written: str = ""
    refused: tuple[str, ...] = ()


COUNT = r"sed -n 's/^proc .*,shown=\([0-9]*\).*/\1/p' /proc/mounts"
CASES = (
    Remedy(
        "shadow",
        "K9-type-layout",
        ("grep -q '^proc .*,shown=[1-9]' /proc/mounts",),
        # each mount has its own count, from zero
        (
            f"a=$({COUNT}); b=$({COUNT}); echo $a $b; [ $b -gt $a ] && [ $a -lt 20 ]",
            "mkdir -p /m; mount -t tmpfs m /m; grep -q '^m .*,shown=[12][ ,]' /proc/mounts; r=$?; umount /m; exit $r",
        ),
        # the size that a cache is made for at boot grows too, and exports lead to the type
        refused=("K9-type-layout", "K3-init", "K8-crc"),
    ),
    Remedy(
        "header",
        "K9-type-layout",
        ("grep -q '^kgbuild [1-9]' /proc/loadavg",),
        ("a=$(tail -n 1 /proc/loadavg); b=$(tail -n 1 /proc/loadavg); [ ${b#kgbuild } = $((${a#kgbuild } + 1)) ]",),
        refused=("P12-too-many-units",),
    ),
    Remedy(
        "data",
        "K1-data",
        ("[ $(cat /proc/sys/fs/pipe-max-size) = 2097152 ]", "[ $(cut -f 2 /proc/sys/kernel/acct) = 3 ]"),
    ),
    Remedy(
        "init",
        "K3-init",
        ("grep -q ^kgbuild /proc/version",),
        ("dmesg | grep -q 'kgbuild: version is there'",),
        'pr_info("kgbuild: version is there\\n");',
    ),
)


@pytest.fixture(scope="session")
def remedied(kernel_name: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each patch is refused, written again, and built."""
    folder = tmp_path_factory.mktemp("remedy")
    out = {}
    for case in CASES:
        patch, made, report = HERE / "remedy" / f"{case.name}.patch", folder / f"{case.name}.patch", folder / "report"
        words = ("--kernel", kernel_name, "--report", report)
        module = folder / f"livepatch-remedied-{case.name}.ko"
        ran = kgbuild("build", patch, *words, "--all-reasons", "-o", module)
        assert ran.status == 1 and f"kgbuild remedy PATCH --code {case.code}" in ran.stderr, ran.stderr
        refused = {r["code"] for r in json.loads(report.read_text())["refusals"]}
        assert refused == set(case.refused or (case.code,))
        ran = kgbuild("remedy", patch, *words, "--code", case.code, "-o", made)
        assert ran.status == 0, ran.stdout + ran.stderr
        said = json.loads(report.read_text())
        jsonschema.validate(said, SCHEMA)
        assert said["refusals"] == [] and said["patch"] == made.read_text() and said["notes"]
        for note in said["notes"]:
            assert note in ran.stdout
        text = made.read_text()
        assert (" * TODO: do on a running system" in text) == bool(case.written)
        if case.written:
            # a line of the callback more, and the hunk one longer
            text = _with_line(text, case.written)
            made.write_text(text)
        ran = kgbuild("build", made, "--kernel", kernel_name, "-o", module)
        assert ran.status == 0, ran.stdout + ran.stderr
        out[case.name] = module
    return out


def _with_line(patch: str, line: str) -> str:
    """The patch with a line after the comment with the TODO."""
    lines = patch.splitlines()
    at = next(i for i in range(len(lines)) if "TODO: do on" in lines[i])
    end = next(i for i in range(at, len(lines)) if lines[i] == "+\t */")
    lines.insert(end + 1, f"+\t{line}")
    head = max(i for i in range(at) if lines[i].startswith("@@"))
    old, new = lines[head].split()[1:3]
    start, _, count = new.partition(",")
    lines[head] = f"@@ {old} {start},{int(count) + 1} @@"
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="session")
def booted(kernel: Kernel, remedied: dict[str, Path]) -> TestRun:
    """One boot for all of them."""
    runs = [PatchRun(remedied[c.name], checks=c.checks, after=c.after) for c in CASES]
    return run_vm(kernel, runs, progress=SilentProgress(), timeout=600)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_remedied_patch_works(case: Remedy, booted: TestRun) -> None:
    phases = booted.of(f"livepatch_remedied_{case.name}")
    assert {"before", "load", "after", "disable", "disabled", "log"} <= set(phases)
    assert not [f"{p.phase}: {p.fact} {p.faults} {p.commands}" for p in phases.values() if not p.ok]
    assert booted.findings == ()


def test_what_is_not_refused_so_needs_no_remedy(kernel_name: str, tmp_path: Path) -> None:
    example = HERE.parent.parent / "examples" / "proc-version" / "fix.patch"
    for patch, code, text in (
        (example, "K1-data", "is not refused for K1-data"),
        (HERE / "bad" / "type-grows.patch", "K3-init", "it is refused for K9-type-layout"),
        (HERE / "bad" / "type-moves.patch", "K9-type-layout", "loses or changes `bool check_space;`"),
        (HERE / "bad" / "data-size.patch", "K1-data", "kernel/acct.c:73"),
    ):
        ran = kgbuild("remedy", patch, "--kernel", kernel_name, "--code", code, "-o", tmp_path / "made.patch")
        assert ran.status == 1 and text in ran.stderr, ran.stdout + ran.stderr
    for words, text in (
        (("--code", "K4-not-traceable"), "'K1-data', 'K3-init', 'K9-type-layout'"),
        (("--code", "K1-data", "-o", example), "is an input of this run"),
    ):
        ran = kgbuild("remedy", example, "--kernel", kernel_name, *words)
        assert ran.status == 2 and text in ran.stderr, ran.stderr
    assert list(tmp_path.iterdir()) == []
