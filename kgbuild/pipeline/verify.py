# SPDX-License-Identifier: GPL-2.0-or-later
"""`verify_module`: gathers what is true of the kernel and checks a module against it (verify/checks.py)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from kgbuild.arch import arch_of
from kgbuild.errors import ToolError, UserError
from kgbuild.host.kernels.feature_probes import probe_kernel
from kgbuild.host.kernels.vmlinux import load_image
from kgbuild.host.vm.initramfs import depends_of, index_modules
from kgbuild.host.vm.initramfs import read_module as unpack_module
from kgbuild.kernel.exports import parse_symvers
from kgbuild.kernel.feature_probes import INDIRECT_BRANCHES
from kgbuild.kernel.vmlinux_image import KernelImage
from kgbuild.model import Finding, Kernel
from kgbuild.proof.record import BadRecord, Record, parse_record
from kgbuild.verify.checks import Facts, check_module, modinfo
from kgbuild.verify.modules import Shipped
from kgbuild.verify.reader import read_module


def verify_module(
    data: bytes,
    kernel: Kernel,
    name: str,
    image: KernelImage | None = None,
    record: Record | None = None,
    own: Mapping[str, Path] | None = None,
) -> list[Finding]:
    """Every fault of a live patch module for this kernel; an empty list means none was found.

    Input: the file's bytes and its name (`a-b.ko`); `image`, where at hand, spares mapping vmlinux again; `record` is a
    proof record to hold against it; `own` are out-of-tree modules, by name. Raises UserError (exit 2) for what is no
    intact kernel module of the kernel's architecture, ToolError (exit 3) where the cached kernel is not what it should
    be.
    """
    if image is None:
        image = load_image(kernel)
    arch = arch_of(image.obj.machine)
    module = read_module(data, name, arch.machine)
    shipped = ShippedModules(kernel, arch.machine, own)
    return check_module(module, name, arch, _facts(kernel, image, shipped), record)


def read_record(path: Path) -> Record:
    """A proof record from a file. Raises UserError where it is none that this version reads."""
    remedy = "name a record that kgbuild build --proof wrote"
    try:
        return parse_record(json.loads(path.read_bytes()))
    except OSError as error:
        raise UserError(error.strerror or str(error), place=str(path), remedy=remedy) from error
    except BadRecord as error:
        raise UserError(f"{error.args[0]} {error.args[1]}", place=str(path), remedy=remedy) from error
    except (ValueError, RecursionError) as error:
        raise UserError("is no JSON text", place=str(path), remedy=remedy) from error


def kernel_vermagic(kernel: Kernel) -> str:
    """The version magic that this kernel wants of a module; "" where neither a module nor vmlinux says it."""
    image = load_image(kernel)
    return ShippedModules(kernel, arch_of(image.obj.machine).machine).layout[0] or _vermagic(image)


def _facts(kernel: Kernel, image: KernelImage, modules: ShippedModules) -> Facts:
    vermagic, size = modules.layout
    config = kernel.config.read_text()
    return Facts(
        build_id=kernel.id.build_id,
        vermagic=vermagic or _vermagic(image),
        exports=parse_symvers(kernel.symvers.read_text()),
        image=image,
        modules=modules,
        modversions="CONFIG_MODVERSIONS=y" in config.splitlines(),
        module_size=size,
        name_length=_name_length(kernel.source),
        tracked=INDIRECT_BRANCHES in probe_kernel(kernel, image),
    )


def _vermagic(image: KernelImage) -> str:
    """What the kernel itself compares with: the string `vermagic` of kernel/module; "" where it is not to be seen."""
    for symbol in image.named("vermagic"):
        found = image.read(symbol.value, symbol.size)
        if found and symbol.size:
            return found.rstrip(b"\0").decode("utf-8", "replace")
    return ""


class ShippedModules:
    """The kernel's modules, each read when first asked for: `modules("af_key")`; None for one it does not have. `own`
    are out-of-tree modules."""

    def __init__(self, kernel: Kernel, machine: int, own: Mapping[str, Path] | None = None) -> None:
        self._root = kernel.modules
        self._own = dict(own or {})
        self._machine = machine
        self._found: dict[str, Shipped | None] = {}

    @cached_property
    def _index(self) -> dict[str, Path]:
        return index_modules(self._root) | self._own

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
        """vermagic and the size of struct module (bytes), from one of these modules; "" and 0 without any."""
        for path in index_modules(self._root).values():
            try:
                shipped = read_module(unpack_module(path), path.name, self._machine)
            except (UserError, ToolError):
                continue
            found = modinfo(shipped).get("vermagic", [])
            section = shipped.section(".gnu.linkonce.this_module")
            if len(found) == 1 and section is not None:
                return found[0], section.size
        return "", 0


def _depends(info: dict[str, list[str]]) -> list[str]:
    return [name.replace("-", "_") for text in info.get("depends", []) for name in text.split(",") if name]


def _name_length(source: Path) -> int:
    """KSYM_NAME_LEN as the kernel's source has it: 128 before 6.1, 512 since."""
    header = source / "include" / "linux" / "kallsyms.h"
    text = header.read_text(errors="replace") if header.is_file() else ""
    match = re.search(r"^#define\s+KSYM_NAME_LEN\s+(\d+)", text, re.MULTILINE)
    return int(match.group(1)) if match else 512
