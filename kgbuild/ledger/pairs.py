# SPDX-License-Identifier: GPL-2.0-or-later
"""Pairs the pieces and symbols of two objects for the ledger.

Named ones are paired by name without numbers; unnamed ones by the name before them, by content, and by order.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable

from kgbuild.ledger.pieces import ObjectPieces, Piece, without_count, without_numbers


class Pairs:
    """The pieces and symbols of two objects that correspond to each other."""

    def __init__(self, orig: ObjectPieces, patched: ObjectPieces) -> None:
        self.orig, self.patched = orig, patched
        self.symbols: dict[int, int] = {}  # original symbol -> patched symbol
        self.partner: dict[int, int] = {}  # original piece -> patched piece
        self.owners: dict[int, int] = {}  # patched piece -> original piece
        self._match()

    def key(self, side: ObjectPieces, piece: Piece) -> int:
        """The key of a piece, equal for both pieces of a pair: the number of the patched piece; a number below -1 for a
        removed piece."""
        number = piece.number
        return number if side is self.patched else self.partner.get(number, -2 - number)

    def piece(self, key: int) -> tuple[Piece, ObjectPieces]:
        """The piece with a key, and the object that contains it."""
        return (self.patched.pieces[key], self.patched) if key >= 0 else (self.orig.pieces[-2 - key], self.orig)

    def _match(self) -> None:
        self._match_symbols()
        votes: dict[int, Counter[int]] = {}
        for orig_symbol, patched_symbol in self.symbols.items():
            votes.setdefault(self.orig.of_symbol[orig_symbol], Counter())[self.patched.of_symbol[patched_symbol]] += 1
        for orig_number, counted in votes.items():
            if len(counted) == 1:
                (patched_number,) = counted
                if patched_number not in self.owners:
                    self.partner[orig_number], self.owners[patched_number] = patched_number, orig_number
                continue
            orig_piece = self.orig.pieces[orig_number]

            def fit(
                patched_number: int, orig_piece: Piece = orig_piece, counted: Counter[int] = counted
            ) -> tuple[int, bool, bool]:
                patched_piece = self.patched.pieces[patched_number]
                return (
                    counted[patched_number],
                    patched_piece.name == orig_piece.name,
                    self.patched.kind(patched_piece) == self.orig.kind(orig_piece),
                )

            for patched_number in sorted(counted, key=fit, reverse=True):
                if patched_number not in self.owners:
                    self.partner[orig_number], self.owners[patched_number] = patched_number, orig_number
                    break
        self._match_gaps()

    def _match_symbols(self) -> None:
        orig_names, patched_names = self._by_name(self.orig), self._by_name(self.patched)
        for name, orig in orig_names.items():
            patched = patched_names.get(name)
            if patched is None:
                continue
            if len(orig) == 1 == len(patched):
                self.symbols[orig[0]] = patched[0]
            elif self.orig.files and self.patched.files:
                self._match_by_file(orig, patched)
            else:
                self._match_group(orig, patched)

    def _match_by_file(self, orig: list[int], patched: list[int]) -> None:
        """Pair several symbols of one name in linked objects by the source file of each."""
        tables: list[dict[str, list[int]]] = [{}, {}]
        for side, symbols, table in ((self.orig, orig, tables[0]), (self.patched, patched, tables[1])):
            for symbol in symbols:
                local = not side.obj.columns.info[symbol] >> 4
                table.setdefault(side.files.get(symbol, "") if local else "", []).append(symbol)
        for file in tables[0].keys() & tables[1].keys():
            self._match_group(tables[0].pop(file), tables[1].pop(file))
        self._match_group(
            [symbol for g in tables[0].values() for symbol in g], [symbol for g in tables[1].values() for symbol in g]
        )

    @staticmethod
    def _by_name(side: ObjectPieces) -> dict[str, list[int]]:
        """Symbols by their names without numbers."""
        out: dict[str, list[int]] = {}
        names = side.names
        for symbol in side.of_symbol:
            out.setdefault(without_numbers(names[symbol]), []).append(symbol)
        return out

    def _match_group(self, orig: list[int], patched: list[int]) -> None:
        """Pair several symbols whose names differ only in numbers: first by equal contents, in order, then by equal
        names. If one of each is left, they are a pair."""
        remaining = dict.fromkeys(patched)
        rest: list[int] = []
        for keys in (_plain_key, _name_key):
            rest = []
            table: dict[object, deque[int]] = {}
            for patched_symbol in remaining:
                table.setdefault(keys(self.patched, patched_symbol), deque()).append(patched_symbol)
            for orig_symbol in orig:
                found = table.get(keys(self.orig, orig_symbol))
                if found:
                    self.symbols[orig_symbol] = found[0]
                    del remaining[found.popleft()]
                else:
                    rest.append(orig_symbol)
            orig = rest
        if len(rest) == 1 == len(remaining):
            self.symbols[rest[0]] = next(iter(remaining))

    def _match_gaps(self) -> None:
        """Pair unnamed pieces by section and by the name before them; if that is ambiguous by content, then by the
        section's full name, then by order."""
        tables: list[dict[tuple[str, str], list[Piece]]] = []
        for side in (self.orig, self.patched):
            found: dict[tuple[str, str], list[Piece]] = {}
            for pieces in side.of_section.values():
                previous = ""
                for piece in pieces:
                    if piece.names:
                        previous = without_numbers(piece.name)
                    else:
                        name = without_count(side.obj.sections[piece.section].name)
                        found.setdefault((name, previous), []).append(piece)
            tables.append(found)
        for key in tables[0].keys() & tables[1].keys():
            orig, patched = tables[0][key], tables[1][key]
            if len(orig) > 1 or len(patched) > 1:
                for of in (_content_key, _section_key):
                    orig, patched = self._match_by(of, orig, patched)
            for orig_piece, patched_piece in zip(orig, patched, strict=False):
                self.partner[orig_piece.number], self.owners[patched_piece.number] = (
                    patched_piece.number,
                    orig_piece.number,
                )

    def _match_by(
        self, key: Callable[[ObjectPieces, Piece], object], orig: list[Piece], patched: list[Piece]
    ) -> tuple[list[Piece], list[Piece]]:
        """Pair pieces with equal keys in order; return the remaining pieces of each side."""
        table: dict[object, deque[Piece]] = {}
        for patched_piece in patched:
            table.setdefault(key(self.patched, patched_piece), deque()).append(patched_piece)
        rest, taken = [], set()
        for orig_piece in orig:
            found = table.get(key(self.orig, orig_piece))
            if found:
                patched_piece = found.popleft()
                taken.add(patched_piece.number)
                self.partner[orig_piece.number], self.owners[patched_piece.number] = (
                    patched_piece.number,
                    orig_piece.number,
                )
            else:
                rest.append(orig_piece)
        return rest, [patched_piece for patched_piece in patched if patched_piece.number not in taken]


def _plain_key(side: ObjectPieces, symbol: int) -> object:
    return _content_key(side, side.pieces[side.of_symbol[symbol]])


def _section_key(side: ObjectPieces, piece: Piece) -> object:
    return side.obj.sections[piece.section].name


def _content_key(side: ObjectPieces, piece: Piece) -> object:
    """A piece's content and the names of what it refers to."""
    raw = bytearray(side.content(piece))
    names = []
    for at, kind, sym, addend in side.rows(piece):
        size = side.arch.relocs.sizes.get(kind, 0)
        raw[at - piece.start : at - piece.start + size] = bytes(size)
        # the compiler numbers its own labels (.Lubsan_type8) separately in each compile
        name = "" if side.names[sym].startswith(".L") else without_numbers(side.names[sym])
        names.append((at - piece.start, name or _literal(side, sym, addend)))
    return without_count(side.kind(piece)), piece.end - piece.start, bytes(raw), tuple(names)


def _literal(side: ObjectPieces, sym: int, addend: int) -> object:
    index = side.obj.columns.shndx[sym]
    if index >= len(side.obj.sections):
        return f"section {index}"  # absolute or common
    section = side.obj.sections[index]
    return side.text_at(section, addend) if section.merge else without_count(section.name)


def _name_key(side: ObjectPieces, symbol: int) -> object:
    return side.names[symbol]
