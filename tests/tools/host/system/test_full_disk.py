# SPDX-License-Identifier: GPL-2.0-or-later
"""A cache on a disk that is too small, at each step of fetching and preparing: one message that says so, nothing half
kept, and the next run, with space, works."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mirror import Mirror, signing_keys
from tests.support.tinykernel import tiny_kernel

ROOT = Path(__file__).resolve().parents[4]
# What runs with a small disk: the first argument is the cache, the others what the step needs.
STEPS = {
    "lists": """
from kgbuild.host.archives.apt_suites import AptSuites
AptSuites(cache.root / "lists", suites(), address).update(SilentProgress())
""",
    "packages": """
archive = AptSuites(cache.root / "lists", suites(), address)
archive.update(SilentProgress())
ensure_toolchain(cache, archive, archive.plan_toolchain(rule, TEXT, []), rule, SilentProgress(), 2)
""",
    "preparing": """
local._BUILD_BYTES = 0
root = Path(sys.argv[2])
files = [root / name for name in ("source", "config", "vmlinux", "bzImage", "Module.symvers")]
local.add_kernel(local.LocalKernel("tiny", *files, cc="gcc-12"), progress=SilentProgress(), cache=cache)
""",
}
PROGRAM = """
import re, sys
from dataclasses import replace
from pathlib import Path
from kgbuild.errors import KgbuildError
from kgbuild.host.archives.apt_suites import AptSuites
from kgbuild.host.archives.recipe import load_recipes
from kgbuild.host.archives.suites import Suite, Suites
from kgbuild.host.kernels import local
from kgbuild.host.system.cache import Cache
from kgbuild.host.toolchains import store
from kgbuild.host.toolchains.store import ensure_toolchain
from kgbuild.progress import SilentProgress
cache = Cache(Path(sys.argv[1]))
TEXT = "gcc-99 (Debian 1-1) 99.1.0"
rule = replace(load_recipes()["debian"].toolchain, packages=(), links={})
address, key = sys.argv[2], Path(sys.argv[3])
def suites():
    return Suites(key, "amd64", ("main",), {"main": "debian"}, (Suite("stable", "main", "deb99", "stable"),))
def attempt():
STEP
for growth in GROWTHS:
    store._GROWTH = growth
    try:
        attempt()
    except (KgbuildError, OSError) as error:
        print(f"{type(error).__name__}: {error}".replace(chr(10), " "))
    left = [p.name for kept in ("toolchains/*/toolchain.json", "kernels/*") for p in cache.root.glob(kept)]
    print("left", left)
"""


def run_small(step: str, size: int, tmp_path: Path, *words: str | Path, growths: str = "(4.5,)") -> list[str]:
    """What a step says on a disk of `size` bytes (0: this machine's own)."""
    cache = tmp_path / "disk"
    cache.mkdir(exist_ok=True)
    body = "".join(f"    {line}\n" for line in STEPS[step].strip().splitlines())
    code = PROGRAM.replace("STEP\n", body).replace("GROWTHS", growths)
    small = ("--size", str(size), "--tmpfs", str(cache)) if size else ()
    argv = ["bwrap", "--dev-bind", "/", "/", *small, "--", sys.executable, "-c", code, str(cache / "kgbuild"), *words]
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=120, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def keys() -> Iterator[Path]:
    with signing_keys(1) as home:
        yield home


@pytest.fixture
def mirror(keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mirror:
    config = tmp_path / "apt.conf"
    config.write_text('Dir::Etc::parts "/dev/null"; Dir::Etc::main "/dev/null"; Acquire::http::Proxy "DIRECT";\n')
    monkeypatch.setenv("APT_CONFIG", str(config))
    return Mirror(tmp_path, keys)


def test_fetching_lists(mirror: Mirror, tmp_path: Path) -> None:
    mirror.add("gcc-99", "1-1", {"usr/bin/gcc-99": b"x"})
    mirror.pad(3 << 20)
    mirror.publish()
    with mirror.served() as address:
        error, left = run_small("lists", 1 << 20, tmp_path, address, mirror.keys / "key0.gpg")
        assert "space" in error and "XDG_CACHE_HOME" in error and error.startswith("ToolError"), error
        assert left == "left []"
        assert run_small("lists", 0, tmp_path, address, mirror.keys / "key0.gpg") == ["left []"]


def test_fetching_and_unpacking_packages(mirror: Mirror, tmp_path: Path) -> None:
    """Space is asked for before; and where it is less than was thought, unpacking says so."""
    mirror.add("gcc-99", "1-1", {"usr/bin/gcc-99": bytes(8 << 20)}, packed=True)
    mirror.publish()
    with mirror.served() as address:
        said = run_small("packages", 4 << 20, tmp_path, address, mirror.keys / "key0.gpg", growths="(1000, 4.5)")
        assert "the toolchain gcc-99 1-1 needs" in said[0] and "free" in said[0], said
        assert "No space left on device" in said[2] and "free some space" in said[2], said
        assert said[1] == said[3] == "left []"
        said = run_small("packages", 0, tmp_path, address, mirror.keys / "key0.gpg")
        assert said == ["left ['toolchain.json']"]


@pytest.mark.parametrize("size", [40 << 10, 200 << 10, 1 << 20])
def test_preparing_a_kernel(size: int, tmp_path: Path) -> None:
    tiny = tiny_kernel(tmp_path / "kernel")
    makefile = tiny.root / "source" / "Makefile"
    makefile.write_text(f"$(shell head -c 2M /dev/zero > $(O)/filled)\n{makefile.read_text()}")
    error, left = run_small("preparing", size, tmp_path, tiny.root, "")
    assert "o space left on device" in error, error
    assert left == "left []"
    said = run_small("preparing", 0, tmp_path, tiny.root, "")
    assert len(said) == 1 and said[0] != "left []"
