# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels that two runs fetch into one cache at once, where one is killed, the disk is full or all is pruned: what the
cache has is what the archive has, or is made again."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from kgbuild.host.kernels.cache_space import prune
from kgbuild.host.system.cache import Cache
from tests.support.kills import points, run_and_kill, start, was_killed
from tests.support.mirror import Mirror, signing_keys
from tests.support.tiny_archive import NAMES, TinyArchive, contents, fill_mirror, write_recipe

ROOT = Path(__file__).resolve().parents[4]
_APT = 'Dir::Etc::parts "/dev/null"; Dir::Etc::main "/dev/null"; Acquire::Retries "0"; Acquire::http::Proxy "DIRECT";\n'
_MORE_AT_ONCE = 12
_STEP = 97_000  # bytes
# Fetches both kernels again and again on a disk that has less room than they need, a little more each time, until
# nothing fails. Says of each try what failed, and what of the cache is whole, by a digest.
_SMALL_DISK = """
import hashlib, json, os, shutil, sys
from pathlib import Path
from kgbuild.errors import KgbuildError
from tests.support.tiny_archive import NAMES, TinyArchive, contents
archive, root, disk = TinyArchive(sys.argv[1], Path(sys.argv[2])), Path(sys.argv[3]), Path(sys.argv[4])
def free():
    return os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
left, said = 0, [""]
while said:
    said = []
    for folder in ("kernels", "sources", "tmp"):
        shutil.rmtree(root / folder, ignore_errors=True)
    (disk / "ballast").write_bytes(b"")
    (disk / "ballast").write_bytes(bytes(max(free() - left, 0)) if left else b"")
    for name in NAMES:
        try:
            archive.fetch(name, root)
        except (KgbuildError, OSError) as error:
            said.append(f"{type(error).__name__}: {error}")
    found = {k: hashlib.sha256(repr(sorted(v.items())).encode()).hexdigest() for k, v in contents(root).items()}
    print(json.dumps({"said": said, "found": found}))
    said, left = said if left else [""], left + STEP
"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyArchive]:
    folder = tmp_path_factory.mktemp("archive")
    (folder / "apt.conf").write_text(_APT)
    with signing_keys(1) as keys, pytest.MonkeyPatch.context() as patch:
        patch.setenv("APT_CONFIG", str(folder / "apt.conf"))
        mirror = Mirror(folder, keys)
        (folder / "work").mkdir()
        fill_mirror(mirror, folder / "work")
        mirror.publish()
        with mirror.served() as address:
            yield TinyArchive(address, write_recipe(folder / "recipes", keys, growth=False))


@pytest.fixture(scope="module")
def expected(archive: TinyArchive, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """What a cache has that nothing has happened to."""
    root = tmp_path_factory.mktemp("good") / "cache"
    run_and_kill(lambda: [archive.fetch(name, root) for name in NAMES], -1, root.parent / "counts")
    found = contents(root)
    assert {*NAMES} < {*found} and len(found) == 3
    return found


def check(root: Path, expected: dict[str, dict[str, bytes]], *, all_of_it: bool = False) -> None:
    """What the cache takes for whole is so."""
    found = contents(root)
    assert {name for name, files in found.items() if files != expected[name]} == set()
    assert not all_of_it or found == expected


def fetch_all(archive: TinyArchive, root: Path) -> None:
    for name in NAMES:
        archive.fetch(name, root)


@pytest.mark.parametrize("shared", ["cache", "cache and /tmp"])
def test_full_disk(archive: TinyArchive, expected: dict[str, dict[str, bytes]], tmp_path: Path, shared: str) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    env = {**os.environ, "PYTHONPATH": str(ROOT), **({"TMPDIR": str(disk)} if shared != "cache" else {})}
    words = [archive.address, str(archive.recipes), str(disk / "cache"), str(disk)]
    argv = ["bwrap", "--dev-bind", "/", "/", "--size", str(9 << 20), "--tmpfs", str(disk), "--", sys.executable, "-c"]
    code = _SMALL_DISK.replace("STEP", str(_STEP))
    done = subprocess.run([*argv, code, *words], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    tries = [json.loads(line) for line in done.stdout.splitlines()]
    good = {name: hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest() for name, files in expected.items()}
    assert tries[0] == tries[-1] == {"said": [], "found": good}
    for one in tries[1:-1]:
        assert one["found"].items() <= good.items(), one["said"]
        assert all("disk" in said and "space" in said for said in one["said"]), one["said"]
    places = {said.split(":")[1] for one in tries for said in one["said"]}
    assert {" tar -x", " apt-get download"} <= places, places


def test_two_runs_of_which_one_is_killed(
    archive: TinyArchive, expected: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    root, counts = tmp_path / "cache", tmp_path / "counts"
    assert not run_and_kill(lambda: fetch_all(archive, root), -1, counts)
    for at in points(int(counts.read_text()), _MORE_AT_ONCE):
        shutil.rmtree(root)
        first = start(lambda: fetch_all(archive, root), at, counts)
        second = start(lambda: archive.fetch(NAMES[1], root), -1, tmp_path / "other")
        was_killed(first)
        assert not was_killed(second)
        check(root, expected)
        run_and_kill(lambda: fetch_all(archive, root), -1, counts)
        check(root, expected, all_of_it=True)


def test_two_runs_and_everything_is_pruned(
    archive: TinyArchive, expected: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    root = tmp_path / "cache"
    moments = random.Random(3)
    for _ in range(6):
        runs = [start(partial(archive.fetch, name, root), -1, tmp_path / name) for name in NAMES]
        for _ in range(20):
            time.sleep(moments.uniform(0, 0.1))
            prune(Cache(root), to=0)
        assert [was_killed(run) for run in runs] == [False, False]
        check(root, expected)
