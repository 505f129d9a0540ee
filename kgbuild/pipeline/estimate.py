# SPDX-License-Identifier: GPL-2.0-or-later
"""The estimate of what a patch would change, without compiling: collects the inputs for `estimation/estimate.py`.

These are the original and the patched sources, the kernel's index, the debugging information of the touched units, and
for headers the include graph.
"""

from __future__ import annotations

import posixpath
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from kgbuild.csource.definitions import SourceItem, read_items
from kgbuild.csource.preprocessor_conditions import Conditions
from kgbuild.debuginfo.dwarf_units import DwarfUnit
from kgbuild.diagnostics.refusals import Refusal, Refused
from kgbuild.diagnostics.unused_options import NO_INIT_CODE, unused_option
from kgbuild.errors import NoChange
from kgbuild.estimation.edits import hunks_of, list_hunks
from kgbuild.estimation.estimate import Estimate, UnitView, estimate
from kgbuild.estimation.source_changes import Change
from kgbuild.host.compile.apply_patches import PatchInput, PatchSet, apply_patches, read_patches
from kgbuild.host.compile.candidate_search import MAX_UNITS, Selection, is_fixed
from kgbuild.host.compile.unit_selection import choose_units
from kgbuild.host.index.queries import Index, read_unit_at
from kgbuild.host.index.store import with_index
from kgbuild.host.kernels.acquire import ensure_kernel
from kgbuild.host.kernels.kernel_files import config_of
from kgbuild.host.kernels.unit_listing import read_units
from kgbuild.host.modules.running import RunningKernel
from kgbuild.host.system.cache import Cache
from kgbuild.host.system.tree_manifest import DamagedSource, read_whole
from kgbuild.kernel.config import check_config
from kgbuild.model import EXACT_TOOLS, VMLINUX, Kernel, ToolChoice, UnitCommand
from kgbuild.progress import Progress, SilentProgress
from kgbuild.report.estimate import estimate_report


@dataclass(frozen=True)
class Estimated:
    """An estimate together with its kernel, patches, units (source -> why), and the seconds it took."""

    kernel: Kernel
    patches: PatchSet
    units: dict[str, str]
    targets: dict[str, list[str]]
    result: Estimate
    seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The estimate as plain data (docs/schema/estimate-1.json)."""
        return estimate_report(
            self.result, self.kernel, self.patches.patches, self.units, self.targets, self.seconds, self.warnings
        )


def estimate_patches(
    patches: Sequence[PatchInput],
    given: str | RunningKernel,
    progress: Progress | None = None,
    *,
    offline: bool = False,
    jobs: int = 2,
    max_units: int = MAX_UNITS,
    ignore_init: bool = False,
    tools: ToolChoice = EXACT_TOOLS,
) -> Estimated:
    """Estimate what patches would change in a kernel, from its sources, index and debugging information.

    Nothing is compiled. Raises UserError and ToolError like a build, Refused if a path or a hunk is certainly refused,
    NoChange if the patches touch no code.
    """
    progress = progress or SilentProgress()
    try:
        return _estimate(patches, given, progress, offline, jobs, max_units, ignore_init, tools)
    except DamagedSource as damage:
        if not isinstance(given, str):
            raise
        # asked for again, the kernel is made whole
        progress.note(f"{damage.place}: {damage.fact}")
        return _estimate(patches, given, progress, offline, jobs, max_units, ignore_init, tools)


def _estimate(
    patches: Sequence[PatchInput],
    given: str | RunningKernel,
    progress: Progress,
    offline: bool,
    jobs: int,
    max_units: int,
    ignore_init: bool,
    tools: ToolChoice,
) -> Estimated:
    began, cache = time.monotonic(), Cache()
    parsed = read_patches(patches)
    if isinstance(given, RunningKernel):
        kernel = given.kernel
    else:
        kernel = ensure_kernel(given, progress=progress, offline=offline, jobs=jobs, cache=cache, choice=tools)
    if refusals := check_config(kernel.config.read_text()):
        raise Refused(refusals)
    applied = apply_patches(kernel, parsed)
    if not applied.files and not applied.refusals:
        raise NoChange("the patch touches no kernel code", remedy="nothing to patch")
    selection = choose_units(kernel, applied, cache, progress, jobs, max_units, preprocess=False)
    if refusals := [*applied.refusals, *selection.refusals]:
        raise Refused(refusals)

    def answer(index: Index) -> Estimated:
        reader = _UnitViewReader(kernel, applied, selection, index, max_units)
        units = reader.units()
        result = estimate(units, index, reader.place, ignore_init)
        result.possible += reader.possible
        targets: dict[str, list[str]] = {}
        for unit in units:
            targets.setdefault(unit.source, []).append(unit.target)
        because = {source: selection.because[source] for source in targets}
        if ignore_init and not result.left_out:
            reader.warnings.append(unused_option("--ignore-init", NO_INIT_CODE))
        return Estimated(kernel, applied, because, targets, result, 0.0, reader.warnings)

    found = with_index(kernel, progress, answer)
    from dataclasses import replace

    return replace(found, seconds=round(time.monotonic() - began, 3))


class _UnitViewReader:
    """Source texts as items; each file is read once for vmlinux and once for modules."""

    def __init__(self, kernel: Kernel, patches: PatchSet, selection: Selection, index: Index, max_units: int) -> None:
        self.kernel, self.patches, self.selection, self.index = kernel, patches, selection, index
        self.max_units = max_units
        self.config = config_of(kernel)
        self.possible: list[Refusal] = []
        self.warnings: list[str] = []
        self._items: dict[tuple[str, bool, bool], tuple[SourceItem, ...]] = {}
        self._file: dict[int, str] = {}
        self._hunks = list_hunks(patches.patches, patches.applied)

    def units(self) -> list[UnitView]:
        """Every unit the patch may change, for each object it is part of."""
        because = self.selection.because
        sources = sorted(because)
        own_sources = [s for s in sources if posixpath.normpath(s) in self.patches.applied]
        if len(sources) > self.max_units + len(own_sources):
            fact = f"{len(sources)} units may see a difference; the limit is {self.max_units}, so only .c files count"
            self.possible.append(Refusal("P12-too-many-units", ", ".join(sorted(self.patches.files)), fact))
            sources = own_sources
        commands = read_units(self.kernel, sources)
        out = []
        for source in sources:
            for unit in commands[source]:
                if not is_fixed(unit):
                    out += [self._view(unit, target) for target in unit.targets]
        return out

    def _view(self, unit: UnitCommand, target: str) -> UnitView:
        path = posixpath.normpath(unit.source)
        # the files it includes: headers of the patch, and .c files if the unit is affected by including them
        others = [
            p for p in sorted(self.patches.applied) if p != path and (p.endswith(".h") or self._included(unit, p))
        ]
        orig = [self._read(p, unit.module, False) for p in [path, *others]]
        patched = [self._read(p, unit.module, True) for p in [path, *others]]
        functions = tuple(self.index.functions_of(target, unit.source))
        return UnitView(
            unit.source, target, sum(orig, ()), sum(patched, ()), functions, self._facts(unit.source, target)
        )

    def _included(self, unit: UnitCommand, path: str) -> bool:
        return self.selection.because.get(unit.source, "").endswith(f"includes {path}")

    def _facts(self, source: str, target: str) -> DwarfUnit | None:
        if target != VMLINUX:
            return None
        offsets = self.index.unit_offsets(source)
        if not offsets:
            self.warnings.append(f"{source}: no debugging information; what is inlined is guessed from the call graph")
            return None
        facts, unknown = read_unit_at(self.kernel, offsets[0])
        if facts is None:
            self.warnings.append(f"{source}: {unknown}; what is inlined is guessed from the call graph")
        return facts

    def _read(self, path: str, module: bool, patched: bool) -> tuple[SourceItem, ...]:
        applied = self.patches.applied.get(path)
        patched = patched and applied is not None
        key = (path, module, patched)
        if key not in self._items:
            if applied is not None and patched:
                text = applied.text
            else:
                text = read_whole(self.kernel.source, path) if (self.kernel.source / path).is_file() else b""
            items = tuple(read_items(text, Conditions(self.config, module)))
            self._items[key] = items
            self._file.update({id(item): path for item in items})
        return self._items[key]

    def place(self, change: Change) -> tuple[str, str]:
        """The file that contains a change, and the hunks that make it."""
        path = self._file.get(id(change.item), "")
        applied = self.patches.applied.get(path)
        if applied is None:
            return path, f"changed in {path}"
        hunks = [self._hunks[at].number for at in hunks_of(applied, change, path, self._hunks)]
        if not hunks:
            return path, f"changed in {path}"
        return path, f"hunk{'s' * (len(hunks) > 1)} {', '.join(map(str, hunks))} of {path}"
