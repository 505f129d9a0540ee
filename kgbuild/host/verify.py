# SPDX-License-Identifier: GPL-2.0-or-later
"""`verify_module`: gathers what is true of the kernel and checks a module against it (emit/verify.py)."""

from __future__ import annotations

import gzip
import lzma
import mmap
import re
from collections.abc import Callable
from pathlib import Path

from kgbuild.analysis.exports import parse_symvers
from kgbuild.analysis.image import KernelImage
from kgbuild.arch import arch_of
from kgbuild.elf.read import read
from kgbuild.emit.readback import read_module
from kgbuild.emit.verify import Facts, check_module, modinfo
from kgbuild.errors import ToolError, UserError
from kgbuild.model import Finding, Kernel

_OPEN: dict[str, Callable[[bytes], bytes]] = {".ko": bytes, ".xz": lzma.decompress, ".gz": gzip.decompress}


def verify_module(data: bytes, kernel: Kernel, name: str, image: KernelImage | None = None) -> list[Finding]:
    """Every fault of a live patch module for this kernel; an empty list means none was found.

    Input: the file's bytes and its name (`a-b.ko`); `image`, where at hand, spares mapping vmlinux again. Raises
    UserError (exit 2) for what is no intact kernel module of the kernel's architecture, ToolError (exit 3) where the
    cached kernel is not what it should be.
    """
    if image is None:
        with kernel.vmlinux.open("rb") as file:
            image = KernelImage(read(memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))))
    arch = arch_of(image.obj.machine)
    module = read_module(data, name, arch.machine)
    return check_module(module, name, arch, _facts(kernel, image, arch.machine))


def _facts(kernel: Kernel, image: KernelImage, machine: int) -> Facts:
    if image.build_id != kernel.id.build_id:
        raise ToolError(
            f"has build-id {image.build_id or 'none'}, not {kernel.id.build_id}",
            place=str(kernel.vmlinux),
            remedy="remove the kernel from the cache and fetch it again",
        )
    vermagic, size = _shipped_module(kernel, machine)
    config = kernel.config.read_text()
    return Facts(
        build_id=kernel.id.build_id,
        vermagic=vermagic or _vermagic(image),
        exports=parse_symvers(kernel.symvers.read_text()),
        image=image,
        modversions="CONFIG_MODVERSIONS=y" in config.splitlines(),
        module_size=size,
        name_length=_name_length(kernel.source),
    )


def _vermagic(image: KernelImage) -> str:
    """What the kernel itself compares with: the string `vermagic` of kernel/module; "" where it is not to be seen."""
    for symbol in image.named("vermagic"):
        found = image.read(symbol.value, symbol.size)
        if found and symbol.size:
            return found.rstrip(b"\0").decode("utf-8", "replace")
    return ""


def _shipped_module(kernel: Kernel, machine: int) -> tuple[str, int]:
    """vermagic and the size of struct module (bytes) of a module that came with the kernel; "" and 0 without one."""
    paths = kernel.modules.rglob("*.ko*") if kernel.modules is not None and kernel.modules.is_dir() else iter(())
    for path in paths:
        if path.suffix not in _OPEN or not path.is_file():
            continue
        try:
            shipped = read_module(_OPEN[path.suffix](path.read_bytes()), path.name, machine)
        except (UserError, OSError, EOFError, lzma.LZMAError):
            continue
        found = modinfo(shipped).get("vermagic", [])
        section = shipped.section(".gnu.linkonce.this_module")
        if len(found) == 1 and section is not None:
            return found[0], section.size
    return "", 0


def _name_length(source: Path) -> int:
    """KSYM_NAME_LEN as the kernel's source has it: 128 before 6.1, 512 since."""
    header = source / "include" / "linux" / "kallsyms.h"
    text = header.read_text(errors="replace") if header.is_file() else ""
    match = re.search(r"^#define\s+KSYM_NAME_LEN\s+(\d+)", text, re.MULTILINE)
    return int(match.group(1)) if match else 512
