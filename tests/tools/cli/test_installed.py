# SPDX-License-Identifier: GPL-2.0-or-later
"""What a package installs: man pages that man reads without a warning, completions that each shell takes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from kgbuild.cli.install.commands import all_commands
from kgbuild.cli.main import main
from kgbuild.host.kernels.local import add_kernel
from kgbuild.host.system.cache import Cache
from kgbuild.progress import SilentProgress
from tests.support.cache_cases import local
from tests.support.tinykernel import tiny_kernel


def ask(*words: str) -> str:
    done = CliRunner().invoke(main, list(words), catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def test_a_page_for_each_command(tmp_path: Path) -> None:
    ask("man", "-o", str(tmp_path / "man1"))
    pages = sorted((tmp_path / "man1").iterdir())
    assert [page.name for page in pages] == sorted(f"{'-'.join(path)}.1" for path in all_commands())
    for page in pages:
        argv = ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", str(page)]
        done = subprocess.run(argv, capture_output=True, text=True, check=True, env={**os.environ, "MANWIDTH": "80"})
        assert done.stderr == ""
        shown = re.sub(".\x08", "", done.stdout)  # bold is a letter written twice
        for section in ("NAME", "SYNOPSIS", "DESCRIPTION", "EXIT STATUS", "SEE ALSO"):
            assert f"\n{section}\n" in shown, page.name
        assert max(map(len, shown.splitlines())) <= 80


def test_one_page_on_standard_output() -> None:
    page = ask("man", "kernel", "fetch")
    assert page.startswith('.TH "KGBUILD\\-KERNEL\\-FETCH"') and "--offline" in page.replace("\\-", "-")


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment with kgbuild as a command, and a kernel in the cache that has an index."""
    folder = tmp_path_factory.mktemp("shell")
    tiny_kernel(folder / "kernel")
    cache = Cache(folder / "kgbuild")
    kernel = add_kernel(local(folder / "kernel"), progress=SilentProgress(), cache=cache)
    from kgbuild.host.index.store import load_index

    load_index(getattr(kernel, "kernel", kernel), SilentProgress(), cache)
    command = folder / "bin" / "kgbuild"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m kgbuild.cli.main "$@"\n')
    command.chmod(0o755)
    for name in ("bash", "zsh", "fish"):
        (folder / name).write_text(ask("completion", name))
    path = f"{command.parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "XDG_CACHE_HOME": str(folder), "HOME": str(folder), "AT": str(folder)}


def offered_by_bash(line: str, shell: dict[str, str]) -> list[str]:
    text = (
        'source "$AT/bash"; COMP_LINE=$1; COMP_POINT=${#1}; compopt() { :; }; _kgbuild_completion kgbuild; '
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    argv = ["bash", "--norc", "-c", text, "bash", line]
    return subprocess.run(argv, env=shell, capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("kgbuild expl", "explain"),
        ("kgbuild kernel rem", "remove"),
        ("kgbuild build --kernel lo", "local:tiny"),
        ("kgbuild build --kernel local:t", "tiny"),
        ("kgbuild why --kernel local:tiny start_k", "start_kernel"),
        ("kgbuild explain shar", "shared"),
        ("kgbuild graph --kernel local:tiny --callers shar", "shared"),
        ("kgbuild remedy --code K1-", "K1-data"),
        ("kgbuild build --pu", "--pull"),
        ("kgbuild build --format jun", "junit"),
    ],
)
def test_what_bash_offers(line: str, wanted: str, shell: dict[str, str]) -> None:
    assert offered_by_bash(line, shell) == [wanted]


def test_what_fish_offers(shell: dict[str, str]) -> None:
    text = 'source "$AT/fish"; complete -C "kgbuild build --kernel local:"'
    done = subprocess.run(["fish", "--no-config", "-c", text], env=shell, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["local:tiny"]


def test_what_zsh_takes(shell: dict[str, str]) -> None:
    text = 'autoload -Uz compinit; compinit -u -D; source "$AT/zsh"; print -r -- ${_comps[kgbuild]}'
    done = subprocess.run(["zsh", "-f", "-c", text], env=shell, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "_kgbuild_completion" and done.stderr == ""


def test_nothing_that_fails_is_told(shell: dict[str, str], tmp_path: Path) -> None:
    broken = {**shell, "XDG_CACHE_HOME": str(tmp_path / "none")}
    assert offered_by_bash("kgbuild why --kernel local:tiny start_k", broken) == []
    assert offered_by_bash("kgbuild build --kernel lo", broken) == []
