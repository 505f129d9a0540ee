# SPDX-License-Identifier: GPL-2.0-or-later
"""Which files of the kernel tree a patch may touch, and which files patched code may read.

A patch is someone else's text, and the machine that builds it has files that are none of its business. So
paths must stay inside the tree, nothing is touched that the build would run, and nothing may be included from
elsewhere. The text is judged here, before anything is compiled; it can't see through macros that assemble a
name, so what the compiler and the assembler really read (gcc -MD, as --MD) is judged afterwards by
`check_dependencies`.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from enum import Enum

from kgbuild.diagnostics.refusals import Refusal
from kgbuild.patch.apply import C_TOKEN, physical_line, splice
from kgbuild.patch.unified_diff import DEV_NULL, FilePatch, printable, strip_path

MAX_STRIP = 4


class Kind(Enum):
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
_KINDS: tuple[tuple[Kind, str], ...] = (
    # Files that neither the kernel nor its build reads (tools/ is read, but a patch to it is never applied).
    (Kind.SKIPPED, r"(?:Documentation|tools|samples|LICENSES)/.*|.*/Documentation/.*"),
    (
        Kind.SKIPPED,
        r"(?:MAINTAINERS|CREDITS|COPYING|README|\.[a-z_-]+(?:\.ignore|\.toml|\.yml)?)(?<!\.config)",
    ),
    (Kind.SKIPPED, r"(?:.*/)?\.(?:gitignore|gitattributes|kunitconfig)"),
    # What make, its tools and generators run or read.
    (Kind.BUILD, r"(?:scripts|usr|include/(?:config|generated))/.*"),
    (Kind.BUILD, r"(?:.*/)?(?:Makefile|Kbuild|Kconfig|Platform|\.config)(?:[._-][^/]*)?"),
    (Kind.BUILD, r".*\.(?:mk|lds|lds\.S|lds\.h|ld|config|tbl|sh|py|pl|pm|awk|sed|y|l|lex|include|map)"),
    (Kind.BUILD, rf"arch/{_ONE}/(?:configs|tools)/.*|arch/{_ONE}/lib/x86-opcode-map\.txt"),
    (Kind.BUILD, r"certs/(?:.*\.(?:pem|x509|genkey)|extract-cert\.c)"),
    (Kind.BUILD, rf"kernel/bounds\.c|arch/{_ONE}/kernel/asm-offsets{_ONE}"),
    (Kind.BUILD, r"drivers/scsi/aic7xxx/aicasm/.*|lib/(?:gen_crc(?:32|64)table|raid6/mktables)\.c"),
    (Kind.SKIPPED, r".*\.(?:rst|txt|md)|(?:.*/)?(?:README|TODO)"),
    (Kind.DEVICE_TREE, r".*\.(?:dts|dtsi|dtso)"),
    # Kernel code that lives beside what is not: these are linked into vmlinux.
    (Kind.CODE, r"arch/x86/entry/vdso/(?:vma|extable|vdso32-setup)\.c|arch/x86/realmode/init\.c"),
    (Kind.HEADER, r"(?:include|arch/[^/]+/include)/.*\.h"),
    (Kind.NOT_C, rf"arch/{_ONE}/(?:boot|realmode|purgatory)/.*"),
    (Kind.NOT_C, r"(?:.*/)?(?:vdso|vdso32|vdso64|compat_vdso|purgatory|libstub|nvhe)/.*"),
    (Kind.NOT_C, r".*\.(?:S|s|asm)"),
    (Kind.UNSUPPORTED, r".*\.bpf\.c"),
    (Kind.CODE, r".*\.c"),
    (Kind.HEADER, r".*\.h"),
)
_COMPILED = tuple((kind, re.compile(pattern, re.DOTALL)) for kind, pattern in _KINDS)
_REFUSED = {
    Kind.BUILD: "P2-build-system",
    Kind.NOT_C: "P3-not-c",
    Kind.DEVICE_TREE: "P9-unsupported-file",
    Kind.UNSUPPORTED: "P9-unsupported-file",
}
_CHANGES = {
    "delete": "the patch deletes it",
    "rename": "the patch renames it",
    "copy": "the patch copies it",
    "binary": "the patch changes it in binary",
}


def classify(path: str) -> Kind:
    """What the file at `path` (in the tree, see `choose_path`) is; UNSUPPORTED where no row tells."""
    return next((kind for kind, pattern in _COMPILED if pattern.fullmatch(path)), Kind.UNSUPPORTED)


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
    A file of Kind.SKIPPED is never refused: the caller lists it and leaves it out. A change of mode alone
    changes no code and is not refused either; it has no hunks.
    """
    kind = classify(path)
    if kind is Kind.SKIPPED:
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


# What reads a file by name, or asks whether it is there.
_INCLUDES = {b"include", b"include_next", b"import", b"embed"}
_HAS = {b"__has_include", b"__has_include_next", b"__has_include__", b"__has_include_next__", b"__has_embed"}
_NAME = re.compile(rb'\s*(?:"(?P<quote>[^"\n]*)"|<(?P<angle>[^>\n]*)>)')
_DIRECTIVE = re.compile(rb"(?:#|%:)\s*(\w+)(.*)", re.DOTALL)
_PRAGMA = re.compile(rb"\s*GCC\s+(?:dependency|pch_preprocess)\b(.*)", re.DOTALL)
_ASSEMBLER = re.compile(rb"incbin|\.\s*include\b")
_JOIN = re.compile(rb'"\s*"')
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]+|[0-7]{1,3}|[^\n])")
_SIMPLE = {
    b"n": b"\n",
    b"t": b"\t",
    b"a": b"\a",
    b"b": b"\b",
    b"f": b"\f",
    b"r": b"\r",
    b"v": b"\v",
    b"e": b"\x1b",
}
_ODD_HASH = re.compile(rb"(?:^|\n)[ \t]*(?:\?\?=|%:)|\?\?/[ \t]*(?:\n|$)")


def check_includes(path: str, text: bytes, original: bytes = b"") -> list[Refusal]:
    """Refuses (P5-include) what a patch adds that reads files outside the tree, or whose name can't be told.

    path      of the file in the tree; names in quotes are resolved from its directory
    text      the patched text, without #line directives of ours
    original  the text before: what is in it already is the kernel's own and stays allowed. Whole texts are
              compared, not added lines, because a comment taken away or a backslash added makes old lines
              into new directives.
    Names are resolved as text. What macros put together is for `check_dependencies`.
    """
    known = Counter(fact for _, fact in _find_includes(path, original))
    found = []
    for line, fact in _find_includes(path, text):
        if known[fact]:
            known[fact] -= 1
        else:
            found.append(Refusal("P5-include", f"{printable(path)}:{line}", fact))
    return found


def _find_includes(path: str, text: bytes) -> Iterator[tuple[int, str]]:
    """Each thing to refuse: its line (from 1) and what it is."""
    spliced, splices = splice(text)

    def line_of(offset: int) -> int:
        return physical_line(spliced, splices, offset) + 1

    for odd in _ODD_HASH.finditer(spliced):
        yield line_of(odd.end() - 1), "a directive is written with a digraph or trigraph"
    for start, code, is_directive in _directives_and_asm(spliced):
        line = line_of(start)
        directive = _DIRECTIVE.match(code)
        if directive is None or not is_directive:
            if _ASSEMBLER.search(code):
                yield line, f"the assembler would read a file: `{printable(code.strip())[:70]}`"
            if b"_Pragma" in code and b"dependency" in code:
                yield line, f"a pragma names a file: `{printable(code.strip())[:70]}`"
            continue
        word, rest = directive[1], directive[2]
        if word in _INCLUDES and (fault := _judge(path, rest)):
            yield line, f"#{word.decode()} {fault}"
        pragma = _PRAGMA.match(rest) if word == b"pragma" else None
        if pragma and (fault := _judge(path, pragma[1])):
            yield line, f"#pragma GCC dependency {fault}"
        if word == b"define" and _ASSEMBLER.search(_unescape(_JOIN.sub(b"", rest))):
            yield line, f"the assembler would read a file: `{printable(rest.strip())[:70]}`"
        if word == b"define" and b"_Pragma" in rest and b"dependency" in rest:
            yield line, f"a pragma names a file: `{printable(rest.strip())[:70]}`"
        for use in re.finditer(rb"\b(__has_(?:include|embed)\w*)\s*(\(?)", rest):
            asked = use[2] or word == b"define"  # not `#ifdef __has_include`
            if use[1] in _HAS and asked and (fault := _judge(path, rest[use.end() :])):
                yield line, f"{use[1].decode()} {fault}"


def _judge(path: str, text: bytes) -> str:
    """What is wrong with the file name at the start of `text`; "" when it stays in the tree."""
    match = _NAME.match(text)
    if match is None:
        return f"has a name that only the preprocessor knows: `{printable(text.strip())[:70]}`"
    quoted = match["quote"] is not None
    name = (match["quote"] if quoted else match["angle"]).decode("utf-8", "surrogateescape")
    shown = f"`{printable(name)}`"
    if name.startswith("/"):
        return f"has the absolute path {shown}"
    if not name.isprintable() or "\\" in name:
        return f"has a strange path: {shown}"
    # Names in angle brackets are looked up from include/ directories; the one nearest to the top counts.
    base = posixpath.dirname(path) if quoted else "include"
    if posixpath.normpath(posixpath.join(base, name)).split("/")[0] == "..":
        return f"leaves the kernel tree: {shown}"
    return ""


def _directives_and_asm(spliced: bytes) -> Iterator[tuple[int, bytes, bool]]:
    """(offset, text, True) of each directive without its comments; (offset, text, False) of each run of strings,
    joined and unescaped, and of bare words that could become one (`__stringify(.incbin "x")`)."""
    directive = b""
    strings = b""
    start = strings_start = 0
    fresh = True  # only blanks and comments so far on this line
    previous = b""
    for token in C_TOKEN.finditer(spliced):
        kind, text = token.lastgroup, token[0]
        if kind == "newline":
            if directive:
                yield start, directive, True
            directive, fresh = b"", True
        elif kind == "comment":
            directive += b" " if directive else b""
        elif directive:
            directive += text
        elif kind == "hash" and fresh:
            directive, start = text, token.start()
        elif kind != "space":
            fresh = False
            if kind in ("string", "raw"):
                strings_start = strings_start if strings else token.start()
                strings += text if kind == "raw" else _unescape(text[1:].removesuffix(b'"'))
                continue
            if strings:
                yield strings_start, (b"_Pragma " if previous == b"_Pragma" else b"") + strings, False
                strings = b""
            if kind == "word" and b"incbin" in text:
                yield token.start(), text, False
            if kind == "word":
                previous = text
    if directive:
        yield start, directive, True
    if strings:
        yield strings_start, strings, False


def _unescape(text: bytes) -> bytes:
    """A string's text with its escape sequences undone (C11 6.4.4.4)."""

    def one(match: re.Match[bytes]) -> bytes:
        code = match[1]
        if code[:1] == b"x" and len(code) > 1:
            return bytes([int(code[1:], 16) & 0xFF])
        if code.isdigit() and code[:1] < b"8":
            return bytes([int(code, 8) & 0xFF])
        return _SIMPLE.get(code, code)

    return _ESCAPE.sub(one, text)


def check_dependencies(deps: Sequence[str], allowed_roots: Sequence[str], cwd: str = "") -> list[Refusal]:
    """Refuses (P5-include) every file the compiler or assembler read that is not below an allowed directory.

    deps           paths from gcc -MD and as --MD, symbolic links resolved by the caller (realpath)
    allowed_roots  absolute, resolved directories (kernel tree, build tree, the compiler's own) or files
    cwd            the absolute directory relative paths are from; without it they are refused
    """
    roots = [posixpath.normpath(root) for root in allowed_roots if root.startswith("/")]
    found = []
    for dep in dict.fromkeys(deps):
        full = posixpath.normpath(posixpath.join(cwd, dep))
        full = "/" + full.lstrip("/") if full.startswith("/") else full
        if not any(full == root or full.startswith(root.rstrip("/") + "/") for root in roots):
            found.append(Refusal("P5-include", printable(dep), "the compiler read this file"))
    return found
