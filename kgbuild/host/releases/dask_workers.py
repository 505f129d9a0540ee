# SPDX-License-Identifier: GPL-2.0-or-later
"""Jobs on Dask: a scheduler at an address, or one of this machine (pip install kgbuild[dask]).

A job carries its inputs, and its result the files that it made, so that workers need no directory of ours: they fetch
kernels into their own cache, or share one. A worker that dies in the middle costs its job once more.
"""

from __future__ import annotations

import importlib
import uuid
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from kgbuild.errors import ToolError
from kgbuild.host.releases.workers import LostWorker, Urgency

J = TypeVar("J")
R = TypeVar("R")
_CONNECT = 30
_INSTALL = "pip install 'kgbuild[dask]'"
LOCAL = "local"
_STEP = 1e9  # more than what orders jobs within a step


class DaskWorkers(Generic[J, R]):
    """Runs each job by `function` on the workers of a Dask scheduler.

    urgency   the job of those that wait with the least runs first
    address   tcp://HOST:PORT; LOCAL starts a scheduler and `slots` worker processes on this machine
    Raises ToolError where Dask is not installed or nobody answers at the address.
    """

    def __init__(
        self,
        function: Callable[[J], R],
        address: str,
        slots: int,
        urgency: Callable[[J], Urgency] = lambda job: (0, 0.0),
    ) -> None:
        try:
            distributed: Any = importlib.import_module("distributed")
        except ImportError as error:
            raise ToolError("Dask is not installed", place="--dask", remedy=_INSTALL) from error
        self._function = function
        self._urgency = urgency
        self._cluster: Any = None
        self._jobs: dict[str, J] = {}
        self._open: list[Any] = []
        try:
            if address == LOCAL:
                self._cluster = distributed.LocalCluster(
                    n_workers=slots, threads_per_worker=1, processes=True, dashboard_address=None
                )
            self._client: Any = distributed.Client(self._cluster or address, timeout=_CONNECT)
        except (OSError, TimeoutError, ValueError) as error:
            fact = f"no Dask scheduler answers ({error})"
            raise ToolError(
                fact, place=address, remedy="start one with dask scheduler, or give --dask local"
            ) from error
        self.slots = max(1, sum(self._client.nthreads().values())) if address != LOCAL else slots
        self._futures: Any = distributed.as_completed()
        # names are the run's own: another run on the same scheduler has others
        self._run = uuid.uuid4().hex

    def submit(self, job: J) -> None:
        """Hand a job to the scheduler."""
        key = f"kgbuild-{self._run}-{len(self._jobs)}"
        self._jobs[key] = job
        # a job is tried again where a worker dies under it (distributed.scheduler.allowed-failures)
        step, order = self._urgency(job)
        priority = -(step * _STEP + order)  # Dask runs the greatest first
        future = self._client.submit(self._function, job, key=key, pure=False, priority=priority)
        self._open.append(future)
        self._futures.add(future)

    def results(self) -> Iterator[tuple[J, R | LostWorker]]:
        """Each job with its result, until all that were submitted have ended; more may be submitted meanwhile."""
        for future in self._futures:
            job = self._jobs[future.key]
            error = future.exception()
            outcome = future.result() if error is None else LostWorker(_why(error))
            self._open.remove(future)
            future.release()
            yield job, outcome

    def close(self) -> None:
        """Take back what still runs, and end what was started."""
        self._client.cancel([future for future in self._open if not future.done()])
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()


def _why(error: BaseException) -> str:
    name = type(error).__name__
    return "its worker died, as often as it was tried" if name == "KilledWorker" else f"{name}: {error}"
