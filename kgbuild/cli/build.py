# SPDX-License-Identifier: GPL-2.0-or-later
"""`kgbuild build`: from source diffs to a live patch module."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kgbuild.cli import options
from kgbuild.cli.contract.commands import KgbuildCommand
from kgbuild.errors import KgbuildError
from kgbuild.host.system.output_kinds import MODULE, PROOF, PROVENANCE, SBOM
from kgbuild.report.documents import error_rows, rows_of
from kgbuild.report.formats import FOR_REVIEW, Answer, json_text

if TYPE_CHECKING:
    from kgbuild.host.compile.apply_patches import PatchInput
    from kgbuild.model import ToolChoice


def _default_module(values: Mapping[str, Any]) -> Path:
    """Where a module is written if nothing is said."""
    from kgbuild.pipeline.module_names import default_output

    first = values["patches"][0]
    name = first.name.rpartition("#")[2] if isinstance(first, Path) else "stdin"
    return default_output(name)


@click.command(cls=KgbuildCommand)
@click.argument("patches", nargs=-1, required=True, type=options.PatchFile())
@options.kernel_option
@click.option(
    "-o",
    "output",
    type=options.OutputFile(MODULE, fallback=_default_module),
    help="Module to write [livepatch-<first patch>.ko]; - is standard output.",
)
@click.option(
    "--keep",
    type=options.KeepDirectory(),
    metavar="DIR",
    help="Copy each stage's files here.",
)
@options.jobs_option
@click.option(
    "--max-pull", type=click.IntRange(0), default=20, show_default=True, help="Limit of units that callers bring in."
)
@click.option(
    "--max-units", type=click.IntRange(1), default=100, show_default=True, help="Limit of units that headers change."
)
@options.pull_option
@options.backend_option
@click.option(
    "--proof",
    type=options.OutputFile(PROOF),
    metavar="FILE",
    help="Write the proof record: everything that the module replaces and is bound to, with digests.",
)
@click.option(
    "--emit-module",
    type=options.NewDirectory(),
    metavar="DIR",
    help="Also write the module as a directory, which make -C KDIR M=DIR builds without kgbuild.",
)
@click.option("--no-replace", is_flag=True, help="Do not replace older live patches (atomic replace is the default).")
@click.option(
    "--on-top-of",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="MODULE.ko",
    help="A patch that is loaded before; repeat it in load order.",
)
@click.option(
    "--drop",
    multiple=True,
    metavar="FUNCTION",
    help="Allow losing the older version of this function, or its change of this file; see --on-top-of.",
)
@click.option("--ignore-init", is_flag=True, help="Leave out changes to init code, which has run already.")
@click.option("--allow-compiler", is_flag=True, help="Accept another compiler than the kernel's; recorded.")
@click.option(
    "--allow-unproven",
    multiple=True,
    metavar="NAME",
    help="Accept a unit or function without proof; recorded.",
)
@options.dynamic_keys_option
@options.assume_callers_option
@options.all_reasons_option
@options.against_option
@click.option(
    "--allow-type", multiple=True, metavar="NAME", help="Accept another layout of this type or variable; recorded."
)
@click.option(
    "--provenance",
    type=options.OutputFile(PROVENANCE),
    metavar="FILE",
    help="Write where the module comes from, as kgbuild reproduce reads it (in-toto, SLSA); signed by --sign-key.",
)
@click.option("--sbom", type=options.OutputFile(SBOM), metavar="FILE", help="Write what the module is made of (SPDX).")
@options.sign_options
@click.option(
    "--cve", "cves", multiple=True, metavar="CVE", help="What the module fixes [the numbers in the patches' mails]."
)
@click.option("--release", type=click.IntRange(1), metavar="N", help="Number of the release; recorded.")
@options.git_option
@options.oot_options
@options.html_option
@options.tool_options
@options.common_options("mermaid", *FOR_REVIEW, about=options.ABOUT_REVIEW)
def build(
    patches: tuple[PatchInput, ...],
    kernel_name: str,
    output: Path,
    keep: Path | None,
    jobs: int,
    max_pull: int,
    max_units: int,
    pull: str,
    backend: str | None,
    proof: Path | None,
    emit_module: Path | None,
    no_replace: bool,
    on_top_of: tuple[Path, ...],
    drop: tuple[str, ...],
    ignore_init: bool,
    allow_compiler: bool,
    allow_unproven: tuple[str, ...],
    allow_type: tuple[str, ...],
    no_dynamic_keys: bool,
    assume_in_tree_callers: bool,
    all_reasons: bool,
    against: tuple[Path, ...],
    provenance: Path | None,
    sbom: Path | None,
    sign_key: str | None,
    sign_cert: Path | None,
    cves: tuple[str, ...],
    release: int | None,
    git: Path | None,
    oot: Path | None,
    oot_modules: tuple[Path, ...],
    html: Path | None,
    tools: ToolChoice,
    common: options.Common,
) -> None:
    """Build a live patch module from PATCHES, applied in order, for one exact kernel.

    A patch is a diff, a mail, a mailbox or a list of patches (series), also compressed; FILE.dsc#NAME is one of a
    Debian source package. With --git, PATCHES are commits and ranges (A..B) of that tree.

    \b
    Example:
      kgbuild build examples/proc-version/fix.patch --kernel debian:newest-6.1-cloud -o livepatch-proc-version.ko
    """
    from kgbuild.cli.build_lines import BuildLines
    from kgbuild.cli.delivery.sign import about_signed, open_signing, sign_built, write_statements
    from kgbuild.cli.review.pages import write_page
    from kgbuild.pipeline.build import build as run_build
    from kgbuild.pipeline.fixes import check_cves, find_cves
    from kgbuild.pipeline.stages.options import Options
    from kgbuild.pipeline.stages.trail import Trail
    from kgbuild.report.patch_graph import draw_patch, graph_of_closure

    out = common.output()
    signing = open_signing(sign_key, sign_cert)
    chosen = Options(
        allow_compiler,
        frozenset(allow_unproven),
        frozenset(allow_type),
        ignore_init,
        not no_replace,
        jobs,
        common.offline,
        keep,
        max_units,
        max_pull,
        pull,
        on_top_of,
        frozenset(drop),
        against=against,
        backend=backend or "",
        directory=emit_module is not None,
        oot=oot,
        oot_modules=oot_modules,
        tools=tools,
        fixes=check_cves(cves),
        release=release or 0,
        all_reasons=all_reasons,
        dynamic_keys=not no_dynamic_keys,
        assume_in_tree_callers=assume_in_tree_callers,
    )
    default = _default_module({"patches": patches})
    patches = options.patches_of(patches, git)
    chosen = replace(chosen, fixes=chosen.fixes or find_cves(patches))
    trail = Trail(BuildLines(out))
    # a module that goes to standard output has the name that it would have as a file
    named = default if output == options.STDOUT else output
    try:
        built = run_build(patches, kernel_name, named, chosen, trail)
    except KgbuildError as error:
        failed = cache(trail.report)
        write_page(html, failed, common, status=error.exit_code, errors=error_rows(error))
        common.deliver_data(Answer(failed), status=error.exit_code, errors=error_rows(error))
        raise
    assembled, module = built.assembled, built.assembled.module
    if signing is not None and not built.checked.findings:
        module = sign_built(module, signing)

    @cache
    def report() -> dict[str, Any]:
        """What the run came to; a plain build shows a few lines of it, and reads no code for it."""
        return about_signed(trail.report(), module)

    if not built.checked.findings:
        common.write(output, module)
        if proof is not None:
            common.write(proof, json_text(assembled.proof).encode())
        if provenance is not None or sbom is not None:
            write_statements(common, built, patches, chosen, module, signing, provenance, sbom)
        if emit_module is not None:
            options.write_directory(emit_module, built.assembled.directory)
    findings = built.checked.findings
    answer = Answer(report, drawing=lambda: draw_patch(graph_of_closure(built.closed.closure, trail.edits)))
    write_page(html, report, common, status=1 if findings else 0, errors=rows_of(findings))
    common.deliver(answer, status=1 if findings else 0, errors=rows_of(findings))
    if findings:
        for finding in findings:
            click.echo(f"{finding.code}   {finding}", err=True)
        raise click.exceptions.Exit(1)
    counts = Counter(redirect.object for redirect in built.closed.closure.redirects)
    seconds = sum(s.seconds for s in trail.stages)
    where = ", ".join(f"{n} function{'s' * (n != 1)} in {name}" for name, n in counts.items())
    out.line("wrote", f"{output}  {len(module) / 1024:.0f} KiB  {where}", seconds)
    if proof is not None:
        out.line("proof", f"{proof}  {len(report()['proof']['bound'])} symbols of the kernel, each with its evidence")
    if html is not None:
        out.line("page", str(html))
    if emit_module is not None:
        out.line("module", f"{emit_module}  make -C KDIR M={emit_module.resolve()}")
    if output == options.STDOUT:
        return
    loaded = "".join(f" --oot-module {path}" for path in oot_modules)
    out.line("next", f"kgbuild vm {output} --kernel {kernel_name}{loaded}")
