# SPDX-License-Identifier: GPL-2.0-or-later
"""x86_64: what code does with an address that it holds (psABI for arguments and results)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kgbuild.arch.base import HandedOut

if TYPE_CHECKING:
    from iced_x86 import Instruction

_ARGUMENTS = ("RDI", "RSI", "RDX", "RCX", "R8", "R9")
_SAVED = ("RBX", "RBP", "R12", "R13", "R14", "R15")


def handed_out(code: bytes, fields: frozenset[int], linked: frozenset[int]) -> HandedOut:
    """What becomes of the addresses in some fields of `code`: immediates, and displacements of `lea`. `linked` are all
    fields with relocations: a branch with one leaves the code.

    An address in a register is followed along every way through the code until the register is written. Copies of the
    register are followed; what is computed from it is not. A register that was used to reach memory is no argument or
    result any more: it is left over.
    """
    return _RegisterFlow(code, linked).run(fields)


class _RegisterFlow:
    def __init__(self, code: bytes, linked: frozenset[int]) -> None:
        from iced_x86 import Decoder, InstructionInfoFactory, Register

        self.linked = linked
        self.decoder = Decoder(64, code)
        self.code = list(self.decoder)
        self.place = {i.ip: number for number, i in enumerate(self.code)}
        self.info = InstructionInfoFactory()
        self.arguments = {getattr(Register, n) for n in _ARGUMENTS}
        self.saved = {getattr(Register, n) for n in _SAVED}
        # the frame pointer is one only where the code sets it up
        self.stack = {Register.RSP} | ({Register.RBP} if b"\x48\x89\xe5" in code[:32] else set())

    def run(self, fields: frozenset[int]) -> HandedOut:
        from iced_x86 import FlowControl, Mnemonic, OpKind

        kept: set[int] = set()
        passed: set[int] = set()
        for number, i in enumerate(self.code):
            constants = self.decoder.get_constant_offsets(i)
            places = {i.ip + constants.immediate_offset} if constants.has_immediate else set()
            if i.mnemonic == Mnemonic.LEA and constants.has_displacement:
                places = {i.ip + constants.displacement_offset}
            found = places & fields
            if not found or i.mnemonic not in (Mnemonic.MOV, Mnemonic.LEA, Mnemonic.PUSH):
                continue
            if i.op0_kind == OpKind.MEMORY:
                kept |= found if i.memory_base not in self.stack else set()
            elif i.op0_kind == OpKind.REGISTER:
                for what in self._follow(number, i.op0_register):
                    (kept if what == "kept" else passed).update(found)
        return HandedOut(
            frozenset(kept), frozenset(passed), any(i.flow_control == FlowControl.INDIRECT_BRANCH for i in self.code)
        )

    def _follow(self, start: int, register: int) -> Iterator[str]:
        """What is done with a register that an instruction has written: "kept", "passed"."""
        from iced_x86 import FlowControl, Mnemonic, OpKind, Register, RegisterExt

        todo = [(start + 1, RegisterExt.full_register(register), False)]  # type: ignore[arg-type]
        seen = set()
        while todo:
            number, holder, used = todo.pop()
            if number >= len(self.code) or (number, holder, used) in seen:
                continue
            seen.add((number, holder, used))
            i, flow = self.code[number], self.code[number].flow_control
            if flow == FlowControl.RETURN:
                if holder == Register.RAX and not used:
                    yield "kept"
                continue
            if flow in (FlowControl.CALL, FlowControl.INDIRECT_CALL):
                if holder in self.arguments and not used:
                    yield "passed"
                if holder in self.saved:
                    todo.append((number + 1, holder, used))
                continue
            if flow in (FlowControl.CONDITIONAL_BRANCH, FlowControl.UNCONDITIONAL_BRANCH):
                leaves = i.ip + self.decoder.get_constant_offsets(i).immediate_offset in self.linked
                if leaves and flow == FlowControl.UNCONDITIONAL_BRANCH and holder in self.arguments and not used:
                    yield "passed"
                if not leaves and i.op0_kind == OpKind.NEAR_BRANCH64 and i.near_branch_target in self.place:
                    todo.append((self.place[i.near_branch_target], holder, used))
                if flow == FlowControl.UNCONDITIONAL_BRANCH:
                    continue
            elif flow != FlowControl.NEXT:
                continue
            if i.mnemonic == Mnemonic.MOV and i.op1_kind == OpKind.REGISTER and i.op1_register == holder:
                if i.op0_kind == OpKind.REGISTER:
                    todo.append((number + 1, i.op0_register, used))
                elif i.memory_base not in self.stack:
                    yield "kept"
            used = used or holder in (i.memory_base, i.memory_index)
            if not self._writes(i, holder):
                todo.append((number + 1, holder, used))

    def _writes(self, instruction: Instruction, register: int) -> bool:
        from iced_x86 import OpAccess, RegisterExt

        writes = (OpAccess.WRITE, OpAccess.READ_WRITE)
        used = self.info.info(instruction).used_registers()
        return any(u.access in writes and RegisterExt.full_register(u.register) == register for u in used)
