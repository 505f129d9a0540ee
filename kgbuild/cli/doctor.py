# SPDX-License-Identifier: GPL-2.0-or-later
"""`kgbuild doctor`: what this machine has and lacks, and the one command that mends it."""

from __future__ import annotations

from dataclasses import asdict

import click

from kgbuild.cli import options, ui
from kgbuild.pipeline.doctor import MISSING, OK, Diagnosis, diagnose

_COLOURS = {OK: "green", MISSING: "red"}


@click.command(short_help="Show what this machine has and lacks.")
@options.common_options
@click.pass_context
def doctor(
    context: click.Context,
    common: options.Common,
) -> None:
    """Show what this machine has and lacks, and the one command that mends it.

    Changes nothing. Ends with 3 where something that is needed lacks.

    \b
    Example:
      kgbuild doctor
      kgbuild doctor --format json
    """
    diagnosis = diagnose()
    record = {
        "format": 1,
        "healthy": diagnosis.healthy,
        "mend": diagnosis.fix,
        "checks": [asdict(check) for check in diagnosis.checks],
    }
    common.write_report(record)
    if common.form == "text":
        _print(diagnosis, ui.colour_wanted(common.no_color), common.quiet)
    context.exit(0 if diagnosis.healthy else 3)


def _print(diagnosis: Diagnosis, colour: bool, quiet: bool) -> None:
    """Every check; with `quiet`, what is needed and lacks."""
    width = max(len(check.name) for check in diagnosis.checks)
    shown_checks = [check for check in diagnosis.checks if not quiet or check.state == MISSING]
    for check in shown_checks:
        state = f"{check.state:<9}"
        shown = click.style(state, fg=_COLOURS.get(check.state, "yellow")) if colour else state
        click.echo(f"{shown} {check.name:<{width}}  {check.detail}")
    if quiet and diagnosis.healthy:
        return
    if diagnosis.fix:
        click.echo(f"\nto mend   {diagnosis.fix}")
    elif diagnosis.healthy:
        click.echo("\nnothing lacks")
