# SPDX-License-Identifier: GPL-2.0-or-later
"""A module that strip took apart is one finding, not one for each thing that is missing then."""

from __future__ import annotations

import subprocess
from pathlib import Path

from kgbuild.diagnostics.module_findings import RULES
from tests.support.small_module import NAME, Small, check


def test_one_finding(tmp_path: Path) -> None:
    path = tmp_path / NAME
    path.write_bytes(Small().data)
    assert check(path.read_bytes()) == []
    subprocess.run(["strip", "-g", path], check=True)
    (finding,) = check(path.read_bytes())
    assert finding.code == "V60-stripped" and finding.remedy == RULES[finding.code].remedy
