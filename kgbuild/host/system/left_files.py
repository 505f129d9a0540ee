# SPDX-License-Identifier: GPL-2.0-or-later
"""What a program left in the directories that it could write: nothing that leads whoever reads it somewhere else.

A program in a sandbox can't read files outside; but it can leave a link with the name of its result, which leads there
outside of the sandbox, or a FIFO, which nobody would ever finish reading.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from kgbuild.errors import ToolError

_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def check_left(folders: Iterable[Path], seen: Sequence[Path]) -> None:
    """Raise ToolError where one of `folders` holds something else than files, directories and links to what lies below
    the directories `seen` (or below one of `folders`). It is removed."""
    folders = list(folders)
    inside = tuple(os.path.realpath(path) for path in (*folders, *seen))
    for folder in folders:
        for path, fact in _faults(str(folder), inside):
            with suppress(OSError):
                os.unlink(path)  # noqa: PTH108 # of thousands
            raise ToolError(fact, place=path, remedy="look at what the makefiles and programs of this kernel's tree do")


def _faults(folder: str, inside: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    folders = [folder]
    while folders:
        try:
            entries = list(os.scandir(folders.pop()))
        except OSError:  # another thread's, which is gone
            continue
        for entry in entries:
            if entry.is_symlink():
                if not _is_inside(os.path.realpath(entry.path), inside):
                    with suppress(OSError):
                        target = os.readlink(entry.path)  # noqa: PTH115
                        yield entry.path, f"a program of a build left a link to {target}, outside of what it was given"
            elif entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            elif not entry.is_file(follow_symlinks=False):
                with suppress(OSError):
                    kind = _KINDS.get(stat.S_IFMT(entry.stat(follow_symlinks=False).st_mode), "no file")
                    yield entry.path, f"a program of a build left {kind} there"


def _is_inside(path: str, folders: tuple[str, ...]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)
