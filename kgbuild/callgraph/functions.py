# SPDX-License-Identifier: GPL-2.0-or-later
"""The functions of vmlinux or of a module, as numpy tables: one row for each body, one for each of its names.

A body is the code that begins at one address. Several names at one address are one body, because a jump to it does not
tell them apart and a live patch redirects them together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kgbuild.callgraph.address_map import ALLOC, AddressMap, Bodies, Places, symbol_names
from kgbuild.elf.consts import ET, SHN, STB, STT
from kgbuild.elf.object import Object
from kgbuild.kernel.kallsyms import NOT_IN_KALLSYMS

_UNLISTED = tuple(prefix.encode() for prefix in NOT_IN_KALLSYMS)


@dataclass(frozen=True, eq=False)
class Functions:
    """Every function of one object.

    bodies       place and size in bytes of each body
    section      index of its section
    name         its main name: a global name before a weak one before a local one
    trace_site   offset of its ftrace site in the body, -1 if it has none (it can't be redirected)
    init         True if its memory is freed after boot or after the module's init
    symbol_body, symbol_name, symbol_index, symbol_bind, symbol_sympos
       one row for each name: the body it belongs to, the symbol's index in the table and its binding, its
       position among the symbols of that name (0 unique, -1 if no position identifies it)
    """

    obj: Object
    bodies: Bodies
    section: npt.NDArray[np.int32]
    name: list[str]
    trace_site: npt.NDArray[np.int32]
    init: npt.NDArray[np.bool_]
    symbol_body: Places
    symbol_name: list[str]
    symbol_index: Places
    symbol_bind: npt.NDArray[np.uint8]
    symbol_sympos: npt.NDArray[np.int32]


def read_functions(layout: AddressMap) -> Functions:
    """The table of functions of a linked vmlinux or a relocatable module.

    A function is a FUNC symbol in an executable section, an untyped symbol with a size (assembly routines), or a global
    untyped symbol without a size at a place where no other function begins (the entries of the retpoline thunks).
    """
    obj = layout.obj
    table = obj.symbols
    kind, bind = table["info"] & 15, table["info"] >> 4
    inside = layout.in_section & (table["name"] != 0) & layout.code_sections[layout.section_of]
    places = layout.places
    sized = inside & ((kind == STT.FUNC) | ((kind == STT.NOTYPE) & (table["size"] > 0)))
    label = inside & (kind == STT.NOTYPE) & (table["size"] == 0) & (bind != STB.LOCAL)
    label &= ~np.isin(places, places[sized])
    rows = np.nonzero(sized | label)[0].astype(np.int64)
    names = symbol_names(obj, rows)
    # an assembler's local labels are no functions
    keep = np.array([not n.startswith((b".L", b"$")) for n in names], bool) if names else np.zeros(0, bool)
    rows, names = rows[keep], [n for n, kept in zip(names, keep.tolist(), strict=True) if kept]
    # by place; at one place: global, weak, local; then in table order
    rank = np.array([2, 0, 1], np.int64)[np.minimum(bind[rows], 2)]
    order = np.lexsort((rows, rank, places[rows]))
    rows = rows[order]
    texts = [names[i].decode("utf-8", "replace") for i in order.tolist()]
    place, first, body = np.unique(places[rows], return_index=True, return_inverse=True)
    size = np.zeros(len(place), np.int64)
    np.maximum.at(size, body, table["size"][rows].view(np.int64) if len(rows) else np.zeros(0, np.int64))
    bodies = Bodies(place, size)
    section = table["shndx"][rows][first].astype(np.int32)
    return Functions(
        obj,
        bodies,
        section,
        [texts[i] for i in first.tolist()],
        _trace_sites(layout, bodies),
        _init(layout, place, section),
        body.astype(np.int64),
        texts,
        rows,
        bind[rows].astype(np.uint8),
        _positions(obj, rows, places),
    )


def _trace_sites(layout: AddressMap, bodies: Bodies) -> npt.NDArray[np.int32]:
    out = np.full(len(bodies.place), -1, np.int32)
    sites = layout.pointers_in("__mcount_loc")
    holder = bodies.at(sites)
    # before the function if it is padded: the site still belongs to the following function (not seen on x86_64)
    found = holder >= 0
    out[holder[found]] = (sites[found] - bodies.place[holder[found]]).astype(np.int32)
    return out


def _init(layout: AddressMap, place: Places, section: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    if not layout.relocatable:
        bounds = layout.bounds
        begin, end = bounds.get("__init_begin"), bounds.get("__init_end")
        if begin is not None and end is not None:
            return (place >= begin) & (place < end)
    prefixes = (".init",) if layout.relocatable else (".init", ".exit")
    named = np.array([s.name.startswith(prefixes) for s in layout.obj.sections], bool)
    return named[section]


def _positions(obj: Object, rows: Places, places: Places) -> npt.NDArray[np.int32]:
    """sympos of the symbols `rows`: the position among all listed symbols of the same name, by address in vmlinux, in
    table order in a module (where the orders with and without init memory must agree). See KernelImage.sympos."""
    table = obj.symbols
    kind = table["info"] & 15
    listed = (table["shndx"] != SHN.UNDEF) & (kind != STT.SECTION) & (kind != STT.FILE) & (table["name"] != 0)
    if obj.type == ET.REL:
        alloc = np.array([s.flags & ALLOC != 0 for s in obj.sections], bool)
        ordinary = table["shndx"] < SHN.LORESERVE
        listed &= ordinary & alloc[np.where(ordinary, table["shndx"], 0)]
    else:
        listed &= ~((table["shndx"] == SHN.ABS) & ((table["info"] >> 4) == STB.LOCAL))
    every = np.nonzero(listed)[0].astype(np.int64)
    groups: dict[bytes, list[int]] = {}
    for index, name in zip(every.tolist(), symbol_names(obj, every), strict=True):
        groups.setdefault(name, []).append(index)
    out = np.full(len(table), -1, np.int32)
    init = [s.name.startswith(".init") for s in obj.sections]
    shndx = table["shndx"].tolist()
    values = table["value"].view(np.int64) if len(table) else places
    for name, indices in groups.items():
        if obj.type != ET.REL:
            if name.startswith(_UNLISTED):
                continue
            if len(indices) == 1:
                out[indices[0]] = 0
                continue
            ranked = sorted(indices, key=lambda row: (int(values[row]), row))
            first: dict[int, int] = {}
            for rank, row in enumerate(ranked, 1):
                out[row] = first.setdefault(int(values[row]), rank)
        else:
            if len(indices) == 1:
                out[indices[0]] = -1 if init[shndx[indices[0]]] else 0
                continue
            core = [row for row in indices if not init[shndx[row]]]
            for rank, row in enumerate(indices, 1):
                later = (0 if len(core) == 1 else core.index(row) + 1) if row in core else None
                out[row] = rank if rank == later else -1
    return out[rows]
