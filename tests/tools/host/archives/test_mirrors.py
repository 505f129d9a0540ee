# SPDX-License-Identifier: GPL-2.0-or-later
"""Mirrors that lie, stop in the middle of a file, or lack one, and disks that are full: one clear message each, nothing
half kept, and the next run works."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from kgbuild.errors import ToolError
from kgbuild.host.archives.apt_suites import AptSuites
from kgbuild.host.archives.recipe import load_recipes
from kgbuild.host.archives.suites import Suite
from kgbuild.host.system.cache import Cache
from kgbuild.host.toolchains.store import Toolchain, ensure_toolchain, is_unchanged, toolchains
from kgbuild.progress import SilentProgress
from tests.support.mirror import SUITE, Mirror, signing_keys

TEXT = "gcc-99 (Debian 1-1) 99.1.0"
PROGRAM = b"#!/bin/sh\n" + bytes(20_000)
OLD = "Date: Mon, 05 Jan 2026 12:00:00 UTC\nValid-Until: Mon, 12 Jan 2026 12:00:00 UTC\n"


@pytest.fixture(scope="module")
def keys() -> Iterator[Path]:
    with signing_keys(2) as home:
        yield home


@pytest.fixture
def mirror(keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mirror:
    """A good one, and an apt that has no settings of this machine."""
    config = tmp_path / "apt.conf"
    parts = 'Dir::Etc::parts "/dev/null"; Dir::Etc::main "/dev/null"; Acquire::Retries "0";'
    config.write_text(f'{parts} Acquire::http::Proxy "DIRECT";\n')
    monkeypatch.setenv("APT_CONFIG", str(config))
    made = Mirror(tmp_path, keys)
    made.add("gcc-99", "1-1", {"usr/bin/gcc-99": PROGRAM}, "libc99")
    made.add("libc99", "2-1", {"usr/lib/libc99.so": bytes(30_000)})
    made.publish()
    return made


@pytest.fixture
def address(mirror: Mirror) -> Iterator[str]:
    with mirror.served() as address:
        yield address


def archive_of(mirror: Mirror, address: str, *more: Suite) -> AptSuites:
    return AptSuites(mirror.root / "lists", mirror.suites(*more), address)


def make(cache: Cache, archive: AptSuites) -> Toolchain:
    """What a build does for its compiler: lists, plan, packages."""
    rule = load_recipes()["debian"].toolchain
    assert rule is not None
    rule = replace(rule, packages=(), links={})
    archive.update(SilentProgress())
    plan = archive.plan_toolchain(rule, TEXT, [])
    return ensure_toolchain(cache, archive, plan, rule, SilentProgress(), 2)


# name -> (arguments of `publish`, fault of the mirror, what is said of the suite, what is to be done)
LISTS: dict[str, tuple[dict[str, object], dict[str, str], str, str]] = {
    "another's signature": ({"key": "key1"}, {}, "NO_PUBKEY", "lists are not its"),
    "no signature": ({"signed": False}, {}, "is not signed", "lists are not its"),
    "a signature that is gone": ({}, {"InRelease": "404"}, "is not signed", "lists are not its"),
    "a signature of another text": ({}, {"InRelease": "other"}, "Clearsigned file isn't valid", "lists are not its"),
    "out of date": ({"fields": OLD}, {}, "is expired", "clock"),
    "of the future": ({"fields": "Date: Mon, 05 Jan 2099 12:00:00 UTC\n"}, {}, "is not valid yet", "clock"),
    "another list": ({"listed": b"Package: evil\nVersion: 1\n"}, {}, "unexpected size", "mirror"),
    "other bytes": ({}, {"Packages": "other"}, "Hash Sum mismatch", "mirror"),
    "no list": ({}, {"Packages": "404"}, "does not have a list", "mirror"),
    "half a list": ({}, {"Packages": "cut"}, "stopped in the middle", "mirror"),
    "half a signature": ({}, {"InRelease": "cut"}, "stopped in the middle", "mirror"),
    "a failing server": ({}, {"InRelease": "500"}, "Internal Server Error", "mirror"),
    "a failing list": ({}, {"Packages": "500"}, "Internal Server Error", "mirror"),
    "a signature without end": ({}, {"InRelease": "endless"}, "Clearsigned file isn't valid", "lists are not its"),
    "a list without end": ({}, {"Packages": "endless"}, "Hash Sum mismatch", "mirror"),
    "nothing": ({}, {"elease": "404"}, "the mirror has none of the suites", "mirror"),
}


@pytest.mark.parametrize("name", LISTS)
def test_lists(name: str, mirror: Mirror, address: str) -> None:
    how, faults, said, remedy = LISTS[name]
    mirror.publish(**how)  # type: ignore[arg-type]
    mirror.faults.update(faults)
    archive = archive_of(mirror, address)
    with pytest.raises(ToolError) as caught:
        archive.update(SilentProgress())
    assert said in caught.value.fact and remedy in caught.value.remedy
    assert "\n" not in caught.value.fact
    assert not archive.has_lists and archive.versions(["gcc-99", "evil"]) == {}
    # and once the mirror is good again
    mirror.faults.clear()
    mirror.publish()
    assert archive.update(SilentProgress()) == []
    assert archive.versions(["gcc-99", "evil"]) == {"gcc-99": ["1-1"]}


@pytest.mark.parametrize("kind", ["gone", "empty", "another file", "a directory"])
def test_a_keyring_that_is_none(kind: str, mirror: Mirror, address: str, tmp_path: Path) -> None:
    """Nothing is believed then, whatever else this machine trusts."""
    keyring = tmp_path / "none.gpg"
    if kind == "a directory":
        keyring.mkdir()
    elif kind != "gone":
        keyring.write_bytes(b"" if kind == "empty" else b"no keyring\n" * 100)
    archive = AptSuites(mirror.root / "lists", replace(mirror.suites(), keyring=keyring), address)
    with pytest.raises(ToolError) as caught:
        archive.update(SilentProgress())
    assert ("keyring" in caught.value.fact) == (kind in ("gone", "a directory")), caught.value.fact
    assert caught.value.remedy and not archive.has_lists and archive.versions(["gcc-99"]) == {}


@pytest.mark.parametrize("name", LISTS)
def test_lists_that_were_good_before_are_kept(name: str, mirror: Mirror, address: str) -> None:
    how, faults, _, _ = LISTS[name]
    archive = archive_of(mirror, address)
    archive.update(SilentProgress())
    mirror.add("later", "1", {"x": b""})
    mirror.publish(**how)  # type: ignore[arg-type]
    mirror.faults.update(faults)
    with pytest.raises(ToolError):
        archive.update(SilentProgress(), force=True)
    assert archive.versions(["gcc-99", "evil", "later"]) == {"gcc-99": ["1-1"]}


def test_lists_older_than_those_that_were_taken_are_not_taken(mirror: Mirror, address: str) -> None:
    """Signed, and still valid: but somebody wants the kernel of last month back."""
    mirror.publish(fields="Date: Mon, 05 Oct 2026 12:00:00 UTC\n")
    archive = archive_of(mirror, address)
    archive.update(SilentProgress())
    mirror.add("vulnerable", "1", {"x": b""})
    mirror.publish(fields="Date: Mon, 07 Sep 2026 12:00:00 UTC\n")
    with suppress(ToolError):
        archive.update(SilentProgress(), force=True)
    assert archive.versions(["gcc-99", "vulnerable"]) == {"gcc-99": ["1-1"]}


@pytest.mark.parametrize(
    ("fault", "said", "recent"),
    [
        ({}, "the mirror has no other", True),
        ({"other/InRelease": "500"}, "the lists of other were not taken: 500", False),
        ({"other/main/binary-amd64/Packages": "other"}, "the lists of other were not taken: Hash Sum mismatch", False),
    ],
)
def test_one_bad_suite_of_several_is_told_and_asked_for_again(
    fault: dict[str, str], said: str, recent: bool, mirror: Mirror, address: str
) -> None:
    if fault:
        mirror.publish(suite="other")
    mirror.faults.update(fault)
    archive = archive_of(mirror, address, Suite("other", "main", "deb98", "other"))
    (note,) = archive.update(SilentProgress())
    assert note.startswith(said)
    assert archive.versions(["gcc-99"]) == {"gcc-99": ["1-1"]}
    mirror.asked.clear()
    mirror.faults.clear()
    assert archive.update(SilentProgress()) == ([note] if recent else [])
    assert (mirror.asked == []) == recent


# fault of a package -> what is said
PACKAGES = {
    "404": "404",
    "500": "500",
    "cut": "gcc-99_1-1",
    "other": "Hash Sum mismatch",
    "endless": "gcc-99_1-1",
}


@pytest.mark.parametrize("fault", PACKAGES)
def test_packages_of_a_toolchain(fault: str, mirror: Mirror, address: str, tmp_path: Path) -> None:
    cache, archive = Cache(tmp_path / "cache"), archive_of(mirror, address)
    mirror.faults["gcc-99_1-1_amd64.deb"] = fault
    with pytest.raises(ToolError) as caught:
        make(cache, archive)
    assert PACKAGES[fault] in caught.value.fact and caught.value.remedy
    assert toolchains(cache) == []
    mirror.faults.clear()
    made = make(cache, archive)
    assert is_unchanged(made) and sorted(made.packages) == ["gcc-99", "libc99"]
    assert (made.root / "usr" / "lib" / "libc99.so").is_file()
    # what was used is not kept
    assert [p.name for p in (mirror.root / "lists" / "packages").iterdir() if p.suffix == ".deb"] == []


@pytest.mark.parametrize("fault", PACKAGES)
def test_packages_of_a_kernel(fault: str, mirror: Mirror, address: str, tmp_path: Path) -> None:
    archive = archive_of(mirror, address)
    archive.update(SilentProgress())
    narrowed = archive.narrowed("deb99")
    packages = narrowed.packages([("gcc-99", "1-1"), ("libc99", "2-1")])
    folder = tmp_path / "downloads"
    folder.mkdir()
    mirror.faults["gcc-99_1-1_amd64.deb"] = fault
    with pytest.raises(ToolError) as caught:
        narrowed.download(packages, folder, SilentProgress(), "both")
    assert caught.value.remedy and "Traceback" not in caught.value.fact
    mirror.faults.clear()
    files = narrowed.download(packages, folder, SilentProgress(), "both")
    assert sorted(files) == ["gcc-99", "libc99"]


def test_a_package_that_was_exchanged_in_the_mirror_is_not_unpacked(
    mirror: Mirror, address: str, tmp_path: Path
) -> None:
    """As long as the one that is signed for."""
    archive = archive_of(mirror, address)
    archive.update(SilentProgress())
    package = mirror.root / "debian" / "pool" / "gcc-99_1-1_amd64.deb"
    good = package.read_bytes()
    package.write_bytes(good.replace(b"#!/bin/sh", b"#!/bin/no"))
    with pytest.raises(ToolError, match="Hash Sum mismatch"):
        make(Cache(tmp_path / "cache"), archive)
    package.write_bytes(good)
    made = make(Cache(tmp_path / "cache"), archive)
    assert (made.root / "usr" / "bin" / "gcc-99").read_bytes() == PROGRAM


def test_a_program_that_no_list_has(mirror: Mirror, address: str, tmp_path: Path) -> None:
    mirror.add("gcc-98", "1-1", {"usr/bin/gcc-98": b""}, "not-there")
    mirror.publish()
    archive = archive_of(mirror, address)
    archive.update(SilentProgress())
    rule = load_recipes()["debian"].toolchain
    assert rule is not None
    with pytest.raises(ToolError) as caught:
        archive.plan_toolchain(rule, "gcc-98 (Debian 1-1) 98.1.0", [])
    assert caught.value.place == f"{SUITE}: gcc-98"
