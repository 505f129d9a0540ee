# SPDX-License-Identifier: GPL-2.0-or-later
"""A cache that others can write to is refused, and so is another user's; one that was moved works."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from kgbuild.errors import ToolError
from kgbuild.host.kernels.kbuild import move_environment
from kgbuild.host.kernels.local import add_kernel
from kgbuild.host.system import ownership
from kgbuild.host.system.cache import Cache
from kgbuild.progress import SilentProgress
from tests.support.cache_cases import KEY, add, answers, local
from tests.support.tinykernel import tiny_kernel

USES: dict[str, Callable[[Cache], object]] = {
    "get": lambda cache: cache.get(KEY),
    "put": lambda cache: cache.put(KEY, b"x"),
    "kernels": lambda cache: cache.kernels(),
    "load": lambda cache: cache.load("aa" * 20),
    "lock": lambda cache: cache.lock("x").__enter__(),
    "recall": lambda cache: cache.recall("x", 1),
    "remember": lambda cache: cache.remember("x", {}),
    "space": lambda cache: cache.check_space(1, "it"),
    "sweep": lambda cache: cache.sweep(),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    cache = Cache(tmp_path / "cache")
    add(cache, "x")
    cache.put(KEY, b"result")
    cache.remember("name", {"release": "r"})
    for name in ("toolchains/key/root", "archives/debian/lists"):
        (cache.root / name).mkdir(parents=True)
    cache.root.chmod(0o755)
    return cache.root


@pytest.mark.parametrize("use", USES)
def test_nothing_of_a_cache_that_others_write_to_is_used(root: Path, use: str) -> None:
    USES[use](Cache(root))
    root.chmod(0o777)
    with pytest.raises(ToolError, match="everybody may write to this part of the cache") as caught:
        USES[use](Cache(root))
    assert f"chmod -R go-w {root}" in caught.value.remedy


@pytest.mark.parametrize(
    "below",
    [
        *(".", "kernels", "sources", "results", f"results/{KEY[:2]}", "names", f"kernels/{'aa' * 20}"),
        *("sources/source-1-1", "toolchains", "toolchains/key", "toolchains/key/root"),
        *("archives", "archives/debian", "archives/debian/lists"),
    ],
)
@pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777, 0o2775])
def test_each_directory_of_it_counts(root: Path, below: str, mode: int) -> None:
    Cache(root).check()
    (root / below).chmod(mode)
    with pytest.raises(ToolError, match="may write to this part of the cache"):
        Cache(root).check()


@pytest.mark.parametrize("name", ["kernel.json", "units.sqlite", "vmlinux", ".units.sqlite.sum"])
def test_each_file_of_a_kernel_counts(root: Path, name: str) -> None:
    (root / "kernels" / ("aa" * 20) / name).chmod(0o666)
    with pytest.raises(ToolError, match=f"{name}.*may write"):
        Cache(root).check()


def test_where_others_can_not_enter_they_can_not_write(root: Path) -> None:
    (root / "kernels").chmod(0o777)
    root.chmod(0o700)
    Cache(root).check()


def test_a_result_that_others_write_to_is_made_again(root: Path) -> None:
    assert Cache(root).get(KEY) == b"result"
    (root / "results" / KEY[:2] / KEY).chmod(0o666)
    assert Cache(root).get(KEY) is None


@pytest.mark.parametrize("below", [".", "kernels", f"kernels/{'aa' * 20}/kernel.json"])
def test_another_users_cache_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch, below: str) -> None:
    user = os.geteuid()
    if user == 0:
        os.chown(root / below, 12345, -1)
    else:
        monkeypatch.setattr(ownership.os, "geteuid", lambda: user + 1)
    with pytest.raises(ToolError, match="belongs to another user") as caught:
        Cache(root).kernels()
    assert "XDG_CACHE_HOME" in caught.value.remedy


def test_a_directory_above_that_anyone_may_rename_in(tmp_path: Path) -> None:
    above = tmp_path / "above"
    above.mkdir()
    cache = above / "cache"
    add(Cache(cache), "x")
    above.chmod(0o777)
    with pytest.raises(ToolError, match="another cache in the place of cache"):
        Cache(cache).kernels()
    above.chmod(0o1777)  # as /tmp: nobody may rename what is another's
    assert Cache(cache).kernels()


@pytest.mark.parametrize("mask", [0o000, 0o002, 0o022, 0o077])
def test_a_new_cache_is_the_users_alone(tmp_path: Path, mask: int) -> None:
    old = os.umask(mask)
    try:
        cache = Cache(tmp_path / "cache")
        cache.put(KEY, b"x")
        with cache.workdir("work"):
            pass
    finally:
        os.umask(old)
    assert not cache.root.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)
    assert Cache(cache.root).get(KEY) == b"x"


def test_a_link_to_the_cache_is_followed(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    assert Cache(tmp_path / "link").kernels() == Cache(root).kernels()
    root.chmod(0o777)
    with pytest.raises(ToolError, match="may write"):
        Cache(tmp_path / "link").kernels()


ENVIRONMENT = {
    "O": "/old/cache/kernels/ab/build",
    "PWD": "/old/cache/kernels/ab/build",
    "srctree": "/old/cache/sources/linux-6.1",
    "VPATH": "/old/cache/sources/linux-6.1",
    "LINUXINCLUDE": "-I/old/cache/sources/linux-6.1/include -include /old/cache/sources/linux-6.1/a.h -I./include",
    "KBUILD_CPPFLAGS": "-fmacro-prefix-map=/old/cache/sources/linux-6.1/=",
    "OTHER": "/old/cache/sources/linux-6.12/include:/old/cache/kernels/ab/build",
}


def test_the_environment_moves_with_the_cache() -> None:
    moved = move_environment(ENVIRONMENT, Path("/new/s"), Path("/new/b"))
    assert moved == {
        "O": "/new/b",
        "PWD": "/new/b",
        "srctree": "/new/s",
        "VPATH": "/new/s",
        "LINUXINCLUDE": "-I/new/s/include -include /new/s/a.h -I./include",
        "KBUILD_CPPFLAGS": "-fmacro-prefix-map=/new/s/=",
        "OTHER": "/old/cache/sources/linux-6.12/include:/new/b",
    }
    source, build = Path(ENVIRONMENT["srctree"]), Path(ENVIRONMENT["O"])
    assert move_environment(ENVIRONMENT, source, build) == ENVIRONMENT


@pytest.mark.parametrize("built", [False, True])
def test_a_moved_cache_answers_as_before(tmp_path: Path, built: bool) -> None:
    tiny_kernel(tmp_path / "kernel")
    if built:  # then the source tree is copied into the cache
        (tmp_path / "kernel" / "source" / ".config").write_text("")
    root = tmp_path / "cache"
    add_kernel(local(tmp_path / "kernel"), progress=SilentProgress(), cache=Cache(root))
    before = answers(root)
    for place in ("moved by rename", "copied", "linked"):
        target = tmp_path / place
        if place == "copied":
            shutil.copytree(root, target, symlinks=True)
            shutil.rmtree(root)
        elif place == "linked":
            target.symlink_to(root)
        else:
            root.rename(target)
        after = answers(target)
        environment = str(after.pop("environment"))
        assert str(target.resolve()) in environment
        assert place == "linked" or str(root) + "/" not in environment
        assert after == {key: value for key, value in before.items() if key != "environment"}
        root = target
