# SPDX-License-Identifier: GPL-2.0-or-later
"""Patches in every form in which they are kept, and commits of a git tree."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
import zstandard

from kgbuild.errors import UserError
from kgbuild.host.compile.apply_patches import read_patches
from kgbuild.host.patches.git_patches import GitTree
from kgbuild.host.patches.patch_sources import read_patch_source
from kgbuild.releases.mail_metadata import read_metadata
from tests.support.fix_cases import BEFORE, FIX, FIXED

ONE = FIX.encode()
TWO = FIX.replace("net/x.c", "net/y.c").encode()
MAIL = (
    b"From 0123456789012345678901234567890123456789 Mon Sep 17 00:00:00 2001\n"
    b"From: =?UTF-8?q?J=C3=B6rg?= <j@example.org>\nDate: Mon, 2 Nov 2026 11:00:00 +0100\n"
    b"Subject: [PATCH 6.1 1/2] net: check the size\n\ncommit 1111111111111111111111111111111111111111 upstream.\n\n"
    b'This is CVE-2026-12345.\n\nFixes: 89abcdef0123 ("net: copy")\nFixes: 1234567 ("x")\n---\n'
) + ONE
COVER = (
    b"From 2222222222222222222222222222222222222222 Mon Sep 17 00:00:00 2001\n"
    b"Subject: [PATCH 0/2] two fixes\n\nA cover letter.\n\n"
)


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, zstandard.ZstdCompressor().compress, bytes])
def test_compressed_patches(tmp_path: Path, pack: object) -> None:
    assert callable(pack)
    (tmp_path / "fix.patch.x").write_bytes(pack(ONE))
    assert read_patch_source(tmp_path / "fix.patch.x") == [("fix.patch.x", ONE)]
    assert read_patches([pack(ONE)])[0].files == read_patches([ONE])[0].files


def test_a_compressed_patch_that_is_cut(tmp_path: Path) -> None:
    (tmp_path / "fix.patch.gz").write_bytes(gzip.compress(ONE)[:-9])
    with pytest.raises(UserError, match="can't be decompressed"):
        read_patch_source(tmp_path / "fix.patch.gz")


def test_a_mailbox_with_a_cover_letter(tmp_path: Path) -> None:
    (tmp_path / "fix.mbox").write_bytes(COVER + MAIL + b"\n" + MAIL.replace(b"net/x.c", b"net/y.c"))
    parsed = read_patches([tmp_path / "fix.mbox"])
    assert [file.path(1) for file in parsed[0].files] == ["net/x.c", "net/y.c"]


def quilt(folder: Path, series: str = "# a comment\none.patch\nsub/two.patch -p1 # the second\n\n") -> Path:
    (folder / "sub").mkdir(parents=True)
    (folder / "one.patch").write_bytes(ONE)
    (folder / "sub" / "two.patch").write_bytes(TWO)
    (folder / "series").write_text(series)
    return folder


def test_a_quilt_series_in_each_form(tmp_path: Path) -> None:
    folder = quilt(tmp_path / "patches")
    wanted = [("one.patch", ONE), ("sub/two.patch", TWO)]
    for given in (folder, folder / "series", tmp_path):
        assert read_patch_source(given) == wanted
    assert read_patch_source(Path(f"{folder}#two.patch")) == [wanted[1]]


@pytest.mark.parametrize(
    ("series", "fact"),
    [
        ("../out.patch\n", "leads out of the directory"),
        ("/etc/passwd\n", "leads out of the directory"),
        ("link.patch\n", "leads out of the directory"),
        ("a\0b.patch\n", "leads out of the directory"),
        ("one.patch -R\n", "in reverse"),
        ("one.patch --fuzz\n", "is not known"),
        ("one.patch\none.patch\n", "listed twice"),
        ("gone.patch\n", "No such file"),
        ("one patch two\n", "names no patch"),
        ("# nothing\n", "lists no patch"),
    ],
)
def test_a_series_that_is_wrong(tmp_path: Path, series: str, fact: str) -> None:
    folder = quilt(tmp_path / "patches", series)
    (tmp_path / "secret").write_bytes(ONE)
    (folder / "link.patch").symlink_to(tmp_path / "secret")
    with pytest.raises(UserError, match=fact):
        read_patch_source(folder)


def package(folder: Path) -> Path:
    """A Debian source package with two patches."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:xz") as tar:
        for name, data in (
            ("series", b"bugfix/one.patch\nbugfix/two.patch\n"),
            ("bugfix/one.patch", ONE),
            ("bugfix/two.patch", TWO),
        ):
            info = tarfile.TarInfo(f"debian/patches/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    (folder / "linux_6.1-1.debian.tar.xz").write_bytes(out.getvalue())
    digest = hashlib.sha256(out.getvalue()).hexdigest()
    dsc = folder / "linux_6.1-1.dsc"
    dsc.write_text(
        f"Format: 3.0 (quilt)\nSource: linux\nChecksums-Sha256:\n {digest} 1 linux_6.1-1.debian.tar.xz\n"
        "Files:\n 0 0 linux_6.1-1.debian.tar.xz\n"
    )
    return dsc


def test_a_patch_of_a_debian_source_package(tmp_path: Path) -> None:
    dsc = package(tmp_path)
    assert read_patch_source(Path(f"{dsc}#bugfix/two.patch")) == [("bugfix/two.patch", TWO)]
    assert read_patch_source(Path(f"{dsc}#one.patch")) == [("bugfix/one.patch", ONE)]
    with pytest.raises(UserError, match="source package of 2 patches"):
        read_patch_source(dsc)
    with pytest.raises(UserError, match="no patch of that name"):
        read_patch_source(Path(f"{dsc}#three.patch"))
    (tmp_path / "linux_6.1-1.debian.tar.xz").write_bytes(b"other")
    with pytest.raises(UserError, match="is not the file that"):
        read_patch_source(Path(f"{dsc}#one.patch"))


def test_a_patch_of_an_unpacked_source_package(tmp_path: Path) -> None:
    quilt(tmp_path / "debian" / "patches")
    assert read_patch_source(Path(f"{tmp_path}#sub/two.patch")) == [("sub/two.patch", TWO)]
    with pytest.raises(UserError, match="source package"):
        read_patch_source(tmp_path)


def test_what_a_mail_says_of_its_fix() -> None:
    found = read_metadata([("fix.mbox", COVER + MAIL)])
    assert found.cves == ("CVE-2026-12345",) and found.fixes == ("89abcdef0123", "1234567")
    assert found.commit == "1" * 40 and found.subject == "net: check the size"
    assert found.author == "Jörg <j@example.org>" and found.date == "2026-11-02T10:00:00Z"


@pytest.mark.parametrize(
    ("line", "commit"),
    [
        ("[ Upstream commit 3333333333333333333333333333333333333333 ]", "3" * 40),
        ("(cherry picked from commit 3333333333333333333333333333333333333333)", "3" * 40),
        ("nothing", "0123456789" * 4),
    ],
)
def test_the_upstream_commit_in_each_form(line: str, commit: str) -> None:
    text = MAIL.replace(b"commit 1111111111111111111111111111111111111111 upstream.", line.encode())
    assert read_metadata([("fix.mbox", text)]).commit == commit


def test_what_only_the_diff_says_is_no_metadata() -> None:
    text = ONE.replace(b"+\tif (size", b"+\t/* CVE-2026-99999\n+Fixes: 1234567 */\n+\tif (size").replace(
        b"+13,7", b"+13,9"
    )
    found = read_metadata([("x", text)])
    assert not found.cves and not found.fixes


def git(folder: Path, *words: str) -> str:
    env = {
        **os.environ,
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_AUTHOR_DATE": "1700000000 +0000",
        "GIT_COMMITTER_DATE": "1700000000 +0000",
    }
    argv = ["git", "-C", str(folder), "-c", "user.name=x", "-c", "user.email=x@y", *words]
    return subprocess.run(argv, check=True, capture_output=True, text=True, env=env).stdout.strip()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A git tree of a kernel with three commits: v6.1, the fault, v6.1.1 with a backport."""
    folder = tmp_path / "linux"
    for name, text in (
        ("Kbuild", ""),
        ("kernel/fork.c", ""),
        ("include/linux/sched.h", ""),
        ("net/x.c", "int none;\n"),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git(folder.parent, "init", "-q", "-b", "main", str(folder))
    for tag, text, subject in (("v6.1", None, "first"), ("v6.2", BEFORE, "net: copy"), ("v6.3", FIXED, "net: check")):
        if text is not None:
            (folder / "net" / "x.c").write_text(text)
        git(folder, "add", "-A")
        git(folder, "commit", "-q", "-m", subject)
        git(folder, "tag", tag)
    return folder


def test_commits_of_a_git_tree(tree: Path) -> None:
    found = GitTree(tree)
    both = read_patches([text for _, text in found.patches(["v6.1..v6.3"])])
    assert [patch.subject for patch in both] == ["net: copy", "net: check"]
    only = found.patches([git(tree, "rev-parse", "v6.3")[:10]])
    assert len(only) == 1 and b"E2BIG" in only[0][1]


@pytest.mark.parametrize(
    ("revision", "fact"),
    [
        ("gone", "names no commit"),
        ("--output=/tmp/x", "names no commit"),
        ("v6.3..v6.1", "without a commit"),
        ("", "names no"),
    ],
)
def test_revisions_that_are_none(tree: Path, revision: str, fact: str) -> None:
    with pytest.raises(UserError, match=fact):
        GitTree(tree).patches([revision])


def test_a_git_tree_that_is_no_kernel(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no git tree"):
        GitTree(tmp_path)
    git(tmp_path.parent, "init", "-q", str(tmp_path))
    (tmp_path / "a").write_text("")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-q", "-m", "x")
    with pytest.raises(UserError, match="is no kernel's git tree"):
        GitTree(tmp_path).patches(["HEAD"])


def test_programs_of_a_hostile_tree_are_not_run(tree: Path) -> None:
    mark = tree / "ran"
    for key in ("diff.external", "core.fsmonitor", "core.pager", "diff.x.textconv", "core.sshCommand"):
        git(tree, "config", key, f"touch {mark}; false")
    (tree / ".git" / "info" / "attributes").write_text("*.c diff=x\n")
    assert GitTree(tree).patches(["v6.3"])
    assert not mark.exists()


def test_whether_a_kernel_has_a_commit(tree: Path) -> None:
    found = GitTree(tree)
    fault = git(tree, "rev-parse", "v6.2")
    git(tree, "checkout", "-q", "-b", "stable", "v6.1")
    (tree / "net" / "x.c").write_text(BEFORE)
    git(tree, "commit", "-q", "-am", f"net: copy\n\ncommit {fault} upstream.")
    git(tree, "tag", "v6.1.1")
    assert found.has(fault, "6.2.0") is True
    assert found.has(fault, "6.1.0") is False
    assert found.has(fault, "6.1.1") is True, "a backport that names it"
    assert found.has(fault, "6.9.0") is None and found.has("f" * 12, "6.2.0") is None
