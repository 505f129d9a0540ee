# SPDX-License-Identifier: GPL-2.0-or-later
"""Pairs compiled from pairs/*.c, each one behaviour: what must count as changed, and what must not.

Each pair is compared both ways round. Where the file knows REAL, a real change is put beside the accidental
difference, and must be found there.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from kgbuild.correlation import noise
from kgbuild.correlation.noise import RULES
from kgbuild.diff.changes import Changes, compute_changes
from tests.toolchain import CC, CLANG, PAIRS, compile_all, compile_pair_side, compile_text, pair_flags, view


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


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    sides = [(c.name, (*c.flags, *d), c.compiler) for c in ALL for d in ((), ("-DPATCHED",))]
    real = [(c.name, (*c.flags, "-DPATCHED", "-DREAL"), c.compiler) for c in ALL if c.real is not None]
    compile_all(sides + real)


def changes(case: Case, left: tuple[str, ...], right: tuple[str, ...]) -> Changes:
    sides = [view(compile_pair_side(case.name, *case.flags, *flags, compiler=case.compiler)) for flags in (left, right)]
    return compute_changes(*sides, f"{case.name}.c")


def without_numbers(names: list[str]) -> str:
    """Names sorted, with N for what the compiler may number as it likes."""
    out = [".".join("N" if part.isdigit() else part for part in name.split(".")) for name in names]
    return " ".join(sorted(out))


def found(c: Changes) -> tuple[str, str, str, str]:
    return (
        without_numbers([x.original.name for x in c.changed]),
        without_numbers([x.name for x in c.new]),
        without_numbers([x.name for x in c.removed]),
        without_numbers([f"{r.code}:{r.symbol}" for r in c.refusals]),
    )


def test_every_pair_is_a_case() -> None:
    assert {p.stem for p in PAIRS.glob("*.c")} == {c.name for c in CASES}


@pytest.mark.parametrize("case", ALL, ids=lambda c: c.id)
def test_pair(case: Case) -> None:
    c = changes(case, (), ("-DPATCHED",))
    assert found(c) == (case.changed, case.new, case.removed, case.refused)
    if case.reason:
        assert {x.reason.kind for x in c.changed} == {case.reason}
    if case.noise is not None:
        assert " ".join(f"{n.function}:{n.rule}" for n in c.noise) == case.noise


@pytest.mark.parametrize("case", ALL, ids=lambda c: c.id)
def test_pair_the_other_way_round(case: Case) -> None:
    c = changes(case, ("-DPATCHED",), ())
    refused = case.refused if case.reverse_refused is None else case.reverse_refused
    names = case.changed if case.reverse_changed is None else case.reverse_changed
    if "twin" in names:
        # named after the original, in which the two are one body now or are two
        names = without_numbers([x.original.name for x in c.changed])
        assert {x.patched.name for x in c.changed} | {"twin_a", "twin_b"} >= {*case.changed.split()}
    assert found(c) == (names, case.removed, case.new, refused)


@pytest.mark.parametrize("case", [c for c in ALL if c.real is not None], ids=lambda c: c.id)
def test_real_change_beside_accidental_difference(case: Case) -> None:
    c = changes(case, (), ("-DPATCHED", "-DREAL"))
    assert found(c)[0] == case.real


@pytest.mark.parametrize("case", ALL, ids=lambda c: c.id)
def test_same_object_has_no_changes(case: Case) -> None:
    c = changes(case, ("-DPATCHED",), ("-DPATCHED",))
    assert found(c) == ("", "", "", "")
    assert c.nothing


def test_every_rule_has_a_pair_and_a_real_change_beside_it() -> None:
    cases = [c for c in ALL if c.noise]
    assert {n.partition(":")[2] for c in cases for n in (c.noise or "").split()} == {*RULES}
    assert all(c.real or c.name == "debug_message_new" for c in cases)


def test_there_are_pairs_of_both_compilers() -> None:
    assert len(CASES) > 60
    assert len([c for c in ALL if c.compiler == CLANG]) > 60


def test_static_locals_are_paired_by_their_users_not_by_their_numbers() -> None:
    c = changes(next(c for c in CASES if c.name == "static_locals_swapped"), (), ("-DPATCHED",))

    def owner_of(v, atom_id: int) -> str:
        return next(f.name for f in v.functions if any(r.atom == atom_id for r in v.refs(f)))

    pairs = [(o, p) for o, p in c.correlation.pairs("data") if o.name.startswith("count.")]
    assert len(pairs) == 2
    assert all(o.name != p.name for o, p in pairs), "the compiler does not number them anew, so nothing is tested"
    assert all(owner_of(c.original, o.id) == owner_of(c.patched, p.id) for o, p in pairs)


def test_static_local_of_another_function_is_not_the_same() -> None:
    c = changes(next(c for c in CASES if c.name == "static_local_moved"), (), ("-DPATCHED",))
    assert not [p.name for _, p in c.correlation.pairs("data")]


def test_clones_are_paired_by_content() -> None:
    c = changes(next(c for c in CASES if c.name == "clones_renumbered"), (), ("-DPATCHED",))
    pairs = {(o.name, p.name) for o, p in c.correlation.pairs("function") if "constprop" in o.name}
    assert pairs == {("work.constprop.0", "work.constprop.1"), ("work.constprop.1", "work.constprop.0")}


def test_folded_names_are_one_atom() -> None:
    c = changes(next(c for c in CASES if c.name == "icf_unfolded"), (), ("-DPATCHED",))
    assert [set(a.names) for a in c.original.functions if "twin_a" in a.names] == [{"twin_a", "twin_b"}]
    # the caller whose callee changed comes along, the other one stays
    assert {x.patched.name for x in c.changed} == {"twin_b", "call_b"}


def test_end_of_an_array_belongs_to_it() -> None:
    c = changes(next(c for c in CASES if c.name == "array_end"), (), ())
    first = c.original.by_name["first"][0]
    targets = {c.original.atoms[r.atom].name for r in c.original.refs(first)}
    assert targets == {"__fentry__", "source", "table", "before", "after"}


def test_common_variable_that_grows() -> None:
    text = '#include "kernel.h"\nint shared[%d];\nvoid first(void) { sink(shared); }'
    old, new = (view(compile_text(text % n, *pair_flags(("-fcommon",)))) for n in (4, 8))
    assert [x.patched.name for x in compute_changes(old, new, "unit.c").changed] == ["first"]
    assert compute_changes(old, old, "unit.c").nothing


def test_number_behind_the_name_of_the_function_is_no_line() -> None:
    """A mode, handed on with a name that happens to be the function's."""
    text = """
        #include "kernel.h"
        int create(const char *name, int mode);
        int probe(void) { return create("probe", %s) + 1; }
    """
    old, new = (view(compile_text(text % mode, *pair_flags())) for mode in ("0644", "0600"))
    c = compute_changes(old, new, "unit.c")
    assert ([x.patched.name for x in c.changed], c.noise) == (["probe"], ())


LINES = [c for c in CASES if not c.changed and any(rule in (c.noise or "") for rule in noise.LINES)]


@pytest.mark.parametrize("case", LINES, ids=lambda c: c.name)
def test_where_lines_are_held_in_place_a_line_is_a_change(case: Case) -> None:
    """A build compiles with #line: what differs there is what the patch says."""
    old, new = (view(compile_pair_side(case.name, *case.flags, *d)) for d in ((), ("-DPATCHED",)))
    assert compute_changes(old, new, "unit.c", lines=False).changed
    assert not compute_changes(old, new, "unit.c").changed


def test_functions_that_enter_and_leave_init_memory_are_said_to_move() -> None:
    case = next(c for c in CASES if c.name == "init_moved")
    facts = {r.symbol: (r.section, r.fact) for r in changes(case, (), ("-DPATCHED",)).refusals}
    assert facts["second"][1] == "second moves from .text.second to .init.text, which runs once and is freed"
    fact = "first moves to .text.first from .init.text, which runs once and is freed: the kernel has it no more"
    assert facts["first"] == (".text.first", fact)
