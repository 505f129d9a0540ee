# SPDX-License-Identifier: GPL-2.0-or-later
"""Static locals where the object says by DWARF which declaration each comes from."""

from __future__ import annotations

from kgbuild.analysis.diff import Changes, compute_changes
from tests.toolchain import compile_pair_side, view


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
