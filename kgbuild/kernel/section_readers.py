# SPDX-License-Identifier: GPL-2.0-or-later
"""Who reads each section of the kernel, and when: one table, from the kernel's linker script and its module loader.

What a difference in a section can do to a running kernel follows from that. Sources: include/asm-generic/vmlinux.lds.h,
arch/x86/kernel/vmlinux.lds.S, scripts/module.lds.S, kernel/module/, of 6.1, 6.12, 7.2 and 7.3; tests hold the table
against those files. docs/sections.md is made from it.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import NamedTuple

# How a section is read.
REFERRED = "by what refers to it"
BORDERS = "by its borders, while the kernel runs"
WITH_CODE = "with the code that an entry belongs to"
BOOT = "at boot, or when the module is loaded"
RUNNING = "while the kernel runs"
LOADER = "when the module is loaded, and by user space"
INIT = "by code that runs once"
NEVER = "not at all"


# Tables of which each entry names a device and a function, which the kernel calls by its address: a patched function
# is reached as before, and new entries have to be made good for by a callback.
HOOKS = (".pci_fixup",)


class SectionReader(NamedTuple):
    """One row: the section's name (`*` at the end: all that begin so), what is in it, who reads it, when (one of
    the constants above), the file that says so."""

    section: str
    what: str
    who: str
    when: str
    source: str


_LDS = "include/asm-generic/vmlinux.lds.h"
_X86 = "arch/x86/kernel/vmlinux.lds.S"
_LOADER = "kernel/module/main.c"


def _rows(when: str, source: str, *rows: tuple[str, str, str]) -> list[SectionReader]:
    return [SectionReader(section, what, who, when, source) for names, what, who in rows for section in names.split()]


TABLE: tuple[SectionReader, ...] = (
    *_rows(
        REFERRED,
        _LDS,
        (
            ".text .text.* .text.unlikely* .text.hot* .text.startup* .text.unknown* .text.fixup .text.asan.* "
            ".text.tsan.* .text..refcount",
            "code",
            "whoever calls it",
        ),
        (".ref.text*", "code that may refer to init memory", "whoever calls it"),
        (".text.exit", "code that runs when a module goes", "whoever calls it"),
        (".static_call.text", "trampolines of static calls", "whoever calls through them"),
        (".data .data.* .data.rel* .data.unlikely .ref.data .xiptext", "variables", "code"),
        (
            ".rodata .rodata.* .rodata1 .rodata..c_jump_table .data.rel.ro.c_jump_table .ref.rodata .rodata..L*",
            "constants",
            "code",
        ),
        (".bss .bss.* .dynbss .sbss* .dynsbss .scommon COMMON", "variables that begin as zero", "code"),
        (
            ".data..read_mostly .data..cacheline_aligned .data..shared_aligned .data..page_aligned",
            "variables",
            "code",
        ),
        (
            ".data..ro_after_init .data..nosave .data..do_once .data..unlikely .data..init_task",
            "variables",
            "code",
        ),
        (
            ".data..init_thread_info .data..decrypted .bss..page_aligned .bss..decrypted .bss..brk",
            "variables",
            "code",
        ),
        (".data..percpu*", "per-CPU variables", "code"),
        (".bss..L* .data..L*", "variables of a kernel built by clang", "code"),
        (
            "__stop_sched_class __dl_sched_class __rt_sched_class __fair_sched_class __idle_sched_class "
            "__ext_sched_class",
            "scheduling classes",
            "the scheduler, by the order of their addresses",
        ),
        (".vvar_*", "variables of the vdso", "the vdso"),
        (".tracedata", "hashes of places in suspend code", "CONFIG_PM_TRACE"),
        (".init.scratch", "room for decompression", "boot code"),
        (".entry_trampoline .head.text", "code that begins a boot", "the machine"),
    ),
    *_rows(
        BORDERS,
        _LDS,
        (".kprobes.text", "code that must not be probed", "kprobes (arch_within_kprobe_blacklist)"),
        (".sched.text", "code of the scheduler", "in_sched_functions(): wchan and profiles pass over it"),
        (".cpuidle.text", "code of idle CPUs", "cpu_in_idle(): backtraces leave such CPUs out"),
        (".irqentry.text .softirqentry.text", "entries of interrupts", "in_irqentry_text(): stack traces, KASAN"),
        (".noinstr.text", "code that must not be instrumented", "kprobes, and checks of instrumentation"),
        (".entry.text", "code of entries from user space", "kprobes, in_entry_stack, page-table isolation"),
        (".lock.text .spinlock.text", "code that spins", "in_lock_functions(): profiles pass over it"),
        (
            ".data..once .data.once",
            "flags of messages that are printed once",
            "debugfs clear_warn_once, which clears them",
        ),
    ),
    *_rows(
        BORDERS,
        _X86,
        (
            ".text..__x86.* .text..__x86.indirect_thunk .text..__x86.return_thunk .text..__x86.rethunk_safe "
            ".text..__x86.rethunk_untrain",
            "thunks",
            "the kernel, as it patches its own branches",
        ),
        (".text..relocate_kernel .data..relocate_kernel", "code that starts another kernel", "kexec, which copies it"),
    ),
    *_rows(
        WITH_CODE,
        _LDS,
        ("__jump_table", "places of static keys", "static_key_enable() and its like"),
        (".static_call_sites", "places of static calls", "static_call_update()"),
        (".static_call_tramp_key", "trampolines and their keys", "static calls of modules, when one is loaded"),
        ("__ex_table", "instructions that may fault", "the page fault handler"),
        ("__bug_table", "places of BUG and WARN", "the trap handler"),
        ("__mcount_loc __patchable_function_entries", "places that ftrace can turn", "ftrace, at boot or load"),
        (
            ".orc_unwind .orc_unwind_ip .orc_lookup .orc_header",
            "how to unwind the stack",
            "stack traces, the stack check of live patches",
        ),
        ("__dyndbg __verbose", "descriptors of pr_debug", "dynamic_debug/control"),
        (".kcfi_traps __kcfi_traps .cfi_sites", "traps of CFI", "the trap handler"),
    ),
    *_rows(
        WITH_CODE,
        _X86,
        (
            ".altinstructions .altinstr_replacement .altinstr_aux",
            "code by CPU feature",
            "alternatives, at boot or load",
        ),
        (".parainstructions", "calls of paravirt operations", "paravirt, at boot or load"),
        (".smp_locks", "lock prefixes", "alternatives, where there is one CPU"),
        (".retpoline_sites .return_sites .call_sites", "branches", "mitigations, at boot or load"),
        (".ibt_endbr_seal", "functions that no pointer leads to", "IBT, at boot or load"),
        ("runtime_ptr_* runtime_shift_*", "constants in code", "runtime_const_init(), at boot"),
        (".fixup", "code behind faulting instructions", "the page fault handler"),
    ),
    *_rows(
        BOOT,
        _LDS,
        (".initcall* .con_initcall* .security_initcall*", "functions that run at boot", "do_initcalls()"),
        (".init.setup", "boot options", "parse_args() at boot"),
        ("__earlycon_table", "early consoles", "param_setup_earlycon()"),
        (".lsm_info* .early_lsm_info*", "security modules", "security_init()"),
        ("___ksymtab* __ksymtab* ___kentry*", "exports", "the module loader, when a module is linked to them"),
        ("___kcrctab* __kcrctab*", "CRCs of exports", "the module loader"),
        ("___kflagstab* __kflagstab", "flags of exports (7.x)", "the module loader, when a module is linked to them"),
        (".export_symbol", "exports", "modpost, when the kernel is built"),
        ("__param __obsparm", "parameters", "parse_args() at boot or load, which makes /sys/module/*/parameters"),
        ("__modver", "versions of built-in modules", "version_sysfs_builtin() at boot"),
        ("__tracepoints __tracepoints_ptrs __tracepoints_strings", "tracepoints", "tracing, at boot or load"),
        (
            "_ftrace_events _ftrace_eval_map __trace_printk_fmt __tracepoint_str",
            "events",
            "tracing, at boot or load",
        ),
        ("_ftrace_annotated_branch _ftrace_branch", "profiles of branches", "the branch profiler"),
        ("__syscalls_metadata", "names of system calls", "init_ftrace_syscalls() at boot"),
        (
            "__bpf_raw_tp_map",
            "tracepoints for BPF",
            "bpf_get_raw_tracepoint(), of the kernel's or a module's own list",
        ),
        ("__*_thermal_table __thermal_table_*", "thermal governors", "thermal_register_governors() at boot"),
        ("__*_acpi_probe_table __*_of_table*", "drivers that firmware tables ask for", "their probing at boot"),
        (
            "__irqchip* __timer* __clk* __cpu_method* __cpuidle_method* __reservedmem*",
            "such drivers",
            "their probing at boot",
        ),
        ("__dyndbg_classes", "classes of pr_debug", "dynamic debug, at boot or load"),
        (".ctors* .init_array* .fini_array* .dtors* .preinit_array*", "constructors", "do_ctors() at boot or load"),
        ("_kprobe_blacklist", "functions that must not be probed", "kprobes, at boot or load"),
        ("_error_injection_whitelist", "functions that may be made to fail", "error injection, at boot or load"),
        (".kunit_test_suites .kunit_init_test_suites", "tests", "KUnit, at boot or load"),
        ("___srcu_struct_ptrs", "SRCU domains of modules", "the notifier of SRCU, when the module comes"),
        (".builtin_fw", "firmware", "firmware_request_builtin()"),
        (".dtb.init.rodata .init.ramfs* __clk_of_table", "blobs", "boot code"),
    ),
    *_rows(BOOT, _X86, (".apicdrivers", "drivers of the APIC", "the choice of a driver at boot")),
    *_rows(
        BOOT,
        _X86,
        (".x86_cpu_dev.init .x86_intel_mid_dev.init", "drivers of CPUs and platforms", "setup at boot"),
    ),
    *_rows(
        RUNNING,
        _LDS,
        (".pci_fixup*", "workarounds for PCI devices", "pci_fixup_device(), whenever a device comes or sleeps"),
        (".BTF_ids", "numbers of types for BPF", "BPF, when a program is loaded"),
        (".BTF .BTF.ext .BTF.base", "types for BPF", "BPF, when a program is loaded"),
        (".printk_index", "formats of messages", "debugfs printk/index"),
        (".exitcall*", "functions that run when a built-in driver goes", "User Mode Linux only"),
    ),
    *_rows(
        LOADER,
        _LOADER,
        (".modinfo", "what a module says of itself", "the module loader, depmod and modinfo"),
        (".gnu.linkonce.this_module", "struct module", "the module loader"),
        ("__versions __version_ext*", "CRCs of what a module uses", "the module loader"),
        (".note.gnu* .note.Linux .note.Xen .note*", "notes", "who reads /sys/kernel/notes"),
        (".codetag.* .alloc_tags alloc_tags", "places of allocations", "profiles of memory"),
    ),
    *_rows(
        INIT,
        _LDS,
        (
            ".init.* .init* init.data* .mem* .cpu* .devinit*",
            "code and data that are freed after boot",
            "code that runs once",
        ),
        (".exit.* .exit*", "code and data of a module's end", "code that runs when the module goes"),
    ),
    *_rows(
        NEVER,
        _LDS,
        (".discard*", "notes for objtool and modpost", "the build"),
        (".no_trim_symbol", "exports that are kept when the unused are dropped (7.x)", "the build"),
        ("__tracepoint_check", "which tracepoints are used (7.x)", "the build"),
        (".klp.symid .llvm_bb_addr_map", "numbers of symbols and of blocks (7.x)", "tools that read the file"),
        (
            ".comment .gnu.version* .gnu.warning .note.GNU-stack .llvm_addrsig .eh_frame*",
            "notes of the compiler",
            "the build",
        ),
        (
            ".debug* .gnu.linkonce.* .stab* .line .symtab .strtab .shstrtab .group",
            "debugging information, tables of the file",
            "debuggers",
        ),
        (
            ".got* .plt* .iplt .igot* .rel.* .rela.* .rel_* .rela_* .__restore_ph",
            "tables of the linker, empty",
            "the build",
        ),
    ),
)


@lru_cache(4096)
def reader_of(section: str) -> SectionReader | None:
    """The row for a section of an object; None for one that nothing is known of. The longest pattern counts."""
    found = [row for row in TABLE if _fits(row.section, section)]
    return max(found, key=lambda row: (row.section[-1] != "*", len(row.section)), default=None)


@cache
def _form(pattern: str) -> re.Pattern[str]:
    """A pattern as an expression. `.data.*` means `.data.x`, and not `.data..x`, which is no variable x of .data."""
    form = re.escape(pattern).replace(r"\*", ".*")
    return re.compile(form[:-2] + r"[^.].*" if pattern.endswith(".*") else form)


def _fits(pattern: str, section: str) -> bool:
    return _form(pattern).fullmatch(section) is not None if "*" in pattern else section == pattern
