# SPDX-License-Identifier: GPL-2.0-or-later
"""An ELF file as tables: sections as a short list, symbols and relocations as columns.

Nothing here makes a Python object for a symbol or a relocation that nobody asks about: vmlinux has more than a
hundred thousand of each. There are two forms of columns. For whole kernels, numpy's over the file itself (`symbols`,
`relocs`); for one unit, plain numbers (`columns`, `reloc_rows`), since importing numpy takes longer than comparing most
pairs of objects does. `read.read` makes an Object; offsets and sizes are in bytes throughout.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from kgbuild.elf.consts import SHF, SHN, SHT, STB, STT
from kgbuild.elf.records import PREFIX, ByteOrder, Records

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Table = npt.NDArray[np.void]

SYMBOL_SIZE = RELA_SIZE = 24

# plain integers: each operation on an IntFlag makes a new object
_ALLOC, _EXECINSTR, _WRITE, _STRINGS, _MERGE, _GROUP = (
    int(f) for f in (SHF.ALLOC, SHF.EXECINSTR, SHF.WRITE, SHF.STRINGS, SHF.MERGE, SHF.GROUP)
)
_SECTION, _LIVEPATCH = int(STT.SECTION), int(SHF.RELA_LIVEPATCH)
_RELA_TYPE, _NOBITS = int(SHT.RELA), int(SHT.NOBITS)

RelocRow = tuple[int, int, int, int]


class Section(NamedTuple):
    """One section header, its name resolved. `index` is its place in the section header table."""

    index: int  # type: ignore[assignment]  # tuple has a method of that name, which nobody misses
    name: str
    type: int
    flags: int
    addr: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entsize: int

    @property
    def alloc(self) -> bool:
        return bool(self.flags & _ALLOC)

    @property
    def executable(self) -> bool:
        return bool(self.flags & _EXECINSTR)

    @property
    def writable(self) -> bool:
        return bool(self.flags & _WRITE)

    @property
    def merge(self) -> bool:
        """True for a section whose elements the linker may fold."""
        return bool(self.flags & _MERGE)

    @property
    def grouped(self) -> bool:
        """True for a member of a section group."""
        return bool(self.flags & _GROUP)

    @property
    def strings(self) -> bool:
        """True for a section of NUL-terminated strings, whatever its name (a name proves nothing)."""
        return bool(self.flags & _STRINGS)


class Symbol(NamedTuple):
    """A view of one symbol. Its identity within an object is `index`; names repeat among locals."""

    index: int  # type: ignore[assignment]  # as above
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


class SymbolColumns(NamedTuple):
    """The symbol table as one column of numbers for each field: row 0 is the null symbol. No rows without a table."""

    name: array[int]
    info: bytes
    other: bytes
    shndx: array[int]
    value: array[int]
    size: array[int]

    @property
    def kinds(self) -> bytes:
        """The type (STT) of each symbol."""
        return self.info.translate(_KINDS)


_KINDS = bytes(info & 15 for info in range(256))


def read_column(table: memoryview, code: str, first: int, step: int, order: ByteOrder) -> array[int]:
    """Every `step`th number of a table from number `first` on; `code` is its width, as array has it."""
    words = array(code, bytes(table))
    if sys.byteorder != order:
        words.byteswap()
    return words[first::step]


def read_symbol_columns(table: memoryview, order: ByteOrder) -> SymbolColumns:
    """The columns of a symbol table."""
    return SymbolColumns(
        read_column(table, "I", 0, 6, order),
        bytes(table[4::SYMBOL_SIZE]),
        bytes(table[5::SYMBOL_SIZE]),
        read_column(table, "H", 3, 12, order),
        read_column(table, "Q", 1, 3, order),
        read_column(table, "Q", 2, 3, order),
    )


@dataclass(frozen=True, eq=False, repr=False)
class Object:
    """A parsed ELF64 file.

    data      the whole file (bytes, mmap or memoryview)
    records   how its records look: byte order and word size
    type      e_type; machine: e_machine
    sections  every section header in table order
    columns   the symbol table
    """

    data: memoryview
    type: int
    machine: int
    sections: tuple[Section, ...]
    columns: SymbolColumns
    strtab: memoryview
    symtab_index: int
    records: Records

    @cached_property
    def order(self) -> ByteOrder:
        """Byte order of every number in the file."""
        return self.records.order

    @property
    def word(self) -> int:
        """Bytes of an address."""
        return self.records.word

    def number(self, raw: bytes, *, signed: bool = False) -> int:
        """The number that some bytes of the file are."""
        return int.from_bytes(raw, self.order, signed=signed)

    def dtype(self, form: str) -> str:
        """A number of the file as numpy knows it: "i4" is a signed one of 4 bytes."""
        return PREFIX[self.order] + form

    @cached_property
    def symbols(self) -> Table:
        """The symbol table as a structured numpy array with the fields of Records, a view of the file."""
        import numpy as np

        if not self.columns.name:
            return np.zeros(0, np.dtype(self.records.symbol_fields))
        return np.frombuffer(self.contents(self.symtab_index), np.dtype(self.records.symbol_fields))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file, hex."""
        import hashlib

        return hashlib.sha256(self.data).hexdigest()

    def contents(self, index: int) -> memoryview:
        """Bytes of section `index` (empty for NOBITS)."""
        section = self.sections[index]
        if section.type == _NOBITS:
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
        start = self.columns.name[index]
        if not start and self.columns.info[index] & 15 == _SECTION:
            return self.sections[self.columns.shndx[index]].name
        raw = self._strings
        return raw[start : raw.index(b"\0", start)].decode("utf-8", "replace")

    @cached_property
    def _strings(self) -> bytes:
        return bytes(self.strtab)

    def symbol(self, index: int) -> Symbol:
        """View of symbol `index`."""
        table = self.columns
        info = table.info[index]
        start = table.name[index]
        if start or info & 15 != _SECTION:
            raw = self._strings
            name = raw[start : raw.index(b"\0", start)].decode("utf-8", "replace")
        else:
            name = self.sections[table.shndx[index]].name
        return Symbol(
            index,
            name,
            table.value[index],
            table.size[index],
            info >> 4,
            info & 15,
            table.other[index],
            table.shndx[index],
        )

    @cached_property
    def file_symbols(self) -> tuple[int, ...]:
        """The symbols that name a source file (STT_FILE), in table order."""
        kinds, wanted = self.columns.kinds, bytes([STT.FILE])
        out, at = [], kinds.find(wanted)
        while at >= 0:
            out.append(at)
            at = kinds.find(wanted, at + 1)
        return tuple(out)

    def symbols_at(self, indices: Iterable[int]) -> Iterator[Symbol]:
        """Views of some symbols, in that order."""
        return map(self.symbol, indices)

    def iter_symbols(self) -> Iterator[Symbol]:
        """Every symbol but the null one, in table order."""
        return map(self.symbol, range(1, len(self.columns.name)))

    @cached_property
    def groups(self) -> dict[int, list[tuple[int, ...]]]:
        """The section groups (gABI: SHT_GROUP) that a section is in, each as the indices of its members."""
        out: dict[int, list[tuple[int, ...]]] = {}
        for s in self.sections:
            if s.type == SHT.GROUP:
                words = read_column(self.contents(s.index)[: s.size // 4 * 4], "I", 1, 1, self.order)
                members = tuple(i for i in words if i < len(self.sections))
                for member in members:
                    out.setdefault(member, []).append(members)
        return out

    @cached_property
    def rela_of(self) -> dict[int, int]:
        """Index of the RELA section that applies to a section, by the index of that section."""
        return {s.info: s.index for s in self.sections if s.type == _RELA_TYPE and s.info and not s.flags & _LIVEPATCH}

    def relocs(self, index: int) -> Table:
        """Relocations that apply to section `index`, in file order, as a structured numpy array with the fields of
        Records, a view of the file; empty where there are none."""
        import numpy as np

        rela = self.rela_of.get(index)
        if rela is None or not self.sections[rela].size:
            return np.empty(0, np.dtype(self.records.rela_fields))
        return np.frombuffer(self.contents(rela), np.dtype(self.records.rela_fields))

    def reloc_rows(self, index: int) -> list[RelocRow]:
        """Relocations of a section as (offset, type, symbol, addend), by offset. The list is cached: do not change
        it."""
        found = self._reloc_rows.get(index)
        if found is None:
            found = self._reloc_rows[index] = sorted(self.relocs_as_written(index), key=itemgetter(0))
        return found

    def relocs_as_written(self, index: int) -> list[RelocRow]:
        """Relocations of a section as (offset, type, symbol, addend), in file order."""
        rela = self.rela_of.get(index)
        rows = self.records.rela.iter_unpack(self.contents(rela)) if rela is not None else ()
        if self.records.symbol_first:
            return [(offset, kind, sym, addend) for offset, sym, kind, addend in rows]
        return list(rows)

    @cached_property
    def _reloc_rows(self) -> dict[int, list[RelocRow]]:
        return {}
