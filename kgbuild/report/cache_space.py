# SPDX-License-Identifier: GPL-2.0-or-later
"""What `kgbuild cache` found in the cache and removed, and the records of it (docs/schema/cache-1.json)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kgbuild.model import Kernel

SCHEMA = "kgbuild/cache/1"
# The distribution of kernels that were added by hand.
_LOCAL = "local"


@dataclass(frozen=True)
class KernelSpace:
    """A kernel in the cache: bytes without its source tree, the name of that tree ("" where it lies elsewhere),
    when it was last used (seconds since 1970), and whether a running kgbuild uses it."""

    kernel: Kernel
    size: int
    source: str
    last_used: float
    in_use: bool

    @property
    def own(self) -> bool:
        """Whether the user added it by hand."""
        return self.kernel.id.distro == _LOCAL


@dataclass(frozen=True)
class ToolchainSpace:
    """A toolchain in the cache: its key, what a person calls it, bytes, the names of the kernels that it compiles for,
    when it was last used (seconds since 1970), and whether a running kgbuild uses it."""

    key: str
    name: str
    size: int
    kernels: tuple[str, ...]
    last_used: float
    in_use: bool


@dataclass(frozen=True)
class Space:
    """What the cache holds, in bytes. `sources` are source trees by name, `lists` package lists of archives, `results`
    the number of kept results of compiles and analyses with their bytes, `work` what running and dead runs have in
    work, `other` all else."""

    root: str
    kernels: tuple[KernelSpace, ...]
    sources: dict[str, int]
    toolchains: tuple[ToolchainSpace, ...]
    lists: int
    results: tuple[int, int]
    work: int
    other: int

    @property
    def total(self) -> int:
        kernels = sum(kernel.size for kernel in self.kernels)
        shared = sum(self.sources.values()) + sum(one.size for one in self.toolchains)
        return kernels + shared + self.lists + self.results[1] + self.work + self.other


@dataclass(frozen=True)
class CacheItem:
    """Something that was removed or kept: `kind` is kernel, source, toolchain, results or work; `count` how many files
    of results; `reason` why it was kept."""

    kind: str
    name: str
    size: int
    count: int = 1
    reason: str = ""


@dataclass(frozen=True)
class Pruned:
    """What `prune` did. `left` is what the cache takes after it, in bytes."""

    removed: tuple[CacheItem, ...]
    kept: tuple[CacheItem, ...]
    left: int

    @property
    def freed(self) -> int:
        return sum(item.size for item in self.removed)


def space_record(space: Space) -> dict[str, Any]:
    """What the cache holds; sizes in bytes."""
    return {
        "schema": SCHEMA,
        "command": "show",
        "root": space.root,
        "bytes": space.total,
        "kernels": [
            {
                "name": entry.kernel.id.name,
                "version": entry.kernel.id.version,
                "build_id": entry.kernel.id.build_id,
                "bytes": entry.size,
                "source": entry.source or None,
                "last_used": day_and_time(entry.last_used),
                "in_use": entry.in_use,
                "own": entry.own,
            }
            for entry in space.kernels
        ],
        "sources": [
            {
                "name": name,
                "bytes": size,
                "kernels": [entry.kernel.id.name for entry in space.kernels if entry.source == name],
            }
            for name, size in space.sources.items()
        ],
        "toolchains": [
            {
                "key": entry.key,
                "name": entry.name,
                "bytes": entry.size,
                "kernels": list(entry.kernels),
                "last_used": day_and_time(entry.last_used),
                "in_use": entry.in_use,
            }
            for entry in space.toolchains
        ],
        "lists_bytes": space.lists,
        "results": {"count": space.results[0], "bytes": space.results[1]},
        "work_bytes": space.work,
        "other_bytes": space.other,
    }


def prune_record(root: str, pruned: Pruned, older: float | None, to: int | None, dry_run: bool) -> dict[str, Any]:
    """What was removed from the cache, or with `dry_run` would be; sizes in bytes, `older` in seconds."""
    return {
        "schema": SCHEMA,
        "command": "prune",
        "root": root,
        "older_seconds": older,
        "to_bytes": to,
        "dry_run": dry_run,
        "removed": [_item(item) for item in pruned.removed],
        "kept": [{**_item(item), "reason": item.reason} for item in pruned.kept],
        "freed_bytes": pruned.freed,
        "bytes": pruned.left,
        "reached": to is None or pruned.left <= to,
    }


def day_and_time(seconds: float) -> str:
    """A time in UTC, as ISO 8601 has it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _item(item: CacheItem) -> dict[str, Any]:
    return {"kind": item.kind, "name": item.name, "bytes": item.size, "count": item.count}
