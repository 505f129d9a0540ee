# SPDX-License-Identifier: GPL-2.0-or-later
"""`kgbuild doctor`: what this machine has and lacks, and the one command that mends it."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from kgbuild.cli import ui
from kgbuild.host.doctor import MISSING, OK, Diagnosis, diagnose

_COLOURS = {OK: "green", MISSING: "red"}


@click.command(short_help="Show what this machine has and lacks.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--no-color", is_flag=True, help="No colour (also: NO_COLOR).")
@click.pass_context
def doctor(context: click.Context, form: str, no_color: bool) -> None:
    """Show what this machine has and lacks, and the one command that mends it.

    Changes nothing. Ends with 3 where something that is needed lacks.

    \b
    Example:
      kgbuild doctor
      kgbuild doctor --format json
    """
    diagnosis = diagnose()
    if form == "json":
        record = {
            "format": 1,
            "healthy": diagnosis.healthy,
            "mend": diagnosis.mend,
            "checks": [asdict(check) for check in diagnosis.checks],
        }
        click.echo(json.dumps(record, indent=2))
    else:
        _print(diagnosis, ui.colour_wanted(no_color))
    context.exit(0 if diagnosis.healthy else 3)


def _print(diagnosis: Diagnosis, colour: bool) -> None:
    width = max(len(check.name) for check in diagnosis.checks)
    for check in diagnosis.checks:
        state = f"{check.state:<9}"
        shown = click.style(state, fg=_COLOURS.get(check.state, "yellow")) if colour else state
        click.echo(f"{shown} {check.name:<{width}}  {check.detail}")
    if diagnosis.mend:
        click.echo(f"\nto mend   {diagnosis.mend}")
    elif diagnosis.healthy:
        click.echo("\nnothing lacks")
