# SPDX-License-Identifier: GPL-2.0-or-later
"""A program in user space that acts as a kernel: how it is compiled and run."""

from __future__ import annotations

import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parents[1] / "kgraft"


FLAGS = ["-O2", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-Wno-sign-compare", "-Wno-format"]


FLAGS += ["-fno-pic", "-fno-pie", "-fcf-protection=none", "-fno-strict-aliasing"]


def gcc(*words: str | Path) -> None:
    subprocess.run(["gcc", *map(str, words)], check=True, timeout=60)


def run(program: Path, *wrong: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, *wrong], capture_output=True, text=True, check=False, timeout=20)
