# SPDX-License-Identifier: GPL-2.0-or-later
"""Init code whose change can't be left out: it sets what the rest of the patch uses.

`__init` functions have run and are freed, so that a change of theirs has no effect; a user may leave it out
(--ignore-init). Where the changed code sets a variable that code of the patch uses, what is left would run with a
variable that nobody has set.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from kgbuild.correlation.pair_evidence import is_state, source_name
from kgbuild.diff.changes import Changes
from kgbuild.objects.atoms import DATA, FUNCTION, UNDEFINED, Ambiguous, Atom
from kgbuild.objects.special_entries import Entries
from kgbuild.objects.symbol_kinds import is_init
from kgbuild.objects.view import View

# A variable that several units know: by its name, where it is global; else by unit and atom of the patched object.
VariableKey = tuple[int, int | str]


def find_needed(units: Iterable[Changes]) -> dict[tuple[str, str], str]:
    """By (unit, init function), what its change sets and who in the patch uses that, in a clause."""
    numbered = list(enumerate(units))
    used = _used(numbered)
    out: dict[tuple[str, str], str] = {}
    for number, changes in numbered:
        for name in changes.init_changed:
            for atom in changes.patched.by_name.get(name, ()):
                for key, variable in _newly_set(number, changes, atom):
                    if key in used:
                        out.setdefault((changes.place, name), f"it sets {variable}, which {used[key]} uses")
    return out


def _key(number: int, view: View, atom: Atom) -> VariableKey | None:
    if atom.kind == UNDEFINED:
        return -1, atom.name
    if atom.kind != DATA or not (is_state(view, atom) or _is_set_at_boot(view, atom)):
        return None
    return (number, atom.id) if atom.is_local else (-1, atom.name)


def _is_set_at_boot(view: View, atom: Atom) -> bool:
    return view.section_of(atom).writable and not is_init(view, atom)


def _used(units: list[tuple[int, Changes]]) -> dict[VariableKey, str]:
    """What functions that are changed or new, and no init code, refer to; each with one of them."""
    out: dict[VariableKey, str] = {}
    for number, changes in units:
        view = changes.patched
        if not any(c.init_changed for _, c in units):
            return out
        for atom in [*(c.patched for c in changes.changed), *changes.new]:
            halves = [atom, *(a for n in atom.names for a in view.by_name.get(f"{n}.cold", ()))]
            for half in halves:
                for target in _refs(view, changes.patched_entries, half):
                    key = _key(number, view, view.atoms[target])
                    if key is not None:
                        out.setdefault(key, atom.name)
    return out


def _refs(view: View, entries: Entries, atom: Atom) -> Iterator[int]:
    try:
        yield from [r.atom for r in view.refs(atom)]
        yield from [r.atom for e in entries.of(atom.id) for r in e.refs]
    except Ambiguous:
        return


def _newly_set(number: int, changes: Changes, atom: Atom) -> Iterator[tuple[VariableKey, str]]:
    """The variables that an init function writes, or hands the address of to others, as it did not before."""
    orig_settings: Counter[tuple[VariableKey, bytes]] = Counter()
    for i in changes.correlation.to_original.get(atom.id, ()):
        orig = changes.orig.atoms[i]
        found = _settings(number, changes.orig, orig, changes.correlation.to_patched)
        orig_settings += Counter((key, text) for key, text, _ in found)
    patched_settings = list(_settings(number, changes.patched, atom, None))
    remaining = Counter((k, t) for k, t, _ in patched_settings) - orig_settings
    for key, text, variable in patched_settings:
        if remaining[key, text]:
            yield key, variable


def _settings(
    number: int, view: View, atom: Atom, patched: Mapping[int, tuple[int, ...]] | None
) -> Iterator[tuple[VariableKey, bytes, str]]:
    """Each instruction of a function that writes a variable or takes its address: the variable, the instruction without
    its references, the variable's name. `patched` says which atom of the patched object an original's is."""
    if atom.kind != FUNCTION:
        return
    try:
        refs, masked = view.refs(atom), view.masked(atom)
        at = 0
        for effect in view.arch.effects(view.content(atom)):
            end = effect.offset + effect.length
            while at < len(refs) and refs[at].offset < end:
                target = view.atoms[refs[at].atom]
                at += 1
                key = _key(number, view, target)
                reads = effect.loads and not effect.stores
                if key is None or reads or effect.calls or effect.leaves or effect.branches:
                    continue
                if patched is not None and target.kind == DATA and target.is_local:
                    key = (number, (*patched.get(target.id, ()), -1)[0])
                yield key, masked[effect.offset : end], source_name(target)
    except Ambiguous:
        return
