# SPDX-License-Identifier: GPL-2.0-or-later
"""Which macros can make a name with ##, and from which arguments.

`#define page_flag(x) Page##x` makes PageLocked from page_flag(Locked), so that the name appears nowhere. For a given
name, every paste in the kernel's macros is tried: its literal parts must be in the name, and the rest for each
parameter must be a word that occurs somewhere in the kernel's text. Such a set of words is a *cut*. The paste makes the
name only if all words of a cut come together: in the arguments of one use of the macro, or in the bodies of macros that
pass their own parameters on. Arguments of ## are not expanded, but arguments that go through another macro first are;
therefore a macro whose whole body is a word counts as an occurrence of that word.

Not covered: an argument that itself results from a paste or from a macro with more than one word in its body, and a
macro that is passed to another one by its bare name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from kgbuild.csource.lexer import NEWLINE, SPACE, SPLICE

Cut = frozenset[bytes]

# KSYM_NAME_LEN is 512; no paste of the kernel has more than a dozen parts, or more than a few ways to make a name
_LONGEST_NAME, _MOST_PARTS, _MOST_WAYS = 1024, 64, 1000

_DEFINE = re.compile(rb"^[ \t]*#[ \t]*define[ \t]++(\w++)(\([^)\n]*\))?([^\n]*##[^\n]*)$", re.MULTILINE)
_ALIAS = re.compile(rb"^[ \t]*#[ \t]*define[ \t]+(\w+)[ \t]+([A-Za-z_]\w*)[ \t]*$", re.MULTILINE)
_CHAIN = re.compile(rb"(?<![\w$])[\w$]++(?:\s*+##\s*+[\w$]++)+")
_PASTE = re.compile(rb"\s*##\s*")
_COMMENT = re.compile(rb"/\*.*?(?:\*/|\Z)|//[^\n]*", re.DOTALL)
_CALLED = re.compile(rb"^[ \t]*#[ \t]*define[ \t]+(\w+)\(([^)\n]*)\)([^\n]*)", re.MULTILINE)
_ANY = re.compile(rb"[\w$]+")
_ONE = re.compile(rb"[\w$]")
_WORD = re.compile(rb"[A-Za-z_$][\w$]*")


def read_words(text: bytes) -> set[bytes]:
    """Every word of a file, except words that are only the names of macro parameters."""
    words: set[bytes] = set()

    def take(match: re.Match[bytes]) -> bytes:
        words.add(match[1])
        words.update(set(_ANY.findall(match[3])) - set(_ANY.findall(match[2])))
        return b"\n"

    if b"\\" in text:
        text = SPLICE.sub(b"", text)
    rest = _CALLED.sub(take, text) if b"define" in text else text
    words.update(_ANY.findall(rest))
    return words


def has_word(text: bytes, word: bytes) -> bool:
    """Whether a text contains a word. Faster than a regular expression, which would look at every byte."""
    at = text.find(word)
    while at >= 0:
        if not _ONE.match(text[at - 1 : at]) and not _ONE.match(text, at + len(word)):
            return True
        at = text.find(word, at + 1)
    return False


def is_argument(words: frozenset[bytes], tokens: Sequence[bytes]) -> bool:
    """Whether one of some words begins or ends an argument, or is the whole body of a macro.

    Of an argument with several tokens, ## uses the last or the first (C11 6.10.3.3).
    """
    code = [t for t in tokens if t != SPACE]
    for index, token in enumerate(code):
        if token in words:
            previous, following = code[index - 1 : index], code[index + 1 : index + 2]
            alias = following == [NEWLINE] and code[index - 2 : index - 1] == [b"define"]
            if previous in ([b"("], [b","]) or following in ([b")"], [b","]) or alias:
                return True
    return False


@dataclass(frozen=True)
class PasteChain:
    """One `a ## b ## c` of a macro: its parts, None for a parameter."""

    macro: bytes
    parts: tuple[bytes | None, ...]


def read_chains(text: bytes) -> Iterator[PasteChain]:
    """Every paste in the macros of a file."""
    if b"##" not in text:
        return
    for name, parameters, body in _DEFINE.findall(_COMMENT.sub(b" ", SPLICE.sub(b"", text))):
        known = {*_WORD.findall(parameters), b"__VA_ARGS__"}
        for chain in _CHAIN.findall(body):
            yield PasteChain(name, tuple(None if p in known else p for p in _PASTE.split(chain)))


def read_aliases(text: bytes) -> list[tuple[bytes, bytes]]:
    """Every macro of a file whose body is a single word, with that word."""
    return _ALIAS.findall(text)


class _Ways:
    """The ways in which pastes can make one name."""

    def __init__(self, name: bytes, is_word: Callable[[bytes], bool]) -> None:
        self._name = name
        self._is_word = is_word
        self._known: dict[int, list[int]] = {}

    def cuts(self, parts: tuple[bytes | None, ...]) -> list[tuple[bytes, ...]]:
        """The words that the parameters of a paste must be, for each way of making the name; numbers and nothing at all
        are no words. One way without words where there are more than _MOST_WAYS, or where name or paste are too long to
        be looked at: that finds too much rather than too little."""
        name, first, last = self._name, parts[0], parts[-1]
        if (first is not None and not name.startswith(first)) or (last is not None and not name.endswith(last)):
            return []
        if sum(len(part) for part in parts if part is not None) > len(name):
            return []
        if len(name) > _LONGEST_NAME or len(parts) > _MOST_PARTS:
            return [()]
        found = list(islice(self._complete(parts, self._fitting(parts), 0, 0), _MOST_WAYS + 1))
        return found if len(found) <= _MOST_WAYS else [()]

    def _fitting(self, parts: tuple[bytes | None, ...]) -> list[set[int]]:
        """For each part, the places in the name from which it and all parts behind it lead to the name's end."""
        out = [{len(self._name)}]
        for part in reversed(parts):
            after = out[-1]
            if part is not None:
                out.append({at - len(part) for at in after if self._name.endswith(part, 0, at)})
            else:
                out.append({at for at in range(max(after, default=-1) + 1) if not after.isdisjoint(self._ends(at))})
        return out[::-1]

    def _complete(
        self, parts: tuple[bytes | None, ...], fitting: list[set[int]], number: int, at: int
    ) -> Iterator[tuple[bytes, ...]]:
        if at not in fitting[number]:
            return
        if number == len(parts):
            yield ()
            return
        part = parts[number]
        if part is not None:
            yield from self._complete(parts, fitting, number + 1, at + len(part))
            return
        for end in self._ends(at):
            word = self._name[at:end]
            own = (word,) if word and not word.isdigit() else ()
            for words in self._complete(parts, fitting, number + 1, end):
                yield (*own, *words)

    def _ends(self, at: int) -> list[int]:
        """Where an argument that begins at a place of the name may end: it is empty, a number or a word."""
        if at not in self._known:
            pieces = ((end, self._name[at:end]) for end in range(at, len(self._name) + 1))
            self._known[at] = [end for end, word in pieces if not word or word.isdigit() or self._is_word(word)]
        return self._known[at]


class Pastes:
    """The pastes of all macros of a kernel.

    chains   of all files
    aliases  (macro, word) of all files
    is_word  whether a word occurs anywhere in the kernel's text
    """

    def __init__(
        self, chains: Iterable[PasteChain], aliases: Iterable[tuple[bytes, bytes]], is_word: Callable[[bytes], bool]
    ) -> None:
        self._is_word = is_word
        self._chains: dict[tuple[bytes | None, ...], set[bytes]] = {}
        for chain in chains:
            self._chains.setdefault(chain.parts, set()).add(chain.macro)
        self._general = set[bytes]().union(*(m for parts, m in self._chains.items() if not any(parts)))
        self._aliases: dict[bytes, set[bytes]] = {}
        for macro, word in aliases:
            self._aliases.setdefault(word, set()).add(macro)
        self._known: dict[bytes, frozenset[bytes]] = {}

    def making(self, name: bytes) -> set[tuple[bytes, Cut]]:
        """Every macro that can make `name`, with the words it needs for that: none where there are too many ways to
        look at each."""
        ways = _Ways(name, self._is_word)
        return {
            (macro, frozenset(words))
            for parts, macros in self._chains.items()
            for words in ways.cuts(parts)
            if name not in words  # an argument that contains the name is found anyway
            for macro in macros
        }

    def is_general(self, macro: bytes) -> bool:
        """Whether a macro pastes only parameters."""
        return macro in self._general

    def sources(self, word: bytes) -> frozenset[bytes]:
        """The word, and the macros that expand to it."""
        if word not in self._known:
            seen, queue = {word}, [word]
            while queue:
                more = self._aliases.get(queue.pop(), set()) - seen
                seen |= more
                queue += more
            self._known[word] = frozenset(seen)
        return self._known[word]

    def left(self, cut: Cut, tokens: set[bytes]) -> Cut:
        """The words of a cut that are not among the tokens."""
        return frozenset(word for word in cut if not self.sources(word) & tokens)

    def has(self, cut: Cut, text: bytes) -> bool:
        """Whether a text contains all words of a cut."""
        return all(any(has_word(text, source) for source in self.sources(word)) for word in cut)


def passes_on(define: Sequence[bytes], macro: bytes) -> bool:
    """Whether a #define (its tokens) passes its own parameters to a macro, or is another name for the macro."""
    words = [t for t in define if not t.isspace()]
    parameters: set[bytes] = set()
    if list(define[define.index(words[2]) + 1 :][:1]) == [b"("]:
        parameters = {*words[4 : words.index(b")")], b"__VA_ARGS__"}
    for index, word in enumerate(words):
        if word != macro or index < 3:
            continue
        if words[index + 1 : index + 2] != [b"("]:
            if index == 3 and len(words) == 4:
                return True
            continue
        depth = 0
        for argument in words[index + 1 :]:
            depth += (argument == b"(") - (argument == b")")
            if argument in parameters:
                return True
            if not depth:
                break
    return False
