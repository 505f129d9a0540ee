# SPDX-License-Identifier: GPL-2.0-or-later
"""An object as atoms and references: the values. An atom table makes the one, a view the other."""

from __future__ import annotations

from typing import NamedTuple

from kgbuild.elf.consts import STB

FUNCTION, DATA, STRING, ANON, UNDEFINED, ABSOLUTE = (
    "function",
    "data",
    "string",
    "anon",
    "undefined",
    "absolute",
)


class Atom(NamedTuple):
    """One piece of an object. `id` orders atoms; `section` is -1 for undefined and absolute symbols.

    names    every non-section symbol at this place, first the one with most meaning (global, then sized)
    symbols  their indices in the symbol table
    """

    id: int
    kind: str
    section: int
    offset: int
    size: int
    names: tuple[str, ...] = ()
    symbols: tuple[int, ...] = ()
    bind: int = STB.LOCAL

    @property
    def name(self) -> str:
        return self.names[0] if self.names else ""

    @property
    def is_local(self) -> bool:
        return self.bind == STB.LOCAL


class Ref(NamedTuple):
    """One reference from an atom.

    offset  of the relocated field in the atom; type: relocation type; size: of the field in bytes
    atom    id of the atom meant; delta: offset in it that is meant
    bias    what must be subtracted from `delta` to make an addend (end of instruction minus field, for code)
    synthetic  True where the object had no relocation (resolved by the assembler)
    loose   True where the object names a section of several variables and an offset only: what lies there is not
            surely what is meant, it may be the end of the array before it or a place before the first byte of the next
    """

    offset: int
    type: int
    size: int
    atom: int
    delta: int
    bias: int
    synthetic: bool = False
    loose: bool = False


class Ambiguous(Exception):
    """A reference whose target can't be told (place and fact in args)."""
