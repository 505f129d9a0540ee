# SPDX-License-Identifier: GPL-2.0-or-later
"""`kgbuild doctor`: what kgbuild needs on this machine, and the one command that installs what is missing."""

from __future__ import annotations

from collections.abc import Iterator

import click

from kgbuild.cli import options, ui
from kgbuild.cli.contract.commands import KgbuildCommand
from kgbuild.errors import ToolError
from kgbuild.pipeline.doctor import MISSING, OK, Diagnosis, diagnose
from kgbuild.report.documents import error_row
from kgbuild.report.formats import Answer

_COLOURS = {OK: "green", MISSING: "red"}


@click.command(cls=KgbuildCommand, short_help="Show what is missing on this machine.")
@options.common_options()
@click.pass_context
def doctor(
    context: click.Context,
    common: options.Common,
) -> None:
    """Show what kgbuild needs on this machine, and the one command that installs what is missing.

    Changes nothing.

    \b
    Example:
      kgbuild doctor
      kgbuild doctor --format json
    """
    diagnosis = diagnose()
    colour = ui.colour_wanted(common.no_color)
    missing = [check for check in diagnosis.checks if check.state == MISSING]
    errors = [error_row(ToolError.code, check.detail, check.name, diagnosis.fix) for check in missing]
    answer = Answer(diagnosis.to_json, lambda _: _lines(diagnosis, colour, common.quiet))
    status = 0 if diagnosis.healthy else ToolError.exit_code
    common.deliver(answer, status=status, errors=errors)
    context.exit(status)


def _lines(diagnosis: Diagnosis, colour: bool, quiet: bool) -> Iterator[str]:
    """Every check; with `quiet`, only what is needed and missing."""
    width = max(len(check.name) for check in diagnosis.checks)
    shown_checks = [check for check in diagnosis.checks if not quiet or check.state == MISSING]
    for check in shown_checks:
        state = f"{check.state:<9}"
        shown = click.style(state, fg=_COLOURS.get(check.state, "yellow")) if colour else state
        yield f"{shown} {check.name:<{width}}  {check.detail}"
    if quiet and diagnosis.healthy:
        return
    if diagnosis.fix:
        yield f"\nto fix    {diagnosis.fix}"
    elif diagnosis.healthy:
        yield "\nnothing is missing"
