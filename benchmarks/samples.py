# SPDX-License-Identifier: GPL-2.0-or-later
"""Pairs of objects of real kernels, compared with what another differ found.

    python benchmarks/samples.py DIRECTORY

DIRECTORY has NAME.ORIG.o and NAME.PATCHED.o below x86_64/, and expected.json, which says of each x86_64/NAME what the
other differ answers: `builds` (false: it refuses the pair), `changed` and `new` functions, and `output_functions`, all
functions of its output object. Where kgbuild's answer is another for a reason, the tables below say so. Every
disagreement beyond that is printed, and makes the exit status 1.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kgbuild.diff.changes import compute_changes
from kgbuild.objects.view import View
from kgbuild.pipeline.object_diff import diff_objects, read_relocatable

# Refusals that are expected: code and symbol. The other differ refuses the change of proc_meminfo_init likewise.
REFUSED = {"x86_64/meminfo-init": ["K3-init:proc_meminfo_init"]}
# A function and its cold half are one: a new do_exit that jumped into the old one's half would return into old code.
OUTPUT_BEYOND = {"x86_64/static-call-issue-1165": {"do_exit.cold"}}
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


def disagreements(name: str, orig: bytes, patched: bytes, expected: dict[str, Any]) -> Iterator[str]:
    """What is otherwise than the other differ, or the tables above, have it."""
    found = diff_objects(read_relocatable(orig, name), read_relocatable(patched, name), name)
    noise = {n.function for n in found.changes.noise if n.rule == "line-argument"}
    answers = {
        "changed": (sorted(c.name for c in found.changed), sorted(expected["changed"])),
        "new": (sorted(found.new), sorted(expected["new"])),
        "removed": (sorted(found.removed), []),
        "refused": ([f"{r.code}:{r.symbol}" for r in found.refusals], REFUSED.get(name, [])),
        "builds": (not found.refusals and bool(found.output_functions), expected["builds"]),
        "lines": (sorted({*LINES.get(name, "").split()} - noise), []),
    }
    if expected["builds"]:
        ours = {*found.output_functions} - OUTPUT_BEYOND.get(name, set())
        answers["output"] = (sorted(ours), sorted(expected["output_functions"]))
    for what, (answer, wanted) in answers.items():
        if answer != wanted:
            yield f"{name}: {what} is {answer}, expected {wanted}"
    sides = [View(read_relocatable(patched, name)) for _ in range(2)]
    if not compute_changes(*sides, name).nothing:
        yield f"{name}: the patched object differs from itself"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    expected = json.loads((folder / "expected.json").read_text())
    names = sorted(name for name in expected if name.startswith("x86_64/"))
    wrong = []
    for name in names:
        sides = [(folder / f"{name}.{side}.o").read_bytes() for side in ("ORIG", "PATCHED")]
        wrong += disagreements(name, sides[0], sides[1], expected[name])
    print("\n".join([*wrong, f"{len(names)} pairs, {len(wrong)} disagreements"]))
    return 1 if wrong or not names else 0


if __name__ == "__main__":
    sys.exit(main())
