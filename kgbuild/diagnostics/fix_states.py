# SPDX-License-Identifier: GPL-2.0-or-later
"""What `affected` can say of a fix and a kernel: a state, and a code that never changes its meaning.

These are answers, not refusals: limits.md does not list them, docs/releases.md does.
"""

from __future__ import annotations

from kgbuild.diagnostics.rule import Rule

AFFECTED, FIXED, CONFLICT, ABSENT = "affected", "fixed", "conflict", "absent"
NOT_CONFIGURED, NOT_INTRODUCED, NO_CODE, UNKNOWN = "not configured", "not introduced", "no code", "unknown"
NOT_LISTED = "not listed"

_TABLE: dict[str, Rule] = {
    FIXED: Rule("P0-applied", "Every change of the fix is in the kernel's source already.", "nothing is to be done"),
    CONFLICT: Rule(
        "P1-conflict",
        "The fix does not apply to the kernel's source and is not in it, or only in parts.",
        "kgbuild backport writes a patch for this kernel, for review",
    ),
    AFFECTED: Rule(
        "P23-affected", "The fix applies to the kernel's source, and is not in it.", "build a module for this kernel"
    ),
    ABSENT: Rule(
        "P24-absent", "The kernel's source has none of the files that the fix changes.", "nothing is to be done"
    ),
    NOT_CONFIGURED: Rule(
        "P25-not-configured",
        "The kernel is built without the files that the fix changes.",
        "nothing is to be done",
    ),
    NOT_INTRODUCED: Rule(
        "P26-not-introduced",
        "The commit that the fix is for (`Fixes:`) is not in this kernel.",
        "nothing is to be done",
    ),
    NO_CODE: Rule("P27-no-code", "The fix changes no kernel code, or nothing of it is left.", "leave the fix out"),
    UNKNOWN: Rule("P28-unknown", "The kernel could not be looked at.", "see the row's error"),
    NOT_LISTED: Rule("P29-not-listed", "kgbuild.toml lists the fix for other kernels.", "nothing is to be done"),
}

STATES: dict[str, str] = {state: rule.code for state, rule in _TABLE.items()}
"""State -> code."""
RULES: dict[str, Rule] = {rule.code: rule for rule in _TABLE.values()}
EXPOSED = frozenset({AFFECTED, CONFLICT})
"""States in which a kernel may have the fault that the fix is for."""
