# SPDX-License-Identifier: GPL-2.0-or-later
"""The first look: a few units are compiled and compared before all others that a patch may change.

What stands against a patch mostly shows in its own .c files, or in the first unit that sees a changed header. If it
does, the other units are neither examined nor compiled, unless --all-reasons asks for all that can be said. Nothing is
done twice: objects are in the cache, and what was proven and compared is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from kgbuild.diagnostics.refusals import Refusal, Refused
from kgbuild.errors import NoChange
from kgbuild.host.compile.candidate_search import Selection, is_fixed
from kgbuild.host.kernels.unit_listing import read_units
from kgbuild.model import VMLINUX, Kernel
from kgbuild.pipeline.stages.compare import compare_units, judge_init
from kgbuild.pipeline.stages.events import Observer, Run, StageEnded
from kgbuild.pipeline.stages.prove import compile_some, prove_units
from kgbuild.pipeline.stages.values import KernelChosen, Looked, PatchesApplied, Prepared, Proven
from kgbuild.progress import Progress, Task

# So many units are looked at together; each further round has twice as many.
_ROUND = 8


class _HeldBack:
    """Shows the progress of a run, and holds back the values that it reaches until it is known whether they count."""

    def __init__(self, shown: Progress) -> None:
        self._shown = shown
        self.values: list[object] = []

    def step(self, title: str, total: float | None = None, unit: str = "") -> AbstractContextManager[Task]:
        return self._shown.step(title, total, unit)

    def note(self, text: str) -> None:
        self._shown.note(text)

    def reached(self, event: object) -> None:
        if not isinstance(event, StageEnded):
            self.values.append(event)


@dataclass
class FirstLook:
    """Looks at units before the rest, in rounds; raises Refused at the first round that shows something against the
    patch, with the number of units that are left."""

    chosen: KernelChosen
    applied: PatchesApplied
    tree: Kernel
    run: Run
    looked: Looked

    def __call__(self, selection: Selection, rest: int) -> None:
        """Look at the units of a selection. `rest` more may be affected. Raises Refused, ToolError."""
        if self.run.options.all_reasons or (not rest and len(selection.because) <= _ROUND):
            return
        size = {source: self._size(source) for source in selection.because}
        for part, left in _rounds(sorted(size, key=lambda source: (size[source], source))):
            because = {source: selection.because[source] for source in part}
            self._look(replace(selection, because=because, refusals=[]), rest + left)

    def _size(self, source: str) -> int:
        try:
            return (self.tree.source / source).stat().st_size
        except OSError:
            return 0

    def _look(self, selection: Selection, rest: int) -> None:
        commands = read_units(self.tree, selection.because)
        units = tuple(u for source in sorted(commands) for u in commands[source] if not is_fixed(u))
        prepared = Prepared(self.chosen, self.applied, self.tree, selection, units, looked=self.looked)
        if not units or any(target not in self._targets for unit in units for target in unit.targets):
            return  # refused for that when all units are known
        held = _HeldBack(self.run.observer)
        run = replace(self.run, observer=held, options=replace(self.run.options, keep=None))
        try:
            refusals = _refusals(prepared, run)
        except Refused as refused:
            self._tell(held, prepared)
            raise Refused(refused.refusals, rest) from refused
        except NoChange:
            return
        if refusals:
            self._tell(held, prepared)
            raise Refused(refusals, rest)

    @property
    def _targets(self) -> set[str]:
        running, options = self.chosen.running, self.run.options
        modules = running.oot_modules if options.oot is not None else running.modules.paths
        return {VMLINUX, *modules}

    def _tell(self, held: _HeldBack, prepared: Prepared) -> None:
        observer: Observer = self.run.observer
        for value in (prepared, *held.values):
            observer.reached(value)


def _rounds(sources: Sequence[str]) -> Iterator[tuple[Sequence[str], int]]:
    """Sources in rounds of growing size, each with the number of those behind it."""
    at, size = 0, _ROUND
    while at < len(sources):
        part = sources[at : at + size]
        at, size = at + size, size * 2
        yield part, max(len(sources) - at, 0)


def _refusals(prepared: Prepared, run: Run) -> list[Refusal]:
    """What the comparison of some units has against the patch. What only the whole patch can tell is left out."""
    compiled = compile_some(prepared, run)
    units = prove_units(prepared, compiled, run)
    run.observer.reached(Proven(tuple(units), dict(prepared.selection.because), ""))
    results = [one.result for one in compare_units(prepared, units, run)]
    return [r for unit in judge_init(results, run.options.ignore_init, []) for r in unit.changes.refusals]
