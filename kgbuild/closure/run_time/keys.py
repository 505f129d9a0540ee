# SPDX-License-Identifier: GPL-2.0-or-later
"""Which static keys of target modules are read at run time, and where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from kgbuild.closure.model import STATIC_CALL, STATIC_CALL_KEY, STATIC_KEY, Closure, LateKey, ReadKey, UnitResult
from kgbuild.objects.atoms import Ambiguous, Atom
from kgbuild.objects.special_entries import SpecialEntry


def keys_to_read(closure: Closure) -> dict[int, frozenset[str]]:
    """The symbols of keys that could be read at run time and are not, by the unit's number."""
    out: dict[int, set[str]] = {}
    for key in closure.late_keys:
        out.setdefault(key.unit, set()).add(key.name)
    return {unit: frozenset(names) for unit, names in out.items()}


def static_keys(names: Iterable[str]) -> tuple[str, ...]:
    """Those of some keys that are no static call's, sorted."""
    return tuple(sorted(name for name in names if not LateKey(0, name).call))


def static_calls(names: Iterable[str]) -> tuple[str, ...]:
    """The names of the static calls of which some keys are, sorted."""
    return tuple(sorted(call for name in names if (call := LateKey(0, name).call)))


def key_sites(unit: UnitResult, atom: Atom, names: frozenset[str]) -> list[tuple[SpecialEntry, str]]:
    """The entries of a function of a unit's patched object that belong to one of some keys, with the key's symbol; none
    where its entries can't be followed, which is refused where it matters."""
    out: list[tuple[SpecialEntry, str]] = []
    try:
        entries = unit.changes.patched_entries.of(atom.id)
    except Ambiguous:
        return out
    for entry in entries:
        for ref in entry.refs:
            key = unit.changes.patched.atoms[ref.atom]
            if ref.offset == entry.spec.key.get(entry.size) and key.name in names:
                out.append((entry, key.name))
    return out


def find_read_keys(
    closure: Closure,
    static: tuple[UnitResult, ...],
    names: Mapping[int, frozenset[str]],
    atoms: Mapping[int, Mapping[int, int]],
) -> frozenset[ReadKey]:
    """The keys that members read at run time. `static` are the units with their objects as the kernel's own build makes
    them, `names` the symbols of keys that are read in each, `atoms` what `with_object` says."""
    found: Counter[tuple[int, str, str]] = Counter()
    for number, by_static in atoms.items():
        unit = static[number]
        for function, reading in by_static.items():
            if (number, reading) not in closure.members:
                continue
            atom = unit.changes.patched.atoms[function]
            for _, key in key_sites(unit, atom, names[number]):
                found[number, atom.name.partition(".cold")[0], key] += 1
    return frozenset(
        ReadKey(
            static[number].source,
            function,
            static[number].target,
            STATIC_CALL_KEY if name.startswith(STATIC_CALL) else STATIC_KEY,
            name.removeprefix(STATIC_CALL),
            count,
        )
        for (number, function, name), count in found.items()
    )
