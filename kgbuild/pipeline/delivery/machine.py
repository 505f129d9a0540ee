# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs the script `livepatch` on this machine and reads what it says, for `kgbuild load`, `status` and the others."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from kgbuild.diagnostics.run_errors import MACHINE, RULES
from kgbuild.host.delivery.machine import run_livepatch
from kgbuild.report.documents import error_row, schema_name


class MachineAnswer(NamedTuple):
    """What a command of the script said: its exit status, the lines that it printed, the document of the kernel's state
    (None for commands that print none), and why it failed."""

    command: str
    status: int
    lines: tuple[str, ...]
    report: dict[str, Any] | None
    errors: tuple[dict[str, str], ...]

    def to_json(self) -> dict[str, Any]:
        """The answer as plain data (docs/schema/livepatch-1.json)."""
        named = schema_name("livepatch")
        return {"schema": named, "command": self.command, "said": list(self.lines), "status": self.report}


def run_command(words: Sequence[str], tell: Callable[[str], None]) -> MachineAnswer:
    """Run the script with `words`, the first of which is its command. `tell` gets each line of its standard error as it
    comes. Raises ToolError where there is no shell."""
    heard: list[str] = []

    def hear(line: str) -> None:
        heard.append(line)
        tell(line)

    status, said = run_livepatch(words, hear)
    report = read_status(said) if words[0] == "status" else None
    errors = (machine_error(words[0], heard, report),) if status else ()
    return MachineAnswer(words[0], status, tuple(said.splitlines()) if report is None else (), report, errors)


def machine_error(command: str, heard: Sequence[str], report: dict[str, Any] | None) -> dict[str, str]:
    """Why `livepatch COMMAND` failed, as an error row. `heard` are its lines on standard error, `report` what it said
    of the kernel (None for commands that say nothing of it)."""
    said = [line.removeprefix("livepatch: ") for line in heard if line.startswith("livepatch: ")]
    remedies = [line.strip().removeprefix("-> ") for line in heard if line.strip().startswith("-> ")]
    state = f"the kernel is {str(report['state']).replace('-', ' ')}" if report is not None else f"{command} failed"
    return error_row(MACHINE, said[-1] if said else state, "", remedies[-1] if remedies else RULES[MACHINE].remedy)


def read_status(said: str) -> dict[str, Any] | None:
    """What `livepatch status --json` printed, without the name of its schema; None where it is no such document."""
    try:
        value = json.loads(said)
    except ValueError:
        return None
    return {k: v for k, v in value.items() if k != "schema"} if isinstance(value, dict) else None


def status_lines(report: dict[str, Any]) -> Iterator[str]:
    """What is patched, a line each. `report` is a document of `read_status`."""

    yield f"kernel    {report['kernel']}" + (f"  taint {report['taint_flags']}" if report["taint_flags"] else "")
    for patch in report["patches"]:
        since = ""
        if patch["since"] is not None:
            when = datetime.datetime.fromtimestamp(patch["since"], datetime.UTC)
            since = f" since {when:%Y-%m-%d %H:%M} UTC"
        release = f"  release {patch['release']}" if patch["release"] is not None else ""
        other = "" if patch["made_by_kgbuild"] else "  (not made by kgbuild)"
        cves = "".join(f"  {cve}" for cve in patch["cves"])
        yield f"patch     {patch['name']}  {patch['state'].replace('-', ' ')}{since}{release}{cves}{other}"
        for part in patch["objects"]:
            count = len(part["functions"])
            waits = f" (waits for {part['name']} to be loaded)" if part["waiting"] else ""
            yield f"          {count} function{'s' * (count != 1)} in {part['name']}{waits}"
    if not report["patches"]:
        yield "patch     none"
    if report["tasks_left"] is not None:
        yield f"waits     {report['tasks_left']} tasks have not changed yet"
    yield f"boot      {report['at_boot'].replace('-', ' ')}" + (
        f" {report['installed']}" if report["installed"] else ""
    )
    yield f"verdict   {report['state'].replace('-', ' ')}"
