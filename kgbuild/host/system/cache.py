# SPDX-License-Identifier: GPL-2.0-or-later
"""The cache: prepared kernels, shared source trees, results of stages by key.

    kernels/BUILD-ID/   one kernel; kernel.json is written last and marks it complete
    sources/NAME/       source trees that several kernels share; complete once they have that name
    results/ab/KEY      what a stage made, by the key of all its inputs
    names/NAME.json     what `newest-...` last meant, and when
    tmp/NAME/           work in progress, owned by whoever holds locks/tmp-NAME.lock
    locks/              lock files, which go with their owners; use-BUILD-ID.lock is shared by those who use a kernel

Everything appears under its final name by one rename, so that a run killed at any moment leaves nothing
half-written to be read; the next run removes what it left. Every file shows whether it is as it was written, by a
digest in it or a seal beside it (host/system/sealed.py). The cache must be the user's alone (host/system/ownership.py).
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
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from kgbuild.errors import ToolError, UserError
from kgbuild.host.system.locks import Lock, sweep_temporary, take
from kgbuild.host.system.ownership import cache_root, check_ownership, is_own
from kgbuild.host.system.run import DISK_FULL
from kgbuild.host.system.sealed import name_place, read_sealed, sweep_parts, write_atomic, write_sealed
from kgbuild.host.system.tree_manifest import remove_manifest
from kgbuild.model import Kernel, KernelId
from kgbuild.progress import Progress
from kgbuild.shown_text import printable, readable_size

KERNEL_FORMAT = 1
_PATHS = ("source", "build", "config", "symvers", "vmlinux", "image", "modules", "units", "toolchain")
_DIGEST = 32
_RECORD = "kernel.json"
# kernel.json can be made of nothing else, so there are two of it
_SECOND = "kernel-2.json"
_NOT_IN_PATHS = re.compile(r"""[\s#%:,;'"\\$&|<>()*?\[\]{}`!\x00-\x1f\x7f]""")
# Results are kept up to this size; what was asked for longest ago goes first. Looked at once a day.
RESULTS_BYTES = 5_000_000_000
_TRIM_SECONDS = 86400.0


def slug(name: str) -> str:
    """A file name for any name: unsafe characters replaced, with a digest where that lost something."""
    safe = re.sub(r"[^A-Za-z0-9.+_-]", "_", name).lstrip(".")[:100]
    return safe if safe == name else f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


# What this process uses: root of the cache and build-id of the kernel -> the lock that says so.
_USED: dict[tuple[Path, str], Lock] = {}


class Cache:
    """One cache directory. Creating the object touches nothing."""

    def __init__(self, root: Path | None = None) -> None:
        # links resolved: what is compiled names files by their real paths
        self.root = cache_root(root)
        self._checked = False
        self._swept = False

    def check(self) -> None:
        """Raise ToolError where another user owns the cache or could write to it. Looked at once per object."""
        if not self._checked:
            check_ownership(self.root)
            self._checked = True

    def _make(self, folder: str = "") -> Path:
        """A directory of the cache, made where it is missing; other users have nothing to do in it."""
        self.check()
        path = self.root / folder
        try:
            if not self.root.is_dir():
                self.root.parent.mkdir(parents=True, exist_ok=True)
                self.root.mkdir(mode=0o700, exist_ok=True)
            path.mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError as error:
            raise ToolError(
                f"can't be written to ({error.strerror})",
                place=str(self.root),
                remedy="set XDG_CACHE_HOME to a directory of your own",
            ) from error
        return path

    # Locks and work directories

    @contextmanager
    def lock(self, name: str, progress: Progress | None = None) -> Iterator[None]:
        """Hold a lock that other runs of kgbuild respect; waits for them.

        The system frees it when a run is killed.
        """
        lock = self._acquire(name, progress)
        try:
            yield
        finally:
            lock.release(remove=True)

    def _acquire(self, name: str, progress: Progress | None = None, *, shared: bool = False) -> Lock:
        path = self._lock_path(name)
        lock = take(path, shared=shared, wait=False)
        if lock is None:
            with (
                progress.step("wait for another kgbuild that works on the same kernel")
                if progress is not None
                else nullcontext()
            ):
                lock = take(path, shared=shared)
        assert lock is not None
        return lock

    def try_lock(self, name: str) -> Lock | None:
        """A lock where it is free at once, else None. Whoever gets it gives it back by `release(remove=True)`."""
        return take(self._lock_path(name), wait=False)

    def _lock_path(self, name: str) -> Path:
        return self._make("locks") / f"{name}.lock"

    # Who uses a kernel

    def use(self, kernel: Kernel, progress: Progress | None = None) -> bool:
        """Say that this run uses a kernel, until it ends or `leave`s it: nobody removes it then.

        False where another run has removed it meanwhile.
        """
        build_id = kernel.id.build_id
        if (self.root, build_id) not in _USED:
            _USED[self.root, build_id] = self._acquire(f"use-{build_id}", progress, shared=True)
            with suppress(OSError):
                (kernel.root / ".used").touch()
        if (kernel.root / _RECORD).exists():
            return True
        self.leave(kernel)
        return False

    def use_toolchain(self, root: Path) -> bool:
        """Say that this run uses the toolchain with this root, until it ends: nobody removes it then. False where
        another run has removed it meanwhile."""
        name = f"toolchain-{root.parent.name}"
        if (self.root, name) not in _USED:
            _USED[self.root, name] = self._acquire(f"use-{name}", shared=True)
            with suppress(OSError):
                (root.parent / ".used").touch()
        return root.is_dir()

    def leave_toolchain(self, root: Path) -> None:
        """Say that this run no longer uses a toolchain."""
        lock = _USED.pop((self.root, f"toolchain-{root.parent.name}"), None)
        if lock is not None:
            lock.release()

    def leave(self, kernel: Kernel) -> None:
        """Say that this run no longer uses a kernel."""
        lock = _USED.pop((self.root, kernel.id.build_id), None)
        if lock is not None:
            lock.release()

    def is_used(self, build_id: str) -> bool:
        """Whether a run of kgbuild uses a kernel or makes it."""
        for name in (f"use-{build_id}", f"kernel-{build_id}"):
            lock = self.try_lock(name)
            if lock is None:
                return True
            lock.release(remove=True)
        return False

    @contextmanager
    def workdir(self, name: str, progress: Progress | None = None) -> Iterator[Path]:
        """A directory for work in progress, locked. What a killed run of the same name left is still in it.

        It is removed when the work ends well; leftovers of other, dead runs are removed first.
        """
        self._check_path()
        with self.lock(f"tmp-{slug(name)}", progress):
            self.sweep_once(keep=slug(name))
            directory = self._make(f"tmp/{slug(name)}")
            try:
                yield directory
            except OSError as error:
                name_place(error, directory)
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

    def sweep_once(self, keep: str = "") -> None:
        """`sweep`, unless this object has done so."""
        if not self._swept:
            self.sweep(keep)

    def sweep(self, keep: str = "") -> None:
        """Remove leftovers of runs that are no longer alive: work directories, unfinished files and kernels, locks."""
        self._swept = True
        for directory in _entries(self.root / "tmp"):
            if directory.name != keep:
                self._remove_if_free(directory, f"tmp-{directory.name}")
        for directory in _entries(self.root / "kernels"):
            if (directory / _RECORD).exists():
                self._sweep_kernel(directory)
            else:
                self._remove_if_free(directory, f"kernel-{directory.name}", kept_with=_RECORD)
        sweep_temporary()
        for folder in ("tmp", "kernels", "sources"):
            for directory in (self.root / folder).glob(".*.removed"):
                shutil.rmtree(directory, ignore_errors=True)
        for folder in (".", "names", "sources", *(f"results/{d.name}" for d in _entries(self.root / "results"))):
            sweep_parts(self.root / folder)
        for file in _entries(self.root / "locks"):
            with suppress(OSError):
                lock = take(file, wait=False)
                if lock is not None:
                    lock.release(remove=True)
        self._trim_daily()

    def _sweep_kernel(self, directory: Path) -> None:
        """Remove unfinished files from a kernel's directory, unless a run is there that makes some."""
        held: list[Lock] = []
        try:
            for what in ("kernel", "index", "includes"):
                lock = self.try_lock(f"{what}-{directory.name}")
                if lock is None:
                    return
                held.append(lock)
            # seals stand beside their files: image/vmlinuz, build/Module.symvers
            for folder in (directory, *_entries(directory)):
                if folder.is_dir() and not folder.is_symlink():
                    sweep_parts(folder)
        finally:
            for lock in held:
                lock.release(remove=True)

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

    def _remove_if_free(self, directory: Path, lock_name: str, kept_with: str = "") -> None:
        """Remove a directory that nobody works in, unless it has a file of the name `kept_with`, which may have come
        just before the lock was free."""
        lock = self.try_lock(lock_name)
        if lock is not None:
            try:
                if not kept_with or not (directory / kept_with).exists():
                    remove_tree(directory)
            finally:
                lock.release(remove=True)

    def _check_path(self) -> None:
        """Raise ToolError where the cache's path has a character that make, kbuild or options of gcc take apart."""
        odd = _NOT_IN_PATHS.search(str(self.root))
        if odd is not None:
            fact = f"the kernel's build can't work in a directory with {printable(odd[0])!r} in its path"
            raise ToolError(fact, place=str(self.root), remedy="set XDG_CACHE_HOME to a directory without it")

    def check_space(self, needed: int, purpose: str) -> None:
        """Raise ToolError where the disk has less than `needed` bytes free."""
        self._make()
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
        self.check()
        try:
            with path.open("rb") as file:
                if not is_own(os.fstat(file.fileno())):
                    return None
                data = file.read()
        except OSError:
            return None
        with suppress(OSError):
            os.utime(path)  # see `trim`
        digest, payload = data[:_DIGEST], data[_DIGEST:]
        return payload if hashlib.sha256(payload).digest() == digest else None

    def put(self, key: str, data: bytes) -> None:
        """Store bytes under a hex key. Storing the same key twice is harmless."""
        path = self._result(key)
        self._make(f"results/{key[:2]}")
        write_atomic(path, hashlib.sha256(data).digest() + data)

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
        self.check()
        found = []
        for directory in _entries(self.root / "kernels"):
            kernel = self.load(directory.name)
            if kernel is not None:
                found.append(kernel)
        return sorted(found, key=lambda kernel: (kernel.id.name, kernel.id.version))

    def load(self, build_id: str) -> Kernel | None:
        """The kernel with this build-id, or None where it is not there or not complete."""
        self.check()
        root = self.kernel_dir(build_id)
        if not (root / _RECORD).exists():
            return None
        kernel = self._parse(root, read_sealed(root / _RECORD, unsealed=True))
        if kernel is None and (second := read_sealed(root / _SECOND)) is not None:
            kernel = self._parse(root, second)
            with suppress(OSError):
                write_sealed(root / _RECORD, second)
        return kernel

    def _parse(self, root: Path, text: bytes | None) -> Kernel | None:
        """The kernel of a kernel.json in the directory `root`; None where it is not one of this format."""
        try:
            record = json.loads(text or b"")
            if record.pop("format") != KERNEL_FORMAT:
                return None
            for name in _PATHS:
                record[name] = self.root / record[name] if record.get(name) is not None else None
            kernel = Kernel(id=KernelId(**record.pop("id")), root=root, **record)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        there = kernel.source.is_dir() and kernel.id.build_id == root.name
        if kernel.toolchain is not None and not kernel.toolchain.is_dir():
            kernel = replace(kernel, toolchain=None)  # removed since: whoever compiles fetches it
        return kernel if there else None

    def save(self, kernel: Kernel) -> None:
        """Write kernel.json, which makes the kernel complete."""
        record: dict[str, Any] = {"format": KERNEL_FORMAT, "id": kernel.id._asdict()}
        for field in fields(Kernel):
            value = getattr(kernel, field.name)
            if field.name in _PATHS:
                record[field.name] = self._portable(value)
            elif field.name not in ("id", "root", "outside", "sandboxed", "compile_seconds"):
                record[field.name] = value
        text = json.dumps(record, indent=2, sort_keys=True) + "\n"
        write_sealed(kernel.root / _SECOND, text.encode())
        write_sealed(kernel.root / _RECORD, text.encode())

    def records(self, kernel: Kernel) -> list[Path]:
        """The files that say of a kernel what it is; the second is made of the first where it is missing."""
        first, second = kernel.root / _RECORD, kernel.root / _SECOND
        if first.exists() and not second.exists():
            with suppress(OSError):
                write_sealed(second, first.read_bytes())
        elif read_sealed(second) is None and (text := read_sealed(first)) is not None:
            with suppress(OSError):
                write_sealed(second, text)
        return [first, second]

    def _portable(self, path: Path | None) -> str | None:
        if path is None:
            return None
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)

    def remove(self, kernel: Kernel) -> bool:
        """Remove a kernel, and the source trees that no kernel uses any more. False where a run of kgbuild uses it."""
        self.leave(kernel)
        used = self.try_lock(f"use-{kernel.id.build_id}")
        if used is None:
            return False
        try:
            with self.lock(f"kernel-{kernel.id.build_id}"):
                (kernel.root / _RECORD).unlink(missing_ok=True)
                remove_tree(kernel.root)
        finally:
            used.release(remove=True)
        self.remove_sources()
        return True

    def remove_sources(self) -> None:
        """Remove the source trees that no kernel uses."""
        for source in _entries(self.root / "sources"):
            # Whoever is about to use a tree holds its lock until its kernel.json is there.
            lock = self.try_lock(f"source-{source.name}")
            if lock is not None:
                try:
                    if not any(kernel.source == source for kernel in self.kernels()):
                        remove_manifest(source)
                        remove_tree(source)
                finally:
                    lock.release(remove=True)

    # What names last meant

    def remember(self, name: str, value: dict[str, str]) -> None:
        """Keep what a name was resolved to, with the time of it. Not being able to is no error."""
        record: dict[str, Any] = {"time": time.time(), "value": value}
        record["sum"] = _sum_of(record)
        with suppress(OSError):
            write_atomic(self._make("names") / f"{slug(name)}.json", json.dumps(record).encode())

    def recall(self, name: str, max_age: float) -> dict[str, str] | None:
        """What `remember` kept, unless it is older than `max_age` seconds."""
        self.check()
        try:
            record = json.loads((self.root / "names" / f"{slug(name)}.json").read_bytes())
            if record.pop("sum") != _sum_of(record):
                return None
            age = time.time() - float(record["time"])
            value = {str(k): str(v) for k, v in record["value"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return value if 0 <= age <= max_age else None


def _sum_of(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def remove_tree(path: Path) -> None:
    """Remove a directory so that nobody finds half of it: it gets another name first. Missing is fine."""
    if not path.is_dir():
        return
    # two machines or containers that share a cache have the same numbers of processes
    doomed = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns():x}.removed")
    try:
        path.rename(doomed)
        shutil.rmtree(doomed)
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(
            f"can't be removed ({error.strerror})", place=str(path), remedy="check who owns the cache"
        ) from error


def _entries(path: Path) -> list[Path]:
    try:
        return sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    except OSError:
        return []
