# SPDX-License-Identifier: GPL-2.0-or-later
"""Changes of headers in a small tree: the units that kgbuild selects for one, and what the compiler makes of a unit."""

from __future__ import annotations

import difflib
import subprocess
from functools import cache
from pathlib import Path

from kgbuild.host.compile.apply_patches import apply_patches, read_patches
from kgbuild.host.compile.candidate_search import Selection, UnitLook
from kgbuild.host.compile.unit_selection import choose_units
from kgbuild.host.system.cache import Cache
from kgbuild.model import Kernel
from kgbuild.progress import SilentProgress
from tests.support.toolchain import CC, run


def choose(
    kernel: Kernel,
    tmp_path: Path,
    changes: dict[str, tuple[str, str]],
    max_units: int = 100,
    look: UnitLook | None = None,
) -> Selection:
    """What is selected for a patch that replaces a text by another in some files; ("", text) makes a new one."""
    lines: list[str] = []
    for name, (old, new) in changes.items():
        path = kernel.source / name
        before = path.read_text() if path.exists() else ""
        assert old in before
        after = before.replace(old, new, 1) if old else new
        origin = f"a/{name}" if before else "/dev/null"
        lines += difflib.unified_diff(before.splitlines(True), after.splitlines(True), origin, f"b/{name}")
    patch = tmp_path / "x.patch"
    patch.write_text("".join(lines))
    patches = apply_patches(kernel, read_patches([patch]))
    assert not patches.refusals
    return choose_units(kernel, patches, Cache(tmp_path / "cache"), SilentProgress(), 2, max_units, look=look)


@cache
def compiler_proper() -> str:
    return run(CC, "-print-prog-name=cc1").strip()


def compiled(tree: Path, name: str, options: tuple[str, ...]) -> list[bytes]:
    """What the compiler makes of a unit, by lines, without the name of the file. The compiler proper is run, which
    writes assembly where it is not told to preprocess: gcc itself would be a second process for each."""
    words = [compiler_proper(), "-quiet", "-I", f"{tree}/include", "-include", f"{tree}/include/linux/first.h"]
    done = subprocess.run([*words, "-O2", "-w", *options, "-o", "-", str(tree / name)], capture_output=True, check=True)
    return [line for line in done.stdout.splitlines() if b".file" not in line]
