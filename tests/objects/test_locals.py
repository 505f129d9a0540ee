# SPDX-License-Identifier: GPL-2.0-or-later
"""Static locals where the object says by DWARF which declaration each comes from."""

from __future__ import annotations

import pytest

from kgbuild.debuginfo.static_locals import read_static_locals
from kgbuild.diff.changes import Changes, compute_changes
from kgbuild.pipeline.object_diff import diff_objects, read_relocatable
from tests.support.toolchain import CC, CLANG, compile_pair_side, view


def changes(name: str) -> Changes:
    return compute_changes(*(view(compile_pair_side(name, "-g", *d)) for d in ((), ("-DPATCHED",))), f"{name}.c")


def test_declaration_in_another_function_is_another_variable() -> None:
    c = changes("static_local_moved")
    assert not c.correlation.pairs("data")
    assert not [k for k in c.correlation.undecided if "count" in k], "known to be another one, not undecided"


def test_declarations_pair_what_numbers_do_not() -> None:
    c = changes("static_locals_renumbered")
    assert [x.patched.name for x in c.changed] == ["earlier"]
    assert len([o for o, _ in c.correlation.pairs("data") if o.name.startswith("count.")]) == 2


def test_changed_user_keeps_its_variable() -> None:
    c = changes("inline_static")
    assert [(o.name, p.name) for o, p in c.correlation.pairs("data")] == [("id.0", "id.0")]
    assert [x.patched.name for x in c.changed] == ["second"]


@pytest.mark.parametrize("compiler", [CC, CLANG])
@pytest.mark.parametrize("version", [4, 5])
def test_the_line_of_a_declaration_tells_two_of_one_name(compiler: str, version: int) -> None:
    """clang has no address in .debug_info of DWARF 5, and no siblings."""
    sides = [
        compile_pair_side("static_locals_declared", f"-gdwarf-{version}", *flags, compiler=compiler)
        for flags in ((), ("-DPATCHED",))
    ]
    found = diff_objects(*(read_relocatable(data, "unit.o") for data in sides), "unit.c")
    assert ([c.name for c in found.changed], found.refusals) == (["first"], ())
    declared = [read_static_locals(v.obj) for v in (found.changes.orig, found.changes.patched)]
    assert [{(d.function, d.name, d.line) for d in side.values()} for side in declared] == 2 * [
        {("first", "count", 12), ("first", "count", 13)}
    ]
    pairs = found.changes.correlation.pairs("data")
    assert len(pairs) == 2
    assert all(declared[0][o.section, o.offset] == declared[1][p.section, p.offset] for o, p in pairs)


def test_both_readings_are_named_where_nothing_tells() -> None:
    sides = [compile_pair_side("static_locals_declared", *flags) for flags in ((), ("-DPATCHED",))]
    found = diff_objects(*(read_relocatable(data, "unit.o") for data in sides), "unit.c")
    names = sorted(a.name for a in found.changes.orig.data if a.name.startswith("count."))
    assert len(names) == 2
    assert {r.code for r in found.refusals} == {"K13-ambiguous"}
    assert all(f"may be the original's {names[0]} or {names[1]}" in r.fact for r in found.refusals)
