# SPDX-License-Identifier: GPL-2.0-or-later
"""Packages that dpkg-deb and rpmbuild make, and repositories that apt and dnf read."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from kgbuild.cli.main import main
from kgbuild.delivery.package_texts import check_maintainer
from kgbuild.delivery.patch_facts import PatchFacts, check_cves, plain_word, release_of_name
from kgbuild.errors import UserError
from kgbuild.host.delivery.packages import LINT_TAGS
from kgbuild.pipeline.delivery.package import Packed, pack, read_module_to_pack, read_release_to_pack
from tests.support.live_kernel import RELEASE, module_bytes

WHO = "A. Person <person@debian.org>"
NAME = f"livepatch-{RELEASE}"


def says(argv: list[str | Path], **named: Any) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True, **named).stdout


def module(folder: Path, number: int, **note: Any) -> Path:
    path = folder / f"livepatch-{number}.ko"
    patches = [{"name": "fix.patch", "sha256": "0" * 64}]
    path.write_bytes(module_bytes(f"livepatch_{number}", **{"patches": patches, **note}))
    return path


def packed(path: Path, *, rpm: bool = False) -> dict[str, Packed]:
    one = read_module_to_pack(path, None, ["CVE-2026-12345"], [path.with_suffix(".json")])
    return {p.package: p for p in pack([one], deb=not rpm, rpm=rpm, maintainer=WHO)}


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Releases 2 and 10 as packages of both kinds."""
    folder = tmp_path_factory.mktemp("dist")
    for number in (2, 10):
        path = module(folder, number)
        path.with_suffix(".json").write_text("{}\n")
        for rpm in (False, True):
            for one in packed(path, rpm=rpm).values():
                (folder / one.name).write_bytes(one.data)
    yield folder


def test_the_same_again(dist: Path) -> None:
    for rpm in (False, True):
        for one in packed(dist / "livepatch-10.ko", rpm=rpm).values():
            assert (dist / one.name).read_bytes() == one.data, one.name


def test_exactly_that_kernel_and_versions_that_sort(dist: Path) -> None:
    fields = says(["dpkg-deb", "-f", dist / f"{NAME}_10_amd64.deb"])
    assert "Version: 10\n" in fields and f"Depends: kgbuild-livepatch, linux-image-{RELEASE} (= 6.1-1)\n" in fields
    assert subprocess.run(["dpkg", "--compare-versions", "10", "gt", "2"], check=False).returncode == 0
    requires = says(["rpm", "-qp", "--requires", dist / f"{NAME}-10-1.x86_64.rpm"])
    assert f"kernel-uname-r = {RELEASE}\n" in requires and "kgbuild-livepatch\n" in requires


def test_the_module_is_packed_as_it_is(dist: Path, tmp_path: Path) -> None:
    wanted = (dist / "livepatch-10.ko").read_bytes()
    subprocess.run(["dpkg-deb", "-x", dist / f"{NAME}_10_amd64.deb", tmp_path], check=True)
    place = tmp_path / "usr/lib/livepatch" / RELEASE
    assert (place / "livepatch_10.ko").read_bytes() == wanted
    assert (place / "livepatch_10.info").read_text() == "release=10\ncves=CVE-2026-12345\npatch=fix.patch\n"
    cpio = subprocess.run(["rpm2cpio", dist / f"{NAME}-10-1.x86_64.rpm"], capture_output=True, check=True).stdout
    subprocess.run(["cpio", "-idm", "--quiet"], input=cpio, cwd=tmp_path / "usr/share", check=True)
    assert (tmp_path / "usr/share/usr/lib/livepatch" / RELEASE / "livepatch_10.ko").read_bytes() == wanted


def test_a_changelog_with_cves(dist: Path, tmp_path: Path) -> None:
    subprocess.run(["dpkg-deb", "-x", dist / f"{NAME}_10_amd64.deb", tmp_path], check=True)
    doc = tmp_path / "usr/share/doc" / NAME
    assert sorted(p.name for p in doc.iterdir()) == ["changelog.gz", "copyright", "livepatch-10.json"]
    assert "Release 10: fixes CVE-2026-12345." in says(["zcat", doc / "changelog.gz"])
    assert "CVE-2026-12345" in says(["rpm", "-qp", "--changelog", dist / f"{NAME}-10-1.x86_64.rpm"])


def test_what_comes_and_goes_is_done_by_livepatch(dist: Path, tmp_path: Path) -> None:
    subprocess.run(["dpkg-deb", "-e", dist / f"{NAME}_10_amd64.deb", tmp_path / "c"], check=True)
    for name, words, wanted in (
        ("postinst", ["configure", "2"], f"install /usr/lib/livepatch/{RELEASE}/livepatch_10.ko\n"),
        ("postinst", ["abort-upgrade"], ""),
        ("prerm", ["upgrade", "11"], ""),
        ("prerm", ["remove"], f"remove {RELEASE}\n"),
    ):
        programs = tmp_path / "programs"
        programs.mkdir(exist_ok=True)
        for status, ends in ((0, 0), (1, 0), (4, 0), (3, 3)):
            (programs / "livepatch").write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/log\nexit {status}\n')
            (programs / "livepatch").chmod(0o755)
            (tmp_path / "log").write_text("")
            env = {"PATH": f"{programs}:/usr/bin:/bin"}
            ran = subprocess.run(["sh", tmp_path / "c" / name, *words], env=env, check=False)
            assert (tmp_path / "log").read_text() == wanted
            assert ran.returncode == (ends if wanted.startswith("install") else 0)


def test_lintian_and_rpmlint_find_named_tags_only(dist: Path) -> None:
    debs = [dist / f"{NAME}_10_amd64.deb", dist / "livepatch-test_10_all.deb", *dist.glob("kgbuild-livepatch_*.deb")]
    found = subprocess.run(["lintian", *(d for d in debs if d.exists())], capture_output=True, text=True, check=False)
    assert [line for line in found.stdout.splitlines() if line[:2] in ("E:", "W:")] == []
    found = subprocess.run(["rpmlint", *dist.glob("*.rpm")], capture_output=True, text=True, check=False)
    lines = [line for line in found.stdout.splitlines() if ": E: " in line or ": W: " in line]
    assert lines
    assert [line for line in lines if line.split(" ")[2] not in LINT_TAGS] == []


def test_meta_package(dist: Path) -> None:
    (deb,) = dist.glob("livepatch-*_10_all.deb")
    assert f"Depends: {NAME} (>= 10)" in says(["dpkg-deb", "-f", deb])
    (rpm,) = dist.glob("livepatch-*-10-1.noarch.rpm")
    assert f"({NAME} >= 10 if kernel-uname-r = {RELEASE})" in says(["rpm", "-qp", "--requires", rpm])


def test_apt_and_dnf_read_the_repository(dist: Path, tmp_path: Path) -> None:
    home = tmp_path / "gpg"
    home.mkdir(mode=0o700)
    env = {**os.environ, "GNUPGHOME": str(home)}
    words = ["--batch", "--passphrase", "", "--quick-gen-key", "live@example.org", "rsa2048", "sign", "never"]
    subprocess.run(["gpg", *words], env=env, check=True, capture_output=True)
    key = subprocess.run(["gpg", "--export", "live@example.org"], env=env, check=True, capture_output=True).stdout
    (tmp_path / "key.gpg").write_bytes(key)
    (tmp_path / "key.asc").write_text(says(["gpg", "--armor", "--export", "live@example.org"], env=env))
    argv = ["repo", str(dist), "--gpg-key", "live@example.org", "--gpg-home", str(home), "--format", "json"]
    ran = CliRunner().invoke(main, argv)
    assert ran.exit_code == 0, ran.output
    assert {r["kind"]: r["signed"] for r in json.loads(ran.stdout)["repositories"]} == {"apt": True, "dnf": True}

    for folder in ("lists/partial", "cache/archives/partial"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "status").touch()
    (tmp_path / "sources.list").write_text(f"deb [signed-by={tmp_path}/key.gpg] file:{dist} ./\n")
    settings = {
        "Dir::Etc::sourcelist": tmp_path / "sources.list",
        "Dir::Etc::sourceparts": "/nonexistent",
        "Dir::State::lists": tmp_path / "lists",
        "Dir::State::status": tmp_path / "status",
        "Dir::Cache": tmp_path / "cache",
        "APT::Sandbox::User": "root",
    }
    apt: list[str | Path] = [word for k, v in settings.items() for word in ("-o", f"{k}={v}")]
    subprocess.run(["apt-get", *apt, "-qq", "update"], check=True, capture_output=True)
    assert "Candidate: 10\n" in says(["apt-cache", *apt, "policy", NAME])

    options = [f"--setopt=lp.{k}" for k in ("gpgcheck=1", "repo_gpgcheck=1", f"gpgkey=file://{tmp_path}/key.asc")]
    dnf = ["dnf", "-q", "-y", "--releasever=9", f"--repofrompath=lp,file://{dist}", *options]
    said = says([*dnf, f"--setopt=cachedir={tmp_path}/dnf", "repoquery", "--repo=lp"])
    assert f"{NAME}-0:10-1.x86_64\n" in said and f"{NAME}-0:2-1.x86_64\n" in said


def kernel_row(**changes: Any) -> dict[str, Any]:
    """A kernel's row of a manifest."""
    names = {"kernel": RELEASE, "requested": RELEASE, "version": "1", "folder": RELEASE}
    return {**names, "fixes": [], "module": None, "report": None, "proof": None, "vm": None, **changes}


def release_folder(folder: Path, **changes: Any) -> Path:
    """A release as docs/releases.md describes it, with one kernel that has a module and one that has none."""
    top = folder / "release-3"
    (top / RELEASE).mkdir(parents=True)
    files = {
        f"{RELEASE}/livepatch-3.ko": module(folder, 3).read_bytes(),
        f"{RELEASE}/report.json": b"{}",
        f"{RELEASE}/proof.json": b"{}",
        f"{RELEASE}/CVE-2026-11111.patch": b"--- a\n",
    }
    for path, data in files.items():
        (top / path).write_bytes(data)
    about = {"subject": "", "commit": "", "release": 1, "inputs": []}
    fixes = [
        {"id": "CVE-2026-11111", "cves": ["CVE-2026-11111"], **about},
        {"id": "other", "cves": ["CVE-2026-99999"], **about},
    ]
    row = {
        "folder": RELEASE,
        "fixes": [
            {"id": "CVE-2026-11111", "state": "affected", "fact": "", "patch": f"{RELEASE}/CVE-2026-11111.patch"},
            {"id": "other", "state": "fixed", "fact": "", "patch": None},
        ],
        "module": {"path": f"{RELEASE}/livepatch-3.ko", "name": "livepatch_3", "sha256": ""},
        "report": f"{RELEASE}/report.json",
        "proof": f"{RELEASE}/proof.json",
    }
    manifest = {
        "schema": "kgbuild/release/1",
        "release": 3,
        "replace": True,
        "fixes": fixes,
        "kernels": [kernel_row(**row), kernel_row(folder="x")],
        "files": [{"path": p, "sha256": hashlib.sha256(d).hexdigest(), "bytes": len(d)} for p, d in files.items()],
        **changes,
    }
    (top / "manifest.json").write_text(json.dumps(manifest))
    return top


def test_a_release(tmp_path: Path) -> None:
    (one,) = read_release_to_pack(release_folder(tmp_path))
    assert (one.facts.release, one.facts.cves) == (3, ("CVE-2026-11111",))
    assert sorted(one.documents) == ["CVE-2026-11111.patch", "proof.json", "report.json"]
    ran = CliRunner().invoke(main, ["package", str(tmp_path / "release-3"), "--deb", "-o", str(tmp_path / "dist")])
    assert ran.exit_code == 0, ran.output
    assert (tmp_path / "dist" / f"{NAME}_3_amd64.deb").exists()


def test_a_release_that_was_changed(tmp_path: Path) -> None:
    top = release_folder(tmp_path)
    (top / RELEASE / "proof.json").write_text("{ }")
    with pytest.raises(UserError, match="not the file that the manifest names"):
        read_release_to_pack(top)


@pytest.mark.parametrize(
    "changes", [{"release": "x"}, {"files": 3}, {"fixes": None}, {"kernels": [{"module": 1}]}, {"kernels": []}]
)
def test_a_broken_manifest(tmp_path: Path, changes: dict[str, Any]) -> None:
    ran = CliRunner().invoke(main, ["package", str(release_folder(tmp_path, **changes))])
    assert isinstance(ran.exception, UserError)


@pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd"])
def test_a_manifest_that_leads_out(tmp_path: Path, path: str) -> None:
    rows = [kernel_row(module={"path": path, "name": "x", "sha256": ""})]
    with pytest.raises(UserError, match="leads out"):
        read_release_to_pack(release_folder(tmp_path, kernels=rows))


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        ({"kernel": {"name": "debian:x", "version": "1\nDepends: evil"}}, "kernel's version"),
        ({"build_ids": {"vmlinux": "$(reboot)"}}, "build-id"),
        ({"build_ids": {}}, "what it is for"),
        ({"kernel": {"name": "local:x", "version": "1"}}, "is not known"),
    ],
)
def test_modules_that_no_package_can_hold(tmp_path: Path, change: dict[str, Any], fact: str) -> None:
    with pytest.raises(UserError, match=fact):
        read_module_to_pack(module(tmp_path, 2, **change), None)


@pytest.mark.parametrize(
    "data", [b"", b"#!/bin/sh\n", b"\x7fELF" + bytes(100), b"\x7fELF\x02\x01\x01" + bytes(11) + b"\xb7" + bytes(90)]
)
def test_files_that_are_no_module(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x-1.ko"
    path.write_bytes(data)
    with pytest.raises(UserError):
        read_module_to_pack(path, None)


HOSTILE = [
    "",
    "CVE-2026-1;reboot",
    "CVE-2026-12345\n",
    "CVE-2026-12345\nDepends: evil",
    "CVE-2026-12345\r\n\r\nPackage: evil",
    "\n -- Evil <evil@example.org>  Thu, 01 Jan 1970 00:00:00 +0000\n\nevil (9) stable; urgency=low",
    "\n%post\nreboot",
    "\n* Thu Jan 01 1970 Evil <evil@example.org> - 9-1",
    "$(id)",
    "`id`",
    "${PATH}",
    "' ; id ; '",
    '" && id && "',
    "\\",
    "a\\\nb",
    "-rf",
    "--no-check",
    "../../x",
    "/etc/passwd",
    "%{lua:os.execute('id')}",
    "%(id)",
    "%n %i %%",
    "\x1b[2J\x1b]0;title\x07",
    "\u202egnp.exe\u2066",
    "\u200b\ufeff",
    "a\0b",
    "<b>&amp;</b>",
    "* ? [a] ~",
    "# comment",
    "x" * 5000,
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_words_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError):
        check_cves([text])
    for maintainer in (f"{text}\n <a@b>", f"A\u202e{text} <a@b>", f"A <{text}@b>", text):
        with pytest.raises(UserError):
            check_maintainer(maintainer)
    for said in (f"{text} ", f"linux-image (= {text})", f"{text} (= 1)"):
        with pytest.raises(UserError):
            read_module_to_pack(module(tmp_path, 2), None, kernel_package=said)


def test_hostile_words_in_packages(tmp_path: Path) -> None:
    """Names of patches, functions and documents come from outside: all of these at once, in both kinds of package."""
    patches = [{"name": text, "sha256": ""} for text in HOSTILE]
    functions = [f"{text}/{text},0" for text in HOSTILE]
    documents = []
    for number, text in enumerate(HOSTILE):
        name = text.replace("/", "").replace("\0", "")[:60] or "empty"
        folder = tmp_path / str(number)
        folder.mkdir()
        documents.append(folder / (name if name not in (".", "..") else "dots"))
        documents[-1].write_text(text)
    one = read_module_to_pack(module(tmp_path, 2, patches=patches, functions=functions), None, (), documents)
    assert len(one.documents) == len(HOSTILE), "none is lost, also where two have one name"
    info = one.facts.info.splitlines()
    assert len(info) == 3 and set(info[2].replace(" ", "")).isdisjoint("`$;%\x1b<>'\"\\*?~#\u202e")
    deb, *_ = pack([one], deb=True, rpm=False)
    rpm, *_ = pack([one], deb=False, rpm=True)
    (tmp_path / deb.name).write_bytes(deb.data)
    (tmp_path / rpm.name).write_bytes(rpm.data)
    fields = [
        line.split(":")[0] for line in says(["dpkg-deb", "-f", tmp_path / deb.name]).splitlines() if line[0] != " "
    ]
    known = "Package Version Architecture Maintainer Installed-Size Depends Section Priority Description"
    assert fields == known.split()
    subprocess.run(["dpkg-deb", "-R", tmp_path / deb.name, tmp_path / "tree"], check=True)
    log = says(["zcat", tmp_path / f"tree/usr/share/doc/{NAME}/changelog.gz"])
    assert [line[:9] for line in log.splitlines() if line and line[0] != " "] == ["livepatch"]
    assert log.count("\n -- ") == 1
    assert all(line == "" or line.isprintable() for line in log.split("\n"))
    for script in ("postinst", "prerm"):
        subprocess.run(["sh", "-n", tmp_path / "tree/DEBIAN" / script], check=True)
    paths = says(["dpkg-deb", "-c", tmp_path / deb.name]).splitlines()
    listed = says(["rpm", "-qpl", tmp_path / rpm.name]).splitlines()
    assert all(line.isascii() and line.isprintable() for line in paths + listed)
    assert len(listed) == len(HOSTILE) + 2 and len(paths) >= len(listed)
    scripts = says(["rpm", "-qp", "--scripts", tmp_path / rpm.name])
    clean = pack([read_module_to_pack(module(tmp_path, 2), None)], deb=False, rpm=True)[0]
    (tmp_path / "clean.rpm").write_bytes(clean.data)
    assert scripts == says(["rpm", "-qp", "--scripts", tmp_path / "clean.rpm"])
    changes = says(["rpm", "-qp", "--changelog", tmp_path / rpm.name])
    assert changes.count("\n* ") == 0 and "uid=" not in changes + scripts


@pytest.mark.parametrize(
    "name", ["a\nFilename: evil.deb", "-x.deb", "$(id).deb", "a b.deb", "\u202e.rpm", ".deb", "a'.rpm"]
)
def test_hostile_names_in_a_repository(tmp_path: Path, name: str) -> None:
    name = name if name.endswith((".deb", ".rpm")) else f"{name}.deb"
    (tmp_path / name).write_bytes(b"x")
    ran = CliRunner().invoke(main, ["repo", str(tmp_path)])
    assert isinstance(ran.exception, UserError) and "name of a package" in str(ran.exception)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_numbers_of_releases() -> None:
    assert [release_of_name(n) for n in ("livepatch-3", "a12", "x", "7")] == [3, 12, None, 7]
    assert plain_word("a b\n$c") == "a_b__c"


@pytest.mark.parametrize(
    ("kernel", "flavour"),
    [
        ("6.1.0-56-cloud-amd64", "cloud-amd64"),
        ("6.12.117+deb12-rt-amd64", "rt-amd64"),
        ("5.10.0-43-amd64", "amd64"),
        ("6.9.9", ""),
    ],
)
def test_flavours(kernel: str, flavour: str) -> None:
    facts = PatchFacts("x", 1, kernel, "debian:x", "1", "ab", (), (), (), True, 62)
    assert facts.flavour == flavour


def test_the_unit_is_before_all_that_the_network_needs(dist: Path, tmp_path: Path) -> None:
    """sysinit.target has no default dependencies: without Before= it would not wait, and services would start
    unpatched. The mark of a boot is removed only after the patch was loaded."""
    subprocess.run(["dpkg-deb", "-x", next(dist.glob("kgbuild-livepatch_*.deb")), tmp_path], check=True)
    units = tmp_path / "usr/lib/systemd/system"
    load, booted = ((units / f"livepatch{n}.service").read_text().splitlines() for n in ("", "-booted"))
    assert "Before=sysinit.target network-pre.target shutdown.target" in load and "WantedBy=sysinit.target" in load
    assert "After=multi-user.target livepatch.service" in booted
