# SPDX-License-Identifier: GPL-2.0-or-later
"""The loadable modules that may be running: the kernel's own, found by name in its package, and out-of-tree modules
given by the user. Compressed files are supported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from kgbuild.elf.read import read
from kgbuild.errors import UserError
from kgbuild.host.modules.files import index_modules, module_name, read_modinfo, read_module_bytes
from kgbuild.kernel.module_image import ModuleImage
from kgbuild.model import Kernel


class ModuleImages:
    """The modules of one kernel. `own` are given files; they take precedence over a module of the same name in the
    package. Nothing is read until it is needed."""

    def __init__(self, kernel: Kernel, own: Mapping[str, Path] | None = None) -> None:
        self._root = kernel.modules
        self._own = dict(own or {})
        self._paths: dict[str, Path] | None = None
        self._images: dict[str, ModuleImage] = {}

    @property
    def paths(self) -> dict[str, Path]:
        """Where each module's file is, by its name (with underscores)."""
        if self._paths is None:
            self._paths = index_modules(self._root) | self._own
        return self._paths

    def image(self, name: str) -> ModuleImage | None:
        """The module with a name, None if the package has none. Raises UserError for a file that is no ELF."""
        if name not in self._images:
            path = self.paths.get(name)
            if path is None:
                return None
            self._images[name] = ModuleImage(read(read_module_bytes(path)), name)
        return self._images[name]

    def depends(self, name: str) -> set[str]:
        """Every module that `name` needs, directly or not."""
        out: set[str] = set()
        todo = [name]
        while todo:
            image = self.image(todo.pop())
            for needed in image.depends if image is not None else ():
                if needed not in out:
                    out.add(needed)
                    todo.append(needed)
        return out


def name_modules(files: Sequence[Path]) -> dict[str, Path]:
    """Out-of-tree modules by the name they have once loaded. Raises UserError for a file that is no kernel module, or
    if two have the same name."""
    found: dict[str, Path] = {}
    for path in files:
        remedy = "give the .ko that is loaded"
        info = read_modinfo(read_module_bytes(path))
        if "vermagic" not in info:
            raise UserError("is no kernel module: it has no version magic", place=str(path), remedy=remedy)
        name = info.get("name") or module_name(path.name)
        if name in found:
            raise UserError(f"is the module {name}, as is {found[name]}", place=str(path), remedy="give one of them")
        found[name] = path
    return found
