# SPDX-License-Identifier: GPL-2.0-or-later
"""How the jobs of a directory are run: options of each build, and what runs them."""

from __future__ import annotations

from kgbuild.host.releases.workers import LocalWorkers, Workers, machine_slots
from kgbuild.model import ToolChoice
from kgbuild.pipeline.releases.jobs import Job, run_job
from kgbuild.pipeline.stages.options import Options
from kgbuild.releases.config import Config
from kgbuild.releases.job_graph import JobResult

_PRELOAD = ("kgbuild.pipeline.releases.jobs",)


def build_options(config: Config, slots: int, jobs: int, offline: bool, tools: ToolChoice, release: int = 0) -> Options:
    """The options of each build of a directory. `jobs` programs run at a time over all `slots`."""
    chosen = config.build
    return Options(
        ignore_init=chosen.ignore_init,
        allow_unproven=frozenset(chosen.allow_unproven),
        drop=frozenset(chosen.drop),
        replace=config.replace,
        jobs=max(1, jobs // slots),
        offline=offline,
        tools=tools,
        release=release,
        all_reasons=True,  # kernels are compared by their reasons
        share=True,
    )


def open_workers(jobs: int, dask: str | None = None) -> Workers[Job, JobResult]:
    """What runs the jobs: processes of this machine, or a Dask scheduler at an address ("local" starts one). Raises
    ToolError where that can't be reached, or Dask is not installed."""
    if dask is None:
        return LocalWorkers(run_job, machine_slots(jobs), _PRELOAD, _urgency)
    from kgbuild.host.releases.dask_workers import DaskWorkers

    return DaskWorkers(run_job, dask, machine_slots(jobs), _urgency)


def _urgency(job: Job) -> tuple[int, float]:
    return job.urgency
