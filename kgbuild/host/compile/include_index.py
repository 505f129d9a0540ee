# SPDX-License-Identifier: GPL-2.0-or-later
"""The include graph of a prepared kernel, read from its trees once and stored beside units.sqlite.

Schema (format 7), in includes.sqlite of a prepared kernel:

includes(includer TEXT, form TEXT, name TEXT)   names as written, of every file a unit reaches
folders(path TEXT)                              every directory in a unit's -I options
everywhere(path TEXT)                           every file in a unit's -include options
climbing(path TEXT)                             every directory that a unit's -I leaves through ".."
files(number INTEGER, path TEXT)                these files, from 0
words(word BLOB, files BLOB)                    every word in them, and the files that have it (array "H")
meta(format INTEGER)                            written last

It is made when a patch first changes a header: reading 15,000 files takes seconds, and most patches do not need it.
"""

from __future__ import annotations

import os
import sqlite3
from array import array
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from kgbuild.csource.include_graph import Include, IncludeGraph, Resolver, inside, normal, read_includes
from kgbuild.csource.token_pasting import read_words
from kgbuild.errors import ToolError
from kgbuild.host.kernels.compile_commands import SOURCE, open_database, read_all_units
from kgbuild.host.kernels.unit_listing import file_of_all
from kgbuild.host.kernels.vmlinux import platform_of
from kgbuild.host.system.cache import Cache
from kgbuild.host.system.sealed import is_whole, seal, written_aside
from kgbuild.host.system.tree_manifest import check_files, read_whole
from kgbuild.model import Kernel
from kgbuild.progress import Progress

FORMAT = 7
# array's code for the number of a file: no kernel has 65,536 files that one of its units reads
_NUMBER = "H"
_ELSEWHERE = frozenset({"Documentation", "samples", "LICENSES", ".git"})


@dataclass(frozen=True)
class IncludeIndex:
    """The contents of the index.

    folders     directories in which names are looked up
    everywhere  files that units include first
    climbing    directories that some -I passes through and leaves through ".."
    """

    graph: IncludeGraph
    folders: tuple[str, ...]
    everywhere: tuple[str, ...]
    climbing: tuple[str, ...]

    def resolver(self, kernel: Kernel, new: Iterable[str] = ()) -> Resolver:
        """Looks up names in the kernel's trees and among the files `new` that a patch adds."""
        return Resolver([*walk_sources(kernel), *walk_build(kernel), *new], self.folders)


def walk_sources(kernel: Kernel, endings: tuple[str, ...] = ("",)) -> Iterator[str]:
    """Files of the source tree with these endings, without other architectures and directories without code. Files
    below a link to a directory of the tree are listed under the link as well."""
    root = str(kernel.source)
    for base, folders, names in os.walk(root):
        relative = base[len(root) + 1 :]
        if not relative:
            folders[:] = [f for f in folders if f not in _ELSEWHERE]
        if relative == "arch":
            folders[:] = [platform_of(kernel).source_arch]
        yield from (f"{relative}/{n}" if relative else n for n in names if n.endswith(endings))
        for folder in folders:
            link = f"{relative}/{folder}" if relative else folder
            if (kernel.source / link).is_symlink() and (target := _inside(kernel, link)):
                for below, _, found in os.walk(f"{root}/{target}"):
                    at = link + below[len(root) + 1 + len(target) :]
                    yield from (f"{at}/{n}" for n in found if n.endswith(endings))


def _inside(kernel: Kernel, link: str) -> str:
    """The directory of the source tree that a link leads to; "" if it is not searched."""
    top = os.path.realpath(kernel.source)
    target = os.path.realpath(kernel.source / link)
    first, _, rest = target[len(top) + 1 :].partition("/")
    elsewhere = first in _ELSEWHERE or (first == "arch" and rest.partition("/")[0] != platform_of(kernel).source_arch)
    # a link to a directory that contains it would never end
    loops = f"{top}/{link}/".startswith(f"{target}/")
    return "" if elsewhere or loops or not target.startswith(f"{top}/") else target[len(top) + 1 :]


def walk_build(kernel: Kernel) -> Iterator[str]:
    """Files of the build tree, except those that only record the configuration."""
    root = str(kernel.build)
    for base, folders, names in os.walk(root):
        relative = base[len(root) + 1 :]
        if relative == "include":
            folders[:] = [f for f in folders if f != "config"]
        yield from (f"./{relative}/{n}" if relative else f"./{n}" for n in names)


def find_links(kernel: Kernel, paths: Iterable[str]) -> dict[str, list[str]]:
    """Other names of each file in the source tree, through symbolic links to it or to a directory above it."""
    found: dict[str, list[str]] = {path: [] for path in paths}
    real = {os.path.realpath(kernel.source / path): path for path in found}
    queue = [""]
    while queue:
        folder = queue.pop()
        for entry in os.scandir(kernel.source / folder) if found else ():
            path = f"{folder}/{entry.name}" if folder else entry.name
            if path in _ELSEWHERE or (folder == "arch" and entry.name != platform_of(kernel).source_arch):
                continue
            if not entry.is_symlink():
                queue += [path] if entry.is_dir() else []
            elif (target := real.get(os.path.realpath(entry.path))) is not None:
                found[target].append(path)
            elif entry.is_dir() and (above := _inside(kernel, path)):
                for target, links in found.items():
                    if target.startswith(f"{above}/"):
                        links.append(path + target[len(above) :])
    return {path: sorted(links) for path, links in found.items()}


def read_file(kernel: Kernel, path: str) -> bytes:
    """The text of a file of either tree. Raises OSError, and DamagedSource where it is not what was unpacked."""
    return (kernel.build / path).read_bytes() if path.startswith("./") else read_whole(kernel.source, path)


def search_path(argv: Iterable[str]) -> tuple[list[str], list[str]]:
    """The -I directories and the -include files of a command, as paths of the graph."""
    folders, included = [], []
    words = iter(argv)
    for word in words:
        if word in ("-include", "-imacros"):
            included.append(_tree_path(next(words, "")))
        elif word in ("-I", "-iquote", "-isystem", "-idirafter"):
            folders.append(_tree_path(next(words, "")))
        elif word.startswith("-I"):
            folders.append(_tree_path(word[2:]))
    return folders, included


def left_by_dots(argv: Iterable[str]) -> Iterator[str]:
    """The directories of the source tree that the paths in a command pass through and leave through ".."."""
    for word in argv:
        _, tree, path = word.partition(f"{SOURCE}/")
        before, dots, _ = path.partition("/../")
        if tree and dots:
            yield before


def _tree_path(word: str) -> str:
    if word == SOURCE:
        return ""
    if word.startswith(f"{SOURCE}/"):
        return inside("", word[len(SOURCE) + 1 :])
    return normal(word if word.startswith("./") else f"./{word}")


def load_include_index(kernel: Kernel, cache: Cache, progress: Progress) -> IncludeIndex:
    """The include graph of this kernel, made if it does not exist yet. Concurrent runs wait for the one making it."""
    path = _path(kernel)
    index = _read(path)
    if index is None:
        with cache.lock(f"includes-{kernel.id.build_id}", progress):
            index = _read(path) or make_index(kernel, path, progress)
    return index


def _read(path: Path) -> IncludeIndex | None:
    try:
        whole = is_whole(path)
        if whole is False:
            return None
        with closing(open_database(path)) as database:
            if whole is None and database.execute("PRAGMA quick_check(1)").fetchall() != [("ok",)]:
                return None
            if database.execute("SELECT format FROM meta").fetchall() != [(FORMAT,)]:
                return None
            found: dict[str, list[Include]] = {}
            for includer, form, name in database.execute("SELECT includer, form, name FROM includes ORDER BY rowid"):
                found.setdefault(includer, [])
                if form:
                    found[includer].append(Include(form, name))
            folders = tuple(row[0] for row in database.execute("SELECT path FROM folders ORDER BY rowid"))
            everywhere = tuple(row[0] for row in database.execute("SELECT path FROM everywhere ORDER BY rowid"))
            climbing = tuple(row[0] for row in database.execute("SELECT path FROM climbing ORDER BY rowid"))
    except (sqlite3.Error, UnicodeDecodeError):
        return None
    if whole is None:
        seal(path)
    return IncludeIndex(IncludeGraph({k: tuple(v) for k, v in found.items()}), folders, everywhere, climbing)


def make_index(kernel: Kernel, path: Path, progress: Progress) -> IncludeIndex:
    """Read the include graph from the trees and write it to `path`. Raises DamagedSource."""
    check_files(kernel.source)
    folders: dict[str, None] = {}
    everywhere: dict[str, None] = {}
    climbing: dict[str, None] = {}
    roots: dict[str, None] = {}
    for unit in read_all_units(file_of_all(kernel, progress)):
        more, included = search_path(unit.argv)
        folders.update(dict.fromkeys(more))
        everywhere.update(dict.fromkeys(included))
        climbing.update(dict.fromkeys(left_by_dots([*unit.argv, f"{SOURCE}/{unit.source}"])))
        in_source = (kernel.source / unit.source).is_file()
        roots[unit.source if in_source else f"./{unit.source}"] = None
    # Assembly is in no unit's command; its flags are the same, and which files are built is checked later.
    roots.update(dict.fromkeys(walk_sources(kernel, (".S",))))
    roots.update(dict.fromkeys(everywhere))
    roots.update(dict.fromkeys(p for p in constant_makers(kernel) if (kernel.source / p).is_file()))
    resolver = Resolver([*walk_sources(kernel), *walk_build(kernel)], folders)
    graph: dict[str, tuple[Include, ...]] = {}
    words: dict[bytes, array[int]] = {}
    with progress.step("read the include graph", len(roots), "files") as task:
        queue = list(roots)
        while queue:
            includer = queue.pop()
            if includer in graph:
                continue
            try:
                text = ((kernel.build if includer.startswith("./") else kernel.source) / includer).read_bytes()
                graph[includer] = read_includes(text)
                number = len(graph) - 1
                for word in read_words(text):
                    words.setdefault(word, array(_NUMBER)).append(number)
            except OSError:
                graph[includer] = ()
            task.advance()
            targets = {p for i in graph[includer] for p in resolver.resolve(includer, i) if p not in graph}
            queue += targets
        task.total(len(graph))
    progress.note(f"{len(graph)} files")
    index = IncludeIndex(IncludeGraph(graph), tuple(folders), tuple(everywhere), tuple(climbing))
    _write(path, index, words)
    return index


def constant_makers(kernel: Kernel) -> tuple[str, ...]:
    """Sources that are compiled while a kernel is prepared, to make headers of constants; also in no unit's command."""
    return (*platform_of(kernel).constant_makers, "kernel/bounds.c")


class WordIndex:
    """Where words occur in the files that units of a kernel read.

    paths  these files
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._known: dict[bytes, tuple[str, ...]] = {}
        self.paths = tuple(path for (path,) in database.execute("SELECT path FROM files ORDER BY number"))

    def having(self, word: bytes) -> tuple[str, ...]:
        """The files that have a word, except as the name of a macro's parameter."""
        if word not in self._known:
            row = self._database.execute("SELECT files FROM words WHERE word = ?", (word,)).fetchone()
            numbers = array(_NUMBER, row[0] if row is not None else b"")
            self._known[word] = tuple(self.paths[number] for number in numbers)
        return self._known[word]


@contextmanager
def open_words(kernel: Kernel) -> Iterator[WordIndex]:
    """The words of the kernel's files, while the context lasts. The include index is there."""
    with closing(open_database(_path(kernel))) as database:
        yield WordIndex(database)


def _path(kernel: Kernel) -> Path:
    return kernel.units.with_name("includes.sqlite")


def _rows(graph: Mapping[str, tuple[Include, ...]]) -> Iterator[tuple[str, str, str]]:
    for includer, names in graph.items():
        if not names:
            yield includer, "", ""
        for include in names:
            yield includer, include.form, include.name


def _write(path: Path, index: IncludeIndex, words: Mapping[bytes, array[int]]) -> None:
    try:
        with written_aside(path) as partial, closing(sqlite3.connect(partial)) as database:
            database.executescript(
                "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
                "CREATE TABLE includes(includer TEXT NOT NULL, form TEXT NOT NULL, name TEXT NOT NULL);"
                "CREATE TABLE folders(path TEXT NOT NULL);"
                "CREATE TABLE everywhere(path TEXT NOT NULL);"
                "CREATE TABLE climbing(path TEXT NOT NULL);"
                "CREATE TABLE files(number INTEGER PRIMARY KEY, path TEXT NOT NULL);"
                "CREATE TABLE words(word BLOB PRIMARY KEY, files BLOB NOT NULL) WITHOUT ROWID;"
                "CREATE TABLE meta(format INTEGER NOT NULL);"
            )
            database.executemany("INSERT INTO includes VALUES (?, ?, ?)", _rows(index.graph.includes))
            database.executemany("INSERT INTO folders VALUES (?)", [(f,) for f in index.folders])
            database.executemany("INSERT INTO everywhere VALUES (?)", [(f,) for f in index.everywhere])
            database.executemany("INSERT INTO climbing VALUES (?)", [(f,) for f in index.climbing])
            database.executemany("INSERT INTO files VALUES (?, ?)", enumerate(index.graph.includes))
            database.executemany("INSERT INTO words VALUES (?, ?)", ((w, words[w].tobytes()) for w in sorted(words)))
            database.execute("INSERT INTO meta VALUES (?)", (FORMAT,))
            database.commit()
    except (sqlite3.Error, OSError) as error:
        raise ToolError(f"can't be written ({error})", place=str(path), remedy="make room in the cache") from error
