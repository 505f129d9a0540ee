# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs that must not outlive kgbuild: one killed run's download would go on writing beside the next run's."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import cache


@cache
def _prefix() -> tuple[str, ...]:
    # PR_SET_PDEATHSIG, set by util-linux: doing it between fork and exec is not safe where there are threads.
    path = shutil.which("setpriv")
    return (path, "--pdeathsig", "KILL", "--") if path else ()


def tied(argv: Sequence[str]) -> list[str]:
    """The same command, killed by the system when the thread that started it ends, where this system can."""
    found = shutil.which(argv[0])
    return [*_prefix(), *argv] if found else list(argv)
