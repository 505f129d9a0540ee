# SPDX-License-Identifier: GPL-2.0-or-later
"""Which parts of an instruction a relocation may fill in, and by which relocations: x86_64.

Sources: the psABI's table of relocations, apply_relocate_add of arch/x86/kernel/module.c, and what gas writes for each
operand (tc_gen_reloc of gas/config/tc-i386.c).
"""

from __future__ import annotations

from kgbuild.arch.relocated_fields import FieldKind, InstructionField, RelocatedFields
from kgbuild.arch.x86_64.relocations import R_32, R_32S, R_64, R_PC32, R_PC64, R_PLT32

# None for one that no relocation of the kernel's loader fits.
TYPES: dict[FieldKind, frozenset[int]] = {
    FieldKind.BRANCH: frozenset({R_PC32, R_PLT32}),
    FieldKind.RELATIVE: frozenset({R_PC32}),
    FieldKind.TAKEN: frozenset({R_PC32}),
    FieldKind.ADDRESS: frozenset({R_32S, R_32}),
    FieldKind.INDEXED: frozenset({R_32S}),
    FieldKind.SIGNED: frozenset({R_32S}),
    FieldKind.NARROW: frozenset({R_32, R_32S}),
    FieldKind.WIDE: frozenset({R_64}),
    FieldKind.SHORT: frozenset(),
}


def instruction_fields(code: bytes) -> list[InstructionField]:
    """Every field of the instructions of some code, decoded from its first byte."""
    from iced_x86 import Decoder, FlowControl, Mnemonic, OpKind, Register

    flows = {
        FlowControl.UNCONDITIONAL_BRANCH,
        FlowControl.CONDITIONAL_BRANCH,
        FlowControl.CALL,
        FlowControl.XBEGIN_XABORT_XEND,
    }
    decoder = Decoder(64, code, ip=0)
    out = []

    def add(offset: int, size: int, kind: FieldKind, start: int, end: int) -> None:
        kind = kind if size >= 4 else FieldKind.SHORT
        out.append(
            InstructionField(offset, size, kind, int.from_bytes(code[offset : offset + size], "little"), start, end)
        )

    for i in decoder:
        at = decoder.get_constant_offsets(i)
        if at.has_displacement:
            kind = FieldKind.INDEXED
            if i.is_ip_rel_memory_operand:
                kind = FieldKind.TAKEN if i.mnemonic == Mnemonic.LEA else FieldKind.RELATIVE
            elif i.memory_base == Register.NONE and i.memory_index == Register.NONE:
                kind = FieldKind.WIDE if at.displacement_size == 8 else FieldKind.ADDRESS
            add(i.ip + at.displacement_offset, at.displacement_size, kind, i.ip, i.next_ip)
        if at.has_immediate:
            kind = FieldKind.NARROW
            if i.flow_control in flows and i.op0_kind == OpKind.NEAR_BRANCH64:
                kind = FieldKind.BRANCH
            elif at.immediate_size == 8:
                kind = FieldKind.WIDE
            elif OpKind.IMMEDIATE32TO64 in (i.op_kind(n) for n in range(i.op_count)):
                kind = FieldKind.SIGNED
            add(i.ip + at.immediate_offset, at.immediate_size, kind, i.ip, i.next_ip)
        if at.has_immediate2:
            add(i.ip + at.immediate_offset2, at.immediate_size2, FieldKind.SHORT, i.ip, i.next_ip)
    return out


RELOCATED = RelocatedFields(
    fields=instruction_fields,
    types=TYPES,
    # all others are pointers of 64 bits or distances of 32
    special={("__jump_table", 8): R_PC64},
    data=frozenset({R_64, R_PC32, R_PC64}),
    # stac and clac are the shortest alternatives of nothing; a single one may be somebody's asm("nop")
    placeholder=b"\x90",
    least_room=3,
)
