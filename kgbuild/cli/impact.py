# SPDX-License-Identifier: GPL-2.0-or-later
"""`kgbuild impact` and `kgbuild why`: what a patch would touch, and why, without making a module."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kgbuild.cli import options
from kgbuild.cli.contract.commands import KgbuildCommand
from kgbuild.cli.contract.completers import complete_functions
from kgbuild.diagnostics.unused_options import unused_option
from kgbuild.errors import KgbuildError
from kgbuild.host.system.output_kinds import ANSWER
from kgbuild.report.documents import error_rows, nothing_to_patch, rows_of
from kgbuild.report.formats import FOR_REVIEW, Answer

if TYPE_CHECKING:
    from kgbuild.closure.model import Closure
    from kgbuild.host.compile.apply_patches import PatchInput
    from kgbuild.pipeline.stages.options import Options


def analysis_choices(command: Callable[..., None]) -> Callable[..., None]:
    """The options that limit an analysis."""
    for option in (
        click.option("--ignore-init", is_flag=True, help="Leave out changes to init code, which has run already."),
        click.option("--max-units", type=click.IntRange(1), default=100, show_default=True, help="Units of headers."),
        click.option("--max-pull", type=click.IntRange(0), default=20, show_default=True, help="Units of callers."),
        options.pull_option,
        click.option("--allow-compiler", is_flag=True, help="Accept another compiler than the kernel's."),
        click.option("--allow-unproven", multiple=True, metavar="NAME", help="Accept a unit or function as it is."),
        click.option(
            "--allow-type", multiple=True, metavar="NAME", help="Accept another layout of this type or variable."
        ),
        options.dynamic_keys_option,
        options.assume_callers_option,
        options.all_reasons_option,
        options.against_option,
        options.oot_options,
    ):
        command = option(command)
    return command


def analysis_options(jobs: int, common: options.Common, limits: dict[str, Any]) -> Options:
    """The options that limit an analysis, from the command line."""
    from kgbuild.pipeline.stages.options import Options

    return Options(
        allow_compiler=limits["allow_compiler"],
        allow_unproven=frozenset(limits["allow_unproven"]),
        allow_types=frozenset(limits["allow_type"]),
        ignore_init=limits["ignore_init"],
        jobs=jobs,
        offline=common.offline,
        max_units=limits["max_units"],
        max_pull=limits["max_pull"],
        pull=limits["pull"],
        against=limits["against"],
        make_index=True,
        oot=limits["oot"],
        oot_modules=limits["oot_modules"],
        tools=limits["tools"],
        all_reasons=limits["all_reasons"],
        dynamic_keys=not limits["no_dynamic_keys"],
        assume_in_tree_callers=limits["assume_in_tree_callers"],
    )


@click.command(cls=KgbuildCommand, short_help="Show what a patch would touch, and why.")
@click.argument("patches", nargs=-1, required=True, type=options.PatchFile())
@options.kernel_option
@click.option(
    "-o", "--output", type=options.OutputFile(ANSWER, is_answer=True), metavar="FILE", help="Write the answer here."
)
@click.option("--no-compile", is_flag=True, help="Estimate it from the sources and the kernel's debug information.")
@click.option("--accounting", is_flag=True, help="List every difference of the objects and what becomes of it.")
@click.option("--all", "every", is_flag=True, help="Show the lists of an estimate in full.")
@analysis_choices
@options.html_option
@options.jobs_option
@options.tool_options
@options.common_options("dot", "graphml", "mermaid", *FOR_REVIEW, about=options.ABOUT_REVIEW)
def impact(
    patches: tuple[PatchInput, ...],
    kernel_name: str,
    output: Path | None,
    no_compile: bool,
    accounting: bool,
    every: bool,
    html: Path | None,
    jobs: int,
    common: options.Common,
    **limits: Any,
) -> None:
    """Show what PATCHES would patch, pull in, refer to and be refused for, without making a module.

    The touched units are compiled, as for a build; with --no-compile nothing is, and the answer is an estimate
    (docs/impact.md says how good).

    \b
    Example:
      kgbuild impact examples/proc-version/fix.patch --kernel debian:newest-6.1-cloud
      kgbuild impact examples/proc-version/fix.patch --kernel debian:newest-6.1-cloud --no-compile
    """
    if no_compile:
        if accounting:
            raise click.UsageError("without compiling there are no objects to account for; leave out --accounting")
        if limits["oot"] is not None or limits["oot_modules"]:
            raise click.UsageError("an estimate is of the kernel's own code; leave out --no-compile or --oot")
        _estimate(patches, kernel_name, output, html, jobs, common, limits, every)
        return
    from kgbuild.cli.build_lines import BuildLines
    from kgbuild.cli.review.pages import write_page
    from kgbuild.cli.ui import show_error
    from kgbuild.diagnostics.refusals import Refused
    from kgbuild.pipeline.impact import find_impact, impact_report
    from kgbuild.pipeline.stages.trail import Trail
    from kgbuild.report.accounting import render_accounting
    from kgbuild.report.patch_graph import draw_patch, graph_of_closure, graph_of_patch
    from kgbuild.report.review.edits import edit_report, list_edits

    out = common.output(output)
    if output is not None and not out.replaced:
        raise click.UsageError("-o takes another --format than text, which goes to the terminal")
    trail = Trail(BuildLines(out))
    try:
        found = find_impact(patches, kernel_name, analysis_options(jobs, common, limits), trail)
    except KgbuildError as error:
        write_page(html, lambda: impact_report(trail), common, status=error.exit_code, errors=error_rows(error))
        failed = Answer(lambda: impact_report(trail))
        common.deliver_data(failed, status=error.exit_code, errors=error_rows(error))
        raise
    closure = found.closed.closure
    answer = Answer(
        found.to_json,
        drawing=lambda: draw_patch(graph_of_closure(closure, trail.edits)),
        graph=lambda: graph_of_patch(graph_of_closure(closure, trail.edits)),
    )
    refusals = closure.refusals
    write_page(html, found.to_json, common, status=1 if refusals else 0, errors=rows_of(refusals))
    common.deliver(answer, output, out=out, status=1 if refusals else 0, errors=rows_of(refusals))
    if not out.replaced:
        if accounting:
            for line in render_accounting(found.closed.accountings):
                out.line("", line)
        for number, (name, way) in enumerate(list_edits(edit_report(trail.edits))):
            out.line("" if number else "edit", f"{name:<36} {way}")
        out.line("would", _summary(closure))
    if refusals:
        show_error(Refused(list(refusals)))
    click.get_current_context().exit(1 if refusals else 0)


def _estimate(
    patches: tuple[PatchInput, ...],
    kernel_name: str,
    output: Path | None,
    html: Path | None,
    jobs: int,
    common: options.Common,
    limits: dict[str, Any],
    every: bool,
) -> None:
    """The dry run without compiling."""
    from kgbuild.cli.review.pages import write_page
    from kgbuild.cli.ui import show_error
    from kgbuild.diagnostics.refusals import Refused
    from kgbuild.pipeline.estimate import estimate_patches
    from kgbuild.report.estimate import render_estimate
    from kgbuild.report.patch_graph import draw_patch, graph_of_estimate, graph_of_patch

    found = estimate_patches(
        patches,
        kernel_name,
        common.details(),
        offline=common.offline,
        jobs=jobs,
        max_units=limits["max_units"],
        ignore_init=limits["ignore_init"],
        tools=limits["tools"],
    )
    result = found.result
    given = [("--allow-unproven", name) for name in limits["allow_unproven"]]
    given += [("--allow-type", name) for name in limits["allow_type"]]
    given += [("--allow-compiler", "")] if limits["allow_compiler"] else []
    given += [("--assume-in-tree-callers", "")] if limits["assume_in_tree_callers"] else []
    unused = [unused_option(option, "an estimate compiles nothing", value) for option, value in given]
    found = replace(found, warnings=[*found.warnings, *unused])

    def lines(unicode: bool) -> Iterator[str]:
        yield from render_estimate(result, found.seconds, unicode=unicode, every=every)
        yield from (f"note: {w}" for w in found.warnings)

    answer = Answer(
        found.to_json,
        lines,
        lambda: draw_patch(graph_of_estimate(result)),
        lambda: graph_of_patch(graph_of_estimate(result)),
    )
    nothing = not result.touched and not result.refusals and not result.possible
    status = 1 if result.refusals else 4 if nothing else 0
    errors = nothing_to_patch("", "the patch changes no function") if nothing else rows_of(result.refusals)
    write_page(html, found.to_json, common, status=status, errors=errors)
    common.deliver(answer, output, unless_quiet=True, status=status, errors=errors)
    if result.refusals:
        show_error(Refused(result.refusals))
    click.get_current_context().exit(status)


def _summary(closure: Closure) -> str:
    from kgbuild.report.build import closure_report

    r = closure_report(closure)
    counts = [(len(closure.redirects), "redirected"), (len(r["pulled"]), "pulled in"), (len(r["new"]), "new")]
    counts += [(len(r["carried"]), "carried as copies"), (len(closure.refusals), "refused")]
    return ", ".join(f"{n} {what}" for n, what in counts if n or what == "redirected")


@click.command(cls=KgbuildCommand, short_help="Show why a function is in a patch.")
@click.argument("function", shell_complete=complete_functions)
@click.argument("patches", nargs=-1, required=True, type=options.PatchFile())
@options.kernel_option
@analysis_choices
@options.jobs_option
@options.tool_options
@options.common_options()
def why(
    function: str,
    patches: tuple[PatchInput, ...],
    kernel_name: str,
    jobs: int,
    common: options.Common,
    **limits: Any,
) -> None:
    """Show the chain that brings FUNCTION into a patch, step by step, or how the patch refers to it in the kernel.

    FUNCTION may be NAME@UNIT, NAME@MODULE or NAME,POSITION where the patch has several of one name; all are shown
    otherwise. --quiet gives each chain as a line of names, --verbose also the steps of the analysis.

    \b
    Example:
      kgbuild why version_proc_show examples/proc-version/fix.patch --kernel debian:newest-6.1-cloud
    """
    from kgbuild.cli.build_lines import BuildLines
    from kgbuild.pipeline.why import answer_why
    from kgbuild.report.why import answer_of_why

    answer = answer_why(
        function, patches, kernel_name, analysis_options(jobs, common, limits), BuildLines(common.details())
    )
    common.output().warn(answer.warnings)
    found = answer_of_why(function, answer.chains, answer.references, answer.to_json, answer.inlined, answer.edited)
    if common.quiet:
        found = found._replace(lines=lambda unicode: [" -> ".join(s.function for s in c) for c in answer.chains])
    common.deliver(found)
