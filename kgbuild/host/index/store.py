# SPDX-License-Identifier: GPL-2.0-or-later
"""Opens the index of a kernel, or makes it if there is none that can be read."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from kgbuild.host.index.queries import Index
from kgbuild.host.index.schema import SCHEMA, IndexDamaged, index_path, open_index
from kgbuild.host.system.cache import Cache
from kgbuild.host.system.sealed import is_whole, seal
from kgbuild.model import Kernel
from kgbuild.progress import Progress

_DAMAGED = "the old one was damaged"
T = TypeVar("T")


def load_index(kernel: Kernel, progress: Progress, cache: Cache | None = None) -> Index:
    """The index of a kernel, made first if there is none that can be used.

    Raises ToolError if it can't be made.
    """
    path = index_path(kernel)
    fault = _fault(path, kernel)
    if fault is not None:
        _build(kernel, progress, fault, cache)
    return Index(path, kernel)


def existing_index(kernel: Kernel) -> Index | None:
    """The index of a kernel if there is one that can be used; none is made."""
    path = index_path(kernel)
    return Index(path, kernel) if _fault(path, kernel) is None else None


def with_index(kernel: Kernel, progress: Progress, use: Callable[[Index], T], cache: Cache | None = None) -> T:
    """The result of `use` on the index. If the file turns out to be damaged, it is made again, and `use` runs again."""
    try:
        return use(load_index(kernel, progress, cache))
    except IndexDamaged as damage:
        _build(kernel, progress, f"the old one was damaged ({damage.fact})", cache)
        return use(Index(index_path(kernel), kernel))


def _build(kernel: Kernel, progress: Progress, fault: str, cache: Cache | None) -> None:
    from kgbuild.host.index.writer import build_index

    path = index_path(kernel)
    with (cache if cache is not None else Cache()).lock(f"index-{kernel.id.build_id}", progress):
        # another run may have made it meanwhile; an index found damaged while it was read is not checked again
        if "damaged" in fault or _fault(path, kernel) is not None:
            build_index(kernel, path, progress, fault)


def _fault(path: Path, kernel: Kernel) -> str | None:
    """Why the existing file can't be used: "" if there is none, None if it can be used."""
    if not path.exists():
        return ""
    whole = is_whole(path)
    if whole is False:
        return _DAMAGED
    try:
        with closing(open_index(path)) as database:
            meta = dict(database.execute("SELECT key, value FROM meta"))
            if whole is None and database.execute("PRAGMA quick_check(1)").fetchall() != [("ok",)]:
                return _DAMAGED
    except (sqlite3.Error, UnicodeDecodeError):
        return _DAMAGED
    if meta.get("schema") != str(SCHEMA):
        return f"the old one has schema {meta.get('schema', 'none')}, this is {SCHEMA}"
    if meta.get("build_id") != kernel.id.build_id or meta.get("complete") != "1":
        return "the old one is of another kernel"
    if whole is None:
        seal(path)
    return None
