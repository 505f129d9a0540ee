# SPDX-License-Identifier: GPL-2.0-or-later
"""No line is wider than the terminal, for every command and outcome; none is touched where there is no terminal."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.cells import cell_len

from kgbuild.cli.contract.line_width import asks_for_data, fit_line, width_of
from tests.support.registry import commands
from tests.support.terminal_widths import LONG, PATCH, WIDE, check_widths, place_of_its_own


@pytest.mark.parametrize("width", [1, 10, 40, 80, 132])
def test_generated_lines(width: int) -> None:
    source = random.Random(1)
    for _ in range(120):
        words = [source.choice("x漢") * source.choice((1, 3, 8, 20, 200)) for _ in range(source.randrange(40))]
        line = " " * source.randrange(6) + source.choice((" ", "  ", "   ")).join(words)
        found = fit_line(line, width)
        # what is wider is one word, which is not broken
        assert all(cell_len(part) <= max(width, 2) or set(part) == {"x"} for part in found), found
        assert "".join(found).replace(" ", "") == line.replace(" ", "")
        assert cell_len(line) > width or found == [line]


def test_words_are_whole_and_begin_their_own_line() -> None:
    path = "/a/long/path" * 10
    assert fit_line(f"error   {path}: is gone, and more that is said of it", 60) == [
        "error",
        f"{path}:",
        "        is gone, and more that is said of it",
    ]
    assert fit_line(f"wrote     x {'y' * 45}", 60) == [f"wrote     x {'y' * 45}"]
    assert fit_line(f"wrote     some words {'y' * 45}", 60) == ["wrote     some words", f"          {'y' * 45}"]
    assert fit_line(f"wrote     some words {'y' * 55}", 60) == ["wrote     some words", f"     {'y' * 55}"]
    assert fit_line(f"at {WIDE}/x", 60) == ["at", f"{WIDE}/x"]


def test_text_stands_below_its_column() -> None:
    line = "kernel    debian:6.1.0-56-cloud-amd64 (6.1.192-2, build-id 3b43fad50348), gcc-12 (Debian 12.2.0-14) 12.2.0"
    assert fit_line(line, 80) == [
        "kernel    debian:6.1.0-56-cloud-amd64 (6.1.192-2, build-id 3b43fad50348), gcc-12",
        "          (Debian 12.2.0-14) 12.2.0",
    ]
    assert fit_line("  -> " + "word " * 30, 40)[1].startswith("    word")


def test_what_takes_no_room_and_what_takes_more() -> None:
    assert fit_line("\x1b[31m" + "a" * 80 + "\x1b[0m", 80) == ["\x1b[31m" + "a" * 80 + "\x1b[0m"]
    assert all(cell_len(part) <= 20 for part in fit_line("漢字" * 40, 20))
    assert [width_of(text) for text in ("e\u0301", "漢a", "a\u200bb")] == [1, 3, 2]
    assert all(cell_len(part) <= 20 for part in fit_line("a\tb\tc\td\te", 20))


@pytest.mark.parametrize(
    ("words", "data"),
    [
        ("impact x --format json", True),
        ("impact x --format=dot", True),
        ("build x --report -", True),
        ("build x -o -", True),
        ("diff a b --json -", True),
        ("remedy x", True),
        ("remedy --help", False),
        ("facts json", False),
        ("build dot --kernel json", False),
        ("build x --format text", False),
        ("build - --kernel x", False),
    ],
)
def test_data_is_known_by_the_options(words: str, data: bool) -> None:
    assert asks_for_data(words.split()) == data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with files of all kinds with long and wide names, and an empty cache."""
    path = tmp_path_factory.mktemp("width")
    with place_of_its_own(path):
        (path / "x.patch").write_text(PATCH)
        for name in ("orig.o", f"{LONG}.ko"):
            (path / name).write_bytes(b"no object")
        yield path


EVERY = [" ".join(path) for path, _ in commands()]
MISSING = f"no/such/{LONG}/{WIDE}"
FAULTS: list[list[str]] = [
    ["--help"],
    [],
    [f"--no-such-option-{LONG}"],
    ["--format", LONG],
    ["--report", MISSING],
    [MISSING, MISSING, "--kernel", LONG],
    ["x.patch", "x.patch", "--kernel", f"local:{WIDE}"],
    [f"{LONG}.ko", "orig.o", "--kernel", f"{LONG} with blanks {WIDE}", "--offline"],
]


@pytest.mark.parametrize("command", ["", *EVERY])
def test_help_and_faults_of_every_command(folder: Path, command: str) -> None:
    assert folder.is_dir()
    check_widths([[*command.split(), *fault] for fault in FAULTS])


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
