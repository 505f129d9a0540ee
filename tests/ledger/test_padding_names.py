# SPDX-License-Identifier: GPL-2.0-or-later
"""Padding before functions has a symbol (CONFIG_CALL_PADDING): what it is where folded functions come apart."""

from __future__ import annotations

import pytest

from tests.support.ledger.pairs import CHANGED, answer, outcome

BODY = "mov %%edi,%%eax; add $%d,%%eax; ret"


def function(names: list[str], number: int) -> str:
    """Functions with one body, after padding with the name of the last of them."""
    begin = "; ".join(f".type {name},@function; {name}:" for name in names)
    end = "; ".join(f".size {name}, . - {name}" for name in names)
    pad = f"__pfx_{names[-1]}"
    return (
        f'asm(".pushsection .text.{names[-1]}, \\"ax\\"; .p2align 4; .type {pad},@function; {pad}: .fill 16,1,0x90; '
        f'.size {pad},16; {begin}; {BODY % number}; {end}; .popsection");\n'
    ).replace("%%", "%")


USERS = "long first(long); long second(long);\nlong uses(long x) { return first(x) + second(x); }\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        # the body that stays gets padding of its own, with another name
        (function(["first", "second"], 1), function(["first"], 1) + function(["second"], 2)),
        (function(["second", "first"], 1), function(["first"], 1) + function(["second"], 2)),
    ],
    ids=["apart", "the other name"],
)
def test_padding_goes_with_its_function(before: str, after: str) -> None:
    found = answer(USERS + before, USERS + after)
    assert outcome(found) == CHANGED
    assert {"first", "second"} & {c.name for c in found.changed} == {"second"}
