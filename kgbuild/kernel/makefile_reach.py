# SPDX-License-Identifier: GPL-2.0-or-later
"""Which directories of a kernel tree may compile source files that are not theirs.

kbuild makes NAME.o of NAME.c in the same directory, and names objects relative to the makefile's directory. So a
directory compiles files in it and below it, unless its makefiles name others: by ".." (arch/x86/kvm has
`KVM := ../../../virt/kvm`), or in a rule with $(srctree) (kernel/bpf/relo_core.o of tools/lib/bpf/relo_core.c). Both
can be seen in the text, also where a makefile includes another one. That a directory is named here without need only
costs that kbuild is asked about it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping

_COMMENT = re.compile(r"(?m)(?:^|(?<=\s))#.*$")
_INCLUDE = re.compile(r"(?m)^[ \t]*-?s?include[ \t]+(.+)$")
# $(srctree)/PATH to a source or an object, up to the first variable or wildcard.
_FROM_TOP = re.compile(r"\$[({](?:abs_)?srctree[)}]/([\w./+,-]*)[^\s]*\.[co]\b")
_OWN = ("$(srctree)/$(src)/", "$(srctree)/$(obj)/")
_NO_SOURCE = (".h", ".awk", ".py", ".pl", ".sh", ".tbl", ".mk")


def is_makefile(name: str) -> bool:
    """Whether a file of this name is read as a makefile, by itself or by another one."""
    return name.startswith(("Makefile", "Kbuild")) or name.endswith(".mk")


def find_reaches(texts: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """(directory, where the files lie that it may compile) of every directory whose makefiles name files elsewhere.

    `texts` are the makefiles by their paths in the tree. The second is a directory or a file without its suffix,
    relative to the top of the tree, "" for anywhere.
    """
    named = {path: _paths(text) for path, text in texts.items()}
    included = {path: [_tail(word) for word in _includes(text)] for path, text in texts.items()}
    found: set[tuple[str, str]] = set()
    for path in texts:
        name = posixpath.basename(path)
        if name in ("Makefile", "Kbuild") and posixpath.dirname(path):
            folder = posixpath.dirname(path)
            for one in _with_included(path, included, named):
                relative, absolute = named[one]
                found |= {(folder, posixpath.normpath(posixpath.join(folder, word))) for word in relative}
                found |= {(folder, word) for word in absolute}
    return tuple(sorted((f, "" if reach in (".", "/") or reach.startswith("..") else reach) for f, reach in found))


def folders_of(source: str, reaches: Iterable[tuple[str, str]]) -> set[str]:
    """The directories whose makefiles may have a source file compiled, with those above them; "." is the top."""
    top = posixpath.dirname(posixpath.normpath(source))
    found = {top}
    for folder, reach in reaches:
        if not reach or source.startswith(reach):
            found.add(folder)
    return {above for folder in found for above in ancestors(folder)}


def ancestors(folder: str) -> list[str]:
    """The directory itself and those above it, down from the top, which is "."."""
    parts = [part for part in folder.split("/") if part not in ("", ".")]
    return [".", *("/".join(parts[: n + 1]) for n in range(len(parts)))]


def _lines(text: str) -> str:
    return _COMMENT.sub("", text.replace("\\\n", " "))


def _includes(text: str) -> list[str]:
    return [word for line in _INCLUDE.findall(_lines(text)) for word in line.split()]


def _tail(word: str) -> str:
    """What is left of an included path behind its variables: virt/Makefile of $(srctree)/virt/Makefile."""
    return word.rpartition(")")[2].lstrip("/")


def _with_included(
    path: str, included: Mapping[str, list[str]], known: Mapping[str, tuple[set[str], set[str]]]
) -> set[str]:
    """A makefile and those that it includes, as far as their names are written out."""
    seen, queue = {path}, [path]
    while queue:
        at = queue.pop()
        for tail in included[at]:
            beside = posixpath.normpath(posixpath.join(posixpath.dirname(at), tail))
            for one in (tail, beside):
                if one in known and one not in seen and not one.startswith("scripts/"):
                    seen.add(one)
                    queue.append(one)
    return seen


def _paths(text: str) -> tuple[set[str], set[str]]:
    """(paths with "..", relative to the directory; paths below $(srctree)) that may be those of sources."""
    relative, absolute = set[str](), set[str]()
    for line in _lines(text).splitlines():
        before = ""
        for word in line.split():
            directory = word.startswith("-") or before in ("-I", "-include", "-isystem")
            before = word
            if directory or word.endswith(_NO_SOURCE):
                continue
            if not word.startswith(_OWN):
                absolute |= {found for found in _FROM_TOP.findall(word) if found}
            if re.search(r"(?:^|[/=:(])\.\.(?:/|$|\))", word):
                relative.add(_written_out(word))
    return relative, absolute


def _written_out(word: str) -> str:
    """What is written out of a path with "..", up to its first variable: ../../../virt/kvm, and .. of ../$(NAME)."""
    word = re.sub(r"^[\w-]*[:+?]?=", "", word).rstrip("),:;")
    word = re.sub(r"^(?:\$[({](?:srctree|src|obj)[)}]/)+", "", word)
    plain = re.match(r"((?:\.\./)+)([\w.+,/-]*)", f"{word}/")
    if plain is None or ".." in word[plain.end(1) :]:
        return "/".join([".."] * word.count(".."))
    tail = plain[2].rstrip("/") if plain.end() > len(word) else plain[2].rpartition("/")[0]
    return re.sub(r"\.[co]$", "", plain[1] + tail)
