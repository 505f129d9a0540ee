# SPDX-License-Identifier: GPL-2.0-or-later
"""Two compiles of one function that differ only in padding between instructions.

gcc 14 and later align tight loops to 16, 32 or 64 bytes, by .p2align: what is filled in depends on where the function
lies in its section, and with it the distance of branches and how wide their displacements are. Nothing else does.
So the two are the same if they have the same instructions in the same order, branches lead to instructions that are
paired, and whatever else is between instructions is an alignment on both sides.

An alignment is as many no-ops as the assembler writes for the bytes to the next multiple of 16, 32 or 64, the same
for both sides. A no-op that a special section names (a static key's, an alternative's) is an instruction. What has
another form is no match.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from kgbuild.arch.base import Arch, Instruction

# what gcc aligns a tight loop to: the least power of two that holds it, up to a line of the cache
ALIGNMENTS = (16, 32, 64)


class PlacedCode(NamedTuple):
    """A function's bytes, and where the first of them lies (an offset in a section aligned to `align`, or an address);
    `named`: offsets of the bytes that an entry of a special section names."""

    content: bytes
    start: int
    align: int
    instructions: list[Instruction]
    named: frozenset[int]


class PaddingLayout(NamedTuple):
    """A function of the object beside the kernel's: address and size there, the pairs of instructions that are not
    padding, and the kernel's offsets for each offset where an instruction begins or the function ends. There are two
    offsets where only the kernel has padding: before it and behind it."""

    address: int
    size: int
    pairs: tuple[tuple[Instruction, Instruction], ...]
    places: Mapping[int, tuple[int, ...]]


def pair_instructions(own: PlacedCode, kernel: PlacedCode, arch: Arch) -> PaddingLayout | None:
    """Pair the instructions of a compiled function with those of the kernel's, padding left out; None where what is
    left out need not be padding, or where what is paired has another kind or length. The fields of references are not
    looked at."""
    places: dict[int, list[int]] = {}
    pairs: list[tuple[Instruction, Instruction]] = []
    i = j = 0
    while i < len(own.instructions) or j < len(kernel.instructions):
        own_end, kernel_end = _end_of_run(own, i, arch), _end_of_run(kernel, j, arch)
        if own_end > i or kernel_end > j:
            own_run, kernel_run = (
                (_place(own, i), _place(own, own_end)),
                (_place(kernel, j), _place(kernel, kernel_end)),
            )
            if own.content[slice(*own_run)] == kernel.content[slice(*kernel_run)]:
                for own_nop, kernel_nop in zip(
                    own.instructions[i:own_end], kernel.instructions[j:kernel_end], strict=True
                ):
                    places.setdefault(own_nop.offset, []).append(kernel_nop.offset)
            elif not _is_alignment(own, own_run, kernel, kernel_run, arch):
                return None
            places.setdefault(own_run[0], []).append(kernel_run[0])
            places.setdefault(own_run[1], []).append(kernel_run[1])
            i, j = own_end, kernel_end
            continue
        if i == len(own.instructions) or j == len(kernel.instructions):
            return None
        one, other = own.instructions[i], kernel.instructions[j]
        if not _is_alike(own, one, kernel, other, arch):
            return None
        places.setdefault(one.offset, []).append(other.offset)
        pairs.append((one, other))
        i, j = i + 1, j + 1
    places.setdefault(len(own.content), []).append(len(kernel.content))
    unique = {offset: tuple(dict.fromkeys(found)) for offset, found in places.items()}
    return PaddingLayout(kernel.start, len(kernel.content), tuple(pairs), unique)


def _place(code: PlacedCode, number: int) -> int:
    """The offset of instruction `number`, or of the end."""
    return code.instructions[number].offset if number < len(code.instructions) else len(code.content)


def _bytes(code: PlacedCode, instruction: Instruction) -> bytes:
    return code.content[instruction.offset : instruction.offset + instruction.length]


def _end_of_run(code: PlacedCode, number: int, arch: Arch) -> int:
    """The number of the first instruction from `number` on that is no no-op, or that a special section names."""
    while number < len(code.instructions):
        one = code.instructions[number]
        named = any(offset in code.named for offset in range(one.offset, one.offset + one.length))
        if named or not arch.is_padding(_bytes(code, one)):
            break
        number += 1
    return number


def _is_alike(own: PlacedCode, one: Instruction, kernel: PlacedCode, other: Instruction, arch: Arch) -> bool:
    """Whether two instructions are of one kind: branches by what precedes the displacement, all others by length (their
    bytes are compared where references are known)."""
    if one.is_branch != other.is_branch or one.mnemonic != other.mnemonic:
        return False
    if not one.is_branch:
        return one.length == other.length
    heads = (
        arch.branch_form(_bytes(code, branch), branch.field_offset - branch.offset)
        for code, branch in ((own, one), (kernel, other))
    )
    return next(heads) == next(heads)


def _is_alignment(
    own: PlacedCode, own_run: tuple[int, int], kernel: PlacedCode, kernel_run: tuple[int, int], arch: Arch
) -> bool:
    """Whether two runs of no-ops, of which one may be empty, fill up to a multiple of one and the same alignment."""
    sides = ((own, own_run), (kernel, kernel_run))
    for code, (start, end) in sides:
        if start < end and not arch.is_padding(code.content[start:end]):
            return False
    return any(
        all(
            align <= code.align and end - start < align and (code.start + end) % align == 0
            for code, (start, end) in sides
        )
        for align in ALIGNMENTS
    )
