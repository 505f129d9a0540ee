# SPDX-License-Identifier: GPL-2.0-or-later
"""What holds of every case of a file whose cases are built and booted together. Such a file imports these tests; it has
CASES, and fixtures `built` and `booted`."""

from __future__ import annotations

import json

from kgbuild.host.vm.run import TestRun
from tests.support.booting.cases import HERE, Built, KernelCase, check_report, check_works

SCHEMA = json.loads((HERE.parent.parent / "docs" / "schema" / "report-1.json").read_text())


def test_report(case: KernelCase, built: dict[str, Built]) -> None:
    check_report(built[case.name], SCHEMA)


def test_works(case: KernelCase, built: dict[str, Built], booted: TestRun) -> None:
    check_works(built[case.name], booted)


def test_the_guest_as_a_whole(booted: TestRun) -> None:
    assert booted.findings == ()
    assert booted.verdict
