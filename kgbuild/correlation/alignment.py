# SPDX-License-Identifier: GPL-2.0-or-later
"""Which reference of one version of a function corresponds to which of the other: where their code is equal.

Functions whose bytes are equal but for references correspond as a whole. In functions that differ otherwise, stretches
of equal instructions do; what stands between them says nothing.
"""

from __future__ import annotations

from collections import deque
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
MeaningOf = Callable[[View, Ref], str]


def align(
    orig_side: CodeSide, orig: Atom, patched_side: CodeSide, patched: Atom, meaning: MeaningOf, whole: bool = False
) -> Aligned:
    """What corresponds in two atoms. `meaning` names what a reference leads to, the same on both sides, or "" for what
    may be anything. `whole`: nothing where anything else differs."""
    try:
        orig_refs, patched_refs = orig_side.view.refs(orig), patched_side.view.refs(patched)
        entries = orig_side.entries.of(orig.id), patched_side.entries.of(patched.id)
        if orig_side.view.masked(orig) == patched_side.view.masked(patched) and [r.offset for r in orig_refs] == [
            r.offset for r in patched_refs
        ]:
            refs = [*zip(orig_refs, patched_refs, strict=True), *_of_entries(*entries, None)]
            return Aligned(
                True,
                tuple((orig_ref, patched_ref) for orig_ref, patched_ref in refs if orig_ref.delta == patched_ref.delta),
            )
        if (
            whole
            or orig.kind != patched.kind
            or not orig_side.view.section_of(orig).executable
            or not patched_side.view.section_of(patched).executable
        ):
            return NOTHING
        return _by_instruction(
            orig_side.view, orig, orig_refs, patched_side.view, patched, patched_refs, entries, meaning
        )
    except Ambiguous:
        return NOTHING


def _of_entries(
    orig_entries: tuple[SpecialEntry, ...], patched_entries: tuple[SpecialEntry, ...], places: dict[int, int] | None
) -> list[tuple[Ref, Ref]]:
    """References of entries of special sections that belong to corresponding places; `places` says where the places of
    the original are in the patched one, None for where they were."""
    there: dict[tuple[str, int], deque[SpecialEntry]] = {}
    for entry in patched_entries:
        there.setdefault((entry.section, entry.owner_offset), deque()).append(entry)
    out = []
    for entry in orig_entries:
        at = entry.owner_offset if places is None else places.get(entry.owner_offset, -1)
        found = there.get((entry.section, at))
        if found and [r.offset for r in entry.refs] == [r.offset for r in found[0].refs]:
            out += list(zip(entry.refs, found.popleft().refs, strict=True))
    return out


def _by_instruction(
    orig_view: View,
    orig: Atom,
    orig_refs: tuple[Ref, ...],
    patched_view: View,
    patched: Atom,
    patched_refs: tuple[Ref, ...],
    entries: tuple[tuple[SpecialEntry, ...], tuple[SpecialEntry, ...]],
    meaning: MeaningOf,
) -> Aligned:
    import difflib  # of few patches only

    orig_tokens, patched_tokens = (
        _tokens(orig_view, orig, orig_refs, meaning),
        _tokens(patched_view, patched, patched_refs, meaning),
    )
    if not orig_tokens or not patched_tokens or max(len(orig_tokens), len(patched_tokens)) > _MOST:
        return NOTHING
    matcher = difflib.SequenceMatcher(
        None, [t.text for t in orig_tokens], [t.text for t in patched_tokens], autojunk=False
    )
    places: dict[int, int] = {}
    refs: list[tuple[Ref, Ref]] = []
    for i, j, count in matcher.get_matching_blocks():
        if count < _LEAST:
            continue
        for orig_token, patched_token in zip(orig_tokens[i : i + count], patched_tokens[j : j + count], strict=True):
            places[orig_token.offset] = patched_token.offset
            refs += zip(orig_token.refs, patched_token.refs, strict=True)
    refs += _of_entries(*entries, places)
    return Aligned(
        False, tuple((orig_ref, patched_ref) for orig_ref, patched_ref in refs if orig_ref.delta == patched_ref.delta)
    )


class _Token(NamedTuple):
    offset: int
    text: tuple[object, ...]
    refs: tuple[Ref, ...]


def _tokens(view: View, atom: Atom, refs: tuple[Ref, ...], meaning: MeaningOf) -> list[_Token]:
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
