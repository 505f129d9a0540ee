# SPDX-License-Identifier: GPL-2.0-or-later
"""Which files of a kernel in the cache are not what they were when it was prepared.

Looked at are kernel.json, the files of the kernel itself (configuration, exports, vmlinux, image, modules), the build
tree with kbuild's environment, and units.sqlite. Files outside the cache are the user's, who may change them. Of the
source tree, each file is checked when it is read (host/system/tree_manifest.py); here only whether one was found
damaged.
"""

from __future__ import annotations

from pathlib import Path

from kgbuild.host.kernels import compile_commands
from kgbuild.host.kernels.compile_commands import partial_file
from kgbuild.host.kernels.kbuild import ENVIRONMENT
from kgbuild.host.system.cache import Cache
from kgbuild.host.system.sealed import is_whole, seal
from kgbuild.host.system.sealed_trees import damaged_in, seal_tree
from kgbuild.host.system.tree_manifest import is_marked
from kgbuild.model import Kernel


def seal_kernel(kernel: Kernel, cache: Cache) -> None:
    """Put seals beside the files of a kernel that has just been prepared."""
    for path in _files(kernel, cache):
        seal(path)
    for folder in _trees(kernel, cache):
        seal_tree(folder, is_kept)


def find_damage(kernel: Kernel, cache: Cache) -> list[Path]:
    """The files of a kernel that are not as they were sealed, or are gone. What has no seal is taken as it is, if it
    can be read, and sealed."""
    damaged = []
    for path in _files(kernel, cache):
        whole = is_whole(path)
        if whole is None and path in (kernel.units, partial_file(kernel.units)):
            whole = None if compile_commands.is_units_file(path) else False
        if whole is None:
            seal(path)
        elif not whole:
            damaged.append(path)
    if has_source(kernel, cache) and is_marked(kernel.source):
        damaged.append(kernel.source)
    for folder in _trees(kernel, cache):
        found = damaged_in(folder)
        if found is None and folder.is_dir():
            seal_tree(folder, is_kept)
        damaged += [folder] if found is None and not folder.is_dir() else found or []
    return damaged


def has_source(kernel: Kernel, cache: Cache) -> bool:
    """Whether the source tree is the cache's own."""
    return kernel.source.is_relative_to(cache.root / "sources")


def made_by_kbuild(kernel: Kernel) -> frozenset[Path]:
    """Files that kbuild's own answers are kept in: they can be made again from the two trees."""
    return frozenset({kernel.units, partial_file(kernel.units), kernel.build / ENVIRONMENT})


def _files(kernel: Kernel, cache: Cache) -> list[Path]:
    asked = [path for path in (kernel.units, partial_file(kernel.units)) if path.exists()]  # once they were needed
    named = [kernel.config, kernel.symvers, kernel.vmlinux, kernel.image, kernel.build / ENVIRONMENT, *asked]
    inside = [path for path in named if path.is_relative_to(cache.root)]
    return list(dict.fromkeys([*inside, *cache.records(kernel)]))


def _trees(kernel: Kernel, cache: Cache) -> list[Path]:
    named = (kernel.build, *([kernel.modules] if kernel.modules is not None else []))
    return [folder for folder in named if folder.is_relative_to(cache.root)]


def is_kept(path: str) -> bool:
    """Whether a file of a build tree, by its path in it, has to stay as it is."""
    # kbuild's notes of how it made a file are not read again; what has a seal of its own is checked by that
    name = path.rpartition("/")[2]
    return not (name.endswith((".cmd", ".sum", ".files")) or name == ENVIRONMENT or path.startswith("include/config/"))
