# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether two texts are the same to the compiler: headers as written, and units as preprocessed.

Two texts are the same if their tokens are. Comments, line ends and the amount of white space do not matter. Whether
there is white space between two tokens matters in a header, because # makes it part of a string, and `#define f (x)`
differs from `#define f(x)`. Line numbers do not matter: a patch is not meant to change __LINE__, and
`with_line_directives` keeps the numbers of unchanged lines.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from kgbuild.csource.lexer import NEWLINE, SPACE, read_tokens

_MACRO = (b"define", b"undef")


def same_header(orig: bytes, patched: bytes) -> bool:
    """Whether two versions of a header are the same to every unit."""
    return orig == patched or read_tokens(orig) == read_tokens(patched)


def same_active(orig: bytes, patched: bytes) -> tuple[bool, bool]:
    """Compare a unit's active text, as `gcc -E -fdirectives-only` prints it.

    Returns (same, same except for macros). If both are False, the code itself differs. If only the second is True,
    #define lines differ, and full preprocessing tells whether it matters.
    """
    same = True
    for orig_piece, patched_piece in _differing(orig, patched):
        orig_tokens, patched_tokens = read_tokens(orig_piece), read_tokens(patched_piece)
        if orig_tokens != patched_tokens:
            same = False
            if _without_macros(orig_tokens) != _without_macros(patched_tokens):
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


def same_preprocessed(orig: bytes, patched: bytes) -> bool:
    """Whether two outputs of `gcc -E` have the same tokens."""
    return all(_code(orig_piece) == _code(patched_piece) for orig_piece, patched_piece in _differing(orig, patched))


def _code(text: bytes) -> list[bytes]:
    return [t for t in read_tokens(text) if t not in (SPACE, NEWLINE)]


def _differing(orig: bytes, patched: bytes) -> list[tuple[bytes, bytes]]:
    """The pieces in which two texts differ. Texts are split where an included file begins or ends; no token and no
    comment crosses such a place."""
    if orig == patched:
        return []
    orig_pieces, patched_pieces = _pieces(orig), _pieces(patched)
    if len(orig_pieces) == len(patched_pieces):
        return [
            (orig_piece, patched_piece)
            for orig_piece, patched_piece in zip(orig_pieces, patched_pieces, strict=True)
            if orig_piece != patched_piece
        ]
    start = _common(orig_pieces, patched_pieces)
    end = _common(orig_pieces[start:][::-1], patched_pieces[start:][::-1])
    return [
        (
            b"\n".join(orig_pieces[start : len(orig_pieces) - end]),
            b"\n".join(patched_pieces[start : len(patched_pieces) - end]),
        )
    ]


def _pieces(text: bytes) -> list[bytes]:
    """Split a text at the line markers that enter or leave a file; the other line markers are removed."""
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


def _common(orig: Sequence[bytes], patched: Sequence[bytes]) -> int:
    for index, (orig_piece, patched_piece) in enumerate(zip(orig, patched, strict=False)):
        if orig_piece != patched_piece:
            return index
    return min(len(orig), len(patched))
