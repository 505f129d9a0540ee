# SPDX-License-Identifier: GPL-2.0-or-later
"""x86_64: the relocation types that objects of a kernel have (psABI, table 4.10).

Which of them a module may have: apply_relocate_add of arch/x86/kernel/module.c (R_X86_64_32 must be the value without
sign, R_X86_64_32S with it; the rest of the loader's checks are those of the psABI).
"""

from __future__ import annotations

from kgbuild.arch.howto import Howto, Howtos, Overflow

R_NONE, R_64, R_PC32, R_PLT32, R_32, R_32S, R_PC64 = 0, 1, 2, 4, 10, 11, 24

HOWTOS = Howtos(
    (
        Howto(R_NONE, "R_X86_64_NONE", 0),
        Howto(R_64, "R_X86_64_64", 8),
        Howto(R_PC32, "R_X86_64_PC32", 4, pc_relative=True, overflow=Overflow.SIGNED),
        Howto(R_PLT32, "R_X86_64_PLT32", 4, pc_relative=True, overflow=Overflow.SIGNED),
        Howto(R_32, "R_X86_64_32", 4, overflow=Overflow.UNSIGNED, signed=False),
        Howto(R_32S, "R_X86_64_32S", 4, overflow=Overflow.SIGNED),
        Howto(R_PC64, "R_X86_64_PC64", 8, pc_relative=True),
    ),
    none=R_NONE,
)
