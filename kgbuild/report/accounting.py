# SPDX-License-Identifier: GPL-2.0-or-later
"""What became of every difference, as data and as lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from kgbuild.accounting.account import Accounting


def accounting_report(accountings: Iterable[Accounting]) -> list[dict[str, Any]]:
    """The ledger of each unit, every difference with its claim (docs/schema/report-1.json)."""
    return [a.as_data() for a in accountings]


def render_accounting(accountings: Sequence[Accounting]) -> Iterator[str]:
    """Every difference and what becomes of it, by unit."""
    for a in accountings:
        if len(accountings) > 1:
            yield f"{a.place} of {a.target}"
        for c in a.claims:
            yield f"{c.by:<12} {c.difference}" + (f"  ({c.why})" if c.why else "")
