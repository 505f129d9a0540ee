# SPDX-License-Identifier: GPL-2.0-or-later
"""What an architecture has to say of the fields that relocations fill in, so that a finished module can be checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import NamedTuple


class FieldKind(Enum):
    """What a field of an instruction is."""

    BRANCH = "the displacement of a branch"
    RELATIVE = "the address of memory, relative to the instruction,"
    TAKEN = "an address relative to the instruction that is taken"  # of the next one too: _THIS_IP_
    ADDRESS = "an absolute address"
    INDEXED = "an absolute address to which a register is added"
    SIGNED = "a constant of 32 bits with its sign"
    NARROW = "a constant of 32 bits"
    WIDE = "a constant of 64 bits"
    SHORT = "a field of less than 32 bits"


class InstructionField(NamedTuple):
    """One field: offset in the code and bytes, what it is, the number that it holds, where its instruction begins and
    ends."""

    offset: int
    size: int
    kind: FieldKind
    value: int
    start: int
    end: int


class RelocatedFields(NamedTuple):
    """Which relocations may fill in what.

    fields       every field of the instructions of some code, decoded from its first byte
    types        relocation types that a field of a kind can have; none for one that no relocation fits
    special      the type of a field of a special section, by section and offset in the entry, where it is neither a
                 pointer nor a distance (Arch.pointer_reloc, per_field_pcrel32)
    data         types that may stand in other data
    placeholder  an instruction that stands, least_room times in a row at least, where the kernel is to write an
                 alternative of nothing; compilers fill gaps otherwise
    """

    fields: Callable[[bytes], list[InstructionField]]
    types: Mapping[FieldKind, frozenset[int]]
    special: Mapping[tuple[str, int], int]
    data: frozenset[int]
    placeholder: bytes
    least_room: int
