# SPDX-License-Identifier: GPL-2.0-or-later
"""Options that the commands over a directory of fixes share."""

from __future__ import annotations

from pathlib import Path

import click

directory_option = click.option(
    "-C",
    "--directory",
    "root",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    metavar="DIR",
    help="The directory of fixes [here].",
)
kernels_option = click.option(
    "--kernels",
    multiple=True,
    metavar="PATTERN",
    help="Only these kernels: a name, a pattern or a @group (repeatable) [those of kgbuild.toml].",
)
