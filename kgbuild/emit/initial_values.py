# SPDX-License-Identifier: GPL-2.0-or-later
"""The initial values that the wrapper writes, of the variables that closure/lifetime.py names. The tables are read by
data/livepatch/initial.c. Beside the table (INITIAL of module_abi.py) there are two sections:

.rodata.kgbuild_values   the values, with the relocations that the variables would have
.data.kgbuild_saved      room for the values of parameters, as they are when the module has been loaded
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from kgbuild import module_abi as abi
from kgbuild.closure.lifetime import Initial
from kgbuild.elf.consts import SHF, SHT
from kgbuild.elf.write import OutReloc, OutSection, OutSymbol
from kgbuild.emit.patch_tables import Pointee, RowValues, TableWriter
from kgbuild.module_abi import InitialKind

KEY_SIZE = 16  # struct static_key and struct static_call_key; the wrapper checks it
VALUE_ALIGN = 8


@dataclass(eq=False, repr=False)
class Values:
    """Variables whose initial values are collected while the object is made."""

    wanted: dict[tuple[int, int], Initial]
    section: OutSection = field(default_factory=lambda: _section(abi.VALUES_SECTION, SHF.ALLOC))
    saved: OutSection = field(default_factory=lambda: _section(abi.SAVED_SECTION, SHF.ALLOC | SHF.WRITE))
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

    def add_table(self, writer: TableWriter, symbol_of: Callable[[int, int], OutSymbol]) -> None:
        """Append the table. `symbol_of` gives the symbol of a unit's atom."""
        writer.add(abi.INITIAL, self._rows(writer, symbol_of))

    def _rows(self, writer: TableWriter, symbol_of: Callable[[int, int], OutSymbol]) -> Iterator[RowValues]:
        for variable, section, offset, at in self.rows:
            for start, size, kind in _pieces(variable):
                row: dict[str, int | bytes | Pointee | None] = {"object": writer.object_name(variable.object)}
                row["place"] = Pointee(writer.section_symbol(section), offset + start)
                if at is not None:
                    values = self.saved if variable.saved else self.section
                    row["value"] = Pointee(writer.section_symbol(values), at + start)
                row |= {"size": size, "kind": int(kind)}
                if kind == InitialKind.CALL:
                    assert variable.trampoline is not None
                    row["code"] = Pointee(symbol_of(variable.unit, variable.trampoline.id))
                yield row


def _section(name: str, flags: int) -> OutSection:
    return OutSection(name, SHT.PROGBITS, flags, align=VALUE_ALIGN)


def _pieces(variable: Initial) -> Iterator[tuple[int, int, InitialKind]]:
    """(offset, size, kind) of what a variable is made of: static keys, and what is between them."""
    if variable.trampoline is not None:
        yield 0, variable.atom.size, InitialKind.CALL
        return
    plain = InitialKind.MEMORY
    if variable.per_cpu or variable.saved:
        plain = InitialKind.PER_CPU if variable.per_cpu else InitialKind.SAVED
    at = 0
    for key in variable.keys:
        if key > at:
            yield at, key - at, plain
        yield key, KEY_SIZE, InitialKind.KEY
        at = key + KEY_SIZE
    if at < variable.atom.size:
        yield at, variable.atom.size - at, plain
