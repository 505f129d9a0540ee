# SPDX-License-Identifier: GPL-2.0-or-later
"""The sections of an ELF file alone: all that a question needs which looks into one or two of them, and not into the
hundred thousand symbols of a vmlinux."""

from __future__ import annotations

from dataclasses import dataclass

from kgbuild.elf.consts import SHT
from kgbuild.elf.object import Section
from kgbuild.elf.read import read_headers
from kgbuild.elf.records import Records


@dataclass(frozen=True, eq=False)
class Sections:
    """A file's sections in table order, the whole file, and how its records look."""

    data: memoryview
    sections: tuple[Section, ...]
    records: Records

    def contents(self, index: int) -> memoryview:
        """Bytes of section `index` (empty for NOBITS)."""
        section = self.sections[index]
        if section.type == SHT.NOBITS:
            return memoryview(b"")
        return self.data[section.offset : section.offset + section.size]

    def section_named(self, name: str) -> Section | None:
        """The first section of that name, or None."""
        return next((s for s in self.sections if s.name == name), None)


def read_sections(data: bytes | memoryview) -> Sections:
    """The sections of an ELF64 buffer. Raises FormatError."""
    view, records, _, _, sections, _ = read_headers(data)
    return Sections(view, tuple(sections), records)
