# SPDX-License-Identifier: GPL-2.0-or-later
"""What each entry of a toolchain's directory has to be, and whether it still is.

contents.json beside the directory is one line of JSON and the SHA-256 of that line. The JSON maps the path of each
entry to its permissions, size (bytes), SHA-256 (of a file's bytes, or of the text of a link) and stamp: what the file
system said of it when it was last read (host/system/sealed.py). While the stamp is the same, a file is not read again.
A program can restore a file's size and times of content, but not its time of status or inode number.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from kgbuild.host.system.sealed import digest_of, is_settled, stamp_of, write_atomic

FILE = "contents.json"

# permissions and kind, size, SHA-256, stamp
Row = tuple[int, int, str, tuple[int, ...]]


def read_tree(root: Path) -> dict[str, Row]:
    """Every entry below a directory, each file read. Raises OSError."""
    return {path: _row(f"{root}/{path}", status) for path, status in _entries(root)}


def digest_contents(rows: Mapping[str, Row]) -> str:
    """The digest (hex) of what is in a directory: of each entry its path, permissions and bytes, whatever its times."""
    digest = hashlib.sha256()
    for path in sorted(rows):
        mode, _, content, _ = rows[path]
        digest.update(f"{path}\0{mode:o} {content}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def write_contents(folder: Path, rows: Mapping[str, Row]) -> None:
    """Keep what the entries of a toolchain are in its directory `folder`. Raises OSError."""
    text = json.dumps(rows).encode()
    write_atomic(folder / FILE, text + b"\n" + hashlib.sha256(text).hexdigest().encode() + b"\n")


def load_contents(folder: Path) -> dict[str, Row] | None:
    """What `write_contents` kept; None where that is not there, or damaged."""
    try:
        text, check = (folder / FILE).read_bytes().split(b"\n")[:2]
        if hashlib.sha256(text).hexdigest().encode() != check:
            return None
        rows = json.loads(text)
        return {path: (mode, size, content, tuple(stamp)) for path, (mode, size, content, stamp) in rows.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def find_changes(root: Path, rows: Mapping[str, Row]) -> tuple[list[str], dict[str, Row]]:
    """The paths below `root` that are not as `rows` say, that are gone, or that came later, sorted; and the rows with
    the stamps that the entries have now. Only what has another stamp is read. Unreadable entries count as changed."""
    changed, now = [], {}
    for path, status in _entries(root):
        row = rows.get(path)
        if row is None or row[0] != status.st_mode:
            changed.append(path)
            continue
        now[path] = row
        if stat.S_ISDIR(status.st_mode) or row[3] == stamp_of(status):
            continue
        with suppress(OSError):
            now[path] = _row(f"{root}/{path}", status)
        if now[path][1:3] != row[1:3] or now[path] is row:
            changed.append(path)
    return sorted([*changed, *(rows.keys() - now.keys() - set(changed))]), now


def _entries(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Path below `root` and status of every entry, links not followed. Raises OSError."""
    folders = [""]
    while folders:
        folder = folders.pop()
        with os.scandir(f"{root}/{folder}") as entries:
            for entry in entries:
                path = f"{folder}{entry.name}"
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    folders.append(f"{path}/")
                yield path, status


def _row(path: str, status: os.stat_result) -> Row:
    if stat.S_ISLNK(status.st_mode):
        content = hashlib.sha256(os.fsencode(os.readlink(path))).hexdigest()  # noqa: PTH115 # of thousands
    elif stat.S_ISREG(status.st_mode):
        content = digest_of(Path(path))
    else:
        return status.st_mode, 0, "", ()
    return status.st_mode, status.st_size, content, stamp_of(status) if is_settled(status) else ()
