# SPDX-License-Identifier: GPL-2.0-or-later
"""`matrix`: every fix of a directory tried on every kernel, as jobs that run side by side and go on where they were."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kgbuild import __version__
from kgbuild.diagnostics.fix_states import CONFLICT, UNKNOWN
from kgbuild.errors import ToolError
from kgbuild.host.releases.directory import Directory, Fix
from kgbuild.host.releases.store import ResultStore
from kgbuild.host.releases.workers import LostWorker, Workers
from kgbuild.pipeline.releases.jobs import Job
from kgbuild.pipeline.stages.options import Options
from kgbuild.releases.answers import Row, decision_row
from kgbuild.releases.decide import Decision
from kgbuild.releases.differences import FixEffect, sentences
from kgbuild.releases.job_graph import (
    ACQUIRE,
    AFFECTED,
    BUILD,
    DONE,
    FAILED,
    IMPACT,
    NOTHING,
    REFUSED,
    VERIFY,
    VM,
    JobGraph,
    JobId,
    JobResult,
)
from kgbuild.report.documents import ErrorRow, error_row, error_rows, schema_name

Older = tuple[tuple[str, bytes], ...]
_KEPT = frozenset({DONE, REFUSED, NOTHING})


@dataclass(frozen=True)
class Plan:
    """What a matrix is of. `older` are the modules that each kernel's module is put on top of, by the kernel's name."""

    directory: Directory = field(repr=False)
    fixes: Sequence[Fix]
    kernels: Sequence[str]
    build: bool = False
    boot: bool = False
    module: str = "livepatch-matrix"
    options: Options = field(default_factory=Options)
    older: Mapping[str, Older] = field(default_factory=dict)
    accel: str = "auto"
    timeout: float = 600.0


@dataclass(frozen=True)
class MatrixRun:
    """What a run came to: the results of all jobs, which kernels were not finished, and how it went."""

    plan: Plan
    graph: JobGraph
    stopped: bool
    seconds: float
    slots: int

    def rows(self) -> list[Row]:
        """A row for each kernel (docs/schema/matrix-1.json)."""
        return [_row(self.plan, self.graph, kernel) for kernel in self.plan.kernels]

    def to_json(self) -> Row:
        """The document of `matrix`."""
        rows = self.rows()
        jobs = list(self.graph.results.values())
        return {
            "schema": schema_name("matrix"),
            "tool": {"name": "kgbuild", "version": __version__},
            "fixes": [fix.id for fix in self.plan.fixes],
            "kernels": rows,
            "differs": list(differences(self.plan, self.graph)),
            "jobs": {
                "total": len(jobs),
                "resumed": sum(one.resumed for one in jobs),
                "failed": sum(one.status == FAILED for one in jobs),
                "slots": self.slots,
                "stopped": self.stopped,
            },
            "compiles": _compiles(jobs),
            "seconds": round(self.seconds, 1),
        }


def run_matrix(
    plan: Plan,
    workers: Workers[Job, JobResult],
    store: ResultStore | None,
    *,
    resume: bool = False,
    fail_fast: bool = False,
    told: Callable[[JobGraph, JobResult], Any] = lambda graph, result: None,
) -> MatrixRun:
    """Run every job. What is done is kept as soon as it is done, whatever ends the run.

    store      where results are kept; None keeps none
    resume     take results that an earlier run has kept, where all inputs are the same
    fail_fast  begin no job any more once one was refused or failed
    told       gets each result as it comes
    """
    began = time.monotonic()
    graph = JobGraph(plan.kernels, plan.build, plan.boot)
    stopped = False

    def begin(ids: Sequence[JobId]) -> None:
        waiting = list(ids)
        while waiting:
            job = _job(plan, graph, waiting.pop(0))
            known = store.get(job.id, job.key) if store is not None and resume and job.id.step != ACQUIRE else None
            if known is None:
                workers.submit(job)
            else:
                more = graph.finish(known)
                told(graph, known)
                waiting += more if not stopped else []

    try:
        begin(graph.first())
        for job, outcome in workers.results():
            result = outcome if isinstance(outcome, JobResult) else _lost(job, outcome)
            if store is not None and result.status in _KEPT:
                try:
                    store.put(result, job.key)
                except ToolError as error:
                    result = replace(result, status=FAILED, errors=tuple(error_rows(error)), files={})
            following = graph.finish(result)
            told(graph, result)
            stopped = stopped or (fail_fast and result.status in (REFUSED, FAILED))
            if not stopped:
                begin(following)
    finally:
        workers.close()
    return MatrixRun(plan, graph, stopped, time.monotonic() - began, workers.slots)


def _lost(job: Job, lost: LostWorker) -> JobResult:
    row = error_row("E3-tool", str(lost), str(job.id), "run it again with --resume")
    return JobResult(job.id, FAILED, errors=(row,))


def _job(plan: Plan, graph: JobGraph, job: JobId) -> Job:
    """A job with its inputs, from what earlier jobs of its row have found."""
    found = graph.results.get(JobId(job.kernel, AFFECTED))
    fixes = {ACQUIRE: [], AFFECTED: [fix.id for fix in plan.fixes], IMPACT: _with_needed(plan, graph, job)}
    names = tuple(fixes[job.step] if job.step in fixes else graph.buildable(job.kernel))
    patches = {fix: found.files[f"{fix}.patch"] for fix in names} if found is not None and job.step != AFFECTED else {}
    acquired = graph.results.get(JobId(job.kernel, ACQUIRE))
    built = graph.results.get(JobId(job.kernel, BUILD))
    files = dict(built.files) if built is not None and job.step in (VERIFY, VM) else {}
    return Job(
        job,
        plan.directory,
        names,
        patches,
        plan.module,
        plan.options,
        {name: data for name, data in files.items() if name != "report.json"},
        plan.older.get(job.kernel, ()) if job.step in (BUILD, VM) else (),
        plan.accel,
        plan.timeout,
        acquired.data.get("build_id", "") if acquired is not None else "",
        graph.urgency(job),
    )


def _with_needed(plan: Plan, graph: JobGraph, job: JobId) -> list[str]:
    """The fixes that are applied for the impact of one: those that it needs, and those before it that change a file
    that it changes too, since it was decided on their text."""
    if job.step != IMPACT:
        return []
    concerned = graph.concerned(job.kernel)
    needed = {fix.id for fix in plan.directory.config.choose([job.fix])}
    found = graph.results[JobId(job.kernel, AFFECTED)]
    paths = {row["fix"]: {hunk["path"] for hunk in row["hunks"]} for row in found.data["fixes"]}
    before = concerned[: concerned.index(job.fix)]
    return [*(fix for fix in before if fix in needed or paths[fix] & paths[job.fix]), job.fix]


def _row(plan: Plan, graph: JobGraph, kernel: str) -> Row:
    acquired = graph.results.get(JobId(kernel, ACQUIRE))
    known = acquired.data if acquired is not None else {}
    errors = [dict(error) for result in graph.of(kernel) for error in result.errors if result.status == FAILED]
    return {
        "requested": kernel,
        "kernel": known.get("kernel"),
        "version": known.get("version"),
        "build_id": known.get("build_id"),
        "error": errors[0] if errors else None,
        "fixes": _cells(plan, graph, kernel),
        "module": _module(graph, kernel),
        "vm": _booted(graph, kernel),
        "jobs": [
            {"step": r.id.step, "fix": r.id.fix, "status": r.status, "seconds": r.seconds, "resumed": r.resumed}
            for r in graph.of(kernel)
        ],
    }


def _cells(plan: Plan, graph: JobGraph, kernel: str) -> list[Row]:
    found = graph.results.get(JobId(kernel, AFFECTED))
    known = {row["fix"]: row for row in found.data.get("fixes", ())} if found is not None else {}
    out = []
    for fix in plan.fixes:
        cell = dict(known.get(fix.id) or decision_row(fix.id, Decision(UNKNOWN, "the kernel was not looked at"), None))
        result = graph.results.get(JobId(kernel, IMPACT, fix.id))
        cell["impact"] = None
        if result is not None:
            effect = result.data.get("effect")
            cell["impact"] = {"status": result.status, "effect": effect, "errors": [dict(e) for e in result.errors]}
        out.append(cell)
    return out


def _module(graph: JobGraph, kernel: str) -> Row | None:
    built = graph.results.get(JobId(kernel, BUILD))
    if built is None:
        return None
    verified = graph.results.get(JobId(kernel, VERIFY))
    keys = ("name", "sha256", "bytes", "functions", "fixes", "taken_back", "warnings")
    return {
        "status": built.status,
        **{key: built.data.get(key) for key in keys},
        "verified": None if verified is None else verified.status == DONE,
        "errors": [dict(e) for one in (built, verified) if one is not None for e in one.errors],
    }


def _booted(graph: JobGraph, kernel: str) -> Row | None:
    ran = graph.results.get(JobId(kernel, VM))
    if ran is None:
        return None
    return {
        "status": ran.status,
        **{key: ran.data.get(key) for key in ("verdict", "outcome", "accel", "steps", "boot_seconds")},
        "errors": [dict(e) for e in ran.errors],
    }


def _compiles(jobs: Sequence[JobResult]) -> Row:
    """Objects that were needed, those that had to be compiled, those that were in the cache already, and those that
    were compiled for another kernel."""
    out = {"needed": 0, "compiled": 0, "cached": 0, "shared": 0}
    for job in jobs:
        for key, count in job.data.get("compiles", {}).items() if not job.resumed else ():
            out[key] = out.get(key, 0) + count
    return out


def differences(plan: Plan, graph: JobGraph) -> list[str]:
    """A sentence for each fix and way in which the kernels differ in what it does."""
    out: list[str] = []
    for fix in plan.fixes:
        effects: dict[str, FixEffect] = {}
        for kernel in plan.kernels:
            result = graph.results.get(JobId(kernel, IMPACT, fix.id))
            acquired = graph.results.get(JobId(kernel, ACQUIRE))
            told = result.data.get("effect") if result is not None else None
            if told is not None and acquired is not None and result is not None:
                why = tuple(sorted(result.data.get("why", {}).items()))
                replaced, pulled, carried, refusals = (
                    frozenset(told[key]) for key in ("replaced", "pulled", "carried", "refusals")
                )
                effects[str(acquired.data.get("kernel", kernel))] = FixEffect(replaced, pulled, carried, refusals, why)
        out += sentences(fix.id, effects)
    return out


def matrix_status(run: MatrixRun) -> int:
    """The exit status: 0 where every row came to its end, 4 where no kernel needs anything, 5 where some rows did, 1
    where none did, 3 where no kernel could be had."""
    rows = run.rows()
    if all(row["kernel"] is None for row in rows):
        return 3
    good = [_is_done(run.plan, row) for row in rows]
    if all(good):
        return 0 if any(cell["state"] == "affected" for row in rows for cell in row["fixes"]) else 4
    return 5 if any(good) else 1


def _is_done(plan: Plan, row: Row) -> bool:
    if row["error"] is not None:
        return False
    needed = [cell for cell in row["fixes"] if cell["state"] == "affected"]
    if any(cell["state"] in (CONFLICT, UNKNOWN) for cell in row["fixes"]):
        return False
    if any(cell["impact"] is None or cell["impact"]["status"] not in (DONE, NOTHING) for cell in needed):
        return False
    changes = [cell for cell in needed if cell["impact"]["status"] == DONE]
    if not plan.build or not changes:
        return True
    built = row["module"] is not None and row["module"]["status"] == DONE and row["module"]["verified"] is True
    return built and (not plan.boot or (row["vm"] is not None and row["vm"]["status"] == DONE))


def faults_of(run: MatrixRun) -> list[ErrorRow]:
    """What stands against the rows: jobs that failed or were refused, and kernels that can't be decided."""
    out: list[ErrorRow] = []
    for result in run.graph.results.values():
        for error in result.errors if result.status in (FAILED, REFUSED) else ():
            place = f"{result.id}: {error['place']}" if error["place"] else str(result.id)
            out.append({**error, "place": place})
    for row in run.rows():
        for cell in row["fixes"]:
            if cell["state"] == CONFLICT:
                place = f"{row['kernel']}/{cell['fix']}: {cell['place']}"
                remedy = f"kgbuild backport {cell['fix']} --kernel {row['requested']}"
                out.append(error_row(cell["code"], cell["fact"], place, remedy))
    return out


def matrix_errors(run: MatrixRun) -> list[ErrorRow]:
    """All that stands against the rows, or that nothing is to be done."""
    return faults_of(run) or [
        error_row("E4-no-change", "no kernel needs any of the fixes", "", "nothing is to be patched")
    ]
