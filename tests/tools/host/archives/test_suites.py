# SPDX-License-Identifier: GPL-2.0-or-later
"""Package lists of kgbuild's own: which mirror, which settings, what is asked of apt, and what of a compiler's text."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from kgbuild.errors import ToolError, UserError
from kgbuild.host.archives.apt_suites import AptSuites, find_mirrors, network_settings, render_sources
from kgbuild.host.archives.apt_toolchain import (
    SuiteLists,
    match_compiler,
    parse_dependencies,
    parse_uris,
    plan_toolchain,
)
from kgbuild.host.archives.recipe import load_recipes
from kgbuild.host.archives.suites import MIRROR_VARIABLE, Suites, ToolchainPackage, ToolchainPlan
from kgbuild.progress import SilentProgress

SITES = {"main": "debian", "security": "debian-security"}
RECIPE = load_recipes()["debian"]


def suites() -> Suites:
    assert RECIPE.suites is not None
    return RECIPE.suites


@pytest.mark.parametrize(
    ("chosen", "configured", "expected"),
    [
        ("", ["http://a/debian/", "http://s/debian-security"], ("http://a/debian", "http://s/debian-security")),
        ("", ["http://s/debian-security/"], ("http://s/debian", "http://s/debian-security")),
        ("", ["http://x/other", "http://a/debian"], ("http://a/debian", "http://a/debian-security")),
        ("http://m/debian", ["http://a/debian"], ("http://m/debian", "http://m/debian-security")),
        ("http://m/all/", [], ("http://m/all", "http://m/all")),
        ("file:/srv/debian", [], ("file:/srv/debian", "file:/srv/debian-security")),
    ],
)
def test_the_mirror_is_the_users_or_the_systems(chosen: str, configured: list[str], expected: tuple[str, str]) -> None:
    found = find_mirrors(SITES, chosen, configured)
    assert (found["main"], found["security"]) == expected


@pytest.mark.parametrize("chosen", ["debian", "gopher://x/debian", "http://a b/debian", "http://a/debian' x", "-o"])
def test_what_is_no_address_is_refused(chosen: str) -> None:
    with pytest.raises(UserError, match="not the address of a mirror"):
        find_mirrors(SITES, chosen, [])


def test_without_any_mirror_the_remedy_names_the_option() -> None:
    with pytest.raises(ToolError) as caught:
        find_mirrors(SITES, "", ["http://x/other"])
    assert "--mirror" in caught.value.remedy and MIRROR_VARIABLE in caught.value.remedy


def test_every_source_is_signed_by_the_keyring_and_none_is_trusted_otherwise() -> None:
    names = [s.name for s in suites().suites]
    text = render_sources(suites(), find_mirrors(suites().sites, "http://m/debian", []), names)
    stanzas = text.split("\n\n")
    assert len(stanzas) == len(names)
    assert all(f"Signed-By: {suites().keyring}" in stanza for stanza in stanzas)
    assert "trusted" not in text.lower() and "allow-" not in text.lower()
    archived = [s.name for s in suites().suites if s.archived]
    assert [n for n, s in zip(names, stanzas, strict=True) if "Check-Valid-Until: no" in s] == archived != []


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ('Acquire::http::Proxy "http://p:1";', True),
        ('Acquire::Retries "3";', True),
        ('Acquire::https::Verify-Peer "false";', False),
        ('Acquire::AllowInsecureRepositories "true";', False),
        ('APT::Get::AllowUnauthenticated "true";', False),
        ('Dir::Etc::sourcelist "/tmp/evil";', False),
        ('DPkg::Pre-Invoke:: "rm -rf /";', False),
        ('Acquire::http::AllowRedirect "true";', True),
        ('APT::Update::Pre-Invoke:: "touch /tmp/x";', False),
    ],
)
def test_of_the_systems_settings_only_the_way_to_the_network_is_taken(line: str, kept: bool) -> None:
    assert (network_settings(f"{line}\n") == [line]) == kept


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0", ("gcc-12", "12.2.0-14+deb12u1")),
        ("x86_64-linux-gnu-gcc-14 (Debian 14.2.0-19) 14.2.0", ("gcc-14", "14.2.0-19")),
        ("gcc-10 (Debian 10.2.1-6) 10.2.1 20210110", ("gcc-10", "10.2.1-6")),
        ("gcc (GCC) 14.1.0", None),
        ("gcc-12 (Ubuntu 12.3.0-1ubuntu1) 12.3.0", None),
        ("", None),
        ("gcc-12 (Debian 12.2.0-14; rm -rf /) 12", None),
    ],
)
def test_the_compilers_text_names_its_package(text: str, expected: tuple[str, str] | None) -> None:
    assert RECIPE.toolchain is not None
    assert match_compiler(RECIPE.toolchain, text) == expected


def test_a_compiler_of_nobody_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    assert RECIPE.toolchain is not None
    with pytest.raises(UserError, match="no compiler of this distribution") as caught:
        plan_toolchain(RECIPE.toolchain, SuiteLists(tmp_path, ("bookworm",)), "gcc (GCC) 14.1.0", [])
    assert "--toolchain host" in caught.value.remedy


def test_dependencies_and_files_are_read_as_apt_writes_them() -> None:
    assert parse_dependencies("libc6 (>= 2.34), libelf1 | libelf1t64, python3:any") == ["libc6", "libelf1", "python3"]
    uris = (
        "'http://h/debian/pool/m/make_4.3-4_amd64.deb' make_4.3-4_amd64.deb 396000 SHA256:ab\n"
        "'http://h/pool/b.deb' binutils_2%3a2.40-2_amd64.deb 64 \nW: something\n"
    )
    assert parse_uris(uris) == [
        ToolchainPackage("binutils", "2:2.40-2", "binutils_2%3a2.40-2_amd64.deb", 64),
        ToolchainPackage("make", "4.3-4", "make_4.3-4_amd64.deb", 396000),
    ]


def test_the_key_is_of_names_and_versions_alone() -> None:
    one, two = (ToolchainPackage(n, v, f"{n}.deb", 1) for n, v in (("a", "1"), ("b", "2")))
    plan = ToolchainPlan("gcc-12", "1", "bookworm", ("gcc-12=1",), (one, two))
    assert plan.key == ToolchainPlan("gcc-12", "1", "trixie", (), (two, one)).key
    assert plan.key != ToolchainPlan("gcc-12", "1", "bookworm", ("gcc-12=1",), (one,)).key


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A mirror without a signature: one suite with an empty list of packages."""
    folder = tmp_path / "debian" / "dists" / "bookworm"
    (folder / "main" / "binary-amd64").mkdir(parents=True)
    (folder / "main" / "binary-amd64" / "Packages").write_text("")
    (folder / "Release").write_text("Origin: Debian\nSuite: stable\nCodename: bookworm\nComponents: main\n")
    return tmp_path / "debian"


@pytest.mark.parametrize("said", ["", "Trusted: yes"])
def test_lists_without_a_signature_are_refused_whatever_the_system_trusts(repository: Path, said: str) -> None:
    assert shutil.which("apt-get")
    (repository.parent / "trust.conf").write_text('APT::Get::AllowUnauthenticated "true";\n' if said else "")
    archive = AptSuites(repository.parent / "state", suites(), f"file:{repository}")
    with pytest.raises(ToolError) as caught:
        archive.update(SilentProgress())
    assert caught.value.place == "apt-get update"
    assert not (repository.parent / "state" / "refreshed").exists()
    listed = subprocess.run(["ls", repository.parent / "state" / "lists"], capture_output=True, text=True, check=True)
    assert "Packages" not in listed.stdout


def test_a_release_that_is_none_names_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="deb12"):
        AptSuites(tmp_path, suites()).narrowed("deb99")
