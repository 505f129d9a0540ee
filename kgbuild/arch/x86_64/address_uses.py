# SPDX-License-Identifier: GPL-2.0-or-later
"""What x86_64 code does with the addresses that its relocated fields hold.

An operand says whether the memory there is read or written, or whether the address itself is used. An address in a
register is followed, instruction by instruction, until the register gets another value or the code goes elsewhere: as
the base of a memory operand, into memory, into a call. Ways that join are not followed, so that more may be done with
an address than is seen here. Source of what an instruction reads and writes: iced-x86, after the Intel SDM, volume 2.
The registers of arguments and those that a call keeps: System V AMD64 ABI, 3.2.1 and 3.2.3.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

from kgbuild.arch.base import Doing, Use

if TYPE_CHECKING:
    from iced_x86 import Instruction, InstructionInfo


@cache
def _facts() -> tuple[tuple[Any, ...], frozenset[Any], frozenset[Any], frozenset[Any]]:
    """Registers of arguments, in order; those that a call keeps; accesses that read, and that write."""
    from iced_x86 import OpAccess, Register

    arguments = (Register.RDI, Register.RSI, Register.RDX, Register.RCX, Register.R8, Register.R9)
    kept = frozenset((Register.RBX, Register.RBP, *range(Register.R12, Register.R15 + 1)))
    reads = frozenset((OpAccess.READ, OpAccess.COND_READ, OpAccess.READ_WRITE, OpAccess.READ_COND_WRITE))
    writes = frozenset((OpAccess.WRITE, OpAccess.COND_WRITE, OpAccess.READ_WRITE, OpAccess.READ_COND_WRITE))
    return arguments, kept, reads, writes


def uses_of(code: bytes, fields: Iterable[int]) -> list[Use]:
    """What the code of a function does with the addresses in these fields (offsets), in its order."""
    return list(_AddressWalk(code, frozenset(fields)).run())


def argument_uses(code: bytes, number: int, start: int) -> list[Use]:
    """What the code of a function does with its argument `number` (0 the first), from the offset `start` on, where all
    arguments are still in their registers; `field` of each use is -1. Nothing for an argument on the stack."""
    walk = _AddressWalk(code, frozenset(), start)
    if number >= len(walk.arguments):
        return []
    walk.held[walk.arguments[number]] = (-1,)
    return list(walk.run())


def _is_conditional(i: Instruction) -> bool:
    """Whether an instruction moves under a condition (cmov)."""
    from iced_x86 import ConditionCode, FlowControl, OpKind

    second = i.op_count == 2 and i.op_kind(1) == OpKind.REGISTER
    return second and i.flow_control == FlowControl.NEXT and i.condition_code != ConditionCode.NONE


class _AddressWalk:
    def __init__(self, code: bytes, fields: frozenset[int], start: int = 0) -> None:
        from iced_x86 import InstructionInfoFactory

        self.code, self.fields, self.info = code, fields, InstructionInfoFactory()
        self.start = start
        self.arguments, self.kept, self.reads, self.writes = _facts()
        self.held: dict[Any, tuple[int, ...]] = {}  # which register holds an address, of which fields (one, or another)

    def run(self) -> Iterator[Use]:
        from iced_x86 import Decoder, FlowControl, Register

        decoder = Decoder(64, self.code[self.start :], ip=self.start)
        fields, at = [*sorted(self.fields), len(self.code)], 0
        branches = (FlowControl.UNCONDITIONAL_BRANCH, FlowControl.CONDITIONAL_BRANCH, FlowControl.CALL)
        for i in decoder:
            mine = []
            while fields[at] < i.next_ip:
                mine.append(fields[at])
                at += 1
            if not mine and not self.held:
                continue
            constants = decoder.get_constant_offsets(i)
            if i.flow_control in branches:
                field = i.ip + constants.immediate_offset if constants.has_immediate else None
                yield from self._leave(i, field)
                continue
            info = self.info.info(i)
            immediate = i.ip + constants.immediate_offset if constants.has_immediate else -1
            displacement = i.ip + constants.displacement_offset if constants.has_displacement else -1
            yield from self._use(
                i,
                info,
                immediate if immediate in mine else None,
                displacement if displacement in mine else None,
            )
            if i.flow_control == FlowControl.RETURN:
                for field in self.held.get(Register.RAX, ()):
                    yield Use(field, Doing.RETURN, i.ip)
            if i.flow_control not in (FlowControl.NEXT, FlowControl.INDIRECT_CALL):
                self.held.clear()

    def _leave(self, i: Instruction, at: int | None) -> Iterator[Use]:
        """A call, or a jump that may lead to another function."""
        from iced_x86 import FlowControl, Register

        if i.flow_control == FlowControl.UNCONDITIONAL_BRANCH and at is not None:
            for field in self.held.get(Register.RAX, ()):
                yield Use(field, Doing.RETURN, i.ip, at)
        if i.flow_control != FlowControl.CONDITIONAL_BRANCH and at is not None:
            for number, register in enumerate(self.arguments):
                for field in self.held.get(register, ()):
                    yield Use(field, Doing.PASS, i.ip, at, number)
        if i.flow_control == FlowControl.CALL:
            self.held = {r: f for r, f in self.held.items() if r in self.kept}
        elif i.flow_control == FlowControl.UNCONDITIONAL_BRANCH:
            self.held.clear()

    def _use(
        self, i: Instruction, info: InstructionInfo, immediate: int | None, displacement: int | None
    ) -> Iterator[Use]:
        from iced_x86 import Mnemonic, OpKind, Register, RegisterExt

        loads = i.mnemonic == Mnemonic.LEA
        through = {displacement} - {None}
        for register in (i.memory_base, i.memory_index):
            if register != Register.NONE:
                through.update(self.held.get(RegisterExt.full_register(register), ()))
        for field in sorted(f for f in through if f is not None):
            if loads:
                yield Use(field, Doing.ADDRESS, i.ip)
                continue
            bare = i.memory_index == Register.NONE and i.memory_base in (Register.NONE, Register.RIP)
            for memory in info.used_memory():
                if memory.base == Register.RSP != i.memory_base:
                    continue  # what a call or push writes
                if memory.access in self.writes:
                    yield Use(field, Doing.WRITE, i.ip)
                if memory.access in self.reads:
                    yield Use(field, Doing.READ if bare else Doing.INDEX, i.ip)
        new: tuple[Any, tuple[int, ...]] | None = None
        pushed = i.mnemonic == Mnemonic.PUSH or i.memory_base == Register.RSP
        keep = Doing.STACK if pushed else Doing.STORE
        stored = OpKind.MEMORY in (i.op_kind(n) for n in range(i.op_count)) and not loads
        if immediate is not None:
            yield Use(immediate, Doing.ADDRESS, i.ip)
            if i.mnemonic == Mnemonic.PUSH or (stored and i.mnemonic == Mnemonic.MOV):
                yield Use(immediate, keep, i.ip)
            elif i.mnemonic in (Mnemonic.CMP, Mnemonic.TEST):
                yield Use(immediate, Doing.COMPARE, i.ip)
            elif i.op_kind(0) == OpKind.REGISTER:
                if i.mnemonic != Mnemonic.MOV:
                    yield Use(immediate, Doing.COMPUTE, i.ip)
                new = (RegisterExt.full_register(i.op_register(0)), (immediate,))
        elif loads and through:
            new = (RegisterExt.full_register(i.op_register(0)), (min(f for f in through if f is not None),))
        else:
            for n in range(i.op_count):
                fields: tuple[int, ...] = ()
                if i.op_kind(n) == OpKind.REGISTER and (info.op_access(n) in self.reads or _is_conditional(i)):
                    fields = self.held.get(RegisterExt.full_register(i.op_register(n)), ())
                if not fields:
                    continue
                first = i.op_kind(0) == OpKind.REGISTER
                if _is_conditional(i):
                    new = (RegisterExt.full_register(i.op_register(0)), (*(new[1] if new is not None else ()), *fields))
                    continue
                if first and i.mnemonic in (Mnemonic.MOV, Mnemonic.ADD):
                    new = (RegisterExt.full_register(i.op_register(0)), fields)
                if i.mnemonic == Mnemonic.MOV and first:
                    continue
                if i.mnemonic in (Mnemonic.CMP, Mnemonic.TEST):
                    doing = Doing.COMPARE
                elif i.mnemonic in (Mnemonic.MOV, Mnemonic.PUSH, Mnemonic.XCHG):
                    doing = keep
                else:
                    doing = Doing.COMPUTE
                for field in fields:
                    yield Use(field, doing, i.ip)
        for used in info.used_registers():
            if used.access in self.writes:
                self.held.pop(RegisterExt.full_register(used.register), None)
        if new is not None:
            self.held[new[0]] = new[1]
