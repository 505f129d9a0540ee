# SPDX-License-Identifier: GPL-2.0-or-later
"""What a build is told, and what it has found so far: the state that the stages fill."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kgbuild.accounting.claims import Accounting, Unit
from kgbuild.callgraph.model import CallGraph
from kgbuild.closure.model import Closure, UnitResult
from kgbuild.errors import ToolError
from kgbuild.host.compile.apply_patches import PatchSet
from kgbuild.host.compile.candidate_search import Selection
from kgbuild.host.compile.compile import Compiled
from kgbuild.host.modules.images import Modules
from kgbuild.kernel.module_image import ModuleImage
from kgbuild.livepatch.cumulative import NOTHING_BEFORE, Lost, Older, OnTop
from kgbuild.livepatch.foreign_patches import OtherPatch
from kgbuild.model import Finding, Kernel
from kgbuild.patch.kept_changes import FileChange
from kgbuild.proof.record import ProofRecord
from kgbuild.report.build import Stage, empty_report


@dataclass
class Build:
    """A build under way, and its result: what each stage has left so far. `report` is valid at any moment; `tell` is
    called with a topic ("kernel", "patch", "parity", "accounting") once the report has what there is to say. `tree` is
    the kernel as the units to patch see it: itself, or with the source of an out-of-tree module in place of its own.
    `ledgers` has an entry for each unit that the patch touches. `backend` is the one that was asked for, or that this
    kernel would get; "" until its features are known, or
    where it can take none."""

    kernel: Kernel | None = None
    tree: Kernel | None = None
    oot_modules: dict[str, Path] = field(default_factory=dict)
    patches: PatchSet | None = None
    selection: Selection = field(default_factory=lambda: Selection({}))
    compiled: list[Compiled] = field(default_factory=list)
    modules: Modules | None = None
    parts: list[tuple[Compiled, UnitResult]] = field(default_factory=list)
    units: tuple[UnitResult, ...] = ()
    closure: Closure | None = None
    ledgers: list[Unit] = field(default_factory=list)
    accountings: tuple[Accounting, ...] = ()
    record: ProofRecord | None = None
    module: bytes = b""
    directory: dict[str, bytes] = field(default_factory=dict)
    older: tuple[Older, ...] = ()
    changes: dict[str, FileChange] = field(default_factory=dict)
    lost: tuple[Lost, ...] = ()
    others: tuple[OtherPatch, ...] = ()
    on_top: OnTop = NOTHING_BEFORE
    graph: CallGraph | None = None
    features: frozenset[str] = frozenset()
    backend: str = ""
    pulled_units: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=lambda: empty_report(None))
    tell: Callable[[str], None] = lambda topic: None

    def module_image(self, target: str) -> ModuleImage:
        """The module `target` as it is loaded. Raises ToolError where this kernel's packages lack it."""
        assert self.modules is not None
        image = self.modules.image(target)
        if image is None:
            raise ToolError("is not among this kernel's modules", place=target, remedy="fetch the kernel again")
        return image

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage; its result is in `stages` even where it fails."""
        began = time.monotonic()
        try:
            yield
        finally:
            rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            stage = Stage(name, round(time.monotonic() - began, 3), round(rss, 1))
            self.stages.append(stage)
            self.report["stages"] = [vars(s) for s in self.stages]
