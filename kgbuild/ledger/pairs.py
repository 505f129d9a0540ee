# SPDX-License-Identifier: GPL-2.0-or-later
"""Which piece and which symbol of one object is which of the other, for the ledger.

By names without numbers, and what has none by what lies before it, by content, and in order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from kgbuild.ledger.pieces import ObjectPieces, Piece, without_count, without_numbers


class Pairs:
    """The pieces and symbols of two objects that are the same ones."""

    def __init__(self, o: ObjectPieces, p: ObjectPieces) -> None:
        self.o, self.p = o, p
        self.symbols: dict[int, int] = {}  # symbol of o -> symbol of p
        self.partner: dict[int, int] = {}  # piece of o -> piece of p
        self.owners: dict[int, int] = {}  # the reverse
        self._match()

    def key(self, side: ObjectPieces, piece: Piece) -> int:
        """What a piece is called on both sides: the number of the patched object's; for one that is gone, a number
        below -1."""
        number = piece.number
        return number if side is self.p else self.partner.get(number, -2 - number)

    def piece(self, key: int) -> tuple[Piece, ObjectPieces]:
        """The piece that a key stands for, and the side that has it."""
        return (self.p.pieces[key], self.p) if key >= 0 else (self.o.pieces[-2 - key], self.o)

    def _match(self) -> None:
        self._match_symbols()
        votes: dict[int, Counter[int]] = {}
        for s, t in self.symbols.items():
            votes.setdefault(self.o.of_symbol[s], Counter())[self.p.of_symbol[t]] += 1
        for a, counted in votes.items():
            if len(counted) == 1:
                (b,) = counted
                if b not in self.owners:
                    self.partner[a], self.owners[b] = b, a
                continue
            x = self.o.pieces[a]

            def fit(b: int, x: Piece = x, counted: Counter[int] = counted) -> tuple[int, bool, bool]:
                y = self.p.pieces[b]
                return counted[b], y.name == x.name, self.p.kind(y) == self.o.kind(x)

            for b in sorted(counted, key=fit, reverse=True):
                if b not in self.owners:
                    self.partner[a], self.owners[b] = b, a
                    break
        self._match_gaps()

    def _match_symbols(self) -> None:
        left, right = self._by_name(self.o), self._by_name(self.p)
        for name, ours in left.items():
            theirs = right.get(name)
            if theirs is None:
                continue
            if len(ours) == 1 == len(theirs):
                self.symbols[ours[0]] = theirs[0]
            elif self.o.files and self.p.files:
                self._match_by_file(ours, theirs)
            else:
                self._match_group(ours, theirs)

    def _match_by_file(self, ours: list[int], theirs: list[int]) -> None:
        """Several of one name in an object that was linked of others: by the source file of each."""
        tables: list[dict[str, list[int]]] = [{}, {}]
        for side, symbols, table in ((self.o, ours, tables[0]), (self.p, theirs, tables[1])):
            for i in symbols:
                local = not side.obj.columns.info[i] >> 4
                table.setdefault(side.files.get(i, "") if local else "", []).append(i)
        for file in tables[0].keys() & tables[1].keys():
            self._match_group(tables[0].pop(file), tables[1].pop(file))
        self._match_group([i for g in tables[0].values() for i in g], [i for g in tables[1].values() for i in g])

    @staticmethod
    def _by_name(side: ObjectPieces) -> dict[str, list[int]]:
        """Symbols by their names without numbers."""
        out: dict[str, list[int]] = {}
        names = side.names
        for i in side.of_symbol:
            out.setdefault(without_numbers(names[i]), []).append(i)
        return out

    def _match_group(self, ours: list[int], theirs: list[int]) -> None:
        """Several of one name but for numbers: those of equal contents first, in order, then of equal names; a pair
        that is left is one."""
        left = list(theirs)
        rest: list[int] = []
        for keys in (_plain_key, _name_key):
            rest = []
            table: dict[object, list[int]] = {}
            for t in left:
                table.setdefault(keys(self.p, t), []).append(t)
            for s in ours:
                found = table.get(keys(self.o, s))
                if found:
                    self.symbols[s] = found[0]
                    left.remove(found.pop(0))
                else:
                    rest.append(s)
            ours = rest
        if len(rest) == 1 == len(left):
            self.symbols[rest[0]] = left[0]

    def _match_gaps(self) -> None:
        """What has no name: by the kind of its section and the name before it, and where that is not enough by content,
        then by the section's full name, then in order."""
        tables: list[dict[tuple[str, str], list[Piece]]] = []
        for side in (self.o, self.p):
            found: dict[tuple[str, str], list[Piece]] = {}
            for pieces in side.of_section.values():
                before = ""
                for piece in pieces:
                    if piece.names:
                        before = without_numbers(piece.name)
                    else:
                        name = without_count(side.obj.sections[piece.section].name)
                        found.setdefault((name, before), []).append(piece)
            tables.append(found)
        for key in tables[0].keys() & tables[1].keys():
            ours, theirs = tables[0][key], tables[1][key]
            if len(ours) > 1 or len(theirs) > 1:
                for of in (_content_key, _section_key):
                    ours, theirs = self._match_by(of, ours, theirs)
            for x, y in zip(ours, theirs, strict=False):
                self.partner[x.number], self.owners[y.number] = y.number, x.number

    def _match_by(
        self, key: Callable[[ObjectPieces, Piece], object], ours: list[Piece], theirs: list[Piece]
    ) -> tuple[list[Piece], list[Piece]]:
        """Match pieces of equal keys in order; what is left on either side."""
        table: dict[object, list[Piece]] = {}
        for y in theirs:
            table.setdefault(key(self.p, y), []).append(y)
        rest, taken = [], set()
        for x in ours:
            found = table.get(key(self.o, x))
            if found:
                y = found.pop(0)
                taken.add(y.number)
                self.partner[x.number], self.owners[y.number] = y.number, x.number
            else:
                rest.append(x)
        return rest, [y for y in theirs if y.number not in taken]


def _plain_key(side: ObjectPieces, symbol: int) -> object:
    return _content_key(side, side.pieces[side.of_symbol[symbol]])


def _section_key(side: ObjectPieces, piece: Piece) -> object:
    return side.obj.sections[piece.section].name


def _content_key(side: ObjectPieces, piece: Piece) -> object:
    """What a piece holds, and by name what it refers to."""
    raw = bytearray(side.content(piece))
    names = []
    for at, kind, sym, addend in side.rows(piece):
        size = side.arch.reloc_size.get(kind, 0)
        raw[at - piece.start : at - piece.start + size] = bytes(size)
        name = without_numbers(side.names[sym])
        names.append((at - piece.start, name or _literal(side, sym, addend)))
    return side.kind(piece), piece.end - piece.start, bytes(raw), tuple(names)


def _literal(side: ObjectPieces, sym: int, addend: int) -> object:
    index = side.obj.columns.shndx[sym]
    if index >= len(side.obj.sections):
        return f"section {index}"  # a number, or common memory
    section = side.obj.sections[index]
    return side.text_at(section, addend) if section.merge else without_count(section.name)


def _name_key(side: ObjectPieces, symbol: int) -> object:
    return side.names[symbol]
