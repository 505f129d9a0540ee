# SPDX-License-Identifier: GPL-2.0-or-later
"""Directories for work in progress: removed at their end, and by the next run where their owner was killed."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path

import pytest

from kgbuild.host.system.cache import Cache
from kgbuild.host.system.locks import sweep_temporary, temporary_directory


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def leave_one() -> None:
    """A directory of a process that is killed."""
    child = os.fork()
    if child == 0:
        with temporary_directory("test") as folder:
            (folder / "file").write_bytes(b"x")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)


def test_it_goes_with_its_context_whatever_happens(place: Path) -> None:
    with pytest.raises(ValueError, match="x"), temporary_directory("test") as folder:
        (folder / "file").write_bytes(b"x")
        raise ValueError("x")
    assert list(place.iterdir()) == []


def test_what_a_killed_run_left_goes_and_what_is_in_use_stays(place: Path) -> None:
    leave_one()
    assert len(list(place.iterdir())) == 1
    with temporary_directory("test") as folder:
        sweep_temporary()
        assert list(place.iterdir()) == [folder]


def test_the_sweep_of_a_cache_removes_it(place: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    leave_one()
    Cache(tmp_path_factory.mktemp("cache")).sweep()
    assert list(place.iterdir()) == []


def test_what_is_no_directory_of_ours_stays(place: Path) -> None:
    (place / "kgbuild-work-file").write_bytes(b"x")
    (place / "elsewhere").mkdir()
    (place / "kgbuild-work-link").symlink_to(place / "elsewhere")
    (place / "other").mkdir()
    sweep_temporary()
    assert len(list(place.iterdir())) == 4
