# SPDX-License-Identifier: GPL-2.0-or-later
"""Caches with kernels and results in them, for tests."""

from __future__ import annotations

import os
import time
from pathlib import Path

from kgbuild.host.compile import include_index
from kgbuild.host.index.store import load_index
from kgbuild.host.kernels.acquire import ensure_kernel
from kgbuild.host.kernels.compile_commands import read_all_units, write_units
from kgbuild.host.kernels.integrity import seal_kernel
from kgbuild.host.kernels.kbuild import load_environment
from kgbuild.host.kernels.local import LocalKernel, add_kernel
from kgbuild.host.kernels.unit_listing import file_of_all
from kgbuild.host.system.cache import Cache
from kgbuild.host.system.tree_manifest import write_manifest
from kgbuild.model import Kernel, KernelId
from kgbuild.progress import SilentProgress
from tests.support.tinykernel import HEADER, tiny_kernel

KEY = "ab" + "0" * 62


def add(cache: Cache, release: str, version: str = "1-1", build_id: str = "aa" * 20, distro: str = "debian") -> Kernel:
    """A kernel as small as one can be."""
    root = cache.kernel_dir(build_id)
    source = cache.source_dir(f"source-{version}")
    for directory in (root / "build", root / "modules", source):
        directory.mkdir(parents=True, exist_ok=True)
    for name in ("config", "Module.symvers", "vmlinux", "vmlinuz", "build/.kgbuild-env"):
        (root / name).write_bytes(b"x")
    write_units([], root / "units.sqlite")
    kernel = Kernel(
        id=KernelId(distro, release, version, build_id),
        root=root,
        source=source,
        build=root / "build",
        config=root / "config",
        symvers=root / "Module.symvers",
        vmlinux=root / "vmlinux",
        image=root / "vmlinuz",
        modules=root / "modules",
        units=root / "units.sqlite",
        cc="gcc-12",
        compiler="gcc-12 (test) 12.2.0",
        packages={"image": version},
    )
    write_manifest(source)
    seal_kernel(kernel, cache)
    cache.save(kernel)
    return kernel


def key_of(number: int) -> str:
    return f"{number:02x}" * 8


def fill(cache: Cache, count: int, size: int) -> None:
    """Results of `size` bytes on disk each; the higher its number, the later each was made, some time ago."""
    for number in range(count):
        cache.put(key_of(number), bytes(size - 32))
        made = time.time() - 1000 + number
        os.utime(cache.root / "results" / key_of(number)[:2] / key_of(number), (made, made))


def local(root: Path) -> LocalKernel:
    files = [root / name for name in ("source", "config", "vmlinux", "bzImage", "Module.symvers")]
    return LocalKernel("tiny", *files, cc="gcc-12")


def answers(root: Path) -> dict[str, object]:
    """What a run reads from a cache, all of it: kernel, commands, environment, both indexes, a result, a name."""
    cache = Cache(root)
    kernel = ensure_kernel("local:tiny", progress=SilentProgress(), offline=True, cache=cache)
    index = load_index(kernel, SilentProgress(), cache)
    includes = include_index.load_include_index(kernel, cache, SilentProgress())
    with include_index.open_words(kernel) as found_words:
        words = [found_words.having(word) for word in (b"twice", b"thrice")]
    if cache.get(KEY) is None:
        cache.put(KEY, b"result")
    if cache.recall("name", 1e9) is None:
        cache.remember("name", {"release": "r"})
    found = {
        "kernel": str(kernel.id),
        "files": [path.read_bytes() for path in (kernel.config, kernel.symvers, kernel.vmlinux)],
        "units": list(read_all_units(file_of_all(kernel))),
        "environment": load_environment(kernel),
        "callers": [
            (edge.kind, index.function(edge.caller).name)
            for function in index.functions_named("shared")
            for edge in index.callers(function.id)
        ],
        "includes": (dict(includes.graph.includes), includes.folders, words),
        "result": cache.get(KEY),
        "name": cache.recall("name", 1e9),
    }
    cache.leave(kernel)
    return found


def files_in(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file() and path.parent.name != "locks")


TINY_PATCH = f"--- a/include/tiny.h\n+++ b/include/tiny.h\n@@ -1 +1 @@\n-{HEADER}+{HEADER.replace('2 *', '3 *')}"
"""A patch of the tiny kernel's header, whose function is inlined into others."""


def tiny_place(folder: Path) -> Path:
    """The folder, now with the tiny kernel, a cache (XDG_CACHE_HOME) that has it as local:tiny, and fix.patch."""
    tiny_kernel(folder / "kernel")
    add_kernel(local(folder / "kernel"), progress=SilentProgress(), cache=Cache(folder / "kgbuild"))
    (folder / "fix.patch").write_text(TINY_PATCH)
    return folder
