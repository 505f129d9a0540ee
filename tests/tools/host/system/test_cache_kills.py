# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs killed at counted writes: whatever they leave, the next run answers as if they had not been."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from kgbuild.host.kernels.integrity import find_damage
from kgbuild.host.kernels.local import add_kernel
from kgbuild.host.system.cache import Cache
from kgbuild.progress import SilentProgress
from tests.support.cache_cases import answers, files_in, local
from tests.support.kills import points, run_and_kill
from tests.support.tinykernel import tiny_kernel


def leftovers(root: Path) -> list[str]:
    found = [path.name for path in files_in(root) if ".part" in path.name]
    return found + [path.name for folder in ("tmp", "locks") for path in (root / folder).iterdir()]


def test_killed_at_any_write_of_the_indexes(tmp_path: Path) -> None:
    tiny_kernel(tmp_path / "kernel")
    root, fresh = tmp_path / "cache", tmp_path / "fresh"
    add_kernel(local(tmp_path / "kernel"), progress=SilentProgress(), cache=Cache(root))
    shutil.copytree(root, fresh)
    expected = answers(root)
    shutil.rmtree(root)
    shutil.copytree(fresh, root)
    counts = tmp_path / "counts"
    assert not run_and_kill(lambda: answers(root), -1, counts)
    total = int(counts.read_text())
    assert total > 100
    chosen, killed = points(total, 24), 0
    for at in chosen:
        # SQLite's progress differs from run to run: where one ends before its point, the next try is for its own total
        was_killed, wanted = False, at
        for _ in range(2):
            shutil.rmtree(root)
            shutil.copytree(fresh, root)
            was_killed = run_and_kill(lambda: answers(root), wanted, counts)
            if was_killed:
                break
            wanted = max(1, at * int(counts.read_text()) // total - 2)
        killed += was_killed
        assert answers(root) == expected, at
        Cache(root).sweep()
        assert leftovers(root) == [], at
    assert killed >= len(chosen) * 9 // 10


def test_killed_at_any_write_of_a_kernel(tmp_path: Path) -> None:
    tiny_kernel(tmp_path / "kernel")
    root, counts = tmp_path / "cache", tmp_path / "counts"

    def add() -> None:
        add_kernel(local(tmp_path / "kernel"), progress=SilentProgress(), cache=Cache(root))

    assert not run_and_kill(add, -1, counts)
    expected = answers(root)
    for at in points(int(counts.read_text()), 10):
        shutil.rmtree(root)
        assert run_and_kill(add, at, counts), at
        if not Cache(root).kernels():
            add()
        assert answers(root) == expected, at
        Cache(root).sweep()
        assert leftovers(root) == [], at


def test_what_is_left_beside_any_file_of_a_kernel_is_swept(tmp_path: Path) -> None:
    tiny_kernel(tmp_path / "kernel")
    cache = Cache(tmp_path / "cache")
    kernel = add_kernel(local(tmp_path / "kernel"), progress=SilentProgress(), cache=cache)
    for folder in (kernel.root, kernel.build):
        (folder / f".Module.symvers.sum.{os.getpid()}.ab.part").write_bytes(b"x")
    cache.sweep()
    assert leftovers(cache.root) == []
    assert find_damage(kernel, cache) == []


@pytest.mark.parametrize("wanted", [4, 40])
def test_points_reach_from_the_first_to_the_last(wanted: int) -> None:
    found = points(200, wanted)
    assert found[0] == 1 and found[-1] == 200 and len(found) >= wanted
