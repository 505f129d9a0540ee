# SPDX-License-Identifier: GPL-2.0-or-later
"""Which symbol of the patched object is which symbol of the original.

Names settle most of it. gcc numbers static locals and clones anew in every compile (`__key.259`, `f.isra.3`), so
those are matched by the place of their references in functions that otherwise are the same, and clones by content.
What stays undecided is left unpaired: an unpaired clone is new on one side and gone on the other, so that its callers
count as changed; an unpaired variable is reported where it matters. Nothing is paired by its number.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field

from kgbuild.correlation.noise import differ_in_lines_only
from kgbuild.debuginfo.static_locals import LocalDeclaration, read_static_locals
from kgbuild.elf.consts import STT
from kgbuild.objects.atoms import DATA, FUNCTION, STRING, Ambiguous, Atom, Ref
from kgbuild.objects.special_entries import Entries, SpecialEntry
from kgbuild.objects.stateless import DEBUG_SECTIONS, is_stateless
from kgbuild.objects.symbol_kinds import is_anonymous, means_one, stem
from kgbuild.objects.view import View

NONE = Entries()


@dataclass
class Correlation:
    """Pairs of atoms. `to_original[p]` are the original's atoms that patched atom p stands for (several where bodies
    were folded), `to_patched[o]` the reverse. `lines`: whether a line number may differ by accident (see noise).
    `tables` are patched tables of labels that are no longer the original's (see labels), `doubtful` what refers to
    these."""

    original: View
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

    def pair(self, o: int, p: int) -> None:
        if o not in self.to_original.get(p, ()):
            self.to_original[p] = (*self.to_original.get(p, ()), o)
            self.to_patched[o] = (*self.to_patched.get(o, ()), p)

    def part(self, o: int, p: int) -> None:
        """Undo a pairing."""
        for table, key, other in ((self.to_original, p, o), (self.to_patched, o, p)):
            left = tuple(i for i in table[key] if i != other)
            if left:
                table[key] = left
            else:
                del table[key]

    def paired(self, o: int, p: int) -> bool:
        return o in self.to_original.get(p, ())

    def other_names(self) -> frozenset[str]:
        """Names of data that both objects have, each for another thing."""
        return frozenset(
            name
            for atom in self.original.data
            for name in atom.names
            for p in self.patched.by_name.get(name, ())
            if p.kind == DATA and not self.paired(atom.id, p.id)
        )

    def pairs(self, kind: str) -> list[tuple[Atom, Atom]]:
        """Every pair of that kind, in the patched object's order."""
        return [
            (self.original.atoms[o], self.patched.atoms[p])
            for p in sorted(self.to_original)
            if self.patched.atoms[p].kind == kind
            for o in self.to_original[p]
        ]


def correlate(
    original: View, patched: View, left: Entries = NONE, right: Entries = NONE, lines: bool = True
) -> Correlation:
    """Pair the functions and variables of two objects of one unit; `left` and `right` are their special sections'
    entries, through which a static key may be all that a function refers to."""
    result = Correlation(original, patched, lines)
    entries = (left, right)
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
    for side, view in enumerate((result.original, result.patched)):
        for atom in view.atoms:
            if atom.kind == kind:
                for name in atom.names:
                    groups.setdefault(stem(name), ([], []))[side].append((name, atom.id))
    for key, (ours, theirs) in groups.items():
        single = len(ours) == 1 == len(theirs)
        if kind == DATA and "." in key and not single:
            # several static locals of one name, in scopes of one function: clang gives the first no number
            ids = [tuple(sorted({i for _, i in side})) for side in (ours, theirs)]
            if ids[0] and ids[1]:
                result.undecided[f"{kind} {key}"] = (ids[0], ids[1])
            continue
        plain_ours = sorted({i for n, i in ours if n == key})
        plain_theirs = sorted({i for n, i in theirs if n == key})
        numbered_ours = sorted({i for n, i in ours if n != key})
        numbered_theirs = sorted({i for n, i in theirs if n != key})
        if len(plain_ours) == 1 == len(plain_theirs):
            result.pair(plain_ours[0], plain_theirs[0])
        elif plain_ours and plain_theirs:
            _pair_by_file(result, f"{kind} of several files {key}", plain_ours, plain_theirs)
        # one clone on either side; and what ThinLTO made global has its module's hash, which is no count
        if (kind == FUNCTION or key.endswith(".llvm")) and len(numbered_ours) == 1 and len(numbered_theirs) == 1:
            result.pair(numbered_ours[0], numbered_theirs[0])
        elif numbered_ours and numbered_theirs:
            result.undecided[f"{kind} {key}"] = (tuple(numbered_ours), tuple(numbered_theirs))


def _pair_by_file(result: Correlation, group: str, ours: list[int], theirs: list[int]) -> None:
    """Several of one plain name, in an object that was linked of others: by the source file that each is from. What
    that does not tell is undecided."""
    left, right = _by_file(result.original, ours), _by_file(result.patched, theirs)
    for file in left.keys() & right.keys():
        if len(left[file]) == 1 == len(right[file]):
            result.pair(left[file][0], right[file][0])
    result.undecided[group] = (tuple(ours), tuple(theirs))
    drop_settled(result)


def _by_file(view: View, atoms: list[int]) -> dict[str, list[int]]:
    """Atoms by the file symbol that they stand behind (gABI: before the locals of that file); global ones by "", and
    none of a file whose name is there twice."""
    files = [i for i, kind in enumerate(view.obj.columns.kinds) if kind == STT.FILE]
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
    by_o: dict[int, set[int]] = {}
    by_p: dict[int, set[int]] = {}
    for o, p in votes:
        by_o.setdefault(o, set()).add(p)
        by_p.setdefault(p, set()).add(o)
    progress = False
    for o, p in sorted(votes):
        if len(by_o[o]) == 1 and len(by_p[p]) == 1 and o not in result.to_patched and p not in result.to_original:
            result.pair(o, p)
            progress = True
    drop_settled(result)
    return progress


def drop_settled(result: Correlation) -> None:
    """Take what has been paired from what is undecided."""
    for key, (ours, theirs) in list(result.undecided.items()):
        left_o = tuple(o for o in ours if o not in result.to_patched)
        left_p = tuple(p for p in theirs if p not in result.to_original)
        if left_o and left_p:
            result.undecided[key] = (left_o, left_p)
        else:
            del result.undecided[key]


def _pair_by_reference(result: Correlation, entries: tuple[Entries, Entries]) -> bool:
    group_of: dict[tuple[int, int], str] = {}
    matters = {k: v for k, v in result.undecided.items() if not _all_constant(result, v)}
    if not matters:
        return False
    for key, (ours, theirs) in matters.items():
        group_of.update({(0, o): key for o in ours})
        group_of.update({(1, p): key for p in theirs})
    votes: dict[tuple[int, int], int] = {}
    concerned = _concerned(result.original, [o for ours, _ in matters.values() for o in ours], entries[0])
    for kind in (FUNCTION, DATA):
        for o, p in result.pairs(kind):
            if o.section not in concerned:
                continue
            try:
                left, right = result.original.refs(o), result.patched.refs(p)
                of_entries = _entry_refs(entries[0].of(o.id), entries[1].of(p.id))
            except Ambiguous:
                continue
            if len(left) != len(right) or not _same_code(result, o, p):
                continue
            alike = list(zip(left, right, strict=True)) + of_entries
            for a, b in alike:
                group = group_of.get((0, a.atom))
                if (
                    group is not None
                    and group == group_of.get((1, b.atom))
                    and (a.offset, a.delta) == (b.offset, b.delta)
                    and (not a.loose or means_one(result.original, result.original.atoms[a.atom]))
                    and (not b.loose or means_one(result.patched, result.patched.atoms[b.atom]))
                ):
                    votes[(a.atom, b.atom)] = votes.get((a.atom, b.atom), 0) + 1
    return _settle(result, votes)


def _concerned(view: View, atoms: list[int], entries: Entries) -> set[int]:
    """Sections that may refer to one of some atoms, by a relocation of their own or of one of their entries."""
    sections = view.sections_referring_to({view.atoms[i].section for i in atoms} - {-1})
    # within a section the assembler leaves no relocation
    sections |= {view.atoms[i].section for i in atoms}
    tables = {s for s in sections if s >= 0 and view.arch.special_of(view.obj.sections[s].name)}
    if tables:
        sections |= entries.owner_sections(tables)
    return sections


def _same_code(result: Correlation, o: Atom, p: Atom) -> bool:
    """Whether the bytes of a pair are the same, but for references and line numbers."""
    if result.original.masked(o) == result.patched.masked(p):
        return True
    return result.lines and o.kind == FUNCTION and differ_in_lines_only(result.original, o, result.patched, p)


def _entry_refs(left: tuple[SpecialEntry, ...], right: tuple[SpecialEntry, ...]) -> list[tuple[Ref, Ref]]:
    """References of entries that stand at the same place of both functions."""
    places = [[(e.section, e.owner_offset, tuple(r.offset for r in e.refs)) for e in side] for side in (left, right)]
    if places[0] != places[1]:
        return []
    return [pair for x, y in zip(left, right, strict=True) for pair in zip(x.refs, y.refs, strict=True)]


def _pair_clones_by_content(result: Correlation) -> bool:
    votes: dict[tuple[int, int], int] = {}
    for key, (ours, theirs) in result.undecided.items():
        if not key.startswith(FUNCTION):
            continue
        for o in ours:
            for p in theirs:
                if _same_shape(result, o, p):
                    votes[(o, p)] = 1
    return _settle(result, votes)


def _same_shape(result: Correlation, o: int, p: int) -> bool:
    a, b = result.original.atoms[o], result.patched.atoms[p]
    try:
        left, right = result.original.refs(a), result.patched.refs(b)
        if len(left) != len(right) or result.original.masked(a) != result.patched.masked(b):
            return False
    except Ambiguous:
        return False
    for x, y in zip(left, right, strict=True):
        s, t = result.original.atoms[x.atom], result.patched.atoms[y.atom]
        if (x.offset, x.type, x.delta, s.kind) != (y.offset, y.type, y.delta, t.kind):
            return False
        if s.kind in (FUNCTION, DATA):
            if not result.paired(s.id, t.id) and s.id in result.to_patched:
                return False
        elif s.section < 0:
            if s.name != t.name:
                return False
        elif result.original.content(s) != result.patched.content(t):
            return False
    return True


def _pair_by_declaration(result: Correlation) -> None:
    """Static locals that no unchanged function settles: by the declaration they come from."""
    groups = {k: v for k, v in result.undecided.items() if k.startswith(DATA) and not _needless(result, v)}
    if not groups:
        return
    left = read_static_locals(
        result.original.obj, _sections(result.original, [o for g in groups.values() for o in g[0]])
    )
    right = read_static_locals(
        result.patched.obj, _sections(result.patched, [p for g in groups.values() for p in g[1]])
    )
    for ours, theirs in groups.values():
        if left and right:
            for exact in (True, False):
                a = _by_declaration(result.original, ours, left, result.to_patched, exact)
                b = _by_declaration(result.patched, theirs, right, result.to_original, exact)
                for key in sorted(a.keys() & b.keys()):
                    if len(a[key]) == 1 and len(b[key]) == 1:
                        result.pair(a[key][0], b[key][0])
        elif (
            len(ours) == 1
            and len(theirs) == 1
            and _owners(result.original, ours[0]) & _owners(result.patched, theirs[0])
        ):
            result.pair(ours[0], theirs[0])
    drop_settled(result)
    for group, (ours, theirs) in list(result.undecided.items()):
        # declarations known on both sides, and none the same: these are other variables, not undecided ones
        places_o, places_p = _known(result.original, ours, left), _known(result.patched, theirs, right)
        if group in groups and places_o and places_p and not {f for f, _ in places_o} & {f for f, _ in places_p}:
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
    return is_anonymous(result.original, result.original.atoms[group[0][0]])


def _needless(result: Correlation, group: tuple[tuple[int, ...], tuple[int, ...]]) -> bool:
    """True for a group whose pairing is no matter of correctness."""
    if _all_constant(result, group):
        return True
    return all(
        is_stateless(view, view.atoms[i])
        for view, side in zip((result.original, result.patched), group, strict=True)
        for i in side
    )


def _drop_stateless(result: Correlation) -> None:
    """What is left of once-flags and their kind stays unpaired and is carried anew; constants go by content."""
    for key, group in list(result.undecided.items()):
        if key.startswith(DATA) and _needless(result, group):
            del result.undecided[key]
            for left, ids in zip(result.needless, group, strict=True):
                left.update(ids)


def _part_changed_stateless(result: Correlation) -> None:
    """A once-flag, rate limit or debug switch that begins with other values is another one. The line in a debug
    switch says nothing."""
    for o, p in result.pairs(DATA):
        if p.is_local and not same_stateless(result, o, p) and is_stateless(result.patched, p):
            result.part(o.id, p.id)


def same_stateless(result: Correlation, o: Atom, p: Atom) -> bool:
    """Whether a pair of such variables begins with the same values, but for the line of a debug switch."""
    try:
        was, now = result.original.masked(o), result.patched.masked(p)
    except Ambiguous:
        return False
    if was != now and result.patched.section_name(p) in DEBUG_SECTIONS:
        at, bits = result.patched.arch.debug_line
        was, now = (_without_bits(result.patched, raw, at, bits) for raw in (was, now))
    return was == now and (result.patched.section_name(p) not in DEBUG_SECTIONS or _same_texts(result, o, p))


def _same_texts(result: Correlation, o: Atom, p: Atom) -> bool:
    """Whether two descriptors of pr_debug lead to the same strings. A message with another text is another, which the
    patch module has a descriptor of its own for."""
    found = []
    for view, atom in ((result.original, o), (result.patched, p)):
        try:
            meant = [(r.offset, view.atoms[r.atom], r.delta) for r in view.refs(atom)]
        except Ambiguous:
            return False
        found.append([(at, view.content(text)[max(delta, 0) :]) for at, text, delta in meant if text.kind == STRING])
    return found[0] == found[1]


def _without_bits(view: View, raw: bytes, at: int, bits: int) -> bytes:
    word = view.obj.number(raw[at : at + 4]) & ~bits
    return raw[:at] + word.to_bytes(4, view.obj.order) + raw[at + 4 :]
