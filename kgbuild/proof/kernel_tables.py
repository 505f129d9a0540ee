# SPDX-License-Identifier: GPL-2.0-or-later
"""A special section of the kernel as a table that is asked by address."""

from __future__ import annotations

from kgbuild.arch.base import Arch
from kgbuild.objects.atoms import Ref


class KernelTable:
    """One special section of the kernel, its entries found by the address they belong to. `address`, `data`: the
    section's; `size`: of an entry; `owner`: offset in an entry of the field that says what it belongs to; `ref`: such a
    field of the object's own table."""

    def __init__(self, address: int, data: bytes, size: int, owner: int, ref: Ref, arch: Arch) -> None:
        import numpy as np  # takes longer to import than comparing two objects does

        self.address, self.data = address, data
        count = (len(data) + size - 1) // size
        rows = np.frombuffer(data.ljust(count * size, b"\0"), "u1").reshape(count, size)
        places = np.arange(count, dtype=np.int64) * size
        field = np.ascontiguousarray(rows[:, owner : owner + ref.size])
        howto, byte_order = arch.relocs[ref.type], arch.order
        if howto.is_plain:
            form = f"{'i' if howto.signed else 'u'}{ref.size}"
            owners = field.view(np.dtype(form).newbyteorder(byte_order)).ravel().astype(np.int64).astype(np.uint64)
            if howto.pc_relative:
                owners = owners + places.astype(np.uint64) + np.uint64(address + owner)
        else:
            meant = [
                howto.extract(bytes(f), address + owner + int(p), byte_order)
                for f, p in zip(field, places, strict=True)
            ]
            owners = np.array(meant, np.uint64)
        by_owner = np.argsort(owners, kind="stable")
        self.owners, self.places = owners[by_owner], places[by_owner]

    def between(self, start: int, end: int) -> list[int]:
        """Places in the table of the entries that belong to code in [start, end), by address."""
        return [place for _, place in self.owned(start, end)]

    def owned(self, start: int, end: int) -> list[tuple[int, int]]:
        """(address that an entry belongs to, its place in the table), for code in [start, end), by address."""
        import numpy as np

        first, last = np.searchsorted(self.owners, np.array([start, end], np.uint64))
        return [(int(self.owners[i]), int(self.places[i])) for i in range(first, last)]
