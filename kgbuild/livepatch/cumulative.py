# SPDX-License-Identifier: GPL-2.0-or-later
"""A patch on top of others that are loaded before it: what it would undo, cover, or be refused for by the kernel.

With atomic replace (the default), a patch silently undoes every older one: whatever an older patch fixed and the new
one does not contain is again as without a patch, be it a whole function or a change within a function that both have
(patch/kept_changes.py finds these). Without replace, patches are stacked, and of a function in several of them, only
the newest version runs. All of this is refused unless it is named (Documentation/livepatch/cumulative-patches).

States are compared as the kernel does when it loads the patch (kernel/livepatch/state.c): a state in both patches must
not get an older version, and a patch that replaces others must know all of their states.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from kgbuild.closure.model import NewVariable
from kgbuild.diagnostics.refusals import Refusal
from kgbuild.patch.kept_changes import FileChange


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
    object it patches, as hexadecimal digits; `patches` the sha256 of each of its patches. `changes` is what those do to
    the source, None where its note does not say. `data` holds its own variables."""

    module: str
    kernel: str
    build_ids: Mapping[str, str]
    functions: frozenset[Patched]
    replace: bool = True
    states: Mapping[int, int] = field(default_factory=dict)
    callbacks: bool = False
    patches: tuple[str, ...] = ()
    changes: Mapping[str, FileChange] | None = None
    data: tuple[NewVariable, ...] = ()


@dataclass(frozen=True)
class Lost:
    """A change of an older patch, `module`, that is missing in the new one's source: `name` is the function it is in,
    or its file."""

    module: str
    name: str = ""
    path: str = ""
    line: int = 0

    @property
    def place(self) -> str:
        return f"{self.path}:{self.line}"


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
    lost: Collection[Lost] = (),
) -> OnTop:
    """What becomes of the older patches when `module`, which has these functions and states, is loaded after them.

    older   in the order in which they were loaded
    lost    what their patches change in the source, and this patch does not
    drop    names of functions (`name`, or `object:name`) whose older version may go; those that name nothing are
            in `unused`
    """
    there = active(older)
    own = set(functions)
    used: set[str] = set()
    rows: list[TakenBack] = []
    for one in there:
        for function in sorted(one.functions):
            if (function in own) == replace:
                continue
            names = {function.name, str(function), f"{function.object}:{function.name}"} & set(drop)
            used |= names
            rows.append(TakenBack(function, one.module, "replaced" if replace else "covered", bool(names)))
    content = list(_content(there, own, rows, drop, used, lost)) if replace else []
    refused = [item for item in content if isinstance(item, Refusal)]
    refusals = [*_not_dropped(rows), *refused, *_states(states, replace, there), *_names(module, older)]
    warnings = [
        f"{one.module} has callbacks; they do not run when it is replaced" for one in there if one.callbacks and replace
    ]
    warnings += [item for item in content if isinstance(item, str)]
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


def _content(
    there: Iterable[Older],
    own: Collection[Patched],
    rows: Collection[TakenBack],
    drop: Collection[str],
    used: set[str],
    lost: Collection[Lost],
) -> Iterator[Refusal | str]:
    """Of functions that both patches have, the newer version must have the older one's change. Gives refusals, and as
    text what may go by --drop; adds the names of the latter to `used`."""

    def dropped(name: str) -> bool:
        found = {d for d in drop if name in (d, d.partition(":")[2])}
        used.update(found)
        return bool(found)

    for one in there:
        shared = sorted(one.functions & set(own))
        missing = [change for change in lost if change.module == one.module] if shared else []
        if missing and not missing[0].path:
            fact = f"{one.module} patches it too, and does not say how: its change may be taken back"
            for function in shared:
                if not dropped(function.name):
                    remedy = f"give its patch too, or --drop {function} where this one has all that it has"
                    yield Refusal("L2-taken-back", f"{one.module}: {function}", fact, str(function), "", remedy)
            continue
        gone = {row.function.name for row in rows if row.module == one.module}
        by_name: dict[str, list[Lost]] = {}
        for change in missing:
            by_name.setdefault(change.name, []).append(change)
        going = {name for name in by_name if name in gone or dropped(name)}
        for name, found in by_name.items():
            beside = {n for n, other in by_name.items() if n != name and other[0].path == found[0].path}
            # what a patch has beside its functions goes with them
            if name in gone or (name == found[0].path and beside and beside <= going and name not in going):
                continue
            places = ", ".join(change.place for change in found[:3])
            fact = f"{one.module} has a change at {places} that is missing in this patch's source"
            if name in going:
                yield f"{name}: {fact}; accepted by --drop"
                continue
            remedy = f"add it to this patch, or --drop {name} where it may go or has another form here"
            place = f"{one.module}: {name}"
            yield Refusal("L2-taken-back", place, f"{fact}: it would be taken back", name, "", remedy)


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
