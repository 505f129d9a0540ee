# SPDX-License-Identifier: GPL-2.0-or-later
"""What a diff touches in a C file, from both versions of its text: changed definitions, and others affected by them.

Both versions are split into items (`csource.definitions`), which are compared by kind, name and tokens, so that a moved
definition or a changed comment is no change. A changed macro or enumerator changes every function that uses its name,
directly or through other macros. Whether a variable, a type or an export may be refused is also judged here, from the
text alone.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter, deque
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass

from kgbuild.csource.definitions import CALL, FUNCTION, MACRO, TYPE, VARIABLE, SourceItem

CHANGED, NEW, REMOVED = "changed", "new", "removed"
# Macros at top level that add to tables which are read when the kernel or a module starts.
_TABLES = (
    "EXPORT_",
    "module_param",
    "core_param",
    "__setup",
    "early_param",
    "MODULE_DEVICE_TABLE",
    "DEFINE_EVENT",
    "TRACE_EVENT",
)
# Words in a function's text that make no code: qualifiers for type checks only, and annotations for sparse.
_NO_CODE = frozenset(
    b"const __user __kernel __iomem __percpu __rcu __force __nocast __safe __must_check __maybe_unused "
    b"__always_unused __bitwise".split()
)
_INITCALLS = ("_initcall", "_init", "_exit", "_initcall_sync")


@dataclass(frozen=True)
class Change:
    """One item that differs: status CHANGED, NEW or REMOVED, the original and the patched item."""

    status: str
    orig: SourceItem | None
    patched: SourceItem | None

    @property
    def item(self) -> SourceItem:
        """The patched item, or the original one if it was removed."""
        item = self.patched or self.orig
        assert item is not None
        return item

    @property
    def kind(self) -> str:
        return self.item.kind

    @property
    def name(self) -> str:
        return self.item.name


def compare_items(orig: Sequence[SourceItem], patched: Sequence[SourceItem]) -> list[Change]:
    """Every item that differs between two texts: first in the order of the patched text, then removed items.

    Items are equal if their kind, name and tokens are, wherever they are; in functions, qualifiers that make no code
    are ignored. If several items have the same kind and name (branches of an #if that the configuration does not
    decide), those without an equal are paired in order.
    """
    common = Counter(map(_meaning, orig)) & Counter(map(_meaning, patched))
    only_orig = _without(orig, common)
    only_patched = _without(patched, common)
    waiting: dict[tuple[str, str, tuple[str, ...]], deque[SourceItem]] = {}
    for item in only_orig:
        waiting.setdefault(_key(item), deque()).append(item)
    out = []
    paired = set()
    for item in only_patched:
        candidates = waiting.get(_key(item))
        if candidates:
            orig_item = candidates.popleft()
            paired.add(id(orig_item))
            out.append(Change(CHANGED, orig_item, item))
        else:
            out.append(Change(NEW, None, item))
    return out + [Change(REMOVED, item, None) for item in only_orig if id(item) not in paired]


def _without(items: Sequence[SourceItem], common: Counter[tuple[str, str, tuple[bytes, ...]]]) -> list[SourceItem]:
    remaining = Counter(common)
    out = []
    for item in items:
        key = _meaning(item)
        if remaining[key]:
            remaining[key] -= 1
        else:
            out.append(item)
    return out


def _meaning(item: SourceItem) -> tuple[str, str, tuple[bytes, ...]]:
    tokens = item.tokens
    if item.kind == FUNCTION and not item.words.isdisjoint(_NO_CODE):
        tokens = tuple(t for t in tokens if t not in _NO_CODE)
    return item.kind, item.name, tokens


def _key(item: SourceItem) -> tuple[str, str, tuple[str, ...]]:
    # for a function made by a macro, the first argument is the name
    return item.kind, item.name, item.arguments[:1]


def spread(changes: Iterable[Change], items: Sequence[SourceItem]) -> dict[str, str]:
    """Names whose meaning changes because of changed macros and enumerators, each with its cause.

    `items` are the items of all files, of both versions; macros that use such a name pass it on.
    """
    found: dict[str, str] = {}
    for change in changes:
        if change.kind == MACRO and change.name not in found:
            found[change.name] = f"macro {change.name}"
        elif change.kind == TYPE and change.name.startswith("enum") and change.status == CHANGED:
            found.update(dict.fromkeys(_renumbered(change), change.name or "an enum"))
    macros = [item for item in items if item.kind == MACRO]
    users: dict[bytes, list[int]] = {}
    for number, macro in enumerate(macros):
        for word in macro.words:
            users.setdefault(word, []).append(number)
    latest = list(found)
    while latest:
        # for each macro, the least of the names it uses among those that were found last
        using: dict[int, bytes] = {}
        for name in sorted(name.encode() for name in latest):
            for number in users.get(name, ()):
                using.setdefault(number, name)
        causes = {macros[n].name: found[using[n].decode()] for n in sorted(using) if macros[n].name not in found}
        found.update(causes)
        latest = list(causes)
    return found


def _renumbered(change: Change) -> list[str]:
    """Enumerators of a changed enum whose value may change: all existing ones from the first difference on."""
    assert change.orig is not None and change.patched is not None
    orig, patched = (_enumerators(item.tokens) for item in (change.orig, change.patched))
    same = 0
    while same < min(len(orig), len(patched)) and orig[same] == patched[same]:
        same += 1
    return [e[0].decode("latin-1") for e in orig[same:] if e]


def _enumerators(tokens: tuple[bytes, ...]) -> list[tuple[bytes, ...]]:
    if b"{" not in tokens:
        return []
    out: list[tuple[bytes, ...]] = []
    row: list[bytes] = []
    for token in tokens[tokens.index(b"{") + 1 :]:
        if token in (b",", b"}"):
            out.append(tuple(row))
            row = []
            if token == b"}":
                break
        else:
            row.append(token)
    return [row for row in out if row]


def users_of(
    names: dict[str, str], items: Iterable[SourceItem], kinds: Container[str]
) -> Iterator[tuple[SourceItem, str]]:
    """Each item of these kinds that uses one of these names, with the cause."""
    wanted = frozenset(name.encode() for name in names)
    for item in items:
        if item.kind in kinds and (used := wanted & item.words):
            yield item, names[min(used).decode()]


def mentions(items: Iterable[SourceItem]) -> Counter[bytes]:
    """How often each word occurs in the bodies of functions and in initial values of variables."""
    out: Counter[bytes] = Counter()
    for item in items:
        if item.kind == FUNCTION:
            out.update(item.tokens[item.head :])
        elif item.kind in (VARIABLE, CALL):
            out.update(item.tokens)
    return out


def pasted(items: Iterable[SourceItem]) -> list[tuple[str, re.Pattern[str]]]:
    """For each macro that pastes names together with ##, the macro and a pattern for the names."""
    out = []
    for item in items:
        if item.kind != MACRO or b"#" not in item.tokens:
            continue
        parameters = item.tokens[3 : item.tokens.index(b")")] if b")" in item.tokens else ()
        for chain in _chains(item.tokens):
            literal = [t for t in chain if t not in parameters]
            # `, ##args` removes a comma; a name made of arguments only gives no pattern
            if any(t[:1].isalpha() for t in literal) and all(t.isalnum() or b"_" in t for t in literal):
                pattern = "".join(r"\w*" if t in parameters else re.escape(t.decode("latin-1")) for t in chain)
                out.append((item.name, re.compile(pattern)))
    return out


def _chains(tokens: tuple[bytes, ...]) -> list[list[bytes]]:
    """The groups of operands joined by ##."""
    out: list[list[bytes]] = []
    at = 0
    while at + 3 < len(tokens):
        chain = [tokens[at]]
        while tokens[at + 1 : at + 3] == (b"#", b"#") and at + 3 < len(tokens):
            at += 3
            chain.append(tokens[at])
        if len(chain) > 1:
            out.append(chain)
        at += 1
    return out


def calls_in(item: SourceItem) -> set[str]:
    """Names followed by a parenthesis in the body of a function."""
    body = item.tokens[item.head :]
    return {
        word.decode("utf-8", "replace")
        for word, following in itertools.pairwise(body)
        if following == b"(" and (word[:1].isalpha() or word[:1] == b"_")
    }


def adds_to_table(change: Change) -> bool:
    """Whether a macro call adds an entry to a table that the kernel reads at start."""
    return change.kind == CALL and (change.name.startswith(_TABLES) or change.name.endswith(_INITCALLS))
