# SPDX-License-Identifier: GPL-2.0-or-later
"""What must be in the module, and what each reference of it is bound to.

Seeds are the changed and the new functions. Everything they refer to is followed: what the kernel has and parity has
proven is bound to, and so are strings and constants whose place it has read; others, and new data, are carried; a
local function that is not proven is carried as a copy, and followed in turn. Whatever has no rule is a refusal, and all
refusals of a run come together.

Each pass takes the builder; PASSES is their order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from kgbuild.closure.binding import World
from kgbuild.closure.builder import ClosureBuilder
from kgbuild.closure.lifetime import check_module_memory, shown_in_targets
from kgbuild.closure.model import Closure, Member, Redirect, StateLine, UnitResult
from kgbuild.closure.passes.bindings import settle_promoted
from kgbuild.closure.passes.follow import follow_members
from kgbuild.closure.passes.ibt import find_thunks
from kgbuild.closure.passes.labels import check_labels
from kgbuild.closure.passes.redirects import redirect_changed
from kgbuild.closure.passes.seeds import add_seeds, check_declarations, note_globals, take_authors, take_findings
from kgbuild.closure.passes.unit_checks import (
    check_clones,
    check_tables,
    check_taken_names,
    check_vanished,
    debug_keys,
    needless_allowances,
)
from kgbuild.closure.state_verdicts import DECLARED, SAME
from kgbuild.correlation.declared_variables import MACRO
from kgbuild.objects.symbol_kinds import stem

if TYPE_CHECKING:
    from kgbuild.callgraph.model import CallGraph
    from kgbuild.kernel.exports import Export
    from kgbuild.kernel.module_image import ModuleImage
    from kgbuild.kernel.vmlinux_image import KernelImage

__all__ = ["PASSES", "Closure", "Member", "Redirect", "UnitResult", "close", "close_in"]


def close(
    units: tuple[UnitResult, ...],
    image: KernelImage,
    exports: Mapping[str, Export],
    allow_unproven: frozenset[str] = frozenset(),
    modules: Mapping[str, ModuleImage] | None = None,
    graph: Callable[[], CallGraph] | None = None,
    pull_always: bool = False,
    tracked: bool = False,
    assume_callers: bool = False,
) -> Closure:
    """Close the changes of all units.

    `image` is vmlinux; `modules` holds every target module and all that those depend on, by name; `graph` gives the
    kernel's call graph when callers in other units matter; `tracked` is World's. Refusals are collected in the result,
    never raised; where its `needs` are not empty, those units must be compiled and the whole closed again.
    `pull_always` carries every local callee that is a clone, proven or not. `assume_callers` takes it that an exported
    function has no callers but those that the call graph knows.
    """
    world = World(image, exports, modules or {}, tracked)
    return close_in(units, world, allow_unproven, graph, pull_always, assume_callers)


def close_in(
    units: tuple[UnitResult, ...],
    world: World,
    allow_unproven: frozenset[str] = frozenset(),
    graph: Callable[[], CallGraph] | None = None,
    pull_always: bool = False,
    assume_callers: bool = False,
) -> Closure:
    """Close the changes of all units, with references bound as `world` says."""
    builder = ClosureBuilder(units, world, allow_unproven, graph, pull_always, assume_callers)
    for work in PASSES:
        work(builder)
    return builder.finish()


def _check_names(builder: ClosureBuilder) -> None:
    for number, unit in enumerate(builder.units):
        builder.refusals += check_vanished(builder, builder.graph, unit)
        builder.refusals += check_taken_names(builder, number, builder.world, builder.graph, builder.judge)


def _check_proof(builder: ClosureBuilder) -> None:
    for number in range(len(builder.units)):
        builder.refusals += check_clones(builder, number, builder.allowed)
    builder.warnings += needless_allowances(builder.units, builder.allowed)


def _check_contents(builder: ClosureBuilder) -> None:
    builder.refusals += check_tables(builder)
    builder.refusals += check_labels(builder, builder.label_tables)
    builder.refusals += check_module_memory(builder)


def _add_thunks(builder: ClosureBuilder) -> None:
    if builder.world.tracked:
        thunks, refusals = find_thunks(builder, builder.world)
        builder.thunks.update(thunks)
        builder.refusals += refusals


def _note_debug(builder: ClosureBuilder) -> None:
    keys, warnings = debug_keys(builder)
    builder.dropped_keys.update(keys)
    builder.warnings += warnings


def _note_renamed(builder: ClosureBuilder) -> None:
    """Say of the variables that go on under another name within a unit that they do."""
    for number, unit in enumerate(builder.units):
        for orig, patched, how in unit.changes.renamed:
            if (number, patched) not in builder.bound:
                continue
            orig_name, name = unit.changes.orig.atoms[orig].name, unit.changes.patched.atoms[patched].name
            if "." in orig_name and "." in name and stem(orig_name) == stem(name):
                continue  # another number
            verdict = DECLARED if how == MACRO else SAME
            line = StateLine(name, unit.source, unit.target, verdict, orig_name, unit.source, how)
            builder.state[number, patched] = line


def _forget_dropped(builder: ClosureBuilder) -> None:
    """What only entries that were left out refer to is not bound to."""
    if not builder.dropped or builder.refusals:
        return
    used = {
        (number, ref.atom)
        for number, atom in ((m.unit, m.atom) for m in builder.members.values())
        for refs in (
            builder.units[number].changes.patched.refs(atom),
            *(e.refs for e in builder.entries(number, atom)),
        )
        for ref in refs
    }
    builder.bound = {key: bound for key, bound in builder.bound.items() if key in used}


def _warn(builder: ClosureBuilder) -> None:
    builder.warnings += shown_in_targets(builder)
    builder.warnings += map(str, sorted(builder.dropped_keys))


PASSES: tuple[Callable[[ClosureBuilder], None], ...] = (
    take_findings,
    note_globals,
    take_authors,
    check_declarations,
    add_seeds,
    # from here on all that the patch itself touches is a member, so that nothing of it is pulled in
    redirect_changed,
    _check_names,
    follow_members,
    # nothing comes in any more
    settle_promoted,
    _check_proof,
    _check_contents,
    _add_thunks,
    _note_debug,
    _note_renamed,
    _forget_dropped,
    _warn,
)
