# SPDX-License-Identifier: GPL-2.0-or-later
"""An empty FAT12 file system: busybox has no mkfs.vfat in every build, and the host need not have one."""

from __future__ import annotations

import struct

SECTOR = 512
SECTORS = 2048
FAT_SECTORS = 6
ROOT_ENTRIES = 112


def fat_image() -> bytes:
    """The image, 1 MiB. Layout: boot sector with BIOS parameter block, two FATs, the root directory, clusters."""
    block = struct.pack(
        "<3s8sHBHBHHBHHHIIBBBI11s8s",
        *(b"\xeb\x3c\x90", b"kgbuild "),
        *(SECTOR, 1, 1, 2, ROOT_ENTRIES, SECTORS, 0xF8, FAT_SECTORS),
        *(32, 2, 0, 0),
        *(0x80, 0, 0x29, 0x6B676275, b"KGBUILD    ", b"FAT12   "),
    )
    boot = block.ljust(SECTOR - 2, b"\0") + b"\x55\xaa"
    table = b"\xf8\xff\xff".ljust(FAT_SECTORS * SECTOR, b"\0")
    return (boot + 2 * table).ljust(SECTORS * SECTOR, b"\0")
