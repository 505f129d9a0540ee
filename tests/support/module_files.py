# SPDX-License-Identifier: GPL-2.0-or-later
"""Files of modules as small as they can be."""

from __future__ import annotations

import struct


def modinfo_object(**pairs: str) -> bytes:
    """The least ELF file that has a .modinfo section."""
    info = b"".join(f"{key}={value}".encode() + b"\0" for key, value in pairs.items())
    names = b"\0.modinfo\0.shstrtab\0"
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 1, 62, 1, 0, 0, 64, 0, 64, 0, 0, 64, 3, 2)
    body = 64 + 3 * 64

    def section(name: int, kind: int, offset: int, size: int) -> bytes:
        return struct.pack("<IIQQQQIIQQ", name, kind, 0, 0, offset, size, 0, 0, 1, 0)

    table = section(0, 0, 0, 0) + section(1, 1, body, len(info)) + section(10, 3, body + len(info), len(names))
    return header + table + info + names
