# SPDX-License-Identifier: GPL-2.0-or-later
"""A loadable module's .ko as a place to look things up, as KernelImage is for vmlinux.

A .ko is relocatable. Its sections are laid out here at addresses of our own, and its relocations applied: to those
addresses for what it defines, and to one made-up address per name for what it leaves undefined. Parity then reads it
as it reads vmlinux. The addresses mean nothing outside of this.

The kernel counts a module's positions in the order of the symbol table, and it does so over the whole table while the
module loads and over the part that outlives its init code later; a position is only given where both agree.
"""

from __future__ import annotations

from functools import cached_property

from kgbuild.arch import for_object
from kgbuild.elf.consts import ET, SHN, SHT, STT
from kgbuild.elf.modinfo import modules_needed, parse_modinfo
from kgbuild.elf.notes import find_build_id
from kgbuild.elf.object import Object, Symbol
from kgbuild.elf.read import FormatError
from kgbuild.kernel.vmlinux_image import KernelImage

BASE = 0xFFFF_FFFF_C000_0000
UNDEFINED_BASE = 0xFFFF_FFFF_E000_0000
UNDEFINED_STEP = 0x1_0000
MASK = 0xFFFF_FFFF_FFFF_FFFF
ANCHOR_SECTION, BUILD_ID_SECTION = ".note.Linux", ".note.gnu.build-id"


class ModuleImage(KernelImage):
    """Lookups over one module. `name` is the module's (with underscores); `depends` the modules it needs by modinfo."""

    def __init__(self, obj: Object, name: str) -> None:
        if obj.type != ET.REL:  # of other files, nobody has checked the relocations
            raise FormatError(16, "not a relocatable file, as every module is")
        super().__init__(obj)
        self.name = name

    @cached_property
    def _address_of(self) -> dict[int, int]:
        """Our address of each allocated section, by section index."""
        out, at = {}, BASE
        for s in self.obj.sections:
            if s.alloc and s.type in (SHT.PROGBITS, SHT.NOBITS, SHT.NOTE):
                align = max(s.align, 16)
                at = (at + align - 1) // align * align
                out[s.index] = at
                at += s.size + 16
        return out

    @cached_property
    def _undefined(self) -> dict[str, int]:
        """Our address of each undefined symbol."""
        names = sorted({s.name for s in self.obj.iter_symbols() if s.shndx == SHN.UNDEF and s.name})
        return {name: UNDEFINED_BASE + i * UNDEFINED_STEP for i, name in enumerate(names)}

    def symbol_at(self, index: int) -> Symbol:
        symbol = self.obj.symbol(index)
        if symbol.shndx in self._address_of:
            return symbol._replace(value=symbol.value + self._address_of[symbol.shndx])
        return symbol

    @cached_property
    def _contents(self) -> dict[int, bytes]:
        """Bytes of each section with its relocations applied, by index."""
        relocs, order = for_object(self.obj).relocs, self.obj.order
        sizes, relative, plain = relocs.sizes, relocs.pc_relative, relocs.plain
        values = [0] * len(self.obj.columns.name)
        for symbol in self.obj.iter_symbols():
            if symbol.shndx == SHN.UNDEF:
                values[symbol.index] = self._undefined.get(symbol.name, 0)
            elif symbol.shndx in self._address_of:
                values[symbol.index] = symbol.value + self._address_of[symbol.shndx]
            else:
                values[symbol.index] = symbol.value
        out = {}
        for index, address in self._address_of.items():
            section = self.obj.sections[index]
            if section.type == SHT.NOBITS:
                out[index] = bytes(section.size)
                continue
            data = bytearray(self.obj.contents(index))
            for offset, kind, sym, addend in self.obj.reloc_rows(index):
                size = sizes.get(kind, 0)
                value = values[sym] + addend
                if kind in plain:
                    value -= address + offset if kind in relative else 0
                    data[offset : offset + size] = (value & ((1 << 8 * size) - 1)).to_bytes(size, order)
                elif size and offset + size <= len(data):
                    raw = bytes(data[offset : offset + size])
                    data[offset : offset + size] = relocs[kind].insert(
                        raw, value, address + offset, order, checked=False
                    )
            out[index] = bytes(data)
        return out

    def symbol_address_of(self, section_index: int) -> int:
        return self._address_of[section_index]

    def _section_of(self, address: int) -> int | None:
        for index, start in self._address_of.items():
            if start <= address < start + max(self.obj.sections[index].size, 1):
                return index
        return None

    def section_at(self, address: int) -> str:
        index = self._section_of(address)
        return self.obj.sections[index].name if index is not None else ""

    def read(self, address: int, size: int) -> bytes | None:
        index = self._section_of(address)
        if index is None:
            return None
        start = address - self._address_of[index]
        return self._contents[index][start : start + size] if start + size <= self.obj.sections[index].size else None

    def _room(self, address: int) -> int:
        index = self._section_of(address)
        return self._address_of[index] + self.obj.sections[index].size - address if index is not None else 0

    def is_init(self, address: int) -> bool:
        return self.section_at(address).startswith(".init")

    def in_kallsyms(self, symbol: Symbol) -> bool:
        return symbol.shndx in self._address_of and bool(symbol.name) and symbol.type not in (STT.FILE, STT.SECTION)

    def sympos(self, name: str, address: int) -> int | None:
        listed = sorted((s for s in self.named(name) if self.in_kallsyms(s)), key=lambda s: s.index)
        core = [s for s in listed if not self.is_init(s.value)]

        def position(symbols: list[Symbol]) -> int | None:
            places = [s.value for s in symbols]
            if address not in places:
                return None
            return 0 if len(places) == 1 else places.index(address) + 1

        return position(listed) if position(listed) == position(core) else None

    def is_global(self, name: str, address: int) -> bool:
        return self._undefined.get(name) == address or super().is_global(name, address)

    @cached_property
    def _names_at(self) -> dict[int, list[int]]:
        out: dict[int, list[int]] = {}
        for index in range(1, len(self.obj.columns.name)):
            symbol = self.symbol_at(index)
            if symbol.type == STT.FUNC and symbol.shndx in self._address_of:
                out.setdefault(symbol.value, []).append(index)
        return out

    @cached_property
    def modinfo(self) -> dict[str, str]:
        """The module's own description: name, depends, vermagic; the first of each key."""
        section = self.obj.section_named(".modinfo")
        return parse_modinfo(self.obj.contents(section.index)) if section is not None else {}

    @cached_property
    def depends(self) -> tuple[str, ...]:
        """Modules this one needs, with underscores."""
        return modules_needed(self.modinfo)

    @cached_property
    def build_id(self) -> str:
        section = self.obj.section_named(BUILD_ID_SECTION)
        return find_build_id(bytes(self.obj.contents(section.index)), self.obj.records) if section is not None else ""

    @cached_property
    def note_anchor(self) -> tuple[str, int] | None:
        """A symbol of the loaded module and the distance (bytes) from it to the build-id, or None where unknown.

        The build-id note has no symbol. The notes of modpost's .mod.c have (`_note_9`), and the loader places
        read-only sections in the order of their headers (kernel/module: layout_sections), so the distance is that of
        two neighbours.
        """
        note, anchor = self.obj.section_named(BUILD_ID_SECTION), self.obj.section_named(ANCHOR_SECTION)
        if note is None or anchor is None or not self.build_id:
            return None
        between = [s for s in self.obj.sections if note.index < s.index < anchor.index and s.alloc and not s.executable]
        if between or note.index > anchor.index or note.flags != anchor.flags:
            return None
        found = [
            s
            for s in self.obj.iter_symbols()
            if s.shndx == anchor.index and s.name and self.sympos(s.name, self.symbol_at(s.index).value) == 0
        ]
        if not found:
            return None
        symbol = min(found, key=lambda s: (s.value, s.name))
        # the note's header and name take 16 bytes; anything else is not the note that ld writes
        if note.size != 16 + len(self.build_id) // 2:
            return None
        padded = (note.size + max(anchor.align, 1) - 1) // max(anchor.align, 1) * max(anchor.align, 1)
        return symbol.name, 16 - padded - symbol.value
