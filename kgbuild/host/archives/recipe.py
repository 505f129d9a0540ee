# SPDX-License-Identifier: GPL-2.0-or-later
"""From a kernel's name to the exact packages it is made of, by the recipes in recipes/.

A recipe is data: how a distribution names the packages of a kernel, and which of their members are needed.
This file knows no distribution. Names are those of the command line: `debian:RELEASE`,
`debian:RELEASE=VERSION`, a bare release, `debian:newest-6.1-cloud`, `local:NAME`, `running`.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import kgbuild
from kgbuild.errors import ToolError, UserError
from kgbuild.host.archives.archive import Archive, PackageVersion
from kgbuild.host.archives.suites import Suite, Suites, ToolchainRule

LOCAL = "local"
RUNNING = "running"


@dataclass(frozen=True)
class PackageMember:
    """What is unpacked: the first of `names` that the package has, to `to` in the kernel's directory.

    `drop` is removed from it again.
    """

    names: tuple[str, ...]
    to: str
    drop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Part:
    """One part of a kernel: in which package it is and what of it is needed.

    exact       its version is that of the image; else the nearest one does
    growth      bytes unpacked for each byte of download
    first_only  the wanted member comes first: stop reading behind it
    shared      kept once for all kernels of this package version
    tarball     a source archive inside the package, unpacked as a whole
    """

    name: str
    title: str
    packages: tuple[str, ...]
    exact: bool
    growth: float
    first_only: bool = False
    shared: bool = False
    tarball: str = ""
    unpack: tuple[PackageMember, ...] = ()


@dataclass(frozen=True)
class Recipe:
    """One distribution. `release` and `newest` are patterns with named groups that package names use; `archive` is the
    kind of its archive (host/archives/archive.py), `machine` the architecture of its kernels as `uname -m` says it.
    `image` is the package that every kernel has; each of `layouts` is a way to cut a kernel into packages."""

    distro: str
    title: str
    archive: str
    machine: str
    release: re.Pattern[str]
    newest: re.Pattern[str]
    flavours: Mapping[str, str]
    running_version: re.Pattern[str]
    source_version: re.Pattern[str]
    image: str
    layouts: tuple[tuple[Part, ...], ...]
    suites: Suites | None = None
    toolchain: ToolchainRule | None = None

    def groups(self, release: str) -> dict[str, str] | None:
        """What patterns can use for this release, or None where it is not one of this distribution."""
        found = self.release.match(release)
        return {**found.groupdict(), "release": release} if found else None

    def source_of(self, version: str) -> str:
        """The source version of a binary package version."""
        found = self.source_version.match(version)
        return found.group("version") if found else version

    @property
    def image_prefix(self) -> str:
        """What every image package's name begins with."""
        return self.image.partition("{")[0]

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts of all layouts."""
        return tuple({part.name: part for layout in self.layouts for part in layout}.values())


@dataclass(frozen=True)
class FetchPlan:
    """A kernel found in an archive: which package of which version brings each part."""

    recipe: Recipe
    release: str
    version: str
    groups: Mapping[str, str]
    packages: Mapping[str, PackageVersion]

    @property
    def parts(self) -> list[Part]:
        """The parts that it is made of."""
        return [part for part in self.recipe.parts if part.name in self.packages]

    @property
    def name(self) -> str:
        """`debian:RELEASE=VERSION`."""
        return f"{self.recipe.distro}:{self.release}={self.version}"


@dataclass(frozen=True)
class Available:
    """One kernel in the archive and its missing parts (titles), for `kernel search`."""

    name: str
    version: str
    missing: tuple[str, ...]


@dataclass(frozen=True)
class KernelName:
    """A parsed --kernel value. `release` is a release, a `newest-...` name or the name of a local kernel."""

    distro: str
    release: str
    version: str = ""

    def __str__(self) -> str:
        text = f"{self.distro}:{self.release}" if self.distro else self.release
        return f"{text}={self.version}" if self.version else text


def parse_recipe(text: str) -> Recipe:
    """Read a recipe. Raises ValueError or KeyError where something is missing or not a pattern."""
    data: dict[str, Any] = tomllib.loads(text)
    if data["format"] != 1:
        raise ValueError(f"recipe format {data['format']} is not known")
    parts = {
        name: Part(
            name=name,
            title=part["title"],
            packages=tuple(part["package"]),
            exact=part["version"] == "exact",
            growth=float(part["growth"]),
            first_only=bool(part.get("first_only", False)),
            shared=bool(part.get("shared", False)),
            tarball=str(part.get("tarball", "")),
            unpack=tuple(
                PackageMember(tuple(item["member"]), item["to"], tuple(item.get("drop", ())))
                for item in part.get("unpack", ())
            ),
        )
        for name, part in data["parts"].items()
    }
    return Recipe(
        distro=data["distro"],
        title=data["title"],
        archive=data["archive"],
        machine=data["machine"],
        release=re.compile(data["release"]),
        newest=re.compile(data["newest"]["name"]),
        flavours=dict(data["newest"]["flavours"]),
        running_version=re.compile(data["running_version"]),
        source_version=re.compile(data["source_version"]),
        image=str(data["image"]),
        layouts=tuple(tuple(parts[name] for name in layout) for layout in data["layouts"]),
        suites=_parse_suites(data["suites"]) if "suites" in data else None,
        toolchain=_parse_toolchain(data["toolchain"]) if "toolchain" in data else None,
    )


def _parse_suites(data: Mapping[str, Any]) -> Suites:
    return Suites(
        keyring=Path(data["keyring"]),
        architecture=str(data["architecture"]),
        components=tuple(data["components"]),
        sites=dict(data["sites"]),
        suites=tuple(Suite(**row) for row in data["list"]),
    )


def _parse_toolchain(data: Mapping[str, Any]) -> ToolchainRule:
    return ToolchainRule(
        text=re.compile(data["text"]),
        packages=tuple(data["packages"]),
        depends=re.compile(data["depends"]),
        links={path: tuple(targets) for path, targets in data["links"].items()},
    )


def _recipe_folder() -> Traversable:
    """recipes/ of the project: `kgbuild.recipes` where the package is installed, beside the package in a checkout."""
    installed = resources.files("kgbuild").joinpath("recipes")
    return installed if installed.is_dir() else Path(kgbuild.__file__).resolve().parents[1] / "recipes"


@cache
def load_recipes() -> dict[str, Recipe]:
    """Every recipe that kgbuild brings, by distribution."""
    recipes = {}
    for file in _recipe_folder().iterdir():
        if file.name.endswith(".toml"):
            recipe = parse_recipe(file.read_text(encoding="utf-8"))
            recipes[recipe.distro] = recipe
    return recipes


def parse_kernel_name(name: str, recipes: Mapping[str, Recipe]) -> KernelName:
    """Split a --kernel value. Raises UserError where it can't name a kernel.

    A bare release gets its distribution where one recipe knows it, else none (the cache may still have it).
    """
    text = name.strip()
    if text == RUNNING:
        return running_name(recipes)
    distro, colon, rest = text.partition(":")
    if not colon:
        distro, rest = "", text
    release, _, version = rest.partition("=")
    if not release or re.search(r"[\s/]", text) or release.startswith((".", "-")):
        raise UserError(
            "not the name of a kernel",
            place=repr(name),
            remedy="for example debian:newest-6.1-cloud, or running",
        )
    known = [*recipes, LOCAL]
    if colon and distro not in known:
        near = difflib.get_close_matches(distro, known, n=2, cutoff=0.4) or known
        raise UserError(f"unknown distribution {distro!r}", place=name, remedy=f"try {' or '.join(near)}")
    if not distro:
        fitting = [r.distro for r in recipes.values() if r.groups(release) or r.newest.match(release)]
        if len(fitting) > 1:
            raise UserError(
                f"several distributions have this release: {', '.join(fitting)}",
                place=name,
                remedy=f"say {fitting[0]}:{release}",
            )
        distro = fitting[0] if fitting else ""
    return KernelName(distro, release, version)


def running_name(
    recipes: Mapping[str, Recipe], uname_release: str | None = None, uname_version: str | None = None
) -> KernelName:
    """The name of the kernel this machine runs (by uname). Raises UserError where no recipe knows it."""
    release = os.uname().release if uname_release is None else uname_release
    version = os.uname().version if uname_version is None else uname_version
    for recipe in recipes.values():
        found = recipe.running_version.search(version)
        if recipe.groups(release) and found:
            return KernelName(recipe.distro, release, found.group("version"))
    raise UserError(
        f"the running kernel {release} is of no distribution known here",
        place=RUNNING,
        remedy="name another with --kernel, or add this one with kgbuild kernel add",
    )


def find_packages(name: KernelName, recipe: Recipe, archive: Archive) -> FetchPlan:
    """Find the packages of a kernel.

    Raises UserError for an unknown release (with the nearest names) or version, ToolError where the archive
    has a part of it missing.
    """
    newest = recipe.newest.match(name.release)
    if newest:
        return _resolve_newest(name, recipe, archive, newest.groupdict())
    groups = recipe.groups(name.release)
    if groups is None:
        raise _unknown(name, recipe, archive)
    versions = archive.versions(_package_names(recipe, [groups]))
    images = versions.get(_expand(recipe.image, groups), [])
    if not images:
        raise _unknown(name, recipe, archive)
    if name.version:
        if name.version not in images:
            raise UserError(
                f"the archive has no version {name.version} of it",
                place=str(name),
                remedy=f"it has {', '.join(images)}",
            )
        images = [name.version]
    incomplete: list[str] = []
    for version in images:
        chosen, missing = _choose(recipe, groups, version, versions, archive)
        if not missing:
            return _plan(recipe, groups, version, chosen, archive)
        incomplete = incomplete or missing
    raise ToolError(
        f"version {images[0]} is in the archive without its {' and '.join(incomplete)}",
        place=f"{recipe.distro}:{name.release}",
        remedy=f"choose one that is complete (kgbuild kernel search), or {archive.refresh} and try again",
    )


def other_plans(plan: FetchPlan, name: KernelName, archive: Archive) -> Iterator[FetchPlan]:
    """The other kernels of the series and flavour of a plan of which the lists have every part, newest first; of the
    release of the distribution that a `newest-...` name says. Raises ToolError where the archive can't be asked."""
    recipe = plan.recipe
    newest = recipe.newest.match(name.release)
    label = newest.groupdict().get("label") if newest else None
    archive = archive.narrowed(label) if label else archive
    wanted = (plan.groups["series"], plan.groups["flavour"])
    fitting = [g for g in _releases(recipe, archive) if (g["series"], g["flavour"]) == wanted]
    versions = archive.versions(_package_names(recipe, fitting))
    for version, groups in _newest_first(recipe, fitting, versions, archive):
        chosen, missing = _choose(recipe, groups, version, versions, archive)
        if not missing and (groups["release"], version) != (plan.release, plan.version):
            yield _plan(recipe, groups, version, chosen, archive)


def _newest_first(
    recipe: Recipe, fitting: Iterable[Mapping[str, str]], versions: Mapping[str, list[str]], archive: Archive
) -> list[tuple[str, Mapping[str, str]]]:
    found = [(version, g) for g in fitting for version in versions.get(_expand(recipe.image, g), [])]
    return sorted(found, key=lambda c: (archive.version_key(c[0]), archive.version_key(c[1]["release"])), reverse=True)


def search(pattern: str, recipe: Recipe, archive: Archive) -> list[Available]:
    """Kernels of the archive whose release contains `pattern`, newest first, with the missing parts of each."""
    every = [groups for groups in _releases(recipe, archive) if pattern in f"{recipe.distro}:{groups['release']}"]
    versions = archive.versions(_package_names(recipe, every))
    found = []
    for groups in every:
        for version in versions.get(_expand(recipe.image, groups), []):
            _, missing = _choose(recipe, groups, version, versions, archive)
            found.append(Available(f"{recipe.distro}:{groups['release']}", version, tuple(missing)))
    return sorted(found, key=lambda a: (archive.version_key(a.version), a.name), reverse=True)


def _resolve_newest(name: KernelName, recipe: Recipe, archive: Archive, wanted: Mapping[str, str | None]) -> FetchPlan:
    short = wanted.get("flavour") or ""
    if short not in recipe.flavours:
        raise UserError(
            f"unknown flavour {short!r}",
            place=str(name),
            remedy="known are " + ", ".join(key or "none" for key in recipe.flavours),
        )
    flavour, series, label = recipe.flavours[short], wanted["series"], wanted.get("label") or ""
    if label:
        archive = archive.narrowed(label)
    every = _releases(recipe, archive)
    fitting = [g for g in every if g["flavour"] == flavour and g["series"] == series]
    versions = archive.versions(_package_names(recipe, fitting))
    candidates = [c for c in _newest_first(recipe, fitting, versions, archive) if name.version in ("", c[0])]
    for version, groups in candidates:
        chosen, missing = _choose(recipe, groups, version, versions, archive)
        if not missing:
            return _plan(recipe, groups, version, chosen, archive)
    series_known = sorted({g["series"] for g in every if g["flavour"] == flavour}, key=archive.version_key)
    if not candidates:
        raise UserError(
            f"the archive has no {flavour} kernel of series {series}" + (f" in {label}" if label else ""),
            place=str(name),
            remedy=f"it has {', '.join(series_known)}" if series_known else archive.refresh,
        )
    raise ToolError(
        f"no {flavour} kernel of series {series} is complete in the archive",
        place=str(name),
        remedy=f"{archive.refresh}, or see kgbuild kernel search {series}",
    )


def _releases(recipe: Recipe, archive: Archive) -> list[dict[str, str]]:
    names = archive.package_names(recipe.image_prefix)
    every = (recipe.groups(name.removeprefix(recipe.image_prefix)) for name in names)
    return [groups for groups in every if groups]


def _unknown(name: KernelName, recipe: Recipe, archive: Archive) -> UserError:
    known = [groups["release"] for groups in _releases(recipe, archive)]
    near = difflib.get_close_matches(name.release, known, n=3, cutoff=0.5)
    return UserError(
        f"{recipe.title}'s archive has no such kernel",
        place=str(name),
        remedy=("nearest: " + ", ".join(f"{recipe.distro}:{release}" for release in near))
        if near
        else "kgbuild kernel search lists what there is",
    )


def _package_names(recipe: Recipe, releases: Iterable[Mapping[str, str]]) -> set[str]:
    patterns = {recipe.image, *(package for part in recipe.parts for package in part.packages)}
    return {_expand(pattern, groups) for groups in releases for pattern in patterns}


def _expand(pattern: str, groups: Mapping[str, str]) -> str:
    return pattern.format_map(groups)


def _choose(
    recipe: Recipe, groups: Mapping[str, str], version: str, versions: Mapping[str, list[str]], archive: Archive
) -> tuple[dict[str, tuple[str, str]], list[str]]:
    """(package, version) of every part of one image version, and the titles of parts that are missing: of the first
    layout of which the least is missing."""
    every = [_choose_layout(layout, recipe, groups, version, versions, archive) for layout in recipe.layouts]
    return min(every, key=lambda one: len(one[1]))


def _choose_layout(
    layout: Iterable[Part],
    recipe: Recipe,
    groups: Mapping[str, str],
    version: str,
    versions: Mapping[str, list[str]],
    archive: Archive,
) -> tuple[dict[str, tuple[str, str]], list[str]]:
    chosen: dict[str, tuple[str, str]] = {}
    missing = []
    source = recipe.source_of(version)
    for part in layout:
        for pattern in part.packages:
            package = _expand(pattern, groups)
            found = _fitting_version(part, versions.get(package, []), version, source, archive)
            if found:
                chosen[part.name] = (package, found)
                break
        else:
            missing.append(part.title)
    return chosen, missing


def _fitting_version(part: Part, there: list[str], version: str, source: str, archive: Archive) -> str | None:
    # `there` is newest first. Where another version may stand in, the next newer one is nearest.
    for candidate in (version, source):
        if candidate in there:
            return candidate
    if part.exact or not there:
        return None
    newer = [candidate for candidate in there if archive.version_key(candidate) > archive.version_key(version)]
    return newer[-1] if newer else there[0]


def _plan(
    recipe: Recipe,
    groups: Mapping[str, str],
    version: str,
    chosen: Mapping[str, tuple[str, str]],
    archive: Archive,
) -> FetchPlan:
    packages = dict(zip(chosen, archive.packages(chosen.values()), strict=True))
    return FetchPlan(recipe, groups["release"], version, groups, packages)
