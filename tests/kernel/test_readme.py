# SPDX-License-Identifier: GPL-2.0-or-later
"""The README's commands, pasted one after the other into a shell in a copy of the repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.readme import OF_THE_READER, ROOT, commands

# What there is beside a kernel's newest is the archive's, and a cache of others is not made smaller here.
NOT_HERE = ("kgbuild cache prune", "kgbuild kernel search")


def test_the_commands_work_in_the_order_given(tmp_path: Path) -> None:
    for name in ("examples", "tests/kernel/remedy", "tests/kernel/ontop"):
        shutil.copytree(ROOT / name, tmp_path / name)
    tool = tmp_path / "bin" / "kgbuild"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\nexec {sys.executable} -m kgbuild.cli.main "$@"\n')
    tool.chmod(0o755)
    env = {**os.environ, "PATH": f"{tool.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = []
    for command in commands():
        if OF_THE_READER.search(command) or command.startswith(NOT_HERE):
            continue
        ran = subprocess.run(
            ["sh", "-c", command], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=600, check=False
        )
        assert ran.returncode == 0, f"{command}\n{ran.stdout[-2000:]}{ran.stderr[-2000:]}"
        done.append(command)
    assert len(done) > 20
