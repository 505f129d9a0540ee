# SPDX-License-Identifier: GPL-2.0-or-later
"""Which files patched code may read."""

from __future__ import annotations

import bisect
import posixpath
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from kgbuild.csource.lexer import C_TOKEN, splice
from kgbuild.diagnostics.refusals import Refusal
from kgbuild.shown_text import printable

# What reads a file by name, or asks whether it is there.
_INCLUDES = {b"include", b"include_next", b"import", b"embed"}


_HAS = {b"__has_include", b"__has_include_next", b"__has_include__", b"__has_include_next__", b"__has_embed"}


# A name longer than any path is none.
_NAME = re.compile(rb'\s*+(?:"(?P<quote>[^"\n]{0,4096})"|<(?P<angle>[^>\n]{0,4096})>)')
_HAS_USE = re.compile(rb"\b(__has_(?:include|embed)\w*)\s*(\(?)")
_SHOWN = 400  # bytes of code that are looked at for a message


_DIRECTIVE = re.compile(rb"(?:#|%:)\s*(\w+)(.*)", re.DOTALL)


_LINE = re.compile(rb'\s*+[0-9]++\s*+("[^"\n]{0,4096}"|)[ \t0-9]*+(?:/[/*].*)?\Z', re.DOTALL)


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


def check_includes(path: str, text: bytes, orig: bytes = b"") -> list[Refusal]:
    """Refuses (P5-include) what a patch adds that reads files outside the tree, or whose name can't be told.

    path      of the file in the tree; names in quotes are resolved from its directory
    text      the patched text, without #line directives of ours
    original  the text before: what is in it already is the kernel's own and stays allowed. Whole texts are
              compared, not added lines, because a comment taken away or a backslash added makes old lines
              into new directives.
    Names are resolved as text. What macros put together is for `check_dependencies`.
    """
    suspects = list(_find_includes(path, text))
    if not suspects:
        return []  # most files: their original need not be read
    known = Counter(fact for _, fact in _find_includes(path, orig))
    found = []
    for line, fact in suspects:
        if known[fact]:
            known[fact] -= 1
        else:
            found.append(Refusal("P5-include", f"{printable(path)}:{line}", fact))
    return found


def _find_includes(path: str, text: bytes) -> Iterator[tuple[int, str]]:
    """Each thing to refuse: its line (from 1) and what it is. In the order of the text, after what is written oddly."""
    spliced, splices = splice(text)
    lines = _LineCounter(spliced, splices)
    for odd in _ODD_HASH.finditer(spliced):
        yield lines.line_of(odd.end() - 1), "a directive is written with a digraph or trigraph"
    lines = _LineCounter(spliced, splices)
    for start, code, is_directive in _directives_and_asm(spliced):
        for fact in _judge_piece(path, code, is_directive):
            yield lines.line_of(start), fact


class _LineCounter:
    """Line numbers (from 1) of offsets that are asked for in ascending order: each byte is looked at once."""

    def __init__(self, spliced: bytes, splices: Sequence[int]) -> None:
        self._spliced, self._splices = spliced, splices
        self._at, self._newlines = 0, 0

    def line_of(self, offset: int) -> int:
        if offset < self._at:
            self._at = self._newlines = 0
        self._newlines += self._spliced.count(b"\n", self._at, offset)
        self._at = offset
        return self._newlines + bisect.bisect_right(self._splices, offset) + 1


def _judge_piece(path: str, code: bytes, is_directive: bool) -> Iterator[str]:
    """What is to be refused of one piece that `_directives_and_asm` gives."""
    directive = _DIRECTIVE.match(code)
    if directive is None or not is_directive:
        if _ASSEMBLER.search(code):
            yield f"the assembler would read a file: `{_excerpt(code)}`"
        if b"_Pragma" in code and b"dependency" in code:
            yield f"a pragma names a file: `{_excerpt(code)}`"
        return
    word, rest = directive[1], directive[2]
    if word in _INCLUDES and (fault := _judge(path, rest)):
        yield f"#{word.decode()} {fault}"
    if (word == b"line" or word.isdigit()) and (fault := _judge_line(path, word, rest)):
        yield f"{f'#{word.decode()}' if word == b'line' else f'# {word.decode()}'} {fault}"
    pragma = _PRAGMA.match(rest) if word == b"pragma" else None
    if pragma and (fault := _judge(path, pragma[1])):
        yield f"#pragma GCC dependency {fault}"
    if word == b"define" and _ASSEMBLER.search(_unescape(_JOIN.sub(b"", rest))):
        yield f"the assembler would read a file: `{_excerpt(rest)}`"
    if word == b"define" and b"_Pragma" in rest and b"dependency" in rest:
        yield f"a pragma names a file: `{_excerpt(rest)}`"
    for use in _HAS_USE.finditer(rest):
        asked = use[2] or word == b"define"  # not `#ifdef __has_include`
        if use[1] in _HAS and asked and (fault := _judge(path, rest, use.end())):
            yield f"{use[1].decode()} {fault}"


def _judge_line(path: str, word: bytes, rest: bytes) -> str:
    """What is wrong with the file that `#line NUMBER "file"` or `# NUMBER "file" FLAGS` names: messages and debugging
    information would be about it."""
    operands = _LINE.match(rest if word == b"line" else b" 1" + rest)
    if operands is None:
        return f"has operands that only the preprocessor knows: `{_excerpt(rest)}`"
    return _judge(path, operands[1]) if operands[1] else ""


def _excerpt(code: bytes, start: int = 0) -> str:
    """The beginning of a piece of code, fit for a message."""
    return printable(code[start : start + _SHOWN].strip())[:70]


def _judge(path: str, text: bytes, start: int = 0) -> str:
    """What is wrong with the file name at `start` of `text`; "" when it stays in the tree."""
    match = _NAME.match(text, start)
    if match is None:
        return f"has a name that only the preprocessor knows: `{_excerpt(text, start)}`"
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
    directive: list[bytes] = []
    strings: list[bytes] = []
    start = strings_start = 0
    fresh = True  # only blanks and comments so far on this line
    previous = b""
    for token in C_TOKEN.finditer(spliced):
        kind, text = token.lastgroup, token[0]
        if kind == "newline":
            if directive:
                yield start, b"".join(directive), True
            directive, fresh = [], True
        elif directive:
            directive.append(b" " if kind == "comment" else text)
        elif kind == "hash" and fresh:
            directive, start = [text], token.start()
        elif kind == "comment":
            continue
        elif kind != "space":
            fresh = False
            if kind in ("string", "raw"):
                strings_start = strings_start if strings else token.start()
                strings.append(text if kind == "raw" else _unescape(text[1:].removesuffix(b'"')))
                continue
            if strings:
                pragma = [b"_Pragma "] if previous == b"_Pragma" else []
                yield strings_start, b"".join([*pragma, *strings]), False
                strings = []
            if kind == "word" and b"incbin" in text:
                yield token.start(), text, False
            if kind == "word":
                previous = text
    if directive:
        yield start, b"".join(directive), True
    if strings:
        yield strings_start, b"".join(strings), False


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
