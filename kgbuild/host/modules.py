# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's own loadable modules: found by name in its package, read whatever they are compressed with."""

from __future__ import annotations

from pathlib import Path

from kgbuild.analysis.module_image import ModuleImage
from kgbuild.elf.read import read
from kgbuild.host.initramfs import module_name, read_module
from kgbuild.model import Kernel


class Modules:
    """The modules of one kernel. Making the object reads nothing."""

    def __init__(self, kernel: Kernel) -> None:
        self._root = kernel.modules
        self._paths: dict[str, Path] | None = None
        self._images: dict[str, ModuleImage] = {}

    @property
    def paths(self) -> dict[str, Path]:
        """Where each module's file is, by its name (with underscores)."""
        if self._paths is None:
            found = self._root.rglob("*.ko*") if self._root is not None and self._root.is_dir() else ()
            self._paths = {module_name(path.name): path for path in sorted(found)}
        return self._paths

    def image(self, name: str) -> ModuleImage | None:
        """The module of that name, or None where the package has none. Raises UserError for a file that is no ELF."""
        if name not in self._images:
            path = self.paths.get(name)
            if path is None:
                return None
            self._images[name] = ModuleImage(read(read_module(path)), name)
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
