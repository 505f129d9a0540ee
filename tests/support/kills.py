# SPDX-License-Identifier: GPL-2.0-or-later
"""Work in a process of its own that is killed at a counted change of the file system."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree")


def run_and_kill(work: Callable[[], object], at: int, counts: Path) -> bool:
    """Do `work` in a process that is killed at its change number `at` of a file, a directory or a database; False where
    it ended before. Every change writes its number to `counts`."""
    return was_killed(start(work, at, counts))


def start(work: Callable[[], object], at: int, counts: Path) -> int:
    """The number of a new process that does `work` and is killed at change number `at`; see `run_and_kill`."""
    child = os.fork()
    if child == 0:
        try:
            _count_changes(at, counts)
            work()
            os._exit(0)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            os._exit(1)
    return child


def was_killed(child: int) -> bool:
    """Wait for a process of `start`: whether it was killed. It must not have failed."""
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
        database: sqlite3.Connection = connect(*args, **named)

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
