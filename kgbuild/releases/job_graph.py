# SPDX-License-Identifier: GPL-2.0-or-later
"""The jobs of a matrix of kernels and fixes, and which follow from which.

Each kernel is a row that goes its own way:

    acquire -> affected -> impact of each fix that concerns it -> build -> verify -> vm

What a job finds decides what follows. A row ends where a job fails; the other rows do not notice. Nothing is run here:
whoever runs jobs asks for the next ones and hands in results.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

ACQUIRE, AFFECTED, IMPACT, BUILD, VERIFY, VM = "acquire", "affected", "impact", "build", "verify", "vm"
STEPS = (ACQUIRE, AFFECTED, IMPACT, BUILD, VERIFY, VM)
DONE, REFUSED, FAILED, NOTHING, SKIPPED = "done", "refused", "failed", "nothing", "skipped"


@dataclass(frozen=True)
class JobId:
    """One job: a step for a kernel (as it was asked for) and, for IMPACT, a fix; "" for all fixes."""

    kernel: str
    step: str
    fix: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, (self.kernel, self.step, self.fix)))


@dataclass(frozen=True)
class JobResult:
    """What a job left.

    status   DONE; REFUSED (kgbuild's answer is no); NOTHING (nothing is to be patched); FAILED (it could not be done)
    data     what it found, as plain data; keys are those of the step
    errors   rows of what stands against it
    seconds  how long it took; files: what it made, by name
    """

    id: JobId
    status: str
    data: Mapping[str, Any] = field(default_factory=dict)
    errors: tuple[Mapping[str, str], ...] = ()
    seconds: float = 0.0
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    resumed: bool = False


@dataclass
class JobGraph:
    """All jobs of a run, and what came of those that have ended. `build` and `boot` say how far rows go."""

    kernels: Sequence[str]
    build: bool = False
    boot: bool = False
    results: dict[JobId, JobResult] = field(default_factory=dict)
    _spent: dict[str, float] = field(default_factory=dict)

    def first(self) -> list[JobId]:
        """The jobs that wait for nothing, in the order of the kernels."""
        return [JobId(kernel, ACQUIRE) for kernel in self.kernels]

    def finish(self, result: JobResult) -> list[JobId]:
        """Take the result of a job; the jobs that can run now because of it."""
        self.results[result.id] = result
        if result.id.step == IMPACT:
            self._spent[result.id.kernel] = self._spent.get(result.id.kernel, 0.0) + result.seconds
        return list(self._followers(result))

    def _followers(self, result: JobResult) -> Iterator[JobId]:
        kernel, step = result.id.kernel, result.id.step
        if step == IMPACT:
            wanted = self.concerned(kernel)
            ended = [self.results.get(JobId(kernel, IMPACT, fix)) for fix in wanted]
            if self.build and all(ended) and any(one is not None and one.status == DONE for one in ended):
                yield JobId(kernel, BUILD)
        elif result.status != DONE:
            return
        elif step == ACQUIRE:
            yield JobId(kernel, AFFECTED)
        elif step == AFFECTED:
            yield from (JobId(kernel, IMPACT, fix) for fix in self.concerned(kernel))
        elif step == BUILD:
            yield JobId(kernel, VERIFY)
        elif step == VERIFY and self.boot:
            yield JobId(kernel, VM)

    def urgency(self, job: JobId) -> tuple[int, float]:
        """A number by which jobs that could run are put in order, the least first: by step, so that short jobs of many
        rows are done before the long ones; within a step rows that took long so far first, so that what is left for the
        end is short and no worker waits for another's long job."""
        return STEPS.index(job.step), -self._spent.get(job.kernel, 0.0)

    def concerned(self, kernel: str) -> list[str]:
        """The fixes that a kernel needs, in order; none where that is not known yet."""
        found = self.results.get(JobId(kernel, AFFECTED))
        return list(found.data.get("affected", ())) if found is not None and found.status == DONE else []

    def buildable(self, kernel: str) -> list[str]:
        """The fixes that go into a kernel's module: those that it needs and that are not refused."""
        ended = {fix: self.results.get(JobId(kernel, IMPACT, fix)) for fix in self.concerned(kernel)}
        return [fix for fix, result in ended.items() if result is not None and result.status == DONE]

    def of(self, kernel: str) -> list[JobResult]:
        """The results of a row, in the order of the steps."""
        found = [result for result in self.results.values() if result.id.kernel == kernel]
        return sorted(found, key=lambda result: STEPS.index(result.id.step))
