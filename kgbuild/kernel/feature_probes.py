# SPDX-License-Identifier: GPL-2.0-or-later
"""What differs between kernels and matters here: one table of questions, each put to the kernel itself.

Versions are never compared: distributions carry changes back and forth, and a kernel of one's own has any mixture. What
a kernel is asked is whether it has a symbol, what its configuration says, what its source and its build tools offer.
docs/probes.md is made from this table.

What an object or the image shows by itself needs no probe: `__pfx_` symbols, sizes of entries (by relocations and
DWARF), endbr64 before the call to __fentry__, tables of runtime constants, sections that only some kernels have.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

CLEARS_LATE = "clears-late-relocations"
DELAYED_OBJTOOL = "delayed-objtool"
MODULE_COMMON = "module-common"
MODPOST_MODULES = "modpost-modules"
INDIRECT_BRANCHES = "indirect-branch-tracking"
TEXT_POKE = "text-poke"
KLP_RELOCATIONS = "livepatch-relocations"
LOOKUP_EXPORTED = "lookup-exported"
KPROBES = "kprobes"
EACH_PLAIN = "each-symbol-plain"
LIVEPATCH = "livepatch"
REGISTERS = "registers-first"
KLP_CALLBACKS = "livepatch-callbacks"
KLP_STATES = "livepatch-states"
KLP_ARCH = "livepatch-arch-sections"
KGRAFT = "kgraft"
SYNC_EACH_CPU = "sync-each-cpu"
MODULES_REFUSED = "notifiers-refuse-modules"

# By these the module writes into its own code (data/livepatch/main.c), and by one of SYNCS beside them.
TEXT_POKE_SYMBOLS = ("text_poke", "text_mutex")
# What makes every CPU see code that was written: two names of one function.
SYNCS = (TEXT_POKE_SYNC, SMP_SYNC) = ("text_poke_sync", "smp_text_poke_sync_each_cpu")

MODULE_COMMON_SOURCE = "scripts/module-common.c"
MODPOST_SOURCE = "scripts/mod/modpost.c"
LIVEPATCH_SOURCE = "kernel/livepatch/core.c"
LIVEPATCH_HEADER = "include/linux/livepatch.h"
LIVEPATCH_ARCH = "arch/x86/kernel/livepatch.c"
KGRAFT_HEADER = "include/linux/kgraft.h"
KALLSYMS_HEADER = "include/linux/kallsyms.h"


@dataclass(frozen=True)
class ProbeEvidence:
    """What a kernel can be asked.

    config      its options without CONFIG_, with their values (kernel/config.py)
    has_symbol  whether vmlinux defines a symbol
    source      text of a file of its source tree, None where it has no such file
    objtool     kbuild's objtool command for a unit of a module, empty where it runs none
    exported    whether vmlinux exports a symbol
    """

    config: Mapping[str, str]
    has_symbol: Callable[[str], bool]
    source: Callable[[str], str | None]
    objtool: tuple[str, ...]
    exported: Callable[[str], bool] = lambda name: False


@dataclass(frozen=True)
class FeatureProbe:
    """One question: its name, what is looked at, what follows from a yes, since when kernels say yes (for people)."""

    name: str
    looks_at: str
    then: str
    since: str
    test: Callable[[ProbeEvidence], bool]


class SeenDifference(NamedTuple):
    """A difference between kernels that shows by itself: what it is, how it is seen, what follows, since when."""

    what: str
    seen_by: str
    then: str
    since: str


SEEN = (
    SeenDifference(
        "padding before tight loops, which gcc aligns to 16, 32 or 64 bytes",
        "instructions that are those of the kernel but for padding",
        "the unit is compiled once more by the kernel's own options alone; that compile must have the kernel's bytes",
        "gcc 14",
    ),
    SeenDifference(
        "entries of `__bug_table` have a format; code whose WARN has one takes the address of its entry and calls "
        "__WARN_trap (a static call)",
        "16 bytes and three relocations in each entry, and code that refers to the table",
        "the reference leads to the entry that comes along with the function; the place of the entry is behind the "
        "instruction that takes its address, not at one that traps",
        "6.19",
    ),
    SeenDifference(
        "the linker script for modules merges .text.*, .data.* and .rodata.*",
        "its text",
        "rows before these keep apart what verify and the loader tell by its section: kgbuild's tables, what is "
        "resolved first, slots and stubs",
        "7.0",
    ),
    SeenDifference(
        "code that kexec copies before it runs lies in data, with alternatives",
        "symbols `__relocate_kernel_start` and `__relocate_kernel_end`",
        "the back end kallsyms takes it for code when it looks which size the entries of `.altinstructions` have",
        "6.14",
    ),
    SeenDifference(
        "the bounds sanitizer writes source locations with the path of the compile",
        "CONFIG_UBSAN=y in the configuration, -fsanitize= in the command of a unit",
        "the source is shown to the compiler at the path at which the kernel was built; #line gives no name; locations "
        "that no code refers to are out of reach",
        "7.0",
    ),
    SeenDifference(
        "exports for modules of certain names (EXPORT_SYMBOL_FOR_MODULES)",
        "a namespace that begins with `module:`, which no other module may import",
        "they are bound as what is not exported",
        "6.16",
    ),
    SeenDifference(
        "modpost says in other words what is undefined, and since 6.1 at most ten times",
        "nothing: its words are not looked at",
        "what is undefined is read from the object, and compared with Module.symvers",
        "7.3",
    ),
    SeenDifference(
        "objtool calls the padding of a function that has several names by one of them, by another one in each run",
        "no symbol of that name in the kernel",
        "the padding is looked for by all names of its function",
        "7.0",
    ),
    SeenDifference(
        "no CRCs of exports (MODVERSIONS)",
        "Module.symvers and the configuration",
        "types of exports are compared by structure",
        "configurations of 7.2",
    ),
    SeenDifference(
        "programs that generate sources lie beside their users (security/selinux/genheaders)",
        "`make -n` names the sources that they make",
        "they are made with the sources",
        "6.13",
    ),
)


def text_poke_symbols(features: frozenset[str]) -> tuple[str, ...]:
    """What a module writes into its own code by, on a kernel whose probes `features` have TEXT_POKE."""
    return (*TEXT_POKE_SYMBOLS, SMP_SYNC if SYNC_EACH_CPU in features else TEXT_POKE_SYNC)


def what_text_poke_needs() -> str:
    """What the probe TEXT_POKE looks for, said of a kernel that answers no."""
    return f"{', '.join(TEXT_POKE_SYMBOLS)} and one of {', '.join(SYNCS)}, and not all of these are in the kernel"


def is_delayed(objtool: tuple[str, ...]) -> bool:
    """Whether objtool runs on vmlinux.o, not on each built-in object, by its command for a unit of a module."""
    return "--link" in objtool


def for_builtin(objtool: tuple[str, ...]) -> tuple[str, ...]:
    """objtool's command for a built-in unit, from the one for a unit of a module, where it is delayed."""
    return tuple(word for word in objtool if word != "--module")


def _modpost_letters(evidence: ProbeEvidence) -> str:
    found = re.search(r'getopt\(argc, argv, "([^"]+)"\)', evidence.source(MODPOST_SOURCE) or "")
    return found.group(1) if found else ""


def _each_symbol(evidence: ProbeEvidence) -> str:
    """The declaration of kallsyms_on_each_symbol, without white space."""
    text = evidence.source(KALLSYMS_HEADER) or ""
    found = re.search(r"^int kallsyms_on_each_symbol\((.*?)\)\s*(?:;|\n\{)", text, re.DOTALL | re.MULTILINE)
    return re.sub(r"\s", "", found.group(1)) if found else ""


PROBES = (
    FeatureProbe(
        CLEARS_LATE,
        "symbol `clear_relocate_add` in vmlinux",
        "the module does not clear what was relocated for a target module when that goes: the kernel does, and finds "
        "fault with places that are clear already",
        "6.3",
        lambda e: e.has_symbol("clear_relocate_add"),
    ),
    FeatureProbe(
        DELAYED_OBJTOOL,
        "`--link` in kbuild's objtool command for units of modules",
        "kbuild runs objtool on vmlinux.o; here it runs on each built-in object, with the same options without "
        "`--module`",
        "5.19, where CONFIG_X86_KERNEL_IBT or CONFIG_LTO_CLANG is set",
        lambda e: is_delayed(e.objtool),
    ),
    FeatureProbe(
        MODULE_COMMON,
        "`scripts/module-common.c` in the source",
        "it is compiled and linked beside `.mod.c`: vermagic, retpoline and `.orc_header` are in it",
        "6.12",
        lambda e: e.source(MODULE_COMMON_SOURCE) is not None,
    ),
    FeatureProbe(
        MODPOST_MODULES,
        "the letters of getopt() in `scripts/mod/modpost.c` have M",
        "modpost is given -M (modules are enabled)",
        "6.11",
        lambda e: "M" in _modpost_letters(e),
    ),
    FeatureProbe(
        INDIRECT_BRANCHES,
        "CONFIG_X86_KERNEL_IBT=y in the configuration",
        "a pointer to a function of the kernel that patched code newly takes must lead to endbr64, and not to one that "
        "is sealed at boot (`.ibt_endbr_seal` of vmlinux)",
        "5.18",
        lambda e: e.config.get("X86_KERNEL_IBT") == "y",
    ),
    FeatureProbe(
        TEXT_POKE,
        "symbols "
        + ", ".join(f"`{name}`" for name in TEXT_POKE_SYMBOLS)
        + " in vmlinux, and "
        + " or ".join(f"`{name}`" for name in SYNCS),
        "the module can write into its own code: constants that the kernel writes when it boots, and what must be "
        "cleared when a target module goes; without them such patches are refused",
        "5.5",
        lambda e: all(map(e.has_symbol, TEXT_POKE_SYMBOLS)) and any(map(e.has_symbol, SYNCS)),
    ),
    FeatureProbe(
        SYNC_EACH_CPU,
        f"symbol `{SMP_SYNC}` in vmlinux",
        f"the module calls it where it called `{TEXT_POKE_SYNC}`, its name until then",
        "6.16",
        lambda e: e.has_symbol(SMP_SYNC),
    ),
    FeatureProbe(
        LIVEPATCH,
        "CONFIG_LIVEPATCH=y in the configuration",
        "the back ends klp and kallsyms can be used, where the rest of what they need is there",
        "4.0",
        lambda e: e.config.get("LIVEPATCH") == "y",
    ),
    FeatureProbe(
        KLP_CALLBACKS,
        "`struct klp_callbacks` in `include/linux/livepatch.h`",
        "the back ends klp and kallsyms can be used: in a callback it is seen that a target module is the right one",
        "4.15",
        lambda e: "struct klp_callbacks " in (e.source(LIVEPATCH_HEADER) or ""),
    ),
    FeatureProbe(
        KLP_STATES,
        "`struct klp_state` in `include/linux/livepatch.h`",
        "patches may have states",
        "5.5",
        lambda e: "struct klp_state " in (e.source(LIVEPATCH_HEADER) or ""),
    ),
    FeatureProbe(
        REGISTERS,
        "`klp_register_patch` in `include/linux/livepatch.h`",
        "the patch is registered before it is enabled, and can't replace others: --no-replace (object level only)",
        "4.0 to 5.0",
        lambda e: "klp_register_patch(" in (e.source(LIVEPATCH_HEADER) or ""),
    ),
    FeatureProbe(
        KLP_ARCH,
        "`.klp.arch.` in `arch/x86/kernel/livepatch.c`",
        "entries for code with livepatch relocations move from `.altinstructions` and `.parainstructions` to "
        "`.klp.arch.OBJECT.SECTION`, so that the kernel writes alternatives behind the relocations (object level only)",
        "4.7 to 5.7",
        lambda e: ".klp.arch." in (e.source(LIVEPATCH_ARCH) or ""),
    ),
    FeatureProbe(
        KGRAFT,
        "CONFIG_KGRAFT=y in the configuration, `struct kgr_patch` in `include/linux/kgraft.h`, symbols `text_poke` and "
        "`text_mutex` in vmlinux",
        "the back end kgraft can be used (object level only)",
        "never; SLE 12 has it",
        lambda e: (
            e.config.get("KGRAFT") == "y"
            and "struct kgr_patch " in (e.source(KGRAFT_HEADER) or "")
            and all(map(e.has_symbol, ("text_poke", "text_mutex")))
        ),
    ),
    FeatureProbe(
        KLP_RELOCATIONS,
        "`SHN_LIVEPATCH` in `kernel/livepatch/core.c`",
        "the back end klp can be used: livepatch relocations, which the kernel resolves",
        "4.7",
        lambda e: "SHN_LIVEPATCH" in (e.source(LIVEPATCH_SOURCE) or ""),
    ),
    FeatureProbe(
        MODULES_REFUSED,
        "symbol `blocking_notifier_call_chain_robust` in vmlinux",
        "a module is not loaded where a notifier says so, which `--assume-in-tree-callers` needs",
        "5.10",
        lambda e: e.has_symbol("blocking_notifier_call_chain_robust"),
    ),
    FeatureProbe(
        LOOKUP_EXPORTED,
        "`kallsyms_lookup_name` among vmlinux's exports in Module.symvers",
        "the back end kallsyms calls it by name",
        "2.6.33 to 5.6",
        lambda e: e.exported("kallsyms_lookup_name"),
    ),
    FeatureProbe(
        KPROBES,
        "CONFIG_KPROBES=y in the configuration, `register_kprobe` among the exports",
        "the back end kallsyms finds kallsyms_lookup_name by a kprobe, where it is not exported",
        "2.6.9",
        lambda e: e.config.get("KPROBES") == "y" and e.exported("register_kprobe"),
    ),
    FeatureProbe(
        EACH_PLAIN,
        "no `struct module *` in the prototype of kallsyms_on_each_symbol in `include/linux/kallsyms.h`",
        "its callback has three arguments, not four",
        "6.4",
        lambda e: "constchar*,unsignedlong" in _each_symbol(e),
    ),
)


def probe(evidence: ProbeEvidence) -> frozenset[str]:
    """The names of the probes that a kernel answers with yes."""
    return frozenset(p.name for p in PROBES if p.test(evidence))
