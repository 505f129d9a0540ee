# SPDX-License-Identifier: GPL-2.0-or-later
"""The index of a kernel: who calls whom, what shares an address, who holds a pointer. A single SQLite file, made once.

index = load_index(kernel, progress)
for function in index.functions_named("copy_process"):
    for edge in index.callers(function.id): ...

It is stored in the kernel's directory of the cache and contains the kernel's build-id and the schema's number. An index
with another number, or a damaged one, is made again, and the user is told. Any SQLite client can open it
(docs/schema/index.md).
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kgbuild.callgraph.edge_kinds import EdgeKind
from kgbuild.callgraph.model import CALLERS, Edge, Function, Name, Taker, split_name
from kgbuild.errors import UserError
from kgbuild.host.index.schema import IndexDamaged, NoBody, open_index
from kgbuild.host.system.tree_manifest import read_whole
from kgbuild.model import VMLINUX, Kernel

_BINDS = {0: "local", 1: "global", 2: "weak"}
_MASK = 0xFFFF_FFFF_FFFF_FFFF
_FUNCTION = """
SELECT f.id, o.name, f.name, s.name, f.address, f.size, f.trace_site, f.init, coalesce(u.source, '')
FROM functions f JOIN objects o ON o.id = f.object JOIN sections s ON s.id = f.section
LEFT JOIN units u ON u.id = f.unit
"""
_IN_NOINSTR_SECTION = """
SELECT f.id FROM sections s JOIN functions f ON f.section = s.id AND f.object = s.object WHERE s.name = '.noinstr.text'
"""

if TYPE_CHECKING:
    from kgbuild.debuginfo.dwarf_units import DwarfUnit, Inlined
    from kgbuild.elf.section_headers import Sections


class Index:
    """Queries to the index of one kernel. A function is identified by its number in the index (`Function.id`)."""

    def __init__(self, path: Path, kernel: Kernel) -> None:
        self.path = path
        self.kernel = kernel
        self._database = open_index(path)
        self._modules: dict[str, dict[int, tuple[str, str]]] = {}
        self._cached = lru_cache(maxsize=1 << 17)(self._function)

    def _rows(self, query: str, values: tuple[object, ...] = ()) -> list[Any]:
        try:
            return self._database.execute(query, values).fetchall()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise IndexDamaged(
                str(error), place=str(self.path), remedy="run kgbuild again, which makes it again"
            ) from error

    # Functions

    def function(self, number: int) -> Function:
        """The function with a number. Raises KeyError."""
        return self._cached(number)

    def _function(self, number: int) -> Function:
        rows = self._rows(f"{_FUNCTION} WHERE f.id = ?", (number,))
        if not rows:
            raise KeyError(number)
        return _as_function(rows[0])

    def functions_named(self, name: str) -> list[Function]:
        """Every function one of whose names is `name`: vmlinux first, then by module and address."""
        rows = self._rows(
            f"{_FUNCTION} WHERE f.id IN (SELECT function FROM symbols WHERE name = ?) "
            "ORDER BY f.object, f.address, f.id",
            (name,),
        )
        return [_as_function(row) for row in rows]

    def function_at(self, object_name: str, address: int, section: str = "") -> Function | None:
        """The function that contains an address of vmlinux, or an offset in `section` of a module, else None."""
        signed = _signed(address)
        where = "WHERE o.name = ? AND f.address <= ? AND f.address > ? - 1048576"
        values: tuple[object, ...] = (object_name, signed, signed)
        if section:
            where, values = where + " AND s.name = ?", (*values, section)
        for row in self._rows(f"{_FUNCTION} {where} ORDER BY f.address DESC LIMIT 64", values):
            found = _as_function(row)
            if found.address <= address < found.address + max(found.size, 1):
                return found
        return None

    def aliases(self, number: int) -> list[Name]:
        """Every name of a function, including its main one, in the order global, weak, local."""
        rows = self._rows(
            "SELECT function, name, bind, sympos, exported, family FROM symbols WHERE function = ? ORDER BY rowid",
            (number,),
        )
        return [_as_name(row) for row in rows]

    def family(self, number: int) -> list[Function]:
        """The clones and halves that gcc derived from the same function of the same object and unit, and that function
        itself. The given function is not included."""
        names = self.aliases(number)
        own = self.function(number)
        stems = sorted({n.family or n.name for n in names})
        found: dict[int, Function] = {}
        for stem in stems:
            for row in self._rows(
                "SELECT function FROM symbols WHERE family = ? UNION SELECT function FROM symbols WHERE name = ?",
                (stem, stem),
            ):
                other = self.function(row[0])
                same_unit = other.unit == own.unit or not (other.unit and own.unit)
                if other.id != number and other.object == own.object and same_unit:
                    found[other.id] = other
        return sorted(found.values(), key=lambda f: (f.name, f.id))

    def trace_site(self, number: int) -> int | None:
        """Offset of a function's ftrace site, None if it has none and can't be redirected."""
        return self.function(number).trace_site

    def unit_of(self, number: int) -> str:
        """Source file of a function's translation unit, relative to the source tree; "" if unknown."""
        return self.unit_with_evidence(number)[0]

    def unit_with_evidence(self, number: int) -> tuple[str, str]:
        """Source file of a function's translation unit, and the evidence for it. For a module with several units, the
        sources and the order of its code are read (`unit_lookup`)."""
        found = self.function(number)
        if not found.in_vmlinux:
            return (found.unit, "only unit of the module") if found.unit else self._in_module(found)
        return found.unit, ".debug_aranges" if self.dwarf_unit(number) is not None else "symbol table"

    def candidate_units(self, number: int) -> list[str]:
        """The units that a function may come from: one if it is known, else all units of its module."""
        found = self.function(number)
        if found.unit:
            return [found.unit]
        rows = self._rows(
            "SELECT source FROM units WHERE object = (SELECT object FROM functions WHERE id = ?) ORDER BY source",
            (number,),
        )
        return [] if found.in_vmlinux else [str(source) for (source,) in rows]

    def _in_module(self, function: Function) -> tuple[str, str]:
        if function.object not in self._modules:
            self._modules[function.object] = self._read_module_units(function)
        return self._modules[function.object].get(function.id, ("", "the text of the module's sources"))

    def _read_module_units(self, function: Function) -> dict[int, tuple[str, str]]:
        from kgbuild.callgraph.unit_lookup import Placed, assign_units

        texts = {}
        for source in self.candidate_units(function.id):
            with contextlib.suppress(OSError):
                texts[source] = read_whole(self.kernel.source, source)
        rows = self._rows(
            "SELECT f.id, s.name, f.address, y.name, y.family FROM functions f JOIN objects o ON o.id = f.object "
            "JOIN sections s ON s.id = f.section JOIN symbols y ON y.function = f.id WHERE o.name = ?",
            (function.object,),
        )
        names: dict[tuple[int, str, int], set[str]] = {}
        for number, section, address, name, family in rows:
            # these two are aliases made by the macros module_init() and module_exit()
            if name not in ("init_module", "cleanup_module"):
                stems = {family or name, str(name).partition(".")[0]}
                names.setdefault((number, section, address), set()).update(stems)
        return assign_units([Placed(*place, frozenset(known)) for place, known in names.items()], texts)

    # Edges

    def callers(self, number: int, limit: int = 0) -> list[Edge]:
        """References to a function from code, by caller and place; at most `limit` (0: all)."""
        return list(self._edges("callee", number, limit))

    def callers_by_function(
        self, number: int, *, taken: bool, limit: int = 0
    ) -> tuple[int, dict[int, list[tuple[int, EdgeKind]]]]:
        """The number of functions that run a function, or take its address (`taken`); and for the first `limit` of them
        (0: all) the places, as (offset, kind)."""
        which = f"callee = ? AND kind {'=' if taken else '!='} {int(EdgeKind.ADDRESS_TAKEN)}"
        ((count,),) = self._rows(f"SELECT count(DISTINCT caller) FROM calls WHERE {which}", (number,))
        first = f"SELECT DISTINCT caller FROM calls WHERE {which} ORDER BY caller LIMIT {limit or -1}"
        rows = self._rows(
            f"SELECT caller, offset, kind FROM calls WHERE {which} AND caller IN ({first}) ORDER BY caller, offset",
            (number, number),
        )
        found: dict[int, list[tuple[int, EdgeKind]]] = {}
        for caller, offset, kind in rows:
            found.setdefault(caller, []).append((offset, EdgeKind(kind)))
        return int(count), found

    def callees(self, number: int, limit: int = 0) -> list[Edge]:
        """References from a function's code to functions, by place; at most `limit` (0: all)."""
        return list(self._edges("caller", number, limit))

    def _edges(self, column: str, number: int, limit: int) -> Iterator[Edge]:
        query = f"SELECT caller, offset, callee, delta, kind FROM calls WHERE {column} = ? ORDER BY caller, offset"
        for row in self._rows(query + (f" LIMIT {limit}" if limit else ""), (number,)):
            caller, offset, callee, delta, kind = row
            yield Edge(caller, offset, callee, delta, EdgeKind(kind))

    def count(self, number: int, direction: str) -> int:
        """How many functions call a function, or are called by it; the address being taken counts too."""
        far, near = ("caller", "callee") if direction == CALLERS else ("callee", "caller")
        ((count,),) = self._rows(f"SELECT count(DISTINCT {far}) FROM calls WHERE {near} = ?", (number,))
        return int(count)

    def strays(self, number: int) -> list[str]:
        """Places, as section and address, of code without a symbol that leads to a function."""
        rows = self._rows(
            "SELECT s.name, t.address FROM strays t JOIN sections s ON s.id = t.section WHERE t.function = ? "
            "ORDER BY t.section, t.address",
            (number,),
        )
        return [f"{section} at {address & (1 << 64) - 1:#x}" for section, address in rows]

    def address_takers(self, number: int) -> list[Taker]:
        """Data that contains a function's address, with the functions that take the address of that data. Code that
        takes the address itself is among `callers`, with kind ADDRESS_TAKEN."""
        rows = self._rows(
            "SELECT h.id, o.name, h.name, s.name, h.address, p.offset FROM pointers p "
            "JOIN holders h ON h.id = p.holder JOIN objects o ON o.id = h.object JOIN sections s ON s.id = h.section "
            "WHERE p.function = ? "
            "ORDER BY h.object, h.address, p.offset",
            (number,),
        )
        out = []
        for holder, obj, name, section, address, offset in rows:
            users = self._rows("SELECT function FROM users WHERE holder = ? ORDER BY function", (holder,))
            known = "" if name == section else str(name)
            out.append(
                Taker(
                    str(obj),
                    known,
                    str(section),
                    address & _MASK,
                    offset,
                    tuple(user for (user,) in users),
                )
            )
        return out

    def uses(self, number: int) -> list[str]:
        """Names of the data with function pointers whose address a function takes."""
        rows = self._rows(
            "SELECT h.name FROM users u JOIN holders h ON h.id = u.holder WHERE u.function = ? ORDER BY h.id", (number,)
        )
        return [str(name) for (name,) in rows]

    @cached_property
    def noinstr(self) -> frozenset[int]:
        """Functions of noinstr code and of the entries: in vmlinux by the ranges that the linker script marks within
        .text, in modules by section."""
        found = {n for (n,) in self._rows(_IN_NOINSTR_SECTION)}
        for (extent,) in self._rows("SELECT value FROM meta WHERE key GLOB 'extent:*'"):
            start, end = (int(part, 16) for part in str(extent).split("-"))
            rows = self._rows(
                "SELECT f.id FROM functions f JOIN objects o ON o.id = f.object "
                "WHERE o.name = ? AND f.address >= ? AND f.address < ?",
                (VMLINUX, _signed(start), _signed(end)),
            )
            found |= {n for (n,) in rows}
        return frozenset(found)

    # The whole

    def edges(self) -> Iterator[Edge]:
        """Every edge of the kernel and its modules."""
        for row in self._rows("SELECT caller, offset, callee, delta, kind FROM calls"):
            caller, offset, callee, delta, kind = row
            yield Edge(caller, offset, callee, delta, EdgeKind(kind))

    def functions(self) -> Iterator[Function]:
        """Every function of the kernel and its modules."""
        for row in self._rows(f"{_FUNCTION} ORDER BY f.id"):
            yield _as_function(row)

    def all_names(self) -> dict[int, list[Name]]:
        """Every name of every function, by the function's number."""
        out: dict[int, list[Name]] = {}
        for row in self._rows("SELECT function, name, bind, sympos, exported, family FROM symbols ORDER BY rowid"):
            out.setdefault(row[0], []).append(_as_name(row))
        return out

    def names_like(self, prefix: str, most: int) -> list[str]:
        """Names of functions that begin with `prefix`, in order, at most `most`."""
        query = "SELECT DISTINCT name FROM symbols WHERE name >= ? AND substr(name, 1, ?) = ? ORDER BY name LIMIT ?"
        return [str(name) for (name,) in self._rows(query, (prefix, len(prefix), prefix, most))]

    def pointed_at(self) -> tuple[frozenset[int], frozenset[int]]:
        """Functions whose address lies in data, and those that code without a symbol leads to."""
        pointed = self._rows("SELECT DISTINCT function FROM pointers")
        strays = self._rows("SELECT DISTINCT function FROM strays")
        return frozenset(n for (n,) in pointed), frozenset(n for (n,) in strays)

    def dwarf_units(self) -> list[tuple[str, int]]:
        """Each unit of vmlinux with debugging information: its source, and its offset in .debug_info."""
        rows = self._rows("SELECT source, dwarf FROM units WHERE dwarf IS NOT NULL ORDER BY source, dwarf")
        return [(str(source), int(offset)) for source, offset in rows]

    def functions_of(self, object_name: str, source: str) -> list[tuple[Function, tuple[Name, ...]]]:
        """Functions of a translation unit with all their names, by address. For a module with several units, whose
        functions the index does not assign to units, all functions of the module."""
        test = "o.name = ? AND (u.source = ?" + (")" if object_name == VMLINUX else " OR f.unit IS NULL)")
        rows = self._rows(f"{_FUNCTION} WHERE {test} ORDER BY f.address, f.id", (object_name, source))
        names: dict[int, list[Name]] = {}
        for row in self._rows(
            "SELECT s.function, s.name, s.bind, s.sympos, s.exported, s.family FROM symbols s WHERE s.function IN "
            "(SELECT f.id FROM functions f JOIN objects o ON o.id = f.object LEFT JOIN units u ON u.id = f.unit "
            f"WHERE {test}) ORDER BY s.rowid",
            (object_name, source),
        ):
            names.setdefault(row[0], []).append(_as_name(row))
        return [(_as_function(row), tuple(names.get(row[0], ()))) for row in rows]

    def unit_offsets(self, source: str) -> list[int]:
        """Offsets of the units of a source file in vmlinux's .debug_info."""
        rows = self._rows("SELECT dwarf FROM units WHERE dwarf IS NOT NULL AND source = ? ORDER BY dwarf", (source,))
        return [offset for (offset,) in rows]

    def dwarf_unit(self, number: int) -> int | None:
        """Offset of a function's unit in vmlinux's .debug_info, if there is one."""
        rows = self._rows("SELECT u.dwarf FROM functions f JOIN units u ON u.id = f.unit WHERE f.id = ?", (number,))
        return rows[0][0] if rows and rows[0][0] is not None else None

    def nearest(self, name: str, count: int = 5) -> list[str]:
        """Names of functions similar to `name`, most similar first."""
        import difflib

        words = sorted((w for w in name.split("_") if len(w) > 2), key=len, reverse=True)[:2]
        tests = ["name GLOB ?" for _ in range(1 + len(words))]
        globs = [f"{_plain(name[:3])}*", *(f"*{_plain(word)}*" for word in words)]
        rows = self._rows(f"SELECT DISTINCT name FROM symbols WHERE {' OR '.join(tests)}", tuple(globs))
        close = [str(n) for (n,) in rows if abs(len(str(n)) - len(name)) <= max(4, len(name) // 2)]
        return difflib.get_close_matches(name, close, n=count, cutoff=0.6)

    def choose(self, wanted: str) -> Function:
        """The one function that `NAME`, `NAME@UNIT`, `NAME@MODULE` or `NAME,POSITION` means (also `NAME@MODULE,POS`).

        UNIT is a source file or the end of its path. Raises UserError: with similar names if there is none, with a list
        if there are several.
        """
        name, place, position = split_name(wanted)
        found = self.functions_named(name)
        if not found:
            everywhere, units = self._inlined_in(name, place)
            if everywhere:
                more = f", and more in {units - _UNITS} other units" if units > _UNITS else ""
                raise NoBody(
                    f"has no body of its own: it is inlined into {', '.join(everywhere[:8])}{more}",
                    place=wanted,
                    remedy="ask about one of those",
                )
            near = self.nearest(name)
            raise UserError(
                "no function of that name in this kernel, nor one that is inlined everywhere",
                place=name,
                remedy=f"nearest: {', '.join(near)}" if near else "",
            )
        fitting = [f for f in found if self._fits(f, name, place, position)]
        if len(fitting) == 1:
            return fitting[0]
        listed = "\n".join(self._listed(f, name) for f in (fitting or found)[:_LISTED])
        hidden = len(fitting or found) - _LISTED
        listed += f"\n  ({hidden} more)" if hidden > 0 else ""
        fact = f"{len(fitting)} functions have this name" if fitting else "no function of that name is there; there are"
        raise UserError(
            f"{fact}\n{listed}", place=wanted, remedy="choose one with NAME@UNIT, NAME@MODULE or NAME,POSITION"
        )

    def _inlined_in(self, name: str, place: str) -> tuple[list[str], int]:
        """Functions into which a function without a body was inlined, in the unit `place` if that is one, else in the
        first units of vmlinux that mention it; and the number of those units."""
        found, units = self.inlinings(name, place, _UNITS)
        return sorted({f"{one.into} ({source})" for source, one in found}), units

    def inlinings(self, name: str, place: str = "", limit: int = 0) -> tuple[list[tuple[str, Inlined]], int]:
        """Where a function was inlined: (source file, place), in the unit `place` if that is one, else in the first
        `limit` units of vmlinux that mention it (0: all); and the number of those units. Sorted by unit."""
        from kgbuild.debuginfo.dwarf_units import DwarfError, find_units, read_unit

        rows = self._rows("SELECT dwarf, source FROM units WHERE dwarf IS NOT NULL ORDER BY dwarf")
        if "." in place:
            rows = [row for row in rows if row[1] == place or str(row[1]).endswith("/" + place)]
        if not rows:
            return [], 0
        found: list[tuple[str, Inlined]] = []
        sources = {offset: str(source) for offset, source in rows}
        file = _vmlinux(self.kernel)
        try:
            mentioned = sorted(sources) if "." in place else find_units(file, name, sorted(sources))
            for offset in mentioned[: limit or None]:
                unit = read_unit(file, offset)
                found += [(sources[offset], one) for one in unit.inlined if one.callee == name]
        except DwarfError:
            return [], 0
        return found, len(mentioned)

    def _fits(self, function: Function, name: str, place: str, position: str) -> bool:
        if place:
            unit = function.unit or (self.unit_of(function.id) if "." in place else "")
            if place not in (function.object, unit) and not unit.endswith("/" + place):
                return False
        if position:
            if not place and not function.in_vmlinux:
                return False
            return any(n.name == name and n.sympos == int(position) for n in self.aliases(function.id))
        return True

    def _listed(self, function: Function, name: str) -> str:
        position = next((n.sympos for n in self.aliases(function.id) if n.name == name), None)
        unit = function.unit or self.unit_of(function.id)
        shown = f"{name},{position}" if position else name
        return f"  {shown:<32} {function.object:<16} {unit or '(unit not known)'}"


_LISTED = 40
_UNITS = 8  # units whose debugging information is read to find where a function was inlined


def read_unit_at(kernel: Kernel, offset: int) -> tuple[DwarfUnit | None, str]:
    """What debugging information says about the unit at an offset of vmlinux's .debug_info, or why that is unknown."""
    from kgbuild.debuginfo.dwarf_units import DwarfError, read_unit

    try:
        return read_unit(_vmlinux(kernel), offset), ""
    except DwarfError as error:
        return None, f"not known: {error}"


def _vmlinux(kernel: Kernel) -> Sections:
    import mmap

    from kgbuild.elf.section_headers import read_sections

    with kernel.vmlinux.open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return read_sections(memoryview(data))


def _signed(address: int) -> int:
    """An address as stored in the tables (signed)."""
    return address - (1 << 64) if address >> 63 else address


def _plain(text: str) -> str:
    """Text without wildcards for GLOB."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in text)


def _as_function(row: Any) -> Function:
    number, obj, name, section, address, size, trace_site, init, unit = row
    return Function(
        number,
        str(obj),
        str(name),
        str(section),
        address & _MASK,
        size,
        trace_site if trace_site is not None else None,
        bool(init),
        str(unit),
    )


def _as_name(row: Any) -> Name:
    function, name, bind, sympos, exported, family = row
    return Name(
        function,
        str(name),
        _BINDS.get(bind, "local"),
        sympos if sympos is not None else None,
        bool(exported),
        str(family) if family is not None else "",
    )
