# SPDX-License-Identifier: GPL-2.0-or-later
"""Breaking relocatable objects with knowledge of what they are made of.

Bytes flipped anywhere mostly hit code or padding. Here whole fields of the ELF header, of section headers, symbols and
relocations are set to values that are likely to be mistaken, tables are pointed at each other, and the contents of one
section are broken or exchanged for another's; besides, files are cut, and bytes flipped anywhere. Nothing of kgbuild is
used: what reads wrongly would also break wrongly.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
SHDR = struct.Struct("<IIQQQQIIQQ")
# (offset, width) of each field
EHDR_FIELDS = (
    (4, 1),
    (5, 1),
    (6, 1),
    (16, 2),
    (18, 2),
    (20, 4),
    (32, 8),
    (40, 8),
    (48, 4),
    (52, 2),
    (58, 2),
    (60, 2),
    (62, 2),
)
SHDR_FIELDS = ((0, 4), (4, 4), (8, 8), (16, 8), (24, 8), (32, 8), (40, 4), (44, 4), (48, 8), (56, 8))
SYM_FIELDS = ((0, 4), (4, 1), (5, 1), (6, 2), (8, 8), (16, 8))
RELA_FIELDS = ((0, 8), (8, 4), (12, 4), (16, 8))
SYMTAB, STRTAB, RELA, NOBITS = 2, 3, 4, 8
SPECIAL = (
    0,
    1,
    2,
    3,
    4,
    8,
    0x7F,
    0x80,
    0xFF,
    0xFF00,
    0xFFF1,
    0xFFF2,
    0xFFFF,
    1 << 16,
    1 << 24,
    1 << 27,
    1 << 28,
    (1 << 31) - 1,
    1 << 31,
)
SPECIAL += ((1 << 32) - 1, 1 << 32, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 8, (1 << 64) - 1)


class Breaker:
    """One intact object, and ways to break copies of it. The same `rng` state gives the same copy."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        header = EHDR.unpack_from(data)
        self.shoff, self.count = header[6], header[12]
        self.headers = [SHDR.unpack_from(data, self.shoff + i * SHDR.size) for i in range(self.count)]
        self.symtab = next((i for i, h in enumerate(self.headers) if h[1] == SYMTAB), 0)
        self.relas = [i for i, h in enumerate(self.headers) if h[1] == RELA and h[5]]
        self.full = [i for i, h in enumerate(self.headers) if h[1] not in (0, NOBITS) and h[5]]
        names = data[self.headers[header[13]][4] :]
        self.names = [names[h[0] : names.index(b"\0", h[0])].decode() for h in self.headers]
        self.debug = [i for i in self.full if self.names[i].startswith((".debug", ".BTF"))]
        self.ways: list[Callable[[bytearray, random.Random], None]] = [
            self._header,
            self._section,
            self._section,
            self._section,
            self._symbol,
            self._symbol,
            self._symbol,
            self._relocation,
            self._relocation,
            self._relocation,
            self._contents,
            self._contents,
            self._exchange,
            self._rows,
            self._flip,
            self._cut,
        ]
        if self.debug:
            self.ways += [self._debug] * 16

    def broken(self, rng: random.Random) -> bytes:
        """A copy with one fault or a few."""
        out = bytearray(self.data)
        for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
            rng.choice(self.ways)(out, rng)
        return bytes(out)

    # -- values ----------------------------------------------------------------------------------------------------

    def _value(self, rng: random.Random, old: int) -> int:
        kind = rng.randrange(6)
        if kind == 0:
            return rng.choice(SPECIAL)
        if kind == 1:
            return old + rng.choice((-24, -8, -4, -1, 1, 4, 8, 24))
        if kind == 2:
            return old ^ (1 << rng.randrange(64))
        if kind == 3:
            return rng.randrange(self.count + 1)
        if kind == 4:
            return rng.choice(rng.choice(self.headers))
        return rng.choice((len(self.data), len(self.data) - 1, rng.randrange(len(self.data)), rng.getrandbits(16)))

    def _set(self, out: bytearray, rng: random.Random, base: int, fields: tuple[tuple[int, int], ...]) -> None:
        at, width = rng.choice(fields)
        at += base
        if at + width <= len(out):
            old = int.from_bytes(out[at : at + width], "little")
            value = self._value(rng, old) & ((1 << 8 * width) - 1)
            out[at : at + width] = value.to_bytes(width, "little")

    # -- ways --------------------------------------------------------------------------------------------------------

    def _header(self, out: bytearray, rng: random.Random) -> None:
        self._set(out, rng, 0, EHDR_FIELDS)

    def _section(self, out: bytearray, rng: random.Random) -> None:
        self._set(out, rng, self.shoff + SHDR.size * rng.randrange(self.count), SHDR_FIELDS)

    def _symbol(self, out: bytearray, rng: random.Random) -> None:
        table = self.headers[self.symtab]
        self._set(out, rng, table[4] + 24 * rng.randrange(max(table[5] // 24, 1)), SYM_FIELDS)

    def _relocation(self, out: bytearray, rng: random.Random) -> None:
        if self.relas:
            table = self.headers[rng.choice(self.relas)]
            self._set(out, rng, table[4] + 24 * rng.randrange(table[5] // 24), RELA_FIELDS)

    def _contents(self, out: bytearray, rng: random.Random) -> None:
        self._break_bytes(out, rng, rng.choice(self.full))

    def _debug(self, out: bytearray, rng: random.Random) -> None:
        self._break_bytes(out, rng, rng.choice(self.debug))

    def _break_bytes(self, out: bytearray, rng: random.Random, index: int) -> None:
        section = self.headers[index]
        for _ in range(rng.choice((1, 1, 2, 8))):
            at = section[4] + rng.randrange(section[5])
            if at < len(out):
                out[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, out[at] ^ (1 << rng.randrange(8)), rng.randrange(256)))

    def _exchange(self, out: bytearray, rng: random.Random) -> None:
        """Place, size, type, flags, link or info of one section for those of another: overlaps, cyclic links."""
        a, b = (self.shoff + SHDR.size * rng.randrange(self.count) for _ in range(2))
        at, width = rng.choice((*SHDR_FIELDS, (24, 16), (40, 8), (0, 64)))
        if max(a, b) + SHDR.size <= len(out):
            mine, theirs = out[a + at : a + at + width], out[b + at : b + at + width]
            out[a + at : a + at + width] = theirs
            if rng.random() < 0.5:
                out[b + at : b + at + width] = mine

    def _rows(self, out: bytearray, rng: random.Random) -> None:
        """A row of the symbol table or of relocations for another one."""
        table = self.headers[rng.choice([self.symtab, *self.relas])]
        a, b = (table[4] + 24 * rng.randrange(max(table[5] // 24, 1)) for _ in range(2))
        if max(a, b) + 24 <= len(out):
            out[a : a + 24], out[b : b + 24] = out[b : b + 24], out[a : a + 24]

    def _flip(self, out: bytearray, rng: random.Random) -> None:
        if out:
            out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)

    def _cut(self, out: bytearray, rng: random.Random) -> None:
        """The file's end is gone, or a piece in the middle is, or is there twice."""
        kind, at = rng.randrange(4), rng.randrange(len(out) + 1)
        if kind == 0:
            del out[at:]
        elif kind == 1:
            del out[at : at + rng.choice((1, 4, 8, 24, 64))]
        elif kind == 2:
            out[at:at] = out[at : at + rng.choice((1, 4, 8, 24, 64))]
        else:
            out.extend(bytes(rng.randrange(64)))
