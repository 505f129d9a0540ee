# SPDX-License-Identifier: GPL-2.0-or-later
"""Pairs compiled from pairs/*.c, each one behaviour: what must count as changed, and what must not.

Each pair is compared both ways round. Where the file knows REAL, a real change is put beside the accidental
difference, and must be found there.
"""

from __future__ import annotations

import pytest

from kgbuild.correlation import noise
from kgbuild.correlation.noise import RULES
from kgbuild.diff.changes import Changes, compute_changes
from tests.support.pair_cases import ALL, CASES, Case
from tests.support.toolchain import CLANG, PAIRS, compile_all, compile_pair_side, compile_text, pair_flags, view


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
        without_numbers([x.orig.name for x in c.changed]),
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
        names = without_numbers([x.orig.name for x in c.changed])
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
    assert all(owner_of(c.orig, o.id) == owner_of(c.patched, p.id) for o, p in pairs)


def test_static_local_of_another_function_is_not_the_same() -> None:
    c = changes(next(c for c in CASES if c.name == "static_local_moved"), (), ("-DPATCHED",))
    assert not [p.name for _, p in c.correlation.pairs("data")]


def test_clones_are_paired_by_content() -> None:
    c = changes(next(c for c in CASES if c.name == "clones_renumbered"), (), ("-DPATCHED",))
    pairs = {(o.name, p.name) for o, p in c.correlation.pairs("function") if "constprop" in o.name}
    assert pairs == {("work.constprop.0", "work.constprop.1"), ("work.constprop.1", "work.constprop.0")}


def test_folded_names_are_one_atom() -> None:
    c = changes(next(c for c in CASES if c.name == "icf_unfolded"), (), ("-DPATCHED",))
    assert [set(a.names) for a in c.orig.functions if "twin_a" in a.names] == [{"twin_a", "twin_b"}]
    # the caller whose callee changed comes along, the other one stays
    assert {x.patched.name for x in c.changed} == {"twin_b", "call_b"}


def test_end_of_an_array_belongs_to_it() -> None:
    c = changes(next(c for c in CASES if c.name == "array_end"), (), ())
    first = c.orig.by_name["first"][0]
    targets = {c.orig.atoms[r.atom].name for r in c.orig.refs(first)}
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
