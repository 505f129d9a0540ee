# SPDX-License-Identifier: GPL-2.0-or-later
"""The events of a run: each value that a stage has made, how long the stage took, and the progress of long work.

An observer receives them in order. It may show or keep them, or stop the run by raising `Cancelled` from any of its
methods.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from kgbuild.errors import UserError
from kgbuild.host.system.cache import Cache
from kgbuild.pipeline.stages.options import Options
from kgbuild.progress import Progress, SilentProgress


class Cancelled(UserError):
    """An observer stopped the run. Only the cache was written to, and its entries are complete."""


@dataclass(frozen=True)
class StageEnded:
    """A stage ended, successfully or not: its duration in seconds, and the peak memory use so far in MB."""

    name: str
    seconds: float
    rss_mb: float


class Observer(Progress, Protocol):
    """Receives the events of a run. `event` is a value of pipeline/stages/values.py, or StageEnded."""

    def reached(self, event: object) -> None: ...


class SilentObserver(SilentProgress):
    """An observer that shows nothing."""

    def reached(self, event: object) -> None:
        del event


@dataclass(frozen=True)
class Run:
    """What every stage needs in addition to the values it works on."""

    options: Options
    cache: Cache
    observer: Observer

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the code inside; the observer is notified at the end, even if it failed."""
        began = time.monotonic()
        try:
            yield
        finally:
            rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            self.observer.reached(StageEnded(name, round(time.monotonic() - began, 3), round(rss, 1)))
