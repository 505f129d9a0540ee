# SPDX-License-Identifier: GPL-2.0-or-later
"""A driver whose device the guest has not: the patch can't be tried on it, which is no yes and no no."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.booting.cases import HERE, kgbuild


@pytest.mark.parametrize(
    ("name", "outcome", "phases"),
    [
        ("rapl", "not tried", {"setup", "targets", "log"}),
        ("rapl-and-fat", "partly tried", {"load", "reload-3", "disable"}),
    ],
)
def test_outcome(name: str, outcome: str, phases: set[str], kernel_name: str, tmp_path: Path) -> None:
    module, report = tmp_path / f"livepatch-{name}.ko", tmp_path / "report.json"
    built = kgbuild("build", HERE / "absent" / f"{name}.patch", "--kernel", kernel_name, "-o", module)
    assert built.status == 0, built.stderr
    ran = kgbuild("vm", module, "--kernel", kernel_name, "--report", report, "--timeout", "600", timeout=900)
    assert ran.status == 3, ran.stdout + ran.stderr
    assert "not tried on rapl" in ran.stderr and "No such device" in ran.stderr
    said = json.loads(report.read_text())
    assert (said["outcome"], said["verdict"], said["findings"]) == (outcome, False, [])
    assert [one["module"] for one in said["not_tried"]] == ["rapl"]
    seen = {phase["phase"] for phase in said["phases"]}
    assert phases <= seen and ("load" in seen) == (outcome == "partly tried")
