# SPDX-License-Identifier: GPL-2.0-or-later
"""kgbuild for programs, on a real kernel: the notebook, several runs side by side, one that is stopped."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jsonschema
import pytest

import kgbuild
from kgbuild.pipeline.stages.values import Proven

ROOT = Path(__file__).resolve().parents[2]
PATCH = ROOT / "examples" / "proc-version" / "fix.patch"
SCHEMA = json.loads((ROOT / "docs" / "schema" / "report-1.json").read_text())

pytestmark = pytest.mark.kernel


def test_the_notebook_runs(kernel_name: str) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "notebook" / "fix.py"), kernel_name],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert lines[-1].startswith("verdict: ok in ")
    assert any(line.startswith("changed: version_proc_show - ") for line in lines)


def test_side_by_side_as_one_after_the_other(kernel_name: str) -> None:
    kernel = kgbuild.open_kernel(kernel_name, offline=True)
    options = kgbuild.Options(offline=True, jobs=1)
    text = PATCH.read_text()
    alone = kgbuild.build([text], kernel, name="one", options=options)
    with ThreadPoolExecutor(2) as pool:
        runs = [
            pool.submit(kgbuild.build, [text], given, name="one", options=options) for given in (kernel, kernel_name)
        ]
    assert {run.result().assembled.module for run in runs} == {alone.assembled.module}
    jsonschema.validate(alone.to_json(), SCHEMA)


class _StopsWhenProven(kgbuild.SilentObserver):
    def reached(self, event: object) -> None:
        if isinstance(event, Proven):
            raise kgbuild.Cancelled("enough", remedy="go on without it")


def test_a_run_that_is_stopped_can_be_run_again(kernel_name: str) -> None:
    options = kgbuild.Options(offline=True)
    with pytest.raises(kgbuild.Cancelled):
        kgbuild.impact([PATCH], kernel_name, options=options, observer=_StopsWhenProven())
    found = kgbuild.impact([PATCH], kernel_name, options=options)
    assert not found.refusals
    assert [row["function"] for row in found.to_json()["changed"]] == ["version_proc_show"]
    jsonschema.validate(found.to_json(), SCHEMA)
