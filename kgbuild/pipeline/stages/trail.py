# SPDX-License-Identifier: GPL-2.0-or-later
"""The trail of a run: an observer that keeps the values reached, and makes the report from them, whether the run
succeeded or failed."""

from __future__ import annotations

import hashlib
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

from kgbuild.closure.edit_results import SourceEdits
from kgbuild.debuginfo.compile_flags import flags_of, read_producer
from kgbuild.diagnostics.refusals import Refused
from kgbuild.errors import KgbuildError
from kgbuild.host.kernels.toolchain import record_of
from kgbuild.pipeline.stages.events import Observer, SilentObserver, StageEnded
from kgbuild.pipeline.stages.options import Options
from kgbuild.pipeline.stages.source_edits import find_source_edits
from kgbuild.pipeline.stages.values import (
    Accounted,
    Assembled,
    Checked,
    Closed,
    Inputs,
    KernelChosen,
    PatchesApplied,
    Prepared,
    Proven,
    PutOnTop,
    Recorded,
    Warned,
)
from kgbuild.progress import Task
from kgbuild.report.accounting import accounting_report
from kgbuild.report.build import (
    closure_report,
    empty_report,
    error_report,
    finding_report,
    kernel_report,
    on_top_report,
    refusal_report,
    unit_report,
)
from kgbuild.report.patch_graph import graph_of_closure, graph_report
from kgbuild.report.review.code import code_report
from kgbuild.report.review.edits import edit_report, hunk_report

T = TypeVar("T")


class Trail:
    """Keeps the last value of each kind, and forwards everything to `shown`."""

    def __init__(self, shown: Observer | None = None) -> None:
        self.shown: Observer = shown if shown is not None else SilentObserver()
        self.stages: list[StageEnded] = []
        self.options = Options()
        self.output: Path | None = None
        self.error: KgbuildError | None = None
        self._values: dict[type, Any] = {}
        self._edits: tuple[Closed | None, SourceEdits] | None = None

    def step(self, title: str, total: float | None = None, unit: str = "") -> AbstractContextManager[Task]:
        """Forward progress to `shown`."""
        return self.shown.step(title, total, unit)

    def note(self, text: str) -> None:
        """Forward a note to `shown`."""
        self.shown.note(text)

    def reached(self, event: object) -> None:
        """Keep a value."""
        if isinstance(event, StageEnded):
            self.stages.append(event)
        else:
            self._values[type(event)] = event
        self.shown.reached(event)

    def get(self, kind: type[T]) -> T | None:
        """The value of a kind, None if the run did not reach it."""
        return self._values.get(kind)

    def the(self, kind: type[T]) -> T:
        """The value of a kind. Raises KeyError if the run did not reach it."""
        found: T = self._values[kind]
        return found

    @property
    def warnings(self) -> list[str]:
        """All warnings so far, in order."""
        if (closed := self.get(Closed)) is not None:
            on_top = self.get(PutOnTop)
            return [*closed.closure.warnings, *(on_top.on_top.warnings if on_top is not None else ())]
        warned = self.get(Warned)
        return list(warned.warnings) if warned is not None else []

    @property
    def edits(self) -> SourceEdits:
        """What the hunks of the patch edit, and what gcc made of it as far as the run came."""
        applied, chosen, closed = self.get(PatchesApplied), self.get(KernelChosen), self.get(Closed)
        if applied is None or chosen is None:
            return SourceEdits()
        if self._edits is None or self._edits[0] is not closed:
            prepared = self.get(Prepared)
            source = (prepared.tree if prepared is not None else chosen.kernel).source
            closure = closed.closure if closed is not None else None
            found = find_source_edits(source, chosen.running.config, applied.patches, closure)
            self._edits = (closed, found)
        return self._edits[1]

    def report(self) -> dict[str, Any]:
        """The report (docs/schema/report-1.json) from the values reached so far."""
        out = empty_report(None)
        out["allowed"], out["pull"] = self.options.allowed, self.options.pull
        out["stages"] = [vars(stage) for stage in self.stages]
        out["warnings"] = self.warnings
        if (chosen := self.get(KernelChosen)) is not None:
            out["kernel"] = {**kernel_report(chosen.kernel), "requested": chosen.requested}
            if (record := record_of(chosen.kernel)) is not None:
                out["toolchain"] = record
        self._patches(out)
        if (proven := self.get(Proven)) is not None:
            out["units"] = _units(proven)
        if (accounted := self.get(Accounted)) is not None:
            out["accounting"] = accounting_report(accounted.accountings)
        if (closed := self.get(Closed)) is not None:
            out.update(closure_report(closed.closure), warnings=self.warnings)
            out["consistency"] = [dict(row) for row in closed.consistency]
        if (on_top := self.get(PutOnTop)) is not None:
            out.update(on_top_report(on_top.on_top))
        if (recorded := self.get(Recorded)) is not None:
            out["backend"], out["proof"] = recorded.backend, dict(recorded.proof)
        if (assembled := self.get(Assembled)) is not None:
            out["proof"] = dict(assembled.proof)
        edits = self.edits
        out["hunks"], out["edits"] = hunk_report(edits), edit_report(edits)
        if closed is not None:
            out["graph"] = graph_report(graph_of_closure(closed.closure, edits))
            out["code"] = code_report(closed.closure)
        self._module(out)
        if isinstance(self.error, Refused):
            out["refusals"] = refusal_report(self.error.refusals)
            out["unexamined"] = self.error.unexamined
        elif self.error is not None:
            out["error"] = error_report(self.error)
        return out

    def _patches(self, out: dict[str, Any]) -> None:
        asked, applied = self.get(Inputs), self.get(PatchesApplied)
        if asked is None or self.get(KernelChosen) is None:
            return
        by_patch = applied.patches.by_patch if applied is not None else [((), ())] * len(asked.patches)
        out["patches"] = [
            {"name": p.name, "sha256": p.sha256, "subject": p.subject, "files": list(touched), "skipped": list(passed)}
            for p, (touched, passed) in zip(asked.patches, by_patch, strict=True)
        ]

    def _module(self, out: dict[str, Any]) -> None:
        assembled, checked = self.get(Assembled), self.get(Checked)
        if checked is None or assembled is None:
            return
        out["findings"] = finding_report(checked.findings)
        redirects = self.the(Closed).closure.redirects
        out["module"] = {
            "name": assembled.name,
            "path": str(self.output),
            "sha256": hashlib.sha256(assembled.module).hexdigest(),
            "size": len(assembled.module),
            "functions": [{"object": r.object, "name": r.name, "sympos": r.sympos} for r in redirects],
            "replace": self.options.replace,
            "backend": assembled.backend,
            "options": self.options.for_bytes,
        }


def _units(proven: Proven) -> list[dict[str, Any]]:
    return [
        unit_report(
            u.source,
            u.target,
            u.orig,
            u.parity,
            u.compiled.unit.object,
            proven.because.get(u.source, ""),
            flags_of(read_producer(u.orig.obj)),
            u.compiled.optimized,
        )
        for u in proven.units
    ]
