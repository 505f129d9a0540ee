# SPDX-License-Identifier: GPL-2.0-or-later
"""Names of kernels, resolved against canned package lists."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from kgbuild.errors import ToolError, UserError
from kgbuild.host.archives.apt import Apt, parse_madison, parse_records, version_key
from kgbuild.host.archives.archive import PackageVersion
from kgbuild.host.archives.recipe import (
    FetchPlan,
    KernelName,
    find_packages,
    load_recipes,
    parse_kernel_name,
    parse_recipe,
    running_name,
    search,
)

MADISON = """\
linux-image-6.1.0-56-cloud-amd64 |  6.1.192-2 | mirror bookworm-security/main amd64 Packages
linux-image-6.1.0-56-cloud-amd64-dbg |  6.1.192-2 | mirror bookworm-security/main amd64 Packages
linux-headers-6.1.0-56-cloud-amd64 |  6.1.192-2 | mirror bookworm-security/main amd64 Packages
linux-image-6.1.0-57-cloud-amd64 |  6.1.193-1 | mirror bookworm-security/main amd64 Packages
linux-image-6.1.0-47-cloud-amd64 |  6.1.170-3 | mirror bookworm/main amd64 Packages
linux-image-6.1.0-47-cloud-amd64 |  6.1.170-2 | mirror bookworm/main amd64 Packages
linux-image-6.1.0-47-cloud-amd64-dbg |  6.1.170-3 | mirror bookworm/main amd64 Packages
linux-image-6.1.0-47-cloud-amd64-dbg |  6.1.170-2 | mirror bookworm/main amd64 Packages
linux-headers-6.1.0-47-cloud-amd64 |  6.1.170-3 | mirror bookworm/main amd64 Packages
linux-headers-6.1.0-47-cloud-amd64 |  6.1.170-2 | mirror bookworm/main amd64 Packages
linux-image-6.1.0-47-amd64 |  6.1.170-3 | mirror bookworm/main amd64 Packages
linux-image-6.12.117+deb12-cloud-amd64 | 6.12.117-1~deb12u1 | mirror bookworm-security/main amd64 Packages
linux-image-6.12.117+deb12-cloud-amd64-dbg | 6.12.117-1~deb12u1 | mirror bookworm-security/main amd64 Packages
linux-headers-6.12.117+deb12-cloud-amd64 | 6.12.117-1~deb12u1 | mirror bookworm-security/main amd64 Packages
linux-kbuild-6.12.117+deb12 | 6.12.117-1~deb12u1 | mirror bookworm-security/main amd64 Packages
linux-source-6.12 | 6.12.117-1~deb12u1 | mirror bookworm-security/main amd64 Packages
linux-source-6.1 |  6.1.192-2 | mirror bookworm-security/main amd64 Packages
linux-source-6.1 |  6.1.170-3 | mirror bookworm/main amd64 Packages
linux-source-6.1 |  6.1.170-2 | mirror bookworm/main amd64 Packages
linux-source-6.1 |  6.1.193-1 | mirror bookworm/main Sources
linux-kbuild-6.1 |  6.1.192-2 | mirror bookworm-security/main amd64 Packages
linux-kbuild-6.1 |  6.1.176-1 | mirror bookworm/main amd64 Packages
linux-kbuild-6.1 |  6.1.100-1 | mirror bookworm/main amd64 Packages
"""


class Canned(Apt):
    """An archive that is a table."""

    def __init__(self, madison: str = MADISON) -> None:
        self.table = parse_madison(madison)
        self.asked = 0

    def package_names(self, prefix: str) -> list[str]:
        self.asked += 1
        return [name for name in self.table if name.startswith(prefix)]

    def versions(self, names: Iterable[str]) -> dict[str, list[str]]:
        self.asked += 1
        return {name: self.table[name] for name in names if name in self.table}

    def packages(self, wanted: Iterable[tuple[str, str]]) -> list[PackageVersion]:
        return [PackageVersion(name, version, 1000) for name, version in wanted]


@pytest.fixture
def recipes() -> dict:
    return load_recipes()


def plan(name: str, madison: str = MADISON) -> FetchPlan:
    recipes = load_recipes()
    parsed = parse_kernel_name(name, recipes)
    return find_packages(parsed, recipes[parsed.distro], Canned(madison))


def test_the_recipe_is_in_the_package() -> None:
    assert load_recipes()["debian"].image_prefix == "linux-image-"


@pytest.mark.parametrize(
    ("release", "series", "abi", "flavour", "label"),
    [
        ("6.1.0-56-cloud-amd64", "6.1", "6.1.0-56", "cloud-amd64", None),
        ("6.1.0-56-amd64", "6.1", "6.1.0-56", "amd64", None),
        ("6.1.0-56-rt-amd64", "6.1", "6.1.0-56", "rt-amd64", None),
        ("6.12.117+deb12-cloud-amd64", "6.12", "6.12.117+deb12", "cloud-amd64", "deb12"),
        ("5.10.0-28-amd64", "5.10", "5.10.0-28", "amd64", None),
        ("6.17.8+deb14.1-amd64", "6.17", "6.17.8+deb14.1", "amd64", "deb14"),
        ("6.1.0-0.deb11.48-cloud-amd64", "6.1", "6.1.0-0.deb11.48", "cloud-amd64", "deb11"),
        ("7.3.4+deb13-rt-amd64", "7.3", "7.3.4+deb13", "rt-amd64", "deb13"),
    ],
)
def test_groups_of_a_release(
    recipes: dict, release: str, series: str, abi: str, flavour: str, label: str | None
) -> None:
    groups = recipes["debian"].groups(release)
    assert groups == {"release": release, "series": series, "abi": abi, "flavour": flavour, "label": label}


@pytest.mark.parametrize("release", ["6.1.0-56-arm64", "6.1.0-56-cloud-amd64-dbg", "amd64", "6.18.44-custom", ""])
def test_no_release_of_this_distribution(recipes: dict, release: str) -> None:
    assert recipes["debian"].groups(release) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("debian:6.1.0-56-cloud-amd64", KernelName("debian", "6.1.0-56-cloud-amd64")),
        ("debian:6.1.0-56-cloud-amd64=6.1.192-2", KernelName("debian", "6.1.0-56-cloud-amd64", "6.1.192-2")),
        ("6.1.0-56-cloud-amd64", KernelName("debian", "6.1.0-56-cloud-amd64")),
        ("newest-6.1-cloud", KernelName("debian", "newest-6.1-cloud")),
        ("local:mine", KernelName("local", "mine")),
        ("6.18.44-custom", KernelName("", "6.18.44-custom")),
    ],
)
def test_parse_name(recipes: dict, text: str, expected: KernelName) -> None:
    assert parse_kernel_name(text, recipes) == expected


@pytest.mark.parametrize("text", ["", "debian:", "debian:../../etc", "a b", "debian:-x", "debian:.hidden"])
def test_not_a_name(recipes: dict, text: str) -> None:
    with pytest.raises(UserError, match="not the name of a kernel"):
        parse_kernel_name(text, recipes)


def test_unknown_distribution_has_the_nearest(recipes: dict) -> None:
    with pytest.raises(UserError, match="debian") as caught:
        parse_kernel_name("debain:6.1", recipes)
    assert caught.value.exit_code == 2


def test_exact_release() -> None:
    found = plan("debian:6.1.0-56-cloud-amd64")
    assert found.version == "6.1.192-2"
    assert {part: package.name for part, package in found.packages.items()} == {
        "image": "linux-image-6.1.0-56-cloud-amd64",
        "debug": "linux-image-6.1.0-56-cloud-amd64-dbg",
        "headers": "linux-headers-6.1.0-56-cloud-amd64",
        "kbuild": "linux-kbuild-6.1",
        "source": "linux-source-6.1",
    }


def test_newest_skips_what_is_not_complete() -> None:
    assert plan("debian:newest-6.1-cloud").name == "debian:6.1.0-56-cloud-amd64=6.1.192-2"


def test_build_tools_named_by_abi() -> None:
    assert plan("debian:newest-6.12-cloud").packages["kbuild"].name == "linux-kbuild-6.12.117+deb12"


def test_newest_version_of_a_release_and_an_older_one() -> None:
    assert plan("debian:6.1.0-47-cloud-amd64").version == "6.1.170-3"
    assert plan("debian:6.1.0-47-cloud-amd64=6.1.170-2").packages["source"].version == "6.1.170-2"


def test_missing_build_tools_are_the_next_newer_ones() -> None:
    assert plan("debian:6.1.0-47-cloud-amd64").packages["kbuild"].version == "6.1.176-1"


def test_source_packages_are_no_binary_packages() -> None:
    assert parse_madison(MADISON)["linux-source-6.1"] == ["6.1.192-2", "6.1.170-3", "6.1.170-2"]


def test_unknown_release_has_the_nearest() -> None:
    with pytest.raises(UserError, match=r"debian:6\.1\.0-5[67]-cloud-amd64"):
        plan("debian:6.1.0-59-cloud-amd64")


def test_unknown_version_says_which_there_are() -> None:
    with pytest.raises(UserError, match=r"6\.1\.170-3, 6\.1\.170-2"):
        plan("debian:6.1.0-47-cloud-amd64=6.1.170-9")


def test_incomplete_release_says_what_lacks() -> None:
    with pytest.raises(ToolError, match="debug symbols and headers and source"):
        plan("debian:6.1.0-57-cloud-amd64")


def test_newest_of_an_unknown_series_says_which_there_are() -> None:
    with pytest.raises(UserError, match=r"it has 6\.1, 6\.12"):
        plan("debian:newest-5.4-cloud")


def test_newest_of_an_unknown_flavour() -> None:
    with pytest.raises(UserError, match="unknown flavour 'desktop'"):
        plan("debian:newest-6.1-desktop")


def test_newest_with_nothing_complete() -> None:
    with pytest.raises(ToolError, match="is complete"):
        plan("debian:newest-6.1")


def test_search_says_what_lacks(recipes: dict) -> None:
    found = {entry.name: entry for entry in search("6.1.0-5", recipes["debian"], Canned())}
    assert set(found) == {"debian:6.1.0-56-cloud-amd64", "debian:6.1.0-57-cloud-amd64"}
    assert found["debian:6.1.0-56-cloud-amd64"].missing == ()
    assert "source" in found["debian:6.1.0-57-cloud-amd64"].missing


def test_search_is_newest_first(recipes: dict) -> None:
    versions = [entry.version for entry in search("", recipes["debian"], Canned())]
    assert versions == sorted(versions, key=version_key, reverse=True)


def test_running_kernel_of_a_distribution(recipes: dict) -> None:
    name = running_name(recipes, "6.1.0-56-cloud-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.192-2 (2026-01-01)")
    assert str(name) == "debian:6.1.0-56-cloud-amd64=6.1.192-2"


def test_running_kernel_of_nobody(recipes: dict) -> None:
    with pytest.raises(UserError, match="of no distribution known here"):
        running_name(recipes, "6.18.44-custom", "#1 SMP")


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("6.1.99-1", "6.1.100-1"),
        ("6.1.192-1", "6.1.192-2"),
        ("6.12.117-1~deb12u1", "6.12.117-1"),
        ("6.1.170-3", "1:1.0-1"),
        ("1.0~rc1-1", "1.0-1"),
        ("1.0-1", "1.0-1+b1"),
        ("1.0a-1", "1.0+1-1"),
        ("1.0", "1.0-0.1"),
        ("6.1-1", "6.1.1-1"),
    ],
)
def test_version_order(older: str, newer: str) -> None:
    assert version_key(older) < version_key(newer)


def test_rebuilt_package_has_the_source_version(recipes: dict) -> None:
    assert recipes["debian"].source_of("6.1.192-2+b1") == "6.1.192-2"
    assert recipes["debian"].source_of("6.1.192-2") == "6.1.192-2"


def test_records_keep_the_first_line_of_each_field() -> None:
    text = "Package: a\nVersion: 1\nSize: 12\nDescription: x: y\n more: text\n\nPackage: b\nVersion: 2\n"
    assert parse_records(text) == [
        {"Package": "a", "Version": "1", "Size": "12", "Description": "x: y"},
        {"Package": "b", "Version": "2"},
    ]


def test_a_recipe_of_another_format_is_not_read() -> None:
    with pytest.raises(ValueError, match="format 9"):
        parse_recipe("format = 9\n")
