# SPDX-License-Identifier: GPL-2.0-or-later
"""How it is known that a function belongs in a patch: for each member of a closure, what was seen, and where.

A member's reason says why the rules bring it in; the evidence says which table, relocation or file shows it. Each is a
sentence that begins with what was seen and ends with where.
"""

from __future__ import annotations

from kgbuild.closure.model import Closure, Member, UnitResult
from kgbuild.diff.ipa_clones import EVIDENCE, describe
from kgbuild.objects.atoms import FUNCTION, Ambiguous, Atom
from kgbuild.objects.clone_names import SUFFIXES, clone_key, clone_of
from kgbuild.objects.symbol_kinds import is_branch
from kgbuild.proof.parity import EXACT

_NAMED = 4


def evidence_of(closure: Closure, member: Member) -> list[str]:
    """Evidence for one function of a closure, most direct first."""
    unit = closure.units[member.unit]
    out = []
    if member.role in ("changed", "pulled"):
        out += _parity(unit, member.atom)
    if member.role == "changed":
        out += _inlined(member, unit)
    if member.role == "new" and not clone_key(member.atom.name):
        out.append("not in the original object")
    if (link := _link(closure, member)) is not None:
        out.append(link)
    if member.role == "carried":
        out += _parity(unit, member.atom)
    return out + clone_evidence(unit, member.atom.name)


def clone_evidence(unit: UnitResult, name: str) -> list[str]:
    """What says of a function that gcc made it of another: gcc itself, else its name."""
    history = unit.clones.history(name)
    if history:
        return [f"gcc made {describe(history)}: {EVIDENCE}"]
    clone = clone_of(name)
    if clone is None:
        return []
    done = "; ".join(SUFFIXES.get(kind, kind) for kind in clone.kinds)
    return [f"gcc made it of {clone.family} ({done}): its name"]


def _parity(unit: UnitResult, patched: Atom) -> list[str]:
    """What parity found of the function that a member was in the running kernel."""
    out = []
    for i in unit.changes.correlation.to_original.get(patched.id, ()):
        found = unit.parity.of(i)
        if found is None:
            continue
        name = unit.changes.orig.atoms[i].name
        where = f" at {found.address:#x}" if found.address and unit.target == "vmlinux" else ""
        if found.status == EXACT:
            padded = i in unit.parity.padded
            how = " but for padding: bytes by the kernel's own options, instructions" if padded else ": bytes"
            out.append(f"{name} recompiles to what runs{where}{how} and relocations")
        else:
            out.append(f"{name} is not proven{where} ({found.reason or found.status}): bytes and relocations")
    return out


def _link(closure: Closure, member: Member) -> str | None:
    """The reference between a member and what brought it in, in whichever direction it runs."""
    via = closure.members.get(member.via) if member.via is not None else None
    if via is None or member.role in ("cold", "prefix"):
        return None
    for source, target in ((via, member), (member, via)):
        view = closure.units[source.unit].changes.patched
        wanted = (
            {target.atom.id} if source.unit == target.unit else {a.id for a in view.atoms if a.name in target.names}
        )
        halves = [m.atom for m in closure.members.values() if m.unit == source.unit and m.role == "cold"]
        for atom in (source.atom, *(h for h in halves if h.name.startswith(f"{source.atom.name}.cold"))):
            try:
                refs = [r for r in view.refs(atom) if r.atom in wanted]
            except Ambiguous:
                continue
            for ref in refs:
                how = "branch" if is_branch(view, atom, ref) else "reference"
                return f"{how} to {target.atom.name} at {atom.name}+{ref.offset:#x}: patched object"
    return None


def _inlined(member: Member, unit: UnitResult) -> list[str]:
    """Functions of the unit's own file that gcc put into this one: what changes in them changes it."""
    found = unit.clones.inlines(member.atom.name, unit.source)
    if not found:
        return []
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return [f"gcc put {', '.join(found[:_NAMED])}{more} into it: {EVIDENCE}"]


def functions(closure: Closure, role: str) -> list[Member]:
    """Members of a role that are functions, in the order of units and atoms."""
    found = (m for m in closure.members.values() if m.role == role and m.atom.kind == FUNCTION)
    return sorted(found, key=lambda m: (m.unit, m.atom.id))
