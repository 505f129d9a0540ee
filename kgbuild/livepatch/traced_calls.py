# SPDX-License-Identifier: GPL-2.0-or-later
"""Metadata of system calls that a patch changes: the tracer goes on showing that of the running kernel."""

from __future__ import annotations

from kgbuild.closure.model import Closure
from kgbuild.diagnostics.warnings import TRACED, ConsistencyWarning


def find_traced(closure: Closure) -> list[ConsistencyWarning]:
    """One warning for each unit in which names or types of arguments change."""
    found = []
    for unit in closure.units:
        names = sorted(set(unit.changes.traced))
        if names:
            few = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            fact = f"tracing goes on showing what the running kernel has in {few}"
            found.append(ConsistencyWarning(TRACED, "", unit.source, unit.target, fact, tuple(names)))
    return found
