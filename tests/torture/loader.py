# SPDX-License-Identifier: GPL-2.0-or-later
"""What a kernel does with modules: laying them out, relocating them, and what livepatch does when one comes and goes.

Independent of the builder: symbols are found by name and position as kallsyms lists them, relocations written, a jump
put where each redirected function calls __fentry__, and the patch's tables read as data/livepatch/main.c, initial.c
and kallsyms.c read them. What belongs to a module that can go is written anew each time that it comes: its late
relocations, the initial values of its variables, the jumps in its code.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from kgbuild.elf.consts import SHF, SHN, SHT, STB, STT
from kgbuild.elf.object import Object, Symbol
from kgbuild.elf.read import read
from kgbuild.emit.klp_relocations import split_livepatch_name
from kgbuild.module_abi import INITIAL, RANGES, SITES, SYMBOLS, InitialKind
from tests.torture.machine import EXECUTE, PAGE, PATCH, READ, WRITE, Image, Piece
from tests.torture.program import KERNEL

R_64, R_PC32, R_PLT32, R_32, R_32S, R_PC64 = 1, 2, 4, 10, 11, 24
LATE_ROW = struct.Struct("<QQQ")
FUNC_ROW = struct.Struct("<QQQQ")


class BadModule(Exception):
    """The kernel would not take this module, or would do something else than was meant."""


class Place(Protocol):
    """An object of the running kernel."""

    @property
    def symbols(self) -> dict[str, list[Symbol]]: ...
    @property
    def sites(self) -> frozenset[int]: ...
    def code(self, address: int, size: int) -> bytes: ...


class Layout:
    """A relocatable object in memory, its first byte at `base`: code, what is only read, what is written, each group on
    pages of its own."""

    def __init__(self, obj: Object, base: int) -> None:
        self.obj = obj
        self.address: dict[int, int] = {}
        self.data: dict[int, bytearray] = {}
        loaded = [s for s in obj.sections if s.flags & SHF.ALLOC and s.type != SHT.RELA]
        at = base
        for group in (
            [s for s in loaded if s.executable],
            [s for s in loaded if not s.executable and not s.writable],
            [s for s in loaded if not s.executable and s.writable],
        ):
            at = (at + PAGE - 1) & -PAGE
            for s in group:
                align = max(s.align, 1)
                at = (at + align - 1) & -align
                self.address[s.index] = at
                self.data[s.index] = bytearray(obj.contents(s.index)).ljust(s.size, b"\0")
                at += s.size

    def relocate(self, symbol: Callable[[int], int]) -> None:
        """Write the relocations that are done when the object is loaded; `symbol` gives the value of one by number."""
        for s in self.obj.sections:
            if s.type == SHT.RELA and s.info in self.data and not s.flags & SHF.RELA_LIVEPATCH:
                for offset, kind, sym, addend in self.rows(s.index):
                    self.write(s.info, offset, kind, symbol(sym) + addend)

    def rows(self, section: int) -> list[tuple[int, int, int, int]]:
        """Offset, type, symbol and addend of each Elf64_Rela."""
        raw = memoryview(self.obj.contents(section))
        return [row[:4] for row in struct.iter_unpack("<QIIq", raw)]

    def write(self, section: int, offset: int, kind: int, value: int) -> tuple[int, bytes]:
        """Write one relocation: what was written, and where."""
        place = self.address[section] + offset
        if kind in (R_PC32, R_PLT32, R_PC64):
            value -= place
        size, signed = {R_64: (8, False), R_PC64: (8, True), R_32: (4, False)}.get(kind, (4, True))
        if kind not in (R_64, R_PC32, R_PLT32, R_32, R_32S, R_PC64):
            raise BadModule(f"relocation type {kind}")
        try:
            raw = value.to_bytes(size, "little", signed=signed)
        except OverflowError:
            raise BadModule(f"relocation of type {kind} overflows: {value:#x}") from None
        self.data[section][offset : offset + size] = raw
        return place, raw

    def pieces(self) -> list[Piece]:
        return [
            Piece(self.address[index], bytes(data), len(data), self.protection(index))
            for index, data in self.data.items()
            if data
        ]

    def protection(self, index: int) -> int:
        s = self.obj.sections[index]
        return READ | (EXECUTE if s.executable else 0) | (WRITE if s.writable else 0)

    def section_at(self, address: int) -> int:
        found = (i for i, start in self.address.items() if start <= address < start + len(self.data[i]))
        index = next(found, None)
        if index is None:
            raise BadModule(f"nothing at {address:#x}")
        return index

    def value(self, symbol: Symbol) -> int:
        return self.address[symbol.shndx] + symbol.value


class Module(Layout):
    """A module of the program, loaded. `exported` are the kernel's names that it may take; a weak reference to another
    stays NULL."""

    def __init__(self, ko: Object, base: int, kernel: Image, exported: Container[str], strict: bool = True) -> None:
        super().__init__(ko, base)
        self._kernel, self._exported, self._strict = kernel, exported, strict
        self.relocate(self._symbol)

    def _symbol(self, index: int) -> int:
        s = self.obj.symbol(index)
        if s.shndx != SHN.UNDEF:
            return self.value(s)
        found = [f for f in self._kernel.symbols.get(s.name, []) if f.bind != STB.LOCAL]
        allowed = s.name in self._exported or (s.bind != STB.WEAK and not self._strict)
        if allowed and found:
            return found[0].value
        if s.bind == STB.WEAK:
            return 0
        raise BadModule(f"the program's module: unknown symbol {s.name}")

    @cached_property
    def symbols(self) -> dict[str, list[Symbol]]:
        """Symbols by name, in the order of the symbol table, as kallsyms lists a module's."""
        out: dict[str, list[Symbol]] = {}
        for s in self.obj.iter_symbols():
            if s.shndx in self.address and s.type not in (STT.FILE, STT.SECTION) and s.name:
                out.setdefault(s.name, []).append(s._replace(value=self.value(s)))
        return out

    @cached_property
    def sites(self) -> frozenset[int]:
        section = self.obj.section_named("__mcount_loc")
        if section is None:
            return frozenset()
        raw = bytes(self.data[section.index])
        return frozenset(struct.unpack(f"<{len(raw) // 8}Q", raw))

    def code(self, address: int, size: int) -> bytes:
        index = self.section_at(address)
        start = address - self.address[index]
        return bytes(self.data[index][start : start + size])


@dataclass
class Coming:
    """What happens when an object is patched: what is written into the patch (address, bytes, protection of the page),
    then the jumps in the object's code."""

    writes: list[tuple[int, bytes, int]] = field(default_factory=list)
    jumps: list[tuple[int, bytes]] = field(default_factory=list)


class Loaded:
    """A patch in memory. `kernel` is what happens when it is enabled; `come` says what happens when a module comes."""

    def __init__(self, module: bytes, image: Image, exports: Container[str], base: int = PATCH) -> None:
        self._image, self._exports = image, exports
        self._layout = Layout(read(module), base)
        self._layout.relocate(self._symbol)
        self._values: list[int] = []
        self._late(KERNEL, image)
        self._sites("", {"": image})
        self._check_late()
        self.kernel = Coming(jumps=self._jumps("", image))
        self._initial("")
        self.pieces = self._layout.pieces()

    def come(self, name: str, module: Place) -> Coming:
        """klp_module_coming: relocations, pre_patch (the wrapper), jumps."""
        writes = self._late(name, module)
        writes += self._sites(name, {"": self._image, name: module})
        writes += self._initial(name)
        return Coming(
            [(at, raw, self._layout.protection(self._layout.section_at(at))) for at, raw in writes],
            self._jumps(name, module),
        )

    def _symbol(self, index: int) -> int:
        s = self._layout.obj.symbol(index)
        if s.shndx == SHN.LIVEPATCH:
            raise BadModule(f"{s.name} is asked for when the module is loaded")
        if s.shndx == SHN.UNDEF:
            found = [f for f in self._image.symbols.get(s.name, []) if f.bind != STB.LOCAL]
            if s.name in self._exports and len(found) == 1:
                return found[0].value
            if s.bind == STB.WEAK:
                return 0
            raise BadModule(f"{s.name} is not exported")
        return self._layout.value(s)

    def _late(self, name: str, module: Place) -> list[tuple[int, bytes]]:
        """klp_apply_section_relocs of one object."""
        layout, out = self._layout, []
        for s in layout.obj.sections:
            if s.type != SHT.RELA or not s.flags & SHF.RELA_LIVEPATCH or s.name.split(".")[3] != name:
                continue
            if name != KERNEL and layout.obj.sections[s.info].writable:
                raise BadModule(f"{s.name}: the kernel can't take back what was written over")
            for offset, kind, sym, addend in layout.rows(s.index):
                symbol = layout.obj.symbol(sym)
                if symbol.shndx != SHN.LIVEPATCH:
                    raise BadModule(f"{symbol.name} is no livepatch symbol")
                owner, wanted, position = split_livepatch_name(symbol.name)
                if owner not in (KERNEL, name):
                    raise BadModule(f"{symbol.name}: no such object")
                found = _kallsyms(module if owner == name else self._image, wanted, position)
                out.append(layout.write(s.info, offset, kind, found + addend))
        return out

    def _check_late(self) -> None:
        """Kernels before 6.3 do not take late relocations back: the wrapper has a table of them, and does."""
        if self._layout.obj.section_named(".rodata.kgbuild_late") is None:
            return
        told = {place for _, place, size in LATE_ROW.iter_unpack(self._table("late")) if size}
        there = set()
        for s in self._layout.obj.sections:
            if s.type == SHT.RELA and s.flags & SHF.RELA_LIVEPATCH and s.name.split(".")[3] != KERNEL:
                rows = self._layout.rows(s.index)
                if not s.name.endswith(".rodata..kgbuild_resolve"):
                    there |= {self._layout.address[s.info] + offset for offset, *_ in rows}
        if not there <= told:
            raise BadModule("a late relocation that nothing clears when its module goes")

    def _table(self, name: str) -> bytes:
        section = self._layout.obj.section_named(f".rodata.kgbuild_{name}")
        return bytes(self._layout.data[section.index]) if section is not None else b""

    def _sites(self, name: str, objects: dict[str, Place]) -> list[tuple[int, bytes]]:
        """What data/livepatch/kallsyms.c does, where a module has its tables: check_kernel and resolve_target."""
        found: dict[int, int] = {}
        ranges = list(RANGES.layout.iter_unpack(self._table("ranges")))
        for number, row in enumerate(SYMBOLS.layout.iter_unpack(self._table("symbols"))):
            owner, text, position, first, count, crc, _ = row
            where = objects.get(self._text(owner) if owner else "")
            if where is None:
                continue
            found[number] = _kallsyms(where, self._text(text), position)
            code = b"".join(where.code(found[number] + at, size) for at, size in ranges[first : first + count])
            if count and zlib.crc32(code) != crc:
                raise BadModule(f"{self._text(text)} has other code")
        out = []
        for site, addend, kind, symbol, owner in SITES.layout.iter_unpack(self._table("sites")[: -SITES.layout.size]):
            if (self._text(owner) if owner else "") != name:
                continue
            if symbol not in found:
                raise BadModule("a site of a symbol that is not there yet")
            index = self._layout.section_at(site)
            number = {0: R_64, 1: R_PC32, 2: R_32, 3: R_32S, 4: R_PC64}[kind]
            out.append(self._layout.write(index, site - self._layout.address[index], number, found[symbol] + addend))
        return out

    def _initial(self, name: str) -> list[tuple[int, bytes]]:
        """write_initial() of data/livepatch/initial.c."""
        out = []
        for owner, place, value, size, kind, _ in INITIAL.layout.iter_unpack(self._table("initial")):
            if not size or (self._text(owner) if owner else "") != name:
                continue
            if kind != InitialKind.MEMORY:
                raise BadModule(f"an initial value of kind {kind}")
            raw = bytes(size)
            if value:
                index = self._layout.section_at(value)
                start = value - self._layout.address[index]
                raw = bytes(self._layout.data[index][start : start + size])
            index = self._layout.section_at(place)
            start = place - self._layout.address[index]
            self._layout.data[index][start : start + size] = raw
            out.append((place, raw))
        return out

    def _text(self, address: int) -> str:
        index = self._layout.section_at(address)
        raw = bytes(self._layout.data[index][address - self._layout.address[index] :])
        return raw[: raw.index(b"\0")].decode()

    def _jumps(self, wanted: str, module: Place) -> list[tuple[int, bytes]]:
        """Of each klp_func of an object, a jump at its function."""
        jumps = []
        for owner, name, function, position in FUNC_ROW.iter_unpack(self._table("funcs")[: -FUNC_ROW.size]):
            if (self._text(owner) if owner else "") != wanted:
                continue
            shown = self._text(name)
            address = _kallsyms(module, shown, position)
            if address not in module.sites:
                raise BadModule(f"{shown} has no ftrace site")
            jumps.append((address, b"\xe9" + (function - address - 5).to_bytes(4, "little", signed=True)))
        if len({place for place, _ in jumps}) != len(jumps):
            raise BadModule("one function is redirected twice")
        return jumps


def _kallsyms(module: Place, name: str, position: int) -> int:
    """klp_find_object_symbol: the symbol at a position among those of its name; 0 where there must be one."""
    found = [s.value for s in module.symbols.get(name, [])]
    if position == 0 and len(found) == 1:
        return found[0]
    if not 1 <= position <= len(found):
        raise BadModule(f"no symbol {name},{position} among {len(found)}")
    return found[position - 1]


__all__ = ["BadModule", "Coming", "Layout", "Loaded", "Module", "Place"]
