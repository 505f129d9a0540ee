# SPDX-License-Identifier: GPL-2.0-or-later
"""Functions of two objects that are the same at first sight, found without looking at single references.

Of the hundreds of functions of a unit a patch changes one or two. For all others the bytes are equal, each relocation
names the same symbol, and so does each entry of the special sections; numpy columns show that for a whole object in a
few milliseconds. Only what is beyond doubt is decided here: a function is left to the full comparison where anything it
refers to has a name that is not unique, stands for a folded body, or can't be told without decoding an instruction.

What the compiler numbers is known by what it is: an anonymous constant by its content, a once-flag by its kind (a fresh
one serves as well), a clone by its stem where only one has it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kgbuild.analysis import noise
from kgbuild.analysis.correlate import is_anonymous, is_stateless, stem
from kgbuild.analysis.noise import Noise
from kgbuild.arch.base import SpecialSection
from kgbuild.elf.consts import SHN, SHT, STT
from kgbuild.elf.object import Table
from kgbuild.elf.sections import Section
from kgbuild.special.entries import entry_size
from kgbuild.special.view import DATA, FUNCTION, Atom, View

Columns = npt.NDArray[np.int64]
_NUMBERED = re.compile(r"\.\d|^__UNIQUE_ID_")
_DOUBT = -1


class _Digest(NamedTuple):
    """One function alone in its section: the section, all that must be equal, its atoms, and (rule, name) of each thing
    it refers to whose name may differ."""

    section: int
    what: bytes
    atoms: tuple[int, ...]
    numbered: tuple[tuple[str, str], ...]


def same_at_first_sight(o: View, p: View) -> tuple[set[tuple[int, int]], set[Noise]]:
    """Pairs (atom of o, atom of p) of functions that are the same beyond doubt, and the accidental differences in the
    names of what they refer to."""
    keys: dict[object, int] = {}
    ours, theirs = _Digests(o, keys).functions(), _Digests(p, keys).functions()
    out: set[tuple[int, int]] = set()
    found: set[Noise] = set()
    for names, mine in ours.items():
        other = theirs.get(names)
        if other is None or other.what != mine.what:
            continue
        if o.obj.contents(mine.section) != p.obj.contents(other.section):
            continue
        out.update(zip(mine.atoms, other.atoms, strict=True))
        pairs = zip(mine.numbered, other.numbered, strict=True)
        found |= {Noise(names[-1], rule) for (rule, was), (_, now) in pairs if was != now}
    return out, found


class _Digests:
    def __init__(self, view: View, keys: dict[object, int]) -> None:
        self.view, self.keys = view, keys
        symbols = view.obj.symbols
        self.shndx = symbols["shndx"].astype(np.int64)
        self.value = symbols["value"].astype(np.int64)
        names = Counter(n for a in view.atoms for n in a.names)
        # clang gives the first of several static locals of one name (first.count, first.count.1) no number
        first = {stem(n) for n in names if _NUMBERED.search(n)}
        self.unique = {
            n for n, count in names.items() if count == 1 and not _NUMBERED.search(n) and not ("." in n and n in first)
        }
        stems = Counter(stem(n) for a in view.functions for n in a.names if stem(n) != n)
        self.clones = {s for s, count in stems.items() if count == 1 and s not in names}
        # for each symbol: what it means (_DOUBT: not told here), and how far from the beginning of that it lies
        self.key: Columns = np.full(len(symbols), _DOUBT, np.int64)
        self.shift: Columns = np.zeros(len(symbols), np.int64)
        self.numbered: dict[int, tuple[str, str]] = {}  # symbol -> (rule, name)
        self.flags = np.zeros(len(view.obj.sections), bool)
        self._learn_symbols()
        self.strings = np.array([s.strings and s.type == SHT.PROGBITS for s in view.obj.sections])
        self.relative = np.zeros(1 << 16, bool)
        self.relative[sorted(view.arch.pc_relative)] = True
        self._string_keys: dict[tuple[int, int], int] = {}

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
                self.flags[section] = True
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
        for symbol in np.nonzero((view.obj.symbols["info"] & 15) == STT.SECTION)[0].tolist():
            section = int(self.shndx[symbol])
            owner = owners.get(section)
            if section in flags:
                self.key[symbol] = flags[section]
            elif owner is not None and owner.symbols and len(owner.names) == 1:
                self.key[symbol], self.shift[symbol] = self.key[owner.symbols[0]], -owner.offset
                if owner.symbols[0] in self.numbered:
                    self.numbered[symbol] = self.numbered[owner.symbols[0]]

    def _flag(self, atom: Atom) -> tuple[str, bytes] | None:
        return (stem(atom.name), self.view.content(atom)) if is_stateless(self.view, atom) else None

    def _meaning(self, atom: Atom) -> tuple[object, str]:
        """What an atom of one name is known by in both objects (None: not told here), and the rule by which its name
        may differ."""
        name, view = atom.name, self.view
        named_by_clang = atom.kind == DATA and "." in name and (is_stateless(view, atom) or is_anonymous(view, atom))
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
            if is_anonymous(view, atom) and not len(view.obj.relocs(atom.section)):
                return ("constant", view.content(atom)), noise.CONSTANT
        return None, ""

    def _columns(self, relocs: Table, code: bool) -> Columns:
        """Relocations as rows (offset, type, key, addend). In code, what a PC-relative one means is not told by its
        addend alone, so that strings are left in doubt there."""
        sym = relocs["sym"].astype(np.int64)
        kind = np.minimum(relocs["type"], 0xFFFF).astype(np.int64)
        key, addend = self.key[sym], relocs["addend"] + self.shift[sym]
        index = self.shndx[sym]
        inside = np.where(index < len(self.strings), index, 0)
        text = self.strings[inside] & (index < SHN.LORESERVE) & (index > 0)
        if code:
            text &= ~self.relative[kind]
        for i in np.nonzero(text)[0].tolist():
            place = int(relocs["addend"][i]) + int(self.value[sym[i]])
            key[i], addend[i] = self._string(int(index[i]), place), 0
        addend[self.flags[inside] & (key != _DOUBT) & (index > 0)] = 0
        return np.stack([relocs["offset"].astype(np.int64), kind, key, addend], axis=1)

    def _string(self, section: int, place: int) -> int:
        found = self._string_keys.get((section, place))
        if found is None:
            raw = self.view.raw(section)
            end = raw.find(b"\0", place)
            plain = 0 <= place < len(raw) and end >= 0 and self.view.obj.sections[section].entsize <= 1
            found = self._key(("string", raw[place:end])) if plain else _DOUBT
            self._string_keys[section, place] = found
        return found

    def _sorted(self, section: int) -> Table:
        """The relocations of a section by offset, without those that say nothing."""
        rows = self.view.obj.relocs(section)
        if (rows["type"] == self.view.arch.none_reloc).any():
            rows = rows[rows["type"] != self.view.arch.none_reloc]
        offsets = rows["offset"]
        if (offsets[1:] < offsets[:-1]).any():
            rows = rows[np.argsort(offsets, kind="stable")]
        return rows

    # -- functions -------------------------------------------------------------------------------------------------

    def functions(self) -> dict[tuple[str, ...], _Digest]:
        """Each function that has a section for itself (with its prefix), by its names without numbers."""
        view = self.view
        entries, doubtful = self._entries()
        chosen: dict[int, list[Atom]] = {}
        for section, ids in view.in_section.items():
            atoms = [view.atoms[i] for i in ids]
            if not view.obj.sections[section].executable or section in doubtful:
                continue
            if len(atoms) != 1 and not (len(atoms) == 2 and atoms[0].name.startswith("__pfx_")):
                continue
            if all(a.kind == FUNCTION and self.unique.issuperset(a.names) for a in atoms):
                chosen[section] = atoms
        out: dict[tuple[str, ...], _Digest] = {}
        for section, symbols, rows in self._of_sections(list(chosen)):
            atoms = chosen[section]
            numbered = tuple(self.numbered[s] for s in symbols if s in self.numbered)
            shape = repr([(a.names, a.offset, a.size, a.bind) for a in atoms]).encode()
            kind = view.obj.sections[section].name.removesuffix(atoms[-1].name).encode()
            of_entries, of_numbered = entries.get(section, (b"", ()))
            what = b"|".join((kind, shape, rows, of_entries))
            names = tuple(n for a in atoms for n in a.names)
            out[names] = _Digest(section, what, tuple(a.id for a in atoms), numbered + of_numbered)
        return out

    def _of_sections(self, sections: list[int]) -> Iterator[tuple[int, list[int], bytes]]:
        """For each section in which no relocation is in doubt: its number, the symbols it refers to, and its
        relocations as bytes. All are worked out in one go."""
        tables = [self._sorted(s) for s in sections]
        if not tables:
            return
        ends = np.cumsum([len(t) for t in tables]).tolist()
        relocs = np.concatenate(tables)
        columns = self._columns(relocs, True)
        doubt = np.concatenate(([0], np.cumsum(columns[:, 2] == _DOUBT))).tolist()
        symbols = relocs["sym"].tolist()
        start = 0
        for section, end in zip(sections, ends, strict=True):
            if doubt[start] == doubt[end]:
                yield section, symbols[start:end], columns[start:end].tobytes()
            start = end

    def _entries(self) -> tuple[dict[int, tuple[bytes, tuple[tuple[str, str], ...]]], set[int]]:
        """For each section of code, its entries of the special sections as bytes, with what they name that is numbered;
        and the sections whose entries are left to the full comparison."""
        out: dict[int, list[bytes]] = {}
        numbered: dict[int, list[tuple[str, str]]] = {}
        doubtful: set[int] = set()
        for section in self.view.obj.sections:
            spec = self.view.arch.special.get(section.name)
            if spec is None or not spec.compared or not section.alloc or not section.size:
                continue
            relocs = self._sorted(section.index)
            table = self._table(section, spec, relocs)
            if table is None:
                doubtful.update(self.shndx[relocs["sym"]].tolist())
                continue
            owners, each, fields, raw = table
            for i, owner in enumerate(owners):
                if (fields[i, :, 2] == _DOUBT).any():
                    doubtful.add(owner)
                    continue
                out.setdefault(owner, []).append(section.name.encode() + raw[i].tobytes() + fields[i].tobytes())
                for symbol in relocs["sym"][i * each : (i + 1) * each].tolist():
                    if symbol in self.numbered:
                        numbered.setdefault(owner, []).append(self.numbered[symbol])
        return {i: (b"".join(parts), tuple(numbered.get(i, ()))) for i, parts in out.items()}, doubtful

    def _table(
        self, section: Section, spec: SpecialSection, relocs: Table
    ) -> tuple[list[int], int, Columns, npt.NDArray[np.uint8]] | None:
        """One special section whose entries all have the same relocations: the owner's section of each entry, how many
        relocations each has, their columns and their bytes; None where it is not so regular."""
        size = entry_size(self.view, section.index, spec)
        if size is None or section.size % size or spec.replacement or not len(relocs):
            return None
        count = section.size // size
        if len(relocs) % count:
            return None
        each = len(relocs) // count
        if ((relocs["offset"] // size).reshape(count, each) != np.arange(count)[:, None]).any():
            return None
        owners = relocs[(relocs["offset"] % size) == spec.owner]
        if len(owners) != count:
            return None
        columns = self._columns(relocs, False)
        columns[:, 0] %= size
        raw = np.frombuffer(self.view.raw(section.index), np.uint8).reshape(count, size)
        return self.shndx[owners["sym"]].tolist(), each, columns.reshape(count, each, 4), raw
