# SPDX-License-Identifier: GPL-2.0-or-later
"""The ledger: every difference between two objects of one unit, so that none can be overlooked.

It is a simple second comparison that shares no code with the differ. It does not ask what a difference means and
ignores only two things: numbers that compilers and macros add to names (`f.isra.0`), if the name without its number is
unique on both sides; and the position in the file and the symbol by which something is referred to, as long as the
target is the same. Debugging information is not compared. `accounting` decides what becomes of each difference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from kgbuild.elf.consts import SHN
from kgbuild.elf.object import Object, RelocRow
from kgbuild.ledger.difference import (
    ALIAS,
    ALIGN,
    BIND,
    CAME,
    CONTENT,
    ORDER,
    REFERENCE,
    SECTION,
    SHOWN,
    SIZE,
    TYPE,
    VISIBILITY,
    WENT,
    Book,
    Difference,
)
from kgbuild.ledger.meaning import Meanings
from kgbuild.ledger.pairs import Pairs
from kgbuild.ledger.pieces import ObjectPieces, Piece, kind_of_section, without_count, without_numbers
from kgbuild.ledger.rest import Rest
from kgbuild.ledger.tables import Tables

_UNDEF, _RESERVED = int(SHN.UNDEF), int(SHN.LORESERVE)


class Ledger(NamedTuple):
    """Every difference between two objects, in order, without repetition."""

    differences: tuple[Difference, ...]


def compute_ledger(orig: Object, patched: Object) -> Ledger:
    """Every difference between two relocatable objects from `elf.read`. Raises nothing for what can't be followed: a
    reference that can't be resolved is compared as it is encoded."""
    return Ledger(tuple(sorted(set(_Walker(ObjectPieces(orig), ObjectPieces(patched)).run()))))


class _Walker(Book):
    def __init__(self, orig: ObjectPieces, patched: ObjectPieces) -> None:
        super().__init__()
        self.orig, self.patched = orig, patched
        self.pairs = Pairs(orig, patched)
        self.symbols, self.partner, self.owners = self.pairs.symbols, self.pairs.partner, self.pairs.owners
        self.meanings = Meanings(self.pairs)
        self.layouts: dict[tuple[int, int], bool] = {}

    def run(self) -> Iterable[Difference]:
        self._outside()
        self._unmatched()
        for orig_number, patched_number in self.partner.items():
            self._compare(self.orig.pieces[orig_number], self.patched.pieces[patched_number])
        self._order()
        Tables(self.meanings, self).run()
        Rest(self.meanings, self).run()
        return self.out

    def _outside(self) -> None:
        """Compare undefined, absolute and common symbols."""
        orig, patched = self.orig.outside, self.patched.outside
        orig_columns, patched_columns = self.orig.obj.columns, self.patched.obj.columns
        for name in orig.keys() | patched.keys():
            orig_symbol, patched_symbol = orig.get(name), patched.get(name)
            if (
                orig_symbol is not None
                and patched_symbol is not None
                and orig_columns.info[orig_symbol] == patched_columns.info[patched_symbol]
                and orig_columns.shndx[orig_symbol] == 0 == patched_columns.shndx[patched_symbol]
            ):
                continue
            orig_shown = _outside(self.orig, orig[name]) if name in orig else ""
            patched_shown = _outside(self.patched, patched[name]) if name in patched else ""
            if orig_shown != patched_shown:
                kind = CAME if not orig_shown else WENT if not patched_shown else BIND
                self.say("", name, kind, orig_shown, patched_shown)

    def _unmatched(self) -> None:
        for side, table, kind in ((self.orig, self.partner, WENT), (self.patched, self.owners, CAME)):
            for piece in side.pieces:
                if piece.number in table or (piece.end == piece.start and not piece.names):
                    continue
                raw = side.content(piece)
                executable = side.obj.sections[piece.section].executable
                if (
                    not piece.names
                    and not raw.strip(side.arch.filler if executable else b"\0")
                    and not side.rows(piece)
                ):
                    continue  # padding
                what = f"{piece.end - piece.start} bytes" + (f" {raw[:SHOWN].hex()}" if any(raw) else "")
                shown = (what, "") if kind == WENT else ("", what)
                places = (piece.place, None) if kind == WENT else (None, piece.place)
                self.say(side.kind(piece), piece.name, kind, *shown, orig_place=places[0], patched_place=places[1])
        for orig_symbol in self.orig.of_symbol:
            if orig_symbol not in self.symbols:
                piece = self.orig.pieces[self.orig.of_symbol[orig_symbol]]
                if piece.number in self.partner and self.orig.names[orig_symbol] in piece.names:
                    self.say(
                        self.orig.kind(piece),
                        self.orig.names[orig_symbol],
                        ALIAS,
                        piece.name,
                        "",
                        orig_place=piece.place,
                    )
        gone = set(self.symbols.values())
        for patched_symbol in self.patched.of_symbol:
            if patched_symbol not in gone:
                piece = self.patched.pieces[self.patched.of_symbol[patched_symbol]]
                if piece.number in self.owners and self.patched.names[patched_symbol] in piece.names:
                    self.say(
                        self.patched.kind(piece),
                        self.patched.names[patched_symbol],
                        ALIAS,
                        "",
                        piece.name,
                        patched_place=piece.place,
                    )
        for orig_symbol, patched_symbol in self.symbols.items():
            orig_number, patched_number = self.orig.of_symbol[orig_symbol], self.patched.of_symbol[patched_symbol]
            if self.partner.get(orig_number) != patched_number:
                orig_piece, patched_piece = self.orig.pieces[orig_number], self.patched.pieces[patched_number]
                name = self.patched.names[patched_symbol]
                orig_name, patched_name = (
                    next((n for n in piece.names if n != name), piece.name) for piece in (orig_piece, patched_piece)
                )
                self.say(
                    self.patched.kind(patched_piece),
                    name,
                    ALIAS,
                    orig_name,
                    patched_name,
                    -1,
                    orig_piece.place,
                    patched_piece.place,
                )

    # -- pieces that both have ----------------------------------------------------------------------------------

    def _compare(self, orig: Piece, patched: Piece) -> None:
        orig_object, patched_object = self.orig, self.patched
        name = patched.name or orig.name
        orig_section, patched_section = (
            orig_object.obj.sections[orig.section],
            patched_object.obj.sections[patched.section],
        )
        orig_place, patched_place = orig.place, patched.place
        here = kind_of_section(patched_section.name)
        if orig.names:
            self._attributes(orig, patched, here)
        if orig_section.name != patched_section.name and without_count(
            kind_of_section(orig_section.name)
        ) != without_count(here):
            self.say(
                here,
                name,
                SECTION,
                kind_of_section(orig_section.name),
                here,
                orig_place=orig_place,
                patched_place=patched_place,
            )
        elif (orig_section.type, orig_section.flags) != (patched_section.type, patched_section.flags):
            self.say(
                here,
                name,
                TYPE,
                f"{orig_section.type}:{orig_section.flags:#x}",
                f"{patched_section.type}:{patched_section.flags:#x}",
                -1,
                orig_place,
                patched_place,
            )
        if orig_section.align != patched_section.align and orig.start == 0 == patched.start:
            alone = len(orig_object.of_section[orig.section]) == 1 == len(patched_object.of_section[patched.section])
            self.say(
                here,
                name if alone else "",
                ALIGN,
                str(orig_section.align),
                str(patched_section.align),
                -1,
                orig_place,
                patched_place,
            )
        sizes = orig.end - orig.start, patched.end - patched.start
        if not orig.names and orig_section.align > 1 and abs(sizes[0] - sizes[1]) < orig_section.align:
            raw = orig_object.content(orig) + patched_object.content(patched)
            if (
                not raw.strip(orig_object.arch.filler if orig_section.executable else b"\0")
                and not orig_object.rows(orig)
                and not patched_object.rows(patched)
            ):
                return  # padding, also between functions
        if sizes[0] != sizes[1]:
            self.say(here, name, SIZE, f"{sizes[0]} bytes", f"{sizes[1]} bytes", -1, orig_place, patched_place)
        if (orig.labels or patched.labels) and _labels(orig) != _labels(patched):
            orig_labels, patched_labels = _labels(orig), _labels(patched)
            only = [
                [label for label in orig_labels if label not in patched_labels],
                [label for label in patched_labels if label not in orig_labels],
            ]
            names = [Counter(n for n, _ in labels) for labels in only]
            # labels that were added or removed, if any; else the first that moved
            apart = [list((names[0] - names[1]).elements()), list((names[1] - names[0]).elements())]
            if not any(apart):
                apart = [[f"{n}+{at:#x}" for n, at in labels[:1]] for labels in only]
            shown = [", ".join(each)[:80] for each in apart]
            self.say(here, name, ALIAS, shown[0], shown[1], -1, orig_place, patched_place)
        orig_rows, patched_rows = orig_object.rows(orig), patched_object.rows(patched)
        same = orig_object.content(orig) == patched_object.content(patched) and self.meanings.same_rows(
            orig_rows, orig.start, patched_rows, patched.start
        )
        if not same or (orig_section.executable and self._laid_out_otherwise(orig.section, patched.section)):
            self._contents(orig, patched, orig_rows, patched_rows, here)

    def _laid_out_otherwise(self, orig: int, patched: int) -> bool:
        """Whether the layout of a section with several functions differs: branches within it have no relocation, so
        equal bytes may lead to different code."""
        if (orig, patched) not in self.layouts:
            orig_pieces, patched_pieces = self.orig.of_section[orig], self.patched.of_section[patched]
            places = [[(piece.name, piece.start) for piece in pieces] for pieces in (orig_pieces, patched_pieces)]
            self.layouts[orig, patched] = len(orig_pieces) > 1 and len(patched_pieces) > 1 and places[0] != places[1]
        return self.layouts[orig, patched]

    def _attributes(self, orig: Piece, patched: Piece, here: str) -> None:
        orig_columns, patched_columns = self.orig.obj.columns, self.patched.obj.columns
        for orig_symbol in orig.symbols:
            patched_symbol = self.symbols.get(orig_symbol)
            if patched_symbol is None:
                continue
            if orig_columns.info[orig_symbol] != patched_columns.info[patched_symbol]:
                orig_info, patched_info = orig_columns.info[orig_symbol], patched_columns.info[patched_symbol]
                if orig_info >> 4 != patched_info >> 4:
                    shown = (
                        _BINDS.get(orig_info >> 4, str(orig_info >> 4)),
                        _BINDS.get(patched_info >> 4, str(patched_info >> 4)),
                    )
                    self.say(
                        here,
                        self.patched.names[patched_symbol],
                        BIND,
                        *shown,
                        orig_place=orig.place,
                        patched_place=patched.place,
                    )
                if orig_info & 15 != patched_info & 15:
                    self.say(
                        here,
                        self.patched.names[patched_symbol],
                        TYPE,
                        str(orig_info & 15),
                        str(patched_info & 15),
                        -1,
                        orig.place,
                        patched.place,
                    )
            if orig_columns.other[orig_symbol] != patched_columns.other[patched_symbol]:
                shown = (str(orig_columns.other[orig_symbol]), str(patched_columns.other[patched_symbol]))
                self.say(
                    here,
                    self.patched.names[patched_symbol],
                    VISIBILITY,
                    *shown,
                    orig_place=orig.place,
                    patched_place=patched.place,
                )
            if (
                orig_columns.size[orig_symbol] != patched_columns.size[patched_symbol]
                and orig.end - orig.start == patched.end - patched.start
            ):
                shown = (f"{orig_columns.size[orig_symbol]} bytes", f"{patched_columns.size[patched_symbol]} bytes")
                self.say(
                    here,
                    self.patched.names[patched_symbol],
                    SIZE,
                    *shown,
                    orig_place=orig.place,
                    patched_place=patched.place,
                )

    def _contents(
        self, orig: Piece, patched: Piece, orig_rows: list[RelocRow], patched_rows: list[RelocRow], here: str
    ) -> None:
        """Record the difference of two pieces: of their bytes or, if these are equal, of what each field refers to."""
        orig_bytes, patched_bytes = (
            self.meanings.masked(self.orig, orig, orig_rows),
            self.meanings.masked(self.patched, patched, patched_rows),
        )
        name, orig_place, patched_place = patched.name or orig.name, orig.place, patched.place
        if orig_bytes != patched_bytes:
            at = next(
                (
                    i
                    for i, (orig_field, patched_field) in enumerate(zip(orig_bytes, patched_bytes, strict=False))
                    if orig_field != patched_field
                ),
                min(len(orig_bytes), len(patched_bytes)),
            )
            shown = (orig_bytes[at : at + SHOWN].hex(), patched_bytes[at : at + SHOWN].hex())
            self.say(here, name, CONTENT, *shown, offset=at, orig_place=orig_place, patched_place=patched_place)
            return
        orig_fields, patched_fields = (
            self.meanings.fields(self.orig, orig, orig_rows),
            self.meanings.fields(self.patched, patched, patched_rows),
        )
        for at in sorted(orig_fields.keys() | patched_fields.keys()):
            orig_field, patched_field = orig_fields.get(at), patched_fields.get(at)
            if orig_field != patched_field:
                shown = (
                    self.meanings.show(orig_field[1]) if orig_field else "",
                    self.meanings.show(patched_field[1]) if patched_field else "",
                )
                if orig_field and patched_field and shown[0] == shown[1]:
                    shown = (f"{shown[0]} ({orig_field[0]})", f"{shown[1]} ({patched_field[0]})")
                self.say(here, name, REFERENCE, *shown, offset=at, orig_place=orig_place, patched_place=patched_place)

    def _order(self) -> None:
        """Compare the order within each section of what both sides have."""
        patched = {kind: list(g) for kind, g in _shared(self.patched).items()}
        for name, orig in _shared(self.orig).items():
            both = patched.get(name)
            if both is None:
                continue
            here = {patched_piece.number for patched_piece in both}
            orig_order = [self.partner[piece.number] for piece in orig if self.partner.get(piece.number) in here]
            kept = set(orig_order)
            patched_order = [patched_piece.number for patched_piece in both if patched_piece.number in kept]
            if orig_order != patched_order:
                first = next(
                    i
                    for i, (orig_piece, patched_piece) in enumerate(zip(orig_order, patched_order, strict=True))
                    if orig_piece != patched_piece
                )
                orig_piece, patched_piece = (
                    self.patched.pieces[orig_order[first]],
                    self.patched.pieces[patched_order[first]],
                )
                self.say(
                    name,
                    "",
                    ORDER,
                    orig_piece.name,
                    patched_piece.name,
                    -1,
                    self.orig.pieces[self.owners[patched_piece.number]].place,
                    patched_piece.place,
                )


_BINDS = {0: "local", 1: "global", 2: "weak"}


def _outside(side: ObjectPieces, symbol: int) -> str:
    columns = side.obj.columns
    shndx = columns.shndx[symbol]
    what = {int(SHN.UNDEF): "undefined", int(SHN.ABS): "absolute", int(SHN.COMMON): "common"}.get(shndx, str(shndx))
    bind = _BINDS.get(columns.info[symbol] >> 4, "")
    if shndx == SHN.UNDEF:
        return f"{bind} {what}"
    return f"{bind} {what} {columns.value[symbol]:#x} {columns.size[symbol]}"


def _labels(piece: Piece) -> list[tuple[str, int]]:
    return [(without_numbers(name), at) for name, at in piece.labels]


def _shared(side: ObjectPieces) -> dict[str, list[Piece]]:
    """Named pieces in sections that contain several of them, by the section's name."""
    out: dict[str, list[Piece]] = {}
    for index, pieces in side.of_section.items():
        named = [piece for piece in pieces if piece.names]
        if len(named) > 1:
            out.setdefault(side.obj.sections[index].name, []).extend(named)
    return out


__all__ = ["Difference", "Ledger", "compute_ledger"]
