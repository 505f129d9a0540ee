# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes the index of a kernel: reads every object once and writes an SQLite file that appears when it is complete.

A stopped run leaves nothing that is read again: the next one starts from the beginning. The tables are in
data/index/schema.sql and described in docs/schema/index.md.
"""

from __future__ import annotations

import mmap
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from importlib import resources
from pathlib import Path

import numpy as np

from kgbuild.callgraph.edge_kinds import KIND_ABOUT
from kgbuild.callgraph.object_graph import ObjectGraph, read_graph
from kgbuild.callgraph.unit_lookup import units_by_file, units_by_ranges
from kgbuild.debuginfo.dwarf_units import DwarfError, read_unit_name, read_unit_ranges
from kgbuild.elf.object import Object
from kgbuild.elf.read import read
from kgbuild.errors import ToolError
from kgbuild.host.index.schema import SCHEMA
from kgbuild.host.kernels.compile_commands import read_modules
from kgbuild.host.kernels.kernel_files import exports_of
from kgbuild.host.kernels.unit_listing import file_of_all
from kgbuild.host.modules.files import read_module_bytes
from kgbuild.host.modules.images import ModuleImages
from kgbuild.host.system.sealed import written_aside
from kgbuild.model import VMLINUX, Kernel
from kgbuild.objects.clone_names import clone_of
from kgbuild.progress import Progress

IndexRow = tuple[object, ...]


def build_index(kernel: Kernel, path: Path, progress: Progress, reason: str = "") -> None:
    """Write the index of a kernel to `path`, where it appears by one rename. The caller holds a lock.

    `reason` is shown: why an existing index is made again. The index of an out-of-tree source (`Kernel.outside`)
    contains only its modules: nothing else calls their functions unless they are exported. Raises OSError if the disk
    is full, ToolError if another file fails.
    """
    modules = ModuleImages(kernel).paths
    title = f"index {kernel.id.release} ({len(modules)} modules){': ' + reason if reason else ''}"
    try:
        with progress.step(title, total=len(modules) + _VMLINUX_SHARE + 1) as task, written_aside(path) as part:
            with closing(_open_part(part, kernel)) as database:
                writer = _IndexWriter(database, kernel)
                if kernel.outside is None:
                    with kernel.vmlinux.open("rb") as file:
                        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                        writer.add(VMLINUX, read(memoryview(data)))
                task.advance(_VMLINUX_SHARE)
                for name, module in modules.items():
                    writer.add(name, read(read_module_bytes(module)))
                    task.advance()
                writer.finish()
            task.advance()
    except sqlite3.Error as error:
        raise ToolError(
            f"can't be written ({error})", place=str(path), remedy="check the space on this disk"
        ) from error


_VMLINUX_SHARE = 100  # vmlinux takes as long as this many modules


def _open_part(part: Path, kernel: Kernel) -> sqlite3.Connection:
    """An index without objects, in an empty file. Nobody else sees it before it is whole, so it needs no journal."""
    database = sqlite3.connect(part)
    database.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -65536;")
    database.executescript(resources.files("kgbuild").joinpath("data/index/schema.sql").read_text(encoding="utf-8"))
    about = {
        "schema": str(SCHEMA),
        "build_id": kernel.id.build_id,
        "release": kernel.id.release,
        "version": kernel.id.version,
    }
    database.executemany("INSERT INTO meta VALUES(?, ?)", about.items())
    database.executemany(
        "INSERT INTO kinds VALUES(?, ?, ?)", [(int(kind), kind.label, text) for kind, text in KIND_ABOUT.items()]
    )
    database.commit()
    return database


class _IndexWriter:
    """Numbers objects, functions and data, and writes them."""

    def __init__(self, database: sqlite3.Connection, kernel: Kernel) -> None:
        self.database = database
        self.kernel = kernel
        self.exports: dict[str, set[str]] = {}
        for export in exports_of(kernel).values():
            self.exports.setdefault(VMLINUX if export.in_vmlinux else export.module, set()).add(export.name)
        self.module_units: dict[str, list[str]] = read_modules(file_of_all(kernel))
        self.exported: dict[str, int] = {}

    def _next(self, table: str) -> int:
        (last,) = self.database.execute(f"SELECT coalesce(max(id), 0) FROM {table}").fetchone()
        return int(last) + 1

    def _rows(self, table: str, width: int, rows: Iterable[IndexRow]) -> None:
        self.database.executemany(f"INSERT OR IGNORE INTO {table} VALUES({', '.join('?' * width)})", rows)

    def add(self, name: str, obj: Object) -> None:
        """Write one object."""
        graph = read_graph(obj)
        number = self._next("objects")
        self._rows("objects", 5, [(number, name, int(graph.edges.relocated), graph.edges.decoded, 1)])
        section = self._next("sections")
        self._rows("sections", 3, [(section + s.index, number, s.name) for s in obj.sections])
        base = self._next("functions")
        self._functions(name, number, section, base, graph)
        self._calls(base, graph)
        self._pointers(number, section, base, graph)
        self._strays(section, base, graph)
        for text, (start, end) in graph.layout.extents(("noinstr", "entry")).items():
            self._rows("meta", 2, [(f"extent:{text}", f"{start:#x}-{end:#x}")])
        for kind, count in graph.edges.unread.items():
            self._rows("meta", 2, [(f"unread:{name}:{kind}", str(count))])

    def _functions(self, name: str, number: int, section: int, base: int, graph: ObjectGraph) -> None:
        functions = graph.functions
        count = len(functions.name)
        place = functions.bodies.place
        address = place - graph.layout.bases[functions.section] if graph.layout.relocatable else place
        units = self._units(name, number, graph)
        self._rows(
            "functions",
            9,
            zip(
                range(base, base + count),
                [number] * count,
                (functions.section + section).tolist(),
                address.tolist(),
                functions.bodies.size.tolist(),
                functions.name,
                units,
                [site if site >= 0 else None for site in functions.trace_site.tolist()],
                functions.init.astype(int).tolist(),
                strict=True,
            ),
        )
        exports = self.exports.get(name, set())
        rows = []
        for body, text, bind, position in zip(
            functions.symbol_body.tolist(),
            functions.symbol_name,
            functions.symbol_bind.tolist(),
            functions.symbol_sympos.tolist(),
            strict=True,
        ):
            clone = clone_of(text) if "." in text or text.startswith("__pfx_") else None
            exported = bind != 0 and text in exports
            if exported:
                self.exported.setdefault(text, base + body)
            rows.append(
                (
                    base + body,
                    text,
                    bind,
                    position if position >= 0 else None,
                    int(exported),
                    clone.family if clone is not None else None,
                )
            )
        self._rows("symbols", 6, rows)

    def _units(self, name: str, number: int, graph: ObjectGraph) -> list[int | None]:
        """The number of each function's unit, None if unknown."""
        count = len(graph.functions.name)
        first = self._next("units")
        if name != VMLINUX:
            sources = self.module_units.get(name, [])
            self._rows("units", 4, [(first + i, number, source, None) for i, source in enumerate(sources)])
            return [first if len(sources) == 1 else None] * count
        obj = graph.layout.obj
        try:
            ranges = read_unit_ranges(obj)
            offsets = sorted({unit for _, _, unit in ranges})
            sources = [self._source(read_unit_name(obj, unit)) for unit in offsets]
        except DwarfError:
            ranges, offsets, sources = [], [], []
        if offsets:
            self._rows(
                "units",
                4,
                zip(range(first, first + len(offsets)), [number] * len(offsets), sources, offsets, strict=True),
            )
            known = {offset: first + i for i, offset in enumerate(offsets)}
            return [known.get(offset) for offset in units_by_ranges(graph.functions.bodies.place, ranges).tolist()]
        files, named = units_by_file(graph.layout, graph.functions)
        self._rows("units", 4, [(first + i, number, file, None) for i, file in enumerate(files)])
        return [first + i if i >= 0 else None for i in named.tolist()]

    def _source(self, path: str) -> str:
        """A path relative to the source tree: the directory in which the kernel was built is cut off."""
        if not path.startswith("/"):
            return path
        parts = path.split("/")
        for start in range(1, len(parts)):
            rest = "/".join(parts[start:])
            if rest and (self.kernel.source / rest).is_file():
                return rest
        return path

    def _calls(self, base: int, graph: ObjectGraph) -> None:
        edges = graph.edges
        own = edges.callee >= 0
        self._rows(
            "calls",
            5,
            zip(
                (edges.caller[own] + base).tolist(),
                edges.offset[own].tolist(),
                edges.kind[own].tolist(),
                (edges.callee[own] + base).tolist(),
                edges.delta[own].tolist(),
                strict=True,
            ),
        )
        names = {i: graph.layout.obj.name_of(i) for i in np.unique(edges.symbol[~own]).tolist()}
        found: list[IndexRow] = []
        pending: list[IndexRow] = []
        for caller, offset, kind, symbol in zip(
            (edges.caller[~own] + base).tolist(),
            edges.offset[~own].tolist(),
            edges.kind[~own].tolist(),
            edges.symbol[~own].tolist(),
            strict=True,
        ):
            callee = self.exported.get(names[symbol])
            if callee is not None:
                found.append((caller, offset, kind, callee, 0))
            else:
                pending.append((caller, None, offset, kind, names[symbol]))
        self._rows("calls", 5, found)
        self._rows("pending", 5, pending)

    def _pointers(self, number: int, section: int, base: int, graph: ObjectGraph) -> None:
        pointers, layout = graph.pointers, graph.layout
        first = self._next("holders")
        address = pointers.place - layout.bases[pointers.section] if layout.relocatable else pointers.place
        count = len(pointers.name)
        self._rows(
            "holders",
            5,
            zip(
                range(first, first + count),
                [number] * count,
                (pointers.section + section).tolist(),
                address.tolist(),
                pointers.name,
                strict=True,
            ),
        )
        names = {i: layout.obj.name_of(i) for i in np.unique(pointers.symbol[pointers.symbol >= 0]).tolist()}
        found: list[IndexRow] = []
        pending: list[IndexRow] = []
        for holder, offset, function, symbol in zip(
            pointers.holder.tolist(),
            pointers.offset.tolist(),
            pointers.function.tolist(),
            pointers.symbol.tolist(),
            strict=True,
        ):
            target = function + base if function >= 0 else self.exported.get(names[symbol])
            if target is not None:
                found.append((first + holder, offset, target))
            else:
                pending.append((None, first + holder, offset, None, names[symbol]))
        self._rows("pointers", 3, found)
        self._rows("pending", 5, pending)
        self._rows("users", 2, zip((graph.users[0] + first).tolist(), (graph.users[1] + base).tolist(), strict=True))

    def _strays(self, section: int, base: int, graph: ObjectGraph) -> None:
        function, place = graph.edges.strays
        layout = graph.layout
        index = layout.section_at(place)
        address = place - layout.bases[np.maximum(index, 0)] if layout.relocatable else place
        rows = zip((function + base).tolist(), (index + section).tolist(), address.tolist(), strict=True)
        self._rows("strays", 3, rows)

    def finish(self) -> None:
        """Resolve references to exports of modules, and create the database indices for fast queries."""
        calls: list[IndexRow] = []
        pointers: list[IndexRow] = []
        for caller, holder, offset, kind, name in self.database.execute("SELECT * FROM pending"):
            target = self.exported.get(name)
            if target is None:
                continue  # exported data
            if caller is not None:
                calls.append((caller, offset, kind, target, 0))
            else:
                pointers.append((holder, offset, target))
        self._rows("calls", 5, calls)
        self._rows("pointers", 3, pointers)
        self.database.executescript(
            """
            DROP TABLE pending;
            CREATE INDEX symbols_name ON symbols(name);
            CREATE INDEX symbols_function ON symbols(function);
            CREATE INDEX symbols_family ON symbols(family) WHERE family IS NOT NULL;
            CREATE INDEX functions_place ON functions(object, address);
            CREATE INDEX calls_callee ON calls(callee);
            CREATE INDEX pointers_function ON pointers(function);
            CREATE INDEX users_holder ON users(holder);
            CREATE INDEX strays_function ON strays(function);
            -- a holder that holds nothing known (exported data only) answers no question
            DELETE FROM holders WHERE id NOT IN (SELECT holder FROM pointers);
            DELETE FROM users WHERE holder NOT IN (SELECT id FROM holders);
            INSERT INTO meta VALUES('complete', '1');
            """
        )
        self.database.commit()
