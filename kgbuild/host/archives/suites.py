# SPDX-License-Identifier: GPL-2.0-or-later
"""What a recipe says of its distribution's suites and compilers, and what an archive of suites can do."""

from __future__ import annotations

import hashlib
import importlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from kgbuild.errors import UserError
from kgbuild.host.archives.archive import Archive
from kgbuild.progress import Progress

# The environment variable that names a mirror where --mirror does not.
MIRROR_VARIABLE = "KGBUILD_MIRROR"


@dataclass(frozen=True)
class Suite:
    """One suite of a distribution.

    name      as below dists/ of the mirror: bookworm-security
    site      which of the recipe's sites has it
    label     what users call the distribution's release in names of kernels: deb12
    base      the suite that it belongs to: bookworm. A toolchain is made of the suites of one base
    archived  the distribution has stopped signing its lists, so that their date has passed
    """

    name: str
    site: str
    label: str
    base: str
    archived: bool = False


@dataclass(frozen=True)
class Suites:
    """What a recipe says of its distribution's suites. `sites` maps a site to the last part of its mirror's address,
    which is how it is recognised among the system's sources."""

    keyring: Path
    architecture: str
    components: tuple[str, ...]
    sites: Mapping[str, str]
    suites: tuple[Suite, ...]

    def of_base(self, base: str) -> tuple[Suite, ...]:
        """The suites that belong to `base`."""
        return tuple(s for s in self.suites if s.base == base)


@dataclass(frozen=True)
class ToolchainRule:
    """What a recipe says of its distribution's compilers.

    text      matches CONFIG_CC_VERSION_TEXT; its groups `command` and `version` name the compiler's package and version
    packages  what a kernel's build needs besides, by name
    depends   matches those dependencies of the kernel's own packages that come along
    links     links that installed packages would have made when they were configured: path -> possible targets
    """

    text: re.Pattern[str]
    packages: tuple[str, ...]
    depends: re.Pattern[str]
    links: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class ToolchainPackage:
    """One package file: name, version, its name in apt's folder, size in bytes."""

    name: str
    version: str
    file: str
    size: int


@dataclass(frozen=True)
class ToolchainPlan:
    """A toolchain that the archive has: the compiler's package, the suites that it is made of, what was asked of apt
    (NAME or NAME=VERSION), and every package file that this takes."""

    command: str
    version: str
    base: str
    wanted: tuple[str, ...]
    packages: tuple[ToolchainPackage, ...]

    @property
    def key(self) -> str:
        """What the cache knows it by: a digest (hex) of names and versions, which in a signed archive mean one file
        each."""
        rows = sorted((p.name, p.version) for p in self.packages)
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:32]


class SuiteArchive(Archive, Protocol):
    """An archive whose package lists are kgbuild's own, of all suites of a distribution."""

    @property
    def has_lists(self) -> bool:
        """Whether lists were fetched before, however old they are."""

    def check(self) -> str:
        """Whether the lists can be fetched and checked, without asking the network: where from, in words. Raises
        ToolError where no mirror is known, or no keyring is there."""

    def update(self, progress: Progress, *, force: bool = False) -> list[str]:
        """Fetch the lists where they are older than a day or another mirror's; returns sentences that say which suites
        the mirror does not have, and whose lists were not taken and why: these are asked for again by the next run. The
        caller holds the lock of the lists. Raises UserError for a mirror that is none, ToolError where there is no list
        at all that can be believed."""

    def plan_toolchain(self, rule: ToolchainRule, text: str, packages: Iterable[tuple[str, str]]) -> ToolchainPlan:
        """The toolchain of the compiler that calls itself `text` (CONFIG_CC_VERSION_TEXT). `packages` are (name,
        version) of the kernel's own packages: the libraries that its build tools need come along. Raises UserError
        where the text is no compiler of the distribution or no suite has it, ToolError where the archive fails."""

    def fetch_toolchain(self, plan: ToolchainPlan) -> list[Path]:
        """Download the package files of a plan, each checked against the signed lists; their paths. Raises
        ToolError."""


# key in a recipe -> module beside this one, and its class
_KINDS = {"apt": ("apt_suites", "AptSuites")}


def open_suites(kind: str, root: Path, suites: Suites, mirror: str = "") -> SuiteArchive:
    """The archive of all suites of a distribution, with lists of kgbuild's own below `root`; `mirror` is the user's
    word for where it is. Raises UserError for a kind that is not known."""
    if kind not in _KINDS:
        raise UserError(f"unknown kind of archive {kind!r}", place="recipe", remedy=f"known are {', '.join(_KINDS)}")
    module, name = _KINDS[kind]
    archive: SuiteArchive = getattr(importlib.import_module(f"kgbuild.host.archives.{module}"), name)(
        root, suites, mirror
    )
    return archive
