# SPDX-License-Identifier: GPL-2.0-or-later
"""`kgbuild release` and `kgbuild vex`: a release of all fixes for all kernels, and what it says of vulnerabilities."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from kgbuild.cli import options
from kgbuild.cli.contract.commands import KgbuildCommand
from kgbuild.cli.releases.matrix import shown
from kgbuild.cli.releases.pages import html_option, kernel_files, write_pages
from kgbuild.cli.releases.shared import directory_option, kernels_option
from kgbuild.report.formats import Answer

if TYPE_CHECKING:
    from kgbuild.model import ToolChoice


@click.command(cls=KgbuildCommand, short_help="Release a cumulative module for each kernel.")
@click.argument("number", type=click.IntRange(1, 100_000))
@directory_option
@kernels_option
@click.option("--no-vm", is_flag=True, help="Do not boot the modules; the gate `boot` must be open.")
@click.option("--replace", is_flag=True, help="Replace a release of this number that is different.")
@click.option("--again", is_flag=True, help="Take nothing that an earlier run has found.")
@click.option("--accel", type=click.Choice(["auto", "kvm", "tcg"]), default="auto", help="How QEMU runs guests.")
@click.option(
    "--timeout", type=click.IntRange(10), default=600, show_default=True, metavar="SECONDS", help="For one boot."
)
@click.option(
    "--dask", metavar="ADDRESS", help="Run the jobs on this Dask scheduler, or on one of this machine (local)."
)
@html_option
@options.jobs_option
@options.tool_options
@options.common_options()
@click.pass_context
def release(
    context: click.Context,
    number: int,
    root: Path,
    kernels: tuple[str, ...],
    no_vm: bool,
    replace: bool,
    again: bool,
    accel: str,
    timeout: int,
    dask: str | None,
    html: Path | None,
    jobs: int,
    tools: ToolChoice,
    common: options.Common,
) -> None:
    """Make release NUMBER of a directory: for each kernel a module of all fixes so far, built on top of the release
    before, verified and booted (NUMBER-1, then NUMBER on top of it, then back), written to release-NUMBER with reports,
    proofs and a manifest. The same inputs give the same bytes.

    \b
    Example:
      kgbuild release 3
    """
    from kgbuild.host.releases.directory import read_directory
    from kgbuild.pipeline.releases.kernels import choose_kernels
    from kgbuild.pipeline.releases.options import build_options, open_workers
    from kgbuild.pipeline.releases.packages import pack_release
    from kgbuild.pipeline.releases.release import ReleaseRefused, check_name, make_release, read_before
    from kgbuild.pipeline.releases.signing import key_of
    from kgbuild.releases.manifest import folder_of

    out = common.output()
    directory = read_directory(root)
    check_name(directory, number)
    read_before(directory, number)
    key = key_of(root, directory.config)
    names = choose_kernels(directory.config, kernels, out, offline=common.offline, mirror=tools.mirror)
    workers = open_workers(jobs, dask)
    fixes = [fix.id for fix in directory.config.of_release(number)]
    try:
        with shown(out, names, fixes) as show:
            made = make_release(
                directory,
                number,
                names,
                workers,
                build_options(directory.config, workers.slots, jobs, common.offline, tools),
                boot=not no_vm,
                resume=not again,
                force=replace,
                accel=accel,
                timeout=timeout,
                key=key,
                told=show,
            )
    except ReleaseRefused as error:
        for row in error.rows:
            out.say(f"{row['code']}   {row['place']}\n  {row['fact']}\n  -> {row['remedy']}", err=True)
        context.exit(_refuse(common, number, error.rows, error.exit_code))
        return
    manifest = made.manifest
    write_pages(html, manifest, kernel_files(made.run.graph.results.values()), common)
    packed = pack_release(directory, number)
    if packed:
        options.write_directory(root / packed.output, packed.files)
    packages = [str(Path(packed.output) / name) for name in packed.files] if packed else []
    common.deliver(Answer(lambda: {**manifest, "written": made.written, "packages": packages}))
    for row in manifest["kernels"]:
        module = row["module"]
        taken = ", ".join(t["function"] for t in row["taken_back"])
        text = (
            f"{row['release']}  {module['path']}  {module['bytes']} bytes"
            if module
            else f"{row['release']}  needs nothing"
        )
        out.line("kernel", text + (f"  takes back {taken}" if taken else ""))
    state = "" if made.written else " (was there already, with the same bytes)"
    out.line("wrote", f"{root / folder_of(number)}{state}")
    for name in packages:
        out.line("wrote", str(root / name))


def _refuse(common: options.Common, number: int, rows: object, status: int) -> int:
    """Write the document of a release that was refused."""
    from kgbuild import __version__
    from kgbuild.report.documents import schema_name

    data = {"schema": schema_name("release"), "tool": {"name": "kgbuild", "version": __version__}, "release": number}
    assert isinstance(rows, tuple)
    common.deliver(Answer(lambda: data), status=status, errors=rows)
    return status


@click.command(cls=KgbuildCommand, short_help="Write what modules fix, as OpenVEX, CSAF or OSV.")
@click.argument("modules", nargs=-1, required=True, metavar="MODULE...", type=click.Path(path_type=Path))
@click.option("--date", metavar="TIME", help="When it is said, as 2026-11-02T10:00:00Z [SOURCE_DATE_EPOCH, or now].")
@options.common_options(
    "openvex", "csaf", "osv", about="A table, the answer as JSON, or a document of one of the formats."
)
def vex(modules: tuple[Path, ...], date: str | None, common: options.Common) -> None:
    """Write what each MODULE says that it fixes. A MODULE is a live patch made by kgbuild, or the directory of a
    release, which also knows of the kernels that are not affected.

    \b
    Example:
      kgbuild vex livepatch-3.ko --format openvex
      kgbuild vex release-3 --format csaf
    """
    from kgbuild.pipeline.releases.vex import read_statements, vex_answer, vex_lines

    answer = vex_answer(*read_statements(modules), date)
    common.deliver(Answer(lambda: answer, lambda _: vex_lines(answer)))
