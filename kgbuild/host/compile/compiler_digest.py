# SPDX-License-Identifier: GPL-2.0-or-later
"""What a compile is made by, as one digest: the programs that gcc runs and every shared library that they load.

Two toolchains that differ in what no compile runs, other headers or an update of another program, have one digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from kgbuild.arch import default_arch
from kgbuild.host.compile.assembler import PERL
from kgbuild.host.kernels.build_tools import tools_of
from kgbuild.model import Kernel

_RUN = ("cc1", "as")
_OF_ONE = f"lib/{default_arch().platform.triplet}"
_FOLDERS = (_OF_ONE, f"usr/{_OF_ONE}", "lib64", "usr/lib64", "lib", "usr/lib")


def compiler_digest(kernel: Kernel) -> str:
    """The digest of a kernel's compiler, hex; "" where a program or a library of it is not found. Raises ToolError
    without the compiler."""
    tools = tools_of(kernel)
    driver = tools.path_of(kernel.cc)
    if driver is None:
        return ""
    programs = [driver]
    for name in _RUN:
        said = tools.run([kernel.cc, f"-print-prog-name={name}"], timeout=20).stdout.strip()
        # a name without a directory is looked for in PATH
        found = tools.outside(Path(said)) if said.startswith("/") else tools.path_of(said)
        if found is None:
            return ""
        programs.append(found)
    programs.append(tools.outside(Path(PERL)))
    root = tools.sandbox.root if tools.sandbox is not None else Path("/")
    try:
        states = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in programs]
        return _digest(root, tuple(programs), tuple(states))
    except (OSError, ValueError):
        return ""


@lru_cache(maxsize=16)
def _digest(root: Path, programs: Sequence[Path], states: Sequence[tuple[str, int, int]]) -> str:
    del states  # only tells programs from those that they were
    out = hashlib.sha256()
    seen: set[str] = set()
    waiting = [(str(number), path) for number, path in enumerate(programs)]
    while waiting:
        name, path = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        data = path.read_bytes()
        out.update(f"{name} {hashlib.sha256(data).hexdigest()}\n".encode())
        for needed in sorted(set(_needed(path))):
            waiting.append((needed, _library(root, path, needed)))
    return out.hexdigest()


def _needed(path: Path) -> list[str]:
    """The libraries that a program or library loads. Raises ValueError for what is neither."""
    from elftools.common.exceptions import ELFError
    from elftools.elf.dynamic import DynamicSection
    from elftools.elf.elffile import ELFFile

    try:
        with path.open("rb") as stream:
            dynamic = ELFFile(stream).get_section_by_name(".dynamic")
            tags: Any = dynamic.iter_tags() if isinstance(dynamic, DynamicSection) else ()
            return [str(tag.needed) for tag in tags if tag.entry.d_tag == "DT_NEEDED"]
    except ELFError as error:
        raise ValueError(f"{path}: {error}") from error


def _library(root: Path, user: Path, name: str) -> Path:
    """The file of a library that `user` needs. Raises FileNotFoundError."""
    for folder in (*(root / one for one in _FOLDERS), user.parent):
        if (folder / name).exists():
            return folder / name
    raise FileNotFoundError(name)
