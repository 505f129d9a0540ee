# SPDX-License-Identifier: GPL-2.0-or-later
"""Which reference of one version of a function corresponds to which of the other: where their code is equal.

Functions whose bytes are equal but for references correspond as a whole. In functions that differ otherwise, stretches
of equal instructions do; what stands between them says nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from kgbuild.objects.atoms import Ambiguous, Atom, Ref
from kgbuild.objects.special_entries import Entries, SpecialEntry
from kgbuild.objects.view import View

_LEAST = 3  # instructions in a row that must be equal to say anything
_MOST = 4000  # instructions of a function that is compared so


class CodeSide(NamedTuple):
    """One object, and the entries of its special sections."""

    view: View
    entries: Entries


class Aligned(NamedTuple):
    """References of two functions (or pieces of data) that correspond; `whole`: nothing else of them differs."""

    whole: bool
    refs: tuple[tuple[Ref, Ref], ...]


NOTHING = Aligned(False, ())
# What a reference means, as far as both sides can say it in the same words; "" where that is what is asked for.
Meaning = Callable[[View, Ref], str]


def align(left: CodeSide, o: Atom, right: CodeSide, p: Atom, meaning: Meaning, whole: bool = False) -> Aligned:
    """What corresponds in two atoms. `meaning` names what a reference leads to, the same on both sides, or "" for what
    may be anything. `whole`: nothing where anything else differs."""
    try:
        mine, other = left.view.refs(o), right.view.refs(p)
        entries = left.entries.of(o.id), right.entries.of(p.id)
        if left.view.masked(o) == right.view.masked(p) and [r.offset for r in mine] == [r.offset for r in other]:
            refs = [*zip(mine, other, strict=True), *_of_entries(*entries, None)]
            return Aligned(True, tuple((a, b) for a, b in refs if a.delta == b.delta))
        if (
            whole
            or o.kind != p.kind
            or not left.view.section_of(o).executable
            or not right.view.section_of(p).executable
        ):
            return NOTHING
        return _by_instruction(left.view, o, mine, right.view, p, other, entries, meaning)
    except Ambiguous:
        return NOTHING


def _of_entries(
    left: tuple[SpecialEntry, ...], right: tuple[SpecialEntry, ...], place: dict[int, int] | None
) -> list[tuple[Ref, Ref]]:
    """References of entries of special sections that belong to corresponding places; `place` says where the places of
    the first are in the second, None for where they were."""
    there: dict[tuple[str, int], list[SpecialEntry]] = {}
    for e in right:
        there.setdefault((e.section, e.owner_offset), []).append(e)
    out = []
    for e in left:
        at = e.owner_offset if place is None else place.get(e.owner_offset, -1)
        found = there.get((e.section, at), [])
        if found and [r.offset for r in e.refs] == [r.offset for r in found[0].refs]:
            out += list(zip(e.refs, found.pop(0).refs, strict=True))
    return out


def _by_instruction(
    left: View,
    o: Atom,
    mine: tuple[Ref, ...],
    right: View,
    p: Atom,
    other: tuple[Ref, ...],
    entries: tuple[tuple[SpecialEntry, ...], tuple[SpecialEntry, ...]],
    meaning: Meaning,
) -> Aligned:
    import difflib  # of few patches only

    ours, theirs = _tokens(left, o, mine, meaning), _tokens(right, p, other, meaning)
    if not ours or not theirs or max(len(ours), len(theirs)) > _MOST:
        return NOTHING
    matcher = difflib.SequenceMatcher(None, [t.text for t in ours], [t.text for t in theirs], autojunk=False)
    place: dict[int, int] = {}
    refs: list[tuple[Ref, Ref]] = []
    for i, j, count in matcher.get_matching_blocks():
        if count < _LEAST:
            continue
        for a, b in zip(ours[i : i + count], theirs[j : j + count], strict=True):
            place[a.offset] = b.offset
            refs += zip(a.refs, b.refs, strict=True)
    refs += _of_entries(*entries, place)
    return Aligned(False, tuple((a, b) for a, b in refs if a.delta == b.delta))


class _Token(NamedTuple):
    offset: int
    text: tuple[object, ...]
    refs: tuple[Ref, ...]


def _tokens(view: View, atom: Atom, refs: tuple[Ref, ...], meaning: Meaning) -> list[_Token]:
    """The instructions of a function, each as what it says whatever its place is."""
    masked = view.masked(atom)
    out = []
    at = 0
    for i in view.instructions(atom):
        end = i.offset + i.length
        while at < len(refs) and refs[at].offset < i.offset:
            at += 1
        inside = []
        while at < len(refs) and refs[at].offset < end:
            inside.append(refs[at])
            at += 1
        if i.is_branch and not inside:
            text: tuple[object, ...] = (i.mnemonic,)  # how far it leads changes with what stands between
        else:
            means = tuple((r.offset - i.offset, r.delta, meaning(view, r)) for r in inside)
            text = (masked[i.offset : end], means) if not i.is_branch else (i.mnemonic, means)
        out.append(_Token(i.offset, text, tuple(inside)))
    return out
