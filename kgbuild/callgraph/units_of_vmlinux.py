# SPDX-License-Identifier: GPL-2.0-or-later
"""Which translation unit a function comes from."""

from __future__ import annotations

import numpy as np

from kgbuild.callgraph.address_map import Layout, Places, symbol_names
from kgbuild.callgraph.functions import Functions
from kgbuild.elf.consts import STB, STT


def units_by_ranges(places: Places, ranges: list[tuple[int, int, int]]) -> Places:
    """Unit of each place by stretches (start, end, unit) of code that do not overlap, sorted; -1 for none."""
    if not ranges:
        return np.full(len(places), -1, np.int64)
    table = np.array(ranges, np.int64)
    row = np.searchsorted(table[:, 0], places, "right") - 1
    inside = (row >= 0) & (places < table[np.maximum(row, 0), 1])
    return np.where(inside, table[np.maximum(row, 0), 2], -1)


def units_by_file(layout: Layout, functions: Functions) -> tuple[list[str], Places]:
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
