# SPDX-License-Identifier: GPL-2.0-or-later
"""What a fix does on one kernel and not on another, in a sentence: functions replaced and pulled, copies, refusals."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_CLONE = re.compile(r"\.(?:constprop|isra|part|cold|llvm|lto_priv)\b.*")
_MOST = 4


@dataclass(frozen=True)
class FixEffect:
    """What a fix does on one kernel: names of functions without the suffixes of clones, codes of refusals. `why` has
    the reason of each function that came along."""

    replaced: frozenset[str]
    pulled: frozenset[str] = frozenset()
    carried: frozenset[str] = frozenset()
    refusals: frozenset[str] = frozenset()
    why: tuple[tuple[str, str], ...] = ()


def effect_of(report: Mapping[str, Any]) -> FixEffect:
    """The effect that the report of an impact or a build tells of."""

    def names(key: str) -> frozenset[str]:
        return frozenset(_CLONE.sub("", str(row["function"])) for row in report.get(key, ()))

    why = {
        _CLONE.sub("", str(row["function"])): str(row.get("reason", ""))
        for key in ("pulled", "changed")
        for row in report.get(key, ())
    }
    return FixEffect(
        names("changed") | names("pulled"),
        names("pulled"),
        names("carried"),
        frozenset(str(row["code"]) for row in report.get("refusals", ())),
        tuple(sorted(why.items())),
    )


def effect_json(effect: FixEffect) -> dict[str, Any]:
    """An effect as plain data."""
    return {
        "replaced": sorted(effect.replaced),
        "pulled": sorted(effect.pulled),
        "carried": sorted(effect.carried),
        "refusals": sorted(effect.refusals),
    }


def sentences(fix: str, effects: Mapping[str, FixEffect]) -> Iterator[str]:
    """A sentence for each way in which the kernels (by name) differ in what a fix does; none where all are the same."""
    groups: dict[FixEffect, list[str]] = {}
    for kernel, effect in effects.items():
        bare = FixEffect(effect.replaced, effect.pulled, effect.carried, effect.refusals)
        groups.setdefault(bare, []).append(kernel)
    if len(groups) < 2:
        return
    base, *others = sorted(groups, key=lambda effect: -len(groups[effect]))
    if len({effect.replaced for effect in groups}) > 1:
        counts = ", ".join(f"{_functions(effect.replaced)} on {_kernels(groups[effect])}" for effect in (base, *others))
        why = dict(pair for kernel in effects for pair in effects[kernel].why)
        changed = frozenset.union(*(e.replaced for e in groups)) - frozenset.intersection(*(e.replaced for e in groups))
        told = [f"{name}() {why[name]}".strip() for name in sorted(changed) if why.get(name)][:2]
        yield f"{fix} replaces {counts}" + (f" ({'; '.join(told)})" if told else "")
    for label, field in (("carries copies of", "carried"), ("is refused for", "refusals")):
        sets = {effect: getattr(effect, field) for effect in groups}
        if len(set(sets.values())) > 1:
            parts = [f"{_listed(sets[e])} on {_kernels(groups[e])}" for e in (base, *others) if sets[e]]
            yield f"{fix} {label} {', '.join(parts)}; nothing of that elsewhere"


def _functions(names: frozenset[str]) -> str:
    return f"{len(names)} function{'s' * (len(names) != 1)}"


def _listed(names: frozenset[str]) -> str:
    shown = sorted(names)[:_MOST]
    return ", ".join(shown) + (f" and {len(names) - _MOST} more" if len(names) > _MOST else "")


def _kernels(names: Sequence[str]) -> str:
    shown = [name.partition(":")[2] or name for name in names]
    return (
        shown[0]
        if len(shown) == 1
        else f"{', '.join(shown[:_MOST])}" + (f" and {len(shown) - _MOST} more" if len(shown) > _MOST else "")
    )
