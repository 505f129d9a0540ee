# SPDX-License-Identifier: GPL-2.0-or-later
"""Killed at any moment, the next run just works: nothing half-written is ever read."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import platformdirs
import pytest

from kgbuild.model import Kernel
from tests.support.booting.cases import HERE

PATCH = HERE.parent.parent / "examples" / "proc-version" / "fix.patch"


# A kernel's directory names its toolchain, and its locks belong to it: without them, every cache would write its own
# toolchain into the record that all share, and nothing would keep two of them from doing so at once.
SHARED = ("kernels", "sources", "names", "toolchains", "archives", "locks")


@pytest.fixture
def own_cache(kernel: Kernel, tmp_path: Path) -> Iterator[dict[str, str]]:
    """A cache with the real kernels in it, but with results and work directories of its own."""
    real = Path(platformdirs.user_cache_dir("kgbuild"))
    cache = tmp_path / "cache" / "kgbuild"
    cache.mkdir(parents=True)
    share(real, cache)
    yield {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}


def share(cache: Path, other: Path) -> None:
    for name in SHARED:
        if (cache / name).exists():
            (other / name).symlink_to(cache / name)


def build(kernel_name: str, output: Path, env: dict[str, str]) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-m", "kgbuild.cli.main", "build", str(PATCH), "--kernel", kernel_name, "-o", str(output)]
    return subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)


def test_kill_9_in_a_loop(kernel_name: str, own_cache: dict[str, str], tmp_path: Path) -> None:
    output = tmp_path / "out" / "livepatch-killed.ko"
    output.parent.mkdir()
    moments = random.Random(6)
    killed = 0
    for number in range(10):
        process = build(kernel_name, output, own_cache)
        # a build takes 3 s at first, and about 1 s once its results are kept
        time.sleep(moments.uniform(0.05, 2.0 if number < 3 else 0.7))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            killed += 1
        process.communicate()
    assert killed >= 3
    process = build(kernel_name, output, own_cache)
    _, stderr = process.communicate()
    assert process.returncode == 0, stderr.decode()
    first = output.read_bytes()
    # another cache, never killed: the same bytes
    clean = {**own_cache, "XDG_CACHE_HOME": str(tmp_path / "clean")}
    (tmp_path / "clean" / "kgbuild").mkdir(parents=True)
    share(tmp_path / "cache" / "kgbuild", tmp_path / "clean" / "kgbuild")
    process = build(kernel_name, output, clean)
    _, stderr = process.communicate()
    assert process.returncode == 0, stderr.decode()
    assert output.read_bytes() == first
    # what killed runs left is cleared away by later ones
    assert list((tmp_path / "clean" / "kgbuild" / "tmp").iterdir()) == []
    assert list((tmp_path / "cache" / "kgbuild" / "tmp").iterdir()) == []


def test_two_at_once(kernel_name: str, own_cache: dict[str, str], tmp_path: Path) -> None:
    outputs = [tmp_path / f"{i}" / "livepatch-both.ko" for i in range(2)]
    for output in outputs:
        output.parent.mkdir()
    running = [build(kernel_name, output, own_cache) for output in outputs]
    for process in running:
        _, stderr = process.communicate()
        assert process.returncode == 0, stderr.decode()
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
