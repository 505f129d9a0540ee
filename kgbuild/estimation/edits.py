# SPDX-License-Identifier: GPL-2.0-or-later
"""Which definitions of the source the hunks of a patch edit: hunk -> function, macro, type or variable.

Both texts of a file are split into definitions and compared (`source_changes`); a definition that differs is edited by
the hunks that remove lines of it or add lines to it. A function that only uses an edited macro is listed with that
macro as the cause. What the compiler makes of these functions is not known here (`closure/edit_results.py`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from kgbuild.csource.definitions import CALL, FUNCTION, SourceItem
from kgbuild.estimation.source_changes import CHANGED, REMOVED, Change, compare_items, spread, users_of
from kgbuild.patch.apply import Applied
from kgbuild.patch.unified_diff import Hunk, ParsedPatch


@dataclass(frozen=True)
class SourceHunk:
    """One hunk of the patches that are applied: its patch, the file in the tree, its number in that file's part of the
    patch (from 1), the line of the original at which it begins, and the hunk itself."""

    patch: str
    path: str
    number: int
    line: int
    hunk: Hunk

    @property
    def place(self) -> str:
        """Where its first change is, as path:line of the original."""
        return f"{self.path}:{self.line + self._before}"

    @property
    def patched_line(self) -> int:
        """The line of the patched text where its first change is."""
        return max(self.hunk.new_start + self.line - max(self.hunk.old_start, 1) + self._before, 1)

    @property
    def _before(self) -> int:
        return next((i for i, line in enumerate(self.hunk.lines) if line[:1] in b"+-"), 0)


@dataclass(frozen=True)
class SourceEdit:
    """One definition of the source that differs.

    path      the file that has it
    name      its name; for a function made by a macro, the macro's first argument
    kind      a kind of `csource.definitions`
    status    "changed", "new" or "removed"; "uses" for a function whose own text is as before
    line      its first line in the original, or in the patched text where it is new
    hunks     positions in the list of hunks that edit it
    because   for "uses": what it uses that is edited
    macro     the macro that makes a function of the name (SYSCALL_DEFINE3), "" for one that is written as such
    """

    path: str
    name: str
    kind: str
    status: str
    line: int
    hunks: tuple[int, ...]
    because: str = ""
    macro: str = ""

    @property
    def is_function(self) -> bool:
        """Whether it can have code: a function, or what a macro at the top level makes of its arguments."""
        return self.kind in (FUNCTION, CALL)


@dataclass(frozen=True)
class FileItems:
    """One changed file: its definitions in both texts, and the patched text with its map to the original lines."""

    orig: tuple[SourceItem, ...]
    patched: tuple[SourceItem, ...]
    applied: Applied


def list_hunks(patches: Iterable[ParsedPatch], applied: Mapping[str, Applied]) -> list[SourceHunk]:
    """The hunks that were applied, in the order of the patches. `applied` has a text for each changed path of the
    tree. A file that several patches change has the lines that each patch found."""
    out = []
    taken: dict[str, int] = {}
    for patch in patches:
        for file in patch.files:
            names = (file.old_path, file.new_path)
            path = max((p for p in applied if any(f"/{n}".endswith(f"/{p}") for n in names)), key=len, default="")
            if not path:
                continue
            places = applied[path].hunks
            for number, hunk in enumerate(file.hunks, 1):
                at = taken.get(path, 0)
                taken[path] = at + 1
                line = places[at].line if at < len(places) else hunk.old_start
                out.append(SourceHunk(patch.name, path, number, line, hunk))
    return out


def find_edits(
    files: Mapping[str, FileItems],
    hunks: Sequence[SourceHunk],
    users: Callable[[], Mapping[str, Sequence[SourceItem]]] = dict,
) -> list[SourceEdit]:
    """Every definition that the hunks edit, by file and line, and the functions that use an edited macro or enumerator:
    those of the same files and of the other files that `users` reads, by path."""
    found: dict[tuple[str, str, str], SourceEdit] = {}
    changes: list[Change] = []
    for path in sorted(files):
        file = files[path]
        for change in compare_items(file.orig, file.patched):
            changes.append(change)
            name, item = name_of(change.item), change.orig or change.item
            edited = hunks_of(file.applied, change, path, hunks)
            edit = SourceEdit(path, name, change.kind, change.status, item.start, edited, "", macro_of(change.item))
            key = (path, name, change.kind)
            # one that is made by another macro than before is gone and new
            found[key] = _joined(found[key], edit) if key in found else edit
    meanings = spread(changes, [item for file in files.values() for item in (*file.orig, *file.patched)])
    if not meanings:
        return sorted(found.values(), key=lambda edit: (edit.path, edit.line, edit.name))
    by_cause = {edit.name: edit.hunks for edit in found.values()}
    for path, items in {**users(), **{path: file.patched for path, file in files.items()}}.items():
        for item, cause in users_of(meanings, items, (FUNCTION, CALL)):
            key = (path, name_of(item), item.kind)
            if key not in found:
                edited = by_cause.get(cause.removeprefix("macro "), ())
                found[key] = SourceEdit(path, key[1], item.kind, "uses", item.start, edited, cause, macro_of(item))
    return sorted(found.values(), key=lambda edit: (edit.path, edit.line, edit.name))


def _joined(edit: SourceEdit, other: SourceEdit) -> SourceEdit:
    """Two edits of one name in one file as one."""
    hunks = tuple(sorted({*edit.hunks, *other.hunks}))
    return replace(edit, status=CHANGED, line=min(edit.line, other.line), hunks=hunks)


def name_of(item: SourceItem) -> str:
    """What a definition is called; the first argument where a macro makes a function of it (SYSCALL_DEFINE3(read)).
    A function whose head is a macro call has the macro's name as its own."""
    return item.arguments[0] if macro_of(item) else item.name


def macro_of(item: SourceItem) -> str:
    """The macro that makes a function of its first argument; "" for what is written without one."""
    return item.name if item.arguments and item.kind in (FUNCTION, CALL) else ""


def hunks_of(applied: Applied, change: Change, path: str, hunks: Sequence[SourceHunk]) -> tuple[int, ...]:
    """Positions in `hunks` of those that make a change of the file `path`: they remove lines of the original item, or
    add lines to the patched one."""
    kept = {line for line in applied.map if line is not None}
    touched: set[int] = set()
    if change.orig is not None:
        touched |= set(range(change.orig.start, change.orig.end + 1)) - kept
    if change.patched is not None and change.status != REMOVED:
        last = 0
        for line in applied.map[: change.patched.start - 1]:
            last = line if line is not None else last
        for line in applied.map[change.patched.start - 1 : change.patched.end]:
            if line is None:
                touched.add(last + 1)
            else:
                last = line
    own = sorted((hunk.line, at) for at, hunk in enumerate(hunks) if hunk.path == path)
    starts = [line for line, _ in own]
    found = {max(bisect_right(starts, line) - 1, 0) for line in touched} if own else set()
    return tuple(sorted({own[i][1] for i in found}))
