# SPDX-License-Identifier: GPL-2.0-or-later
"""`kgbuild graph` and `kgbuild facts`: questions to the index of a kernel."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kgbuild.cli import options
from kgbuild.cli.ui import Output

if TYPE_CHECKING:
    from kgbuild.callgraph.function_facts import FunctionFacts
    from kgbuild.callgraph.traversal import Reached
    from kgbuild.host.index.queries import Index

_output = click.option("-o", "--output", type=options.OutputFile(), metavar="FILE", help="Write it here.")
_format = click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "dot", "graphml"]),
    default="text",
    show_default=True,
    help="Tree, or a graph for other programs.",
)


@click.command(short_help="Show who calls a function, or what it calls.")
@options.kernel_option
@click.option("--callers", metavar="NAME", help="Show what leads to this function.")
@click.option("--callees", metavar="NAME", help="Show what this function leads to.")
@click.option(
    "--reach",
    "reached",
    metavar="NAME",
    help="Show what can reach this function: callers, and the data and exports that lead to them.",
)
@click.option("--depth", type=click.IntRange(1), help="Steps away from it [1; with --reach 6].")
@click.option("--limit", type=click.IntRange(0), default=200, show_default=True, help="Functions shown; 0: all.")
@_output
@options.jobs_option
@options.common_options_with(_format)
def graph(
    kernel_name: str,
    callers: str | None,
    callees: str | None,
    reached: str | None,
    depth: int | None,
    limit: int,
    output: Path | None,
    jobs: int,
    common: options.Common,
) -> None:
    """Show the call graph of vmlinux and all modules around one function, with the place of each reference.

    NAME may be NAME@UNIT, NAME@MODULE or NAME,POSITION where several functions have one name. The first question to a
    kernel makes its index, which takes some seconds.

    A call through a pointer shows nowhere. --reach says with each function which data holds its address (operations
    tables, initcalls) and who uses that, whether it is exported, and what has no way in that is known.

    \b
    Example:
      kgbuild graph --kernel debian:newest-6.1-cloud --callers kfree_skb_reason --depth 2
    """
    if sum(name is not None for name in (callers, callees, reached)) != 1:
        raise click.UsageError("say one of --callers NAME, --callees NAME and --reach NAME")
    from kgbuild.callgraph.model import CALLEES, CALLERS
    from kgbuild.callgraph.traversal import reach, reach_inlined, reach_with_ways
    from kgbuild.host.index.schema import NoBody
    from kgbuild.host.index.store import with_index
    from kgbuild.host.kernels.acquire import ensure_kernel
    from kgbuild.pipeline.function_facts import inlined_into

    out, form = _to_terminal(common, output), common.form
    kernel = ensure_kernel(kernel_name, progress=out, offline=common.offline, jobs=jobs)
    direction = CALLEES if callees is not None else CALLERS

    def answer(index: Index) -> Reached:
        name = callers or callees or reached or ""
        try:
            root = index.choose(name).id
        except NoBody:
            if callers is None:
                raise
            return reach_inlined(index, name, inlined_into(index, name, limit), depth or 1, limit)
        if reached is not None:
            return reach_with_ways(index, root, depth or 6, limit)
        return reach(index, root, direction, depth or 1, limit)

    found = with_index(kernel, out, answer)
    _write("\n".join(_lines(found, form)) + "\n", output, out)
    if common.report is not None:
        options.write_file(common.report, ("\n".join(_lines(found, "json")) + "\n").encode())
    if reached is not None and form == "text":
        from kgbuild.report.callgraph import summarise_ways

        out.line("reach", summarise_ways(found))
    if not found.complete and (form != "text" or output is not None):
        total = max(found.uncut.values())
        click.echo(f"not complete: {len(found.functions)} functions (--limit {limit}), one has {total}", err=True)


def _lines(found: Reached, form: str) -> list[str]:
    from kgbuild.report.callgraph import graph_json, render_dot, render_graphml, render_tree

    match form:
        case "json":
            return [json.dumps(graph_json(found), indent=1)]
        case "dot":
            return list(render_dot(found))
        case "graphml":
            return list(render_graphml(found))
        case _:
            return list(render_tree(found, unicode=_unicode()))


def _to_terminal(common: options.Common, output: Path | None) -> Output:
    """Lines about the work itself: not where the answer takes their place."""
    quiet = common.quiet or (common.form != "text" and output is None)
    return Output(quiet=quiet, verbose=common.verbose, no_color=common.no_color)


def _unicode() -> bool:
    return "utf" in (sys.stdout.encoding or "").lower()


def _write(text: str, path: Path | None, out: Output) -> None:
    if path is None:
        click.echo(text, nl=False)
        return
    options.write_file(path, text.encode())
    out.line("wrote", str(path))


@click.command(short_help="Show what is known about one function.")
@click.argument("function")
@options.kernel_option
@click.option("--limit", type=click.IntRange(0), default=20, show_default=True, help="Rows of each list; 0: all.")
@_output
@options.jobs_option
@options.common_options
def facts(
    function: str,
    kernel_name: str,
    limit: int,
    output: Path | None,
    jobs: int,
    common: options.Common,
) -> None:
    """Show what gcc made of FUNCTION, who reaches it, and whether it can be redirected.

    Clones and halves, what it shares its address with, what it is inlined into, direct callers, code and data that
    hold its address. FUNCTION may be NAME@UNIT, NAME@MODULE or NAME,POSITION where several have one name.

    \b
    Example:
      kgbuild facts do_epoll_pwait.part.0 --kernel debian:newest-6.1-cloud
    """
    from kgbuild.host.index.schema import NoBody
    from kgbuild.host.index.store import with_index
    from kgbuild.host.kernels.acquire import ensure_kernel
    from kgbuild.pipeline.function_facts import read_facts, read_inlined_facts
    from kgbuild.report.function_facts import facts_json, render_facts

    out, form = _to_terminal(common, output), common.form
    kernel = ensure_kernel(kernel_name, progress=out, offline=common.offline, jobs=jobs)

    def answer(index: Index) -> FunctionFacts:
        try:
            return read_facts(index, kernel, index.choose(function), limit)
        except NoBody:
            return read_inlined_facts(index, function, limit)

    found = with_index(kernel, out, answer)
    lines = [json.dumps(facts_json(found), indent=1)] if form == "json" else list(render_facts(found))
    _write("\n".join(lines) + "\n", output, out)
    if common.report is not None:
        options.write_file(common.report, (json.dumps(facts_json(found), indent=1) + "\n").encode())
