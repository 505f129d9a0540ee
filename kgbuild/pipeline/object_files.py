# SPDX-License-Identifier: GPL-2.0-or-later
"""The files that `diff` is given: objects, Module.symvers, symbol tables. Limits are many times what kernels have."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import TYPE_CHECKING

from kgbuild.elf.object import Object
from kgbuild.elf.read import read
from kgbuild.errors import UserError
from kgbuild.kernel.exports import Export, parse_symvers
from kgbuild.pipeline.object_diff import read_relocatable

if TYPE_CHECKING:
    from kgbuild.kernel.parent_symtab import ParentSymbols

MAX_FILE = 1 << 30  # bytes of an object, or of a vmlinux with its debugging information
MAX_MAP, MAX_SYMVERS = 1 << 26, 1 << 24  # bytes of text
IN_MEMORY = 1 << 26  # what is larger stays where it is, and only what is looked at is read


def read_bytes(path: Path, limit: int = MAX_FILE, *, remedy: str = "name a readable file") -> bytes | memoryview:
    """A file's bytes. Raises UserError, with this remedy, for what is no regular file, can't be read, or is larger than
    `limit`."""
    try:
        size = path.stat().st_size
        if not path.is_file():  # a device may never end
            raise UserError("is no regular file", place=str(path), remedy=remedy)
        if size > limit:
            raise UserError(f"{size} bytes are more than any such file has", place=str(path))
        if size > IN_MEMORY:
            with path.open("rb") as file:
                return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        return path.read_bytes()
    except OSError as error:
        raise UserError(error.strerror or str(error), place=str(path), remedy=remedy) from error


def read_symvers(path: Path) -> dict[str, Export]:
    """The exports of a Module.symvers, by name. Raises UserError where the file can't be read."""
    return parse_symvers(bytes(read_bytes(path, MAX_SYMVERS)).decode("utf-8", "replace"))


def read_object(path: Path) -> Object:
    """A relocatable object. Raises UserError for any other file."""
    data = read_bytes(path)
    try:
        return read_relocatable(data, str(path))
    except UserError as error:
        error.place = error.place or str(path)
        raise


def read_parent_symbols(path: Path) -> ParentSymbols:
    """The symbols of vmlinux or of a module: of the ELF file, of what `readelf -sW` said of it, or of System.map.
    Raises UserError for any other file."""
    from kgbuild.kernel.parent_symtab import read_parent

    data = read_bytes(path)
    try:
        if data[:4] == b"\x7fELF":
            return read_parent(b"", str(path), [read(data)])
        if len(data) > MAX_MAP:
            raise UserError(f"{len(data)} bytes are more than any such text has", place=str(path))
        return read_parent(bytes(data), str(path), [])
    except UserError as error:
        error.place = error.place or str(path)
        raise
