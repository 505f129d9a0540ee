# SPDX-License-Identifier: GPL-2.0-or-later
"""Accounts for how an object that reads static keys at run time differs from the one that the kernel's own build makes.

The two are of one compile. They may differ in functions that have a branch or a call of one of the keys, in the tables
about these functions, and in the names that such code no longer refers to, or now does. In each of these functions
there must be one reading of the key for each entry that is gone. Any other difference is refused (K26-unaccounted).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from kgbuild.accounting.account import Accounting
from kgbuild.accounting.claims import Claim
from kgbuild.accounting.unit_facts import NO_EFFECT, REPLACED, UNACCOUNTED
from kgbuild.arch.base import Arch
from kgbuild.closure.model import STATIC_CALL, TRAMPOLINE, Closure, UnitResult
from kgbuild.closure.run_time.keys import key_sites
from kgbuild.kernel.section_readers import NEVER, reader_of
from kgbuild.ledger import difference as kinds
from kgbuild.ledger.difference import Difference
from kgbuild.ledger.ledger import Ledger, compute_ledger
from kgbuild.objects.atoms import Ambiguous, Atom
from kgbuild.objects.view import View

_READS = "static keys of the module are read at run time"


def account_run_time(
    static: UnitResult,
    reading: UnitResult,
    names: frozenset[str],
    atoms: Mapping[int, int],
    closure: Closure,
    number: int,
) -> Accounting:
    """Claim each difference between the patched objects of a unit.

    static   the unit with the object as the kernel's own build makes it
    reading  the unit, number `number` of `closure`, with the object that reads the keys whose symbols are `names`
    atoms    the atoms of the latter by those of the former
    """
    ledger: Ledger = compute_ledger(static.changes.patched.obj, reading.changes.patched.obj)
    here: dict[str, tuple[str, str]] = {}
    for atom in static.changes.patched.functions:
        sites = Counter(key for _, key in key_sites(static, atom, names))
        if sites and atom.id in atoms:
            claim = _claim_function(static, reading, atom, atoms[atom.id], sites, (number, atoms[atom.id]), closure)
            for name in atom.names:
                here.setdefault(_whole(name), claim)
                if claim[0] == UNACCOUNTED:
                    here[_whole(name)] = claim
    arch = reading.changes.patched.arch
    claims = tuple(Claim(d, *_claim(d, here, arch), said=False) for d in ledger.differences)
    return Accounting(static.changes.place, claims, static.target)


def _claim_function(
    static: UnitResult,
    reading: UnitResult,
    atom: Atom,
    other: int,
    sites: Counter[str],
    member: tuple[int, int],
    closure: Closure,
) -> tuple[str, str]:
    """What becomes of the differences of one function that has branches or calls of keys (`sites`: how many)."""
    read = reading.changes.patched
    try:
        before, after = _references(static.changes.patched, atom), _references(read, read.atoms[other])
    except Ambiguous as error:
        return UNACCOUNTED, ": ".join(error.args)
    for name in sorted({*before, *after, *sites}):
        found = after[name] - before[name]
        if name in sites and found != sites[name]:
            return UNACCOUNTED, f"{found} readings of {name} for {sites[name]} branches or calls"
        call = f"{STATIC_CALL}{name.removeprefix(TRAMPOLINE)}" if name.startswith(TRAMPOLINE) else ""
        if name not in sites and found and found != -sites[call] and not _is_way(read, name):
            return UNACCOUNTED, f"refers {found:+d} times to {name}"
    if key_sites(reading, read.atoms[other], frozenset(sites)):
        return UNACCOUNTED, "not all of its keys are read at run time"
    if member in closure.members:
        return REPLACED, _READS
    return NO_EFFECT, f"{_READS}, by a function that is not in the module"


def _references(view: View, atom: Atom) -> Counter[str]:
    """How often a function refers to what has a name, but for itself and its cold half."""
    own = {_whole(name) for name in atom.names}
    names = (view.atoms[ref.atom].name for ref in view.refs(atom))
    return Counter(name for name in names if name and _whole(name) not in own)


def _is_way(view: View, name: str) -> bool:
    """Whether indirect calls and returns go through a function, of which code that reads keys has more."""
    return name.startswith(view.arch.indirect_thunks) or name == view.arch.return_thunk


def _whole(name: str) -> str:
    """The function of which a cold half is part."""
    return name.partition(".cold")[0]


def _claim(difference: Difference, functions: Mapping[str, tuple[str, str]], arch: Arch) -> tuple[str, str]:
    if difference.symbol and _whole(difference.symbol) in functions:
        return functions[_whole(difference.symbol)]
    if not difference.section and difference.orig_place is None and difference.patched_place is None:
        if difference.kind == kinds.WENT:
            return NO_EFFECT, "nothing refers to it where the key is read at run time"
        if difference.kind == kinds.CAME and difference.symbol.startswith(arch.indirect_thunks):
            return NO_EFFECT, "calls go through it where the key is read at run time"
    moved = difference.section in arch.auxiliary and difference.kind in (kinds.CAME, kinds.WENT)
    if difference.kind == kinds.TEXT or moved:
        return NO_EFFECT, "read by what refers to it, which is compared by content"
    row = reader_of(difference.section) if difference.section else None
    if row is not None and row.when == NEVER:
        return NO_EFFECT, f"{row.what}: read by {row.who} alone"
    return UNACCOUNTED, "not of code that reads static keys at run time"
