# SPDX-License-Identifier: GPL-2.0-or-later
"""How much code a patch adds, counted in its text before anything compiles it.

gcc takes the square of the depth of statements that are inside each other (10,000 times `else if` take 10 s, 100,000
do not end), and more than linear time for functions. So what a patch adds of both has limits (limits.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kgbuild.csource.lexer import C_TOKEN, splice
from kgbuild.limits import ADDED_FUNCTIONS, NESTING_DEPTH

_INSIDE = frozenset((b"if", b"else", b"for", b"while", b"do", b"switch", b"?"))
_REMEDY = "split the patch, or leave generated code out of it"


@dataclass(frozen=True)
class CodeSize:
    """Functions with a body in a text, and the largest number of statements, blocks, brackets and conditional
    expressions inside each other."""

    functions: int = 0
    depth: int = 0


def measure_code(text: bytes) -> CodeSize:
    """The size of a C text, in one pass over its tokens. Directives of the preprocessor are left out, so that all
    branches of an #if count. Text that is no C gives some number."""
    spliced, _ = splice(text)
    functions = depth = deepest = 0
    fresh, directive, ended = True, False, False
    before, called = b"", False
    # for each brace that is open: statements inside each other in front of it, and brackets that were open there
    levels: list[tuple[int, int]] = []
    inside = brackets = 0
    for token in C_TOKEN.finditer(spliced):
        kind, word = token.lastgroup, token[0]
        if kind == "newline":
            fresh, directive = True, False
            continue
        if kind in ("space", "comment"):
            continue
        directive = directive or (kind == "hash" and fresh)
        fresh = False
        if directive:
            continue
        if ended and word != b"else":
            depth -= inside
            inside = 0
        ended = False
        if word in (b"(", b"["):
            brackets += 1
            depth += 1
        elif word in (b")", b"]"):
            depth -= brackets > 0
            brackets -= brackets > 0
            called = called or not (levels or brackets)
        elif word == b"{":
            functions += not levels and (called or before == b";")  # an old declaration ends with ;
            levels.append((inside, brackets))
            inside = brackets = 0
            depth += 1
        elif word == b"}" and levels:
            depth -= inside + brackets + 1
            inside, brackets = levels.pop()
            ended = not brackets
            called = called and not ended
        elif word in (b";", b"=") and not brackets:
            ended = word == b";"
            called = called and bool(levels)
        elif word in _INSIDE:
            inside += 1
            depth += 1
        deepest = max(deepest, depth)
        before = word
    return CodeSize(functions, deepest)


def check_added_code(changed: Mapping[str, tuple[bytes, bytes, int]]) -> None:
    """Raise LimitError where a patch adds more functions, or deeper nesting, than kgbuild takes.

    `changed` has for each path the original text, the patched one, and how many bytes of that are new: so few that they
    can't be too many are not looked at.
    """
    added = 0
    for path, (orig, patched, new) in changed.items():
        if new <= min(NESTING_DEPTH.most, ADDED_FUNCTIONS.most):
            continue
        size, before = measure_code(patched), measure_code(orig)
        if size.depth > before.depth:
            NESTING_DEPTH.check(size.depth, path, _REMEDY)
        added += max(0, size.functions - before.functions)
        ADDED_FUNCTIONS.check(added, path, _REMEDY)
