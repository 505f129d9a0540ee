# SPDX-License-Identifier: GPL-2.0-or-later
"""Pairs compiled from pairs/*.c, each one behaviour: what must count as changed, and what must not.

Each pair is compared both ways round. Where the file knows REAL, a real change is put beside the accidental
difference, and must be found there.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from kgbuild.analysis.diff import Changes, compute_changes
from tests.toolchain import PAIRS, compile_all, compile_pair_side, compile_text, pair_flags, view


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


ICF = ("-fipa-icf",)
CASES = [
    Case("absolute", "first", reason="reference"),
    Case("address_taken_gone", "register_all", removed="callback"),
    Case("alias", "caller real_one"),
    Case("alternative_call", "first", reason="entry"),
    Case("alternative_code", "first", reason="entry"),
    Case("alternative_feature", "first", reason="entry"),
    Case("array_end", "second"),
    Case("bug_entry_order", "first"),
    Case("bug_flags", "first", reason="entry"),
    Case("bug_line", real="second"),
    # third has second in it: the call was inlined
    Case("changed_body", "second third"),
    Case("clones_renumbered", real="work.constprop.N", flags=("-fipa-cp-clone",)),
    Case("cold_only", "first", reason="cold"),
    Case("constprop_vanished", "first second", new="work", removed="work.constprop.N"),
    Case("data_initial", refused="K1-data:limit"),
    Case("data_once", "second"),
    Case("data_percpu", refused="K1-data:counter"),
    Case("data_size", refused="K1-data:table"),
    Case("data_writable", "set", refused="K1-data:level"),
    # an export that goes stays in the kernel: nothing to do
    Case("export", refused="K7-export:second", reverse_refused=""),
    Case("extable_type", "first", reason="entry"),
    Case("extern_becomes_static", "first", new="helper"),
    Case("float_constant", "first", reason="reference", flags=("-msse2",)),
    Case("func_name", "first", reason="reference"),
    Case("icf_both_change", "call_a call_b twin_a twin_a", flags=ICF),
    Case("icf_folded", "call_a call_b twin_a twin_b", flags=ICF),
    Case("icf_unfolded", "call_b twin_a", flags=ICF),
    Case("init", refused="K3-init:start"),
    Case("init_reference", "first"),
    Case("inline_static", "second"),
    # gcc keeps one image of the equal constants and another copy for the changed one
    Case("isra_renumbered", "second"),
    Case("isra_vanished", "first second", new="read_one", removed="read_one.isra.N"),
    Case("jump_table", "first", reason="reference"),
    Case("large_struct", "first second"),
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
    Case("static_locals_exchanged", refused="K1-data:count.N K1-data:count.N"),
    Case("static_locals_renumbered", "earlier", real="earlier second"),
    Case("static_locals_swapped", real="second"),
    Case("string_changed", "first", reason="reference"),
    Case("string_moved", "early", real="early second"),
    Case("switch_table", "first", reason="reference"),
    Case("unknown_entry", refused="K2-special:"),
    Case("unknown_table", "first"),
    Case("weak", "arch_hook"),
    Case("wide_string", "first", reason="reference"),
]


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    sides = [(c.name, (*c.flags, *d)) for c in CASES for d in ((), ("-DPATCHED",))]
    compile_all(sides + [(c.name, (*c.flags, "-DPATCHED", "-DREAL")) for c in CASES if c.real is not None])


def changes(case: Case, left: tuple[str, ...], right: tuple[str, ...]) -> Changes:
    sides = [view(compile_pair_side(case.name, *case.flags, *flags)) for flags in (left, right)]
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


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_pair(case: Case) -> None:
    c = changes(case, (), ("-DPATCHED",))
    assert found(c) == (case.changed, case.new, case.removed, case.refused)
    if case.reason:
        assert {x.reason.kind for x in c.changed} == {case.reason}


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_pair_the_other_way_round(case: Case) -> None:
    c = changes(case, ("-DPATCHED",), ())
    refused = case.refused if case.reverse_refused is None else case.reverse_refused
    names = case.changed
    if "twin" in names:
        # named after the original, in which the two are one body now or are two
        names = without_numbers([x.original.name for x in c.changed])
        assert {x.patched.name for x in c.changed} | {"twin_a", "twin_b"} >= {*case.changed.split()}
    assert found(c) == (names, case.removed, case.new, refused)


@pytest.mark.parametrize("case", [c for c in CASES if c.real is not None], ids=lambda c: c.name)
def test_real_change_beside_accidental_difference(case: Case) -> None:
    c = changes(case, (), ("-DPATCHED", "-DREAL"))
    assert found(c)[0] == case.real


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_same_object_has_no_changes(case: Case) -> None:
    c = changes(case, ("-DPATCHED",), ("-DPATCHED",))
    assert found(c) == ("", "", "", "")
    assert c.nothing


def test_line_of_a_bug_entry_is_noted_as_noise() -> None:
    c = changes(next(c for c in CASES if c.name == "bug_line"), (), ("-DPATCHED",))
    assert [(n.function, n.rule) for n in c.noise] == [("first", "line-bug")]


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
