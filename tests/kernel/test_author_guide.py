# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/author-guide.md: every command on the page is run, and says what the page says."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from kgbuild.host.vm.run import PatchRun, run_vm
from kgbuild.model import Kernel
from kgbuild.progress import SilentProgress
from tests.support.booting.cases import HERE, kgbuild

DOCS = HERE.parent.parent / "docs"
PAGE = (DOCS / "author-guide.md").read_text()
PATCHES = sorted(p.name for p in (DOCS / "author-guide").glob("*.patch"))


def transcripts() -> list[tuple[list[str], list[str]]]:
    """(words of the command, lines that the page shows after it) for each command of the page, in order."""
    out: list[tuple[list[str], list[str]]] = []
    for block in re.findall(r"^```console\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                out.append((shlex.split(line[2:]), []))
            else:
                out[-1][1].append(line)
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the page's commands run, one after the other, with its patches."""
    path = tmp_path_factory.mktemp("guide")
    for name in PATCHES:
        shutil.copy(DOCS / "author-guide" / name, path)
    return path


@pytest.mark.parametrize(("words", "shown"), transcripts(), ids=lambda v: v[2] if v and v[0] == "kgbuild" else "")
def test_command(words: list[str], shown: list[str], folder: Path, kernel_name: str) -> None:
    assert words[0] == "kgbuild" and words[3] == "--kernel"
    ran = kgbuild(*words[1:4], kernel_name, *words[5:], cwd=folder)
    assert ran.status == (1 if any(line.startswith("refused") for line in shown) else 0), ran.stderr
    at = 0
    for line in filter(None, shown):
        found = ran.stderr.find(line, at)
        assert found >= 0, f"{line!r} is not in: {ran.stderr[at:]}"
        at = found + len(line)
    module = folder / f"livepatch-{words[2].removesuffix('.patch')}.ko"
    assert module.exists() == (ran.status == 0)


def test_every_patch_is_built_on_the_page() -> None:
    assert sorted({words[2] for words, _ in transcripts()}) == PATCHES
    # what is mended has a patch that breaks the rule, which is refused
    refused = {words[2] for words, shown in transcripts() if shown}
    for name in PATCHES:
        if name.endswith("-live.patch"):
            assert name not in refused and name.replace("-live", "") in refused


def test_mended_patches_work(kernel: Kernel, kernel_name: str, folder: Path) -> None:
    """Those whose effect can be seen from a shell, in one boot; the others load and go again."""
    checks = {
        "value-live": ["[ $(cat /proc/sys/fs/pipe-max-size) = 2097152 ]"],
        "init-live": ["ls -l /proc/cmdline | grep -q '^-r--------' && grep -q . /proc/cmdline"],
        "grow-live": [],
        "callback-live": ["grep -q ^x$ /proc/version && dmesg | grep -q 'vmlinux is about to be patched'"],
    }
    for name in checks:
        if not (folder / f"livepatch-{name}.ko").exists():
            assert kgbuild("build", f"{name}.patch", "--kernel", kernel_name, cwd=folder).status == 0
    runs = [PatchRun(folder / f"livepatch-{name}.ko", checks=commands) for name, commands in checks.items()]
    booted = run_vm(kernel, runs, progress=SilentProgress(), timeout=600)
    assert booted.verdict, booted.findings
