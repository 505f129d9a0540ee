# SPDX-License-Identifier: GPL-2.0-or-later
"""How large the entries of a special section are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from kgbuild.arch.base import SpecialSection
from kgbuild.elf.object import Object


class _SizedObject(Protocol):
    """An object, and the sizes of structures by name, as far as its debugging information has them."""

    obj: Object

    @property
    def struct_sizes(self) -> Mapping[str, int]: ...


def entry_size(table: _SizedObject, section_index: int, spec: SpecialSection) -> int | None:
    """The size of a special section's entries, or None where it can't be told.

    Of the sizes that are known for the section, the one with which every entry has the relocations it needs in their
    places. Where several fit, the one with which no relocation is left over, then what the object's DWARF says.
    """
    section = table.obj.sections[section_index]
    offsets = {row[0] for row in table.obj.reloc_rows(section_index)}
    fitting = []
    for size, needed in spec.sizes.items():
        rest = section.size % size
        if rest and not (spec.last and rest >= spec.last):
            continue
        if all(i + n in offsets for i in range(0, section.size, size) for n in needed):
            fitting.append(size)
    whole = [size for size in fitting if section.size // size * len(spec.sizes[size]) == len(offsets)]
    if len(whole) == 1:
        return whole[0]
    if len(fitting) > 1 and spec.struct:
        said = table.struct_sizes.get(spec.struct)
        if said is not None:
            return said if said in fitting else None
    return fitting[0] if len(fitting) == 1 else None
