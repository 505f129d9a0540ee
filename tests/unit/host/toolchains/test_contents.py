# SPDX-License-Identifier: GPL-2.0-or-later
"""A toolchain that was changed in any way is found and made again; one that was only moved or touched is not."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from kgbuild.host.archives.recipe import load_recipes
from kgbuild.host.archives.suites import ToolchainPackage, ToolchainPlan
from kgbuild.host.system.cache import Cache
from kgbuild.host.toolchains import store
from kgbuild.host.toolchains.contents import FILE
from kgbuild.host.toolchains.store import Toolchain, ensure_toolchain, find_damage, is_unchanged, load_toolchain
from kgbuild.progress import SilentProgress

PLAN = ToolchainPlan("gcc-99", "1-1", "suite", (), (ToolchainPackage("gcc-99", "1-1", "gcc-99.deb", 10),))
CONTENT = {"usr/bin/gcc-99": b"#!/bin/sh\nexit 0\n", "usr/lib/cc1": bytes(9000), "etc/empty": b""}


class TarArchive:
    """An archive with one package, which is a tar file; it counts how often it was asked for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fetched = 0

    def fetch_toolchain(self, plan: ToolchainPlan) -> list[Path]:
        self.fetched += 1
        path = self.folder / plan.packages[0].file
        with tarfile.open(path, "w") as tar:
            for name, data in CONTENT.items():
                info = tarfile.TarInfo(name)
                info.size, info.mode, info.mtime = len(data), 0o755, 1_600_000_000
                tar.addfile(info, io.BytesIO(data))
            link = tarfile.TarInfo("usr/bin/cc")
            link.type, link.linkname = tarfile.SYMTYPE, "gcc-99"
            tar.addfile(link)
        return [path]

    def members(self, package: Path) -> Sequence[str]:
        return ("cat", str(package))


def make(cache: Cache, archive: TarArchive) -> Toolchain:
    rule = load_recipes()["debian"].toolchain
    assert rule is not None
    return ensure_toolchain(cache, archive, PLAN, rule, SilentProgress(), 2)  # type: ignore[arg-type]


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def archive(tmp_path: Path) -> TarArchive:
    return TarArchive(tmp_path)


@pytest.fixture
def made(cache: Cache, archive: TarArchive) -> Toolchain:
    """A toolchain that was looked at since it was made, so that the stamps of its files are known."""
    toolchain = make(cache, archive)
    time.sleep(0.06)
    assert is_unchanged(toolchain) and is_unchanged(toolchain)
    return toolchain


def keep_times(path: Path, change: Callable[[Path], object]) -> None:
    """Change a file and give it its size and times back."""
    before = path.stat()
    change(path)
    os.truncate(path, before.st_size)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(5)
        file.write(b"!")


def exchange(path: Path) -> None:
    """Another file of the same size in its place."""
    other = path.with_name("other")
    other.write_bytes(b"x" * path.stat().st_size)
    other.chmod(0o755)
    other.replace(path)


def relink(path: Path) -> None:
    path.unlink()
    path.symlink_to("gcc-98")


def into_link(path: Path) -> None:
    """Equal bytes, by a link to another file."""
    outside = path.parents[4] / "outside"
    path.rename(outside)
    path.symlink_to(outside)


CHANGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a byte more": ("usr/bin/gcc-99", lambda p: p.write_bytes(p.read_bytes() + b"\n")),
    "a byte less": ("usr/lib/cc1", lambda p: os.truncate(p, 8999)),
    "a byte changed, size and times restored": ("usr/lib/cc1", lambda p: keep_times(p, overwrite)),
    "another file, size and times restored": ("usr/lib/cc1", lambda p: keep_times(p, exchange)),
    "a hole in its place, size and times restored": (
        "usr/bin/gcc-99",
        lambda p: keep_times(p, lambda q: os.truncate(q, 0)),
    ),
    "permissions": ("usr/bin/gcc-99", lambda p: p.chmod(0o644)),
    "setuid": ("usr/bin/gcc-99", lambda p: p.chmod(0o4755)),
    "a link that leads elsewhere": ("usr/bin/cc", relink),
    "a link that is a file": ("usr/bin/cc", lambda p: (p.unlink(), p.write_bytes(CONTENT["usr/bin/gcc-99"]))),
    "a file that is a link": ("usr/lib/cc1", into_link),
    "a FIFO": ("usr/lib/cc1", lambda p: (p.unlink(), os.mkfifo(p, 0o755))),
    "a file gone": ("etc/empty", lambda p: p.unlink()),
    "a directory gone": ("usr/lib", shutil.rmtree),
    "a file more": ("usr/bin/as", lambda p: p.write_text("#!/bin/sh\n")),
    "a link more": ("usr/bin/as", lambda p: p.symlink_to("gcc-99")),
    "an empty directory more": ("usr/lib/plugin", lambda p: p.mkdir()),
    "a hidden file more": (".x", lambda p: p.write_text("")),
    "all of it gone": ("", shutil.rmtree),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_found_and_undone(name: str, made: Toolchain, cache: Cache, archive: TarArchive) -> None:
    path, change = CHANGES[name]
    change(made.root / path)
    assert find_damage(made)[0].startswith(path or str(made.root))
    again = make(cache, archive)
    assert archive.fetched == 2
    assert is_unchanged(again) and again.digest == made.digest
    assert {p: (made.root / p).read_bytes() for p in CONTENT} == CONTENT


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "usr/lib/cc1").touch(),
        lambda root: overwrite_twice(root / "usr/lib/cc1"),
        lambda root: (root / "usr").rename(root / "x") and (root / "x").rename(root / "usr"),
    ],
    ids=["touched", "changed and changed back", "renamed and back"],
)
def test_what_holds_the_same_is_the_same(change: Callable[[Path], object], made: Toolchain) -> None:
    change(made.root)
    assert is_unchanged(made)


def overwrite_twice(path: Path) -> None:
    data = path.read_bytes()
    overwrite(path)
    path.write_bytes(data)


def test_a_cache_may_be_copied(made: Toolchain, cache: Cache, tmp_path: Path) -> None:
    shutil.copytree(cache.root, tmp_path / "other", symlinks=True)
    copied = load_toolchain(Cache(tmp_path / "other"), made.key)
    assert copied is not None and copied.root != made.root
    assert is_unchanged(copied) and copied.digest == made.digest


def test_the_digest_is_of_what_was_unpacked_and_not_of_when(made: Toolchain, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    assert make(Cache(tmp_path / "other"), TarArchive(tmp_path / "second")).digest == made.digest


@pytest.mark.parametrize("spoil", ["bless", "cut", "remove"])
def test_the_list_itself_is_held_against_the_record(spoil: str, made: Toolchain) -> None:
    listed = made.root.parent / FILE
    if spoil == "bless":  # a changed program, and a list that says it belongs there
        overwrite(made.root / "usr" / "lib" / "cc1")
        store.write_contents(listed.parent, store.read_tree(made.root))
    elif spoil == "cut":
        listed.write_bytes(listed.read_bytes()[:-2])
    else:
        listed.unlink()
    assert find_damage(made) == [FILE]


def as_older(made: Toolchain) -> None:
    """What a kgbuild left whose digest was of sizes and times."""
    record = made.root.parent / "toolchain.json"
    said = {**json.loads(record.read_text()), "format": 1, "digest": store._digest_times(made.root)}
    record.write_text(json.dumps(said))
    (record.parent / FILE).unlink()


def test_a_toolchain_of_an_older_kgbuild_is_taken_over(made: Toolchain, cache: Cache, archive: TarArchive) -> None:
    as_older(made)
    assert make(cache, archive) == made
    assert archive.fetched == 1
    keep_times(made.root / "usr" / "lib" / "cc1", overwrite)
    assert not is_unchanged(made)
    assert make(cache, archive) == made
    assert archive.fetched == 2


def test_a_toolchain_of_an_older_kgbuild_that_was_changed_is_made_again(
    made: Toolchain, cache: Cache, archive: TarArchive
) -> None:
    as_older(made)
    (made.root / "usr" / "lib" / "cc1").write_bytes(b"other")
    assert make(cache, archive) == made
    assert archive.fetched == 2


def test_a_run_that_was_killed_between_its_steps_leaves_no_toolchain(
    made: Toolchain, cache: Cache, archive: TarArchive
) -> None:
    (made.root.parent / "toolchain.json").unlink()
    assert load_toolchain(cache, made.key) is None
    assert make(cache, archive) == made
    assert archive.fetched == 2
