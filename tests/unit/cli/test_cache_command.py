# SPDX-License-Identifier: GPL-2.0-or-later
"""`kgbuild cache`: what it shows, what it removes, and what it leaves alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner, Result

from kgbuild.cli.main import main
from kgbuild.host.system.cache import Cache
from kgbuild.host.toolchains.contents import digest_contents, read_tree, write_contents
from kgbuild.host.toolchains.store import remove_toolchain
from kgbuild.model import Kernel
from tests.support.cache_cases import add, fill

SCHEMA = json.loads((Path(__file__).resolve().parents[3] / "docs" / "schema" / "cache-1.json").read_text())
DAY = 86400


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return Cache()


def call(*argv: str) -> Result:
    return CliRunner().invoke(main, ["cache", *argv], catch_exceptions=False)


def record(*argv: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(call(*argv, "--format", "json").stdout)
    jsonschema.validate(found, SCHEMA)
    return found


def used(kernel: Kernel, days: float, size: int = 0) -> Kernel:
    """Make it a kernel of `size` bytes that was used so long ago."""
    (kernel.root / "vmlinux").write_bytes(os.urandom(size))
    (kernel.root / ".used").touch()
    for path in (kernel.root / "kernel.json", kernel.root / ".used"):
        os.utime(path, (time.time() - days * DAY,) * 2)
    return kernel


def names(cache: Cache) -> list[str]:
    return [kernel.id.release for kernel in cache.kernels()]


def test_show(cache: Cache) -> None:
    assert record("show")["bytes"] == 0
    used(add(cache, "old"), 40, 1_000_000)
    add(cache, "mine", build_id="bb" * 20, distro="local", version="")
    fill(cache, 3, 5000)
    found = record("show")
    assert [(k["name"], k["own"], k["in_use"]) for k in found["kernels"]] == [
        ("debian:old", False, False),
        ("local:mine", True, False),
    ]
    assert found["kernels"][0]["bytes"] >= 1_000_000
    assert found["results"]["count"] == 3 and found["results"]["bytes"] >= 15000
    assert [s["kernels"] for s in found["sources"]] == [["local:mine"], ["debian:old"]]
    parts = [
        *(k["bytes"] for k in found["kernels"]),
        *(s["bytes"] for s in found["sources"]),
        found["results"]["bytes"],
    ]
    assert found["bytes"] == sum(parts) + found["work_bytes"] + found["other_bytes"]
    text = call("show").stdout
    assert "debian:old, used 20" in text and "local:mine" in text and "3 results" in text


@pytest.mark.parametrize("argv", [(), ("--dry-run",), ("--own",)])
def test_prune_wants_to_know_what(cache: Cache, argv: tuple[str, ...]) -> None:
    add(cache, "x")
    assert call("prune", *argv).exit_code == 2
    assert names(cache) == ["x"]


@pytest.mark.parametrize(
    "argv", ["--older 30", "--older -1d", "--older d", "--older 3x", "--to G", "--to 1X", "--to -1G", "--to iB"]
)
def test_times_and_sizes_that_are_none(cache: Cache, argv: str) -> None:
    assert call("prune", *argv.split()).exit_code == 2


@pytest.mark.parametrize(
    ("text", "size"), [("20G", 20 * 10**9), ("1.5MB", 1_500_000), ("2KiB", 2048), ("7", 7), ("0", 0), ("1t", 10**12)]
)
def test_sizes(cache: Cache, text: str, size: int) -> None:
    assert record("prune", "--to", text)["to_bytes"] == size


@pytest.mark.parametrize(("text", "seconds"), [("30d", 30 * DAY), ("12h", 43200), ("2w", 14 * DAY), ("5 min", 300)])
def test_times(cache: Cache, text: str, seconds: int) -> None:
    assert record("prune", "--older", text)["older_seconds"] == seconds


def test_what_was_not_used_for_long_goes(cache: Cache) -> None:
    used(add(cache, "old", "1-1"), 40, 100_000)
    used(add(cache, "new", "2-1", build_id="bb" * 20), 20)
    fill(cache, 2, 5000)
    old = cache.root / "results" / "01" / ("01" * 8)
    os.utime(old, (time.time() - 31 * DAY,) * 2)
    before = record("show")["bytes"]
    dry = record("prune", "--older", "30d", "--dry-run")
    assert names(cache) == ["new", "old"] and old.exists()
    done = record("prune", "--older", "30d")
    assert {**done, "dry_run": True} == dry
    assert names(cache) == ["new"] and not old.exists()
    assert [item["kind"] for item in done["removed"]] == ["kernel", "source", "results"]
    after = record("show")["bytes"]
    assert done["bytes"] == after and done["freed_bytes"] == before - after > 100_000
    assert (cache.root / "results" / "00" / ("00" * 8)).exists()


def test_the_oldest_go_until_it_is_small_enough(cache: Cache) -> None:
    for number, release in enumerate("abc"):
        used(add(cache, release, f"{number}-1", build_id=f"{number}a" * 20), 30 - number, 1_000_000)
    done = record("prune", "--to", "2200kB")
    assert names(cache) == ["b", "c"] and done["reached"] and done["bytes"] <= 2_200_000
    text = call("prune", "--to", "1500k").stdout
    assert "removed" in text and "debian:b" in text and "freed" in text
    assert names(cache) == ["c"]
    assert record("prune", "--to", "1500k")["removed"] == []


def test_kernels_of_ones_own_stay_unless_that_is_asked_for(cache: Cache) -> None:
    used(add(cache, "mine", distro="local"), 400, 1_000_000)
    done = record("prune", "--older", "30d", "--to", "0")
    assert names(cache) == ["mine"] and not done["reached"]
    assert "added by hand" in done["kept"][0]["reason"]
    assert "that is more than" in call("prune", "--to", "1k").stdout
    assert [item["kind"] for item in record("prune", "--older", "30d", "--own")["removed"]] == ["kernel", "source"]
    assert names(cache) == []


USER = """
import sys, time
from pathlib import Path
from kgbuild.host.system.cache import Cache
cache = Cache(Path(sys.argv[1]))
(kernel,) = cache.kernels()
assert cache.use(kernel)
cache.put("ff" * 8, b"x" * 100)
with cache.scratch("build") as work:
    (work / "half").write_bytes(b"x" * 100)
    print("ready", flush=True)
    time.sleep(600)
"""


def test_what_a_running_build_uses_stays(cache: Cache) -> None:
    kernel = used(add(cache, "x"), 0)
    fill(cache, 1, 5000)
    user = subprocess.Popen([sys.executable, "-c", USER, str(cache.root)], stdout=subprocess.PIPE, text=True)
    assert user.stdout is not None
    try:
        assert user.stdout.readline() == "ready\n"
        for path in (kernel.root / "kernel.json", cache.root / "results" / "00" / ("00" * 8)):
            os.utime(path, (time.time() - 50 * DAY,) * 2)
        assert record("show")["kernels"][0]["in_use"]
        done = record("prune", "--older", "0s", "--to", "0", "--own")
        assert [item["reason"] for item in done["kept"]] == ["a running kgbuild uses it"]
        assert [item["kind"] for item in done["removed"]] == ["results"]
        assert kernel.source.is_dir() and names(cache) == ["x"]
        assert len(list((cache.root / "tmp").iterdir())) == 1
        assert cache.get("ff" * 8) is not None and cache.get("00" * 8) is None
        assert not cache.remove(kernel)
    finally:
        user.kill()
        user.wait()
        user.stdout.close()
    assert not record("show")["kernels"][0]["in_use"]
    done = record("prune", "--to", "0")
    assert {item["kind"] for item in done["removed"]} == {"work", "kernel", "source", "results"}
    assert names(cache) == [] and record("show")["bytes"] == done["bytes"]


def test_two_may_use_a_kernel_and_the_last_frees_it(cache: Cache) -> None:
    kernel = add(cache, "x")
    assert Cache(cache.root).use(kernel) and Cache(cache.root).use(kernel)
    assert cache.is_used(kernel.id.build_id)
    cache.leave(kernel)
    assert not cache.is_used(kernel.id.build_id)
    assert cache.remove(kernel)
    assert not cache.use(kernel), "it is gone"


def test_remove_of_a_kernel_in_use_says_so(cache: Cache) -> None:
    kernel = add(cache, "x")
    user = subprocess.Popen([sys.executable, "-c", USER, str(cache.root)], stdout=subprocess.PIPE, text=True)
    assert user.stdout is not None
    try:
        assert user.stdout.readline() == "ready\n"
        done = CliRunner().invoke(main, ["kernel", "remove", kernel.id.name, "--yes"])
        assert "a running kgbuild uses it" in str(done.exception)
        assert names(cache) == ["x"]
    finally:
        user.kill()
        user.wait()
        user.stdout.close()


# Toolchains


def toolchain(cache: Cache, name: str, days: float, size: int = 0) -> Path:
    """A toolchain of `size` bytes that was used so long ago; its root."""
    folder = cache.root / "toolchains" / name
    (folder / "root" / "usr" / "bin").mkdir(parents=True)
    (folder / "root" / "usr" / "bin" / "gcc-99").write_bytes(os.urandom(size))
    rows = read_tree(folder / "root")
    write_contents(folder, rows)
    said = {"format": 2, "command": "gcc-99", "version": "1-1", "base": "stable", "compiler": "", "packages": {}}
    (folder / "toolchain.json").write_text(json.dumps({**said, "digest": digest_contents(rows)}))
    when = time.time() - days * DAY
    os.utime(folder / "toolchain.json", (when, when))
    return folder / "root"


def add_with(cache: Cache, release: str, build_id: str, root: Path, days: float) -> Kernel:
    kernel = replace(add(cache, release, build_id=build_id), toolchain=root)
    cache.save(kernel)
    return used(kernel, days)


def keys(cache: Cache) -> list[str]:
    return sorted(p.name for p in (cache.root / "toolchains").iterdir())


def test_show_has_toolchains_and_package_lists(cache: Cache) -> None:
    root = toolchain(cache, "aa" * 16, 40, 300_000)
    toolchain(cache, "bb" * 16, 3)
    add_with(cache, "k", "cc" * 20, root, 1)
    (cache.root / "archives" / "debian").mkdir(parents=True)
    (cache.root / "archives" / "debian" / "list").write_bytes(os.urandom(200_000))
    found = record("show")
    first, second = found["toolchains"]
    assert (first["key"], first["kernels"], first["in_use"]) == ("aa" * 16, ["debian:k"], False)
    assert first["bytes"] >= 300_000 and second["kernels"] == []
    assert found["lists_bytes"] >= 200_000 > found["other_bytes"]
    said = call("show").stdout
    assert "toolchain gcc-99 1-1 (stable), for 1 kernel\n" in said and "package lists" in said


@pytest.mark.parametrize(
    ("words", "left"),
    [
        (("--older", "30d"), ["needed", "young"]),
        (("--older", "30d", "--dry-run"), ["needed", "old", "young"]),
        (("--older", "2d"), ["needed"]),
        (("--to", "0"), []),
    ],
)
def test_a_toolchain_goes_that_no_kernel_needs(words: tuple[str, ...], left: list[str], cache: Cache) -> None:
    """The one that is needed was used longest ago; it goes with its last kernel."""
    root = toolchain(cache, "needed", 400)
    toolchain(cache, "old", 40)
    toolchain(cache, "young", 3)
    add_with(cache, "k", "cc" * 20, root, 1)
    found = record("prune", *words)
    assert keys(cache) == left
    gone = [item for item in found["removed"] if item["kind"] == "toolchain"]
    assert len(gone) == (3 - len(left) if "--dry-run" not in words else 1)


def test_a_toolchain_stays_while_a_kernel_stays(cache: Cache) -> None:
    root = toolchain(cache, "needed", 400)
    add_with(cache, "one", "cc" * 20, root, 90)
    add_with(cache, "two", "dd" * 20, root, 1)
    record("prune", "--older", "30d")
    assert names(cache) == ["two"] and keys(cache) == ["needed"]
    record("prune", "--older", "1s")
    assert names(cache) == [] and keys(cache) == []


def test_a_toolchain_that_a_run_uses_stays(cache: Cache) -> None:
    """One that is being made has no kernel yet."""
    root = toolchain(cache, "new", 400)
    assert cache.use_toolchain(root)
    os.utime(root.parent / ".used", (0, 0))
    (kept,) = record("prune", "--to", "0")["kept"]
    assert kept["kind"] == "toolchain" and kept["reason"] == "a running kgbuild uses it"
    assert keys(cache) == ["new"]
    cache.leave_toolchain(root)
    record("prune", "--to", "0")
    assert keys(cache) == []


def test_a_kernel_whose_toolchain_was_removed_is_still_there(cache: Cache) -> None:
    root = toolchain(cache, "aa" * 16, 1)
    add_with(cache, "k", "cc" * 20, root, 1)
    remove_toolchain(cache, "aa" * 16)
    (kernel,) = cache.kernels()
    assert kernel.toolchain is None
