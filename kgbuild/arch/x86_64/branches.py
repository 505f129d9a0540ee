# SPDX-License-Identifier: GPL-2.0-or-later
"""How x86_64 code refers to other code, read for whole sections at once.

Two questions, for millions of bytes: what is the instruction around a relocated field, and which branches has the
assembler resolved without leaving a relocation. The first is answered by the bytes before the field, the second by a
search for everything that could be such a branch, each confirmed by decoding the function it is in. Source of the
encodings: Intel SDM volume 2, appendix A and table 2-2.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from kgbuild.arch.code_search import Flow

Bytes = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]


# Calls of these say nothing about the program: tracing, and the thunk that returns go through.
INSTRUMENTATION = frozenset({"__fentry__", "__x86_return_thunk", "mcount"})
STATIC_CALL_PREFIX = "__SCT__"
# Direct calls of these are calls through a pointer in a register.
INDIRECT_PREFIXES = ("__x86_indirect_",)

# arch/x86/include/asm/emulate_prefix.h; a decoder takes its letters for a jump
EMULATE_PREFIX = b"\x0f\x0bxen"

CALL, _JMP, _JMP8, _LEA = 0xE8, 0xE9, 0xEB, 0x8D
# Branches without a relocation are few where the assembler left relocations; a function is decoded only if it has one.
_SHORT = frozenset({_JMP8, *range(0x70, 0x80), *range(0xE0, 0xE4)})


def classify_relative(code: Bytes, at: Offsets) -> npt.NDArray[np.uint8]:
    """Flow of the instruction around each 32-bit PC-relative field at offset `at` of `code`.

    The byte before such a field is an opcode (e8, e9, 80 to 8f behind 0f) or a ModRM byte of mod 00, rm 101, which is
    none of those values; so the answer does not need the instruction's start.
    """
    before = code[np.maximum(at - 1, 0)]
    second = code[np.maximum(at - 2, 0)]
    out = np.full(len(at), Flow.MEMORY, np.uint8)
    out[second == _LEA] = Flow.ADDRESS
    out[(before & 0xF0 == 0x80) & (second == 0x0F)] = Flow.JUMP
    out[before == _JMP] = Flow.JUMP
    out[before == CALL] = Flow.CALL
    return out


def opcode_distance(code: Bytes, at: Offsets) -> Offsets:
    """How far before the displacement at offset `at` the opcode of a branch begins: 2 for 0f 8x, else 1."""
    return np.where(code[np.maximum(at - 1, 0)] & 0xF0 == 0x80, 2, 1).astype(np.int64)


def is_call(code: Bytes, at: Offsets) -> npt.NDArray[np.bool_]:
    """Whether the byte before each offset is the opcode of a direct call."""
    before: Bytes = code[np.maximum(at - 1, 0)]
    return np.equal(before, CALL)


def _words(code: Bytes, at: Offsets) -> Offsets:
    """The signed 32-bit numbers at these offsets."""
    out = np.zeros(len(at), np.uint32)
    for byte in range(4):
        out |= code[at + byte].astype(np.uint32) << np.uint32(8 * byte)
    return out.view(np.int32).astype(np.int64)


def _emulated(code: Bytes, at: Offsets) -> npt.NDArray[np.bool_]:
    """Whether the byte before each offset begins the letters "xen" behind ud2: a mark for Xen, not a jump."""
    out = np.zeros(len(at), bool)
    inside = (at >= 3) & (at + 2 <= len(code))
    where = at[inside] - 3
    hit = np.ones(len(where), bool)
    for byte, value in enumerate(EMULATE_PREFIX):
        hit &= code[where + byte] == value
    out[inside] = hit
    return out


def find_branches(code: Bytes) -> tuple[Offsets, Offsets, Offsets]:
    """Everything in `code` that has the form of a direct branch: (place of its displacement, width of it, target).

    Places and targets are offsets in `code`. Complete: every branch with a 32-bit or 8-bit displacement is among
    them, since its opcode stands directly before the displacement, whatever prefixes come first. Not exact: bytes
    inside other instructions may look like a branch.
    """
    none = np.zeros(0, np.int64)
    if len(code) < 2:
        return none, none, none
    long_ = np.zeros(len(code), bool)
    if len(code) >= 5:
        long_[:-4] = (code[:-4] & 0xFE) == CALL
        long_[1:-4] |= (code[1:-4] & 0xF0 == 0x80) & (code[:-5] == 0x0F)
    near = np.nonzero(long_)[0].astype(np.int64) + 1
    displacement = _words(code, near)
    table = np.zeros(256, bool)
    table[list(_SHORT)] = True
    short = np.nonzero(table[code[:-1]])[0].astype(np.int64) + 1
    short = short[~_emulated(code, short)]
    hop = code[short].astype(np.int8).astype(np.int64)
    return (
        np.concatenate([near, short]),
        np.concatenate([np.full(len(near), 4), np.full(len(short), 1)]).astype(np.int64),
        np.concatenate([near + 4 + displacement, short + 1 + hop]),
    )


def decode_branches(code: bytes, stretches: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int, bool]]:
    """Every direct branch of these stretches (start, stop) of `code`, each decoded from its start: end of the
    instruction, target (both offsets in `code`, targets may lie outside), whether it is a call. What a stretch cuts in
    two is none."""
    from iced_x86 import Decoder, FlowControl, OpKind

    near, call = OpKind.NEAR_BRANCH64, FlowControl.CALL
    base = 1 << 40  # far from 0, so that a backward target is not wrapped around
    for start, stop in stretches:
        for i in Decoder(64, code[start:stop], ip=base + start):
            if i.op0_kind == near:
                yield i.next_ip - base, i.near_branch_target - base, i.flow_control == call


def confirm_addresses(code: bytes, wanted: set[int]) -> set[int]:
    """Which of the offsets in `wanted` are where an instruction of this function holds the address of something: an
    immediate, or the displacement of a RIP-relative lea."""
    from iced_x86 import Decoder, Mnemonic

    decoder = Decoder(64, code, ip=0)
    out = set()
    for i in decoder:
        inside = wanted.intersection(range(i.ip, i.next_ip))
        if inside:
            constants = decoder.get_constant_offsets(i)
            fields = {i.ip + constants.immediate_offset} if constants.has_immediate else set()
            if i.mnemonic == Mnemonic.LEA and constants.has_displacement and i.is_ip_rel_memory_operand:
                fields.add(i.ip + constants.displacement_offset)
            out |= inside & fields
    return out


def find_addresses(code: Bytes, low: int, high: int) -> tuple[Offsets, Offsets, Offsets, Offsets]:
    """Fields of `code` that could hold an address from `low` to `high` (signed 64-bit).

    Returns (places of 32-bit absolute values, those values sign-extended, places of displacements behind a lea's
    ModRM byte, their values). As with `find_branches`, decoding has to confirm them.
    """
    none = np.zeros(0, np.int64)
    if len(code) < 8:
        return none, none, none, none
    # the highest byte first: it is the same for all of the kernel's code, and rules out most places
    top = {(value >> 24) & 0xFF for value in range(low, high + (1 << 24), 1 << 24)}
    table = np.zeros(256, bool)
    table[list(top)] = True
    absolute = np.nonzero(table[code[3:]])[0].astype(np.int64)
    values = _words(code, absolute)
    fits = (values >= low) & (values < high)
    lea = np.nonzero((code[:-5] == _LEA) & (code[1:-4] & 0xC7 == 0x05))[0].astype(np.int64) + 2
    hop = _words(code, lea)
    return absolute[fits], values[fits], lea, hop
