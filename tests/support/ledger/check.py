# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether the answer to an edited object is right: it is in the ledger, and it is not passed over."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache

from kgbuild.accounting.unit_facts import NO_EFFECT, NOISE
from kgbuild.correlation import noise
from kgbuild.elf.read import FormatError, read
from kgbuild.pipeline.object_diff import ObjectDiff, diff_objects
from tests.support.ledger.edit import Edit, Editor
from tests.support.pair_cases import CASES
from tests.support.toolchain import compile_pair_side

# Where an edit may end without a change, since nobody who runs reads the place; by kind of edit, the beginnings of
# sections' names. What is not here must be a change or a refusal.
TABLES = (".altinstr", ".call_sites", ".orc_unwind", ".parainstructions", ".retpoline_sites", ".return_sites")
TABLES += (".smp_locks", ".static_call_sites", "__bug_table", "__ex_table", "__jump_table", "__mcount_loc")
TABLES += ("__patchable_function_entries", ".ibt_endbr_seal", "_error_injection_whitelist")
REGISTERED = ("___ksymtab", "__ksymtab_strings", "___kcrctab", ".initcall", ".con_initcall", ".init.setup", "__param")
REGISTERED += (
    ".lsm_info.init",
    "__syscalls_metadata",
    "__tracepoints",
    "_ftrace_events",
    "__bpf_raw_tp_map",
    "__modver",
    ".exitcall",
    "_kprobe_blacklist",
)
ONCE = (".init.", ".exit.", ".ref.")
TEXTS = (".rodata.str", ".rodata.cst", ".modinfo")
QUIET: dict[str, tuple[str, ...]] = {
    "byte": (".modinfo", ".orc_unwind", "__bug_table", ".discard", ".altinstr_replacement", ".printk_index"),
    "target": (".discard", ".orc_unwind", "___ksymtab", ".printk_index"),
    "addend": (".discard", ".orc_unwind", ".printk_index"),
    "entry": (".discard", ".printk_index"),
    "alignment": (".text", *TABLES, *REGISTERED, *ONCE, *TEXTS, "__dyndbg", ".noinstr.text", ".sched.text"),
    "flags": (*TABLES, *REGISTERED, *ONCE, *TEXTS),
    # linkers are done
    "bind": ("",),
    # a name that nobody in the object uses; other objects have been linked to what it stood for
    "rename": (".rodata", ".data", ".bss", *ONCE, *REGISTERED),
    "size": (".exit.", "__ksymtab_strings"),
    "move": (".exit.", "__ksymtab_strings"),
    # variables of one content, which code refers to by their symbols: where they lie says nothing
    "swap": (".exit.", "__ksymtab_strings", ".data.once"),
}
LITERALS = re.compile(r"\.rodata\..*(str|cst)\d")
# a constant that only a descriptor of dynamic debug leads to
SHOWN = re.compile(r"\.rodata\.__(func|FUNCTION|PRETTY_FUNCTION)__")

# what only the tracer shows of a system call, its lists and events included (SYSCALL_METADATA)
TRACED = re.compile(r"\.data\.(?:(?:types|args)_|__syscall_meta_)_\w+")

# with tables of every kind among them
NAMES = (
    "alternative_code",
    "bug_flags",
    "cold_only",
    "data_once",
    "data_percpu",
    "line_debug",
    "ops_changed",
    "section_sched",
    "shared_section",
    "static_locals_declared",
    "switch_table",
    "tracepoint_used",
)


@cache
def editors() -> dict[str, Editor]:
    """The compiled pairs that are edited, by name."""
    flags = {case.name: case.flags for case in CASES if case.compiler != "clang"}
    return {name: Editor(compile_pair_side(name, *flags[name])) for name in NAMES}


def outcome(found: ObjectDiff) -> str:
    return "refused" if found.refusals else "nothing" if found.nothing else "changed"


def check_edit(editor: Editor, edit: Edit, counts: Counter[str]) -> str:
    """What is wrong with the answer to an edit, "" for nothing; `counts` grows by what came of it."""
    try:
        patched = read(edit.data)
    except FormatError:
        counts["unreadable"] += 1
        return ""
    found = diff_objects(editor.obj, patched, "unit.c")
    ends = outcome(found)
    counts[ends] += 1
    counts[f"{edit.kind} {ends}"] += 1
    claims = found.accounting.claims
    if not claims:
        return "it is not in the ledger"
    if ends == "nothing":
        if not {c.by for c in claims} <= {NOISE, NO_EFFECT}:
            return "no change, with differences that count"
        literals = edit.kind in ("alignment", "flags") and LITERALS.match(edit.section)
        quiet = edit.section.startswith(QUIET.get(edit.kind, ())) or literals or SHOWN.match(edit.section)
        # a static function under another name: it is where it was, and so is all that points to it
        renamed = edit.kind == "rename" and any(c.why == noise.SUCCESSOR for c in claims)
        quiet = quiet or is_line_of_debug(edit) or renamed or TRACED.fullmatch(edit.section)
        if not quiet:
            return f"no change: {claims[0].difference}: {claims[0].why}"
    if ends == "changed" and all(c.by in (NOISE, NO_EFFECT) for c in claims):
        return "a change, with no difference that counts"
    return ""


def is_line_of_debug(edit: Edit) -> bool:
    """Whether the edited byte has nothing but bits of the line number in a descriptor of pr_debug (struct _ddebug,
    include/linux/dynamic_debug.h): 18 bits at offset 32, of which the lower 16 are in bytes of their own."""
    offset = re.fullmatch(r"\+0x([0-9a-f]+)", edit.place)
    in_line = offset is not None and int(offset[1], 16) % 56 in (32, 33)
    return edit.kind == "byte" and edit.section == "__dyndbg" and in_line


def run(editors: dict[str, Editor], count: int, seed: int) -> tuple[list[str], Counter[str]]:
    """Make `count` edits, spread over the objects; what is wrong, and how often each thing came of one."""
    import random

    chance = random.Random(seed)
    names, wrong, counts = sorted(editors), [], Counter[str]()
    made = 0
    while made < count:
        name = chance.choice(names)
        edit = editors[name].edit(chance)
        if edit is None:
            continue
        made += 1
        fault = check_edit(editors[name], edit, counts)
        if fault:
            wrong.append(f"{name}: {edit.kind} of {edit.section} {edit.place}: {fault}")
    return wrong, counts
