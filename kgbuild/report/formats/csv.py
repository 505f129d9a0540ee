# SPDX-License-Identifier: GPL-2.0-or-later
"""Comma-separated values (RFC 4180), for answers that are tables: those with a part `rows`."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from kgbuild.report.formats.answer import Answer, Format


def render_csv(answer: Answer, unicode: bool) -> Iterator[str]:
    """The rows of an answer. A text that a spreadsheet would take for a formula begins with an apostrophe."""
    del unicode
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for row in answer.rows() if answer.rows is not None else ():
        formula = [isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in row]
        writer.writerow([f"'{cell}" if escaped else cell for cell, escaped in zip(row, formula, strict=True)])
    yield from out.getvalue().splitlines()


OFFERED = (Format("csv", render_csv),)
