# SPDX-License-Identifier: GPL-2.0-or-later
"""How relocated fields hold a value: one row for each type of an architecture, as BFD's howto tables have it.

A relocation puts the value S + A (symbol and addend), or that relative to the place P of the field, into some bits of
some bytes. A row says into which, and what is lost on the way. The forms that are known:

    whole bytes           R_X86_64_PC32, R_AARCH64_ABS64, R_390_PLT32: the value as it is
    units of 2 or more    R_390_PC32DBL, R_AARCH64_CALL26 (`shift`): the value must be a multiple of the unit
    pages                 R_AARCH64_ADR_PREL_PG_HI21 (`page`): the distance of the page of S + A from that of P
    low bits              R_AARCH64_ADD_ABS_LO12_NC, R_390_12 (`low`): the rest is in another instruction's field
    bits not in a row     the same ADRP, R_390_20 (`pieces`)

Source of the rules: the psABI of each architecture, bfd/reloc.c (howto) and the module loaders of the kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property
from typing import Protocol

from kgbuild.elf.records import ByteOrder

_ADDRESS = (1 << 64) - 1


class Overflow(Enum):
    """What a value must be to fit (BFD: complain_on_overflow).

    IGNORED   anything: what does not fit is dropped
    SIGNED    a number with sign of the field's bits
    UNSIGNED  one without
    EITHER    one or the other (BFD: bitfield)
    """

    IGNORED = "ignored"
    SIGNED = "signed"
    UNSIGNED = "unsigned"
    EITHER = "either"


class DoesNotFit(ValueError):
    """A value that a relocated field can't hold; the text says why."""


@dataclass(frozen=True)
class Howto:
    """One type of relocation.

    type, name   its number, and its name in the psABI
    size         bytes of the word that holds the field, read in the byte order of the object; 0: there is no field
    pc_relative  whether the value is relative to the place of the field
    overflow     which values fit
    signed       whether the field, read back, is extended by its sign
    shift        by how many bits the value is shifted to the right; the bits shifted out must be zero
    page         bytes of a page (a power of two) where only the pages of value and place count, else 0
    low          how many low bits of the value count, 0: all
    pieces       where bits of the value stand: (lowest bit of the value after the shift, lowest bit of the word, bits).
                 Empty: the whole word
    loadable     whether the kernel's module loader applies it
    """

    type: int
    name: str
    size: int
    pc_relative: bool = False
    overflow: Overflow = Overflow.IGNORED
    signed: bool = True
    shift: int = 0
    page: int = 0
    low: int = 0
    pieces: tuple[tuple[int, int, int], ...] = ()
    loadable: bool = True

    def __post_init__(self) -> None:
        if self.mask >> 8 * self.size:
            raise ValueError(f"{self.name}: a piece of the field lies outside its {self.size} bytes")
        if sum(count for _, _, count in self.parts) != self.mask.bit_count():
            raise ValueError(f"{self.name}: pieces of the field overlap")

    @cached_property
    def parts(self) -> tuple[tuple[int, int, int], ...]:
        """`pieces`, or the whole word as one."""
        return self.pieces or ((0, 0, 8 * self.size),)

    @cached_property
    def mask(self) -> int:
        """The bits of the word that the field is (BFD: dst_mask)."""
        return sum(((1 << count) - 1) << at for _, at, count in self.parts)

    @cached_property
    def bits(self) -> int:
        """How many bits of the value the field holds, from the lowest that is not shifted out."""
        return max((lowest + count for lowest, _, count in self.parts), default=0)

    @cached_property
    def is_whole(self) -> bool:
        """Whether the field is all bits of its bytes, in their order."""
        return self.parts == ((0, 0, 8 * self.size),)

    @cached_property
    def is_plain(self) -> bool:
        """Whether the field is the value itself, or as many of its low bytes as it has."""
        return self.is_whole and not (self.shift or self.page or self.low)

    def extract(self, raw: bytes, place: int, order: ByteOrder) -> int:
        """The address S + A (modulo 2**64) that a field means, as far as it says: of a page its start, of a low part
        these bits.

        Input: the word's bytes in an object of this byte order, and the address of the field. Raises ValueError where
        the bytes are not as many as the word has.
        """
        if len(raw) != self.size:
            raise ValueError(f"{self.name}: {len(raw)} bytes instead of {self.size}")
        if self.is_plain:
            value = int.from_bytes(raw, order, signed=self.signed)
            return (value + place if self.pc_relative else value) & _ADDRESS
        word, value = int.from_bytes(raw, order), 0
        for lowest, at, count in self.parts:
            value |= (word >> at & (1 << count) - 1) << lowest
        if self.signed and value >> self.bits - 1:
            value -= 1 << self.bits
        value <<= self.shift
        if self.pc_relative:
            value += place & -self.page if self.page else place
        return value & _ADDRESS

    def insert(self, raw: bytes, value: int, place: int, order: ByteOrder, *, checked: bool = True) -> bytes:
        """The word's bytes with the field filled so that it means the address `value` (S + A, modulo 2**64).

        All other bits of the word stay. Raises DoesNotFit where the field can't say that address; where that is not
        `checked`, what does not fit is dropped.
        """
        if len(raw) != self.size:
            raise ValueError(f"{self.name}: {len(raw)} bytes instead of {self.size}")
        wanted = self._wanted(value & _ADDRESS, place, checked)
        word = int.from_bytes(raw, order) & ~self.mask
        for lowest, at, count in self.parts:
            word |= (wanted >> lowest & (1 << count) - 1) << at
        return word.to_bytes(self.size, order)

    def _wanted(self, value: int, place: int, checked: bool) -> int:
        """The number to store, with its sign."""
        if self.page:
            value &= -self.page
            place &= -self.page
        if self.pc_relative:
            value -= place
        if self.low:
            value &= (1 << self.low) - 1
        elif self.overflow is not Overflow.UNSIGNED or self.pc_relative:
            # an address of the upper half is a negative number
            value = (value + (1 << 63) & _ADDRESS) - (1 << 63)
        lost = value & (1 << self.shift) - 1
        if lost and checked:
            raise DoesNotFit(f"{self.name}: {value:#x} is no multiple of {1 << self.shift}")
        value >>= self.shift
        if checked and not self._fits(value):
            raise DoesNotFit(f"{self.name}: {value << self.shift:#x} does not fit {self.bits} bits")
        return value

    def _fits(self, value: int) -> bool:
        if self.overflow is Overflow.IGNORED or self.bits >= 64:
            return True
        signed = -1 << self.bits - 1 <= value < 1 << self.bits - 1
        unsigned = 0 <= value < 1 << self.bits
        return {Overflow.SIGNED: signed, Overflow.UNSIGNED: unsigned}.get(self.overflow, signed or unsigned)

    def clear(self, raw: bytes, order: ByteOrder) -> bytes:
        """The word's bytes with the field zero; all other bits stay."""
        if self.is_whole:
            return bytes(len(raw))
        return (int.from_bytes(raw, order) & ~self.mask).to_bytes(len(raw), order)


class Field(Protocol):
    """A relocated field of some bytes: its offset, its type, and how many bytes it has there (of a short branch that
    the assembler has resolved fewer than its type says)."""

    @property
    def offset(self) -> int: ...
    @property
    def type(self) -> int: ...
    @property
    def size(self) -> int: ...


@dataclass(frozen=True)
class Howtos(Mapping[int, Howto]):
    """The relocation types of an architecture, by number. What is asked for often is there as plain tables:

    sizes        bytes by type; names: name by type
    pc_relative  types relative to the place; loadable: those that the module loader applies
    none         the type that says nothing
    partial      types whose field is not all bits of its bytes; plain: those whose field is the value itself
    """

    rows: tuple[Howto, ...]
    none: int = 0
    _of: dict[int, Howto] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._of.update((row.type, row) for row in self.rows)
        if len(self._of) != len(self.rows) or self.none not in self._of:
            raise ValueError("a relocation type has two rows, or the type that says nothing has none")

    def __getitem__(self, kind: int) -> Howto:
        return self._of[kind]

    def __iter__(self) -> Iterator[int]:
        return iter(self._of)

    def __len__(self) -> int:
        return len(self._of)

    def __contains__(self, kind: object) -> bool:
        return kind in self._of

    def _types(self, holds: Callable[[Howto], bool]) -> frozenset[int]:
        return frozenset(row.type for row in self.rows if holds(row))

    @cached_property
    def sizes(self) -> dict[int, int]:
        return {row.type: row.size for row in self.rows}

    @cached_property
    def names(self) -> dict[int, str]:
        return {row.type: row.name for row in self.rows}

    @cached_property
    def pc_relative(self) -> frozenset[int]:
        return self._types(lambda row: row.pc_relative)

    @cached_property
    def loadable(self) -> frozenset[int]:
        return self._types(lambda row: row.loadable)

    @cached_property
    def partial(self) -> frozenset[int]:
        return self._types(lambda row: not row.is_whole)

    @cached_property
    def plain(self) -> frozenset[int]:
        return self._types(lambda row: row.is_plain)

    @cached_property
    def _narrow(self) -> dict[tuple[int, int], Howto]:
        return {}

    def in_bytes(self, kind: int, size: int) -> Howto:
        """The row of a type, for a field of `size` bytes: a branch that the assembler resolves may be shorter than the
        relocation of its type. Raises KeyError for a type without a row."""
        row = self._of[kind]
        if size == row.size:
            return row
        found = self._narrow.get((kind, size))
        if found is None:
            found = self._narrow[kind, size] = replace(row, size=size)
        return found

    def clear(self, raw: bytearray, fields: Iterable[Field], order: ByteOrder, base: int = 0) -> None:
        """Zero the relocated fields of some bytes, and no other bits. `base` is the offset that the bytes begin at."""
        partial = self.partial
        for f in fields:
            start, size = f.offset - base, f.size
            if partial and f.type in partial:
                raw[start : start + size] = self._of[f.type].clear(bytes(raw[start : start + size]), order)
            else:
                raw[start : start + size] = bytes(size)
