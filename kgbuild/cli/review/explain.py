# SPDX-License-Identifier: GPL-2.0-or-later
"""`kgbuild explain`: the code of a function before and after a patch, beside each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kgbuild.cli import options
from kgbuild.cli.contract.commands import KgbuildCommand
from kgbuild.cli.contract.completers import complete_functions
from kgbuild.cli.impact import analysis_choices, analysis_options
from kgbuild.report.formats import Answer

if TYPE_CHECKING:
    from kgbuild.host.compile.apply_patches import PatchInput


@click.command(cls=KgbuildCommand, short_help="Show a function's code before and after a patch.")
@click.argument("function", shell_complete=complete_functions)
@click.argument("patches", nargs=-1, required=True, type=options.PatchFile())
@options.kernel_option
@analysis_choices
@options.jobs_option
@options.tool_options
@options.common_options()
def explain(
    function: str,
    patches: tuple[PatchInput, ...],
    kernel_name: str,
    jobs: int,
    common: options.Common,
    **limits: Any,
) -> None:
    """Show the code of FUNCTION before and after PATCHES beside each other, with the first difference marked.

    The units are compiled as for a build. If gcc inlined FUNCTION, the functions that hold its body are shown. FUNCTION
    may be NAME@UNIT or NAME@MODULE where several have one name. --verbose shows all of the code and not only what
    differs; --quiet nothing but the verdict of each function.

    \b
    Example:
      kgbuild explain version_proc_show examples/proc-version/fix.patch --kernel debian:newest-6.1-cloud
    """
    from kgbuild.cli.build_lines import BuildLines
    from kgbuild.cli.review.code_lines import show_explanations
    from kgbuild.pipeline.review.explain import explain_patch
    from kgbuild.report.review.edits import render_edit

    out = common.output()
    answer = explain_patch(
        function, patches, kernel_name, analysis_options(jobs, common, limits), BuildLines(common.details())
    )
    out.warn(answer.warnings)
    if out.replaced:
        common.deliver(Answer(answer.to_json))
        return
    common.deliver(Answer(answer.to_json, lambda unicode: ()))
    if common.quiet:
        for one in answer.found:
            out.say(f"{one.explanation.name} in {one.unit}: {one.explanation.verdict}")
        return
    for row in answer.edited:
        for line in render_edit(row):
            out.say(line)
        out.say("")
    show_explanations((one.explanation for one in answer.found), out.colour, common.verbose)
