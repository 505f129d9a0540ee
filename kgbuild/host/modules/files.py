# SPDX-License-Identifier: GPL-2.0-or-later
"""Module files: found in a package, decompressed, and read for their .modinfo."""

from __future__ import annotations

import gzip
import io
import lzma
from pathlib import Path, PurePosixPath

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from kgbuild.errors import UserError

_SUFFIXES = (".ko", ".ko.xz", ".ko.gz", ".ko.zst")


def read_modinfo(data: bytes) -> dict[str, str]:
    """key -> value of a module's .modinfo; the last one of repeated keys. Empty if this is no kernel module."""
    try:
        section = ELFFile(io.BytesIO(data)).get_section_by_name(".modinfo")
        content = section.data() if section is not None else b""
    except (ELFError, OSError, ValueError):
        return {}
    pairs = (item.partition(b"=") for item in content.split(b"\0") if b"=" in item)
    return {key.decode("utf-8", "replace"): value.decode("utf-8", "replace") for key, _, value in pairs}


def read_module(path: Path) -> bytes:
    """A module's bytes, decompressed if the file name says it is compressed."""
    try:
        match path.suffix:
            case ".xz":
                return lzma.decompress(path.read_bytes())
            case ".gz":
                return gzip.decompress(path.read_bytes())
            case ".zst":
                return _unzstd(path)
            case _:
                return path.read_bytes()
    except (lzma.LZMAError, EOFError) as error:
        raise UserError(f"can't be decompressed: {error}", place=str(path)) from error
    except OSError as error:
        raise UserError(error.strerror or str(error), place=str(path)) from error


def _unzstd(path: Path) -> bytes:
    # most kernels have none
    import zstandard

    try:
        with path.open("rb") as file:
            return zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True).read()
    except zstandard.ZstdError as error:
        raise UserError(f"can't be decompressed: {error}", place=str(path)) from error


def module_name(path: str) -> str:
    """The kernel's name for a module file: "net/dm-mod.ko.xz" is dm_mod."""
    name = PurePosixPath(path).name
    for suffix in sorted(_SUFFIXES, key=len, reverse=True):
        name = name.removesuffix(suffix)
    return name.replace("-", "_")


def index_modules(root: Path | None) -> dict[str, Path]:
    """Every module file below a directory, by the kernel's name for it."""
    found = sorted(root.rglob("*.ko*")) if root is not None and root.is_dir() else []
    return {module_name(path.name): path for path in found if path.name.endswith(_SUFFIXES)}


def depends_of(module: bytes) -> list[str]:
    """Names (with underscores) of the modules that a module needs, from its modinfo."""
    return [name.replace("-", "_") for name in read_modinfo(module).get("depends", "").split(",") if name]
