# SPDX-License-Identifier: GPL-2.0-or-later
"""`kgbuild reproduce`: builds a module again by its provenance, and compares."""

from __future__ import annotations

from pathlib import Path

import click

from kgbuild.cli import options
from kgbuild.cli.contract.commands import KgbuildCommand
from kgbuild.diagnostics.run_errors import REPRODUCED, RULES
from kgbuild.report.documents import error_row, schema_name
from kgbuild.report.formats import Answer


@click.command(cls=KgbuildCommand)
@click.argument("module", metavar="PATCH.ko", type=click.Path(path_type=Path))
@click.option(
    "--provenance",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="What build --provenance wrote.",
)
@click.option(
    "--input",
    "inputs",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.ko",
    help="A module that the build was given, as with --on-top-of (repeatable).",
)
@click.option(
    "--certificate",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="CERT",
    help="Refuse a provenance that is not signed by the key of this certificate (PEM).",
)
@click.option("--mirror", default="", metavar="URL", help="Mirror of the kernel's distribution.")
@options.jobs_option
@options.common_options()
def reproduce(
    module: Path,
    provenance: Path,
    inputs: tuple[Path, ...],
    certificate: Path | None,
    mirror: str,
    jobs: int,
    common: options.Common,
) -> None:
    """Fetch the kernel and the compiler that a provenance names, build PATCH.ko again from the patches in it, and say
    whether the bytes are the same; where not, which section differs and why. Signatures are left out.

    \b
    Example:
      kgbuild reproduce livepatch-3.ko --provenance livepatch-3.intoto.json
    """
    from kgbuild.cli.build_lines import BuildLines
    from kgbuild.pipeline.delivery.provenance import reproduce as run_reproduce

    out = common.output()
    done = run_reproduce(
        module,
        provenance,
        BuildLines(out),
        inputs=inputs,
        certificate=certificate,
        jobs=jobs,
        offline=common.offline,
        mirror=mirror,
    )
    rows = [{"part": d.part, "why": d.why} for d in done.differences]
    fact = f"{len(rows)} sections differ" if rows else "the same sections lie in other places"
    errors = [] if done.same else [error_row(REPRODUCED, fact, str(module), RULES[REPRODUCED].remedy)]
    data = {
        "schema": schema_name("reproduce"),
        "same": done.same,
        "module_sha256": done.given,
        "built_sha256": done.built,
        "differences": rows,
        "notes": list(done.notes),
        "signed": done.signed,
    }
    common.deliver(Answer(lambda: data), status=0 if done.same else 1, errors=errors)
    for note in done.notes:
        out.line("note", note)
    if done.same:
        out.line("verdict", "same bytes", style="green")
        return
    for row in rows:
        out.line("differs", f"{row['part']}: {row['why']}")
    out.line("verdict", fact, style="red")
    raise click.exceptions.Exit(1)
