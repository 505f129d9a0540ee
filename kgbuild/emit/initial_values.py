# SPDX-License-Identifier: GPL-2.0-or-later
"""The initial values that the wrapper writes, of the variables that closure/lifetime.py names. The tables are read by
data/livepatch/initial.c:

.rodata.kgbuild_initial  struct { const char *object; void *place; const void *value; u64 size; u64 kind; void *code; },
                         ended by zeros; a value of NULL is zeros
.rodata.kgbuild_values   the values, with the relocations that the variables would have
.data.kgbuild_saved      room for the values of parameters, as they are when the module has been loaded
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from kgbuild.closure.lifetime import Initial
from kgbuild.elf.consts import SHF, SHT, STB, STT
from kgbuild.elf.write import OutObject, OutReloc, OutSection, OutSymbol
from kgbuild.model import VMLINUX

TABLE, VALUES, SAVED_VALUES = "kgbuild_initial", ".rodata.kgbuild_values", ".data.kgbuild_saved"
ROW = struct.Struct("<QQQQQQ")
MEMORY, PER_CPU, STATIC_KEY, STATIC_CALL, SAVED = range(5)  # data/livepatch/initial.c
KEY_SIZE = 16  # struct static_key and struct static_call_key; the wrapper checks it
VALUE_ALIGN = 8


@dataclass
class Values:
    """Variables whose initial values are collected while the object is made."""

    wanted: dict[tuple[int, int], Initial]
    section: OutSection = field(default_factory=lambda: OutSection(VALUES, SHT.PROGBITS, SHF.ALLOC, align=VALUE_ALIGN))
    saved: OutSection = field(
        default_factory=lambda: OutSection(SAVED_VALUES, SHT.PROGBITS, SHF.ALLOC | SHF.WRITE, align=VALUE_ALIGN)
    )
    # variable, its section and offset, offset of its value or None for zeros
    rows: list[tuple[Initial, OutSection, int, int | None]] = field(default_factory=list)

    def add(self, variable: Initial, section: OutSection, offset: int, content: bytes, relocs: list[OutReloc]) -> None:
        """Take the value of a variable: its bytes, and its relocations, whose offsets are in the variable."""
        if not relocs and not any(content) and not variable.saved:
            self.rows.append((variable, section, offset, None))
            return
        where = self.saved if variable.saved else self.section
        where.data.extend(bytes(-len(where.data) % VALUE_ALIGN))
        at = len(where.data)
        where.data.extend(bytes(len(content)) if variable.saved else content)
        self.rows.append((variable, section, offset, at))
        if variable.saved:
            return
        self.section.relocs += [OutReloc(at + r.offset, r.type, r.symbol, r.addend) for r in relocs]

    def add_table(
        self,
        out: OutObject,
        pointer: int,
        symbol_of: Callable[[OutSection], OutSymbol],
        code_of: Callable[[Initial], OutSymbol],
        name_of: Callable[[str], tuple[OutSymbol, int]],
    ) -> None:
        """Append the table. `pointer` is the relocation type of a pointer; `name_of` gives the place of a text."""
        table = OutSection(f".rodata.{TABLE}", SHT.PROGBITS, SHF.ALLOC, align=8)
        for variable, section, offset, at in self.rows:
            for start, size, kind in _pieces(variable):
                base = len(table.data)
                table.data.extend(ROW.pack(0, 0, 0, size, kind, 0))
                if variable.object != VMLINUX:
                    table.relocs.append(OutReloc(base, pointer, *name_of(variable.object)))
                table.relocs.append(OutReloc(base + 8, pointer, symbol_of(section), offset + start))
                if at is not None:
                    table.relocs.append(
                        OutReloc(
                            base + 16, pointer, symbol_of(self.saved if variable.saved else self.section), at + start
                        )
                    )
                if kind == STATIC_CALL:
                    table.relocs.append(OutReloc(base + 40, pointer, code_of(variable), 0))
        table.data.extend(bytes(ROW.size))
        out.sections.append(table)
        out.symbols.append(OutSymbol(TABLE, table, 0, len(table.data), STB.GLOBAL, STT.OBJECT))


def _pieces(variable: Initial) -> Iterator[tuple[int, int, int]]:
    """(offset, size, kind) of what a variable is made of: static keys, and what is between them."""
    if variable.trampoline is not None:
        yield 0, variable.atom.size, STATIC_CALL
        return
    plain = PER_CPU if variable.per_cpu else SAVED if variable.saved else MEMORY
    at = 0
    for key in variable.keys:
        if key > at:
            yield at, key - at, plain
        yield key, KEY_SIZE, STATIC_KEY
        at = key + KEY_SIZE
    if at < variable.atom.size:
        yield at, variable.atom.size - at, plain
