# SPDX-License-Identifier: GPL-2.0-or-later
"""`kgbuild matrix`: all fixes of a directory on all kernels, as one table."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kgbuild.cli import options
from kgbuild.cli.contract.commands import KgbuildCommand
from kgbuild.cli.releases.pages import html_option, kernel_files, write_pages
from kgbuild.cli.releases.shared import directory_option, kernels_option
from kgbuild.report.formats import Answer

if TYPE_CHECKING:
    from kgbuild.cli.ui import Output
    from kgbuild.model import ToolChoice
    from kgbuild.releases.job_graph import JobResult


@click.command(cls=KgbuildCommand, short_help="Try all fixes on all kernels, as one table.")
@click.argument("fixes", nargs=-1, metavar="[FIX]...")
@directory_option
@kernels_option
@click.option(
    "--build", is_flag=True, help="Build a module for each kernel, of all fixes that it needs, and verify it."
)
@click.option("--vm", "boot", is_flag=True, help="Boot each module too; implies --build.")
@click.option("--resume", is_flag=True, help="Take what an earlier run has found for the same inputs.")
@click.option("--fail-fast", is_flag=True, help="Begin nothing more after the first refusal or failure.")
@click.option("--accel", type=click.Choice(["auto", "kvm", "tcg"]), default="auto", help="How QEMU runs guests.")
@click.option(
    "--timeout", type=click.IntRange(10), default=600, show_default=True, metavar="SECONDS", help="For one boot."
)
@click.option(
    "--dask",
    metavar="ADDRESS",
    help="Run the jobs on this Dask scheduler (tcp://HOST:PORT), or on one of this machine (local).",
)
@html_option
@options.jobs_option
@options.tool_options
@options.common_options()
@click.pass_context
def matrix(
    context: click.Context,
    fixes: tuple[str, ...],
    root: Path,
    kernels: tuple[str, ...],
    build: bool,
    boot: bool,
    resume: bool,
    fail_fast: bool,
    accel: str,
    timeout: int,
    dask: str | None,
    html: Path | None,
    jobs: int,
    tools: ToolChoice,
    common: options.Common,
) -> None:
    """Try the fixes of a directory on its kernels: which are affected, what a patch would touch, with --build a module
    for each kernel, with --vm booted. A row that fails leaves the others alone, and what is done is kept.

    \b
    Example:
      kgbuild matrix --build --vm --resume
    """
    from kgbuild.cli.releases.matrix_lines import matrix_lines
    from kgbuild.host.releases.directory import read_directory
    from kgbuild.host.releases.store import ResultStore
    from kgbuild.pipeline.releases.kernels import choose_kernels
    from kgbuild.pipeline.releases.matrix import Plan, matrix_errors, matrix_status, run_matrix
    from kgbuild.pipeline.releases.options import build_options, open_workers

    out = common.output()
    directory = read_directory(root)
    chosen = directory.of(directory.config.choose(fixes))
    names = choose_kernels(directory.config, kernels, out, offline=common.offline, mirror=tools.mirror)
    workers = open_workers(jobs, dask)
    plan = Plan(
        directory,
        chosen,
        names,
        build or boot,
        boot,
        options=build_options(directory.config, workers.slots, jobs, common.offline, tools),
        accel=accel,
        timeout=timeout,
    )
    with shown(out, plan.kernels, [fix.id for fix in chosen]) as show:
        run = run_matrix(plan, workers, ResultStore(root), resume=resume, fail_fast=fail_fast, told=show)
    answer = run.to_json()
    status = matrix_status(run)
    errors = matrix_errors(run) if status else []
    write_pages(html, answer, kernel_files(run.graph.results.values()), common, status=status, errors=errors)
    common.deliver(Answer(lambda: answer, lambda _: matrix_lines(answer)), status=status, errors=errors)
    context.exit(status)


def shown(out: Output, kernels: Any, fixes: list[str]) -> AbstractContextManager[Any]:
    """What shows each result as it comes: a live table on a terminal, else a line for each job."""
    if not out.quiet and sys.stderr.isatty():
        from kgbuild.cli.releases.matrix_lines import LiveTable

        return LiveTable(kernels, fixes)
    return nullcontext(lambda graph, result: _tell(out, result))


def _tell(out: Output, result: JobResult) -> None:
    for text in _told(result):
        out.line(result.id.step, text, None if result.resumed else result.seconds)


def _told(result: JobResult) -> Iterator[str]:
    kernel = result.id.kernel.partition(":")[2] or result.id.kernel
    what = " ".join(filter(None, (kernel, result.id.fix, "" if result.status == "done" else result.status)))
    more = result.errors[0]["fact"] if result.errors and result.status in ("failed", "refused") else ""
    yield what + (f": {more}" if more else "") + (" (from an earlier run)" if result.resumed else "")
