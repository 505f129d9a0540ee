# SPDX-License-Identifier: GPL-2.0-or-later
"""The compiled pairs of tests/objects/pairs, and what comparing each must give."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from tests.support.toolchain import CC, CLANG


@dataclass(frozen=True)
class Case:
    """What comparing a pair must give: names of functions, codes and symbols of refusals."""

    name: str
    changed: str = ""
    new: str = ""
    removed: str = ""
    refused: str = ""
    reason: str = ""
    real: str | None = None
    flags: tuple[str, ...] = ()
    reverse_refused: str | None = None
    reverse_changed: str | None = None
    # what is set aside, as `function:rule`, when the pair is compared; None where that is not the matter
    noise: str | None = None
    # what is another with clang, as fields; None where the construct is gcc's
    clang: dict[str, Any] | None = field(default_factory=dict)
    compiler: str = CC

    @property
    def id(self) -> str:
        return self.name + ("-clang" if self.compiler == CLANG else "")


ICF = ("-fipa-icf",)


CASES = [
    Case("absolute", "first", reason="reference"),
    Case("address_taken_gone", "register_all", removed="callback"),
    Case("alias", "caller real_one"),
    Case("alternative_call", "first", reason="entry"),
    Case("alternative_code", "first", reason="entry"),
    Case("alternative_elsewhere", "first second"),
    Case("alternative_feature", "first", reason="entry"),
    Case("array_end", "second"),
    Case("bug_entry_order", "first"),
    Case("bug_flags", "first", reason="entry"),
    Case("bug_line", real="second", noise="first:line-bug"),
    # third has second in it: the call was inlined
    Case("changed_body", "second third"),
    Case(
        "clones_renumbered",
        real="work.constprop.N",
        noise="first:clone-number second:clone-number",
        flags=("-fipa-cp-clone",),
        clang=None,
    ),
    Case("cold_only", "first", reason="cold", clang={"reason": "code"}),
    Case("constprop_vanished", "first second", new="work", removed="work.constprop.N", clang=None),
    Case("data_initial", refused="K1-data:limit"),
    Case("data_once", "second"),
    Case("data_percpu", refused="K1-data:counter"),
    Case("data_size", refused="K1-data:table"),
    # where a static leaves .rodata, whoever reads it refers to the new one
    Case(
        "data_writable",
        "get set",
        reverse_changed="set",
        reverse_refused="K1-data:level",
        clang={"changed": "set", "reverse_refused": ""},
    ),
    # an export that goes stays in the kernel: nothing to do
    Case("export", refused="K7-export:second", reverse_refused=""),
    Case("export_license", refused="K7-export:first"),
    Case("export_symbol", refused="K7-export:second", reverse_refused="K7-export:first"),
    Case("extable_type", "first", reason="entry"),
    Case("extern_becomes_static", "first", new="helper"),
    Case("float_constant", "first", reason="reference", flags=("-msse2",)),
    Case("func_name", "first", reason="reference"),
    Case("icf_both_change", "call_a call_b twin_a twin_a", flags=ICF, clang=None),
    Case("icf_folded", "call_a call_b twin_a twin_b", flags=ICF, clang=None),
    Case("icf_unfolded", "call_b twin_a", flags=ICF, clang=None),
    Case("init", refused="K3-init:start"),
    Case("init_moved", refused="K3-init:first K3-init:second"),
    Case("init_reference", "first"),
    Case("initcall", refused="K7-export:start", reverse_refused=""),
    Case("inline_static", "second"),
    # gcc keeps one image of the equal constants and another copy for the changed one
    Case("isra_renumbered", "second"),
    Case("isra_vanished", "first second", new="read_one", removed="read_one.isra.N", clang=None),
    Case("jump_table", "first", reason="reference"),
    Case("label_number", real="second", noise="first:label-number second:label-number"),
    Case("large_struct", "first second", clang={"changed": "first"}),
    Case("mutual", "odd"),
    Case("new_function", "caller", new="added", reason="reference"),
    Case("noreturn_returns", "caller fail"),
    Case("notrace_change", "quiet"),
    Case("ops_changed", refused="K1-data:table"),
    Case("objtool_tables", "first", reason="code"),
    Case("older_entries", "first third", reason="entry"),
    Case("own_address", "first second"),
    Case("param", refused="K7-export:__param_debug"),
    Case("rate_limit", "first", reason="reference"),
    Case("removed_function", "caller", removed="gone"),
    Case("shared_section", "first second", reason="reference"),
    Case("shared_section_moved", new="third", real="second"),
    Case("static_branch_sense", "first", reason="entry"),
    Case("static_key", "first", reason="entry"),
    Case("static_local_moved", "first second"),
    Case(
        "static_locals_exchanged",
        refused="K1-data:count.N K1-data:count.N",
        clang={"refused": "K1-data:first.count K1-data:second.count"},
    ),
    Case("static_locals_renumbered", "earlier", real="earlier second"),
    Case(
        "static_locals_swapped",
        real="second",
        noise="first:static-local-number second:static-local-number",
        clang={"noise": ""},
    ),
    Case("string_changed", "first", reason="reference"),
    Case("string_moved", "early", real="early second"),
    Case("switch_table", "first", reason="reference"),
    Case("unknown_entry", refused="K2-special:"),
    Case("unknown_table", "first"),
    Case("weak", "arch_hook"),
    Case("wide_string", "first", reason="reference"),
    Case("becomes_global", real="first"),
    Case("branch_width", "second", real="first second", noise="first:branch-width"),
    Case("call_sites", new="third", real="second"),
    Case(
        "constant_renumbered",
        "earlier",
        real="earlier second",
        noise="first:constant-number second:constant-number",
        clang={"noise": ""},
    ),
    Case("debug_message_new", "first", noise="second:once-flag-number"),
    Case("fixup", new="earlier", real="second"),
    Case("function_renamed", real="second", noise="first:successor"),
    Case("group_changed", "grouped", refused="K20-group:grouped"),
    Case("group_unchanged", "first", real="first second"),
    Case("ibt_endbr_seal", real="second"),
    Case("line_before_file", "first", reason="code"),
    Case("line_debug", real="second", noise="first:line-debug second:line-debug"),
    Case("line_lockdep", real="second", noise="first:line-argument"),
    Case("line_lookalike", "first", reason="code"),
    Case("line_might_sleep", real="second", noise="first:line-argument"),
    Case("line_other_file", "first", reason="code"),
    # clang's __func__ is a string like any other, and what stands behind such a one may mean something
    Case(
        "line_panic",
        real="second",
        noise="first:line-argument",
        clang={"changed": "first", "real": "first second", "noise": None},
    ),
    Case("line_printk", real="second", noise="first:line-argument"),
    Case("line_string", real="second", noise="first:line-string second:line-string"),
    Case("line_ubsan_bounds", real="second", noise="first:line-data second:line-data", flags=("-fsanitize=bounds",)),
    Case("line_ubsan_shift", real="second", noise="first:line-data second:line-data", flags=("-fsanitize=shift",)),
    Case("line_warn", real="second", noise="first:line-argument"),
    Case("llvm_suffix", real="helper.llvm.N", noise="first:module-hash second:module-hash"),
    Case("local_alias", "earlier", real="earlier real_one", clang={"real": "earlier second_name"}),
    Case(
        "once_flag",
        "later",
        real="later second",
        noise="first:once-flag-number second:once-flag-number",
        clang={"noise": ""},
    ),
    Case("part_renumbered", real="helper.part.N", noise="first:clone-number second:clone-number"),
    Case("patchable_entries", new="earlier", real="second", flags=("-fpatchable-function-entry=5,2",)),
    Case("prefix_changed", "first", reason="prefix"),
    Case("prefixes", new="third", real="second", flags=("-fpatchable-function-entry=16,16",)),
    Case("printk_index", real="second", noise="first:printk-index second:printk-index"),
    Case("section_cold", real="second", noise="first:section second:section"),
    Case("section_hot", real="second", noise="first:section second:section"),
    Case("section_sched", real="second", noise="first:section second:section"),
    Case("stacked_clones", real="helper.constprop.N.isra.N", noise="first:clone-number second:clone-number"),
    Case("static_locals_declared", "first"),
    Case("static_locals_of_scopes", "second", real="first second"),
    Case("temporary_labels", real="second", flags=("-Wa,-L",)),
    Case(
        "tracepoint_new",
        "second",
        refused="K7-export:new_event K7-export:pointer_to_new_event",
        reverse_refused="",
        # the name of a tracepoint is known by section and offset only, and has another neighbour
        clang={
            "refused": "K7-export:new_event K7-export:old_event K7-export:pointer_to_new_event",
            "reverse_refused": "K7-export:old_event",
        },
    ),
    Case("tracepoint_used", "first", real="first second"),
    Case("group_alone", "grouped"),
    Case("llvm_data", refused="K1-data:state.llvm.N"),
    Case("printk_index_new", "second"),
    Case("stacked_clone_vanishes", "first", removed="helper.isra.N.constprop.N"),
    Case("static_locals_of_scopes_swapped", real="second"),
    Case("ubsan_type", "first", reason="cold", flags=("-fsanitize=shift",), clang={"reason": "reference"}),
    Case("unnamed_constants", real="second", noise="", flags=("-Wa,-L",)),
]


ALL = CASES + [replace(c, compiler=CLANG, **c.clang) for c in CASES if c.clang is not None]
