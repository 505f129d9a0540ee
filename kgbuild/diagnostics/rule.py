# SPDX-License-Identifier: GPL-2.0-or-later
"""One row of a registry of findings: code, rule, remedy."""

from __future__ import annotations

from typing import NamedTuple


class Rule(NamedTuple):
    """One row: its stable code, the rule in a sentence, and what a user can do about a violation."""

    code: str
    rule: str
    remedy: str
