# SPDX-License-Identifier: GPL-2.0-or-later
"""Types in use keep their structure: the classic way to corrupt a kernel is a patch that grows a structure.

Objects of a type already exist in the running kernel, and variables hold what the original's code put there. So four
things are compared (`typecompare`), whenever code of a unit changes:

- each named structure, union, enumeration and typedef that both objects have;
- the type of each variable that changed code refers to and that both sides have, inside functions too, and of what is
  declared there and defined elsewhere;
- a type that takes the place of another: its name is new, the other's is gone, and changed code has it in a variable of
  the same name, or it has the members that the other had;
- what a variable must be aligned to.

What only code that did not change refers to is left alone: that code stays the kernel's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kgbuild.debuginfo.btf import TypeKey
from kgbuild.debuginfo.plain_types import PlainTypes
from kgbuild.debuginfo.type_comparison import TypeDifference
from kgbuild.debuginfo.type_graph import ENUM, STRUCT, UNION
from kgbuild.diagnostics.refusals import Refusal
from kgbuild.diff.changes import Changes
from kgbuild.elf.read import FormatError
from kgbuild.errors import ToolError
from kgbuild.objects.atoms import DATA, UNDEFINED, Ambiguous, Atom
from kgbuild.objects.local_types import PARAMETER, Local, locals_of
from kgbuild.objects.symbol_kinds import cold_parents, is_anonymous, is_cold, is_init, variable
from kgbuild.objects.variable_types import UnitTypes, alignment, unit_types
from kgbuild.objects.view import View

_CODE = "K9-type-layout"
_VARIABLE = (
    "keep the variable's type and put what is new into a variable of its own or a shadow variable, or name the "
    "variable with --allow-type if nothing is stored in it yet"
)
_RENAMED = (
    "keep the structure as it was (another name for it is no change) and put new members into a shadow variable, or "
    "name it with --allow-type if no such object exists yet"
)
_ENUMERATOR = (
    "give new enumerators new values behind those that exist, or name it with --allow-type if its values are stored "
    "nowhere"
)
_ALIGNED = "make a new variable with this alignment, or name it with --allow-type if no code relies on it"
# words of an enumerator's name that say that it ends or counts the others
_ENDS = frozenset(("MAX", "NR", "NUM", "LAST", "COUNT", "CNT", "END", "SIZE", "TOTAL", "SENTINEL"))
_SIGN = "bits that are stored already stay; a negative value reads as a large one, or the other way round"


@dataclass(frozen=True)
class TypeChange:
    """A type or variable whose structure differs: which ("struct foo", "foo"), its name, what differs, what to do (the
    registry's remedy where this is empty), and the names of the types that differ, by which it can be allowed too."""

    what: str
    name: str
    fact: str
    remedy: str = ""
    types: tuple[str, ...] = ()


@dataclass(frozen=True)
class TypeChanges:
    """What differs, and what is only said: integers of another sign."""

    refused: tuple[TypeChange, ...] = ()
    said: tuple[TypeChange, ...] = ()


def compute_type_changes(changes: Changes, address: Callable[[Atom], int | None] = lambda atom: None) -> TypeChanges:
    """The types and variables of a changed unit that are not what they were. `address` says where an atom of the
    original is in the running kernel, None where that is not known. Raises ToolError where the objects do not describe
    their types."""
    try:
        return _TypeCheck(changes, address).run()
    except FormatError as error:
        raise ToolError(f"type information can't be read: {error}", place=changes.place) from error


def check_types(
    changes: Changes, allowed: frozenset[str], address: Callable[[Atom], int | None] = lambda atom: None
) -> tuple[list[Refusal], list[str]]:
    """Refusals and warnings of `compute_type_changes`; `allowed` are the names of types and variables whose change a
    user accepts. Raises ToolError."""
    found = compute_type_changes(changes, address)
    refusals = []
    warnings = [f"{changes.place}: {change.what}: {change.fact}: {_SIGN}" for change in found.said]
    for change in found.refused:
        # a static local is called what the source calls it, too
        if not allowed.isdisjoint((change.name, change.what, variable(change.name), *change.types)):
            warnings.append(f"{changes.place}: {change.what}: {change.fact}; accepted by --allow-type")
        else:
            refusals.append(
                Refusal(_CODE, f"{changes.place}: {change.what}", change.fact, symbol=change.name, remedy=change.remedy)
            )
    return refusals, warnings


def _is_end(name: str) -> bool:
    """Whether an enumerator says by its name that it only ends or counts the others."""
    return not _ENDS.isdisjoint(name.upper().split("_"))


class _TypeCheck:
    def __init__(self, changes: Changes, address: Callable[[Atom], int | None]) -> None:
        self.changes, self.address = changes, address
        self.types: UnitTypes = unit_types(changes.orig, changes.patched)
        self.refused: list[TypeChange] = []
        self.said: list[TypeChange] = []
        self.told: set[tuple[int, int]] = set()  # pairs of structures that differ and were named

    def run(self) -> TypeChanges:
        if self.types.orig.dwarf is None or self.types.patched.dwarf is None:
            raise ToolError(
                "an object does not describe its types, so that changed structures can't be seen",
                place=self.changes.place,
                remedy="use a compiler with -g and -gbtf (gcc 12 or later)",
            )
        self._named()
        self._variables()
        self._values()
        self._replaced()
        return TypeChanges(tuple(self.refused), tuple(self.said))

    def _named(self) -> None:
        for (kind, name), difference in self.types.changed.items():
            self.refused.append(TypeChange(f"{kind} {name}", name, str(difference), types=self._names(difference)))
            self.told.add(difference.at)
        for key in sorted(self.types.suspects):
            for orig in self.types.orig.named[key]:
                for patched in self.types.patched.named[key]:
                    sign = self.types.by_name.signs.get((orig, patched))
                    if sign is not None and key not in self.types.changed:
                        self.said.append(TypeChange(" ".join(key), key[1], str(sign)))

    def _values(self) -> None:
        """Enumerators that mean another number now, of enumerations without a name, or of one that gets another: what
        is stored already, as an int too, means something else. The end of a list that grows is stored nowhere."""
        patched = self.types.patched
        told = {m.name for _, i in self.told if patched.type(i).kind == ENUM for m in patched.type(i).members}
        moved = [v for v in self.types.values if v.name not in told and not (v.last and _is_end(v.name))]
        if moved:
            name, orig_number, patched_number, _ = moved[0]
            more = f", and {len(moved) - 1} more change" if len(moved) > 1 else ""
            changes = f"{name} changes from {orig_number} to {patched_number}{more}"
            fact = f"{changes}: what is stored already means something else"
            self.refused.append(TypeChange(f"enumerator {name}", name, fact, _ENUMERATOR))

    def _names(self, difference: TypeDifference) -> tuple[str, ...]:
        """By which names a user may call the types that differ."""
        found = (
            types.describe_number(number)
            for types, number in zip((self.types.by_name.orig, self.types.by_name.patched), difference.at, strict=True)
        )
        return tuple(dict.fromkeys(name for text in found for name in (text, text.rpartition(" ")[2])))

    # -- variables ----------------------------------------------------------------------------------------------------

    def changed_functions(self, view: View) -> list[Atom]:
        """The functions of one side that change, are new or gone, with their cold halves."""
        is_orig = view is self.changes.orig
        found = {(c.orig if is_orig else c.patched).id for c in self.changes.changed}
        found |= {a.id for a in (self.changes.removed if is_orig else self.changes.new)}
        cold = [a for a in view.functions if is_cold(a) and any(q.id in found for q in cold_parents(a, view))]
        return [*(view.atoms[i] for i in sorted(found)), *cold]

    def _variables(self) -> None:
        view, seen = self.changes.patched, set()
        for function in self.changed_functions(view):
            try:
                refs = view.refs(function)
            except Ambiguous:  # refused where it is followed
                continue
            for number in dict.fromkeys(r.atom for r in refs):
                atom = view.atoms[number]
                if number not in seen and atom.kind in (DATA, UNDEFINED):
                    seen.add(number)
                    self._variable(atom, function)

    def _variable(self, patched: Atom, user: Atom) -> None:
        """Compare one variable that changed code refers to."""
        if patched.kind == UNDEFINED:
            orig_extern, patched_extern = (
                self.types.orig.externs.get(patched.name),
                self.types.patched.externs.get(patched.name),
            )
            if orig_extern is not None and patched_extern is not None:
                self._judge(
                    patched.name,
                    user,
                    self.types.by_name.difference_of_use(orig_extern.type, patched_extern.type),
                    (orig_extern.type, patched_extern.type),
                )
            return
        if is_anonymous(self.changes.patched, patched) or is_init(self.changes.patched, patched):
            return
        for number in self.changes.correlation.to_original.get(patched.id, ()):
            orig = self.changes.orig.atoms[number]
            if orig.size != patched.size:
                continue  # K1
            orig_type = self.types.orig.variable(orig.section, orig.offset)
            patched_type = self.types.patched.variable(patched.section, patched.offset)
            if orig_type is None and patched_type is None:
                continue  # of assembly, or a macro's: without a type in C
            if orig_type is None or patched_type is None:
                side = "original" if orig_type is None else "patched object"
                fact = f"debugging information of the {side} does not say of what type it is"
                self.refused.append(TypeChange(patched.name, patched.name, fact, _VARIABLE))
                continue
            difference = self.types.by_name.difference_of_use(orig_type.type, patched_type.type)
            constant = self.changes.orig.is_const(orig) and self.changes.patched.is_const(patched)
            if difference is not None and not difference.through_pointer and constant:
                difference = None  # its bytes are compared: whatever they mean, they are the patched source's
            self._judge(patched.name, user, difference, (orig_type.type, patched_type.type))
            if difference is None and (not constant or patched_type.align):
                self._aligned(
                    orig,
                    patched,
                    alignment(self.changes.orig, orig, orig_type),
                    alignment(self.changes.patched, patched, patched_type),
                )

    def _judge(self, name: str, user: Atom, difference: TypeDifference | None, pair: tuple[int, int]) -> None:
        if difference is not None:
            fact = f"its type changes, and {user.name} uses it: {difference}"
            self.refused.append(TypeChange(name, name, fact, _VARIABLE, self._names(difference)))
            self.told.add(difference.at)
        elif pair in self.types.by_name.signs:
            self.said.append(TypeChange(name, name, str(self.types.by_name.signs[pair])))

    def _aligned(self, orig: Atom, patched: Atom, orig_align: int, patched_align: int) -> None:
        """An alignment that the compiler assumed must be there where the kernel has the variable."""
        if patched_align <= orig_align:
            return
        address = self.address(orig)
        if address is not None and address % patched_align == 0:
            return
        before = f"to {orig_align}" if orig_align else "not"
        there = f"; in the running kernel it is at {address:#x}" if address is not None else ""
        fact = f"is to be aligned to {patched_align} bytes, {before} before{there}"
        self.refused.append(TypeChange(patched.name, patched.name, fact, _ALIGNED))

    # -- types that take another's place ------------------------------------------------------------------------------

    def _replaced(self) -> None:
        gone, new = self.types.gone, self.types.new
        if not gone or not new:
            return
        orig_locals, patched_locals = self._locals(self.changes.orig), self._locals(self.changes.patched)
        for orig, patched, evidence in self._pairs(orig_locals, patched_locals, gone, new):
            difference = self.types.by_name.difference(orig, patched)
            if difference is None or difference.at in self.told:
                continue
            orig_type = self.types.by_name.orig.describe_number(orig)
            patched_type = self.types.by_name.patched.describe_number(patched)
            differs = str(difference).removeprefix(f"{orig_type} -> {patched_type}, ")
            fact = f"takes the place of {orig_type} ({evidence}): {differs}"
            self.refused.append(
                TypeChange(patched_type, patched_type.split()[-1], fact, _RENAMED, self._names(difference))
            )
            self.told.add(difference.at)

    def _locals(self, view: View) -> dict[Local, int]:
        graph = self.types.orig if view is self.changes.orig else self.types.patched
        return locals_of(graph, self.changed_functions(view))

    def _pairs(
        self,
        orig_locals: dict[Local, int],
        patched_locals: dict[Local, int],
        gone: frozenset[TypeKey],
        new: frozenset[TypeKey],
    ) -> Iterator[tuple[int, int, str]]:
        """(original's type, patched object's type, why) of types of which one takes the other's place."""
        compare = self.types.by_name
        orig_types = {
            k: n for k, t in orig_locals.items() if (n := compare.orig.pointed(t)) and compare.orig.key(n) in gone
        }
        patched_types = {
            k: n
            for k, t in patched_locals.items()
            if (n := compare.patched.pointed(t)) and compare.patched.key(n) in new
        }
        met = set()
        # by name rather than by number
        for key in sorted(orig_types.keys() & patched_types.keys(), key=lambda k: (k[2].startswith(PARAMETER), k)):
            function, _, name = key
            met.add((orig_types[key], patched_types[key]))
            yield orig_types[key], patched_types[key], f"{name} of {function}"
        # one that no variable leads to can be used through a cast
        old_types = dict.fromkeys([*orig_types.values(), *self._composites(compare.orig, gone)])
        new_types = dict.fromkeys([*patched_types.values(), *self._composites(compare.patched, new)])
        for old in old_types:
            for fresh in new_types:
                shared = compare.shared_names(old, fresh)
                if (old, fresh) not in met and len(shared) >= 2:
                    yield old, fresh, f"both have {', '.join(shared[:3])}"

    @staticmethod
    def _composites(types: PlainTypes, keys: frozenset[TypeKey]) -> list[int]:
        """The structures and unions among some named types of one object."""
        found = [number for key in sorted(keys) for number in types.graph.named.get(key, ())]
        return [n for n in found if types.plain(n).type.kind in (STRUCT, UNION)]
