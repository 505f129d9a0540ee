# SPDX-License-Identifier: GPL-2.0-or-later
"""What a person sees of the accounting: in a build and in a comparison of two objects."""

from __future__ import annotations

from collections.abc import Sequence

from kgbuild.accounting.account import Accounting, no_effects, summary
from kgbuild.cli.ui import Output


def show_accounting(out: Output, accountings: Sequence[Accounting]) -> None:
    """How many differences there are and what becomes of them; a line for each that is lost, by its nature."""
    counted = summary(accountings)
    if counted:
        out.line("accounted", counted)
    for text in no_effects(accountings):
        out.line("no effect", text, style="yellow")
