# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads other patch modules that are loaded together with the new one, from their files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from kgbuild.elf.read import FormatError, read
from kgbuild.errors import UserError
from kgbuild.host.modules.files import read_module_bytes
from kgbuild.livepatch.cumulative import Older
from kgbuild.livepatch.foreign_patches import OtherPatch, read_other


def read_older_modules(paths: Iterable[Path]) -> tuple[Older, ...]:
    """Every module of --on-top-of, in the given order. Raises UserError for a file that can't be read or that was not
    made by kgbuild."""
    out = []
    for path in paths:
        # LIEF takes time to import
        from kgbuild.verification.reading.patch_manifest import read_older

        out.append(read_older(read_module_bytes(path), str(path)))
    return tuple(out)


def read_others(paths: Sequence[Path]) -> tuple[OtherPatch, ...]:
    """The live patch modules at `paths`. Raises UserError for a file that can't be read or is no ELF object."""
    out = []
    for path in paths:
        try:
            out.append(read_other(read(read_module_bytes(path)), path.name))
        except FormatError as error:
            raise UserError(error.fact, place=str(path), remedy=error.remedy) from error
    return tuple(out)
