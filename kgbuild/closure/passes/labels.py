# SPDX-License-Identifier: GPL-2.0-or-later
"""What of a closure would lead into another body of a function than the module's, by an address inside the function."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kgbuild.closure.model import Contents, UnitResult
from kgbuild.diagnostics.refusals import Refusal
from kgbuild.diff.labels import LabelTables, addresses_handed_out, families, given_away, jumps_indirectly, own_labels
from kgbuild.objects.atoms import DATA, FUNCTION, Atom
from kgbuild.objects.symbol_kinds import is_init
from kgbuild.objects.view import View

CODE = "K23-label"


def check_labels(contents: Contents, tables: Callable[[int], LabelTables]) -> list[Refusal]:
    """Refusals (K23-label) for data that holds addresses inside functions which go into the module, where it is not
    their own constant data; and for functions that store such addresses, which outlive a redirection.

    `tables` gives such data of a unit's patched object.
    """
    out: list[Refusal] = []
    for number, unit in enumerate(contents.units):
        replaced = [m.atom for m in contents.members.values() if m.unit == number and m.atom.kind == FUNCTION]
        if replaced:
            out += _check_data(contents, number, unit, replaced, tables(number))
            out += _check_stores(unit, replaced)
    return out


def _check_data(
    contents: Contents, number: int, unit: UnitResult, replaced: list[Atom], tables: LabelTables
) -> Iterator[Refusal]:
    view, names = unit.changes.patched, set().union(*map(families, replaced))
    for i, inside in tables.inside.items():
        atom = view.atoms[i]
        functions = " and ".join(sorted(inside & names))
        if not functions or atom.kind != DATA or is_init(view, atom):
            continue
        if (number, i) in contents.members:
            start = next((r for r in view.refs(atom) if _is_start(view, r.atom, r.delta, names)), None)
            keeper = next((a for a in replaced if given_away(view, a, i) is not None), None)
            if keeper is not None:
                yield _refusal(unit, atom, f"holds addresses inside {functions}, and {keeper.name} hands it out")
            elif others := tables.others(atom):
                yield _refusal(
                    unit, atom, f"holds addresses inside {functions}, and is used by {', '.join(others)} too"
                )
            elif start is not None and i in tables.labels:
                fact = f"+{start.offset:#x}: may mean {functions} or a label at its start"
                yield _refusal(unit, atom, fact)
        else:
            why = _why_not(tables, atom)
            fact = (
                f"holds addresses inside {functions}, which is replaced or copied, and can't be copied with it: {why}"
            )
            yield _refusal(unit, atom, fact)


def _is_start(view: View, target: int, delta: int, names: set[str]) -> bool:
    atom = view.atoms[target]
    return delta == 0 and atom.kind == FUNCTION and bool(names & set(atom.names))


def _why_not(tables: LabelTables, atom: Atom) -> str:
    if not tables.is_constant(atom):
        return "it is not constant"
    others = tables.others(atom)
    return f"{', '.join(others)} uses it too" if others else "the function does not refer to it"


def _refusal(unit: UnitResult, atom: Atom, fact: str) -> Refusal:
    section = unit.changes.patched.section_name(atom)
    return Refusal(CODE, f"{unit.source}: {atom.name}", fact, symbol=atom.name, section=section)


# -- addresses that code stores -----------------------------------------------------------------------------------


def _check_stores(unit: UnitResult, replaced: list[Atom]) -> Iterator[Refusal]:
    """Labels that a function stores, to go there by a later call (`state = &&again;`): the kernel's body has stored
    its own, and the module's will leave its own behind. Both versions must be free of it where there are both."""
    changes = unit.changes
    for atom in replaced:
        originals = [changes.orig.atoms[i] for i in changes.correlation.to_original.get(atom.id, ())]
        for view, body in ((changes.patched, atom), *((changes.orig, orig) for orig in originals)):
            place = _stored(view, body) if originals else None
            if place is not None:
                fact = f"{body.name} stores the address of a label at +{place:#x}, to go there later"
                yield _refusal(unit, atom, fact)
                break


def _stored(view: View, atom: Atom) -> int | None:
    """Where a function stores an address inside itself, if it has an indirect jump too. Addresses that are passed to
    what it calls are of no harm: they say where the call comes from (_THIS_IP_)."""
    fields = own_labels(view, atom)
    kept = addresses_handed_out(view, atom, fields).kept if fields else None
    return min(kept) if kept and jumps_indirectly(view, atom) else None
