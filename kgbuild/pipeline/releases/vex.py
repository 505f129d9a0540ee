# SPDX-License-Identifier: GPL-2.0-or-later
"""`vex`: what modules and releases say of vulnerabilities, as documents."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kgbuild.diagnostics.fix_states import AFFECTED
from kgbuild.errors import UserError
from kgbuild.host.modules.files import read_module_bytes
from kgbuild.host.releases.release_files import read_release
from kgbuild.host.vm.patch_notes import note_in
from kgbuild.releases.answers import columns
from kgbuild.releases.manifest import MANIFEST
from kgbuild.releases.vex import FORMATS, Statement, render_vex
from kgbuild.report.documents import schema_name

_DATE = re.compile(r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\dZ")
_SHAPE = "%Y-%m-%dT%H:%M:%SZ"
_CVE = re.compile(r"CVE-\d{4}-\d{4,}")


def read_statements(paths: Sequence[Path]) -> tuple[list[Statement], int]:
    """What modules and directories of releases say, and the highest number of a release among them (0: none).

    Raises UserError for a file that is no module of kgbuild, and for one that does not say what it fixes.
    """
    out: list[Statement] = []
    release = 0
    for path in paths:
        found, number = _of_release(path) if path.is_dir() else _of_module(path)
        out += found
        release = max(release, number)
    if not out:
        given = ", ".join(map(str, paths))
        raise UserError("none of the fixes has a CVE number", place=given, remedy="add cves to their fix.toml")
    return out, release


def _of_module(path: Path) -> tuple[list[Statement], int]:
    data = read_module_bytes(path)
    note = note_in(data)
    kernel = note.get("kernel") if note is not None else None
    if note is None or not isinstance(kernel, dict):
        raise UserError("is no module that kgbuild made", place=str(path), remedy="give a module with its note")
    fixes = [one for one in note.get("fixes") or () if isinstance(one, str) and _CVE.fullmatch(one)]
    if not fixes:
        remedy = "build it with --cve CVE-2026-12345"
        raise UserError("does not say which CVE it fixes", place=str(path), remedy=remedy)
    digest = hashlib.sha256(data).hexdigest()
    name, version = str(kernel.get("name", "")), str(kernel.get("version", ""))
    release = note.get("release", 0)
    found = [Statement(cve, "", name, version, AFFECTED, "", _module_name(path), digest) for cve in fixes]
    return found, release if isinstance(release, int) else 0


def _module_name(path: Path) -> str:
    name = path.name
    for ending in (".xz", ".gz", ".zst"):
        name = name.removesuffix(ending)
    return name


def _of_release(path: Path) -> tuple[list[Statement], int]:
    found = re.fullmatch(r"release-(\d+)", path.resolve().name)
    manifest = read_release(path.resolve().parent, int(found[1])) if found is not None else None
    if manifest is None:
        fact = f"is no directory of a release: there is no {MANIFEST}, or it is not called release-N"
        raise UserError(fact, place=str(path), remedy="give a module, or a directory that kgbuild release made")
    return list(statements_of(manifest)), int(manifest["release"])


def statements_of(manifest: Mapping[str, Any]) -> Iterator[Statement]:
    """What a release says of each CVE and kernel, by its manifest."""
    for fix in manifest["fixes"]:
        for row in manifest["kernels"]:
            cell = next((cell for cell in row["fixes"] if cell["id"] == fix["id"]), None)
            if cell is None:
                continue
            module = row["module"] if cell["patch"] is not None else None
            name = module["path"].rpartition("/")[2] if module is not None else ""
            digest = module["sha256"] if module is not None else ""
            for cve in fix["cves"]:
                kernel, version = row["kernel"], row["version"]
                yield Statement(
                    cve, fix["subject"], kernel, version, cell["state"], cell["fact"], name, digest, fix["commit"]
                )


def vex_answer(statements: Sequence[Statement], release: int, date: str | None) -> dict[str, Any]:
    """The document of `vex` (docs/schema/vex-1.json): the statements, and the documents by the name of their format.
    Raises UserError for a date that is none."""
    when = check_date(date) if date is not None else _now()
    return {
        "schema": schema_name("vex"),
        "date": when,
        "release": release,
        "statements": [
            {
                "cve": one.cve,
                "kernel": one.kernel,
                "version": one.version,
                "status": one.status,
                "module": one.module or None,
                "sha256": one.sha256 or None,
                "fact": one.fact,
            }
            for one in statements
        ],
        "documents": {name: render_vex(name, statements, release, when) for name in FORMATS},
    }


def check_date(text: str) -> str:
    """A date of RFC 3339 in UTC. Raises UserError for another text."""
    try:
        if _DATE.fullmatch(text):
            time.strptime(text, _SHAPE)
            return text
    except ValueError:
        pass
    raise UserError("is no date in UTC", place=text, remedy="for example 2026-11-02T10:00:00Z")


def _now() -> str:
    """SOURCE_DATE_EPOCH (reproducible-builds.org), else the time of the clock."""
    said = os.environ.get("SOURCE_DATE_EPOCH", "")
    seconds = int(said) if said.isdecimal() and len(said) < 12 else time.time()
    return time.strftime(_SHAPE, time.gmtime(seconds))


def vex_lines(answer: Mapping[str, Any]) -> Iterator[str]:
    """The statements as a table."""
    yield from columns(
        [row["cve"], row["kernel"], row["status"], f"fixed by {row['module']}" if row["module"] else row["fact"]]
        for row in answer["statements"]
    )
