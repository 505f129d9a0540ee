# SPDX-License-Identifier: GPL-2.0-or-later
"""The registry of refusals: every reason for which kgbuild refuses to make a live patch.

`docs/limits.md` is generated from this table (`make docs`), and messages take their remedy from it, so that a code
means the same everywhere. Codes are stable, because scripts match them.
"""

from __future__ import annotations

from dataclasses import dataclass

from kgbuild.diagnostics.rule import Rule
from kgbuild.errors import KgbuildError


@dataclass(frozen=True, order=True)
class Refusal:
    """One refusal of a run. `place` is a file, unit, function or section; `fact` is what was found there."""

    code: str
    place: str
    fact: str
    symbol: str = ""
    section: str = ""
    remedy: str = ""

    def __post_init__(self) -> None:
        if self.code not in RULES:
            raise KeyError(f"refusal code {self.code!r} is not in the registry")
        if not self.remedy:
            object.__setattr__(self, "remedy", RULES[self.code].remedy)

    def __str__(self) -> str:
        return f"{self.place}: {self.fact}; {self.remedy}"


class Refused(KgbuildError):
    """Raised once with all refusals of a run (exit 1). `unexamined` is how many units may be affected and were not
    looked at, because what was found before stands against the patch already."""

    exit_code = 1

    def __init__(self, refusals: list[Refusal], unexamined: int = 0) -> None:
        self.refusals = sorted(set(refusals))
        self.unexamined = unexamined
        super().__init__("\n".join(f"{r.code}  {r}" for r in self.refusals))

    @property
    def not_examined(self) -> str:
        """That units were not looked at, as a sentence; "" if all were."""
        if not self.unexamined:
            return ""
        units = "1 unit was" if self.unexamined == 1 else f"{self.unexamined} units were"
        return f"{units} not looked at, since this stands against the patch already; --all-reasons goes on"


_TABLE = [
    # The patch itself (P)
    Rule(
        "P1-apply",
        "Every hunk must apply to this kernel's source.",
        "rebase the patch on this kernel's source",
    ),
    Rule(
        "P2-build-system",
        "Build-system files (Makefile, Kconfig, scripts) would run on the machine that builds.",
        "remove these files from the patch",
    ),
    Rule(
        "P3-not-c",
        "Assembly, vdso, boot and realmode code is not compiled code a live patch can replace.",
        "remove these files from the patch",
    ),
    Rule(
        "P4-path",
        "Paths must stay inside the kernel tree.",
        "use paths relative to the top of the kernel tree",
    ),
    Rule(
        "P5-include",
        "#include and .incbin may only name files of the kernel tree and the toolchain.",
        "include a file of the kernel tree",
    ),
    Rule(
        "P6-not-in-kernel",
        "A changed file must be part of this kernel.",
        "leave the file out, or build for a kernel whose configuration has it",
    ),
    Rule(
        "P8-module",
        "A changed module must be among the kernel's own packages, to compare with what runs.",
        "remove these files from the patch, or add the kernel with --modules",
    ),
    Rule(
        "P9-unsupported-file",
        "A patch may create headers and included .c files; it may not delete or rename files, or change binary ones.",
        "change only C code",
    ),
    Rule("P10-compile", "The patched source must compile.", "fix the patch"),
    Rule(
        "P11-generated",
        "Headers and tables that were generated when the kernel was built must not change or move.",
        "do not change this part of the header",
    ),
    Rule(
        "P12-too-many-units",
        "A header may change at most as many units as --max-units says.",
        "raise --max-units, or move the change into .c files; new members of a structure: kgbuild remedy PATCH --code "
        "K9-type-layout",
    ),
    Rule(
        "P13-macros",
        "A patch uses the macros of kpatch-macros.h or those of linux/livepatch_helpers.h, not both.",
        "use one of the two headers in the whole patch",
    ),
    Rule(
        "P14-callback",
        "Callbacks are functions of the patch, one of each kind for each object; a state has one version.",
        "keep one callback of each kind for each object, and each state once",
    ),
    Rule(
        "P15-ignore",
        "What KPATCH_IGNORE_FUNCTION and KPATCH_IGNORE_SECTION name must exist.",
        "name a function or section of this file's object, or remove the macro",
    ),
    Rule(
        "P16-oot-module",
        "The .ko of an out-of-tree module must be built from the given source, for this kernel.",
        "give the .ko that is loaded, and the source it was built from",
    ),
    Rule(
        "P20-build-time",
        "A module must be the same whenever it is built: no __DATE__, __TIME__ or __TIMESTAMP__ in what is patched.",
        "take the time out of the code",
    ),
    Rule(
        "P21-target",
        "Patched code must be for the processor of its unit: no `target` attribute or pragma is added.",
        "take the attribute or pragma out",
    ),
    Rule(
        "P22-fixed",
        "A patch must change something. If all its changes are in this kernel's source already, it has the fix.",
        "leave the patch out: this kernel has the fix",
    ),
    # The kernel (C)
    Rule(
        "C1-config",
        "Kernels with RANDSTRUCT, LATENT_ENTROPY, KASAN, KCSAN, KCOV, GCOV, CFI or LTO are refused until tested.",
        "use a kernel without it",
    ),
    Rule(
        "C2-no-livepatch",
        "The kernel must have CONFIG_LIVEPATCH, or CONFIG_KGRAFT (SLE 12).",
        "use a kernel built with CONFIG_LIVEPATCH=y",
    ),
    Rule(
        "C3-compiler",
        "The compiler must be the one that built the kernel.",
        "install that compiler, or accept the risk with --allow-compiler",
    ),
    # What is loaded before (L)
    Rule(
        "L1-kernel",
        "The patches below a patch must be for the same kernel.",
        "give modules that were built for this kernel",
    ),
    Rule(
        "L2-taken-back",
        "What an older patch fixes must be in the patch that replaces it, each function and each change within one, or "
        "be named with --drop.",
        "add it to this patch, or give --drop FUNCTION",
    ),
    Rule(
        "L3-covered",
        "Without replace, a function of an older patch is not patched again unless it is named with --drop.",
        "combine both patches into one, or give --drop FUNCTION",
    ),
    Rule(
        "L4-state",
        "A patch must declare the states of the patches it replaces, in the same or a newer version.",
        "give the state with KGBUILD_STATE, and a callback that brings the system from the old version to the new",
    ),
    Rule(
        "L5-name",
        "Modules that are loaded at the same time must have different names.",
        "choose another name with -o",
    ),
    # The back end (B)
    Rule(
        "B1-backend",
        "The kernel must have what a back end needs.",
        "use a kernel with livepatch relocations, or with CONFIG_KPROBES",
    ),
    Rule(
        "B2-deferred",
        "With the back end kallsyms, references are resolved in the module's init, and code goes through slots. What "
        "the loader acts on earlier can't wait for that; per-CPU variables and some instructions can't use slots.",
        "use --backend klp, or avoid this reference in the patch",
    ),
    Rule(
        "B3-interface",
        "What the patch asks for must be part of the back end's interface: kGraft has no callbacks and no states.",
        "leave them out, or use another back end",
    ),
    # Parity (Y)
    Rule(
        "Y1-parity",
        "A function the patch depends on must recompile to the bytes of the running kernel.",
        "check the compiler and its flags, or accept the risk for this one with --allow-unproven NAME",
    ),
    # What can't be patched (K)
    Rule(
        "K1-data",
        "Existing data must keep its size and its initial value.",
        "set it in a callback (kgbuild remedy PATCH --code K1-data); for a table of functions, patch the functions "
        "that it points to",
    ),
    Rule(
        "K2-special",
        "A special section must have a rule for carrying its entries.",
        "leave this function out of the patch",
    ),
    Rule(
        "K3-init",
        "Code in init memory has run and is freed.",
        "leave this hunk out (--ignore-init), or do its work in a callback (kgbuild remedy PATCH --code K3-init)",
    ),
    Rule(
        "K4-not-traceable",
        "A changed function must begin with a call to __fentry__ to be redirected. If it does not, its callers come "
        "along, and all of them must be known: none outside C code, no pointer to it, no export.",
        "change its callers instead",
    ),
    Rule(
        "K5-symbol",
        "A reference must be bound to a symbol whose position in the kernel is proven.",
        "avoid this reference in the patch",
    ),
    Rule("K6-init-memory", "Nothing may refer to init or exit memory.", "avoid this reference in the patch"),
    Rule(
        "K7-export",
        "Exports, initcalls and tracepoints can't be added.",
        "leave the new declaration out of the patch",
    ),
    Rule(
        "K8-crc",
        "An export must keep its type: modules that are not part of the patch rely on it. Its CRC (MODVERSIONS) must "
        "be that of the running kernel, or its type the same by structure.",
        "keep it, and add a new function with the new type for the callers in the patch",
    ),
    Rule(
        "K9-type-layout",
        "Types and variables in use must keep their structure: size, offsets and types of members, and their targets.",
        "leave the type unchanged and keep the new member in a shadow variable (kgbuild remedy PATCH --code "
        "K9-type-layout), or name the type with --allow-type if no such object exists yet",
    ),
    Rule(
        "K10-weak",
        "A weak definition that the kernel overrides elsewhere is not what runs.",
        "patch the overriding definition",
    ),
    Rule(
        "K11-reloc",
        "A relocation must be of a kind the kernel's module loader applies.",
        "avoid this construct in the patch",
    ),
    Rule(
        "K12-folded",
        "Functions folded into one body are distinguished by their callers in the unit. That fails if other units may "
        "call them, or if their shared address is taken.",
        "patch the callers instead",
    ),
    Rule(
        "K13-ambiguous",
        "Which of several symbols is meant must be decidable.",
        "rename the function in the patch, or make the reference unambiguous",
    ),
    Rule(
        "K14-vanished",
        "A function that the patch removes must leave no old code behind in its callers.",
        "keep the function, for example with noinline",
    ),
    Rule(
        "K15-pull",
        "At most --max-pull further units may have callers that must come along, and these units must be found.",
        "raise --max-pull, or restructure the patch so that the function stays as it is",
    ),
    Rule(
        "K16-name",
        "A module name is at most 55 characters of letters, digits and underscores.",
        "choose another name with -o",
    ),
    Rule(
        "K17-module-key",
        "Static keys and static calls of a target module can't be set up in patched code: that is done when the patch "
        "module loads, and the target may come later. kgbuild reads them at run time instead, but not in noinstr code, "
        "where the key itself is out of reach, where an asm statement uses one in a form that is not known, or with "
        "--no-dynamic-keys.",
        "read the key with static_key_enabled() instead",
    ),
    Rule(
        "K18-other-module",
        "Patched code of vmlinux or of a module may only use what its own link would find: its own symbols, vmlinux's, "
        "exports of modules that it depends on. It can't use new code and data of other objects: nothing keeps "
        "those modules loaded.",
        "avoid this reference in the patch; what several objects need belongs in vmlinux, or in each of them",
    ),
    Rule(
        "K19-module-identity",
        "A target module must have a build-id that can be found in memory, to tell it from another of its name.",
        "patch the callers in vmlinux instead, or rebuild the module with a build-id",
    ),
    Rule(
        "K20-group",
        "A changed function that shares a section group with other code or data can't be taken out of it: linkers keep "
        "or drop a group as a whole.",
        "take the function out of the group (no comdat, no inline assembly that makes one)",
    ),
    Rule(
        "K21-endbr",
        "On a kernel with IBT a pointer may only lead to a function that begins with endbr64.",
        "take the address of a new function that calls it",
    ),
    Rule(
        "K22-state",
        "A variable keeps its value in the running kernel: one that replaces it in changed code must be shown to be "
        "the same variable by otherwise equal code, or be declared the same.",
        'keep the name, declare it with KGBUILD_SAME_STATE(NEW, "OLD") of kgbuild-macros.h, or fill the new variable '
        "in a pre_patch or post_patch callback",
    ),
    Rule(
        "K23-label",
        "Data that holds addresses inside a function belongs to one body of it: only constant data that nothing else "
        "uses can come along with another body.",
        "make the table of labels `static const void *const` in the function that jumps there, or use numbers instead "
        "of labels",
    ),
    Rule(
        "K24-module-memory",
        "A patch must fit into a module's memory: aligned to a page at most, no more per-CPU memory than modules have.",
        "allocate this memory at run time, for example in a callback",
    ),
    Rule(
        "K25-too-early",
        "What is read while the patch module is loaded, or by code other than the target's own, can't refer to a "
        "target module, which may be loaded later and be unloaded.",
        "leave it out of the patch, or let it refer only to a new variable of the patch",
    ),
    Rule(
        "K26-unaccounted",
        "Every difference between the original and the patched object must be replaced, carried, bound, known to be "
        "accidental, or known to have no effect.",
        "leave this part of the patch out; impact --accounting lists every difference and what becomes of it",
    ),
]

RULES: dict[str, Rule] = {rule.code: rule for rule in _TABLE}

# The remedy for a change of init code that can't be left out.
IN_A_CALLBACK = RULES["K3-init"].remedy.partition(", or ")[2]

# The remedy for an exported function that can't be redirected.
ASSUME_CALLERS = (
    "change its callers instead; or take those of the kernel and its modules along (--assume-in-tree-callers), if no "
    "other module is used"
)
