# SPDX-License-Identifier: GPL-2.0-or-later
"""x86_64: the special sections of kernels from 3.10 on, each with all that is known of it.

Sources: arch/x86/include/asm/{jump_label,bug,alternative,static_call}.h, tools/objtool/check.c, kernel/module/main.c
and arch/x86/kernel/module.c (what is looked up and acted on), include/asm-generic/vmlinux.lds.h; of 6.1 and 6.12.
"""

from __future__ import annotations

from kgbuild.arch.base import PatchSite, SpecialSection

CALL = b"\xe8"
NOP5 = b"\x0f\x1f\x44\x00\x00"
ORC_ENTRY = 6  # sizeof(struct orc_entry)


def _branches(what: str, to: str) -> PatchSite:
    return PatchSite(what, (), (to,), complete=True)


SECTIONS = {
    # struct alt_instr: 13 bytes with padlen after the lengths (to 5.17), 12 without, 14 with 32-bit flags (6.3);
    # an entry without replacement code need not have the second relocation
    ".altinstructions": SpecialSection(
        struct="alt_instr",
        sizes={12: (0,), 14: (0,), 13: (0,)},
        replacement={12: (4, 11), 14: (4, 13), 13: (4, 11)},
        fields={
            12: {"feature": (8, 2), "length": (10, 1), "length of the replacement": (11, 1)},
            13: {"feature": (8, 2), "length": (10, 1), "length of the replacement": (11, 1), "padding": (12, 1)},
            14: {"feature and flags": (8, 4), "length": (12, 1), "length of the replacement": (13, 1)},
        },
        at_load=True,
        looked_up=True,
        about_code=True,
    ),
    # struct paravirt_patch_site is written aligned; until 6.3 nothing pads the last one
    ".parainstructions": SpecialSection(
        struct="paravirt_patch_site",
        sizes={16: (0,)},
        last=10,
        fields={16: {"operation": (8, 1), "length": (9, 1)}},
        at_load=True,
        looked_up=True,
        about_code=True,
    ),
    ".retpoline_sites": SpecialSection(
        sizes={4: (0,)},
        compared=False,
        site=_branches("a branch to an indirect thunk", "__x86_indirect_"),
        at_load=True,
        looked_up=True,
        about_code=True,
    ),
    ".return_sites": SpecialSection(
        sizes={4: (0,)},
        compared=False,
        site=_branches("a jump to the return thunk", "__x86_return_thunk"),
        at_load=True,
        looked_up=True,
        about_code=True,
        every_function=True,
    ),
    ".call_sites": SpecialSection(
        sizes={4: (0,)},
        compared=False,
        site=PatchSite("a call", (CALL,)),
        at_load=True,
        looked_up=True,
        about_code=True,
    ),
    # of two instructions with one code, only that which is listed loses its prefix on a machine of one CPU
    ".smp_locks": SpecialSection(
        sizes={4: (0,)},
        site=PatchSite("a lock prefix", (b"\xf0",)),
        at_load=True,
        looked_up=True,
        about_code=True,
    ),
    # struct bug_entry: bug address, format (since 6.19), file, line (u16), flags (u16)
    "__bug_table": SpecialSection(
        struct="bug_entry",
        sizes={16: (0, 4, 8), 12: (0, 4), 8: (0,)},
        ignore={16: ((12, 2),), 12: ((8, 2),)},
        fields={
            16: {"format": (4, 4), "file": (8, 4), "line": (12, 2), "flags": (14, 2)},
            12: {"file": (4, 4), "line": (8, 2), "flags": (10, 2)},
            8: {"flags": (4, 2)},
        },
        # since 6.19 a WARN with a format hands its entry to __WARN_trap by lea; the place is behind that
        site=PatchSite("ud2", (b"\x0f\x0b",), announced=True),
        looked_up=True,
        about_code=True,
    ),
    "__ex_table": SpecialSection(
        struct="exception_table_entry",
        sizes={12: (0, 4)},
        fields={12: {"goes on at": (4, 4), "type": (8, 4)}},
        looked_up=True,
        about_code=True,
    ),
    # jmp where the branch is taken by default, else a nop of the jump's length; 2 bytes wide since 5.14
    "__jump_table": SpecialSection(
        struct="jump_entry",
        sizes={16: (0, 4, 8), 24: (0, 8, 16)},
        key={16: 8, 24: 16},
        fields={16: {"branch": (4, 4), "key": (8, 8)}, 24: {"branch": (8, 8), "key": (16, 8)}},
        site=PatchSite("a nop or jmp of 2 or 5 bytes", (b"\x66\x90", NOP5, b"\xeb", b"\xe9")),
        at_load=True,
        looked_up=True,
        about_code=True,
    ),
    ".static_call_sites": SpecialSection(
        struct="static_call_site",
        sizes={8: (0, 4)},
        key={8: 4},
        fields={8: {"key": (4, 4)}},
        site=_branches("a branch to a static call's trampoline", "__SCT__"),
        at_load=True,
        looked_up=True,
        about_code=True,
    ),
    "__mcount_loc": SpecialSection(
        sizes={8: (0,)},
        site=PatchSite("call __fentry__", (CALL,), ("__fentry__",), complete=True),
        at_load=True,
        looked_up=True,
        about_code=True,
        every_function=True,
    ),
    "_kprobe_blacklist": SpecialSection(sizes={8: (0,)}, looked_up=True, about_code=True),
    ".orc_unwind_ip": SpecialSection(
        sizes={4: (0,)},
        companion=".orc_unwind",
        compared=False,
        at_load=True,
        looked_up=True,
        about_code=True,
        every_function=True,
    ),
    # never carried into a module: read of the kernel, or when the kernel boots
    ".orc_unwind": SpecialSection(carried=False, dropped=True, looked_up=True, every_function=True),
    ".orc_lookup": SpecialSection(carried=False, dropped=True, about_code=True, every_function=True),
    ".ibt_endbr_seal": SpecialSection(
        sizes={4: (0,)},
        carried=False,
        dropped=True,
        at_load=True,
        looked_up=True,
        about_code=True,
        every_function=True,
    ),
    "__patchable_function_entries": SpecialSection(sizes={8: (0,)}, carried=False, dropped=True, about_code=True),
    # an address, and the kind of error
    "_error_injection_whitelist": SpecialSection(sizes={16: (0,)}, carried=False, dropped=True, about_code=True),
    # code that stands elsewhere until an alternative is chosen, or a fault happens
    ".altinstr_replacement": SpecialSection(carried=False, auxiliary=True, at_load=True),
    ".altinstr_aux": SpecialSection(carried=False, auxiliary=True, at_load=True),
    ".fixup": SpecialSection(carried=False, auxiliary=True),
    # tables of the kernel's own, whatever the architecture, which are read by name when a module is loaded
    "__tracepoints": SpecialSection(carried=False, at_load=True),
    "__tracepoints_ptrs": SpecialSection(carried=False, at_load=True, looked_up=True),
    "__dyndbg": SpecialSection(carried=False, at_load=True, looked_up=True),
    "__param": SpecialSection(carried=False, at_load=True),
    ".printk_index": SpecialSection(carried=False, dropped=True, looked_up=True),
    "__versions": SpecialSection(carried=False, dropped=True, looked_up=True),
    ".modinfo": SpecialSection(carried=False, dropped=True, looked_up=True),
}

# What else never goes into a live patch and says nothing about behaviour; a last `*`: all names that begin so.
DROPPED = (
    ".discard*",
    ".rela.discard*",
    ".debug*",
    ".eh_frame",
    ".comment",
    ".note*",
    ".BTF",
    ".BTF.ext",
    ".gnu.linkonce.this_module",
    ".llvm_addrsig",
    ".export_symbol",
    ".symtab*",
    ".strtab",
    ".shstrtab",
)

# arch/x86/include/asm/runtime-const.h (6.11): movabs $0x0123456789abcdef; shrl $12, the immediate written
FAMILIES = (
    SpecialSection(sizes={4: (0,)}, constant=(0x0123456789ABCDEF).to_bytes(8, "little"), prefix="runtime_ptr_"),
    SpecialSection(sizes={4: (0,)}, constant=b"\x0c", prefix="runtime_shift_"),
)
