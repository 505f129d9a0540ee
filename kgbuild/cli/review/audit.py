# SPDX-License-Identifier: GPL-2.0-or-later
"""`kgbuild audit`: figures about a kernel, what in it stands in the way of live patches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kgbuild.cli import options
from kgbuild.cli.contract.commands import KgbuildCommand
from kgbuild.report.formats import Answer

if TYPE_CHECKING:
    from kgbuild.model import ToolChoice


@click.command(cls=KgbuildCommand, short_help="Count what in a kernel stands in the way of patches.")
@options.kernel_option
@click.option(
    "--sample",
    type=click.IntRange(0, 10_000),
    default=0,
    show_default=True,
    metavar="N",
    help="Also compile N units drawn at random, with each of gcc's optimisations switched off.",
)
@click.option("--seed", type=int, default=1, show_default=True, metavar="N", help="Draws other units.")
@options.html_option
@options.jobs_option
@options.tool_options
@options.common_options("csv", about="Lines, or all figures as JSON or as comma-separated values.")
def audit(
    kernel_name: str,
    sample: int,
    seed: int,
    html: Path | None,
    jobs: int,
    tools: ToolChoice,
    common: options.Common,
) -> None:
    """Count which of gcc's optimisations stand in the way of live patches of a kernel, and how often.

    All functions are counted, from the kernel's index and from the debugging information of vmlinux, in about a minute.
    With --sample also what it would cost to switch the optimisations off: some minutes for 20 units. --verbose lists
    all of the hundred functions that are hardest to patch.

    \b
    Example:
      kgbuild audit --kernel debian:newest-6.1-cloud --html audit.html
    """
    from kgbuild.cli.review.pages import write_page
    from kgbuild.host.kernels.acquire import ensure_kernel
    from kgbuild.pipeline.review.audit import audit as run_audit
    from kgbuild.report.page.figures import csv_rows, render_audit

    out = common.output()
    progress = common.details()
    kernel = ensure_kernel(kernel_name, progress=progress, offline=common.offline, jobs=jobs, choice=tools)
    found = run_audit(kernel, sample, progress, jobs, seed)
    document = found.to_json()

    def lines(unicode: bool) -> Iterator[str]:
        del unicode
        yield from render_audit(document, 100 if common.verbose else 10)

    write_page(html, lambda: document, common, status=0, errors=[])
    rows = Answer(lambda: document, lines, rows=lambda: [("kernel", "part", "name", "value"), *csv_rows(document)])
    common.deliver(rows, unless_quiet=True)
    if html is not None:
        out.line("page", str(html))
