# SPDX-License-Identifier: GPL-2.0-or-later
"""The modules that a kernel was shipped with, as `verify` reads them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from kgbuild.arch import for_object
from kgbuild.errors import ToolError, UserError
from kgbuild.host.kernels.vmlinux import load_image
from kgbuild.host.modules.files import depends_of, index_modules
from kgbuild.host.modules.files import read_module_bytes as unpack_module
from kgbuild.kernel.vmlinux_image import KernelImage
from kgbuild.model import Kernel
from kgbuild.verification.modules import Shipped
from kgbuild.verification.reading.reader import read_module
from kgbuild.verification.reading.statements import modinfo
from kgbuild.verification.wrapper import ModuleStruct, read_struct


def kernel_vermagic(kernel: Kernel) -> str:
    """The version magic that this kernel requires of a module; "" if neither a module nor vmlinux shows it."""
    image = load_image(kernel)
    return ShippedModules(kernel, for_object(image.obj).machine).layout[0] or read_vermagic(image)


def read_vermagic(image: KernelImage) -> str:
    """The string `vermagic` in kernel/module, with which the kernel itself compares; "" if it can't be found."""
    for symbol in image.named("vermagic"):
        found = image.read(symbol.value, symbol.size)
        if found and symbol.size:
            return found.rstrip(b"\0").decode("utf-8", "replace")
    return ""


class ShippedModules:
    """The kernel's modules, each read when first asked for: `modules("af_key")`; None for an unknown one. `own` are
    out-of-tree modules."""

    def __init__(self, kernel: Kernel, machine: int, own: Mapping[str, Path] | None = None) -> None:
        self._root = kernel.modules
        self._own = dict(own or {})
        self._machine = machine
        self._found: dict[str, Shipped | None] = {}

    @cached_property
    def _index(self) -> dict[str, Path]:
        return self._packaged | self._own

    @cached_property
    def _packaged(self) -> dict[str, Path]:
        return index_modules(self._root)

    def __call__(self, name: str) -> Shipped | None:
        if name not in self._found:
            path = self._index.get(name)
            self._found[name] = self._read(name, path) if path is not None else None
        return self._found[name]

    def _read(self, name: str, path: Path) -> Shipped:
        file = read_module(unpack_module(path), path.name, self._machine)
        depends: set[str] = set()
        waiting = _depends(modinfo(file))
        while waiting:
            needed = waiting.pop()
            if needed in depends:
                continue
            depends.add(needed)
            if needed in self._index:
                waiting += depends_of(unpack_module(self._index[needed]))
        return Shipped(name, file, frozenset(depends))

    @property
    def layout(self) -> tuple[str, int]:
        """vermagic and the size of struct module (bytes), from one of these modules; "" and 0 if there are none."""
        for path in self._packaged.values():
            try:
                shipped = read_module(unpack_module(path), path.name, self._machine)
            except (UserError, ToolError):
                continue
            found = modinfo(shipped).get("vermagic", [])
            section = shipped.section(".gnu.linkonce.this_module")
            if len(found) == 1 and section is not None:
                return found[0], section.size
        return "", 0

    @property
    def struct(self) -> ModuleStruct | None:
        """The layout of struct module, by one of these modules; None without any that has init and exit."""
        for name, path in self._packaged.items():
            try:
                found = read_struct(read_module(unpack_module(path), path.name, self._machine), name)
            except (UserError, ToolError):
                continue
            if found is not None:
                return found
        return None


def _depends(info: dict[str, list[str]]) -> list[str]:
    return [name.replace("-", "_") for text in info.get("depends", []) for name in text.split(",") if name]
