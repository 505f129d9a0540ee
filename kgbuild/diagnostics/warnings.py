# SPDX-License-Identifier: GPL-2.0-or-later
"""The registry of warnings: code, meaning, remedy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kgbuild.diagnostics.rule import Rule

STACK, NMI, NOINSTR, UNSEEN, PATCHED, UNREAD, UNKNOWN = (
    "W1-stack",
    "W2-nmi",
    "W3-noinstr",
    "W4-unseen",
    "W5-patched",
    "W6-unread",
    "W7-unknown",
)


HANDED, READ_ONLY, LAST_WRITE, INIT_ONLY, VMALLOC, TRACED, UNHOOKED = (
    "W8-handed-out",
    "W9-read-only",
    "W10-last-write",
    "W11-init-only",
    "W12-not-in-image",
    "W13-traced",
    "W14-table-stays",
)


_TABLE = [
    Rule(
        STACK,
        "A function that may never leave a stack: the loop of a kernel thread, a function it sleeps in, the scheduler, "
        "the end of a task. The transition waits for such a task, or the task keeps running the old code.",
        "patch a function that it calls and that returns; a restarted thread uses the new code",
    ),
    Rule(
        NMI,
        "A function that an NMI reaches in a few calls runs old or new code, depending on the interrupted task.",
        "make sure that old and new code can run at the same time",
    ),
    Rule(
        NOINSTR,
        "A function called from noinstr code, on the way into or out of the kernel, is redirected there as well.",
        "make sure that it may be traced where it is called",
    ),
    Rule(
        UNSEEN,
        "The kernel looks for the new function on stacks only, not for its cold half or a helper it jumps to: a task "
        "may sleep there, unnoticed, while the patch is disabled.",
        "if the patch must be disabled, leave the module loaded",
    ),
    Rule(
        PATCHED,
        "A function that another live patch (--against) replaces too: only the later of the two changes is used.",
        "build from both source patches together",
    ),
    Rule(
        UNREAD,
        "A module named with --against whose table of functions can't be read, or that was made for another kernel.",
        "compare /sys/kernel/livepatch/ of a machine where it is loaded",
    ),
    Rule(
        UNKNOWN,
        "Stacks, NMIs and noinstr code are looked up in the kernel's index; `build` does not make it for that alone.",
        "kgbuild impact makes the index",
    ),
    Rule(
        HANDED,
        "The address of a function that the patch adds, of data with such an address, or of a string that the kernel "
        "keeps is stored, passed on or returned, or the address of a string is compared. Disabling the patch does not "
        "undo that, and the memory of the unloaded module is gone. Unchanged strings are the kernel's own in vmlinux, "
        "and copies in modules.",
        "leave the module loaded, or undo it in a post_unpatch callback (KLP_POST_UNPATCH_CALLBACK)",
    ),
    Rule(
        READ_ONLY,
        "A write to constants, or to memory that is read-only after the kernel or the module has started "
        "(__ro_after_init): an oops when it runs.",
        "keep the value in a new variable, and read that one",
    ),
    Rule(
        LAST_WRITE,
        "A static variable that the patched source never writes: the compiler treats it as a constant, whatever value "
        "it has in the running kernel.",
        "keep a write, or make it stay a variable with barrier_data(&NAME) where it is read",
    ),
    Rule(
        INIT_ONLY,
        "A function that only init code calls, although it is not marked __init: it has already run in the kernel or "
        "in a loaded module.",
        "also do its work in a post_patch callback (KLP_POST_PATCH_CALLBACK)",
    ),
    Rule(
        VMALLOC,
        "New static data of built-in code is in a module's memory: it has no page in the kernel's direct mapping, "
        "__pa() and virt_to_page() are wrong for it, and no DMA reaches it.",
        "take memory from kmalloc() for it, or use vmalloc_to_page()",
    ),
    Rule(
        TRACED,
        "Names and types of a system call's arguments change: tracing (events/syscalls) goes on showing those of the "
        "running kernel.",
        "nothing, unless a program depends on the new names",
    ),
    Rule(
        UNHOOKED,
        "A table of devices and functions changes (.pci_fixup*). The running kernel reads its own: functions that are "
        "in it are patched, but entries neither come nor go.",
        "do the work of new entries in a callback, for the devices that are there (KLP_POST_PATCH_CALLBACK)",
    ),
]


RULES: dict[str, Rule] = {rule.code: rule for rule in _TABLE}


@dataclass(frozen=True, order=True)
class ConsistencyWarning:
    """One thing to know before a patch is loaded. `code` is a row of RULES; `function`, `unit` and `object` say where,
    and are empty if the warning is about the whole patch; `evidence` lists the places where it was seen."""

    code: str
    function: str
    unit: str
    object: str
    fact: str
    evidence: tuple[str, ...]

    @property
    def remedy(self) -> str:
        return RULES[self.code].remedy


def sorted_warnings(found: Iterable[ConsistencyWarning]) -> list[ConsistencyWarning]:
    """The warnings in a fixed order, without repetitions: by code, then object, unit, function."""
    return sorted(set(found), key=lambda w: (w.code, w.object, w.unit, w.function, w.fact))
