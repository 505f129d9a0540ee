# SPDX-License-Identifier: GPL-2.0-or-later
"""An ELF file as tables: sections as a short list, symbols and relocations as numpy columns over the file itself.

Nothing here makes a Python object for a symbol or a relocation that nobody asks about: vmlinux has more than a
hundred thousand of each. `read.read` makes an Object; offsets and sizes are in bytes throughout.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from kgbuild.elf.consts import SHF, SHN, SHT, STB, STT
from kgbuild.elf.sections import Section

SYMBOL_DTYPE = np.dtype(
    [("name", "<u4"), ("info", "u1"), ("other", "u1"), ("shndx", "<u2"), ("value", "<u8"), ("size", "<u8")]
)
RELA_DTYPE = np.dtype([("offset", "<u8"), ("type", "<u4"), ("sym", "<u4"), ("addend", "<i8")])

_SECTION, _LIVEPATCH = int(STT.SECTION), int(SHF.RELA_LIVEPATCH)
_SOME = 4096

Table = npt.NDArray[np.void]


@dataclass(frozen=True)
class Symbol:
    """A view of one symbol. Its identity within an object is `index`; names repeat among locals."""

    index: int
    name: str
    value: int
    size: int
    bind: int
    type: int
    other: int
    shndx: int

    @property
    def defined(self) -> bool:
        return self.shndx != SHN.UNDEF

    @property
    def is_function(self) -> bool:
        return self.type == STT.FUNC

    @property
    def is_local(self) -> bool:
        return self.bind == STB.LOCAL

    @property
    def weak(self) -> bool:
        return self.bind == STB.WEAK


@dataclass(frozen=True, eq=False)
class Object:
    """A parsed ELF64 little-endian file.

    data      the whole file (bytes, mmap or memoryview)
    type      e_type; machine: e_machine
    sections  every section header in table order
    symbols   structured array with SYMBOL_DTYPE, index 0 is the null symbol; empty where there is no table
    """

    data: memoryview
    type: int
    machine: int
    sections: tuple[Section, ...]
    symbols: Table
    strtab: memoryview
    symtab_index: int

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file, hex."""
        return hashlib.sha256(self.data).hexdigest()

    def contents(self, index: int) -> memoryview:
        """Bytes of section `index` (empty for NOBITS)."""
        section = self.sections[index]
        if section.type == SHT.NOBITS:
            return memoryview(b"")
        return self.data[section.offset : section.offset + section.size]

    @cached_property
    def by_name(self) -> dict[str, list[int]]:
        """Section indices by name."""
        out: dict[str, list[int]] = {}
        for section in self.sections:
            out.setdefault(section.name, []).append(section.index)
        return out

    def section_named(self, name: str) -> Section | None:
        """The first section of that name, or None."""
        found = self.by_name.get(name)
        return self.sections[found[0]] if found else None

    def name_of(self, index: int) -> str:
        """Name of symbol `index`; a section symbol has its section's name."""
        row = self.symbols[index]
        if (int(row["info"]) & 15) == STT.SECTION and not row["name"]:
            return self.sections[int(row["shndx"])].name
        start = int(row["name"])
        raw = self._strings
        return raw[start : raw.index(b"\0", start)].decode("utf-8", "replace")

    @cached_property
    def _strings(self) -> bytes:
        return bytes(self.strtab)

    def symbol(self, index: int) -> Symbol:
        """View of symbol `index`."""
        row = self.symbols[index]
        info = int(row["info"])
        shndx = int(row["shndx"])
        return Symbol(
            index,
            self.name_of(index),
            int(row["value"]),
            int(row["size"]),
            info >> 4,
            info & 15,
            int(row["other"]),
            shndx,
        )

    def symbols_at(self, indices: npt.NDArray[np.intp]) -> list[Symbol]:
        """Views of many symbols at once; faster than one by one."""
        rows = self.symbols[indices]
        raw, find = self._strings, self._strings.index
        columns = [rows[name].tolist() for name in ("name", "value", "size", "info", "other", "shndx")]
        return [
            Symbol(
                index,
                raw[start : find(b"\0", start)].decode("utf-8", "replace")
                if start or (info & 15) != _SECTION
                else self.sections[shndx].name,
                value,
                size,
                info >> 4,
                info & 15,
                other,
                shndx,
            )
            for index, start, value, size, info, other, shndx in zip(indices.tolist(), *columns, strict=True)
        ]

    def iter_symbols(self) -> Iterator[Symbol]:
        """Every symbol but the null one, in table order."""
        for start in range(1, len(self.symbols), _SOME):
            yield from self.symbols_at(np.arange(start, min(start + _SOME, len(self.symbols))))

    @cached_property
    def groups(self) -> dict[int, list[tuple[int, ...]]]:
        """The section groups (gABI: SHT_GROUP) that a section is in, each as the indices of its members."""
        out: dict[int, list[tuple[int, ...]]] = {}
        for s in self.sections:
            if s.type == SHT.GROUP:
                words = np.frombuffer(self.contents(s.index)[: s.size // 4 * 4], "<u4")[1:]
                members = tuple(i for i in words.tolist() if i < len(self.sections))
                for member in members:
                    out.setdefault(member, []).append(members)
        return out

    @cached_property
    def rela_of(self) -> dict[int, int]:
        """Index of the RELA section that applies to a section, by the index of that section."""
        return {s.info: s.index for s in self.sections if s.type == SHT.RELA and s.info and not s.flags & _LIVEPATCH}

    def relocs(self, index: int) -> Table:
        """Relocations that apply to section `index`, in file order, with RELA_DTYPE; empty where there are none."""
        rela = self.rela_of.get(index)
        if rela is None:
            return np.empty(0, RELA_DTYPE)
        return np.frombuffer(self.contents(rela), RELA_DTYPE)
