# SPDX-License-Identifier: GPL-2.0-or-later
"""`kgbuild diff`: what differs between two objects of one unit, and the object that holds it."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kgbuild.cli.contract.commands import KgbuildCommand
from kgbuild.cli.options import Common, OutputFile, common_options
from kgbuild.cli.ui import Output, show_accounting
from kgbuild.host.system.output_kinds import OBJECT, REPORT
from kgbuild.report.formats import Answer, json_text

if TYPE_CHECKING:
    from kgbuild.pipeline.object_diff import ObjectDiff


@click.command(cls=KgbuildCommand, short_help="Compare two objects of one unit.")
@click.argument("orig", metavar="ORIG.o", type=click.Path(path_type=Path))
@click.argument("patched", metavar="PATCHED.o", type=click.Path(path_type=Path))
@click.option(
    "-o", "output", metavar="OUT.o", type=OutputFile(OBJECT), help="Write the output object; - is standard output."
)
@click.option(
    "--json",
    "json_file",
    metavar="FILE",
    type=OutputFile(REPORT, as_json=True),
    help="Write the answer as JSON; - is standard output.",
)
@click.option("--symvers", metavar="FILE", type=click.Path(path_type=Path), help="Module.symvers: what is exported.")
@click.option(
    "--parent-symtab",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Symbols of vmlinux or the module: the ELF file, readelf -sW of it, or System.map. Gives positions.",
)
@click.option("--explain", metavar="FUNCTION", help="Show both versions of a function side by side, and why it counts.")
@click.option("--ignore-init", is_flag=True, help="Leave out changes to init code, which has run already.")
@common_options()
@click.pass_context
def diff(
    context: click.Context,
    orig: Path,
    patched: Path,
    output: Path | None,
    json_file: Path | None,
    symvers: Path | None,
    parent_symtab: Path | None,
    explain: str | None,
    ignore_init: bool,
    common: Common,
) -> None:
    """Compare ORIG.o with PATCHED.o, two compiles of one unit, and say what changed, is new, or is gone.

    No kernel is needed. Compile both with -ffunction-sections -fdata-sections. --verbose lists every difference and
    what becomes of it; with --explain it shows all of the code and not only what differs.

    \b
    Example:
      kgbuild diff fork.orig.o fork.patched.o -o fork.out.o --json -
      kgbuild diff fork.orig.o fork.patched.o --explain copy_process
    """
    # one comparison, then the process ends: looking for cycles among what it keeps gives nothing back
    gc.disable()
    from kgbuild.pipeline.object_diff import diff_objects
    from kgbuild.pipeline.object_files import read_object, read_parent_symbols, read_symvers

    out = common.output(spoken=explain is None)
    if explain is not None and (
        output is not None or json_file is not None or common.report is not None or out.replaced
    ):
        raise click.UsageError("--explain only shows: leave out -o, --json and --report")
    objects = read_object(orig), read_object(patched)
    exports = read_symvers(symvers) if symvers is not None else {}
    parent = read_parent_symbols(parent_symtab) if parent_symtab is not None else None
    found = diff_objects(*objects, patched.name, exports, parent, ignore_init)
    status = found.exit_status
    if explain is not None:
        from kgbuild.cli.review.code_lines import show_explanations
        from kgbuild.report.explain import explain as explain_function

        show_explanations(explain_function(found.changes, found.closure, explain), out.colour, common.verbose)
        context.exit(0)
    if output is not None and not status and found.output_functions:
        common.write(output, found.output())
    if json_file is not None:
        common.write(json_file, json_text(found.to_json()).encode())
    common.deliver(Answer(found.to_json), status=status, errors=found.errors)
    _show(out, found, output if not status else None)
    out.refused(found.refusals)
    context.exit(status)


def _show(out: Output, found: ObjectDiff, output: Path | None) -> None:
    rows = [("change", c.name, str(c.reason)) for c in found.changed]
    rows += [("new", n, "") for n in found.new] + [("removed", n, "") for n in found.removed]
    last = ""
    for label, name, reason in rows:
        out.line(label if label != last else "", f"{name:<36} {reason}".rstrip())
        last = label
    by_rule: dict[str, list[str]] = {}
    for n in found.noise:
        by_rule.setdefault(n.rule, []).append(n.function)
    for number, (rule, functions) in enumerate(sorted(by_rule.items())):
        most = len(functions) if out.verbose else 3
        shown = ", ".join(functions[:most]) + (f" and {len(functions) - most} more" if len(functions) > most else "")
        out.line("noise" if not number else "", f"{rule:<36} {shown}")
    for r in found.ignored:
        out.line("ignored", f"{r.code}  {r.place}: {r.fact}", style="yellow")
    for text in found.warnings:
        out.line("warning", text, style="yellow")
    if found.init_only:
        names = ", ".join(sorted({r.symbol for r in found.refusals}))
        out.line("init only", f"{names}: only what runs once changes, no code that runs later")
    show_accounting(out, [found.accounting])
    for claim in found.accounting.claims if out.verbose else ():
        out.note(f"{claim.by:<12} {claim.difference}" + (f"  ({claim.why})" if claim.why else ""))
    if found.nothing:
        out.line("no change", "the two objects do the same")
    if output is not None:
        count = len(found.output_functions)
        out.line("wrote", f"{output}  {count} function{'s' * (count != 1)}")
