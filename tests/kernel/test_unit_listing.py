# SPDX-License-Identifier: GPL-2.0-or-later
"""kbuild's commands of a real kernel: asked by directory, they are those of a listing of the whole tree."""

from __future__ import annotations

import posixpath
import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from kgbuild.host.kernels import compile_commands, unit_listing
from kgbuild.kernel.makefile_reach import folders_of
from kgbuild.model import Kernel

# Units that makefiles name otherwise than by their own directory, beside those that are drawn.
NAMED = ("virt/kvm/kvm_main.c", "lib/ctype.c", "arch/x86/boot/compressed/string.c", "no/such/file.c")


@pytest.fixture(scope="module")
def fresh(kernel: Kernel, tmp_path_factory: pytest.TempPathFactory) -> Kernel:
    """The kernel as if nobody had asked kbuild."""
    root = tmp_path_factory.mktemp("cache") / "kernels" / "fresh"
    shutil.copytree(kernel.build, root / "build", symlinks=True)
    return replace(kernel, root=root, build=root / "build", units=root / "units.sqlite")


def test_the_same_commands(kernel: Kernel, fresh: Kernel) -> None:
    every = unit_listing.file_of_all(kernel)
    sources = sorted({posixpath.normpath(source) for source, _, _ in compile_commands.read_sources(every)})
    for source in [*NAMED, *random.Random(1).sample(sources, 12)]:
        found = compile_commands.read_detours(unit_listing.file_about(fresh, [source])).get(source, [])
        assert found == compile_commands.read_detours(every).get(source, []), source
        names = [source, *found]
        assert unit_listing.read_units(fresh, names) == compile_commands.read_units(every, names)
    assert unit_listing.module_objtool(fresh) == compile_commands.read_module_objtool(every)
    assert not fresh.units.exists()


def test_every_unit_would_be_found(kernel: Kernel, fresh: Kernel) -> None:
    """The directory that makes a unit is among those that its source file is looked for in."""
    unit_listing.read_units(fresh, [])
    reaches = unit_listing._KnownUnits(fresh).reaches
    missed = []
    for source, obj, _ in compile_commands.read_sources(unit_listing.file_of_all(kernel)):
        made_in = Path(obj.split("/../")[0] if "/../" in obj else posixpath.dirname(obj))
        while made_in != Path() and not any(
            (kernel.source / made_in / name).exists() for name in ("Makefile", "Kbuild")
        ):
            made_in = made_in.parent
        if made_in.as_posix() not in folders_of(posixpath.normpath(source), reaches):
            missed.append((source, obj))
    assert missed == []
