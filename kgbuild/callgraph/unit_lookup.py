# SPDX-License-Identifier: GPL-2.0-or-later
"""Which unit a function comes from: in vmlinux by STT_FILE symbols or by ranges of addresses in debugging
information, in a shipped module by its sources.

Shipped modules keep neither debugging information nor STT_FILE symbols. The text of the sources says which of them
looks like defining a function; and the linker puts what one unit gives to a section in one piece (ld, "Input section
basics"), so that what lies between two functions of one unit is of that unit too, and a unit that shows up in several
pieces was a mistake of the text. What this gives is checked wherever something depends on it: the unit is compiled, and
its functions are held against the module's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np

from kgbuild.callgraph.address_map import AddressMap, Places, symbol_names
from kgbuild.callgraph.functions import Functions
from kgbuild.elf.consts import STB, STT

BY_TEXT, BY_ORDER = "the text of the module's sources", "the order of the module's code"
# a name at the beginning of a line, or behind a type and attributes, and its parameters
_DEFINITION = re.compile(
    rb"^(?:[A-Za-z_][^;=\n(){}]*(?:\(\([^;=\n{}]*?\)\)[^;=\n(){}]*)*[\s*])?(?!__attribute__)([A-Za-z_]\w*)[ \t]*\(",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Placed:
    """A function of a module: its number, section, address in it, and the names it may have in a source."""

    number: int
    section: str
    address: int
    names: frozenset[str]


def assign_units(functions: Sequence[Placed], texts: Mapping[str, bytes]) -> dict[int, tuple[str, str]]:
    """(source, evidence) of each function whose unit can be told, by number. `texts` are the module's sources."""
    defined: dict[str, set[str]] = {}
    for source, text in texts.items():
        for name in _defined(text):
            defined.setdefault(name, set()).add(source)
    found: dict[int, tuple[str, str]] = {}
    ordered = sorted(functions, key=lambda f: (f.section, f.address, f.number))
    for _, group in groupby(ordered, key=lambda f: f.section):
        rows = list(group)
        guesses = [_only([defined.get(name, set()) for name in f.names]) for f in rows]
        units = _fill(_without_islands(guesses))
        for f, guess, unit in zip(rows, guesses, units, strict=True):
            if unit:
                found[f.number] = (unit, BY_TEXT if guess == unit else BY_ORDER)
    return found


def _defined(text: bytes) -> Iterator[str]:
    for match in _DEFINITION.finditer(text):
        if _has_body(text, match.end()):
            yield match.group(1).decode("ascii", "replace")


def _has_body(text: bytes, at: int) -> bool:
    """Whether the parameter list that begins at `at` is followed by a body; a prototype has its semicolon first."""
    depth = 1
    limit = min(len(text), at + 2000)
    while at < limit and depth:
        depth += {40: 1, 41: -1}.get(text[at], 0)
        at += 1
    rest = text[at : at + 200]
    brace, semicolon = rest.find(b"{"), rest.find(b";")
    return brace >= 0 and (semicolon < 0 or brace < semicolon)


def _only(candidates: Sequence[set[str]]) -> str:
    every = set().union(*candidates)
    return next(iter(every)) if len(every) == 1 else ""


def _without_islands(guesses: Sequence[str]) -> list[str]:
    """The same without guesses that contradict each other: of several pieces of one unit only the longest is kept. What
    stood in between stays open."""
    out = list(guesses)
    known = [i for i, unit in enumerate(out) if unit]
    runs = [list(group) for _, group in groupby(known, key=lambda i: out[i])]
    longest: dict[str, list[int]] = {}
    for run in runs:
        unit = out[run[0]]
        if len(run) > len(longest.get(unit, ())):
            longest[unit] = run
    for run in runs:
        if run is not longest[out[run[0]]]:
            for i in run:
                out[i] = ""
    return out


def _fill(units: Sequence[str]) -> list[str]:
    """What lies between two of one unit is of that unit."""
    out = list(units)
    known = [i for i, unit in enumerate(out) if unit]
    for a, b in pairwise(known):
        if out[a] == out[b]:
            out[a + 1 : b] = [out[a]] * (b - a - 1)
    return out


def units_by_ranges(places: Places, ranges: list[tuple[int, int, int]]) -> Places:
    """Unit of each place by stretches (start, end, unit) of code that do not overlap, sorted; -1 for none."""
    if not ranges:
        return np.full(len(places), -1, np.int64)
    table = np.array(ranges, np.int64)
    row = np.searchsorted(table[:, 0], places, "right") - 1
    inside = (row >= 0) & (places < table[np.maximum(row, 0), 1])
    return np.where(inside, table[np.maximum(row, 0), 2], -1)


def units_by_file(layout: AddressMap, functions: Functions) -> tuple[list[str], Places]:
    """Units by the symbol table: (names, unit of each function or -1).

    The linker writes the locals of each input file behind its STT_FILE symbol (gABI, chapter 4), so a local function
    belongs to the file before it. A global one belongs to the file of the locals around it, if there are some on both
    sides in its section and they are of one file: what a file gives to a section lies together.
    """
    table = layout.obj.symbols
    files = np.nonzero((table["info"] & 15) == STT.FILE)[0].astype(np.int64)
    names = [name.decode("utf-8", "replace") for name in symbol_names(layout.obj, files)]
    count = len(functions.name)
    unit = np.full(count, -1, np.int64)
    if not len(files):
        return [], unit
    local = functions.symbol_bind == STB.LOCAL
    before = np.searchsorted(files, functions.symbol_index[local]) - 1
    unit[functions.symbol_body[local]] = before
    known = np.nonzero(unit >= 0)[0]
    if len(known):
        rows = np.arange(count)
        left = np.searchsorted(known, rows, "right") - 1
        right = np.minimum(left + 1, len(known) - 1)
        a, b = known[np.maximum(left, 0)], known[right]
        between = (unit < 0) & (left >= 0) & (unit[a] == unit[b]) & (b > rows)
        between &= (functions.section[a] == functions.section) & (functions.section[b] == functions.section)
        unit = np.where(between, unit[a], unit)
    return names, unit
