# SPDX-License-Identifier: GPL-2.0-or-later
"""Patches that must be refused: the exit status, the codes, the message, and nothing left behind."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from tests.support.booting.cases import HERE, KernelCase, kgbuild, load_cases

SCHEMA = json.loads((HERE.parent.parent / "docs" / "schema" / "report-1.json").read_text())
CASES = load_cases(HERE / "bad" / "bad.toml")


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_refused(case: KernelCase, kernel_name: str, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    patches = [HERE / "bad" / p for p in case.list("patches") or [f"{case.name}.patch"]]
    words = [*patches, "--kernel", kernel_name, "-o", tmp_path / "livepatch-bad.ko", "--report", report]
    ran = kgbuild("build", *words, *case.list("options"))
    assert ran.status == case.fields["exit"], ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr
    said = json.loads(report.read_text())
    jsonschema.validate(said, SCHEMA)
    found = {r["code"] for r in said["refusals"]}
    assert (said["error"] or {"exit_status": 1})["exit_status"] == ran.status
    assert found == set(case.list("codes")), ran.stderr
    for text in case.list("text"):
        assert text in ran.stderr
    named = {place for refusal in said["refusals"] for place in refusal.get("places", ())}
    assert set(case.list("places")) <= named
    for code in found:
        assert code in ran.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]


def test_every_patch_is_a_case() -> None:
    named = {p for c in CASES for p in (c.list("patches") or [f"{c.name}.patch"]) if "/" not in p}
    assert named == {p.name for p in (HERE / "bad").glob("*.patch")}
