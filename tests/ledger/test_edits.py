# SPDX-License-Identifier: GPL-2.0-or-later
"""Objects edited at random: each edit is in the ledger, and none is passed over. tests/kernel/test_edits.py does the
same with units of a real kernel."""

from __future__ import annotations

from functools import cache

import pytest

from tests.support.ledger.check import run
from tests.support.ledger.edit import Editor
from tests.support.pair_cases import CASES
from tests.support.toolchain import compile_pair_side

EDITS, PARTS = 5000, 5
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
    flags = {case.name: case.flags for case in CASES if case.compiler != "clang"}
    return {name: Editor(compile_pair_side(name, *flags[name])) for name in NAMES}


@pytest.mark.parametrize("part", range(PARTS))
def test_edits(part: int) -> None:
    wrong, counts = run(editors(), EDITS // PARTS, part)
    assert not wrong, "\n".join(wrong)
    assert counts["changed"] and counts["refused"] > counts["nothing"] // 4


def test_each_kind_of_edit_is_made() -> None:
    _, counts = run(editors(), 400, 99)
    kinds = next(iter(editors().values())).kinds
    assert kinds.keys() <= {name.split()[0] for name in counts}
