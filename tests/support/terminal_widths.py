# SPDX-License-Identifier: GPL-2.0-or-later
"""What the commands show on terminals of several widths: no line may be wider than the terminal."""

from __future__ import annotations

import fcntl
import importlib
import os
import pkgutil
import pty
import re
import struct
import sys
import termios
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.cells import cell_len

import kgbuild
from kgbuild.cli.main import run
from kgbuild.host.archives.suites import MIRROR_VARIABLE
from kgbuild.host.vm import kvm

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
_END = "\x1e"  # behind each run, and behind its exit status; no command prints it


def shown(runs: Sequence[Sequence[str]], widths: Sequence[int]) -> list[tuple[list[str], int, str]]:
    """Words, width and text of each run on a terminal of each width, without what colours and moves the cursor. All
    are runs of one process, which is forked from this one."""
    wanted = [(list(argv), columns) for columns in widths for argv in runs]
    here, there = pty.openpty()
    child = os.fork()
    if child == 0:
        try:
            os.close(here)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(there, 1)
            os.dup2(there, 2)
            os.environ.pop("COLUMNS", None)
            os.environ["TERM"] = "xterm"
            for argv, columns in wanted:
                fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
                status = _run(argv)
                os.write(1, f"{_END}{status}{_END}".encode())
        finally:
            os._exit(0)
    os.close(there)
    data = b""
    while True:
        try:
            piece = os.read(here, 65536)
        except OSError:  # the other side is closed
            break
        if not piece:
            break
        data += piece
    os.close(here)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    parts = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", data.decode()).split(_END)
    assert len(parts) == 2 * len(wanted) + 1, parts[-1]
    assert all(int(status) in range(6) for status in parts[1::2]), parts[1::2]
    return [(*one, text) for one, text in zip(wanted, parts[::2], strict=False)]


def _run(argv: list[str]) -> int:
    for number, name in ((1, "stdout"), (2, "stderr")):
        setattr(sys, name, open(number, "w", encoding="utf-8", closefd=False))  # noqa: SIM115
    sys.argv = ["kgbuild", *argv]
    try:
        run()
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 3
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def check_widths(runs: Sequence[Sequence[str]], widths: Sequence[int] = WIDTHS) -> None:
    """Each run says something, and no line of it is wider than the terminal but a word that is whole, and alone."""
    for argv, columns, said in shown(runs, widths):
        assert said.strip() and "Traceback" not in said, (argv, said)
        lines = [line for line in re.split(r"[\r\n]+", said) if cell_len(line) > columns]
        wide = [line for line in lines if " " in line.strip() or line != line.strip() or len(line.split()) > 1]
        assert wide == [], (argv, columns, wide)


@contextmanager
def place_of_its_own(path: Path) -> Iterator[None]:
    """In this directory, with a cache and a machine of its own, no network and no KVM; all of kgbuild is imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(path / "cache"))
        patch.setenv(MIRROR_VARIABLE, f"file:{path}/mirror")  # no network: what an archive answers is not wider
        patch.setattr(kvm, "probe_acceleration", lambda *given: False)  # takes seconds, and has the longest answer
        patch.setenv("LIVEPATCH_ROOT", str(path / "machine"))
        patch.chdir(path)
        for module in pkgutil.walk_packages(kgbuild.__path__, "kgbuild."):
            importlib.import_module(module.name)  # once, for all the processes that are forked from this one
        yield
