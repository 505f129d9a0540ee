# SPDX-License-Identifier: GPL-2.0-or-later
"""The patch closed over the kernel's call graph: what must be in the module, and what it is bound to. Units in which
functions come along are compiled and proven as the closure asks for them; units whose code needs static keys of its
module are compiled once more, so that it reads them at run time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from kgbuild.accounting.account import Accounting, no_effects
from kgbuild.accounting.run_time_keys import account_run_time
from kgbuild.callgraph.model import CallGraph
from kgbuild.closure.close import close as close_over
from kgbuild.closure.model import Closure, UnitResult
from kgbuild.closure.run_time.keys import find_read_keys, keys_to_read, static_calls, static_keys
from kgbuild.closure.run_time.objects import NotTheSame, as_static, with_object
from kgbuild.diagnostics.refusals import Refusal, Refused
from kgbuild.diagnostics.unused_options import NO_CALLERS, unused_option
from kgbuild.elf.read import read
from kgbuild.errors import NoChange
from kgbuild.host.compile.assembler import RunTimeKeys
from kgbuild.host.compile.compile import compile_run_time
from kgbuild.kernel.feature_probes import INDIRECT_BRANCHES
from kgbuild.model import VMLINUX, UnitCommand
from kgbuild.objects.view import View
from kgbuild.pipeline.stages.compare import account, unchanged
from kgbuild.pipeline.stages.events import Run
from kgbuild.pipeline.stages.options import ALWAYS
from kgbuild.pipeline.stages.prove import prove_pulled
from kgbuild.pipeline.stages.values import Closed, Compared, Inputs, Prepared, Proven, ProvenUnit

MAX_ROUNDS = 20


class _LazyCallGraph:
    """The kernel's call graph; its index is made when it is first asked for."""

    def __init__(self, prepared: Prepared, run: Run) -> None:
        self._prepared, self._run = prepared, run
        self._graph: CallGraph | None = None

    def __call__(self) -> CallGraph:
        if self._graph is None:
            from kgbuild.host.index.store import load_index

            with self._run.stage("index"):
                self._graph = load_index(self._prepared.tree, self._run.observer)
        return self._graph


@dataclass
class _RunTimeObjects:
    """The units of a patch that read keys at run time, while it is being closed.

    names   the symbols of the keys that are read, by the unit's number
    units   these units, with the objects that read them
    atoms   the atoms of those objects, by the ones that they take the place of
    """

    prepared: Prepared
    run: Run
    names: dict[int, frozenset[str]] = field(default_factory=dict)
    units: dict[int, UnitResult] = field(default_factory=dict)
    atoms: dict[int, Mapping[int, int]] = field(default_factory=dict)

    def over(self, static: Sequence[UnitResult]) -> tuple[UnitResult, ...]:
        """All units, those that read keys with the objects that do."""
        return tuple(self.units.get(number, unit) for number, unit in enumerate(static))

    def add(self, closure: Closure, static: Sequence[UnitResult], proven: Sequence[ProvenUnit], pulled: int) -> bool:
        """Compile the units whose members depend on keys that could be read at run time. `static` are all units as the
        kernel's own build makes them, `proven` what was compiled for each; those from `pulled` on are as the kernel's
        source has them. False where there is no such unit, or none that this helps."""
        wanted = {
            number: self.names.get(number, frozenset()) | names
            for number, names in keys_to_read(closure).items()
            if not names <= self.names.get(number, frozenset())
        }
        added = False
        for patched, files in ((True, self.prepared.selection.files), (False, {})):
            numbers = [number for number in wanted if (number < pulled) == patched]
            names: dict[UnitCommand, frozenset[str]] = {}
            for number in numbers:  # a unit of two modules is there twice
                unit = proven[number].compiled.unit
                names[unit] = names.get(unit, frozenset()) | wanted[number]
            objects: dict[UnitCommand, bytes] = {}
            # what can't be assembled stays refused
            with suppress(Refused):
                objects = self._compile(names, files) if names else {}
            for number in numbers:
                unit = proven[number].compiled.unit
                self.names[number] = names[unit]
                added |= unit in objects and self._take(number, static[number], objects[unit])
        return added

    def _compile(
        self, names: Mapping[UnitCommand, frozenset[str]], files: Mapping[str, bytes]
    ) -> dict[UnitCommand, bytes]:
        read_by = {unit: RunTimeKeys(static_keys(of), static_calls(of)) for unit, of in names.items()}
        tree, run = self.prepared.tree, self.run
        real = self.prepared.selection.real if files else ()
        with run.stage("compile"):
            return compile_run_time(tree, read_by, files, run.cache, run.observer, run.options.jobs, real)

    def _take(self, number: int, static: UnitResult, data: bytes) -> bool:
        try:
            self.units[number], self.atoms[number] = with_object(static, View(read(data)))
        except NotTheSame:
            return False  # the refusal stands
        return True

    def note(self, closure: Closure, static: Sequence[UnitResult]) -> Closure:
        """The closure, with the keys that its members read at run time."""
        return replace(closure, read_keys=find_read_keys(closure, tuple(static), self.names, self.atoms))

    def account(self, closure: Closure, static: Sequence[UnitResult]) -> tuple[Accounting, ...]:
        """What becomes of each difference that comes of reading keys at run time."""
        return tuple(
            account_run_time(static[number], self.units[number], self.names[number], atoms, closure, number)
            for number, atoms in self.atoms.items()
            if all(key.unit != number for key in closure.late_keys)
        )

    def as_static(self, closure: Closure, static: Sequence[UnitResult]) -> Closure:
        """The closure with the units as the kernel's own build makes them, which the ledgers are about."""
        return as_static(closure, tuple(static), self.atoms) if self.atoms else closure


def close(asked: Inputs, prepared: Prepared, proven: Proven, compared: Compared, run: Run) -> Closed:
    """Close the patch. Raises Refused with all that stands against it, NoChange where nothing of the running kernel
    would lead to what is new."""
    options, running = run.options, prepared.running
    graph = _LazyCallGraph(prepared, run)
    units = compared.units
    own = len(units)
    keys = _RunTimeObjects(prepared, run)
    for _ in range(MAX_ROUNDS):
        with run.stage("close"):
            closure = close_over(
                keys.over(units),
                running.vmlinux,
                running.exports,
                options.allow_unproven,
                running.modules_with(u.target for u in units),
                graph,
                pull_always=options.pull == ALWAYS,
                tracked=INDIRECT_BRANCHES in running.features,
                assume_callers=options.assume_in_tree_callers,
            )
        if options.dynamic_keys and closure.late_keys and keys.add(closure, units, proven.units, own):
            continue
        if closure.refusals or not closure.needs:
            break
        count = len(proven.pulled) + len(closure.needs)
        if count > options.max_pull:
            fact = f"{count} units would come along, the limit of --max-pull is {options.max_pull}"
            raise Refused([_too_many(closure, fact)])
        had = len(proven.units)
        proven = prove_pulled(prepared, proven, closure.needs, run)
        units += tuple(unchanged(unit) for unit in proven.units[had:])
    else:
        raise Refused([_too_many(closure, f"after {MAX_ROUNDS} rounds there are still more to come")])
    closure = keys.note(closure, units)
    more = keys.account(closure, units)
    accounted = account(prepared, compared, units, keys.as_static(closure, units), run, more)
    unaccounted = (r for a in accounted.accountings for r in a.refusals)
    closure = replace(
        closure,
        refusals=(*closure.refusals, *unaccounted),
        warnings=(*compared.warnings, *closure.warnings, *_accept_nothing(closure, run)),
    )
    closed = Closed(closure, proven, accounted.accountings, _consistency(asked, prepared, closure, run))
    run.observer.reached(closed)
    if closure.refusals:
        raise Refused(list(closure.refusals))
    if not closure.redirects and not closure.callbacks:
        fact = "new functions only, and nothing of the running kernel calls them"
        raise NoChange("; ".join([fact, *no_effects(accounted.accountings)]), remedy="nothing to patch")
    return closed


def _accept_nothing(closure: Closure, run: Run) -> tuple[str, ...]:
    needless = run.options.assume_in_tree_callers and not closure.assumed
    return (unused_option("--assume-in-tree-callers", NO_CALLERS),) if needless else ()


def _too_many(closure: Closure, fact: str) -> Refusal:
    units = ", ".join(sorted(closure.needs)[:6])
    first = next(iter(closure.needs.values()))[0]
    return Refusal("K15-pull", units, f"{fact}: {first}" if first else fact)


def _consistency(asked: Inputs, prepared: Prepared, closure: Closure, run: Run) -> tuple[Mapping[str, object], ...]:
    """What the kernel's consistency model can't do for this patch. Nothing is refused for it."""
    from kgbuild.pipeline.stages.warnings import consistency_report, find_warnings

    running, options = prepared.running, run.options
    images = {VMLINUX: running.vmlinux, **running.modules_with(u.target for u in closure.units)}
    with run.stage("consistency"):
        found = find_warnings(
            closure, running.kernel, asked.others, run.observer, options.replace, options.make_index, images
        )
    return tuple(consistency_report(found))
