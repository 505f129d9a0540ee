# SPDX-License-Identifier: GPL-2.0-or-later
"""The part of verify that asks who can get to code and data that is bound to a loadable module.

What holds a livepatch relocation of module M is written when M comes, and leads to nowhere when M has gone. So only
code that runs while M is there may get to it: that of M, and of modules that need M (Documentation/livepatch,
"klp_object"; klp_write_object_relocs of kernel/livepatch/core.c). From each replacement, and each callback of an
object, every relocation inside the file is followed.
"""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from kgbuild.arch.base import Arch
from kgbuild.diagnostics.module_findings import finding
from kgbuild.model import Finding, SectionOffset
from kgbuild.module_abi import CALLBACKS
from kgbuild.verification.ibt import Decoded
from kgbuild.verification.kallsyms import WrittenTables
from kgbuild.verification.modules import LATE_SECTION, VMLINUX, ShippedLookup
from kgbuild.verification.reading.reader import STT_FILE, STT_SECTION, ModuleFile, ModuleSection, ModuleSymbol, Reloc


def check_reach(
    module: ModuleFile,
    roots: Iterable[tuple[str, SectionOffset]],
    tables: WrittenTables,
    arch: Arch,
    decoded: Decoded,
    modules: ShippedLookup,
) -> Iterator[Finding]:
    """What an object's code gets to, though it is bound to a module that the object does not need.

    roots   (object, where its code begins): the replacements
    tables  those of the back end kallsyms, whose sites are such places too
    """
    late = _late_places(module, tables)
    if not late:
        return
    pieces = _Pieces(module, arch, decoded)
    bound: dict[SectionOffset, dict[str, str]] = {}
    for (section, offset), (owner, name) in late.items():
        bound.setdefault(pieces.at(section, offset), {}).setdefault(owner, name)
    starts: dict[str, list[SectionOffset]] = {}
    for owner, place in (*roots, *_callbacks(module)):
        starts.setdefault(owner, []).append(pieces.at(*place))
    for owner in sorted(starts):
        shipped = modules(owner) if owner != VMLINUX else None
        allowed = {owner} | (shipped.depends if shipped is not None else frozenset())
        seen: set[str] = set()
        came_from: dict[SectionOffset, SectionOffset | None] = {}
        for place in pieces.walk(starts[owner], came_from):
            for other, name in sorted(bound.get(place, {}).items()):
                if other not in allowed and other not in seen:
                    seen.add(other)
                    path = _way_to(place, came_from)
                    way = " -> ".join(pieces.name(p) for p in path)
                    fact = (
                        f"as code of {owner} it gets to {name}, bound when {other} comes, which {owner} does not need"
                    )
                    yield finding("V34-module-reach", pieces.name(path[0]), f"{fact} ({way})")


def _late_places(module: ModuleFile, tables: WrittenTables) -> dict[SectionOffset, tuple[str, str]]:
    """Every place that is written when a module comes: that module, and the symbol that is written there."""
    out: dict[SectionOffset, tuple[str, str]] = {}
    for section in module.sections[1:]:
        match = LATE_SECTION.fullmatch(section.name)
        if match is None or match[1] == VMLINUX:
            continue
        for row in module.relocs.get(section.index, ()):
            symbol = module.symbol_of(row)
            out[section.info, row.offset] = (match[1], symbol.name if symbol is not None else "")
    for site in tables.sites:
        if site.section is not None and site.object != VMLINUX and site.symbol < len(tables.rows):
            out[site.section.index, site.offset] = (site.object, tables.rows[site.symbol].key[1])
    return out


def _callbacks(module: ModuleFile) -> Iterator[tuple[str, SectionOffset]]:
    """The object of each callback, and where its code begins."""
    data = module.object_bytes(CALLBACKS.symbol)
    if data is None:
        return
    symbol = module.global_symbols[CALLBACKS.symbol][0]
    for start in range(symbol.value, symbol.value + len(data), CALLBACKS.size):
        named, code = (module.at(symbol.shndx, start + CALLBACKS.offsets[f]) for f in ("object", "func"))
        place = module.place_of(code) if code is not None else None
        if place is None:
            continue
        text = module.place_of(named) if named is not None else None
        owner = text[0].data[text[1] :].split(b"\0")[0].decode("utf-8", "replace") if text is not None else VMLINUX
        yield owner, (place[0].index, place[1])


class _Pieces:
    """The file cut into functions, variables, and pieces of unnamed data, which begin where something refers to."""

    def __init__(self, module: ModuleFile, arch: Arch, decoded: Decoded) -> None:
        self.module, self.arch, self.decoded = module, arch, decoded
        begins: dict[int, set[int]] = {}
        self._names: dict[SectionOffset, str] = {}
        for s in module.symbols:
            if _is_named(s) and 0 < s.shndx < len(module.sections):
                begins.setdefault(s.shndx, set()).add(s.value)
                self._names.setdefault((s.shndx, s.value), s.name)
        self._out: dict[int, list[tuple[int, SectionOffset]]] = {}
        for index, by_offset in module.targets.items():
            if not 0 < index < len(module.sections) or not module.sections[index].alloc:
                continue
            section = module.sections[index]
            edges = self._out.setdefault(index, [])
            fields = self._ends(section) if section.executable else {}
            for offset, rows in by_offset.items():
                for place in filter(None, (self._meant(section, row, fields) for row in rows)):
                    edges.append((offset, place))
                    if not module.sections[place[0]].executable:
                        begins.setdefault(place[0], set()).add(place[1])
            edges.sort()
        self._begins = {index: sorted({0, *found}) for index, found in begins.items()}

    def _ends(self, section: ModuleSection) -> dict[int, int]:
        """The end of the instruction of each field of code, by the field's offset."""
        return {i.field_offset: i.offset + i.length for i in self.decoded(section).values()}

    def _meant(self, section: ModuleSection, row: Reloc, fields: dict[int, int]) -> SectionOffset | None:
        """What a relocation leads to in the file."""
        symbol = self.module.symbol_of(row)
        if symbol is None or not 0 < symbol.shndx < len(self.module.sections):
            return None
        if _is_named(symbol):
            return symbol.shndx, symbol.value
        relative = row.type in self.arch.relocs.pc_relative and section.executable
        end = fields.get(row.offset, row.offset + 4)
        return symbol.shndx, max(symbol.value + row.addend + (end - row.offset if relative else 0), 0)

    def at(self, section: int, offset: int) -> SectionOffset:
        """The piece in which a place lies."""
        begins = self._begins.get(section, [0])
        return section, begins[max(bisect.bisect_right(begins, offset) - 1, 0)]

    def name(self, piece: SectionOffset) -> str:
        """What a piece is called."""
        return self._names.get(piece) or f"{self.module.sections[piece[0]].name}+{piece[1]:#x}"

    def _next(self, piece: SectionOffset) -> Iterator[SectionOffset]:
        section, start = piece
        begins, edges = self._begins.get(section, [0]), self._out.get(section, [])
        behind = bisect.bisect_right(begins, start)
        end = begins[behind] if behind < len(begins) else 1 << 62
        for _, place in edges[bisect.bisect_left(edges, (start, (0, 0))) : bisect.bisect_left(edges, (end, (0, 0)))]:
            yield self.at(*place)

    def walk(
        self, starts: Sequence[SectionOffset], came_from: dict[SectionOffset, SectionOffset | None]
    ) -> Iterator[SectionOffset]:
        """Every piece that is reached, once; `came_from` gets the piece that each was reached from."""
        came_from |= dict.fromkeys(starts)
        todo = deque(came_from)
        while todo:
            place = todo.popleft()
            yield place
            for piece in self._next(place):
                if piece not in came_from:
                    came_from[piece] = place
                    todo.append(piece)


def _way_to(place: SectionOffset, came_from: dict[SectionOffset, SectionOffset | None]) -> list[SectionOffset]:
    """The pieces from the one where a walk began to `place`."""
    way: list[SectionOffset] = []
    at: SectionOffset | None = place
    while at is not None:
        way.append(at)
        at = came_from[at]
    return way[::-1]


def _is_named(symbol: ModuleSymbol) -> bool:
    return bool(symbol.name) and symbol.type not in (STT_SECTION, STT_FILE)
