# SPDX-License-Identifier: GPL-2.0-or-later
"""A special section of the kernel as a table that is asked by address."""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence

from kgbuild.arch.base import Arch
from kgbuild.objects.atoms import Ref

_ADDRESS = (1 << 64) - 1
# Signed number of so many bytes, as array calls it. An import of numpy takes longer than to read these tables.
_FORMS = {array(form).itemsize: form for form in "bhiq"}


class KernelTable:
    """One special section of the kernel, its entries found by the address they belong to. `address`, `data`: the
    section's; `size`: of an entry; `owner`: offset in an entry of the field that says what it belongs to; `ref`: such a
    field of the object's own table."""

    def __init__(self, address: int, data: bytes, size: int, owner: int, ref: Ref, arch: Arch) -> None:
        self.address, self.data = address, data
        places = range(0, len(data), size)
        howto = arch.relocs[ref.type]
        if howto.is_plain:
            values = _column(data, size, owner, ref.size, arch, howto.signed)
            if howto.pc_relative:
                base = address + owner
                owners = [(value + base + place) & _ADDRESS for value, place in zip(values, places, strict=True)]
            else:
                owners = [value & _ADDRESS for value in values]
        else:
            owners = [
                howto.extract(field, address + owner + place, arch.order)
                for field, place in zip(_fields(data, size, owner, ref.size), places, strict=True)
            ]
        # tables are mostly in order as they are, which sorting makes use of
        rows = sorted(range(len(owners)), key=owners.__getitem__)
        self.owners, self.places = [owners[row] for row in rows], [places[row] for row in rows]

    def between(self, start: int, end: int) -> list[int]:
        """Places in the table of the entries that belong to code in [start, end), by address."""
        return [place for _, place in self.owned(start, end)]

    def owned(self, start: int, end: int) -> list[tuple[int, int]]:
        """(address that an entry belongs to, its place in the table), for code in [start, end), by address."""
        first, last = bisect_left(self.owners, start), bisect_left(self.owners, end)
        return list(zip(self.owners[first:last], self.places[first:last], strict=True))


def _fields(data: bytes, size: int, offset: int, width: int) -> Iterator[bytes]:
    """The field of each entry; a last one that is cut off is filled with zeros."""
    return (data[at + offset : at + offset + width].ljust(width, b"\0") for at in range(0, len(data), size))


def _column(data: bytes, size: int, offset: int, width: int, arch: Arch, signed: bool) -> Sequence[int]:
    """The numbers that the field of each entry is."""
    if offset % width or size % width or len(data) % size:
        return [int.from_bytes(field, arch.order, signed=signed) for field in _fields(data, size, offset, width)]
    form = _FORMS[width] if signed else _FORMS[width].upper()
    values = array(form, data)
    if arch.order != sys.byteorder:
        values.byteswap()
    return values[offset // width :: size // width]
