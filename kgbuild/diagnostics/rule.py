# SPDX-License-Identifier: GPL-2.0-or-later
"""One row of a registry of findings: code, what it means, what to do."""

from __future__ import annotations

from typing import NamedTuple


class Rule(NamedTuple):
    """One row: its stable code, the rule in a sentence, what a user can do where it does not hold."""

    code: str
    rule: str
    remedy: str
