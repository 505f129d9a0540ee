# SPDX-License-Identifier: GPL-2.0-or-later
"""`#line` directives in a patched text, so that each line that was there keeps its number."""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kgbuild.csource.lexer import C_TOKEN, splice

_CONDITIONAL = {
    b"if": "if",
    b"ifdef": "if",
    b"ifndef": "if",
    b"elif": "else",
    b"elifdef": "else",
    b"elifndef": "else",
    b"else": "else",
    b"endif": "endif",
}


@dataclass
class _LexedLines:
    """What the lexer finds. Lines are counted from 0.

    safe          the lines a directive may be put before
    conditionals  the last line of each #if, #else, #endif (and their kind) and which of the three it is
    numbers       the last line of each #line and the number it gives to the next
    """

    safe: set[int]
    conditionals: dict[int, str]
    numbers: dict[int, int]


@dataclass
class _OpenCondition:
    """An open #if: the depth of parentheses before it, those at the ends of its branches."""

    start: int
    ends: list[int]
    has_else: bool = False


def _logical_lines(spliced: bytes) -> Iterator[list[re.Match[bytes]]]:
    """The tokens of each logical line; the last of them is its newline, if it has one."""
    line: list[re.Match[bytes]] = []
    for token in C_TOKEN.finditer(spliced):
        line.append(token)
        if token.lastgroup == "newline":
            yield line
            line = []
    if line:
        yield line


def _read_layout(text: bytes) -> _LexedLines:
    """Finds where a directive can stand.

    Not inside a comment, string, directive or continued line, and not inside parentheses: a directive among
    the arguments of a macro is undefined (C11 6.10.3 p11), and which call is a macro's is not known here.
    Nor before a line that begins with "(": gcc would not see that it belongs to a macro's name before it.

    The depth of parentheses is exact unless the branches of an #if leave different ones. Then the deepest
    counts, and a "}" in the first column (the end of a function) sets it back to 0: rather a directive too
    late than one in the wrong place. A late one does no harm but for the numbers of the lines before it.
    """
    spliced, splices = splice(text)
    layout = _LexedLines({0}, {}, {})
    groups: list[_OpenCondition] = []
    depth = line = passed = 0
    unsure = False
    waiting: list[int] = []  # safe lines, unless the next token is "("
    for tokens in _logical_lines(spliced):
        code = [t for t in tokens if t.lastgroup not in ("space", "comment", "newline")]
        if code:
            if code[0].lastgroup != "open":
                layout.safe.update(waiting)
            waiting = []
        start, end = tokens[0].start(), tokens[-1].end()
        more = bisect.bisect_left(splices, end) - passed
        passed += more
        line += more + spliced.count(b"\n", start, end)
        if code and code[0].lastgroup == "hash":
            words = [t[0] for t in code[1:3]] or [b""]
            kind = _CONDITIONAL.get(words[0], "")
            if kind:
                layout.conditionals[line - 1] = kind
            elif (number := words[-1] if words[0] == b"line" else words[0]).isdigit():
                layout.numbers[line - 1] = int(number)
            depth, differs = _cross(groups, kind, depth, words[0] == b"else")
            unsure |= differs
        else:
            for token in code:
                depth += (token.lastgroup == "open") - (token.lastgroup == "close")
                if depth < 0:
                    depth, unsure = 0, True
            if unsure and spliced[start : start + 1] == b"}":
                depth, unsure = 0, False
        if depth == 0 and tokens[-1].lastgroup == "newline":
            waiting.append(line)
    layout.safe.update(waiting)
    return layout


def _cross(groups: list[_OpenCondition], kind: str, depth: int, is_else: bool) -> tuple[int, bool]:
    """The depth of parentheses after a conditional directive, and whether its branches disagree about it."""
    if kind == "if":
        groups.append(_OpenCondition(depth, []))
    elif kind == "else" and groups:
        groups[-1].ends.append(depth)
        groups[-1].has_else |= is_else
        return groups[-1].start, False
    elif kind == "endif" and groups:
        group = groups.pop()
        ends = [*group.ends, depth] + ([] if group.has_else else [group.start])
        return max(ends), min(ends) != max(ends)
    return depth, False


def with_line_directives(path: str, final: Sequence[tuple[bytes, int | None]]) -> bytes:
    """The patched source for the compiler: `#line 1 "path"`, then the text, unchanged lines numbered as
    before.

    path   the name `__FILE__` is to give: that with which the original is compiled
    final  each line of the patched text (with its line end) and its number in the original, None for added
           ones; see `Applied.final`
    A line that was added has the number after the line before it. Where a directive can't stand (see
    `_read_layout`) the next possible place is taken. A directive inside #if has no effect when that branch is
    not compiled, so one more follows each #else and #endif of it. The file's own #line directives still hold.
    """
    text = b"".join(line for line, _ in final)
    layout = _read_layout(text)
    name = re.sub(r'(["\\])', r"\\\1", path).encode("utf-8", "surrogateescape")
    mark = b"\xef\xbb\xbf" if text.startswith(b"\xef\xbb\xbf") else b""  # only allowed as a file's first bytes
    out = [mark, b'#line 1 "' + name + b'"\n']
    counter = 1  # the number the compiler gives to the next line
    shift = previous = 0  # shift: by the original's own #line directives
    forced = False
    depth = touched = 0  # open #if, and how many of them, from the outermost on, have a directive in a branch
    for i, (line, number) in enumerate(final):
        wanted = previous + 1 if number is None else number + shift
        if (forced or counter != wanted) and i in layout.safe:
            out.append(b"#line %d\n" % max(wanted, 1))
            counter, forced = wanted, False
            touched = depth
        out.append(line[len(mark) :] if i == 0 else line)
        counter, previous = counter + 1, wanted
        kind = layout.conditionals.get(i)
        if kind == "if":
            depth += 1
        elif kind == "else" and depth:
            forced |= touched == depth
        elif kind == "endif" and depth:
            forced |= touched == depth
            depth -= 1
            touched = min(touched, depth)
        elif (own := layout.numbers.get(i)) is not None:
            counter = own
            if number is not None:
                shift, previous = own - (number + 1), own - 1
    return b"".join(out)
