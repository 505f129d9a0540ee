# SPDX-License-Identifier: GPL-2.0-or-later
"""What the cache holds, how much space that takes, and what can go.

Nothing that a running kgbuild uses is removed: its kernel has a shared lock (`Cache.use`), its work directory a lock of
its own, and results that are younger than the oldest running build stay. Kernels that the user added by hand stay
unless that is asked for: the archive can't bring them again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from kgbuild.errors import UserError
from kgbuild.host.system.cache import Cache
from kgbuild.host.system.watch import tree_size
from kgbuild.host.toolchains import store
from kgbuild.model import Kernel
from kgbuild.report.cache_space import CacheItem, KernelSpace, Pruned, Space, ToolchainSpace


def survey(cache: Cache) -> Space:
    """Look at everything in the cache; nothing is changed."""
    kernels = tuple(
        KernelSpace(
            kernel,
            tree_size(kernel.root),
            kernel.source.name if kernel.source.parent == cache.root / "sources" else "",
            _last_used(kernel),
            cache.is_used(kernel.id.build_id),
        )
        for kernel in cache.kernels()
    )
    sources = {path.name: tree_size(path) for path in _visible(cache.root / "sources")}
    results = list(_results(cache))
    known = {"sources", "results", "tmp", "locks", "archives", store.FOLDER}
    other = sum(tree_size(path) for path in _all(cache.root) if path.name not in {*known, "kernels"})
    other += sum(path.lstat().st_blocks * 512 for path in _all(cache.root) if path.is_file())
    whole = {one.key for one in store.toolchains(cache)}
    other += sum(tree_size(path) for path in _all(cache.root / store.FOLDER) if path.name not in whole)
    complete = {entry.kernel.root for entry in kernels}
    other += sum(tree_size(path) for path in _all(cache.root / "kernels") if path not in complete)
    return Space(
        str(cache.root),
        kernels,
        sources,
        tuple(_toolchains(cache)),
        tree_size(cache.root / "archives"),
        (len(results), sum(size for _, size, _ in results)),
        tree_size(cache.root / "tmp"),
        other,
    )


def _toolchains(cache: Cache) -> Iterator[ToolchainSpace]:
    kernels = cache.kernels()
    for one in store.toolchains(cache):
        yield ToolchainSpace(
            one.key,
            one.name,
            tree_size(one.root.parent),
            tuple(kernel.id.name for kernel in kernels if kernel.toolchain == one.root),
            store.last_used(cache, one.key),
            store.is_used(cache, one.key),
        )


def prune(
    cache: Cache, *, older: float | None = None, to: int | None = None, own: bool = False, dry_run: bool = False
) -> Pruned:
    """Remove what was not used for `older` seconds, and then what was used longest ago until the cache takes at most
    `to` bytes; leftovers of dead runs in any case. `own` lets kernels go that the user added by hand. With `dry_run`
    nothing is removed, and the answer is what would be. A toolchain goes by the same rules once it compiles for no
    kernel that is left."""
    before = survey(cache)
    if not dry_run:
        cache.sweep()
    work = before.work - tree_size(cache.root / "tmp")
    removed = [CacheItem("work", "leftovers of dead runs", work)] if work > 0 else []
    kept: list[CacheItem] = []
    left = before.total - max(work, 0)
    began = min((k.last_used for k in before.kernels if k.in_use), default=float("inf"))
    count = size = 0
    sources = dict(before.sources)
    remaining = list(before.kernels)
    for last_used, candidate in _by_age(cache, before):
        if not _may_go(last_used, older, to, left):
            continue
        if isinstance(candidate, KernelSpace):
            reason = _reason_to_stay(candidate, own)
            if not reason and not dry_run and not cache.remove(candidate.kernel):
                reason = _IN_USE
            if reason:
                kept.append(CacheItem("kernel", candidate.kernel.id.name, candidate.size, reason=reason))
                continue
            removed.append(CacheItem("kernel", str(candidate.kernel.id), candidate.size))
            left -= candidate.size
            remaining.remove(candidate)
            for source in sorted(sources.keys() - {entry.source for entry in remaining}):
                removed.append(CacheItem("source", source, sources[source]))
                left -= sources.pop(source)
        elif last_used < began:
            path, bytes_of = candidate
            if not dry_run:
                with suppress(OSError):
                    path.unlink()
            count, size = count + 1, size + bytes_of
            left -= bytes_of
    needed = {entry.kernel.toolchain.parent.name for entry in remaining if entry.kernel.toolchain is not None}
    for one in sorted(before.toolchains, key=lambda t: t.last_used):
        if one.key in needed or not _may_go(one.last_used, older, to, left):
            continue
        if one.in_use or (not dry_run and not _remove_toolchain(cache, one.key)):
            kept.append(CacheItem("toolchain", one.name, one.size, reason=_IN_USE))
            continue
        removed.append(CacheItem("toolchain", one.name, one.size))
        left -= one.size
    if count:
        removed.append(CacheItem("results", "results of compiles and analyses", size, count))
    return Pruned(tuple(removed), tuple(kept), left)


def _may_go(last_used: float, older: float | None, to: int | None, left: int) -> bool:
    return (older is not None and time.time() - last_used > older) or (to is not None and left > to)


def _remove_toolchain(cache: Cache, key: str) -> bool:
    try:
        store.remove_toolchain(cache, key)
    except UserError:  # a run has begun to use it
        return False
    return True


_IN_USE = "a running kgbuild uses it"
_OWN = "it was added by hand (--own removes such, too)"


def _reason_to_stay(entry: KernelSpace, own: bool) -> str:
    return _IN_USE if entry.in_use else _OWN if entry.own and not own else ""


def _by_age(cache: Cache, space: Space) -> Iterator[tuple[float, KernelSpace | tuple[Path, int]]]:
    """All that may go, used longest ago first."""
    found: list[tuple[float, KernelSpace | tuple[Path, int]]] = [(k.last_used, k) for k in space.kernels]
    found += [(used, (path, size)) for used, size, path in _results(cache)]
    return iter(sorted(found, key=lambda item: item[0]))


def _results(cache: Cache) -> Iterator[tuple[float, int, Path]]:
    for folder in _visible(cache.root / "results"):
        for path in _visible(folder):
            with suppress(OSError):
                status = path.stat()
                yield status.st_mtime, status.st_blocks * 512, path


def _last_used(kernel: Kernel) -> float:
    times = [0.0]
    for name in (".used", "kernel.json"):
        with suppress(OSError):
            times.append((kernel.root / name).stat().st_mtime)
    return max(times)


def _all(path: Path) -> list[Path]:
    try:
        return sorted(path.iterdir())
    except OSError:
        return []


def _visible(path: Path) -> list[Path]:
    return [entry for entry in _all(path) if not entry.name.startswith(".")]
