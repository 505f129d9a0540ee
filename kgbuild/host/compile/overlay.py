# SPDX-License-Identifier: GPL-2.0-or-later
"""The patched tree: symbolic links to the kernel's own tree, with real directories where they are needed.

If a directory is a link, `..` after it leads into the kernel's tree, not back into the overlay. So every directory that
an #include leaves through `..` must be real. Most of these are known in advance (csource/include_graph.py). The others,
and links in the kernel's tree that give a patched file a second name, are found in the list of files that a compile has
read. Then a larger overlay is made, and the compile is repeated there.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from threading import Lock

from kgbuild.errors import ToolError
from kgbuild.host.system.cache import remove_tree
from kgbuild.model import Kernel, UnitCommand

# Each round adds at least one directory; no kernel needs more than two rounds.
_MAX_ROUNDS = 16


def make_overlay(source: Path, files: Mapping[str, bytes], root: Path, entered: Iterable[str] = ()) -> None:
    """Build below `root` a tree that looks like `source` with `files` (path -> text) in place of its own.

    Nothing in `source` is changed: unchanged entries are symbolic links to it. `..` in an #include would leave a linked
    directory into `source`, so the directories in which that can happen (`entered`) are made as real ones. A link
    within `source` leads to the same place in the overlay. Remains of a killed run are removed.
    """
    remove_tree(root)
    tree: dict[str, dict[str, bytes]] = {"": {}}
    for folder in _canonical(source, entered):
        tree |= {above: {} for above in _with_parents(folder) if above not in tree}
    for path, text in files.items():
        folder, name = posixpath.split(path)
        tree |= {above: {} for above in _with_parents(folder) if above not in tree}
        tree[folder][name] = text
    top = os.path.realpath(source)
    for folder, own in sorted(tree.items()):
        real = root / folder
        real.mkdir(parents=True, exist_ok=True)
        inner = {posixpath.basename(f) for f in tree if f and posixpath.dirname(f) == folder}
        orig = source / folder
        for entry in os.scandir(orig) if orig.is_dir() else ():
            if entry.name not in own and entry.name not in inner:
                inside = _inside(top, os.path.realpath(entry.path)) if entry.is_symlink() else None
                (real / entry.name).symlink_to(entry.path if inside is None else root / inside)
        for name, text in own.items():
            (real / name).write_bytes(text)


def _with_parents(folder: str) -> Iterator[str]:
    while folder and folder != ".":
        yield folder
        folder = posixpath.dirname(folder)


def _inside(top: str, path: str) -> str | None:
    """A real path relative to the real path of a tree; None if it is outside."""
    return path[len(top) + 1 :] if path.startswith(f"{top}/") else None


def _canonical(source: Path, folders: Iterable[str]) -> Iterator[str]:
    """Directories of a tree by their real names and, for each that is reached through a link, the link's directory."""
    top = os.path.realpath(source)
    for folder in folders:
        at = ""
        for part in folder.split("/"):
            here = posixpath.join(at, part)
            if (source / here).is_symlink():
                yield at
                here = _inside(top, os.path.realpath(source / here)) or here
            at = here
        yield at


class Overlay:
    """The overlay of one run, in a directory of its own. `tree` is the tree for the next compile."""

    def __init__(self, kernel: Kernel, files: Mapping[str, bytes], root: Path, entered: Iterable[str] = ()) -> None:
        self._kernel, self._files, self._root = kernel, files, root
        self._entered = frozenset(entered)
        self._changed = {os.path.realpath(kernel.source / path): path for path in files}
        self._names = {path.rpartition("/")[2] for path in files}
        self._lock = Lock()
        self._rounds = 0
        self.tree = root / "tree"
        make_overlay(kernel.source, files, self.tree, self._entered)

    @property
    def entered(self) -> tuple[str, ...]:
        """The directories that are real because a path leaves them through "..", as known or found so far."""
        return tuple(sorted(self._entered))

    def has(self, tree: Path) -> bool:
        """Whether `tree` is this overlay, in its current or an earlier state."""
        return tree.parent == self._root

    def is_stale(self, unit: UnitCommand, tree: Path, deps: Iterable[str]) -> bool:
        """Whether a compile in `tree` that read `deps` used the kernel's own version of a patched file. If so, the
        overlay's `tree` has been replaced by one in which that does not happen, and the compile must be repeated.

        Raises ToolError if no overlay helps.
        """
        stale = [(dep, path) for dep in dict.fromkeys(deps) if (path := self._own(dep)) is not None]
        if not stale:
            return False
        passed = {folder for dep, _ in stale for folder in _passed(dep, str(tree))}
        with self._lock:
            if not passed <= self._entered and self._rounds < _MAX_ROUNDS:
                self._rounds += 1
                self._entered |= passed
                larger = self._root / f"tree{self._rounds}"
                make_overlay(self._kernel.source, self._files, larger, self._entered)
                self.tree = larger
            elif tree == self.tree:
                fact = f"was compiled with the kernel's own {stale[0][1]}, not with the patched one"
                raise ToolError(fact, place=unit.source)
        return True

    def _own(self, dep: str) -> str | None:
        """The patched file whose original a path leads to."""
        full = self._kernel.build / dep
        if dep.rpartition("/")[2] in self._names or full.is_symlink():
            return self._changed.get(os.path.realpath(full))
        return None


def _passed(dep: str, tree: str) -> Iterator[str]:
    """The directories of a tree that a path passes through, in order."""
    if not dep.startswith(f"{tree}/"):
        return
    at: list[str] = []
    for part in dep[len(tree) + 1 :].split("/")[:-1]:
        if part == "..":
            del at[-1:]
        elif part not in ("", "."):
            at.append(part)
            yield "/".join(at)
