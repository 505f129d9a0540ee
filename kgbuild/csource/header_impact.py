# SPDX-License-Identifier: GPL-2.0-or-later
"""Which files a changed header can affect, judged by the names it changes. This avoids preprocessing thousands of
units.

A header is split into pieces: macros, static functions, declarations, types, and the rest. If two versions of it differ
only in the first four kinds, the difference consists of names. A unit that uses none of these names has the same
meaning as before, even if it includes the header: what is not used of these kinds does not affect the code of a
translation unit (C11 6.9, 6.10.3). Names spread, and a mention is enough:

- a piece of these kinds that mentions a changed name passes it on: its own names count as changed;
- a declaration of the name itself has no effect, and neither has `struct s;`;
- any other mention in a header affects every unit that includes that header;
- a mention anywhere else (.c, .S) affects the units that include that file.

A name does not have to appear in the text if ## pastes it together. Therefore every #define with ## is tried: whether
its literal parts fit a name, and what remains for its parameters (csource/token_pasting.py).

Comments and code excluded by an #if count as text. So too many files may be found, but never too few. What can't be
split into pieces (braces that an #if opens twice) counts as mentioned elsewhere.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from kgbuild.csource.lexer import NEWLINE, SPACE, read_tokens
from kgbuild.csource.token_pasting import Cut, Pastes, has_word, is_argument, passes_on, read_words
from kgbuild.csource.unit_declarations import is_implied, read_declaration

MACRO, FUNCTION, DECLARATION, TYPE, OTHER = "macro", "function", "declaration", "type", "other"
MAX_NAMES = 300
FEW_FILES, MANY_FILES, MOST_FILES = 20, 100, 1000

_WORD = re.compile(rb"[A-Za-z_$][\w$]*")
_OPEN, _CLOSE = frozenset(b"([{"), frozenset(b")]}")
# Words before a parenthesis that are attributes, not the declared name.
ATTRIBUTES = re.compile(
    rb"__attribute(?:__)?|__printf|__scanf|__acquires|__releases|__must_hold|__cond_lock|__cond_acquires|__aligned"
    rb"|__section|__alloc_size|__assume_aligned|__malloc|__nonnull|__no_sanitize|typeof|__typeof__|_Alignas"
)
_TYPES = frozenset(
    b"void int char short long unsigned signed bool float double u8 u16 u32 u64 s8 s16 s32 s64 ...".split()
)
_TYPE_WORDS = frozenset((b"struct", b"union", b"enum", b"typedef", b"extern"))
# Macros behind the members of a type that declare nothing.
_LAYOUT = frozenset(
    b"__packed __randomize_layout ____cacheline_aligned ____cacheline_aligned_in_smp __no_randomize_layout".split()
)
_COUNTER = b"__COUNTER__"
_KEPT = frozenset({b"used", b"__used__", b"__used", b"constructor", b"destructor"})


@dataclass(frozen=True)
class ChangedPiece:
    """A part of a header at its top level, and what it defines or declares."""

    kind: str
    names: frozenset[bytes]
    tokens: tuple[bytes, ...]


def read_pieces(text: bytes) -> list[ChangedPiece] | None:
    """Split a header into pieces, in order; None if its brackets do not match."""
    out: list[ChangedPiece] = []
    groups: list[list[bytes]] = [[]]
    for token in read_tokens(text):
        if token == NEWLINE:
            groups.append([])
        else:
            groups[-1].append(token)
    code: list[bytes] = []
    depth = 0
    branches: list[int] = []
    body = False
    for group in groups:
        words = [t for t in group if t != SPACE]
        if words[:1] in ([b"#"], [b"%:"]):
            kind = words[1] if len(words) > 1 else b""
            if kind in (b"define", b"undef") and len(words) > 2:
                out.append(ChangedPiece(MACRO, frozenset({words[2]}), tuple(group)))
                continue
            if kind.startswith(b"if"):
                branches.append(depth)
            elif kind.startswith((b"el", b"endif")):
                if not branches or branches[-1] != depth:
                    return None
                if kind == b"endif":
                    branches.pop()
            if code:
                code += [NEWLINE, *group, NEWLINE]
            else:
                out.append(ChangedPiece(OTHER, frozenset(), tuple(group)))
            continue
        for token in group:
            if token == SPACE and not code:
                continue
            code.append(token)
            if len(token) == 1 and token[0] in _OPEN:
                if token == b"{" and depth == 0:
                    body = _begins_body(code[:-1])
                depth += 1
            elif len(token) == 1 and token[0] in _CLOSE:
                depth -= 1
                if depth < 0:
                    return None
            if depth == 0 and (token == b";" or (token == b"}" and body)):
                out.append(_judge(code))
                code, body = [], False
    if depth or branches:
        return None
    if code:
        out.append(ChangedPiece(OTHER, frozenset(), tuple(code)))
    return out


def _begins_body(head: list[bytes]) -> bool:
    words = [t for t in head if t not in (SPACE, NEWLINE)]
    return words[-1:] == [b")"] and b"=" not in words


def _judge(code: list[bytes]) -> ChangedPiece:
    """Classify a piece of code; OTHER if the kind is not obvious."""
    piece = _judge_function(code)
    if piece.kind != OTHER:
        return piece
    names = _type_names([t for t in code if t not in (SPACE, NEWLINE)])
    return piece if names is None else ChangedPiece(TYPE, names, piece.tokens)


def _type_names(words: Sequence[bytes]) -> frozenset[bytes] | None:
    """What a type, an enumeration or an extern variable declares; None where macros may declare something."""
    if b"#" in words or b"%:" in words or words[-1:] != [b";"] or words[0] not in _TYPE_WORDS:
        return None
    for word, following in itertools.pairwise(words):
        called = following == b"(" and _WORD.fullmatch(word)
        if called and word not in _TYPES and not ATTRIBUTES.fullmatch(word) and word != b"sizeof":
            return None
    plain: list[bytes] = []
    index = 0
    while index < len(words):
        if words[index] == b"__aligned" and words[index + 1 : index + 2] == [b"("]:
            index = words.index(b")", index)
        elif words[index] not in _LAYOUT:
            plain.append(words[index])
        index += 1
    found = read_declaration(plain)
    return None if found is None or found.emits or found.implied else found.names


def _judge_function(code: list[bytes]) -> ChangedPiece:
    tokens = tuple(code)
    other = ChangedPiece(OTHER, frozenset(), tokens)
    words = [t for t in code if t not in (SPACE, NEWLINE)]
    is_body = words[-1] == b"}"
    head = words[: words.index(b"{")] if b"{" in words else words[:-1]
    if (b"{" in words and not is_body) or b"=" in head or b"typedef" in head or b"#" in head or b"asm" in head:
        return other
    if not is_body and len(head) == 2 and head[0] in (b"struct", b"union", b"enum"):
        return ChangedPiece(DECLARATION, frozenset(), tokens)
    names: list[bytes] = []
    depth = 0
    for index, word in enumerate(head):
        if word == b"(":
            previous = head[index - 1] if index else b""
            if depth == 0:
                if not _WORD.fullmatch(previous) or index < 2:
                    return other
                if not ATTRIBUTES.fullmatch(previous):
                    if not _are_parameters(head[index:]):
                        return other
                    names.append(previous)
            depth += 1
        elif word == b")":
            depth -= 1
        elif word == b"," and depth == 0:
            return other
    if len(names) != 1 or (is_body and (b"static" not in head or _KEPT & set(head))):
        return other
    return ChangedPiece(FUNCTION if is_body else DECLARATION, frozenset(names), tokens)


def _are_parameters(words: list[bytes]) -> bool:
    """Whether a parenthesis contains typed parameters; if not, the word before it may be a macro."""
    depth = size = 0
    known = False
    for word in words:
        depth += (word == b"(") - (word == b")")
        if depth == 0 or (depth == 1 and word == b","):
            if size < 2 and not known:
                return False
            size, known = 0, False
            if depth == 0:
                return True
        elif depth > 1 or word != b"(":
            size += 1
            known = known or word in _TYPES
    return False


def changed_names(orig: bytes, patched: bytes) -> frozenset[bytes] | None:
    """The names in which two versions of a header differ; None if they differ in more than names."""
    orig_pieces, patched_pieces = read_pieces(orig), read_pieces(patched)
    if orig_pieces is None or patched_pieces is None:
        return None
    start = 0
    while start < min(len(orig_pieces), len(patched_pieces)) and orig_pieces[start] == patched_pieces[start]:
        start += 1
    end = 0
    while (
        end < min(len(orig_pieces), len(patched_pieces)) - start and orig_pieces[-1 - end] == patched_pieces[-1 - end]
    ):
        end += 1
    if max(len(orig_pieces), len(patched_pieces)) - start - end > MAX_NAMES * 10:
        return None  # to compare so many takes the square of their number
    matcher = difflib.SequenceMatcher(
        None,
        orig_pieces[start : len(orig_pieces) - end],
        patched_pieces[start : len(patched_pieces) - end],
        autojunk=False,
    )
    names: set[bytes] = set()
    before_run = start
    for tag, orig_first, orig_last, patched_first, patched_last in matcher.get_opcodes():
        if tag == "equal":
            before_run = orig_last - orig_first
            continue
        for pieces, first, last in (
            (orig_pieces, orig_first + start, orig_last + start),
            (patched_pieces, patched_first + start, patched_last + start),
        ):
            found = _names_of_run(pieces, first, last, before_run)
            if found is None:
                return None
            names |= found
        before_run = 0
    return frozenset(names)


def changed_type_words(orig: bytes, patched: bytes) -> tuple[frozenset[bytes], frozenset[bytes]]:
    """The names of the types in which two versions of a header differ, and the words in these types: members among
    them. Both are empty where there are none, or where a header is not understood."""
    sides = [{p for p in read_pieces(text) or () if p.kind == TYPE} for text in (orig, patched)]
    changed = sides[0] ^ sides[1]
    words = {token for piece in changed for token in piece.tokens if _WORD.fullmatch(token)}
    return frozenset(name for piece in changed for name in piece.names), frozenset(words)


def _names_of_run(pieces: Sequence[ChangedPiece], first: int, last: int, room: int) -> set[bytes] | None:
    """The names that pieces[first:last] define, where only one version has these pieces; None if names do not describe
    the difference.

    An #if together with its #endif only affects the code between them. A diff may show the changed range shifted by
    some pieces (`#endif ... #if` for `#if ... #endif`): up to `room` pieces before it are common to both versions.
    """
    while not _is_balanced(pieces[first:last]):
        if first == last or not room or pieces[first - 1] != pieces[last - 1]:
            return None
        first, last, room = first - 1, last - 1, room - 1
    run = pieces[first:last]
    if any(piece.kind == OTHER and not _condition(piece) for piece in run):
        return None
    if any(is_implied(name) for piece in run if piece.kind in (FUNCTION, DECLARATION) for name in piece.names):
        return None  # no unit needs to mention it
    names = {name for piece in run for name in piece.names}
    # one more use of it changes what all uses behind it are
    return names | ({_COUNTER} if any(_COUNTER in piece.tokens for piece in run) else set())


def _condition(piece: ChangedPiece) -> bytes:
    """ "if", "else" or "endif" for a directive of that family, else b""."""
    words = [t for t in piece.tokens[:4] if t != SPACE]
    if piece.kind != OTHER or len(words) < 2 or words[0] not in (b"#", b"%:"):
        return b""
    for family, start in ((b"if", b"if"), (b"else", b"el"), (b"endif", b"endif")):
        if words[1].startswith(start):
            return family
    return b""


def _is_balanced(pieces: Sequence[ChangedPiece]) -> bool:
    depth = 0
    for piece in pieces:
        kind = _condition(piece)
        depth += (kind == b"if") - (kind == b"endif")
        if depth < 0 or (kind == b"else" and not depth):
            return False
    return not depth


@dataclass
class Spread:
    """Where changed names spread to: the files whose includers are affected, and all names that count as changed."""

    files: set[str] = field(default_factory=set)
    names: set[bytes] = field(default_factory=set)


def spread_names(
    names: Iterable[bytes],
    texts: Mapping[str, bytes],
    also: Mapping[str, bytes],
    pastes: Pastes,
    having: Callable[[bytes], Collection[str]] | None = None,
) -> Spread | None:
    """Follow changed names through the kernel's text; None if there are too many.

    texts   every file that some unit includes; only those that have a word in question are read
    also    the patched texts of the changed files
    having  finds the files of `texts` that have a word; without it, all are searched
    """
    return _SpreadSearch(texts, also, pastes, having).run(set(names))


class _SpreadSearch:
    """Follows names (`_plain`) and macros that make one of the names from given words (`_makers`)."""

    def __init__(
        self,
        texts: Mapping[str, bytes],
        also: Mapping[str, bytes],
        pastes: Pastes,
        having: Callable[[bytes], Collection[str]] | None,
    ) -> None:
        self._texts = texts
        self._also = also
        self._pastes = pastes
        self._having = having
        self._pieces: dict[tuple[str, bool], list[ChangedPiece] | None] = {}
        self._spread = Spread()
        self._seen: set[tuple[bytes, Cut]] = set()
        self._places: dict[bytes, set[str] | None] = {}

    def run(self, names: set[bytes]) -> Spread | None:
        plain, makers = names, set[tuple[bytes, Cut]]()
        while plain or makers:
            self._spread.names |= plain
            self._seen |= makers
            if len(self._spread.names) + len({macro for macro, _ in self._seen}) > MAX_NAMES:
                return None
            for name in plain:
                makers |= {m for m in self._pastes.making(name) if m not in self._seen and not self._is_rare(*m)}
            self._seen |= makers
            plain, makers = self._round(plain, makers)
            plain -= self._spread.names
            makers -= self._seen
        return self._spread

    def _is_rare(self, macro: bytes, cut: Cut) -> bool:
        """Whether some word of a cut is an argument in only a few files: then these are affected, and the macro need
        not be followed. Headers among them are included by many files, so following the macro is better, unless
        everything uses it."""
        for word in sorted(cut, key=lambda word: (-len(word), word)):  # long words are rare
            files = self._files_with(word)
            if files is None or len(files) > FEW_FILES:
                continue
            if self._pastes.is_general(macro) or not any(path.endswith(".h") for path in files):
                self._spread.files |= files
                return True
        return False

    def _files_with(self, word: bytes) -> set[str] | None:
        """The files in which a word, or a macro that expands to it, may be an argument; None if there are many."""
        if word not in self._places:
            sources = self._pastes.sources(word)
            found = self._with_any(sources, MOST_FILES)
            if found is not None and self._having is None:
                found = [place for place in found if sources & read_words(self._text(place))]
            few = found is not None and len(found) <= MANY_FILES
            self._places[word] = (
                {place[0] for place in found or () if is_argument(sources, read_tokens(self._text(place)))}
                if few
                else None
            )
        return self._places[word]

    def _text(self, place: tuple[str, bool]) -> bytes:
        path, patched = place
        return self._also[path] if patched else self._texts[path]

    def _with_any(self, words: Collection[bytes], limit: int = 0) -> list[tuple[str, bool]] | None:
        """The texts that have one of some words, as (path, whether it is the patched text); None if there are more than
        `limit`."""
        paths: Iterable[str] = self._texts
        if self._having is not None:
            paths = sorted(set[str]().union(*(self._having(word) for word in words)))
            if limit and len(paths) > limit:
                return None
        out: list[tuple[str, bool]] = []
        for place in itertools.chain(((path, False) for path in paths), ((path, True) for path in self._also)):
            if (self._having is not None and not place[1]) or any(has_word(self._text(place), w) for w in words):
                out.append(place)
                if limit and len(out) > limit:
                    return None
        return out

    def _round(self, plain: set[bytes], makers: set[tuple[bytes, Cut]]) -> tuple[set[bytes], set[tuple[bytes, Cut]]]:
        wanted = plain | {macro for macro, _ in makers}
        cuts: dict[bytes, list[Cut]] = {}
        for macro, cut in makers:
            cuts.setdefault(macro, []).append(cut)
        next_plain: set[bytes] = set()
        next_makers: set[tuple[bytes, Cut]] = set()
        for place in self._with_any(wanted) or ():
            path, _ = place
            if path in self._spread.files:
                continue
            text = self._text(place)
            found = {n for n in wanted if has_word(text, n)}
            if not found:
                continue
            own_lines = {n: cuts[n] for n in found if n in cuts}
            if not path.endswith(".h"):
                if found & plain or any(self._pastes.has(cut, text) for n in own_lines for cut in own_lines[n]):
                    self._spread.files.add(path)
                continue
            if place not in self._pieces:
                self._pieces[place] = read_pieces(text)
            if not self._follow(self._pieces[place], found & plain, own_lines, next_plain, next_makers):
                self._spread.files.add(path)
        return next_plain, next_makers

    def _follow(
        self,
        pieces: list[ChangedPiece] | None,
        plain: set[bytes],
        makers: Mapping[bytes, list[Cut]],
        next_plain: set[bytes],
        next_makers: set[tuple[bytes, Cut]],
    ) -> bool:
        """Collect the names to which pieces with a mention pass it on; False if a piece affects every includer."""
        if pieces is None:
            return False
        for piece in pieces:
            tokens = set(piece.tokens)
            mentioned = plain & tokens
            for macro in makers.keys() & tokens:
                for cut in makers[macro]:
                    remaining = self._pastes.left(cut, tokens)
                    if not remaining:
                        mentioned = mentioned | {macro}
                    elif piece.kind == MACRO and passes_on(piece.tokens, macro):
                        next_makers |= {(n, remaining) for n in piece.names}
            if not mentioned or (piece.kind == DECLARATION and mentioned <= piece.names):
                continue
            if piece.kind == OTHER:
                return False
            next_plain |= piece.names
        return True
