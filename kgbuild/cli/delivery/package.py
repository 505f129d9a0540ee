# SPDX-License-Identifier: GPL-2.0-or-later
"""`kgbuild package` and `kgbuild repo`: packages of modules, and repositories of packages."""

from __future__ import annotations

import hashlib
from pathlib import Path

import click

from kgbuild.cli import options
from kgbuild.cli.contract.commands import KgbuildCommand
from kgbuild.host.system.output_kinds import PROVENANCE
from kgbuild.report.documents import schema_name
from kgbuild.report.formats import Answer


@click.command(cls=KgbuildCommand)
@click.argument("source", metavar="RELEASE|PATCH.ko", type=click.Path(path_type=Path))
@click.option("--deb", is_flag=True, help="Make Debian packages (the default where --rpm is not given).")
@click.option("--rpm", is_flag=True, help="Make RPM packages.")
@click.option(
    "-o",
    "output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("dist"),
    show_default=True,
    metavar="DIR",
    help="Directory to write the packages to.",
)
@click.option(
    "--release", type=click.IntRange(1), metavar="N", help="Number of the release [the one at the end of PATCH]."
)
@click.option("--cve", "cves", multiple=True, metavar="CVE", help="A CVE that the module fixes (repeatable).")
@click.option(
    "--document",
    "documents",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A file for /usr/share/doc: report, proof record, provenance (repeatable).",
)
@click.option("--kernel-package", default="", metavar="'NAME (= VERSION)'", help="The kernel's package [Debian's].")
@click.option("--maintainer", default="", metavar="'NAME <MAIL>'", help="Who the packages name [kgbuild's developers].")
@click.option(
    "--provenance",
    type=options.OutputFile(PROVENANCE),
    metavar="FILE",
    help="Write the digests of packages and modules, as repo reads them (in-toto, SLSA); signed by --sign-key.",
)
@options.sign_options
@options.common_options()
def package(
    source: Path,
    deb: bool,
    rpm: bool,
    output: Path,
    release: int | None,
    cves: tuple[str, ...],
    documents: tuple[Path, ...],
    kernel_package: str,
    maintainer: str,
    provenance: Path | None,
    sign_key: str | None,
    sign_cert: Path | None,
    common: options.Common,
) -> None:
    """Make packages of a release's directory, or of one module.

    Installing one loads the patch, now and at every boot of its kernel; upgrading replaces it in one transition;
    removing unloads it. The module is packed as it is, never stripped. The same input gives the same bytes.

    \b
    Examples:
      kgbuild package release-3/ --deb --rpm -o dist/
      kgbuild package livepatch-3.ko --deb --cve CVE-2026-12345
    """
    from kgbuild.cli.delivery.sign import open_signing
    from kgbuild.delivery.package_texts import MAINTAINER
    from kgbuild.pipeline.delivery.package import pack, read_module_to_pack, read_release_to_pack, statement_of_packages
    from kgbuild.pipeline.delivery.provenance import statement_file

    out = common.output()
    if sign_key is not None and provenance is None:
        raise click.UsageError("--sign-key signs what --provenance writes: say that too")
    key = open_signing(sign_key, sign_cert)
    if source.is_dir():
        if release is not None or cves or documents:
            raise click.UsageError("--release, --cve and --document are for a single module; a release has its own")
        modules = read_release_to_pack(source, kernel_package)
    else:
        modules = [read_module_to_pack(source, release, cves, documents, kernel_package)]
    made = pack(modules, deb=deb or not rpm, rpm=rpm, maintainer=maintainer or MAINTAINER)
    options.write_directory(output, {one.name: one.data for one in made})
    if provenance is not None:
        statement = statement_of_packages(made, modules, maintainer or MAINTAINER)
        common.write(provenance, statement_file(statement, key))
    rows = [
        {
            "path": str(output / one.name),
            "package": one.package,
            "version": one.version,
            "sha256": hashlib.sha256(one.data).hexdigest(),
            "bytes": len(one.data),
        }
        for one in made
    ]
    common.deliver(Answer(lambda: {"schema": schema_name("package"), "packages": rows}))
    for row in rows:
        out.line("wrote", f"{row['path']}  {int(str(row['bytes'])) / 1024:.0f} KiB")


@click.command(cls=KgbuildCommand)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--gpg-key", default="", metavar="KEY", help="Sign with this key of gpg; without, nothing is signed.")
@click.option(
    "--gpg-home",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Directory with gpg's keys [gpg's own].",
)
@click.option(
    "--provenance",
    "statements",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Refuse a package that is none of those package --provenance wrote of (repeatable).",
)
@click.option(
    "--certificate",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="CERT",
    help="Refuse a --provenance that is not signed by the key of this certificate (PEM).",
)
@options.common_options()
def repo(
    folder: Path,
    gpg_key: str,
    gpg_home: Path | None,
    statements: tuple[Path, ...],
    certificate: Path | None,
    common: options.Common,
) -> None:
    """Make the packages in DIR a repository that apt and dnf read.

    The lists are written into DIR, beside the packages, by apt-ftparchive and createrepo_c.

    \b
    Example:
      kgbuild repo dist/ --gpg-key livepatches@example.org
    """
    from kgbuild.host.delivery.repositories import make_repository
    from kgbuild.pipeline.delivery.package import check_packages

    out = common.output()
    if certificate is not None and not statements:
        raise click.UsageError("--certificate is that of who signed --provenance: say that too")
    if statements:
        check_packages(folder, statements, certificate)
    made = make_repository(folder, gpg_key, gpg_home)
    rows = [{"kind": kind, "packages": count, "signed": bool(gpg_key)} for kind, count in made.items()]
    common.deliver(Answer(lambda: {"schema": schema_name("repo"), "folder": str(folder), "repositories": rows}))
    signed = "signed" if gpg_key else "not signed"
    for kind, count in made.items():
        out.line(kind, f"{folder}  {count} package{'s' * (count != 1)}, {signed}")
