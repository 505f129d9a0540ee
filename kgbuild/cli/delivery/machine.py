# SPDX-License-Identifier: GPL-2.0-or-later
"""`kgbuild load`, `unload`, `status`, `rollback` and `install`: the script `livepatch`, for who has kgbuild."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from kgbuild.cli import options
from kgbuild.cli.contract.commands import KgbuildCommand
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
    from kgbuild.pipeline.delivery.machine import run_command, status_lines

    loud = common.form == "text" and not common.quiet

    def tell(line: str) -> None:
        if loud or not line.startswith(" "):
            click.echo(line, err=True)

    said = run_command(words, tell)
    report = said.report

    def text(unicode: bool) -> Iterator[str]:
        del unicode
        yield from said.lines if report is None else status_lines(report)

    common.deliver(Answer(said.to_json, text), unless_quiet=report is None, status=said.status, errors=said.errors)
    if said.status:
        raise click.exceptions.Exit(said.status)


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
