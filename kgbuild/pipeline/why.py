# SPDX-License-Identifier: GPL-2.0-or-later
"""Why a function is in a patch: the chain that brings it in, or how the patch refers to it in the kernel. Answers are
cached, so that a second question about the same patch needs no analysis."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from kgbuild.callgraph.model import split_name
from kgbuild.diagnostics.refusals import Refused
from kgbuild.diagnostics.unused_options import find_unused_options
from kgbuild.errors import UserError
from kgbuild.host.compile.apply_patches import PatchInput, read_patches
from kgbuild.host.kernels.acquire import ensure_kernel
from kgbuild.host.modules.running import RunningKernel
from kgbuild.host.system.cache import Cache
from kgbuild.pipeline.build import analyse
from kgbuild.pipeline.stages.events import Observer, SilentObserver
from kgbuild.pipeline.stages.options import Options
from kgbuild.pipeline.stages.trail import Trail
from kgbuild.pipeline.stages.values import Closed
from kgbuild.pipeline.why_cache import answer_key, keep_answer, load_answer
from kgbuild.report.build import closure_report
from kgbuild.report.chains import chains_in, inlined_in
from kgbuild.report.review.edits import edit_report, edits_named
from kgbuild.report.why import (
    ChainLink,
    InlinedFunction,
    ReasonChain,
    choose_chains,
    inlined_functions,
    parse_chains,
    references_of,
    why_report,
)


@dataclass(frozen=True)
class WhyAnswer:
    """`chains`: the chains that bring the function in, one for each function of that name. `references`: rows of the
    report, if the function stays in the kernel and the patch refers to it. `inlined`: for a function without code of
    its own, which functions of the patch contain its body; `chains` are then theirs. `warnings`: of options that accept
    nothing. `edited`: for a function whose source the patch edits, its hunks and what gcc made of it."""

    function: str
    chains: tuple[tuple[ChainLink, ...], ...]
    references: tuple[dict[str, Any], ...]
    inlined: tuple[InlinedFunction, ...] = ()
    warnings: tuple[str, ...] = ()
    edited: tuple[dict[str, Any], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The answer as plain data (docs/schema/why-1.json)."""
        return why_report(
            self.function,
            [list(c) for c in self.chains],
            list(self.references),
            self.inlined,
            self.warnings,
            self.edited,
        )


def answer_why(
    function: str,
    patches: Sequence[PatchInput],
    kernel: str | RunningKernel,
    options: Options,
    observer: Observer | None = None,
) -> WhyAnswer:
    """Why `function` (NAME, NAME@UNIT, NAME@MODULE or NAME,POSITION) is in a patch.

    Raises UserError if it is neither in the patch nor referred to by it, otherwise the exceptions of an analysis.
    Refusals of a patch that can be closed are ignored.
    """
    wanted = split_name(function)[0]
    observer = observer or SilentObserver()
    parsed = read_patches(patches)
    cache = Cache()
    if isinstance(kernel, str):
        found = ensure_kernel(
            kernel, progress=observer, offline=options.offline, jobs=options.jobs, cache=cache, choice=options.tools
        )
    else:
        found = kernel.kernel
    # an out-of-tree directory may change at any time: its answers are not cached
    own = options.oot is not None or options.oot_modules or (isinstance(kernel, RunningKernel) and kernel.oot_modules)
    key = None if own else answer_key(found, parsed, options)
    answer = load_answer(cache, key)
    if answer is None:
        trail = _analysed(patches, kernel, options, observer)
        closure, edits = trail.the(Closed).closure, trail.edits
        references = closure_report(closure)["references"]
        answer = {
            "chains": [asdict(c) for c in chains_in(closure, edits)],
            "edits": edit_report(edits),
            "references": references,
            "inlined": [asdict(row) for row in inlined_in(closure)],
            "unused_options": find_unused_options(trail.warnings),
        }
        keep_answer(cache, key, answer)
    known = parse_chains(answer["chains"])
    chains = choose_chains(known, function)
    references = references_of(answer["references"], function)
    inlined = [] if chains or references else inlined_functions(answer.get("inlined", ()), function)
    edited = edits_named(answer["edits"], function)
    if edited and not chains:
        chains = _of_results(known, edited)
    elif inlined:
        chains = [
            chain
            for row in inlined
            for name in row.into
            for chain in choose_chains([c for c in known if c.unit == row.unit], name)
        ]
    elif not chains and not references and not edited:
        names = sorted({n for chain in known for n in chain.names} | {r["name"] for r in answer["references"]})
        names = sorted({*names, *(row["name"] for row in answer["edits"] if row["results"])})
        near = [wanted] if wanted in names else difflib.get_close_matches(wanted, names, 5, 0.6)
        raise UserError(
            "is neither in the patch nor referred to by it",
            place=function,
            remedy=f"near: {', '.join(near)}" if near else "kgbuild impact lists what is",
        )
    warnings = tuple(answer.get("unused_options", ()))
    return WhyAnswer(
        function, tuple(tuple(c) for c in chains), tuple(references), tuple(inlined), warnings, tuple(edited)
    )


def _of_results(known: Sequence[ReasonChain], edited: Sequence[Mapping[str, Any]]) -> list[list[ChainLink]]:
    """The chains of the functions of the patch that hold an edited one, without the steps that say so."""
    wanted = {(r["unit"], r["function"]) for row in edited for r in row["results"] if r["role"]}
    found = [c for c in known if c.shown and any((c.unit, name) in wanted for name in c.names)]
    return [[step for step in c.steps if step.role != "edited"] for c in found]


def _analysed(
    patches: Sequence[PatchInput], kernel: str | RunningKernel, options: Options, observer: Observer
) -> Trail:
    trail = Trail(observer)
    try:
        analyse(patches, kernel, options, trail)
    except Refused:
        if trail.get(Closed) is None:
            raise
    return trail
