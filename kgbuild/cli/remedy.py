# SPDX-License-Identifier: GPL-2.0-or-later
"""`kgbuild remedy`: a refused patch written again, with shadow variables or callbacks in it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kgbuild.cli import options
from kgbuild.cli.ui import Output, show_error
from kgbuild.diagnostics.refusals import Refusal, Refused
from kgbuild.errors import UserError

if TYPE_CHECKING:
    from kgbuild.pipeline.stages.options import Options
    from kgbuild.pipeline.stages.trail import Trail

_CODES = ("K1-data", "K3-init", "K9-type-layout")


@click.command(short_help="Write a refused patch again, with what it lacks.")
@click.argument("patches", nargs=-1, required=True, type=click.Path(path_type=Path))
@options.kernel_option
@click.option(
    "--code",
    "codes",
    multiple=True,
    required=True,
    type=click.Choice(_CODES),
    help="What the patch is refused for; may be repeated.",
)
@click.option("-o", "--output", type=options.OutputFile(), metavar="FILE", help="Patch to write [standard output].")
@click.option("--max-units", type=click.IntRange(1), default=100, show_default=True, help="Units of headers.")
@click.option("--max-pull", type=click.IntRange(0), default=20, show_default=True, help="Units of callers.")
@options.jobs_option
@options.common_options
def remedy(
    patches: tuple[Path, ...],
    kernel_name: str,
    codes: tuple[str, ...],
    output: Path | None,
    max_units: int,
    max_pull: int,
    jobs: int,
    common: options.Common,
) -> None:
    """Write PATCHES again as one patch that is not refused for --code, compile it, and say what is still refused.

    K9-type-layout: new members of a structure move into a shadow variable. K1-data and K3-init: the change is taken
    out, and a callback sets the value, or has it in a comment for its author to do. What you must decide is listed, and
    stands in comments of the patch. Ends with 1 where the patch can't be written so, or is refused for something else.

    \b
    Example:
      kgbuild remedy grow.patch --kernel debian:newest-6.1-cloud --code K9-type-layout -o grow-live.patch
    """
    from kgbuild.cli.build_lines import BuildLines
    from kgbuild.pipeline.remedy import load_sources
    from kgbuild.pipeline.stages.options import Options
    from kgbuild.pipeline.stages.trail import Trail
    from kgbuild.pipeline.stages.values import KernelChosen, PatchesApplied
    from kgbuild.remedy.rewrite import TYPE, find_grown, render_diff, write_remedy

    if output is not None and any(p.exists() and output.exists() and output.samefile(p) for p in patches):
        raise click.UsageError("-o names the patch itself; give another file")
    out = Output(quiet=common.silent or output is None, verbose=common.verbose, no_color=common.no_color)
    chosen = Options(jobs=jobs, offline=common.offline, max_units=max_units, max_pull=max_pull)
    trail = Trail(BuildLines(out, (KernelChosen, PatchesApplied)))
    refusals = _refusals(patches, kernel_name, chosen, trail)
    sources = []
    kernel, applied = trail.get(KernelChosen), trail.get(PatchesApplied)
    if kernel is not None and applied is not None:
        sources = load_sources(kernel.kernel, applied.patches)
    if TYPE in codes and {r.code for r in refusals} == {"P12-too-many-units"}:
        # a header of everybody: what grows is seen in its text
        refusals = [Refusal(TYPE, f"{s.path}: struct {n}", "", n) for s in sources for n in find_grown([s])] or refusals
    if missing := [code for code in codes if code not in {r.code for r in refusals}]:
        found = ", ".join(sorted({r.code for r in refusals})) or "nothing: kgbuild build makes a module of it"
        show_error(UserError(f"the patch is not refused for {', '.join(missing)}", remedy=f"it is refused for {found}"))
        raise click.exceptions.Exit(1)
    made = write_remedy(sources, refusals, codes)
    for note in made.notes:
        out.line("decide", note)
    diff = render_diff({s.path: s.original for s in sources}, made.texts)
    text = _preamble(patches, codes, made.notes) + diff
    left = _try(text.encode("latin-1"), kernel_name, chosen, out)
    if failed := [r for r in left if r.code in codes or r.code == "P10-compile"]:
        out.line("wrote", "nothing: what was made of the patch does not do")
        raise Refused(failed)
    if output is not None:
        options.write_file(output, text.encode("latin-1"))
        out.line("wrote", str(output))
    elif common.form == "text":
        click.echo(text.encode("latin-1"), nl=False)
        for note in made.notes if not common.quiet else ():
            click.echo(f"decide    {note}", err=True)
    common.write_report(
        {
            "schema": "kgbuild-remedy",
            "schema_version": 1,
            "codes": list(codes),
            "patch": text.encode("latin-1").decode(errors="replace"),
            "notes": list(made.notes),
            "refusals": [{"code": r.code, "place": r.place, "fact": r.fact, "remedy": r.remedy} for r in left],
        }
    )
    if left:
        raise Refused(left)
    out.line("next", f"kgbuild build {output} --kernel {kernel_name}")


def _refusals(patches: Sequence[Path], kernel_name: str, chosen: Options, trail: Trail) -> list[Refusal]:
    from kgbuild.pipeline.build import analyse

    try:
        analyse(patches, kernel_name, chosen, trail)
    except Refused as refused:
        return refused.refusals
    return []


def _try(text: bytes, kernel_name: str, chosen: Options, out: Output) -> list[Refusal]:
    """What the written patch is refused for."""
    from kgbuild.pipeline.stages.trail import Trail

    with tempfile.TemporaryDirectory(prefix="kgbuild-") as folder:
        patch = Path(folder) / "remedy.patch"
        patch.write_bytes(text)
        left = _refusals([patch], kernel_name, chosen, Trail())
    out.line("tried", "compiled, proven and compared; refused for nothing" if not left else f"{len(left)} refusals")
    return left


def _preamble(patches: Sequence[Path], codes: Sequence[str], notes: Sequence[str]) -> str:
    names, given = " ".join(p.name for p in patches), " ".join(f"--code {code}" for code in codes)
    lines = [f"Made from {names} by kgbuild remedy {given}.", "", *(f"To decide: {note}" for note in notes), ""]
    return "\n".join(lines)
