# SPDX-License-Identifier: GPL-2.0-or-later
"""`kgbuild kernel`, on a cache made here and an archive that is a table."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kgbuild.cli.kernel import kernel as command
from kgbuild.errors import UserError
from kgbuild.host.archives import apt
from kgbuild.host.archives.archive import PackageVersion
from kgbuild.host.kernels.compile_commands import write_units
from kgbuild.host.system.cache import Cache
from kgbuild.model import Kernel, KernelId, UnitCommand
from kgbuild.pipeline import kernels
from tests.support.cache_cases import add


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache = Cache()
    assert cache.root == tmp_path / "kgbuild"
    return cache


@pytest.fixture
def there(cache: Cache) -> Kernel:
    """One kernel in the cache."""
    root = cache.kernel_dir("ab" * 20)
    source = cache.source_dir("linux")
    for directory in (root, source):
        directory.mkdir(parents=True)
    (root / "config").write_text("CONFIG_LIVEPATCH=y\nCONFIG_KASAN=y\n")
    unit = UnitCommand("fs/a.c", "fs/a.o", "fs/a", "a", False, ("gcc-12", "-c"), ())
    write_units([unit], root / "units.sqlite")
    kernel = Kernel(
        id=KernelId("debian", "6.1.0-56-cloud-amd64", "6.1.192-2", "ab" * 20),
        root=root,
        source=source,
        build=root,
        config=root / "config",
        symvers=root / "Module.symvers",
        vmlinux=root / "vmlinux",
        image=root / "vmlinuz",
        modules=None,
        units=root / "units.sqlite",
        cc="gcc-none",
        compiler="gcc-none (X) 1",
    )
    cache.save(kernel)
    return kernel


def call(*argv: str) -> Result:
    return CliRunner().invoke(command, argv)


def test_empty_list(cache: Cache) -> None:
    assert "kgbuild kernel fetch" in call("list").output
    assert json.loads(call("list", "--format", "json").output)["kernels"] == []


def test_list(there: Kernel) -> None:
    assert "debian:6.1.0-56-cloud-amd64  6.1.192-2  abababababab" in call("list").output
    (row,) = json.loads(call("list", "--format", "json").output)["kernels"]
    assert (row["name"], row["build_id"]) == (there.id.name, there.id.build_id)
    assert row["bytes"] > 0


def test_show(there: Kernel) -> None:
    record = json.loads(call("show", "6.1.0-56-cloud-amd64", "--format", "json").output)
    assert record["units"] == 1
    assert [fault.split()[0] for fault in record["refusals"]] == ["C1-config", "C3-compiler"]
    assert "CONFIG_KASAN" in call("show", there.id.name).output


def test_show_newest_of_the_cache(there: Kernel) -> None:
    assert there.id.build_id in call("show", "debian:newest-6.1-cloud").output


def test_show_what_is_not_there(there: Kernel) -> None:
    error = call("show", "debian:6.1.0-1-amd64").exception
    assert isinstance(error, UserError)
    assert there.id.name in error.remedy


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("nosuch", ""),
        ("debian:6.1.0-56-cloud-amd46", "debian:6.1.0-56-cloud-amd64"),
        ("debian:6.1.0-56-cloud", "debian:6.1.0-56-cloud-amd64"),
        ("6.1.0-56", "debian:6.1.0-56-cloud-amd64"),
        ("local:6.1.0-56-cloud-amd64", "debian:6.1.0-56-cloud-amd64"),
        ("debian:6.1.0-56-cloud-amd64=9.9", "debian:6.1.0-56-cloud-amd64"),
        ("debian:6.12.1", ""),
    ],
)
@pytest.mark.parametrize("command", ["show", "remove"])
def test_near_misses(cache: Cache, command: str, name: str, meant: str) -> None:
    add(cache, "6.1.0-56-cloud-amd64")
    error = call(command, name, *(["--yes"] if command == "remove" else [])).exception
    assert isinstance(error, UserError)
    assert ("did you mean" in error.remedy) == bool(meant) and meant in error.remedy
    assert "there are: debian:6.1.0-56-cloud-amd64" in error.remedy
    assert command == "show" or "fetch" not in error.remedy, "who removes wants nothing fetched"
    assert len(cache.kernels()) == 1


def test_remove_where_there_is_nothing(cache: Cache) -> None:
    assert "the cache has no kernel" in str(call("remove", "nosuch", "--yes").exception)


def test_remove_asks(there: Kernel, cache: Cache) -> None:
    error = call("remove", there.id.name).exception
    assert isinstance(error, UserError)
    assert "--yes" in error.remedy
    assert cache.kernels() == [there]


def test_remove(there: Kernel, cache: Cache) -> None:
    result = call("remove", there.id.name, "--yes")
    assert result.exit_code == 0
    assert "removed" in result.output
    assert cache.kernels() == []
    assert not there.source.exists()


def test_search(there: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    complete, partial = "6.1.0-56-cloud-amd64", "6.1.0-55-cloud-amd64"
    table = {f"linux-image-{complete}": ["6.1.192-2"], f"linux-image-{partial}": ["6.1.192-1"]}
    for package in (f"linux-image-{complete}-dbg", f"linux-headers-{complete}", "linux-kbuild-6.1", "linux-source-6.1"):
        table[package] = ["6.1.192-2"]

    class Table(apt.Apt):
        def package_names(self, prefix: str) -> list[str]:
            return list(table)

        def versions(self, names: Iterable[str]) -> dict[str, list[str]]:
            return {name: table[name] for name in names if name in table}

        def packages(self, wanted: Iterable[tuple[str, str]]) -> list[PackageVersion]:
            raise AssertionError

    monkeypatch.setattr(kernels, "open_recipe_archive", lambda *asked, **how: Table())
    text = call("search").output
    assert f"debian:{complete}  6.1.192-2  in the cache" in text
    assert "1 more with missing parts" in text
    rows = json.loads(call("search", "6.1", "--all", "--format", "json").output)["kernels"]
    assert [(row["name"], row["missing"] == []) for row in rows] == [
        (f"debian:{complete}", True),
        (f"debian:{partial}", False),
    ]
    assert isinstance(call("search", "9.9").exception, UserError)


@pytest.mark.parametrize("name", ["add", "list", "show", "remove", "search", "fetch"])
def test_every_help_has_an_example(name: str) -> None:
    result = call(name, "--help")
    assert result.exit_code == 0
    assert f"kgbuild kernel {name}" in result.output
