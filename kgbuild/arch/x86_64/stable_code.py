# SPDX-License-Identifier: GPL-2.0-or-later
"""Instructions of x86_64 that stay as the linker wrote them, wherever the kernel runs and whatever it writes into its
code by what an instruction is: branches, calls and returns (static calls, static keys, tracing, retpolines, return
thunks), NOPs and endbr64, lock prefixes. What it writes elsewhere is told by tables (emit/backends/stable_bytes.py).
"""

from __future__ import annotations

# As a 32-bit number: where the kernel's image may lie (arch/x86/include/asm/page_64_types.h, KERNEL_IMAGE_SIZE).
_IMAGE = range(0x8000_0000, 0xC000_0000)


def stable_instructions(code: bytes) -> list[tuple[int, int]]:
    """(offset, length in bytes) of each such instruction, by offset.

    Left out besides: what is relative to the instruction or to a CPU's own data, and constants that may be an address,
    which relocation at boot (KASLR) changes.
    """
    from iced_x86 import Code, Decoder, FlowControl, Mnemonic, OpKind, Register

    wide = {OpKind.IMMEDIATE32, OpKind.IMMEDIATE32TO64}
    decoder = Decoder(64, code)
    out: list[tuple[int, int]] = []
    for i in decoder:
        if i.code == Code.INVALID or i.flow_control != FlowControl.NEXT or i.has_lock_prefix:
            continue
        if i.mnemonic in (Mnemonic.NOP, Mnemonic.ENDBR64) or i.is_ip_rel_memory_operand:
            continue
        if i.segment_prefix in (Register.GS, Register.FS):
            continue
        kinds = [i.op_kind(n) for n in range(i.op_count)]
        if OpKind.IMMEDIATE64 in kinds or (i.memory_displ_size == 8):
            continue
        values = [i.immediate(n) for n, kind in enumerate(kinds) if kind in wide]
        # A shorter form would do for a plain number of that size: it may be the distance of a symbol from where the
        # kernel was linked (kaslr_offset(), 0 in the file).
        short = 1 << 31 if i.code == Code.MOV_RM64_IMM32 and kinds[0] == OpKind.REGISTER else 0x80
        if OpKind.IMMEDIATE32TO64 in kinds and any(value < short for value in values):
            continue
        constants = decoder.get_constant_offsets(i)
        if constants.has_displacement and constants.displacement_size >= 4:
            values.append(i.memory_displacement)
        if not any(value & 0xFFFF_FFFF in _IMAGE for value in values):
            out.append((i.ip, i.len))
    return out
