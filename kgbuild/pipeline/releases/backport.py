# SPDX-License-Identifier: GPL-2.0-or-later
"""`backport`: a patch for one kernel of a fix that conflicts with it. It is always written out, for a person to review;
nothing uses it before fix.toml names it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kgbuild.diagnostics.fix_states import AFFECTED, CONFLICT
from kgbuild.errors import NoChange, ToolError, UserError
from kgbuild.host.kernels.acquire import ensure_kernel
from kgbuild.host.patches.git_patches import GitTree
from kgbuild.host.releases.directory import Directory, Fix, check_inside
from kgbuild.host.releases.kernel_source import KernelSource
from kgbuild.host.system.locks import temporary_directory
from kgbuild.host.system.output_files import write_file
from kgbuild.host.system.run import run
from kgbuild.host.system.sealed import digest_of
from kgbuild.model import Kernel
from kgbuild.patch.apply import apply_file
from kgbuild.patch.tree_paths import FileKind, choose_path, classify, find_strip
from kgbuild.patch.unified_diff import FilePatch, ParsedPatch, parse_patch
from kgbuild.pipeline.releases.kernels import known_as, names_of
from kgbuild.progress import Progress
from kgbuild.releases.backport import Ported, port_file
from kgbuild.releases.config import PATCH
from kgbuild.releases.decide import Decision, decide
from kgbuild.releases.render_patch import render_texts
from kgbuild.report.documents import ErrorRow, error_row


@dataclass(frozen=True)
class Backport:
    """A patch that was made for a kernel: its path in the directory, its text, and what a reviewer must look at."""

    fix: str
    kernel: Kernel
    path: str
    text: bytes
    notes: tuple[str, ...]


class NotPorted(ToolError):
    """Changes of a fix found no place (exit 1). `rows` name each, with the nearest line."""

    exit_code = 1
    code = "P1-conflict"

    def __init__(self, rows: Sequence[ErrorRow]) -> None:
        first = rows[0]
        super().__init__(first["fact"], place=first["place"], remedy=first["remedy"])
        self.rows = tuple(rows)


def make_backport(
    directory: Directory,
    fix: Fix,
    name: str,
    progress: Progress,
    *,
    git: Path | None = None,
    offline: bool = False,
    jobs: int = 2,
    force: bool = False,
) -> Backport:
    """Make the patch and write it to fixes/ID/RELEASE.patch. With a git tree that has the fix's commit, files are
    merged three-way; else each change goes to the nearest place that it fits.

    Raises NoChange where the fix applies as it is or is there already, NotPorted where a change finds no place,
    UserError where another file is there.
    """
    kernel = ensure_kernel(name, progress=progress, offline=offline, jobs=jobs)
    tree = KernelSource(kernel)
    parsed = fix.parse(f"{fix.entry.folder}/{PATCH}")
    decision = decide([parsed], tree)
    if decision.state != CONFLICT:
        raise NoChange(
            f"needs no backport: {decision.state}" + (f" ({decision.fact})" if decision.fact else ""),
            place=f"{fix.id} on {kernel.id.name}",
            remedy="nothing is to be written",
        )
    notes: list[str] = []
    rows: list[ErrorRow] = []
    orig: dict[str, bytes] = {}
    patched: dict[str, bytes] = {}
    merge = GitTree(git) if git is not None else None
    for path, file in _files(parsed, tree):
        text = patched.get(path, tree.read(path) or b"")
        orig.setdefault(path, text)
        made = _merged(merge, fix, path, file, text) or port_file(text, file, path)
        notes += (f"{path}: {note}" for note in made.notes)
        rows += (_row(fix, kernel, said) for said in made.missing)
        patched[path] = made.text
    rows += _unknown_files(parsed, tree, fix, kernel)
    if rows:
        raise NotPorted(rows)
    text = render_texts(orig, patched, _head(fix, kernel, notes))
    _check(text, tree, fix, kernel)
    path = f"{fix.entry.folder}/{kernel.id.release}.patch"
    target = check_inside(directory.path, directory.path / path)
    same = target.is_file() and digest_of(target) == hashlib.sha256(text).hexdigest()
    if target.exists() and not same and not force:
        raise UserError("is there already", place=path, remedy="remove it, or give --replace")
    write_file(target, text)
    return Backport(fix.id, kernel, path, text, tuple(notes))


def names_patch(fix: Fix, kernel: Kernel) -> bool:
    """Whether fix.toml already names the patch of a kernel."""
    names = (*names_of(kernel.id), *known_as(kernel.id, fix.metadata.patches))
    return fix.patch_for(names) != f"{fix.entry.folder}/{PATCH}"


def _files(parsed: ParsedPatch, tree: KernelSource) -> list[tuple[str, FilePatch]]:
    """The files of kernel code that the kernel has and compiles, by their paths in it; one that moved to another folder
    by its place there."""
    strip = find_strip(parsed.files, lambda path: tree.read(path) is not None)
    out = []
    for file in parsed.files:
        path = choose_path(file, strip, lambda name: tree.read(name) is not None)
        if classify(path) is FileKind.SKIPPED or not file.hunks or file.kind == "delete":
            continue
        if file.kind != "new" and tree.read(path) is None:
            moved = tree.of_name(path.rpartition("/")[2])
            path = moved[0] if len(moved) == 1 else path
        if file.kind == "new" or (tree.read(path) is not None and tree.is_built(path)):
            out.append((path, file))
    return out


def _unknown_files(parsed: ParsedPatch, tree: KernelSource, fix: Fix, kernel: Kernel) -> list[ErrorRow]:
    strip = find_strip(parsed.files, lambda path: tree.read(path) is not None)
    out = []
    for file in parsed.files:
        path = choose_path(file, strip, lambda name: tree.read(name) is not None)
        known = tree.read(path) is not None or len(tree.of_name(path.rpartition("/")[2])) == 1
        if not known and file.kind != "new" and classify(path) is not FileKind.SKIPPED:
            out.append(_row(fix, kernel, f"{path}: this kernel has no such file"))
    return out


def _row(fix: Fix, kernel: Kernel, said: str) -> ErrorRow:
    place, _, fact = said.partition(": ")
    remedy = f"write {fix.entry.folder}/{kernel.id.release}.patch by hand"
    return error_row("P1-conflict", fact, f"{fix.id} on {kernel.id.name}: {place}", remedy)


def _merged(git: GitTree | None, fix: Fix, path: str, file: FilePatch, text: bytes) -> Ported | None:
    """A three-way merge of the kernel's text and the commit, from the commit's parent; None where there is no tree, it
    does not have the commit, the commit is not what the patch says, or both changed the same lines."""
    if git is None or not fix.metadata.commit or file.kind == "new":
        return None
    name = file.path(1)
    before, after = git.text(f"{fix.metadata.commit}^", name), git.text(fix.metadata.commit, name)
    if before is None or after is None:
        return None
    applied = apply_file(before, file, name)
    if isinstance(applied, list) or applied.text != after:
        return None  # the commit makes something else of the file than the patch does
    with temporary_directory("backport") as folder:
        paths = [Path(folder) / one for one in ("kernel", "before", "after")]
        for target, data in zip(paths, (text, before, after), strict=True):
            target.write_bytes(data)
        done = run(["git", "merge-file", *paths], check=False)
        if done.status:
            return None
        return Ported(
            paths[0].read_bytes(), (f"merged three-way with {fix.metadata.commit[:12]}: please look at it",), ()
        )


def _head(fix: Fix, kernel: Kernel, notes: Sequence[str]) -> bytes:
    subject = fix.metadata.subject or fix.id
    lines = [f"Subject: {subject}", "", *([" ".join(fix.cves), ""] if fix.cves else [])]
    if fix.metadata.commit:
        lines += [f"commit {fix.metadata.commit} upstream.", ""]
    lines += [f"Backport to {kernel.id.name} ({kernel.id.version}), made by kgbuild backport for review:", ""]
    return "\n".join([*lines, *(f"- {note}" for note in notes), "---", ""]).encode()


def _check(text: bytes, tree: KernelSource, fix: Fix, kernel: Kernel) -> None:
    """Raise NotPorted where the finished patch is not one that applies."""
    found: Decision | None = None
    try:
        found = decide([parse_patch(fix.id, text)], tree)
    except UserError as error:
        raise NotPorted([_row(fix, kernel, f"{fix.id}: nothing is left of it ({error.fact})")]) from error
    if found.state != AFFECTED:
        raise NotPorted([_row(fix, kernel, f"{found.place or fix.id}: {found.fact or found.state}")])
