# SPDX-License-Identifier: GPL-2.0-or-later
"""One job of a matrix, run to its end in whatever process it is called in.

A job has everything that it needs in it but the kernel, which it takes from the cache or fetches; so it can be run by a
process of this machine or of another. It never raises for what a user or a machine can cause: that is its result.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kgbuild import __version__
from kgbuild.diagnostics.fix_states import AFFECTED as IS_AFFECTED
from kgbuild.diagnostics.refusals import Refused
from kgbuild.errors import KgbuildError, NoChange
from kgbuild.host.compile.apply_patches import NamedPatch
from kgbuild.host.kernels.acquire import ensure_kernel, find_kernel
from kgbuild.host.releases.directory import Directory
from kgbuild.host.system.cache import Cache
from kgbuild.host.system.locks import temporary_directory
from kgbuild.model import Kernel
from kgbuild.pipeline.build import build as build_module
from kgbuild.pipeline.impact import find_impact
from kgbuild.pipeline.module_names import patch_module_name
from kgbuild.pipeline.releases.affected import decide_kernel, kernels_named
from kgbuild.pipeline.releases.kernels import meanings
from kgbuild.pipeline.stages.options import Options
from kgbuild.pipeline.stages.trail import Trail
from kgbuild.pipeline.stages.values import Proven
from kgbuild.progress import SilentProgress
from kgbuild.releases.differences import effect_json, effect_of
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
    JobId,
    JobResult,
)
from kgbuild.releases.render_patch import render_files
from kgbuild.report.documents import error_row, error_rows, rows_of
from kgbuild.report.formats import json_text

RESULTS = "matrix-4"
_TIMES = frozenset({"seconds", "rss_mb", "boot_seconds"})


@dataclass(frozen=True)
class Job:
    """A job with its inputs.

    directory  the fixes; of their files only the bytes that were read are used
    fixes      the ids of those that it is for, in order; `patches` the patch of each, as it is applied to this kernel
    module     the name of the module, without .ko
    files      what earlier jobs of the row made: "module.ko", "proof.json"
    older      the module of the release before, and the name of its file
    build_id   of the kernel, which its name may mean no more; "" where it is not known yet
    urgency    the job of those that wait with the least runs first
    """

    id: JobId
    directory: Directory = field(repr=False)
    fixes: tuple[str, ...] = ()
    patches: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    module: str = "livepatch-matrix"
    options: Options = field(default=Options())
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    older: tuple[tuple[str, bytes], ...] = field(default=(), repr=False)
    accel: str = "auto"
    timeout: float = 600.0
    build_id: str = ""
    urgency: tuple[int, float] = (0, 0.0)

    @property
    def key(self) -> str:
        """A digest of all inputs: a result that was kept is that of this job if it has the same key."""
        inputs = [
            [
                fix,
                sorted(
                    (name, hashlib.sha256(text).hexdigest()) for name, text in self.directory.fixes[fix].inputs.items()
                ),
            ]
            for fix in self.fixes
        ]
        made = sorted((name, hashlib.sha256(data).hexdigest()) for name, data in (*self.files.items(), *self.older))
        patches = sorted((fix, hashlib.sha256(text).hexdigest()) for fix, text in self.patches.items())
        listed = [(f.id, f.kernels, f.after) for f in self.directory.config.fixes if f.id in self.fixes]
        fixes = [self.directory.fixes[fix] for fix in self.fixes]
        named = kernels_named(self.directory.config, fixes) if self.id.step == AFFECTED else []
        told = [
            meanings(named),
            RESULTS,
            __version__,
            str(self.id),
            self.build_id,
            inputs,
            patches,
            made,
            self.module,
            self.options.for_bytes,
        ]
        return hashlib.sha256(json.dumps([*told, self.options.replace, listed]).encode()).hexdigest()


def run_job(job: Job) -> JobResult:
    """Run a job. Errors of kgbuild, of the machine and of kgbuild itself become the result; only what ends the process
    does not."""
    began = time.monotonic()
    try:
        result = _STEPS[job.id.step](job)
    except Refused as error:
        result = JobResult(job.id, REFUSED, errors=tuple(rows_of(error.refusals)))
    except NoChange as error:
        result = JobResult(job.id, NOTHING, errors=tuple(error_rows(error)))
    except KgbuildError as error:
        result = JobResult(job.id, FAILED, errors=tuple(error_rows(error)))
    except OSError as error:
        row = error_row("E5-system", error.strerror or str(error), str(error.filename or ""), "")
        result = JobResult(job.id, FAILED, errors=(row,))
    except Exception as error:
        row = error_row("E7-internal", f"{type(error).__name__}: {error}", str(job.id), "please report it")
        result = JobResult(job.id, FAILED, errors=(row,))
    # as it will be read again from where it is kept: what is made of it later must have the same bytes
    data = json.loads(json.dumps(result.data, sort_keys=True))
    return replace(result, data=data, seconds=round(time.monotonic() - began, 3))


def _kernel(job: Job) -> Kernel:
    options = job.options
    return ensure_kernel(
        job.id.kernel, progress=SilentProgress(), offline=options.offline, jobs=options.jobs, choice=options.tools
    )


def _acquire(job: Job) -> JobResult:
    kernel = _kernel(job)
    data = {"kernel": kernel.id.name, "version": kernel.id.version, "build_id": kernel.id.build_id}
    return JobResult(job.id, DONE, {**data, "release": kernel.id.release, "compiler": kernel.compiler})


def _affected(job: Job) -> JobResult:
    kernel = find_kernel(job.id.kernel, offline=True) or _kernel(job)
    if not Cache().use(kernel):
        kernel = _kernel(job)
    decided = decide_kernel(
        job.directory, job.directory.of(job.directory.config.choose(job.fixes)), kernel, job.id.kernel
    )
    wanted = [fix for fix, decision in decided.decisions.items() if decision.state == IS_AFFECTED and fix in job.fixes]
    files = {f"{fix}.patch": render_files(decided.decisions[fix].files, _head(job, fix)) for fix in wanted}
    rows = [row for row in decided.rows() if row["fix"] in job.fixes]
    return JobResult(job.id, DONE, {"fixes": rows, "affected": wanted}, files=files)


def _head(job: Job, fix: str) -> bytes:
    """The lines above the diff of a fix, as it is applied: its subject, and its CVE numbers."""
    known = job.directory.fixes[fix]
    subject = known.metadata.subject or fix
    return f"Subject: {subject}\n\n{' '.join(known.cves)}\n---\n".encode()


def _patches(job: Job) -> list[NamedPatch]:
    return [NamedPatch(f"{fix}.patch", job.patches[fix]) for fix in job.fixes]


def _impact(job: Job) -> JobResult:
    trail = Trail()
    kernel = _kernel(job).id.name
    impact = find_impact(_patches(job), kernel, replace(job.options, on_top_of=()), trail)
    report = impact.to_json()
    status = REFUSED if impact.refusals else DONE
    data = {"effect": effect_json(effect_of({**report, "refusals": rows_of(impact.refusals)})), **_compiled(trail)}
    return JobResult(job.id, status, {**data, "why": dict(effect_of(report).why)}, tuple(rows_of(impact.refusals)))


def _compiled(trail: Trail) -> dict[str, Any]:
    """How many objects a run needed, how many it compiled, how many were in the cache already, and how many another
    kernel's unit of the same text had been compiled to."""
    proven = trail.get(Proven)
    if proven is None:
        return {}
    sides = [2 if one.orig is not one.patched else 1 for one in proven.compiled]
    cached = sum(one.cached for one in proven.compiled)
    shared = sum(one.shared for one in proven.compiled)
    compiled = sum(sides) - cached - shared
    return {"compiles": {"needed": sum(sides), "compiled": compiled, "cached": cached, "shared": shared}}


def _build(job: Job) -> JobResult:
    with temporary_directory("job") as folder:
        paths = []
        for name, older in job.older:
            path = folder / name
            path.write_bytes(older)
            paths.append(path)
        cves = tuple(dict.fromkeys(cve for fix in job.fixes for cve in job.directory.fixes[fix].cves or (fix,)))
        options = replace(job.options, on_top_of=tuple(paths), fixes=cves)
        kernel = _kernel(job).id.name
        trail = Trail()
        built = build_module(_patches(job), kernel, Path(f"{job.module}.ko"), options, trail)
    report = built.to_json()
    if built.checked.findings:
        return JobResult(job.id, FAILED, {}, tuple(rows_of(built.checked.findings)))
    module = built.assembled.module
    data = {
        "name": built.assembled.name,
        "sha256": hashlib.sha256(module).hexdigest(),
        "bytes": len(module),
        "functions": report["module"]["functions"],
        "taken_back": report.get("taken_back") or [],
        "warnings": report["warnings"],
        "codes": sorted({row["code"] for row in report["consistency"]}),
        "unproven": [name for option, name in built.assembled.record.allowed if option == "--allow-unproven"],
        "fixes": list(job.fixes),
        **_compiled(trail),
    }
    files = {
        "module.ko": module,
        "proof.json": json_text(report["proof"]).encode(),
        "report.json": json_text(without_times(report)).encode(),
    }
    return JobResult(job.id, DONE, data, files=files)


def without_times(value: Any) -> Any:
    """A report in which what differs from run to run, durations and memory, is 0, and the list of stages empty."""
    if isinstance(value, dict):
        return {k: [] if k == "stages" else 0 if k in _TIMES else without_times(v) for k, v in value.items()}
    return [without_times(one) for one in value] if isinstance(value, (list, tuple)) else value


def _verify(job: Job) -> JobResult:
    from kgbuild.pipeline.stages.verify import read_record, verify

    with temporary_directory("job") as folder:
        proof = folder / "proof.json"
        proof.write_bytes(job.files["proof.json"])
        record = read_record(proof)
        found = verify(job.files["module.ko"], _kernel(job), f"{job.module}.ko", record=record, proof=proof.name)
    status = REFUSED if found.findings else DONE
    return JobResult(job.id, status, {"findings": len(found.findings)}, tuple(rows_of(found.findings)))


def _vm(job: Job) -> JobResult:
    """Boot the module; where there is one of the release before: that one, then this one on top of it, then that one
    again."""
    from kgbuild.host.vm.guest_commands import load_command, unload_command
    from kgbuild.host.vm.run import PatchRun, run_vm

    with temporary_directory("job") as folder:
        path = folder / f"{job.module}.ko"
        path.write_bytes(job.files["module.ko"])
        older = []
        for name, data in job.older:
            older.append(folder / name)
            older[-1].write_bytes(data)
        names = [patch_module_name(one) for one in older]
        # once this one is out, what it has replaced is loaded again: its module is still there, and has to go first
        back = [*map(unload_command, reversed(names)), *(load_command(0, name) for name in names)]
        runs = [PatchRun(path, older=tuple(older), disabled=back)]
        ran = run_vm(_kernel(job), runs, progress=SilentProgress(), accel=job.accel, timeout=job.timeout)
    steps = [one.name.removesuffix(".ko") for one in older]
    on_top = f"{job.module} on {', '.join(steps)}" if steps else job.module
    told = {"verdict": ran.verdict, "outcome": ran.outcome, "accel": ran.accel, "steps": [*steps, on_top, *steps]}
    report = json_text(_booted(ran.to_json())).encode()
    status = DONE if ran.verdict else REFUSED
    return JobResult(
        job.id,
        status,
        {**told, "boot_seconds": ran.boot_seconds},
        tuple(rows_of(ran.findings)),
        files={"vm.json": report},
    )


def _booted(report: Mapping[str, Any]) -> Any:
    """What a guest said, without what differs from boot to boot."""
    return {**without_times(report), "kernel_log": ""}


_STEPS = {ACQUIRE: _acquire, AFFECTED: _affected, IMPACT: _impact, BUILD: _build, VERIFY: _verify, VM: _vm}
