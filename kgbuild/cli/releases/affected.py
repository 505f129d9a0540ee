# SPDX-License-Identifier: GPL-2.0-or-later
"""`kgbuild affected`: which kernels have which fixes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from kgbuild.cli import options
from kgbuild.cli.contract.commands import KgbuildCommand
from kgbuild.cli.releases.shared import directory_option, kernels_option
from kgbuild.report.formats import Answer

if TYPE_CHECKING:
    from kgbuild.model import ToolChoice


@click.command(cls=KgbuildCommand, short_help="Show which kernels are affected by what fixes repair.")
@click.argument("fixes", nargs=-1, metavar="[FIX]...")
@directory_option
@kernels_option
@click.option(
    "--git",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    metavar="TREE",
    help="A kernel's git tree, in which the commits are looked for that fixes name (Fixes:).",
)
@options.jobs_option
@options.tool_options
@options.common_options()
@click.pass_context
def affected(
    context: click.Context,
    fixes: tuple[str, ...],
    root: Path,
    kernels: tuple[str, ...],
    git: Path | None,
    jobs: int,
    tools: ToolChoice,
    common: options.Common,
) -> None:
    """Show for each kernel and fix of a directory whether the kernel is affected, has the fix already, conflicts with
    it, or does not have the code, from its source and configuration. Nothing is compiled. --verbose tells of each hunk,
    --quiet only of kernels that are affected or can't be decided.

    \b
    Example:
      kgbuild affected CVE-2026-12345 --kernels 'debian:6.1*'
    """
    from kgbuild.host.releases.directory import read_directory
    from kgbuild.pipeline.releases.affected import find_affected
    from kgbuild.pipeline.releases.kernels import choose_kernels
    from kgbuild.releases.answers import affected_answer, affected_errors, affected_lines, affected_status

    out = common.details()
    directory = read_directory(root)
    chosen = directory.of(directory.config.choose(fixes))
    names = choose_kernels(directory.config, kernels, out, offline=common.offline, mirror=tools.mirror)
    rows = find_affected(directory, chosen, names, out, git=git, offline=common.offline, jobs=jobs, choice=tools)
    shown = [fix.id for fix in chosen]
    answer = affected_answer(shown, rows)
    status = affected_status(rows)
    errors = affected_errors(rows, status) if status else []
    common.deliver(
        Answer(lambda: answer, lambda _: affected_lines(answer, quiet=common.quiet, verbose=common.verbose)),
        status=status,
        errors=errors,
    )
    context.exit(status)
