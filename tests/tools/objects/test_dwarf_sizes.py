# SPDX-License-Identifier: GPL-2.0-or-later
"""Sizes of special-section entries where several would fit: the object's own debugging information decides."""

from __future__ import annotations

from dataclasses import replace

from kgbuild.objects.entry_sizes import entry_size
from tests.support.toolchain import compile_text, pair_flags, view

TABLE = """
struct entry {{ int code; int pad[{more}]; }} keep;
void code(void) {{}}
asm(".pushsection .table, \\"a\\"\\n.long code - ., 0\\n.long code - ., 0\\n.popsection");
"""


def size_of(more: int, *flags: str) -> int | None:
    v = view(compile_text(TABLE.format(more=more), *pair_flags(flags)))
    section = v.obj.section_named(".table")
    assert section is not None
    spec = v.arch.special["__ex_table"]._replace(struct="entry", sizes={16: (0, 8), 8: (0,)})
    v.__dict__["arch"] = replace(v.arch, sections={".table": spec})
    return entry_size(v, section.index, spec)


def test_debugging_information_decides() -> None:
    assert size_of(1, "-g") == 8
    assert size_of(3, "-g") == 16


def test_no_relocation_is_left_over() -> None:
    v = view(compile_text(TABLE.format(more=1), *pair_flags()))
    section = v.obj.section_named(".table")
    assert section is not None
    for sizes in ({16: (0,), 8: (0,)}, {8: (0,), 16: (0,)}):
        assert entry_size(v, section.index, v.arch.special["__ex_table"]._replace(sizes=sizes)) == 8


def test_without_it_nothing_is_guessed() -> None:
    assert size_of(1) is None


def test_a_size_that_does_not_fit_is_refused() -> None:
    assert size_of(4, "-g") is None
