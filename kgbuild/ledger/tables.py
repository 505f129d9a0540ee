# SPDX-License-Identifier: GPL-2.0-or-later
"""Compares tables whose entries belong to code or data (static keys, alternatives, bug flags, unwinding), entry by
entry, grouped by the piece that each belongs to."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from kgbuild.arch.base import SpecialSection
from kgbuild.elf.consts import SHN
from kgbuild.elf.object import Section
from kgbuild.ledger.difference import CAME, ENTRIES, SHOWN, WENT, Book
from kgbuild.ledger.meaning import UNKNOWN, Meaning, Meanings
from kgbuild.ledger.pieces import ObjectPieces, Piece, entry_size, kind_of_section


class _TableEntry(NamedTuple):
    """One entry of a table: its place in its owner, its bytes with the relocated fields zeroed, what those refer to."""

    at: int
    raw: bytes
    means: tuple[tuple[int, Meaning], ...]


class _EntryRun(NamedTuple):
    """Consecutive entries of a table that belong to one section of code: the first entry and the one behind the last,
    the first relocation and the one behind the last."""

    table: _EntryTable
    first: int
    last: int
    row: int
    end: int

    def same(self, other: _EntryRun) -> bool:
        """Whether two runs are certainly equal."""
        if self.last - self.first != other.last - other.first or self.table.size != other.table.size:
            return False
        table, other_table = self.table, other.table
        if table.addends and other_table.addends:
            size = table.size
            return (
                table.kinds == other_table.kinds
                and table.addends[self.row : self.end] == other_table.addends[other.row : other.end]
                and table.raw[self.first * size : self.last * size]
                == other_table.raw[other.first * size : other.last * size]
                and table.beside_of(self) == other_table.beside_of(other)
            )
        return table.shape(self) == other_table.shape(other)


class _EntryTable:
    """One section of entries."""

    def __init__(self, walker: Tables, side: ObjectPieces, section: Section, spec: SpecialSection) -> None:
        self.walker, self.side, self.section, self.spec = walker, side, section, spec
        self.rows = side.obj.reloc_rows(section.index)
        self.size = entry_size(section.size, self.rows, spec)
        self.raw = side.bytes_of(section.index)
        self.count = -(-section.size // self.size)
        other = side.obj.section_named(spec.companion) if spec.companion else None
        whole = other is not None and self.count and other.size % self.count == 0
        self.beside = side.bytes_of(other.index) if whole and other is not None else b""
        self.each = len(self.beside) // self.count if self.count else 0
        # if each entry has only its owner's relocation, as in most tables, the addends describe everything
        alone = [row[0] for row in self.rows] == list(range(spec.owner, section.size, self.size))
        self.addends = [row[3] for row in self.rows] if alone else []
        self.kinds = {row[1] for row in self.rows} if alone else set()

    def runs(self) -> Iterable[tuple[object, _EntryRun]]:
        """The runs, each with its owner: a piece, or a section with several pieces."""
        size, owner, side = self.size, self.spec.owner, self.side
        rows = self.rows
        each = self._rows_of_each()
        if each:
            symbols = [row[2] for row in rows[self._owner_row(each) :: each]]  # one for each entry
            starts: list[int] | range = range(0, len(rows) + 1, each)
        else:
            symbols, starts = [-1] * self.count, [-1] * self.count
            for number, (offset, _, sym, _) in enumerate(rows):
                entry, field = divmod(offset, size)
                if entry < self.count:
                    if starts[entry] < 0:
                        starts[entry] = number
                    if field == owner and symbols[entry] < 0:
                        symbols[entry] = sym
            after = len(rows)
            starts.append(after)
            for entry in range(self.count - 1, -1, -1):
                starts[entry] = after = starts[entry] if starts[entry] >= 0 else after
        first = 0
        shndx = side.obj.columns.shndx
        for symbol, group in itertools.groupby(symbols):
            last = first + len(list(group))
            run = _EntryRun(self, first, last, starts[first], starts[last])
            first = last
            if symbol < 0:
                yield ("nothing", self.section.name), run
                continue
            pieces = side.of_section.get(shndx[symbol], ())
            if len(pieces) == 1:
                yield self.walker.pairs.key(side, pieces[0]), run
            elif shndx[symbol] and shndx[symbol] < SHN.LORESERVE:
                yield ("section", side.obj.sections[shndx[symbol]].name), run
            else:
                yield ("outside", side.names[symbol]), run

    def _owner_row(self, each: int) -> int:
        """Which relocation of the first entry is its owner's; -1 for none."""
        return next((i for i, row in enumerate(self.rows[:each]) if row[0] == self.spec.owner), -1)

    def _rows_of_each(self) -> int:
        """How many relocations each entry has, if all have the same fields and an owner among them; else 0."""
        if self.addends:
            return 1
        each, rest = divmod(len(self.rows), self.count) if self.count else (0, 0)
        if rest or not each or self._owner_row(each) < 0:
            return 0
        offsets = [row[0] for row in self.rows]
        for field in range(each):
            if offsets[field::each] != list(range(offsets[field], self.count * self.size, self.size)):
                return 0
        return each if len(set(offsets[:each])) == each and offsets[each - 1] < self.size else 0

    def beside_of(self, run: _EntryRun) -> bytes:
        """The part of the companion table that belongs to a run."""
        return self.beside[run.first * self.each : run.last * self.each]

    def shape(self, run: _EntryRun) -> tuple[object, ...]:
        """A value that is equal for equal runs: the bytes, and what each relocation refers to."""
        size, rows = self.size, self.rows[run.row : run.end]
        tokens = self.walker.meanings.quick[self.side is self.walker.patched]
        base = run.first * size
        means: list[object] = []
        replaced = self.spec.replacement.get(size, (-1, -1))[0]
        shndx = self.side.obj.columns.shndx
        for offset, kind, sym, addend in rows:
            token: object = tokens[sym]
            delta = addend
            field = (offset - base) % size
            if field == self.spec.owner:
                token = None  # given by the key of the run
            elif token == UNKNOWN:
                if field == replaced and shndx[sym] in self.side.auxiliary:
                    token, delta = self._replacement(offset - field, size, sym, addend), 0
                else:
                    token, delta = self.walker.meanings.means(self.side, sym, addend), 0
            means.append((offset - base, kind, token, delta))
        return self.raw[base : run.last * size], self.beside_of(run), means

    def _replacement(self, entry: int, size: int, sym: int, addend: int) -> Meaning:
        columns = self.side.obj.columns
        start = columns.value[sym] + addend
        length = self.raw[entry + self.spec.replacement[size][1]]
        return self.walker.meanings.code(self.side, columns.shndx[sym], start, start + length)

    def entries(self, run: _EntryRun) -> Iterable[tuple[object, _TableEntry]]:
        """The entries of a run, each with the piece that it belongs to."""
        side, spec, size, columns = self.side, self.spec, self.size, self.side.obj.columns
        sizes = side.arch.relocs.sizes
        at = run.row
        replaced = spec.replacement.get(size, (-1, -1))[0]
        for number in range(run.first, run.last):
            first = number * size
            data = bytearray(self.raw[first : first + size])
            owner: object = None
            place = -1
            means: list[tuple[int, Meaning]] = []
            while at < run.end and self.rows[at][0] < first + size:
                offset, kind, sym, addend = self.rows[at]
                at += 1
                width = sizes.get(kind, 0)
                field = offset - first
                if not width:
                    continue
                data[field : field + width] = bytes(width)
                if field == spec.owner:
                    owner, place = self.walker.owner_at(side, sym, columns.value[sym] + addend)
                elif field == replaced and columns.shndx[sym] in side.auxiliary:
                    means.append((field, self._replacement(first, size, sym, addend)))
                else:
                    means.append((field, self.walker.meanings.means(side, sym, addend)))
            beside = self.beside[number * self.each : (number + 1) * self.each]
            yield owner, _TableEntry(place, bytes(data) + beside, tuple(means))


def _runs(tables: list[_EntryTable]) -> dict[object, list[_EntryRun]]:
    out: dict[object, list[_EntryRun]] = {}
    for table in tables:
        for key, run in table.runs():
            out.setdefault(key, []).append(run)
    return out


class Tables:
    """Compares the tables of two objects."""

    def __init__(self, meanings: Meanings, book: Book) -> None:
        self.meanings, self.pairs, self.book = meanings, meanings.pairs, book
        self.orig, self.patched = meanings.orig, meanings.patched

    def run(self) -> None:
        for name in sorted(self.orig.tables.keys() | self.patched.tables.keys()):
            self._table(name)
        self._auxiliary()

    def _table(self, name: str) -> None:
        orig, patched = self.orig.tables.get(name, []), self.patched.tables.get(name, [])
        spec = self.patched.rule(name)
        if spec is None:
            return  # accompanies another table
        if self._same_table(orig, patched, spec):
            return
        tables = (
            [_EntryTable(self, self.orig, s, spec) for s in orig],
            [_EntryTable(self, self.patched, s, spec) for s in patched],
        )
        orig_runs, patched_runs = _runs(tables[0]), _runs(tables[1])
        others: tuple[list[_EntryRun], list[_EntryRun]] = ([], [])
        for key in orig_runs.keys() | patched_runs.keys():
            orig_group, patched_group = orig_runs.get(key, []), patched_runs.get(key, [])
            same = len(orig_group) == len(patched_group) and all(
                orig_run.same(patched_run) for orig_run, patched_run in zip(orig_group, patched_group, strict=True)
            )
            if same and (not isinstance(key, tuple) or self._same_layout(key)):
                continue
            others[0].extend(orig_group)
            others[1].extend(patched_group)
        self._compare_entries(name, self._entries(others[0]), self._entries(others[1]))

    def _same_table(self, orig: list[Section], patched: list[Section], spec: SpecialSection) -> bool:
        """Whether a whole table is certainly equal."""
        if len(orig) != 1 or len(patched) != 1 or orig[0].size != patched[0].size:
            return False
        of = [orig[0].name, spec.companion] if spec.companion else [orig[0].name]
        for name in of:
            orig_sections, patched_sections = self.orig.tables.get(name, []), self.patched.tables.get(name, [])
            if [self.orig.bytes_of(s.index) for s in orig_sections] != [
                self.patched.bytes_of(s.index) for s in patched_sections
            ]:
                return False
        return self.meanings.same_rows(
            self.orig.obj.reloc_rows(orig[0].index), 0, self.patched.obj.reloc_rows(patched[0].index), 0
        )

    def _same_layout(self, key: tuple[object, ...]) -> bool:
        """Whether offsets in a section with several pieces refer to the same things on both sides."""
        found = []
        for side in (self.orig, self.patched):
            sections = [s.index for s in side.obj.sections if s.name == key[-1] and s.index in side.of_section]
            found.append([(piece.start, self.pairs.key(side, piece)) for i in sections for piece in side.of_section[i]])
        return found[0] == found[1]

    def _compare_entries(
        self, name: str, orig: dict[object, list[_TableEntry]], patched: dict[object, list[_TableEntry]]
    ) -> None:
        for key in orig.keys() | patched.keys():
            orig_entries, patched_entries = orig.get(key, []), patched.get(key, [])
            if orig_entries == patched_entries:
                continue
            orig_piece, patched_piece = self._owner(key)
            piece, side = (patched_piece, self.patched) if patched_piece is not None else (orig_piece, self.orig)
            pairs = enumerate(zip(orig_entries, patched_entries, strict=False))
            first = next((number for number, pair in pairs if pair[0] != pair[1]), None)
            if first is None:
                first = min(len(orig_entries), len(patched_entries))
            some = (patched_entries[first:] or orig_entries[first:])[0]
            shown = [
                f"{len(side)} entries" + (f", {self._shown(side[first])}" if first < len(side) else "") if side else ""
                for side in (orig_entries, patched_entries)
            ]
            symbol = (piece.name or side.kind(piece)) if piece is not None else self._replaced(key)
            orig_place, patched_place = (
                orig_piece.place if orig_piece is not None else None,
                patched_piece.place if patched_piece is not None else None,
            )
            self.book.say(name, symbol, ENTRIES, shown[0], shown[1], some.at, orig_place, patched_place)

    def _shown(self, entry: _TableEntry) -> str:
        means = ", ".join(self.meanings.show(m) for _, m in entry.means)
        return entry.raw[:SHOWN].hex() + (f" ({means})"[:100] if means else "")

    def _replaced(self, key: object) -> str:
        """The section of replacement code that entries belong to, "" for others without a piece."""
        name = str(key[-1]) if isinstance(key, tuple) and key[0] == "section" else ""
        return name if name in self.patched.arch.auxiliary else ""

    def _owner(self, key: object) -> tuple[Piece | None, Piece | None]:
        if not isinstance(key, int):
            return None, None
        piece, side = self.pairs.piece(key)
        if side is self.orig:
            return piece, None
        found = self.pairs.owners.get(key)
        return (self.orig.pieces[found] if found is not None else None), piece

    def _entries(self, runs: list[_EntryRun]) -> dict[object, list[_TableEntry]]:
        """The entries of some runs, in order, by the piece that each belongs to."""
        out: dict[object, list[_TableEntry]] = {}
        for run in runs:
            for owner, entry in run.table.entries(run):
                out.setdefault(owner, []).append(entry)
        for found in out.values():
            found.sort(key=lambda e: e.at)
        return out

    def _auxiliary(self) -> None:
        """Compare replacement code regardless of order. Unreferenced replacement code is compared nowhere else."""
        found = []
        for side in (self.orig, self.patched):
            counted: Counter[Meaning] = Counter()
            for section, starts in side.aux_starts.items():
                size = side.obj.sections[section].size
                for start, end in zip(starts, [*starts[1:], size], strict=True):
                    if start < end <= size:
                        counted[self.meanings.code(side, section, start, end)] += 1
            found.append(counted)
        for kind, counted in ((WENT, found[0] - found[1]), (CAME, found[1] - found[0])):
            for meaning in counted:
                shown = self.meanings.show(meaning)[:80]
                self.book.say(".altinstr_replacement", "", kind, *((shown, "") if kind == WENT else ("", shown)))

    def owner_at(self, side: ObjectPieces, sym: int, place: int) -> tuple[object, int]:
        shndx = side.obj.columns.shndx[sym]
        if shndx == SHN.UNDEF or shndx >= SHN.LORESERVE:
            return ("outside", side.names[sym]), place
        if place and place == side.obj.sections[shndx].size:
            found = side.piece_at(shndx, place - 1)  # the end of a range of unwinding
        else:
            found = side.piece_at(shndx, place)
        if found is None:
            return ("section", kind_of_section(side.obj.sections[shndx].name)), place
        return self.pairs.key(side, found), place - found.start
