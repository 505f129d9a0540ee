# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether two texts are the same to the compiler: headers as they stand, and units as preprocessed.

Two texts are the same where their tokens are. Comments, line ends and the amount of white space are no tokens; whether
there is any between two tokens counts in a header, because # makes it part of a string and `#define f (x)` is no
`#define f(x)`. Line numbers do not count: the values of __LINE__ are not what a patch is about, and
`with_line_directives` keeps them for lines that did not change.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence

from kgbuild.analysis.apply import C_TOKEN, splice

NEWLINE, SPACE = b"\n", b" "
_MARKER = re.compile(rb"# (\d+) \"")
_FILE_MARKER = re.compile(rb'# \d+ "(?:[^"\\]|\\.)*" [12](?: |$)')
_MACRO = (b"define", b"undef")


def read_tokens(text: bytes) -> list[bytes]:
    """The tokens of a text before preprocessing: SPACE between those that were apart, NEWLINE around each directive."""
    spliced, _ = splice(text)
    out: list[bytes] = [NEWLINE]
    fresh, directive = True, False
    for token in C_TOKEN.finditer(spliced):
        kind = token.lastgroup
        if kind == "newline":
            fresh = True
            if directive:
                _break(out)
                directive = False
            elif out[-1] not in (SPACE, NEWLINE):
                out.append(SPACE)
        elif kind in ("space", "comment"):
            if out[-1] not in (SPACE, NEWLINE):
                out.append(SPACE)
        else:
            if kind == "hash" and fresh:
                directive = True
                _break(out)
            fresh = False
            out.append(token[0])
    _break(out)
    return out


def _break(out: list[bytes]) -> None:
    if out[-1] == SPACE:
        out.pop()
    if out[-1] != NEWLINE:
        out.append(NEWLINE)


def same_header(before: bytes, after: bytes) -> bool:
    """Whether no unit can see a difference between two texts of one header."""
    return before == after or read_tokens(before) == read_tokens(after)


def same_active(before: bytes, after: bytes) -> tuple[bool, bool]:
    """Compare a unit's active text, as `gcc -E -fdirectives-only` prints it.

    Returns (same, same but for macros): where both are False, the code itself differs. Where only the second is True,
    #define lines differ, and full preprocessing tells whether it matters.
    """
    first, second = _differing(before.split(b"\n"), after.split(b"\n"), files=True)
    mine, yours = read_tokens(b"\n".join(first)), read_tokens(b"\n".join(second))
    if mine == yours:
        return True, True
    return False, _without_macros(mine) == _without_macros(yours)


def _without_macros(tokens: Sequence[bytes]) -> list[bytes]:
    out: list[bytes] = []
    for apart, group in itertools.groupby(tokens, NEWLINE.__eq__):
        line = [t for t in group if t != SPACE]
        if apart or (line[:1] == [b"#"] and line[1:2] and line[1] in _MACRO):
            continue
        out += line
    return out


def same_preprocessed(before: bytes, after: bytes) -> bool:
    """Whether two outputs of `gcc -E` have the same tokens."""
    first, second = _differing(before.split(b"\n"), after.split(b"\n"), files=False)
    if first == second:
        return True
    return _code(b"\n".join(first)) == _code(b"\n".join(second))


def _code(text: bytes) -> list[bytes]:
    return [t for t in read_tokens(text) if t not in (SPACE, NEWLINE)]


def _differing(before: list[bytes], after: list[bytes], *, files: bool) -> tuple[list[bytes], list[bytes]]:
    """What is left of two lists of lines without what is the same at both ends, line markers taken out.

    files   begin and end where one file's text begins or ends: no comment is cut in two there
    """
    if files:
        before, after = list(_file_marks(before)), list(_file_marks(after))
    else:
        before, after = list(_unmarked(before)), list(_unmarked(after))
    start = _common(before, after)
    end = _common(before[start:][::-1], after[start:][::-1])
    stop_before, stop_after = len(before) - end, len(after) - end
    if files:
        while start and before[start - 1] is not _MARK:
            start -= 1
        while stop_before < len(before) and before[stop_before] is not _MARK:
            stop_before += 1
            stop_after += 1
    return [x for x in before[start:stop_before] if x is not _MARK], [
        x for x in after[start:stop_after] if x is not _MARK
    ]


_MARK = b"#"


def _unmarked(lines: Sequence[bytes]) -> Iterator[bytes]:
    for line in lines:
        text = line.strip()
        if text and not (text[:2] == b"# " and _MARKER.match(text)):
            yield text


def _file_marks(lines: Sequence[bytes]) -> Iterator[bytes]:
    """Lines, with _MARK for a line that enters or leaves a file."""
    for line in lines:
        if line[:2] == b"# " and _MARKER.match(line):
            if _FILE_MARKER.match(line):
                yield _MARK
        elif line and not line.isspace():
            yield line


def _common(before: Sequence[bytes], after: Sequence[bytes]) -> int:
    for i, (mine, yours) in enumerate(zip(before, after, strict=False)):
        if mine != yours:
            return i
    return min(len(before), len(after))
