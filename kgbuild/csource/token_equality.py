# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether two texts are the same to the compiler: headers as they stand, and units as preprocessed.

Two texts are the same where their tokens are. Comments, line ends and the amount of white space are no tokens; whether
there is any between two tokens counts in a header, because # makes it part of a string and `#define f (x)` is no
`#define f(x)`. Line numbers do not count: the values of __LINE__ are not what a patch is about, and
`with_line_directives` keeps them for lines that did not change.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from kgbuild.csource.lexer import NEWLINE, SPACE, read_tokens

_MACRO = (b"define", b"undef")


def same_header(before: bytes, after: bytes) -> bool:
    """Whether no unit can see a difference between two texts of one header."""
    return before == after or read_tokens(before) == read_tokens(after)


def same_active(before: bytes, after: bytes) -> tuple[bool, bool]:
    """Compare a unit's active text, as `gcc -E -fdirectives-only` prints it.

    Returns (same, same but for macros): where both are False, the code itself differs. Where only the second is True,
    #define lines differ, and full preprocessing tells whether it matters.
    """
    same = True
    for first, second in _differing(before, after):
        mine, yours = read_tokens(first), read_tokens(second)
        if mine != yours:
            same = False
            if _without_macros(mine) != _without_macros(yours):
                return False, False
    return same, True


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
    return all(_code(first) == _code(second) for first, second in _differing(before, after))


def _code(text: bytes) -> list[bytes]:
    return [t for t in read_tokens(text) if t not in (SPACE, NEWLINE)]


def _differing(before: bytes, after: bytes) -> list[tuple[bytes, bytes]]:
    """The pieces in which two texts differ. A piece is what lies between two places where a file begins or ends: no
    token and no comment is cut in two there."""
    if before == after:
        return []
    mine, yours = _pieces(before), _pieces(after)
    if len(mine) == len(yours):
        return [(m, y) for m, y in zip(mine, yours, strict=True) if m != y]
    start = _common(mine, yours)
    end = _common(mine[start:][::-1], yours[start:][::-1])
    return [(b"\n".join(mine[start : len(mine) - end]), b"\n".join(yours[start : len(yours) - end]))]


def _pieces(text: bytes) -> list[bytes]:
    """Cut a text at its line markers that enter or leave a file; the others are taken out."""
    out: list[list[bytes]] = [[]]
    for number, part in enumerate((b"\n" + text).split(b"\n# ")):
        marker, _, body = part.partition(b"\n")
        if not number or not marker[:1].isdigit():
            out[-1].append(part if not number else b"# " + part)
        elif marker.endswith(b'"'):
            out[-1].append(body)
        else:
            out.append([body])
    return [b"\n".join(p) for p in out]


def _common(before: Sequence[bytes], after: Sequence[bytes]) -> int:
    for i, (mine, yours) in enumerate(zip(before, after, strict=False)):
        if mine != yours:
            return i
    return min(len(before), len(after))
