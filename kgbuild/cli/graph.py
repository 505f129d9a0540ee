# SPDX-License-Identifier: GPL-2.0-or-later
"""`kgbuild graph` and `kgbuild facts`: questions to the index of a kernel."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from kgbuild.cli import options
from kgbuild.cli.contract.commands import KgbuildCommand
from kgbuild.cli.contract.completers import complete_functions
from kgbuild.host.system.output_kinds import ANSWER

if TYPE_CHECKING:
    from kgbuild.model import ToolChoice

_output = click.option(
    "-o", "--output", type=options.OutputFile(ANSWER, is_answer=True), metavar="FILE", help="Write it here."
)


@click.command(cls=KgbuildCommand, short_help="Show who calls a function, or what it calls.")
@options.kernel_option
@click.option("--callers", shell_complete=complete_functions, metavar="NAME", help="Show what leads to this function.")
@click.option("--callees", shell_complete=complete_functions, metavar="NAME", help="Show what this function leads to.")
@click.option(
    "--reach",
    "reached",
    shell_complete=complete_functions,
    metavar="NAME",
    help="Show what can reach this function: callers, and the data and exports that lead to them.",
)
@click.option("--depth", type=click.IntRange(1), help="Steps away from it [1; with --reach 6].")
@click.option("--limit", type=click.IntRange(0), default=200, show_default=True, help="Functions shown; 0: all.")
@_output
@options.jobs_option
@options.tool_options
@options.common_options("dot", "graphml", "mermaid", about="Tree, or a graph for other programs.")
def graph(
    kernel_name: str,
    callers: str | None,
    callees: str | None,
    reached: str | None,
    depth: int | None,
    limit: int,
    output: Path | None,
    jobs: int,
    tools: ToolChoice,
    common: options.Common,
) -> None:
    """Show the call graph of vmlinux and all modules around one function, with the place of each reference.

    NAME may be NAME@UNIT, NAME@MODULE or NAME,POSITION where several functions have one name. The first question to a
    kernel makes its index, which takes some seconds.

    --quiet gives the names of the functions alone, --verbose also the steps of the work.

    Calls through pointers are not in the graph. --reach shows for each function the data with its address (operations
    tables, initcalls), the users of that data, whether it is exported, and functions without a known way in.

    \b
    Example:
      kgbuild graph --kernel debian:newest-6.1-cloud --callers kfree_skb_reason --depth 2
    """
    if sum(name is not None for name in (callers, callees, reached)) != 1:
        raise click.UsageError("give one of --callers NAME, --callees NAME and --reach NAME")
    from kgbuild.callgraph.model import CALLEES, CALLERS
    from kgbuild.host.kernels.acquire import ensure_kernel
    from kgbuild.pipeline.call_graph import REACH, ask_calls

    out = common.output(output)
    kernel = ensure_kernel(kernel_name, progress=out, offline=common.offline, jobs=jobs, choice=tools)
    question = CALLERS if callers is not None else CALLEES if callees is not None else REACH
    name = callers or callees or reached or ""
    found = ask_calls(kernel, name, question, out, depth=depth, limit=limit)
    from kgbuild.report.callgraph import answer_of_calls, summarise_ways

    answer = answer_of_calls(found)
    if common.quiet:
        answer = answer._replace(lines=lambda unicode: [function.name for function in found.functions.values()])
    common.deliver(answer, output, out=out)
    if reached is not None and not out.replaced:
        out.line("reach", summarise_ways(found))
    if not found.complete and (out.replaced or output is not None):
        total = max(found.uncut.values())
        click.echo(f"not complete: {len(found.functions)} functions (--limit {limit}), one has {total}", err=True)


@click.command(cls=KgbuildCommand, short_help="Show what is known about one function.")
@click.argument("function", shell_complete=complete_functions)
@options.kernel_option
@click.option("--limit", type=click.IntRange(0), default=20, show_default=True, help="Rows of each list; 0: all.")
@_output
@options.jobs_option
@options.tool_options
@options.common_options()
def facts(
    function: str,
    kernel_name: str,
    limit: int,
    output: Path | None,
    jobs: int,
    tools: ToolChoice,
    common: options.Common,
) -> None:
    """Show what gcc made of FUNCTION, who reaches it, and whether it can be redirected.

    Clones and halves, what it shares its address with, what it is inlined into, direct callers, code and data that
    hold its address. FUNCTION may be NAME@UNIT, NAME@MODULE or NAME,POSITION where several have one name. --verbose
    shows every list in full, --quiet only whether the function can be redirected.

    \b
    Example:
      kgbuild facts do_epoll_pwait.part.0 --kernel debian:newest-6.1-cloud
    """
    from kgbuild.host.kernels.acquire import ensure_kernel
    from kgbuild.pipeline.function_facts import ask_facts
    from kgbuild.report.function_facts import answer_of_facts

    out = common.output(output)
    kernel = ensure_kernel(kernel_name, progress=out, offline=common.offline, jobs=jobs, choice=tools)
    found = ask_facts(kernel, function, out, limit=0 if common.verbose else limit)
    answer = answer_of_facts(found)
    if common.quiet:
        verdict = "can be redirected" if found.traceable else f"can't be redirected: {found.why_not_redirectable}"
        answer = answer._replace(lines=lambda unicode: [f"{found.function.name}: {verdict}"])
    common.deliver(answer, output, out=out)
