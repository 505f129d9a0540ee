# SPDX-License-Identifier: GPL-2.0-or-later
"""What a closure is made of: units, members, redirections. Values without rules; those are in redirect and closure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

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


@dataclass(frozen=True)
class UnitResult:
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


@dataclass(frozen=True)
class Callback:
    """A function of the patch that the kernel calls around patching an object. `kind` is one of author.CALLBACKS."""

    unit: int
    atom: Atom
    kind: str
    object: str


class StateLine(NamedTuple):
    """What a writable variable is that only the patched source has: `verdict` is same, declared, filled or new
    (state_verdicts); `original` and `original_unit` name the kernel's that it goes on, "" for none."""

    variable: str
    unit: str
    object: str
    verdict: str
    original: str
    original_unit: str
    why: str


TRACEPOINT, PR_DEBUG = "tracepoint", "pr_debug"


@dataclass(frozen=True, order=True)
class DroppedKey:
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


@dataclass
class Closure:
    """The whole of a patch. `bound[(unit, atom id)]` says what an atom outside the module is bound to where it is
    referred to; atoms in `members` are in the module. `defined[(unit, atom id)]` is the member, of any unit, that an
    undefined symbol stands for. `dropped` are special-section entries left out on purpose, by section and index;
    `dropped_keys` are the switches that have no effect because of that, or because the module has its own.
    `constants` says for a variable whose value the kernel writes into code when it boots what it is bound to.
    `literals[(unit, atom id, offset)]` is the constant of the kernel that a member's reference at that offset means.
    `thunks` are functions of the kernel, by symbol, pointers to which must lead to a thunk in the module.
    `state` says of each variable that only the patched source has and that is used what it is.
    `states` are the system states the patch stands for, id -> version. `needs` are units that must be compiled first
    because functions of theirs come along, each with the reasons."""

    units: tuple[UnitResult, ...]
    members: dict[tuple[int, int], Member] = field(default_factory=dict)
    bound: dict[tuple[int, int], Bound] = field(default_factory=dict)
    redirects: list[Redirect] = field(default_factory=list)
    callbacks: list[Callback] = field(default_factory=list)
    states: dict[int, int] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    namespaces: set[str] = field(default_factory=set)
    defined: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    dropped: set[tuple[int, str, int]] = field(default_factory=set)
    dropped_keys: set[DroppedKey] = field(default_factory=set)
    needs: dict[str, list[str]] = field(default_factory=dict)
    constants: dict[str, Bound] = field(default_factory=dict)
    thunks: dict[str, Bound] = field(default_factory=dict)
    state: dict[tuple[int, int], StateLine] = field(default_factory=dict)
    literals: dict[tuple[int, int, int], Literal] = field(default_factory=dict)

    @property
    def targets(self) -> list[str]:
        """Modules that this patch changes, in order."""
        return sorted(({r.object for r in self.redirects} | {c.object for c in self.callbacks}) - {VMLINUX})

    def entries(self, unit: int, atom: Atom) -> tuple[SpecialEntry, ...]:
        """Special-section entries that come along with an atom."""
        found = self.units[unit].changes.patched_entries.of(atom.id)
        return tuple(e for e in found if (unit, e.section, e.index) not in self.dropped)

    def binds_to_kernel(self, unit: int, source: Atom, ref: Ref) -> bool:
        """Whether this reference leaves the module although its target is in it: a pointer to a patched function
        must be the kernel's, since pointers are stored and compared elsewhere."""
        changes = self.units[unit].changes
        target = changes.patched.atoms[ref.atom]
        member = self.members.get((unit, target.id))
        if member is None:
            return True
        if member.role not in ("changed", "pulled") or target.kind != FUNCTION or ref.delta != 0:
            return False
        return not is_branch(changes.patched, source, ref)


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
        return all(not (a and b) or a == b for a, b in ((self.object, other.object), (self.unit, other.unit)))


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
