# SPDX-License-Identifier: GPL-2.0-or-later
"""Tables of the running kernel that stay as they are, whatever the patched source has in them."""

from __future__ import annotations

from kgbuild.closure.model import Closure
from kgbuild.diagnostics.warnings import TRACED, UNHOOKED, ConsistencyWarning


def find_kept_tables(closure: Closure) -> list[ConsistencyWarning]:
    """Warnings of units in which names or types of arguments of system calls change, which the tracer shows, or tables
    of devices and functions."""
    found = []
    for unit in closure.units:
        names = sorted(set(unit.changes.traced))
        if names:
            few = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            fact = f"tracing goes on showing what the running kernel has in {few}"
            found.append(ConsistencyWarning(TRACED, "", unit.source, unit.target, fact, tuple(names)))
        for section in sorted(set(unit.changes.hooks)):
            fact = f"{section} changes, and the running kernel keeps the entries that it has"
            found.append(ConsistencyWarning(UNHOOKED, "", unit.source, unit.target, fact, (section,)))
    return found
