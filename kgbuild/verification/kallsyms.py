# SPDX-License-Identifier: GPL-2.0-or-later
"""The part of verify that concerns the back end kallsyms: its tables, as data/livepatch/kallsyms.c will read them.

Every symbol must be in the kernel at its position, with the code that its digest is of; every site must be a field of
the module's own code or data that nothing else writes and that nobody reads before the module's init; and every stub
must be a jump that a site completes. The kernel's bytes come from its own files, modules' by another reader.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from kgbuild.arch.base import Arch
from kgbuild.diagnostics.module_findings import finding
from kgbuild.model import Finding
from kgbuild.module_abi import KLP_SYMBOL, NUMBER, RANGES, SITES, STUB, STUBS_SECTION, SYMBOLS, SYMBOLS_SIZE, Table
from kgbuild.proof.record import SymbolKey
from kgbuild.verification.modules import VMLINUX, ShippedLookup
from kgbuild.verification.reading.reader import (
    SHN_LIVEPATCH,
    STB_GLOBAL,
    ModuleFile,
    ModuleSection,
    ModuleSymbol,
    Reloc,
)

_CODE = "V33-kallsyms"


@dataclass(frozen=True)
class LookupEntry:
    """One symbol to look up: the ranges (offset, size) that its CRC is of."""

    key: SymbolKey
    ranges: tuple[tuple[int, int], ...]
    crc: int


@dataclass(frozen=True)
class WrittenSite:
    """One place that is written: where it is (None: nowhere), and what the row of its symbol is."""

    section: ModuleSection | None
    offset: int
    addend: int
    kind: int
    symbol: int
    object: str


@dataclass(frozen=True)
class WrittenTables:
    """The tables of a module as read, with what is wrong with their form."""

    rows: tuple[LookupEntry, ...] = ()
    sites: tuple[WrittenSite, ...] = ()
    faults: tuple[Finding, ...] = ()


def is_kgraft(module: ModuleFile) -> bool:
    """Whether a module registers itself with kGraft."""
    return any(s.name == "kgr_patch_kernel" for s in module.symbols)


def is_kallsyms(module: ModuleFile) -> bool:
    """Whether a module has tables of this back end."""
    return any(table.symbol in module.global_symbols for table in (SYMBOLS, SITES, RANGES))


def read_tables(module: ModuleFile) -> WrittenTables:
    """The tables of a module; empty ones for a module of another back end."""
    if not is_kallsyms(module):
        return WrittenTables()
    faults: list[Finding] = []
    data = {table: module.object_bytes(table.symbol) for table in (SYMBOLS, RANGES, SITES)}
    faults += [finding(_CODE, table.symbol, "is missing") for table, raw in data.items() if raw is None]
    symbols, ranges, written = (data[table] or b"" for table in (SYMBOLS, RANGES, SITES))
    size = module.object_bytes(SYMBOLS_SIZE)
    if size != NUMBER.pack(len(symbols)):
        faults.append(finding(_CODE, SYMBOLS_SIZE, f"is missing or not the length of {SYMBOLS.symbol}"))
    extents = [(RANGES.number(ranges, at, "offset"), RANGES.number(ranges, at, "size")) for at in RANGES.rows(ranges)]
    rows = []
    for number, at in enumerate(SYMBOLS.rows(symbols)):
        sympos, first, count, crc = (SYMBOLS.number(symbols, at, f) for f in ("sympos", "range", "ranges", "crc"))
        object_name = _text(module, SYMBOLS, at, "object") or VMLINUX
        name = _text(module, SYMBOLS, at, "name")
        if not name:
            faults.append(finding(_CODE, SYMBOLS.symbol, f"row {number} has no name"))
        if first + count > len(extents):
            fact = f"its {count} ranges are not all in {RANGES.symbol}"
            faults.append(finding(_CODE, name or SYMBOLS.symbol, fact))
        rows.append(LookupEntry((object_name, name, sympos), tuple(extents[first : first + count]), crc))
    sites = []
    for number, at in enumerate(SITES.rows(written)):
        place = _place(module, SITES, at, "site")
        if place is None:
            if any(written[at:]) or at + SITES.size != len(written):
                fact = f"row {number} of {len(written) // SITES.size} has no place"
                faults.append(finding(_CODE, SITES.symbol, fact))
            break
        addend, kind, symbol = (SITES.number(written, at, field) for field in ("addend", "kind", "symbol"))
        owner = _text(module, SITES, at, "object") or VMLINUX
        sites.append(WrittenSite(place[0], place[1], addend, kind, symbol, owner))
    else:
        faults.append(finding(_CODE, SITES.symbol, "does not end with an empty row"))
    return WrittenTables(tuple(rows), tuple(sites), tuple(faults))


def as_livepatch(module: ModuleFile, tables: WrittenTables, arch: Arch) -> ModuleFile:
    """The module as if its rows were livepatch symbols and its sites relocations to them, so that all that is asked of
    a module of the back end klp can be asked of it too."""
    if not tables.rows:
        return module
    first = len(module.symbols)
    symbols = tuple(
        ModuleSymbol(first + i, f"{KLP_SYMBOL}{{}}.{{}},{{}}".format(*row.key), 0, 0, STB_GLOBAL, 0, SHN_LIVEPATCH)
        for i, row in enumerate(tables.rows)
    )
    types = {number: kind for kind, number in arch.written_late.items() if kind != arch.call_reloc}
    out = replace(module, symbols=module.symbols + symbols)
    targets = {section: dict(by_offset) for section, by_offset in module.targets.items()}
    for s in tables.sites:
        if s.section is not None and s.kind in types and s.symbol < len(symbols):
            reloc = Reloc(s.offset, types[s.kind], first + s.symbol, s.addend, 0)
            rows = targets.setdefault(s.section.index, {})
            rows[s.offset] = [*rows.get(s.offset, []), reloc]
    out.__dict__["targets"] = targets  # in place of what the cached property would compute
    return out


def _place(module: ModuleFile, table: Table, row: int, field: str) -> tuple[ModuleSection, int] | None:
    """Where a pointer in the row that begins at an offset of a table leads."""
    for symbol in module.global_symbols.get(table.symbol, ())[:1]:
        reloc = module.at(symbol.shndx, symbol.value + row + table.offsets[field])
        return module.place_of(reloc) if reloc is not None else None
    return None


def _text(module: ModuleFile, table: Table, row: int, field: str) -> str:
    found = _place(module, table, row, field)
    return found[0].data[found[1] :].split(b"\0")[0].decode("utf-8", "replace") if found is not None else ""


# -- judged ----------------------------------------------------------------------------------------------------------

# Bytes of a symbol in the kernel's file (symbol, offset, size), as the loader leaves them; None where it has none, or a
# relocation is applied there.
ReadCode = Callable[[SymbolKey, int, int], bytes | None]


def check_kallsyms(
    module: ModuleFile, tables: WrittenTables, arch: Arch, read: ReadCode, modules: ShippedLookup
) -> Iterator[Finding]:
    """Every fault of a module of this back end; none for one of another."""
    if not is_kallsyms(module):
        return
    yield from tables.faults
    for symbol in module.symbols:
        if symbol.shndx == SHN_LIVEPATCH:
            yield finding(_CODE, symbol.name, "is a livepatch symbol beside the tables of the back end kallsyms")
    seen: set[SymbolKey] = set()
    for row in tables.rows:
        if row.key in seen:
            yield finding(_CODE, row.key[1], "is in the table twice")
        seen.add(row.key)
        yield from _check_digest(row, read)
    yield from _check_sites(module, tables, arch, modules)
    yield from _check_stubs(module, tables, arch)


def _check_digest(row: LookupEntry, read: ReadCode) -> Iterator[Finding]:
    if not row.ranges:
        return
    parts = [read(row.key, offset, size) for offset, size in row.ranges]
    if any(part is None for part in parts):
        yield finding(_CODE, row.key[1], "its digest is of bytes that the kernel's function does not have")
    elif zlib.crc32(b"".join(part for part in parts if part is not None)) != row.crc:
        yield finding(_CODE, row.key[1], "its digest is not that of the kernel's function")


def _check_sites(module: ModuleFile, tables: WrittenTables, arch: Arch, modules: ShippedLookup) -> Iterator[Finding]:
    widths = {number: arch.relocs.sizes[kind] for kind, number in arch.written_late.items()}
    taken: dict[int, set[int]] = {}
    for index, by_offset in module.targets.items():
        for offset, relocs in by_offset.items():
            width = max(arch.relocs.sizes.get(r.type, 8) for r in relocs)
            taken.setdefault(index, set()).update(range(offset, offset + width))
    for number, site in enumerate(tables.sites):
        section = site.section
        where = f"{section.name}+{site.offset:#x}" if section is not None else f"site {number}"
        if section is None or site.kind not in widths:
            yield finding(_CODE, where, f"is of the unknown kind {site.kind}")
            continue
        if site.symbol >= len(tables.rows):
            yield finding(_CODE, where, f"is for symbol {site.symbol} of {len(tables.rows)}")
            continue
        width = widths[site.kind]
        field = range(site.offset, site.offset + width)
        if site.offset < 0 or field.stop > len(section.data) or not section.alloc:
            yield finding(_CODE, where, f"{width} bytes are not in the section")
        elif any(section.data[site.offset : field.stop]):
            yield finding(_CODE, where, "holds something already")
        used = taken.setdefault(section.index, set())
        if used & set(field):
            yield finding(_CODE, where, "is written by something else too")
        used.update(field)
        if section.name in arch.read_at_load or section.name.startswith(".data..percpu"):
            yield finding(_CODE, where, "is read before the module's init")
        yield from _check_owner(where, tables.rows[site.symbol].key[0], site.object, modules)


def _check_owner(where: str, of: str, written_with: str, modules: ShippedLookup) -> Iterator[Finding]:
    """A site is written when what it refers to is there: the kernel in init, a module when the patched one comes."""
    if of == VMLINUX:
        if written_with != VMLINUX:
            yield finding(_CODE, where, f"refers to the kernel, and waits for {written_with}")
    elif written_with != of:
        shipped = modules(written_with)
        if shipped is None or of not in shipped.depends:
            yield finding(_CODE, where, f"refers to {of}, and is written when {written_with} comes")


def _check_stubs(module: ModuleFile, tables: WrittenTables, arch: Arch) -> Iterator[Finding]:
    sites = {(s.section.index, s.offset): s for s in tables.sites if s.section is not None}
    code, field = arch.stub[arch.stub_entry :], arch.stub_field - arch.stub_entry
    starts: dict[int, set[int]] = {}
    for symbol in module.symbols:
        section = module.sections[symbol.shndx] if symbol.shndx < len(module.sections) else None
        if not symbol.name.startswith(STUB) or section is None or section.name != STUBS_SECTION:
            continue
        starts.setdefault(symbol.shndx, set()).add(symbol.value)
        site = sites.get((symbol.shndx, symbol.value + field))
        key = tables.rows[site.symbol].key if site is not None and site.symbol < len(tables.rows) else None
        if section.data[symbol.value : symbol.value + len(code)] != code or not section.executable:
            yield finding(_CODE, symbol.name, "is no stub")
        elif site is None or key is None or site.addend != -arch.relocs.sizes[arch.call_reloc]:
            yield finding(_CODE, symbol.name, "its jump leads nowhere")
        elif key[1] != symbol.name.removeprefix(STUB):
            yield finding(_CODE, symbol.name, f"jumps to {key[1]}")
    for section_index, by_offset in module.targets.items():
        for offset, relocs in by_offset.items():
            target = module.symbol_of(relocs[0])
            section = module.sections[section_index]
            if target is None or target.shndx >= len(module.sections) or not section.executable:
                continue
            if module.sections[target.shndx].name == STUBS_SECTION and (
                target.value not in starts.get(target.shndx, ())
                or relocs[0].addend != -arch.relocs.sizes[arch.call_reloc]
            ):
                yield finding(_CODE, f"{section.name}+{offset:#x}", "leads into the stubs, to where none begins")
