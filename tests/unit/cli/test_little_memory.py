# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine that gives little: one true message and exit status 3, however little it is."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from kgbuild.cli.main import machine_fault
from kgbuild.limits import MIB
from tests.support.toolchain import compile_text, pair_flags


def diff_with(memory: int, files: int, folder: Path) -> tuple[int, str]:
    """`kgbuild diff` within limits: exit status, and what it said on standard error."""
    objects = []
    for number in (1, 2):
        objects.append(folder / f"{number}.o")
        objects[-1].write_bytes(compile_text(f"int f(int x) {{ return x + {number}; }}", *pair_flags()))

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

    argv = [sys.executable, "-m", "kgbuild.cli.main", "diff", *map(str, objects), "--explain", "f"]
    done = subprocess.run(argv, text=True, capture_output=True, check=False, preexec_fn=limit)
    return done.returncode, done.stderr


@pytest.mark.parametrize("memory", [48, 64, 80, 100, 150, 200, 400])
def test_little_memory_is_one_message(memory: int, tmp_path: Path) -> None:
    status, said = diff_with(memory * MIB, 64, tmp_path)
    assert "Traceback" not in said, said
    assert (status == 0 and not said) or (status == 3 and "memory" in said), (status, said)


@pytest.mark.parametrize("files", [8, 12, 16, 32])
def test_few_files_are_enough_or_one_message(files: int, tmp_path: Path) -> None:
    status, said = diff_with(400 * MIB, files, tmp_path)
    assert "Traceback" not in said, said
    assert (status == 0 and not said) or (status == 3 and "open files" in said), (status, said)


def test_other_errors_are_not_explained_away() -> None:
    for error in (ImportError("no module named x"), RuntimeError("x")):
        assert machine_fault(error) is None
    known = machine_fault(RuntimeError("can't start new thread"))
    assert known is not None and "thread" in known.fact
