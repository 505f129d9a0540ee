# SPDX-License-Identifier: GPL-2.0-or-later
"""The part of verify for what newer kernels do to code: constants that are written at boot, tracked indirect branches
(IBT), calls that are counted.

Sources: arch/x86/include/asm/runtime-const.h, apply_seal_endbr of arch/x86/kernel/alternative.c and callthunks_patch_
module_calls of arch/x86/kernel/callthunks.c, all of 6.12.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kgbuild.arch.base import Arch, Instruction
from kgbuild.diagnostics.module_findings import finding
from kgbuild.model import VMLINUX, Finding
from kgbuild.module_abi import CONSTANTS, FUNCTIONS, RESOLVE_SECTION
from kgbuild.verification.reading.reader import (
    SHN_LIVEPATCH,
    SHN_UNDEF,
    SHT_NOBITS,
    STT_FUNC,
    ModuleFile,
    ModuleSection,
    ModuleSymbol,
    Reloc,
)
from kgbuild.verification.reading.statements import livepatch_object

# Static calls of the module's own: the kernel writes into the trampoline, and nothing branches to it indirectly.
TRAMPOLINE = "__SCT__"
CALLS = ".call_sites"
# Tables through which nothing branches: ftrace sets the instruction pointer itself.
_NO_POINTERS = frozenset({"__patchable_function_entries", RESOLVE_SECTION})

Decoded = Callable[[ModuleSection], dict[int, Instruction]]


def check_constants(module: ModuleFile, arch: Arch) -> Iterator[Finding]:
    """The table of constants, and code that holds a placeholder for one and is not in it."""
    listed: set[tuple[int, int]] = set()
    data = module.object_bytes(CONSTANTS.symbol)
    held = {len(f.constant): f.constant for f in arch.families if f.constant}
    if data is not None:
        if len(data) % CONSTANTS.size or any(data[-CONSTANTS.size :]):
            yield finding("V31-constant", CONSTANTS.symbol, f"its {len(data)} bytes do not end with a row of zeros")
        symbol = module.global_symbols[CONSTANTS.symbol][0]
        for start in CONSTANTS.rows(data)[:-1]:
            where = f"{CONSTANTS.symbol}, row {start // CONSTANTS.size}"
            size = CONSTANTS.number(data, start, "size")
            site, value = (
                module.at(symbol.shndx, symbol.value + start + CONSTANTS.offsets[f]) for f in ("site", "value")
            )
            place = module.place_of(site) if site is not None else None
            if place is None or not place[0].executable:
                yield finding("V31-constant", where, "leads to no code of the module")
            elif place[0].data[place[1] : place[1] + size] != held.get(size):
                raw = place[0].data[place[1] : place[1] + size].hex(" ")
                yield finding("V31-constant", where, f"{place[0].name}+{place[1]:#x} holds {raw or 'nothing'}")
            else:
                listed.add((place[0].index, place[1]))
            source = module.symbol_of(value) if value is not None else None
            if source is None or livepatch_object(source.name) != VMLINUX:
                yield finding("V31-constant", where, "is not bound to a variable of vmlinux")
    for section in module.sections[1:]:
        if section.executable and section.type != SHT_NOBITS:
            for constant in (c for size, c in held.items() if size >= 8):
                for at in _occurrences(section.data, constant):
                    if (section.index, at) not in listed:
                        fact = f"holds the placeholder {constant.hex(' ')}, and {CONSTANTS.symbol} does not say so"
                        yield finding("V31-constant", f"{section.name}+{at:#x}", fact)


def _occurrences(data: bytes, wanted: bytes) -> Iterator[int]:
    at = data.find(wanted)
    while at >= 0:
        yield at
        at = data.find(wanted, at + 1)


def check_counted_calls(module: ModuleFile, decoded: Decoded) -> Iterator[Finding]:
    """Calls that the kernel reads when the patch module loads go to what has an address then."""
    for section in module.by_name.get(CALLS, ()):
        for offset, rows in module.targets.get(section.index, {}).items():
            place = module.place_of(rows[0])
            call = decoded(place[0]).get(place[1]) if place is not None else None
            reloc = module.at(place[0].index, call.field_offset) if place is not None and call is not None else None
            symbol = module.symbol_of(reloc) if reloc is not None else None
            if symbol is not None and symbol.shndx == SHN_LIVEPATCH and livepatch_object(symbol.name) != VMLINUX:
                yield finding("V27-late-special", f"{CALLS}, entry {offset // 4}", f"is a call of {symbol.name}")


def check_pointers(
    module: ModuleFile, arch: Arch, decoded: Decoded, why_no_landing: Callable[[str, bool], str]
) -> Iterator[Finding]:
    """Pointers to functions, on a kernel with IBT: in the module's code and data, to its own functions and to others.

    `why_no_landing` says of a symbol outside the module (its name, and whether it is an export) what is wrong with a
    pointer to it, "" where nothing is.
    """
    starts = {
        (s.shndx, s.value): s.name
        for s in module.symbols
        if s.type == STT_FUNC and 0 < s.shndx < len(module.sections) and not s.name.startswith(TRAMPOLINE)
    }
    sealed = sealed_places(module, arch)
    # where kbuild links the module, a linker script may have merged the table of functions with other data
    tables = [(s.shndx, range(s.value, s.value + s.size)) for s in module.global_symbols.get(FUNCTIONS.symbol, ())]
    for index, by_offset in module.targets.items():
        section = module.sections[index] if 0 < index < len(module.sections) else None
        if section is None or not section.alloc or section.name in _NO_POINTERS:
            continue
        if arch.special_of(section.name) is not None or arch.is_dropped(section.name):
            continue
        fields = {i.field_offset: i for i in decoded(section).values()} if section.executable else {}
        for offset, rows in by_offset.items():
            instruction = fields.get(offset)
            if any(index == table and offset in places for table, places in tables):
                continue
            if instruction is not None and (instruction.is_call or instruction.is_branch):
                continue
            yield from _check_pointer(module, arch, section, rows[0], instruction, starts, sealed, why_no_landing)


def _check_pointer(
    module: ModuleFile,
    arch: Arch,
    section: ModuleSection,
    row: Reloc,
    instruction: Instruction | None,
    starts: dict[tuple[int, int], str],
    sealed: set[tuple[int, int]],
    why_no_landing: Callable[[str, bool], str],
) -> Iterator[Finding]:
    symbol = module.symbol_of(row)
    if symbol is None:
        return
    end = instruction.offset + instruction.length if instruction is not None else row.offset + 4
    meant = row.addend + (end - row.offset if section.executable and row.type in arch.relocs.pc_relative else 0)
    where = f"{section.name}+{row.offset:#x}"
    if symbol.shndx in (SHN_UNDEF, SHN_LIVEPATCH):
        fact = why_no_landing(symbol.name, symbol.shndx == SHN_UNDEF) if symbol.name and meant == 0 else ""
        if fact:
            yield finding("V32-endbr", where, fact)
        return
    place = (symbol.shndx, symbol.value + meant)
    if place in starts:
        name, code = starts[place], module.sections[place[0]].data[place[1] :]
        if not code.startswith(arch.landing):
            fact = f"takes the address of {name}, which does not begin with {arch.landing_name}"
            yield finding("V32-endbr", where, fact)
        elif place in sealed:
            yield finding("V32-endbr", where, f"takes the address of {name}, which {arch.seals} seals")


def sealed_places(module: ModuleFile, arch: Arch) -> set[tuple[int, int]]:
    """(section, offset) of every function of a module that loses its landing instruction when the kernel boots."""
    found = (
        module.place_of(rows[0])
        for section in module.by_name.get(arch.seals, ())
        for rows in module.targets.get(section.index, {}).values()
    )
    return {(place[0].index, place[1]) for place in found if place is not None}


def module_without_landing(module: ModuleFile, symbol: ModuleSymbol, arch: Arch) -> bool:
    """Whether an indirect branch may not go to a function of a shipped module."""
    if symbol.type != STT_FUNC or not 0 < symbol.shndx < len(module.sections):
        return False
    code = module.sections[symbol.shndx].data[symbol.value : symbol.value + len(arch.landing)]
    return code != arch.landing or (symbol.shndx, symbol.value) in sealed_places(module, arch)
