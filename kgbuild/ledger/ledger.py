# SPDX-License-Identifier: GPL-2.0-or-later
"""The ledger: every difference between two objects of one unit, so that none can be passed over.

It is a plain second reading beside the differ, of which it uses nothing. It does not ask what a difference means, and
sets none aside but two: what compilers and macros count (`f.isra.0`), where on either side only one thing has the name
without its number; and where in the file and by which symbol something is referred to, as long as the same is meant.
Debugging information is not read. What becomes of each difference is said by `accounting`.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from kgbuild.arch.base import SpecialSection
from kgbuild.elf.consts import SHN
from kgbuild.elf.object import Object, RelocRow, Section
from kgbuild.ledger.pieces import ObjectPieces, Piece, Place, kind_of_section, without_count, without_numbers

CAME, WENT, CONTENT, REFERENCE, ENTRIES, SIZE, ALIGN, BIND, VISIBILITY, TYPE, SECTION, ORDER, ALIAS, TEXT, GROUP = (
    "came",
    "went",
    "content",
    "reference",
    "entries",
    "size",
    "alignment",
    "binding",
    "visibility",
    "type",
    "section",
    "order",
    "alias",
    "text",
    "group",
)
_SHOWN = 16  # bytes of a difference that are shown
_DEPTH = 6  # pieces of replacement code that lead to each other
_UNKNOWN = -1
_UNDEF, _RESERVED = int(SHN.UNDEF), int(SHN.LORESERVE)


@dataclass(frozen=True, order=True)
class Difference:
    """One difference. `section` is the kind of section, without the name of the one symbol that it is for; `symbol` is
    the patched object's name where it has one; `offset` is that of the first byte that differs, in the symbol (of the
    owner, for entries of a table), -1 where that says nothing. `original` and `patched` show what was and what is, as
    hex digits or as what is meant, "" for what is not there. `before` and `after` are the places in the two files."""

    section: str
    symbol: str
    kind: str
    offset: int = -1
    original: str = ""
    patched: str = ""
    before: Place | None = None
    after: Place | None = None

    def __str__(self) -> str:
        where = f"{self.symbol or self.section}" + (f"+{self.offset:#x}" if self.offset >= 0 else "")
        inside = f" in {self.section}" if self.symbol else ""
        return f"{where}{inside}: {self.kind}: {self.original or 'nothing'} -> {self.patched or 'nothing'}"


@dataclass(frozen=True)
class Ledger:
    """Every difference of two objects, in order, without repetition."""

    differences: tuple[Difference, ...]


def compute_ledger(original: Object, patched: Object) -> Ledger:
    """Every difference between two relocatable objects that `read` gave. Nothing is raised for what can't be followed:
    what has no meaning that can be told is compared as it is written."""
    return Ledger(tuple(sorted(set(_Walker(ObjectPieces(original), ObjectPieces(patched)).run()))))


Meaning = tuple[object, ...]


class _Entry(NamedTuple):
    """One entry of a table: where in its owner, its bytes with the relocated fields zeroed, what these mean."""

    at: int
    raw: bytes
    means: tuple[tuple[int, Meaning], ...]


class _Walker:
    def __init__(self, o: ObjectPieces, p: ObjectPieces) -> None:
        self.o, self.p = o, p
        self.out: list[Difference] = []
        self.symbols: dict[int, int] = {}  # symbol of o -> symbol of p
        self.partner: dict[int, int] = {}  # piece of o -> piece of p
        self.owners: dict[int, int] = {}  # the reverse
        self._quick: tuple[list[int], list[int]] = ([], [])
        self._tokens: dict[object, int] = {}
        self._aux: dict[tuple[int, int, int], Meaning] = {}

    def run(self) -> Iterable[Difference]:
        self._match()
        self._outside()
        for side in (self.o, self.p):
            self._quick[side is self.p].extend(self._quick_tokens(side))
        self._unmatched()
        for a, b in self.partner.items():
            self._compare(self.o.pieces[a], self.p.pieces[b])
        self._order()
        for name in sorted(self.o.tables.keys() | self.p.tables.keys()):
            self._table(name)
        self._auxiliary()
        self._literals()
        self._whole(self.o.discarded, self.p.discarded)
        self._whole(self.o.aside, self.p.aside)
        self._modinfo()
        self._headers()
        self._groups()
        return self.out

    def _say(
        self,
        section: str,
        symbol: str,
        kind: str,
        original: str = "",
        patched: str = "",
        offset: int = -1,
        before: Place | None = None,
        after: Place | None = None,
    ) -> None:
        self.out.append(Difference(section, symbol, kind, offset, original, patched, before, after))

    # -- which piece is which -----------------------------------------------------------------------------------

    def _match(self) -> None:
        self._match_symbols()
        votes: dict[int, Counter[int]] = {}
        for s, t in self.symbols.items():
            votes.setdefault(self.o.of_symbol[s], Counter())[self.p.of_symbol[t]] += 1
        for a, counted in votes.items():
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
                self._say("", name, kind, was, now)

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
                what = f"{piece.end - piece.start} bytes" + (f" {raw[:_SHOWN].hex()}" if any(raw) else "")
                shown = (what, "") if kind == WENT else ("", what)
                places = (piece.place, None) if kind == WENT else (None, piece.place)
                self._say(side.kind(piece), piece.name, kind, *shown, before=places[0], after=places[1])
        for s in self.o.of_symbol:
            if s not in self.symbols:
                piece = self.o.pieces[self.o.of_symbol[s]]
                if piece.number in self.partner and self.o.names[s] in piece.names:
                    self._say(self.o.kind(piece), self.o.names[s], ALIAS, piece.name, "", before=piece.place)
        gone = set(self.symbols.values())
        for t in self.p.of_symbol:
            if t not in gone:
                piece = self.p.pieces[self.p.of_symbol[t]]
                if piece.number in self.owners and self.p.names[t] in piece.names:
                    self._say(self.p.kind(piece), self.p.names[t], ALIAS, "", piece.name, after=piece.place)
        for s, t in self.symbols.items():
            a, b = self.o.of_symbol[s], self.p.of_symbol[t]
            if self.partner.get(a) != b:
                x, y = self.o.pieces[a], self.p.pieces[b]
                name = self.p.names[t]
                was, now = (next((n for n in piece.names if n != name), piece.name) for piece in (x, y))
                self._say(self.p.kind(y), name, ALIAS, was, now, -1, x.place, y.place)

    # -- what a relocation means --------------------------------------------------------------------------------

    def _piece_key(self, side: ObjectPieces, piece: Piece) -> object:
        """What a piece is called on both sides: the number of the patched object's."""
        if side is self.p:
            return piece.number
        return self.partner.get(piece.number, ("gone", piece.number))

    def _piece_key_of(self, side: ObjectPieces, piece: Piece) -> object:
        """The same for one that is alone in its section; as a key of a table it is no place of several."""
        key = self._piece_key(side, piece)
        return key if isinstance(key, int) else key[1] - (1 << 40)  # type: ignore[index]

    def _quick_tokens(self, side: ObjectPieces) -> list[int]:
        """For each symbol a number that is the same for the same thing on both sides, or _UNKNOWN where an offset
        decides what is meant."""
        columns, names, of_symbol, pieces = side.obj.columns, side.names, side.of_symbol, side.pieces
        known = self._tokens
        of_piece = [known.setdefault(("piece", self._piece_key(side, x)), len(known)) for x in pieces]
        whole: dict[int, int] = {}
        for index, found in side.of_section.items():
            if len(found) == 1 and not found[0].labels:
                whole[index] = of_piece[found[0].number]
        out = []
        for i, (shndx, value) in enumerate(zip(columns.shndx, columns.value, strict=True)):
            if i in of_symbol:
                number = of_symbol[i]
                out.append(of_piece[number] if value == pieces[number].start else _UNKNOWN)
            elif shndx == _UNDEF or shndx >= _RESERVED:
                out.append(known.setdefault(("outside", names[i]), len(known)))
            else:
                out.append(whole.get(shndx, _UNKNOWN) if not value else _UNKNOWN)
        return out

    def _means(self, side: ObjectPieces, sym: int, offset: int, depth: int = 0) -> Meaning:
        """What a symbol and an offset mean; `offset` counts from the symbol, without a bias."""
        columns = side.obj.columns
        shndx = columns.shndx[sym]
        if shndx == SHN.UNDEF or shndx >= SHN.LORESERVE:
            return "outside", side.names[sym], offset
        place = columns.value[sym] + offset
        if sym in side.of_symbol:
            piece = side.pieces[side.of_symbol[sym]]
            return "piece", self._piece_key(side, piece), place - piece.start
        section = side.obj.sections[shndx]
        if shndx in side.auxiliary:
            return self._code(side, shndx, place, side.aux_piece(shndx, place)[1], depth)
        found = side.piece_at(shndx, place)
        if found is not None:
            return "piece", self._piece_key(side, found), place - found.start
        if section.merge:
            return "text", side.text_at(section, place)
        return "place", kind_of_section(section.name), place

    def _code(self, side: ObjectPieces, section: int, start: int, end: int, depth: int = 0) -> Meaning:
        """A piece of replacement code: its bytes and what they refer to."""
        key = (int(side is self.p), section, start if end >= 0 else _UNKNOWN)
        if depth > _DEPTH:
            return "code", section, start
        found = self._aux.get((*key[:2], start * (1 << 32) + end))
        if found is not None:
            return found
        raw = bytearray(side.bytes_of(section)[start:end])
        means = []
        for at, kind, sym, addend in side.obj.reloc_rows(section):
            if start <= at < end:
                size = side.arch.reloc_size.get(kind, 0)
                raw[at - start : at - start + size] = bytes(size)
                bias = size if kind in side.arch.pc_relative else 0
                means.append((at - start, self._means(side, sym, addend + bias, depth + 1)))
        out: Meaning = ("code", bytes(raw), tuple(means))
        self._aux[(*key[:2], start * (1 << 32) + end)] = out
        return out

    def _show(self, meaning: Meaning) -> str:
        what = meaning[0]
        if what == "text":
            text = meaning[1]
            assert isinstance(text, bytes)
            return repr(text.rstrip(b"\0").decode("utf-8", "replace"))[:80]
        if what == "code":
            return f"code {meaning[1].hex()}" if isinstance(meaning[1], bytes) else "code"
        delta = meaning[2]
        name = str(meaning[1])
        if what == "piece":
            key = meaning[1]
            piece = self.p.pieces[key] if isinstance(key, int) else self.o.pieces[key[1]]  # type: ignore[index]
            side = self.p if isinstance(key, int) else self.o
            name = piece.name or side.kind(piece)
        return f"{name}{delta:+#x}" if delta else name

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
            self._say(here, name, SECTION, kind_of_section(was.name), here, before=before, after=after)
        elif (was.type, was.flags) != (now.type, now.flags):
            self._say(here, name, TYPE, f"{was.type}:{was.flags:#x}", f"{now.type}:{now.flags:#x}", -1, before, after)
        if was.align != now.align and x.start == 0 == y.start:
            alone = len(o.of_section[x.section]) == 1 == len(p.of_section[y.section])
            self._say(here, name if alone else "", ALIGN, str(was.align), str(now.align), -1, before, after)
        sizes = x.end - x.start, y.end - y.start
        if not x.names and was.align > 1 and abs(sizes[0] - sizes[1]) < was.align:
            raw = o.content(x) + p.content(y)
            if not raw.strip(o.arch.filler if was.executable else b"\0") and not o.rows(x) and not p.rows(y):
                return  # padding, or the filling between functions
        if sizes[0] != sizes[1]:
            self._say(here, name, SIZE, f"{sizes[0]} bytes", f"{sizes[1]} bytes", -1, before, after)
        if _labels(x) != _labels(y):
            mine, other = _labels(x), _labels(y)
            only = [[label for label in mine if label not in other], [label for label in other if label not in mine]]
            names = [Counter(n for n, _ in labels) for labels in only]
            # those that came and went, where there are such; else the first that lies elsewhere
            apart = [list((names[0] - names[1]).elements()), list((names[1] - names[0]).elements())]
            if not any(apart):
                apart = [[f"{n}+{at:#x}" for n, at in labels[:1]] for labels in only]
            shown = [", ".join(each)[:80] for each in apart]
            self._say(here, name, ALIAS, shown[0], shown[1], -1, before, after)
        left, right = o.rows(x), p.rows(y)
        same_bytes = o.content(x) == p.content(y)
        if same_bytes and self._same_rows(left, x.start, right, y.start):
            return
        self._contents(x, y, left, right, here, same_bytes)

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
                    self._say(here, self.p.names[t], BIND, *shown, before=x.place, after=y.place)
                if was & 15 != now & 15:
                    self._say(here, self.p.names[t], TYPE, str(was & 15), str(now & 15), -1, x.place, y.place)
            if ours.other[s] != theirs.other[t]:
                shown = (str(ours.other[s]), str(theirs.other[t]))
                self._say(here, self.p.names[t], VISIBILITY, *shown, before=x.place, after=y.place)
            if ours.size[s] != theirs.size[t] and x.end - x.start == y.end - y.start:
                shown = (f"{ours.size[s]} bytes", f"{theirs.size[t]} bytes")
                self._say(here, self.p.names[t], SIZE, *shown, before=x.place, after=y.place)

    def _same_rows(self, left: list[RelocRow], i: int, right: list[RelocRow], j: int) -> bool:
        """Whether two lists of relocations are the same beyond doubt."""
        if len(left) != len(right):
            return False
        if not left:
            return True
        mine, other = self._quick
        relative = self.o.arch.pc_relative
        for (at, kind, sym, addend), (there, sort, number, added) in zip(left, right, strict=True):
            if at - i != there - j or kind != sort or mine[sym] != other[number]:
                return False
            if mine[sym] == _UNKNOWN:
                if kind in relative or self._means(self.o, sym, addend) != self._means(self.p, number, added):
                    return False
            elif addend != added:
                return False
        return True

    def _contents(self, x: Piece, y: Piece, left: list[RelocRow], right: list[RelocRow], here: str, same: bool) -> None:
        """The difference of two pieces: that of their bytes, or else of what each field means."""
        was, mine = self._fields(self.o, x, left)
        now, other = self._fields(self.p, y, right)
        name, before, after = y.name or x.name, x.place, y.place
        if was != now:
            at = next((i for i, (a, b) in enumerate(zip(was, now, strict=False)) if a != b), min(len(was), len(now)))
            shown = (was[at : at + _SHOWN].hex(), now[at : at + _SHOWN].hex())
            self._say(here, name, CONTENT, *shown, offset=at, before=before, after=after)
            return
        for at in sorted(mine.keys() | other.keys()):
            a, b = mine.get(at), other.get(at)
            if a != b:
                shown = (self._show(a[1]) if a else "", self._show(b[1]) if b else "")
                if a and b and shown[0] == shown[1]:
                    shown = (f"{shown[0]} ({a[0]})", f"{shown[1]} ({b[0]})")
                self._say(here, name, REFERENCE, *shown, offset=at, before=before, after=after)

    def _fields(
        self, side: ObjectPieces, piece: Piece, rows: list[RelocRow]
    ) -> tuple[bytes, dict[int, tuple[int, Meaning]]]:
        """A piece's bytes with all fields zeroed that mean something outside it, and what these mean."""
        arch = side.arch
        raw = bytearray(side.content(piece))
        code = side.obj.sections[piece.section].executable
        out: dict[int, tuple[int, Meaning]] = {}
        starts: list[int] | None = None
        columns = side.obj.columns
        for offset, kind, sym, addend in rows:
            if kind == arch.none_reloc:
                continue
            at = offset - piece.start
            size = arch.reloc_size.get(kind, 0)
            bias = 0
            if code and kind in arch.pc_relative and sym not in side.of_symbol and columns.shndx[sym]:
                bias = size
                if kind != arch.call_reloc:
                    # a displacement counts from the end of its instruction
                    if starts is None:
                        starts = [*arch.boundaries(side.content(piece)), piece.end - piece.start]
                    bias = next((s - at for s in starts if s > at), size)
            raw[at : at + size] = bytes(size)
            meaning = self._means(side, sym, addend + bias)
            width = arch.per_field_pcrel32 if kind == arch.call_reloc else kind
            if bias and meaning[0] == "piece":
                # as a relocation by the symbol itself would say it
                meaning = (*meaning[:2], int(str(meaning[2])) - bias)
            out[at] = (width, meaning)
        if code and len(side.of_section[piece.section]) > 1:
            self._without_relocations(side, piece, raw, out)
        return bytes(raw), out

    def _without_relocations(
        self, side: ObjectPieces, piece: Piece, raw: bytearray, out: dict[int, tuple[int, Meaning]]
    ) -> None:
        """Branches and addresses that the assembler worked out, because they stay in the section."""
        size = piece.end - piece.start
        for i in side.arch.decode(side.content(piece)):
            if i.target is None or i.field_offset in out or 0 <= i.target < size or not i.field_size:
                continue
            found = side.piece_at(piece.section, piece.start + i.target)
            if found is None:
                continue
            raw[i.field_offset : i.field_offset + i.field_size] = bytes(i.field_size)
            delta = piece.start + i.target - found.start - (i.offset + i.length - i.field_offset)
            meaning = ("piece", self._piece_key(side, found), delta)
            out[i.field_offset] = (side.arch.per_field_pcrel32, meaning)

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
                self._say(name, "", ORDER, a.name, b.name, -1, self.o.pieces[self.owners[b.number]].place, b.place)

    # -- tables -------------------------------------------------------------------------------------------------

    def _table(self, name: str) -> None:
        ours, theirs = self.o.tables.get(name, []), self.p.tables.get(name, [])
        spec = self.p.rule(name)
        if spec is None:
            return  # goes with another table
        if self._same_table(ours, theirs, spec):
            return
        tables = [_Table(self, self.o, s, spec) for s in ours], [_Table(self, self.p, s, spec) for s in theirs]
        left, right = _runs(tables[0]), _runs(tables[1])
        others: tuple[list[_Run], list[_Run]] = ([], [])
        for key in left.keys() | right.keys():
            mine, other = left.get(key, []), right.get(key, [])
            same = len(mine) == len(other) and all(a.same(b) for a, b in zip(mine, other, strict=True))
            if same and (not isinstance(key, tuple) or self._same_layout(key)):
                continue
            others[0].extend(mine)
            others[1].extend(other)
        self._compare_entries(name, self._entries(others[0]), self._entries(others[1]))

    def _same_table(self, ours: list[Section], theirs: list[Section], spec: SpecialSection) -> bool:
        """Whether a table is the same as a whole, beyond doubt."""
        if len(ours) != 1 or len(theirs) != 1 or ours[0].size != theirs[0].size:
            return False
        of = [ours[0].name, spec.companion] if spec.companion else [ours[0].name]
        for name in of:
            left, right = self.o.tables.get(name, []), self.p.tables.get(name, [])
            if [self.o.bytes_of(s.index) for s in left] != [self.p.bytes_of(s.index) for s in right]:
                return False
        return self._same_rows(self.o.obj.reloc_rows(ours[0].index), 0, self.p.obj.reloc_rows(theirs[0].index), 0)

    def _same_layout(self, key: tuple[object, ...]) -> bool:
        """Whether offsets in a section of several pieces mean the same on both sides."""
        found = []
        for side in (self.o, self.p):
            sections = [s.index for s in side.obj.sections if s.name == key[-1] and s.index in side.of_section]
            found.append([(x.start, self._piece_key(side, x)) for i in sections for x in side.of_section[i]])
        return found[0] == found[1]

    def _compare_entries(self, name: str, left: dict[object, list[_Entry]], right: dict[object, list[_Entry]]) -> None:
        for key in left.keys() | right.keys():
            was, now = left.get(key, []), right.get(key, [])
            if was == now:
                continue
            x, y = self._owner(key)
            piece, side = (y, self.p) if y is not None else (x, self.o)
            first = next((i for i, (a, b) in enumerate(zip(was, now, strict=False)) if a != b), None)
            if first is None:
                first = min(len(was), len(now))
            some = (now[first:] or was[first:])[0]
            shown = [
                f"{len(side)} entries" + (f", {self._shown(side[first])}" if first < len(side) else "") if side else ""
                for side in (was, now)
            ]
            symbol = (piece.name or side.kind(piece)) if piece is not None else ""
            before, after = x.place if x is not None else None, y.place if y is not None else None
            self._say(name, symbol, ENTRIES, shown[0], shown[1], some.at, before, after)

    def _shown(self, entry: _Entry) -> str:
        means = ", ".join(self._show(m) for _, m in entry.means)
        return entry.raw[:_SHOWN].hex() + (f" ({means})"[:100] if means else "")

    def _owner(self, key: object) -> tuple[Piece | None, Piece | None]:
        if isinstance(key, int):
            found = self.owners.get(key)
            return (self.o.pieces[found] if found is not None else None), self.p.pieces[key]
        if isinstance(key, tuple) and key[0] == "gone":
            return self.o.pieces[key[1]], None
        return None, None

    def _entries(self, runs: list[_Run]) -> dict[object, list[_Entry]]:
        """The entries of some runs by the piece that each belongs to, in order."""
        out: dict[object, list[_Entry]] = {}
        for run in runs:
            for owner, entry in run.table.entries(run):
                out.setdefault(owner, []).append(entry)
        for found in out.values():
            found.sort(key=lambda e: e.at)
        return out

    def _owner_at(self, side: ObjectPieces, sym: int, place: int) -> tuple[object, int]:
        shndx = side.obj.columns.shndx[sym]
        if shndx == SHN.UNDEF or shndx >= SHN.LORESERVE:
            return ("outside", side.names[sym]), place
        if place and place == side.obj.sections[shndx].size:
            found = side.piece_at(shndx, place - 1)  # an end of unwinding
        else:
            found = side.piece_at(shndx, place)
        if found is None:
            return ("section", kind_of_section(side.obj.sections[shndx].name)), place
        return self._piece_key(side, found), place - found.start

    # -- the rest -----------------------------------------------------------------------------------------------

    def _auxiliary(self) -> None:
        """Replacement code, without order: what no entry and no code refers to is not compared elsewhere."""
        found = []
        for side in (self.o, self.p):
            counted: Counter[Meaning] = Counter()
            for section, starts in side.aux_starts.items():
                size = side.obj.sections[section].size
                for start, end in zip(starts, [*starts[1:], size], strict=True):
                    if start < end <= size:
                        counted[self._code(side, section, start, end)] += 1
            found.append(counted)
        for kind, counted in ((WENT, found[0] - found[1]), (CAME, found[1] - found[0])):
            for meaning in counted:
                shown = self._show(meaning)[:80]
                self._say(".altinstr_replacement", "", kind, *((shown, "") if kind == WENT else ("", shown)))

    def _literals(self) -> None:
        found = []
        for side in (self.o, self.p):
            texts: dict[tuple[str, bytes], Place] = {}
            for section in side.literals:
                if not side.bytes_of(section.index):
                    continue
                kind = "strings" if section.strings else "constants"
                at = 0
                for text in side.texts(section):
                    texts.setdefault((f"{kind} of {max(section.entsize, 1)}", text), (section.index, at))
                    at += len(text) + (section.strings and section.entsize <= 1)
            found.append(texts)
        for (kind, text), place in found[0].items():
            if (kind, text) not in found[1]:
                self._say(kind, "", TEXT, _text(kind, text), "", before=place)
        for (kind, text), place in found[1].items():
            if (kind, text) not in found[0]:
                self._say(kind, "", TEXT, "", _text(kind, text), after=place)

    def _whole(self, left: dict[str, list[Section]], right: dict[str, list[Section]]) -> None:
        """Sections that are not loaded, as a whole."""
        for name in sorted(left.keys() | right.keys()):
            ours, theirs = left.get(name, []), right.get(name, [])
            was, now = (b"".join(side.bytes_of(s.index) for s in g) for side, g in ((self.o, ours), (self.p, theirs)))
            if was == now and self._same_meanings(ours, theirs):
                continue
            at = next((i for i, (a, b) in enumerate(zip(was, now, strict=False)) if a != b), min(len(was), len(now)))
            shown = (
                was[at : at + _SHOWN].hex() or f"{len(was)} bytes",
                now[at : at + _SHOWN].hex() or f"{len(now)} bytes",
            )
            self._say(name, "", CONTENT if ours and theirs else CAME if theirs else WENT, *shown, offset=at)

    def _same_meanings(self, ours: list[Section], theirs: list[Section]) -> bool:
        if len(ours) != len(theirs):
            return False
        for a, b in zip(ours, theirs, strict=True):
            left, right = self.o.obj.reloc_rows(a.index), self.p.obj.reloc_rows(b.index)
            if self._same_rows(left, 0, right, 0):
                continue
            if [(r[0], r[1], self._means(self.o, r[2], r[3])) for r in left] != [
                (r[0], r[1], self._means(self.p, r[2], r[3])) for r in right
            ]:
                return False
        return True

    def _modinfo(self) -> None:
        found = [
            Counter(t for s in side.modinfo for t in side.bytes_of(s.index).split(b"\0") if t)
            for side in (self.o, self.p)
        ]
        for kind, counted in ((WENT, found[0] - found[1]), (CAME, found[1] - found[0])):
            for text in counted.elements():
                key, _, value = text.decode("utf-8", "replace").partition("=")
                self._say(".modinfo", key, kind, *((value, "") if kind == WENT else ("", value)))

    def _headers(self) -> None:
        """Alignment, type and flags of the sections that are not read as pieces, by name."""
        found: list[dict[str, tuple[int, str]]] = []
        for side in (self.o, self.p):
            of: dict[str, tuple[int, str]] = {}
            for section in side.obj.sections:
                if section.index not in side.of_section and section.index in side.listed and section.size:
                    name = section.name
                    align, shown = of.get(name, (0, ""))
                    each = f"{section.type}:{section.flags:#x}"
                    of[name] = (
                        max(align, section.align),
                        shown if each in shown.split() else f"{shown} {each}".strip(),
                    )
            found.append(of)
        for name in sorted(found[0].keys() & found[1].keys()):
            was, now = found[0][name], found[1][name]
            if was[0] != now[0]:
                self._say(name, "", ALIGN, str(was[0]), str(now[0]))
            if set(was[1].split()) != set(now[1].split()):
                self._say(name, "", TYPE, was[1], now[1])

    def _groups(self) -> None:
        found = []
        for side in (self.o, self.p):
            groups = {
                tuple(sorted(kind_of_section(side.obj.sections[i].name) + f" {side.obj.sections[i].name}" for i in g))
                for each in side.obj.groups.values()
                for g in each
            }
            found.append(groups)
        for group in found[0] ^ found[1]:
            shown = ", ".join((name.split() or ["?"])[-1] for name in group)[:80]
            self._say(".group", "", GROUP, *((shown, "") if group in found[0] else ("", shown)))


class _Run(NamedTuple):
    """Entries that follow each other in a table and belong to one section of code: the first entry and the one behind
    the last, the first relocation and the one behind the last."""

    table: _Table
    first: int
    last: int
    row: int
    end: int

    def same(self, other: _Run) -> bool:
        """Whether two runs are the same beyond doubt."""
        if self.last - self.first != other.last - other.first or self.table.size != other.table.size:
            return False
        mine, theirs = self.table, other.table
        if mine.addends and theirs.addends:
            size = mine.size
            return (
                mine.kinds == theirs.kinds
                and mine.addends[self.row : self.end] == theirs.addends[other.row : other.end]
                and mine.raw[self.first * size : self.last * size] == theirs.raw[other.first * size : other.last * size]
                and mine.beside_of(self) == theirs.beside_of(other)
            )
        return mine.shape(self) == theirs.shape(other)


class _Table:
    """One section of entries."""

    def __init__(self, walker: _Walker, side: ObjectPieces, section: Section, spec: SpecialSection) -> None:
        self.walker, self.side, self.section, self.spec = walker, side, section, spec
        self.rows = side.obj.reloc_rows(section.index)
        self.size = _entry_size(section.size, self.rows, spec)
        self.raw = side.bytes_of(section.index)
        self.count = -(-section.size // self.size)
        other = side.obj.section_named(spec.companion) if spec.companion else None
        whole = other is not None and self.count and other.size % self.count == 0
        self.beside = side.bytes_of(other.index) if whole and other is not None else b""
        self.each = len(self.beside) // self.count if self.count else 0
        # where each entry has its owner's relocation alone, as in most tables, columns say all
        alone = len(self.rows) == self.count and all(row[0] % self.size == spec.owner for row in self.rows)
        self.addends = [row[3] for row in self.rows] if alone else []
        self.kinds = {row[1] for row in self.rows} if alone else set()

    def runs(self) -> Iterable[tuple[object, _Run]]:
        """The runs, each with what it belongs to: a piece, or a section of several."""
        size, owner, side = self.size, self.spec.owner, self.side
        rows = self.rows
        if len(rows) == self.count:
            symbols = [row[2] for row in rows]  # one for each entry
            starts: list[int] | range = range(self.count + 1)
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
            run = _Run(self, first, last, starts[first], starts[last])
            first = last
            if symbol < 0:
                yield ("nothing", self.section.name), run
                continue
            pieces = side.of_section.get(shndx[symbol], ())
            if len(pieces) == 1:
                yield self.walker._piece_key_of(side, pieces[0]), run
            elif shndx[symbol] and shndx[symbol] < SHN.LORESERVE:
                yield ("section", side.obj.sections[shndx[symbol]].name), run
            else:
                yield ("outside", side.names[symbol]), run

    def beside_of(self, run: _Run) -> bytes:
        """What the table that goes with this one has for a run."""
        return self.beside[run.first * self.each : run.last * self.each]

    def shape(self, run: _Run) -> tuple[object, ...]:
        """What is equal in equal runs: bytes, and each relocation with what it means."""
        size, rows = self.size, self.rows[run.row : run.end]
        tokens = self.walker._quick[self.side is self.walker.p]
        base = run.first * size
        means: list[object] = []
        replaced = self.spec.replacement.get(size, (-1, -1))[0]
        shndx = self.side.obj.columns.shndx
        for offset, kind, sym, addend in rows:
            token: object = tokens[sym]
            delta = addend
            field = (offset - base) % size
            if field == self.spec.owner:
                token = None  # the key of the run says it
            elif token == _UNKNOWN:
                if field == replaced and shndx[sym] in self.side.auxiliary:
                    token, delta = self._replacement(offset - field, size, sym, addend), 0
                else:
                    token, delta = self.walker._means(self.side, sym, addend), 0
            means.append((offset - base, kind, token, delta))
        return self.raw[base : run.last * size], self.beside_of(run), means

    def _replacement(self, entry: int, size: int, sym: int, addend: int) -> Meaning:
        columns = self.side.obj.columns
        start = columns.value[sym] + addend
        length = self.raw[entry + self.spec.replacement[size][1]]
        return self.walker._code(self.side, columns.shndx[sym], start, start + length)

    def entries(self, run: _Run) -> Iterable[tuple[object, _Entry]]:
        """The entries of a run, each with the piece that it belongs to."""
        side, spec, size, columns = self.side, self.spec, self.size, self.side.obj.columns
        sizes = side.arch.reloc_size
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
                    owner, place = self.walker._owner_at(side, sym, columns.value[sym] + addend)
                elif field == replaced and columns.shndx[sym] in side.auxiliary:
                    means.append((field, self._replacement(first, size, sym, addend)))
                else:
                    means.append((field, self.walker._means(side, sym, addend)))
            beside = self.beside[number * self.each : (number + 1) * self.each]
            yield owner, _Entry(place, bytes(data) + beside, tuple(means))


def _runs(tables: list[_Table]) -> dict[object, list[_Run]]:
    out: dict[object, list[_Run]] = {}
    for table in tables:
        for key, run in table.runs():
            out.setdefault(key, []).append(run)
    return out


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


def _shared(side: ObjectPieces) -> dict[str, list[Piece]]:
    """Pieces with names in sections of several such, by the section's name."""
    out: dict[str, list[Piece]] = {}
    for index, pieces in side.of_section.items():
        named = [x for x in pieces if x.names]
        if len(named) > 1:
            out.setdefault(side.obj.sections[index].name, []).extend(named)
    return out


def _entry_size(total: int, rows: list[RelocRow], spec: SpecialSection) -> int:
    """The size of a table's entries: of those that are known, the one that its relocations fit best."""
    offsets = {row[0] for row in rows}

    def fits(size: int) -> tuple[bool, bool]:
        needed = spec.sizes[size]
        every = all(at + n in offsets for at in range(0, total, size) for n in needed)
        return every and (total % size == 0 or bool(spec.last)), -(-total // size) * len(needed) == len(offsets)

    return max(spec.sizes, key=fits)


def _text(kind: str, text: bytes) -> str:
    return repr(text.decode("utf-8", "replace"))[:80] if kind.startswith("strings") else text.hex()


__all__ = ["Difference", "Ledger", "compute_ledger"]
