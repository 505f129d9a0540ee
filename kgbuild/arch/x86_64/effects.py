# SPDX-License-Identifier: GPL-2.0-or-later
"""x86_64: what single instructions do to memory and registers, by iced-x86's tables."""

from __future__ import annotations

from functools import cache

from kgbuild.arch.base import Effect


@cache
def _accesses() -> tuple[frozenset[int], frozenset[int], frozenset[int]]:
    """iced's numbers of what writes, of what reads, and of the registers that a call keeps (psABI)."""
    from iced_x86 import OpAccess, Register

    writing = {OpAccess.WRITE, OpAccess.COND_WRITE, OpAccess.READ_WRITE, OpAccess.READ_COND_WRITE}
    reading = {OpAccess.READ, OpAccess.COND_READ, OpAccess.READ_WRITE, OpAccess.READ_COND_WRITE}
    kept = {Register.RBX, Register.RBP, Register.R12, Register.R13, Register.R14, Register.R15}
    return frozenset(writing), frozenset(reading), frozenset(kept)


def read_effects(code: bytes) -> list[Effect]:
    """What each instruction of `code` does, from its first to its last."""
    from iced_x86 import Decoder, FlowControl, InstructionInfoFactory, Mnemonic, OpKind, Register, RegisterExt

    writing, reading, kept = _accesses()
    factory = InstructionInfoFactory()
    base = 1 << 40
    out = []
    for i in Decoder(64, code, ip=base):
        info = factory.info(i)
        accesses = [m.access for m in info.used_memory() if m.base != Register.RSP]
        stores, loads = not writing.isdisjoint(accesses), not reading.isdisjoint(accesses)
        written = {RegisterExt.full_register(u.register) for u in info.used_registers() if u.access in writing}
        written -= {Register.RSP}
        target = None
        if i.op0_kind == OpKind.NEAR_BRANCH64:
            target = i.near_branch_target - base
        restores = i.mnemonic in (Mnemonic.POP, Mnemonic.LEAVE) or (
            i.mnemonic == Mnemonic.MOV
            and i.op0_kind == OpKind.REGISTER
            and (i.op1_kind == OpKind.REGISTER or (i.op1_kind == OpKind.MEMORY and i.memory_base == Register.RSP))
        )
        out.append(
            Effect(
                i.ip - base,
                i.len,
                target,
                i.flow_control in (FlowControl.CALL, FlowControl.INDIRECT_CALL),
                i.flow_control == FlowControl.CONDITIONAL_BRANCH,
                i.flow_control in (FlowControl.UNCONDITIONAL_BRANCH, FlowControl.INDIRECT_BRANCH, FlowControl.RETURN),
                i.flow_control == FlowControl.EXCEPTION,
                stores,
                loads,
                bool(written) and not restores,
                bool(written & kept) and not restores,
                i.is_privileged,
                i.mnemonic,
            )
        )
    return out
