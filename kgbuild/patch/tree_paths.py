# SPDX-License-Identifier: GPL-2.0-or-later
"""Which files of the kernel tree a patch may touch, and which files patched code may read.

A patch is someone else's text, and the machine that builds it has files that are none of its business. So
paths must stay inside the tree, nothing is touched that the build would run, and nothing may be included from
elsewhere. The text is judged here, before anything is compiled; it can't see through macros that assemble a
name, so what the compiler and the assembler really read (gcc -MD, as --MD) is judged afterwards by
`check_dependencies`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from enum import Enum

from kgbuild.diagnostics.refusals import Refusal
from kgbuild.patch.unified_diff import DEV_NULL, FilePatch, strip_path
from kgbuild.shown_text import printable

MAX_STRIP = 4


class FileKind(Enum):
    """What a file of the kernel tree is to a live patch."""

    CODE = "kernel code in C"
    HEADER = "a header"
    SKIPPED = "no kernel code"
    BUILD = "part of the build system"
    NOT_C = "assembly, vdso or boot code"
    DEVICE_TREE = "a device tree"
    UNSUPPORTED = "of a kind that is not known"


_ONE = r"[^/]+"  # one component
# The first row that matches decides; a pattern is matched against the whole path.
_KINDS: tuple[tuple[FileKind, str], ...] = (
    # Files that neither the kernel nor its build reads (tools/ is read, but a patch to it is never applied).
    (FileKind.SKIPPED, r"(?:Documentation|tools|samples|LICENSES)/.*|.*/Documentation/.*"),
    (
        FileKind.SKIPPED,
        r"(?:MAINTAINERS|CREDITS|COPYING|README|\.[a-z_-]+(?:\.ignore|\.toml|\.yml)?)(?<!\.config)",
    ),
    (FileKind.SKIPPED, r"(?:.*/)?\.(?:gitignore|gitattributes|kunitconfig)"),
    # What make, its tools and generators run or read.
    (FileKind.BUILD, r"(?:scripts|usr|include/(?:config|generated))/.*"),
    (FileKind.BUILD, r"(?:.*/)?(?:Makefile|Kbuild|Kconfig|Platform|\.config)(?:[._-][^/]*)?"),
    (FileKind.BUILD, r".*\.(?:mk|lds|lds\.S|lds\.h|ld|config|tbl|sh|py|pl|pm|awk|sed|y|l|lex|include|map)"),
    (FileKind.BUILD, rf"arch/{_ONE}/(?:configs|tools)/.*|arch/{_ONE}/lib/x86-opcode-map\.txt"),
    (FileKind.BUILD, r"certs/(?:.*\.(?:pem|x509|genkey)|extract-cert\.c)"),
    (FileKind.BUILD, rf"kernel/bounds\.c|arch/{_ONE}/kernel/asm-offsets{_ONE}"),
    (FileKind.BUILD, r"drivers/scsi/aic7xxx/aicasm/.*|lib/(?:gen_crc(?:32|64)table|raid6/mktables)\.c"),
    (FileKind.SKIPPED, r".*\.(?:rst|txt|md)|(?:.*/)?(?:README|TODO)"),
    (FileKind.DEVICE_TREE, r".*\.(?:dts|dtsi|dtso)"),
    # Kernel code that lives beside what is not: these are linked into vmlinux.
    (FileKind.CODE, r"arch/x86/entry/vdso/(?:vma|extable|vdso32-setup)\.c|arch/x86/realmode/init\.c"),
    (FileKind.HEADER, r"(?:include|arch/[^/]+/include)/.*\.h"),
    (FileKind.NOT_C, rf"arch/{_ONE}/(?:boot|realmode|purgatory)/.*"),
    (FileKind.NOT_C, r"(?:.*/)?(?:vdso|vdso32|vdso64|compat_vdso|purgatory|libstub|nvhe)/.*"),
    (FileKind.NOT_C, r".*\.(?:S|s|asm)"),
    (FileKind.UNSUPPORTED, r".*\.bpf\.c"),
    (FileKind.CODE, r".*\.c"),
    (FileKind.HEADER, r".*\.h"),
)
_COMPILED = tuple((kind, re.compile(pattern, re.DOTALL)) for kind, pattern in _KINDS)
_REFUSED = {
    FileKind.BUILD: "P2-build-system",
    FileKind.NOT_C: "P3-not-c",
    FileKind.DEVICE_TREE: "P9-unsupported-file",
    FileKind.UNSUPPORTED: "P9-unsupported-file",
}
_CHANGES = {
    "delete": "the patch deletes it",
    "rename": "the patch renames it",
    "copy": "the patch copies it",
    "binary": "the patch changes it in binary",
}


def other_architecture(path: str, own: str) -> str:
    """The architecture in whose directory a file of the tree is, if that is not `own` (as the tree's directories are
    called: x86); else "". arch/Kconfig is in none."""
    parts = path.split("/", 2)
    return parts[1] if len(parts) == 3 and parts[0] == "arch" and parts[1] != own else ""


def classify(path: str) -> FileKind:
    """What the file at `path` (in the tree, see `choose_path`) is; UNSUPPORTED where no row tells."""
    return next((kind for kind, pattern in _COMPILED if pattern.fullmatch(path)), FileKind.UNSUPPORTED)


def check_path(file: FilePatch, strip: int) -> list[Refusal]:
    """Refuses (P4-path) names that could leave the tree: judged as written and with `strip` components off.

    Whether a directory on the way is a symbolic link is for the caller to find out, on disk.
    """
    found = []
    for name in dict.fromkeys((file.old_path, file.new_path)):
        stripped = strip_path(name, strip)
        fact = ""
        if name == DEV_NULL:
            continue
        if ".." in name.split("/"):
            fact = "the path has `..` in it"
        elif stripped.startswith("/") or name.startswith("/"):
            fact = "the path is absolute"
        elif not stripped:
            fact = f"nothing is left of the path without its first {strip} components"
        elif "\\" in name:
            fact = "the path has a backslash in it"
        elif any(ord(c) < 32 or 127 <= ord(c) < 160 for c in name):
            fact = "the path has a control character in it"
        elif not name.isprintable():
            fact = "the path has a character that can't be shown"
        if fact:
            found.append(Refusal("P4-path", printable(name), fact))
    if not found and "120000" in (file.old_mode, file.new_mode):
        found.append(Refusal("P4-path", printable(file.path(strip)), "the patch makes or changes a symbolic link"))
    return found


def check_kind(file: FilePatch, path: str) -> list[Refusal]:
    """Refuses what can't be in a live patch: the kind of file (P2, P3, P9) and what is done to it (P9).

    path   the file's path in the tree (`choose_path`)
    A file of FileKind.SKIPPED is never refused: the caller lists it and leaves it out, and those of other architectures
    too. A change of mode alone changes no code and is not refused either; it has no hunks.
    """
    kind = classify(path)
    if kind is FileKind.SKIPPED:
        return []
    place = printable(path)
    if kind in _REFUSED:
        return [Refusal(_REFUSED[kind], place, f"the file is {kind.value}")]
    if "160000" in (file.old_mode, file.new_mode):
        return [Refusal("P9-unsupported-file", place, "the patch changes a git submodule")]
    if file.kind in _CHANGES:
        return [Refusal("P9-unsupported-file", place, _CHANGES[file.kind])]
    return []


def _candidates(file: FilePatch, strip: int) -> list[str]:
    """The names a file may have in the tree, best first. Names that leave the tree are never looked up."""
    names = [strip_path(p, strip) for p in (file.new_path, file.old_path) if p != DEV_NULL]
    return [n for n in names if n and not n.startswith("/") and ".." not in n.split("/") and "\0" not in n]


def choose_path(file: FilePatch, strip: int, exists: Callable[[str], bool]) -> str:
    """The tree path a change is for: of the two names of a diff against `x.c.orig`, the one that exists."""
    return next((n for n in _candidates(file, strip) if exists(n)), file.path(strip))


def find_strip(files: Sequence[FilePatch], exists: Callable[[str], bool]) -> int:
    """How many leading components of the paths are not the kernel tree's (the N of patch -pN).

    The level with which every file exists is taken: 1 first where all names have git's a/ and b/, else the
    lowest (so that kernel/Makefile is not taken for Makefile). Where no level finds all, the one that finds
    most; where none finds any, 1 with a prefix and 0 without. New files do not count unless there are only
    such.

    files   of one patch
    exists  whether a path relative to the top of the tree is there; never asked about a path outside it
    """
    wanted = [f for f in files if f.kind not in ("new", "copy")]
    prefixed = all(path == DEV_NULL or re.match(r"[abciow]/", path) for f in files for path in (f.old_path, f.new_path))
    levels = [1, 0, *range(2, MAX_STRIP + 1)] if prefixed else list(range(MAX_STRIP + 1))
    found = {level: sum(any(exists(n) for n in _candidates(f, level)) for f in wanted) for level in levels}
    best = max(levels, key=lambda level: found[level])  # the first of equals
    if found[best]:
        return best
    return 1 if prefixed else 0
