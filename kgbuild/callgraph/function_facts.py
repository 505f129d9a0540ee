# SPDX-License-Identifier: GPL-2.0-or-later
"""Facts about one function: what the compiler made of it, who reaches it, whether it can be redirected."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kgbuild.callgraph.model import Function, Name
from kgbuild.callgraph.traversal import NO_BODY
from kgbuild.diff.ipa_clones import EVIDENCE, IpaClones
from kgbuild.objects.clone_names import Clone, Shared

if TYPE_CHECKING:
    from kgbuild.debuginfo.compile_flags import Flag
    from kgbuild.debuginfo.dwarf_units import Inlined


@dataclass(frozen=True)
class Caller:
    """A function that calls or refers to this one: name, object, unit, offsets of the references, and their kind."""

    name: str
    object: str
    unit: str
    places: tuple[int, ...]
    kinds: tuple[str, ...]


@dataclass(frozen=True)
class Holder:
    """Data that contains the function's address. `type` is its C type if debugging information tells; `users` are
    functions that take the address of that data, of `user_count` in all."""

    object: str
    name: str
    section: str
    offset: int
    type: str
    users: tuple[str, ...]
    user_count: int


@dataclass(frozen=True)
class Relative:
    """Another function made from the same source function: name, size, and what gcc did to make it."""

    name: str
    size: int
    kinds: tuple[str, ...]


@dataclass(frozen=True)
class InlinedInto:
    """A function of the same unit into which this one was inlined: how often, and source lines of the calls."""

    name: str
    copies: int
    lines: tuple[int, ...]


@dataclass(frozen=True)
class Made:
    """A step by which gcc derived a function: the new function, the one it was derived from, and how ("isra")."""

    name: str
    of: str
    how: str


@dataclass(frozen=True)
class CompilerFacts:
    """What gcc reported about the function when its unit was compiled.

    made      the steps that derived it from another function, first to last
    clones    functions derived from it
    into      functions that it was inlined into, also indirectly (`into_count` in all)
    holds     functions that were inlined into it (`holds_count` in all)
    complete  whether gcc's dump is complete
    flags     relevant compiler options of the unit; `optimized`: places with options for single functions
    """

    made: tuple[Made, ...]
    clones: tuple[Made, ...]
    into: tuple[str, ...]
    into_count: int
    holds: tuple[str, ...]
    holds_count: int
    complete: bool
    flags: tuple[Flag, ...]
    optimized: tuple[tuple[str, int, str], ...]
    evidence: str = EVIDENCE


def compiler_facts(
    dump: IpaClones,
    names: Iterable[str],
    flags: Sequence[Flag],
    optimized: Sequence[tuple[str, int, str]],
    limit: int | None = None,
) -> CompilerFacts:
    """What a unit's dump says of a function under any of its names; lists of names are cut at `limit`."""
    own = list(dict.fromkeys(names))
    made = [Made(s.result.name, s.source.name, s.kind) for name in own for s in dump.history(name)]
    clones = [Made(s.result.name, s.source.name, s.kind) for name in own for s in dump.made_of(name)]
    into = sorted({n for name in own for n in dump.inlined_into(name)} - set(own))
    holds = sorted({n for name in own for n in dump.inlines(name)} - set(own))
    return CompilerFacts(
        tuple(dict.fromkeys(made)),
        tuple(dict.fromkeys(clones)),
        tuple(into[:limit]),
        len(into),
        tuple(holds[:limit]),
        len(holds),
        dump.complete and not dump.unread,
        tuple(flags),
        tuple(optimized),
    )


@dataclass(frozen=True)
class FunctionFacts:
    """All facts about one function (pipeline/function_facts.py). Each `_count` is the full number if a list was cut.
    `compiler` is None if the unit has not been compiled here."""

    function: Function
    unit: str
    unit_evidence: str
    noinstr: bool
    names: tuple[Name, ...]
    shared: Shared | None
    clone: Clone | None
    relatives: tuple[Relative, ...]
    inlined: tuple[InlinedInto, ...]
    inlined_count: int
    inlined_unknown: str
    callers: tuple[Caller, ...]
    caller_count: int
    takers: tuple[Caller, ...]
    taker_count: int
    holders: tuple[Holder, ...]
    holder_count: int
    callee_count: int
    indirect_calls: int
    neighbours: dict[str, int]
    compiler: CompilerFacts | None = None

    @property
    def traceable(self) -> bool:
        return self.function.trace_site is not None

    @property
    def exported(self) -> bool:
        return any(n.exported for n in self.names)

    @property
    def why_not_redirectable(self) -> str:
        """Why ftrace can't redirect the function; "" if it can."""
        if self.function.id == NO_BODY:
            return "it has no body of its own; what it is inlined into is patched"
        if self.function.init:
            return "its memory is freed after it has run"
        if self.traceable:
            return ""
        if self.clone is not None and "cold" in self.clone.kinds:
            return "a cold half is entered by jumps from its other half only"
        if self.noinstr:
            return "noinstr code, or an entry of the kernel"
        return "no ftrace site (notrace, or a unit compiled without -pg)"


def summarise_inlined(inlined: Iterable[Inlined]) -> list[InlinedInto]:
    """The inlined copies of one callee, grouped by the function that contains them, by name."""
    lines: dict[str, list[int]] = {}
    for one in inlined:
        lines.setdefault(one.into, []).append(one.line)
    return [InlinedInto(name, len(found), tuple(sorted(set(found)))) for name, found in sorted(lines.items())]
