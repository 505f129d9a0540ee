# SPDX-License-Identifier: GPL-2.0-or-later
"""The part of verify that holds each relocation against what it fills in: the operand of an instruction, the field of a
table's entry, a pointer in data.

A relocation must be exactly one such field, of a type that such a field can have, and lead to where something is: a
branch to an instruction, a pointer into code to one, data to a place of the section or the variable. What fields must
have a relocation, because without one they mean nothing, has one. So must room that the compiler left for an
alternative have an entry, and a function unwind information.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator, Sequence

from kgbuild.arch.base import Arch
from kgbuild.arch.relocated_fields import FieldKind, InstructionField
from kgbuild.diagnostics.module_findings import finding
from kgbuild.model import Finding
from kgbuild.module_abi import CONSTANTS, LATE, SITES
from kgbuild.objects.symbol_kinds import PREFIXES
from kgbuild.verification.code import DecodedCode
from kgbuild.verification.modules import LATE_SECTION, VMLINUX
from kgbuild.verification.reading.reader import (
    SHN_LIVEPATCH,
    SHN_UNDEF,
    SHT_NOBITS,
    STT_FUNC,
    ModuleFile,
    ModuleSection,
    Reloc,
)

_CODE = "V41-reloc-field"
_UNWIND = ".orc_unwind_ip"
_MUST = (FieldKind.BRANCH, FieldKind.RELATIVE)
_COMPUTED = (FieldKind.TAKEN, FieldKind.SIGNED, FieldKind.NARROW, FieldKind.WIDE)
# Tables whose pointers lead to the field of an instruction, not to its first byte.
_TO_FIELDS = frozenset({SITES.section, LATE.section, CONSTANTS.section})

# What is known of a symbol outside the module by its name: bytes, and whether it is a function; None: nothing.
Outside = Callable[[str], tuple[int, bool] | None]


def check_fields(
    module: ModuleFile,
    arch: Arch,
    code: DecodedCode,
    outside: Outside,
    literals: frozenset[str],
    replacements: Sequence[tuple[int, int]],
) -> Iterator[Finding]:
    """Every relocation that is not of the field that holds it, and every field that has none.

    Input: the module, with the places that it writes itself as relocations; `outside` tells of symbols of the kernel;
    `literals` are exports that constants of the kernel are reached from; `replacements` the places, (section, offset),
    of what replaces functions.
    """
    checker = _Checker(module, arch, code, outside, literals)
    for section in module.sections[1:]:
        if not section.alloc or section.type == SHT_NOBITS:
            continue
        rows = module.targets.get(section.index, {})
        if section.executable:
            yield from checker.check_code(section, rows)
        else:
            yield from checker.check_data(section, rows)
    yield from _check_unwinding(module, replacements)
    yield from _check_late(module, arch)


class _Checker:
    def __init__(
        self, module: ModuleFile, arch: Arch, code: DecodedCode, outside: Outside, literals: frozenset[str]
    ) -> None:
        self.module, self.arch, self.code, self.outside, self.literals = module, arch, code, outside, literals

    # -- code ----------------------------------------------------------------------------------------------------

    def check_code(self, section: ModuleSection, rows: dict[int, list[Reloc]]) -> Iterator[Finding]:
        """The relocations of a section of code."""
        fields = {f.offset: f for f in self._fields(section)}
        for offset in sorted(rows):
            field = fields.get(offset)
            for row in rows[offset]:
                fact = self._fault(section, row, field)
                if fact:
                    yield finding(_CODE, f"{section.name}+{offset:#x}", fact)
        filled = {at for at, found in rows.items() if any(row.type != self.arch.relocs.none for row in found)}
        for field in fields.values():
            if field.kind in _MUST and field.size == 4 and field.value == 0 and field.offset not in filled:
                fact = f"{field.kind.value} that leads nowhere, and no relocation fills it in"
                yield finding(_CODE, f"{section.name}+{field.offset:#x}", f"is {fact}")
        yield from self._check_placeholders(section)

    def _fields(self, section: ModuleSection) -> list[InstructionField]:
        starts = sorted({0, *self.code.pieces.get(section.index, ())})
        out = []
        for start, end in zip(starts, [*starts[1:], len(section.data)], strict=True):
            out += [
                f._replace(offset=f.offset + start, start=f.start + start, end=f.end + start)
                for f in self.arch.relocated.fields(section.data[start:end])
            ]
        return out

    def _fault(self, section: ModuleSection, row: Reloc, field: InstructionField | None) -> str:
        """What is wrong with a relocation in code, "" where nothing is."""
        size = self.arch.relocs.sizes.get(row.type, 0)
        if row.type == self.arch.relocs.none:
            return ""
        if field is None or size != field.size:
            return f"a relocation of {size} bytes is no field of an instruction"
        if row.type not in self.arch.relocated.types[field.kind]:
            return f"a relocation of type {row.type} is in {field.kind.value}"
        bias = field.end - field.offset if row.type in self.arch.relocs.pc_relative else 0
        if field.kind is FieldKind.INDEXED:
            return ""
        leads = self._leads(section, row, row.addend + bias, branch=field.kind is FieldKind.BRANCH)
        # code may go on to compute with an address that it takes, `table - 8` for an index from 1
        return "" if field.kind in _COMPUTED and not self._is_code(row) else leads

    def _is_code(self, row: Reloc) -> bool:
        """Whether a relocation names code of the module, or a function of the kernel."""
        symbol = self.module.symbol_of(row)
        if symbol is None or 0 < symbol.shndx < len(self.module.sections):
            return symbol is not None and self.module.sections[symbol.shndx].executable
        known = self.outside(symbol.name)
        return known is not None and known[1]

    def _check_placeholders(self, section: ModuleSection) -> Iterator[Finding]:
        """Instructions that are room for an alternative."""
        replaced = self.code.replaced.get(section.index, [])
        functions = [
            range(s.value, s.value + s.size)
            for s in self.module.symbols
            if s.type == STT_FUNC and s.shndx == section.index and s.size and not s.name.startswith(PREFIXES)
        ]
        if section.name in self.arch.auxiliary or section.name.startswith(".altinstr"):
            return
        run: list[int] = []
        ends = [*self.code.instructions(section).values(), None]
        for i in ends:
            held = section.data[i.offset : i.offset + i.length] if i is not None else b""
            if (
                i is not None
                and held == self.arch.relocated.placeholder
                and any(i.offset in function for function in functions)
            ):
                run.append(i.offset)
                continue
            if len(run) >= self.arch.relocated.least_room and not any(at in room for at in run for room in replaced):
                place, fact = f"{section.name}+{run[0]:#x}", f"{len(run)} bytes are room for an alternative"
                yield finding("V22-unlisted-site", place, f"{fact}, and .altinstructions names none")
            run = []

    # -- data ----------------------------------------------------------------------------------------------------

    def check_data(self, section: ModuleSection, rows: dict[int, list[Reloc]]) -> Iterator[Finding]:
        """The relocations of a section of data, or of a special section."""
        spec = self.arch.special_of(section.name)
        size = self.code.entry_size(section, spec)[0] if spec is not None else 0
        for offset in sorted(rows):
            for row in rows[offset]:
                fact = self._data_fault(section, row, size if spec is not None else 0)
                if fact:
                    yield finding(_CODE, f"{section.name}+{offset:#x}", fact)

    def _data_fault(self, section: ModuleSection, row: Reloc, entry: int) -> str:
        width = self.arch.relocs.sizes.get(row.type, 0)
        if entry:
            at = row.offset % entry
            wanted = self.arch.relocated.special.get((section.name, at))
            if row.type == self.arch.relocs.none:
                return "a relocation of no type is in a table"
            if wanted is not None and row.type != wanted:
                return f"a relocation of type {row.type} is where one of type {wanted} belongs"
            if wanted is None and row.type not in (self.arch.pointer_reloc, self.arch.per_field_pcrel32):
                return f"a relocation of type {row.type} is in a table of distances and pointers"
            if at + width > entry:
                return "a relocation is beyond the end of an entry"
        elif row.type != self.arch.relocs.none and row.type not in self.arch.relocated.data:
            return f"a relocation of type {row.type} is in data"
        elif width == 8 and row.offset % 8 and section.align >= 8:
            return "a pointer is not aligned"
        return self._leads(section, row, row.addend, branch=False) if row.type == self.arch.pointer_reloc else ""

    # -- where it leads ------------------------------------------------------------------------------------------

    def _leads(self, section: ModuleSection, row: Reloc, distance: int, *, branch: bool) -> str:
        """What is wrong with where a relocation leads: so many bytes behind its symbol."""
        symbol = self.module.symbol_of(row)
        if symbol is None:
            return ""
        if symbol.shndx in (SHN_UNDEF, SHN_LIVEPATCH):
            if symbol.name in self.literals:
                return ""  # see verification/literals.py
            known = self.outside(symbol.name)
            if branch and distance:
                return f"a branch leads {distance:+d} bytes beside {symbol.name}"
            relative = section.executable and row.type in self.arch.relocs.pc_relative
            if known is not None and known[1] and distance and relative:
                return f"an address is {distance:+d} bytes beside the function {symbol.name}"
            if known is not None and not known[1] and known[0] and not 0 <= distance <= known[0]:
                return f"an address is {distance:+d} bytes from {symbol.name}, which has {known[0]}"
            return ""
        if not 0 < symbol.shndx < len(self.module.sections):
            return ""
        target, to = self.module.sections[symbol.shndx], symbol.value + distance
        if target.executable:
            known_starts = self.code.instructions(target)
            if to in known_starts or section.name in _TO_FIELDS or (not branch and to == target.size):
                return ""
            return f"leads to {target.name}+{to:#x}, where no instruction begins"
        if branch:
            return f"a branch leads to {target.name}, which is no code"
        if not 0 <= to <= target.size:
            return f"leads to {target.name}+{to:#x}, beyond its {target.size} bytes"
        return ""


def _check_late(module: ModuleFile, arch: Arch) -> Iterator[Finding]:
    """A module that clears what is relocated when a target comes names each such field, and no other."""
    symbol = next(iter(module.global_symbols.get(LATE.symbol, ())), None)
    if symbol is None:
        return
    wanted = set()
    for section in module.sections[1:]:
        match = LATE_SECTION.fullmatch(section.name)
        if match is not None and match[1] != VMLINUX:
            rows = module.relocs.get(section.index, ())
            wanted |= {(match[1], section.info, row.offset, arch.relocs.sizes.get(row.type, 0)) for row in rows}
    data, listed = module.object_bytes(LATE.symbol) or b"", set()
    for at in LATE.rows(data)[:-1]:
        named, site = (module.at(symbol.shndx, symbol.value + at + LATE.offsets[f]) for f in ("object", "site"))
        text = module.place_of(named) if named is not None else None
        place = module.place_of(site) if site is not None else None
        if text is None or place is None:
            yield finding("V27-late-special", LATE.symbol, f"row {at // LATE.size} names no object, or no place")
            continue
        owner = text[0].data[text[1] :].split(b"\0")[0].decode("utf-8", "replace")
        listed.add((owner, place[0].index, place[1], LATE.number(data, at, "size")))
    if any(data[-LATE.size :]) or len(data) % LATE.size:
        yield finding("V27-late-special", LATE.symbol, "does not end with an empty row")
    for owner, index, offset, _ in sorted(wanted ^ listed):
        section_name = module.sections[index].name if index < len(module.sections) else f"section {index}"
        fact = f"is relocated when {owner} comes, or cleared when it goes, and not both"
        yield finding("V27-late-special", f"{section_name}+{offset:#x}", fact)


def _check_unwinding(module: ModuleFile, replacements: Sequence[tuple[int, int]]) -> Iterator[Finding]:
    """What replaces a function has an unwind entry at its start, or before it in its section: the kernel asks the
    unwinder whether a task is in it."""
    table = module.section(_UNWIND)
    if table is None or not table.size:
        return
    begins: dict[int, list[int]] = {}
    for rows in module.targets.get(table.index, {}).values():
        place = module.place_of(rows[0])
        if place is not None:
            begins.setdefault(place[0].index, []).append(place[1])
    for starts in begins.values():
        starts.sort()
    for section, offset in replacements:
        if not bisect.bisect_right(begins.get(section, []), offset):
            where = f"{module.sections[section].name}+{offset:#x}"
            yield finding("V20-special", _UNWIND, f"has no entry for {where}, which replaces a function")
