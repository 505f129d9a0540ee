# SPDX-License-Identifier: GPL-2.0-or-later
"""How one function leads to another."""

from __future__ import annotations

from enum import IntEnum


class EdgeKind(IntEnum):
    """How a function leads to another. The numbers are those of the index's table `kinds`."""

    CALL = 1
    TAIL_CALL = 2
    ADDRESS_TAKEN = 3
    STATIC_CALL = 4
    ALTERNATIVE = 5
    JUMP_TABLE = 6
    SPLIT = 7
    INDIRECT = 8
    INLINED = 9

    @property
    def label(self) -> str:
        return self.name.lower().replace("_", " ")

    @property
    def runs(self) -> bool:
        """False for edges that only pass on a pointer."""
        return self is not EdgeKind.ADDRESS_TAKEN


KIND_ABOUT = {
    EdgeKind.CALL: "a call instruction",
    EdgeKind.TAIL_CALL: "a jump to another function",
    EdgeKind.ADDRESS_TAKEN: "the address is put into a register or stored",
    EdgeKind.STATIC_CALL: "a branch to a static call's trampoline, or from it to its first target",
    EdgeKind.ALTERNATIVE: "a branch in code that may be patched in by alternatives",
    EdgeKind.JUMP_TABLE: "a static key's jump that leads into another function",
    EdgeKind.SPLIT: "a jump between a function and the cold half gcc split off",
    EdgeKind.INDIRECT: "a call or jump through a register, by way of a thunk",
    EdgeKind.INLINED: "the body is part of the other's; in answers only, the index has no such row",
}
