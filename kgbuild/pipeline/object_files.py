# SPDX-License-Identifier: GPL-2.0-or-later
"""The files that `diff` is given: objects, Module.symvers, symbol tables. Limits are many times what kernels have."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kgbuild.elf.object import Object
from kgbuild.elf.read import read
from kgbuild.errors import UserError
from kgbuild.host.system.input_files import map_input, read_input_text
from kgbuild.kernel.exports import Export, parse_symvers
from kgbuild.limits import MODULE_BYTES, SYMBOLS_BYTES, SYMVERS_BYTES
from kgbuild.pipeline.object_diff import read_relocatable

if TYPE_CHECKING:
    from kgbuild.kernel.parent_symtab import ParentSymbols


def read_symvers(path: Path) -> dict[str, Export]:
    """The exports of a Module.symvers, by name. Raises UserError where the file can't be read."""
    return parse_symvers(read_input_text(path, SYMVERS_BYTES))


def read_object(path: Path) -> Object:
    """A relocatable object. Raises UserError for any other file."""
    data = map_input(path, MODULE_BYTES)
    try:
        return read_relocatable(data, str(path))
    except UserError as error:
        error.place = error.place or str(path)
        raise


def read_parent_symbols(path: Path) -> ParentSymbols:
    """The symbols of vmlinux or of a module: of the ELF file, of what `readelf -sW` said of it, or of System.map.
    Raises UserError for any other file."""
    from kgbuild.kernel.parent_symtab import read_parent

    data = map_input(path, MODULE_BYTES)
    try:
        if data[:4] == b"\x7fELF":
            return read_parent(b"", str(path), [read(data)])
        SYMBOLS_BYTES.check(len(data), str(path))
        return read_parent(bytes(data), str(path), [])
    except UserError as error:
        error.place = error.place or str(path)
        raise
