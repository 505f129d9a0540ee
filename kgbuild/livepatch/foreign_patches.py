# SPDX-License-Identifier: GPL-2.0-or-later
"""Which functions another live patch module replaces, read from its file, whoever built it.

Four forms are known. kgbuild's own table (module_abi.py); `.init.klp_objects` and `.init.klp_funcs` of klp-build
(include/linux/livepatch_external.h, since 6.19); `.kpatch.funcs` of kpatch (kmod/patch/kpatch-patch.h); and plain
`struct klp_patch`, `klp_object`, `klp_func` in C (include/linux/livepatch.h), which a module of one's own has. The size
of the latter changes with version and configuration, so that rows are found by their pointers: the first fields, name
and pointer to the code or the next table, have not moved since 4.0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kgbuild.arch import for_object
from kgbuild.elf.consts import ET, SHN, SHT
from kgbuild.elf.modinfo import parse_modinfo
from kgbuild.elf.object import Object
from kgbuild.elf.read import FormatError
from kgbuild.livepatch.cumulative import Patched
from kgbuild.model import VMLINUX, SectionOffset
from kgbuild.module_abi import FUNCTIONS

_EXT_OBJECTS, _EXT_OBJECT_ROW, _EXT_COUNT, _EXT_FUNC_ROW = ".init.klp_objects", 64, 56, 24
_KPATCH = ".kpatch.funcs"
# (size of a row, offset of the name, of the object's name, of the position or -1), newest first
_KPATCH_ROWS = ((56, 40, 48, 32), (48, 32, 40, -1))
_WORD = 8


@dataclass(frozen=True)
class OtherPatch:
    """A live patch module as its file tells: name for messages, what it replaces (None where that can't be read, with
    `unread` saying why), the kernel it was made for by its vermagic."""

    name: str
    functions: tuple[Patched, ...] | None
    unread: str
    vermagic: str


def read_other(obj: Object, name: str) -> OtherPatch:
    """What another module patches. Input: the module as an object, its name for messages. Raises FormatError for a
    file of another kind."""
    if obj.type != ET.REL:  # of other files, nobody has checked the relocations
        raise FormatError(16, "not a relocatable file, as every module is")
    section = obj.section_named(".modinfo")
    info = parse_modinfo(obj.contents(section.index)) if section is not None else {}
    vermagic = info.get("vermagic", "")
    if "livepatch" not in info:
        return OtherPatch(name, None, "it is no live patch module (no livepatch=Y in .modinfo)", vermagic)
    fields = _Fields(obj)
    for form in (_read_own, _read_external, _read_kpatch, _read_plain):
        found = sorted(set(form(fields)))
        if found:
            return OtherPatch(name, tuple(found), "", vermagic)
    return OtherPatch(name, None, "its table of functions has none of the known forms", vermagic)


class _Fields:
    """Pointers and numbers in the data of a relocatable object. A place is (section, offset)."""

    def __init__(self, obj: Object) -> None:
        self.obj = obj
        self.word = [t for t, size in for_object(obj).relocs.sizes.items() if size == _WORD]
        self._pointers: dict[int, dict[int, tuple[int, int]]] = {}

    def pointers(self, section: int) -> dict[int, tuple[int, int]]:
        """(symbol, addend) of each pointer in a section, by its offset."""
        found = self._pointers.get(section)
        if found is None:
            rows = self.obj.relocs(section)
            columns = (rows[name].tolist() for name in ("offset", "type", "sym", "addend"))
            found = {at: (sym, add) for at, kind, sym, add in zip(*columns, strict=True) if kind in self.word}
            self._pointers[section] = found
        return found

    def leads_to(self, place: SectionOffset) -> SectionOffset | None:
        """Where a pointer leads in this object, None where it is null or leads elsewhere."""
        pointer = self.pointers(place[0]).get(place[1])
        if pointer is None:
            return None
        symbol = self.obj.symbol(pointer[0])
        if symbol.shndx in (SHN.UNDEF, SHN.ABS) or symbol.shndx >= len(self.obj.sections):
            return None
        return symbol.shndx, symbol.value + pointer[1]

    def text(self, place: SectionOffset) -> str:
        """The string that a pointer leads to, "" where there is none."""
        at = self.leads_to(place)
        if at is None or self.obj.sections[at[0]].executable:
            return ""
        raw = bytes(self.obj.contents(at[0]))[at[1] : at[1] + 512]
        return raw.partition(b"\0")[0].decode("utf-8", "replace")

    def number(self, place: SectionOffset, size: int = _WORD) -> int:
        return self.obj.number(bytes(self.obj.contents(place[0])[place[1] : place[1] + size]))

    def is_code(self, place: SectionOffset | None) -> bool:
        return place is not None and self.obj.sections[place[0]].executable

    def rows(self, place: SectionOffset, length: int, size: int) -> range:
        """Offsets of the rows of a table that are wholly in its section. `length` and `size` (of a row) are bytes; the
        length is what the file says, which may be anything."""
        return range(place[1], min(place[1] + length, self.obj.sections[place[0]].size) - size + 1, size)

    def extent(self, place: SectionOffset) -> int:
        """Offset at which the named data that holds a place ends; the place itself where none does."""
        ends = [
            s.value + s.size
            for s in self.obj.iter_symbols()
            if s.shndx == place[0] and s.value <= place[1] < s.value + s.size
        ]
        return max(ends, default=place[1])


def _read_own(fields: _Fields) -> Iterator[Patched]:
    table = next((s for s in fields.obj.iter_symbols() if s.name == FUNCTIONS.symbol and s.shndx), None)
    if table is None or table.shndx >= len(fields.obj.sections):
        return
    for at in fields.rows((table.shndx, table.value), table.size, FUNCTIONS.size):
        name = fields.text((table.shndx, at + 8))
        if name:
            owner = fields.text((table.shndx, at)) or VMLINUX
            yield Patched(owner, name, fields.number((table.shndx, at + 24)))


def _read_external(fields: _Fields) -> Iterator[Patched]:
    section = fields.obj.section_named(_EXT_OBJECTS)
    if section is None:
        return
    for at in fields.rows((section.index, 0), section.size, _EXT_OBJECT_ROW):
        table = fields.leads_to((section.index, at + 8))
        if table is None:
            continue
        length = fields.number((section.index, at + _EXT_COUNT), 4) * _EXT_FUNC_ROW
        for row in fields.rows(table, length, _EXT_FUNC_ROW):
            if name := fields.text((table[0], row)):
                owner = fields.text((section.index, at)) or VMLINUX
                yield Patched(owner, name, fields.number((table[0], row + 16)))


def _read_kpatch(fields: _Fields) -> Iterator[Patched]:
    section = fields.obj.section_named(_KPATCH)
    if section is None:
        return
    for size, name_at, owner_at, position_at in _KPATCH_ROWS:
        rows = range(0, section.size, size)
        if section.size % size or not all(fields.text((section.index, start + name_at)) for start in rows):
            continue
        if not all(fields.is_code(fields.leads_to((section.index, start))) for start in rows):
            continue
        for start in rows:
            owner = fields.text((section.index, start + owner_at)) or VMLINUX
            position = fields.number((section.index, start + position_at)) if position_at >= 0 else 0
            yield Patched(owner, fields.text((section.index, start + name_at)), position)
        return


def _read_plain(fields: _Fields) -> Iterator[Patched]:
    """`struct klp_patch` begins with the module and the pointer to its objects; these with name and functions."""
    for section in fields.obj.sections:
        if section.type != SHT.PROGBITS or section.executable or section.index not in fields.obj.rela_of:
            continue
        for at, (symbol, addend) in fields.pointers(section.index).items():
            if addend == 0 and fields.obj.name_of(symbol) == "__this_module":
                objects = fields.leads_to((section.index, at + _WORD))
                if objects is not None and not fields.is_code(objects):
                    yield from _plain_objects(fields, objects)


def _plain_objects(fields: _Fields, objects: SectionOffset) -> Iterator[Patched]:
    section, start = objects
    for at in range(start, fields.extent(objects) - _WORD, _WORD):
        functions = fields.leads_to((section, at + _WORD))
        if functions is None or not _is_function_row(fields, functions):
            continue
        owner = fields.text((section, at)) or VMLINUX
        for row in range(functions[1], fields.extent(functions) - _WORD, _WORD):
            place = functions[0], row
            if _is_function_row(fields, place):
                yield Patched(owner, fields.text(place), fields.number((place[0], row + 2 * _WORD)))


def _is_function_row(fields: _Fields, place: SectionOffset) -> bool:
    return bool(fields.text(place)) and fields.is_code(fields.leads_to((place[0], place[1] + _WORD)))
