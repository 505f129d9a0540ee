# SPDX-License-Identifier: GPL-2.0-or-later
"""Who shares a once-flag, a rate limit or a debug descriptor with whom.

A fresh variable of that kind serves as well as the kernel's (`stateless`), so it does not matter which one a function
uses, as long as those that had one each have one each, and those that shared one share one. Two messages that come to
share a flag are one message less; two that share a rate limit, half as many; a place of one pr_debug that takes the
descriptor of another is switched on by the other's line.
"""

from __future__ import annotations

from collections import Counter

from kgbuild.correlation.correlate import Correlation
from kgbuild.objects.atoms import DATA, Ambiguous, Atom
from kgbuild.objects.special_entries import Entries
from kgbuild.objects.symbol_kinds import stem
from kgbuild.objects.view import View


class SharedFlags:
    """Uses of such variables in two correlated objects, counted by function when first asked for."""

    def __init__(self, correlation: Correlation, orig_entries: Entries, patched_entries: Entries) -> None:
        self._correlation = correlation
        self._sides = (correlation.orig, orig_entries), (correlation.patched, patched_entries)
        self._known: dict[tuple[int, str], dict[int, Counter[int]]] = {}

    def same_users(self, orig: Atom, patched: Atom) -> bool:
        """False where a function that both objects have uses the patched one's flag more or less often than the
        original's, though it uses as many variables of the name as before: what it shares with others is then another.
        A function with more or fewer uses changed by itself, and says nothing."""
        orig_uses, patched_uses = self._uses(0, stem(orig.name)), self._uses(1, stem(patched.name))
        nothing = Counter[int]()
        users = {user for user, counts in orig_uses.items() if orig.id in counts}
        users.update(
            function
            for user, counts in patched_uses.items()
            if patched.id in counts
            for function in self._correlation.to_original.get(user, ())
        )
        for function in users:
            partners = self._correlation.to_patched.get(function, ())
            if len(partners) != 1:
                continue  # folded with others, or gone
            orig_counts, patched_counts = orig_uses.get(function, nothing), patched_uses.get(partners[0], nothing)
            if orig_counts.total() == patched_counts.total() and orig_counts[orig.id] != patched_counts[patched.id]:
                return False
        return True

    def _uses(self, side: int, name: str) -> dict[int, Counter[int]]:
        """How often each function refers to each variable of a name, in its code and in its entries of tables."""
        found = self._known.get((side, name))
        if found is None:
            view, entries = self._sides[side]
            flags = {a.id for a in view.atoms if a.kind == DATA and a.is_local and stem(a.name) == name}
            users = _sections_of_users(view, entries, {view.atoms[i].section for i in flags})
            counted = ((f.id, _count(view, entries, f, flags)) for f in view.functions if f.section in users)
            found = self._known[side, name] = {f: counts for f, counts in counted if counts}
        return found


def _sections_of_users(view: View, entries: Entries, sections: set[int]) -> set[int]:
    """Sections of code that may refer to what lies in some sections, by a relocation, by a place in the same section
    (the assembler leaves no relocation there), or by an entry of a table."""
    users = view.sections_referring_to(sections) | sections
    tables = {s for s in users if view.arch.special_of(view.obj.sections[s].name)}
    return users | (entries.owner_sections(tables) if tables else set())


def _count(view: View, entries: Entries, function: Atom, flags: set[int]) -> Counter[int]:
    try:
        refs = [*view.refs(function), *(r for e in entries.of(function.id) for r in e.refs)]
    except Ambiguous:
        return Counter()
    return Counter(r.atom for r in refs if r.atom in flags)
