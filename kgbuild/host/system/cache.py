# SPDX-License-Identifier: GPL-2.0-or-later
"""The cache: prepared kernels, shared source trees, results of stages by key.

    kernels/BUILD-ID/   one kernel; kernel.json is written last and marks it complete
    sources/NAME/       source trees that several kernels share; complete once they have that name
    results/ab/KEY      what a stage made, by the key of all its inputs
    names/NAME.json     what `newest-...` last meant, and when
    tmp/NAME/           work in progress, owned by whoever holds locks/tmp-NAME.lock
    locks/              lock files, never deleted (deleting one would let two owners in)

Everything appears under its final name by one rename, so that a run killed at any moment leaves nothing
half-written to be read; the next run removes what it left.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import filelock
import platformdirs

from kgbuild.errors import ToolError, UserError
from kgbuild.host.system.run import DISK_FULL
from kgbuild.model import Kernel, KernelId
from kgbuild.progress import Progress
from kgbuild.shown_text import printable

KERNEL_FORMAT = 1
_PATHS = ("source", "build", "config", "symvers", "vmlinux", "image", "modules", "units")
_DIGEST = 32
_NOT_IN_PATHS = re.compile(r"""[\s#%:,;'"\\$&|<>()*?\[\]{}`!\x00-\x1f\x7f]""")
_STALE_SECONDS = 3600.0
# Results are kept up to this size; what was asked for longest ago goes first. Looked at once a day.
RESULTS_BYTES = 5_000_000_000
_TRIM_SECONDS = 86400.0


def slug(name: str) -> str:
    """A file name for any name: unsafe characters replaced, with a digest where that lost something."""
    safe = re.sub(r"[^A-Za-z0-9.+_-]", "_", name).lstrip(".")[:100]
    return safe if safe == name else f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that readers see all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns():x}.part")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except BaseException as error:
        _name_place(error, path)
        temporary.unlink(missing_ok=True)
        raise


def _name_place(error: BaseException, path: Path) -> None:
    """Say where a write failed: Python names no file where it was open already, as on a full disk."""
    if isinstance(error, OSError) and error.filename is None:
        error.filename = str(path)


def readable_size(size: float) -> str:
    """Bytes for a person: 1.4 GB."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


class Cache:
    """One cache directory. Creating the object touches nothing."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root if root is not None else Path(platformdirs.user_cache_dir("kgbuild"))

    # Locks and work directories

    @contextmanager
    def lock(self, name: str, progress: Progress | None = None) -> Iterator[None]:
        """Hold a lock that other runs of kgbuild respect; waits for them.

        The system frees it when a run is killed.
        """
        lock = self._lock(name)
        try:
            lock.acquire(timeout=0.05)
        except filelock.Timeout:
            if progress is None:
                lock.acquire()
            else:
                with progress.step("wait for another kgbuild that works on the same kernel"):
                    lock.acquire()
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def workdir(self, name: str, progress: Progress | None = None) -> Iterator[Path]:
        """A directory for work in progress, locked. What a killed run of the same name left is still in it.

        It is removed when the work ends well; leftovers of other, dead runs are removed first.
        """
        self._check_path()
        with self.lock(f"tmp-{slug(name)}", progress):
            self.sweep(keep=slug(name))
            directory = self.root / "tmp" / slug(name)
            directory.mkdir(parents=True, exist_ok=True)
            try:
                yield directory
            except OSError as error:
                _name_place(error, directory)
                raise
            remove_tree(directory)

    @contextmanager
    def scratch(self, kind: str, progress: Progress | None = None) -> Iterator[Path]:
        """A `workdir` of this thread of this process alone, so that several runs go on side by side. It is removed
        also where the work fails or is interrupted."""
        with self.workdir(f"{kind}-{os.getpid()}-{threading.get_ident()}", progress) as directory:
            try:
                yield directory
            except BaseException:
                with suppress(UserError):
                    remove_tree(directory)
                raise

    def sweep(self, keep: str = "") -> None:
        """Remove leftovers of runs that are no longer alive."""
        for directory in _entries(self.root / "tmp"):
            if directory.name == keep:
                continue
            self._remove_if_free(directory, f"tmp-{directory.name}")
        for directory in _entries(self.root / "kernels"):
            if not (directory / "kernel.json").exists():
                self._remove_if_free(directory, f"kernel-{directory.name}")
        for folder in ("tmp", "kernels", "sources"):
            for directory in (self.root / folder).glob(".*.removed"):
                shutil.rmtree(directory, ignore_errors=True)
        oldest = time.time() - _STALE_SECONDS
        for folder in ("names", *(f"results/{d.name}" for d in _entries(self.root / "results"))):
            for file in (self.root / folder).glob(".*.part"):
                with suppress(OSError):
                    if file.stat().st_mtime < oldest:
                        file.unlink()
        self._trim_daily()

    def _trim_daily(self) -> None:
        stamp = self.root / "results" / ".trimmed"
        with suppress(OSError):
            age = time.time() - stamp.stat().st_mtime if stamp.exists() else _TRIM_SECONDS
            if stamp.parent.is_dir() and not 0 <= age < _TRIM_SECONDS:
                stamp.touch()
                self.trim(RESULTS_BYTES)

    def trim(self, limit: int) -> int:
        """Remove results until the rest takes at most 4/5 of `limit` bytes, if all together take more than `limit`;
        those asked for longest ago go first. A run that wanted one makes it again. Returns how many went."""
        found = []
        for folder in _entries(self.root / "results"):
            for path in _entries(folder):
                with suppress(OSError):
                    status = path.stat()
                    found.append((status.st_mtime, status.st_size, path))
        total = sum(size for _, size, _ in found)
        if total <= limit:
            return 0
        removed = 0
        for _, size, path in sorted(found):
            if total <= limit * 4 // 5:
                break
            with suppress(OSError):
                path.unlink()
                removed += 1
            total -= size
        return removed

    def _remove_if_free(self, directory: Path, lock_name: str) -> None:
        lock = self._lock(lock_name)
        with suppress(filelock.Timeout), lock.acquire(timeout=0):
            remove_tree(directory)

    def _check_path(self) -> None:
        """Raise ToolError where the cache's path has a character that make, kbuild or options of gcc take apart."""
        odd = _NOT_IN_PATHS.search(str(self.root))
        if odd is not None:
            fact = f"the kernel's build can't work in a directory with {printable(odd[0])!r} in its path"
            raise ToolError(fact, place=str(self.root), remedy="set XDG_CACHE_HOME to a directory without it")

    def _lock(self, name: str) -> filelock.BaseFileLock:
        path = self.root / "locks" / f"{name}.lock"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ToolError(
                f"can't be written to ({error.strerror})",
                place=str(self.root),
                remedy="set XDG_CACHE_HOME to a directory of your own",
            ) from error
        return filelock.FileLock(str(path))

    def check_space(self, needed: int, purpose: str) -> None:
        """Raise ToolError where the disk has less than `needed` bytes free."""
        self.root.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.root).free
        if free < needed:
            raise ToolError(
                f"{purpose} needs {readable_size(needed)}, there are {readable_size(free)} free",
                place=str(self.root),
                remedy=DISK_FULL,
            )

    # Results of stages

    def get(self, key: str) -> bytes | None:
        """The bytes stored under a hex key, or None. A file that is not whole counts as not there."""
        path = self._result(key)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        with suppress(OSError):
            os.utime(path)  # see `trim`
        digest, payload = data[:_DIGEST], data[_DIGEST:]
        return payload if hashlib.sha256(payload).digest() == digest else None

    def put(self, key: str, data: bytes) -> None:
        """Store bytes under a hex key. Storing the same key twice is harmless."""
        write_atomic(self._result(key), hashlib.sha256(data).digest() + data)

    def _result(self, key: str) -> Path:
        if not re.fullmatch(r"[0-9a-f]{8,128}", key):
            raise ValueError(f"{key!r} is not a hex key")
        return self.root / "results" / key[:2] / key

    # Kernels

    def kernel_dir(self, build_id: str) -> Path:
        """Where a kernel is or will be."""
        return self.root / "kernels" / build_id

    def source_dir(self, name: str) -> Path:
        """Where a shared source tree is or will be; it is complete if it exists."""
        return self.root / "sources" / slug(name)

    def kernels(self) -> list[Kernel]:
        """Every complete kernel, by name and version."""
        found = []
        for directory in _entries(self.root / "kernels"):
            kernel = self.load(directory.name)
            if kernel is not None:
                found.append(kernel)
        return sorted(found, key=lambda kernel: (kernel.id.name, kernel.id.version))

    def load(self, build_id: str) -> Kernel | None:
        """The kernel with this build-id, or None where it is not there or not complete."""
        root = self.kernel_dir(build_id)
        try:
            record = json.loads((root / "kernel.json").read_bytes())
            if record.pop("format") != KERNEL_FORMAT:
                return None
            for name in _PATHS:
                record[name] = self.root / record[name] if record[name] is not None else None
            kernel = Kernel(id=KernelId(**record.pop("id")), root=root, **record)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return kernel if kernel.units.is_file() and kernel.source.is_dir() else None

    def save(self, kernel: Kernel) -> None:
        """Write kernel.json, which makes the kernel complete."""
        record: dict[str, Any] = {"format": KERNEL_FORMAT, "id": vars(kernel.id)}
        for field in fields(Kernel):
            value = getattr(kernel, field.name)
            if field.name in _PATHS:
                record[field.name] = self._portable(value)
            elif field.name not in ("id", "root", "outside"):
                record[field.name] = value
        text = json.dumps(record, indent=2, sort_keys=True) + "\n"
        write_atomic(kernel.root / "kernel.json", text.encode())

    def _portable(self, path: Path | None) -> str | None:
        if path is None:
            return None
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)

    def remove(self, kernel: Kernel) -> None:
        """Remove a kernel, and the source trees that no kernel uses any more."""
        with self.lock(f"kernel-{kernel.id.build_id}"):
            (kernel.root / "kernel.json").unlink(missing_ok=True)
            remove_tree(kernel.root)
        for source in _entries(self.root / "sources"):
            # Whoever is about to use a tree holds its lock until its kernel.json is there.
            lock = self._lock(f"source-{source.name}")
            with suppress(filelock.Timeout), lock.acquire(timeout=0):
                if not any(kernel.source == source for kernel in self.kernels()):
                    remove_tree(source)

    # What names last meant

    def remember(self, name: str, value: dict[str, str]) -> None:
        """Keep what a name was resolved to, with the time of it. Not being able to is no error."""
        record = {"time": time.time(), "value": value}
        with suppress(OSError):
            write_atomic(self.root / "names" / f"{slug(name)}.json", json.dumps(record).encode())

    def recall(self, name: str, max_age: float) -> dict[str, str] | None:
        """What `remember` kept, unless it is older than `max_age` seconds."""
        try:
            record = json.loads((self.root / "names" / f"{slug(name)}.json").read_bytes())
            age = time.time() - float(record["time"])
            value = {str(k): str(v) for k, v in record["value"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return value if 0 <= age <= max_age else None


def remove_tree(path: Path) -> None:
    """Remove a directory so that nobody finds half of it: it gets another name first. Missing is fine."""
    if not path.is_dir():
        return
    doomed = path.with_name(f".{path.name}.{os.getpid()}.removed")
    try:
        path.rename(doomed)
        shutil.rmtree(doomed)
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(
            f"can't be removed ({error.strerror})", place=str(path), remedy="check who owns the cache"
        ) from error


def tree_size(path: Path) -> int:
    """Bytes that the files of a directory take on disk, links not followed."""
    total = 0
    for base, _, names in os.walk(path):
        for name in names:
            with suppress(OSError):
                # A Path for each of 80,000 files would take seconds.
                total += os.lstat(f"{base}/{name}").st_blocks * 512
    return total


def _entries(path: Path) -> list[Path]:
    try:
        return sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    except OSError:
        return []
