# SPDX-License-Identifier: GPL-2.0-or-later
"""Processes that run jobs, here and on Dask: what is killed costs its job once more, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kgbuild.errors import ToolError
from kgbuild.host.releases.dask_workers import DaskWorkers
from kgbuild.host.releases.store import ResultStore
from kgbuild.host.releases.workers import LocalWorkers, LostWorker, machine_slots
from kgbuild.releases.job_graph import JobId, JobResult


def work(job: str) -> str:
    """A job is its name, and a file that counts how often it was begun: NAME:FILE. One called "dies" kills its process
    the first time, one called "always" each time."""
    name, _, file = job.partition(":")
    with Path(file).open("a") as stream:
        stream.write(f"{name}\n")
    begun = Path(file).read_text().split().count(name)
    if name == "always" or (name.startswith("dies") and begun == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    return f"{name} {begun}"


def outcomes(workers: Any, names: list[str], file: Path) -> dict[str, Any]:
    for name in names:
        workers.submit(f"{name}:{file}")
    return {job.partition(":")[0]: outcome for job, outcome in workers.results()}


@pytest.fixture(params=[1, 3])
def local(request: pytest.FixtureRequest) -> Iterator[LocalWorkers[str, str]]:
    workers = LocalWorkers(work, request.param)
    yield workers
    workers.close()


def test_a_killed_process_costs_its_job_once_more(local: LocalWorkers[str, str], tmp_path: Path) -> None:
    found = outcomes(local, ["a", "dies", "b", "always", "c"], tmp_path / "begun")
    lost = found.pop("always")
    assert found == {"a": "a 1", "b": "b 1", "c": "c 1", "dies": "dies 2"}
    assert isinstance(lost, LostWorker) and str(lost) == "its process was killed (SIGKILL)"


def test_jobs_may_be_added_while_others_run(local: LocalWorkers[str, str], tmp_path: Path) -> None:
    local.submit(f"a:{tmp_path / 'begun'}")
    found = []
    for job, outcome in local.results():
        found.append(outcome)
        if job.startswith("a:"):
            local.submit(f"b:{tmp_path / 'begun'}")
    assert found == ["a 1", "b 1"]


def wait(job: str) -> str:
    """A job that takes a minute."""
    Path(job).touch()
    time.sleep(60)
    return job


def test_closing_ends_what_runs(tmp_path: Path) -> None:
    workers: LocalWorkers[str, str] = LocalWorkers(wait, 2)
    workers.submit(str(tmp_path / "one"))
    (pid,) = workers.pids
    workers.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_no_more_at_once_than_asked() -> None:
    assert machine_slots(1) == 1 and 1 <= machine_slots(64) <= 64


def test_dask_workers_that_are_killed_in_the_middle(tmp_path: Path) -> None:
    workers: DaskWorkers[str, str] = DaskWorkers(work, "local", 3)
    try:
        names = ["a", "dies-1", "b", "dies-2", "c", "dies-3"]
        found = outcomes(workers, names, tmp_path / "begun")
    finally:
        workers.close()
    assert set(found) == set(names) and not any(isinstance(one, LostWorker) for one in found.values())
    assert all(found[f"dies-{n}"].startswith(f"dies-{n} ") for n in (1, 2, 3))


def test_a_scheduler_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kgbuild.host.releases.dask_workers._CONNECT", 1)
    with pytest.raises(ToolError, match="no Dask scheduler answers"):
        DaskWorkers(work, "tcp://127.0.0.1:1", 1)


def test_results_are_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    store, job = ResultStore(tmp_path), JobId("k", "build")
    made = JobResult(job, "done", {"a": [1]}, ({"code": "x"},), 1.5, {"module.ko": b"\x7fELF"})
    store.put(made, "key")
    found = store.get(job, "key")
    assert found is not None and found.resumed and (found.data, found.files) == (made.data, made.files)
    (tmp_path / ".kgbuild" / "matrix" / "key" / "result.json").write_text('{"status": "do')
    assert store.get(job, "key") is None and store.get(job, "other") is None
    store.put(made, "key")
    (tmp_path / ".kgbuild" / "matrix" / "key" / "module.ko").unlink()
    assert store.get(job, "key") is None


def test_a_disk_that_is_full_fails_the_rows_that_it_hits(tmp_path: Path) -> None:
    """A file system of 1 MB: what went before it was full is kept whole, and the next run goes on from there."""
    script = f"""
mount -t tmpfs -o size=1m tmpfs {tmp_path} || exit 77
exec {sys.executable} -c '
from pathlib import Path
from kgbuild.errors import ToolError
from kgbuild.host.releases.store import ResultStore
from kgbuild.releases.job_graph import JobId, JobResult
store = ResultStore(Path("{tmp_path}"))
kept = []
for number in range(8):
    job = JobId(f"debian:{{number}}", "build")
    try:
        store.put(JobResult(job, "done", files={{"module.ko": bytes(200_000)}}), f"{{number}}")
    except ToolError as error:
        assert "No space left" in str(error) and error.remedy, error
    kept.append(store.get(job, f"{{number}}") is not None)
print(kept, sorted(path.name for path in Path("{tmp_path}/.kgbuild/matrix").iterdir()))
'"""
    ran = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, check=False)
    assert ran.stdout.strip() == f"{[True] * 5 + [False] * 3} {[str(n) for n in range(5)]}", ran.stdout + ran.stderr


def test_the_most_urgent_job_runs_next(tmp_path: Path) -> None:
    workers: LocalWorkers[str, str] = LocalWorkers(work, 1, urgency=lambda job: (int(job[0]), 0.0))
    for name in ("2", "3", "1"):
        workers.submit(f"{name}:{tmp_path / 'begun'}")
    assert [outcome for _, outcome in workers.results()] == ["2 1", "1 1", "3 1"], "the first ran at once"
