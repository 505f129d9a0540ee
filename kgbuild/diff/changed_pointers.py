# SPDX-License-Identifier: GPL-2.0-or-later
"""Tables of functions in which nothing but functions changes: the refusal says which function to change instead.

The running kernel's table goes on pointing to the old function. Where that can be redirected to the new one, the two
are paired, and nothing is refused (correlation/replaced_functions.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kgbuild.correlation.correlate import Correlation
from kgbuild.diagnostics.refusals import Refusal
from kgbuild.objects.atoms import FUNCTION, UNDEFINED, Atom


class ChangedPointer(NamedTuple):
    """A place in a variable, in bytes, with the function that it pointed to and the one that it points to now."""

    offset: int
    orig: Atom
    patched: Atom


def changed_pointers(correlation: Correlation, orig: Atom, patched: Atom) -> list[ChangedPointer]:
    """Where a variable points to another function than before; empty where anything else of it changes too.

    Raises Ambiguous for a reference that can't be followed.
    """
    views = correlation.orig, correlation.patched
    if views[0].masked(orig) != views[1].masked(patched):
        return []
    orig_refs, patched_refs = (
        {r.offset: r for r in view.refs(a)} for view, a in zip(views, (orig, patched), strict=True)
    )
    if orig_refs.keys() != patched_refs.keys():
        return []
    out = []
    for offset, ref in sorted(orig_refs.items()):
        orig_function, patched_function = views[0].atoms[ref.atom], views[1].atoms[patched_refs[offset].atom]
        same_name = orig_function.name == patched_function.name and UNDEFINED in (
            orig_function.kind,
            patched_function.kind,
        )
        if same_name or correlation.paired(orig_function.id, patched_function.id):
            continue
        if {orig_function.kind, patched_function.kind} - {FUNCTION, UNDEFINED}:
            return []
        out.append(ChangedPointer(offset, orig_function, patched_function))
    return out


def refuse_pointers(place: str, variable: Atom, section: str, fact: str, pointers: Sequence[ChangedPointer]) -> Refusal:
    """The refusal of a variable whose pointers change (one or more), in a section, of a unit."""
    named = ", ".join(f"{p.orig.name} -> {p.patched.name}" for p in pointers[:3]) + (", ..." if pointers[3:] else "")
    own = [p for p in pointers if p.orig.kind == FUNCTION]
    callback = "set the pointer in a callback (kgbuild remedy PATCH --code K1-data)"
    remedy = callback
    if own:
        old, new = own[0].orig.name, own[0].patched.name
        remedy = (
            f"leave the table as it is and have {old} do what {new} does, if nothing else reaches it; or {callback}"
        )
    return Refusal("K1-data", f"{place}: {variable.name}", f"{fact} ({named})", variable.name, section, remedy)
