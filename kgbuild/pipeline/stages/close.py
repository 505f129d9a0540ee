# SPDX-License-Identifier: GPL-2.0-or-later
"""The patch closed over the kernel's call graph: what must be in the module, and what it is bound to. Units in which
functions come along are compiled and proven as the closure asks for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from kgbuild.accounting.account import no_effects
from kgbuild.callgraph.model import CallGraph
from kgbuild.closure.close import close as close_over
from kgbuild.closure.model import Closure
from kgbuild.diagnostics.refusals import Refusal, Refused
from kgbuild.errors import NoChange
from kgbuild.kernel.feature_probes import INDIRECT_BRANCHES
from kgbuild.model import VMLINUX
from kgbuild.pipeline.stages.compare import account, unchanged
from kgbuild.pipeline.stages.events import Run
from kgbuild.pipeline.stages.options import ALWAYS
from kgbuild.pipeline.stages.prove import prove_pulled
from kgbuild.pipeline.stages.values import Closed, Compared, Inputs, Prepared, Proven

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


def close(asked: Inputs, prepared: Prepared, proven: Proven, compared: Compared, run: Run) -> Closed:
    """Close the patch. Raises Refused with all that stands against it, NoChange where nothing of the running kernel
    would lead to what is new."""
    options, running = run.options, prepared.running
    graph = _LazyCallGraph(prepared, run)
    units = compared.units
    for _ in range(MAX_ROUNDS):
        with run.stage("close"):
            closure = close_over(
                units,
                running.vmlinux,
                running.exports,
                options.allow_unproven,
                running.modules_with(u.target for u in units),
                graph,
                pull_always=options.pull == ALWAYS,
                tracked=INDIRECT_BRANCHES in running.features,
                assume_callers=options.assume_in_tree_callers,
            )
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
    accounted = account(prepared, compared, units, closure, run)
    unaccounted = (r for a in accounted.accountings for r in a.refusals)
    closure = replace(
        closure,
        refusals=(*closure.refusals, *unaccounted),
        warnings=(*compared.warnings, *closure.warnings),
    )
    closed = Closed(closure, proven, accounted.accountings, _consistency(asked, prepared, closure, run))
    run.observer.reached(closed)
    if closure.refusals:
        raise Refused(list(closure.refusals))
    if not closure.redirects and not closure.callbacks:
        fact = "new functions only, and nothing of the running kernel calls them"
        raise NoChange("; ".join([fact, *no_effects(accounted.accountings)]), remedy="nothing to patch")
    return closed


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
