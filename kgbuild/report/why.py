# SPDX-License-Identifier: GPL-2.0-or-later
"""Why a function is in a patch: chains as plain values, chosen by name, as lines and as data. Nothing here needs the
objects that they came from, so that an answer that was kept is given at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kgbuild.callgraph.model import split_name
from kgbuild.report.documents import schema_name
from kgbuild.report.formats.answer import Answer
from kgbuild.report.review.edits import render_edit

_SAYS = {
    "edited": "the patch edits",
    "changed": "the patch changes",
    "new": "the patch brings",
    "pulled": "so its caller comes along",
    "carried": "and this is carried as a copy",
    "cold": "with its cold half",
    "prefix": "with its padding",
    "data": "with data",
}


@dataclass(frozen=True)
class ChainLink:
    """One link of a chain: what the step is, the function, its unit, why, and how that is known."""

    role: str
    function: str
    unit: str
    reason: str
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReasonChain:
    """Why one function is in a patch: its names, whether it counts for itself (a cold half does not), the unit and
    object it is of, the positions it is redirected at, and the steps from what the patch changes to it."""

    names: tuple[str, ...]
    shown: bool
    unit: str
    object: str
    positions: tuple[int, ...]
    steps: tuple[ChainLink, ...]


def parse_chains(rows: Iterable[dict[str, Any]]) -> list[ReasonChain]:
    """Chains from plain values, as `dataclasses.asdict` makes them."""
    out = []
    for row in rows:
        steps = tuple(ChainLink(**{**step, "evidence": tuple(step["evidence"])}) for step in row["steps"])
        names, positions = tuple(row["names"]), tuple(row["positions"])
        out.append(ReasonChain(names, row["shown"], row["unit"], row["object"], positions, steps))
    return out


def choose_chains(chains: Iterable[ReasonChain], wanted: str) -> list[list[ChainLink]]:
    """The steps of the functions that a name means. A name without the numbers of clones finds the clones as well.
    NAME@UNIT, NAME@MODULE and NAME,POSITION choose one of several.

    Raises UserError for a position that is no number.
    """
    name, place, position = split_name(wanted)
    placed = [c for c in chains if not place or place in (c.unit, c.object) or c.unit.endswith("/" + place)]
    placed = [c for c in placed if not position or int(position) in c.positions]
    found = [c for c in placed if name in c.names]
    found = found or [c for c in placed if c.shown and any(n.partition(".")[0] == name for n in c.names)]
    return [list(c.steps) for c in found]


def references_of(references: list[dict[str, Any]], wanted: str) -> list[dict[str, Any]]:
    """The rows of a report's references that a name means, chosen among several by NAME@MODULE or NAME,POSITION."""
    name, place, position = split_name(wanted)
    named = [r for r in references if r["name"] == name]
    placed = [r for r in named if place in ("", r["object"])]
    return [r for r in placed if not position or r["sympos"] == int(position)]


@dataclass(frozen=True)
class InlinedFunction:
    """A function without code of its own in a unit: the functions of the patch there that hold a copy of its body."""

    function: str
    unit: str
    into: tuple[str, ...]


def inlined_functions(rows: Iterable[dict[str, Any]], wanted: str) -> list[InlinedFunction]:
    """The rows (`dataclasses.asdict` of InlinedInto) that a name means; NAME@UNIT chooses one of several."""
    name, place, _ = split_name(wanted)
    found = [InlinedFunction(row["function"], row["unit"], tuple(row["into"])) for row in rows]
    placed = [r for r in found if not place or place == r.unit or r.unit.endswith("/" + place)]
    return [r for r in placed if r.function == name]


def render_inlined(found: InlinedFunction) -> Iterator[str]:
    """Where gcc put the body of a function, as lines of text."""
    yield f"{found.function} has no code of its own in {found.unit}:"
    yield "  gcc inlined it, so that its body is part of these functions of the patch:"
    for name in found.into:
        yield f"    {name}"


def render_chain(steps: Sequence[ChainLink]) -> Iterator[str]:
    """A chain as lines of text."""
    yield f"{steps[-1].function} is in the patch because"
    for step in steps:
        yield f"  {_SAYS[step.role]:<31} {step.function:<32} {step.unit}"
        yield f"  {'':<31} {step.reason}"
        for seen in step.evidence:
            yield f"  {'':<31} {seen}"


def why_report(
    name: str,
    chains: list[list[ChainLink]],
    references: list[dict[str, Any]],
    inlined: Sequence[InlinedFunction] = (),
    warnings: Sequence[str] = (),
    edited: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The answer to `why` as data."""
    return {
        "schema": schema_name("why"),
        "schema_version": 1,
        "function": name,
        "in_patch": bool(chains),
        "chains": [[vars(s) for s in chain] for chain in chains],
        "references": references,
        **({"inlined": [{**vars(row), "into": list(row.into)} for row in inlined]} if inlined else {}),
        **({"edited": [dict(row) for row in edited]} if edited else {}),
        "warnings": list(warnings),
    }


def answer_of_why(
    name: str,
    chains: Sequence[Sequence[ChainLink]],
    references: Sequence[Mapping[str, Any]],
    data: Callable[[], dict[str, Any]],
    inlined: Sequence[InlinedFunction] = (),
    edited: Sequence[Mapping[str, Any]] = (),
) -> Answer:
    """What `why` answers of the function `name`: what edits it and what gcc made of it, where gcc inlined it, its
    chains; where it has none, how the patch refers to it."""

    def lines(unicode: bool) -> Iterator[str]:
        del unicode
        for edit in edited:
            yield from render_edit(edit)
        for row in inlined if not edited else ():
            yield from render_inlined(row)
        for chain in chains:
            yield from render_chain(chain)
        for ref in references if not chains else ():
            position = f", position {ref['sympos']}" if ref["sympos"] else ""
            yield f"{name} stays in the kernel, and the patch refers to it"
            yield f"  by {ref['how']:<28} {ref['object']}{position}  ({ref['proof']})"
            yield from (f"     {seen}" for seen in ref["evidence"])

    return Answer(data, lines)
