# SPDX-License-Identifier: GPL-2.0-or-later
"""`kgbuild backport`: the patch of a fix for a kernel that it conflicts with."""

from __future__ import annotations

from pathlib import Path

import click

from kgbuild.cli import options
from kgbuild.cli.contract.commands import KgbuildCommand
from kgbuild.cli.releases.shared import directory_option
from kgbuild.report.formats import Answer


@click.command(cls=KgbuildCommand, short_help="Write a fix's patch for a kernel that it conflicts with.")
@click.argument("fix")
@options.kernel_option
@directory_option
@click.option(
    "--git",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    metavar="TREE",
    help="A kernel's git tree that has the fix's commit: files are merged three-way.",
)
@click.option("--replace", is_flag=True, help="Replace a patch for this kernel that is there already.")
@options.jobs_option
@options.common_options()
@click.pass_context
def backport(
    context: click.Context,
    fix: str,
    kernel_name: str,
    root: Path,
    git: Path | None,
    replace: bool,
    jobs: int,
    common: options.Common,
) -> None:
    """Write the patch of FIX for one kernel: fixes/FIX/RELEASE.patch, for review. Changes go where their context is, or
    to the nearest place that they fit; each that is not exact is named. Nothing uses the patch until fix.toml names it.

    \b
    Example:
      kgbuild backport CVE-2026-12345 --kernel debian:newest-6.12-deb12-cloud
    """
    from kgbuild.host.releases.directory import read_directory
    from kgbuild.pipeline.releases.backport import NotPorted, make_backport, names_patch
    from kgbuild.report.documents import schema_name

    out = common.output()
    directory = read_directory(root)
    known = directory.fixes[directory.config.fix(fix).id]
    try:
        made = make_backport(
            directory, known, kernel_name, out, git=git, offline=common.offline, jobs=jobs, force=replace
        )
    except NotPorted as error:
        data: dict[str, object] = {
            "schema": schema_name("backport"),
            "fix": fix,
            "kernel": kernel_name,
            "path": None,
            "notes": [],
        }
        common.deliver(Answer(lambda: data), status=1, errors=error.rows)
        for row in error.rows:
            out.say(f"{row['code']}   {row['place']}\n  {row['fact']}\n  -> {row['remedy']}", err=True)
        context.exit(1)
    answer = {
        "schema": schema_name("backport"),
        "fix": fix,
        "kernel": made.kernel.id.name,
        "path": made.path,
        "notes": list(made.notes),
    }
    common.deliver(Answer(lambda: answer))
    for note in made.notes:
        out.line("review", note)
    out.line("wrote", str(root / made.path))
    if not names_patch(known, made.kernel):
        line = f'[patches] "{made.kernel.id.name}" = "{made.kernel.id.release}.patch"'
        out.line("next", f"review it, then name it in {root / known.entry.folder / 'fix.toml'}: {line}")
