# SPDX-License-Identifier: GPL-2.0-or-later
"""Pairs of objects of real kernels (see the README beside them), compared with what another differ found."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import pytest

from kgbuild.diff.changes import Changes, compute_changes
from kgbuild.pipeline.object_diff import ObjectDiff, diff_objects, read_relocatable
from tests.support.samples import EXPECTED, NAMES, SAMPLES
from tests.support.toolchain import view

pytestmark = pytest.mark.skipif(not SAMPLES.is_dir(), reason="the sample objects are not beside this checkout")
# Functions that differ in nothing but the line numbers they hand to others (panic, __might_sleep, lockdep).
LINES = {
    "x86_64/bug-table-section": "proc_sys_compare unregister_sysctl_table",
    "x86_64/fixup-section": "SyS_getdents compat_SyS_getdents",
    "x86_64/gcc-static-local-var-5": "audit_receive_msg auditd_reset kauditd_thread",
    "x86_64/line-detect-issue-1253": "balance_node_right push_node_left split_node",
    "x86_64/new-function": "n_tty_ioctl",
    "x86_64/special-static": "_do_fork",
    "x86_64/warn-detect": "dev_change_name netif_set_real_num_rx_queues",
}
# Refusals that are expected: code and symbol. The yardstick refuses the change of proc_meminfo_init likewise.
REFUSED = {"x86_64/meminfo-init": ["K3-init:proc_meminfo_init"]}
# A function and its cold half are one: a new do_exit that jumped into the old one's half would return into old code.
OUTPUT_BEYOND = {"x86_64/static-call-issue-1165": {"do_exit.cold"}}


@cache
def sample(name: str) -> Changes:
    original, patched = (view((SAMPLES / f"{name}.{side}.o").read_bytes()) for side in ("ORIG", "PATCHED"))
    return compute_changes(original, patched, name)


@cache
def answer(name: str) -> ObjectDiff:
    original, patched = (
        read_relocatable((SAMPLES / f"{name}.{side}.o").read_bytes(), name) for side in ("ORIG", "PATCHED")
    )
    return diff_objects(original, patched, name)


@pytest.mark.parametrize("name", NAMES)
def test_sample(name: str) -> None:
    a, expected = answer(name), EXPECTED[name]
    assert [c.name for c in a.changed] == sorted(expected["changed"])
    assert [*a.new] == sorted(expected["new"])
    assert not a.removed
    assert [f"{r.code}:{r.symbol}" for r in a.refusals] == REFUSED.get(name, [])
    assert a.init_only == (name == "x86_64/meminfo-init")
    assert expected["builds"] == (not a.refusals and bool(a.output_functions))
    if expected["builds"]:
        assert {*a.output_functions} - OUTPUT_BEYOND.get(name, set()) == {*expected["output_functions"]}


@pytest.mark.parametrize("name", sorted(LINES))
def test_line_numbers_are_set_aside_and_nothing_else(name: str) -> None:
    c = sample(name)
    noise = {n.function for n in c.noise if n.rule == "line-argument"}
    assert noise >= {*LINES[name].split()}
    for function in sorted(noise):
        halves = function.partition(".cold")[0]
        assert shifts(c, halves, halves), function


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
