# SPDX-License-Identifier: GPL-2.0-or-later
"""What relocations of two objects refer to, expressed so that equal targets compare equal."""

from __future__ import annotations

import bisect
from collections.abc import Container, Iterator, Sequence

from kgbuild.arch.base import Instruction
from kgbuild.elf.consts import SHN
from kgbuild.elf.object import RelocRow
from kgbuild.ledger.pairs import Pairs
from kgbuild.ledger.pieces import ObjectPieces, Piece, entry_size, kind_of_section

Meaning = tuple[object, ...]
_DEPTH = 6  # how deep pieces of replacement code may refer to each other
UNKNOWN = -1
_UNDEF, _RESERVED = int(SHN.UNDEF), int(SHN.LORESERVE)


class Meanings:
    """What symbols, relocations and fields of two objects refer to."""

    def __init__(self, pairs: Pairs) -> None:
        self.pairs, self.orig, self.patched = pairs, pairs.orig, pairs.patched
        self._outside: dict[str, int] = {}  # numbers for symbols that neither object defines
        self._first = len(self.patched.pieces)
        self._aux: dict[tuple[int, int, int], Meaning] = {}
        self.quick = self._quick_tokens(self.orig), self._quick_tokens(self.patched)

    def _quick_tokens(self, side: ObjectPieces) -> list[int]:
        """For each symbol, a number that is equal on both sides if the symbols are the same, or UNKNOWN if the target
        depends on an offset."""
        columns, names, of_symbol, pieces = side.obj.columns, side.names, side.of_symbol, side.pieces
        shndx, value = columns.shndx, columns.value
        keys: Sequence[int] = range(len(pieces))
        if side is self.orig:
            partner = self.pairs.partner
            keys = [partner.get(number, -2 - number) for number in keys]
        out = [UNKNOWN] * len(shndx)
        for symbol, number in of_symbol.items():
            if value[symbol] == pieces[number].start:
                out[symbol] = keys[number]
        outside = self._outside
        for symbol, index in enumerate(shndx):
            if out[symbol] != UNKNOWN or symbol in of_symbol:
                continue
            if index == _UNDEF or index >= _RESERVED:
                out[symbol] = outside.setdefault(names[symbol], self._first + len(outside))
            elif not value[symbol]:
                # a section symbol: unambiguous if the section has one piece and nothing else
                found = side.of_section.get(index)
                if found is not None and len(found) == 1 and not found[0].labels:
                    out[symbol] = keys[found[0].number]
        return out

    def means(self, side: ObjectPieces, sym: int, offset: int, depth: int = 0) -> Meaning:
        """What a symbol plus an offset refers to; `offset` counts from the symbol, without a relocation's bias."""
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
        if (rule := side.rule(section.name)) is not None and depth <= _DEPTH:
            # code whose WARN is a call refers to its entry (since 6.19): its place in the table says nothing
            rows = side.obj.reloc_rows(shndx)
            size = entry_size(section.size, rows, rule)
            start = place - place % size
            for at, _, owner, addend in rows[bisect.bisect_left(rows, (start + rule.owner,)) :][:1]:
                if at == start + rule.owner:
                    return "entry", section.name, place - start, self.means(side, owner, addend, depth + 1)
        return "place", kind_of_section(section.name), place

    def code(self, side: ObjectPieces, section: int, start: int, end: int, depth: int = 0) -> Meaning:
        """A piece of replacement code: its bytes and what they refer to."""
        key = (int(side is self.patched), section, start if end >= 0 else UNKNOWN)
        if depth > _DEPTH:
            return "code", section, start
        found = self._aux.get((*key[:2], start * (1 << 32) + end))
        if found is not None:
            return found
        raw = bytearray(side.bytes_of(section)[start:end])
        means = []
        for at, kind, sym, addend in side.obj.reloc_rows(section):
            if start <= at < end:
                size = side.arch.relocs.sizes.get(kind, 0)
                raw[at - start : at - start + size] = bytes(size)
                bias = size if kind in side.arch.relocs.pc_relative else 0
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
        if what == "entry":
            assert isinstance(meaning[3], tuple)
            return f"the entry in {name} of {self.show(meaning[3])}"
        if what == "piece":
            assert isinstance(meaning[1], int)
            piece, side = self.pairs.piece(meaning[1])
            name = piece.name or side.kind(piece)
        return f"{name}{delta:+#x}" if delta else name

    def same_rows(
        self, orig_rows: list[RelocRow], orig_start: int, patched_rows: list[RelocRow], patched_start: int
    ) -> bool:
        """Whether two lists of relocations are certainly equal."""
        if len(orig_rows) != len(patched_rows):
            return False
        if not orig_rows:
            return True
        orig_tokens, patched_tokens = self.quick
        relative = self.orig.arch.relocs.pc_relative
        for (at, kind, sym, addend), (patched_at, patched_kind, patched_sym, patched_addend) in zip(
            orig_rows, patched_rows, strict=True
        ):
            if (
                at - orig_start != patched_at - patched_start
                or kind != patched_kind
                or orig_tokens[sym] != patched_tokens[patched_sym]
            ):
                return False
            if orig_tokens[sym] == UNKNOWN:
                if kind in relative or self.means(self.orig, sym, addend) != self.means(
                    self.patched, patched_sym, patched_addend
                ):
                    return False
            elif addend != patched_addend:
                return False
        return True

    def masked(self, side: ObjectPieces, piece: Piece, rows: list[RelocRow]) -> bytes:
        """A piece's bytes, with every field zeroed that refers to something outside it."""
        arch = side.arch
        raw = bytearray(side.content(piece))
        fields: dict[int, int] = {}
        for offset, kind, _, _ in rows:
            if kind != arch.relocs.none:
                at = offset - piece.start
                size = fields[at] = arch.relocs.sizes.get(kind, 0)
                raw[at : at + size] = bytes(size)
        if side.obj.sections[piece.section].executable and len(side.of_section[piece.section]) > 1:
            for instruction, _ in self._without_relocations(side, piece, fields):
                raw[instruction.field_offset : instruction.field_offset + instruction.field_size] = bytes(
                    instruction.field_size
                )
        return bytes(raw)

    def fields(self, side: ObjectPieces, piece: Piece, rows: list[RelocRow]) -> dict[int, tuple[int, Meaning]]:
        """What each field of a piece refers to, with the field's width."""
        arch = side.arch
        code = side.obj.sections[piece.section].executable
        out: dict[int, tuple[int, Meaning]] = {}
        starts: list[int] | None = None
        columns = side.obj.columns
        for offset, kind, sym, addend in rows:
            if kind == arch.relocs.none:
                continue
            at = offset - piece.start
            size = arch.relocs.sizes.get(kind, 0)
            bias = 0
            if code and kind in arch.relocs.pc_relative and sym not in side.of_symbol and columns.shndx[sym]:
                bias = size
                if kind != arch.call_reloc:
                    # a displacement counts from the end of its instruction
                    if starts is None:
                        starts = [*arch.boundaries(side.content(piece)), piece.end - piece.start]
                    bias = next((s - at for s in starts if s > at), size)
            meaning = self.means(side, sym, addend + bias)
            width = arch.per_field_pcrel32 if kind == arch.call_reloc else kind
            if bias and meaning[0] == "piece":
                # expressed like a relocation against the symbol itself
                meaning = (*meaning[:2], int(str(meaning[2])) - bias)
            out[at] = (width, meaning)
        if code and len(side.of_section[piece.section]) > 1:
            for instruction, meaning in self._without_relocations(side, piece, out):
                out[instruction.field_offset] = (arch.per_field_pcrel32, meaning)
        return out

    def _without_relocations(
        self, side: ObjectPieces, piece: Piece, fields: Container[int]
    ) -> Iterator[tuple[Instruction, Meaning]]:
        """Branches and addresses that the assembler resolved itself because the target is in the same section."""
        size = piece.end - piece.start
        for instruction in list(side.arch.decode(side.content(piece))):
            if (
                instruction.target is None
                or instruction.field_offset in fields
                or 0 <= instruction.target < size
                or not instruction.field_size
            ):
                continue
            found = side.piece_at(piece.section, piece.start + instruction.target)
            if found is None:
                continue
            delta = (
                piece.start
                + instruction.target
                - found.start
                - (instruction.offset + instruction.length - instruction.field_offset)
            )
            yield instruction, ("piece", self.pairs.key(side, found), delta)
