# SPDX-License-Identifier: GPL-2.0-or-later
"""The explanation of one function as values: sentences, and rows of code of both sides, each with what became of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kgbuild.report.listing import AlignedLine

SAME, NOISE, CHANGED, NEW, REMOVED = "same", "noise", "changed", "new", "removed"


@dataclass(frozen=True)
class ComparedRow:
    """One line of code on either side, None where it has none; SAME, NOISE, CHANGED, NEW or REMOVED; and what the code
    itself does not show."""

    orig: AlignedLine | None
    patched: AlignedLine | None
    state: str
    note: str = ""


@dataclass(frozen=True)
class Block:
    """The code of one symbol: what stands above either side, and the rows."""

    orig: str
    patched: str
    rows: tuple[ComparedRow, ...]


@dataclass(frozen=True)
class Explanation:
    """All about one function: its name, the verdict in a word or two, sentences, what is not in its code (each with
    SAME, NOISE, CHANGED, NEW or REMOVED), code."""

    name: str
    verdict: str
    sentences: tuple[str, ...]
    details: tuple[tuple[str, str], ...]
    blocks: tuple[Block, ...]


def first_changed(block: Block, otherwise: int) -> int:
    """Offset in the original of the first row that differs; inserted code is named by what comes behind it. Bytes can
    differ before, where a branch only leads further."""
    for number, row in enumerate(block.rows):
        if row.state in (CHANGED, NEW, REMOVED):
            return next((r.orig.offset for r in block.rows[number:] if r.orig is not None), otherwise)
    return otherwise


def with_entries(row: ComparedRow, marked: dict[int, str]) -> ComparedRow:
    """A row of equal code whose entry in a special section differs."""
    if row.state != SAME or row.patched is None:
        return row
    begin = row.patched.offset
    states = {marked[at] for at in range(begin, begin + row.patched.length) if at in marked}
    state = CHANGED if CHANGED in states else NOISE if states else SAME
    return replace(row, state=state)
