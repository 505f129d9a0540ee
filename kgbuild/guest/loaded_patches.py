# SPDX-License-Identifier: GPL-2.0-or-later
"""Which live patches the guest's kernel had before and after a load, by /sys/kernel/livepatch, and what follows.

A patch that replaces (`replace` of struct klp_patch) takes all older ones out of sysfs when its transition is complete
(klp_unpatch_replaced_patches and klp_free_replaced_patches_async in kernel/livepatch, since 5.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_NAMES_SHOWN = 6


@dataclass(frozen=True)
class PatchState:
    """One patch as sysfs shows it: its `enabled` and `transition` (None where they could not be read), and its
    functions as `object/function,position`."""

    name: str
    enabled: bool | None
    transition: bool | None
    functions: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.transition:
            return f"{self.name} (in transition)"
        return self.name if self.enabled else f"{self.name} (disabled)"


@dataclass(frozen=True)
class PatchLoad:
    """One load: all patches that the kernel had before and after it, and what follows, by name: which are new, which
    were enabled and are gone or disabled (replaced), which were and are enabled (kept)."""

    before: tuple[PatchState, ...]
    after: tuple[PatchState, ...]
    loaded: tuple[str, ...]
    replaced: tuple[str, ...]
    kept: tuple[str, ...]

    @property
    def shared(self) -> dict[str, tuple[str, ...]]:
        """The functions of each kept patch that a new one has too."""
        new, old = frozenset(self.loaded), frozenset(self.kept)
        mine = {function for patch in self.after if patch.name in new for function in patch.functions}
        kept = [patch for patch in self.after if patch.name in old]
        return {patch.name: tuple(function for function in patch.functions if function in mine) for patch in kept}


def compare_patches(before: tuple[PatchState, ...], after: tuple[PatchState, ...]) -> PatchLoad:
    """What happened between two looks at /sys/kernel/livepatch."""
    had = {patch.name for patch in before}
    left = {patch.name for patch in after if patch.enabled}
    active = [patch.name for patch in before if patch.enabled]
    return PatchLoad(
        before,
        after,
        tuple(patch.name for patch in after if patch.name not in had),
        tuple(name for name in active if name not in left),
        tuple(name for name in active if name in left),
    )


def parse_patches(text: str) -> tuple[PatchState, ...]:
    """What the guest says of its live patches, as values: a line "NAME ENABLED TRANSITION" for each, "-" where a file
    could not be read, and its functions in lines with a blank before them. Lines of another form are left out."""
    heads: list[tuple[str, bool | None, bool | None]] = []
    functions: list[list[str]] = []
    truth = {"1": True, "0": False}
    for line in text.splitlines():
        if line.startswith(" "):
            if functions:
                functions[-1].append(line.strip().rstrip("/"))
            continue
        words = line.split()
        if len(words) == 3:
            heads.append((words[0], truth.get(words[1]), truth.get(words[2])))
            functions.append([])
    return tuple(PatchState(*head, tuple(own)) for head, own in zip(heads, functions, strict=True))


def describe_loads(loads: Sequence[PatchLoad], *, first: bool = False) -> list[str]:
    """Sentences for loads that found other patches: what was there, what replaced what, and which functions both have.
    With `first`, also for loads that found no other patch."""
    said = []
    for load in loads:
        names = _few(load.loaded)
        if not names or not (load.before or first):
            continue
        there = _few([str(patch) for patch in load.before]) or "no live patch"
        said.append(f"loaded before {names}: {there}")
        if load.replaced:
            said.append(f"{names} replaced {_few(load.replaced)}, by /sys/kernel/livepatch")
        for name, shared in load.shared.items():
            both = f", which has {_some(shared)} too" if shared else ""
            said.append(f"{name} stays active below {names}{both}")
    return said


def _some(functions: Sequence[str]) -> str:
    return _few([function.partition("/")[2].rpartition(",")[0] or function for function in functions])


def _few(names: Sequence[str]) -> str:
    rest = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
