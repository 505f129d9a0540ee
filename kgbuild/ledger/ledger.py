# SPDX-License-Identifier: GPL-2.0-or-later
"""The ledger: every difference between two objects of one unit, so that none can be passed over.

It is a plain second reading beside the differ, of which it uses nothing. It does not ask what a difference means, and
sets none aside but two: what compilers and macros count (`f.isra.0`), where on either side only one thing has the name
without its number; and where in the file and by which symbol something is referred to, as long as the same is meant.
Debugging information is not read. What becomes of each difference is said by `accounting`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Ledger:
    """Every difference of two objects, in order, without repetition."""

    differences: tuple[Difference, ...]


def compute_ledger(original: Object, patched: Object) -> Ledger:
    """Every difference between two relocatable objects that `read` gave. Nothing is raised for what can't be followed:
    what has no meaning that can be told is compared as it is written."""
    return Ledger(tuple(sorted(set(_Walker(ObjectPieces(original), ObjectPieces(patched)).run()))))


class _Walker(Book):
    def __init__(self, o: ObjectPieces, p: ObjectPieces) -> None:
        super().__init__()
        self.o, self.p = o, p
        self.pairs = Pairs(o, p)
        self.symbols, self.partner, self.owners = self.pairs.symbols, self.pairs.partner, self.pairs.owners
        self.meanings = Meanings(self.pairs)
        self.layouts: dict[tuple[int, int], bool] = {}

    def run(self) -> Iterable[Difference]:
        self._outside()
        self._unmatched()
        for a, b in self.partner.items():
            self._compare(self.o.pieces[a], self.p.pieces[b])
        self._order()
        Tables(self.meanings, self).run()
        Rest(self.meanings, self).run()
        return self.out

    def _outside(self) -> None:
        """Undefined, absolute and common symbols."""
        ours, theirs = self.o.outside, self.p.outside
        left, right = self.o.obj.columns, self.p.obj.columns
        for name in ours.keys() | theirs.keys():
            i, j = ours.get(name), theirs.get(name)
            if (
                i is not None
                and j is not None
                and left.info[i] == right.info[j]
                and left.shndx[i] == 0 == right.shndx[j]
            ):
                continue
            was = _outside(self.o, ours[name]) if name in ours else ""
            now = _outside(self.p, theirs[name]) if name in theirs else ""
            if was != now:
                kind = CAME if not was else WENT if not now else BIND
                self.say("", name, kind, was, now)

    def _unmatched(self) -> None:
        for side, table, kind in ((self.o, self.partner, WENT), (self.p, self.owners, CAME)):
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
                self.say(side.kind(piece), piece.name, kind, *shown, before=places[0], after=places[1])
        for s in self.o.of_symbol:
            if s not in self.symbols:
                piece = self.o.pieces[self.o.of_symbol[s]]
                if piece.number in self.partner and self.o.names[s] in piece.names:
                    self.say(self.o.kind(piece), self.o.names[s], ALIAS, piece.name, "", before=piece.place)
        gone = set(self.symbols.values())
        for t in self.p.of_symbol:
            if t not in gone:
                piece = self.p.pieces[self.p.of_symbol[t]]
                if piece.number in self.owners and self.p.names[t] in piece.names:
                    self.say(self.p.kind(piece), self.p.names[t], ALIAS, "", piece.name, after=piece.place)
        for s, t in self.symbols.items():
            a, b = self.o.of_symbol[s], self.p.of_symbol[t]
            if self.partner.get(a) != b:
                x, y = self.o.pieces[a], self.p.pieces[b]
                name = self.p.names[t]
                was, now = (next((n for n in piece.names if n != name), piece.name) for piece in (x, y))
                self.say(self.p.kind(y), name, ALIAS, was, now, -1, x.place, y.place)

    # -- pieces that both have ----------------------------------------------------------------------------------

    def _compare(self, x: Piece, y: Piece) -> None:
        o, p = self.o, self.p
        name = y.name or x.name
        was, now = o.obj.sections[x.section], p.obj.sections[y.section]
        before, after = x.place, y.place
        here = kind_of_section(now.name)
        if x.names:
            self._attributes(x, y, here)
        if was.name != now.name and without_count(kind_of_section(was.name)) != without_count(here):
            self.say(here, name, SECTION, kind_of_section(was.name), here, before=before, after=after)
        elif (was.type, was.flags) != (now.type, now.flags):
            self.say(here, name, TYPE, f"{was.type}:{was.flags:#x}", f"{now.type}:{now.flags:#x}", -1, before, after)
        if was.align != now.align and x.start == 0 == y.start:
            alone = len(o.of_section[x.section]) == 1 == len(p.of_section[y.section])
            self.say(here, name if alone else "", ALIGN, str(was.align), str(now.align), -1, before, after)
        sizes = x.end - x.start, y.end - y.start
        if not x.names and was.align > 1 and abs(sizes[0] - sizes[1]) < was.align:
            raw = o.content(x) + p.content(y)
            if not raw.strip(o.arch.filler if was.executable else b"\0") and not o.rows(x) and not p.rows(y):
                return  # padding, or the filling between functions
        if sizes[0] != sizes[1]:
            self.say(here, name, SIZE, f"{sizes[0]} bytes", f"{sizes[1]} bytes", -1, before, after)
        if (x.labels or y.labels) and _labels(x) != _labels(y):
            mine, other = _labels(x), _labels(y)
            only = [[label for label in mine if label not in other], [label for label in other if label not in mine]]
            names = [Counter(n for n, _ in labels) for labels in only]
            # those that came and went, where there are such; else the first that lies elsewhere
            apart = [list((names[0] - names[1]).elements()), list((names[1] - names[0]).elements())]
            if not any(apart):
                apart = [[f"{n}+{at:#x}" for n, at in labels[:1]] for labels in only]
            shown = [", ".join(each)[:80] for each in apart]
            self.say(here, name, ALIAS, shown[0], shown[1], -1, before, after)
        left, right = o.rows(x), p.rows(y)
        same = o.content(x) == p.content(y) and self.meanings.same_rows(left, x.start, right, y.start)
        if not same or (was.executable and self._laid_out_otherwise(x.section, y.section)):
            self._contents(x, y, left, right, here)

    def _laid_out_otherwise(self, was: int, now: int) -> bool:
        """Whether code lies otherwise in a section of several functions: a branch within it has no relocation, and
        equal bytes may lead to another."""
        if (was, now) not in self.layouts:
            before, after = self.o.of_section[was], self.p.of_section[now]
            places = [[(piece.name, piece.start) for piece in pieces] for pieces in (before, after)]
            self.layouts[was, now] = len(before) > 1 and len(after) > 1 and places[0] != places[1]
        return self.layouts[was, now]

    def _attributes(self, x: Piece, y: Piece, here: str) -> None:
        ours, theirs = self.o.obj.columns, self.p.obj.columns
        for s in x.symbols:
            t = self.symbols.get(s)
            if t is None:
                continue
            if ours.info[s] != theirs.info[t]:
                was, now = ours.info[s], theirs.info[t]
                if was >> 4 != now >> 4:
                    shown = (_BINDS.get(was >> 4, str(was >> 4)), _BINDS.get(now >> 4, str(now >> 4)))
                    self.say(here, self.p.names[t], BIND, *shown, before=x.place, after=y.place)
                if was & 15 != now & 15:
                    self.say(here, self.p.names[t], TYPE, str(was & 15), str(now & 15), -1, x.place, y.place)
            if ours.other[s] != theirs.other[t]:
                shown = (str(ours.other[s]), str(theirs.other[t]))
                self.say(here, self.p.names[t], VISIBILITY, *shown, before=x.place, after=y.place)
            if ours.size[s] != theirs.size[t] and x.end - x.start == y.end - y.start:
                shown = (f"{ours.size[s]} bytes", f"{theirs.size[t]} bytes")
                self.say(here, self.p.names[t], SIZE, *shown, before=x.place, after=y.place)

    def _contents(self, x: Piece, y: Piece, left: list[RelocRow], right: list[RelocRow], here: str) -> None:
        """The difference of two pieces: that of their bytes, or else of what each field means."""
        was, now = self.meanings.masked(self.o, x, left), self.meanings.masked(self.p, y, right)
        name, before, after = y.name or x.name, x.place, y.place
        if was != now:
            at = next((i for i, (a, b) in enumerate(zip(was, now, strict=False)) if a != b), min(len(was), len(now)))
            shown = (was[at : at + SHOWN].hex(), now[at : at + SHOWN].hex())
            self.say(here, name, CONTENT, *shown, offset=at, before=before, after=after)
            return
        mine, other = self.meanings.fields(self.o, x, left), self.meanings.fields(self.p, y, right)
        for at in sorted(mine.keys() | other.keys()):
            a, b = mine.get(at), other.get(at)
            if a != b:
                shown = (self.meanings.show(a[1]) if a else "", self.meanings.show(b[1]) if b else "")
                if a and b and shown[0] == shown[1]:
                    shown = (f"{shown[0]} ({a[0]})", f"{shown[1]} ({b[0]})")
                self.say(here, name, REFERENCE, *shown, offset=at, before=before, after=after)

    def _order(self) -> None:
        """The order of what lies in one section, as far as both have it."""
        theirs = {kind: list(g) for kind, g in _shared(self.p).items()}
        for name, ours in _shared(self.o).items():
            both = theirs.get(name)
            if both is None:
                continue
            here = {y.number for y in both}
            was = [self.partner[x.number] for x in ours if self.partner.get(x.number) in here]
            kept = set(was)
            now = [y.number for y in both if y.number in kept]
            if was != now:
                first = next(i for i, (a, b) in enumerate(zip(was, now, strict=True)) if a != b)
                a, b = self.p.pieces[was[first]], self.p.pieces[now[first]]
                self.say(name, "", ORDER, a.name, b.name, -1, self.o.pieces[self.owners[b.number]].place, b.place)


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
    """Pieces with names in sections of several such, by the section's name."""
    out: dict[str, list[Piece]] = {}
    for index, pieces in side.of_section.items():
        named = [x for x in pieces if x.names]
        if len(named) > 1:
            out.setdefault(side.obj.sections[index].name, []).extend(named)
    return out


__all__ = ["Difference", "Ledger", "compute_ledger"]
