# SPDX-License-Identifier: GPL-2.0-or-later
"""`release N`: a cumulative module for each kernel, on top of the release before, with everything that says what it is.

The same inputs give the same bytes: a release holds no time, no path, and no name of a machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kgbuild.diagnostics.fix_states import UNKNOWN
from kgbuild.errors import KgbuildError, NoChange, UserError
from kgbuild.host.delivery.signing import SigningKey
from kgbuild.host.releases.directory import Directory, Fix
from kgbuild.host.releases.release_files import manifest_digest, read_member, read_release, write_release
from kgbuild.host.releases.store import ResultStore
from kgbuild.host.releases.workers import Workers
from kgbuild.pipeline.module_names import patch_module_name
from kgbuild.pipeline.releases.jobs import Job
from kgbuild.pipeline.releases.matrix import MatrixRun, Older, Plan, faults_of, run_matrix
from kgbuild.pipeline.releases.signing import report_of, signed
from kgbuild.pipeline.releases.vex import statements_of
from kgbuild.pipeline.stages.options import Options
from kgbuild.releases.config import Gates
from kgbuild.releases.job_graph import (
    ACQUIRE,
    AFFECTED,
    BUILD,
    DONE,
    IMPACT,
    NOTHING,
    VM,
    JobGraph,
    JobId,
    JobResult,
)
from kgbuild.releases.manifest import MANIFEST, changed_inputs, digest, folder_of, make_manifest
from kgbuild.releases.vex import EPOCH, FORMATS, render_vex
from kgbuild.report.documents import ErrorRow, error_row
from kgbuild.report.formats import json_text


class ReleaseRefused(KgbuildError):
    """A release can't be made. `faults` are all reasons, each with code, place, fact and remedy."""

    exit_code = 1
    code = "E4-no-change"

    def __init__(self, rows: Sequence[ErrorRow], status: int) -> None:
        first = rows[0]
        super().__init__(first["fact"], place=first["place"], remedy=first["remedy"])
        self.exit_code = status
        self.rows = tuple(rows)


@dataclass(frozen=True)
class Released:
    """A release that was made. `written` is False where it was there already, with the same bytes."""

    manifest: Mapping[str, Any]
    run: MatrixRun
    written: bool


@dataclass(frozen=True)
class Before:
    """The release that the new one stands on: its number and manifest, and the module of each kernel by its name."""

    number: int
    manifest: Mapping[str, Any]
    sha256: str
    modules: Mapping[str, tuple[str, bytes]]


def read_before(directory: Directory, number: int) -> Before | None:
    """The release before, checked: none of its inputs may have changed. Raises UserError with all that have."""
    if number == 1:
        return None
    found = None
    for older in range(1, number):
        manifest = read_release(directory.path, older)
        if manifest is None:
            remedy = f"kgbuild release {older} makes it"
            raise UserError(
                f"release {older} is missing, on which release {number} stands", place=folder_of(older), remedy=remedy
            )
        inputs = {path: data for fix in directory.fixes.values() for path, data in fix.inputs.items()}
        changed = changed_inputs(manifest, inputs)
        if changed:
            fact = f"release {older} was made of other inputs: {'; '.join(changed)}"
            remedy = "restore them (a fix of a fix is a fix of its own), or remove that release and those after it"
            raise UserError(fact, place=folder_of(older), remedy=remedy)
        found = manifest
    assert found is not None
    modules: dict[str, tuple[str, bytes]] = {}
    for row in found["kernels"]:
        path = row["module"]["path"] if row["module"] is not None else None
        if path is not None:
            data = read_member(directory.path / folder_of(number - 1), path, row["module"]["sha256"])
            modules[row["kernel"]] = (path.rpartition("/")[2], data)
    return Before(number - 1, found, manifest_digest(directory.path, number - 1), modules)


def check_name(directory: Directory, number: int) -> str:
    """The name of the release's module. Raises Refused for one that is too long, UserError for one that two releases
    have."""
    name = directory.config.module_name(number)
    patch_module_name(directory.path / f"{name}.ko")
    if number > 1 and name == directory.config.module_name(number - 1):
        fact = "the module has the same name in every release: two of them can't be loaded together"
        raise UserError(
            fact, place="kgbuild.toml: module", remedy='use {release} in it: module = "livepatch-{release}"'
        )
    return name


def make_release(
    directory: Directory,
    number: int,
    kernels: Sequence[str],
    workers: Workers[Job, JobResult],
    options: Options,
    *,
    boot: bool = True,
    resume: bool = True,
    force: bool = False,
    accel: str = "auto",
    timeout: float = 600.0,
    key: SigningKey | None = None,
    told: Callable[[JobGraph, JobResult], Any] = lambda graph, result: None,
) -> Released:
    """Make a release of all fixes up to its number, and write it.

    boot    load each module in a guest: N-1, then N on top of it, then N-1 again
    resume  take what earlier runs have found for the same inputs
    force   write over a release of that number that is different
    key     signs the modules
    Raises ReleaseRefused with everything that stands against it, UserError where an older release is not what it was.
    """
    before = read_before(directory, number)
    module = check_name(directory, number)
    fixes = directory.of(directory.config.of_release(number))
    if not fixes:
        raise UserError("no fix is in this release", place=folder_of(number), remedy="kgbuild add adds one")
    plan = Plan(
        directory,
        fixes,
        kernels,
        True,
        boot,
        module,
        replace(options, release=number),
        _older(before, kernels),
        accel,
        timeout,
    )
    run = run_matrix(plan, workers, ResultStore(directory.path), resume=resume, told=told)
    faults = [*faults_of(run), *_undecided(run), *_gates(run, directory.config.gates, boot)]
    if faults:
        raise ReleaseRefused(faults, 3 if all(row["code"].startswith("E3") for row in faults) else 1)
    files, rows = _contents(run, before, number, key)
    if not any(row["module"] for row in rows):
        raise NoChange(
            "no kernel needs any fix of this release", place=folder_of(number), remedy="nothing is to be released"
        )
    date = max((fix.metadata.date for fix in fixes), default="") or EPOCH
    described = [_fix_row(fix, number, before) for fix in fixes]
    statements = list(statements_of({"fixes": described, "kernels": rows}))
    for name in FORMATS if statements else ():  # a document without a statement is none, in each of the formats
        files[f"vex.{name}.json"] = json_text(render_vex(name, statements, number, date)).encode()
    previous = {"release": before.number, "manifest_sha256": before.sha256} if before is not None else None
    manifest = make_manifest(number, options.replace, previous, described, rows, files)
    files[MANIFEST] = json_text(manifest).encode()
    return Released(manifest, run, write_release(directory.path, number, files, force))


def _older(before: Before | None, kernels: Sequence[str]) -> Mapping[str, Older]:
    """The module of the release before, for each kernel as it was asked for."""
    if before is None:
        return {}
    asked = {row["requested"]: row["kernel"] for row in before.manifest["kernels"]}
    out: dict[str, Older] = {}
    for name in kernels:
        found = before.modules.get(asked.get(name, name)) or before.modules.get(name)
        if found is not None:
            out[name] = (found,)
    return out


def _gates(run: MatrixRun, gates: Gates, boot: bool) -> list[ErrorRow]:
    out: list[ErrorRow] = []
    if gates.boot and not boot:
        fact = "the gate `boot` asks for a boot of each module"
        out.append(error_row("E2-input", fact, "--no-vm", "leave it out, or set gates.boot = false in kgbuild.toml"))
    for result in run.graph.results.values():
        if result.id.step != BUILD or result.status != DONE:
            continue
        if not gates.unproven:
            for name in result.data["unproven"]:
                fact = f"{name} is accepted without proof, and the gate `unproven` is closed"
                out.append(error_row("E2-input", fact, result.id.kernel, "set gates.unproven = true in kgbuild.toml"))
        allowed = {code.partition("-")[0] for code in gates.warnings}
        for code in result.data["codes"] if "*" not in gates.warnings else ():
            if code.partition("-")[0] not in allowed:
                fact = f"the module has the warning {code}, which the gate `warnings` does not name"
                out.append(
                    error_row("E2-input", fact, result.id.kernel, f'add "{code}" to gates.warnings in kgbuild.toml')
                )
    return out


def _contents(
    run: MatrixRun, before: Before | None, number: int, key: SigningKey | None
) -> tuple[dict[str, bytes], list[dict[str, Any]]]:
    """The files of a release but for the manifest and what is made of it, and the rows of its kernels."""
    files: dict[str, bytes] = {}
    rows: dict[str, dict[str, Any]] = {}
    for kernel in run.plan.kernels:
        row, own = _kernel(run, kernel, before, number, key)
        if row["kernel"] in rows:
            continue
        rows[row["kernel"]] = row
        files |= own
    taken: dict[str, str] = {}
    for row in rows.values():
        if taken.setdefault(row["folder"], row["kernel"]) != row["kernel"]:
            fact = f"{row['kernel']} and {taken[row['folder']]} have one release name"
            raise UserError(fact, place=row["folder"], remedy="release them from two directories")
    return files, list(rows.values())


def _kernel(
    run: MatrixRun, kernel: str, before: Before | None, number: int, key: SigningKey | None
) -> tuple[dict[str, Any], dict[str, bytes]]:
    results = run.graph.results
    known = results[JobId(kernel, ACQUIRE)].data
    folder = known["release"]
    decided = results[JobId(kernel, AFFECTED)]
    built, ran = results.get(JobId(kernel, BUILD)), results.get(JobId(kernel, VM))
    own: dict[str, bytes] = {}
    name = run.plan.module
    inside = built.data["fixes"] if built is not None else []
    for fix in inside:
        own[f"{folder}/{fix}.patch"] = decided.files[f"{fix}.patch"]
    module = None
    if built is not None:
        path, data, report = f"{folder}/{name}.ko", built.files["module.ko"], built.files["report.json"]
        if key is not None:
            data = signed(data, key, run.plan.directory.path / folder_of(number) / path)
            report = report_of(report, data)
        own |= {path: data, f"{folder}/report.json": report}
        own[f"{folder}/proof.json"] = built.files["proof.json"]
        about = {"name": built.data["name"], "sha256": digest(data), "bytes": len(data)}
        module = {"path": path, **about, "functions": built.data["functions"]}
    if ran is not None:
        own[f"{folder}/vm.json"] = ran.files["vm.json"]
    older = run.plan.older.get(kernel, ())
    on_top = None
    if older and built is not None and before is not None:
        on_top = {
            "release": before.number,
            "path": f"{folder_of(before.number)}/{folder}/{older[0][0]}",
            "sha256": digest(older[0][1]),
        }
    taken = built.data["taken_back"] if built is not None else []
    row = {
        "kernel": known["kernel"],
        "requested": kernel,
        "release": known["release"],
        "version": known["version"],
        "build_id": known["build_id"],
        "compiler": known["compiler"],
        "folder": folder,
        "status": "built" if built is not None else "nothing",
        "fixes": [_cell(results, kernel, cell, folder, inside) for cell in decided.data["fixes"]],
        "module": module,
        "on_top_of": on_top,
        "taken_back": [{"object": t["object"], "function": t["name"], "module": t["module"]} for t in taken],
        "report": f"{folder}/report.json" if built is not None else None,
        "proof": f"{folder}/proof.json" if built is not None else None,
        "vm": f"{folder}/vm.json" if ran is not None else None,
        "booted": {"verdict": ran.data["verdict"], "steps": ran.data["steps"]} if ran is not None else None,
        "warnings": built.data["warnings"] if built is not None else [],
    }
    return row, own


def _cell(
    results: Mapping[JobId, JobResult], kernel: str, cell: Mapping[str, Any], folder: str, inside: Sequence[str]
) -> dict[str, Any]:
    fix = cell["fix"]
    fact = cell["fact"]
    impact = results.get(JobId(kernel, IMPACT, fix))
    if impact is not None and impact.status == NOTHING:
        fact = impact.errors[0]["fact"] if impact.errors else "changes no code that runs"
    path = f"{folder}/{fix}.patch" if fix in inside else None
    return {"id": fix, "state": cell["state"], "code": cell["code"], "fact": fact, "patch": path}


def _fix_row(fix: Fix, number: int, before: Before | None) -> dict[str, Any]:
    earlier = {row["id"]: row["release"] for row in before.manifest["fixes"]} if before is not None else {}
    metadata = fix.metadata
    return {
        "id": fix.id,
        "cves": list(fix.cves),
        "subject": metadata.subject,
        "commit": metadata.commit,
        "fixes": list(metadata.fixes),
        "release": earlier.get(fix.id, fix.entry.release or number),
        "inputs": [{"path": path, "sha256": digest(data)} for path, data in sorted(fix.inputs.items())],
    }


def _undecided(run: MatrixRun) -> list[ErrorRow]:
    """Fixes of which it is not known whether a kernel needs them, though its jobs came to their end."""
    return [
        error_row(cell["code"], cell["fact"], f"{row['requested']}/{cell['fix']}", "run it again")
        for row in run.rows()
        for cell in row["fixes"]
        if cell["state"] == UNKNOWN and row["error"] is None
    ]
