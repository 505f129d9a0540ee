# SPDX-License-Identifier: GPL-2.0-or-later
"""What the macros for authors (data/author_headers) left in a patched object: callbacks, states, and what to leave out.

They are records in sections of their own, which never go into a module:
  .kgbuild.FAMILY.callback.KIND     a pointer to the callback; FAMILY is kpatch or klp, KIND one of CALLBACKS
  .kgbuild.FAMILY.ignore.function   the name of a function whose change is left out
  .kgbuild.FAMILY.ignore.section    the name of a section whose changes are left out
  .kgbuild.state                    two 64-bit numbers: a state's id and version
  .kgbuild.same                     a new variable, and the name that it had (state_declared)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from kgbuild.correlation.declared_variables import SECTION as SAME_STATE
from kgbuild.correlation.declared_variables import SameState, read_declared
from kgbuild.diagnostics.refusals import Refusal
from kgbuild.diff.changes import Changes
from kgbuild.objects.atoms import FUNCTION, Ambiguous, Atom
from kgbuild.objects.symbol_kinds import is_init
from kgbuild.objects.view import View

PREFIX = ".kgbuild."
# in the order of the wrapper's enum (data/livepatch/main.c)
CALLBACKS = ("pre_patch", "post_patch", "pre_unpatch", "post_unpatch")
FAMILIES = {"kpatch": "kpatch-macros.h", "klp": "linux/livepatch_helpers.h"}
_KINDS = [["ignore", "function"], ["ignore", "section"], *(["callback", kind] for kind in CALLBACKS)]


class Author(NamedTuple):
    """What the author of one unit asks for. `callbacks` are (kind, the function's atom in the patched object)."""

    families: frozenset[str] = frozenset()
    callbacks: tuple[tuple[str, Atom], ...] = ()
    ignored_functions: tuple[str, ...] = ()
    ignored_sections: tuple[str, ...] = ()
    states: tuple[tuple[int, int], ...] = ()
    same: tuple[SameState, ...] = ()


NOTHING = Author()


def read_author(view: View, source: str) -> tuple[Author, list[Refusal]]:
    """What is in the records of a patched object, and what is wrong with them (P14-callback)."""
    families: set[str] = set()
    callbacks: list[tuple[str, Atom]] = []
    ignored: dict[str, list[str]] = {"function": [], "section": []}
    states: list[tuple[int, int]] = []
    refusals: list[Refusal] = []
    for atom in _records(view):
        if view.section_name(atom) == SAME_STATE:
            continue
        words = view.section_name(atom).removeprefix(PREFIX).split(".")
        if words == ["state"]:
            content, order = view.content(atom), view.obj.order
            numbers = [int.from_bytes(content[at : at + 8], order) for at in range(0, len(content) - 7, 8)]
            states += zip(numbers[::2], numbers[1::2], strict=False)
            continue
        if len(words) != 3 or words[0] not in FAMILIES or words[1:] not in _KINDS:
            fact = f"section {view.section_name(atom)} is none that the macros make"
            refusals.append(Refusal("P14-callback", f"{source}: {atom.name}", fact, section=view.section_name(atom)))
            continue
        families.add(words[0])
        if words[1] == "ignore":
            text = view.content(atom).split(b"\0")[0]
            ignored[words[2]].append(text.decode("utf-8", "replace"))
            continue
        try:
            target = [view.atoms[r.atom] for r in view.refs(atom) if r.delta == 0]
        except Ambiguous as error:
            refusals.append(Refusal("K13-ambiguous", f"{source}: {atom.name}", ": ".join(error.args)))
            continue
        if len(target) == 1 and target[0].kind == FUNCTION and not is_init(view, target[0]):
            callbacks.append((words[2], target[0]))
        else:
            name = target[0].name if target else atom.name
            where = "in init memory" if target and target[0].kind == FUNCTION else "no function of this file"
            refusals.append(Refusal("P14-callback", f"{source}: {name}", f"the {words[2]} callback is {where}"))
    declared, faults = read_declared(view)
    refusals += [Refusal("K22-state", source, fact) for fact in faults]
    found = Author(
        frozenset(families),
        tuple(callbacks),
        tuple(dict.fromkeys(ignored["function"])),
        tuple(dict.fromkeys(ignored["section"])),
        tuple(states),
        tuple(declared),
    )
    return found, refusals


def _records(view: View) -> Iterator[Atom]:
    for atom in view.data:
        if view.section_name(atom).startswith(PREFIX):
            yield atom


def leave_out(changes: Changes, author: Author) -> tuple[Changes, list[str]]:
    """The changes without what the author asks to ignore, and a line for each thing that did change.

    A name of nothing in the unit is refused (P15-ignore).
    """
    if not author.ignored_functions and not author.ignored_sections:
        return changes, []
    lines: list[str] = []
    kept = list(changes.changed)
    refusals = list(changes.refusals)
    init = list(changes.init_changed)
    for name in author.ignored_functions:
        if not any(a.kind == FUNCTION for v in (changes.orig, changes.patched) for a in v.by_name.get(name, ())):
            fact = "KPATCH_IGNORE_FUNCTION names no function of this file's object (it may be inlined)"
            refusals.append(Refusal("P15-ignore", f"{changes.place}: {name}", fact, symbol=name))
            continue
        real = [c for c in kept if name in c.patched.names]
        against = [r for r in refusals if r.symbol == name]
        kept = [c for c in kept if c not in real]
        refusals = [r for r in refusals if r not in against]
        init = [n for n in init if n != name]
        facts = [str(c.reason) for c in real] + [f"{r.code}: {r.fact}" for r in against]
        lines += _say(changes.place, name, "KPATCH_IGNORE_FUNCTION", facts)
    for name in author.ignored_sections:
        if not any(s.name == name for v in (changes.orig, changes.patched) for s in v.obj.sections):
            fact = "KPATCH_IGNORE_SECTION names no section of this file's object"
            refusals.append(Refusal("P15-ignore", f"{changes.place}: {name}", fact, section=name))
            continue
        against = [r for r in refusals if r.section == name]
        refusals = [r for r in refusals if r not in against]
        facts = [f"{r.symbol or r.place}: {r.code}: {r.fact}" for r in against]
        lines += _say(changes.place, name, "KPATCH_IGNORE_SECTION", facts)
    return changes._replace(changed=tuple(kept), refusals=tuple(refusals), init_changed=tuple(init)), lines


def _say(place: str, name: str, macro: str, facts: list[str]) -> list[str]:
    if not facts:
        return [f"{place}: {name}: {macro} is not needed, nothing of it changes"]
    return [f"{place}: {name} changes ({fact}) and is left out by {macro}" for fact in facts]


def check_authors(authors: Iterable[tuple[str, str, Author]]) -> list[Refusal]:
    """What is wrong with the macros of a whole patch: families mixed (P13-macros), a second callback of a kind for one
    object, a state given twice or numbered 0 (P14-callback).

    authors   (source, object of the running kernel, what its author asks for) of each unit
    """
    refusals: list[Refusal] = []
    seen: dict[str, str] = {}
    kinds: dict[tuple[str, str], str] = {}
    states: dict[int, int] = {}
    for source, target, author in authors:
        for family in sorted(author.families):
            seen.setdefault(family, source)
        for kind, atom in author.callbacks:
            first = kinds.setdefault((target, kind), f"{source}: {atom.name}")
            if first != f"{source}: {atom.name}":
                fact = f"{target} has a {kind} callback already, {first}"
                refusals.append(Refusal("P14-callback", f"{source}: {atom.name}", fact, symbol=atom.name))
        for number, version in author.states:
            if number == 0:
                refusals.append(Refusal("P14-callback", source, "a state has the id 0, which ends the kernel's list"))
            if states.setdefault(number, version) != version:
                fact = f"the state {number} has two versions, {states[number]} and {version}"
                refusals.append(Refusal("P14-callback", source, fact))
    if len(seen) > 1:
        fact = " and ".join(f"{FAMILIES.get(f, f)} ({source})" for f, source in sorted(seen.items()))
        refusals.append(Refusal("P13-macros", next(iter(seen.values())), f"uses the macros of {fact}"))
    return refusals
