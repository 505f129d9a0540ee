# SPDX-License-Identifier: GPL-2.0-or-later
"""What is compared by text or as a whole: literals, sections that are not loaded, .modinfo, headers, section groups."""

from __future__ import annotations

from collections import Counter

from kgbuild.elf.object import Section
from kgbuild.ledger.btf import compare_btf
from kgbuild.ledger.difference import ALIGN, CAME, CONTENT, GROUP, SHOWN, TEXT, TYPE, WENT, Book
from kgbuild.ledger.meaning import Meanings
from kgbuild.ledger.pieces import ObjectPieces, Place, kind_of_section


class Rest:
    """Compares what is neither a piece nor a table."""

    def __init__(self, meanings: Meanings, book: Book) -> None:
        self.meanings, self.book = meanings, book
        self.o, self.p = meanings.o, meanings.p

    def run(self) -> None:
        self._literals()
        self._whole(self.o.discarded, self.p.discarded)
        self._whole(self.o.aside, self.p.aside)
        self._modinfo()
        self._headers()
        self._groups()
        compare_btf(self.o, self.p, self.book)

    def _literals(self) -> None:
        found = [self._texts(side) for side in (self.o, self.p)]
        for kind in found[0].keys() | found[1].keys():
            was, now = (texts.get(kind, set()) for texts in found)
            for text, place in self._places(self.o, kind, was - now).items():
                self.book.say(kind, "", TEXT, _text(kind, text), "", before=place)
            for text, place in self._places(self.p, kind, now - was).items():
                self.book.say(kind, "", TEXT, "", _text(kind, text), after=place)

    @staticmethod
    def _texts(side: ObjectPieces) -> dict[str, set[bytes]]:
        """The literals of an object, by kind."""
        out: dict[str, set[bytes]] = {}
        for section in side.literals:
            if side.bytes_of(section.index):
                out.setdefault(_kind(section), set()).update(side.texts(section))
        return out

    @staticmethod
    def _places(side: ObjectPieces, kind: str, wanted: set[bytes]) -> dict[bytes, Place]:
        """Where some literals of a kind lie last."""
        out: dict[bytes, Place] = {}
        if not wanted:
            return out
        for section in side.literals:
            if _kind(section) != kind:
                continue
            at = 0
            for text in side.texts(section):
                if text in wanted:
                    out[text] = section.index, at
                at += len(text) + (section.strings and section.entsize <= 1)
        return out

    def _whole(self, left: dict[str, list[Section]], right: dict[str, list[Section]]) -> None:
        """Sections that are not loaded, as a whole."""
        for name in sorted(left.keys() | right.keys()):
            ours, theirs = left.get(name, []), right.get(name, [])
            was, now = (b"".join(side.bytes_of(s.index) for s in g) for side, g in ((self.o, ours), (self.p, theirs)))
            if was == now and self._same_meanings(ours, theirs):
                continue
            at = next((i for i, (a, b) in enumerate(zip(was, now, strict=False)) if a != b), min(len(was), len(now)))
            shown = (
                was[at : at + SHOWN].hex() or f"{len(was)} bytes",
                now[at : at + SHOWN].hex() or f"{len(now)} bytes",
            )
            self.book.say(name, "", CONTENT if ours and theirs else CAME if theirs else WENT, *shown, offset=at)

    def _same_meanings(self, ours: list[Section], theirs: list[Section]) -> bool:
        if len(ours) != len(theirs):
            return False
        for a, b in zip(ours, theirs, strict=True):
            left, right = self.o.obj.reloc_rows(a.index), self.p.obj.reloc_rows(b.index)
            if self.meanings.same_rows(left, 0, right, 0):
                continue
            if [(r[0], r[1], self.meanings.means(self.o, r[2], r[3])) for r in left] != [
                (r[0], r[1], self.meanings.means(self.p, r[2], r[3])) for r in right
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
                self.book.say(".modinfo", key, kind, *((value, "") if kind == WENT else ("", value)))

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
                self.book.say(name, "", ALIGN, str(was[0]), str(now[0]))
            if set(was[1].split()) != set(now[1].split()):
                self.book.say(name, "", TYPE, was[1], now[1])

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
            self.book.say(".group", "", GROUP, *((shown, "") if group in found[0] else ("", shown)))


def _kind(section: Section) -> str:
    return f"{'strings' if section.strings else 'constants'} of {max(section.entsize, 1)}"


def _text(kind: str, text: bytes) -> str:
    return repr(text.decode("utf-8", "replace"))[:80] if kind.startswith("strings") else text.hex()
