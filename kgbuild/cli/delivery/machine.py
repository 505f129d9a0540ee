# SPDX-License-Identifier: GPL-2.0-or-later
"""`kgbuild load`, `unload`, `status`, `rollback` and `install`: the script `livepatch`, for who has kgbuild."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from kgbuild.cli import options
from kgbuild.cli.contract.commands import KgbuildCommand
from kgbuild.diagnostics.run_errors import MACHINE, RULES
from kgbuild.report.documents import error_row, schema_name
from kgbuild.report.formats import Answer

timeout_option = click.option(
    "--timeout",
    type=click.IntRange(0),
    default=60,
    show_default=True,
    metavar="SECONDS",
    help="Reverse a transition that takes longer; 0 waits for ever.",
)
unpatch_option = click.option(
    "--allow-unpatch", is_flag=True, help="Accept that functions of other patches are not patched any more."
)


def _run(words: Sequence[str], common: options.Common) -> None:
    """Run the script, and end with its status: a line for each that it printed, or the document."""
    from kgbuild.host.delivery.machine import run_livepatch

    loud = common.form == "text" and not common.quiet
    heard: list[str] = []

    def tell(line: str) -> None:
        heard.append(line)
        if loud or not line.startswith(" "):
            click.echo(line, err=True)

    status, said = run_livepatch(words, tell)
    report = _read(said) if words[0] == "status" else None
    lines = said.splitlines() if report is None else []
    errors = [_row(words[0], heard, report)] if status else []

    def data() -> dict[str, Any]:
        return {"schema": schema_name("livepatch"), "command": words[0], "said": lines, "status": report}

    def text(unicode: bool) -> Iterator[str]:
        del unicode
        yield from lines

    if report is not None and common.form == "text":
        common.deliver(Answer(data, lambda _: status_lines(report)), status=status, errors=errors)
    else:
        common.deliver(Answer(data, text), unless_quiet=True, status=status, errors=errors)
    if status:
        raise click.exceptions.Exit(status)


def _row(command: str, heard: Sequence[str], report: dict[str, Any] | None) -> dict[str, str]:
    said = [line.removeprefix("livepatch: ") for line in heard if line.startswith("livepatch: ")]
    remedies = [line.strip().removeprefix("-> ") for line in heard if line.strip().startswith("-> ")]
    state = f"the kernel is {str(report['state']).replace('-', ' ')}" if report is not None else f"{command} failed"
    return error_row(MACHINE, said[-1] if said else state, "", remedies[-1] if remedies else RULES[MACHINE].remedy)


def _read(said: str) -> dict[str, Any] | None:
    try:
        value = json.loads(said)
    except ValueError:
        return None
    return {k: v for k, v in value.items() if k != "schema"} if isinstance(value, dict) else None


def status_lines(report: dict[str, Any]) -> Iterator[str]:
    """What is patched, a line each."""
    import datetime

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


@click.command(cls=KgbuildCommand)
@options.common_options()
def status(common: options.Common) -> None:
    """Show how the running kernel is patched: each patch with release, CVEs, state, functions, and what it waits for.

    \b
    Example:
      kgbuild status
    """
    _run(["status", "--json"], common)


@click.command(cls=KgbuildCommand)
@click.argument("module", metavar="PATCH.ko", type=click.Path(path_type=Path))
@timeout_option
@unpatch_option
@options.common_options()
def load(module: Path, timeout: int, allow_unpatch: bool, common: options.Common) -> None:
    """Load PATCH.ko into the running kernel, wait until every task uses it, or take it back.

    \b
    Example:
      kgbuild load livepatch-3.ko
    """
    more = ["--allow-unpatch"] if allow_unpatch else []
    _run(["load", "--timeout", str(timeout), *more, "--", str(module)], common)


@click.command(cls=KgbuildCommand)
@click.argument("name", default="", metavar="[NAME]")
@timeout_option
@options.common_options()
def unload(name: str, timeout: int, common: options.Common) -> None:
    """Disable a live patch and remove its module. NAME is the module's, where several are loaded.

    \b
    Example:
      kgbuild unload
    """
    _run(["unload", "--timeout", str(timeout), *(["--", name] if name else [])], common)


@click.command(cls=KgbuildCommand)
@click.argument("module", metavar="PATCH.ko", type=click.Path(path_type=Path))
@timeout_option
@unpatch_option
@click.option("--no-load", is_flag=True, help="Load it at the next boot only.")
@options.common_options()
def install(module: Path, timeout: int, allow_unpatch: bool, no_load: bool, common: options.Common) -> None:
    """Keep PATCH.ko for every boot of its kernel, and load it if that is the one that runs.

    The packages of kgbuild package do the same, and bring what loads it at boot.

    \b
    Example:
      kgbuild install livepatch-3.ko
    """
    more = [*(["--allow-unpatch"] if allow_unpatch else []), *(["--no-load"] if no_load else [])]
    _run(["install", "--timeout", str(timeout), *more, "--", str(module)], common)


@click.command(cls=KgbuildCommand)
@timeout_option
@options.common_options()
def rollback(timeout: int, common: options.Common) -> None:
    """Go back to the release before, or to the kernel as it was; also at the next boots.

    \b
    Example:
      kgbuild rollback
    """
    _run(["rollback", "--timeout", str(timeout)], common)
