# SPDX-License-Identifier: GPL-2.0-or-later
"""What authors may write in patched code, each feature booted once: those without a case of their own elsewhere."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from kgbuild.host.vm.run import TestRun, run_vm
from kgbuild.model import Kernel
from kgbuild.progress import SilentProgress
from tests.support.booting.booted import test_report, test_the_guest_as_a_whole, test_works  # noqa: F401
from tests.support.booting.cases import HERE, Built, build_cases, load_cases

CASES = load_cases(HERE / "features" / "features.toml")


@pytest.fixture(scope="session")
def built(kernel_name: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Built]:
    """Every case, built."""
    return build_cases(CASES, kernel_name, tmp_path_factory.mktemp("features"))


@pytest.fixture(scope="session")
def booted(kernel: Kernel, built: dict[str, Built], guest_files: dict[str, bytes]) -> TestRun:
    """One boot for all of them."""
    return run_vm(kernel, [b.run for b in built.values()], progress=SilentProgress(), timeout=600, files=guest_files)


def test_sleepers_hold_the_transition_up(booted: TestRun) -> None:
    """Both ways: neither was over before the reader came back."""
    phases = booted.of("livepatch_sleeper")
    assert phases["load"].seconds > 2
    assert phases["disable"].seconds > 2


@pytest.mark.parametrize(
    ("name", "section"),
    [
        ("paravirt", ".parainstructions"),
        ("user-copy", "__ex_table"),
        ("static-call", ".static_call_sites"),
        ("log", "__dyndbg"),
        ("log", "__bug_table"),
    ],
)
def test_the_module_has_what_the_case_is_for(name: str, section: str, built: dict[str, Built]) -> None:
    found = ELFFile(io.BytesIO(built[name].module.read_bytes())).get_section_by_name(section)
    assert found is not None and found["sh_size"]


def test_readme_names_cases_and_all_of_features() -> None:
    named = set(re.findall(r"`([a-z-]+)`[ ,]", (HERE / "features" / "README.md").read_text()))
    here = {c.name for c in CASES}
    known = here | {c.name for c in load_cases(HERE / "cases" / "cases.toml")}
    assert here <= named <= known
    patches = {Path(p).name for c in CASES for p in c.list("patches")}
    assert patches == {p.name for p in (HERE / "features").glob("*.patch")}
