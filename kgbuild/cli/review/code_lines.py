# SPDX-License-Identifier: GPL-2.0-or-later
"""Code beside code on a terminal: the lines of an explanation with their colours."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable
from typing import Any

import click

from kgbuild.report.explanation import Explanation
from kgbuild.report.side_by_side import Style, render

MAX_WIDTH = 200  # columns; longer lines are hard to follow from one side to the other
_STYLES: dict[str, dict[str, Any]] = {
    "title": {"bold": True},
    "heading": {"bold": True},
    "mark": {"bold": True},
    "good": {"fg": "green"},
    "dim": {"dim": True},
    "changed": {"fg": "yellow"},
    "removed": {"fg": "red"},
    "new": {"fg": "green"},
    "noise": {"fg": "cyan"},
}


def show_explanations(explanations: Iterable[Explanation], colour: bool, verbose: bool) -> None:
    """Print explanations in two columns that fit the terminal; `verbose` shows all of the code."""
    encoding = sys.stdout.encoding or "ascii"
    width = min(shutil.get_terminal_size((120, 50)).columns, MAX_WIDTH)
    style = Style(width, verbose, encoding.lower().replace("-", "").startswith("utf"))
    for number, value in enumerate(explanations):
        if number:
            click.echo()
        for line in render(value, style):
            text = "".join(click.style(t, **_STYLES[role]) if colour and role else t for t, role in line)
            # a string of the object may hold what the terminal can't show
            click.echo(text.rstrip().encode(encoding, "backslashreplace").decode(encoding))
