# SPDX-License-Identifier: GPL-2.0-or-later
"""What the undefined behaviour sanitizer describes: numbered by the compiler, and some of it read by nothing."""

from __future__ import annotations

import pytest

from kgbuild.accounting.unit_facts import NO_EFFECT
from tests.support.ledger.pairs import CHANGED, NOTHING, answer, outcome

# struct source_location and struct type_descriptor of lib/ubsan.h, as gcc writes them
DATA = """
asm(".pushsection .data..Lubsan_data%(number)d,\\"aw\\"\\n.balign 32\\n.Lubsan_data%(number)d:\\n"
    ".quad .Lfile%(number)d\\n.long %(line)d, 5\\n.quad .Lubsan_type%(type)d\\n.popsection\\n"
    ".pushsection .rodata.str1.1,\\"aMS\\",@progbits,1\\n.Lfile%(number)d: .string \\"fs/x.c\\"\\n.popsection");
"""
TYPE = """
asm(".pushsection .data..Lubsan_type%(type)d,\\"aw\\"\\n.balign 2\\n.Lubsan_type%(type)d:\\n"
    ".value 0, 11\\n.string \\"'int'\\"\\n.popsection");
"""
USE = """
extern void __ubsan_handle_it(const void *, long);
long %(name)s(long x) { const void *d; asm("movq $.Lubsan_data%(number)d, %%0" : "=r"(d));
    if (x > 5)
        __ubsan_handle_it(d, x);
    return x; }
"""


def unit(first: int, lines: list[int], used: list[int]) -> str:
    """Descriptions numbered from `first`, one for each line; those of the lines `used` have a function that uses it."""
    text = TYPE % {"type": first}
    for number, line in enumerate(lines, first + 1):
        text += DATA % {"number": number, "line": line, "type": first}
        if line in used:
            text += USE % {"number": number, "name": f"at_{line}"}
    return text


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (unit(7, [10, 20, 30], [10, 30]), unit(8, [10, 20, 30], [10, 30])),
        (unit(7, [10, 20, 30], [10, 30]), unit(7, [10, 15, 20, 30], [10, 30])),
        (unit(7, [10, 20, 30], [10, 30]), unit(3, [20, 10, 30], [10, 30])),
        (unit(7, [10, 20, 30], [10, 30]), unit(7, [10, 30], [10, 30])),
        (unit(7, [10, 30], [10, 30]), unit(7, [10, 11, 12, 13, 30], [10, 30])),
        (unit(7, [10, 20, 30], [10, 30]), unit(7, [10, 20, 30], [10, 30]).replace(".long 20, 5", ".long 20, 9")),
    ],
    ids=["other numbers", "one more", "another order", "one fewer", "three more", "another column"],
)
def test_numbers_and_what_nothing_reads(before: str, after: str) -> None:
    found = answer(before, after)
    assert outcome(found) == NOTHING
    assert {c.by for c in found.accounting.claims} <= {NO_EFFECT}
    found = answer(before, after, "+1")
    assert outcome(found) == CHANGED and [c.name for c in found.changed] == ["beside"]


def test_what_a_function_reads_is_its_content() -> None:
    """Another place is another message of the sanitizer: a change of the function, and of no other."""
    found = answer(unit(7, [10, 20], [10, 20]), unit(7, [10, 20], [10, 20]).replace(".long 20, 5", ".long 20, 6"))
    assert outcome(found) == CHANGED and [c.name for c in found.changed] == ["at_20"]


def test_a_table_that_nothing_refers_to_is_no_left_over() -> None:
    table = 'asm(".pushsection __some_table,\\"a\\"\\n.quad %d\\n.popsection");'
    assert outcome(answer(table % 1, table % 2)) != NOTHING
