# SPDX-License-Identifier: GPL-2.0-or-later
"""x86_64: how functions begin, and where the CPU enters the kernel by itself.

Sources: arch/x86/kernel/ftrace.c, arch/x86/kernel/nmi.c, arch/x86/events, of 6.1 and 6.12.
"""

from __future__ import annotations

from kgbuild.arch.x86_64.special_sections import CALL

LANDING = b"\xf3\x0f\x1e\xfa"  # endbr64
_CALL_BYTES = 5
# bytes that are enough to see whether a function begins with a trace site
TRACE_BYTES = len(LANDING) + _CALL_BYTES

# Where an NMI begins, and what perf's NMI calls through a static call.
NMI_ENTRIES = (
    "asm_exc_nmi",
    "exc_nmi",
    "exc_nmi_noist",
    "x86_pmu_handle_irq",
    "intel_pmu_handle_irq",
    "intel_pmu_handle_irq_v4",
    "amd_pmu_handle_irq",
    "amd_pmu_v2_handle_irq",
)


def trace_field(code: bytes) -> int | None:
    """Offset of the displacement of the call that a function begins with, None where it does not begin with one.

    Input: TRACE_BYTES or more bytes of the function; an endbr64 before the call is skipped.
    """
    at = len(LANDING) if code.startswith(LANDING) else 0
    return at + len(CALL) if code[at : at + 1] == CALL else None


def trace_target(code: bytes, address: int) -> int | None:
    """Address that a function's first instruction calls, or None where it does not begin with a call.

    Input: TRACE_BYTES or more bytes of the function and its address; an endbr64 before the call is skipped.
    """
    field = trace_field(code)
    if field is None or len(code) < field + 4:
        return None
    displacement = int.from_bytes(code[field : field + 4], "little", signed=True)
    return (address + field + 4 + displacement) & 0xFFFF_FFFF_FFFF_FFFF
