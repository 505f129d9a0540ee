# SPDX-License-Identifier: GPL-2.0-or-later
"""Functions of two objects that are the same at first sight, found without looking at single references.

Of the hundreds of functions of a unit a patch changes one or two. For all others the bytes are equal, each relocation
names the same symbol, and so does each entry of the special sections; looking at columns of numbers shows that for a
whole object in a few milliseconds. Only what is beyond doubt is decided here: a function is left to the full comparison
where anything it refers to has a name that is not unique, names a folded body, or can't be told without decoding
an instruction.

What the compiler numbers is known by what it is: an anonymous constant by its content, a once-flag by its kind (a fresh
one serves as well), a clone by its stem where only one has it.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import NamedTuple

from kgbuild.arch.base import SpecialSection
from kgbuild.correlation import noise
from kgbuild.correlation.noise import Noise
from kgbuild.elf.consts import SHT, STT
from kgbuild.elf.object import RelocRow, Section
from kgbuild.objects.atoms import DATA, FUNCTION, Atom
from kgbuild.objects.entry_sizes import entry_size
from kgbuild.objects.stateless import is_plain_flag, may_be_once_flag
from kgbuild.objects.symbol_kinds import is_anonymous, stem
from kgbuild.objects.view import View

_NUMBERED = re.compile(r"\.\d|^__UNIQUE_ID_")
_DOUBT, _TEXT = -1, -2


class _FunctionSection(NamedTuple):
    """One function alone in its section, or with its prefix: the section, its atoms, and what must be equal at once."""

    section: int
    atoms: tuple[int, ...]
    shape: tuple[object, ...]


class _FunctionEntry(NamedTuple):
    """One entry of a special section: the section's name, bytes, relocations (offsets in the entry)."""

    name: str
    raw: bytes
    rows: list[RelocRow]


def same_at_first_sight(
    orig: View, patched: View, others: frozenset[str] = frozenset()
) -> tuple[set[tuple[int, int]], set[Noise]]:
    """Pairs (atom of the original, atom of the patched object) of functions that are the same beyond doubt, and the
    accidental differences in the names of what they refer to. `others` are names of data that mean one thing in the
    original and another in the patched object."""
    keys: dict[object, int] = {}
    orig_side, patched_side = _Side(orig, keys, others), _Side(patched, keys, others)
    patched_pieces = patched_side.pieces()
    out: set[tuple[int, int]] = set()
    found: set[Noise] = set()
    for names, orig_piece in orig_side.pieces().items():
        patched_piece = patched_pieces.get(names)
        if patched_piece is None or patched_piece.shape != orig_piece.shape:
            continue
        renamed = _compare_sections(orig_side, orig_piece.section, patched_side, patched_piece.section)
        if renamed is not None:
            out.update(zip(orig_piece.atoms, patched_piece.atoms, strict=True))
            found |= {Noise(names[-1], rule) for rule in renamed}
    return out, found


def _compare_sections(orig_side: _Side, orig: int, patched_side: _Side, patched: int) -> set[str] | None:
    """Whether two sections of code certainly do the same: the rules for renamed references; None if not certain."""
    if bytes(orig_side.view.obj.contents(orig)) != bytes(patched_side.view.obj.contents(patched)):
        return None
    rules: set[str] = set()
    if not _same_rows(orig_side, orig_side.rows(orig), patched_side, patched_side.rows(patched), True, rules):
        return None
    orig_entries, patched_entries = orig_side.entries_of(orig), patched_side.entries_of(patched)
    if orig_entries is None or patched_entries is None or len(orig_entries) != len(patched_entries):
        return None
    for orig_entry, patched_entry in zip(orig_entries, patched_entries, strict=True):
        if (orig_entry.name, orig_entry.raw) != (patched_entry.name, patched_entry.raw) or not _same_rows(
            orig_side, orig_entry.rows, patched_side, patched_entry.rows, False, rules
        ):
            return None
    return rules


def _same_rows(
    orig_side: _Side,
    orig_rows: list[RelocRow],
    patched_side: _Side,
    patched_rows: list[RelocRow],
    code: bool,
    rules: set[str],
) -> bool:
    """Whether relocations mean the same, one by one, beyond doubt. In code, what a PC-relative one means is not told by
    its addend alone, so that strings are left in doubt there. `rules` gets those for what has another name."""
    if len(orig_rows) != len(patched_rows):
        return False
    for (orig_offset, orig_kind, orig, orig_addend), (patched_offset, patched_kind, patched, patched_addend) in zip(
        orig_rows, patched_rows, strict=True
    ):
        key = orig_side.key[orig]
        if (
            orig_offset != patched_offset
            or orig_kind != patched_kind
            or key != patched_side.key[patched]
            or key == _DOUBT
        ):
            return False
        if key == _TEXT:
            # in code, or behind a string's label, the addend alone does not tell
            if (code and orig_kind in orig_side.relative) or not (
                orig_side.of_section(orig, orig_addend) and patched_side.of_section(patched, patched_addend)
            ):
                return False
            text = orig_side.string(orig, orig_addend)
            if text == _DOUBT or text != patched_side.string(patched, patched_addend):
                return False
        elif orig_addend + orig_side.shift[orig] != patched_addend + patched_side.shift[patched] and not (
            orig_side.in_flags(orig) and patched_side.in_flags(patched)
        ):
            return False
        if orig in orig_side.numbered and patched in patched_side.numbered:
            (rule, orig_name), (_, patched_name) = orig_side.numbered[orig], patched_side.numbered[patched]
            if orig_name != patched_name:
                rules.add(rule)
    return True


class _Side:
    """What the symbols of one object mean, and its functions and entries. `keys` number meanings, for both objects."""

    def __init__(self, view: View, keys: dict[object, int], others: frozenset[str]) -> None:
        self.view, self.keys = view, keys
        names = Counter(n for a in view.atoms for n in a.names)
        numbered = {n for n in names if ("." in n or n.startswith("_")) and _NUMBERED.search(n)}
        # clang gives the first of several static locals of one name (first.count, first.count.1) no number
        first = {stem(n) for n in numbered}
        self.unique = {
            n for n, count in names.items() if count == 1 and n not in numbered and not ("." in n and n in first)
        } - others
        stems = Counter(s for a in view.functions for n in a.names if "." in n and (s := stem(n)) != n)
        self.clones = {s for s, count in stems.items() if count == 1 and s not in names}
        count = len(view.obj.columns.name)
        # for each symbol: what it means (_DOUBT: not told here), and how far from the beginning of that it lies
        self.key, self.shift = [_DOUBT] * count, [0] * count
        self.numbered: dict[int, tuple[str, str]] = {}  # symbol -> (rule, name)
        self.flags: set[int] = set()  # sections of once-flags
        self.relative = view.arch.relocs.pc_relative
        self._learn_symbols()
        self._strings: dict[tuple[int, int], int] = {}
        self._entries, self._doubtful = self._read_entries()

    def _key(self, what: object) -> int:
        return self.keys.setdefault(what, len(self.keys))

    # -- what symbols mean -----------------------------------------------------------------------------------------

    def _learn_symbols(self) -> None:
        view = self.view
        owners: dict[int, Atom] = {}  # of sections in which every place is one atom's
        flags: dict[int, int] = {}
        for section, ids in view.in_section.items():
            atoms = [view.atoms[i] for i in ids]
            if len(atoms) == 1 or (len(atoms) == 2 and atoms[0].name.startswith("__pfx_")):
                owners[section] = atoms[-1]
            elif atoms and (kinds := {self._flag(a) for a in atoms}) != {None} and len(kinds) == 1:
                # once-flags that lie together: whichever is meant, it is one of them
                flags[section] = self._key(("flags", view.obj.sections[section].name, *kinds))
                self.flags.add(section)
        for atom in view.atoms:
            if len(atom.names) != 1:
                continue
            what, rule = self._meaning(atom)
            if what is None:
                continue
            for symbol in atom.symbols:
                self.key[symbol] = self._key(what)
                if rule:
                    self.numbered[symbol] = (rule, atom.name)
        texts = {s.index for s in view.obj.sections if s.strings and s.type == SHT.PROGBITS}
        of_type = view.obj.columns.kinds
        for symbol, section in enumerate(view.obj.columns.shndx):
            if section in texts:
                self.key[symbol] = _TEXT
            if of_type[symbol] != STT.SECTION:
                continue
            owner = owners.get(section)
            if section in flags:
                self.key[symbol] = flags[section]
            elif owner is not None and owner.symbols and len(owner.names) == 1:
                self.key[symbol], self.shift[symbol] = self.key[owner.symbols[0]], -owner.offset
                if owner.symbols[0] in self.numbered:
                    self.numbered[symbol] = self.numbered[owner.symbols[0]]

    def _is_flag(self, atom: Atom) -> bool:
        return is_plain_flag(self.view, atom) or may_be_once_flag(self.view, atom)

    def _flag(self, atom: Atom) -> tuple[str, bytes] | None:
        numbered = stem(atom.name) != atom.name
        if not numbered or not self._is_flag(atom):
            return None
        return stem(atom.name), self.view.content(atom)

    def _meaning(self, atom: Atom) -> tuple[object, str]:
        """What an atom of one name is known by in both objects (None: not told here), and the rule by which its name
        may differ."""
        name, view = atom.name, self.view
        named_by_clang = atom.kind == DATA and "." in name and (self._is_flag(atom) or is_anonymous(view, atom))
        if name in self.unique and not named_by_clang:
            # a variable that moves between read-only and writable memory is another one
            what = (atom.offset, atom.size) if atom.kind == "absolute" else atom.kind == DATA and view.is_const(atom)
            return (atom.kind, name, what), ""
        if atom.kind == FUNCTION and stem(name) in self.clones:
            return ("clone", stem(name)), noise.MODULE_HASH if ".llvm." in name else noise.CLONE
        if atom.kind == DATA:
            flag = self._flag(atom)
            if flag is not None:
                return ("flag", flag), noise.ONCE_FLAG
            if is_anonymous(view, atom) and not view.obj.reloc_rows(atom.section):
                return ("constant", view.content(atom)), noise.CONSTANT
        return None, ""

    def in_flags(self, symbol: int) -> bool:
        """Whether a symbol lies among once-flags: whichever is meant, it is one of them."""
        return self.view.obj.columns.shndx[symbol] in self.flags

    def of_section(self, symbol: int, addend: int) -> bool:
        """False for a label with something added, which may lead behind what the label names."""
        return not addend or self.view.obj.columns.kinds[symbol] == STT.SECTION

    def string(self, symbol: int, addend: int) -> int:
        """The meaning of a reference to a string."""
        columns = self.view.obj.columns
        where = section, place = columns.shndx[symbol], columns.value[symbol] + addend
        found = self._strings.get(where)
        if found is None:
            raw = self.view.raw(section)
            end = raw.find(b"\0", place)
            plain = 0 <= place < len(raw) and end >= 0 and self.view.obj.sections[section].entsize <= 1
            found = self._strings[where] = self._key(("string", raw[place:end])) if plain else _DOUBT
        return found

    def rows(self, section: int) -> list[RelocRow]:
        """The relocations of a section by offset, without those that say nothing."""
        none = self.view.arch.relocs.none
        return [row for row in self.view.obj.reloc_rows(section) if row[1] != none]

    def pieces(self) -> dict[tuple[str, ...], _FunctionSection]:
        """Each function that has a section for itself (with its prefix), by its names without numbers."""
        view = self.view
        out: dict[tuple[str, ...], _FunctionSection] = {}
        for section, ids in view.in_section.items():
            if len(ids) > 2 or not view.obj.sections[section].executable or section in self._doubtful:
                continue
            atoms = [view.atoms[i] for i in ids]
            if len(atoms) == 2 and not atoms[0].name.startswith("__pfx_"):
                continue
            if atoms and all(a.kind == FUNCTION and self.unique.issuperset(a.names) for a in atoms):
                kind = view.obj.sections[section].name.removesuffix(atoms[-1].name)
                shape = (kind, *((a.names, a.offset, a.size, a.bind) for a in atoms))
                out[tuple(n for a in atoms for n in a.names)] = _FunctionSection(section, tuple(ids), shape)
        return out

    # -- entries of special sections -------------------------------------------------------------------------------

    def entries_of(self, section: int) -> list[_FunctionEntry] | None:
        """The entries of a section of code, None where they are left to the full comparison."""
        return None if section in self._doubtful else self._entries.get(section, [])

    def _read_entries(self) -> tuple[dict[int, list[_FunctionEntry]], set[int]]:
        """By section of code, its entries of the special sections; and the sections whose entries are left to the full
        comparison."""
        out: dict[int, list[_FunctionEntry]] = {}
        doubtful: set[int] = set()
        shndx = self.view.obj.columns.shndx
        for section in self.view.obj.sections:
            spec = self.view.arch.special_of(section.name)
            if spec is None or not spec.compared or not section.alloc or not section.size:
                continue
            rows = self.rows(section.index)
            table = self._table(section, spec, rows)
            if table is None:
                doubtful.update(shndx[row[2]] for row in rows)
                continue
            for owner, entry in table:
                out.setdefault(owner, []).append(entry)
        return out, doubtful

    def _table(
        self, section: Section, spec: SpecialSection, rows: list[RelocRow]
    ) -> list[tuple[int, _FunctionEntry]] | None:
        """One special section whose entries all have as many relocations: each with its owner's section; None where it
        is not so regular."""
        size = entry_size(self.view, section.index, spec)
        if size is None or section.size % size or spec.replacement or not rows:
            return None
        each, rest = divmod(len(rows), section.size // size)
        if rest or not each:
            return None
        raw, shndx = self.view.raw(section.index), self.view.obj.columns.shndx
        out = []
        for number, at in enumerate(range(0, section.size, size)):
            fields = [(o - at, kind, sym, addend) for o, kind, sym, addend in rows[number * each : (number + 1) * each]]
            owners = [shndx[sym] for offset, _, sym, _ in fields if offset == spec.owner]
            if len(owners) != 1 or not 0 <= fields[0][0] <= fields[-1][0] < size:
                return None
            out.append((owners[0], _FunctionEntry(section.name, raw[at : at + size], fields)))
        return out
