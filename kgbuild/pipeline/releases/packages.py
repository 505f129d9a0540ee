# SPDX-License-Identifier: GPL-2.0-or-later
"""The packages of a release, where kgbuild.toml asks for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kgbuild.delivery.package_texts import MAINTAINER
from kgbuild.host.releases.directory import Directory
from kgbuild.pipeline.delivery.package import pack, read_release_to_pack
from kgbuild.releases.manifest import folder_of


@dataclass(frozen=True)
class PackedRelease:
    """The folder for the packages, relative to the directory of fixes, and the packages by file name."""

    output: str
    files: Mapping[str, bytes] = field(repr=False)


def pack_release(directory: Directory, number: int) -> PackedRelease | None:
    """The packages of a release that was written; None where kgbuild.toml asks for none. Raises UserError for a
    maintainer or a kernel's package that is none, ToolError where a program that makes packages is missing."""
    chosen = directory.config.package
    if chosen is None:
        return None
    modules = read_release_to_pack(directory.path / folder_of(number), chosen.kernel_package)
    made = pack(modules, deb=chosen.deb, rpm=chosen.rpm, maintainer=chosen.maintainer or MAINTAINER)
    return PackedRelease(chosen.output, {one.name: one.data for one in made})
