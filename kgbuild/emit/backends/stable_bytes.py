# SPDX-License-Identifier: GPL-2.0-or-later
"""Which bytes of a function in memory are those of the kernel's file.

A kernel changes its own code while it boots and later: it moves itself (KASLR), and writes alternatives, static keys,
static calls, trace calls, returns, lock prefixes and constants. What is left is what the module compares before it
relies on a function (data/livepatch/kallsyms.c): most of what a function computes, little of where that is.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from kgbuild.arch.base import Arch
from kgbuild.elf.records import ByteOrder
from kgbuild.errors import ToolError
from kgbuild.kernel.module_image import ModuleImage
from kgbuild.kernel.vmlinux_image import KernelImage
from kgbuild.proof.record import BoundSymbol

# Tables of code that the kernel replaces, each with how long that is; and whether the place, which comes first, is a
# pointer (struct paravirt_patch_site) and not relative to itself (struct alt_instr).
REPLACED = {".altinstructions": False, ".parainstructions": True}
# Symbols around code that kexec copies before it runs. Since 6.14 it lies in data (arch/x86/kernel/vmlinux.lds.S).
_COPIED = ("__relocate_kernel_start", "__relocate_kernel_end")


class Stable(NamedTuple):
    """Stretches of a function as (offset, size in bytes), and the CRC-32 of their bytes one behind the other."""

    ranges: tuple[tuple[int, int], ...]
    crc: int


NOTHING = Stable((), 0)


class StableCode:
    """What is stable in one image: vmlinux, or a module. The tables are read once, when they are first needed."""

    def __init__(self, arch: Arch, image: KernelImage) -> None:
        self._arch, self._image = arch, image

    def of(self, place: BoundSymbol) -> Stable:
        """The stable bytes of a function, none where all of it may change. Raises ToolError where a table of the image
        can't be read."""
        start = self._address(place)
        code = self._image.read(start, place.size) or b""
        written = [
            (begin - start, end - start) for begin, end in self._written if begin < start + place.size and end > start
        ]
        written += self._relocated(place)
        ranges: list[tuple[int, int]] = []
        for offset, length in self._arch.stable(code):
            if any(begin < offset + length and end > offset for begin, end in written):
                continue
            if ranges and sum(ranges[-1]) == offset:
                ranges[-1] = (ranges[-1][0], ranges[-1][1] + length)
            else:
                ranges.append((offset, length))
        if not ranges:
            return NOTHING
        return Stable(tuple(ranges), zlib.crc32(b"".join(code[at : at + size] for at, size in ranges)))

    def _address(self, place: BoundSymbol) -> int:
        """Where the image has the place; a module's places are offsets in sections."""
        if not isinstance(self._image, ModuleImage):
            return place.address
        return self._module_section(place)[1] + place.address

    def _module_section(self, place: BoundSymbol) -> tuple[int, int]:
        for s in self._image.named(place.name):
            value = int(self._image.obj.symbols[s.index]["value"])
            if value == place.address and self._image.section_at(s.value) == place.section:
                return s.shndx, s.value - value
        raise ToolError(f"has no {place.name} at {place.section}+{place.address:#x}", place=place.object)

    def _relocated(self, place: BoundSymbol) -> Iterator[tuple[int, int]]:
        """The fields of a module's function that the loader writes."""
        if isinstance(self._image, ModuleImage):
            for row in self._image.obj.reloc_rows(self._module_section(place)[0]):
                offset, size = row[0] - place.address, self._arch.relocs.sizes.get(row[1], 8)
                if 0 <= offset < place.size:
                    yield offset, offset + size

    @cached_property
    def _written(self) -> list[tuple[int, int]]:
        """(start, end) of all code that the kernel replaces, or writes a constant into, by its tables."""
        out: list[tuple[int, int]] = []
        for name in REPLACED:
            out += self._replaced(name)
        for section in self._image.obj.sections:
            spec = self._arch.special_of(section.name)
            if spec is not None and spec.constant:
                out += self._constants(section.name, len(spec.constant))
        return out

    def _constants(self, name: str, size: int) -> Iterator[tuple[int, int]]:
        address, raw = self._image.table(name) or (0, b"")
        for at in range(0, len(raw) - 3, 4):
            site = address + at + int.from_bytes(raw[at : at + 4], self._image.obj.order, signed=True)
            yield site, site + size

    def _replaced(self, name: str) -> list[tuple[int, int]]:
        address, raw = self._image.table(name) or (0, b"")
        if not raw:
            return []
        fitting = []
        for size, fields in self._arch.special[name].fields.items():
            found = list(_entries(address, raw, size, fields["length"], REPLACED[name], self._image.obj.order))
            if len(raw) % size == 0 and all(self._holds_code(a) for a, _ in found):
                fitting.append(found)
        if len(fitting) != 1:
            raise ToolError(f"its entries fit {len(fitting)} of the known sizes, not one", place=name)
        return fitting[0]

    def _holds_code(self, address: int) -> bool:
        """By the name of its section: .text, .init.text, .text.unlikely of a module, and what alternatives jump to; or
        where code is copied from."""
        section = self._image.section_at(address)
        return ".text" in section or section == ".altinstr_aux" or address in self._copied

    @cached_property
    def _copied(self) -> range:
        start, end = ([s.value for s in self._image.named(name)] for name in _COPIED)
        return range(start[0], end[0]) if len(start) == len(end) == 1 else range(0)


def _entries(
    address: int, raw: bytes, size: int, length: tuple[int, int], pointer: bool, order: ByteOrder
) -> Iterator[tuple[int, int]]:
    """(start, end) by the entries of a table."""
    at, width = length
    for base in range(0, len(raw) - size + 1, size):
        entry = raw[base : base + size]
        distance = int.from_bytes(entry[:4], order, signed=True)
        start = int.from_bytes(entry[:8], order) if pointer else address + base + distance
        yield start, start + int.from_bytes(entry[at : at + width], order)
