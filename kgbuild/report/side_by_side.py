# SPDX-License-Identifier: GPL-2.0-or-later
"""An explanation as lines of text: two columns of code that fit a width, and words above them.

A line is a list of spans, each a text and the role it has; whoever prints decides whether roles become colours. No
role carries meaning alone: marks between the columns say the same (`|` changed, `<` gone, `>` new, `~` noise).
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kgbuild.report.explanation import CHANGED, NEW, NOISE, REMOVED, SAME, Block, ComparedRow, Explanation
from kgbuild.report.listing import AlignedLine

Span = tuple[str, str]
Line = list[Span]

MARKS = {SAME: " ", NOISE: "~", CHANGED: "|", REMOVED: "<", NEW: ">"}
LEAST = 60
_CONTEXT = 3
_SHORT = 40  # rows that are shown even where they are the same
_MAX_DETAILS = 12


@dataclass(frozen=True)
class Style:
    """How much to show and with what: columns of the terminal, everything or what differs, Unicode or ASCII."""

    width: int = 120
    verbose: bool = False
    unicode: bool = True


def render(explanation: Explanation, style: Style) -> Iterator[Line]:
    """The lines of one explanation."""
    width = max(style.width, LEAST)
    verdict = {"changed": CHANGED, "not changed": SAME}.get(explanation.verdict, explanation.verdict)
    yield [(explanation.name, "title"), ("   ", ""), (explanation.verdict, verdict if verdict != SAME else "good")]
    for sentence in explanation.sentences:
        yield from _paragraph(sentence, "", "", width)
    details = explanation.details
    limit = len(details) if style.verbose else _MAX_DETAILS
    for state, text in details[:limit]:
        yield from _paragraph(text, state, MARKS[state], width)
    if len(details) > limit:
        yield [(f"  {len(details) - limit} more with -v", "dim")]
    first = True
    for block in explanation.blocks:
        yield []
        yield from _block(block, style, width, first)
        first = first and not any(r.state not in (SAME, NOISE) or r.note for r in block.rows)


def _paragraph(text: str, role: str, mark: str, width: int) -> Iterator[Line]:
    lead = f"  {mark} " if mark else "  "
    for number, part in enumerate(textwrap.wrap(text, width - len(lead), break_on_hyphens=False)):
        yield [(lead if not number else " " * len(lead), role), (part, role)]


def _shown(rows: Sequence[ComparedRow], style: Style) -> list[bool]:
    """Which rows to show: all, or those that differ with a few around them."""
    if style.verbose or len(rows) <= _SHORT:
        return [True] * len(rows)
    shown = [False] * len(rows)
    for at, row in enumerate(rows):
        if row.state != SAME or row.note:
            for i in range(max(at - _CONTEXT, 0), min(at + _CONTEXT + 1, len(rows))):
                shown[i] = True
    # a gap of one line takes a line to say so
    for i in range(1, len(rows) - 1):
        if not shown[i] and shown[i - 1] and shown[i + 1]:
            shown[i] = True
    return shown


def _block(block: Block, style: Style, width: int, mark_first: bool) -> Iterator[Line]:
    single = not block.orig or not block.patched
    column = width - 4 if single else (width - 5) // 2
    head = [t for t in (block.orig, block.patched) if t]
    if single:
        for part in textwrap.wrap(head[0], width - 2):
            yield [(f"  {part}", "heading")]
    else:
        for orig, patched in _beside(*(textwrap.wrap(t, column, break_long_words=True) for t in head)):
            yield [(f"  {orig:<{column}}   {patched}".rstrip(), "heading")]
    shown = _shown(block.rows, style)
    steps = [s for r in block.rows for s in (r.orig, r.patched) if s is not None]
    places = max((len(f"+{s.offset:#x}") for s in steps), default=0)
    # a source line may take a third of the column; what is longer loses its beginning
    lines = min(max((len(s.line) for s in steps), default=0), column // 3)
    last: tuple[str, str] = ("", "")
    folded = 0
    for row, show in zip(block.rows, shown, strict=True):
        if not show:
            folded += 1
            continue
        if folded:
            yield _fold(folded, style)
            last = ("", "")
        folded = 0
        differs = row.state not in (SAME, NOISE)
        arrow = ("▶ " if style.unicode else "=>") if mark_first and differs else "  "
        mark_first = mark_first and not differs
        cells = [
            _cell(s, column, places, lines, before) for s, before in zip((row.orig, row.patched), last, strict=True)
        ]
        if single:
            cells = [c for c, s in zip(cells, (row.orig, row.patched), strict=True) if s is not None]
        yield from _row(row, cells, column, arrow)
        last = (row.orig.line if row.orig else last[0], row.patched.line if row.patched else last[1])
    if folded:
        yield _fold(folded, style)


def _row(row: ComparedRow, cells: list[list[str]], column: int, arrow: str) -> Iterator[Line]:
    role = "" if row.state == SAME else row.state
    # where the text is the same, what differs is not in the code
    texts = {s.text for s in (row.orig, row.patched) if s is not None}
    roles = (REMOVED, NEW) if row.state == CHANGED and len(texts) > 1 else (role, role)
    if len(cells) == 1:
        for number, text in enumerate(cells[0]):
            yield [(f"{MARKS[row.state]} " if not number else "  ", role), (text, role)]
    else:
        for number, (orig, patched) in enumerate(_beside(*cells)):
            mark = MARKS[row.state]
            lead = [(arrow if not number else "  ", "mark"), (f"{orig:<{column}}", roles[0])]
            yield [*lead, (f" {mark} " if patched or mark != " " else "", "mark"), (patched, roles[1])]
    if row.note:
        label = "noise: " if row.state == NOISE else ""
        for part in textwrap.wrap(label + row.note, max(column, LEAST) - 6, break_on_hyphens=False):
            yield [("      " + part, row.state)]


def _beside(orig: list[str], patched: list[str]) -> Iterator[tuple[str, str]]:
    for i in range(max(len(orig), len(patched))):
        yield orig[i] if i < len(orig) else "", patched[i] if i < len(patched) else ""


def _cell(step: AlignedLine | None, column: int, places: int, lines: int, before: str) -> list[str]:
    """One side of a row: source line where it is another than before, offset, instruction; wrapped, never cut."""
    if step is None:
        return []
    line = step.line[-lines:] if lines and step.line != before else ""
    lead = (f"{line:>{lines}}  " if lines else "") + f"{f'+{step.offset:#x}':<{places}}  "
    room = max(column - len(lead), 12)
    parts = textwrap.wrap(
        step.text,
        room,
        subsequent_indent=" " * (min(8, room // 3)),
        break_on_hyphens=False,
        drop_whitespace=True,
        replace_whitespace=False,
    ) or [""]
    return [(lead if not number else " " * len(lead)) + part for number, part in enumerate(parts)]


def _fold(count: int, style: Style) -> Line:
    dots = "…" if style.unicode else "..."
    return [(f"  {dots} {count} more that {'is' if count == 1 else 'are'} the same (-v shows all)", "dim")]
