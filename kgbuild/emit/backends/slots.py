# SPDX-License-Identifier: GPL-2.0-or-later
"""Slots: memory of the module that holds the address of what the kernel does not export, and code that goes through it.

Where an instruction takes such an address, it becomes a load from the slot. Any other instruction that refers to the
symbol becomes a jump to the end of its function, where a longer form of it stands that goes through a register, and
jumps back (arch/x86_64/slot_rewriting.py). It stands inside the function's symbol on purpose: when a patch is
withdrawn the kernel looks for tasks in a function from its symbol to the next one, and must find those that are there.

Every instruction that was moved is said in a section that no kernel loads, for verify (MOVED of module_abi.py): from
where, to where, bytes of either.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from kgbuild.arch.base import Arch, Rewritten
from kgbuild.elf.consts import SHF, SHT, STT
from kgbuild.elf.write import OutObject, OutReloc, OutSection, OutSymbol
from kgbuild.emit.backends.old_interfaces import emitted_entry_size
from kgbuild.module_abi import MOVED, SLOT, SLOTS_SECTION

# Entries that name the lock prefix of an instruction: they follow it.
_LOCKS = ".smp_locks"
_UNWIND, _UNWIND_STATES, _UNWIND_PLACE = ".orc_unwind_ip", ".orc_unwind", 4

IsLate = Callable[[OutSection, OutReloc], bool]


@dataclass(frozen=True)
class SlotStep:
    """One instruction to rewrite: where it is, its new form, the relocations in it by offset in it, those of them that
    go through slots, and the unwind entries of the new form where that is moved, as (offset, entry)."""

    section: OutSection
    start: int
    length: int
    form: Rewritten
    relocs: dict[int, OutReloc]
    late: frozenset[int]
    unwind: tuple[tuple[int, bytes], ...] = ()


@dataclass(frozen=True)
class SlotUse:
    """A slot: its offset in the section of slots, and what it holds, a symbol and a distance from it."""

    offset: int
    symbol: OutSymbol
    addend: int


def plan_steps(out: OutObject, arch: Arch, is_late: IsLate) -> list[SlotStep]:
    """Every instruction with a relocation that `is_late`; where its form has a fault, it can't be rewritten."""
    return list(_Planner(out, arch, is_late).run())


class _Planner:
    def __init__(self, out: OutObject, arch: Arch, is_late: IsLate) -> None:
        self.out, self.arch, self.is_late = out, arch, is_late
        self.unwind = Unwind(out)
        self.named: dict[int, list[tuple[int, str, bool]]] = {}
        for section in out.sections:
            self._name(section)

    def run(self) -> Iterator[SlotStep]:
        for section in self.out.sections:
            if section.flags & SHF.EXECINSTR and any(self.is_late(section, r) for r in section.relocs):
                yield from self._section(section)

    def _section(self, section: OutSection) -> Iterator[SlotStep]:
        code = bytes(section.data)
        named = self.named.get(id(section), [])
        starts = sorted({0, *(s.value for s in self.out.symbols if s.section is section and s.type == STT.FUNC)})
        for begin, end in zip(starts, [*starts[1:], len(code)], strict=True):
            decoded = self.arch.decode(code[begin:end])
            bound = {r.offset - begin for r in section.relocs}
            inside = [i for i in decoded if (i.is_branch or i.is_call) and i.field_offset not in bound]
            places = [*named, *((i.target + begin, "a branch", False) for i in inside if i.target is not None)]
            relocs = sorted((r for r in section.relocs if begin <= r.offset < end), key=lambda r: r.offset)
            for i in decoded:
                start = i.offset + begin
                own = {r.offset - start: r for r in relocs if start <= r.offset < start + i.length}
                late = frozenset(at for at, r in own.items() if self.is_late(section, r))
                if late:
                    yield self._step(section, start, code[start : start + i.length], own, late, places)

    def _name(self, by: OutSection) -> None:
        """Note where a section's relocations lead, by section: (offset, by what, whether as the owner of an entry)."""
        spec = self.arch.special_of(by.name)
        try:
            size = emitted_entry_size(by, self.arch) if spec is not None else 0
        except ValueError:
            size = 0  # each of its relocations may be an owner's
        for reloc in by.relocs:
            bias = 0
            if by.flags & SHF.EXECINSTR and reloc.type in self.arch.relocs.pc_relative:
                bias = self.arch.relocs.sizes[reloc.type]
            owner = spec is not None and (not size or reloc.offset % size == spec.owner)
            place = (reloc.symbol.value + reloc.addend + bias, by.name, owner)
            self.named.setdefault(id(reloc.symbol.section), []).append(place)

    def _step(
        self,
        section: OutSection,
        start: int,
        code: bytes,
        relocs: dict[int, OutReloc],
        late: frozenset[int],
        places: list[tuple[int, str, bool]],
    ) -> SlotStep:
        form = self.arch.slot_code.through(code, late, frozenset(relocs) - late)
        step = SlotStep(section, start, len(code), form, relocs, late)
        for place, by, owner in places:
            entry = owner and place == start and by not in (_LOCKS, _UNWIND)
            if entry or start < place < start + len(code):
                return replace(step, form=Rewritten(fault=f"by an instruction that {by} refers to"))
        if form.fault or not form.moved:
            return step
        functions = [s for s in self.out.symbols if s.section is section and s.type == STT.FUNC]
        inside = any(s.value <= start < s.value + s.size for s in functions)
        if not inside or any(s.value > start for s in functions):
            fault = "by an instruction that can't go through a slot: its function is not the last of its section"
            return replace(step, form=Rewritten(fault=fault))
        if start + len(code) == len(section.data):
            return replace(step, form=Rewritten(fault="by the last instruction of its function: there is no way back"))
        state = self.unwind.state_at(section, start)
        unwind = []
        for at, depth in form.depths if state else ():
            below = self.arch.slot_code.unwind_below(state, depth)
            if below is None:
                return replace(step, form=Rewritten(fault="where the stack can't be told while it goes through a slot"))
            unwind.append((at, below))
        return replace(step, unwind=tuple(unwind))


class Unwind:
    """The unwind entries of an object's code, where it has any."""

    def __init__(self, out: OutObject) -> None:
        self.places = next((s for s in out.sections if s.name == _UNWIND), None)
        self.states = next((s for s in out.sections if s.name == _UNWIND_STATES), None)
        self._entries: dict[int, list[tuple[int, int]]] = {}
        if self.places is None or self.states is None or not self.places.data:
            self.size = 0
            return
        self.size = len(self.states.data) // (len(self.places.data) // _UNWIND_PLACE)
        for r in self.places.relocs:
            at = r.symbol.value + r.addend
            self._entries.setdefault(id(r.symbol.section), []).append((at, r.offset // _UNWIND_PLACE))
        for entries in self._entries.values():
            entries.sort()

    def state_at(self, section: OutSection, offset: int) -> bytes:
        """The entry that holds for an offset of a section, b"" where there is none."""
        entries = self._entries.get(id(section), [])
        at = bisect_right(entries, (offset, 1 << 32)) - 1
        if at < 0 or self.states is None:
            return b""
        number = entries[at][1]
        return bytes(self.states.data[number * self.size : (number + 1) * self.size])

    def add(self, symbol: OutSymbol, rows: list[tuple[int, bytes]]) -> None:
        """Append entries for offsets from a symbol."""
        if self.places is None or self.states is None or not rows:
            return
        kind = self.places.relocs[0].type
        for offset, state in rows:
            self.places.relocs.append(OutReloc(len(self.places.data), kind, symbol, offset))
            self.places.data += bytes(_UNWIND_PLACE)
            self.states.data += state

    def move_end(self, section: OutSection, old: int) -> None:
        """What said where a section ends says so again."""
        for r in self.places.relocs if self.places is not None else ():
            if r.symbol.section is section and r.symbol.value + r.addend == old:
                r.addend += len(section.data) - old


class SlotWriter:
    """Rewrites an object by a plan without faults. Where a section is given relocations and symbols, it is changed in
    place."""

    def __init__(self, out: OutObject, arch: Arch) -> None:
        self.out, self.arch = out, arch
        self.section = OutSection(SLOTS_SECTION, SHT.PROGBITS, SHF.ALLOC, align=SLOT)
        self.moved = OutSection(MOVED.section, SHT.PROGBITS, 0, align=8)
        self._symbol = OutSymbol("", self.section, type=STT.SECTION)
        self._slots: dict[tuple[str, int], SlotUse] = {}
        self._names: dict[int, OutSymbol] = {}

    def run(self, steps: list[SlotStep]) -> list[SlotUse]:
        """Rewrite, append the sections, and say what the slots are to hold."""
        if not steps:
            return []
        unwind = Unwind(self.out)
        sections = {id(step.section): step.section for step in steps}
        ends = {key: len(section.data) for key, section in sections.items()}
        rows: list[tuple[OutSection, int, bytes]] = []
        for step in steps:
            gone = {id(r) for r in step.relocs.values()}
            step.section.relocs = [r for r in step.section.relocs if id(r) not in gone]
            base = self._move(step) if step.form.moved else self._replace(step)
            rows += [(step.section, base + at, state) for at, state in step.unwind]
        for key, section in sections.items():
            if len(section.data) != ends[key]:
                self._grow(section, {s.start for s in steps if s.section is section and s.form.moved})
                unwind.move_end(section, ends[key])
        for section, offset, state in rows:
            unwind.add(self._symbol_of(section), [(offset, state)])
        self.out.sections.append(self.section)
        self.out.symbols.append(self._symbol)
        if self.moved.data:
            self.out.sections.append(self.moved)
        return list(self._slots.values())

    def _replace(self, step: SlotStep) -> int:
        step.section.data[step.start : step.start + step.length] = step.form.code
        self._relocate(step, step.start)
        return step.start

    def _move(self, step: SlotStep) -> int:
        section, form, jump = step.section, step.form, self.arch.slot_code.jump
        to, end = len(section.data), step.start + step.length
        back = to + len(form.code)
        section.data += form.code + jump(end - back, self.arch.slot_code.jump_size)
        section.data[step.start : end] = jump(to - step.start, step.length)
        self._relocate(step, to)
        self._follow_locks(step, to)
        base = len(self.moved.data)
        self.moved.data += MOVED.pack(length=step.length, size=len(form.code) + self.arch.slot_code.jump_size)
        for field, place in ((0, step.start), (8, to)):
            symbol = self._symbol_of(section)
            self.moved.relocs.append(OutReloc(base + field, self.arch.pointer_reloc, symbol, place))
        return to

    def _relocate(self, step: SlotStep, base: int) -> None:
        kind = self.arch.per_field_pcrel32
        size = self.arch.relocs.sizes[kind]
        for at, before in step.form.slots:
            slot = self._slot(step.relocs[before], step.length - before)
            step.section.relocs.append(OutReloc(base + at, kind, self._symbol, slot.offset - size))
        for at, before, change in step.form.kept:
            r = step.relocs[before]
            step.section.relocs.append(OutReloc(base + at, r.type, r.symbol, r.addend + change))

    def _slot(self, reloc: OutReloc, rest: int) -> SlotUse:
        """The slot for what a relocation means; `rest` is how far before the instruction's end its field begins."""
        addend = reloc.addend + (rest if reloc.type in self.arch.relocs.pc_relative else 0)
        key = (reloc.symbol.name, addend)
        if key not in self._slots:
            self._slots[key] = SlotUse(len(self.section.data), reloc.symbol, addend)
            self.section.data += bytes(SLOT)
        return self._slots[key]

    def _follow_locks(self, step: SlotStep, to: int) -> None:
        for table in self.out.sections:
            for r in table.relocs if table.name == _LOCKS else ():
                if r.symbol.section is step.section and r.symbol.value + r.addend == step.start:
                    r.addend += to + step.form.at - step.start

    def _grow(self, section: OutSection, starts: set[int]) -> None:
        """The function whose instructions were moved ends where the section ends now."""
        for s in self.out.symbols:
            whole = s.section is section and s.type == STT.FUNC
            if whole and any(s.value <= start < s.value + s.size for start in starts):
                s.size = len(section.data) - s.value

    def _symbol_of(self, section: OutSection) -> OutSymbol:
        if id(section) not in self._names:
            self._names[id(section)] = OutSymbol("", section, type=STT.SECTION)
            self.out.symbols.append(self._names[id(section)])
        return self._names[id(section)]
