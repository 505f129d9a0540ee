# SPDX-License-Identifier: GPL-2.0-or-later
"""Instructions of x86_64 whose symbol is reached through a slot: memory that holds the symbol's address.

An instruction that only puts an address into a register becomes a load from the slot, of the same length. Any other
one gets a longer form, for another place: a scratch register is saved, loaded from the slot, used in the operand's
place, and restored. push, pop, mov and lea leave the flags alone, and the kernel is compiled without a red zone
(-mno-red-zone), so that what is below the stack pointer is free.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from kgbuild.arch.base import Rewritten

if TYPE_CHECKING:
    from iced_x86 import Instruction, Register_

JUMP = b"\xe9"
JUMP_SIZE = 5
_INT3 = b"\xcc"
_NOP3 = b"\x0f\x1f\x00"
# struct orc_entry (arch/x86/include/asm/orc_types.h): s16 sp_offset, s16 bp_offset, then sp_reg in 4 bits
_ORC = struct.Struct("<hhH")
_SP_UNDEFINED, _SP_BP, _SP_SP, _SP_BP_INDIRECT = 0, 4, 5, 8
# mnemonics that have a form with a register where `$symbol` was
_WITH_IMMEDIATE = ("MOV", "ADD", "OR", "ADC", "SBB", "AND", "SUB", "XOR", "CMP", "TEST")
# mnemonics that only write their destination
_LOADS = ("MOV", "MOVZX", "MOVSX", "MOVSXD", "LEA")
_SCRATCH = ("RAX", "RCX", "RDX", "RBX", "RSI", "RDI")


class _CannotError(Exception):
    """This instruction has no form that goes through a slot; says why."""


def through_slots(code: bytes, late: frozenset[int], kept: frozenset[int]) -> Rewritten:
    """One instruction with the addresses in its fields `late` (offsets) taken from slots.

    `kept` are the offsets of fields that other relocations fill. A `fault` in the answer says why it can't be done.
    """
    from iced_x86 import Decoder

    decoder = Decoder(64, code, ip=0)
    instruction = decoder.decode()
    if not instruction or instruction.len != len(code):
        return Rewritten(fault="in bytes that are no instruction")
    short = _in_place(code, late, kept)
    if short is not None:
        return short
    constants = decoder.get_constant_offsets(instruction)
    fields = {}
    if constants.has_displacement and constants.displacement_size == 4:
        fields["memory"] = constants.displacement_offset
    if constants.has_immediate and constants.immediate_size == 4:
        fields["immediate"] = constants.immediate_offset
    try:
        return _Longer(instruction, fields, late, kept).run()
    except _CannotError as error:
        return Rewritten(fault=f"by an instruction that can't go through a slot: {error}")


def _in_place(code: bytes, late: frozenset[int], kept: frozenset[int]) -> Rewritten | None:
    """A load of the same length, for `lea symbol(%rip)`, `mov $symbol` (32 bits, extended) and `movabs $symbol`."""
    if len(code) == 7 and code[0] & 0xF8 == 0x48 and late == {3} and not kept:
        lea = code[1] == 0x8D and code[2] & 0xC7 == 0x05
        if lea and code[0] & ~0x04 == 0x48:
            return Rewritten(code[:1] + b"\x8b" + code[2:3] + bytes(4), slots=((3, 3),))
        if code[1] == 0xC7 and code[2] & 0xF8 == 0xC0 and code[0] & ~0x01 == 0x48:
            return Rewritten(_load((code[0] & 1) << 3 | code[2] & 7), slots=((3, 3),))
    if len(code) == 10 and code[0] & ~0x01 == 0x48 and code[1] & 0xF8 == 0xB8 and late == {2} and not kept:
        return Rewritten(_load((code[0] & 1) << 3 | code[1] & 7) + _NOP3, slots=((3, 2),))
    return None


def _load(register: int) -> bytes:
    """`mov slot(%rip), %register`, with its field at 3."""
    return bytes((0x48 | register >> 3 << 2, 0x8B, 0x05 | (register & 7) << 3)) + bytes(4)


def _exchange(register: Register_) -> bytes:
    """`xchg %register, (%rsp)`."""
    return bytes((0x48, 0x87, 0x04 | _number(register) << 3, 0x24))


class _Longer:
    def __init__(
        self, instruction: Instruction, fields: dict[str, int], late: frozenset[int], kept: frozenset[int]
    ) -> None:
        self.instruction, self.fields = instruction, fields
        self.late = [what for what, at in fields.items() if at in late]
        self.kept = [what for what, at in fields.items() if at in kept]
        if len(self.late) != len(late) or len(self.kept) != len(kept):
            raise _CannotError("the symbol is in none of its operands")
        self.code = bytearray()
        self.slots: list[tuple[int, int]] = []
        self.depths: list[tuple[int, int]] = [(0, 0)]
        self.at = 0
        self.saved: list[Register_] = []

    def run(self) -> Rewritten:
        from iced_x86 import Code, FlowControl, Register, RegisterExt

        i = self.instruction
        if i.flow_control != FlowControl.NEXT:
            raise _CannotError("it is a branch")
        if i.code == Code.PUSHQ_IMM32 and self.late == ["immediate"]:
            self.code += b"\xff\x35" + bytes(4)
            self.slots.append((2, self.fields["immediate"]))
            self.depths.append((6, 8))
            return self._done([])
        if i.code == Code.PUSH_RM64 and self.late == ["memory"]:
            return self._push_memory()
        if i.is_stack_instruction:
            raise _CannotError("it uses the stack")
        if i.is_ip_rel_memory_operand and not {"memory"} & {*self.late, *self.kept}:
            raise _CannotError("another operand is relative to it")
        if Register.RSP in (RegisterExt.full_register(i.op_register(n)) for n in _operands(i, register=True)):
            raise _CannotError("it uses the stack pointer")
        if any(r != Register.NONE and RegisterExt.is_gpr32(r) for r in (i.memory_base, i.memory_index)):
            raise _CannotError("its operand has an address of 32 bits")
        if i.memory_base == Register.RSP and i.memory_displacement >> 63:
            raise _CannotError("its operand is below the stack pointer")
        scratch = self._scratch()
        for register in self.saved:
            self.code += self._push(register)
            self.depths.append((len(self.code), 8 * (len(self.depths))))
        for what, register in zip(self.late, scratch, strict=True):
            self.slots.append((len(self.code) + 3, self.fields[what]))
            self.code += _load(_number(register))
        new = i.copy()
        for what, register in zip(self.late, scratch, strict=True):
            if what == "memory":
                self._base(new, register)
            else:
                new = _with_register(new, register)
        if new.memory_base == Register.RSP and self.saved:
            new.memory_displacement += 8 * len(self.saved)
            new.memory_displ_size = 1 if new.memory_displacement < 0x80 else 8
        kept = self._encode(new)
        for register in reversed(self.saved):
            self.code += self._pop(register)
            self.depths.append((len(self.code), self.depths[-1][1] - 8))
        return self._done(kept)

    def _push_memory(self) -> Rewritten:
        """`push variable`: a register is pushed, loaded with the value, and exchanged with what is on the stack."""
        from iced_x86 import Code, OpKind, Register
        from iced_x86 import Instruction as Made

        (register,) = self._scratch()
        self.code += self._push(register)
        self.depths.append((len(self.code), 8))
        self.slots.append((len(self.code) + 3, self.fields["memory"]))
        self.code += _load(_number(register))
        operand = self.instruction.copy()
        self._base(operand, register)
        load = Made.create_reg_reg(Code.MOV_R64_RM64, register, Register.RAX)
        load.op1_kind = OpKind.MEMORY
        load.memory_base, load.memory_index = operand.memory_base, operand.memory_index
        load.memory_index_scale = operand.memory_index_scale
        self._encode(load)
        self.code += _exchange(register)
        return self._done([])

    def _done(self, kept: Sequence[tuple[int, int, int]]) -> Rewritten:
        return Rewritten(bytes(self.code), True, tuple(self.slots), tuple(kept), tuple(self.depths), self.at)

    def _scratch(self) -> list[Register_]:
        """A register for each late operand; those that must be saved are noted."""
        from iced_x86 import InstructionInfoFactory, OpKind, Register, RegisterExt

        i = self.instruction
        if _has_mnemonic(i, _LOADS) and self.late == ["memory"] and i.op0_kind == OpKind.REGISTER:
            register = i.op0_register
            whole = RegisterExt.is_gpr32(register) or RegisterExt.is_gpr64(register)
            full = RegisterExt.full_register(register)
            if whole and full not in (i.memory_base, i.memory_index):
                return [full]
        used = {RegisterExt.full_register(u.register) for u in InstructionInfoFactory().info(i).used_registers()}
        free = [r for name in _SCRATCH if (r := getattr(Register, name)) not in used]
        if len(free) < len(self.late):
            raise _CannotError("it leaves no register free")
        self.saved = free[: len(self.late)]
        return list(self.saved)

    def _base(self, new: Instruction, register: Register_) -> None:
        """Make `register` what the memory operand is relative to, instead of the symbol."""
        from iced_x86 import Code, Encoder, MemoryOperand, Register
        from iced_x86 import Instruction as Made

        base, index = new.memory_base, new.memory_index
        if new.is_ip_rel_memory_operand:
            base = Register.NONE
        if Register.RSP in (base, index) or new.segment_prefix != Register.NONE:
            raise _CannotError("its operand is on the stack or of another segment")
        if Register.NONE not in (base, index):
            encoder = Encoder(64)
            encoder.encode(Made.create_reg_mem(Code.LEA_R64_M, register, MemoryOperand(register, base)), 0)
            self.code += encoder.take_buffer()
        elif base != Register.NONE:
            new.memory_index, new.memory_index_scale = base, 1
        new.memory_base = register
        new.memory_displacement, new.memory_displ_size = 0, 0

    def _encode(self, new: Instruction) -> list[tuple[int, int, int]]:
        """Append the instruction; where its kept fields are now, as (offset, offset before, change of the addend)."""
        from iced_x86 import Encoder

        start = self.at = len(self.code)
        if new.is_ip_rel_memory_operand:
            new.memory_displacement = start
        encoder = Encoder(64)
        try:
            length = encoder.encode(new, start)
        except ValueError as error:
            raise _CannotError(f"{error}") from None
        constants = encoder.get_constant_offsets()
        code = bytearray(encoder.take_buffer())
        out = []
        for what in self.kept:
            at = constants.displacement_offset if what == "memory" else constants.immediate_offset
            size = constants.displacement_size if what == "memory" else constants.immediate_size
            if size != 4:
                raise _CannotError("another of its symbols would get a shorter field")
            code[at : at + 4] = bytes(4)
            change = 0
            if what == "memory" and new.is_ip_rel_memory_operand:
                change = (self.instruction.len - self.fields[what]) - (length - at)
            out.append((start + at, self.fields[what], change))
        self.code += code
        return out

    def _push(self, register: Register_) -> bytes:
        return bytes((0x50 + _number(register),))

    def _pop(self, register: Register_) -> bytes:
        return bytes((0x58 + _number(register),))


def _operands(i: Instruction, register: bool) -> Iterator[int]:
    from iced_x86 import OpKind

    return (n for n in range(i.op_count) if (i.op_kind(n) == OpKind.REGISTER) == register)


def _number(register: Register_) -> int:
    from iced_x86 import RegisterExt

    return RegisterExt.number(register)


def _with_register(i: Instruction, register: Register_) -> Instruction:
    """The form of an instruction that has `register` where it had a sign-extended immediate."""
    from iced_x86 import Code, Mnemonic, OpKind

    last = i.op_count - 1
    name = next((m for m in _WITH_IMMEDIATE if getattr(Mnemonic, m) == i.mnemonic), "")
    if i.op_kind(last) != OpKind.IMMEDIATE32TO64 or not name:
        raise _CannotError("it has no form with a register instead of the address")
    new = i.copy()
    new.code = getattr(Code, f"{name}_RM64_R64")
    new.set_op_kind(last, OpKind.REGISTER)
    new.set_op_register(last, register)
    return new


# -- where the longer form stands ------------------------------------------------------------------------------------


def jump(distance: int, length: int) -> bytes:
    """A direct jump by `distance` from its first byte, and what fills the rest of `length` bytes."""
    if length < JUMP_SIZE:
        raise ValueError(f"{length} bytes are too few for a jump")
    return JUMP + struct.pack("<i", distance - JUMP_SIZE) + _INT3 * (length - JUMP_SIZE)


def unwind_below(entry: bytes, pushed: int) -> bytes | None:
    """The unwind entry (struct orc_entry) where `pushed` more bytes are on the stack than where `entry` holds, None
    where that can't be said."""
    sp_offset, bp_offset, rest = _ORC.unpack(entry)
    register = rest & 0xF
    if register == _SP_SP:
        return _ORC.pack(sp_offset + pushed, bp_offset, rest)
    return entry if not pushed or register in (_SP_UNDEFINED, _SP_BP, _SP_BP_INDIRECT) else None


def is_load(code: bytes) -> bool:
    """Whether one instruction loads 8 bytes relative to itself into a register, or pushes them."""
    load = len(code) == 7 and code[0] & ~0x04 == 0x48 and code[1] == 0x8B and code[2] & 0xC7 == 0x05
    return load or (len(code) == 6 and code[:2] == b"\xff\x35")


def depths(moved: bytes) -> list[tuple[int, int]]:
    """The offset of each instruction, and how many bytes those before it have pushed."""
    from iced_x86 import Decoder

    out, pushed = [], 0
    for i in Decoder(64, moved, ip=0):
        out.append((i.ip, pushed))
        pushed -= i.stack_pointer_increment
    return out


def check_moved(orig: bytes, at: int, moved: bytes, to: int, fields: Iterable[int]) -> str:
    """What is wrong with an instruction that was moved, "" where nothing is.

    Input: `orig`, the bytes of the original place, and its offset `at` in the section; the bytes at `to`, the jump
    back with them; offsets in these of fields that are displacements to slots. Each scratch register has to be saved,
    loaded and restored, and the code has to come back behind the original.
    """
    from iced_x86 import Code, Decoder, FlowControl, Mnemonic, Register

    if len(orig) < JUMP_SIZE or orig != jump(to - at, len(orig)):
        return "is no jump to where it was moved"
    decoder = Decoder(64, moved, ip=to)
    instructions, places = [], {}
    for i in decoder:
        instructions.append(i)
        places[i.ip - to + decoder.get_constant_offsets(i).displacement_offset] = i
    loads = [places[f] for f in fields if f in places]
    last = instructions[-1]
    if last.flow_control != FlowControl.UNCONDITIONAL_BRANCH or last.near_branch_target != at + len(orig):
        return "does not come back behind the instruction"
    middle = instructions[:-1]
    if not loads or any(i.flow_control != FlowControl.NEXT for i in middle):
        return "does not reach a slot, or branches on its way"
    if len(middle) == 1 and middle[0].mnemonic == Mnemonic.PUSH and middle[0] in loads:
        return ""
    if middle[-1].code == Code.XCHG_RM64_R64:
        return _check_pushed(middle, loads)
    saved: list[Register_] = []
    while len(saved) < len(middle) and middle[len(saved)].code == Code.PUSH_R64:
        saved.append(middle[len(saved)].op0_register)
    body = middle[len(saved) : len(middle) - len(saved)]
    restored = [i.op0_register for i in middle[len(middle) - len(saved) :] if i.code == Code.POP_R64]
    if restored != saved[::-1]:
        return "does not restore what it saves"
    ends = {i.ip for i in loads}
    first, rest = body[: len(loads)], body[len(loads) :]
    loaded = [i.op0_register for i in first if i.ip in ends and i.code == Code.MOV_R64_RM64]
    if len(rest) == 2 and _is_sum(rest[0], loaded):
        rest = rest[1:]
    if len(loaded) != len(loads) or len(set(loaded)) != len(loaded) or len(rest) != 1:
        return "is not what one instruction becomes"
    if set(saved) not in ({*loaded}, set()) or Register.RSP in loaded:
        return "saves another register than it loads"
    return _check_use(rest[0], loaded, len(saved))


def _is_sum(i: Instruction, loaded: list[Register_]) -> bool:
    """Whether it adds another register to one that was loaded, by `lea`."""
    from iced_x86 import Code, Register

    plain = (i.memory_index_scale, i.memory_displacement) == (1, 0) and i.memory_index not in (Register.NONE, *loaded)
    return i.code == Code.LEA_R64_M and i.op0_register == i.memory_base and i.memory_base in loaded and plain


def _check_pushed(code: list[Instruction], loads: list[Instruction]) -> str:
    """What is wrong with the code that replaces a push of memory; "" if nothing is."""
    from iced_x86 import Code, Register

    register, body, last = code[0].op0_register, code[1:-1], code[-1]
    on_stack = last.memory_base == Register.RSP and (last.memory_index, last.memory_displacement) == (0, 0)
    shape = code[0].code == Code.PUSH_R64 and len(body) >= 2 and [i.ip for i in loads] == [body[0].ip]
    registers = [i.op0_register for i in body] + [last.op1_register]
    if not shape or not on_stack or set(registers) != {register}:
        return "does not restore what it saves"
    if len(body) == 3 and body[1].code == Code.LEA_R64_M:
        body = body[:1] + body[2:]
    value = body[-1]
    if len(body) != 2 or value.code != Code.MOV_R64_RM64 or value.memory_base != register:
        return "does not push what is behind the slot"
    return "needs a register for something else than what it loads into it" if value.memory_index == register else ""


def _check_use(i: Instruction, loaded: list[Register_], saved: int) -> str:
    """What is wrong with how an instruction uses the registers that were loaded: each replaces one operand, and keeps
    nothing that is needed: it is restored, or the instruction only writes it."""
    from iced_x86 import InstructionInfoFactory, OpAccess, OpKind, Register, RegisterExt

    uses = InstructionInfoFactory().info(i).used_registers()
    pointer = [u for u in uses if RegisterExt.full_register(u.register) == Register.RSP]
    if any(u.register != i.memory_base or u.access != OpAccess.READ for u in pointer):
        return "uses the stack"
    if pointer and not 8 * saved <= i.memory_displacement < 1 << 63:
        return "uses what it saved"
    operands = [i.op_register(n) for n in _operands(i, register=True)]
    if not saved:
        whole = i.op0_kind == OpKind.REGISTER and RegisterExt.size(i.op0_register) >= 4
        only_written = _has_mnemonic(i, _LOADS) and whole and [RegisterExt.full_register(i.op0_register)] == loaded
        if not only_written or [i.memory_base] != loaded or i.memory_index in loaded:
            return "overwrites a register that it does not save"
        return ""
    for register in loaded:
        if [i.memory_base, i.memory_index, *operands].count(register) != 1 or i.memory_index == register:
            return "does not use once what it loads"
        for use in uses:
            if RegisterExt.full_register(use.register) != register:
                continue
            # of an address, lea may need no more than the lower bits
            part = use.register != register and not _has_mnemonic(i, ("LEA",))
            if part or use.access != OpAccess.READ:
                return "needs a register for something else than what it loads into it"
    return ""


def _has_mnemonic(i: Instruction, names: Iterable[str]) -> bool:
    from iced_x86 import Mnemonic

    return i.mnemonic in [getattr(Mnemonic, name) for name in names]
