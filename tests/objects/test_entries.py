# SPDX-License-Identifier: GPL-2.0-or-later
"""Entries of special sections in the compiled pairs: each is read, with its size and what it refers to."""

from __future__ import annotations

from itertools import pairwise

import pytest

from kgbuild.diff.changes import Changes, compute_changes
from kgbuild.objects.special_entries import SpecialEntry
from tests.support.compare import ENTRIES
from tests.support.pair_cases import ALL, CASES, Case
from tests.support.toolchain import compile_pair_side, view

# Its table is wrong on purpose.
NOT_READ = {"unknown_entry"}


def changes(case: Case, *flags: str) -> Changes:
    sides = [view(compile_pair_side(case.name, *case.flags, *f, compiler=case.compiler)) for f in ((), flags)]
    return compute_changes(*sides, f"{case.name}.c")


def entries_of(c: Changes) -> list[SpecialEntry]:
    return [e for of in c.patched_entries.by_owner.values() for e in of]


def test_every_entry_is_read() -> None:
    """All entries of a section have one size, fill it but for its alignment, and each belongs to code."""
    seen = set()
    for case in ALL:
        if case.name in NOT_READ:
            continue
        c = changes(case, "-DPATCHED")
        for section in c.patched.obj.sections:
            if section.name in c.patched.arch.special and section.alloc and section.size:
                entries = [e for e in entries_of(c) if e.section_index == section.index]
                assert entries, (case.id, section.name)
                sizes = {e.size for e in entries}
                assert len(sizes) == 1, (case.id, section.name)
                size = sizes.pop()
                assert 0 <= len(entries) * size - section.size < 8, (case.id, section.name)
                owners = {c.patched.atoms[e.owner].section for e in entries}
                assert all(c.patched.obj.sections[s].executable for s in owners), (case.id, section.name)
                seen.add((section.name, size))
    assert {name for name, _ in seen} >= {*ENTRIES}
    assert seen >= {("__jump_table", 16), ("__jump_table", 24), (".altinstructions", 12), (".altinstructions", 13)}


REPLACING = {"alternative_call", "alternative_code", "alternative_feature", "older_entries"}
WITH_REPLACEMENTS = [c for c in CASES if c.name in REPLACING]


@pytest.mark.parametrize("case", WITH_REPLACEMENTS, ids=lambda c: c.name)
def test_replacements_fill_their_section(case: Case) -> None:
    """The length byte is the right one: the pieces lie end to end, none in another."""
    c = changes(case, "-DPATCHED")
    section = c.patched.obj.section_named(".altinstr_replacement")
    assert section is not None
    atoms = [c.patched.atoms[e.replacement] for e in entries_of(c) if e.replacement is not None]
    pieces = {(a.offset, a.size) for a in atoms}
    assert sum(size for _, size in pieces) == section.size
    assert all(first[0] + first[1] <= second[0] for first, second in pairwise(sorted(pieces)))


LINES = [c for c in ALL if c.noise and "line-argument" in c.noise]


@pytest.mark.parametrize("case", LINES, ids=lambda c: c.id)
def test_line_numbers_are_set_aside_and_nothing_else(case: Case) -> None:
    """Of functions that differ in lines that they hand to others, nothing differs but 32-bit immediates."""
    c = changes(case, "-DPATCHED")
    functions = {n.function for n in c.noise if n.rule == "line-argument"}
    assert functions
    for function in sorted(functions):
        orig, patched = (v.by_name[function][0] for v in (c.orig, c.patched))
        codes = c.orig.masked(orig), c.patched.masked(patched)
        assert len(codes[0]) == len(codes[1])
        differ = []
        for i in c.orig.instructions(orig):
            before, after = (code[i.offset : i.offset + i.length] for code in codes)
            if before != after:
                assert before[:-4] == after[:-4]
                differ.append(int.from_bytes(after[-4:], "little") - int.from_bytes(before[-4:], "little"))
        assert differ and len({*differ}) == 1
