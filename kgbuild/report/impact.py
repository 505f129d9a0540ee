# SPDX-License-Identifier: GPL-2.0-or-later
"""What a patch would touch and why, from a finished closure: as lines, as data, as a graph for Graphviz."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kgbuild.analysis.closed import Closure, Member
from kgbuild.analysis.evidence import evidence_of
from kgbuild.special.view import FUNCTION

_SHOWN = ("changed", "pulled", "new", "carried")
_SAYS = {
    "changed": "the patch changes",
    "new": "the patch brings",
    "pulled": "so its caller comes along",
    "carried": "and this is carried as a copy",
    "cold": "with its cold half",
    "prefix": "with its padding",
    "data": "with data",
}


@dataclass(frozen=True)
class Step:
    """One link of a chain: what the step is, the function, its unit, why, and how that is known."""

    role: str
    function: str
    unit: str
    reason: str
    evidence: tuple[str, ...] = ()


def chains_of(closure: Closure, name: str) -> list[list[Step]]:
    """Why the functions of a name are in the patch: for each, the steps from what the patch changes to it. A name
    without the numbers of clones finds the clones as well."""
    found = [m for m in closure.members.values() if m.atom.kind == FUNCTION and name in m.atom.names]
    if not found:
        stems = (m for m in closure.members.values() if m.atom.kind == FUNCTION and m.role in _SHOWN)
        found = [m for m in stems if any(n.partition(".")[0] == name for n in m.atom.names)]
    return [_chain(closure, m) for m in sorted(found, key=lambda m: (m.unit, m.atom.id))]


def _chain(closure: Closure, member: Member) -> list[Step]:
    steps: list[Step] = []
    seen: set[tuple[int, int]] = set()
    at: Member | None = member
    while at is not None and (at.unit, at.atom.id) not in seen:
        seen.add((at.unit, at.atom.id))
        source = closure.units[at.unit].source
        steps.insert(0, Step(at.role, at.atom.name, source, at.reason, tuple(evidence_of(closure, at))))
        at = closure.members.get(at.via) if at.via is not None else None
    return steps


def render_chain(steps: list[Step]) -> Iterator[str]:
    """A chain as lines of text."""
    yield f"{steps[-1].function} is in the patch because"
    for step in steps:
        yield f"  {_SAYS[step.role]:<31} {step.function:<32} {step.unit}"
        yield f"  {'':<31} {step.reason}"
        for seen in step.evidence:
            yield f"  {'':<31} {seen}"


def functions_of(closure: Closure) -> list[str]:
    """Names of every function in the patch."""
    return sorted({n for m in closure.members.values() if m.atom.kind == FUNCTION for n in m.atom.names})


def render_dot(closure: Closure) -> Iterator[str]:
    """The functions of a patch as a graph: an arrow leads from what comes along to what brought it."""
    members = [m for m in closure.members.values() if m.atom.kind == FUNCTION and m.role in _SHOWN]
    members.sort(key=lambda m: (m.unit, m.atom.id))
    redirected = {(r.unit, r.atom.id) for r in closure.redirects}
    yield "digraph patch {"
    yield '  node [shape=box, fontname="monospace"];'
    for m in members:
        unit = closure.units[m.unit]
        where = unit.source + (f" ({unit.target})" if unit.target != "vmlinux" else "")
        style = ", style=bold" if (m.unit, m.atom.id) in redirected else ""
        yield f'  {_id(m.unit, m.atom.id)} [label="{m.atom.name}\\n{m.role}\\n{where}"{style}];'
    for m in members:
        if m.via is not None:
            yield f'  {_id(m.unit, m.atom.id)} -> {_id(*m.via)} [label="{_quoted(m.reason)}"];'
    yield "}"


def _id(unit: int, atom: int) -> str:
    return f"f{unit}_{atom}"


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def why_report(name: str, chains: list[list[Step]], references: list[dict[str, Any]]) -> dict[str, Any]:
    """The answer to `why` as data."""
    return {
        "schema_version": 1,
        "function": name,
        "in_patch": bool(chains),
        "chains": [[vars(s) for s in chain] for chain in chains],
        "references": references,
    }
