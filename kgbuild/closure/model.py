# SPDX-License-Identifier: GPL-2.0-or-later
"""What a closure is made of: units, members, redirections. Values without rules; those are in `closure/passes`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from kgbuild.closure.binding import Bound
from kgbuild.diagnostics.refusals import Refusal
from kgbuild.diff.author_macros import NOTHING, Author
from kgbuild.diff.changes import Changes
from kgbuild.diff.ipa_clones import NO_CLONES, IpaClones
from kgbuild.model import VMLINUX
from kgbuild.objects.atoms import FUNCTION, Atom, Ref
from kgbuild.objects.special_entries import SpecialEntry
from kgbuild.objects.symbol_kinds import is_branch
from kgbuild.proof.parity import ParityProof

# An atom of a patched object: the number of its unit, its id.
MemberKey = tuple[int, int]
# A special-section entry: the number of its unit, the section, its index there.
DroppedEntry = tuple[int, str, int]
# Roles of members that take the place of the kernel's function, by a redirection of their own or of their callers.
REPLACED = ("changed", "pulled")


class UnitResult(NamedTuple):
    """One unit, compiled, compared and proven: what the closure starts from. `target` is the object of the running
    kernel that it is part of: "vmlinux" or a module's name. A unit in two modules is there twice. `author` is what the
    macros of its patched text ask for, `clones` what gcc says of the patched object's functions."""

    source: str
    changes: Changes
    parity: ParityProof
    target: str = VMLINUX
    author: Author = NOTHING
    clones: IpaClones = NO_CLONES


class Member(NamedTuple):
    """One atom that goes into the module, and why. `role` is changed, pulled, new, carried, cold, prefix
    or data; `via` is the member it came with, None for what the patch itself changes."""

    unit: int
    atom: Atom
    role: str
    reason: str
    via: tuple[int, int] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return self.atom.names


class Redirect(NamedTuple):
    """One klp_func: the kernel's function and the module's."""

    unit: int
    atom: Atom
    name: str
    sympos: int
    address: int
    object: str = "vmlinux"


class Callback(NamedTuple):
    """A function of the patch that the kernel calls around patching an object. `kind` is one of author.CALLBACKS."""

    unit: int
    atom: Atom
    kind: str
    object: str


class StateLine(NamedTuple):
    """What a writable variable is that only the patched source has: `verdict` is same, declared, filled or new
    (state_verdicts); `orig` and `orig_unit` name the kernel's that it goes on, "" for none."""

    variable: str
    unit: str
    object: str
    verdict: str
    orig: str
    orig_unit: str
    why: str


TRACEPOINT, PR_DEBUG = "tracepoint", "pr_debug"
STATIC_KEY, STATIC_CALL_KEY = "static key", "static call"
# what the symbol of a static call's key begins with
STATIC_CALL = "__SCK__"
# and that of its trampoline, which may be exported without the key
TRAMPOLINE = "__SCT__"


class DroppedKey(NamedTuple):
    """The switch of a tracepoint or of pr_debug messages that does nothing for patched code.

    unit      the unit's source
    function  in which it is
    object    whose key it is: "vmlinux" or a module's name
    kind      TRACEPOINT, or PR_DEBUG for all of a function together
    name      of the tracepoint
    own       descriptors of the patch module that are there instead; none for a tracepoint
    """

    unit: str
    function: str
    object: str
    kind: str
    name: str = ""
    own: int = 0

    def __str__(self) -> str:
        whose = "the kernel" if self.object == VMLINUX else f"the module {self.object}"
        place = f"{self.unit}: {self.function}"
        if self.kind == TRACEPOINT:
            return (
                f"{place}: the key of the tracepoint {self.name} of {whose} is dropped: it stays off in patched code, "
                "and nothing replaces it"
            )
        instead = (
            f"the patch module's own replace it ({self.own} pr_debug), off until switched on under the patch module's "
            "name"
            if self.own
            else "nothing replaces it"
        )
        return f"{place}: the key of pr_debug of {whose} is dropped in patched code; {instead}"


class LateKey(NamedTuple):
    """A static key, or the key of a static call, of a target module that a member depends on: it can't be set up when
    the patch module loads, but it can be read at run time. `unit` is the unit's number, `name` the key's symbol."""

    unit: int
    name: str

    @property
    def call(self) -> str:
        """The name of the static call; "" for a static key."""
        return self.name.removeprefix(STATIC_CALL) if self.name.startswith(STATIC_CALL) else ""


@dataclass(frozen=True, order=True)
class ReadKey:
    """A static key of a target module that a function of the patch reads at run time.

    unit      the unit's source
    function  that reads it
    object    the module that the unit is part of
    kind      STATIC_KEY, or STATIC_CALL_KEY
    name      of the key's symbol, or of the static call
    sites     places in the function
    """

    unit: str
    function: str
    object: str
    kind: str
    name: str
    sites: int


class Contents(Protocol):
    """What rules may read of a closure, finished (`Closure`) or under way (`ClosureBuilder`). They change nothing."""

    @property
    def units(self) -> tuple[UnitResult, ...]: ...
    @property
    def members(self) -> Mapping[MemberKey, Member]: ...
    @property
    def bound(self) -> Mapping[MemberKey, Bound]: ...
    @property
    def defined(self) -> Mapping[MemberKey, MemberKey]: ...

    def entries(self, unit: int, atom: Atom) -> tuple[SpecialEntry, ...]:
        """Special-section entries that come along with an atom."""

    def binds_to_kernel(self, unit: int, source: Atom, ref: Ref) -> bool:
        """Whether a reference leaves the module, also where its target is in it."""


def kept_entries(unit: UnitResult, number: int, atom: Atom, dropped: Set[DroppedEntry]) -> tuple[SpecialEntry, ...]:
    """Special-section entries of an atom of the unit `number` of a patch, without those in `dropped`."""
    found = unit.changes.patched_entries.of(atom.id)
    return tuple(e for e in found if (number, e.section, e.index) not in dropped)


def leaves_module(unit: UnitResult, member: Member | None, source: Atom, ref: Ref) -> bool:
    """Whether a reference from `source` leaves the module; `member` is what it leads to, None for no member. A pointer
    to a patched function must be the kernel's, since pointers are stored and compared elsewhere."""
    if member is None:
        return True
    if member.role not in REPLACED or member.atom.kind != FUNCTION or ref.delta != 0:
        return False
    return not is_branch(unit.changes.patched, source, ref)


def nothing() -> Mapping[Any, Any]:
    """A mapping without entries that nobody can add to."""
    return MappingProxyType({})


@dataclass(frozen=True)
class Closure:
    """The whole of a patch, as a `ClosureBuilder` made it. Nothing changes it; a stage that has more to say makes
    another with dataclasses.replace.

    members       atoms that are in the module, by (unit, atom id)
    bound         what an atom outside the module is bound to where it is referred to, by (unit, atom id)
    defined       the member, of any unit, that an undefined symbol means, by (unit, atom id)
    redirects     functions of the kernel that are redirected
    callbacks     functions that the kernel calls around patching an object
    states        the system states that the patch declares, id -> version
    namespaces    namespaces of the exports that are bound to
    dropped       special-section entries left out on purpose: unit, section, index
    dropped_keys  switches that have no effect because of that, or because the module has its own
    late_keys     keys of target modules that members depend on, and that could be read at run time instead
    read_keys     keys of target modules that members read at run time
    needs         units that must be compiled first because functions of theirs come along, each with the reasons
    constants     variables whose value the kernel writes into code when it boots, and what they are bound to
    thunks        functions of the kernel, by symbol, pointers to which must lead to a thunk in the module
    state         what each variable is that only the patched source has and that is used, by (unit, atom id)
    literals      the constant of the kernel that a member's reference means, by (unit, atom id, offset)
    assumed       names of exported functions that can't be redirected, and of which all callers that are known are in
                  the module: those of modules that are not the kernel's own are not
    """

    units: tuple[UnitResult, ...]
    members: Mapping[MemberKey, Member] = field(default_factory=nothing)
    bound: Mapping[MemberKey, Bound] = field(default_factory=nothing)
    redirects: tuple[Redirect, ...] = ()
    callbacks: tuple[Callback, ...] = ()
    states: Mapping[int, int] = field(default_factory=nothing)
    refusals: tuple[Refusal, ...] = ()
    warnings: tuple[str, ...] = ()
    namespaces: frozenset[str] = frozenset()
    defined: Mapping[MemberKey, MemberKey] = field(default_factory=nothing)
    dropped: frozenset[DroppedEntry] = frozenset()
    dropped_keys: frozenset[DroppedKey] = frozenset()
    needs: Mapping[str, tuple[str, ...]] = field(default_factory=nothing)
    constants: Mapping[str, Bound] = field(default_factory=nothing)
    thunks: Mapping[str, Bound] = field(default_factory=nothing)
    state: Mapping[MemberKey, StateLine] = field(default_factory=nothing)
    literals: Mapping[tuple[int, int, int], Literal] = field(default_factory=nothing)
    late_keys: frozenset[LateKey] = frozenset()
    read_keys: frozenset[ReadKey] = frozenset()
    assumed: tuple[str, ...] = ()

    @property
    def targets(self) -> list[str]:
        """Modules that this patch changes, in order."""
        return sorted(({r.object for r in self.redirects} | {c.object for c in self.callbacks}) - {VMLINUX})

    def entries(self, unit: int, atom: Atom) -> tuple[SpecialEntry, ...]:
        """Special-section entries that come along with an atom."""
        return kept_entries(self.units[unit], unit, atom, self.dropped)

    def binds_to_kernel(self, unit: int, source: Atom, ref: Ref) -> bool:
        """Whether a reference leaves the module, also where its target is in it."""
        return leaves_module(self.units[unit], self.members.get((unit, ref.atom)), source, ref)


_NUMBER = re.compile(r"\.\d+$")


class NewVariable(NamedTuple):
    """A variable of a patch: the object and the unit that it belongs to (both "" where the module does not say),
    its name as in the module, its size in bytes."""

    object: str
    unit: str
    name: str
    size: int

    def means(self, other: NewVariable) -> bool:
        """Whether both are the same variable of the source, as far as is known."""
        if _source_name(self.name) != _source_name(other.name):
            return False
        known = ((self.object, other.object), (self.unit, other.unit))
        return all("" in pair or pair[0] == pair[1] for pair in known)


def _source_name(name: str) -> str:
    """Without the number that the compiler gives a static local."""
    return _NUMBER.sub("", name)


class Literal(NamedTuple):
    """One constant of the kernel: the symbol it is found by, with that symbol's address; its own address (link time),
    its bytes, and how its place is known."""

    bound: Bound
    address: int
    data: bytes
    evidence: str

    @property
    def delta(self) -> int:
        """How many bytes behind the symbol it begins (before it: less than 0)."""
        return self.address - self.bound.address
