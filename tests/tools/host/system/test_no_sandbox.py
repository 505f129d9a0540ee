# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines on which bubblewrap is missing or may not do what it does, and runs in which it fails by itself."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from kgbuild.errors import ToolError
from kgbuild.host.system import sandbox
from kgbuild.host.system.children import PREPARE_LIMITS

REAL = str(shutil.which("bwrap"))
# What the kernel, AppArmor, a limit, and an old bubblewrap make of it: what it prints, its status.
FAULTS = {
    "no user namespaces": ("No permissions to create new namespace, likely because the kernel does not allow it", 1),
    "AppArmor": ("setting up uid map: Permission denied", 1),
    "no namespace left": ("Creating new namespace failed: No space left on device", 1),
    "no mounts": ("Failed to make / slave: Permission denied", 1),
    "an old one": ("Unknown option --json-status-fd", 1),
}


@pytest.fixture
def bwrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts another bwrap before the real one; "" for none at all."""

    def put(script: str) -> None:
        folder = tmp_path / "bin"
        folder.mkdir()
        if script:
            (folder / "bwrap").write_text(f"#!/bin/sh\n{script}\n")
            (folder / "bwrap").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}" if script else str(folder))
        sandbox._refusal.cache_clear()

    monkeypatch.setattr(sandbox, "_TRY_SECONDS", 2.0)
    yield put  # type: ignore[misc]
    monkeypatch.undo()
    sandbox._refusal.cache_clear()


@pytest.mark.parametrize("name", FAULTS)
def test_what_forbids_it_is_told_with_the_way_out(name: str, bwrap: Callable[[str], None]) -> None:
    said, status = FAULTS[name]
    bwrap(f"echo 'bwrap: {said}' >&2; exit {status}")
    with pytest.raises(ToolError, match="can't make a sandbox here") as caught:
        sandbox.run_in(sandbox.Sandbox(), ["/bin/true"])
    assert said in caught.value.fact and "--no-sandbox" in caught.value.remedy and caught.value.place == "bwrap"


def test_none_at_all(bwrap: Callable[[str], None]) -> None:
    bwrap("")
    with pytest.raises(ToolError, match="not found on this machine") as caught:
        sandbox.check_sandbox()
    assert "install bubblewrap" in caught.value.remedy and "--no-sandbox" in caught.value.remedy


@pytest.mark.parametrize("script", ["sleep 1000", "kill -9 $$", "exit 7"])
def test_one_that_hangs_or_dies_is_no_sandbox(script: str, bwrap: Callable[[str], None]) -> None:
    bwrap(script)
    with pytest.raises(ToolError) as caught:
        sandbox.check_sandbox()
    assert "--no-sandbox" in caught.value.remedy and caught.value.place == "bwrap"


def later(said: str) -> str:
    """The real one for the trial, one that fails for all else."""
    return f'case "$*" in *bin/true*) exec {REAL} "$@" ;; esac; echo "bwrap: {said}" >&2; exit 1'


@pytest.mark.parametrize("check", [True, False])
def test_a_failure_of_its_own_is_none_of_the_program(check: bool, bwrap: Callable[[str], None]) -> None:
    """A compile that could not be started is no compile that failed."""
    bwrap(later("Creating new namespace failed: Resource temporarily unavailable"))
    with pytest.raises(ToolError, match="could not be started in a sandbox: bwrap: Creating"):
        sandbox.run_in(sandbox.Sandbox(), ["/bin/echo", "x"], check=check)
    with pytest.raises(ToolError, match="could not be started in a sandbox"):
        list(sandbox.stream_in(sandbox.Sandbox(), ["/bin/echo"], cwd=Path("/"), env={}, limits=PREPARE_LIMITS))


def test_a_program_that_is_not_there_is_told() -> None:
    with pytest.raises(ToolError, match="could not be started in a sandbox: bwrap: execvp /no/such/program"):
        sandbox.run_in(sandbox.Sandbox(), ["/no/such/program"], check=False)


@pytest.mark.parametrize("script", ["echo 'bwrap: Creating new namespace failed' >&2; exit 1", "kill -9 $$"])
def test_a_program_that_speaks_as_bubblewrap_does_has_failed_itself(script: str) -> None:
    done = sandbox.run_in(sandbox.Sandbox(), ["/bin/sh", "-c", script], check=False)
    assert done.status in (1, 137)
