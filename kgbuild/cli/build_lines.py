# SPDX-License-Identifier: GPL-2.0-or-later
"""What `build` prints: a line for each stage, from the value that the stage made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from kgbuild.cli.ui import Output, show_accounting
from kgbuild.diagnostics.warnings import UNKNOWN
from kgbuild.pipeline.stages.values import Accounted, Closed, KernelChosen, PatchesApplied, Proven, PutOnTop
from kgbuild.progress import Task
from kgbuild.report.build import closure_report, on_top_report, padded_functions, parity_counts
from kgbuild.report.formats.annotations import read_keys_of


class BuildLines:
    """An observer (pipeline/stages/events.py) that prints. `only`: nothing but what these kinds of values say."""

    def __init__(self, out: Output, only: Sequence[type] | None = None) -> None:
        self._out, self._only = out, only
        self._pulled = 0

    def step(self, title: str, total: float | None = None, unit: str = "") -> AbstractContextManager[Task]:
        """A progress bar."""
        return self._out.step(title, total, unit)

    def note(self, text: str) -> None:
        """A line beside the progress bars."""
        self._out.note(text)

    def reached(self, event: object) -> None:
        """Print what there is to say of a value."""
        show = _SHOW.get(type(event))
        if show is not None and (self._only is None or type(event) in self._only):
            show(self._out, event)


def _show_kernel(out: Output, chosen: KernelChosen) -> None:
    out.line("kernel", f"{chosen.kernel.id}, {chosen.kernel.compiler}")


def _show_patch(out: Output, applied: PatchesApplied) -> None:
    patches = applied.patches
    files, hunks = len(patches.files), patches.hunks
    skipped = patches.skipped_text()
    out.line("patch", f"{files} file{'s' * (files != 1)}, {hunks} hunk{'s' * (hunks != 1)}{skipped and f'; {skipped}'}")


def _show_parity(out: Output, proven: Proven) -> None:
    if proven.pulled:
        names = "  ".join(sorted(proven.pulled)[:6])
        out.line("pull", f"{names}  compiled and proven as well")
        return
    counts = [parity_counts(u.orig, u.parity) for u in proven.units]
    matched, total, weak = (sum(c[key] for c in counts) for key in ("matched", "total", "weak_overridden"))
    padded = sum(len(padded_functions(u.orig, u.parity)) for u in proven.units)
    notes = [f"{weak} weak, overridden elsewhere"] if weak else []
    notes += [f"{padded} but for padding, by a second compile"] if padded else []
    note = f" ({'; '.join(notes)})" if notes else ""
    out.line("parity", f"{matched}/{total} functions are those of the running kernel{note}")


_ROLES = (("changed", "change"), ("new", "new"), ("pulled", "pulled"), ("carried", "carried"))


def name_places(items: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """What to add to each function's line to say which one is meant: its object where the patch has several, its unit
    where functions of one object have the same name; "" where the name says it."""
    objects = {item["object"] for item in items}
    alike = Counter((item["function"], item["object"]) for item in items)
    for item in items:
        place = [item["object"]] if len(objects) > 1 else []
        if alike[item["function"], item["object"]] > 1:
            place.append(item["unit"])
        yield f"  in {', '.join(place)}" if place else ""


def _show_on_top(out: Output, put: PutOnTop) -> None:
    r = on_top_report(put.on_top)
    for older in r["on_top_of"]:
        count = len(older["functions"])
        out.line("on top of", f"{older['module']}  {count} function{'s' * (count != 1)}")
    for row in r["taken_back"]:
        if row["dropped"]:
            what = "goes with it" if row["how"] == "replaced" else "has a newer version on top"
            out.line("drop", f"{row['name']:<36} of {row['module']} {what}")
    for text in put.on_top.warnings:
        out.line("warning", text, style="yellow")


def _state_line(row: Mapping[str, str]) -> str:
    """What a variable that only the patched source has is."""
    if not row["original"]:
        return f"{row['variable']:<36} new: {row['why']}"
    where = f" of {row['original_unit']}" if row["original_unit"] != row["unit"] else ""
    how = "declared: " if row["verdict"] == "declared" else "the same: "
    return f"{row['variable']:<36} is the kernel's {row['original']}{where} ({how}{row['why']})"


def _show_closure(out: Output, closed: Closed) -> None:
    told: dict[str, Any] = closure_report(closed.closure)
    late = "looked up" if closed.proven.backend in ("kallsyms", "kgraft") else "klp"
    places = name_places([item for key, _ in _ROLES for item in told[key]])
    for key, label in _ROLES:
        for position, item in enumerate(told[key]):
            place = next(places)
            out.line(label if position == 0 else "", f"{item['function']:<36} {item['reason']}{place}")
            for seen in item["evidence"] if out.verbose else ():
                out.line("", f"{'':<36} {seen}")
    counts = Counter(ref["how"] for ref in told["references"])
    unproven = sum(not ref["proven"] for ref in told["references"])
    proven = f"{unproven} of them not proven" if unproven else "all proven"
    names = {"export": "exports", "klp": f"{late} ({proven})", "copy": "carried data", "new": "new", "weak": "weak"}
    if counts:
        out.line("refs", ", ".join(f"{counts[k]} {names[k]}" for k in names if k in counts))
    if closed.closure.read_keys:
        count, read = read_keys_of(told)
        out.line("keys", f"{count}: {', '.join(read)}")
        for row in told["read_keys"] if out.verbose else ():
            out.line("", f"{row['function']:<36} {row['kind']} {row['name']}, {row['sites']} times")
    for row in told["state"]:
        out.line("state", _state_line(row))
    for text in told["warnings"]:
        out.line("warning", text, style="yellow")
    for row in closed.consistency:
        if row["code"] == UNKNOWN and not out.verbose:
            continue  # of every first build for a kernel; the report has it
        out.line("warning", f"{row['code']}  {row['fact']}; {row['remedy']}", style="yellow")


_SHOW: Mapping[type, Callable[[Output, Any], None]] = {
    KernelChosen: _show_kernel,
    PatchesApplied: _show_patch,
    Proven: _show_parity,
    Accounted: lambda out, accounted: show_accounting(out, accounted.accountings),
    Closed: _show_closure,
    PutOnTop: _show_on_top,
}
