# SPDX-License-Identifier: GPL-2.0-or-later
"""Seals of whole directories: one file beside a directory says what each file in it has to be.

.NAME.files, two lines, JSON and the SHA-256 of that line. The JSON maps the path of each file in the directory to its
size (bytes), SHA-256, and stamp (host/system/sealed.py): while that is the same, the file is not read again. Files that
came later are not looked at. A link is sealed as the text of where it leads.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from kgbuild.host.system.sealed import digest_of, is_settled, stamp_of, write_atomic

_Row = tuple[int, str, list[int]]


def seal_tree(folder: Path, wanted: Callable[[str], bool] = lambda path: True) -> None:
    """Say what the files of a directory have to be from now on; only those whose path is `wanted`. Not being able to is
    no error: the directory is looked at again next time."""
    rows: dict[str, _Row] = {}
    with suppress(OSError):
        for base, _, names in os.walk(folder):
            for name in names:
                path = Path(base) / name
                relative = path.relative_to(folder).as_posix()
                if wanted(relative):
                    rows[relative] = _row(path)
        _write(folder, rows)


def seal_new(folder: Path, wanted: Callable[[str], bool] = lambda path: True) -> None:
    """Say what files have to be that came into a sealed directory since, if their path is `wanted`; those that were
    there stay as they were sealed. Nothing where the directory has no seal: all of it is sealed later."""
    rows = _read(folder)
    if rows is None:
        return
    with suppress(OSError):
        for base, _, names in os.walk(folder):
            for name in names:
                path = Path(base) / name
                relative = path.relative_to(folder).as_posix()
                if relative not in rows and wanted(relative):
                    rows[relative] = _row(path)
        _write(folder, rows)


def damaged_in(folder: Path) -> list[Path] | None:
    """The files of a sealed directory that are not what they have to be; None where it has no seal that can be read."""
    rows = _read(folder)
    if rows is None:
        return None
    damaged = []
    changed = False
    for relative, (size, digest, stamp) in rows.items():
        path = folder / relative
        try:
            status = path.lstat()
            if status.st_size == size and list(stamp_of(status)) == stamp:
                continue
            found = _row(path) if status.st_size == size else None
        except OSError:
            found = None
        if found is None or found[1] != digest:
            damaged.append(path)
        else:
            rows[relative] = found
            changed = changed or bool(found[2])
    if changed and not damaged:
        with suppress(OSError):
            _write(folder, rows)
    return damaged


def _row(path: Path) -> _Row:
    status = path.lstat()
    stamp = list(stamp_of(status)) if is_settled(status) else []
    if path.is_symlink():
        return status.st_size, hashlib.sha256(os.fsencode(path.readlink())).hexdigest(), stamp
    return status.st_size, digest_of(path) if path.is_file() else "", stamp


def _file(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.files")


def _read(folder: Path) -> dict[str, _Row] | None:
    try:
        text, check = _file(folder).read_bytes().split(b"\n")[:2]
        if hashlib.sha256(text).hexdigest().encode() != check:
            return None
        return {path: (size, digest, stamp) for path, (size, digest, stamp) in json.loads(text).items()}
    except (OSError, ValueError, AttributeError):
        return None


def _write(folder: Path, rows: dict[str, _Row]) -> None:
    text = json.dumps(rows).encode()
    write_atomic(_file(folder), text + b"\n" + hashlib.sha256(text).hexdigest().encode() + b"\n")
