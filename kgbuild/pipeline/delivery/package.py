# SPDX-License-Identifier: GPL-2.0-or-later
"""`package` and `repo`: packages of a module or of a release, and repositories of packages."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kgbuild import __version__
from kgbuild.delivery.package_statement import is_stated, make_package_statement, read_package_statement
from kgbuild.delivery.package_texts import (
    MAINTAINER,
    Package,
    check_maintainer,
    meta_package,
    patch_package,
    rpm_kernel,
    tools_package,
)
from kgbuild.delivery.patch_facts import PatchFacts, read_facts, release_of_name
from kgbuild.errors import UserError
from kgbuild.host.delivery.packages import delivery_data, make_deb, make_rpm, source_date
from kgbuild.host.releases.release_files import read_member
from kgbuild.host.system.input_files import read_input, read_packed
from kgbuild.limits import MODULE_BYTES
from kgbuild.pipeline.delivery.provenance import read_signed
from kgbuild.releases.manifest import MANIFEST, parse_manifest

_DEPENDENCY = re.compile(r"[a-z0-9][a-z0-9.+-]{1,200} \(= [0-9][0-9A-Za-z.+~:-]{0,200}\)")


@dataclass(frozen=True)
class ToPack:
    """One module with what goes beside it."""

    facts: PatchFacts
    module: bytes
    documents: dict[str, bytes]
    kernel_package: str


@dataclass(frozen=True)
class Packed:
    """A package as a file."""

    name: str
    data: bytes
    package: str
    version: str


def read_module_to_pack(
    path: Path,
    release: int | None,
    cves: Sequence[str] = (),
    documents: Sequence[Path] = (),
    kernel_package: str = "",
) -> ToPack:
    """A single module. `release` is the number at the end of its file's name where none is given. Raises UserError."""
    data = read_packed(path)
    number = release if release is not None else release_of_name(path.stem)
    if number is None:
        fact = "the file's name ends with no number of a release"
        raise UserError(fact, place=str(path), remedy="say --release N, which must rise from package to package")
    facts = read_facts(data, str(path), number, cves)
    beside = [(d, read_input(d, MODULE_BYTES)) for d in documents]
    return ToPack(facts, data, _documents(beside), _kernel_package(facts, kernel_package))


def read_release_to_pack(folder: Path, kernel_package: str = "") -> list[ToPack]:
    """All modules of a release's directory (docs/releases.md).

    Raises UserError where it is none, or a file of it is not the one that its manifest names.
    """

    place = folder / MANIFEST
    manifest = parse_manifest(read_input(place, MODULE_BYTES), str(place))
    number = manifest["release"]
    sums = {row["path"]: row["sha256"] for row in manifest["files"]}
    cves_of = {fix["id"]: fix["cves"] for fix in manifest["fixes"]}
    kernels = [row for row in manifest["kernels"] if row["module"] is not None]

    def read(path: str) -> bytes:
        return read_member(folder, path, sums.get(path, ""))

    found = [_of_kernel(folder, row, number, cves_of, list(sums), read, kernel_package) for row in kernels]
    if not found:
        raise UserError("has no module: there is nothing to pack", place=str(folder), remedy="see its manifest.json")
    return found


def _of_kernel(
    folder: Path,
    row: Mapping[str, Any],
    number: int,
    cves_of: Mapping[str, Sequence[str]],
    files: Sequence[str],
    read: Callable[[str], bytes],
    kernel_package: str,
) -> ToPack:
    own = [fix for fix in row["fixes"] if fix["patch"]]
    cves = [cve for fix in own for cve in cves_of.get(fix["id"], ())]
    paths = [row["report"], row["proof"], row["vm"], *(fix["patch"] for fix in own)]
    paths += [path for path in files if path.startswith(f"{row['folder']}/") and path.endswith(".intoto.json")]
    documents = _documents([(Path(path), read(path)) for path in paths if path])
    data = read(row["module"]["path"])
    facts = read_facts(data, str(folder / row["module"]["path"]), number, cves)
    return ToPack(facts, data, documents, _kernel_package(facts, kernel_package))


def _documents(files: Sequence[tuple[Path, bytes]]) -> dict[str, bytes]:
    """Documents by the names that they have in a package; those of one name are numbered."""
    out: dict[str, bytes] = {}
    for path, data in files:
        name, number = _document_name(path), 1
        while name in out:
            number += 1
            name = f"{number}-{_document_name(path)}"
        out[name] = data
    return out


def _document_name(path: Path) -> str:
    name = re.sub(r"[^A-Za-z0-9._+-]", "_", path.name).lstrip(".-")[:120]
    return name if name and name not in ("changelog.gz", "copyright") else f"document-{name}"


def _kernel_package(facts: PatchFacts, said: str) -> str:
    if said:
        if not _DEPENDENCY.fullmatch(said):
            fact = f"{said!r} does not name one version of one package"
            raise UserError(fact, place="--kernel-package", remedy="give it as 'linux-image-NAME (= VERSION)'")
        return said
    if not facts.kernel.startswith("debian:"):
        fact = f"the package of {facts.kernel} is not known"
        raise UserError(fact, remedy="say --kernel-package 'NAME (= VERSION)'")
    return f"linux-image-{facts.kernel_release} (= {facts.kernel_version})"


def packages_of(modules: Sequence[ToPack], *, debian: bool) -> Iterator[Package]:
    """All packages: one a module, the script's, and one a flavour that follows its newest kernel."""
    newest: dict[str, PatchFacts] = {}
    for one in modules:
        facts = one.facts
        yield patch_package(facts, one.module, one.documents, one.kernel_package, rpm_kernel(facts))
        known = newest.get(facts.flavour)
        if known is None or _sortable(known.kernel_version) < _sortable(facts.kernel_version):
            newest[facts.flavour] = facts
    yield tools_package(__version__, delivery_data(), debian=debian)
    for facts in newest.values():
        yield meta_package(facts)


def _sortable(version: str) -> tuple[tuple[int, str], ...]:
    return tuple((int(n) if n else 0, text) for n, text in re.findall(r"(\d*)(\D*)", version))


def pack(modules: Sequence[ToPack], *, deb: bool, rpm: bool, maintainer: str = MAINTAINER) -> list[Packed]:
    """All packages as files. Raises ToolError where a program that makes them is missing."""
    epoch = source_date()
    check_maintainer(maintainer)
    made = []
    if deb:
        for package in packages_of(modules, debian=True):
            made.append(Packed(*make_deb(package, epoch, maintainer), package.name, package.version))
    if rpm:
        for package in packages_of(modules, debian=False):
            made.append(Packed(*make_rpm(package, epoch, maintainer), package.name, package.version))
    return made


def statement_of_packages(made: Sequence[Packed], modules: Sequence[ToPack], maintainer: str) -> dict[str, Any]:
    """The statement of packages that were just made."""
    packages = [(one.name, one.data) for one in made]
    return make_package_statement(packages, [(m.facts.name, m.module) for m in modules], maintainer, source_date())


def check_packages(folder: Path, statements: Sequence[Path], certificate: Path | None) -> None:
    """Hold the packages in a directory against statements, signed by a certificate's key where one is given. Raises
    UserError for the first package that no statement names, and for a statement that can't be read."""
    stated: dict[str, list[dict[str, str]]] = {}
    for path in statements:
        try:
            one = read_package_statement(read_signed(path, certificate)[0])
        except UserError as error:
            raise UserError(error.fact, place=error.place or str(path), remedy=error.remedy) from error
        for name in one:
            stated.setdefault(name, []).append(one)
    for package in sorted([*folder.glob("*.deb"), *folder.glob("*.rpm")]):
        rows = stated.get(package.name, [])
        if not rows:
            remedy = "name the statement of its making too, or take it out of the directory"
            raise UserError("is named by no --provenance", place=str(package), remedy=remedy)
        data = read_input(package, MODULE_BYTES)
        if not any(is_stated(package.name, data, row) for row in rows):
            remedy = "make the package again, or take it out of the directory"
            raise UserError("is not the package that --provenance names", place=str(package), remedy=remedy)
