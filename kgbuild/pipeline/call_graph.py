# SPDX-License-Identifier: GPL-2.0-or-later
"""Questions to the call graph of a kernel: `graph`'s."""

from __future__ import annotations

from kgbuild.callgraph.model import CALLERS
from kgbuild.callgraph.traversal import Reached, reach, reach_inlined, reach_with_ways
from kgbuild.host.index.queries import Index
from kgbuild.host.index.schema import NoBody
from kgbuild.host.index.store import with_index
from kgbuild.model import Kernel
from kgbuild.pipeline.function_facts import inlined_into
from kgbuild.progress import Progress

REACH = "reach"
STEPS = 6  # away from a function, where nothing is said, of what can reach it


def ask_calls(
    kernel: Kernel, name: str, question: str, progress: Progress, *, depth: int | None = None, limit: int = 200
) -> Reached:
    """The part of the call graph around the function of that name (NAME, NAME@UNIT, NAME@MODULE or NAME,POSITION).

    `question` is CALLERS or CALLEES, or REACH: callers, with the data and exports that lead to them. `depth` is how
    many steps away (1; with REACH 6), `limit` how many functions (0: all). Makes the kernel's index where there is
    none. Raises UserError for a name that means no function or several; one without a body of its own has callers only.
    """

    def answer(index: Index) -> Reached:
        try:
            root = index.choose(name).id
        except NoBody:
            if question != CALLERS:
                raise
            return reach_inlined(index, name, inlined_into(index, name, limit), depth or 1, limit)
        if question == REACH:
            return reach_with_ways(index, root, depth or STEPS, limit)
        return reach(index, root, question, depth or 1, limit)

    return with_index(kernel, progress, answer)
