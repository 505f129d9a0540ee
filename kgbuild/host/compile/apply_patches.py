# SPDX-License-Identifier: GPL-2.0-or-later
"""Turns patch files into patched texts: reads the files, finds their paths in this kernel's tree, applies them.

Nothing is written, and the tree is not changed. All faults of all patches are collected.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from kgbuild.diagnostics.refusals import Refusal
from kgbuild.errors import UserError
from kgbuild.host.compile.build_path import may_show_path
from kgbuild.host.kernels.compile_commands import read_detours, read_sources
from kgbuild.host.kernels.unit_listing import SILENT, file_about, file_below, file_of_all, read_units
from kgbuild.host.kernels.vmlinux import platform_of
from kgbuild.host.patches.patch_sources import read_patch_source, unpack_patch
from kgbuild.host.system.input_files import path_within
from kgbuild.host.system.tree_manifest import check_files, read_whole
from kgbuild.limits import APPLIED_LINES
from kgbuild.model import Kernel
from kgbuild.patch.added_code import check_added_code
from kgbuild.patch.apply import Applied, apply_file, is_applied, unpatched
from kgbuild.patch.include_policy import check_includes
from kgbuild.patch.line_directives import with_line_directives
from kgbuild.patch.tree_paths import (
    FileKind,
    check_kind,
    check_path,
    choose_path,
    classify,
    find_strip,
    other_architecture,
)
from kgbuild.patch.unified_diff import DEV_NULL, FilePatch, ParsedPatch, parse_patch, strip_path
from kgbuild.progress import Progress
from kgbuild.shown_text import printable

_SHOWN = 6
_MANY = 200  # files of a patch whose progress is shown
_INCLUDING = re.compile(r".*\.[chS]|Makefile.*|Kbuild.*")


@dataclass(frozen=True)
class PatchSet:
    """Patches, read and applied.

    files    path in the tree -> the patched text for the compiler (with #line directives)
    skipped  paths that contain no kernel code and were left out
    hunks    how many were applied
    refusals what can't be applied or may not be touched
    by_patch for each patch, the files it changes and those it skips
    applied  path in the tree -> the patched text itself, with a map to the original lines
    """

    patches: tuple[ParsedPatch, ...]
    files: dict[str, bytes] = field(repr=False)
    skipped: tuple[str, ...]
    hunks: int
    refusals: tuple[Refusal, ...] = ()
    by_patch: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = ()
    applied: dict[str, Applied] = field(default_factory=dict, repr=False)

    def skipped_text(self) -> str:
        """What was left out, in words; "" if nothing was. All of it is in the report."""
        few = ", ".join(self.skipped[:_SHOWN])
        rest = len(self.skipped) - _SHOWN
        return f"skipped: {few}{f' and {rest} more' if rest > 0 else ''}" if few else ""


class NamedPatch(NamedTuple):
    """A patch's text with the name that messages and the module's note call it."""

    name: str
    text: bytes


PatchInput = Path | bytes | str | NamedPatch
"""A patch as it is given: a file (or what else holds patches, host/patches/patch_sources.py), or its text."""


def read_patches(patches: Sequence[PatchInput]) -> list[ParsedPatch]:
    """Parse patches in order. A patch given as text is named "patch-1" and so on. Raises UserError once for all patches
    that can't be read or are none."""
    out = []
    faults = []
    for number, given in enumerate(patches, 1):
        try:
            out += [parse_patch(name, text) for name, text in read_texts(given, number)]
        except UserError as error:
            faults.append(error)
    if len(faults) == 1:
        raise faults[0]
    if faults:
        lines = "".join(f"\n  {fault.place}: {fault.fact}" for fault in faults)
        remedies = dict.fromkeys(fault.remedy for fault in faults if fault.remedy)
        raise UserError(f"{len(faults)} patches can't be used:{lines}", remedy="; ".join(remedies))
    return out


def read_texts(given: PatchInput, number: int) -> list[tuple[str, bytes]]:
    """The name and text of each patch that was given as one, the `number`th. Raises UserError."""
    if isinstance(given, Path):
        return list(read_patch_source(given))
    if isinstance(given, NamedPatch):
        return [(given.name, unpack_patch(given.text, given.name))]
    text = given if isinstance(given, bytes) else given.encode("utf-8", "surrogateescape")
    return [(f"patch-{number}", unpack_patch(text, f"patch-{number}"))]


def apply_patches(kernel: Kernel, patches: Sequence[ParsedPatch], progress: Progress | None = None) -> PatchSet:
    """Apply patches one after the other to this kernel's sources. Faults are collected in the result. The progress of
    many files is shown."""
    count = sum(len(patch.files) for patch in patches)
    if progress is None or count < _MANY:
        return _apply(kernel, patches, lambda: None)
    with progress.step(f"apply {count} files", count, "files") as task:
        return _apply(kernel, patches, task.advance)


def _apply(kernel: Kernel, patches: Sequence[ParsedPatch], advance: Callable[[], None]) -> PatchSet:
    refusals: list[Refusal] = []
    texts: dict[str, Applied] = {}
    skipped: list[str] = []
    hunks = lines = 0

    def exists(path: str) -> bool:
        return path in texts or (kernel.source / path).is_file()

    elsewhere = _Elsewhere(kernel)
    by_patch = []
    made: dict[str, list[tuple[str, bytes]]] = {}
    for patch in patches:
        fixed: list[tuple[str, int, list[Refusal]]] = []
        others = 0
        touched: dict[str, None] = {}
        passed: dict[str, None] = {}
        by_patch.append((touched, passed))
        strip = find_strip(patch.files, exists)
        for file in patch.files:
            advance()
            faults = [_with_names(fault, file, strip) for fault in check_path(file, strip)]
            if faults:
                refusals += faults
                continue
            path = choose_path(file, strip, exists)
            if elsewhere.has(path):
                skipped.append(path)
                passed[path] = None
                continue
            faults = check_kind(file, path) or [
                _with_names(fault, file, strip) for fault in _check_place(kernel, path, patch, file, texts)
            ]
            if faults:
                refusals += faults
                continue
            if not file.hunks and file.kind != "new":
                continue
            touched[path] = None
            orig = texts.get(path) or unpatched(read_original(kernel, path) or b"")
            lines += len(orig.map) + 1
            APPLIED_LINES.check(lines, patch.name, "split the patch")
            patched = apply_file(orig.text, file, path if len(patches) == 1 else f"{path} ({patch.name})")
            if isinstance(patched, list):
                if is_applied(read_original(kernel, path) or b"", file):
                    fixed.append((path, len(file.hunks), patched))
                else:
                    refusals += _say_who(patched, file, made.get(path, []))
                    others += 1
            else:
                texts[path] = orig.then(patched)
                made.setdefault(path, []).append((patch.name, texts[path].text))
                hunks += len(file.hunks)
                others += 1
        for path, count, faults in fixed:
            fact = f"this kernel has the change of {patch.name} already: {_hunks(count)} in the file"
            refusals += faults if others else [Refusal("P22-fixed", path, fact)]
    check_added_code({p: (read_original(kernel, p) or b"", a.text, a.new_bytes) for p, a in texts.items()})
    files: dict[str, bytes] = {}
    detours = read_detours(file_about(kernel, texts))
    # the patched source is compiled at the original's path then, and a directive must not give it another
    as_it_is = kernel.outside is not None or may_show_path(kernel)
    for path, applied in texts.items():
        unchanged = read_original(kernel, path)
        if applied.text == unchanged:
            continue
        refusals += check_includes(path, applied.text, unchanged or b"")
        if refusals:
            files[path] = applied.text  # it is never compiled
            continue
        text = with_line_directives(path, applied.final)
        if path.endswith(".h") or path in detours or as_it_is:
            # Each unit reaches such a file by its own path, which __FILE__ shows; so does an out-of-tree unit itself.
            # A sanitizer writes the path at which the file was compiled into the object.
            # A directive before a header's guard would make the compiler read the header again at each #include.
            text = text.removeprefix(f'#line 1 "{path}"\n'.encode())
            named = re.compile(rb'^(#line \d+) "' + re.escape(path.encode()) + rb'"$', re.MULTILINE)
            text = named.sub(rb"\1", text)
        files[path] = text
    return PatchSet(
        tuple(patches),
        files,
        tuple(dict.fromkeys(skipped)),
        hunks,
        tuple(refusals),
        tuple((tuple(t), tuple(p)) for t, p in by_patch),
        {path: texts[path] for path in files},
    )


def _hunks(count: int) -> str:
    return "the only hunk is" if count == 1 else f"all {count} hunks are"


def _say_who(faults: list[Refusal], file: FilePatch, made: Sequence[tuple[str, bytes]]) -> list[Refusal]:
    """The faults of a file's hunks; one in their place where an earlier patch has made the same changes. `made` are the
    texts of the file, each with the patch that made it."""
    for name, text in made:
        if is_applied(text, file):
            fact = f"is applied already, by {name}: {_hunks(len(file.hunks))} in the file after that"
            return [replace(faults[0], fact=fact, remedy=f"leave one of the two patches out ({name} comes first)")]
    return faults


def _with_names(fault: Refusal, file: FilePatch, strip: int) -> Refusal:
    """A fault of a file's name that says how the two names of a diff are taken, where they differ."""
    names = (file.old_path, file.new_path)
    taken = [strip_path(name, strip) for name in names]
    if DEV_NULL in names or taken[0] == taken[1] or file.kind in ("rename", "copy"):
        return fault
    said = " and ".join(f"`{printable(name)}`" if name else "nothing" for name in taken)
    fact = (
        f"{fault.fact}; the two names of this file differ (--- {printable(names[0])}, +++ {printable(names[1])}) and "
        + (f"are taken without their first {strip} components: {said}" if strip else "are taken as they are")
    )
    return replace(fault, fact=fact, remedy="give both lines the same directories, as diff -u a/FILE b/FILE does")


class _Elsewhere:
    """Tells which files of a patch are none of this kernel's: documentation, tools, other architectures.

    What a kernel is built of stays, wherever it is: a unit (tools/lib/bpf/relo_core.c), a header beside one, and the
    headers of an architecture whose directory the kernel's own one names (arm64 includes some of arm's).
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._named: dict[str, bool] = {}

    def has(self, path: str) -> bool:
        """Whether a patch to this file of the tree is left out."""
        if not self._is_away(path) or self._is_unit(path):
            return False
        if not path.endswith(".h"):
            return True
        other = self._other(path)
        return not self._has_units_beside(path) and not (other and self._is_named(other))

    def _is_away(self, path: str) -> bool:
        return bool(self._other(path)) or classify(path) is FileKind.SKIPPED

    def _other(self, path: str) -> str:
        return other_architecture(path, self._own) if path.startswith("arch/") else ""

    @cached_property
    def _own(self) -> str:
        return platform_of(self._kernel).source_arch

    def _is_unit(self, path: str) -> bool:
        return path.endswith(".c") and bool(read_units(self._kernel, [path])[path])

    def _has_units_beside(self, path: str) -> bool:
        folder = str(Path(path).parent)
        rows = read_sources(file_about(self._kernel, [path]))
        return any(str(Path(source).parent) == folder and self._is_away(source) for source, _, _ in rows)

    def _is_named(self, other: str) -> bool:
        """Whether a file that this kernel may be built of includes headers of another architecture's, or a makefile of
        its own architecture does."""
        if other not in self._named:
            name = re.escape(other.encode())
            near = re.compile(rb"^[ \t]*#[ \t]*include\b[^\n]*/%b/|arch/%b/include" % (name, name), re.MULTILINE)
            far = re.compile(rb"^[ \t]*#[ \t]*include\b[^\n]*\barch/%b/" % name, re.MULTILINE)
            top = self._kernel.source
            units = {top / Path(source).parent for source, _, _ in read_sources(file_of_all(self._kernel))}
            self._named[other] = (
                _any_has(_below(top / "arch" / self._own), near, f"/{other}/")
                or _any_has(_below(top / "include"), far, f"arch/{other}/")
                or _any_has((path for folder in sorted(units) for path in folder.glob("*.[ch]")), far, f"arch/{other}/")
            )
        return self._named[other]


def _below(folder: Path) -> Iterator[Path]:
    return (Path(at, name) for at, _, names in os.walk(folder) for name in names if _INCLUDING.fullmatch(name))


def _any_has(paths: Iterable[Path], wanted: re.Pattern[bytes], word: str) -> bool:
    """Whether a file has a place that fits, outside of comments; `word` is in every such place."""
    for path in paths:
        text = path.read_bytes() if path.is_file() else b""
        if word.encode() in text and wanted.search(re.sub(rb"/\*.*?\*/", b"", text, flags=re.DOTALL)):
            return True
    return False


def read_original(kernel: Kernel, path: str) -> bytes | None:
    """The kernel's own text of a file; None if the patch creates it. Raises DamagedSource where it is not what was
    unpacked."""
    full = kernel.source / path
    check_files(kernel.source, [full])
    return full.read_bytes() if full.is_file() else None


def _check_place(kernel: Kernel, path: str, patch: ParsedPatch, file: FilePatch, made: Container[str]) -> list[Refusal]:
    """The file must exist, unless it is new or was `made` before, and no symbolic link may lead out of the tree."""
    full = kernel.source / path
    where = f"{path} ({patch.name}:{file.line})" if file.line else path
    if not full.is_file() and file.kind != "new" and path not in made:
        check_files(kernel.source, [full])
        if kernel.outside is None:
            return [Refusal("P1-apply", where, "this kernel's source has no such file")]
        fact = f"{kernel.outside.folder} has no such file"
        return [Refusal("P1-apply", where, fact, remedy=f"name files as they are below {kernel.outside.folder}")]
    if full.is_dir() or any(above.is_file() for above in full.parents):
        return [Refusal("P1-apply", where, "this kernel's source has something else of this name")]
    if path_within(kernel.source, path) is None:
        return [Refusal("P4-path", where, "a symbolic link leads out of the source tree")]
    return []


def find_includers(kernel: Kernel, paths: Iterable[str], progress: Progress = SILENT) -> dict[str, list[str]]:
    """Units that compile each of these .c files by including it, directly or through another such file.

    For example, kernel/sched/build_policy.c includes deadline.c. The text of this kernel's units is searched, those in
    the same top-level directory first. Empty if none is found.
    """
    wanted = list(paths)
    if not wanted:
        return {}
    return {path: _includers(kernel, path, progress) for path in wanted}


def _includers(kernel: Kernel, path: str, progress: Progress) -> list[str]:
    name = re.escape(Path(path).name).encode()
    pattern = re.compile(rb'^[ \t]*#[ \t]*include[ \t]*["<]([^">]*\b' + name + rb')[">]', re.MULTILINE)
    found: list[str] = []
    queue, seen = [(path, pattern)], {path}
    top = path.split("/", 1)[0]
    rows = read_sources(file_below(kernel, top, progress))
    near = sorted({source for source, _, _ in rows if source.startswith(f"{top}/")})
    while queue:
        target, regex = queue.pop(0)
        for source in near:
            try:
                text = read_whole(kernel.source, source)
            except OSError:
                continue
            for match in regex.finditer(text):
                spelled = match.group(1).decode("utf-8", "replace")
                beside = (Path(source).parent / spelled).as_posix()
                if target in (_normal(beside), _normal(spelled), _normal(f"include/{spelled}")) and source not in seen:
                    seen.add(source)
                    found.append(source)
    return found


def _normal(path: str) -> str:
    parts: list[str] = []
    for part in path.split("/"):
        if part == ".." and parts:
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def why_not_built(kernel: Kernel, path: str) -> str:
    """The configuration option that excludes a file, from the Makefile beside it; "" if it does not say."""
    return option_in(kernel, Path(path).parent, Path(path).with_suffix(".o").name)


def option_in(kernel: Kernel, folder: Path, target: str) -> str:
    """The configuration option on which the Makefile of a folder makes `target` depend: an object, or a folder with "/"
    at its end; "" if it does not say."""
    for name in ("Kbuild", "Makefile"):
        try:
            text = read_whole(kernel.source, f"{folder}/{name}").decode(errors="replace").replace("\\\n", " ")
        except OSError:
            continue
        option = _option_for(text, target, 0)
        if option:
            return option
    return ""


def _option_for(makefile: str, target: str, depth: int) -> str:
    for line in makefile.splitlines():
        rule = re.match(r"\s*([\w-]+?)-(?:\$\((CONFIG_\w+)\)|objs|[ym])\s*[:+]?=\s*(.*)", line)
        if rule and target in rule.group(3).split("#")[0].split():
            if rule.group(2):
                return rule.group(2)
            if rule.group(1) not in ("obj", "lib") and depth < 3:
                return _option_for(makefile, f"{rule.group(1)}.o", depth + 1)
    return ""
