# SPDX-License-Identifier: GPL-2.0-or-later
"""What is imported by commands that are to answer at once: a library that takes longer than the work stays out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.toolchain import compile_pair_side

HEAVY = {"numpy", "networkx", "lief", "elftools", "rich", "jinja2"}


@pytest.mark.parametrize("extra", [(), ("-o", "out.o"), ("--ignore-init",)])
def test_diff_of_a_changed_function_needs_no_heavy_library(extra: tuple[str, ...], tmp_path: Path) -> None:
    for name, flags in (("a.o", ()), ("b.o", ("-DPATCHED",))):
        # with static locals that only debugging information tells apart
        (tmp_path / name).write_bytes(compile_pair_side("static_locals_declared", "-g", *flags))
    code = (
        "import sys; from kgbuild.cli.main import main; "
        f"status = main(['diff', 'a.o', 'b.o', *{extra!r}], standalone_mode=False); "
        "print(status, *sorted(m for m in sys.modules if '.' not in m))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    status, *modules = done.stdout.splitlines()[-1].split()
    assert status == "0", done.stdout + done.stderr
    assert {"kgbuild", "iced_x86"} <= {*modules}
    assert not HEAVY & {*modules}
