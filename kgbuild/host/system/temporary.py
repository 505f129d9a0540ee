# SPDX-License-Identifier: GPL-2.0-or-later
"""Directories for work in progress outside of the cache, in the system's directory for temporary files.

Each is locked while its owner lives. What a killed run left has no lock, and the next run removes it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PREFIX = "kgbuild-work-"


@contextmanager
def temporary_directory(kind: str) -> Iterator[Path]:
    """A new, empty directory, named by `kind`, which is removed when the context ends. Raises OSError where none can be
    made."""
    path, descriptor = _make(kind)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(descriptor)


def sweep_temporary() -> None:
    """Remove the directories of this user that killed runs left."""
    with suppress(OSError):
        for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
            with suppress(OSError):
                if path.lstat().st_uid != os.getuid():
                    continue
                descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path, ignore_errors=True)
                finally:
                    os.close(descriptor)


def _make(kind: str) -> tuple[Path, int]:
    """A directory and the descriptor that holds its lock."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{kind}-"))
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        with suppress(OSError):  # a file system without locks: nobody removes it then
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if path.is_dir():  # no other run has taken it for one that was left
            return path, descriptor
        os.close(descriptor)
