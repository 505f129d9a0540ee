# SPDX-License-Identifier: GPL-2.0-or-later
"""Toolchains in the cache: a directory each, made of the packages that built a kernel.

    toolchains/KEY/root             what the packages hold, without documentation; nothing was configured
    toolchains/KEY/contents.json    what each entry of root has to be (contents.py)
    toolchains/KEY/toolchain.json   written last: compiler, suites, packages with the SHA-256 of their files, and a
                                    digest of what was unpacked

Kernels that the same packages built share one. Nothing in it is run outside of a sandbox.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from kgbuild.errors import UserError
from kgbuild.host.archives.suites import SuiteArchive, ToolchainPlan, ToolchainRule
from kgbuild.host.system.cache import Cache, remove_tree
from kgbuild.host.system.run import run
from kgbuild.host.system.sealed import digest_of, write_atomic
from kgbuild.host.system.watch import tree_size
from kgbuild.host.toolchains.contents import (
    FILE,
    digest_contents,
    find_changes,
    load_contents,
    read_tree,
    write_contents,
)
from kgbuild.progress import Progress
from kgbuild.shown_text import readable_size

FOLDER = "toolchains"
FORMAT = 2
# Whose digest is of sizes and times; contents.json is added to it, and nothing else changed.
_OLD_FORMAT = 1
_RECORD = "toolchain.json"
# Bytes unpacked for each byte of download, to ask for space before.
_GROWTH = 4.5
# What no compile reads.
_LEFT_OUT = tuple(f"./usr/share/{name}" for name in ("doc", "man", "info", "locale", "lintian", "bug", "doc-base"))


@dataclass(frozen=True)
class Toolchain:
    """A toolchain in the cache.

    root      the directory that becomes / for what is run
    command   the compiler's command in it
    compiler  what the compiler's --version begins with
    packages  name -> (version, SHA-256 of the package file, hex)
    digest    of names, permissions, and bytes of all files (hex): a directory that was changed has another
    """

    key: str
    root: Path
    command: str
    version: str
    base: str
    compiler: str
    packages: Mapping[str, tuple[str, str]]
    digest: str

    @property
    def name(self) -> str:
        """What a person calls it: gcc-14 14.2.0-19 (trixie)."""
        return f"{self.command} {self.version} ({self.base})"


def toolchain_record(toolchain: Toolchain) -> dict[str, Any]:
    """A toolchain as a report has it: key, name, digest of the directory, packages with the SHA-256 of their files."""
    return {
        "key": toolchain.key,
        "name": toolchain.name,
        "digest": toolchain.digest,
        "packages": [
            {"name": name, "version": version, "sha256": digest}
            for name, (version, digest) in sorted(toolchain.packages.items())
        ],
    }


def toolchains(cache: Cache) -> list[Toolchain]:
    """Every complete toolchain of the cache, by command and version."""
    folder = cache.root / FOLDER
    keys = sorted(p.name for p in folder.iterdir() if not p.name.startswith(".")) if folder.is_dir() else []
    found = [one for one in (load_toolchain(cache, key) for key in keys) if one is not None]
    return sorted(found, key=lambda t: (t.command, t.version, t.key))


def load_toolchain(cache: Cache, key: str) -> Toolchain | None:
    """The toolchain with this key, or None where it is not there or not complete."""
    folder = cache.root / FOLDER / key
    try:
        record = json.loads((folder / _RECORD).read_bytes())
        number = record.pop("format")
        packages = {str(n): (str(v), str(d)) for n, (v, d) in record.pop("packages").items()}
        found = Toolchain(key=key, root=folder / "root", packages=packages, **record)
        if number == _OLD_FORMAT:
            return replace(found, digest=_read_old(found))
        return found if number == FORMAT else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _read_old(toolchain: Toolchain) -> str:
    """The digest of a toolchain that an older kgbuild unpacked: its files are read once, if it is as it was unpacked
    by all that the older one noted. Empty where it is not."""
    folder = toolchain.root.parent
    rows = load_contents(folder)
    if rows is None:
        if _digest_times(toolchain.root) != toolchain.digest:
            return ""
        rows = read_tree(toolchain.root)
        with suppress(OSError):
            write_contents(folder, rows)
    return digest_contents(rows)


def ensure_toolchain(
    cache: Cache, archive: SuiteArchive, plan: ToolchainPlan, rule: ToolchainRule, progress: Progress, jobs: int
) -> Toolchain:
    """The toolchain of a plan, fetched and unpacked where the cache does not have it, or not as it was unpacked.

    Raises ToolError where the archive, the disk or a program fails.
    """
    cache.use_toolchain(cache.root / FOLDER / plan.key / "root")
    there = load_toolchain(cache, plan.key)
    if there is not None and is_unchanged(there):
        return there
    with cache.lock(f"toolchain-{plan.key}", progress):
        there = load_toolchain(cache, plan.key)
        return there if there is not None and is_unchanged(there) else _make(cache, archive, plan, rule, progress, jobs)


def _make(
    cache: Cache, archive: SuiteArchive, plan: ToolchainPlan, rule: ToolchainRule, progress: Progress, jobs: int
) -> Toolchain:
    # until it is unpacked: another toolchain of the same packages removes their files
    with cache.lock("packages", progress):
        return _make_locked(cache, archive, plan, rule, progress, jobs)


def _make_locked(
    cache: Cache, archive: SuiteArchive, plan: ToolchainPlan, rule: ToolchainRule, progress: Progress, jobs: int
) -> Toolchain:
    size = sum(p.size for p in plan.packages)
    cache.check_space(int(size * (1 + _GROWTH)), f"the toolchain {plan.command} {plan.version}")
    title = f"{plan.command} {plan.version} ({len(plan.packages)} packages, {readable_size(size)})"
    with progress.step(f"download {title}"):
        files = archive.fetch_toolchain(plan)
    with cache.workdir(f"toolchain-{plan.key}", progress) as work:
        root = work / "root"
        remove_tree(root)
        root.mkdir()
        with (
            progress.step(f"unpack {plan.command} {plan.version}", len(files), "packages") as task,
            ThreadPoolExecutor(max(1, jobs)) as pool,
        ):
            for _ in pool.map(lambda file: _unpack(archive.members(file), root), files):
                task.advance()
        _add_links(root, rule.links)
        digests = {p.name: (p.version, digest_of(file)) for p, file in zip(plan.packages, files, strict=True)}
        folder = cache.root / FOLDER / plan.key
        remove_tree(folder)
        folder.mkdir(parents=True)
        root.rename(folder / "root")
        rows = read_tree(folder / "root")
        write_contents(folder, rows)
    made = Toolchain(
        key=plan.key,
        root=folder / "root",
        command=plan.command,
        version=plan.version,
        base=plan.base,
        compiler="",
        packages=digests,
        digest=digest_contents(rows),
    )
    record = {k: v for k, v in asdict(made).items() if k not in ("key", "root")}
    write_atomic(folder / _RECORD, json.dumps({"format": FORMAT, **record}, indent=1, sort_keys=True).encode())
    for file in files:
        file.unlink(missing_ok=True)
    return made


def _unpack(argv: Sequence[str], root: Path) -> None:
    exclude = [f"--exclude={path}" for path in _LEFT_OUT]
    tar = ["tar", "-x", "--no-same-owner", "--keep-directory-symlink", *exclude, "-C", str(root)]
    run(["bash", "-o", "pipefail", "-c", '"${@:2:$1}" | "${@:$1+2}"', "unpack", str(len(argv)), *argv, *tar])


def _add_links(root: Path, links: Mapping[str, Sequence[str]]) -> None:
    """Make the links that configuring the packages would have made, where they are missing."""
    for path, targets in links.items():
        link = root / path
        if os.path.lexists(link):
            continue
        target = next((t for t in targets if os.path.lexists(link.parent / t)), None)
        if target is not None:
            link.symlink_to(target)


def _digest_times(root: Path) -> str:
    """The digest (hex) of a toolchain in the older format: of each entry the path, kind, permissions, and its size and
    time of change or, of a link, its target."""
    digest = hashlib.sha256()
    for line in _entries(root):
        digest.update(line)
    return digest.hexdigest()


def _entries(root: Path) -> Iterator[bytes]:
    for base, folders, names in os.walk(root):
        folders.sort()
        for name in sorted([*folders, *names]):
            path = f"{base}/{name}"
            status = os.lstat(path)
            kind = stat.S_IFMT(status.st_mode)
            fact = f"{status.st_mode:o}"
            if stat.S_ISLNK(kind):
                fact += f" {Path(path).readlink()}"
            elif stat.S_ISREG(kind):
                fact += f" {status.st_size} {status.st_mtime_ns}"
            yield f"{os.path.relpath(path, root)}\0{fact}\n".encode(errors="surrogateescape")


def is_unchanged(toolchain: Toolchain) -> bool:
    """Whether the directory is what was unpacked: every file is read whose stamp is another (contents.py)."""
    return not find_damage(toolchain)


def find_damage(toolchain: Toolchain) -> list[str]:
    """What of a toolchain is not as it was unpacked, is gone, or came later: paths below its root, sorted."""
    folder = toolchain.root.parent
    rows = load_contents(folder)
    if rows is None or digest_contents(rows) != toolchain.digest:
        return [FILE]
    try:
        damaged, now = find_changes(toolchain.root, rows)
    except OSError as error:
        return [str(error.filename)]
    if not damaged and now != rows:
        with suppress(OSError):
            write_contents(folder, now)
    return damaged


def is_used(cache: Cache, key: str) -> bool:
    """Whether a run of kgbuild uses a toolchain."""
    lock = cache.try_lock(f"use-toolchain-{key}")
    if lock is not None:
        lock.release(remove=True)
    return lock is None


def last_used(cache: Cache, key: str) -> float:
    """When a toolchain was last used, in seconds since 1970."""
    times = [0.0]
    for name in (".used", _RECORD):
        with suppress(OSError):
            times.append((cache.root / FOLDER / key / name).stat().st_mtime)
    return max(times)


def remove_toolchain(cache: Cache, key: str) -> int:
    """Remove a toolchain; returns the bytes that this frees. Raises UserError where there is none, or a run of kgbuild
    uses it."""
    folder = cache.root / FOLDER / key
    if not folder.is_dir():
        raise UserError(
            "no such toolchain in the cache", place=key, remedy="kgbuild toolchain list shows what there is"
        )
    cache.leave_toolchain(folder / "root")
    used = cache.try_lock(f"use-toolchain-{key}")
    if used is None:
        raise UserError("a running kgbuild uses this toolchain", place=key, remedy="try again when that has ended")
    try:
        with cache.lock(f"toolchain-{key}"):
            size = tree_size(folder)
            with suppress(OSError):
                (folder / _RECORD).unlink()
            remove_tree(folder)
    finally:
        used.release(remove=True)
    return size
