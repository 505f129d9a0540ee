# SPDX-License-Identifier: GPL-2.0-or-later
"""What a patch would touch and why, from a finished closure, as chains."""

from __future__ import annotations

from kgbuild.closure.edit_results import NO_EDITS, SourceEdits
from kgbuild.closure.evidence import evidence_of
from kgbuild.closure.model import Closure, Member
from kgbuild.diff.ipa_clones import INLINED
from kgbuild.objects.atoms import FUNCTION
from kgbuild.report.patch_graph import SHOWN
from kgbuild.report.review.edits import SAYS, edit_row, say_hunks
from kgbuild.report.why import ChainLink, InlinedFunction, ReasonChain, choose_chains


def chains_in(closure: Closure, edits: SourceEdits = NO_EDITS) -> list[ReasonChain]:
    """The chain of each function of a patch, by unit and place. With `edits`, a chain begins with the functions of the
    source that its hunks edit."""
    sources = _sources(edits)
    positions: dict[tuple[int, int], list[int]] = {}
    for r in closure.redirects:
        positions.setdefault((r.unit, r.atom.id), []).append(r.sympos)
    out = []
    for m in sorted(closure.members.values(), key=lambda m: (m.unit, m.atom.id)):
        if m.atom.kind == FUNCTION:
            unit = closure.units[m.unit]
            at = tuple(positions.get((m.unit, m.atom.id), ()))
            steps = _chain(closure, m)
            first = _first_member(closure, m)
            steps = [*sources.get(first, ()), *steps]
            out.append(ReasonChain(m.atom.names, m.role in SHOWN, unit.source, unit.target, at, tuple(steps)))
    return out


def _first_member(closure: Closure, member: Member) -> tuple[int, int]:
    """The member at the beginning of a chain: what the patch itself changes."""
    seen: set[tuple[int, int]] = set()
    key = (member.unit, member.atom.id)
    while key not in seen and closure.members[key].via in closure.members:
        seen.add(key)
        key = closure.members[key].via or key
    return key


def _sources(edits: SourceEdits) -> dict[tuple[int, int], list[ChainLink]]:
    """For each member the edited functions of the source that ended up in it, as links."""
    out: dict[tuple[int, int], list[ChainLink]] = {}
    for edit, results in edits.rows():
        row = edit_row(edit, (), edits.hunks)
        for result in results:
            if result.member is not None and result.role:
                reason = f"{say_hunks(row)}: {SAYS[result.how]} {result.function}"
                link = ChainLink("edited", edit.name, row["place"], reason, (result.evidence,))
                out.setdefault(result.member, []).append(link)
    return out


def inlined_in(closure: Closure) -> list[InlinedFunction]:
    """The functions that gcc has inlined into functions of the patch, by unit and name."""
    members: dict[int, set[str]] = {}
    for m in closure.members.values():
        members.setdefault(m.unit, set()).update(m.atom.names)
    out = []
    for number, unit in enumerate(closure.units):
        for name in sorted({step.source.name for step in unit.clones.steps if step.kind == INLINED}):
            into = [other for other in unit.clones.inlined_into(name) if other in members.get(number, ())]
            if into:
                out.append(InlinedFunction(name.partition(".")[0], unit.source, tuple(into)))
    return out


def chains_of(closure: Closure, wanted: str) -> list[list[ChainLink]]:
    """`choose_chains` for a closure."""
    return choose_chains(chains_in(closure), wanted)


def _chain(closure: Closure, member: Member) -> list[ChainLink]:
    steps: list[ChainLink] = []
    seen: set[tuple[int, int]] = set()
    at: Member | None = member
    while at is not None and (at.unit, at.atom.id) not in seen:
        seen.add((at.unit, at.atom.id))
        source = closure.units[at.unit].source
        steps.insert(0, ChainLink(at.role, at.atom.name, source, at.reason, tuple(evidence_of(closure, at))))
        at = closure.members.get(at.via) if at.via is not None else None
    return steps
