# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel's module loader does with each kind of section that a patch module may have.

vmlinux is laid out by a linker script, a module by the loader. The same name can mean something else there, or nothing:
per-CPU data is not relocated in a module, memory that is mapped unencrypted exists in vmlinux only, a table at whose
ends vmlinux has symbols is read of no module. So each section that is emitted has a row here; one without a row is
refused. Sections with entries that belong to code (`__jump_table`) are in the architecture's table instead.

Sources, read in 6.1.192 and 6.12.117: find_module_sections, layout_sections, move_module, apply_relocations,
percpu_modalloc and post_relocation of kernel/module/main.c, include/asm-generic/vmlinux.lds.h, include/linux/percpu.h.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

# The loader aligns a section within memory that begins at a page (module_get_offset).
PAGE = 4096
# PERCPU_MODULE_RESERVE (include/linux/percpu.h): all modules that are loaded share it.
PER_CPU_BYTES = 8 << 10
PER_CPU = ".data..percpu"


class LoaderRow(NamedTuple):
    """One kind of section.

    name         its name; a last `*` means the rest of a name, which does not begin with a dot
    loader       what the loader, or what it calls, does with it in a module
    refused      why it is not carried into a module, "" where it is
    emitted      the name under which it is carried, "" for its own
    reinitialised  whether a variable in it has the value that code gave it, so that it is initialised again with its
                 module
    """

    name: str
    loader: str
    refused: str = ""
    emitted: str = ""
    reinitialised: bool = False


_CODE = "places it with the code and relocates it"
_CONST = "places it in read-only memory and relocates it"
_DATA = "places it in writable memory and relocates it"
_PER_CPU = "copies it for each CPU, aligned to a page at most, from 8 KiB for all modules; applies no relocations"
_BORDERS = f"{_CODE}; the kernel asks for the borders of its own section only"
_ENCRYPTED = "the kernel maps this section unencrypted in a guest with encrypted memory, and that of no module"


TABLE = (
    # code
    LoaderRow(".text", _CODE),
    LoaderRow(".text.*", _CODE),
    LoaderRow(".text..refcount", _CODE),
    LoaderRow(".static_call.text", _CODE),
    LoaderRow(".ref.text", _CODE),
    LoaderRow(".noinstr.text", f"{_CODE}; kprobes keep out of it"),
    LoaderRow(".kprobes.text", f"{_CODE}; kprobes keep out of it"),
    LoaderRow(".sched.text", _BORDERS),
    LoaderRow(".spinlock.text", _BORDERS),
    LoaderRow(".cpuidle.text", _BORDERS),
    LoaderRow(".irqentry.text", _BORDERS),
    LoaderRow(".softirqentry.text", _BORDERS),
    LoaderRow(".entry.text", _CODE, refused="it is mapped while user code runs, and no module's code is"),
    # constants
    LoaderRow(".rodata", _CONST),
    LoaderRow(".rodata.*", _CONST),
    LoaderRow(".rodata..c_jump_table", _CONST),
    LoaderRow(".rodata..L*", _CONST),
    LoaderRow(".rodata..compoundliteral*", _CONST),
    LoaderRow(".ref.rodata", _CONST),
    # variables
    LoaderRow(".data", _DATA, reinitialised=True),
    LoaderRow(".data.*", _DATA, reinitialised=True),
    LoaderRow(".data..L*", _DATA, reinitialised=True),
    LoaderRow(".data..compoundliteral*", _DATA, reinitialised=True),
    LoaderRow(".data..once", _DATA, reinitialised=True),
    LoaderRow(".data..do_once", _DATA, reinitialised=True),
    LoaderRow(".data..unlikely", _DATA, reinitialised=True),
    LoaderRow(".data..read_mostly", _DATA, reinitialised=True),
    LoaderRow(".data..cacheline_aligned", _DATA, reinitialised=True),
    LoaderRow(".data..shared_aligned", _DATA, reinitialised=True),
    LoaderRow(".data..page_aligned", _DATA, reinitialised=True),
    LoaderRow(".ref.data", _DATA, reinitialised=True),
    LoaderRow(".bss", _DATA, reinitialised=True),
    LoaderRow(".bss.*", _DATA, reinitialised=True),
    LoaderRow(".bss..L*", _DATA, reinitialised=True),
    LoaderRow(".bss..compoundliteral*", _DATA, reinitialised=True),
    LoaderRow(".bss..page_aligned", _DATA, reinitialised=True),
    # What sets it up, a target module's init or a callback, may run long after the init function of the patch module.
    LoaderRow(
        ".data..ro_after_init",
        "makes it read-only when the init function of the patch module has run",
        reinitialised=True,
        emitted=".data",
    ),
    LoaderRow(PER_CPU, _PER_CPU, reinitialised=True),
    LoaderRow(f"{PER_CPU}..shared_aligned", _PER_CPU, reinitialised=True, emitted=PER_CPU),
    LoaderRow(f"{PER_CPU}..read_mostly", _PER_CPU, reinitialised=True, emitted=PER_CPU),
    LoaderRow(f"{PER_CPU}..page_aligned", _PER_CPU, reinitialised=True, emitted=PER_CPU),
    LoaderRow(
        f"{PER_CPU}..user_mapped", _PER_CPU, refused="it is mapped while user code runs, and no module's data is"
    ),
    LoaderRow(f"{PER_CPU}..first", _PER_CPU, refused="it is the first of the kernel's own per-CPU memory"),
    LoaderRow(f"{PER_CPU}..decrypted", _PER_CPU, refused=_ENCRYPTED),
    LoaderRow(".data..decrypted", _DATA, refused=_ENCRYPTED),
    LoaderRow(".bss..decrypted", _DATA, refused=_ENCRYPTED),
    LoaderRow(
        ".data..nosave", _DATA, refused="hibernation leaves this section out of its image, and that of no module"
    ),
    # Tables of which an entry is a variable of the patched code, and which the loader reads of the patch module too.
    LoaderRow("__param", "shows each entry in sysfs and sets it from the command line, from load to unload"),
    LoaderRow("__dyndbg", "makes each entry known to dynamic debug under the patch module's name"),
    LoaderRow("__verbose", "makes each entry known to dynamic debug under the patch module's name"),
    LoaderRow(
        "__trace_printk_fmt", "copies the texts, which outlive the module, and writes their places into the entries"
    ),
    LoaderRow("__tracepoint_str", f"{_DATA}; programs that read traces see an address in place of the text"),
    LoaderRow("__tracepoints_strings", _CONST),
)

# Of these the loader, or who waits for its notice, reads entries that no code refers to, and does so once for a module.
# An entry of what is new in the patch would be lost: the patch module has no such section.
READ_WITH_THE_MODULE = {
    "___srcu_struct_ptrs": "allocates the per-CPU memory of each SRCU structure",
    "__bpf_raw_tp_map": "makes tracepoints known to BPF",
    "__dyndbg_classes": "makes classes of debug messages known",
    "_error_injection_whitelist": "lets errors be injected into each function",
    "_ftrace_eval_map": "tells programs that read traces the values of enumerations",
    "_ftrace_events": "makes events for tracing",
    ".ctors": "calls each function",
    ".init_array": "calls each function",
    ".kunit_test_suites": "runs tests",
    ".kunit_init_test_suites": "runs tests",
}


def row_of(section: str) -> LoaderRow | None:
    """The row of a section, by its name in the compiler's output; None where nothing is known of it."""
    return _row_of(section)


@lru_cache(1 << 12)
def _row_of(section: str) -> LoaderRow | None:
    best: LoaderRow | None = None
    for row in TABLE:
        if row.name == section:
            return row
        stem = row.name[:-1]
        fits = row.name.endswith("*") and section.startswith(stem) and not section[len(stem) :].startswith(".")
        if fits and (best is None or len(row.name) > len(best.name)):
            best = row
    return best


def loadable_name(section: str) -> str:
    """The section's name as the module loader knows it. Built-in code sorts per-CPU variables into
    `.data..percpu..shared_aligned` and the like; of a module only `.data..percpu` is made per CPU
    (include/linux/percpu-defs.h, MODULE)."""
    row = row_of(section)
    return row.emitted or section if row is not None else section


def is_per_cpu(section: str) -> bool:
    """Whether a section holds the initial values of per-CPU variables."""
    return section == PER_CPU or section.startswith(f"{PER_CPU}..")
