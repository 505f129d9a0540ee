# SPDX-License-Identifier: GPL-2.0-or-later
"""A patch on top of others that are loaded before it: what it would take back, cover, or be refused for by the kernel.

With atomic replace (the default) a patch takes back every older one, silently: what an older patch mended and the new
one lacks is as it was without a patch. Without replace, patches are stacked, and of a function that several of them
have, only the newest version runs. Both are refused until they are named (Documentation/livepatch/cumulative-patches).

States are compared as the kernel does when it loads the patch (kernel/livepatch/state.c): one that both have must not
get an older version, and a patch that replaces others must know all of theirs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from kgbuild.analysis.ontop_data import Variable
from kgbuild.refusals import Refusal


@dataclass(frozen=True, order=True)
class Patched:
    """A function of the running kernel that a patch replaces: its object ("vmlinux" or a module), name, position."""

    object: str
    name: str
    sympos: int

    def __str__(self) -> str:
        return self.name if self.object == "vmlinux" else f"{self.object}:{self.name}"


@dataclass(frozen=True)
class Older:
    """A patch module that is loaded before. `kernel` names the kernel it is for, `build_ids` holds the build-id of each
    object it patches, as hexadecimal digits, `data` its own variables."""

    module: str
    kernel: str
    build_ids: Mapping[str, str]
    functions: frozenset[Patched]
    replace: bool = True
    states: Mapping[int, int] = field(default_factory=dict)
    callbacks: bool = False
    data: tuple[Variable, ...] = ()


@dataclass(frozen=True)
class TakenBack:
    """A function whose older version will not run any more: `how` is "replaced" (the older patch goes as a whole) or
    "covered" (a newer version is stacked on it)."""

    function: Patched
    module: str
    how: str
    dropped: bool


@dataclass(frozen=True)
class OnTop:
    """What follows from the older patches: those that are active when the new one comes, in order, what is taken
    back, and what is against it."""

    active: tuple[Older, ...] = ()
    taken_back: tuple[TakenBack, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    warnings: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()


NOTHING_BEFORE = OnTop()


def active(older: Iterable[Older]) -> tuple[Older, ...]:
    """Which of these, loaded in this order, are there afterwards: one that replaces leaves nothing before it."""
    out: list[Older] = []
    for one in older:
        out = [one] if one.replace else [*out, one]
    return tuple(out)


def check_kernel(older: Iterable[Older], build_ids: Mapping[str, str]) -> list[Refusal]:
    """Refuses (L1-kernel) each older patch that is for another build of an object, by `build_ids` of this kernel."""
    refusals = []
    for one in older:
        for name, wanted in sorted(one.build_ids.items()):
            if name in build_ids and build_ids[name] != wanted:
                fact = (
                    f"is for {one.kernel or 'another kernel'}: its {name} has build-id {wanted}, not {build_ids[name]}"
                )
                refusals.append(Refusal("L1-kernel", one.module, fact, symbol=name))
    return refusals


def put_on_top(
    module: str,
    functions: Collection[Patched],
    states: Mapping[int, int],
    replace: bool,
    older: Sequence[Older],
    drop: Collection[str],
) -> OnTop:
    """What becomes of the older patches when `module`, which has these functions and states, is loaded after them.

    older   in the order in which they were loaded
    drop    names of functions (`name`, or `object:name`) whose older version may go; those that stand for nothing are
            in `unused`
    """
    there = active(older)
    mine = set(functions)
    used: set[str] = set()
    rows: list[TakenBack] = []
    for one in there:
        for function in sorted(one.functions):
            if (function in mine) == replace:
                continue
            names = {function.name, str(function), f"{function.object}:{function.name}"} & set(drop)
            used |= names
            rows.append(TakenBack(function, one.module, "replaced" if replace else "covered", bool(names)))
    refusals = [*_not_dropped(rows), *_states(states, replace, there), *_names(module, older)]
    warnings = [
        f"{one.module} has callbacks; they do not run when it is replaced" for one in there if one.callbacks and replace
    ]
    unused = tuple(sorted(set(drop) - used))
    return OnTop(there, tuple(rows), tuple(refusals), tuple(warnings), unused)


def _not_dropped(rows: Iterable[TakenBack]) -> Iterator[Refusal]:
    for row in rows:
        if row.dropped:
            continue
        place, name = f"{row.module}: {row.function}", str(row.function)
        if row.how == "replaced":
            fact = f"{row.module} patches it and this patch does not: it would be taken back"
            yield Refusal("L2-taken-back", place, fact, symbol=name, remedy=f"add it to this patch, or --drop {name}")
        else:
            fact = f"{row.module} patches it too: only the version of this patch would run"
            remedy = f"make one patch of both, or --drop {name} where this one has all that the older one has"
            yield Refusal("L3-covered", place, fact, symbol=name, remedy=remedy)


def _states(states: Mapping[int, int], replace: bool, there: Iterable[Older]) -> Iterator[Refusal]:
    for one in there:
        for number, version in sorted(one.states.items()):
            if number not in states and replace:
                yield Refusal("L4-state", one.module, f"has the state {number}, which this patch does not know")
            elif states.get(number, version) < version:
                fact = f"has version {version} of the state {number}, this patch {states[number]}"
                yield Refusal("L4-state", one.module, fact)


def _names(module: str, older: Sequence[Older]) -> Iterator[Refusal]:
    seen = {module}
    for one in older:
        if one.module in seen:
            yield Refusal("L5-name", one.module, "a module of this name is in the list already, or is the new one")
        seen.add(one.module)
