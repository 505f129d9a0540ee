# SPDX-License-Identifier: GPL-2.0-or-later
"""x86_64: what the assembler fills an alignment in code with, and a branch without the width of its displacement.

Source: alt_patt and i386_output_nops() of gas/config/tc-i386.c. A gap gets as many no-ops of 11 bytes as fit, and one
for the rest, behind them (to binutils 2.46) or before them (since 2.47).
"""

from __future__ import annotations

_NOPS = tuple(
    bytes.fromhex(text)
    for text in (
        "90",
        "6690",
        "0f1f00",
        "0f1f4000",
        "0f1f440000",
        "660f1f440000",
        "0f1f8000000000",
        "0f1f840000000000",
        "660f1f840000000000",
        "662e0f1f840000000000",
        "66662e0f1f840000000000",
    )
)
_LONGEST = _NOPS[-1]
_ESCAPE, _NEAR_CONDITIONAL, _SHORT_CONDITIONAL = 0x0F, 0x80, 0x70
_SHORT_FORM = {0xE9: 0xEB}


def is_padding(code: bytes) -> bool:
    """Whether `code` (one byte or more) is what the assembler fills a gap of its length with."""
    count, rest = divmod(len(code), len(_LONGEST))
    if not rest:
        return count > 0 and code == _LONGEST * count
    return code in (_LONGEST * count + _NOPS[rest - 1], _NOPS[rest - 1] + _LONGEST * count)


def branch_form(code: bytes, field: int) -> bytes:
    """What precedes the displacement of a direct branch (at offset `field`), prefixes included, written as for a
    displacement of one byte: jumps over a short and over a long distance are equal then."""
    head = bytearray(code[:field])
    if len(head) > 1 and head[-2] == _ESCAPE and head[-1] & 0xF0 == _NEAR_CONDITIONAL:
        head[-2:] = [head[-1] & 0x0F | _SHORT_CONDITIONAL]
    elif head:
        head[-1] = _SHORT_FORM.get(head[-1], head[-1])
    return bytes(head)
