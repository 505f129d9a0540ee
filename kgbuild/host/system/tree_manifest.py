# SPDX-License-Identifier: GPL-2.0-or-later
"""What the files of a very large directory have to be, asked for a few of them at a time.

.NAME.manifest beside the directory is an SQLite file with a seal: for each file its path, size, SHA-256 and the stamp
that it had (host/system/sealed.py). Asking for a thousand files of 80,000 takes a thousand look-ups and calls of lstat;
a file is read only where its stamp is another. A file that is not in the manifest is not the directory's. That some
file was found damaged is kept in the empty file .NAME.damaged until the directory is made again.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

from kgbuild.errors import ToolError
from kgbuild.host.system.sealed import digest_of, is_settled, is_whole, remove_sealed, stamp_of, written_aside

_SCHEMA = "CREATE TABLE files (path BLOB PRIMARY KEY, size INTEGER, sha256 TEXT, stamp TEXT) WITHOUT ROWID"
_LOCK = threading.Lock()  # compiles run in threads, and share what is open


class DamagedSource(ToolError):
    """Files of a source tree are not what was unpacked. The tree is marked, and made again when it is next asked for;
    a run can catch this, ask for the kernel again and start over."""

    def __init__(self, folder: Path, paths: list[str]) -> None:
        more = f" and {len(paths) - 3} more files" if len(paths) > 3 else ""
        fact = f"{', '.join(paths[:3])}{more}: damaged, not what was unpacked; it is unpacked again"
        super().__init__(fact, place=str(folder), remedy="run the command again")
        self.paths = paths


def write_manifest(folder: Path, of: Path | None = None) -> None:
    """Say what the files of a directory have to be from now on. `of` is the name that the directory will have, where it
    is to be renamed. Raises OSError."""
    with written_aside(_path(of or folder)) as part, closing(sqlite3.connect(part)) as database:
        database.execute("PRAGMA journal_mode=OFF")
        database.execute(_SCHEMA)
        database.executemany("INSERT INTO files VALUES (?, ?, ?, ?)", _rows(folder))
        database.commit()
    _mark(of or folder).unlink(missing_ok=True)


def has_manifest(folder: Path) -> bool:
    """Whether a directory has a manifest that is whole."""
    return bool(is_whole(_path(folder)))


def check_files(folder: Path, paths: Iterable[Path] | None = None) -> None:
    """Raise DamagedSource where one of these files, or any file (None), is not what it has to be; the directory is
    marked then. Paths outside of it are not looked at. A directory without a manifest can't be checked."""
    try:
        stamp = stamp_of(_path(folder).stat())
    except OSError:
        return
    database = _opened(_path(folder), stamp)
    if database is None:
        return
    with _LOCK:
        damaged = sorted(_damaged(folder, database, paths))
    if damaged:
        with suppress(OSError):
            _mark(folder).touch()
        raise DamagedSource(folder, damaged)


def read_whole(folder: Path, path: str) -> bytes:
    """The bytes of a file of a directory, which are those that were unpacked. Raises DamagedSource where they are not,
    OSError where there is no such file."""
    check_files(folder, [folder / path])
    return (folder / path).read_bytes()


def is_marked(folder: Path) -> bool:
    """Whether a run has found damage in a directory that has not been made again since."""
    return _mark(folder).exists()


def remove_manifest(folder: Path) -> None:
    """Remove what stands beside a directory that goes."""
    remove_sealed(_path(folder))
    _mark(folder).unlink(missing_ok=True)


@lru_cache(maxsize=4)
def _opened(manifest: Path, stamp: tuple[int, int, int]) -> sqlite3.Connection | None:
    """A manifest, opened once while it is the same; None where it is damaged."""
    del stamp
    if not is_whole(manifest):
        return None
    name = f"file:{quote(str(manifest))}?mode=ro&immutable=1"
    return sqlite3.connect(name, uri=True, check_same_thread=False)


def _damaged(folder: Path, database: sqlite3.Connection, paths: Iterable[Path] | None) -> Iterator[str]:
    if paths is None:
        rows = database.execute("SELECT path, size, sha256, stamp FROM files").fetchall()
    else:
        inside = set(_inside(folder, paths))
        query = "SELECT path, size, sha256, stamp FROM files WHERE path = ?"
        rows = [row for name in sorted(inside) for row in database.execute(query, (name,))]
    for name, size, digest, stamp in rows:
        path = folder / os.fsdecode(name)
        try:
            status = path.lstat()
            same = status.st_size == size and (_stamp(status) == stamp or _digest(path) == digest)
        except OSError:
            same = False
        if not same:
            yield os.fsdecode(name)


def _inside(folder: Path, paths: Iterable[Path]) -> Iterator[bytes]:
    """The names that paths have in a directory: as they are given, and with all links followed."""
    roots = {folder, Path(os.path.realpath(folder))}
    for path in paths:
        for named in {path, Path(os.path.realpath(path))}:
            yield from (os.fsencode(named.relative_to(root)) for root in roots if named.is_relative_to(root))


def _rows(folder: Path) -> Iterator[tuple[bytes, int, str, str]]:
    for base, _, names in os.walk(folder):
        for name in names:
            path = Path(base) / name
            status = path.lstat()
            stamp = _stamp(status) if is_settled(status) else ""
            yield os.fsencode(path.relative_to(folder)), status.st_size, _digest(path), stamp


def _stamp(status: os.stat_result) -> str:
    return " ".join(map(str, stamp_of(status)))


def _digest(path: Path) -> str:
    return f"link to {os.fsencode(path.readlink())!r}" if path.is_symlink() else digest_of(path)


def _path(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.manifest")


def _mark(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.damaged")
