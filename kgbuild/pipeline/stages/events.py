# SPDX-License-Identifier: GPL-2.0-or-later
"""What a run tells while it goes on: each value that a stage has made, how long the stage took, progress of long work.

An observer gets them in the order in which they come to be. It may show them, keep them, or stop the run by raising
`Cancelled` from any of its methods.
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
    """An observer stopped the run. Nothing was written but the cache, whose entries are whole."""


@dataclass(frozen=True)
class StageEnded:
    """A stage is over, also where it failed: how long it took in seconds, and the highest memory use so far in MB."""

    name: str
    seconds: float
    rss_mb: float


class Observer(Progress, Protocol):
    """Who is told. `event` is a value of pipeline/stages/values.py, or StageEnded."""

    def reached(self, event: object) -> None: ...


class SilentObserver(SilentProgress):
    """An observer that shows nothing."""

    def reached(self, event: object) -> None:
        del event


@dataclass(frozen=True)
class Run:
    """What every stage needs beside the values it works on."""

    options: Options
    cache: Cache
    observer: Observer

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what is done within; the observer is told at the end, also of what failed."""
        began = time.monotonic()
        try:
            yield
        finally:
            rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            self.observer.reached(StageEnded(name, round(time.monotonic() - began, 3), round(rss, 1)))
