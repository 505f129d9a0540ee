# SPDX-License-Identifier: GPL-2.0-or-later
"""The cache: whole or not there, whatever happened before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kgbuild.errors import ToolError, UserError
from kgbuild.host.kernels import acquire
from kgbuild.host.kernels.acquire import ensure_kernel, find_kernel
from kgbuild.host.system.cache import Cache, remove_tree, slug
from kgbuild.host.system.locks import take
from kgbuild.host.system.sealed import write_atomic, write_sealed
from kgbuild.model import Kernel, ToolChoice
from kgbuild.progress import SilentProgress
from kgbuild.shown_text import readable_size
from tests.support.cache_cases import KEY, add, fill, key_of

HOST = ToolChoice(host=True)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def test_put_get(cache: Cache) -> None:
    assert cache.get(KEY) is None
    cache.put(KEY, b"result")
    assert cache.get(KEY) == b"result"
    cache.put(KEY, b"")
    assert cache.get(KEY) == b""


@pytest.mark.parametrize("size", [0, 1, 31, 32, 33, 40])
def test_a_cut_result_is_not_read(cache: Cache, size: int) -> None:
    cache.put(KEY, b"0123456789")
    file = cache.root / "results" / "ab" / KEY
    file.write_bytes(file.read_bytes()[:size])
    assert cache.get(KEY) is None


def test_keys_are_hex(cache: Cache) -> None:
    with pytest.raises(ValueError, match="not a hex key"):
        cache.put("../../escape", b"")


def test_results_asked_for_longest_ago_go_first(cache: Cache) -> None:
    fill(cache, 10, 100)
    assert cache.get(key_of(0)) is not None  # asked for just now
    assert cache.trim(1000) == 0
    assert cache.trim(999) == 3  # down to 4/5 of the limit
    assert [n for n in range(10) if cache.get(key_of(n)) is None] == [1, 2, 3]


def test_results_are_trimmed_once_a_day(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kgbuild.host.system.cache.RESULTS_BYTES", 500)
    fill(cache, 10, 100)
    cache.sweep()
    assert [n for n in range(10) if cache.get(key_of(n)) is not None] == [6, 7, 8, 9]
    fill(cache, 10, 100)
    cache.sweep()
    assert all(cache.get(key_of(n)) is not None for n in range(10))
    yesterday = time.time() - 100_000
    os.utime(cache.root / "results" / ".trimmed", (yesterday, yesterday))
    fill(cache, 10, 100)
    cache.sweep()
    assert [n for n in range(10) if cache.get(key_of(n)) is not None] == [6, 7, 8, 9]


def test_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")

    def fail(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        write_atomic(target, b"new")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
    assert target.read_bytes() == b"old"


def test_kernel_round_trip(cache: Cache) -> None:
    kernel = add(cache, "6.1.0-1-cloud-amd64")
    assert cache.load(kernel.id.build_id) == kernel
    assert cache.kernels() == [kernel]


def test_paths_outside_the_cache_are_kept(cache: Cache, tmp_path: Path) -> None:
    outside = tmp_path / "linux"
    outside.mkdir()
    kernel = replace(add(cache, "x"), source=outside, modules=None)
    cache.save(kernel)
    assert cache.load(kernel.id.build_id) == kernel


def test_the_cache_can_be_moved(cache: Cache, tmp_path: Path) -> None:
    add(cache, "x")
    cache.root.rename(tmp_path / "moved")
    (moved,) = Cache(tmp_path / "moved").kernels()
    assert moved.units == tmp_path / "moved" / "kernels" / moved.id.build_id / "units.sqlite"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 99}', '{"format": 1}', "null"])
def test_a_broken_record_is_no_kernel(cache: Cache, text: str) -> None:
    kernel = add(cache, "x")
    for name in ("kernel.json", "kernel-2.json"):
        write_sealed(kernel.root / name, text.encode())
    assert cache.load(kernel.id.build_id) is None
    assert cache.kernels() == []


def test_a_kernel_without_its_record_is_none_and_is_swept(cache: Cache) -> None:
    kernel = add(cache, "x")
    (kernel.root / "kernel.json").unlink()
    assert cache.kernels() == []
    cache.sweep()
    assert not kernel.root.exists()


def test_remove_keeps_a_shared_source(cache: Cache) -> None:
    first = add(cache, "a", build_id="aa" * 20)
    second = add(cache, "b", build_id="bb" * 20)
    assert first.source == second.source
    cache.remove(first)
    assert cache.kernels() == [second]
    assert second.source.is_dir()
    cache.remove(second)
    assert not second.source.exists()


def test_leftovers_of_dead_runs_are_swept(cache: Cache) -> None:
    (cache.root / "tmp" / "dead").mkdir(parents=True)
    (cache.root / "kernels" / ".x.1.removed").mkdir(parents=True)
    old = cache.root / "results" / "ab" / f".{KEY}.1.2.part"
    new = cache.root / "results" / "ab" / f".{KEY}.1.3.part"
    old.parent.mkdir(parents=True)
    for file in (old, new):
        file.write_bytes(b"half")
    living = take(new)
    with cache.workdir("mine") as work:
        assert work.is_dir()
        assert [d.name for d in (cache.root / "tmp").iterdir()] == ["mine"]
    assert list((cache.root / "tmp").iterdir()) == []
    assert list((cache.root / "kernels").iterdir()) == []
    assert not old.exists()
    assert new.exists()
    assert living is not None
    living.release()
    cache.sweep()
    assert not new.exists()
    assert list((cache.root / "locks").iterdir()) == []


def test_work_of_a_failed_run_is_kept_for_the_next(cache: Cache) -> None:
    with pytest.raises(RuntimeError), cache.workdir("name") as work:
        (work / "download").write_bytes(b"x")
        raise RuntimeError
    with cache.workdir("name") as work:
        assert (work / "download").exists()


HOLDER = """
import sys, time
from pathlib import Path
from kgbuild.host.system.cache import Cache
cache = Cache(Path(sys.argv[1]))
with cache.workdir("name") as work:
    (work / "half").write_bytes(b"x")
    print("locked", flush=True)
    time.sleep(60)
"""


def test_killed_run_frees_its_lock(cache: Cache) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLDER), str(cache.root)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == "locked\n"
        cache.sweep()
        assert (cache.root / "tmp" / "name" / "half").exists(), "a living run's directory is not swept"
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    cache.sweep()
    assert not (cache.root / "tmp" / "name").exists()


WRITER = """
import sys
from pathlib import Path
from kgbuild.host.system.cache import Cache
cache = Cache(Path(sys.argv[1]))
print("go", flush=True)
while True:
    for byte in (b"a", b"b"):
        cache.put(sys.argv[2], byte * 3_000_000)
"""


def test_writer_killed_at_any_moment_leaves_a_whole_result(cache: Cache) -> None:
    cache.put(KEY, b"a" * 3_000_000)
    for delay in (0.0, 0.011, 0.023, 0.037):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(cache.root), KEY], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == "go\n"
        time.sleep(delay)
        writer.kill()
        writer.wait()
        writer.stdout.close()
        data = cache.get(KEY)
        assert data is not None
        assert data in (b"a" * 3_000_000, b"b" * 3_000_000)


def test_no_space_says_how_much(cache: Cache) -> None:
    with pytest.raises(ToolError, match=r"unpacking needs .* free") as caught:
        cache.check_space(1 << 60, "unpacking")
    assert "XDG_CACHE_HOME" in caught.value.remedy
    cache.check_space(1, "unpacking")


def test_unwritable_cache_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ToolError, match="XDG_CACHE_HOME"), Cache(tmp_path / "file" / "cache").lock("x"):
        pass


def test_remember_and_forget(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache.recall("debian:newest-6.1", 10) is None
    cache.remember("debian:newest-6.1", {"release": "r"})
    assert cache.recall("debian:newest-6.1", 10) == {"release": "r"}
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 11)
    assert cache.recall("debian:newest-6.1", 10) is None
    monkeypatch.setattr(time, "time", lambda: now - 100)
    assert cache.recall("debian:newest-6.1", 10) is None, "a time in the future is not trusted"


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"time": "x", "value": {}}', '{"time": 1, "value": []}'])
def test_broken_memory_is_none(cache: Cache, text: str) -> None:
    cache.remember("n", {})
    next((cache.root / "names").iterdir()).write_text(text)
    assert cache.recall("n", 1e12) is None


def test_slug() -> None:
    assert slug("6.1.0-1_x+y") == "6.1.0-1_x+y"
    assert "/" not in slug("a/b")
    assert slug("a/b") != slug("a:b")
    assert not slug("../x").startswith(".")


def test_readable_size() -> None:
    assert [readable_size(n) for n in (5, 1500, 2_500_000, 1_490_000_000)] == ["5 B", "2 kB", "2 MB", "1.5 GB"]


def test_remove_tree_of_nothing(tmp_path: Path) -> None:
    remove_tree(tmp_path / "none")


@pytest.fixture
def no_apt(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("asked the archive")

    monkeypatch.setattr(acquire, "find_packages", refuse)
    monkeypatch.setattr(acquire, "open_recipe_archive", refuse)


@pytest.mark.usefixtures("no_apt")
class TestWithoutArchive:
    """What is in the cache is found without asking anybody."""

    def ensure(self, cache: Cache, name: str, *, offline: bool = False) -> Kernel:
        return ensure_kernel(name, progress=SilentProgress(), offline=offline, cache=cache, choice=HOST)

    def test_release(self, cache: Cache) -> None:
        kernel = add(cache, "6.1.0-56-cloud-amd64", "6.1.192-2")
        for name in (
            "debian:6.1.0-56-cloud-amd64",
            "6.1.0-56-cloud-amd64",
            "debian:6.1.0-56-cloud-amd64=6.1.192-2",
        ):
            assert self.ensure(cache, name) == kernel

    def test_newest_version_of_a_release(self, cache: Cache) -> None:
        add(cache, "6.1.0-56-cloud-amd64", "6.1.99-1", "aa" * 20)
        newer = add(cache, "6.1.0-56-cloud-amd64", "6.1.100-1", "bb" * 20)
        assert self.ensure(cache, "6.1.0-56-cloud-amd64") == newer

    def test_newest_is_remembered(self, cache: Cache) -> None:
        kernel = add(cache, "6.1.0-56-cloud-amd64", "6.1.192-2")
        cache.remember("debian:newest-6.1-cloud", {"release": "6.1.0-56-cloud-amd64", "version": "6.1.192-2"})
        assert self.ensure(cache, "debian:newest-6.1-cloud") == kernel

    def test_newest_is_asked_again_after_a_day(self, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
        add(cache, "6.1.0-56-cloud-amd64", "6.1.192-2")
        cache.remember("debian:newest-6.1-cloud", {"release": "6.1.0-56-cloud-amd64", "version": "6.1.192-2"})
        later = time.time() + 90_000
        monkeypatch.setattr(time, "time", lambda: later)
        with pytest.raises(AssertionError, match="asked the archive"):
            self.ensure(cache, "debian:newest-6.1-cloud")

    def test_offline_newest_is_the_newest_of_its_series(self, cache: Cache) -> None:
        add(cache, "6.1.0-9-cloud-amd64", "6.1.99-1", "aa" * 20)
        newest = add(cache, "6.1.0-10-cloud-amd64", "6.1.100-1", "bb" * 20)
        add(cache, "6.1.0-11-amd64", "6.1.101-1", "cc" * 20)
        add(cache, "6.12.1+deb12-cloud-amd64", "6.12.1-1", "dd" * 20)
        assert self.ensure(cache, "debian:newest-6.1-cloud", offline=True) == newest

    def test_offline_newest_says_that_it_is_of_the_cache(self, cache: Cache) -> None:
        titles: list[str] = []

        class Said(SilentProgress):
            def step(self, title: str, total: float | None = None, unit: str = "") -> Any:
                titles.append(title)
                return super().step(title, total, unit)

        kernel = add(cache, "6.1.0-12-cloud-amd64")
        for name in ("debian:newest-6.1-cloud", "debian:6.1.0-12-cloud-amd64"):
            assert ensure_kernel(name, progress=Said(), offline=True, cache=cache, choice=HOST) == kernel
        (said,) = titles
        assert "6.1.0-12-cloud-amd64" in said and said.startswith("newest in the cache") and "--offline" in said
        cache.remember("debian:newest-6.1-cloud", {"release": kernel.id.release, "version": kernel.id.version})
        ensure_kernel("debian:newest-6.1-cloud", progress=Said(), offline=True, cache=cache, choice=HOST)
        assert titles == [said], "the archive has said so within a day"
        cache.leave(kernel)

    def test_offline_without_it(self, cache: Cache) -> None:
        with pytest.raises(ToolError, match="--offline downloads nothing") as caught:
            self.ensure(cache, "debian:newest-6.1-cloud", offline=True)
        assert caught.value.exit_code == 3

    def test_no_such_local_kernel(self, cache: Cache) -> None:
        with pytest.raises(UserError, match="kernel add"):
            self.ensure(cache, "local:mine")

    def test_bare_release_of_nobody(self, cache: Cache) -> None:
        with pytest.raises(UserError, match="no distribution"):
            self.ensure(cache, "6.18.44-custom")

    def test_local_kernel_built_again(self, cache: Cache) -> None:
        add(cache, "mine", distro="local")
        with pytest.raises(UserError, match="not a 64-bit x86 vmlinux"):
            self.ensure(cache, "local:mine")


def test_an_archive_that_cannot_be_asked_falls_back_to_the_cache(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise ToolError("no package lists")

    monkeypatch.setattr(acquire, "open_recipe_archive", fail)
    kernel = add(cache, "6.1.0-56-cloud-amd64")
    assert ensure_kernel("debian:newest-6.1-cloud", progress=SilentProgress(), cache=cache, choice=HOST) == kernel
    with pytest.raises(ToolError, match="no package lists"):
        ensure_kernel("debian:newest-6.12-cloud", progress=SilentProgress(), cache=cache, choice=HOST)


def test_running_kernel_by_build_id(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = add(cache, "whatever")
    monkeypatch.setattr(acquire, "read_running_build_id", lambda: kernel.id.build_id)
    assert find_kernel("running", cache=cache) == kernel
