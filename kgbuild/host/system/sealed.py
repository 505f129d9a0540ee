# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that are whole or not there, and that show whether they still are what was written.

A file is written aside (.NAME.PID.NUMBER.part, locked while its writer lives) and renamed. A seal lies beside it:
.NAME.sum, two lines, JSON and the SHA-256 of that line. The JSON has the file's `size` in bytes, its `sha256`, and as
`stamp` what the file system said of it when it was last read whole: times of content and of status (ns) and inode.
While these are the same, the file is not read again. A stamp is kept only of a file that had not been touched just
before: two writes within one tick of the clock have the same times.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kgbuild.host.system.locks import is_free, take

if TYPE_CHECKING:
    from hashlib import _Hash

# Longer than a tick of any file system's clock here (10 ms at CONFIG_HZ=100).
_TICK_NS = 50_000_000
_PIECE = 1 << 20


def _sha256(data: bytes = b"") -> _Hash:
    from hashlib import sha256  # loads OpenSSL: most commands write a file and read no seal

    return sha256(data)


class _Seal(NamedTuple):
    size: int
    sha256: str
    stamp: tuple[int, ...] = ()


def name_place(error: BaseException, path: Path) -> None:
    """Say where a write failed: Python names no file where it was open already, as on a full disk."""
    if isinstance(error, OSError) and error.filename is None:
        error.filename = str(path)


@contextmanager
def written_aside(path: Path, *, sealed: bool = True) -> Iterator[Path]:
    """The name to write a file under, empty at first, that becomes `path` when the context ends well.

    With `sealed` a seal is put beside it. What was there stays until then. Raises OSError, also where SQLite could not
    write what the file is to be.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns():x}.part")
    try:
        lock = take(part)
        assert lock is not None
        try:
            yield part
            made = _Seal(part.stat().st_size, digest_of(part)) if sealed else None
            if sealed:
                _seal_path(path).unlink(missing_ok=True)
            replace_durably(part, path)
            if made is not None:
                _write_seal(path, made, None)
        finally:
            lock.release()
    except BaseException as error:
        name_place(error, path)
        part.unlink(missing_ok=True)
        if (failed := _failed_database(error)) is not None:
            raise OSError(failed, os.strerror(failed), str(path)) from error
        raise


def _failed_database(error: BaseException) -> int | None:
    """The number of the system's error where SQLite could not write; None for all else."""
    sqlite = sys.modules.get("sqlite3")  # who has not loaded it has no such error
    if sqlite is None or not isinstance(error, sqlite.OperationalError):
        return None
    return {sqlite.SQLITE_FULL: errno.ENOSPC, sqlite.SQLITE_IOERR: errno.EIO}.get(error.sqlite_errorcode & 0xFF)


def replace_durably(part: Path, path: Path) -> None:
    """Give a file that is complete, or a directory, its final name, so that a power cut leaves what was there before or
    all of it: a rename may reach the disk before the bytes do. Where a file system can't say that it has them, nothing
    waits. Raises OSError where the rename fails."""
    if not part.is_dir():
        _to_disk(part)
    part.replace(path)
    _to_disk(path.parent)


def _to_disk(path: Path) -> None:
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that readers see all of it or nothing; it has no seal. Raises OSError."""
    with written_aside(path, sealed=False) as part:
        part.write_bytes(data)


def write_sealed(path: Path, data: bytes) -> None:
    """Write a file with a seal, so that readers see all of it or nothing. Raises OSError."""
    with written_aside(path) as part:
        part.write_bytes(data)


def read_sealed(path: Path, *, unsealed: bool = False) -> bytes | None:
    """The bytes of a file that is as its seal says; None where it is not, or not there. `unsealed` takes one without a
    seal, too."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    found = _read_seal(path)
    if found is None:
        return data if unsealed else None
    return data if found.sha256 == _sha256(data).hexdigest() else None


def is_whole(path: Path) -> bool | None:
    """Whether a file is as its seal says; None where it has no seal that can be read. A file that is not there is not
    whole."""
    try:
        status = path.stat()
    except OSError:
        return False
    found = _read_seal(path)
    if found is None:
        return None
    if found.size != status.st_size:
        return False
    if found.stamp != stamp_of(status):
        settled = is_settled(status)
        try:
            if digest_of(path) != found.sha256:
                return False
        except OSError:
            return False
        if settled:
            with suppress(OSError):
                _write_seal(path, found, status)
    return True


def seal(path: Path) -> None:
    """Put a seal beside a file that is known to be good. Not being able to is no error: it is looked at again."""
    with suppress(OSError):
        status = path.stat()
        settled = is_settled(status)
        _write_seal(path, _Seal(status.st_size, digest_of(path)), status if settled else None)


def remove_sealed(path: Path) -> None:
    """Remove a file and its seal. Missing ones are fine."""
    path.unlink(missing_ok=True)
    _seal_path(path).unlink(missing_ok=True)


def digest_of(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes. Raises OSError."""
    digest = _sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def stamp_of(status: os.stat_result) -> tuple[int, int, int]:
    """What changes where a file is written to or replaced: times of content and of status (ns), inode."""
    return status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def is_settled(status: os.stat_result) -> bool:
    """Whether a write from now on is sure to give the file another stamp."""
    return time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > _TICK_NS


def sweep_parts(folder: Path) -> int:
    """Remove the unfinished files of dead runs from a directory; returns how many bytes they had."""
    freed = 0
    for part in folder.glob(".*.part*"):
        # what SQLite puts beside its file goes when that does
        owner = part.with_name(part.name[: part.name.rindex(".part") + len(".part")])
        with suppress(OSError):
            if part.is_file() and (is_free(owner) or not owner.exists()):
                freed += part.lstat().st_size
                part.unlink()
    return freed


def _seal_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.sum")


def _read_seal(path: Path) -> _Seal | None:
    try:
        text, check = _seal_path(path).read_bytes().split(b"\n")[:2]
        if _sha256(text).hexdigest().encode() != check:
            return None
        found = json.loads(text)
        return _Seal(found["size"], found["sha256"], tuple(found["stamp"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_seal(path: Path, made: _Seal, status: os.stat_result | None) -> None:
    """`status` is of before the file was read, None where a later write could leave it as it is."""
    stamp = stamp_of(status) if status is not None else ()
    text = json.dumps({"size": made.size, "sha256": made.sha256, "stamp": stamp}).encode()
    write_atomic(_seal_path(path), text + b"\n" + _sha256(text).hexdigest().encode() + b"\n")
