# SPDX-License-Identifier: GPL-2.0-or-later
"""What `affected`, `matrix` and `release` answer, as plain data and as lines. Nothing is decided here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from kgbuild import __version__
from kgbuild.diagnostics.fix_states import AFFECTED, CONFLICT, EXPOSED, RULES, UNKNOWN
from kgbuild.errors import KgbuildError
from kgbuild.model import KernelId
from kgbuild.releases.decide import Decision
from kgbuild.report.documents import ErrorRow, error_row, error_rows, schema_name
from kgbuild.shown_text import printable

Row = dict[str, Any]
_MOST_TOLD = 200
_TO_LOOK_AT = EXPOSED | {UNKNOWN}


def kernel_row(requested: str, kernel: KernelId | None, error: KgbuildError | None = None) -> Row:
    """A kernel as it was asked for and what the name resolved to; `error` is why it could not be had."""
    return {
        "requested": requested,
        "kernel": kernel.name if kernel is not None else None,
        "version": kernel.version if kernel is not None else None,
        "build_id": kernel.build_id if kernel is not None else None,
        "error": error_rows(error)[0] if error is not None else None,
    }


def decision_row(fix: str, decision: Decision, patch: str | None) -> Row:
    """What there is to say of one fix and one kernel; `patch` is the file that was looked at."""
    return {
        "fix": fix,
        "state": decision.state,
        "code": decision.code,
        "fact": decision.fact,
        "place": decision.place,
        "patch": patch,
        "left_out": list(decision.left_out),
        "hunks": [
            {"path": h.path, "hunk": h.hunk, "state": h.state, "line": h.line, "fact": h.fact} for h in decision.hunks
        ],
    }


def unknown_row(fix: str, fact: str) -> Row:
    """The row of a fix for a kernel that could not be looked at."""
    return decision_row(fix, Decision(UNKNOWN, fact), None)


def affected_answer(fixes: Sequence[str], rows: Sequence[Row]) -> Row:
    """The document of `affected` (docs/schema/affected-1.json)."""
    return {
        "schema": schema_name("affected"),
        "tool": {"name": "kgbuild", "version": __version__},
        "fixes": list(fixes),
        "kernels": list(rows),
        "counts": dict(sorted(Counter(cell["state"] for row in rows for cell in row["fixes"]).items())),
    }


def affected_status(rows: Sequence[Row]) -> int:
    """The exit status of `affected`: 0 where every kernel is decided, and one or more are affected; 4 where none is; 5
    where some are not decided; 1 where none is decided, 3 where no kernel could be had."""
    states = [cell["state"] for row in rows for cell in row["fixes"]]
    open_ones = sum(state in (CONFLICT, UNKNOWN) for state in states)
    if rows and all(row["error"] is not None for row in rows):
        return 3
    if open_ones:
        return 1 if open_ones == len(states) else 5
    return 0 if AFFECTED in states else 4


def affected_errors(rows: Sequence[Row], status: int) -> list[ErrorRow]:
    """What stands against an answer of `affected`: kernels that could not be had, and conflicts."""
    out = [row["error"] for row in rows if row["error"] is not None]
    for row in rows:
        for cell in row["fixes"]:
            if cell["state"] == CONFLICT:
                place = f"{row['kernel']}: {cell['fix']}: {cell['place']}"
                out.append(error_row(cell["code"], cell["fact"], place, RULES[cell["code"]].remedy))
    if status == 4:
        out.append(error_row("E4-no-change", "no kernel is affected", "", "nothing is to be patched"))
    return out


def affected_lines(answer: Row, *, quiet: bool = False, verbose: bool = False) -> Iterator[str]:
    """The answer of `affected` for a person: a table, and under it why where there are several fixes. `quiet`: a line
    for each kernel and fix that somebody has to look at, and nothing else; `verbose`: each hunk as well."""
    fixes, rows = answer["fixes"], answer["kernels"]
    cells = [(row, cell) for row in rows for cell in row["fixes"]]
    if quiet:
        open_cells = [(row, cell) for row, cell in cells if cell["state"] in _TO_LOOK_AT]
        yield from columns([[shown_kernel(row), cell["fix"], short_state(cell)] for row, cell in open_cells])
        return
    yield from _table(fixes, rows)
    for row, cell in cells if verbose else ():
        for hunk in cell["hunks"]:
            fact = f": {hunk['fact']}" if hunk["fact"] else ""
            place = f"{hunk['path']}:{hunk['line']}"
            yield printable(f"  {shown_kernel(row)}  {cell['fix']}  {place}  hunk {hunk['hunk']} {hunk['state']}{fact}")


def _table(fixes: Sequence[str], rows: Sequence[Row]) -> Iterator[str]:
    if len(fixes) == 1:
        yield from columns(
            [[shown_kernel(row), cell["state"], _why(cell)] for row in rows for cell in row["fixes"]],
        )
        return
    yield from columns(
        [["kernel", *fixes], *([shown_kernel(row), *(short_state(cell) for cell in row["fixes"])] for row in rows)]
    )
    for row in rows:
        if row["error"] is not None:
            yield f"error: {row['requested']}: {printable(row['error']['fact'])}"
            continue
        for cell in row["fixes"]:
            if cell["fact"] and cell["state"] in EXPOSED:
                yield f"{cell['state']}: {cell['fix']} on {shown_kernel(row)}: {_why(cell)}"


def short_state(cell: Mapping[str, Any]) -> str:
    """A state in a cell of a table: with the place of a conflict."""
    return f"conflict {cell['place']}" if cell["state"] == CONFLICT else str(cell["state"])


def _why(cell: Mapping[str, Any]) -> str:
    place = f"{cell['place']}, " if cell["state"] == CONFLICT and cell["place"] else ""
    return printable(f"{place}{cell['fact']}")[:_MOST_TOLD]


def shown_kernel(row: Mapping[str, Any]) -> str:
    """A kernel in a table: its release, or what was asked for."""
    return str(row["kernel"] or row["requested"]).partition(":")[2] or str(row["requested"])


def columns(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Rows of cells as lines with aligned columns; the last is not padded."""
    table = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    for row in table:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        yield "  ".join(cells).rstrip()
