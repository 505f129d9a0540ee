# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of a matrix, finished and while it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

from kgbuild.cli.contract.safe_streams import raw_stderr
from kgbuild.releases.answers import columns, short_state, shown_kernel
from kgbuild.releases.job_graph import JobGraph, JobId, JobResult
from kgbuild.shown_text import printable, readable_size

_FIXED = {"fixed": "fixed (in source)"}


def matrix_lines(answer: Mapping[str, Any]) -> Iterator[str]:
    """The answer of `matrix` for a person."""
    rows = answer["kernels"]
    head = ["kernel", *answer["fixes"], "module", "vm"]
    yield from columns(
        [head, *([shown_kernel(row), *map(_cell, row["fixes"]), _module(row), _vm(row)] for row in rows)]
    )
    for text in answer["differs"]:
        yield f"differs: {text}"
    for row in rows:
        yield from _faults(row)
    counts = answer["compiles"]
    if counts["needed"]:
        yield (
            f"compiles: {counts['needed']} objects needed, {counts['compiled']} compiled, "
            f"{counts['cached']} in the cache, {counts['shared']} shared with another kernel"
        )


def _cell(cell: Mapping[str, Any]) -> str:
    impact = cell["impact"]
    if impact is not None and impact["status"] == "refused":
        codes = dict.fromkeys(error["code"] for error in impact["errors"])
        return f"refused {' '.join(codes)}"
    if impact is not None and impact["status"] != "done":
        return "no change" if impact["status"] == "nothing" else f"{impact['status']}"
    return _FIXED.get(cell["state"], short_state(cell))


def _module(row: Mapping[str, Any]) -> str:
    module = row["module"]
    if module is None:
        return "-"
    if module["status"] != "done":
        return str(module["status"])
    wrong = "" if module["verified"] is not False else " (verify has findings)"
    return f"{module['name'].replace('_', '-')}.ko {readable_size(module['bytes'])}{wrong}"


def _vm(row: Mapping[str, Any]) -> str:
    booted = row["vm"]
    if booted is None:
        return "-"
    if booted["status"] == "done":
        return f"ok {booted['boot_seconds']:.1f} s"
    return str(booted["outcome"] or booted["status"])


def _faults(row: Mapping[str, Any]) -> Iterator[str]:
    """What stands against a row: each fault once."""
    name = shown_kernel(row)
    told: dict[str, None] = {}
    if row["error"] is not None:
        told[f"error: {name}: {row['error']['place']}: {row['error']['fact']}"] = None
    for cell in row["fixes"]:
        if cell["state"] == "conflict":
            told[f"conflict: {cell['fix']} on {name}: {cell['place']}, {cell['fact']}"] = None
        for error in (
            (cell["impact"] or {}).get("errors", ()) if (cell["impact"] or {}).get("status") == "refused" else ()
        ):
            told[f"refused: {cell['fix']} on {name}: {error['code']} {error['place']}: {error['fact']}"] = None
    for part in (row["module"], row["vm"]):
        for error in part["errors"] if part is not None and part["status"] != "failed" else ():
            told[f"{part['status']}: {name}: {error['code']} {error['place']}: {error['fact']}"] = None
    yield from (printable(text)[:400] for text in told)


class LiveTable:
    """A table on the terminal that is drawn again as results come, and taken away in the end."""

    def __init__(self, kernels: Sequence[str], fixes: Sequence[str]) -> None:
        from rich.console import Console
        from rich.live import Live

        self._kernels, self._fixes = kernels, fixes
        self._graph: JobGraph | None = None
        self._live = Live(
            console=Console(file=raw_stderr()), transient=True, get_renderable=self._draw, refresh_per_second=4
        )

    def __enter__(self) -> LiveTable:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def __call__(self, graph: JobGraph, result: JobResult) -> None:
        """Take a result."""
        del result
        self._graph = graph

    def _draw(self) -> Any:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False)
        for name in ("kernel", *self._fixes, "module", "vm"):
            table.add_column(Text(printable(name)))
        for kernel in self._kernels:
            table.add_row(*(Text(printable(cell)) for cell in self._row(kernel)))
        return table

    def _row(self, kernel: str) -> list[str]:
        results = self._graph.results if self._graph is not None else {}

        def state(step: str, fix: str = "") -> str:
            found = results.get(JobId(kernel, step, fix))
            return "" if found is None else f"{found.status} {found.seconds:.1f} s"

        known = results.get(JobId(kernel, "affected"))
        decided = {row["fix"]: row["state"] for row in known.data.get("fixes", ())} if known is not None else {}
        cells = [state("impact", fix) or decided.get(fix, "...") for fix in self._fixes]
        return [kernel.partition(":")[2] or kernel, *cells, state("verify") or state("build"), state("vm")]
