# SPDX-License-Identifier: GPL-2.0-or-later
"""No line is wider than the terminal, for every command and outcome; none is touched where there is no terminal."""

from __future__ import annotations

import fcntl
import importlib
import os
import pkgutil
import pty
import random
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.cells import cell_len

import kgbuild
from kgbuild.cli.contract.line_width import asks_for_data, fit_line, width_of
from kgbuild.cli.main import run
from kgbuild.host.archives.suites import MIRROR_VARIABLE
from kgbuild.host.kernels.local import add_kernel
from kgbuild.host.releases.directory import make_directory
from kgbuild.host.system.cache import Cache
from kgbuild.host.vm import kvm
from kgbuild.pipeline.releases.add import add_patches
from kgbuild.progress import SilentProgress
from tests.support.cache_cases import local
from tests.support.registry import commands
from tests.support.tinykernel import tiny_kernel
from tests.support.toolchain import compile_text, pair_flags

WIDTHS = (60, 80, 200)
LONG = "a_rather_long_name_" * 8
WIDE = "漢字かな" * 30
PATCH = """--- a/fs/one.c
+++ b/fs/one.c
@@ -1,3 +1,3 @@
 #include "tiny.h"
 extern int shared(int);
-int one(int x) { return shared(x) + twice(x); }
+int one(int x) { return shared(x) + twice(x) + 5; }
"""


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


def shown(argv: list[str], columns: int) -> str:
    """What a command shows on a terminal of that width, without what colours and moves the cursor."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    child = os.fork()
    if child == 0:
        status = 3
        try:
            os.close(ours)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            for number, name in ((1, "stdout"), (2, "stderr")):
                os.dup2(theirs, number)
                setattr(sys, name, open(number, "w", encoding="utf-8", closefd=False))  # noqa: SIM115
            os.environ.pop("COLUMNS", None)
            os.environ["TERM"] = "xterm"
            sys.argv = ["kgbuild", *argv]
            run()
        except SystemExit as done:
            status = done.code if isinstance(done.code, int) else 3
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    os.close(theirs)
    data = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
        if not piece:
            break
        data += piece
    os.close(ours)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) in range(6)
    assert b"Traceback" not in data, data.decode()
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", data.decode())


def check_width(argv: list[str], columns: int) -> None:
    said = shown(argv, columns)
    assert said.strip(), argv
    lines = [line for line in re.split(r"[\r\n]+", said) if cell_len(line) > columns]
    # a word that is wider than the terminal is whole, and alone
    wide = [line for line in lines if " " in line.strip() or line != line.strip() or len(line.split()) > 1]
    assert wide == [], (argv, wide)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with a small kernel in a cache, and files of all kinds with long and wide names."""
    path = tmp_path_factory.mktemp("width")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(path / "cache"))
        patch.setenv(MIRROR_VARIABLE, f"file:{path}/mirror")  # no network: what an archive answers is not wider
        patch.setattr(kvm, "probe_acceleration", lambda *given: False)  # takes seconds, and has the longest answer
        patch.setenv("LIVEPATCH_ROOT", str(path / "machine"))
        patch.chdir(path)
        for module in pkgutil.walk_packages(kgbuild.__path__, "kgbuild."):
            importlib.import_module(module.name)  # once, for all the processes that are forked from this one
        tiny_kernel(path / "kernel")
        add_kernel(local(path / "kernel"), progress=SilentProgress(), cache=Cache())
        (path / "x.patch").write_text(PATCH)
        (path / f"{LONG}.patch").write_text(PATCH)
        (path / f"{WIDE[:60]}.patch").write_text(PATCH.replace("5", WIDE))
        (path / "bad.patch").write_text(PATCH.replace("shared(x) +", f"no_{LONG}(x) +"))
        (path / "new.patch").write_text(
            PATCH.replace("+ 5", f"+ {LONG}(x)").replace("+int", f"+int {LONG}(int x);\n+int")
        )
        for name, number in (("orig.o", 1), ("patched.o", 2)):
            text = f"int {LONG}(int x) {{ return x + {number}; }}\nint v = {number};\n"
            (path / name).write_bytes(compile_text(text, *pair_flags()))
        (path / f"{LONG}.ko").write_bytes(b"no module")
        make_directory(path / "fixes")
        add_patches(path / "fixes", "one", [path / "x.patch"])
        listed = path / "fixes" / "kgbuild.toml"
        listed.write_text(listed.read_text().replace("kernels = []", 'kernels = ["local:tiny", "local:gone"]'))
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


@pytest.mark.parametrize("columns", WIDTHS)
@pytest.mark.parametrize("command", ["", *EVERY])
def test_help_and_faults_of_every_command(folder: Path, command: str, columns: int) -> None:
    assert folder.is_dir()
    for fault in FAULTS:
        check_width([*command.split(), *fault], columns)


TINY = ["--kernel", "local:tiny"]
OUTCOMES: list[list[str]] = [
    ["build", "x.patch", *TINY, "-v", "--force"],
    ["build", f"{LONG}.patch", *TINY, "--allow-type", LONG, "--allow-unproven", WIDE, "--ignore-init"],
    ["build", f"{WIDE[:60]}.patch", *TINY],
    ["build", "bad.patch", *TINY],
    ["build", "new.patch", *TINY],
    ["impact", "x.patch", *TINY, "--accounting", "-v"],
    ["impact", "x.patch", *TINY, "--no-compile", "--all"],
    ["impact", f"{LONG}.patch", *TINY, "--no-compile", "--allow-type", LONG],
    ["why", "one", "x.patch", *TINY],
    ["why", LONG, "x.patch", *TINY],
    ["remedy", "x.patch", *TINY, "--code", "K1-data"],
    ["diff", "orig.o", "patched.o", "-v"],
    ["diff", "orig.o", "patched.o", "--explain", LONG],
    ["verify", f"{LONG}.ko", *TINY],
    ["vm", f"{LONG}.ko", *TINY],
    ["facts", "one", *TINY],
    ["facts", LONG, *TINY],
    ["graph", "--callers", "one", *TINY],
    ["kernel", "list"],
    ["kernel", "show", "local:tiny"],
    [
        "kernel",
        "add",
        LONG,
        "--source",
        ".",
        "--config",
        "x.patch",
        "--vmlinux",
        "x.patch",
        "--image",
        "x.patch",
        "--symvers",
        "x",
    ],
    ["toolchain", "list"],
    ["toolchain", "show", LONG],
    ["toolchain", "fetch", "local:tiny"],
    ["toolchain", "remove", "x"],
    ["cache", "show"],
    ["status"],
    ["load", f"{LONG}.ko"],
    ["unload", LONG],
    ["install", f"{LONG}.ko"],
    ["rollback"],
    ["package", f"{LONG}.ko", "--release", "1"],
    ["repo", LONG],
    ["reproduce", f"{LONG}.ko", "--provenance", "x.patch"],
    ["sign", f"{LONG}.ko", "-o", "s.ko", "--sign-key", LONG, "--sign-cert", LONG],
    ["cache", "prune", "--older", "1d", "-n"],
    ["init", LONG],
    ["add", "fix", "x.patch"],
    ["add", LONG, "x.patch", "-C", "fixes"],
    ["affected", "-C", "fixes", "--offline"],
    ["affected", LONG, "-C", "fixes"],
    ["matrix", "-C", "fixes", "--offline"],
    ["backport", "one", *TINY, "-C", "fixes", "--offline"],
    ["release", "1", "-C", "fixes", "--no-vm", "--offline"],
    ["vex", f"{LONG}.ko"],
    ["doctor"],
    ["man", "build"],
    ["completion", "zsh"],
    ["report", "x.patch"],
    ["explain", LONG, "x.patch", *TINY],
    ["audit", *TINY],
]


def test_every_command_has_an_outcome() -> None:
    away = {"kernel fetch", "kernel search", "kernel remove"}  # they ask an archive, or a person
    assert {name for name in EVERY if any(argv[: name.count(" ") + 1] == name.split() for argv in OUTCOMES)} == {
        *EVERY
    } - away


@pytest.mark.parametrize("columns", WIDTHS)
@pytest.mark.parametrize("argv", OUTCOMES, ids=lambda argv: " ".join(argv)[:30])
def test_outcomes(folder: Path, argv: list[str], columns: int) -> None:
    assert folder.is_dir()
    check_width(argv, columns)


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
