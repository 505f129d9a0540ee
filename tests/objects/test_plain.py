# SPDX-License-Identifier: GPL-2.0-or-later
"""The plain reading that real fixes are held against sees what it must, on pairs that are known."""

from __future__ import annotations

import pytest

from tests.support.plain import PlainObject, compare
from tests.support.toolchain import compile_pair_side

SEEN = {
    "changed_body": {"second": ("code",), "third": ("code",)},
    "cold_only": {"first": ("code",)},
    "string_changed": {"first": ("meaning",)},
    "switch_table": {"first": ("meaning",)},
    "line_panic": {"first": ("code",)},
    "static_key": {"first": ("__jump_table",)},
    "bug_flags": {"first": ("__bug_table",)},
    "alternative_feature": {"first": (".altinstructions",)},
    "alternative_code": {"first": (".altinstructions",)},
    "extable_type": {"first": ("__ex_table",)},
}


@pytest.mark.parametrize("name", SEEN)
def test_pair(name: str) -> None:
    orig, patched = (PlainObject(compile_pair_side(name, *flags)) for flags in ((), ("-DPATCHED",)))
    assert compare(orig, patched).changed == SEEN[name]
    assert compare(orig, orig).changed == {}


def test_numbers_count_where_asked() -> None:
    name = "clones_renumbered"
    sides = [compile_pair_side(name, "-fipa-cp-clone", *flags) for flags in ((), ("-DPATCHED",))]
    by_content = compare(*map(PlainObject, sides))
    by_name = compare(*(PlainObject(s, numbers=True) for s in sides))
    assert by_content.changed.keys() < by_name.changed.keys()
