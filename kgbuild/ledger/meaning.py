# SPDX-License-Identifier: GPL-2.0-or-later
"""What relocations of two objects mean, said so that the same thing is said in the same way on both sides."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence

from kgbuild.arch.base import Instruction
from kgbuild.elf.consts import SHN
from kgbuild.elf.object import RelocRow
from kgbuild.ledger.pairs import Pairs
from kgbuild.ledger.pieces import ObjectPieces, Piece, kind_of_section

Meaning = tuple[object, ...]
_DEPTH = 6  # pieces of replacement code that lead to each other
UNKNOWN = -1
_UNDEF, _RESERVED = int(SHN.UNDEF), int(SHN.LORESERVE)


class Meanings:
    """What symbols, relocations and fields mean in either of two objects."""

    def __init__(self, pairs: Pairs) -> None:
        self.pairs, self.o, self.p = pairs, pairs.o, pairs.p
        self._outside: dict[str, int] = {}  # numbers of what neither defines
        self._first = len(self.p.pieces)
        self._aux: dict[tuple[int, int, int], Meaning] = {}
        self.quick = self._quick_tokens(self.o), self._quick_tokens(self.p)

    def _quick_tokens(self, side: ObjectPieces) -> list[int]:
        """For each symbol a number that is the same for the same thing on both sides, or UNKNOWN where an offset
        decides what is meant."""
        columns, names, of_symbol, pieces = side.obj.columns, side.names, side.of_symbol, side.pieces
        shndx, value = columns.shndx, columns.value
        keys: Sequence[int] = range(len(pieces))
        if side is self.o:
            partner = self.pairs.partner
            keys = [partner.get(number, -2 - number) for number in keys]
        out = [UNKNOWN] * len(shndx)
        for i, number in of_symbol.items():
            if value[i] == pieces[number].start:
                out[i] = keys[number]
        outside = self._outside
        for i, index in enumerate(shndx):
            if out[i] != UNKNOWN or i in of_symbol:
                continue
            if index == _UNDEF or index >= _RESERVED:
                out[i] = outside.setdefault(names[i], self._first + len(outside))
            elif not value[i]:
                # a symbol of a section: beyond doubt where there is one piece and nothing else
                found = side.of_section.get(index)
                if found is not None and len(found) == 1 and not found[0].labels:
                    out[i] = keys[found[0].number]
        return out

    def means(self, side: ObjectPieces, sym: int, offset: int, depth: int = 0) -> Meaning:
        """What a symbol and an offset mean; `offset` counts from the symbol, without a bias."""
        columns = side.obj.columns
        shndx = columns.shndx[sym]
        if shndx == SHN.UNDEF or shndx >= SHN.LORESERVE:
            return "outside", side.names[sym], offset
        place = columns.value[sym] + offset
        if sym in side.of_symbol:
            piece = side.pieces[side.of_symbol[sym]]
            return "piece", self.pairs.key(side, piece), place - piece.start
        section = side.obj.sections[shndx]
        if shndx in side.auxiliary:
            return self.code(side, shndx, place, side.aux_piece(shndx, place)[1], depth)
        found = side.piece_at(shndx, place)
        if found is not None:
            return "piece", self.pairs.key(side, found), place - found.start
        if section.merge:
            return "text", side.text_at(section, place)
        return "place", kind_of_section(section.name), place

    def code(self, side: ObjectPieces, section: int, start: int, end: int, depth: int = 0) -> Meaning:
        """A piece of replacement code: its bytes and what they refer to."""
        key = (int(side is self.p), section, start if end >= 0 else UNKNOWN)
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
                means.append((at - start, self.means(side, sym, addend + bias, depth + 1)))
        out: Meaning = ("code", bytes(raw), tuple(means))
        self._aux[(*key[:2], start * (1 << 32) + end)] = out
        return out

    def show(self, meaning: Meaning) -> str:
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
            assert isinstance(meaning[1], int)
            piece, side = self.pairs.piece(meaning[1])
            name = piece.name or side.kind(piece)
        return f"{name}{delta:+#x}" if delta else name

    def same_rows(self, left: list[RelocRow], i: int, right: list[RelocRow], j: int) -> bool:
        """Whether two lists of relocations are the same beyond doubt."""
        if len(left) != len(right):
            return False
        if not left:
            return True
        mine, other = self.quick
        relative = self.o.arch.pc_relative
        for (at, kind, sym, addend), (there, sort, number, added) in zip(left, right, strict=True):
            if at - i != there - j or kind != sort or mine[sym] != other[number]:
                return False
            if mine[sym] == UNKNOWN:
                if kind in relative or self.means(self.o, sym, addend) != self.means(self.p, number, added):
                    return False
            elif addend != added:
                return False
        return True

    def masked(self, side: ObjectPieces, piece: Piece, rows: list[RelocRow]) -> bytes:
        """A piece's bytes with all fields zeroed that mean something outside it."""
        arch = side.arch
        raw = bytearray(side.content(piece))
        fields: dict[int, int] = {}
        for offset, kind, _, _ in rows:
            if kind != arch.none_reloc:
                at = offset - piece.start
                size = fields[at] = arch.reloc_size.get(kind, 0)
                raw[at : at + size] = bytes(size)
        if side.obj.sections[piece.section].executable and len(side.of_section[piece.section]) > 1:
            for i, _ in self._without_relocations(side, piece, fields):
                raw[i.field_offset : i.field_offset + i.field_size] = bytes(i.field_size)
        return bytes(raw)

    def fields(self, side: ObjectPieces, piece: Piece, rows: list[RelocRow]) -> dict[int, tuple[int, Meaning]]:
        """What each field of a piece means, with its width."""
        arch = side.arch
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
            meaning = self.means(side, sym, addend + bias)
            width = arch.per_field_pcrel32 if kind == arch.call_reloc else kind
            if bias and meaning[0] == "piece":
                # as a relocation by the symbol itself would say it
                meaning = (*meaning[:2], int(str(meaning[2])) - bias)
            out[at] = (width, meaning)
        if code and len(side.of_section[piece.section]) > 1:
            for i, meaning in self._without_relocations(side, piece, out):
                out[i.field_offset] = (arch.per_field_pcrel32, meaning)
        return out

    def _without_relocations(
        self, side: ObjectPieces, piece: Piece, fields: Container[int]
    ) -> Iterator[tuple[Instruction, Meaning]]:
        """Branches and addresses that the assembler worked out, because they stay in the section."""
        size = piece.end - piece.start
        for i in list(side.arch.decode(side.content(piece))):
            if i.target is None or i.field_offset in fields or 0 <= i.target < size or not i.field_size:
                continue
            found = side.piece_at(piece.section, piece.start + i.target)
            if found is None:
                continue
            delta = piece.start + i.target - found.start - (i.offset + i.length - i.field_offset)
            yield i, ("piece", self.pairs.key(side, found), delta)
