# SPDX-License-Identifier: GPL-2.0-or-later
"""What is compared as text or as a whole: literals, sections that are not loaded, .modinfo, headers, section groups."""

from __future__ import annotations

from collections import Counter

from kgbuild.elf.object import Section
from kgbuild.ledger.btf import compare_btf
from kgbuild.ledger.difference import ALIGN, CAME, CONTENT, GROUP, SHOWN, TEXT, TYPE, WENT, Book
from kgbuild.ledger.meaning import Meanings
from kgbuild.ledger.pieces import ObjectPieces, SectionOffset, kind_of_section


class Rest:
    """Compares everything that is neither a piece nor a table."""

    def __init__(self, meanings: Meanings, book: Book) -> None:
        self.meanings, self.book = meanings, book
        self.orig, self.patched = meanings.orig, meanings.patched

    def run(self) -> None:
        self._literals()
        self._whole(self.orig.discarded, self.patched.discarded)
        self._whole(self.orig.aside, self.patched.aside)
        self._modinfo()
        self._headers()
        self._groups()
        compare_btf(self.orig, self.patched, self.book)

    def _literals(self) -> None:
        found = [self._texts(side) for side in (self.orig, self.patched)]
        for kind in found[0].keys() | found[1].keys():
            orig, patched = (texts.get(kind, set()) for texts in found)
            for text, place in self._places(self.orig, kind, orig - patched).items():
                self.book.say(kind, "", TEXT, _text(kind, text), "", orig_place=place)
            for text, place in self._places(self.patched, kind, patched - orig).items():
                self.book.say(kind, "", TEXT, "", _text(kind, text), patched_place=place)

    @staticmethod
    def _texts(side: ObjectPieces) -> dict[str, set[bytes]]:
        """The literals of an object, by kind."""
        out: dict[str, set[bytes]] = {}
        for section in side.literals:
            if side.bytes_of(section.index):
                out.setdefault(_kind(section), set()).update(side.texts(section))
        return out

    @staticmethod
    def _places(side: ObjectPieces, kind: str, wanted: set[bytes]) -> dict[bytes, SectionOffset]:
        """The last place of each of some literals of a kind."""
        out: dict[bytes, SectionOffset] = {}
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

    def _whole(self, orig: dict[str, list[Section]], patched: dict[str, list[Section]]) -> None:
        """Compare sections that are not loaded, each as a whole."""
        for name in sorted(orig.keys() | patched.keys()):
            orig_sections, patched_sections = orig.get(name, []), patched.get(name, [])
            orig_bytes, patched_bytes = (
                b"".join(side.bytes_of(s.index) for s in g)
                for side, g in ((self.orig, orig_sections), (self.patched, patched_sections))
            )
            if orig_bytes == patched_bytes and self._same_meanings(orig_sections, patched_sections):
                continue
            at = next(
                (i for i, pair in enumerate(zip(orig_bytes, patched_bytes, strict=False)) if pair[0] != pair[1]),
                min(len(orig_bytes), len(patched_bytes)),
            )
            shown = (
                orig_bytes[at : at + SHOWN].hex() or f"{len(orig_bytes)} bytes",
                patched_bytes[at : at + SHOWN].hex() or f"{len(patched_bytes)} bytes",
            )
            self.book.say(
                name,
                "",
                CONTENT if orig_sections and patched_sections else CAME if patched_sections else WENT,
                *shown,
                offset=at,
            )

    def _same_meanings(self, orig: list[Section], patched: list[Section]) -> bool:
        if len(orig) != len(patched):
            return False
        for orig_section, patched_section in zip(orig, patched, strict=True):
            orig_rows, patched_rows = (
                self.orig.obj.reloc_rows(orig_section.index),
                self.patched.obj.reloc_rows(patched_section.index),
            )
            if self.meanings.same_rows(orig_rows, 0, patched_rows, 0):
                continue
            if [(row[0], row[1], self.meanings.means(self.orig, row[2], row[3])) for row in orig_rows] != [
                (row[0], row[1], self.meanings.means(self.patched, row[2], row[3])) for row in patched_rows
            ]:
                return False
        return True

    def _modinfo(self) -> None:
        found = [
            Counter(t for s in side.modinfo for t in side.bytes_of(s.index).split(b"\0") if t)
            for side in (self.orig, self.patched)
        ]
        for kind, counted in ((WENT, found[0] - found[1]), (CAME, found[1] - found[0])):
            for text in counted.elements():
                key, _, value = text.decode("utf-8", "replace").partition("=")
                self.book.say(".modinfo", key, kind, *((value, "") if kind == WENT else ("", value)))

    def _headers(self) -> None:
        """Compare alignment, type and flags of the sections that are not read as pieces, by name."""
        found: list[dict[str, tuple[int, str]]] = []
        for side in (self.orig, self.patched):
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
            orig, patched = found[0][name], found[1][name]
            if orig[0] != patched[0]:
                self.book.say(name, "", ALIGN, str(orig[0]), str(patched[0]))
            if set(orig[1].split()) != set(patched[1].split()):
                self.book.say(name, "", TYPE, orig[1], patched[1])

    def _groups(self) -> None:
        found = []
        for side in (self.orig, self.patched):
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
