# SPDX-License-Identifier: GPL-2.0-or-later
"""`kgbuild report`: a page, or a format for merge requests and CI, of a report that an earlier run wrote."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from kgbuild.cli import options
from kgbuild.cli.contract.commands import KgbuildCommand
from kgbuild.errors import UserError
from kgbuild.host.system.output_kinds import PAGE
from kgbuild.report.documents import schema_name
from kgbuild.report.formats import FOR_REVIEW, Answer
from kgbuild.report.formats.json import JSON
from kgbuild.report.formats.text import TEXT

_SHOWN = ("build", "impact", "estimate", "vm", "audit", "matrix", "release", "verify", "error")


def _default_page(values: Mapping[str, Any]) -> Path | None:
    """Where the page is written if nothing is said: beside the first report, unless another format is wanted."""
    return Path(Path(values["reports"][0]).stem + ".html") if values["form"] in (TEXT.name, JSON.name) else None


@click.command(cls=KgbuildCommand, short_help="Make a page or a comment of a run's report.")
@click.argument(
    "reports",
    metavar="REPORT.json...",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
)
@click.option(
    "-o",
    "--output",
    type=options.OutputFile(PAGE, fallback=_default_page),
    metavar="FILE.html",
    help="Page to write [name of the first report, with .html]; - is standard output.",
)
@options.common_options(*FOR_REVIEW, about="Normal output: text, JSON, or the first report in another form.")
def report(reports: tuple[Path, ...], output: Path | None, common: options.Common) -> None:
    """Make a page for reviewers of the reports that `build`, `impact`, `vm` and `audit` wrote.

    The page is one file that loads nothing. The report of a build and that of vm for its module make one page. With
    --format markdown, sarif, junit or github the first report is printed in that form instead.

    \b
    Example:
      kgbuild report fix.json vm.json -o fix.html
    """
    from kgbuild.cli.review.pages import answer_of, make_page, read_document

    out = common.output()
    documents = [read_document(path) for path in reports]
    for path, document in zip(reports, documents, strict=True):
        name = document["schema"].split("/")[1]
        if name not in _SHOWN:
            raise UserError(f"is a document of {name}, of which there is no page", place=str(path))
    size = 0
    if output is not None:
        page = make_page(documents).encode("utf-8", "backslashreplace")
        size = len(page)
        common.write(output, page)
    if common.form in (TEXT.name, JSON.name):
        written = {
            "schema": schema_name("page"),
            "schema_version": 1,
            "reports": [str(path) for path in reports],
            "page": str(output) if output is not None else None,
            "bytes": size,
        }
        common.deliver(Answer(lambda: written))
        out.line("wrote", f"{output}  {size / 1024:.0f} KiB")
        for path, document in zip(reports, documents, strict=True):
            out.note(f"{path}  {document['schema']}")
        return
    answer, status, errors = answer_of(documents[0], common.form)
    common.deliver(answer, status=status, errors=errors)
