# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether the compiler can make something else of a unit, judged by two versions of its preprocessed text.

What a compiler emits for a unit depends on the declarations that emit something and, transitively, on what their tokens
name (smart recompilation: Tichy, "Smart Recompilation", 1986). A declaration that was added, removed, changed or moved
changes the names that it declares. A declaration that mentions a changed name and emits nothing itself passes the
change on to its own names. If a declaration that emits something is reached, or one that is not understood, the answer
is yes.

Names have one name space here: a member that is called like a changed function counts as a mention. A function that gcc
may call by itself (memcpy) can be reached without a mention; a change of its declaration always counts.

A tag that is mentioned outside of parameters (`struct s;`) is declared there if nothing before it declares it. That
matters only to declarations behind it that mention the tag in their parameters before the next declaration of it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from enum import Enum

from kgbuild.csource.unit_declarations import UnitText, code_of

# Following more names than this is given up: nearly everything is reached then.
MAX_NAMES = 1000

# Of more pieces than this, blanks between tokens count, which is never wrong and takes less time.
FEW_PIECES = 1000

_FORWARD = re.compile(rb"(?:struct|union)\s+\w+\s*;")

# What the kernel's macros make with __COUNTER__: names that occur nowhere else, and numbers of labels.
_COUNTED = re.compile(
    rb"\b(__UNIQUE_ID_\w*?|__compiletime_assert_|__BTF_ID__\w+?__)(\d+)(?!\w)|(__initcall__\w+?__)(\d+)(?=_\d)"
    rb'|("%c0:\\n\\t"\s*"\.pushsection \.discard\.[^()]*?:\s*:\s*"i"\s*\(\s*)(\d+)'
)


class UnitEffect(Enum):
    """What a change means to a unit: nothing; nothing, if the unit compiles at all, since two declarations have the
    same name; or that something else may be made of it."""

    NONE = "none"
    CLASH = "clash"
    MAY_CHANGE = "may change"


def may_emit_other(orig: bytes, patched: bytes) -> bool:
    """Whether a unit may compile to something else, for two outputs of `gcc -E`; True in every case of doubt."""
    return read_effect(orig, patched) is UnitEffect.MAY_CHANGE


def read_effect(orig: bytes, patched: bytes) -> UnitEffect:
    """What the difference of two outputs of `gcc -E` means to the unit; MAY_CHANGE in every case of doubt."""
    try:
        orig_side = UnitText(orig)
        sides = orig_side, UnitText(patched, orig_side)
    except ValueError:
        return UnitEffect.MAY_CHANGE
    changed = _changed(*sides)
    if any(_reaches(side, numbers, other) for side, numbers, other in _both(sides, changed)):
        return UnitEffect.MAY_CHANGE
    return UnitEffect.CLASH if _clashes(sides[1], changed[1]) else UnitEffect.NONE


def _clashes(side: UnitText, changed: Sequence[int]) -> bool:
    """Whether a changed declaration declares a name that another declaration of the unit declares as well."""
    own = set(changed)
    for number in changed:
        found = side.judge(number)
        for name in found.names if found is not None else ():
            for other in side.mentions(name):
                if other in own:
                    continue
                judged = side.judge(other)
                if judged is None or name in judged.names:
                    return True
    return False


def _both(
    sides: tuple[UnitText, UnitText], changed: tuple[list[int], list[int]]
) -> tuple[tuple[UnitText, list[int], set[bytes] | None], ...]:
    """Each side with its changed declarations and the names of all changes of both sides; None if unknown."""
    names: set[bytes] | None = set()
    for side, numbers in zip(sides, changed, strict=True):
        found = _names(side, numbers)
        names = None if found is None or names is None else names | found
    return tuple((side, numbers, names) for side, numbers in zip(sides, changed, strict=True))


def _changed(orig: UnitText, patched: UnitText) -> tuple[list[int], list[int]]:
    """The numbers of the declarations of each side that the other one does not have at the same place in the order."""
    start = 0
    shorter = min(len(orig), len(patched))
    while start < shorter and orig.piece(start) == patched.piece(start):
        start += 1
    end = 0
    while end < shorter - start and orig.piece(len(orig) - 1 - end) == patched.piece(len(patched) - 1 - end):
        end += 1
    forward = {orig.piece(n).strip() for n in range(start)}
    orig_texts = [_renumbered(orig.piece(n).strip()) for n in range(start, len(orig) - end)]
    patched_texts = [_renumbered(patched.piece(n).strip()) for n in range(start, len(patched) - end)]
    alike = set(orig_texts) & set(patched_texts)
    orig_keys = list(_keys(orig_texts, forward, alike))
    patched_keys = list(_keys(patched_texts, forward, alike))
    orig_count, patched_count = Counter(orig_keys), Counter(patched_keys)
    both = {key for key, count in orig_count.items() if patched_count[key] == count}
    orig_kept = [n for n, key in enumerate(orig_keys) if key in both]
    patched_kept = [n for n, key in enumerate(patched_keys) if key in both]
    first, last = _moved([orig_keys[n] for n in orig_kept], [patched_keys[n] for n in patched_kept])
    orig_same = {*orig_kept[:first], *orig_kept[last:]}
    patched_same = {*patched_kept[:first], *patched_kept[last:]}
    return (
        [start + n for n, key in enumerate(orig_keys) if n not in orig_same and key],
        [start + n for n, key in enumerate(patched_keys) if n not in patched_same and key],
    )


def _moved(orig: Sequence[object], patched: Sequence[object]) -> tuple[int, int]:
    """The range in which two orders of the same things differ."""
    first, last = 0, len(orig)
    while first < last and orig[first] == patched[first]:
        first += 1
    while last > first and orig[last - 1] == patched[last - 1]:
        last -= 1
    return first, last


def _keys(pieces: Sequence[bytes], before: Collection[bytes], alike: Collection[bytes]) -> Iterator[tuple[bytes, ...]]:
    """What is equal for equal declarations, for some of one side. `struct s;` is empty where one of the pieces before
    it is the same. `alike` are texts that both sides have."""
    seen: set[bytes] = set()
    exact = len(pieces) <= FEW_PIECES
    for piece in pieces:
        again = _FORWARD.fullmatch(piece) and (piece in before or piece in seen)
        seen.add(piece)
        if again or piece in (b"", b";"):
            yield ()
        elif piece in alike:
            yield (piece,)  # both sides have it as it is: its tokens need not be read
        else:
            yield _key(piece, exact)


def _renumbered(piece: bytes) -> bytes:
    """A declaration in which the numbers that __COUNTER__ gave count from 0, since one more use of it in a header
    shifts all others."""
    if b"__UNIQUE_ID_" in piece or b"__compiletime_assert_" in piece or b"%c0:" in piece or b"__initcall__" in piece:
        known: dict[bytes, int] = {}

        def renumber(match: re.Match[bytes]) -> bytes:
            stem, number = match[1] or match[3] or match[5], match[2] or match[4] or match[6]
            return stem + b"#%d#" % known.setdefault(number, len(known))

        return _COUNTED.sub(renumber, piece)
    return piece


def _key(piece: bytes, exact: bool) -> tuple[bytes, ...]:
    """What is equal for pieces with the same tokens; empty for an empty declaration."""
    plain = not exact and b'"' not in piece and b"'" not in piece
    tokens = tuple(piece.split()) if plain else code_of(piece)
    return () if tokens in ((), (b";",)) else tokens


def _names(side: UnitText, numbers: Sequence[int]) -> set[bytes] | None:
    """The names that changed declarations change; None if one emits something or is not understood."""
    names: set[bytes] = set()
    own = set(numbers)
    for number in numbers:
        found = side.judge(number)
        if found is None or found.emits or found.implied:
            return None
        names |= found.names
        names |= {tag for tag in found.tags if _declares(side, number, tag, own)}
    return names


def _declares(side: UnitText, number: int, tag: bytes, changed: set[int]) -> bool:
    """Whether the mention of a tag in a changed declaration may matter to a declaration that is not changed."""
    pattern = re.compile(rb"(?:struct|union|enum)\s+" + re.escape(tag) + rb"\s*[;{]")
    places = [n for n in side.mentions(tag) if n not in changed]
    if any(n < number and pattern.match(side.piece(n).lstrip()) for n in places):
        return False
    following = next((n for n in places if n > number), None)
    return following is not None and not pattern.match(side.piece(following).lstrip())


def _reaches(side: UnitText, numbers: Sequence[int], names: set[bytes] | None) -> bool:
    """Whether an emitting declaration of one side is reached from changed names."""
    if names is None:
        return True
    seen, queue = set(names), list(names)
    passed = set(numbers)
    while queue:
        for number in side.mentions(queue.pop()):
            if number in passed:
                continue
            passed.add(number)
            found = side.judge(number)
            if found is None or found.emits or found.implied:
                return True
            more = found.names - seen
            seen |= more
            queue += more
        if len(seen) > MAX_NAMES:
            return True
    return False
