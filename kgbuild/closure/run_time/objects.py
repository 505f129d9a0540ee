# SPDX-License-Identifier: GPL-2.0-or-later
"""Units whose patched object is compiled once more, so that it reads static keys of its module at run time.

The compiler's output is the same for both objects; only the assembler's input differs, at the branches and calls that
belong to the keys (data/assembler/keys.pl). So each function and variable of the one is there in the other, under the
same name. What changed is known from the object as the kernel's own build makes it: a function that merely reads a key
in another way is not changed. The closure is made of the object that reads the keys.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TypeVar

from kgbuild.closure.model import Closure, UnitResult
from kgbuild.correlation.correlate import Correlation
from kgbuild.objects.atoms import DATA, FUNCTION, Atom
from kgbuild.objects.special_entries import read_entries
from kgbuild.objects.view import View

Key = TypeVar("Key")
Value = TypeVar("Value")
# What must be paired for one object to take the other's place.
_NAMED = (FUNCTION, DATA)


class NotTheSame(Exception):
    """Two objects that should be of one compile are not. In args: what shows it."""


def match_atoms(static: View, reading: View) -> dict[int, int]:
    """The atom of `reading` for each one of `static`, by kind, name and place. Atoms of tables have none where their
    number differs. Raises NotTheSame for a function or variable that only one of them has."""
    sides: tuple[dict[tuple[object, ...], list[int]], dict[tuple[object, ...], list[int]]] = ({}, {})
    for side, view in zip(sides, (static, reading), strict=True):
        for atom in view.atoms:
            side.setdefault(_place(view, atom), []).append(atom.id)
    out: dict[int, int] = {}
    for place in sides[0].keys() | sides[1].keys():
        static_ids, reading_ids = (side.get(place, []) for side in sides)
        if len(static_ids) == len(reading_ids):
            out.update(zip(static_ids, reading_ids, strict=True))
        elif place[0] in _NAMED:
            raise NotTheSame(f"{place} is there {len(static_ids)} times and {len(reading_ids)} times")
    return out


def _place(view: View, atom: Atom) -> tuple[object, ...]:
    """What an atom is in both objects: code is longer or shorter, so that places in it are told by their order."""
    if atom.section < 0:
        return (atom.kind, atom.names)
    section = view.section_of(atom)
    at = -1 if section.executable else atom.offset
    return (atom.kind, atom.names, section.name, at)


def with_object(unit: UnitResult, reading: View) -> tuple[UnitResult, dict[int, int]]:
    """The unit with another patched object, in which the same has changed, and the atoms of that by those that they
    take the place of. Raises NotTheSame."""
    changes = unit.changes
    to = match_atoms(changes.patched, reading)

    def atom(static: Atom) -> Atom:
        return reading.atoms[to[static.id]]

    try:
        new = changes._replace(
            patched=reading,
            correlation=_correlation(changes.correlation, reading, to),
            patched_entries=read_entries(reading, changes.place),
            changed=tuple(c._replace(patched=atom(c.patched)) for c in changes.changed),
            new=tuple(map(atom, changes.new)),
            renamed=tuple(r._replace(patched=to[r.patched]) for r in changes.renamed),
            differing=tuple((orig, atom(patched)) for orig, patched in changes.differing),
        )
        callbacks = tuple((kind, atom(function)) for kind, function in unit.author.callbacks)
    except KeyError as error:
        place = changes.patched.atoms[error.args[0]]
        raise NotTheSame(f"{place.name or changes.patched.section_name(place)} is in one of them only") from error
    return unit._replace(changes=new, author=unit.author._replace(callbacks=callbacks)), to


def _correlation(static: Correlation, reading: View, to: Mapping[int, int]) -> Correlation:
    return Correlation(
        static.orig,
        reading,
        static.lines,
        {to[patched]: orig for patched, orig in static.to_original.items()},
        {orig: tuple(to[i] for i in patched) for orig, patched in static.to_patched.items()},
        {name: (orig, tuple(to[i] for i in patched)) for name, (orig, patched) in static.undecided.items()},
        {to[i] for i in static.tables},
        {to[i] for i in static.doubtful},
        (static.needless[0], {to[i] for i in static.needless[1]}),
        {to[i] for i in static.affirmed},
        {(orig, to[patched]): why for (orig, patched), why in static.against.items()},
    )


def as_static(closure: Closure, units: tuple[UnitResult, ...], atoms: Mapping[int, Mapping[int, int]]) -> Closure:
    """The closure with the objects of `units` in place of those that read keys at run time, for what is known of the
    former alone. `atoms`: by unit, what `with_object` says. What only the reading object has is left out."""
    back = {number: {reading: static for static, reading in to.items()} for number, to in atoms.items()}

    def key(old: tuple[int, int]) -> tuple[int, int] | None:
        number, atom = old
        if number not in back:
            return old
        return (number, back[number][atom]) if atom in back[number] else None

    def rekeyed(table: Mapping[tuple[int, int], Value]) -> Mapping[tuple[int, int], Value]:
        return MappingProxyType({new: value for old, value in table.items() if (new := key(old)) is not None})

    def member_of(number: int, atom: Atom) -> Atom:
        static = back.get(number, {}).get(atom.id)
        return units[number].changes.patched.atoms[static] if static is not None else atom

    members = {k: m._replace(atom=member_of(m.unit, m.atom)) for k, m in rekeyed(closure.members).items()}
    defined = {k: to for k, value in rekeyed(closure.defined).items() if (to := key(value)) is not None}
    return replace(
        closure,
        units=units,
        members=MappingProxyType(members),
        bound=rekeyed(closure.bound),
        defined=MappingProxyType(defined),
        state=rekeyed(closure.state),
        literals=_kept(closure.literals, lambda place: place[0] not in back),
        redirects=tuple(r._replace(atom=member_of(r.unit, r.atom)) for r in closure.redirects),
        dropped=frozenset(d for d in closure.dropped if d[0] not in back),
    )


def _kept(table: Mapping[Key, Value], keep: Callable[[Key], bool]) -> Mapping[Key, Value]:
    """The rows of a table that are to be kept."""
    return MappingProxyType({key: value for key, value in table.items() if keep(key)})
