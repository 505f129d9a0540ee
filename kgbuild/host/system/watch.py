# SPDX-License-Identifier: GPL-2.0-or-later
"""What no limit of the system stops: too many processes of a superuser, and disks that are filled by many files.

While a program runs, the processes that it started are counted, and the space that is left where it writes. Only where
that has become much less, what lies in its directories is added up: others may have filled the disk.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from kgbuild.host.system.children import ChildLimits
from kgbuild.limits import Limit

# Seconds between two looks; a look takes a few milliseconds.
EVERY = 0.25


class Watch:
    """Looks after one program, which was started as process `leader` and writes into `folders`."""

    def __init__(self, leader: int, limits: ChildLimits, folders: Sequence[Path]) -> None:
        self._leader = leader
        self._limits = limits
        self._folders = folders
        self._processes = _count_all()
        self._free = [_free(folder) for folder in folders]
        self._next = time.monotonic() + EVERY

    def exceeded(self) -> Limit | None:
        """The limit that the program has passed, None for none. Looks at most every EVERY seconds."""
        now = time.monotonic()
        if now < self._next:
            return None
        try:
            most = self._limits.processes
            if _count_all() - self._processes > most.most and _count_children(self._leader) > most.most:
                return most
            written = self._limits.written
            for folder, free in zip(self._folders, self._free, strict=True):
                if free - _free(folder) > written.most and tree_size(folder) > written.most:
                    return written
        finally:
            self._next = time.monotonic() + EVERY
        return None


def _count_all() -> int:
    with suppress(OSError):
        return sum(name.isdigit() for name in os.listdir("/proc"))  # noqa: PTH208 # names are enough
    return 0


def _count_children(leader: int) -> int:
    """How many processes descend from a process. What lost its parent in a sandbox is a child of its first process."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit():
            with suppress(OSError, ValueError, IndexError):
                text = Path(f"/proc/{name}/stat").read_text(errors="replace")
                children.setdefault(int(text.rpartition(")")[2].split()[1]), []).append(int(name))
    count, queue = 0, [leader]
    while queue:
        found = children.get(queue.pop(), [])
        count += len(found)
        queue += found
    return count


def _free(folder: Path) -> int:
    try:
        status = os.statvfs(folder)
    except OSError:
        return 0
    return status.f_bavail * status.f_frsize


def tree_size(folder: Path) -> int:
    """Bytes that the files of a directory take on disk, links not followed."""
    total = 0
    for base, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                # a Path for each of 80,000 files would take seconds
                total += os.lstat(f"{base}/{name}").st_blocks * 512
    return total
