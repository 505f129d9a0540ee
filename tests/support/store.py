# SPDX-License-Identifier: GPL-2.0-or-later
"""What compilers and linkers made for a test, kept for the other processes of this run and for later runs.

The key is all that went in: texts, options, and which programs. So nothing that is kept can be old; what can't be named
as a key is not kept. `pytest --cache-clear` removes everything.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MOST = 12000  # files; beyond that those that were made first go


@cache
def folder() -> Path:
    """Where results are: below pytest's own cache."""
    path = ROOT / ".pytest_cache" / "d" / "compiled"
    path.mkdir(parents=True, exist_ok=True)
    kept = [p for p in path.iterdir() if p.suffix == ".kept"]
    if len(kept) > MOST:
        kept.sort(key=lambda p: p.stat().st_mtime if p.exists() else 0)
        for p in kept[: len(kept) - MOST // 2]:
            p.unlink(missing_ok=True)
    return path


def is_stored(key: object) -> bool:
    """Whether what a key gives is kept."""
    return (folder() / _name(key)).exists()


def _name(key: object) -> str:
    return f"{hashlib.sha256(repr(key).encode()).hexdigest()[:32]}.kept"


def stored(key: object, make: Callable[[], bytes]) -> bytes:
    """What `make` gives for a key, whose repr() names everything it depends on; made by one process at a time."""
    path = folder() / _name(key)
    if (data := _read(path)) is not None:
        return data
    # one of 256 locks: two processes that make the same thing wait for each other, others hardly ever
    with (folder() / f"{path.name[:2]}.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (data := _read(path)) is not None:
            return data
        data = make()
        partial = path.with_suffix(f".{os.getpid()}")
        partial.write_bytes(data)
        partial.replace(path)
    return data


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


@cache
def program(path: str) -> tuple[object, ...]:
    """What tells a program from another version of it, where it has the same path."""
    real = Path(path).resolve()
    found = real.stat()
    return str(real), found.st_size, found.st_mtime_ns


@cache
def digest_of(path: Path) -> str:
    """Of a file that does not change while tests run."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
