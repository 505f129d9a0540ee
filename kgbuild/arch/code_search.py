# SPDX-License-Identifier: GPL-2.0-or-later
"""What an architecture must answer about references in whole sections of code: `branches` of each is one.

Its functions work on numpy's arrays, whose import takes longer than most commands; an Arch hands it out on demand.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Bytes = npt.NDArray[np.uint8]
    Offsets = npt.NDArray[np.int64]


class Flow(IntEnum):
    """What an instruction does with the code it refers to."""

    CALL = 1
    JUMP = 2
    ADDRESS = 3  # the address is taken
    MEMORY = 4  # reads or writes what is there


class CodeSearch(Protocol):
    """How references are found in a section's bytes.

    INSTRUMENTATION     functions whose calls say nothing about the program
    STATIC_CALL_PREFIX  how the names of static calls' trampolines begin
    INDIRECT_PREFIXES   how the names of functions begin through which pointers are called
    """

    @property
    def INSTRUMENTATION(self) -> frozenset[str]: ...
    @property
    def STATIC_CALL_PREFIX(self) -> str: ...
    @property
    def INDIRECT_PREFIXES(self) -> tuple[str, ...]: ...

    def classify_relative(self, code: Bytes, at: Offsets) -> npt.NDArray[np.uint8]:
        """Flow of the instruction around each PC-relative field at offset `at`."""

    def opcode_distance(self, code: Bytes, at: Offsets) -> Offsets:
        """How far before the field at offset `at` its instruction's opcode begins, in bytes."""

    def is_call(self, code: Bytes, at: Offsets) -> npt.NDArray[np.bool_]:
        """Whether the field at offset `at` would be that of a direct call."""

    def find_branches(self, code: Bytes) -> tuple[Offsets, Offsets, Offsets]:
        """Everything that has the form of a direct branch: (place of its field, width of it, target)."""

    def decode_branches(self, code: bytes, stretches: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int, bool]]:
        """Every direct branch of some stretches: end of the instruction, target, whether it is a call."""

    def confirm_addresses(self, code: bytes, wanted: set[int]) -> set[int]:
        """Which offsets are where an instruction holds the address of something."""

    def find_addresses(self, code: Bytes, low: int, high: int) -> tuple[Offsets, Offsets, Offsets, Offsets]:
        """Fields that could hold an address from `low` to `high`: places and values of absolute ones, then of relative
        ones."""
