# SPDX-License-Identifier: GPL-2.0-or-later
"""Splits a C file into its top-level definitions without a compiler: functions, macros, types, variables, others.

Used to say what a diff touches before anything is compiled. Comments, strings and continued lines are read as in C. Of
an #if, only the branches that the kernel's configuration selects count (`Conditions`); if the configuration does not
decide, all branches count. Macros are not expanded, so what a macro defines (SYSCALL_DEFINE3, DEFINE_SHOW_ATTRIBUTE)
becomes an item with the macro's name and the words among its arguments; debugging information tells by the line number
which functions were made from it.

A definition is recognised by its shape at nesting depth 0: a parameter list, then a brace, and no `=` before it; or, in
the old style, a list of names, then their declarations, then a brace.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from kgbuild.csource.header_impact import ATTRIBUTES
from kgbuild.csource.lexer import C_TOKEN, SPLICE
from kgbuild.csource.preprocessor_conditions import Conditions

FUNCTION, MACRO, TYPE, VARIABLE, CALL, DECLARATION, INCLUDE, OTHER = (
    "function",
    "macro",
    "type",
    "variable",
    "macro call",
    "declaration",
    "include",
    "other",
)
_WORD = re.compile(rb"[A-Za-z_$][\w$]*")
_KEYWORDS = frozenset(
    b"static extern inline __inline __inline__ const volatile register auto typedef struct union enum void int char "
    b"short long unsigned signed float double _Bool bool if while for switch return sizeof do else __always_inline "
    b"noinline asmlinkage __init __exit".split()
)
_STORAGE = frozenset(b"static extern inline __inline __always_inline noinline asmlinkage".split())
_RECORDS = (b"struct", b"union", b"enum")
_OPEN, _CLOSE = frozenset((b"(", b"[", b"{")), frozenset((b")", b"]", b"}"))
_MARKS = _OPEN | _CLOSE | {b";"}  # all other tokens neither begin nor end anything
_MAX_TRIES = 30
Token = tuple[bytes, int]


@dataclass(frozen=True)
class SourceItem:
    """One definition or declaration at the top level of a file.

    kind       one of the constants above
    name       what it defines; the macro's name for a macro call, and for a function whose head is a macro call
    start, end its first and last line, from 1; comments before it do not count
    tokens     its text without comments and blanks
    head       the number of tokens before the body of a function
    arguments  the words among the arguments if the name is that of a macro
    """

    kind: str
    name: str
    start: int
    end: int
    tokens: tuple[bytes, ...] = field(repr=False)
    head: int = field(default=0, repr=False)
    arguments: tuple[str, ...] = ()

    @cached_property
    def words(self) -> frozenset[bytes]:
        """Every identifier in the item."""
        return frozenset(t for t in self.tokens if _WORD.match(t))

    @property
    def static(self) -> bool:
        return b"static" in self.tokens[: self.head or len(self.tokens)]

    @property
    def inline(self) -> bool:
        """Whether its head asks for inlining."""
        head = self.tokens[: self.head]
        return any(word in head for word in (b"inline", b"__inline", b"__inline__", b"__always_inline"))


def read_items(text: bytes, conditions: Conditions) -> list[SourceItem]:
    """Everything a file defines or declares at its top level, in order. Never raises: an item of unknown shape gets the
    kind OTHER."""
    return list(_Parser(conditions).items(_lines(text)))


def _lines(text: bytes) -> Iterator[list[tuple[str, bytes, int]]]:
    """The tokens of each logical line as (group of C_TOKEN, text, physical line from 1), without blanks and
    comments."""
    splices: list[int] = []
    pieces: list[bytes] = []
    at = length = 0
    for match in SPLICE.finditer(text):
        pieces.append(text[at : match.start()])
        length += match.start() - at
        splices.append(length)
        at = match.end()
    spliced = b"".join([*pieces, text[at:]])
    line, passed = 1, 0
    out: list[tuple[str, bytes, int]] = []
    for token in C_TOKEN.finditer(spliced):
        while passed < len(splices) and splices[passed] <= token.start():
            passed += 1
            line += 1
        kind = token.lastgroup or ""
        if kind == "newline":
            if out:
                yield out
                out = []
            line += 1
        elif kind not in ("space", "comment"):
            out.append((kind, token[0], line))
        if kind in ("comment", "raw"):
            line += token[0].count(b"\n")
    if out:
        yield out


@dataclass
class _Branch:
    """An open #if: whether the code around it counts, whether one of its branches was certainly taken, whether the
    current branch counts, and the nesting depth before it."""

    outer: bool
    taken: bool
    counts: bool
    depth: int


class _Parser:
    def __init__(self, conditions: Conditions) -> None:
        self.conditions = conditions
        self.branches: list[_Branch] = []
        self.code: list[Token] = []
        self.depth = 0
        self.body = -1  # where the body of a function begins
        self.tries = 0  # how often what is being read was looked at as a whole

    @property
    def counts(self) -> bool:
        return self.branches[-1].counts if self.branches else True

    def items(self, lines: Iterator[list[tuple[str, bytes, int]]]) -> Iterator[SourceItem]:
        for line in lines:
            if line[0][0] == "hash":
                yield from self._directive([(text, number) for _, text, number in line[1:]])
            elif self.counts:
                for _, text, number in line:
                    if text in _MARKS:
                        yield from self._token(text, number)
                    else:
                        self.code.append((text, number))
        if self.code:
            yield self._finish()

    def _directive(self, words: Sequence[Token]) -> Iterator[SourceItem]:
        name = words[0][0] if words else b""
        rest = [text for text, _ in words[1:]]
        if name in (b"if", b"ifdef", b"ifndef"):
            known = self._condition(name, rest)
            self.branches.append(_Branch(self.counts, known is True, self.counts and known is not False, self.depth))
        elif name in (b"elif", b"elifdef", b"elifndef", b"else") and self.branches:
            branch = self.branches[-1]
            known = True if name == b"else" else self._condition(name[2:], rest)
            if branch.counts:
                self.depth = branch.depth
            branch.counts = branch.outer and not branch.taken and known is not False
            branch.taken = branch.taken or known is True
        elif name == b"endif" and self.branches:
            self.branches.pop()
        elif self.counts and name in (b"define", b"undef") and rest:
            tokens = tuple(text for text, _ in words)
            yield SourceItem(MACRO, _text(rest[0]), words[0][1], words[-1][1], tokens)
        elif self.counts and name in (b"include", b"include_next", b"import"):
            yield SourceItem(
                INCLUDE, _text(b"".join(rest)), words[0][1], words[-1][1], tuple(text for text, _ in words)
            )

    def _condition(self, name: bytes, rest: Sequence[bytes]) -> bool | None:
        if name in (b"ifdef", b"ifndef", b"def", b"ndef"):
            known = self.conditions.defined(rest[0]) if rest else None
            return known if known is None or name in (b"ifdef", b"def") else not known
        return self.conditions.holds(rest)

    def _token(self, text: bytes, line: int) -> Iterator[SourceItem]:
        if text == b"}" and self.depth == 0:
            return  # closes a bracket from an #if branch that does not count
        self.code.append((text, line))
        if text in _OPEN:
            if text == b"{" and self.depth == 0 and self.body < 0 and self._may_look() and _is_function(self.code[:-1]):
                self.body = len(self.code) - 1
            self.depth += 1
        elif text in _CLOSE:
            self.depth = max(self.depth - 1, 0)
            if self.depth == 0 and text == b"}" and self.body >= 0:
                yield self._finish()
        elif text == b";" and self.depth == 0 and not (self._may_look() and _in_old_style(self.code[:-1])):
            yield self._finish()

    def _may_look(self) -> bool:
        """Whether what is being read may be looked at as a whole once more: no definition has so many braces and
        semicolons before its body that this is not enough."""
        self.tries += 1
        return self.tries <= _MAX_TRIES

    def _finish(self) -> SourceItem:
        code, body = self.code, self.body
        self.code, self.body, self.tries = [], -1, 0
        tokens = tuple(text for text, _ in code)
        kind, name, arguments = _judge(tokens, body)
        return SourceItem(kind, name, code[0][1], code[-1][1], tokens, max(body, 0), arguments)


def _outer(tokens: Sequence[bytes]) -> Iterator[tuple[int, bytes]]:
    """(index, token) of every token at depth 0: opening brackets are included, their contents and ends are not."""
    depth = 0
    for index, token in enumerate(tokens):
        if token in _CLOSE:
            depth -= 1
        elif depth == 0:
            yield index, token
        if token in _OPEN:
            depth += 1


def _candidates(tokens: Sequence[bytes]) -> list[tuple[int, bytes]]:
    """Words at depth 0 that are followed by a parenthesis, except attributes."""
    outer = list(_outer(tokens))
    out = []
    for (index, word), (next_index, following) in itertools.pairwise(outer):
        if following == b"(" and next_index == index + 1 and _may_be_name(word):
            out.append((index, word))
    return out


def _may_be_name(word: bytes) -> bool:
    return bool(_WORD.fullmatch(word)) and word not in _KEYWORDS and not ATTRIBUTES.fullmatch(word)


def _name_of_function(tokens: Sequence[bytes]) -> tuple[int, bytes]:
    """Index and text of the word in a function's head that is its name: the first with a type before it, else one in
    parentheses (a function that returns a function pointer), else the first; (-1, b"") if there is none."""
    found = _candidates(tokens)
    for index, word in found:
        if (
            index
            and (_WORD.fullmatch(tokens[index - 1]) or tokens[index - 1] == b"*")
            and not _STORAGE.issuperset(tokens[:index])
        ):
            return index, word
    if not found:
        for index, word in enumerate(tokens[:-1]):
            if tokens[index + 1] == b"(" and _may_be_name(word):
                return index, word
    return found[0] if found else (-1, b"")


def _is_function(code: Sequence[Token]) -> bool:
    """Whether a brace after these tokens begins the body of a function."""
    tokens = [text for text, _ in code]
    outer = [token for _, token in _outer(tokens)]
    if b"=" in outer or b"typedef" in outer:
        return False
    record = next((w for w in outer if w not in _KEYWORDS or w in _RECORDS), b"") in _RECORDS
    found = _candidates(tokens)
    if record and not (found and b")" in tokens[found[0][0] :]):
        return False
    return _name_of_function(tokens)[0] >= 0


def _in_old_style(code: Sequence[Token]) -> bool:
    """Whether a semicolon after these tokens is among the declarations of parameters: int f(a, b) int a; char b; {"""
    tokens = [text for text, _ in code]
    at, _ = _name_of_function(tokens)
    if at < 1 or (not _WORD.fullmatch(tokens[at - 1]) and tokens[at - 1] != b"*"):
        return False
    try:
        close = tokens.index(b")", at)
    except ValueError:
        return False
    names = tokens[at + 2 : close : 2]
    if not names or not all(_WORD.fullmatch(n) and n not in _KEYWORDS for n in names):
        return False
    if any(t != b"," for t in tokens[at + 3 : close : 2]):
        return False
    declarations = tokens[close + 1 :]
    last = next((t for t in reversed(declarations) if _WORD.fullmatch(t)), b"")
    return len(declarations) > 1 and last in names and bool(_WORD.fullmatch(declarations[0]))


def _judge(tokens: tuple[bytes, ...], body: int) -> tuple[str, str, tuple[str, ...]]:
    """Kind, name and arguments of a complete item."""
    if body >= 0:
        at, name = _name_of_function(tokens[:body])
        return FUNCTION, _text(name), _arguments(tokens, at) if at == 0 else ()
    outer = list(_outer(tokens))
    flat = [token for _, token in outer]
    words = [w for w in flat if _WORD.fullmatch(w)]
    equals = flat.index(b"=") if b"=" in flat else len(flat)
    first = next((w for w in words if w not in _KEYWORDS or w in _RECORDS), b"")
    if b"typedef" in flat:
        pointer = [tokens[i + 2] for i in range(len(tokens) - 2) if tokens[i : i + 2] == (b"(", b"*")]
        named = words[-1:] if words[-1:] and words[-1] not in _KEYWORDS else pointer[:1]
        return TYPE, _text(b"".join(named)), ()
    if first in _RECORDS and b"{" in flat[:equals]:
        brace = flat.index(b"{")
        tags = [w for w in flat[flat.index(first) + 1 : brace] if _WORD.fullmatch(w) and not ATTRIBUTES.fullmatch(w)]
        declarators = [w for w in flat[brace + 1 : equals] if _WORD.fullmatch(w) and not ATTRIBUTES.fullmatch(w)]
        if equals < len(flat) and declarators:
            return VARIABLE, _text(declarators[0]), ()
        return TYPE, _text(first + b" " + tags[-1]) if tags else "", ()
    found = _candidates(tokens)
    if equals == len(flat) and found:
        at, name = found[0]
        if not [w for w in words[: words.index(name)] if w not in (b"static", b"extern", b"const")]:
            return CALL, _text(name), _arguments(tokens, at)
        return DECLARATION, _text(name), ()
    if b"extern" in flat and equals == len(flat):
        return DECLARATION, _text(words[-1]) if words else "", ()
    if found and found[0][0] <= 1 and equals < len(flat):
        return VARIABLE, _text(_last_argument(tokens, found[0][0])), ()
    if first in _RECORDS and len(words) <= 2:
        return DECLARATION, _text(b" ".join(words)), ()
    named = [w for w in flat[:equals] if _WORD.fullmatch(w) and not ATTRIBUTES.fullmatch(w)]
    return (VARIABLE if len(named) > 1 else OTHER), _text(_declared(flat[:equals], named)), ()


def _declared(flat: Sequence[bytes], named: Sequence[bytes]) -> bytes:
    """The name of a variable: for an array the word before the bracket, else the last word before attributes."""
    if b"[" in flat and flat.index(b"["):
        previous = flat[flat.index(b"[") - 1]
        if _WORD.fullmatch(previous):
            return previous
    plain = [w for w in named if not w.startswith(b"__")]
    return plain[-1] if plain else named[-1] if named else b""


def _arguments(tokens: Sequence[bytes], at: int) -> tuple[str, ...]:
    out: dict[str, None] = {}
    depth = 0
    for token in tokens[at + 1 :]:
        depth += (token in _OPEN) - (token in _CLOSE)
        if depth == 0:
            break
        if _WORD.fullmatch(token):
            out[_text(token)] = None
    return tuple(out)


def _last_argument(tokens: Sequence[bytes], at: int) -> bytes:
    words = _arguments(tokens, at)
    return words[-1].encode() if words else b""


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
