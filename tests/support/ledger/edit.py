# SPDX-License-Identifier: GPL-2.0-or-later
"""Small random edits of relocatable objects: a byte, a relocation, a symbol, an order, an alignment.

An edit is made in the file's bytes, with nothing of kgbuild but the ELF reader to find places. It changes what the
object means: bytes that a relocation overwrites, and what no one reads (debugging information, padding of the file)
are left alone.
"""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Callable
from typing import NamedTuple

from kgbuild.elf.consts import SHT, STT
from kgbuild.elf.object import Section
from kgbuild.elf.read import read

SYMBOL, RELA, HEADER = 24, 24, 64
WIDTH = {0: 0, 1: 8, 2: 4, 4: 4, 10: 4, 11: 4, 24: 8}
# read by nobody, or made anew from the rest
ASIDE = (
    ".debug",
    ".comment",
    ".note",
    ".eh_frame",
    ".BTF",
    ".symtab",
    ".strtab",
    ".shstrtab",
    ".llvm_addrsig",
    ".rela",
)


class Edit(NamedTuple):
    """What was done: its kind, the section, and where; and the file with it."""

    kind: str
    section: str
    place: str
    data: bytes


class Editor:
    """Edits of one object."""

    def __init__(self, data: bytes) -> None:
        self.data, self.obj = data, read(data)
        self.table = int.from_bytes(data[40:48], "little")
        self.loaded = [
            s
            for s in self.obj.sections
            if s.size and s.name and not s.name.startswith(ASIDE) and s.type in (SHT.PROGBITS, SHT.NOTE, SHT.NOBITS)
        ]
        symtab = self.obj.sections[self.obj.symtab_index]
        self.symtab = symtab.offset
        self.named = [
            s
            for s in self.obj.iter_symbols()
            if s.type not in (STT.SECTION, STT.FILE)
            and 0 < s.shndx < 0xFF00
            and s.name
            and not s.name.startswith(".L")
            and self.obj.sections[s.shndx] in self.loaded
            # what the linker drops has no symbols later, and those of .modinfo are nobody's
            and not self.obj.sections[s.shndx].name.startswith((".discard", ".modinfo"))
        ]
        self.kinds: dict[str, Callable[[random.Random], Edit | None]] = {
            "byte": self.byte,
            "target": self.target,
            "addend": self.addend,
            "entry": self.entry,
            "rename": self.rename,
            "bind": self.bind,
            "size": self.size,
            "move": self.move,
            "alignment": self.alignment,
            "flags": self.flags,
            "swap": self.swap,
        }

    def edit(self, chance: random.Random) -> Edit | None:
        """One edit, or None where this kind found nothing to change."""
        return self.kinds[chance.choice(list(self.kinds))](chance)

    def _with(self, kind: str, section: str, place: str, at: int, new: bytes) -> Edit | None:
        if self.data[at : at + len(new)] == new:
            return None
        return Edit(kind, section, place, self.data[:at] + new + self.data[at + len(new) :])

    def _some(self, chance: random.Random) -> Section:
        """A section; each name of a kind as often as another."""
        kinds: dict[str, list[Section]] = {}
        for s in self.loaded:
            kinds.setdefault(s.name if s.name[:2] == "__" else ".".join(s.name.split(".")[:2]), []).append(s)
        return chance.choice(kinds[chance.choice(list(kinds))])

    def _fills(self, section: Section, at: int) -> bool:
        """Whether a place is in the room between functions."""
        within = (s.value <= at < s.value + s.size for s in self.named if s.shndx == section.index)
        return section.executable and not section.name.startswith(".altinstr") and not any(within)

    def _loaded(self, chance: random.Random) -> Section:
        """One that the kernel or a module has; what the linker drops is laid out nowhere."""
        while True:
            section = self._some(chance)
            if not section.name.startswith(".discard"):
                return section

    def _covered(self, section: Section, at: int) -> bool:
        return any(row[0] <= at < row[0] + WIDTH[row[1]] for row in self.obj.reloc_rows(section.index))

    def byte(self, chance: random.Random) -> Edit | None:
        section = self._some(chance)
        at = chance.randrange(section.size)
        if section.type == SHT.NOBITS or self._covered(section, at) or self._fills(section, at):
            return None
        place = section.offset + at
        if section.strings and not any(self.data[place - 1 : place + 1]) and at:
            return None  # between strings that are aligned
        value = self.data[place] ^ (1 << chance.randrange(8))
        return self._with("byte", section.name, f"+{at:#x}", place, bytes([value]))

    def _row(self, chance: random.Random) -> tuple[Section, int] | None:
        section = self._some(chance)
        rela = self.obj.rela_of.get(section.index)
        if rela is None:
            return None
        table = self.obj.sections[rela]
        at = table.offset + RELA * chance.randrange(table.size // RELA)
        return None if struct.unpack_from("<I", self.data, at + 8)[0] == 0 else (section, at)

    def target(self, chance: random.Random) -> Edit | None:
        """A relocation to another symbol of the same kind."""
        found = self._row(chance)
        if found is None:
            return None
        section, at = found
        (number,) = struct.unpack_from("<I", self.data, at + 12)
        was = self.obj.symbol(number)
        # of a folded body, or of one place, is the same thing
        others = [
            s.index
            for s in self.obj.iter_symbols()
            if s.type == was.type and (s.shndx, s.value) != (was.shndx, was.value) and bool(s.shndx) == bool(was.shndx)
        ]
        if not others or was.type == STT.SECTION:
            return None
        return self._with("target", section.name, was.name, at + 12, struct.pack("<I", chance.choice(others)))

    def addend(self, chance: random.Random) -> Edit | None:
        found = self._row(chance)
        if found is None:
            return None
        section, at = found
        (addend,) = struct.unpack_from("<q", self.data, at + 16)
        return self._with("addend", section.name, f"{addend}", at + 16, struct.pack("<q", addend + 1))

    def entry(self, chance: random.Random) -> Edit | None:
        """A relocation taken away: what the field means is gone."""
        found = self._row(chance)
        if found is None:
            return None
        section, at = found
        return self._with("entry", section.name, "", at + 8, struct.pack("<I", 0))

    def rename(self, chance: random.Random) -> Edit | None:
        """A symbol goes, and another comes: its name begins one letter later."""
        s = chance.choice(self.named)
        if len(s.name) < 3:
            return None
        at = self.symtab + SYMBOL * s.index
        (name,) = struct.unpack_from("<I", self.data, at)
        return self._with("rename", self.obj.sections[s.shndx].name, s.name, at, struct.pack("<I", name + 1))

    def bind(self, chance: random.Random) -> Edit | None:
        s = chance.choice([x for x in self.named if x.bind] or self.named)
        info = (3 - s.bind) << 4 | s.type if s.bind else s.type
        at = self.symtab + SYMBOL * s.index + 4
        return self._with("bind", self.obj.sections[s.shndx].name, s.name, at, bytes([info]))

    def size(self, chance: random.Random) -> Edit | None:
        s = chance.choice(self.named)
        if s.size < 2:
            return None
        at = self.symtab + SYMBOL * s.index + 16
        return self._with("size", self.obj.sections[s.shndx].name, s.name, at, struct.pack("<Q", s.size - 1))

    def move(self, chance: random.Random) -> Edit | None:
        """A symbol lies elsewhere in its section."""
        s = chance.choice(self.named)
        section = self.obj.sections[s.shndx]
        if section.size < s.size + 2:
            return None
        at = self.symtab + SYMBOL * s.index + 8
        value = chance.randrange(section.size - s.size)
        return self._with("move", section.name, s.name, at, struct.pack("<Q", value))

    def alignment(self, chance: random.Random) -> Edit | None:
        section = self._loaded(chance)
        at = self.table + HEADER * section.index + 48
        return self._with("alignment", section.name, "", at, struct.pack("<Q", max(section.align, 1) * 2))

    def flags(self, chance: random.Random) -> Edit | None:
        """A section that can be written, or no longer."""
        section = self._loaded(chance)
        at = self.table + HEADER * section.index + 8
        return self._with("flags", section.name, "", at, struct.pack("<Q", section.flags ^ 1))

    def swap(self, chance: random.Random) -> Edit | None:
        """Two symbols of one section in each other's place."""
        of: dict[int, list[int]] = {}
        for s in self.named:
            of.setdefault(s.shndx, []).append(s.index)
        some = [g for g in of.values() if len(g) > 1]
        if not some:
            return None
        a, b = chance.sample(chance.choice(some), 2)
        x, y = (self.symtab + SYMBOL * i + 8 for i in (a, b))
        first, second = self.obj.symbol(a), self.obj.symbol(b)
        if first.value == second.value or _plain(first.name) == _plain(second.name):
            return None
        out = bytearray(self.data)
        out[x : x + 8], out[y : y + 8] = self.data[y : y + 8], self.data[x : x + 8]
        return Edit("swap", self.obj.sections[first.shndx].name, f"{first.name} {second.name}", bytes(out))


def _plain(name: str) -> str:
    return re.sub(r"\d+", "", name)
