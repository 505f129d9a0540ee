# SPDX-License-Identifier: GPL-2.0-or-later
"""All warnings of `impact` and `build`: from the closure, the kernel's index, and the modules named with --against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from kgbuild.callgraph.model import Function
from kgbuild.closure.model import Closure, Redirect
from kgbuild.diagnostics.warnings import UNKNOWN, ConsistencyWarning, sorted_warnings
from kgbuild.host.index.queries import Index
from kgbuild.host.index.schema import IndexDamaged
from kgbuild.host.index.store import existing_index, with_index
from kgbuild.kernel.vmlinux_image import KernelImage
from kgbuild.livepatch.address_uses import Uses
from kgbuild.livepatch.consistency import CallerGraph, Consistency, check_against
from kgbuild.livepatch.cumulative import Patched
from kgbuild.livepatch.foreign_patches import OtherPatch
from kgbuild.livepatch.init_only import find_init_only
from kgbuild.livepatch.kept_addresses import find_converted, find_handed_out, find_kept_texts
from kgbuild.livepatch.kept_tables import find_kept_tables
from kgbuild.livepatch.last_writes import find_last_write
from kgbuild.livepatch.read_only_writes import find_read_only
from kgbuild.livepatch.unchecked_code import find_unseen
from kgbuild.model import VMLINUX, Kernel
from kgbuild.progress import Progress


def find_warnings(
    closure: Closure,
    kernel: Kernel,
    others: Sequence[OtherPatch],
    progress: Progress,
    replace: bool,
    make_index: bool,
    images: Mapping[str, KernelImage] | None = None,
) -> list[ConsistencyWarning]:
    """Every warning for a closed patch, using the kernel's index: made first if `make_index` is set, else used if it
    exists. `images` are vmlinux and the affected modules, by name."""

    def check(graph: Index | None) -> list[ConsistencyWarning]:
        return check_consistency(closure, graph, others, kernel.id.release, replace=replace, images=images)

    if make_index and closure.redirects:
        return with_index(kernel, progress, check)
    try:
        return check(existing_index(kernel))
    except IndexDamaged:
        return check(None)


def consistency_report(found: Sequence[ConsistencyWarning]) -> list[dict[str, Any]]:
    """Warnings as data."""
    return [{**asdict(w), "evidence": list(w.evidence), "remedy": w.remedy} for w in found]


def check_consistency(
    closure: Closure,
    graph: Index | None,
    others: Sequence[OtherPatch],
    release: str,
    *,
    replace: bool,
    images: Mapping[str, KernelImage] | None = None,
) -> list[ConsistencyWarning]:
    """Every warning for a closed patch, in a fixed order. Without a graph, what depends on it is reported as
    unknown."""
    unit_of = {Patched(r.object, r.name, r.sympos): closure.units[r.unit].source for r in closure.redirects}
    uses = Uses(closure)
    found = [
        *find_unseen(closure),
        *check_against(unit_of, others, release, replace=replace),
        *find_handed_out(closure, uses),
        *find_kept_texts(closure, uses),
        *find_converted(closure, uses),
        *find_read_only(closure, uses, images.get(VMLINUX) if images else None),
        *find_last_write(closure),
        *find_kept_tables(closure),
    ]
    numbers: dict[Redirect, int] = {}
    if graph is None:
        fact = "stacks, NMIs, noinstr and init code were not looked at: this kernel has no index yet"
        found.append(ConsistencyWarning(UNKNOWN, "", "", "", fact, ()))
    elif closure.redirects:
        questions = Consistency(graph, graph.noinstr)
        for redirect in closure.redirects:
            function = _in_graph(graph, redirect)
            if function is not None:
                numbers[redirect] = function.id
                found += questions.check(function.id)
    found += find_init_only(closure, numbers, graph, images)
    return sorted_warnings(found)


def _in_graph(graph: CallerGraph, redirect: Redirect) -> Function | None:
    if redirect.object == VMLINUX:
        return graph.function_at(VMLINUX, redirect.address)
    named = [f for f in graph.functions_named(redirect.name) if f.object == redirect.object]
    if len(named) > 1:
        named = [
            f
            for f in named
            if any(n.name == redirect.name and n.sympos == redirect.sympos for n in graph.aliases(f.id))
        ]
    return named[0] if len(named) == 1 else None
