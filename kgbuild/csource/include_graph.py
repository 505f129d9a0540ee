# SPDX-License-Identifier: GPL-2.0-or-later
"""Which file includes which, from the source text alone: which units can see a changed header.

The graph is an over-approximation and misses nothing. A directive counts even if an #if excludes it, and a name that
can be found in several directories of any unit's search path means all of these files. What is found here is only a
candidate; the preprocessor decides (host/compile/unit_selection.py).

Edges follow gcc's rules (cpp manual, "Search Path"):

- "name" is looked up beside the including file first; if it exists there, nothing else can be meant.
- Otherwise, and for <name>, every -I directory of every unit is a possible place. #include_next is treated alike.
- `#include MACRO`: the name is in the #define of some file that the unit includes, so any header name in a #define is
  an edge of the file with that #define. Trace headers compose their name from TRACE_INCLUDE_FILE: the edge goes to
  every file of that name. A computed name that fits neither case would give no edge; therefore
  tests/kernel/test_headers.py compares the graph with gcc -M.

A path is relative to the source tree, or starts with "./" if it is relative to the build tree.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from kgbuild.csource.lexer import SPLICE

_DIRECTIVE = re.compile(
    rb"^[ \t\f\v]*+(?:(?>/\*[^\n]*?\*/)[ \t]*+)*+(?:#|%:)[ \t\f\v]*+(?:(?>/\*[^\n]*?\*/)[ \t]*+)*+"
    rb'(?:include(?:_next)?|import)\b[^\n"<]*(?:"([^"\n]+)"|<([^>\n]+)>)',
    re.MULTILINE,
)
_DEFINED = re.compile(rb'^[ \t]*#[ \t]*define[ \t][^\n]*?(?:"([\w./+-]+\.[ch])"|<([\w./+-]+\.[ch])>)', re.MULTILINE)
_TRACE = re.compile(rb"^[ \t]*#[ \t]*define[ \t]+\w*INCLUDE_FILE[ \t]+([\w-]+)[ \t]*$", re.MULTILINE)

QUOTED, ANGLED, TRACED = "quoted", "angled", "traced"
# Contains the #include of TRACE_INCLUDE_FILE; the TRACE_INCLUDE_PATH before it often begins with "..".
TRACER = "include/trace"


@dataclass(frozen=True, order=True)
class Include:
    """One name that a file includes, as written. `form` is QUOTED, ANGLED or TRACED (a base name without .h)."""

    form: str
    name: str


def read_includes(text: bytes) -> tuple[Include, ...]:
    """Every name that `text` includes or may give to a computed #include, without repetition, in order."""
    if b"\\\n" in text or b"\\ " in text:
        text = SPLICE.sub(b"", text)
    out: dict[Include, None] = {}
    for pattern in (_DIRECTIVE, _DEFINED):
        for quoted, angled in pattern.findall(text):
            out[Include(QUOTED if quoted else ANGLED, (quoted or angled).decode("utf-8", "replace"))] = None
    for name in _TRACE.findall(text):
        out[Include(TRACED, name.decode())] = None
    return tuple(out)


def normal(path: str) -> str:
    """A path without "." and ".." components; a leading "./", which means the build tree, is kept."""
    tree = "./" if path.startswith("./") else ""
    return tree + posixpath.normpath(path)


def inside(folder: str, name: str) -> str:
    """The path of `name` relative to a folder ("" or "." for the top of the source tree, "./" of the build tree)."""
    if folder.startswith("./"):
        return "./" + posixpath.normpath(posixpath.join(folder[2:], name))
    return posixpath.normpath(posixpath.join(folder, name))


class Resolver:
    """Finds the files that an #include can mean.

    files     every file of both trees, as paths
    folders   the -I directories of all units, as paths
    """

    def __init__(self, files: Iterable[str], folders: Iterable[str]) -> None:
        self._files = frozenset(files)
        self._folders = frozenset(folders)
        self._named: dict[str, list[str]] = {}
        for path in sorted(self._files):
            self._named.setdefault(path.rpartition("/")[2], []).append(path)
        self._anywhere: dict[str, tuple[str, ...]] = {}

    def resolve(self, includer: str, include: Include) -> tuple[str, ...]:
        """Every file that `include` in `includer` may read; empty if no such file exists."""
        if include.form == TRACED:
            return tuple(self._named.get(f"{include.name}.h", ()))
        if include.form == QUOTED:
            beside = inside(folder_of(includer), include.name)
            if beside in self._files:
                return (beside,)
        if include.name not in self._anywhere:
            self._anywhere[include.name] = tuple(self._search(include.name))
        return self._anywhere[include.name]

    def starts(self, includer: str, include: Include, path: str) -> Iterator[str]:
        """The directories from which the name in `include` leads to `path`: the includer's directory and -I
        directories."""
        own = folder_of(includer)
        yield from (f for f in {own, *self._folders} if inside(f, include.name) == path)

    def _search(self, name: str) -> Iterator[str]:
        plain = posixpath.normpath(name)
        if plain.startswith(".."):
            found = {inside(folder, name) for folder in self._folders}
            yield from sorted(found & self._files)
            return
        for path in self._named.get(plain.rpartition("/")[2], ()):
            folder = path[: -len(plain)]
            if path.endswith(plain) and (folder in ("", "./") or folder.endswith("/")):
                top = folder if folder in ("", "./") else folder[:-1]
                if top in self._folders:
                    yield path


def folder_of(path: str) -> str:
    """The directory of a path; "./" for files at the top of the build tree."""
    folder = posixpath.dirname(path)
    return "./" if folder == "." and path.startswith("./") else folder


@dataclass(frozen=True)
class IncludeGraph:
    """The includes of every file that a unit can reach. `includes` holds the names as written, by includer."""

    includes: Mapping[str, tuple[Include, ...]]

    def edges(self, resolver: Resolver) -> Iterator[tuple[str, Include, str]]:
        """(includer, include, file it may read), one for each edge."""
        for includer, names in self.includes.items():
            for include in names:
                for path in resolver.resolve(includer, include):
                    yield includer, include, path


@dataclass(frozen=True)
class Includers:
    """What includes some files, according to the graph.

    files      the files themselves and every file that includes one of them, directly or not
    climbing   directories that an #include on the path leaves through ".."
    """

    files: frozenset[str]
    climbing: frozenset[str]


class IncluderSearch:
    """Finds what includes a file; each name of the graph is looked up once for all questions.

    everywhere   files that every unit includes first (-include): if one of them includes a target, every file does
    """

    def __init__(self, graph: IncludeGraph, resolver: Resolver, everywhere: Collection[str] = ()) -> None:
        self._resolver = resolver
        self._everywhere = frozenset(everywhere)
        self._all = frozenset(graph.includes)
        self._parents: dict[str, set[str]] = {}
        self._dotted: list[tuple[str, Include, str]] = []
        self._traced: set[str] = set()
        for includer, include, path in graph.edges(resolver):
            self._parents.setdefault(path, set()).add(includer)
            if ".." in include.name:
                self._dotted.append((includer, include, path))
            elif include.form == TRACED:
                self._traced.add(path)

    def above(self, targets: Collection[str]) -> Includers:
        """Every file that includes one of `targets`, directly or not, and the targets themselves."""
        seen, queue = set(targets), list(targets)
        while queue:
            for includer in self._parents.get(queue.pop(), ()):
                if includer not in seen:
                    seen.add(includer)
                    queue.append(includer)
        if seen & self._everywhere:
            seen |= self._all
        climbing = {
            left
            for includer, include, path in self._dotted
            if path in seen
            for folder in self._resolver.starts(includer, include, path)
            for left in _left(folder, include.name)
        }
        if not self._traced.isdisjoint(seen):
            climbing.add(TRACER)
        return Includers(frozenset(seen), frozenset(climbing))


def trace_includers(
    graph: IncludeGraph, resolver: Resolver, targets: Collection[str], everywhere: Collection[str] = ()
) -> Includers:
    """The answer to one question to an `IncluderSearch`."""
    return IncluderSearch(graph, resolver, everywhere).above(targets)


def hidden_by(graph: IncludeGraph, resolver: Resolver, path: str, folders: Sequence[str]) -> tuple[str, ...]:
    """The files that some #include would no longer read because it finds the new file `path` first.

    folders   the directories in which names are looked up, in the order of the commands
    """
    order = {folder: number for number, folder in enumerate(folders)}
    base = path.rpartition("/")[2]
    found: set[str] = set()
    for includer, names in graph.includes.items():
        for include in names:
            if include.name.rpartition("/")[2] != base or include.form == TRACED:
                continue
            read_now = resolver.resolve(includer, include)
            if path not in read_now:
                continue
            plain = posixpath.normpath(include.name)
            rank = -1 if read_now == (path,) else order.get(_looked_up_from(path, plain), -1)
            others = resolver.resolve(includer, Include(ANGLED, include.name))
            found |= {o for o in others if o != path and rank < order.get(_looked_up_from(o, plain), len(order))}
    return tuple(sorted(found))


def _looked_up_from(path: str, name: str) -> str:
    """The directory from which a plain name leads to a path."""
    folder = path.removesuffix(name)
    return folder if folder in ("", "./") else folder.rstrip("/")


def _left(folder: str, name: str) -> Iterator[str]:
    for part in name.split("/")[:-1]:
        if part == "..":
            yield folder
        folder = inside(folder, part)
