# SPDX-License-Identifier: GPL-2.0-or-later
"""The laboratory of optimisations (test_hazards.py) on kernels that other compilers built. What gcc makes of a module
differs there, and so do the sets; answers and refusals may not."""

from __future__ import annotations

from pathlib import Path

import pytest

from kgbuild.diagnostics.refusals import Refused
from kgbuild.host.kernels.acquire import ensure_kernel
from kgbuild.host.vm.run import TestRun
from kgbuild.model import Kernel
from kgbuild.pipeline.stages.values import Checked
from kgbuild.progress import SilentProgress
from tests.support.booting.cases import WANTED
from tests.support.hazards.booting import Lab, boot_built, build_lab, check_right
from tests.support.hazards.lab import Hazard, load_hazards

KERNELS = [name for name in ("debian:newest-6.12-deb13-cloud", "debian:newest-7.3-cloud") if name in WANTED]
HAZARDS = load_hazards()


@pytest.fixture(scope="session", params=KERNELS)
def other(request: pytest.FixtureRequest) -> Kernel:
    name: str = request.param
    return ensure_kernel(name, progress=SilentProgress())


@pytest.fixture(scope="session")
def lab(other: Kernel, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return build_lab(other, HAZARDS, tmp_path_factory.mktemp("hazards"), naive=False)


@pytest.fixture(scope="session")
def booted(other: Kernel, lab: Lab) -> TestRun:
    return boot_built(other, lab, [h for h in HAZARDS if not h.refused])


@pytest.mark.parametrize("hazard", HAZARDS, ids=lambda h: h.name)
def test_built_or_refused(hazard: Hazard, lab: Lab) -> None:
    trail = lab.states[hazard.name]
    if hazard.refused:
        assert isinstance(trail.error, Refused)
        assert tuple(r.code for r in trail.error.refusals) == hazard.refused
        return
    assert trail.error is None
    assert trail.the(Checked).findings == ()


@pytest.mark.parametrize("hazard", [h for h in HAZARDS if not h.refused], ids=lambda h: h.name)
def test_right(hazard: Hazard, booted: TestRun, tmp_path: Path) -> None:
    check_right(hazard, booted, tmp_path)


def test_clean_log(booted: TestRun) -> None:
    assert booted.findings == ()
