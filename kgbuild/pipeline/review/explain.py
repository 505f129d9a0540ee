# SPDX-License-Identifier: GPL-2.0-or-later
"""The code of one function before and after a patch: the units are compiled as for a build, and compared."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kgbuild.callgraph.model import split_name
from kgbuild.closure.model import UnitResult
from kgbuild.diagnostics.refusals import Refused
from kgbuild.diagnostics.unused_options import find_unused_options
from kgbuild.errors import NoChange, UserError
from kgbuild.host.compile.apply_patches import PatchInput
from kgbuild.host.modules.running import RunningKernel
from kgbuild.pipeline.build import analyse
from kgbuild.pipeline.stages.events import Observer
from kgbuild.pipeline.stages.options import Options
from kgbuild.pipeline.stages.trail import Trail
from kgbuild.pipeline.stages.values import Closed, Compared
from kgbuild.report.documents import schema_name
from kgbuild.report.explain import explain
from kgbuild.report.explanation import Explanation
from kgbuild.report.review.code import explanation_report
from kgbuild.report.review.edits import edit_report, edits_named


@dataclass(frozen=True)
class Explained:
    """The code of a function in one unit, original and patched beside each other."""

    unit: str
    object: str
    explanation: Explanation


@dataclass(frozen=True)
class ExplainAnswer:
    """`found`: the functions of the wanted name, or, for one that gcc inlined, those that hold its body. `edited`: the
    hunks that edit it and what gcc made of it, rows of the report. `warnings`: of options that accept nothing."""

    function: str
    found: tuple[Explained, ...]
    edited: tuple[dict[str, Any], ...]
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The answer as plain data (docs/schema/explain-1.json)."""
        rows = [
            {"unit": one.unit, "object": one.object, **explanation_report(one.explanation, 1 << 20)}
            for one in self.found
        ]
        return {
            "schema": schema_name("explain"),
            "schema_version": 1,
            "function": self.function,
            "edited": list(self.edited),
            "code": rows,
            "warnings": list(self.warnings),
        }


def explain_patch(
    function: str,
    patches: Sequence[PatchInput],
    kernel: str | RunningKernel,
    options: Options,
    observer: Observer | None = None,
) -> ExplainAnswer:
    """The code of `function` (NAME, NAME@UNIT or NAME@MODULE) before and after the patches.

    A refusal that comes once the units were compared does not matter. Raises UserError where no compiled unit has such
    a function, otherwise the exceptions of an analysis.
    """
    name, place, position = split_name(function)
    if position:
        raise UserError("names a position; several of one name are all shown", place=function, remedy="say NAME@UNIT")
    trail = Trail(observer)
    try:
        analyse(patches, kernel, options, trail)
    except (Refused, NoChange):
        if trail.get(Compared) is None:
            raise
    closed = trail.get(Closed)
    units = closed.closure.units if closed is not None else trail.the(Compared).units
    here = [u for u in units if not place or place in (u.source, u.target) or u.source.endswith(f"/{place}")]
    edited = edits_named(edit_report(trail.edits), function)
    found = _explain(here, [name])
    if not found and edited:
        holders = list(dict.fromkeys(r["function"] for row in edited for r in row["results"] if r["how"] != "no code"))
        found = _explain(here, holders)
    if not found:
        near = difflib.get_close_matches(name, _names(units), 5, 0.6)
        fact = "no unit that the patch compiles has a function of that name"
        raise UserError(fact, place=function, remedy=f"near: {', '.join(near)}" if near else "see kgbuild impact")
    return ExplainAnswer(function, tuple(found), tuple(edited), tuple(find_unused_options(trail.warnings)))


def _explain(units: Sequence[UnitResult], names: Sequence[str]) -> list[Explained]:
    out = []
    for unit in units:
        views = (unit.changes.orig, unit.changes.patched)
        for name in names:
            if any(atom.kind == "function" for view in views for atom in view.by_name.get(name, ())):
                out += [Explained(unit.source, unit.target, one) for one in explain(unit.changes, None, name)]
    return out


def _names(units: Sequence[UnitResult]) -> list[str]:
    return sorted({name for unit in units for atom in unit.changes.patched.functions for name in atom.names})
