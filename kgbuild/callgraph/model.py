# SPDX-License-Identifier: GPL-2.0-or-later
"""The call graph of a kernel as questions and answers: what an index offers, and the part a question reaches.

Functions are known by a number of the index; `Function` and the rest are plain values. Nothing here needs numpy or
networkx until a whole DiGraph is asked for, so that one question is answered in the time a process takes to start.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from kgbuild.callgraph.edge_kinds import EdgeKind
from kgbuild.errors import UserError

CALLERS, CALLEES = "callers", "callees"


def split_name(wanted: str) -> tuple[str, str, str]:
    """(name, place, position) of `NAME`, `NAME@UNIT`, `NAME@MODULE`, `NAME,POSITION` or both; "" for what is not said.
    Raises UserError where the position is no number."""
    name, _, position = wanted.partition(",")
    name, _, place = name.partition("@")
    if position and not position.isdigit():
        raise UserError(f"{position!r} is no position", place=wanted, remedy="say NAME,POSITION with a number")
    return name, place, position


@dataclass(frozen=True)
class Function:
    """One body of code.

    id          its number in the index
    object      "vmlinux" or the module's name (with underscores)
    name        a global name before a weak one before a local one; `Index.aliases` gives the others
    section     name of its section
    address     link address (unsigned) in vmlinux; offset in the section in a module
    size        bytes
    trace_site  offset of the ftrace site in it, None where it has none: it can't be redirected
    init        its memory is freed after boot, or after the module's init
    unit        source file of its translation unit, or the name the symbol table gives; "" where unknown
    """

    id: int
    object: str
    name: str
    section: str
    address: int
    size: int
    trace_site: int | None
    init: bool
    unit: str

    @property
    def in_vmlinux(self) -> bool:
        return self.object == "vmlinux"


@dataclass(frozen=True)
class Name:
    """One symbol of a function: its binding ("local", "global", "weak"), its position (0 unique, None where no
    position names it), whether it is exported, and what gcc derived it from (family "" and no kinds: nothing)."""

    function: int
    name: str
    bind: str
    sympos: int | None
    exported: bool
    family: str


@dataclass(frozen=True, order=True)
class Edge:
    """A reference from one function to another: `offset` bytes into the caller, to `delta` bytes into the callee."""

    caller: int
    offset: int
    callee: int
    delta: int
    kind: EdgeKind

    def place_in(self, caller: str) -> str:
        """Where the reference is, by the caller's name; of a body that is part of the caller no one place is."""
        return caller if self.kind is EdgeKind.INLINED else f"{caller}+{self.offset:#x}"


@dataclass(frozen=True)
class Taker:
    """Data that holds the address of a function: object, name ("" and the section where it has none), section,
    address, offset of the pointer in it, and the functions that take the address of that data."""

    object: str
    name: str
    section: str
    address: int
    offset: int
    users: tuple[int, ...]

    @property
    def initcall(self) -> bool:
        return self.name.startswith("__initcall_")


class CallGraph(Protocol):
    """What can be asked of an index."""

    def function(self, number: int) -> Function: ...
    def functions_named(self, name: str) -> list[Function]: ...
    def function_at(self, object_name: str, address: int, section: str = "") -> Function | None: ...
    def callers(self, number: int, limit: int = 0) -> list[Edge]: ...
    def callees(self, number: int, limit: int = 0) -> list[Edge]: ...
    def count(self, number: int, direction: str) -> int: ...
    def aliases(self, number: int) -> list[Name]: ...
    def address_takers(self, number: int) -> list[Taker]: ...
    def strays(self, number: int) -> list[str]: ...
    def unit_of(self, number: int) -> str: ...
    def trace_site(self, number: int) -> int | None: ...
