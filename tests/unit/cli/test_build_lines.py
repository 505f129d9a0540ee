# SPDX-License-Identifier: GPL-2.0-or-later
"""Lines of a build that are made from rows of the report, by its keys."""

from __future__ import annotations

import pytest

from kgbuild.cli.build_lines import _state_line
from kgbuild.closure.model import StateLine
from kgbuild.report.build import _state


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (StateLine("b", "x.c", "vmlinux", "new", "", "", "nothing refers to it"), "new: nothing refers to it"),
        (StateLine("b", "x.c", "vmlinux", "same", "a", "x.c", "w"), "is the kernel's a (the same: w)"),
        (StateLine("b", "x.c", "vmlinux", "declared", "a", "y.c", "w"), "is the kernel's a of y.c (declared: w)"),
    ],
)
def test_what_became_of_a_variable(line: StateLine, said: str) -> None:
    assert _state_line(_state(line)).split(maxsplit=1) == ["b", said]
