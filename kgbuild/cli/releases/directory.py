# SPDX-License-Identifier: GPL-2.0-or-later
"""`kgbuild init` and `kgbuild add`: a directory of fixes, and one more fix in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from kgbuild.cli import options
from kgbuild.cli.contract.commands import KgbuildCommand
from kgbuild.cli.releases.shared import directory_option
from kgbuild.report.formats import Answer

if TYPE_CHECKING:
    from kgbuild.host.compile.apply_patches import PatchInput


@click.command(cls=KgbuildCommand, short_help="Make a directory for fixes of many kernels.")
@click.argument("directory", type=click.Path(path_type=Path), default=Path())
@options.common_options()
def init(directory: Path, common: options.Common) -> None:
    """Make DIRECTORY a directory of fixes: kgbuild.toml, fixes/, .gitignore and a script for CI. Files that are there
    stay as they are.

    \b
    Example:
      kgbuild init livepatches
    """
    from kgbuild.host.releases.directory import make_directory
    from kgbuild.report.documents import schema_name

    out = common.output()
    written = make_directory(directory)
    data = {"schema": schema_name("directory"), "directory": str(directory), "written": written}
    common.deliver(Answer(lambda: data))
    for name in written:
        out.line("wrote", str(directory / name))
    where = f" -C {directory}" if directory != Path() else ""
    out.line("next", f"list kernels in {directory / 'kgbuild.toml'}, then kgbuild add{where} CVE-2026-12345 fix.mbox")


@click.command(cls=KgbuildCommand, short_help="Add a fix to a directory of fixes.")
@click.argument("name", metavar="FIX")
@click.argument("patches", nargs=-1, required=True, type=options.PatchFile())
@directory_option
@click.option("--cve", "cves", multiple=True, metavar="CVE", help="What it fixes [FIX, or the numbers in the mails].")
@click.option("--commit", metavar="ID", help="The upstream commit [what the mail says].")
@options.git_option
@options.common_options()
def add(
    name: str,
    patches: tuple[PatchInput, ...],
    root: Path,
    cves: tuple[str, ...],
    commit: str | None,
    git: Path | None,
    common: options.Common,
) -> None:
    """Add PATCHES, in order, as the fix FIX: fixes/FIX/fix.patch, fix.toml with what the mails say, and a line in
    kgbuild.toml.

    \b
    Example:
      kgbuild add CVE-2026-12345 fix.mbox
      kgbuild add CVE-2026-12345 --git linux/ v6.12..v6.12.1
    """
    from kgbuild.pipeline.releases.add import add_patches
    from kgbuild.report.documents import schema_name

    out = common.output()
    added = add_patches(root, name, options.patches_of(patches, git), cves, commit or "")
    metadata = added.metadata
    data = {
        "schema": schema_name("directory"),
        "directory": str(root),
        "written": list(added.written),
        "fix": {
            "id": name,
            "cves": list(metadata.cves),
            "subject": metadata.subject,
            "author": metadata.author,
            "commit": metadata.commit,
            "fixes": list(metadata.fixes),
            "files": list(added.files),
        },
    }
    common.deliver(Answer(lambda: data))
    out.line("fix", f"{name}  {metadata.subject}".rstrip())
    for label, value in (
        ("cves", " ".join(metadata.cves)),
        ("commit", metadata.commit),
        ("fixes", " ".join(metadata.fixes)),
    ):
        if value:
            out.line(label, value)
    out.line("files", ", ".join(added.files))
    for path in added.written:
        out.line("wrote", str(root / path))
    out.line("next", f"kgbuild affected {name}" + (f" -C {root}" if root != Path() else ""))
