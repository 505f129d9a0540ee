# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes an apt and a dnf repository of the packages in a directory, by the programs of these systems, signed by gpg."""

from __future__ import annotations

import gzip
import os
import re
import shutil
from pathlib import Path

from kgbuild.errors import UserError
from kgbuild.host.delivery.packages import source_date
from kgbuild.host.system.children import child_environment
from kgbuild.host.system.output_files import write_file
from kgbuild.host.system.run import run

_SECONDS = 300.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~%:^-]{0,250}\.(?:deb|rpm)")
_KEY = re.compile(r"[A-Za-z0-9@._+<> -]{3,200}")


def make_repository(folder: Path, key: str, home: Path | None) -> dict[str, int]:
    """Write the lists of a repository into a directory with packages. Returns how many packages of each kind it has.

    key     what gpg knows its key by; "" signs nothing
    home    gpg's directory, None: its own
    Raises UserError where there are no packages, ToolError where a program is missing or fails.
    """
    if not folder.is_dir():
        raise UserError("is no directory", place=str(folder), remedy="give the one that kgbuild package wrote")
    if key and (not _KEY.fullmatch(key) or key.startswith("-")):
        raise UserError(f"{key!r} names no key", place="--gpg-key", remedy="see gpg --list-secret-keys")
    debs, rpms = sorted(folder.glob("*.deb")), sorted(folder.glob("*.rpm"))
    if not debs and not rpms:
        raise UserError("has no packages", place=str(folder), remedy="make some with kgbuild package")
    for package in (*debs, *rpms):
        if not _NAME.fullmatch(package.name):
            fact = f"{package.name!r} can't be the name of a package in a list"
            raise UserError(fact, place=str(folder), remedy="rename it, or take it out of the directory")
    made: dict[str, int] = {}
    env = {**child_environment(), "SOURCE_DATE_EPOCH": str(source_date())}
    if home is not None:
        env["GNUPGHOME"] = str(home.resolve())
    elif "GNUPGHOME" in os.environ:
        env["GNUPGHOME"] = os.environ["GNUPGHOME"]
    if debs:
        _make_apt(folder, key, env)
        made["apt"] = len(debs)
    if rpms:
        if key:
            for rpm in rpms:
                words = ["--define", f"_gpg_name {key}", "--define", f"__gpg {shutil.which('gpg') or 'gpg'}"]
                run(["rpmsign", *words, "--addsign", rpm.resolve()], env=env, timeout=_SECONDS)
        words = ["--no-database", "--revision", str(source_date()), "--set-timestamp-to-revision"]
        run(["createrepo_c", "--quiet", *words, folder.resolve()], env=env, timeout=_SECONDS)
        if key:
            _sign(folder / "repodata" / "repomd.xml", folder / "repodata" / "repomd.xml.asc", "--detach-sign", key, env)
        made["dnf"] = len(rpms)
    return made


def _make_apt(folder: Path, key: str, env: dict[str, str]) -> None:
    """A flat repository: `deb [signed-by=KEY] URL ./`."""
    for name in ("Packages", "Packages.gz", "Release", "InRelease", "Release.gpg"):
        (folder / name).unlink(missing_ok=True)
    packages = run(["apt-ftparchive", "packages", "."], cwd=folder, env=env, timeout=_SECONDS).stdout
    write_file(folder / "Packages", packages.encode())
    write_file(folder / "Packages.gz", gzip.compress(packages.encode(), 9, mtime=0))
    about = {"Origin": "kgbuild", "Label": "live patches", "Suite": "stable", "Codename": "livepatch"}
    words = [word for name, text in about.items() for word in ("-o", f"APT::FTPArchive::Release::{name}={text}")]
    release = run(["apt-ftparchive", *words, "release", "."], cwd=folder, env=env, timeout=_SECONDS).stdout
    write_file(folder / "Release", release.encode())
    if key:
        _sign(folder / "Release", folder / "InRelease", "--clearsign", key, env)
        _sign(folder / "Release", folder / "Release.gpg", "--detach-sign", key, env)


def _sign(path: Path, to: Path, how: str, key: str, env: dict[str, str]) -> None:
    words: list[str | Path] = ["--batch", "--yes", "--armor", "--local-user", key, "--output", to, how, path]
    run(["gpg", *words], env=env, timeout=_SECONDS)
