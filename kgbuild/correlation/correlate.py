# SPDX-License-Identifier: GPL-2.0-or-later
"""Which symbol of the patched object is which symbol of the original.

Names settle most of it. gcc numbers static locals and clones separately in every compile (`__key.259`, `f.isra.3`), so
those are matched by the place of their references in functions that otherwise are the same, and clones by content.
What stays undecided is left unpaired: an unpaired clone is new on one side and gone on the other, so that its callers
count as changed; an unpaired variable is reported where it matters. Nothing is paired by its number.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field

from kgbuild.correlation.noise import differ_in_lines_only
from kgbuild.debuginfo.static_locals import LocalDeclaration, read_static_locals
from kgbuild.objects.atoms import DATA, FUNCTION, STRING, Ambiguous, Atom, Ref
from kgbuild.objects.special_entries import Entries, SpecialEntry
from kgbuild.objects.stateless import DEBUG_SECTIONS, is_stateless
from kgbuild.objects.symbol_kinds import is_anonymous, means_one, stem
from kgbuild.objects.view import View

NONE = Entries()


@dataclass(eq=False, repr=False)
class Correlation:
    """Pairs of atoms. `to_original[i]` are the original's atoms that the patched atom i is (several where bodies
    were folded), `to_patched[i]` the reverse. `lines`: whether a line number may differ by accident (see noise).
    `tables` are patched tables of labels that are no longer the original's (see labels), `doubtful` what refers to
    these."""

    orig: View
    patched: View
    lines: bool = True
    to_original: dict[int, tuple[int, ...]] = field(default_factory=dict)
    to_patched: dict[int, tuple[int, ...]] = field(default_factory=dict)
    undecided: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    tables: set[int] = field(default_factory=set)
    doubtful: set[int] = field(default_factory=set)
    # what is left unpaired because a fresh one serves as well: atoms of the original, and of the patched object
    needless: tuple[set[int], set[int]] = field(default_factory=lambda: (set(), set()))
    # atoms of the patched object that are declared to be what their names say
    affirmed: set[int] = field(default_factory=set)
    # pairs that references speak for, and what is against them (state_pairs)
    against: dict[tuple[int, int], str] = field(default_factory=dict)

    def pair(self, orig: int, patched: int) -> None:
        if orig not in self.to_original.get(patched, ()):
            self.to_original[patched] = (*self.to_original.get(patched, ()), orig)
            self.to_patched[orig] = (*self.to_patched.get(orig, ()), patched)

    def part(self, orig: int, patched: int) -> None:
        """Undo a pairing."""
        for table, key, other in ((self.to_original, patched, orig), (self.to_patched, orig, patched)):
            rest = tuple(i for i in table[key] if i != other)
            if rest:
                table[key] = rest
            else:
                del table[key]

    def paired(self, orig: int, patched: int) -> bool:
        return orig in self.to_original.get(patched, ())

    def other_names(self) -> frozenset[str]:
        """Names of data that both objects have, each for another thing."""
        return frozenset(
            name
            for atom in self.orig.data
            for name in atom.names
            for patched in self.patched.by_name.get(name, ())
            if patched.kind == DATA and not self.paired(atom.id, patched.id)
        )

    def pairs(self, kind: str) -> list[tuple[Atom, Atom]]:
        """Every pair of that kind, in the patched object's order."""
        return [
            (self.orig.atoms[orig], self.patched.atoms[patched])
            for patched in sorted(self.to_original)
            if self.patched.atoms[patched].kind == kind
            for orig in self.to_original[patched]
        ]


def correlate(
    orig: View, patched: View, orig_entries: Entries = NONE, patched_entries: Entries = NONE, lines: bool = True
) -> Correlation:
    """Pair the functions and variables of two objects of one unit; `left` and `right` are their special sections'
    entries, through which a static key may be all that a function refers to."""
    result = Correlation(orig, patched, lines)
    entries = (orig_entries, patched_entries)
    for kind in (FUNCTION, DATA):
        _pair_by_name(result, kind)
    progress = True
    while progress and result.undecided:
        progress = _pair_by_reference(result, entries) or _pair_clones_by_content(result)
    _pair_by_declaration(result)
    _drop_stateless(result)
    _part_changed_stateless(result)
    return result


def _pair_by_name(result: Correlation, kind: str) -> None:
    groups: dict[str, tuple[list[tuple[str, int]], list[tuple[str, int]]]] = {}
    for side, view in enumerate((result.orig, result.patched)):
        for atom in view.atoms:
            if atom.kind == kind:
                for name in atom.names:
                    groups.setdefault(stem(name), ([], []))[side].append((name, atom.id))
    for key, (orig_named, patched_named) in groups.items():
        single = len(orig_named) == 1 == len(patched_named)
        if kind == DATA and "." in key and not single:
            # several static locals of one name, in scopes of one function: clang gives the first no number
            ids = [tuple(sorted({i for _, i in side})) for side in (orig_named, patched_named)]
            if ids[0] and ids[1]:
                result.undecided[f"{kind} {key}"] = (ids[0], ids[1])
            continue
        orig_plain = sorted({i for n, i in orig_named if n == key})
        patched_plain = sorted({i for n, i in patched_named if n == key})
        orig_numbered = sorted({i for n, i in orig_named if n != key})
        patched_numbered = sorted({i for n, i in patched_named if n != key})
        if len(orig_plain) == 1 == len(patched_plain):
            result.pair(orig_plain[0], patched_plain[0])
        elif orig_plain and patched_plain:
            _pair_by_file(result, f"{kind} of several files {key}", orig_plain, patched_plain)
        # one clone on either side; and what ThinLTO made global has its module's hash, which is no count
        if (kind == FUNCTION or key.endswith(".llvm")) and len(orig_numbered) == 1 and len(patched_numbered) == 1:
            result.pair(orig_numbered[0], patched_numbered[0])
        elif orig_numbered and patched_numbered:
            result.undecided[f"{kind} {key}"] = (tuple(orig_numbered), tuple(patched_numbered))


def _pair_by_file(result: Correlation, group: str, orig_ids: list[int], patched_ids: list[int]) -> None:
    """Several of one plain name, in an object that was linked of others: by the source file that each is from. What
    that does not tell is undecided."""
    orig_by_file, patched_by_file = _by_file(result.orig, orig_ids), _by_file(result.patched, patched_ids)
    for file in orig_by_file.keys() & patched_by_file.keys():
        if len(orig_by_file[file]) == 1 == len(patched_by_file[file]):
            result.pair(orig_by_file[file][0], patched_by_file[file][0])
    result.undecided[group] = (tuple(orig_ids), tuple(patched_ids))
    drop_settled(result)


def _by_file(view: View, atoms: list[int]) -> dict[str, list[int]]:
    """Atoms by the file symbol that they stand behind (gABI: before the locals of that file); global ones by "", and
    none of a file whose name is there twice."""
    files = view.obj.file_symbols
    names = [view.obj.name_of(i) for i in files]
    out: dict[str, list[int]] = {}
    for i in atoms:
        atom = view.atoms[i]
        place = bisect.bisect_right(files, atom.symbols[0]) - 1 if atom.is_local else -1
        name = names[place] if place >= 0 else ""
        if names.count(name) <= 1:
            out.setdefault(name, []).append(i)
    return out


def _settle(result: Correlation, votes: dict[tuple[int, int], int]) -> bool:
    """Pair what the votes agree on: one partner on each side."""
    by_orig: dict[int, set[int]] = {}
    by_patched: dict[int, set[int]] = {}
    for orig, patched in votes:
        by_orig.setdefault(orig, set()).add(patched)
        by_patched.setdefault(patched, set()).add(orig)
    progress = False
    for orig, patched in sorted(votes):
        if (
            len(by_orig[orig]) == 1
            and len(by_patched[patched]) == 1
            and orig not in result.to_patched
            and patched not in result.to_original
        ):
            result.pair(orig, patched)
            progress = True
    drop_settled(result)
    return progress


def drop_settled(result: Correlation) -> None:
    """Take what has been paired from what is undecided."""
    for key, (orig_ids, patched_ids) in list(result.undecided.items()):
        orig_rest = tuple(i for i in orig_ids if i not in result.to_patched)
        patched_rest = tuple(i for i in patched_ids if i not in result.to_original)
        if orig_rest and patched_rest:
            result.undecided[key] = (orig_rest, patched_rest)
        else:
            del result.undecided[key]


def _pair_by_reference(result: Correlation, entries: tuple[Entries, Entries]) -> bool:
    group_of: dict[tuple[int, int], str] = {}
    matters = {k: v for k, v in result.undecided.items() if not _all_constant(result, v)}
    if not matters:
        return False
    for key, (orig_ids, patched_ids) in matters.items():
        group_of.update({(0, i): key for i in orig_ids})
        group_of.update({(1, i): key for i in patched_ids})
    votes: dict[tuple[int, int], int] = {}
    wanted = {i for orig_ids, _ in matters.values() for i in orig_ids}
    concerned, with_entries = _concerned(result.orig, wanted, entries[0])
    for kind in (FUNCTION, DATA):
        for orig, patched in result.pairs(kind):
            if orig.section not in concerned:
                continue
            try:
                by_entries = orig.section in with_entries
                orig_refs = result.orig.refs(orig)
                if not by_entries and wanted.isdisjoint([r.atom for r in orig_refs]):
                    continue
                patched_refs = result.patched.refs(patched)
                of_entries = _entry_refs(entries[0].of(orig.id), entries[1].of(patched.id)) if by_entries else []
            except Ambiguous:
                continue
            if len(orig_refs) != len(patched_refs) or not _same_code(result, orig, patched):
                continue
            alike = list(zip(orig_refs, patched_refs, strict=True)) + of_entries
            for orig_ref, patched_ref in alike:
                group = group_of.get((0, orig_ref.atom))
                if (
                    group is not None
                    and group == group_of.get((1, patched_ref.atom))
                    and (orig_ref.offset, orig_ref.delta) == (patched_ref.offset, patched_ref.delta)
                    and (not orig_ref.loose or means_one(result.orig, result.orig.atoms[orig_ref.atom]))
                    and (not patched_ref.loose or means_one(result.patched, result.patched.atoms[patched_ref.atom]))
                ):
                    votes[(orig_ref.atom, patched_ref.atom)] = votes.get((orig_ref.atom, patched_ref.atom), 0) + 1
    return _settle(result, votes)


def _concerned(view: View, atoms: set[int], entries: Entries) -> tuple[set[int], set[int]]:
    """Sections that may refer to one of some atoms, by a relocation of their own or of one of their entries; and those
    of them of which an entry may."""
    sections = view.sections_referring_to({view.atoms[i].section for i in atoms} - {-1})
    # within a section the assembler leaves no relocation
    sections |= {view.atoms[i].section for i in atoms}
    tables = {s for s in sections if s >= 0 and view.arch.special_of(view.obj.sections[s].name)}
    with_entries = entries.owner_sections(tables) if tables else set()
    return sections | with_entries, with_entries


def _same_code(result: Correlation, orig: Atom, patched: Atom) -> bool:
    """Whether the bytes of a pair are the same, but for references and line numbers."""
    if result.orig.same_masked(orig, result.patched, patched):
        return True
    return result.lines and orig.kind == FUNCTION and differ_in_lines_only(result.orig, orig, result.patched, patched)


def _entry_refs(
    orig_entries: tuple[SpecialEntry, ...], patched_entries: tuple[SpecialEntry, ...]
) -> list[tuple[Ref, Ref]]:
    """References of entries that stand at the same place of both functions."""
    places = [
        [(e.section, e.owner_offset, tuple(r.offset for r in e.refs)) for e in side]
        for side in (orig_entries, patched_entries)
    ]
    if places[0] != places[1]:
        return []
    return [
        pair
        for orig_entry, patched_entry in zip(orig_entries, patched_entries, strict=True)
        for pair in zip(orig_entry.refs, patched_entry.refs, strict=True)
    ]


def _pair_clones_by_content(result: Correlation) -> bool:
    votes: dict[tuple[int, int], int] = {}
    for key, (orig_ids, patched_ids) in result.undecided.items():
        if not key.startswith(FUNCTION):
            continue
        for orig in orig_ids:
            for patched in patched_ids:
                if _same_shape(result, orig, patched):
                    votes[(orig, patched)] = 1
    return _settle(result, votes)


def _same_shape(result: Correlation, orig_id: int, patched_id: int) -> bool:
    orig, patched = result.orig.atoms[orig_id], result.patched.atoms[patched_id]
    try:
        orig_refs, patched_refs = result.orig.refs(orig), result.patched.refs(patched)
        if len(orig_refs) != len(patched_refs) or result.orig.masked(orig) != result.patched.masked(patched):
            return False
    except Ambiguous:
        return False
    for orig_ref, patched_ref in zip(orig_refs, patched_refs, strict=True):
        orig_target, patched_target = result.orig.atoms[orig_ref.atom], result.patched.atoms[patched_ref.atom]
        if (orig_ref.offset, orig_ref.type, orig_ref.delta, orig_target.kind) != (
            patched_ref.offset,
            patched_ref.type,
            patched_ref.delta,
            patched_target.kind,
        ):
            return False
        if orig_target.kind in (FUNCTION, DATA):
            if not result.paired(orig_target.id, patched_target.id) and orig_target.id in result.to_patched:
                return False
        elif orig_target.section < 0:
            if orig_target.name != patched_target.name:
                return False
        elif result.orig.content(orig_target) != result.patched.content(patched_target):
            return False
    return True


def _pair_by_declaration(result: Correlation) -> None:
    """Static locals that no unchanged function settles: by the declaration they come from."""
    groups = {k: v for k, v in result.undecided.items() if k.startswith(DATA) and not _needless(result, v)}
    if not groups:
        return
    orig_declared = read_static_locals(
        result.orig.obj, _sections(result.orig, [i for g in groups.values() for i in g[0]])
    )
    patched_declared = read_static_locals(
        result.patched.obj, _sections(result.patched, [i for g in groups.values() for i in g[1]])
    )
    for orig_ids, patched_ids in groups.values():
        if orig_declared and patched_declared:
            for exact in (True, False):
                orig_found = _by_declaration(result.orig, orig_ids, orig_declared, result.to_patched, exact)
                patched_found = _by_declaration(
                    result.patched, patched_ids, patched_declared, result.to_original, exact
                )
                for key in sorted(orig_found.keys() & patched_found.keys()):
                    if len(orig_found[key]) == 1 and len(patched_found[key]) == 1:
                        result.pair(orig_found[key][0], patched_found[key][0])
        elif (
            len(orig_ids) == 1
            and len(patched_ids) == 1
            and _owners(result.orig, orig_ids[0]) & _owners(result.patched, patched_ids[0])
        ):
            result.pair(orig_ids[0], patched_ids[0])
    drop_settled(result)
    for group, (orig_ids, patched_ids) in list(result.undecided.items()):
        # declarations known on both sides, and none the same: these are other variables, not undecided ones
        orig_places, patched_places = (
            _known(result.orig, orig_ids, orig_declared),
            _known(result.patched, patched_ids, patched_declared),
        )
        if (
            group in groups
            and orig_places
            and patched_places
            and not {f for f, _ in orig_places} & {f for f, _ in patched_places}
        ):
            del result.undecided[group]


def _sections(view: View, atoms: list[int]) -> set[int]:
    return {view.atoms[i].section for i in atoms}


def _known(
    view: View, atoms: tuple[int, ...], declared: dict[tuple[int, int], LocalDeclaration]
) -> set[tuple[str, str]]:
    """(function, name) of each atom; empty where one of them has no declaration."""
    found = [declared.get((view.atoms[i].section, view.atoms[i].offset)) for i in atoms]
    return {(d.function, d.name) for d in found if d is not None} if None not in found else set()


def _by_declaration(
    view: View,
    atoms: tuple[int, ...],
    declared: dict[tuple[int, int], LocalDeclaration],
    settled: dict[int, tuple[int, ...]],
    exact: bool,
) -> dict[tuple[str, str, int], list[int]]:
    out: dict[tuple[str, str, int], list[int]] = {}
    for i in atoms:
        found = declared.get((view.atoms[i].section, view.atoms[i].offset))
        if found is not None and i not in settled:
            out.setdefault((found.function, found.name, found.line if exact else 0), []).append(i)
    return out


def _owners(view: View, target: int) -> set[str]:
    """Stems of the functions that refer to an atom."""
    out = set()
    for function in view.functions:
        try:
            if any(r.atom == target for r in view.refs(function)):
                out.add(stem(function.name.partition(".cold")[0]))
        except Ambiguous:
            continue
    return out


def _all_constant(result: Correlation, group: tuple[tuple[int, ...], tuple[int, ...]]) -> bool:
    """True for a group of constants, which go by their content."""
    return is_anonymous(result.orig, result.orig.atoms[group[0][0]])


def _needless(result: Correlation, group: tuple[tuple[int, ...], tuple[int, ...]]) -> bool:
    """True for a group whose pairing is no matter of correctness."""
    if _all_constant(result, group):
        return True
    return all(
        is_stateless(view, view.atoms[i])
        for view, side in zip((result.orig, result.patched), group, strict=True)
        for i in side
    )


def _drop_stateless(result: Correlation) -> None:
    """What is left of once-flags and their kind stays unpaired and is carried as new; constants go by content."""
    for key, group in list(result.undecided.items()):
        if key.startswith(DATA) and _needless(result, group):
            del result.undecided[key]
            for needless, ids in zip(result.needless, group, strict=True):
                needless.update(ids)


def _part_changed_stateless(result: Correlation) -> None:
    """A once-flag, rate limit or debug switch that begins with other values is another one. The line in a debug
    switch says nothing."""
    for orig, patched in result.pairs(DATA):
        if patched.is_local and not same_stateless(result, orig, patched) and is_stateless(result.patched, patched):
            result.part(orig.id, patched.id)


def same_stateless(result: Correlation, orig: Atom, patched: Atom) -> bool:
    """Whether a pair of such variables begins with the same values, but for the line of a debug switch."""
    described = result.patched.section_name(patched) in DEBUG_SECTIONS
    try:
        same = result.orig.same_masked(orig, result.patched, patched)
        if not same and described:
            at, bits = result.patched.arch.debug_line
            orig_data, patched_data = (
                _without_bits(result.patched, raw, at, bits)
                for raw in (result.orig.masked(orig), result.patched.masked(patched))
            )
            same = orig_data == patched_data
    except Ambiguous:
        return False
    return same and (not described or _same_texts(result, orig, patched))


def _same_texts(result: Correlation, orig: Atom, patched: Atom) -> bool:
    """Whether two descriptors of pr_debug lead to the same strings. A message with another text is another, which the
    patch module has a descriptor of its own for."""
    found = []
    for view, atom in ((result.orig, orig), (result.patched, patched)):
        try:
            meant = [(r.offset, view.atoms[r.atom], r.delta) for r in view.refs(atom)]
        except Ambiguous:
            return False
        found.append([(at, view.content(text)[max(delta, 0) :]) for at, text, delta in meant if text.kind == STRING])
    return found[0] == found[1]


def _without_bits(view: View, raw: bytes, at: int, bits: int) -> bytes:
    word = view.obj.number(raw[at : at + 4]) & ~bits
    return raw[:at] + word.to_bytes(4, view.obj.order) + raw[at + 4 :]
