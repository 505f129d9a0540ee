# SPDX-License-Identifier: GPL-2.0-or-later
"""What a patch would touch, and why: an analysis that stops before a module is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kgbuild.diagnostics.refusals import Refusal, Refused
from kgbuild.host.compile.apply_patches import PatchInput
from kgbuild.host.modules.running import RunningKernel
from kgbuild.pipeline.build import analyse
from kgbuild.pipeline.stages.events import Observer
from kgbuild.pipeline.stages.options import Options
from kgbuild.pipeline.stages.trail import Trail
from kgbuild.pipeline.stages.values import Closed
from kgbuild.report.documents import schema_name


@dataclass(frozen=True)
class Impact:
    """What a patch would touch, and why. `refusals` is what stands against a module; empty where one could be made."""

    closed: Closed
    refusals: tuple[Refusal, ...]
    trail: Trail

    def to_json(self) -> dict[str, Any]:
        """The report as plain data (docs/schema/impact-1.json)."""
        return impact_report(self.trail)


def impact_report(trail: Trail) -> dict[str, Any]:
    """What was reached of an analysis, as plain data."""
    return {**trail.report(), "schema": schema_name("impact")}


def find_impact(
    patches: Sequence[PatchInput], kernel: str | RunningKernel, options: Options, observer: Observer | None = None
) -> Impact:
    """What `build` would put into a module, and why. What is refused once the patch is closed is in the result.

    Raises Refused for what comes before, NoChange, UserError and ToolError as a build does. A Trail as `observer` keeps
    what was reached, for the report of a run that failed.
    """
    trail = observer if isinstance(observer, Trail) else Trail(observer)
    try:
        closed = analyse(patches, kernel, options, trail)
    except Refused as refused:
        found = trail.get(Closed)
        if found is None:
            raise
        return Impact(found, tuple(refused.refusals), trail)
    return Impact(closed, (), trail)
