# SPDX-License-Identifier: GPL-2.0-or-later
"""The symbol table of the object that a patched unit is part of, read from whatever a user has of it.

An ELF file (vmlinux, a .ko), what `readelf -sW` prints of one, System.map or /proc/kallsyms. Needed for the positions
of symbols whose names repeat. Among several of one name, the one meant is told by the STT_FILE symbol it stands under,
if the locals of only one such group are those of the unit; where that does not decide, nothing is guessed.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from kgbuild.elf.consts import ET, SHN, STB, STT
from kgbuild.elf.object import Object
from kgbuild.errors import UserError
from kgbuild.kernel.kallsyms import NOT_IN_KALLSYMS

_READELF = re.compile(
    r"\s*\d+:\s+([0-9a-f]+)\s+(?:0x[0-9a-f]+|\d+)\s+(\w+)\s+(\w+)\s+\S+(?:\s+\[[^]]*\])?\s+(\S+)\s+(\S+)"
)
_MAP = re.compile(r"([0-9a-f]+)\s+(\S)\s+(\S+)(?:\s+\[(\S+)\])?")


MAX_ROWS = 1 << 20  # many times what a kernel has


class SymtabRow(NamedTuple):
    """One symbol of the parent: name, address, whether it is local and weak, and the number of its STT_FILE group (-1
    where the table has none)."""

    name: str
    address: int
    local: bool
    weak: bool
    group: int


@dataclass(frozen=True)
class ParentSymbols:
    """Every symbol of the parent in table order, and the name of each STT_FILE group; `module` for a loadable module,
    whose positions count in table order instead of by address; `name` is the object's ("vmlinux" or the module's)."""

    rows: tuple[SymtabRow, ...]
    files: tuple[str, ...]
    module: bool
    name: str

    @cached_property
    def _by_name(self) -> dict[str, list[SymtabRow]]:
        out: dict[str, list[SymtabRow]] = {}
        for row in self.rows if self.module else sorted(self.rows, key=lambda r: r.address):
            out.setdefault(row.name, []).append(row)
        return out

    @cached_property
    def _locals(self) -> dict[int, set[str]]:
        out: dict[int, set[str]] = {}
        for row in self.rows:
            if row.local and row.group >= 0:
                out.setdefault(row.group, set()).add(row.name)
        return out

    def named(self, name: str) -> list[SymtabRow]:
        """Every symbol of a name that kallsyms lists, in the order in which positions count."""
        return [] if name.startswith(NOT_IN_KALLSYMS) else self._by_name.get(name, [])

    @cached_property
    def _globals(self) -> dict[str, list[int]]:
        """Which of the symbols of a name are global: their indexes in `named`."""
        return {name: [i for i, row in enumerate(rows) if not row.local] for name, rows in self._by_name.items()}

    def groups_of(self, file: str, names: Iterable[str]) -> frozenset[int]:
        """The STT_FILE groups of that file whose locals include all of `names`."""
        wanted = set(names)
        return frozenset(i for i, f in enumerate(self.files) if f == file and wanted <= self._locals.get(i, set()))

    def position(self, name: str, local: bool, groups: frozenset[int]) -> int | None:
        """The sympos of a unit's symbol: 0 where its name is unique, else its 1-based place; None where it is not
        there or which is meant can't be told. `groups` are the unit's possible STT_FILE groups."""
        found = self.named(name)
        if len(found) <= 1:
            return 0 if found else None
        if not local:
            mine = self._globals[name]
        else:
            mine = [i for i, row in enumerate(found) if row.local and row.group in groups]
        return mine[0] + 1 if len(mine) == 1 else None


def read_parent(data: bytes, source: str, read_object: Iterable[Object]) -> ParentSymbols:
    """The symbols in `data`. `read_object` gives the parsed ELF file where it is one (nothing else is taken of it);
    `source` names the file in errors and tells a module's name. Raises UserError for what is no symbol table."""
    stem = source.rpartition("/")[2].partition(".")[0].replace("-", "_")
    for obj in read_object:
        module = obj.type == ET.REL
        return _finish(_of_elf(obj), module, stem if module else "vmlinux")
    table = _parse(data, _READELF, _of_readelf, source)
    if table:
        module = not any(t[0] in ("_stext", "_text") for t in table)
        return _finish(table, module, stem if module else "vmlinux")
    table = _parse(data, _MAP, _of_map, source)
    if not table:
        raise UserError("is no ELF file, no output of readelf -sW and no System.map", place=source)
    return _finish(table, False, "vmlinux")


_Raw = tuple[str, int, bool, bool, bool]  # name, address, local, weak, STT_FILE


def _parse(
    data: bytes, pattern: re.Pattern[str], read: Callable[[re.Match[str]], _Raw | None], source: str
) -> list[_Raw]:
    """The symbols of the lines that have a form. Raises UserError for more than can be."""
    out = []
    for line in io.BytesIO(data):
        match = pattern.fullmatch(line.decode("ascii", "replace").rstrip())
        raw = read(match) if match else None
        if raw is not None:
            out.append(raw)
            if len(out) > MAX_ROWS:
                raise UserError(f"has more than {MAX_ROWS} symbols", place=source)
    return out


def _of_elf(obj: Object) -> Iterator[_Raw]:
    for s in obj.iter_symbols():
        if s.type == STT.FILE:
            yield s.name, 0, True, False, True
        elif s.name and s.type != STT.SECTION and s.shndx != SHN.UNDEF:
            yield s.name, s.value, s.bind == STB.LOCAL, s.bind == STB.WEAK, False


def _of_readelf(m: re.Match[str]) -> _Raw:
    kind, bind, index = m[2], m[3], m[4]
    name = "" if index == "UND" or kind == "SECTION" else m[5]
    return name, int(m[1], 16), bind == "LOCAL", bind == "WEAK", kind == "FILE"


def _of_map(m: re.Match[str]) -> _Raw | None:
    if m[4]:
        return None  # /proc/kallsyms: of a module
    return m[3], int(m[1], 16), m[2].islower() and m[2] not in "uvw", m[2] in "vVwW", False


def _finish(table: Iterable[_Raw], module: bool, name: str) -> ParentSymbols:
    rows, files = [], []
    for symbol, address, local, weak, is_file in table:
        if is_file:
            files.append(symbol)
        elif symbol:
            rows.append(SymtabRow(symbol, address, local, weak, len(files) - 1 if local else -1))
    return ParentSymbols(tuple(rows), tuple(files), module, name)
