# SPDX-License-Identifier: GPL-2.0-or-later
"""The forms of attributes and the abbreviations of DWARF 4 and 5: what both readers of .debug_info know of them.

Offsets have four bytes (32-bit DWARF), addresses eight (ELF64). Source: DWARF 5, 7.5.3 to 7.5.6.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

STRING, STRP, LINE_STRP, EXPRLOC, BLOCK = 0x08, 0x0E, 0x1F, 0x18, 0x09
REF4, REF_UDATA, IMPLICIT_CONST, FLAG_PRESENT = 0x13, 0x15, 0x21, 0x19
AT_SIBLING = 0x01
# bytes of the forms that have a fixed size
FIXED_SIZES = {
    **dict.fromkeys((0x0B, 0x0C, 0x11, 0x25, 0x29), 1),  # data1 flag ref1 strx1 addrx1
    **dict.fromkeys((0x05, 0x12, 0x26, 0x2A), 2),  # data2 ref2 strx2 addrx2
    **dict.fromkeys((0x27, 0x2B), 3),  # strx3 addrx3
    # data4 strp sec_offset ref4 strp_sup ref_sup4 line_strp strx4 addrx4 ref_addr
    **dict.fromkeys((0x06, 0x0E, 0x17, 0x13, 0x1D, 0x1C, 0x1F, 0x28, 0x2C, 0x10), 4),
    **dict.fromkeys((0x01, 0x07, 0x14, 0x20, 0x24), 8),  # addr data8 ref8 ref_sig8 ref_sup8
    0x1E: 16,  # data16
    FLAG_PRESENT: 0,
    IMPLICIT_CONST: 0,
}
LEB_FORMS = frozenset({0x0D, 0x0F, REF_UDATA, 0x1A, 0x1B, 0x22, 0x23})  # sdata udata strx addrx loclistx rnglistx
BLOCK_LENGTHS = {0x0A: 1, 0x03: 2, 0x04: 4}  # block1 block2 block4: bytes of the length before the contents


class Abbreviation(NamedTuple):
    """One abbreviation: the tag; whether children follow; (attribute, form, implicit value) of each attribute; the size
    of all attributes together and the offset of DW_AT_sibling among them, each -1 if it is not fixed."""

    tag: int
    children: bool
    attributes: tuple[tuple[int, int, int], ...]
    size: int
    sibling: int


def make_abbreviation(tag: int, children: bool, attributes: Iterable[tuple[int, int, int]]) -> Abbreviation:
    """An abbreviation of these attributes, with its size and the offset of DW_AT_sibling."""
    attributes = tuple(attributes)
    size, sibling = 0, -1
    for name, form, _ in attributes:
        if name == AT_SIBLING and form == REF4:
            sibling = size
        fixed = FIXED_SIZES.get(form)
        if fixed is None:
            return Abbreviation(tag, children, attributes, -1, sibling)
        size += fixed
    return Abbreviation(tag, children, attributes, size, sibling)
