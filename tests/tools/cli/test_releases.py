# SPDX-License-Identifier: GPL-2.0-or-later
"""A directory of fixes from its beginning, with small kernels: init, add, affected, matrix, backport, and what is wrong
in it. tests/kernel/test_releases.py does the same with real ones."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from kgbuild.cli.main import main
from kgbuild.host.kernels.local import add_kernel
from kgbuild.host.system.cache import Cache
from kgbuild.pipeline.releases import kernels as kernels_of
from kgbuild.progress import SilentProgress
from tests.support.cache_cases import local
from tests.support.tinykernel import tiny_kernel

FIX = """\
--- a/fs/one.c
+++ b/fs/one.c
@@ -1,3 +1,3 @@
 #include "tiny.h"
 extern int shared(int);
-int one(int x) { return shared(x) + twice(x); }
+int one(int x) { return shared(x) + twice(x) + 5; }
"""
OTHER = FIX.replace("+ 5", "+ 7")
Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `kgbuild` in a folder whose cache has the kernel local:tiny."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    tiny_kernel(tmp_path / "kernel")
    add_kernel(local(tmp_path / "kernel"), progress=SilentProgress(), cache=Cache())
    (tmp_path / "fix.patch").write_text(FIX)
    return lambda *words: CliRunner().invoke(main, list(words))


@pytest.fixture
def directory(run: Run, tmp_path: Path) -> Path:
    """A directory with one fix for local:tiny."""
    assert run("init", "d").exit_code == 0
    assert run("add", "CVE-2026-12345", "fix.patch", "-C", "d").exit_code == 0
    kernels(tmp_path / "d", "local:tiny")
    return tmp_path / "d"


def kernels(directory: Path, *names: str) -> None:
    """List these kernels."""
    file = directory / "kgbuild.toml"
    lines = [
        f"kernels = {json.dumps(names)}" if line.startswith("kernels") else line
        for line in file.read_text().split("\n")
    ]
    file.write_text("\n".join(lines))


def data(result: Result) -> Any:
    return json.loads(result.stdout)


def test_init_says_what_comes_next_and_leaves_what_is_there(run: Run, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / ".gitignore").write_text("mine\n")
    ran = run("init", "d")
    assert ran.exit_code == 0 and "next" in ran.stdout
    assert (tmp_path / "d" / ".gitignore").read_text() == "mine\n"
    again = run("init", "d")
    assert again.exit_code != 0 and "is there already" in str(again.exception)


def test_add_writes_what_the_mail_says(run: Run, directory: Path, tmp_path: Path) -> None:
    mail = f'From: A <a@b.c>\nSubject: [PATCH] fs: add\n\nFixes: 1234567 ("x")\nCVE-2026-1111\n---\n{OTHER}'
    (tmp_path / "fix.mbox").write_text(mail)
    ran = run("add", "second", "fix.mbox", "-C", "d", "--commit", "a" * 40, "--format", "json")
    assert ran.exit_code == 0
    told = data(ran)["fix"]
    assert told["cves"] == ["CVE-2026-1111"] and told["commit"] == "a" * 40 and told["files"] == ["fs/one.c"]
    assert 'subject = "fs: add"' in (directory / "fixes" / "second" / "fix.toml").read_text()
    assert (directory / "fixes" / "second" / "fix.patch").read_text() == mail


@pytest.mark.parametrize(
    ("words", "fact"),
    [
        (("CVE-2026-12345", "fix.patch"), "of that name already"),
        (("again", "fix.patch"), "the fix is given twice"),
        (("../out", "fix.patch"), "can't be the name"),
        (("x", "cut.patch"), "cut off"),
        (("x", "gone.patch"), "No such file"),
        (("x", "fix.patch", "--cve", "CVE"), "is no CVE number"),
        (("x", "fix.patch", "--commit", "zz"), "is no id of a commit"),
        (("x", "HEAD", "--git", "."), "is no git tree"),
    ],
)
def test_add_refuses(run: Run, directory: Path, tmp_path: Path, words: tuple[str, ...], fact: str) -> None:
    (tmp_path / "cut.patch").write_text(FIX[:-20])
    before = sorted(str(path) for path in directory.rglob("*"))
    ran = run("add", *words, "-C", "d")
    assert ran.exit_code != 0 and fact in f"{ran.exception}{ran.output}"
    assert sorted(str(path) for path in directory.rglob("*")) == before


def test_affected(run: Run, directory: Path) -> None:
    assert directory.is_dir()
    ran = run("affected", "-C", "d")
    assert (ran.exit_code, ran.stdout) == (0, "tiny  affected\n")
    cell = data(run("affected", "-C", "d", "--format", "json"))["kernels"][0]["fixes"][0]
    assert (cell["state"], cell["code"]) == ("affected", "P23-affected")


def test_a_kernel_that_cannot_be_had_leaves_the_others_alone(run: Run, directory: Path) -> None:
    kernels(directory, "local:gone", "local:tiny")
    ran = run("affected", "-C", "d", "--format", "json")
    assert ran.exit_code == 5
    first, second = data(ran)["kernels"]
    assert first["kernel"] is None and "no such kernel was added" in first["error"]["fact"]
    assert second["fixes"][0]["state"] == "affected"
    kernels(directory, "local:gone")
    assert run("affected", "-C", "d").exit_code == 3


def test_patterns_and_groups(run: Run, directory: Path) -> None:
    kernels(directory, "local:t*", "@all")
    (directory / "kgbuild.toml").write_text(
        (directory / "kgbuild.toml").read_text().replace("[groups]", '[groups]\nall = ["local:*"]')
    )
    assert run("affected", "-C", "d", "--offline").stdout == "tiny  affected\n"
    assert run("affected", "-C", "d", "--offline", "--kernels", "@all").stdout == "tiny  affected\n"
    ran = run("affected", "-C", "d", "--offline", "--kernels", "debian:9*")
    assert "no kernel matches this pattern" in str(ran.exception)
    assert "no such group" in str(run("affected", "-C", "d", "--kernels", "@al").exception)


def test_no_kernel_and_no_directory(run: Run, directory: Path) -> None:
    kernels(directory)
    assert "there is no kernel to work for" in str(run("affected", "-C", "d").exception)
    assert "has no kgbuild.toml" in str(run("affected", "-C", "cache").exception)
    assert "there is no such fix" in str(run("affected", "CVE-2026-12346", "-C", "d").exception)


@pytest.mark.parametrize(
    ("name", "text", "fact"),
    [
        ("kgbuild.toml", "version = 1\nbogus = 1\n", "the key bogus is not known"),
        ("fixes/CVE-2026-12345/fix.toml", '[patches]\nx = "../../../etc/passwd"\n', "leads out of the directory"),
        ("fixes/CVE-2026-12345/fix.patch", FIX[:-20], "cut off"),
        ("fixes/CVE-2026-12345/fix.patch", "", "is empty"),
    ],
)
def test_a_directory_that_is_wrong(run: Run, directory: Path, name: str, text: str, fact: str) -> None:
    (directory / name).write_text(text)
    for words in (["affected"], ["matrix"], ["release", "1"]):
        ran = run(*words, "-C", "d")
        assert ran.exit_code != 0 and fact in str(ran.exception)


def test_a_link_out_of_the_directory(run: Run, directory: Path, tmp_path: Path) -> None:
    patch = directory / "fixes" / "CVE-2026-12345" / "fix.patch"
    patch.unlink()
    patch.symlink_to(tmp_path / "fix.patch")
    assert "leads out of the directory" in str(run("affected", "-C", "d").exception)


def test_two_fixes_that_conflict(run: Run, directory: Path, tmp_path: Path) -> None:
    assert directory.is_dir()
    (tmp_path / "other.patch").write_text(OTHER)
    assert run("add", "second", "other.patch", "-C", "d").exit_code == 0
    ran = run("affected", "-C", "d", "--format", "json")
    first, second = data(ran)["kernels"][0]["fixes"]
    assert ran.exit_code == 5 and first["state"] == "affected" and second["state"] == "conflict"
    assert "not after CVE-2026-12345" in second["fact"]


def test_matrix_and_resume(run: Run, directory: Path) -> None:
    kernels(directory, "local:tiny", "local:gone")
    ran = run("matrix", "-C", "d", "--format", "json")
    assert ran.exit_code == 5, ran.output
    told = data(ran)
    good, bad = told["kernels"]
    assert good["fixes"][0]["impact"]["effect"]["replaced"] == ["one"] and bad["error"] is not None
    assert [job["step"] for job in good["jobs"]] == ["acquire", "affected", "impact"] and told["jobs"]["resumed"] == 0
    again = data(run("matrix", "-C", "d", "--resume", "--format", "json"))
    assert again["jobs"]["resumed"] == 2 and again["kernels"][0]["fixes"] == good["fixes"]
    (directory / "fixes" / "CVE-2026-12345" / "fix.patch").write_text(OTHER)
    assert data(run("matrix", "-C", "d", "--resume", "--format", "json"))["jobs"]["resumed"] == 0


def test_results_that_cannot_be_kept_fail_their_row_alone(run: Run, directory: Path) -> None:
    (directory / ".kgbuild").write_text("a file in the way")
    ran = run("matrix", "-C", "d", "--format", "json")
    assert ran.exit_code == 1, ran.output
    assert "Not a directory" in data(ran)["errors"][0]["fact"]


def test_fail_fast_begins_nothing_more(run: Run, directory: Path) -> None:
    kernels(directory, "local:gone", "local:tiny")
    told = data(run("matrix", "-C", "d", "--fail-fast", "-j", "1", "--format", "json"))
    assert told["jobs"]["stopped"] and told["jobs"]["total"] <= 2


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -9)])
def test_a_matrix_that_is_stopped_keeps_what_is_done(run: Run, directory: Path, number: int, status: int) -> None:
    assert run("matrix", "-C", "d").exit_code == 0
    argv = [sys.executable, "-u", "-m", "kgbuild.cli.main", "matrix", "-C", "d"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ) as process:
        assert process.stdout is not None and process.stdout.readline().startswith(b"acquire")
        process.send_signal(number)
        process.communicate(timeout=60)
    assert process.returncode == status
    again = data(run("matrix", "-C", "d", "--resume", "--format", "json"))
    assert again["jobs"]["resumed"] == 2 and list((directory / ".kgbuild" / "matrix").glob(".*")) == []


def test_backport(run: Run, directory: Path) -> None:
    ran = run("backport", "CVE-2026-12345", "--kernel", "local:tiny", "-C", "d")
    assert ran.exit_code != 0 and "needs no backport: affected" in str(ran.exception)
    patch = directory / "fixes" / "CVE-2026-12345" / "fix.patch"
    patch.write_text(FIX.replace(" extern int shared(int);\n", " extern int shared(int, int);\n"))
    assert run("affected", "-C", "d").stdout.startswith("tiny  conflict  fs/one.c:2, 1 line differs")
    ran = run("backport", "CVE-2026-12345", "--kernel", "local:tiny", "-C", "d", "--format", "json")
    assert ran.exit_code == 0, ran.output
    told = data(ran)
    made = directory / told["path"]
    assert "please look at it" in told["notes"][0] and "+int one(int x)" in made.read_text()
    assert run("affected", "-C", "d").exit_code == 1, "nothing uses it before fix.toml names it"
    toml = patch.with_name("fix.toml")
    toml.write_text(toml.read_text() + f'\n[patches]\n"local:*" = "{made.name}"\n')
    assert run("affected", "-C", "d").stdout == "tiny  affected\n"
    made.write_text("Reviewed.\n" + made.read_text())
    assert "is there already" in str(run("backport", "CVE-2026-12345", "--kernel", "local:tiny", "-C", "d").exception)
    patch.write_text(FIX.replace("-int one(int x) { return shared(x) + twice(x); }", "-int one(int x) { return 3; }"))
    ran = run("backport", "CVE-2026-12345", "--kernel", "local:tiny", "-C", "d", "--format", "json", "--replace")
    assert ran.exit_code == 1 and data(ran)["errors"][0]["code"] == "P1-conflict"


def test_releases_stand_on_those_before(run: Run, directory: Path) -> None:
    assert directory.is_dir()
    assert "release 1 is missing" in str(run("release", "2", "-C", "d").exception)
    (directory / "release-1").mkdir()
    assert "it is no whole release" in str(run("release", "2", "-C", "d").exception)


def test_a_module_must_have_another_name_in_each_release(run: Run, directory: Path) -> None:
    file = directory / "kgbuild.toml"
    file.write_text(file.read_text().replace("livepatch-{release}", "fixed-name"))
    assert "the same name in every release" in str(run("release", "2", "-C", "d").exception)
    file.write_text(file.read_text().replace("fixed-name", "n" * 56))
    assert "56 characters" in str(run("release", "1", "-C", "d").exception)


def test_no_boot_needs_an_open_gate(run: Run, directory: Path) -> None:
    assert directory.is_dir()
    ran = run("release", "1", "-C", "d", "--no-vm", "--format", "json")
    assert ran.exit_code in (1, 3)
    assert any("asks for a boot" in error["fact"] for error in data(ran)["errors"])


def test_vex_of_what_is_no_module(run: Run, directory: Path) -> None:
    (directory / "x.ko").write_bytes(b"no module")
    for given in ("d/x.ko", "d"):
        ran = run("vex", given)
        assert ran.exit_code != 0 and "is no" in str(ran.exception)


def git_tree(root: Path, *texts: str) -> list[str]:
    """A git tree of commits of fs/one.c; their ids."""
    root.mkdir()
    git = ("git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@b.c")
    subprocess.run([*git, "init", "-q"], check=True)
    made = []
    for text in texts:
        (root / "fs").mkdir(exist_ok=True)
        (root / "fs" / "one.c").write_text(text)
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "-q", "-m", "one"], check=True)
        made.append(subprocess.check_output([*git, "rev-parse", "HEAD"], text=True).strip())
    return made


UPSTREAM = (
    '#include "more.h"\n#include "tiny.h"\n\n/* newer */\nextern int shared(int);\n'
    "int one(int x) { return shared(x) + twice(x); }\n"
)


@pytest.mark.parametrize("right", [True, False])
def test_backport_by_a_git_tree(run: Run, directory: Path, tmp_path: Path, right: bool) -> None:
    """Three-way only where the commit is what the patch says."""
    fixed = UPSTREAM.replace("twice(x);", "twice(x) + 5;")
    before, fix, later = git_tree(
        tmp_path / "linux", UPSTREAM, fixed, fixed.replace("int one(", "int zero(int);\nint one(")
    )
    assert before
    patch = directory / "fixes" / "CVE-2026-12345" / "fix.patch"
    lines = UPSTREAM.splitlines()
    body = (
        "".join(f" {line}\n" for line in lines[3:5])
        + f"-{lines[5]}\n+{lines[5].replace('twice(x);', 'twice(x) + 5;')}\n"
    )
    patch.write_text(f"--- a/fs/one.c\n+++ b/fs/one.c\n@@ -4,3 +4,3 @@\n{body}")
    patch.with_name("fix.toml").write_text(f'commit = "{fix if right else later}"\n')
    assert run("affected", "-C", "d").exit_code == 1
    words = ("backport", "CVE-2026-12345", "--kernel", "local:tiny", "-C", "d", "--git", "linux", "--format", "json")
    ran = run(*words)
    assert ran.exit_code == 0, ran.output
    told = data(ran)
    text = (directory / told["path"]).read_text()
    assert ("merged three-way" in told["notes"][0]) is right and "please look at it" in told["notes"][0]
    assert "+int one(int x) { return shared(x) + twice(x) + 5; }" in text and "zero" not in text


def test_a_merge_that_conflicts_is_no_patch(run: Run, directory: Path, tmp_path: Path) -> None:
    other = UPSTREAM.replace("shared(x) + twice(x)", "twice(x)")
    fixed = other.replace("twice(x);", "twice(x) + 5;")
    _, fix = git_tree(tmp_path / "linux", other, fixed)
    patch = directory / "fixes" / "CVE-2026-12345" / "fix.patch"
    lines = other.splitlines()
    body = f" {lines[4]}\n-{lines[5]}\n+{fixed.splitlines()[5]}\n"
    patch.write_text(f"--- a/fs/one.c\n+++ b/fs/one.c\n@@ -5,2 +5,2 @@\n{body}")
    patch.with_name("fix.toml").write_text(f'commit = "{fix}"\n')
    before = sorted(directory.rglob("*"))
    ran = run("backport", "CVE-2026-12345", "--kernel", "local:tiny", "-C", "d", "--git", "linux")
    assert ran.exit_code == 1 and "are not there" in ran.output and sorted(directory.rglob("*")) == before


def test_the_table_as_a_page_with_what_stands_against_it(run: Run, directory: Path, tmp_path: Path) -> None:
    kernels(directory, "local:tiny", "local:gone")
    ran = run("matrix", "-C", "d", "--build", "--html", "table.html")
    assert ran.exit_code in (1, 5), ran.output
    page = (tmp_path / "table.html").read_text()
    assert 'type="search" data-filter="table"' in page and "no such kernel was added" in page
    assert "local:gone" in page and "CVE-2026-12345" in page
    links = re.findall(r'href="([^"#]+)"', page)
    assert all((tmp_path / link).is_file() for link in links)


def test_another_name_of_a_kernel_lists_a_fix(run: Run, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As debian:newest-6.1-cloud means a kernel whose own name is another."""
    file = directory / "kgbuild.toml"
    file.write_text(file.read_text() + 'kernels = ["debian:newest-6.1-cloud", "debian:newest-9.9-cloud"]\n')
    cell = data(run("affected", "-C", "d", "--format", "json"))["kernels"][0]["fixes"][0]
    assert cell["state"] == "not listed"
    real = kernels_of.find_kernel

    def newest(name: str, *, offline: bool = False) -> Any:
        return real("local:tiny" if name == "debian:newest-6.1-cloud" else name, offline=offline)

    monkeypatch.setattr(kernels_of, "find_kernel", newest)
    assert run("affected", "-C", "d").stdout == "tiny  affected\n"
    toml = directory / "fixes" / "CVE-2026-12345" / "fix.toml"
    toml.write_text('[patches]\n"debian:newest-6.1-cloud" = "other.patch"\n')
    toml.with_name("other.patch").write_text(OTHER)
    cell = data(run("affected", "-C", "d", "--format", "json"))["kernels"][0]["fixes"][0]
    assert cell["patch"] == "fixes/CVE-2026-12345/other.patch"
