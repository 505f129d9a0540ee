# SPDX-License-Identifier: GPL-2.0-or-later
"""Pairs of objects of real kernels (see the README beside them), compared with what another differ found."""

from __future__ import annotations

import json
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

from kgbuild.analysis.diff import Changes, compute_changes
from tests.toolchain import view

SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "objects"
EXPECTED = json.loads((SAMPLES / "expected.json").read_text()) if SAMPLES.is_dir() else {}
NAMES = sorted(n for n in EXPECTED if n.startswith("x86_64/"))
pytestmark = pytest.mark.skipif(not SAMPLES.is_dir(), reason="the sample objects are not beside this checkout")
# Functions that we call changed and the yardstick does not. They differ in the line numbers they hand to functions
# (panic, __might_sleep, lockdep), which the yardstick recognises by the callee's name. kgbuild compiles the patched
# file with #line directives, so that no such difference arises, and needs no list of names; where it does arise it is
# a difference. That it is nothing else is checked below.
LINES = {
    "x86_64/bug-table-section": "proc_sys_compare unregister_sysctl_table",
    "x86_64/fixup-section": "SyS_getdents compat_SyS_getdents",
    "x86_64/gcc-static-local-var-5": "audit_receive_msg auditd_reset kauditd_thread",
    "x86_64/line-detect-issue-1253": "balance_node_right push_node_left split_node",
    "x86_64/new-function": "n_tty_ioctl",
    "x86_64/special-static": "_do_fork",
    "x86_64/warn-detect": "*",
}
# Refusals that are expected: code and symbol. The yardstick refuses the change of proc_meminfo_init likewise; in
# cmdline-ubsan the init function differs in the line number in its UBSAN data only, which #line prevents.
REFUSED = {
    "x86_64/meminfo-init": ["K3-init:proc_meminfo_init"],
    "x86_64/cmdline-ubsan": ["K3-init:proc_cmdline_init"],
}


@cache
def sample(name: str) -> Changes:
    original, patched = (view((SAMPLES / f"{name}.{side}.o").read_bytes()) for side in ("ORIG", "PATCHED"))
    return compute_changes(original, patched, name)


@pytest.mark.parametrize("name", NAMES)
def test_sample(name: str) -> None:
    c = sample(name)
    changed, expected = {x.patched.name for x in c.changed}, {*EXPECTED[name]["changed"]}
    assert changed >= expected
    if LINES.get(name) != "*":
        assert changed - expected == {*LINES.get(name, "").split()}
    assert {x.name for x in c.new} == {*EXPECTED[name]["new"]}
    assert not c.removed
    assert [f"{r.code}:{r.symbol}" for r in c.refusals] == REFUSED.get(name, [])


@pytest.mark.parametrize("name", sorted(LINES))
def test_what_the_yardstick_sets_aside_are_line_numbers(name: str) -> None:
    c = sample(name)
    expected = {*EXPECTED[name]["changed"]}
    beyond = [x for x in c.changed if x.patched.name not in expected]
    assert beyond
    for x in beyond:
        assert shifts(c, x.original.name, x.patched.name), x.patched.name


def shifts(c: Changes, old: str, new: str) -> set[int]:
    """By how much 32-bit immediates of two functions differ; it fails where anything else does."""
    out = set()
    for a, b in ((old, new), (f"{old}.cold", f"{new}.cold")):
        x, y = c.original.by_name.get(a), c.patched.by_name.get(b)
        if x is None or y is None:
            assert x is y
            continue
        was, now = c.original.masked(x[0]), c.patched.masked(y[0])
        assert len(was) == len(now)
        for i in c.original.instructions(x[0]):
            left, right = (code[i.offset : i.offset + i.length] for code in (was, now))
            if left != right:
                assert left[:-4] == right[:-4]
                out.add(int.from_bytes(right[-4:], "little") - int.from_bytes(left[-4:], "little"))
    assert all(0 < abs(n) < 100 for n in out)
    return out


def test_no_sample_differs_from_itself() -> None:
    for name in NAMES:
        data = (SAMPLES / f"{name}.PATCHED.o").read_bytes()
        c = compute_changes(view(data), view(data), name)
        assert c.nothing, (name, c.changed, c.refusals)


@pytest.mark.parametrize("name", NAMES)
def test_every_entry_of_a_sample_is_read(name: str) -> None:
    """Sizes: 24 bytes of a jump_entry in older kernels, 13 of an alt_instr; no entry is lost."""
    c = sample(name)
    entries = [e for of in c.patched_entries.by_owner.values() for e in of]
    for section in c.patched.obj.sections:
        if section.name in c.patched.arch.special and section.alloc and section.size:
            mine = [e for e in entries if e.section_index == section.index]
            sizes = {e.size for e in mine}
            assert len(sizes) == 1
            assert 0 <= len(mine) * sizes.pop() - section.size < 8, section.name
            owners = {c.patched.atoms[e.owner].section for e in mine}
            assert all(c.patched.obj.sections[s].executable for s in owners), section.name


def test_jump_entries_have_the_size_of_their_kernel() -> None:
    sizes = {}
    for name in NAMES:
        c = sample(name)
        found = {e.size for of in c.patched_entries.by_owner.values() for e in of if e.section == "__jump_table"}
        if found:
            sizes[name] = found
    new = {"x86_64/jump-label-issue-1021", "x86_64/line-detect-issue-1253", "x86_64/static-call-issue-1165"}
    assert sizes
    for name, found in sizes.items():
        assert found == ({16} if name in new else {24}), name


@pytest.mark.parametrize("name", NAMES)
def test_replacements_fill_their_section(name: str) -> None:
    """The length byte is the right one: the pieces lie end to end, none in another."""
    view = sample(name).patched
    section = view.obj.section_named(".altinstr_replacement")
    entries = [e for of in sample(name).patched_entries.by_owner.values() for e in of if e.replacement is not None]
    pieces = {(view.atoms[e.replacement].offset, view.atoms[e.replacement].size) for e in entries}
    assert sum(size for _, size in pieces) == (section.size if section else 0)
    assert all(a[0] + a[1] <= b[0] for a, b in pairwise(sorted(pieces)))
