# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks a module's variables: that the loader can provide their memory, that nothing is used before it is relocated,
and that variables of a target module are initialised again when it is loaded.

This is determined from the finished file alone: what the functions patched in each object lead to, symbol by symbol,
and the table `kgbuild_initial` (data/livepatch/initial.c).
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from kgbuild.diagnostics.module_findings import finding
from kgbuild.kernel.module_loader import PAGE, PER_CPU, PER_CPU_BYTES, READ_WITH_THE_MODULE, row_of
from kgbuild.model import Finding, SectionOffset
from kgbuild.module_abi import CALLBACKS, FUNCTIONS, INITIAL, LATE, OBJECTS, PATCH, InitialKind
from kgbuild.verification.reading.reader import (
    SHN_LIVEPATCH,
    SHT_RELA,
    STT_FUNC,
    STT_OBJECT,
    ModuleFile,
    ModuleSection,
    ModuleSymbol,
)
from kgbuild.verification.reading.statements import livepatch_object

VMLINUX = "vmlinux"
KEPT = frozenset(InitialKind)
PARAMETERS = "__param"
# The wrapper's tables, and the kernel's structure of the patch, which callbacks may ask for.
_OWN = (*(table.symbol for table in (INITIAL, FUNCTIONS, CALLBACKS, OBJECTS, LATE)), PATCH)


@dataclass(frozen=True)
class Written:
    """One row of kgbuild_initial: the object at whose coming it is written ("" for once), section and offset of the
    place, bytes, kind."""

    object: str
    section: int
    offset: int
    size: int
    kind: int


def check_data(module: ModuleFile, patched: Iterable[tuple[str, SectionOffset]]) -> Iterator[Finding]:
    """Every finding that concerns variables. `patched` holds for each function that the module replaces its object and
    the place of what replaces it. Livepatch symbols that the module looks up itself count as relocations."""
    graph = _ReferenceGraph(module)
    yield from _check_memory(module)
    yield from _check_late(module)
    yield from _check_parameters(graph)
    rows: list[Written] = []
    yield from _read_rows(module, rows)
    yield from _check_lifetime(graph, list(patched), rows)


# -- memory --------------------------------------------------------------------------------------------------------


def _check_memory(module: ModuleFile) -> Iterator[Finding]:
    code = "V36-module-memory"
    for symbol in module.sections[1:]:
        if not symbol.alloc or symbol.type == SHT_RELA or not symbol.size:
            continue
        if symbol.align > PAGE:
            yield finding(
                code, symbol.name, f"is aligned to {symbol.align} bytes; a module's memory is to {PAGE} at most"
            )
        row = row_of(symbol.name)
        if row is not None and row.refused:
            yield finding(code, symbol.name, row.refused)
        if symbol.name in READ_WITH_THE_MODULE:
            yield finding(
                code, symbol.name, f"the kernel {READ_WITH_THE_MODULE[symbol.name]}, when the patch module is loaded"
            )
        if symbol.name != PER_CPU:
            continue
        if symbol.size > PER_CPU_BYTES:
            yield finding(code, symbol.name, f"has {symbol.size} bytes for each CPU; all modules share {PER_CPU_BYTES}")
        for offset in sorted(module.targets.get(symbol.index, {})):
            yield finding(code, f"{symbol.name}+{offset:#x}", "the loader applies no relocation to per-CPU data")


def _late(module: ModuleFile, section: int, offset: int) -> str:
    """The module whose coming relocates a field, "" where none does."""
    for reloc in module.targets.get(section, {}).get(offset, ()):
        symbol = module.symbol_of(reloc)
        if symbol is not None and symbol.shndx == SHN_LIVEPATCH:
            owner = livepatch_object(symbol.name)
            if owner not in ("", VMLINUX):
                return owner
    return ""


def _check_late(module: ModuleFile) -> Iterator[Finding]:
    """A variable that holds a late relocation: code may change it, and the kernel takes the relocation back when the
    target goes only where the value is still its own (write_relocate_add of arch/x86/kernel/module.c, since 6.3)."""
    for section in module.sections[1:]:
        if not (section.alloc and section.writable) or section.executable or section.type == SHT_RELA:
            continue
        for offset in sorted(module.targets.get(section.index, {})):
            owner = _late(module, section.index, offset)
            if owner:
                place = f"{section.name}+{offset:#x}"
                yield finding("V27-late-special", place, f"is a variable that is relocated when {owner} comes")


# -- what leads to what ----------------------------------------------------------------------------------------------


class _ReferenceGraph:
    """The functions and variables of a module, and what each refers to."""

    def __init__(self, module: ModuleFile) -> None:
        self.module = module
        self.extents: dict[int, list[tuple[int, ModuleSymbol]]] = {}
        for s in module.symbols:
            inside = 0 < s.shndx < len(module.sections) and module.sections[s.shndx].alloc
            if inside and s.size and s.type in (STT_FUNC, STT_OBJECT) and s.name not in _OWN:
                self.extents.setdefault(s.shndx, []).append((s.value, s))
        for rows in self.extents.values():
            rows.sort(key=lambda row: (row[0], -row[1].size))

    def at(self, section: int, offset: int) -> ModuleSymbol | None:
        """The symbol that holds a place; an end that is one byte past it belongs to it, as in `p < array + n`."""
        rows = self.extents.get(section, [])
        for value, symbol in reversed(rows[: bisect.bisect_right(rows, offset, key=lambda row: row[0])]):
            if value <= offset < value + symbol.size:
                return symbol
        return None

    @cached_property
    def _sorted(self) -> dict[int, list[int]]:
        return {index: sorted(by_offset) for index, by_offset in self.module.targets.items()}

    def fields(self, symbol: ModuleSymbol) -> list[int]:
        """Offsets, in its section, of the relocated fields of a symbol."""
        offsets = self._sorted.get(symbol.shndx, [])
        end = symbol.value + symbol.size
        return offsets[bisect.bisect_left(offsets, symbol.value) : bisect.bisect_left(offsets, end)]

    def next(self, symbol: ModuleSymbol) -> Iterator[ModuleSymbol]:
        """The symbols of the module that one refers to."""
        code = self.module.sections[symbol.shndx].executable
        for offset in self.fields(symbol):
            for reloc in self.module.targets[symbol.shndx][offset]:
                place = self.module.place_of(reloc)
                if place is None:
                    continue
                section, to = place
                # a field in code counts from its own end, or from that of an immediate behind it
                for bias in ((4, 5, 6, 8, 0) if code and reloc.addend < 0 else (0, 4)) if code else (0,):
                    found = self.at(section.index, to + bias)
                    if found is not None:
                        yield found
                        break

    def reach(self, starts: Iterable[ModuleSymbol]) -> dict[int, ModuleSymbol]:
        """All that these lead to, themselves included, by symbol number."""
        seen = {s.index: s for s in starts}
        todo = list(seen.values())
        while todo:
            for symbol in self.next(todo.pop()):
                if symbol.index not in seen:
                    seen[symbol.index] = symbol
                    todo.append(symbol)
        return seen


def _check_parameters(graph: _ReferenceGraph) -> Iterator[Finding]:
    """A parameter is shown and set at any time, whether or not a target module is there."""
    module = graph.module
    section = module.section(PARAMETERS)
    if section is None:
        return
    starts = [symbol for _, symbol in graph.extents.get(section.index, ())]
    own = ModuleSymbol(-1, PARAMETERS, 0, section.size, 0, STT_OBJECT, section.index)
    for symbol in graph.reach([*starts, own]).values():
        for offset in graph.fields(symbol):
            owner = _late(module, symbol.shndx, offset)
            if owner:
                fact = f"{symbol.name} is relocated when {owner} comes, and a parameter of this module leads to it"
                yield finding("V27-late-special", f"{module.sections[symbol.shndx].name}+{offset:#x}", fact)


# -- lifetime --------------------------------------------------------------------------------------------------------


def _read_rows(module: ModuleFile, rows: list[Written]) -> Iterator[Finding]:
    """Fill `rows` from the table, and say what is wrong with it."""
    code = "V37-initial-value"
    symbol = next(iter(module.global_symbols.get(INITIAL.symbol, ())), None)
    if symbol is None:
        return
    data = module.object_bytes(INITIAL.symbol) or b""
    if len(data) % INITIAL.size or any(data[-INITIAL.size :]) or len(data) < INITIAL.size:
        fact = f"{len(data)} bytes are no whole rows of {INITIAL.size}, the last one of zeros"
        yield finding(code, INITIAL.symbol, fact)
        return
    for number, row in enumerate(INITIAL.rows(data)[:-1]):
        size, kind = (INITIAL.number(data, row, field) for field in ("size", "kind"))
        at = symbol.value + row
        place = _place(module, symbol.shndx, at + INITIAL.offsets["place"])
        value = _place(module, symbol.shndx, at + INITIAL.offsets["value"])
        name = _text(module, symbol.shndx, at + INITIAL.offsets["object"])
        fact = ""
        if place is None or not place[0].writable or place[1] + size > place[0].size or not size:
            fact = "names no variable of the module"
        elif name is None or kind not in KEPT:
            fact = "names no object, or is of a kind that is not known"
        elif value is not None and value[1] + size > value[0].size:
            fact = "has a value that is not in the module"
        elif (place[0].name == PER_CPU) != (kind == InitialKind.PER_CPU):
            fact = f"is of kind {kind} for a variable in {place[0].name}"
        if fact or place is None or name is None:
            yield finding(code, INITIAL.symbol, f"row {number} {fact}")
            continue
        rows.append(Written(name, place[0].index, place[1], size, kind))


def _place(module: ModuleFile, section: int, offset: int) -> tuple[ModuleSection, int] | None:
    reloc = module.at(section, offset)
    return module.place_of(reloc) if reloc is not None else None


def _text(module: ModuleFile, section: int, offset: int) -> str | None:
    """The string that a pointer leads to, "" for a null pointer, None where it leads nowhere."""
    if module.at(section, offset) is None:
        return ""
    place = _place(module, section, offset)
    return place[0].data[place[1] :].split(b"\0")[0].decode("utf-8", "replace") if place is not None else None


def _roots(graph: _ReferenceGraph, patched: list[tuple[str, SectionOffset]]) -> dict[str, list[ModuleSymbol]]:
    """Functions of the module by the object that they are for: what is replaced, and callbacks."""
    module = graph.module
    out: dict[str, list[ModuleSymbol]] = {}
    for name, (section, offset) in patched:
        found = graph.at(section, offset)
        if found is not None:
            out.setdefault(name, []).append(found)
    for symbol in module.global_symbols.get(CALLBACKS.symbol, ())[:1]:
        held = len(module.object_bytes(CALLBACKS.symbol) or b"")
        for at in range(symbol.value, symbol.value + held - CALLBACKS.size, CALLBACKS.size):
            place = _place(module, symbol.shndx, at + CALLBACKS.offsets["func"])
            found = graph.at(place[0].index, place[1]) if place is not None else None
            if found is not None:
                out.setdefault(_text(module, symbol.shndx, at + CALLBACKS.offsets["object"]) or VMLINUX, []).append(
                    found
                )
    return out


def _check_lifetime(
    graph: _ReferenceGraph, patched: list[tuple[str, SectionOffset]], rows: list[Written]
) -> Iterator[Finding]:
    """A variable that only functions of target modules lead to has a row for one of these, over all its bytes."""
    module = graph.module
    roots = _roots(graph, patched)
    reached = {name: graph.reach(starts) for name, starts in roots.items()}
    of_vmlinux = reached.get(VMLINUX, {})
    section = module.section(PARAMETERS)
    shown = graph.reach(s for _, s in graph.extents.get(section.index, ())) if section is not None else {}
    wanted: dict[int, tuple[ModuleSymbol, set[str]]] = {}
    for name, symbols in reached.items():
        for number, symbol in symbols.items():
            if name != VMLINUX and number not in of_vmlinux and _is_reinitialised(module, symbol):
                wanted.setdefault(number, (symbol, set()))[1].add(name)
    for number, (symbol, names) in sorted(wanted.items()):
        if number in shown:
            continue
        if not any(_covered(symbol, [r for r in rows if r.object == name]) for name in names):
            fact = f"is not initialised again when {' or '.join(sorted(names))} is loaded"
            yield finding("V37-initial-value", symbol.name, fact)


def _is_reinitialised(module: ModuleFile, symbol: ModuleSymbol) -> bool:
    section = module.sections[symbol.shndx]
    row = row_of(section.name)
    data = section.writable and not section.executable and section.type not in (SHT_RELA,)
    return symbol.type == STT_OBJECT and data and row is not None and row.reinitialised


def _covered(symbol: ModuleSymbol, rows: list[Written]) -> bool:
    """Whether these rows are over all bytes of a variable."""
    at = symbol.value
    for row in sorted((r for r in rows if r.section == symbol.shndx), key=lambda r: r.offset):
        if row.offset <= at < row.offset + row.size:
            at = row.offset + row.size
    return at >= symbol.value + symbol.size
