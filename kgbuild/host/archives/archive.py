# SPDX-License-Identifier: GPL-2.0-or-later
"""What kgbuild asks of a distribution's package archive, whatever its tools: one protocol, and who speaks it.

A recipe names its archive by a key (`archive = "apt"`). A new kind of archive is a file beside this one with a class
that has these methods, and a row of `_KINDS`; nothing else knows its programs.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from kgbuild.errors import ToolError, UserError
from kgbuild.progress import Progress


@dataclass(frozen=True)
class PackageVersion:
    """One version of a package as the archive has it; `size` is the download in bytes."""

    name: str
    version: str
    size: int = 0


class GoneError(ToolError):
    """The lists name a package that the archive does not have any more (exit 3)."""


class Archive(Protocol):
    """A package archive, as the lists of this machine show it."""

    @property
    def refresh(self) -> str:
        """The command that brings the lists of this machine up to date, for remedies."""

    @property
    def programs(self) -> Mapping[str, str]:
        """The programs it runs, and what each is for."""

    def narrowed(self, label: str) -> Archive:
        """The part of the archive that belongs to one release of the distribution. Raises UserError for a release that
        the archive does not have."""

    def package_names(self, prefix: str) -> list[str]:
        """Names of all packages that begin with `prefix`. Raises ToolError where there are none."""

    def versions(self, names: Iterable[str]) -> dict[str, list[str]]:
        """Versions of each package that can be fetched, newest first; unknown names are left out."""

    def version_key(self, version: str) -> Any:
        """Sort key that orders versions as the archive does. What is no version comes before all that are."""

    def packages(self, wanted: Iterable[tuple[str, str]]) -> list[PackageVersion]:
        """The given (name, version) pairs with sizes. Raises ToolError where one is not in the lists."""

    def download(
        self, packages: list[PackageVersion], directory: Path, progress: Progress, title: str
    ) -> dict[str, Path]:
        """Fetch packages into `directory` and return the file of each by package name; `title` is what the progress bar
        calls it. Raises ToolError."""

    def are_there(self, packages: Iterable[PackageVersion]) -> bool:
        """Whether the archive really has these packages, by asking for their files without fetching them. Raises
        ToolError where it can't be asked."""

    def members(self, package: Path) -> Sequence[str]:
        """The command that writes the files of a fetched package to its standard output, as a tar archive."""


# key in a recipe -> module beside this one, and its class
_KINDS = {"apt": ("apt", "Apt")}
DEFAULT = "apt"  # where a kernel is of no archive, and its versions are to be ordered


def open_archive(kind: str) -> Archive:
    """The archive of the kind that a recipe names. Raises UserError for a kind that is not known."""
    if kind not in _KINDS:
        remedy = f"known are {', '.join(sorted(_KINDS))}"
        raise UserError(f"unknown kind of archive {kind!r}", place="recipe", remedy=remedy)
    module, name = _KINDS[kind]
    archive: Archive = getattr(importlib.import_module(f"kgbuild.host.archives.{module}"), name)()
    return archive


def known_archives() -> dict[str, Archive]:
    """Every kind of archive."""
    return {kind: open_archive(kind) for kind in _KINDS}
