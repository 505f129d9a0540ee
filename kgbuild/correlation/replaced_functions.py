# SPDX-License-Identifier: GPL-2.0-or-later
"""Static functions that another one replaces in the tables that point to them.

    static const struct file_operations null_fops = {
    -	.read = read_null,
    +	.read = read_nothing,

The running kernel's table goes on pointing to the old function, which can be redirected to the new one: whoever calls
through the table then gets what the patched source has there. That is right where nothing else leads to the old
function: it is static, the patched source has it no more, and wherever a variable points to it, the patched one points
to the new function. Calls in code were changed with the patch, since the old function is gone, or mean the new one.
"""

from __future__ import annotations

from kgbuild.correlation.correlate import Correlation
from kgbuild.objects.atoms import DATA, FUNCTION, Ambiguous, Atom, Ref
from kgbuild.objects.symbol_kinds import is_cold, is_prefix
from kgbuild.objects.view import View


def pair_replaced(correlation: Correlation) -> list[tuple[Atom, Atom]]:
    """Pair such functions, and their `.cold` halves; returns the pairs of functions."""
    gone = _unpaired(correlation.orig, correlation.to_patched)
    new = _unpaired(correlation.patched, correlation.to_original)
    if not gone or not new:
        return []
    successors: dict[int, set[int]] = {number: set() for number in gone}
    for orig in correlation.orig.data:
        for offset, ref in _pointers(correlation.orig, orig, gone):
            for patched in correlation.to_patched.get(orig.id, (-1,)):
                successors[ref.atom].add(_pointed_to(correlation.patched, patched, offset))
    taken: dict[int, int] = {}
    for found in successors.values():
        for number in found:
            taken[number] = taken.get(number, 0) + 1
    pairs = []
    for number, found in sorted(successors.items()):
        (successor,) = found if len(found) == 1 else (-1,)
        if successor in new and taken[successor] == 1:
            correlation.pair(number, successor)
            pairs.append((correlation.orig.atoms[number], correlation.patched.atoms[successor]))
            _pair_cold(correlation, *pairs[-1])
    return pairs


def _unpaired(view: View, paired: dict[int, tuple[int, ...]]) -> set[int]:
    """Static functions with one name that the other object does not have."""
    return {
        atom.id
        for atom in view.functions
        if atom.id not in paired
        and atom.is_local
        and len(atom.names) == 1
        and not is_cold(atom)
        and not is_prefix(atom)
    }


def _pointers(view: View, source: Atom, wanted: set[int]) -> list[tuple[int, Ref]]:
    """The places in a variable that point to the beginning of one of these functions."""
    if view.is_table(view.section_of(source)):
        return []
    try:
        return [(ref.offset, ref) for ref in view.refs(source) if ref.atom in wanted]
    except Ambiguous:
        return []


def _pointed_to(view: View, number: int, offset: int) -> int:
    """The function that a place in a variable points to, -1 where it points to no beginning of one."""
    if number < 0 or view.atoms[number].kind != DATA:
        return -1
    try:
        found = [ref for ref in view.refs(view.atoms[number]) if ref.offset == offset]
    except Ambiguous:
        return -1
    return (
        found[0].atom if len(found) == 1 and not found[0].delta and view.atoms[found[0].atom].kind == FUNCTION else -1
    )


def _pair_cold(correlation: Correlation, orig: Atom, patched: Atom) -> None:
    halves = [
        [a for a in view.by_name.get(f"{atom.name}.cold", ()) if a.id not in paired]
        for view, atom, paired in (
            (correlation.orig, orig, correlation.to_patched),
            (correlation.patched, patched, correlation.to_original),
        )
    ]
    if len(halves[0]) == 1 == len(halves[1]):
        correlation.pair(halves[0][0].id, halves[1][0].id)
