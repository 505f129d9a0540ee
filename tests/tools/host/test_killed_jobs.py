# SPDX-License-Identifier: GPL-2.0-or-later
"""A whole matrix on three workers of which one is killed in each phase, here and on Dask; and two runs at once."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from kgbuild.host.releases.dask_workers import DaskWorkers
from kgbuild.host.releases.directory import Directory, Fix
from kgbuild.host.releases.store import ResultStore
from kgbuild.host.releases.workers import LocalWorkers, Workers
from kgbuild.pipeline.releases.jobs import Job
from kgbuild.pipeline.releases.matrix import Plan, matrix_status, run_matrix
from kgbuild.releases.config import Config, FixEntry, FixMetadata
from kgbuild.releases.job_graph import ACQUIRE, AFFECTED, BUILD, DONE, IMPACT, STEPS, JobId, JobResult

KERNELS = ("debian:1", "debian:2", "debian:3")
FIXES = ("a", "b")
_LONG = 900  # seconds, for a machine that has much else to do


def act(job: Job) -> JobResult:
    """A job that notes in the file that its module is named by that it was begun. For debian:2, one of each step kills
    its process the first time."""
    note = Path(job.module)
    with note.open("a") as stream:
        stream.write(f"{job.id}\n")
    first = note.read_text().split("\n").count(str(job.id)) == 1
    if first and job.id.kernel == "debian:2" and job.id.fix in ("", "a"):
        os.kill(os.getpid(), signal.SIGKILL)
    cells = [
        {"fix": fix, "state": "affected", "code": "P23-affected", "fact": "", "place": "", "hunks": []} for fix in FIXES
    ]
    found = {
        ACQUIRE: {"kernel": job.id.kernel, "version": "1", "build_id": job.id.kernel, "release": "1"},
        AFFECTED: {"fixes": cells, "affected": list(FIXES)},
        IMPACT: {"effect": {"replaced": ["f"], "pulled": [], "carried": [], "refusals": []}, "why": {}},
        BUILD: {"name": "m", "fixes": list(FIXES)},
    }
    files = {f"{fix}.patch": fix.encode() for fix in FIXES} if job.id.step == AFFECTED else {}
    return JobResult(job.id, DONE, found.get(job.id.step, {"verdict": True}), files=files)


def plan(note: Path, kernels: Sequence[str]) -> Plan:
    note.touch()
    entries = tuple(FixEntry(name) for name in FIXES)
    fixes = {entry.id: Fix(entry, FixMetadata(), {}) for entry in entries}
    directory = Directory(note.parent, Config(fixes=entries), fixes)
    return Plan(directory, list(fixes.values()), kernels, True, True, str(note))


def go(answer: Path, kind: str, slots: int, kernels: Sequence[str]) -> None:
    """A run with workers of its own, whose rows are written to `answer`. Every job has its result; those that were
    killed were begun twice. Runs in one directory have one module, since its name is part of what a result is for."""
    note = answer.parent / "begun"
    workers: Workers[Job, JobResult] = (
        LocalWorkers(act, slots, (__name__,)) if kind == "local" else DaskWorkers(act, "local", slots)
    )
    run = run_matrix(plan(note, kernels), workers, ResultStore(note.parent))
    assert matrix_status(run) == 0 and not run.stopped
    steps = {str(job): result.status for job, result in run.graph.results.items()}
    assert len(steps) == len(kernels) * (len(STEPS) - 1 + len(FIXES)) and set(steps.values()) == {DONE}
    begun = Counter(note.read_text().split())
    assert set(begun) == set(steps)
    killed = {f"debian:2/{step}" + ("/a" if step == IMPACT else "") for step in STEPS if "debian:2" in kernels}
    twice = {job for job, count in begun.items() if count > 1}
    # Dask also repeats what a killed worker had finished and not handed over
    assert twice == killed if kind == "local" else twice >= killed
    rows = [{**row, "jobs": None} for row in run.rows()]
    answer.write_text(json.dumps(rows, sort_keys=True))


def run_at_once(*runs: tuple[Path, str, int, Sequence[str]]) -> None:
    """Each run in a process of its own."""
    processes = [multiprocessing.get_context("spawn").Process(target=go, args=run) for run in runs]
    for process in processes:
        process.start()
    for process in processes:
        process.join(_LONG)
    assert [process.exitcode for process in processes] == [0] * len(runs)


@pytest.mark.parametrize("kind", ["local", "dask"])
def test_a_worker_is_killed_in_each_phase(tmp_path: Path, kind: str) -> None:
    run_at_once((tmp_path / "rows", kind, 3, KERNELS))


def test_two_schedulers_and_one_directory(tmp_path: Path) -> None:
    """Both come to the same, and leave one whole result a job."""
    answers = [tmp_path / name for name in ("one", "other")]
    run_at_once(*((answer, "dask", 1, KERNELS[::2]) for answer in answers))
    one, other = (answer.read_text() for answer in answers)
    assert one == other
    kept = list((tmp_path / ".kgbuild" / "matrix").iterdir())
    assert len(kept) == 2 * (len(STEPS) - 1 + len(FIXES)) and all((folder / "result.json").exists() for folder in kept)


def test_two_runs_that_keep_one_result_at_once(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    made = JobResult(JobId("debian:1", BUILD), DONE, {"a": 1}, files={"module.ko": b"x" * 100_000})
    threads = [threading.Thread(target=store.put, args=(made, "key")) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.get(made.id, "key") is not None
    assert [path.name for path in (tmp_path / ".kgbuild" / "matrix").iterdir()] == ["key"]
