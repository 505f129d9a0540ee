# SPDX-License-Identifier: GPL-2.0-or-later
"""Init code whose change can't be left out: it sets what the rest of the patch uses.

`__init` functions have run and are freed, and `__exit` functions run when their module goes. A change of theirs has no
effect, and a user may leave it out (--ignore-init). Where the changed code sets a variable that code of the patch uses,
what is left would run with a variable that nobody has set, or that nobody cleans up.

What a change sets: variables that the function writes, or hands the address of to others, where that instruction, or
what leads up to it, was not in the original; what a pointer variable leads to, where what follows its load is new; and
all that functions set that it newly calls, hands to others or registers in a table. What the rest uses: variables that
changed functions refer to, themselves or in functions of the patched units that they call. Code outside of the patched
units is not looked at.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from kgbuild.arch.base import Doing, Effect, Use
from kgbuild.correlation.pair_evidence import is_state, source_name
from kgbuild.diagnostics.refusals import IN_A_CALLBACK, Refusal
from kgbuild.diff.changes import Changes
from kgbuild.objects.atoms import DATA, FUNCTION, UNDEFINED, Ambiguous, Atom
from kgbuild.objects.special_entries import Entries
from kgbuild.objects.symbol_kinds import is_anonymous, is_init
from kgbuild.objects.view import View

CODE = "K3-init"

# A variable that several units know: by its name, where it is global; else by unit and atom of the patched object.
VariableKey = tuple[int, int | str]

# An atom of a unit's patched object: the unit's number, the atom's.
_Place = tuple[int, int]

_POINTER = 8

# They keep nothing of what they are given, and write no memory of a driver's.
_MESSAGES = ("printk", "_printk", "_dev_err", "_dev_warn", "_dev_info", "_dev_notice", "__warn_printk")


# Functions that change nothing for good of what they are given: locks, searches, comparisons, messages.
_READERS = re.compile(
    r"(mutex|rt_mutex|down|up|_raw_(spin|read|write)|queued_spin)_(un)?(lock|trylock|read|write|slowpath)\w*"
    r"|_?find_(first|next|last)_\w*|cpumask_(next|any|first)\w*|bitmap_weight|__bitmap_(weight|equal|subset|intersects)"
    r"|str(n|case)?(n?cmp|len|str|r?chr)|memcmp|bsearch|_?printk|_dev_\w+|__warn_printk|__dynamic_(pr|dev)_debug"
)
_READING = (Doing.READ, Doing.INDEX, Doing.COMPARE)


class _Setting(NamedTuple):
    """One instruction that sets a variable. `context` is what tells it from others: the instruction itself, what its
    value comes from, and what is done with an address."""

    key: VariableKey
    context: bytes
    variable: str


def judge_init_refusals(units: Sequence[Changes], ignore: bool) -> list[tuple[list[Refusal], list[Refusal]]]:
    """For each unit of a patch, the refusals that remain and those that --ignore-init leaves out (none without
    `ignore`). Where the rest of the patch needs what a change of init code sets, the refusal says so, and its remedy no
    longer offers to leave the change out."""
    needed = find_needed(units)
    out = []
    for changes in units:
        kept: list[Refusal] = []
        left_out: list[Refusal] = []
        for refusal in changes.refusals:
            why = needed.get((changes.place, refusal.symbol), "") if refusal.code == CODE else ""
            if why:
                kept.append(
                    replace(refusal, fact=f"{refusal.fact}; {why}, so that it can't be left out", remedy=IN_A_CALLBACK)
                )
            else:
                (left_out if ignore and refusal.code == CODE else kept).append(refusal)
        out.append((kept, left_out))
    return out


def find_needed(units: Iterable[Changes]) -> dict[tuple[str, str], str]:
    """By (unit, init function or init data), what its change sets and who in the patch uses that, in a clause.

    `units` are all units of a patch. What is not in the result may be left out.
    """
    return _Needs(list(units)).run()


class _Needs:
    def __init__(self, units: list[Changes]) -> None:
        self.units = units
        self.defined: dict[str, list[_Place]] = defaultdict(list)
        for number, changes in enumerate(units):
            for atom in changes.patched.atoms:
                if atom.kind in (FUNCTION, DATA) and not atom.is_local:
                    for name in atom.names:
                        self.defined[name].append((number, atom.id))

    def run(self) -> dict[tuple[str, str], str]:
        begun = [
            (number, name, atom)
            for number, changes in enumerate(self.units)
            for name in _init_names(changes)
            for atom in changes.patched.by_name.get(name, ())
        ]
        if not begun:
            return {}
        registered = {(number, atom.id): self._reached(self._newly_referred(number, atom)) for number, _, atom in begun}
        used = self._used({place for places in registered.values() for place in places})
        out: dict[tuple[str, str], str] = {}
        for number, name, atom in begun:
            for setting in self._sets(number, atom, registered[number, atom.id]):
                if setting.key in used:
                    clause = f"it sets {setting.variable}, which {used[setting.key]} uses"
                    out.setdefault((self.units[number].place, name), clause)
        return out

    # -- what the rest uses -------------------------------------------------------------------------------------

    def _used(self, by_init: Collection[_Place]) -> dict[VariableKey, str]:
        """What changed functions refer to, and those that they call; each with one of the changed functions. A new
        function that nothing but the init code leads to is never run without it."""
        out: dict[VariableKey, str] = {}
        for number, changes in enumerate(self.units):
            roots = [c.patched for c in changes.changed]
            roots += [a for a in changes.new if (number, a.id) not in by_init]
            for root in roots:
                for at, identity in self._reached([(number, root.id)]):
                    view = self.units[at].patched
                    if view.atoms[identity].kind == FUNCTION:
                        for target in self._refs(at, view.atoms[identity]):
                            if (key := _key(at, view, view.atoms[target])) is not None:
                                out.setdefault(key, root.name)
        return out

    def _reached(self, places: Iterable[_Place]) -> dict[_Place, None]:
        """Functions, and the data that holds pointers to some, that these lead to, themselves included; in all units
        of the patch. Init code is not followed: nothing that still runs reaches it."""
        out: dict[_Place, None] = {}
        todo = list(places)
        while todo:
            place = todo.pop()
            if place in out:
                continue
            out[place] = None
            number, identity = place
            view = self.units[number].patched
            atom = view.atoms[identity]
            for target in self._refs(number, atom):
                found = view.atoms[target]
                # a variable that code refers to leads on through what it was initialised with
                if found.kind in (FUNCTION, DATA) and not (is_init(view, found) and not is_init(view, atom)):
                    todo.append((number, target))
                elif found.kind == UNDEFINED:
                    todo += self.defined.get(found.name, ())
        return out

    def _refs(self, number: int, atom: Atom) -> Iterator[int]:
        changes = self.units[number]
        view = changes.patched
        yield from _refs(view, changes.patched_entries, atom)
        if atom.kind == FUNCTION:
            for half in (a for n in atom.names for a in view.by_name.get(f"{n}.cold", ())):
                yield from _refs(view, changes.patched_entries, half)

    # -- what a change of init code sets ------------------------------------------------------------------------

    def _newly_referred(self, number: int, atom: Atom) -> list[_Place]:
        """The functions and data that an init function refers to more often than it did. For init data: the functions
        that its pointers lead to."""
        changes = self.units[number]
        before: Counter[str] = Counter()
        for i in changes.correlation.to_original.get(atom.id, ()):
            before.update(
                changes.orig.atoms[t].name for t in _refs(changes.orig, changes.original_entries, changes.orig.atoms[i])
            )
        renamed = {
            new: changes.orig.atoms[old].name for old, found in changes.correlation.to_patched.items() for new in found
        }
        out: list[_Place] = []
        for target in self._refs(number, atom):
            found = changes.patched.atoms[target]
            name = renamed.get(target, found.name)
            if before[name]:
                before[name] -= 1
            elif found.kind == UNDEFINED:
                out += self.defined.get(found.name, ())
            elif found.kind in (FUNCTION, DATA):
                out.append((number, target))
        return out

    def _sets(self, number: int, atom: Atom, registered: Iterable[_Place]) -> Iterator[_Setting]:
        """All that a change of an init function or of init data sets."""
        changes = self.units[number]
        if atom.kind == FUNCTION:
            yield from _newly_set(number, changes, atom, self.defined)
        else:  # what reads the data does otherwise
            view = changes.patched
            for function in view.functions:
                if is_init(view, function) and atom.id in set(_refs(view, changes.patched_entries, function)):
                    yield from _settings(number, view, function, None, self.defined)
        for at, identity in registered:
            view = self.units[at].patched
            yield from _settings(at, view, view.atoms[identity], None, self.defined)


def _init_names(changes: Changes) -> list[str]:
    """Functions and data in init memory whose change is refused as such."""
    named = [*changes.init_changed, *(r.symbol for r in changes.refusals if r.code == CODE)]
    return list(dict.fromkeys(named))


def _key(number: int, view: View, atom: Atom) -> VariableKey | None:
    if atom.kind == UNDEFINED:
        return -1, atom.name
    if atom.kind != DATA or not (is_state(view, atom) or _is_set_at_boot(view, atom)):
        return None
    return (number, atom.id) if atom.is_local else (-1, atom.name)


def _is_set_at_boot(view: View, atom: Atom) -> bool:
    return view.section_of(atom).writable and not is_init(view, atom)


def _refs(view: View, entries: Entries, atom: Atom) -> Iterator[int]:
    try:
        yield from [r.atom for r in view.refs(atom)]
        yield from [r.atom for e in entries.of(atom.id) for r in e.refs]
    except Ambiguous:
        return


def _newly_set(number: int, changes: Changes, atom: Atom, defined: Collection[str]) -> Iterator[_Setting]:
    """The variables that an init function sets as it did not before, or no longer."""
    before: list[_Setting] = []
    for i in changes.correlation.to_original.get(atom.id, ()):
        orig, paired = changes.orig.atoms[i], changes.correlation.to_patched
        before += _settings(number, changes.orig, orig, paired, defined)
    now = list(_settings(number, changes.patched, atom, None, defined))
    remaining = Counter((s.key, s.context) for s in now) - Counter((s.key, s.context) for s in before)
    yield from (s for s in now if remaining[s.key, s.context])
    # what it set once, and the patched source has as it was
    still = {s.key for s in now}
    yield from (s for s in before if s.key not in still)


def _settings(
    number: int,
    view: View,
    atom: Atom,
    patched: Mapping[int, tuple[int, ...]] | None,
    defined: Collection[str],
) -> Iterator[_Setting]:
    """Each instruction of a function that sets a variable. `patched` says which atom of the patched object an
    original's is; `defined` are the globals of the patched units. What functions elsewhere do with the address of a
    variable of the kernel is not taken for setting it: masks of CPUs, locks and lists are handed around everywhere."""
    if atom.kind != FUNCTION:
        return
    try:
        refs = view.refs(atom)
        code = _InitCode(view, atom)
    except Ambiguous:
        return
    at = 0
    for index, effect in enumerate(code.effects):
        while at < len(refs) and refs[at].offset < effect.offset + effect.length:
            target = view.atoms[refs[at].atom]
            at += 1
            key = _key(number, view, target)
            if key is None or effect.calls or effect.leaves or effect.branches:
                continue
            if effect.loads and not effect.stores and not _is_pointer(view, target):
                continue
            if patched is not None and target.kind == DATA and target.is_local:
                key = (number, (*patched.get(target.id, ()), -1)[0])
            if not (effect.loads or effect.stores) and code.only_read(
                refs[at - 1].offset, target.kind == UNDEFINED and target.name not in defined
            ):
                continue
            context = code.context(index, filled=_is_pointer(view, target))
            yield _Setting(key, context, source_name(target))


def _is_pointer(view: View, atom: Atom) -> bool:
    """Whether a variable of the unit is as large as a pointer, and so may lead to what is set."""
    return atom.kind == DATA and atom.size == _POINTER and not is_anonymous(view, atom)


def _ends_run(effect: Effect) -> bool:
    return effect.branches or effect.leaves or effect.calls


class _InitCode:
    """The instructions of a function, without what a link writes into them."""

    def __init__(self, view: View, atom: Atom) -> None:
        masked, content = view.masked(atom), view.content(atom)
        self.effects: list[Effect] = view.arch.effects(content)
        names = {r.offset: view.atoms[r.atom].name.partition(".")[0] for r in view.refs(atom)}
        self.callees = {r.offset: view.atoms[r.atom].name for r in view.refs(atom) if r.delta == 0}
        self.uses: dict[int, list[Use]] = defaultdict(list)
        for use in view.arch.uses_of(content, sorted(self.callees)):
            self.uses[use.field].append(use)
        self.texts: list[bytes] = []
        self.named: list[str] = []
        self.constants: list[bool] = []
        formatted = view.arch.format(content, {})
        operands = {f.offset: f.operands for f in formatted}
        written = {f.offset: f.mnemonic.startswith("mov") and f.operands.startswith("$") for f in formatted}
        self.joins = {e.target for e in self.effects if e.branches or e.leaves}
        self.operands = [operands.get(e.offset, "") for e in self.effects]
        for effect in self.effects:
            end = effect.offset + effect.length
            named = " ".join(n for offset, n in names.items() if effect.offset <= offset < end)
            flows = effect.branches or (effect.leaves and effect.target is not None)
            text = b"%d" % effect.mnemonic if flows else masked[effect.offset : end]
            self.texts.append(text + named.encode())
            self.named.append(named)
            self.constants.append(written.get(effect.offset, False))

    def only_read(self, field: int, foreign: bool) -> bool:
        """Whether all that is seen to be done with the address in a field leaves what is there as it was: it is read,
        compared, or given to a function that reads it or locks it; with `foreign`, to any."""
        uses = [use for use in self.uses.get(field, ()) if use.doing != Doing.ADDRESS]
        return bool(uses) and all(
            use.doing in _READING
            or (use.doing == Doing.PASS and (foreign or _READERS.fullmatch(self.callees.get(use.call, ""))))
            for use in uses
        )

    def context(self, index: int, filled: bool) -> bytes:
        """What a setting depends on: of a constant, whether a condition is right before it; of another value that is
        written, all since the last branch, and what may fill the memory that it leads to (`filled`); of an address or
        pointer, all up to the first call that may take it, or to where the function leaves."""
        effect = self.effects[index]
        if self.constants[index] and effect.stores:
            before = next((i for i in reversed(range(index)) if _ends_run(self.effects[i])), -1)
            conditional = before >= 0 and self.effects[before].branches
            return self.texts[index] + (self.texts[before] if conditional else b"")
        if effect.stores:
            first = self._value_from(index)
            return b";".join([*self.texts[first : index + 1], *(self._fills(index + 1) if filled else ())])
        last = index
        while last + 1 < len(self.effects) and not self.effects[last].leaves:
            last += 1
            if self.effects[last].calls and not effect.loads:
                break
        return b";".join(self.texts[index : last + 1])

    def _value_from(self, index: int) -> int:
        """The first instruction that what is written may come from: after the last branch, where the value is made
        there, by an instruction or by a call, and no branch leads in between; else the first of the function."""
        first = index
        while first and not (self.effects[first - 1].branches or self.effects[first - 1].leaves):
            first -= 1
        value = self.operands[index].partition(",")[0]
        made = any(
            self.effects[at].calls or self.operands[at].rpartition(",")[2] == value for at in range(first, index)
        )
        return first if made and not any(self.effects[at].offset in self.joins for at in range(first, index + 1)) else 0

    def _fills(self, first: int) -> Iterator[bytes]:
        """What may write through a register, up to where the function leaves: stores that name no variable, and calls
        other than for messages."""
        for effect, text, name in zip(self.effects[first:], self.texts[first:], self.named[first:], strict=True):
            if effect.leaves:
                return
            if (effect.calls and name not in _MESSAGES) or (effect.stores and not name):
                yield text
