# SPDX-License-Identifier: GPL-2.0-or-later
"""Every pair of objects that the differ is asked about, both ways round, and its answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

from kgbuild.pipeline.object_diff import ObjectDiff, diff_objects, read_relocatable
from tests.support.pair_cases import CASES
from tests.support.toolchain import compile_pair_side


@dataclass(frozen=True)
class Pair:
    """Where to get an original and a patched object."""

    name: str
    orig: Callable[[], bytes]
    patched: Callable[[], bytes]


def _pairs() -> list[Pair]:
    out = []
    for case in CASES:
        sides = [partial(compile_pair_side, case.name, *case.flags, *define) for define in ((), ("-DPATCHED",))]
        out += [Pair(case.name, *sides), Pair(f"{case.name}-reverse", *reversed(sides))]
        if case.real is not None:
            real = partial(compile_pair_side, case.name, *case.flags, "-DPATCHED", "-DREAL")
            out.append(Pair(f"{case.name}-real", sides[0], real))
    return out


PAIRS = _pairs()


@cache
def answer(pair: Pair) -> ObjectDiff:
    orig, patched = pair.orig(), pair.patched()
    return diff_objects(read_relocatable(orig, "a.o"), read_relocatable(patched, "b.o"), pair.name)
