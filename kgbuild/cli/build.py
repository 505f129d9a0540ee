# SPDX-License-Identifier: GPL-2.0-or-later
"""`kgbuild build`: from source diffs to a live patch module."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kgbuild.cli import options
from kgbuild.cli.ui import Output
from kgbuild.errors import KgbuildError

if TYPE_CHECKING:
    from kgbuild.accounting.claims import Accounting
    from kgbuild.pipeline.state import Build

UNKNOWN = "W7-unknown"
_ROLES = (("changed", "change"), ("new", "new"), ("pulled", "pulled"), ("carried", "carried"))


@click.command()
@click.argument("patches", nargs=-1, required=True, type=click.Path(path_type=Path))
@options.kernel_option
@click.option("-o", "output", type=options.OutputFile(), help="Module to write [livepatch-<first patch>.ko].")
@click.option(
    "--keep",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Copy each stage's files here.",
)
@options.jobs_option
@click.option(
    "--max-pull", type=click.IntRange(0), default=20, show_default=True, help="Most further units callers may bring in."
)
@click.option(
    "--max-units", type=click.IntRange(1), default=100, show_default=True, help="Most units that headers may change."
)
@options.pull_option
@options.backend_option
@click.option(
    "--proof",
    type=options.OutputFile(),
    metavar="FILE",
    help="Write the proof record: all that the module replaces and is bound to, with digests.",
)
@click.option(
    "--emit-module",
    type=options.NewDirectory(),
    metavar="DIR",
    help="Leave the module as a directory too, which make -C KDIR M=DIR builds without kgbuild.",
)
@click.option("--no-replace", is_flag=True, help="Do not take back older live patches (atomic replace is the default).")
@click.option(
    "--on-top-of",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="MODULE.ko",
    help="A patch that is loaded before; repeat it in the order of loading.",
)
@click.option(
    "--drop",
    multiple=True,
    metavar="FUNCTION",
    help="The older version of this function, or its change of this file, may go; see --on-top-of.",
)
@click.option("--ignore-init", is_flag=True, help="Leave out changes to init code, which has run already.")
@click.option("--allow-compiler", is_flag=True, help="Go on with another compiler than the kernel's; recorded.")
@click.option(
    "--allow-unproven",
    multiple=True,
    metavar="NAME",
    help="Accept a unit or function without proof; recorded.",
)
@options.against_option
@click.option(
    "--allow-type", multiple=True, metavar="NAME", help="Accept another layout of this type or variable; recorded."
)
@options.oot_options
@options.common_options
def build(
    patches: tuple[Path, ...],
    kernel_name: str,
    output: Path | None,
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
    against: tuple[Path, ...],
    oot: Path | None,
    oot_modules: tuple[Path, ...],
    common: options.Common,
) -> None:
    """Build a live patch module from PATCHES, applied in order, for one exact kernel.

    \b
    Example:
      kgbuild build examples/proc-version/fix.patch --kernel debian:newest-6.1-cloud -o livepatch-proc-version.ko
    """
    from kgbuild.pipeline.build import build as run_build
    from kgbuild.pipeline.options import Options
    from kgbuild.pipeline.state import Build

    out = common.output()
    output = output or Path(f"livepatch-{patches[0].name.removesuffix('.patch').removesuffix('.diff')}.ko")
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
    )
    state = Build()
    state.tell = lambda topic: show(out, state, topic)
    try:
        run_build(patches, kernel_name, output, chosen, out, state)
    except KgbuildError:
        common.write_report(state.report)
        raise
    if not state.findings:
        options.write_file(output, state.module)
        if proof is not None:
            options.write_file(proof, (json.dumps(state.report["proof"], indent=1) + "\n").encode())
        if emit_module is not None:
            options.write_directory(emit_module, state.directory)
    common.write_report(state.report)
    if state.findings:
        for finding in state.findings:
            click.echo(f"{finding.code}   {finding}", err=True)
        raise click.exceptions.Exit(1)
    counts = Counter(f["object"] for f in state.report["module"]["functions"])
    seconds = sum(s.seconds for s in state.stages)
    where = ", ".join(f"{n} function{'s' * (n != 1)} in {name}" for name, n in counts.items())
    out.line("wrote", f"{output}  {len(state.module) / 1024:.0f} KiB  {where}", seconds)
    if proof is not None:
        out.line(
            "proof", f"{proof}  {len(state.report['proof']['bound'])} symbols of the kernel, each with its evidence"
        )
    if emit_module is not None:
        out.line("module", f"{emit_module}  make -C KDIR M={emit_module.resolve()}")
    loaded = "".join(f" --oot-module {path}" for path in oot_modules)
    out.line("next", f"kgbuild vm {output} --kernel {kernel_name}{loaded}")


def show(out: Output, state: Build, topic: str) -> None:
    """Print what the report has to say of a topic."""
    r = state.report
    if topic == "kernel" and state.kernel is not None:
        out.line("kernel", f"{state.kernel.id}, {state.kernel.compiler}")
    elif topic == "patch" and state.patches is not None:
        files, hunks = len(state.patches.files), state.patches.hunks
        skipped = f"; skipped: {', '.join(state.patches.skipped)}" if state.patches.skipped else ""
        out.line("patch", f"{files} file{'s' * (files != 1)}, {hunks} hunk{'s' * (hunks != 1)}{skipped}")
    elif topic == "parity":
        matched = sum(u["parity"]["matched"] for u in r["units"])
        total = sum(u["parity"]["total"] for u in r["units"])
        weak = sum(u["parity"]["weak_overridden"] for u in r["units"])
        note = f" ({weak} weak, overridden elsewhere)" if weak else ""
        out.line("parity", f"{matched}/{total} functions are those of the running kernel{note}")
    elif topic == "pulled":
        names = "  ".join(sorted(state.pulled_units)[:6])
        out.line("pull", f"{names}  compiled and proven as well")
    elif topic == "closure":
        _show_closure(out, r, "looked up" if state.backend in ("kallsyms", "kgraft") else "klp")
    elif topic == "accounting":
        show_accounting(out, state.accountings)
    elif topic == "on-top":
        _show_on_top(out, r)
        for text in state.on_top.warnings:
            out.line("warning", text, style="yellow")


def show_accounting(out: Output, accountings: Sequence[Accounting]) -> None:
    """How many differences there are and what becomes of them; a line for each that is lost, by its nature."""
    from kgbuild.accounting.claims import no_effects, summary

    counted = summary(accountings)
    if counted:
        out.line("accounted", counted)
    for text in no_effects(accountings):
        out.line("no effect", text, style="yellow")


def name_places(items: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """What to add to each function's line to say which one is meant: its object where the patch has several, its unit
    where functions of one object have the same name; "" where the name says it."""
    objects = {item["object"] for item in items}
    alike = Counter((item["function"], item["object"]) for item in items)
    for item in items:
        place = [item["object"]] if len(objects) > 1 else []
        if alike[item["function"], item["object"]] > 1:
            place.append(item["unit"])
        yield f"  in {', '.join(place)}" if place else ""


def _show_on_top(out: Output, r: dict[str, Any]) -> None:
    for older in r["on_top_of"]:
        count = len(older["functions"])
        out.line("on top of", f"{older['module']}  {count} function{'s' * (count != 1)}")
    for row in r["taken_back"]:
        if row["dropped"]:
            what = "goes with it" if row["how"] == "replaced" else "has a newer version on top"
            out.line("drop", f"{row['name']:<36} of {row['module']} {what}")


def _state_line(row: Mapping[str, str]) -> str:
    """What a variable that only the patched source has is."""
    if not row["original"]:
        return f"{row['variable']:<36} new: {row['why']}"
    where = f" of {row['original_unit']}" if row["original_unit"] != row["unit"] else ""
    how = "declared: " if row["verdict"] == "declared" else "the same: "
    return f"{row['variable']:<36} is the kernel's {row['original']}{where} ({how}{row['why']})"


def _show_closure(out: Output, r: dict[str, Any], late: str) -> None:
    places = name_places([item for key, _ in _ROLES for item in r[key]])
    for key, label in _ROLES:
        for position, item in enumerate(r[key]):
            place = next(places)
            out.line(label if position == 0 else "", f"{item['function']:<36} {item['reason']}{place}")
            for seen in item["evidence"] if out.verbose else ():
                out.line("", f"{'':<36} {seen}")
    counts = Counter(ref["how"] for ref in r["references"])
    unproven = sum(not ref["proven"] for ref in r["references"])
    proven = f"{unproven} of them not proven" if unproven else "all proven"
    names = {"export": "exports", "klp": f"{late} ({proven})", "copy": "carried data", "new": "new", "weak": "weak"}
    if counts:
        out.line("refs", ", ".join(f"{counts[k]} {names[k]}" for k in names if k in counts))
    for row in r["state"]:
        out.line("state", _state_line(row))
    for text in r["warnings"]:
        out.line("warning", text, style="yellow")
    for row in r["consistency"]:
        if row["code"] == UNKNOWN and not out.verbose:
            continue  # of every first build for a kernel; the report has it
        out.line("warning", f"{row['code']}  {row['fact']}; {row['remedy']}", style="yellow")
