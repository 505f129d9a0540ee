# SPDX-License-Identifier: GPL-2.0-or-later
"""Which data contains the address of a function: operations tables, initcalls, arrays of handlers.

An indirect call can reach whatever such data contains. Data is named by its symbol. Tables that only describe code
(trace sites, unwind and bug tables, patch sites, exports) contain no pointer that anything calls, and are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kgbuild.arch import for_object
from kgbuild.callgraph.address_map import AddressMap, Bodies, Places, among, symbol_names
from kgbuild.callgraph.functions import Functions
from kgbuild.elf.consts import SHN, SHT, STB, STT

# Tables about code, beside the architecture's special sections that are (`SpecialSection.about_code`). An export is a
# property of the function, not a pointer to it.
_ABOUT_CODE = (".cfi_sites", "__ksymtab", "__ksymtab_gpl", ".BTF_ids", ".notes")
INITCALL_PREFIX = "__initcall_"
# Data that only keeps a symbol alive.
_NO_HOLDERS = ("__UNIQUE_ID___addressable_", "__addressable_")
# Tables whose entries contain self-relative addresses, for objects without relocations.
_RELATIVE_TABLES = (".pci_fixup",)


@dataclass(frozen=True, eq=False)
class Pointers:
    """One row for each address of a function in data.

    function  row of the function, -1 if it is in another object
    symbol    index of the undefined symbol that names it, else -1
    holder    row of the data that contains the address
    offset    where in that data, in bytes
    name, place, section   of each holder; unnamed data gets its section's name
    """

    function: Places
    symbol: Places
    holder: Places
    offset: Places
    name: list[str]
    place: Places
    section: Places


def read_pointers(functions: Functions, layout: AddressMap, *, ignore_relocations: bool = False) -> Pointers:
    """Every function pointer in the data of one object, from relocations or, if it kept none, from its values."""
    if layout.relocated and not ignore_relocations:
        at, target, symbol = _relocated(layout)
    else:
        at, target = _stored(functions, layout)
        symbol = np.full(len(at), -1, np.int64)
    keep = (symbol >= 0) | layout.is_code(target)
    # in a module these are sections of their own, which are not read
    about_code = (*_ABOUT_CODE, *for_object(layout.obj).about_code)
    for name in about_code if not layout.relocatable else ():
        extent = layout.table_range(name)
        if extent is not None:
            keep &= (at < extent[0]) | (at >= extent[1])
    at, target, symbol = at[keep], target[keep], symbol[keep]
    function = np.where(symbol >= 0, -1, functions.bodies.at(target))
    delta = np.where(function >= 0, target - functions.bodies.place[np.maximum(function, 0)], 0)
    # a pointer into the middle is a label (of a switch or of computed gotos), not a way in
    keep = ((function >= 0) & (delta == 0)) | (symbol >= 0)
    at, symbol, function = at[keep], symbol[keep], function[keep]
    data, names = read_data(layout)
    holder = data.at(at)
    idle = np.array([name.startswith(_NO_HOLDERS) for name in names], bool)
    keep = (holder < 0) | ~idle[holder] if len(names) else holder < 0
    at, symbol, function, holder = at[keep], symbol[keep], function[keep], holder[keep]
    unnamed = layout.section_at(at)
    # extra rows for sections with data that has no symbol
    key = np.where(holder >= 0, holder, -1 - unnamed)
    keys, row = np.unique(key, return_inverse=True)
    named = keys >= 0
    place = np.where(named, data.place[np.maximum(keys, 0)], layout.bases[np.where(named, 0, -1 - keys)])
    section = layout.section_at(place)
    return Pointers(
        function,
        symbol,
        row.astype(np.int64),
        at - place[row],
        [names[k] if k >= 0 else layout.obj.sections[-1 - k].name for k in keys.tolist()],
        place,
        section,
    )


def read_data(layout: AddressMap) -> tuple[Bodies, list[str]]:
    """Ranges and names of named data. Of several names at one place, a sized one comes first, then a global one; a name
    without a size extends to the next one (initcalls)."""
    table = layout.obj.symbols
    kind = table["info"] & 15
    wanted = layout.in_section & layout.data_sections[layout.section_of] & (table["name"] != 0)
    wanted &= (kind == STT.OBJECT) | ((kind == STT.NOTYPE) & ((table["info"] >> 4) == STB.LOCAL)) | (table["size"] > 0)
    rows = np.nonzero(wanted)[0].astype(np.int64)
    places, sizes = layout.places[rows], np.ascontiguousarray(table["size"][rows]).view(np.int64)
    order = np.lexsort((rows, (table["info"][rows] >> 4) == STB.LOCAL, sizes == 0, places))
    rows, places, sizes = rows[order], places[order], sizes[order]
    place, first = np.unique(places, return_index=True)
    size = sizes[first]
    following = np.append(place[1:], np.iinfo(np.int64).max)
    size = np.where(size > 0, size, np.minimum(following - place, 8))
    raw = symbol_names(layout.obj, rows[first])
    return Bodies(place, size), [name.decode("utf-8", "replace") for name in raw]


def _is_initcall(name: str) -> bool:
    return name.startswith(INITCALL_PREFIX)


def _relocated(layout: AddressMap) -> tuple[Places, Places, Places]:
    """(place, target, undefined symbol or -1) of every relocation in loaded data that may contain an address."""
    arch = for_object(layout.obj)
    about_code = {*_ABOUT_CODE, *arch.about_code}
    at_boot = tuple(row.prefix for row in arch.families)  # places in code to be patched at boot
    parts = [(np.zeros(0, np.int64),) * 3]
    undefined = layout.obj.symbols["shndx"] == SHN.UNDEF
    holding = [t for t, size in arch.relocs.sizes.items() if size]
    for section in layout.obj.sections:
        if not layout.data_sections[section.index] or section.index not in layout.obj.rela_of:
            continue
        if section.name in about_code or section.name.startswith(at_boot):
            continue
        rows = layout.obj.relocs(section.index)
        rows = rows[among(rows["type"], holding)]
        if not len(rows):
            continue
        at = np.ascontiguousarray(rows["offset"]).view(np.int64)
        at = at + layout.bases[section.index] if layout.relocatable else at
        symbol = rows["sym"].astype(np.int64)
        away = undefined[symbol] & (symbol != 0)
        target = layout.places[symbol] + rows["addend"]
        parts.append((at, np.where(away, 0, target), np.where(away, symbol, -1)))
    at, target, symbol = (np.concatenate(column) for column in zip(*parts, strict=True))
    return at, target, symbol


def _stored(functions: Functions, layout: AddressMap) -> tuple[Places, Places]:
    """(place, target) of every aligned 8-byte value in loaded data that is the address of a function, and of the
    self-relative addresses of initcalls. A value could be such an address by chance, but its range makes that
    unlikely."""
    starts = functions.bodies.place
    parts = [(np.zeros(0, np.int64),) * 2]
    for section in layout.obj.sections:
        if not layout.data_sections[section.index] or section.type != SHT.PROGBITS or not len(starts):
            continue
        base = int(layout.bases[section.index])
        skip = -base % 8
        raw = layout.code(section.index)[skip:]
        values = np.frombuffer(raw[: len(raw) // 8 * 8].tobytes(), layout.obj.dtype("i8"))
        near = np.nonzero((values >= starts[0]) & (values <= starts[-1]))[0]
        found = near[starts[np.searchsorted(starts, values[near])] == values[near]]
        parts.append((base + skip + 8 * found.astype(np.int64), values[found].astype(np.int64)))
    data, names = read_data(layout)
    spans = [(place, place + 4) for place, name in zip(data.place.tolist(), names, strict=True) if _is_initcall(name)]
    spans += [extent for extent in map(layout.table_range, _RELATIVE_TABLES) if extent is not None]
    for start, stop in spans:
        table = layout.read(start, stop)
        offsets = np.frombuffer(table[: len(table) // 4 * 4], layout.obj.dtype("i4")).astype(np.int64)
        place = start + 4 * np.arange(len(offsets), dtype=np.int64)
        target = place + offsets
        known = np.isin(target, starts)
        parts.append((place[known], target[known]))
    at, target = (np.concatenate(column) for column in zip(*parts, strict=True))
    return at, target
