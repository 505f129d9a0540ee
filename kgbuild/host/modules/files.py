# SPDX-License-Identifier: GPL-2.0-or-later
"""Module files: found in a package, decompressed, and read for their .modinfo."""

from __future__ import annotations

import os
import posixpath
from pathlib import Path

from kgbuild.elf.modinfo import modules_needed, parse_modinfo
from kgbuild.elf.read import FormatError
from kgbuild.elf.section_headers import read_sections
from kgbuild.host.system.input_files import read_packed

_SUFFIXES = (".ko.zst", ".ko.xz", ".ko.gz", ".ko")


def read_modinfo(data: bytes) -> dict[str, str]:
    """key -> value of a module's .modinfo; the first one of repeated keys. Empty if this is no kernel module."""
    try:
        found = read_sections(data)
        section = found.section_named(".modinfo")
        return parse_modinfo(found.contents(section.index)) if section is not None else {}
    except FormatError:
        return {}


def read_module_bytes(path: Path) -> bytes:
    """A module's bytes, decompressed where they are compressed. Raises what `read_packed` raises."""
    return read_packed(path)


def module_name(path: str) -> str:
    """The kernel's name for a module file: "net/dm-mod.ko.xz" is dm_mod."""
    name = posixpath.basename(path)
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    return name.replace("-", "_")


def index_modules(root: Path | None) -> dict[str, Path]:
    """Every module file below a directory, by the kernel's name for it."""
    found = os.walk(root) if root is not None else ()
    paths = (Path(folder, name) for folder, _, names in found for name in names if name.endswith(_SUFFIXES))
    return {module_name(path.name): path for path in sorted(paths)}


def depends_of(module: bytes) -> list[str]:
    """Names (with underscores) of the modules that a module needs, from its modinfo."""
    return [*modules_needed(read_modinfo(module))]
