# SPDX-License-Identifier: GPL-2.0-or-later
"""The call graph of a kernel: the questions an index answers, and the values of the answers.

A function is identified by its number in the index; `Function` and the other classes are plain values. numpy and
networkx are not imported here until a whole DiGraph is asked for, so that a single question is answered quickly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from kgbuild.callgraph.edge_kinds import EdgeKind
from kgbuild.errors import UserError

CALLERS, CALLEES = "callers", "callees"


def split_name(wanted: str) -> tuple[str, str, str]:
    """(name, place, position) of `NAME`, `NAME@UNIT`, `NAME@MODULE`, `NAME,POSITION` or a combination; "" for parts
    that are missing. Raises UserError if the position is not a number."""
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
    address     in vmlinux the link address (unsigned); in a module the offset in the section
    size        in bytes
    trace_site  offset of its ftrace site, None if it has none: then it can't be redirected
    init        its memory is freed after boot, or after the module's init
    unit        source file of its translation unit, or the name from the symbol table; "" if unknown
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
    """One symbol of a function: its binding ("local", "global", "weak"), its position (0 unique, None if no position
    identifies it), whether it is exported, and what gcc derived it from (family "" and no kinds: nothing)."""

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
        """The place of the reference, relative to the caller's name; an inlined body has no single place."""
        return caller if self.kind is EdgeKind.INLINED else f"{caller}+{self.offset:#x}"


@dataclass(frozen=True)
class Taker:
    """Data that contains the address of a function: object, name ("" and the section if it has none), section, address,
    offset of the pointer in it, and the functions that take the address of that data."""

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
    """The questions that an index answers."""

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
