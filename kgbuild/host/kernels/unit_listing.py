# SPDX-License-Identifier: GPL-2.0-or-later
"""The compile commands of a kernel's units, as far as they are needed: all of them take kbuild 20 to 40 seconds.

A patch needs those of the directories that its files lie in, which kbuild gives in a second or two. They are kept in
units.part.sqlite, which has the schema of units.sqlite (host/kernels/compile_commands.py) and these tables:

    asked(folder TEXT)               directories whose units are in the file; one with "/**" with all below it
    reaches(folder TEXT, path TEXT)  what directories may compile that is not theirs (kernel/makefile_reach.py)

What needs all units (the include graph, the index, a listing) has them listed once, into units.sqlite; after that the
other file is not looked at. Both ways kbuild itself walks down from the top of the tree, so that a directory's
commands are the same: in the first it is only kept from entering directories that nobody asked for.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path

from kgbuild.errors import ToolError
from kgbuild.host.kernels import compile_commands
from kgbuild.host.kernels import generated_sources as generated
from kgbuild.host.kernels.build_tools import tools_of
from kgbuild.host.kernels.integrity import is_kept
from kgbuild.host.kernels.kbuild import list_units, load_environment, print_commands
from kgbuild.host.system.cache import Cache
from kgbuild.host.system.sealed import written_aside
from kgbuild.host.system.sealed_trees import seal_new
from kgbuild.kernel.makefile_reach import ancestors, find_reaches, folders_of, is_makefile
from kgbuild.model import Kernel, UnitCommand
from kgbuild.progress import Progress, SilentProgress

SILENT = SilentProgress()
_BELOW = "/**"
# Directories of the kernel with modules, whose commands show how objtool is run on one.
_WITH_MODULES = ("lib", "crypto")
_ALL_UNITS = 8000  # what the bar assumes


def read_units(kernel: Kernel, sources: Iterable[str], progress: Progress = SILENT) -> dict[str, list[UnitCommand]]:
    """How kbuild compiles each of these files ("fs/proc/version.c"): one command per object made of it.

    A file that is no unit of this kernel has an empty list. Raises ToolError where kbuild can't be asked, or the file
    with its answers can't be read.
    """
    wanted = list(sources)
    return compile_commands.read_units(file_about(kernel, wanted, progress), wanted)


def file_about(kernel: Kernel, sources: Iterable[str], progress: Progress = SILENT) -> Path:
    """The SQLite file that has every unit made of these source files, however a makefile names them, and all units of
    the directories that they lie in. Raises ToolError where kbuild can't be asked."""
    if has_all(kernel):
        return kernel.units
    known = _KnownUnits(kernel)
    folders = {folder for source in sources for folder in folders_of(source, known.reaches)}
    return known.with_folders(folders, progress)


def file_below(kernel: Kernel, folder: str, progress: Progress = SILENT) -> Path:
    """The SQLite file that has every unit that is made in a directory of the source tree or below it. Raises ToolError
    where kbuild can't be asked."""
    if has_all(kernel):
        return kernel.units
    return _KnownUnits(kernel).with_folders({*ancestors(folder), folder + _BELOW}, progress)


def file_of_all(kernel: Kernel, progress: Progress = SILENT) -> Path:
    """The SQLite file with all units of the kernel, made now if nobody needed them before. Raises ToolError where
    kbuild can't be asked."""
    if has_all(kernel):
        return kernel.units
    with _cache_of(kernel).lock(f"units-{kernel.id.build_id}", progress):
        if not has_all(kernel):
            list_units(
                source=kernel.source,
                build=kernel.build,
                units_file=kernel.units,
                env=load_environment(kernel),
                progress=progress,
                estimate=_ALL_UNITS,
                tools=tools_of(kernel),
            )
            seal_new(kernel.build, is_kept)
    return kernel.units


def module_objtool(kernel: Kernel) -> tuple[str, ...]:
    """kbuild's objtool command for a unit that is a module by itself; empty where it runs none. Raises ToolError where
    kbuild can't be asked."""
    if has_all(kernel):
        return compile_commands.read_module_objtool(kernel.units)
    return compile_commands.read_module_objtool(_KnownUnits(kernel).with_folders({"."}, SILENT))


def has_all(kernel: Kernel) -> bool:
    """Whether units.sqlite is there. Out-of-tree modules have no other file."""
    return kernel.outside is not None or kernel.units.exists()


class _KnownUnits:
    """What is known of a kernel of which not all units were listed."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._path = compile_commands.partial_file(kernel.units)
        if not self._path.exists():
            with _cache_of(kernel).lock(f"units-{kernel.id.build_id}"):
                if not self._path.exists():
                    self._begin()
        self.reaches = tuple((folder, path) for folder, path in self._rows("SELECT folder, path FROM reaches"))

    def with_folders(self, folders: set[str], progress: Progress) -> Path:
        """The file, which has the units of these directories."""
        if self._missing(folders):
            with _cache_of(self._kernel).lock(f"units-{self._kernel.id.build_id}", progress):
                missing = self._missing(folders)
                if missing:
                    self._ask(missing, progress)
        return self._path

    def _missing(self, folders: set[str]) -> set[str]:
        asked = {row[0] for row in self._rows("SELECT folder FROM asked")}
        whole = tuple(folder.removesuffix("**") for folder in asked if folder.endswith(_BELOW))
        return {
            folder
            for folder in folders - asked
            if not folder.startswith(whole) and (self._kernel.source / folder.removesuffix(_BELOW)).is_dir()
        }

    def _rows(self, query: str) -> list[tuple[str, ...]]:
        try:
            with closing(compile_commands.open_database(self._path)) as database:
                return database.execute(query).fetchall()
        except sqlite3.Error as error:
            remedy = "run kgbuild again, which looks at it and makes it again"
            raise ToolError(f"can't be read ({error})", place=str(self._path), remedy=remedy) from error

    def _begin(self) -> None:
        """The first file: what directories reach, and the units of some with modules, so that how objtool is run on a
        module is known, which kbuild does not say of every unit."""
        source_arch = load_environment(self._kernel).get("SRCARCH", "")
        reaches = find_reaches(_read_makefiles(self._kernel.source, source_arch))
        folders = {folder for top in _WITH_MODULES for folder in ancestors(top)}
        self._write(self._list(folders), folders, reaches)

    def _ask(self, folders: set[str], progress: Progress) -> None:
        with progress.step("ask kbuild how these directories are compiled"):
            units = self._list(folders)
        every = [*compile_commands.read_plain_units(self._path), *units]
        asked = {row[0] for row in self._rows("SELECT folder FROM asked")}
        self._write(every, asked | folders, self.reaches)

    def _list(self, folders: set[str]) -> list[UnitCommand]:
        """Ask kbuild about these directories, and have it make the sources that it generates there."""
        kernel, targets = self._kernel, set[str]()
        env, tools = load_environment(kernel), tools_of(kernel)
        folders = folders.union(*(ancestors(folder.removesuffix(_BELOW)) for folder in folders))
        lines = generated.watch_targets(print_commands(kernel.source, kernel.build, env, tools, folders), targets)
        units = list(compile_commands.parse_units(lines, str(kernel.source)))
        generated.make_sources(kernel.source, kernel.build, env, targets, 2, tools)
        seal_new(kernel.build, is_kept)
        return units

    def _write(self, units: Iterable[UnitCommand], asked: set[str], reaches: Iterable[tuple[str, str]]) -> None:
        with written_aside(self._path) as part:
            compile_commands.write_units(units, part)
            with closing(sqlite3.connect(part)) as database:
                database.execute("CREATE TABLE asked(folder TEXT NOT NULL)")
                database.execute("CREATE TABLE reaches(folder TEXT NOT NULL, path TEXT NOT NULL)")
                database.executemany("INSERT INTO asked VALUES (?)", [(folder,) for folder in sorted(asked)])
                database.executemany("INSERT INTO reaches VALUES (?, ?)", list(reaches))
                database.commit()


def _cache_of(kernel: Kernel) -> Cache:
    return Cache(kernel.root.parents[1])


def _read_makefiles(top: Path, source_arch: str) -> dict[str, str]:
    """The makefiles of a source tree by their paths; those of other architectures and of what is no kernel code stay
    out."""
    texts = {}
    for at, folders, names in os.walk(top):
        folder = Path(at).relative_to(top)
        if folder == Path():
            folders[:] = [name for name in folders if name not in ("Documentation", "scripts", "tools")]
        if folder == Path("arch"):
            folders[:] = [name for name in folders if name == source_arch or not source_arch]
        for name in filter(is_makefile, names):
            with suppress(OSError):
                texts[(folder / name).as_posix()] = (top / folder / name).read_text(errors="replace")
    return texts
