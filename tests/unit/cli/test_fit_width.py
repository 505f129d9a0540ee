# SPDX-License-Identifier: GPL-2.0-or-later
"""No line is wider than the terminal, and none is touched where there is no terminal."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kgbuild.cli.ui import fit_line, width_of
from tests.support.command import run_on_pty


@pytest.mark.parametrize("width", [40, 80, 132])
def test_generated_lines(width: int) -> None:
    source = random.Random(1)
    for _ in range(500):
        words = ["x" * source.choice((1, 3, 8, 20, 200)) for _ in range(source.randrange(40))]
        line = " " * source.randrange(6) + source.choice((" ", "  ", "   ")).join(words)
        found = fit_line(line, width)
        assert all(width_of(part) <= width for part in found)
        assert "".join(found).replace(" ", "") == line.replace(" ", "")
        assert len(line) > width or found == [line]


def test_text_stands_below_its_column() -> None:
    line = "kernel    debian:6.1.0-56-cloud-amd64 (6.1.192-2, build-id 3b43fad50348), gcc-12 (Debian 12.2.0-14) 12.2.0"
    assert fit_line(line, 80) == [
        "kernel    debian:6.1.0-56-cloud-amd64 (6.1.192-2, build-id 3b43fad50348), gcc-12",
        "          (Debian 12.2.0-14) 12.2.0",
    ]
    assert fit_line("  -> " + "word " * 30, 40)[1].startswith("    word")


def test_colours_and_wide_characters() -> None:
    assert fit_line("\x1b[31m" + "a" * 80 + "\x1b[0m", 80) == ["\x1b[31m" + "a" * 80 + "\x1b[0m"]
    assert all(width_of(part) <= 20 for part in fit_line("漢字" * 40, 20))


def shown(tmp_path: Path, *argv: str, columns: int = 80) -> str:
    """What a command shows on a terminal of that width."""
    # `doctor` tries KVM with a QEMU that ends at once: the probe would wait for a guest, and says no shorter line
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "qemu-system-x86_64").symlink_to("/bin/false")
    env = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
    env |= {"XDG_CACHE_HOME": str(tmp_path), "TERM": "xterm", "PATH": f"{programs}:{env['PATH']}"}
    return run_on_pty(argv, Path.cwd(), env, columns).decode()


COMMANDS = [
    ["--help"],
    ["build", "--help"],
    ["doctor"],
    ["kernel", "show", "nosuch-kernel-with-a-name-that-is-longer-than-any-terminal-is-wide-" + "x" * 80],
    ["build", "/nonexistent/" + "directory/" * 20 + "fix.patch", "--kernel", "x"],
    ["cache", "show"],
    ["kernel", "list"],
    ["nosuch" * 30],
]


@pytest.mark.parametrize("argv", COMMANDS, ids=lambda argv: " ".join(argv)[:20])
@pytest.mark.parametrize("columns", [80, 50])
def test_no_line_of_a_command_is_wider_than_the_terminal(tmp_path: Path, argv: list[str], columns: int) -> None:
    said = shown(tmp_path, *argv, columns=columns)
    assert said.strip()
    wide = [line for line in re.split(r"[\r\n]+", said) if width_of(line) > columns]
    assert wide == []


def test_a_pipe_gets_lines_as_they_are(tmp_path: Path) -> None:
    name = "nosuch-" + "x" * 200
    done = subprocess.run(
        [sys.executable, "-m", "kgbuild.cli.main", "kernel", "show", name],
        capture_output=True,
        text=True,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
        check=False,
    )
    assert any(name in line for line in done.stderr.splitlines())
