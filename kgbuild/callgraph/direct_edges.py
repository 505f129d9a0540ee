# SPDX-License-Identifier: GPL-2.0-or-later
"""Every direct reference from code to functions in one object, as numpy columns.

Most references have a relocation. References that the assembler resolves within one section (calls of static functions,
tail jumps, short jumps) have none, neither in modules nor in a vmlinux that kept its relocations: in Debian's 6.1, one
call in eight. Therefore all bytes that could be a branch without a relocation are searched for, and confirmed by
decoding the functions in which something was found. A kernel without relocations is handled the same way, with more to
decode.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from kgbuild.arch import for_object
from kgbuild.arch.code_search import CodeSearch, Flow
from kgbuild.callgraph.address_map import AddressMap, Bodies, Places, among
from kgbuild.callgraph.edge_kinds import EdgeKind
from kgbuild.callgraph.functions import Functions
from kgbuild.elf.consts import SHN
from kgbuild.objects.clone_names import is_half

Kinds = npt.NDArray[np.uint8]
REPLACEMENT, ALTERNATIVES, JUMP_TABLE = ".altinstr_replacement", ".altinstructions", "__jump_table"


@dataclass(frozen=True, eq=False)
class References:
    """References from code, before they are assigned to functions.

    at        place of the field that contains the reference
    opcode    place of a branch's opcode; for other instructions, of the field
    target    place referred to; 0 if it is in another object
    symbol    index of the undefined symbol referred to, else -1
    flow      Flow of the instruction
    """

    at: Places
    opcode: Places
    target: Places
    symbol: Places
    flow: Kinds


@dataclass(frozen=True, eq=False)
class Edges:
    """One row for each reference from a function to a function, sorted by caller and offset.

    caller    row of the calling function
    offset    where in the caller, in bytes: a branch's opcode, or the field that contains an address
    callee    row of the function, -1 if it is in another object
    symbol    index of the undefined symbol that names it, -1 if it is in this object
    delta     distance from the start of the callee, in bytes
    kind      an EdgeKind
    uses      (function, place): data whose address a function takes; tells who passes on a table
    strays    (function, place): code that belongs to no known function and leads to the start of one
    relocated whether the object kept the relocations of its code
    decoded   how many ranges of code had to be decoded
    unread    relocation types in code that are not supported, with their number of uses
    """

    caller: Places
    offset: Places
    callee: Places
    symbol: Places
    delta: Places
    kind: Kinds
    uses: tuple[Places, Places]
    strays: tuple[Places, Places]
    relocated: bool
    decoded: int
    unread: dict[int, int]


@dataclass(frozen=True, eq=False)
class _Regions:
    """Ranges of code: the functions, and the replacement code of each alternative, which counts as code of the function
    it is patched into.

    owner        the function that each range belongs to
    shift        what to add to a place in the range to get the place it is patched into
    replacement  whether it is replacement code
    """

    bodies: Bodies
    owner: Places
    shift: Places
    replacement: npt.NDArray[np.bool_]


def read_edges(functions: Functions, layout: AddressMap, *, ignore_relocations: bool = False) -> Edges:
    """Every edge of one object. `ignore_relocations` treats it as a kernel without relocations (linked files only)."""
    regions = _regions(functions, layout)
    relocated, unread = _relocated(layout, ignore_relocations)
    plain, decoded = _unrelocated(regions, layout, relocated, functions.trace_site)
    parts = [relocated, plain]
    if ignore_relocations or not layout.relocated:
        parts.append(_addresses(functions, regions, layout))
    refs = References(
        *(np.concatenate(c) for c in zip(*((r.at, r.opcode, r.target, r.symbol, r.flow) for r in parts), strict=True))
    )
    region = regions.bodies.at(refs.at)
    known = region >= 0
    region = np.maximum(region, 0)
    caller = np.where(known, regions.owner[region], -1)
    kind = np.array([0, EdgeKind.CALL, EdgeKind.TAIL_CALL, EdgeKind.ADDRESS_TAKEN, 0], np.uint8)[refs.flow]
    kind[known & regions.replacement[region] & (kind != 0) & (kind != EdgeKind.ADDRESS_TAKEN)] = EdgeKind.ALTERNATIVE
    offset = refs.opcode + regions.shift[region] - functions.bodies.place[np.maximum(caller, 0)]
    external = refs.symbol >= 0
    callee = np.where(external, -1, functions.bodies.at(refs.target))
    delta = np.where(callee >= 0, refs.target - functions.bodies.place[np.maximum(callee, 0)], 0)
    uses = known & (kind == EdgeKind.ADDRESS_TAKEN) & (callee < 0) & ~external
    stray = ~known & (kind != 0) & (callee >= 0) & (delta == 0)
    strays = (callee[stray].astype(np.int64), refs.at[stray])
    keep = known & (kind != 0) & ((callee >= 0) | external)
    # within one function: branches to labels; a call of the function's own start is recursion
    keep &= external | (callee != caller) | ((delta == 0) & (kind != EdgeKind.TAIL_CALL))
    rows: list[Places] = [r[keep].astype(np.int64) for r in (caller, offset, callee, refs.symbol, delta, kind)]
    rows = [np.concatenate(pair) for pair in zip(rows, _static_key_jumps(functions, layout), strict=True)]
    kinds = _named_kinds(functions, layout, rows)
    order = np.lexsort((kinds, rows[1], rows[0]))
    order = order[kinds[order] != 0]
    taken = (caller[uses].astype(np.int64), refs.target[uses])
    caller, offset, callee, symbol, delta = (rows[column][order] for column in range(5))
    return Edges(
        caller,
        offset,
        callee,
        symbol,
        delta,
        kinds[order],
        taken,
        strays,
        layout.relocated and not ignore_relocations,
        decoded,
        unread,
    )


def _regions(functions: Functions, layout: AddressMap) -> _Regions:
    count = len(functions.name)
    own = np.arange(count, dtype=np.int64)
    site, place, size = alternatives(layout)
    owner = functions.bodies.at(site)
    # if alternatives share replacement code, its owner is ambiguous: the first one gets it
    place, first = np.unique(place[owner >= 0], return_index=True)
    site, size, owner = (column[owner >= 0][first] for column in (site, size, owner))
    places = np.concatenate([functions.bodies.place, place])
    order = np.argsort(places, kind="stable")
    return _Regions(
        Bodies(places[order], np.concatenate([functions.bodies.size, size])[order]),
        np.concatenate([own, owner])[order],
        np.concatenate([np.zeros(count, np.int64), site - place])[order],
        order >= count,
    )


def alternatives(layout: AddressMap) -> tuple[Places, Places, Places]:
    """(place patched, place of the replacement, its length in bytes) of every alternative that has a replacement."""
    none = np.zeros(0, np.int64)
    extent = layout.table_range(ALTERNATIVES)
    if extent is None or layout.table_range(REPLACEMENT) is None:
        return none, none, none
    rule = for_object(layout.obj).special[ALTERNATIVES]
    own = layout.obj.section_named(REPLACEMENT)
    section = own.index if own is not None else -1
    for entry in rule.sizes:
        replacement_at, length_at = rule.replacement[entry]
        site = layout.relative_fields(ALTERNATIVES, entry, rule.owner)
        place = layout.relative_fields(ALTERNATIVES, entry, replacement_at)
        if site is None or place is None or not len(site):
            continue
        raw = _table_bytes(layout, ALTERNATIVES, entry, len(site))
        size = raw[:, length_at].astype(np.int64)
        real = size > 0
        # the entry size is right if everything fits: patch sites in code, replacements in their section or a function
        # (objects/special_entries.py)
        own_code = real & (layout.section_at(place) == section)
        if layout.is_code(site).all() and layout.is_code(place[real & ~own_code]).all():
            return site[own_code], place[own_code], size[own_code]
    return none, none, none


def _table_bytes(layout: AddressMap, name: str, entry: int, count: int) -> npt.NDArray[np.uint8]:
    own = layout.obj.section_named(name)
    if own is not None:
        raw = layout.code(own.index)
    else:
        extent = layout.table_range(name)
        raw = np.frombuffer(layout.read(*extent) if extent is not None else b"", np.uint8)
    return raw[: entry * count].reshape(count, entry)


def _relocated(layout: AddressMap, ignore: bool) -> tuple[References, dict[int, int]]:
    arch = for_object(layout.obj)
    code_of = arch.search()
    parts: list[tuple[Places, Places, Places, Places, Kinds]] = []
    unread: dict[int, int] = {}
    undefined = layout.obj.symbols["shndx"] == SHN.UNDEF
    for section in layout.code_indices:
        rows = layout.obj.relocs(section) if not ignore else layout.obj.relocs(0)
        if not len(rows):
            continue
        kinds = rows["type"]
        at = np.ascontiguousarray(rows["offset"]).view(np.int64)
        base = int(layout.bases[section])
        at = at + base if layout.relocatable else at
        relative = among(kinds, [t for t in arch.relocs.pc_relative if arch.relocs.sizes[t] == 4])
        known = among(kinds, arch.relocs.sizes)
        if not known.all():
            for kind, number in zip(*np.unique(kinds[~known], return_counts=True), strict=True):
                unread[int(kind)] = unread.get(int(kind), 0) + int(number)
        flow = np.full(len(rows), Flow.ADDRESS, np.uint8)
        flow[relative] = code_of.classify_relative(layout.code(section), at[relative] - base)
        symbol = rows["sym"].astype(np.int64)
        away = undefined[symbol] & (symbol != 0)
        # a PC-relative field counts from its own end; with an immediate behind it, it refers to data, not to code
        target = layout.places[symbol] + rows["addend"] + np.where(relative, 4, 0)
        keep = known & (kinds != arch.relocs.none)
        branch = (flow == Flow.CALL) | (flow == Flow.JUMP)
        opcode = at - np.where(branch, code_of.opcode_distance(layout.code(section), at - base), 0)
        columns = (at, opcode, np.where(away, 0, target), np.where(away, symbol, -1))
        parts.append((*(column[keep] for column in columns), flow[keep]))
    return _joined(parts), unread


def _joined(parts: list[tuple[Places, Places, Places, Places, Kinds]]) -> References:
    none = np.zeros(0, np.int64)
    parts = [(none, none, none, none, np.zeros(0, np.uint8)), *parts]
    return References(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _unrelocated(
    regions: _Regions, layout: AddressMap, known: References, traced: npt.NDArray[np.int32]
) -> tuple[References, int]:
    """Branches (and leas) without a relocation that lead out of their function, confirmed by decoding, and the number
    of ranges of code decoded for that."""
    code_of = for_object(layout.obj).search()
    relocated = np.sort(known.at)
    branches = known.at[(known.flow == Flow.CALL) | (known.flow == Flow.JUMP)] + 4
    # certain instruction starts: the start of a function, and the place behind a branch with a relocation
    boundaries = np.unique(np.concatenate([regions.bodies.place, branches]))
    compiled = (traced[regions.owner] >= 0) & ~regions.replacement
    parts: list[tuple[Places, Places, Places, Places, Kinds]] = []
    decoded = 0
    for section in layout.code_indices:
        code = layout.code(section)
        base = int(layout.bases[section])
        field, width, target = code_of.find_branches(code)
        # out of the section only in a linked file; into another function, which is rare for random bytes
        keep = layout.is_code(target + base)
        if layout.relocatable:
            keep &= (target >= 0) & (target < len(code))
        field, width, target = field[keep] + base, width[keep], target[keep] + base
        fresh = (
            relocated[np.minimum(np.searchsorted(relocated, field), len(relocated) - 1)] != field
            if len(relocated)
            else np.ones(len(field), bool)
        )
        field, width, target = field[fresh], width[fresh], target[fresh]
        region, to = regions.bodies.at(field), regions.bodies.at(target)
        keep = (region >= 0) & (to >= 0)
        into = target != regions.bodies.place[np.maximum(to, 0)]
        # its own start can only be called; and compiled code never jumps into the middle of other compiled code
        calls = code_of.is_call(code, field - base)
        keep &= np.where(region == to, ~into & calls, ~(into & compiled[region] & compiled[to]))
        field, width, target = field[keep], width[keep], target[keep]
        at, flow, count = _confirmed(code_of, code.tobytes(), base, boundaries, field, width, target)
        decoded += count
        opcode = field[at] - code_of.opcode_distance(code, field[at] - base)
        parts.append((field[at], opcode, target[at], np.full(len(at), -1, np.int64), flow))
    return _joined(parts), decoded


def _confirmed(
    code_of: CodeSearch, code: bytes, base: int, boundaries: Places, field: Places, width: Places, target: Places
) -> tuple[Places, Kinds, int]:
    """Which candidates are instructions: their rows and flows, and the number of ranges decoded."""
    end = field + width
    order = np.argsort(end, kind="stable")
    first = boundaries[np.searchsorted(boundaries, field[order], "left") - 1]
    edges = np.nonzero(np.diff(first, prepend=np.iinfo(np.int64).min))[0]
    stops = end[order][np.append(edges[1:], len(order)) - 1] if len(order) else end
    ends, targets = (end - base).tolist(), (target - base).tolist()
    wanted = {pair: row for row, pair in enumerate(zip(ends, targets, strict=True))}
    rows: list[int] = []
    flows: list[int] = []
    stretches = zip((first[edges] - base).tolist(), (stops - base).tolist(), strict=True)
    for ended, to, call in code_of.decode_branches(code, stretches):
        row = wanted.get((ended, to))
        if row is not None:
            rows.append(row)
            flows.append(Flow.CALL if call else Flow.JUMP)
    return np.array(rows, np.int64), np.array(flows, np.uint8), len(edges)


def _addresses(functions: Functions, regions: _Regions, layout: AddressMap) -> References:
    """Addresses of functions and data in the code of a linked file without relocations."""
    parts: list[tuple[Places, Places, Places, Places, Kinds]] = []
    code_of = for_object(layout.obj).search()
    low, high = int(functions.bodies.place.min()), int(functions.bodies.place.max()) + 1
    starts = functions.bodies.place
    for section in layout.code_indices:
        code, base = layout.code(section), int(layout.bases[section])
        absolute, value, lea, hop = code_of.find_addresses(code, low, high)
        at = np.concatenate([absolute, lea]) + base
        target = np.concatenate([value, lea + base + 4 + hop])
        keep = starts[np.minimum(np.searchsorted(starts, target), len(starts) - 1)] == target
        at, target = at[keep], target[keep]
        region = regions.bodies.at(at)
        raw = code.tobytes()
        good: set[int] = set()
        order = np.argsort(region, kind="stable")
        edges = np.nonzero(np.diff(region[order], prepend=-2))[0].tolist()
        for begin, end in pairwise([*edges, len(order)]):
            row = int(region[order[begin]])
            if row < 0:
                continue
            start, size = int(regions.bodies.place[row]), int(regions.bodies.size[row])
            wanted = set((at[order[begin:end]] - start).tolist())
            good |= {start + o for o in code_of.confirm_addresses(raw[start - base : start - base + size], wanted)}
        chosen = np.isin(at, np.array(sorted(good), np.int64))
        at, target = at[chosen], target[chosen]
        parts.append((at, at, target, np.full(len(at), -1, np.int64), np.full(len(at), Flow.ADDRESS, np.uint8)))
    return _joined(parts)


def _static_key_jumps(functions: Functions, layout: AddressMap) -> tuple[Places, ...]:
    """Rows (caller, offset, callee, symbol, delta, kind) of static keys that jump out of their function."""
    none = np.zeros(0, np.int64)
    empty = (none, none, none, none, none, none)
    rule = for_object(layout.obj).special[JUMP_TABLE]
    for entry in rule.sizes:
        site, target = (layout.relative_fields(JUMP_TABLE, entry, field) for field in (0, 4))
        if site is None or target is None or not len(site):
            continue
        if not (layout.is_code(site).all() and layout.is_code(target).all()):
            continue
        caller, callee = functions.bodies.at(site), functions.bodies.at(target)
        keep = (caller >= 0) & (callee >= 0) & (caller != callee)
        caller, callee, site, target = caller[keep], callee[keep], site[keep], target[keep]
        place = functions.bodies.place
        kind = np.full(len(caller), EdgeKind.JUMP_TABLE, np.int64)
        return caller, site - place[caller], callee, np.full(len(caller), -1, np.int64), target - place[callee], kind
    return empty


def _named_kinds(functions: Functions, layout: AddressMap, rows: list[Places]) -> Kinds:
    """Kinds decided by names: 0 for instrumentation, static calls, thunks, jumps between a function and its cold
    half."""
    code_of = for_object(layout.obj).search()
    caller, _, callee, symbol, _, _ = rows
    kind: Kinds = rows[5].astype(np.uint8)
    names = functions.name
    undefined = {i: layout.obj.name_of(i) for i in np.unique(symbol[symbol >= 0]).tolist()}
    branch = kind != EdgeKind.ADDRESS_TAKEN

    def mark(chosen_names: tuple[list[int], list[int]], new: int, only: npt.NDArray[np.bool_]) -> None:
        bodies, symbols = chosen_names
        if bodies or symbols:
            hit = (among(callee, bodies) & (callee >= 0)) | (among(symbol, symbols) & (symbol >= 0))
            kind[hit & only] = new

    def called(test: Callable[[str], bool]) -> tuple[list[int], list[int]]:
        return (
            [i for i, name in enumerate(names) if test(name)],
            [i for i, name in undefined.items() if test(name)],
        )

    trampolines = called(lambda n: n.startswith(code_of.STATIC_CALL_PREFIX))
    mark(trampolines, EdgeKind.STATIC_CALL, branch)
    kind[among(caller, trampolines[0]) & branch] = EdgeKind.STATIC_CALL
    mark(called(lambda n: n.startswith(code_of.INDIRECT_PREFIXES)), EdgeKind.INDIRECT, branch)
    mark(called(lambda n: n in code_of.INSTRUMENTATION), 0, np.ones(len(kind), bool))
    jumps = np.nonzero((kind == EdgeKind.TAIL_CALL) & (callee >= 0))[0]
    halves = [
        row
        for row, source, target in zip(jumps.tolist(), caller[jumps].tolist(), callee[jumps].tolist(), strict=True)
        if is_half(names[source], names[target])
    ]
    kind[halves] = EdgeKind.SPLIT
    return kind
