# SPDX-License-Identifier: GPL-2.0-or-later
"""Processes of this machine that run jobs, one process a job, so that whatever a job does to its process (it is killed,
it runs out of memory) is the end of that job alone.

A process ends with this one, however this one ends.
"""

from __future__ import annotations

import heapq
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

J = TypeVar("J")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
Urgency = tuple[int, float]
_TRIES = 2
# a build of one unit takes some hundred MB, the index of a kernel more
_MEMORY_OF_A_JOB = 1_500_000_000
_WAIT = 0.5


class LostWorker(Exception):
    """The process of a job ended without a result, as often as it was tried; the text says how."""


class Workers(Protocol[J, R_co]):
    """What runs jobs: some at once, each result as it comes."""

    slots: int

    def submit(self, job: J) -> None:
        """Run a job as soon as there is room."""

    def results(self) -> Iterator[tuple[J, R_co | LostWorker]]:
        """Each job with its result, until all that were submitted have ended; more may be submitted meanwhile."""

    def close(self) -> None:
        """Stop everything that still runs."""


def machine_slots(jobs: int) -> int:
    """How many jobs run at once on this machine: at most `jobs`, and as many as there is memory for."""
    available = 0
    with suppress(OSError, ValueError, IndexError), Path("/proc/meminfo").open(encoding="ascii") as table:
        for line in table:
            if line.startswith("MemAvailable:"):
                available = int(line.split()[1]) * 1024
    by_memory = available // _MEMORY_OF_A_JOB if available else jobs
    return max(1, min(jobs, by_memory))


@dataclass
class _Running(Generic[J]):
    job: J
    process: Any
    pipe: Connection
    tries: int


def _work(function: Callable[[J], R], job: J, pipe: Connection, environment: dict[str, str], folder: str) -> None:
    """The life of a process: run the job, hand over its result. Environment and directory are those of who submitted
    it: the process was made by a server that began with others, perhaps."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    from kgbuild.host.system.children import CHILDREN, stop_with_children

    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            CHILDREN.stop()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    stop_with_children()
    # what ends the parent from the terminal is for the parent to tell
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(KeyboardInterrupt, BrokenPipeError):
        pipe.send(function(job))
    pipe.close()


class LocalWorkers(Generic[J, R]):
    """Runs each job by `function` in a process of its own. A job whose process ends without a result is tried again.

    `preload` are modules that every process needs: they are imported once. Of the jobs that wait, that of the least
    `urgency` runs next, in the order in which they came.
    """

    def __init__(
        self,
        function: Callable[[J], R],
        slots: int,
        preload: tuple[str, ...] = (),
        urgency: Callable[[J], Urgency] = lambda job: (0, 0.0),
    ) -> None:
        self.slots = slots
        self._urgency = urgency
        self._function = function
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(preload))
        self._waiting: list[tuple[int, Urgency, int, J]] = []  # a heap
        self._count = 0
        self._running: list[_Running[J]] = []
        self.busy_seconds = 0.0

    def submit(self, job: J) -> None:
        """Run a job as soon as there is room."""
        self._wait(job, 1)
        self._start()

    def _wait(self, job: J, tries: int) -> None:
        # what was tried before has waited longest
        heapq.heappush(self._waiting, (-tries, self._urgency(job), self._count, job))
        self._count += 1

    def _start(self) -> None:
        while self._waiting and len(self._running) < self.slots:
            tried, _, _, job = heapq.heappop(self._waiting)
            receiver, sender = self._context.Pipe(duplex=False)
            inputs = (self._function, job, sender, dict(os.environ), str(Path.cwd()))
            process = self._context.Process(target=_work, args=inputs)
            process.start()
            sender.close()
            self._running.append(_Running(job, process, receiver, -tried))

    @property
    def pids(self) -> list[int]:
        """The processes that run jobs."""
        return [running.process.pid for running in self._running]

    def results(self) -> Iterator[tuple[J, R | LostWorker]]:
        """Each job with its result, until all that were submitted have ended; more may be submitted meanwhile."""
        last = time.monotonic()
        while self._running or self._waiting:
            ready = wait([running.pipe for running in self._running], _WAIT)
            now = time.monotonic()
            self.busy_seconds += len(self._running) * (now - last)
            last = now
            for running in [one for one in self._running if one.pipe in ready]:
                self._running.remove(running)
                outcome = self._receive(running)
                self._start()
                if outcome is not None:
                    yield running.job, outcome

    def _receive(self, running: _Running[J]) -> R | LostWorker | None:
        """What a process left; None where its job is tried again."""
        try:
            result: R = running.pipe.recv()
        except (EOFError, OSError):
            running.process.join()
            if running.tries < _TRIES:
                self._wait(running.job, running.tries + 1)
                return None
            return LostWorker(how_ended(running.process.exitcode))
        running.pipe.close()
        running.process.join()
        return result

    def close(self) -> None:
        """Stop everything that still runs."""
        self._waiting.clear()
        for running in self._running:
            running.process.terminate()
        for running in self._running:
            running.process.join(5)
            if running.process.is_alive():
                running.process.kill()
                running.process.join()
        self._running.clear()


def how_ended(status: int | None) -> str:
    """How a process ended that left no result, in words."""
    if status is not None and status < 0:
        with suppress(ValueError):
            return f"its process was killed ({signal.Signals(-status).name})"
    return f"its process ended without a result (status {status})"
