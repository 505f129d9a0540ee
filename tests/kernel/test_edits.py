# SPDX-License-Identifier: GPL-2.0-or-later
"""Units of vmlinux and of modules, edited at random: each edit is in the ledger, and none is passed over."""

from __future__ import annotations

import pytest

from kgbuild.host.compile.compile import compile_units
from kgbuild.host.kernels.unit_listing import read_units
from kgbuild.host.system.cache import Cache
from kgbuild.model import Kernel
from kgbuild.progress import SilentProgress
from tests.support.ledger.check import run
from tests.support.ledger.edit import Editor

EDITS, PARTS = 5000, 2
UNITS = (
    "crypto/pcrypt.c",
    "drivers/acpi/power.c",
    "fs/debugfs/file.c",
    "fs/erofs/dir.c",
    "fs/proc/version.c",
    "io_uring/timeout.c",
    "kernel/locking/semaphore.c",
    "kernel/taskstats.c",
    "kernel/time/time.c",
    "net/core/net-procfs.c",
    "net/netfilter/xt_cpu.c",
    "security/commoncap.c",
)


@pytest.fixture(scope="module")
def editors(kernel: Kernel) -> dict[str, Editor]:
    commands = read_units(kernel, UNITS)
    units = [commands[source][0] for source in UNITS]
    done = compile_units(kernel, units, {}, Cache(), SilentProgress(), 2)
    return {c.unit.source: Editor(c.orig) for c in done}


@pytest.mark.parametrize("part", range(PARTS))
def test_edits(part: int, editors: dict[str, Editor]) -> None:
    assert editors.keys() == set(UNITS)
    wrong, counts = run(editors, EDITS // PARTS, part)
    assert not wrong, "\n".join(wrong)
    assert min(counts["changed"], counts["refused"]) > EDITS // PARTS // 20
