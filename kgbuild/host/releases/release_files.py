# SPDX-License-Identifier: GPL-2.0-or-later
"""The directory of a release on disk: it appears whole, and is checked when it is read."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kgbuild.errors import ToolError, UserError
from kgbuild.host.system.input_files import path_within, read_input
from kgbuild.host.system.run import disk_remedy
from kgbuild.limits import MODULE_BYTES, RECORD_BYTES
from kgbuild.releases.manifest import MANIFEST, digest, folder_of, parse_manifest
from kgbuild.shown_text import printable


def read_release(root: Path, number: int) -> dict[str, Any] | None:
    """The manifest of a release, None where there is none. Every file that it names is checked. Raises UserError where
    one is missing or is not what it was."""
    folder = root / folder_of(number)
    if not (folder / MANIFEST).exists():
        if folder.exists():
            remedy = "remove it, and make the release again"
            raise UserError(f"has no {MANIFEST}: it is no whole release", place=str(folder), remedy=remedy)
        return None
    manifest = parse_manifest(read_input(folder / MANIFEST, RECORD_BYTES), str(folder / MANIFEST))
    for row in manifest["files"]:
        read_member(folder, row["path"], row["sha256"])
    return manifest


def manifest_digest(root: Path, number: int) -> str:
    """The SHA-256 of a release's manifest."""
    return digest(read_input(root / folder_of(number) / MANIFEST, RECORD_BYTES))


def read_member(folder: Path, path: str, sha256: str) -> bytes:
    """A file in the directory of a release. Raises UserError where it is missing, is not what the manifest says, or is
    elsewhere."""
    full = path_within(folder, path)
    if full is None:
        place = f"{folder}/{printable(path)}"
        raise UserError("leads out of the release", place=place, remedy="make the release again")
    data = read_input(full, MODULE_BYTES, "make the release again")
    if digest(data) != sha256:
        fact = "is not the file that the manifest names: it was changed after the release was made"
        raise UserError(fact, place=str(full), remedy="restore it, or make the release again")
    return data


def write_release(root: Path, number: int, files: Mapping[str, bytes], force: bool = False) -> bool:
    """Write a release whole or not at all. False where it is there already with these very bytes.

    Raises UserError where another is there, unless `force`; ToolError where the disk does not take it.
    """
    folder = root / folder_of(number)
    there = _contents(folder)
    if there == dict(files):
        return False
    if there is not None and not force:
        changed = sorted(path for path in {*there, *files} if there.get(path) != files.get(path))
        fact = f"is there already, and differs from what would be made now ({', '.join(changed[:3])})"
        remedy = "make the next release, or give --replace"
        raise UserError(fact, place=str(folder), remedy=remedy)
    part = root / f".{folder.name}.{os.getpid()}"
    old = root / f".{folder.name}.{os.getpid()}.old"
    try:
        shutil.rmtree(part, ignore_errors=True)
        for name, data in files.items():
            path = part / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
        if there is not None:
            folder.rename(old)
        part.rename(folder)
    except OSError as error:
        if there is not None and old.exists() and not folder.exists():
            old.rename(folder)
        if there is None and _contents(folder) == dict(files):
            return False  # another run has written the same meanwhile
        raise ToolError(error.strerror or str(error), place=str(folder), remedy=disk_remedy(error)) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    return True


def _contents(folder: Path) -> dict[str, bytes] | None:
    if not folder.exists():
        return None
    if not folder.is_dir():
        raise UserError("is no directory", place=str(folder), remedy="move it away")
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
