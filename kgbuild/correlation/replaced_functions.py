# SPDX-License-Identifier: GPL-2.0-or-later
"""Static functions that another one replaces in the tables that point to them.

    static const struct file_operations null_fops = {
    -	.read = read_null,
    +	.read = read_nothing,

The running kernel's table goes on pointing to the old function, which can be redirected to the new one: whoever calls
through the table then gets what the patched source has there. That is right where nothing else leads to the old
function: it is static, the patched source has it no more, and wherever a variable points to it, the patched one points
to the new function. So does code that takes its address, which may be stored anywhere by now. A table without a name
can't be followed from one object to the other, so that nothing is paired that one points to. Calls in code were changed
with the patch, since the old function is gone, or mean the new one.

The other function may have been there already. Then the module has a copy of it, to which the old one is redirected,
and it stays where it is for whoever else reaches it. That is right where its address means nothing: it is static, no
code takes its address (to compare it, or to store it somewhere), and all data that points to it was there before.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from kgbuild.correlation.correlate import Correlation
from kgbuild.objects.atoms import ANON, DATA, FUNCTION, Ambiguous, Atom
from kgbuild.objects.symbol_kinds import is_branch, is_cold, is_prefix
from kgbuild.objects.view import View


def pair_replaced(correlation: Correlation) -> list[tuple[Atom, Atom]]:
    """Pair such functions, and their `.cold` halves; returns the pairs of functions. None are paired in a unit with a
    reference that can't be followed."""
    gone = _unpaired(correlation.orig, correlation.to_patched)
    if not gone:
        return []
    new = _unpaired(correlation.patched, correlation.to_original)
    try:
        orig = _pointers(correlation.orig, gone)
        there = (
            {a.id for a in correlation.patched.functions if a.id in correlation.to_original} if orig.in_data else set()
        )
        patched = _pointers(correlation.patched, new | there)
        there = {
            number for number in there & patched.in_data.keys() if _is_reached_by_tables(correlation, patched, number)
        }
        return _pair(correlation, orig, patched, new | there)
    except Ambiguous:
        return []


def _is_reached_by_tables(correlation: Correlation, patched: _FunctionAddresses, number: int) -> bool:
    """Whether a function that both objects have may be copied: it is called, and data that was there before points to
    it, and that is all that is done with its address."""
    view, atom = correlation.patched, correlation.patched.atoms[number]
    plain = atom.is_local and len(atom.names) == 1 and not is_cold(atom) and not is_prefix(atom)
    if not plain or len(correlation.to_original[number]) != 1 or patched.in_code.get(number):
        return False
    return all(
        offset >= 0 and view.atoms[source].kind == DATA and source in correlation.to_original
        for source, offset in patched.in_data[number]
    )


def _pair(
    correlation: Correlation, orig: _FunctionAddresses, patched: _FunctionAddresses, allowed: set[int]
) -> list[tuple[Atom, Atom]]:
    successors = {
        number: {_pointed_to(correlation, source, offset) for source, offset in places}
        for number, places in orig.in_data.items()
    }
    taken = Counter(number for found in successors.values() for number in found)
    pairs = []
    for number, found in sorted(successors.items()):
        (successor,) = found if len(found) == 1 else (-1,)
        if successor not in allowed or taken[successor] > 1:
            continue
        if _code_agrees(correlation, orig.in_code.get(number, Counter()), patched.in_code.get(successor, Counter())):
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


@dataclass(eq=False, repr=False)
class _FunctionAddresses:
    """Where the address of each function is: in data as (atom, offset), in code as the number of times that a function
    takes it, calls and jumps aside."""

    in_data: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    in_code: dict[int, Counter[int]] = field(default_factory=dict)


def _pointers(view: View, wanted: set[int]) -> _FunctionAddresses:
    """The pointers to some functions. Entries of tables that belong to code do not count. Raises Ambiguous."""
    out = _FunctionAddresses()
    for source in view.atoms:
        if source.section < 0 or source.kind not in (DATA, ANON, FUNCTION) or view.is_table(view.section_of(source)):
            continue
        for ref in view.refs(source):
            if ref.atom not in wanted:
                continue
            if source.kind == ANON and ref.delta:
                continue  # a table of labels: its own
            if source.kind != FUNCTION:
                out.in_data.setdefault(ref.atom, []).append((source.id, ref.offset if not ref.delta else -1))
            elif not is_branch(view, source, ref):
                out.in_code.setdefault(ref.atom, Counter())[source.id] += 1
    return out


def _pointed_to(correlation: Correlation, source: int, offset: int) -> int:
    """The function of the patched object that a place in a variable of the original points to there; -1 where it does
    not point to the beginning of one, or where the variable is not there or has no name."""
    view, others = correlation.patched, correlation.to_patched.get(source, ())
    if len(others) != 1 or view.atoms[others[0]].kind != DATA:
        return -1
    found = [ref for ref in view.refs(view.atoms[others[0]]) if ref.offset == offset]
    return (
        found[0].atom if len(found) == 1 and not found[0].delta and view.atoms[found[0].atom].kind == FUNCTION else -1
    )


def _code_agrees(correlation: Correlation, orig: Counter[int], patched: Counter[int]) -> bool:
    """Whether all code that takes the address of a function takes that of its successor instead, as often."""
    for function, count in orig.items():
        others = correlation.to_patched.get(function, ())
        if not others or any(patched[other] != count for other in others):
            return False
    return True


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
