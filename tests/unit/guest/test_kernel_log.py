# SPDX-License-Identifier: GPL-2.0-or-later
"""What counts as a complaint of the kernel."""

from __future__ import annotations

import re

import pytest

from kgbuild.guest.kernel_log import Fault, find_faults, parse_console, parse_raw

WARN = """\
<4>[    5.000001] ------------[ cut here ]------------
<4>[    5.000002] WARNING: CPU: 0 PID: 114 at lp.c:2 lp_show+0x5/0xfd0 [lp]
<4>[    5.000003] Modules linked in: lp(OEK)
<4>[    5.000004] RIP: 0010:lp_show+0x5/0xfd0 [lp]
<4>[    5.000005] Call Trace:
<4>[    5.000006]  <TASK>
<4>[    5.000007]  seq_read_iter+0x122/0x450
<4>[    5.000008]  </TASK>
<4>[    5.000009] ---[ end trace 0000000000000000 ]---
"""
OOPS = """\
<1>[    6.000001] BUG: kernel NULL pointer dereference, address: 0000000000000008
<1>[    6.000002] #PF: supervisor write access in kernel mode
<4>[    6.000003] Oops: 0002 [#1] PREEMPT SMP NOPTI
<4>[    6.000004] RIP: 0010:lp_show+0x5/0xfd0 [lp]
<4>[    6.000005] Call Trace:
<4>[    6.000006]  <TASK>
<4>[    6.000007]  seq_read_iter+0x122/0x450
<4>[    6.000008]  </TASK>
<4>[    6.000009] ---[ end trace 0000000000000000 ]---
"""
CLEAN = """\
<14>[    2.919996] kgbuild: run 000 begins
<4>[    3.059308] lp: loading out-of-tree module taints kernel.
<5>[    3.059823] lp: tainting kernel with TAINT_LIVEPATCH
<5>[    3.062122] lp: module verification failed: signature and/or required key missing - tainting kernel
<5>[    3.134407] livepatch: enabling patch 'lp'
<6>[    3.156939] debug: nothing special
"""


def faults(text: str, *allow: str) -> list[Fault]:
    return find_faults(parse_raw(text), [re.compile(pattern) for pattern in allow])


def test_a_clean_log_is_clean() -> None:
    assert faults(CLEAN) == []


def test_raw_lines() -> None:
    lines = parse_raw("<12>[    1.500000] mine\n<4>[    2.0][    T7] theirs\nno prefix\n\n<6>no time")
    assert [(x.text, x.level, x.seconds, x.user) for x in lines] == [
        ("mine", 4, 1.5, True),
        ("theirs", 4, 2.0, False),
        ("no prefix", None, None, False),
        ("no time", 6, None, False),
    ]


def test_blocks_are_one_fault_each() -> None:
    found = faults(CLEAN + WARN + CLEAN + OOPS + WARN)
    assert [fault.kind for fault in found] == ["warning", "oops", "warning"]
    assert found[0].headline.startswith("WARNING: CPU: 0")
    assert len(found[0].lines) == 9
    assert found[1].headline.startswith("BUG: kernel NULL")


def test_an_expected_block_is_allowed_and_nothing_else() -> None:
    assert faults(WARN, r"lp\.c:2 lp_show") == []
    assert [fault.kind for fault in faults(WARN + OOPS, r"WARNING: .*lp_show")] == ["oops"]
    assert [fault.kind for fault in faults(OOPS + WARN, r"BUG: kernel NULL")] == ["warning"]
    assert len(faults(WARN + WARN.replace("lp.c:2", "lp.c:3"), r"lp\.c:2")) == 1


def test_a_later_line_does_not_allow_a_single_one() -> None:
    log = "<4>[    1.0] sysfs: cannot create duplicate filename '/x'\n<6>[    1.1] fine, expected\n"
    assert [fault.kind for fault in faults(log, "fine, expected")] == ["duplicate"]
    assert faults(log, "filename '/x'") == []


def test_what_a_process_wrote_is_no_fault() -> None:
    assert faults(WARN.replace("<4>", "<12>")) == []


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("WARNING: possible circular locking dependency detected", "lockdep"),
        ("WARNING: suspicious RCU usage", "lockdep"),
        ("INFO: trying to register non-static key.", "lockdep"),
        ("rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:", "stall"),
        ("rcu: INFO: rcu_sched self-detected stall on CPU", "stall"),
        ("watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [insmod:77]", "lockup"),
        ("INFO: task kworker/0:1:17 blocked for more than 120 seconds.", "hung task"),
        ("sysfs: cannot create duplicate filename '/kernel/livepatch/x'", "duplicate"),
        ("general protection fault, probably for non-canonical address", "oops"),
        ("BUG: unable to handle page fault for address: ffff", "oops"),
        ("BUG: sleeping function called from invalid context at mm/x.c:1", "bug"),
        ("BUG: KASAN: use-after-free in x", "sanitizer"),
        ("Kernel panic - not syncing: x", "panic"),
        ("list_add corruption. prev->next should be next", "corruption"),
        ("refcount_t: underflow; use-after-free.", "corruption"),
        ("Call Trace:", "trace"),
        ("WARNING: stack recursion on stack type 1", "warning"),
    ],
)
def test_kinds(line: str, kind: str) -> None:
    assert [fault.kind for fault in faults(f"<4>[    1.0] {line}\n")] == [kind]


def test_grave_levels_need_no_known_words() -> None:
    assert [fault.kind for fault in faults("<2>[    1.0] something critical\n")] == ["critical"]
    assert faults("<3>[    1.0] some driver's error\n") == []


def test_bug_on_is_a_bug() -> None:
    log = WARN.replace("WARNING: CPU: 0 PID: 114 at lp.c:2", "kernel BUG at lp.c:2!")
    assert [fault.kind for fault in faults(log)] == ["bug"]


def test_a_block_cut_off_is_still_a_fault() -> None:
    assert [fault.kind for fault in faults("\n".join(WARN.splitlines()[:3]))] == ["warning"]
    assert faults("\n".join(WARN.splitlines()[:2]) + "\n" + OOPS)[0].kind == "warning"


def test_two_single_lines_are_two_faults() -> None:
    log = "<4>[    1.0] WARNING: one\n<4>[    1.1] WARNING: two\n"
    assert [fault.headline for fault in faults(log)] == ["WARNING: one", "WARNING: two"]


def test_console() -> None:
    console = re.sub(r"<\d+>", "", CLEAN + OOPS)
    assert [fault.kind for fault in find_faults(parse_console("\r\n" + console))] == ["oops"]
