# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that a user names are read here and nowhere else.

Anything can stand behind a name: a device that never ends, a pipe that nobody writes to, a directory, a sparse file of
30 GB. What is no regular file is refused by what it is, without waiting; a regular one is read up to a limit
(kgbuild/limits.py).
"""

from __future__ import annotations

import mmap
import os
import stat
from pathlib import Path
from typing import IO

from kgbuild.decompression import decompress, packed_with
from kgbuild.errors import UserError
from kgbuild.limits import MODULE_BYTES, UNPACKED_BYTES, Limit

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}
_READABLE = "name a readable file"
_PIECE = 1 << 20
_IN_MEMORY = 1 << 26  # what is larger is mapped, so that only what is looked at is read
_NAMED = {".xz": "xz", ".gz": "gzip", ".zst": "zstd"}


def read_input(path: Path, limit: Limit, remedy: str = _READABLE) -> bytes:
    """All bytes of a regular file that the user named.

    limit    the most bytes that are taken
    remedy   what to do where it is another kind of file or can't be read
    Raises UserError where it can't be read or is no regular file, LimitError where it is larger.
    """
    with _open(path, limit, remedy) as file:
        return read_limited(file, limit, str(path))


def map_input(path: Path, limit: Limit, remedy: str = _READABLE) -> bytes | memoryview:
    """As `read_input`, but a large file is mapped into memory instead of read."""
    with _open(path, limit, remedy) as file:
        if os.fstat(file.fileno()).st_size > _IN_MEMORY:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        return read_limited(file, limit, str(path))


def read_input_text(path: Path, limit: Limit, remedy: str = _READABLE) -> str:
    """The text of a regular file that the user named: UTF-8, with U+FFFD for what is not. Errors of `read_input`."""
    return read_input(path, limit, remedy).decode("utf-8", "replace")


def read_packed(path: Path, limit: Limit = MODULE_BYTES, unpacked: Limit = UNPACKED_BYTES) -> bytes:
    """A file's bytes, decompressed where its first bytes say that it is compressed (xz, gzip, zstd).

    Raises UserError where it can't be read, is no regular file, or has the name of a compressed file and is none;
    DamagedError where it can't be decompressed, LimitError where it is too large before or after.
    """
    data = read_input(path, limit)
    kind = packed_with(data)
    if not kind:
        expected = _NAMED.get(path.suffix, "")
        if expected and data[:4] != b"\x7fELF":
            raise UserError(f"is not compressed with {expected}, as its name says", place=str(path), remedy=_READABLE)
        return data
    return decompress(data, kind, str(path), unpacked)


def read_limited(stream: IO[bytes], limit: Limit, place: str) -> bytes:
    """All that a binary stream has, up to a limit; `place` names it in messages ("standard input").

    Raises LimitError where there is more than `limit`, UserError where reading fails.
    """
    pieces: list[bytes] = []
    total = 0
    try:
        while piece := stream.read(min(_PIECE, limit.most + 1 - total)):
            pieces.append(piece)
            total += len(piece)
            if total > limit.most:
                raise limit.exceeded(place)
    except OSError as error:
        raise UserError(error.strerror or str(error), place=place, remedy=_READABLE) from error
    return b"".join(pieces)


def path_within(folder: Path, name: str) -> Path | None:
    """The place below a folder that a text names, links followed; None where it is elsewhere or is no name."""
    if "\0" in name or name.startswith("/") or ".." in name.split("/"):
        return None
    path = folder / name
    try:
        return path if path.resolve().is_relative_to(folder.resolve()) else None
    except (OSError, RuntimeError):  # links that lead to each other
        return None


def check_input(path: Path, limit: Limit, remedy: str = _READABLE) -> None:
    """Raise what `read_input` would raise of what the file is and how large it is, without reading it."""
    _open(path, limit, remedy).close()


def _open(path: Path, limit: Limit, remedy: str) -> IO[bytes]:
    """A regular file of at most `limit` bytes, open."""
    descriptor = -1
    try:
        # looked at first, since to open a device can do something; again when it is open, since it may be another then
        _check_kind(path, path.stat(), remedy)
        # O_NONBLOCK: a pipe without a writer does not make us wait
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        status = os.fstat(descriptor)
        _check_kind(path, status, remedy)
        limit.check(status.st_size, str(path), remedy)
        return os.fdopen(descriptor, "rb", buffering=0)
    except OSError as error:
        fault = UserError(error.strerror or str(error), place=str(path), remedy=remedy)
    except ValueError as error:  # a NUL in the name
        fault = UserError(f"is no file name ({error})", place=repr(str(path)), remedy=remedy)
    except BaseException:
        if descriptor >= 0:
            os.close(descriptor)
        raise
    if descriptor >= 0:
        os.close(descriptor)
    raise fault


def _check_kind(path: Path, status: os.stat_result, remedy: str) -> None:
    kind = stat.S_IFMT(status.st_mode)
    if kind != stat.S_IFREG:
        raise UserError(f"is {_KINDS.get(kind, 'no regular file')}, not a file", place=str(path), remedy=remedy)
