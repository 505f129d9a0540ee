# SPDX-License-Identifier: GPL-2.0-or-later
"""`kgbuild remedy`: rewrites a refused patch with shadow variables or callbacks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from kgbuild.cli import options
from kgbuild.cli.contract.commands import KgbuildCommand
from kgbuild.diagnostics.reasons import reasons_of
from kgbuild.diagnostics.refusals import Refused
from kgbuild.host.system.output_kinds import PATCH
from kgbuild.report.documents import rows_of
from kgbuild.report.formats import Answer

if TYPE_CHECKING:
    from kgbuild.host.compile.apply_patches import PatchInput
    from kgbuild.model import ToolChoice

_CODES = ("K1-data", "K3-init", "K9-type-layout")


@click.command(cls=KgbuildCommand, short_help="Rewrite a refused patch with shadow variables or callbacks.")
@click.argument("patches", nargs=-1, required=True, type=options.PatchFile())
@options.kernel_option
@click.option(
    "--code",
    "codes",
    multiple=True,
    required=True,
    type=click.Choice(_CODES),
    help="What the patch is refused for; may be repeated.",
)
@click.option(
    "-o",
    "--output",
    type=options.OutputFile(PATCH, fallback=lambda values: options.STDOUT if values["form"] == "text" else None),
    metavar="FILE",
    help="Patch to write [standard output].",
)
@click.option("--max-units", type=click.IntRange(1), default=100, show_default=True, help="Units of headers.")
@click.option("--max-pull", type=click.IntRange(0), default=20, show_default=True, help="Units of callers.")
@options.jobs_option
@options.tool_options
@options.common_options()
def remedy(
    patches: tuple[PatchInput, ...],
    kernel_name: str,
    codes: tuple[str, ...],
    output: Path | None,
    max_units: int,
    max_pull: int,
    jobs: int,
    tools: ToolChoice,
    common: options.Common,
) -> None:
    """Rewrite PATCHES as one patch that is not refused for --code, compile it, and say what is still refused.

    K9-type-layout: new members of a structure move into a shadow variable. K1-data and K3-init: the change is taken
    out, and a callback sets the value, or has it in a comment for its author to do. What you must decide is listed, and
    stands in comments of the patch.

    \b
    Example:
      kgbuild remedy grow.patch --kernel debian:newest-6.1-cloud --code K9-type-layout -o grow-live.patch
    """
    from kgbuild.cli.build_lines import BuildLines
    from kgbuild.pipeline.remedy import remedy as write_again
    from kgbuild.pipeline.stages.options import Options
    from kgbuild.pipeline.stages.values import KernelChosen, PatchesApplied

    told = output not in (None, options.STDOUT)
    out = common.output(spoken=told)
    chosen = Options(
        jobs=jobs, offline=common.offline, max_units=max_units, max_pull=max_pull, tools=tools, all_reasons=True
    )
    made = write_again(patches, kernel_name, codes, chosen, BuildLines(out, (KernelChosen, PatchesApplied)))
    for note in made.notes:
        out.line("decide", note)
    left = len(reasons_of(made.left))
    tried = (
        f"{left} reason{'s' * (left != 1)} to refuse it"
        if left
        else "compiled, proven and compared; refused for nothing"
    )
    out.line("tried", tried)
    if made.failed:
        out.line("wrote", "nothing: the rewritten patch does not help")
    elif output is not None:
        common.write(output, made.patch)
        out.line("wrote", str(output))
        for note in made.notes if not told and not common.quiet else ():
            out.say(f"decide    {note}", err=True)
    common.deliver(Answer(made.to_json), status=1 if made.left else 0, errors=rows_of(made.left))
    if made.left:
        raise Refused(made.failed or list(made.left))
    if told:
        out.line("next", f"kgbuild build {output} --kernel {kernel_name}")
