# SPDX-License-Identifier: GPL-2.0-or-later
"""The code of the functions that a patch changes, original and patched beside each other, as plain data for a report.

The rows are those of `diff --explain`; stretches that are the same are left out but for a few rows, and a row counts
how many were left out before it.
"""

from __future__ import annotations

from typing import Any

from kgbuild.closure.evidence import functions
from kgbuild.closure.model import Closure, Member
from kgbuild.report.explain import explain
from kgbuild.report.explanation import SAME, Block, ComparedRow, Explanation
from kgbuild.report.listing import AlignedLine

MAX_FUNCTIONS = 60
MAX_ROWS = 300  # of one function
_CONTEXT = 3
_WHOLE = 30  # rows that are shown even where they are the same


def code_report(closure: Closure) -> list[dict[str, Any]]:
    """The code of each changed function and of each that comes along, in the order of units; of at most MAX_FUNCTIONS
    functions and MAX_ROWS rows of each."""
    members = [*functions(closure, "changed"), *functions(closure, "pulled")]
    return [row for member in members[:MAX_FUNCTIONS] if (row := _function(closure, member)) is not None]


def _function(closure: Closure, member: Member) -> dict[str, Any] | None:
    unit = closure.units[member.unit]
    if not member.atom.name:
        return None
    found = explain(unit.changes, None, member.atom.name)
    if not found:
        return None
    return {"unit": unit.source, "object": unit.target, **explanation_report(found[0], MAX_ROWS)}


def explanation_report(explanation: Explanation, most: int = MAX_ROWS) -> dict[str, Any]:
    """An explanation as plain data, with at most `most` rows in each block."""
    return {
        "function": explanation.name,
        "verdict": explanation.verdict,
        "sentences": list(explanation.sentences),
        "details": [{"state": state, "text": text} for state, text in explanation.details],
        "blocks": [_block(block, most) for block in explanation.blocks],
    }


def _block(block: Block, most: int) -> dict[str, Any]:
    shown = _shown(block.rows)
    rows: list[dict[str, Any]] = []
    folded = cut = 0
    first = True
    for row, show in zip(block.rows, shown, strict=True):
        if not show:
            folded += 1
        elif len(rows) >= most:
            cut += 1
        else:
            differs = row.state not in (SAME, "noise")
            rows.append({**_row(row), "left_out": folded, "first": first and differs})
            first = first and not differs
            folded = 0
    return {"orig": block.orig, "patched": block.patched, "rows": rows, "left_out": folded, "cut": cut}


def _shown(rows: tuple[ComparedRow, ...]) -> list[bool]:
    if len(rows) <= _WHOLE:
        return [True] * len(rows)
    shown = [False] * len(rows)
    for at, row in enumerate(rows):
        if row.state != SAME or row.note:
            for near in range(max(at - _CONTEXT, 0), min(at + _CONTEXT + 1, len(rows))):
                shown[near] = True
    return shown


def _row(row: ComparedRow) -> dict[str, Any]:
    return {"state": row.state, "orig": _line(row.orig), "patched": _line(row.patched), "note": row.note}


def _line(line: AlignedLine | None) -> dict[str, Any] | None:
    return {"offset": line.offset, "text": line.text, "line": line.line} if line is not None else None
