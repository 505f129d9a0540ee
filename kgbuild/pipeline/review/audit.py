# SPDX-License-Identifier: GPL-2.0-or-later
"""The audit of a kernel: which of gcc's optimisations stand in the way of live patches, how often, and what it costs to
switch them off. From the index, the debugging information of vmlinux, and a random sample of compiled units."""

from __future__ import annotations

import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from kgbuild.callgraph.audit.variants import VARIANTS, UnitCode, VariantFigures, read_unit_code, sum_up
from kgbuild.callgraph.audit.whole_kernel import KernelTables, WholeKernel, audit_kernel, read_inlinings
from kgbuild.debuginfo.dwarf_units import DwarfUnit
from kgbuild.diff.ipa_clones import parse_ipa_clones
from kgbuild.elf.read import FormatError, read
from kgbuild.errors import KgbuildError
from kgbuild.host.compile.candidate_search import is_fixed
from kgbuild.host.compile.compile import compile_units
from kgbuild.host.index.queries import Index, read_unit_at
from kgbuild.host.index.store import with_index
from kgbuild.host.kernels.compile_commands import read_all_units
from kgbuild.host.kernels.unit_listing import file_of_all
from kgbuild.host.modules.running import RunningKernel
from kgbuild.host.system.cache import Cache
from kgbuild.model import Kernel, UnitCommand
from kgbuild.objects.symbol_kinds import is_prefix
from kgbuild.objects.view import View
from kgbuild.progress import Progress, SilentProgress
from kgbuild.proof.parity import EXACT, OVERRIDDEN, compute_parity
from kgbuild.report.build import kernel_report
from kgbuild.report.documents import schema_name

SEED = 1


@dataclass(frozen=True)
class Sample:
    """What compiling a sample gave: units drawn and compiled, functions and how many of them are proven to be those of
    the running kernel, and the figures of each variant."""

    seed: int
    drawn: int
    compiled: int
    functions: int
    proven: int
    variants: tuple[VariantFigures, ...] = field(default=())


@dataclass(frozen=True)
class Audit:
    """The figures of one kernel; `sample` is None where none was wanted. `seconds`: how long it took."""

    kernel: Kernel
    whole: WholeKernel
    units: int
    sample: Sample | None
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """The figures as plain data (docs/schema/audit-1.json)."""
        whole = asdict(self.whole)
        whole["touched"] = [{"from": low, "functions": count} for low, count in self.whole.touched.items()]
        whole["hardest"] = [asdict(one) for one in self.whole.hardest]
        return {
            "schema": schema_name("audit"),
            "schema_version": 1,
            "kernel": kernel_report(self.kernel),
            "units": self.units,
            "whole": whole,
            "sample": asdict(self.sample) if self.sample is not None else None,
            "seconds": self.seconds,
        }


def audit(kernel: Kernel, sample: int, progress: Progress, jobs: int, seed: int = SEED) -> Audit:
    """Count what there is in a whole kernel, and compile `sample` units of it with each set of options (0: none).

    Raises ToolError and UserError of the index and of compiles of unmodified units; a unit that does not compile with
    other options is counted.
    """
    began = time.monotonic()
    whole, units = with_index(kernel, progress, lambda index: _whole(index, kernel, progress))
    found = _sample(kernel, sample, seed, progress, jobs) if sample else None
    return Audit(kernel, whole, units, found, round(time.monotonic() - began, 1))


def _whole(index: Index, kernel: Kernel, progress: Progress) -> tuple[WholeKernel, int]:
    rows = index.dwarf_units()
    with progress.step("read the debugging information of vmlinux", len(rows), "units") as task:

        def units() -> Iterator[tuple[str, DwarfUnit]]:
            for source, offset in rows:
                unit, _ = read_unit_at(kernel, offset)
                task.advance()
                if unit is not None:
                    yield source, unit

        inlinings = read_inlinings(units())
    pointed, strays = index.pointed_at()
    tables = KernelTables(list(index.functions()), index.all_names(), index.edges(), index.noinstr, pointed, strays)
    with progress.step("count functions"):
        return audit_kernel(tables, inlinings), len(rows)


def _sample(kernel: Kernel, number: int, seed: int, progress: Progress, jobs: int) -> Sample:
    """Draw units of vmlinux and of modules, compile them in every way, and compare."""
    every = sorted(
        (u for u in read_all_units(file_of_all(kernel, progress)) if not is_fixed(u)), key=lambda unit: unit.object
    )
    drawn = random.Random(seed).sample(every, min(number, len(every)))
    running, cache = RunningKernel(kernel, {}), Cache()
    proof: Counter[str] = Counter()
    pairs: dict[str, list[tuple[UnitCode, UnitCode]]] = defaultdict(list)
    failed: Counter[str] = Counter()
    compiled = 0
    with progress.step("compile units with other options", len(drawn), "units") as task:
        for unit in drawn:
            built = _compile(kernel, unit, (), cache, jobs)
            if built is not None:
                compiled += 1
                view, code = built
                proof.update(_parity(view, unit, running))
                for name, options in VARIANTS.items():
                    other = (view, code) if not options else _compile(kernel, unit, options, cache, jobs)
                    if other is None:
                        failed[name] += 1
                    else:
                        pairs[name].append((code, other[1]))
            task.advance()
    figures = tuple(sum_up(name, pairs[name], failed[name]) for name in VARIANTS)
    return Sample(seed, len(drawn), compiled, proof.total(), proof[EXACT] + proof[OVERRIDDEN], figures)


def _compile(
    kernel: Kernel, unit: UnitCommand, options: Sequence[str], cache: Cache, jobs: int
) -> tuple[View, UnitCode] | None:
    """A unit compiled as the kernel was, with more options of gcc; None where it can't be."""
    try:
        (made,) = compile_units(kernel, [unit._replace(argv=(*unit.argv, *options))], {}, cache, SilentProgress(), jobs)
        view = View(read(made.orig))
    except (KgbuildError, FormatError):
        return None
    return view, read_unit_code(view, parse_ipa_clones(made.original_clones))


def _parity(view: View, unit: UnitCommand, running: RunningKernel) -> Iterator[str]:
    for target in unit.targets:
        for one in compute_parity(view, running.image(target)).functions:
            if not is_prefix(view.atoms[one.atom]):
                yield one.status
