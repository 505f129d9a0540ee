# SPDX-License-Identifier: GPL-2.0-or-later
"""x86_64: its facts as one table, and decoding by iced-x86."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from kgbuild.arch.base import Arch, ArgumentLoad, Formatted, Instruction, SlotCode
from kgbuild.arch.x86_64.address_uses import argument_uses, uses_of
from kgbuild.arch.x86_64.data_flow import handed_out
from kgbuild.arch.x86_64.effects import read_effects
from kgbuild.arch.x86_64.entry_points import LANDING, NMI_ENTRIES, TRACE_BYTES, trace_field, trace_target
from kgbuild.arch.x86_64.padding import branch_form, is_padding
from kgbuild.arch.x86_64.relocated_fields import RELOCATED
from kgbuild.arch.x86_64.relocations import HOWTOS, R_32, R_32S, R_64, R_PC32, R_PC64, R_PLT32
from kgbuild.arch.x86_64.slot_rewriting import (
    JUMP_SIZE,
    check_moved,
    depths,
    is_load,
    jump,
    through_slots,
    unwind_below,
)
from kgbuild.arch.x86_64.special_sections import DROPPED, FAMILIES, ORC_ENTRY, SECTIONS
from kgbuild.arch.x86_64.stable_code import stable_instructions

if TYPE_CHECKING:
    from kgbuild.arch.code_search import CodeSearch
    from kgbuild.arch.platform import Platform


def decode(code: bytes) -> list[Instruction]:
    """Decode `code` from offset 0 to its end; targets are offsets in `code` (they may lie outside it)."""
    from iced_x86 import Decoder, FlowControl, OpKind

    unconditional = {
        FlowControl.UNCONDITIONAL_BRANCH,
        FlowControl.INDIRECT_BRANCH,
        FlowControl.RETURN,
        FlowControl.EXCEPTION,
    }
    branches = {FlowControl.UNCONDITIONAL_BRANCH, FlowControl.CONDITIONAL_BRANCH, FlowControl.CALL}
    # an address far from 0, so that a backward target is not wrapped around
    base = 1 << 40
    decoder = Decoder(64, code, ip=base)
    out = []
    for instruction in decoder:
        offset = instruction.ip - base
        flow = instruction.flow_control
        target: int | None = None
        place = size = 0
        # not vmcall, vmmcall and syscall, whose flow is a call as well
        branch = flow in branches and instruction.op0_kind == OpKind.NEAR_BRANCH64
        if branch:
            constants = decoder.get_constant_offsets(instruction)
            target = instruction.near_branch_target - base
            place, size = offset + constants.immediate_offset, constants.immediate_size
        elif instruction.is_ip_rel_memory_operand:
            constants = decoder.get_constant_offsets(instruction)
            target = instruction.ip_rel_memory_address - base
            place, size = offset + constants.displacement_offset, constants.displacement_size
        out.append(
            Instruction(
                offset,
                instruction.len,
                target,
                place,
                size,
                flow == FlowControl.INDIRECT_CALL or (branch and flow == FlowControl.CALL),
                branch,
                flow in unconditional,
                instruction.mnemonic,
            )
        )
    return out


def is_branch_field(code: bytes, offset: int) -> bool:
    """Whether the 32-bit PC-relative field at `offset` is the displacement of a direct call or jump."""
    import numpy as np

    from kgbuild.arch.code_search import Flow
    from kgbuild.arch.x86_64.branches import classify_relative

    if offset < 1:
        return False
    flow = classify_relative(np.frombuffer(code, np.uint8), np.array([offset]))
    return int(flow[0]) in (Flow.CALL, Flow.JUMP)


def load_platform() -> Platform:
    """What trees, distributions and the emulator call it."""
    from kgbuild.arch.x86_64.platform import PLATFORM

    return PLATFORM


def code_search() -> CodeSearch:
    """How references are found in whole sections; imported when it is asked for, since it needs numpy."""
    from kgbuild.arch.x86_64 import branches

    return branches


def boundaries(code: bytes) -> list[int]:
    """Offsets at which the instructions of `code` begin; much faster than decode()."""
    from iced_x86 import Decoder

    return [i.ip for i in Decoder(64, code)]


def argument_loads(code: bytes) -> list[ArgumentLoad]:
    """Every `mov $constant` and `lea` into a register of an integer argument (psABI: rdi, rsi, rdx, rcx, r8, r9)."""
    from iced_x86 import Decoder, Mnemonic, OpKind, Register

    order = (("EDI", "RDI"), ("ESI", "RSI"), ("EDX", "RDX"), ("ECX", "RCX"), ("R8D", "R8"), ("R9D", "R9"))
    argument = {getattr(Register, name): i for i, names in enumerate(order) for name in names}
    immediates = {OpKind.IMMEDIATE32, OpKind.IMMEDIATE64, OpKind.IMMEDIATE32TO64}
    decoder = Decoder(64, code)
    out = []
    for i in decoder:
        if i.mnemonic not in (Mnemonic.MOV, Mnemonic.LEA) or i.op0_kind != OpKind.REGISTER:
            continue
        which = argument.get(i.op0_register)
        if which is None:
            continue
        constants = decoder.get_constant_offsets(i)
        if i.mnemonic == Mnemonic.MOV and i.op1_kind in immediates and constants.has_immediate:
            at, size = constants.immediate_offset, constants.immediate_size
        elif i.mnemonic == Mnemonic.LEA and i.is_ip_rel_memory_operand:
            at, size = constants.displacement_offset, constants.displacement_size
        else:
            continue
        out.append(ArgumentLoad(i.ip, which, i.ip + at, size, i.mnemonic == Mnemonic.MOV))
    return out


# What no displacement or immediate of real code is taken for: stands in a field while its instruction is formatted.
_PLACEHOLDER = 0x5EA1_0000


def format_code(code: bytes, names: Mapping[int, str]) -> list[Formatted]:
    """`code` in AT&T syntax, as the kernel's own messages and objdump show it.

    `names` says what the field at an offset means; it stands there instead of the number. Branches inside the code
    lead to `+0x12`, an offset in it.
    """
    from iced_x86 import Decoder, FlowControl, Formatter, FormatterSyntax, OpKind

    formatter = Formatter(FormatterSyntax.GAS)
    formatter.space_after_operand_separator = True
    formatter.uppercase_hex = False
    formatter.rip_relative_addresses = True
    formatter.small_hex_numbers_in_decimal = False
    branches = {FlowControl.UNCONDITIONAL_BRANCH, FlowControl.CONDITIONAL_BRANCH, FlowControl.CALL}
    base = 1 << 40
    out = []
    for i in Decoder(64, code, ip=base):
        at = i.ip - base
        named = [offset for offset in range(at, at + i.len) if offset in names]
        target = None
        if i.flow_control in branches and i.op0_kind == OpKind.NEAR_BRANCH64:
            target = i.near_branch_target - base if not named else None
            operands = names[named[0]] if named else f"{target:+#x}"
        elif named:
            raw = bytearray(code[at : at + i.len])
            for number, offset in enumerate(named):
                raw[offset - at : offset - at + 4] = (_PLACEHOLDER + number).to_bytes(4, "little")
            shown = next(iter(Decoder(64, bytes(raw), ip=i.ip)))
            operands = formatter.format_all_operands(shown)
            for number, offset in enumerate(named):
                operands = operands.replace(f"{_PLACEHOLDER + number:#x}", names[offset])
        else:
            operands = formatter.format_all_operands(i)
        out.append(Formatted(at, i.len, formatter.format_mnemonic(i), operands, target))
    return out


ARCH = Arch(
    name="x86_64",
    machine=62,
    order="little",
    word=8,
    load_platform=load_platform,
    relocs=HOWTOS,
    call_reloc=R_PLT32,
    pointer_reloc=R_64,
    written_late={R_64: 0, R_PC32: 1, R_PLT32: 1, R_32: 2, R_32S: 3, R_PC64: 4},
    per_field_pcrel32=R_PC32,
    sections=SECTIONS,
    dropped=DROPPED,
    trace_call="__fentry__",
    # not __patchable_function_entries: with CONFIG_CALL_PADDING every function has an entry there, notrace or not
    trace_tables=("__mcount_loc",),
    # the call comes first or behind an endbr; padding of up to 16 bytes (CONFIG_CALL_PADDING) is before the symbol
    trace_reach=16,
    decode=decode,
    boundaries=boundaries,
    effects=read_effects,
    argument_loads=argument_loads,
    handed_out=handed_out,
    uses_of=uses_of,
    argument_uses=argument_uses,
    format=format_code,
    stable=stable_instructions,
    is_branch_field=is_branch_field,
    slot_code=SlotCode(through_slots, jump, JUMP_SIZE, unwind_below, check_moved, is_load, depths),
    relocated=RELOCATED,
    # four pointers, then lineno:18 and flags (include/linux/dynamic_debug.h, 3.x to 6.12)
    debug_line=(32, 0x3FFFF),
    indirect_thunks=("__x86_indirect_thunk_", "__x86_indirect_jump_thunk_"),
    indirect_prefix="__x86_indirect_",
    return_thunk="__x86_return_thunk",
    nmi_entries=NMI_ENTRIES,
    landing=LANDING,
    landing_name="endbr64",
    seals=".ibt_endbr_seal",
    unwind_entry=ORC_ENTRY,
    trace_bytes=TRACE_BYTES,
    trace_target=trace_target,
    trace_field=trace_field,
    search=code_search,
    is_padding=is_padding,
    branch_form=branch_form,
    # endbr64; jmp
    thunk=bytes.fromhex("f30f1efa e900000000"),
    # 16 bytes of padding, which call depth tracking may fill (arch/x86/kernel/callthunks.c), then jmp; int3 behind it
    stub=b"\x90" * 16 + b"\xe9" + bytes(4) + b"\xcc" * 11,
    trap=b"\xcc" * 16,
    # the forms of nop, and int3
    filler=bytes.fromhex("90 cc 66 2e 0f 1f 80 84 40 44 00"),
    stub_entry=16,
    stub_field=17,
    families=FAMILIES,
)
