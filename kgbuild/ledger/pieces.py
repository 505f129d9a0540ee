# SPDX-License-Identifier: GPL-2.0-or-later
"""An object divided into pieces: the ledger's own reading, which shares no code with the differ.

A piece is a range of a section that begins at a symbol or lies between ranges covered by symbols. Tables made by
objtool and the assembler are read entry by entry (`ledger/tables.py`), literals one by one. The target of a relocation
is given as a piece, so that symbol and section numbers do not matter.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from kgbuild.arch import for_object
from kgbuild.arch.base import SpecialSection
from kgbuild.elf.consts import SHF, SHN, SHT, STT
from kgbuild.elf.object import Object, RelocRow, Section

# Numbers that a compiler or a macro adds to a name: `f.isra.0`, `__UNIQUE_ID_alias12`, `__BTF_ID__func__kfree__7`,
# `__initcall__kmod_version__260_27_proc_version_init5`.
_NUMBER = re.compile(r"\.\d+(?=\.|$)")
_COUNTED = re.compile(r"^(.*__UNIQUE_ID_.*?|__\w*ID__.*__)\d+$")
_LOCAL = re.compile(r"(\.\.L\D*)\d+$")  # `.data..Lubsan_data5`, `.rodata..L__unnamed_3`
_INITCALL = re.compile(r"(__initcall__kmod_.*?__)\d+_\d+_")
# Sections made for one function or variable each (-ffunction-sections, -fdata-sections), which end with its name.
_KINDS: tuple[str, ...] = (
    ".data.once",
    ".data.unlikely",
    ".text.unlikely",
    ".text.hot",
    ".text.startup",
    ".text",
    ".rodata",
    ".data.rel.ro.local",
    ".data.rel.ro",
)
_KINDS += (".data.rel", ".data", ".bss")
# Debugging information and the tables of the ELF file itself.
_ASIDE: tuple[str, ...] = (
    ".debug",
    ".zdebug",
    ".comment",
    ".note.GNU-stack",
    ".eh_frame",
    ".llvm_addrsig",
    ".symtab",
    ".strtab",
)
_ASIDE += (".shstrtab", ".BTF")
DISCARDED = ".discard"
MODINFO = ".modinfo"
BTF = ".BTF"
_PLAIN = (".text", ".rodata", ".data", ".bss")
_TABLES = frozenset(map(int, (SHT.RELA, SHT.SYMTAB, SHT.STRTAB, SHT.GROUP, SHT.SYMTAB_SHNDX, SHT.NULL)))
_ALLOC, _MERGE = int(SHF.ALLOC), int(SHF.MERGE)
_UNDEF, _RESERVED = int(SHN.UNDEF), int(SHN.LORESERVE)
_SYMBOL_FREE = frozenset((int(STT.SECTION), int(STT.FILE)))

SectionOffset = tuple[int, int]  # index of a section, offset in bytes


@lru_cache(1 << 16)
def without_numbers(name: str) -> str:
    """A name without the numbers that compilers and macros add."""
    if "." in name:
        name = _NUMBER.sub("", name)
    if name.startswith("__"):
        counted = _COUNTED.match(name)
        name = counted[1] if counted else _INITCALL.sub(r"\1", name)
    return name


@lru_cache(1 << 16)
def kind_of_section(name: str) -> str:
    """A section's name without the name of the one function or variable it was made for."""
    if ".." in name:
        return name
    return next((kind for kind in _KINDS if name == kind or name.startswith(f"{kind}.")), name)


def without_count(section: str) -> str:
    """A section's name without the compiler's number in it."""
    return _LOCAL.sub(r"\1", without_numbers(section))


class Piece(NamedTuple):
    """A range of a section. `names` are the names of the symbols at its start, the most significant first; `symbols`
    their numbers; `labels` the symbols further inside, with their offsets in the piece."""

    number: int
    section: int
    start: int
    end: int
    names: tuple[str, ...]
    symbols: tuple[int, ...]
    labels: tuple[tuple[str, int], ...] = ()

    @property
    def name(self) -> str:
        return self.names[0] if self.names else ""

    @property
    def place(self) -> SectionOffset:
        return self.section, self.start


class ObjectPieces:
    """One object, divided into pieces."""

    def __init__(self, obj: Object) -> None:
        self.obj, self.arch = obj, for_object(obj)
        self.names: list[str] = []
        self.pieces: list[Piece] = []
        self.of_section: dict[int, list[Piece]] = {}
        self.of_symbol: dict[int, int] = {}  # the number of the piece that contains a named symbol
        self.outside: dict[str, int] = {}  # undefined, absolute and common symbols by name
        self._starts: dict[int, list[int]] = {}
        self.files: dict[int, str] = {}  # in a linked object, the source file of each local symbol
        self.raw: dict[int, bytes] = {}
        self.literals: list[Section] = []
        self.tables: dict[str, list[Section]] = {}
        self.auxiliary: set[int] = set()
        self.discarded: dict[str, list[Section]] = {}
        self.aside: dict[str, list[Section]] = {}
        self.modinfo: list[Section] = []
        self.listed: set[int] = set()  # sections that are read
        self._aux_starts: dict[int, list[int]] | None = None
        self._read()

    # -- pieces -------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        at = self._symbols()
        sizes = self.obj.columns.size
        for section in self.obj.sections[1:]:
            if section.type in _TABLES:
                continue
            name = section.name
            if section.flags & _ALLOC:
                self.listed.add(section.index)
            if name.startswith(_PLAIN) and section.flags & _ALLOC and not section.flags & _MERGE:
                found = at.get(section.index)
                alone = found.get(0, []) if found is not None and len(found) == 1 else []
                if len(alone) == 1 and sizes[alone[0]] == section.size:
                    # only one function or variable, as in most sections
                    number = len(self.pieces)
                    piece = Piece(number, section.index, 0, section.size, (self.names[alone[0]],), (alone[0],))
                    self.pieces.append(piece)
                    self.of_symbol[alone[0]] = number
                    self.of_section[section.index] = [piece]
                    self._starts[section.index] = [0]
                elif found is not None or section.size:
                    self._divide(section, found or {})
            elif name.startswith(DISCARDED):
                self.discarded.setdefault(name, []).append(section)
            elif name == MODINFO:
                self.modinfo.append(section)
            elif not section.alloc:
                if name and not name.startswith(_ASIDE):  # nothing finds a section without a name
                    self.aside.setdefault(name, []).append(section)
            elif name.startswith(".eh_frame"):
                continue
            elif self.rule(name) is not None or name in self.arch.companions:
                self.tables.setdefault(name, []).append(section)
            elif name in self.arch.auxiliary:
                self.auxiliary.add(section.index)
            elif section.merge and (section.strings or section.entsize) and section.index not in at:
                self.literals.append(section)
            else:
                self._divide(section, at.get(section.index, {}))

    def _symbols(self) -> dict[int, dict[int, list[int]]]:
        columns = self.obj.columns
        at: dict[int, dict[int, list[int]]] = {}
        names = self.names = self._names()
        kinds = columns.kinds
        file, files = "", kinds.count(STT.FILE) > 1
        for i, (shndx, kind, name, value) in enumerate(zip(columns.shndx, kinds, names, columns.value, strict=True)):
            if kind in _SYMBOL_FREE or not i:
                names[i] = ""
                if files and kind == STT.FILE:
                    file = name
                continue
            if file:
                self.files[i] = file
            if shndx == _UNDEF or shndx >= _RESERVED:
                self.outside[name] = i
            elif not name.startswith(".L"):
                at.setdefault(shndx, {}).setdefault(value, []).append(i)
        return at

    def _names(self) -> list[str]:
        """The name of each symbol."""
        strings = bytes(self.obj.strtab)
        if strings.isascii():
            text = strings.decode("ascii")
            return [text[start : text.index("\0", start)] for start in self.obj.columns.name]
        return [self.obj.name_of(i) for i in range(len(self.obj.columns.name))]

    def _divide(self, section: Section, at: dict[int, list[int]]) -> None:
        columns = self.obj.columns
        out: list[Piece] = []
        cursor = 0
        places = sorted(at)
        for number, value in enumerate(places):
            if value < cursor and out:
                last = out[-1]  # a label inside a symbol with a size
                labels = tuple((self.names[i], value - last.start) for i in at[value])
                out[-1] = last._replace(labels=last.labels + labels)
                self.of_symbol.update(dict.fromkeys(at[value], last.number))
                continue
            if value > cursor:
                out.append(self._piece(section.index, cursor, value))
            symbols = at[value]
            if len(symbols) > 1:
                symbols = sorted(symbols, key=lambda i: (not columns.info[i] >> 4, -columns.size[i], i))
            size = max([columns.size[i] for i in symbols])
            if size:
                end = min(value + size, section.size)
            else:
                end = places[number + 1] if number + 1 < len(places) else section.size
            piece = self._piece(section.index, value, max(end, value), tuple(symbols))
            self.of_symbol.update(dict.fromkeys(symbols, piece.number))
            out.append(piece)
            cursor = end
        if cursor < section.size:
            out.append(self._piece(section.index, cursor, section.size))
        for piece in out:
            self.pieces[piece.number] = piece
        self.of_section[section.index] = out
        self._starts[section.index] = [p.start for p in out]

    def _piece(self, section: int, start: int, end: int, symbols: tuple[int, ...] = ()) -> Piece:
        piece = Piece(len(self.pieces), section, start, end, tuple(self.names[i] for i in symbols), symbols)
        self.pieces.append(piece)
        return piece

    def piece_at(self, section: int, offset: int) -> Piece | None:
        """The piece that contains an offset of a section; an offset behind the last piece belongs to that piece."""
        pieces = self.of_section.get(section)
        if not pieces:
            return None
        return pieces[max(bisect.bisect_right(self._starts[section], offset) - 1, 0)]

    # -- contents -----------------------------------------------------------------------------------------------

    def bytes_of(self, index: int) -> bytes:
        """The bytes of a section, cached; zeros if the file has none for it."""
        found = self.raw.get(index)
        if found is None:
            section = self.obj.sections[index]
            raw = self.obj.contents(index)
            found = self.raw[index] = bytes(raw) if section.type != SHT.NOBITS else b""
        return found

    def content(self, piece: Piece) -> bytes:
        """The bytes of a piece; empty if the file has none for it."""
        return self.bytes_of(piece.section)[piece.start : piece.end]

    def rows(self, piece: Piece) -> list[RelocRow]:
        """The relocations in a piece, by offset in the section."""
        rows = self.obj.reloc_rows(piece.section)
        if not rows or (len(self.of_section[piece.section]) == 1):
            return rows
        return rows[bisect.bisect_left(rows, (piece.start,)) : bisect.bisect_left(rows, (piece.end,))]

    def kind(self, piece: Piece) -> str:
        """The kind of section that contains a piece."""
        return kind_of_section(self.obj.sections[piece.section].name)

    def text_at(self, section: Section, offset: int) -> bytes:
        """What a reference into a section of literals refers to: the rest of a string, or a constant."""
        raw = self.bytes_of(section.index)
        if section.strings:
            if not 0 <= offset < len(raw):
                return f"outside {offset}".encode()
            return raw[offset : _end_of_string(raw, offset, max(section.entsize, 1))]
        size = max(section.entsize, 1)
        start = offset - offset % size
        return raw[start : start + size] + bytes([offset - start])

    def texts(self, section: Section) -> Iterator[bytes]:
        """The literals of a section, one by one."""
        raw = self.bytes_of(section.index)
        if section.strings and section.entsize <= 1:
            yield from raw.split(b"\0")[:-1] if raw.endswith(b"\0") else raw.split(b"\0")
            return
        size, at = max(section.entsize, 1), 0
        while at < len(raw):
            end = _end_of_string(raw, at, size) if section.strings else at + size
            yield raw[at:end]
            at = end

    def aux_piece(self, section: int, offset: int) -> tuple[int, int]:
        """Start and end of a piece of replacement code: from one referenced place to the next."""
        if self._aux_starts is None:
            starts: dict[int, set[int]] = {i: {0} for i in self.auxiliary}
            columns = self.obj.columns
            inside = {sym for sym, shndx in enumerate(columns.shndx) if shndx in starts}
            for index in self.obj.rela_of:
                if not self.obj.sections[index].alloc:
                    continue
                for _, kind, sym, addend in [row for row in self.obj.reloc_rows(index) if row[2] in inside]:
                    bias = self.arch.relocs.sizes.get(kind, 0) if self.obj.sections[index].executable else 0
                    starts[columns.shndx[sym]].add(columns.value[sym] + addend + bias)
            self._aux_starts = {i: sorted(found) for i, found in starts.items()}
        found = self._aux_starts[section]
        at = bisect.bisect_right(found, offset)
        return offset, found[at] if at < len(found) else self.obj.sections[section].size

    @property
    def aux_starts(self) -> dict[int, list[int]]:
        """The starts of the pieces of replacement code, by section."""
        for index in self.auxiliary:
            self.aux_piece(index, 0)
            break
        return self._aux_starts or {}

    def rule(self, section: str) -> SpecialSection | None:
        """The format of the entries of a table; None for a section that is no table of code."""
        found = self.arch.special_of(section) or self.arch.sections.get(section)
        return found if found is not None and found.sizes else None


def entry_size(total: int, rows: list[RelocRow], spec: SpecialSection) -> int:
    """The entry size of a table: among the known sizes, the one that fits its relocations best."""
    if len(spec.sizes) == 1:
        return next(iter(spec.sizes))
    offsets = {row[0] for row in rows}

    def fits(size: int) -> tuple[bool, bool]:
        needed = spec.sizes[size]
        every = all(at + n in offsets for at in range(0, total, size) for n in needed)
        return every and (total % size == 0 or bool(spec.last)), -(-total // size) * len(needed) == len(offsets)

    return max(spec.sizes, key=fits)


def _end_of_string(raw: bytes, at: int, width: int) -> int:
    if width == 1:
        found = raw.find(b"\0", at)
        return found + 1 if found >= 0 else len(raw)
    while at < len(raw) and any(raw[at : at + width]):
        at += width
    return min(at + width, len(raw))
