# SPDX-License-Identifier: GPL-2.0-or-later
"""Progress of long work, as whoever does it tells it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One long step being shown. `advance` and `total` are in the unit the step was started with."""

    def advance(self, amount: float = 1) -> None: ...
    def total(self, total: float) -> None: ...


class Progress(Protocol):
    """How the edge shows long work; the CLI gives a rich one, tests and libraries the silent one."""

    def step(self, title: str, total: float | None = None, unit: str = "") -> AbstractContextManager[Task]: ...
    def note(self, text: str) -> None: ...


class _SilentTask:
    def advance(self, amount: float = 1) -> None:
        del amount

    def total(self, total: float) -> None:
        del total


class SilentProgress:
    """A Progress that shows nothing."""

    @contextmanager
    def _task(self) -> Iterator[Task]:
        yield _SilentTask()

    def step(self, title: str, total: float | None = None, unit: str = "") -> AbstractContextManager[Task]:
        del title, total, unit
        return self._task()

    def note(self, text: str) -> None:
        del text
