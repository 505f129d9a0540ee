# SPDX-License-Identifier: GPL-2.0-or-later
"""A run ends without a word of the libraries that it loaded: LIEF lists what is left of it when Python ends."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("library", ["lief", "numpy", "iced_x86", "elftools", "zstandard"])
def test_libraries_say_nothing_at_the_end(library: str) -> None:
    text = f"import sys, {library}; sys.argv = ['kgbuild', '--version']; from kgbuild.cli.main import run; run()"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 and done.stdout.startswith("kgbuild")
    assert done.stderr == ""
