# SPDX-License-Identifier: GPL-2.0-or-later
"""Which unit a function comes from: in vmlinux by STT_FILE symbols or by address ranges in debugging information, in a
shipped module by its sources.

Shipped modules have neither debugging information nor STT_FILE symbols. The text of the sources tells which of them
appears to define a function. The linker places the contributions of one unit together (ld, "Input section basics"), so
code between two functions of one unit belongs to that unit too, and a unit that appears in several separate ranges was
a wrong guess. The result is verified wherever something depends on it: the unit is compiled, and its functions are
compared with the module's.
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
# a name at the beginning of a line, or after a type and attributes, followed by parameters
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
    """(source, evidence) of each function whose unit can be found, by number. `texts` are the module's sources."""
    defined: dict[str, set[str]] = {}
    for source, text in texts.items():
        for name in _defined(text):
            defined.setdefault(name, set()).add(source)
    found: dict[int, tuple[str, str]] = {}
    ordered = sorted(functions, key=lambda function: (function.section, function.address, function.number))
    for _, group in groupby(ordered, key=lambda function: function.section):
        rows = list(group)
        guesses = [_only([defined.get(name, set()) for name in function.names]) for function in rows]
        units = _fill(_without_islands(guesses))
        for function, guess, unit in zip(rows, guesses, units, strict=True):
            if unit:
                found[function.number] = (unit, BY_TEXT if guess == unit else BY_ORDER)
    return found


def _defined(text: bytes) -> Iterator[str]:
    for match in _DEFINITION.finditer(text):
        if _has_body(text, match.end()):
            yield match.group(1).decode("ascii", "replace")


def _has_body(text: bytes, at: int) -> bool:
    """Whether the parameter list that begins at `at` is followed by a body; in a prototype, a semicolon comes first."""
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
    """The guesses without contradictions: of several separate ranges of one unit only the longest is kept. Other
    functions are left without a unit."""
    out = list(guesses)
    known = [index for index, unit in enumerate(out) if unit]
    runs = [list(group) for _, group in groupby(known, key=lambda index: out[index])]
    longest: dict[str, list[int]] = {}
    for run in runs:
        unit = out[run[0]]
        if len(run) > len(longest.get(unit, ())):
            longest[unit] = run
    for run in runs:
        if run is not longest[out[run[0]]]:
            for index in run:
                out[index] = ""
    return out


def _fill(units: Sequence[str]) -> list[str]:
    """Assign functions between two functions of one unit to that unit."""
    out = list(units)
    known = [i for i, unit in enumerate(out) if unit]
    for start, end in pairwise(known):
        if out[start] == out[end]:
            out[start + 1 : end] = [out[start]] * (end - start - 1)
    return out


def units_by_ranges(places: Places, ranges: list[tuple[int, int, int]]) -> Places:
    """The unit of each place, by sorted, disjoint ranges of code (start, end, unit); -1 if none contains it."""
    if not ranges:
        return np.full(len(places), -1, np.int64)
    table = np.array(ranges, np.int64)
    row = np.searchsorted(table[:, 0], places, "right") - 1
    inside = (row >= 0) & (places < table[np.maximum(row, 0), 1])
    return np.where(inside, table[np.maximum(row, 0), 2], -1)


def units_by_file(layout: AddressMap, functions: Functions) -> tuple[list[str], Places]:
    """Units by the symbol table: (names, unit of each function or -1).

    The linker writes the local symbols of each input file after its STT_FILE symbol (gABI, chapter 4), so a local
    function belongs to the file before it. A global function belongs to the file of the local functions around it, if
    there are some on both sides in its section and they belong to one file: the contributions of a file to a section
    are contiguous.
    """
    table = layout.obj.symbols
    files = np.nonzero((table["info"] & 15) == STT.FILE)[0].astype(np.int64)
    names = [name.decode("utf-8", "replace") for name in symbol_names(layout.obj, files)]
    count = len(functions.name)
    unit = np.full(count, -1, np.int64)
    if not len(files):
        return [], unit
    local = functions.symbol_bind == STB.LOCAL
    file_before = np.searchsorted(files, functions.symbol_index[local]) - 1
    unit[functions.symbol_body[local]] = file_before
    known = np.nonzero(unit >= 0)[0]
    if len(known):
        rows = np.arange(count)
        row_before = np.searchsorted(known, rows, "right") - 1
        row_behind = np.minimum(row_before + 1, len(known) - 1)
        before, behind = known[np.maximum(row_before, 0)], known[row_behind]
        between = (unit < 0) & (row_before >= 0) & (unit[before] == unit[behind]) & (behind > rows)
        between &= (functions.section[before] == functions.section) & (functions.section[behind] == functions.section)
        unit = np.where(between, unit[before], unit)
    return names, unit
