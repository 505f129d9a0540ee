# SPDX-License-Identifier: GPL-2.0-or-later
"""What must stand at the places that special-section entries name, and how a traceable function begins: x86_64.

Sources: arch/x86/include/asm/{jump_label,bug,alternative,static_call}.h, tools/objtool/check.c, and
arch/x86/kernel/ftrace.c of 6.1 and 6.12. Other architectures get tables of their own here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PatchSite:
    """What one kind of site holds.

    what      in words, for messages
    starts    byte strings one of which the instruction begins with; none: not looked at
    to        beginnings of symbol names; a relocation in the instruction must name such a symbol; none: not looked at
    complete  True where every branch to such a symbol must have an entry
    """

    what: str
    starts: tuple[bytes, ...] = ()
    to: tuple[str, ...] = ()
    complete: bool = False


CALL = b"\xe8"
NOP5 = b"\x0f\x1f\x44\x00\x00"
ENDBR = b"\xf3\x0f\x1e\xfa"
# bytes that are enough to see whether a function begins with a trace site
TRACE_BYTES = len(ENDBR) + 5
ORC_ENTRY = 6  # sizeof(struct orc_entry)

SITES: dict[str, PatchSite] = {
    # jmp where the branch is taken by default, else a nop of the jump's length; 2 bytes wide since 5.14
    "__jump_table": PatchSite("a nop or jmp of 2 or 5 bytes", (b"\x66\x90", NOP5, b"\xeb", b"\xe9")),
    "__bug_table": PatchSite("ud2", (b"\x0f\x0b",)),
    "__mcount_loc": PatchSite("call __fentry__", (CALL,), ("__fentry__",), complete=True),
    ".smp_locks": PatchSite("a lock prefix", (b"\xf0",)),
    ".return_sites": PatchSite("a jump to the return thunk", (), ("__x86_return_thunk",), complete=True),
    ".retpoline_sites": PatchSite("a branch to an indirect thunk", (), ("__x86_indirect_",), complete=True),
    ".call_sites": PatchSite("a call", (CALL,)),
    ".static_call_sites": PatchSite("a branch to a static call's trampoline", (), ("__SCT__",), complete=True),
}


def trace_target(code: bytes, address: int) -> int | None:
    """Address that a function's first instruction calls, or None where it does not begin with a call.

    Input: TRACE_BYTES or more bytes of the function and its address; an endbr64 before the call is passed over.
    """
    at = len(ENDBR) if code.startswith(ENDBR) else 0
    if code[at : at + 1] != CALL or len(code) < at + 5:
        return None
    displacement = int.from_bytes(code[at + 1 : at + 5], "little", signed=True)
    return (address + at + 5 + displacement) & 0xFFFF_FFFF_FFFF_FFFF


# What the kernel acts on while it loads the patch module (module_finalize, jump_label_module_notify and their kind): a
# relocation of a target that comes later is too late for these, since 5.8 removed .klp.arch.* (commit 1d05334d2899).
READ_AT_LOAD = frozenset(
    [
        *("__jump_table", ".static_call_sites", ".altinstructions", ".altinstr_replacement", ".altinstr_aux"),
        *(".parainstructions", ".smp_locks", ".retpoline_sites", ".return_sites", ".call_sites", ".ibt_endbr_seal"),
        *("__tracepoints", "__tracepoints_ptrs", "__dyndbg", "__mcount_loc", ".orc_unwind_ip", "__param"),
    ]
)
