# SPDX-License-Identifier: GPL-2.0-or-later
"""The part of verify that concerns slots (emit/backends/slots.py): memory that holds the address of what the kernel
does not export, and the code that goes through it.

Every slot must be written, and read only as a whole; no other code is written when the module is loaded than the
stubs; an instruction that was moved must come back to where it was, leave every other register as it was, stand inside
its function's symbol, and have unwind entries that fit.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from kgbuild.arch.base import Arch
from kgbuild.diagnostics.module_findings import finding
from kgbuild.model import Finding
from kgbuild.module_abi import MOVED, SITES, SLOT, SLOTS_SECTION, STUBS_SECTION
from kgbuild.verification.code import DecodedCode
from kgbuild.verification.kallsyms import WrittenTables
from kgbuild.verification.reading.reader import STT_FUNC, ModuleFile, ModuleSection

_CODE = "V33-kallsyms"
_UNWIND, _UNWIND_STATES, _LOCKS = ".orc_unwind_ip", ".orc_unwind", ".smp_locks"
# More than any instruction has bytes, and than it becomes many.
_LONGEST = 16
_OWNER = -1


class SlotEntry(NamedTuple):
    """One instruction that was moved: its section, its offset and length, and those of what it became."""

    section: ModuleSection
    start: int
    length: int
    to: int
    size: int

    @property
    def where(self) -> str:
        return f"{self.section.name}+{self.start:#x}"


def check_slots(module: ModuleFile, tables: WrittenTables, arch: Arch, code: DecodedCode) -> Iterator[Finding]:
    """Every fault of a module's slots; none where it has neither slots nor other sites."""
    slots = set()
    for site in tables.sites:
        if site.section is None:
            continue
        where = f"{site.section.name}+{site.offset:#x}"
        if site.section.name == SLOTS_SECTION:
            if site.kind != arch.written_late[arch.pointer_reloc] or site.offset % SLOT:
                yield finding(_CODE, where, "is no whole slot")
            slots.add(site.offset)
        elif site.section.executable and site.section.name != STUBS_SECTION:
            yield finding(_CODE, where, "is code that is written when the module is loaded, and no stub")
    section = module.section(SLOTS_SECTION)
    for offset in range(0, len(section.data) if section is not None else 0, SLOT):
        if offset not in slots:
            yield finding(_CODE, f"{SLOTS_SECTION}+{offset:#x}", "is a slot that nothing writes")
    loads = _loads(module, arch)
    for (index, offset), slot in sorted(loads.items()):
        if not _is_load(module, arch, code, index, offset) or slot not in slots:
            where = f"{module.sections[index].name}+{offset:#x}"
            yield finding(_CODE, where, "refers to the slots otherwise than by loading one")
    yield from _check_moved(module, arch, code, {key for key in loads if module.sections[key[0]].executable})


def _loads(module: ModuleFile, arch: Arch) -> dict[tuple[int, int], int]:
    """Every field that a relocation leads into the slots: (section, offset) to the offset there of what is meant."""
    tables = {s.shndx for s in module.global_symbols.get(SITES.symbol, ())}
    out = {}
    for index, by_offset in module.targets.items():
        if not 0 < index < len(module.sections) or index in tables:
            continue
        for offset, rows in by_offset.items():
            for row in rows:
                place = module.place_of(row)
                if place is not None and place[0].name == SLOTS_SECTION:
                    out[(index, offset)] = place[1] + arch.relocs.sizes[arch.per_field_pcrel32]
    return out


def _is_load(module: ModuleFile, arch: Arch, code: DecodedCode, index: int, offset: int) -> bool:
    section, reloc = module.sections[index], module.at(index, offset)
    if not section.executable or reloc is None or reloc.type != arch.per_field_pcrel32:
        return False
    found = next((i for i in code.instructions(section).values() if i.field_offset == offset and i.field_size), None)
    return found is not None and arch.slot_code.is_load(section.data[found.offset : found.offset + found.length])


def _check_moved(module: ModuleFile, arch: Arch, code: DecodedCode, loads: set[tuple[int, int]]) -> Iterator[Finding]:
    rows: list[SlotEntry] = []
    for section in module.by_name.get(MOVED.section, ()):
        for base in MOVED.rows(section.data):
            places = []
            for field in ("start", "to"):
                reloc = module.at(section.index, base + MOVED.offsets[field])
                places.append(module.place_of(reloc) if reloc is not None else None)
            length, size = (MOVED.number(section.data, base, field) for field in ("length", "size"))
            start, to = places
            if start is None or to is None or start[0] is not to[0] or not start[0].executable:
                yield finding(
                    _CODE, f"{MOVED.section}, row {base // MOVED.size}", "leads to no code, or to two sections"
                )
            else:
                rows.append(SlotEntry(start[0], start[1], length, to[1], size))
        if len(section.data) % MOVED.size:
            yield finding(_CODE, MOVED.section, f"{section.size} bytes are no whole number of rows")
    unwind = _UnwindEntries(module, arch)
    for row in rows:
        yield from _check_row(module, arch, row, loads)
        yield from _check_unwinding(arch, row, unwind)
    yield from _check_entered(module, arch, rows, code)
    yield from _check_unlisted(module, arch, rows, code, loads)


def _check_row(module: ModuleFile, arch: Arch, row: SlotEntry, loads: set[tuple[int, int]]) -> Iterator[Finding]:
    data = row.section.data
    orig, moved = data[row.start : row.start + row.length], data[row.to : row.to + row.size]
    if len(orig) != row.length or len(moved) != row.size or not moved:
        yield finding(_CODE, row.where, "was moved, and is not wholly in the section")
        return
    fields = [offset - row.to for index, offset in loads if index == row.section.index]
    fault = arch.slot_code.check(orig, row.start, moved, row.to, [f for f in fields if 0 <= f < row.size])
    if fault:
        yield finding(_CODE, row.where, f"was moved to +{row.to:#x}, and {fault}")
    owners = [s for s in module.symbols if s.type == STT_FUNC and s.shndx == row.section.index]
    end = row.to + row.size
    whole = any(s.value <= row.start and end <= s.value + s.size for s in owners)
    if not whole or any(row.start < s.value < end for s in owners):
        yield finding(_CODE, row.where, f"was moved to +{row.to:#x}, which is outside its function")


def _check_entered(module: ModuleFile, arch: Arch, rows: list[SlotEntry], code: DecodedCode) -> Iterator[Finding]:
    """Nothing but the jump that replaces it leads into what was moved, nothing into the middle of that jump, and no
    entry of a table is about the instruction."""
    for section in {row.section.index: row.section for row in rows}.values():
        own = [row for row in rows if row.section is section]
        for place, by, start in _references(module, arch, code, section):
            for row in own:
                moved = row.to <= place < row.to + row.size and not (place == row.to and start == row.start)
                named = start == _OWNER and place == row.start
                if moved or named or row.start < place < row.start + row.length:
                    yield finding(_CODE, row.where, f"was moved to +{row.to:#x}, and {by} leads to +{place:#x}")


def _references(
    module: ModuleFile, arch: Arch, code: DecodedCode, section: ModuleSection
) -> Iterator[tuple[int, str, int | None]]:
    """Places of a section that branches and relocations lead to: (offset, from where, offset of the branch; _OWNER
    where an entry of a special section is about the instruction there)."""
    for i in code.instructions(section).values():
        bound = module.at(section.index, i.field_offset) is not None
        if not bound and i.target is not None and (i.is_branch or i.is_call):
            yield i.target, f"a branch at +{i.offset:#x}", i.offset
    for index, by_offset in module.targets.items():
        other = module.sections[index] if 0 < index < len(module.sections) else None
        if other is None or other.name in (MOVED.section, _UNWIND, _LOCKS) or not other.alloc:
            continue
        spec = arch.special_of(other.name)
        size = code.entry_size(other, spec)[0] if spec is not None else 0
        for offset, relocs in by_offset.items():
            owner = _OWNER if spec is not None and (not size or offset % size == spec.owner) else None
            for reloc in relocs:
                place = module.place_of(reloc)
                relative = other.executable and reloc.type in arch.relocs.pc_relative
                bias = arch.relocs.sizes[reloc.type] if relative else 0
                if place is not None and place[0] is section:
                    yield place[1] + bias, f"{other.name}+{offset:#x}", owner


def _check_unlisted(
    module: ModuleFile, arch: Arch, rows: list[SlotEntry], code: DecodedCode, loads: set[tuple[int, int]]
) -> Iterator[Finding]:
    """Every jump to code that loads a slot and comes back right behind the jump is listed."""
    known = {(row.section.index, row.start) for row in rows}
    for index in {index for index, _ in loads}:
        section = module.sections[index]
        found = code.instructions(section)
        for i in found.values():
            jumps = i.is_branch and i.ends_flow and module.at(index, i.field_offset) is None
            if not jumps or i.target is None or (index, i.offset) in known:
                continue
            at, seen, next_at = i.target, False, i.offset + i.length
            for _ in range(_LONGEST):
                step = found.get(at)
                if step is None or step.ends_flow or step.is_branch or step.is_call:
                    break
                seen = seen or any((index, field) in loads for field in range(at, at + step.length))
                at += step.length
            back = found[at].target if at in found and found[at].is_branch else None
            gap = section.data[next_at:back] if back is not None and next_at <= back < next_at + _LONGEST else None
            if seen and gap and not gap.strip(arch.trap[:1]):
                yield finding(
                    _CODE,
                    f"{section.name}+{i.offset:#x}",
                    f"was moved to +{i.target:#x}, and {MOVED.section} does not say so",
                )


class _UnwindEntries:
    """The unwind entries of a module by section and offset."""

    def __init__(self, module: ModuleFile, arch: Arch) -> None:
        each = arch.unwind_entry
        places, states = module.section(_UNWIND), module.section(_UNWIND_STATES)
        self._entries: dict[int, list[tuple[int, bool, bytes]]] = {}
        for offset, rows in module.targets.get(places.index, {}).items() if places is not None and states else ():
            place, at = module.place_of(rows[0]), offset // 4 * each
            assert states is not None
            state = states.data[at : at + each]
            if place is not None and len(state) == each:
                # the kernel passes over an undefined one where another is at the same place
                self._entries.setdefault(place[0].index, []).append((place[1], any(state), state))
        for entries in self._entries.values():
            entries.sort()

    def at(self, section: ModuleSection, offset: int) -> bytes | None:
        entries = self._entries.get(section.index, [])
        found = bisect_right(entries, offset, key=lambda e: e[0]) - 1
        return entries[found][2] if found >= 0 else None


def _check_unwinding(arch: Arch, row: SlotEntry, unwind: _UnwindEntries) -> Iterator[Finding]:
    state = unwind.at(row.section, row.start)
    if state is None:
        return
    for at, depth in arch.slot_code.depths(row.section.data[row.to : row.to + row.size]):
        if unwind.at(row.section, row.to + at) != arch.slot_code.unwind_below(state, depth):
            fact = f"was moved to +{row.to:#x}, where the unwind entry at +{row.to + at:#x} is not of its stack"
            yield finding(_CODE, row.where, fact)
            return
