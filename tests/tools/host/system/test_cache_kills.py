# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs killed at counted writes: whatever they leave, the next run answers as if they had not been."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kgbuild.host.kernels.integrity import find_damage
from kgbuild.host.kernels.local import add_kernel
from kgbuild.host.system.cache import Cache
from kgbuild.progress import SilentProgress
from tests.support.cache_cases import answers, files_in, local
from tests.support.tinykernel import tiny_kernel

_CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree")


def run_and_kill(work: Callable[[], object], at: int, counts: Path) -> bool:
    """Do `work` in a process that is killed at its change number `at` of a file, a directory or a database; False where
    it ended before. Every change writes its number to `counts`."""
    child = os.fork()
    if child == 0:
        try:
            _count_changes(at, counts)
            work()
            os._exit(0)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            os._exit(1)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def _count_changes(at: int, counts: Path) -> None:
    done = 0
    log = os.open(counts, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def count() -> None:
        nonlocal done
        done += 1
        os.pwrite(log, str(done).encode(), 0)
        if done == at:
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(event: str, args: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
        if writes or event in _CHANGES:
            count()

    connect = sqlite3.connect

    def counting(*args: Any, **named: Any) -> sqlite3.Connection:
        database = connect(*args, **named)

        def within() -> int:
            count()
            return 0

        database.set_trace_callback(lambda text: count())
        database.set_progress_handler(within, 4000)
        return database

    sys.addaudithook(audit)
    sqlite3.connect = counting  # type: ignore[assignment]


def points(total: int, wanted: int) -> list[int]:
    """Numbers from 1 to `total`: the first, the last, and `wanted` between, more of them in the last fifth."""
    late = total * 4 // 5
    chosen = {
        1,
        total,
        *range(1, late, max(1, 2 * late // wanted)),
        *range(late, total, max(1, 2 * (total - late) // wanted)),
    }
    return sorted(n for n in chosen if n >= 1)


def leftovers(root: Path) -> list[str]:
    found = [path.name for path in files_in(root) if ".part" in path.name]
    return found + [path.name for folder in ("tmp", "locks") for path in (root / folder).iterdir()]


def test_killed_at_any_write_of_the_indexes(tmp_path: Path) -> None:
    tiny_kernel(tmp_path / "kernel")
    root, fresh = tmp_path / "cache", tmp_path / "fresh"
    add_kernel(local(tmp_path / "kernel"), progress=SilentProgress(), cache=Cache(root))
    shutil.copytree(root, fresh)
    expected = answers(root)
    shutil.rmtree(root)
    shutil.copytree(fresh, root)
    counts = tmp_path / "counts"
    assert not run_and_kill(lambda: answers(root), -1, counts)
    total = int(counts.read_text())
    assert total > 100
    chosen, killed = points(total, 24), 0
    for at in chosen:
        # SQLite's progress differs from run to run: where one ends before its point, the next try is for its own total
        was_killed, wanted = False, at
        for _ in range(2):
            shutil.rmtree(root)
            shutil.copytree(fresh, root)
            was_killed = run_and_kill(lambda: answers(root), wanted, counts)
            if was_killed:
                break
            wanted = max(1, at * int(counts.read_text()) // total - 2)
        killed += was_killed
        assert answers(root) == expected, at
        Cache(root).sweep()
        assert leftovers(root) == [], at
    assert killed >= len(chosen) * 9 // 10


def test_killed_at_any_write_of_a_kernel(tmp_path: Path) -> None:
    tiny_kernel(tmp_path / "kernel")
    root, counts = tmp_path / "cache", tmp_path / "counts"

    def add() -> None:
        add_kernel(local(tmp_path / "kernel"), progress=SilentProgress(), cache=Cache(root))

    assert not run_and_kill(add, -1, counts)
    expected = answers(root)
    for at in points(int(counts.read_text()), 10):
        shutil.rmtree(root)
        assert run_and_kill(add, at, counts), at
        if not Cache(root).kernels():
            add()
        assert answers(root) == expected, at
        Cache(root).sweep()
        assert leftovers(root) == [], at


def test_what_is_left_beside_any_file_of_a_kernel_is_swept(tmp_path: Path) -> None:
    tiny_kernel(tmp_path / "kernel")
    cache = Cache(tmp_path / "cache")
    kernel = add_kernel(local(tmp_path / "kernel"), progress=SilentProgress(), cache=cache)
    for folder in (kernel.root, kernel.build):
        (folder / f".Module.symvers.sum.{os.getpid()}.ab.part").write_bytes(b"x")
    cache.sweep()
    assert leftovers(cache.root) == []
    assert find_damage(kernel, cache) == []


@pytest.mark.parametrize("wanted", [4, 40])
def test_points_reach_from_the_first_to_the_last(wanted: int) -> None:
    found = points(200, wanted)
    assert found[0] == 1 and found[-1] == 200 and len(found) >= wanted
