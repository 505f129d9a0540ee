# SPDX-License-Identifier: GPL-2.0-or-later
"""Facts about one function, as values: what the compiler made of it, who reaches it, whether it can be redirected."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kgbuild.analysis.callgraph import Function, Name
from kgbuild.analysis.optimizations import Clone, Shared

if TYPE_CHECKING:
    from kgbuild.analysis.dwarf5 import Inlined


@dataclass(frozen=True)
class Caller:
    """A function that leads here: name, object, unit, offsets of the references in it, how."""

    name: str
    object: str
    unit: str
    places: tuple[int, ...]
    kinds: tuple[str, ...]


@dataclass(frozen=True)
class Holder:
    """Data that holds the address: `type` is its C type where debugging information says it; `users` take the address
    of that data, `user_count` of them in all."""

    object: str
    name: str
    section: str
    offset: int
    type: str
    users: tuple[str, ...]
    user_count: int


@dataclass(frozen=True)
class Relative:
    """Another piece of the same source function: name, size, what gcc did to get it."""

    name: str
    size: int
    kinds: tuple[str, ...]


@dataclass(frozen=True)
class InlinedInto:
    """A function of the same unit that holds a copy of the body: how often, source lines of the calls."""

    name: str
    copies: int
    lines: tuple[int, ...]


@dataclass(frozen=True)
class Facts:
    """See host/facts.py: each `_count` says how many there are, where the list was cut."""

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

    @property
    def traceable(self) -> bool:
        return self.function.trace_site is not None

    @property
    def exported(self) -> bool:
        return any(n.exported for n in self.names)

    @property
    def why_not_redirectable(self) -> str:
        """Why ftrace can't redirect it, "" where it can."""
        if self.function.init:
            return "its memory is freed after it has run"
        if self.traceable:
            return ""
        if self.clone is not None and "cold" in self.clone.kinds:
            return "a cold half is entered by jumps from its other half only"
        if self.noinstr:
            return "noinstr code, or an entry of the kernel"
        return "no ftrace site (notrace, or a unit compiled without -pg)"


def summarise(inlined: Iterable[Inlined]) -> list[InlinedInto]:
    """Copies of one callee by the function that holds them, by name."""
    lines: dict[str, list[int]] = {}
    for one in inlined:
        lines.setdefault(one.into, []).append(one.line)
    return [InlinedInto(name, len(found), tuple(sorted(set(found)))) for name, found in sorted(lines.items())]
