# SPDX-License-Identifier: GPL-2.0-or-later
"""A vmlinux on disk as a KernelImage: mapped, so that only what is looked at is read."""

from __future__ import annotations

import errno
import mmap
from functools import cache
from pathlib import Path

from kgbuild.arch import arch_of
from kgbuild.arch.base import Arch
from kgbuild.arch.platform import Platform
from kgbuild.elf.read import FormatError, read
from kgbuild.elf.records import LITTLE, records_of
from kgbuild.errors import ToolError, UserError
from kgbuild.host.system.run import MORE_MEMORY
from kgbuild.kernel.vmlinux_image import KernelImage
from kgbuild.model import Kernel


def platform_of(kernel: Kernel) -> Platform:
    """What trees and tools around a kernel call its architecture. Raises UserError for one without facts."""
    return read_platform(kernel.vmlinux)


def read_platform(vmlinux: Path) -> Platform:
    """What trees and tools around a vmlinux call its architecture. Raises what `read_arch` raises."""
    return read_arch(vmlinux).platform


def arch_of_kernel(kernel: Kernel) -> Arch:
    """The facts of a kernel's architecture. Raises what `read_arch` raises."""
    return read_arch(kernel.vmlinux)


@cache
def read_arch(vmlinux: Path) -> Arch:
    """The facts of the architecture of a vmlinux, by its ELF header.

    Raises UserError where the file can't be read, is no ELF file, or is for an architecture that kgbuild has no facts
    of.
    """
    remedy = "give the unstripped vmlinux of the kernel"
    try:
        with vmlinux.open("rb") as file:
            head = file.read(LITTLE.header.size)
    except OSError as error:
        raise UserError(error.strerror or str(error), place=str(vmlinux), remedy=remedy) from error
    records = records_of(head) if len(head) == LITTLE.header.size else "no ELF file"
    if isinstance(records, str) or not head.startswith(b"\x7fELF"):
        raise UserError("not a 64-bit ELF file", place=str(vmlinux), remedy=remedy)
    return arch_of(records.header.unpack(head)[2], str(vmlinux))


def map_image(vmlinux: Path) -> KernelImage:
    """Map a vmlinux. Raises UserError, with its path, where it is no intact ELF file."""
    try:
        with vmlinux.open("rb") as file:
            return KernelImage(read(memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))))
    except (FormatError, ValueError) as error:  # an empty file can't be mapped: ValueError
        fact = error.fact if isinstance(error, FormatError) else "is empty"
        raise UserError(fact, place=str(vmlinux), remedy="give the unstripped vmlinux of the kernel") from error


def load_image(kernel: Kernel) -> KernelImage:
    """The kernel's vmlinux, mapped. Raises ToolError where it is not the one the cache knows."""
    remedy = "remove the kernel from the cache and fetch or add it again"
    try:
        image = map_image(kernel.vmlinux)
    except (OSError, UserError) as error:
        fact = error.fact if isinstance(error, UserError) else error.strerror or str(error)
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:
            remedy = MORE_MEMORY
        raise ToolError(fact, place=str(kernel.vmlinux), remedy=remedy) from error
    if image.build_id != kernel.id.build_id:
        fact = f"has build-id {image.build_id or 'none'}, not {kernel.id.build_id}"
        raise ToolError(fact, place=str(kernel.vmlinux), remedy=remedy)
    return image
