# SPDX-License-Identifier: GPL-2.0-or-later
"""Objects edited at random: each edit is in the ledger, none is missed. tests/kernel/test_edits.py does the
same with units of a real kernel."""

from __future__ import annotations

import pytest

from tests.support.ledger.check import editors, run

# `make fuzz-test` makes more
EDITS, PARTS = 1000, 2


@pytest.mark.parametrize("part", range(PARTS))
def test_edits(part: int) -> None:
    wrong, counts = run(editors(), EDITS, part)
    assert not wrong, "\n".join(wrong)
    assert counts["changed"] and counts["refused"] > counts["nothing"] // 4


def test_each_kind_of_edit_is_made() -> None:
    _, counts = run(editors(), 400, 99)
    kinds = next(iter(editors().values())).kinds
    assert kinds.keys() <= {name.split()[0] for name in counts}
