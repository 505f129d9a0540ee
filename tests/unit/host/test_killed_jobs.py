# SPDX-License-Identifier: GPL-2.0-or-later
"""A whole matrix on three workers of which one is killed in each phase, here and on Dask; and two runs at once."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
from collections import Counter
from pathlib import Path

import pytest

from kgbuild.host.releases.dask_workers import DaskWorkers
from kgbuild.host.releases.directory import Directory, Fix
from kgbuild.host.releases.store import ResultStore
from kgbuild.host.releases.workers import LocalWorkers, Workers
from kgbuild.pipeline.releases.jobs import Job
from kgbuild.pipeline.releases.matrix import MatrixRun, Plan, matrix_status, run_matrix
from kgbuild.releases.config import Config, FixEntry, FixMetadata
from kgbuild.releases.job_graph import ACQUIRE, AFFECTED, BUILD, DONE, IMPACT, STEPS, JobResult

KERNELS = ("debian:1", "debian:2", "debian:3")
FIXES = ("a", "b")


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


def plan(note: Path) -> Plan:
    note.touch()
    entries = tuple(FixEntry(name) for name in FIXES)
    fixes = {entry.id: Fix(entry, FixMetadata(), {}) for entry in entries}
    directory = Directory(note.parent, Config(fixes=entries), fixes)
    return Plan(directory, list(fixes.values()), KERNELS, True, True, str(note))


def check(run: MatrixRun, note: Path) -> None:
    """Every job has its result; those that were killed were begun twice."""
    assert matrix_status(run) == 0 and not run.stopped
    steps = {str(job): result.status for job, result in run.graph.results.items()}
    assert len(steps) == len(KERNELS) * (len(STEPS) - 1 + len(FIXES)) and set(steps.values()) == {DONE}
    begun = Counter(note.read_text().split())
    killed = {f"debian:2/{step}" + ("/a" if step == IMPACT else "") for step in STEPS}
    assert {job for job, count in begun.items() if count > 1} >= killed and set(begun) == set(steps)


def workers(kind: str, slots: int = 3) -> Workers[Job, JobResult]:
    return LocalWorkers(act, slots) if kind == "local" else DaskWorkers(act, "local", slots)


@pytest.mark.parametrize("kind", ["local", "dask"])
def test_a_worker_is_killed_in_each_phase(tmp_path: Path, kind: str) -> None:
    note = tmp_path / "begun"
    run = run_matrix(plan(note), workers(kind), ResultStore(tmp_path))
    check(run, note)
    if kind == "local":
        begun = Counter(note.read_text().split())
        assert sorted(begun.values()) == [1] * (len(begun) - len(STEPS)) + [2] * len(STEPS)


def go(note: Path) -> None:
    """A run of its own, in a process of its own, with a scheduler of its own."""
    run = run_matrix(plan(note), workers("dask", 2), ResultStore(note.parent))
    check(run, note)
    rows = [{**row, "jobs": None} for row in run.rows()]
    note.with_suffix(".json").write_text(json.dumps(rows, sort_keys=True))


def test_two_schedulers_and_one_directory(tmp_path: Path) -> None:
    """Both come to the same, and leave one whole result a job."""
    notes = [tmp_path / name for name in ("one", "other")]
    both = [multiprocessing.get_context("spawn").Process(target=go, args=(note,)) for note in notes]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
    assert [process.exitcode for process in both] == [0, 0]
    one, other = (note.with_suffix(".json").read_text() for note in notes)
    assert one == other
    kept = list((tmp_path / ".kgbuild" / "matrix").iterdir())
    assert kept and all((folder / "result.json").exists() and folder.name[0] != "." for folder in kept)


def test_two_runs_that_keep_one_result_at_once(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    result = run_matrix(plan(tmp_path / "begun"), workers("local"), None).graph.results
    made = next(iter(result.values()))
    threads = [threading.Thread(target=store.put, args=(made, "key")) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.get(made.id, "key") is not None
    assert [path.name for path in (tmp_path / ".kgbuild" / "matrix").iterdir()] == ["key"]
