# SPDX-License-Identifier: GPL-2.0-or-later
"""Notes of an ELF file: the GNU build-id."""

from __future__ import annotations

from kgbuild.elf.records import Records


def find_build_id(notes: bytes, records: Records) -> str:
    """The GNU build-id (hex) in the bytes of a note section of a file with such records, or ""."""
    at = 0
    while at + 12 <= len(notes):
        namesz, descsz, kind = records.note.unpack_from(notes, at)
        name = notes[at + 12 : at + 12 + namesz]
        desc_at = at + 12 + ((namesz + 3) & ~3)
        if name == b"GNU\0" and kind == 3:
            return notes[desc_at : desc_at + descsz].hex()
        at = desc_at + ((descsz + 3) & ~3)
    return ""
