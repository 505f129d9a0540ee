# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the cache is, and who can write to it. What lies in it becomes code of a kernel, so it must be the user's
alone."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from kgbuild.errors import ToolError

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_OTHERS_ENTER = stat.S_IXGRP | stat.S_IXOTH
_OWN = "set XDG_CACHE_HOME to a directory of your own"
# Folders of the cache, and how many levels of what is in them are looked at (locks hold nothing that is read).
_FOLDERS = {"kernels": 2, "sources": 1, "results": 1, "names": 1, "tmp": 1, "toolchains": 2, "archives": 2}


def cache_root(root: Path | None = None) -> Path:
    """The cache directory: `root`, or else the user's, with links resolved."""
    if root is None:
        import platformdirs

        root = Path(platformdirs.user_cache_dir("kgbuild"))
    return root.resolve()


def check_ownership(root: Path) -> None:
    """Raise ToolError where another user owns the cache directory `root` or could change what is in it.

    Looked at are the directory, those above it, and, where others may enter it, the files and directories in it that
    decide what is read. One that does not exist is fine.
    """
    try:
        status = root.stat()
    except OSError:
        return
    user = os.geteuid()
    for path, found in _above(root):
        if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
            raise ToolError(
                "everybody may write to this directory, so that anyone can put another cache in the place of "
                f"{root.name}",
                place=str(path),
                remedy=f"chmod o-w {path}, or {_OWN}",
            )
    _check(root, root, status, user)
    if status.st_mode & _OTHERS_ENTER:
        for path in _inside(root):
            try:
                found = path.lstat() if path.is_symlink() and not path.exists() else path.stat()
            except OSError:
                continue
            _check(root, path, found, user)


def _check(root: Path, path: Path, status: os.stat_result, user: int) -> None:
    if status.st_uid != user:
        raise ToolError(
            f"this part of the cache belongs to another user ({_user_name(status.st_uid)}; kgbuild runs as "
            f"{_user_name(user)}), who can change what kgbuild reads",
            place=str(path),
            remedy=f"{_OWN}, or run kgbuild as {_user_name(status.st_uid)}",
        )
    if status.st_mode & _OTHERS_WRITE:
        who = "everybody" if status.st_mode & stat.S_IWOTH else "its group"
        raise ToolError(
            f"{who} may write to this part of the cache, and so change what kgbuild reads "
            f"(mode {stat.S_IMODE(status.st_mode):04o})",
            place=str(path),
            remedy=f"remove it if you do not trust them all; else chmod -R go-w {root}",
        )


def is_own(status: os.stat_result) -> bool:
    """Whether a file or directory belongs to this user and nobody else may write to it."""
    return status.st_uid == os.geteuid() and not status.st_mode & _OTHERS_WRITE


def _above(root: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for path in root.parents:
        try:
            yield path, path.stat()
        except OSError:
            continue


def _inside(root: Path) -> Iterator[Path]:
    for name, depth in _FOLDERS.items():
        folders = [root / name]
        for level in range(depth + 1):
            yield from folders
            if level < depth:
                folders = [entry for folder in folders if folder.is_dir() for entry in _entries(folder)]


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _user_name(number: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"
