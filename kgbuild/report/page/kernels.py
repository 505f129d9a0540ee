# SPDX-License-Identifier: GPL-2.0-or-later
"""What the page of several kernels shows: a row for each, a column for each fix, what became of both."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# a path below the page's own folder; nothing else becomes a link
_BELOW = re.compile(r"(?!\.)[A-Za-z0-9+_~][A-Za-z0-9.+_~-]*(?:/(?!\.)[A-Za-z0-9+_~][A-Za-z0-9.+_~-]*)*")
_BAD = frozenset({"conflict", "unknown", "refused", "failed"})
_GOOD = frozenset({"affected", "done", "built"})


@dataclass(frozen=True)
class Cell:
    """One fix of one kernel: its state, whether that is good (True), bad (False) or neither (None), why, and a link."""

    state: str
    good: bool | None
    fact: str
    link: str


@dataclass(frozen=True)
class KernelRow:
    """One kernel: its name, version, its cells by fix, what became of the module and of a boot, the functions that its
    module replaces, and what stands against it."""

    name: str
    version: str
    cells: tuple[Cell, ...]
    module: Cell
    guest: Cell
    functions: tuple[str, ...]
    errors: tuple[Mapping[str, Any], ...]


def link_to(path: Any) -> str:
    """A path as a link, "" for one that does not stay below the page's folder."""
    text = str(path or "")
    return text if _BELOW.fullmatch(text) else ""


def kernels_page(document: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the template (kgbuild/data/page/table.html.j2), from a document of `matrix` or `release`."""
    fixes = [fix if isinstance(fix, str) else str(fix["id"]) for fix in document["fixes"]]
    rows = [_row(row, fixes) for row in document["kernels"]]
    common, others = _differing(rows)
    bad = sum(bool(row.errors) or any(one.good is False for one in (*row.cells, row.module, row.guest)) for row in rows)
    kind = str(document["schema"]).split("/")[1]
    name = f"release {document['release']}" if "release" in document else kind
    return {
        "title": f"{name}: {_counted(rows, 'kernel')}, {_counted(fixes, 'fix', 'fixes')}",
        "counts": f"{_counted(rows, 'kernel')}, {_counted(fixes, 'fix', 'fixes')}",
        "name": name,
        "bad": bad,
        "document": document,
        "fixes": fixes,
        "rows": rows,
        "common": common,
        "others": others,
        "differs": [str(text) for text in document.get("differs") or ()],
    }


def _counted(items: Sequence[Any], one: str, several: str = "") -> str:
    return f"{len(items)} {one if len(items) == 1 else several or one + 's'}"


def _differing(rows: Sequence[KernelRow]) -> tuple[list[str], list[tuple[list[str], list[str]]]]:
    """The functions that every module replaces; and those that only some do: functions and kernels, grouped by kernel.
    Kernels without a module say nothing here."""
    built = [row for row in rows if row.functions]
    on: dict[tuple[str, ...], list[str]] = {}
    for function in sorted({name for row in built for name in row.functions}):
        on.setdefault(tuple(row.name for row in built if function in row.functions), []).append(function)
    common = on.pop(tuple(row.name for row in built), [])
    return common, [(functions, list(kernels)) for kernels, functions in on.items()]


def _row(row: Mapping[str, Any], fixes: list[str]) -> KernelRow:
    names = sorted({str(f["name"]) for f in (row.get("module") or {}).get("functions") or ()})
    by_id = {str(cell["id"]): cell for cell in row.get("fixes") or () if "id" in cell}
    by_id |= {str(cell["fix"]): cell for cell in row.get("fixes") or () if "fix" in cell}
    folder = link_to(row.get("folder"))
    page = link_to(row["page"]) if "page" in row else f"{folder}/report.html" if folder else ""
    # a matrix names the patch in the directory of fixes, a release the one beside its manifest
    cells = tuple(_cell(by_id.get(fix), page, "page" not in row) for fix in fixes)
    module, guest = row.get("module") or {}, row.get("vm") if isinstance(row.get("vm"), Mapping) else row.get("booted")
    status = str(module.get("status") or row.get("status") or "none")
    error = row.get("error")
    impacts = [cell.get("impact") or {} for cell in row.get("fixes") or ()]
    refused = [one for impact in impacts if impact.get("status") != "nothing" for one in impact.get("errors") or ()]
    errors = [error] if error else [*refused, *module.get("errors", ()), *((guest or {}).get("errors") or ())]
    verdict = (guest or {}).get("verdict")
    said = "not booted" if not guest else str(guest.get("outcome") or ("ok" if verdict else "no"))
    return KernelRow(
        str(row.get("kernel") or row.get("requested") or ""),
        str(row.get("version") or ""),
        cells,
        Cell("error" if error else status, None if status in ("nothing", "none") else status in _GOOD, "", page),
        Cell(said, None if not guest else bool(verdict), "", ""),
        tuple(names),
        tuple(errors),
    )


def _cell(cell: Mapping[str, Any] | None, page: str, patches: bool) -> Cell:
    if cell is None:
        return Cell("", None, "", "")
    impact = cell.get("impact") or {}
    state = str(cell.get("state") or cell.get("status") or "")
    if impact.get("status") in _BAD:
        state = str(impact["status"])
    good = True if state in _GOOD else False if state in _BAD else None
    return Cell(state, good, str(cell.get("fact") or ""), page or (link_to(cell.get("patch")) if patches else ""))
