# SPDX-License-Identifier: GPL-2.0-or-later
"""Variables of the running kernel that go on under another name, within one unit.

A patch may rename a variable, move it between file and function, or give it a name that another had. The running
kernel has one variable, with all that happened since boot, and patched code must use that one. Names can't say it; the
code does: where functions are equal but for what they refer to, each reference of the original corresponds to one of
the patched object. A pair is made only where all of them agree, in both directions, and where type, size, kind of
memory and initial bytes are equal.

Where both objects have a variable of that name, its name says that it is the same. Against that only a proof counts:
that every reference to it leads to the other variable, so that the patched source is the original with other names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from kgbuild.correlation.alignment import Aligned, CodeSide, Meaning, align
from kgbuild.correlation.correlate import Correlation, drop_settled
from kgbuild.correlation.registration_tables import is_registration
from kgbuild.elf.consts import SHT
from kgbuild.objects.atoms import DATA, FUNCTION, STRING, Ambiguous, Atom, Ref
from kgbuild.objects.stateless import DEBUG_SECTIONS
from kgbuild.objects.symbol_kinds import INIT_SECTIONS, stem, variable
from kgbuild.objects.variable_shapes import still_declared, was_declared
from kgbuild.objects.variable_types import variable_difference
from kgbuild.objects.view import View

RECORDS = ".kgbuild."
_NOT_STATE = (*INIT_SECTIONS, *DEBUG_SECTIONS, RECORDS, "__bug", ".discard", ".modinfo", ".note", "__ksymtab")
_LONG = 48  # bytes of code that are not equal by chance
STATIC_CALL, TRAMPOLINE = "__SCK__", "__SCT__"


class Renamed(NamedTuple):
    """A variable that goes on under another name: atoms of the original and the patched object, and how that is
    known."""

    original: int
    patched: int
    how: str


class InDoubt(NamedTuple):
    """Variables whose names say one thing and whose references another."""

    original: int
    patched: int
    fact: str


def is_state(view: View, atom: Atom) -> bool:
    """Whether an atom is a variable that code may write while the kernel runs."""
    if atom.kind != DATA or atom.section < 0 or view.is_const(atom) or not atom.size:
        return False
    name = view.section_name(atom)
    return not name.startswith(_NOT_STATE) and not is_registration(name)


def memory_of(view: View, atom: Atom) -> tuple[bool, str]:
    """The kind of memory that a variable is in: whether it begins with zeros that no file holds, and the name of the
    kind where it is a special one (.data..percpu, .data..ro_after_init)."""
    section = view.section_of(atom)
    name = section.name
    special = "" if name.startswith((".data.", ".bss.")) and not name.startswith((".data..", ".bss..")) else name
    if special in (".data", ".bss"):
        special = ""
    if special.startswith((".data..", ".bss..")):
        # -fdata-sections puts the variable's name behind the kind of some of them
        special = ".".join(special.split(".")[:4])
    return section.type == SHT.NOBITS, special


def kind_of_memory(view: View, atom: Atom) -> str:
    """The same in words."""
    bss, special = memory_of(view, atom)
    return special or (".bss" if bss else ".data")


def source_name(atom: Atom) -> str:
    """What a variable is called in the source."""
    return variable(atom.name) or stem(atom.name)


def difference(o_view: View, o: Atom, p_view: View, p: Atom) -> str:
    """Why two variables are not the same kind of thing, "" where they are: type, size, kind of memory. Initial values
    are another question."""
    if o.size != p.size:
        return f"{o.size} and {p.size} bytes"
    was, now = kind_of_memory(o_view, o), kind_of_memory(p_view, p)
    if was != now:
        return f"in {was} and in {now}"
    found = variable_difference(o_view, o, p_view, p)
    return f"types: {found}" if found is not None else ""


def meaning_of(c: Correlation, asked: Callable[[View, Atom], bool]) -> Callable[[View, Ref], str]:
    """What references mean, the same for both sides; "" for variables that are asked for."""

    def meaning(view: View, ref: Ref) -> str:
        atom = view.atoms[ref.atom]
        if atom.kind == STRING:
            return f"text {view.content(atom)[max(ref.delta, 0) :]!r}"
        if asked(view, atom):
            return ""
        if atom.section >= 0 and view is c.patched:
            originals = c.to_original.get(atom.id, ())
            if originals:
                return f"{atom.kind} {originals[0]}"
        elif atom.section >= 0 and atom.id in c.to_patched:
            return f"{atom.kind} {atom.id}"
        return f"{atom.kind} {stem(atom.name)}"

    return meaning


class PairEvidence:
    """What references say of pairs of variables: votes in functions that are equal otherwise (`strong`) and in equal
    stretches of other functions (`weak`), and how many references there are to each variable at all."""

    def __init__(self) -> None:
        self.strong: Counter[tuple[object, object]] = Counter()
        self.weak: Counter[tuple[object, object]] = Counter()
        self.functions: dict[tuple[object, object], set[str]] = {}
        self.left: Counter[object] = Counter()
        self.right: Counter[object] = Counter()
        self.by_left: dict[object, set[object]] = {}
        self.by_right: dict[object, set[object]] = {}
        self.strong_left: dict[object, set[object]] = {}
        self.strong_right: dict[object, set[object]] = {}
        self.mapped_left: Counter[object] = Counter()
        self.mapped_right: Counter[object] = Counter()

    def add(self, x: object, y: object, whole: bool, where: str) -> None:
        (self.strong if whole else self.weak)[x, y] += 1
        if whole:
            self.strong_left.setdefault(x, set()).add(y)
            self.strong_right.setdefault(y, set()).add(x)
        self.by_left.setdefault(x, set()).add(y)
        self.by_right.setdefault(y, set()).add(x)
        self.mapped_left[x] += 1
        self.mapped_right[y] += 1
        self.functions.setdefault((x, y), set()).add(where)

    def agree(self, x: object, y: object) -> bool:
        """Whether all that is known leads from x to y and back."""
        return self.by_left.get(x) == {y} and self.by_right.get(y) == {x}

    def covers_left(self, x: object) -> bool:
        """Whether it is known of every reference to x where it leads."""
        return bool(self.left[x]) and self.mapped_left[x] >= self.left[x]

    def covers_right(self, y: object) -> bool:
        return bool(self.right[y]) and self.mapped_right[y] >= self.right[y]

    def proves(self, x: object, y: object) -> bool:
        """Whether x goes on as y: all agree, and a function that is equal otherwise is among the witnesses, or every
        reference of both is."""
        return self.agree(x, y) and (bool(self.strong[x, y]) or (self.covers_left(x) and self.covers_right(y)))

    def words(self, x: object, y: object) -> str:
        """The evidence in words."""
        count = self.strong[x, y] + self.weak[x, y]
        where = sorted(self.functions.get((x, y), ()))
        named = ", ".join(where[:3]) + (f" and {len(where) - 3} more" if len(where) > 3 else "")
        return f"{count} reference{'s' * (count != 1)} in equal code of {named}"


class _Search:
    def __init__(self, c: Correlation, left: CodeSide, right: CodeSide, differing: Iterable[tuple[Atom, Atom]]) -> None:
        self.c, self.left, self.right = c, left, right
        self.o, self.p = c.original, c.patched
        self.differing = list(differing)
        self.xs: set[int] = set()
        self.ys: set[int] = set()

    def _asked(self, view: View, atom: Atom) -> bool:
        return atom.id in (self.xs if view is self.o else self.ys)

    def find(self) -> PairEvidence | None:
        """The votes on all variables that are in question; None where there are none."""
        gone = {a.id for a in self.o.data if a.id not in self.c.to_patched and is_state(self.o, a)}
        new = {a.id for a in self.p.data if a.id not in self.c.to_original and is_state(self.p, a)}
        gone, new = gone - self.c.needless[0], new - self.c.needless[1]
        if gone and new:
            # what the source has on both sides keeps its name, though the compiler left it out of one object
            gone = {i for i in gone if not still_declared(self.o, self.p, self.o.atoms[i])}
            new = {i for i in new if not was_declared(self.o, self.p, self.p.atoms[i])}
        self.xs, self.ys = set(gone), set(new)
        seeds = False
        tables = [
            (a, self.p.atoms[p])
            for a in (referring(self.o, self.left, gone) if gone and new else ())
            if a.kind == DATA
            for p in self.c.to_patched.get(a.id, ())
        ]
        self.differing += tables
        meaning = meaning_of(self.c, self._asked)
        for a, b in self.differing:
            whole = not (refers_to(self.o, a, gone) and refers_to(self.p, b, new))
            for m, n in align(self.left, a, self.right, b, meaning, whole).refs:
                x, y = self.o.atoms[m.atom], self.p.atoms[n.atom]
                if x.kind != DATA or y.kind != DATA or self.c.paired(x.id, y.id):
                    continue
                if x.id not in self.c.to_patched and x.id not in gone:
                    continue
                if y.id not in self.c.to_original and y.id not in new:
                    continue
                if is_state(self.o, x) and is_state(self.p, y):
                    seeds = True
                    self.xs.add(x.id)
                    self.ys.add(y.id)
        if not seeds:
            return None
        return self._vote()

    def _vote(self) -> PairEvidence:
        out = PairEvidence()
        meaning = meaning_of(self.c, self._asked)
        differing = {(o.id, p.id) for o, p in self.differing}
        for view, side, asked, total in (
            (self.o, self.left, self.xs, out.left),
            (self.p, self.right, self.ys, out.right),
        ):
            for atom in referring(view, side, asked):
                for r in _all_refs(view, side, atom):
                    if r.atom in asked:
                        total[r.atom] += 1
        mine = {a.id for a in referring(self.o, self.left, self.xs)}
        for kind in (FUNCTION, DATA):
            for o, p in self.c.pairs(kind):
                if o.id not in mine and (o.id, p.id) not in differing:
                    continue
                if o.id in self.xs:
                    continue  # what it holds follows from what it is (_follow_tables)
                whole = not (refers_to(self.o, o, self.xs) and refers_to(self.p, p, self.ys))
                found = align(self.left, o, self.right, p, meaning, whole)
                self._count(out, found, o)
        gone = [(0, self.o, a) for a in self.o.functions if a.id not in self.c.to_patched]
        new = [(0, self.p, a) for a in self.p.functions if a.id not in self.c.to_original]
        for (_, _, was), (_, _, now) in equal_strangers(gone, new):
            self._count(out, align(self.left, was, self.right, now, meaning), was)
        self._follow_tables(out, meaning)
        return out

    def _follow_tables(self, out: PairEvidence, meaning: Meaning) -> None:
        """What corresponds in variables that are shown to correspond, as in a table of pointers."""
        done: set[int] = set()
        while True:
            found = [
                (x, y)
                for x in sorted(self.xs - done)
                for y in out.by_left.get(x, ())
                if isinstance(y, int) and y in self.ys and out.proves(x, y)
            ]
            if not found:
                return
            for x, y in found:
                done.add(x)
                o, p = self.o.atoms[x], self.p.atoms[y]
                self._count(out, align(self.left, o, self.right, p, meaning, True), o)

    def _count(self, out: PairEvidence, found: Aligned, o: Atom) -> None:
        for m, n in found.refs:
            if m.atom in self.xs or n.atom in self.ys:
                out.add(m.atom, n.atom, found.whole, o.name.partition(".cold")[0])


def referring(view: View, side: CodeSide, asked: Iterable[int]) -> list[Atom]:
    """Functions and data that refer to one of some atoms, by themselves or by an entry of a special section; records
    of the macros for authors are none."""
    wanted = {view.atoms[i].section for i in asked}
    sections = view.sections_referring_to(wanted) | wanted
    tables = {s for s in sections if view.arch.special_of(view.obj.sections[s].name)}
    if tables:
        sections = sections | side.entries.owner_sections(tables)
    return [
        view.atoms[i]
        for s in sorted(sections)
        for i in view.in_section.get(s, ())
        if view.atoms[i].kind in (FUNCTION, DATA) and not view.section_name(view.atoms[i]).startswith(RECORDS)
    ]


def refers_to(view: View, atom: Atom, wanted: set[int]) -> bool:
    """Whether an atom itself refers to one of some atoms."""
    try:
        return bool(wanted) and any(r.atom in wanted for r in view.refs(atom))
    except Ambiguous:
        return False


def _all_refs(view: View, side: CodeSide, atom: Atom) -> list[Ref]:
    try:
        return [*view.refs(atom), *(r for e in side.entries.of(atom.id) for r in e.refs)]
    except Ambiguous:
        return []


def equal_strangers(
    gone: list[tuple[int, View, Atom]], new: list[tuple[int, View, Atom]]
) -> list[tuple[tuple[int, View, Atom], tuple[int, View, Atom]]]:
    """Functions that were renamed or moved to another unit: of equal code, the only ones of it, and of one name or of
    some length."""
    left, right = _by_code(gone), _by_code(new)
    alike = (
        (left[key][0], right[key][0]) for key in left.keys() & right.keys() if len(left[key]) == 1 == len(right[key])
    )
    return [(o, p) for o, p in alike if stem(o[2].name) == stem(p[2].name) or o[2].size >= _LONG]


def _by_code(items: list[tuple[int, View, Atom]]) -> dict[object, list[tuple[int, View, Atom]]]:
    out: dict[object, list[tuple[int, View, Atom]]] = {}
    for item in items:
        _, view, atom = item
        try:
            key = (view.masked(atom), tuple((r.offset, r.delta) for r in view.refs(atom)))
        except Ambiguous:
            continue
        out.setdefault(key, []).append(item)
    return out


def find_renamed(
    c: Correlation,
    left: CodeSide,
    right: CodeSide,
    differing: Iterable[tuple[Atom, Atom]],
    same_content: Callable[[Atom, Atom], bool],
) -> tuple[list[Renamed], list[InDoubt]]:
    """Pair in `c` the variables that go on under another name, and say which; and those of which names and references
    say different things. `differing` are the pairs of functions and data that are not the same as `c` is,
    `same_content` says whether two variables begin with the same bytes and references."""
    search = _Search(c, left, right, differing)
    votes = search.find()
    if votes is None:
        return [], []
    wanted: list[tuple[int, int]] = []
    contested: list[tuple[int, int]] = []
    for x in sorted(search.xs):
        found = votes.by_left.get(x, set())
        if len(found) != 1:
            continue
        (y,) = found
        assert isinstance(y, int)
        if c.paired(x, y) or c.patched.atoms[y].kind != DATA or not votes.proves(x, y):
            continue
        if x in c.to_patched or y in c.to_original:
            contested.append((x, y))
        else:
            wanted.append((x, y))
    proven = _against_names(c, votes, contested)
    doubts = [InDoubt(x, y, fact) for x, y, fact in _exchanged(c, votes) if (x, y) not in proven]
    return _pair(c, [*wanted, *proven], votes, same_content), doubts


def _exchanged(c: Correlation, votes: PairEvidence) -> Iterator[tuple[int, int, str]]:
    """Variables that are there before and after by their names, and have changed places by all functions that are
    equal otherwise: the name of each is another's there."""
    for x, found in sorted(votes.strong_left.items(), key=str):
        if len(found) != 1 or not isinstance(x, int):
            continue
        (y,) = found
        partners = c.to_patched.get(x, ())
        if not isinstance(y, int) or not partners or y in partners or votes.strong_right.get(y) != {x}:
            continue
        if y not in c.to_original or c.affirmed.intersection((y, *partners)):
            continue
        # all of it has become the other; or what has its name now is a third there
        whole = votes.agree(x, y) and votes.covers_left(x)
        if whole or all(votes.strong_right.get(p, {x}) != {x} and len(votes.strong_right[p]) == 1 for p in partners):
            was, now = c.original.atoms[x].name, c.patched.atoms[y].name
            yield x, y, f"{votes.words(x, y)} lead from {was} to {now}, and both names are there before and after"


def _against_names(c: Correlation, votes: PairEvidence, contested: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Which of some pairs are proven though a name is against them. Every variable whose name is there on both sides
    must be local, and all references to it must be known; so must be what becomes of the one whose name is taken."""
    left = dict(contested)
    while True:
        bad = []
        for x, y in left.items():
            involved = {x, *c.to_original.get(y, ())}
            for i in involved:
                atom = c.original.atoms[i]
                stays = i != x and i not in left and y in votes.by_left.get(i, ())
                if not atom.is_local or not votes.covers_left(i) or stays:
                    bad.append(x)
            if not c.patched.atoms[y].is_local:
                bad.append(x)
        if not bad:
            break
        for x in bad:
            left.pop(x, None)
    return sorted(left.items())


def _pair(
    c: Correlation, wanted: list[tuple[int, int]], votes: PairEvidence, same_content: Callable[[Atom, Atom], bool]
) -> list[Renamed]:
    before = {x: c.to_patched.get(x, ()) for x, _ in wanted} | {
        o: c.to_patched.get(o, ()) for _, y in wanted for o in c.to_original.get(y, ())
    }
    for o, partners in before.items():
        for p in partners:
            c.part(o, p)
    # together, for they may refer to each other
    for x, y in wanted:
        c.pair(x, y)
    bad = set()
    for x, y in wanted:
        mine, other = c.original.atoms[x], c.patched.atoms[y]
        why = difference(c.original, mine, c.patched, other)
        if not why and not same_content(mine, other):
            why = "other initial values"
        if why:
            bad.add((x, y))
            c.against[x, y] = why
    if bad:
        for x, y in wanted:
            c.part(x, y)
        for o, partners in before.items():
            for p in partners:
                c.pair(o, p)
        return _pair(c, [w for w in wanted if w not in bad], votes, same_content) if len(bad) < len(wanted) else []
    drop_settled(c)
    out = [Renamed(x, y, votes.words(x, y)) for x, y in wanted]
    _pair_trampolines(c, out)
    return out


def _pair_trampolines(c: Correlation, found: list[Renamed]) -> None:
    """The trampoline of a static call goes with its key."""
    for x, y, _ in found:
        was, now = c.original.atoms[x].name, c.patched.atoms[y].name
        if not was.startswith(STATIC_CALL) or not now.startswith(STATIC_CALL):
            continue
        ours = c.original.by_name.get(TRAMPOLINE + was.removeprefix(STATIC_CALL), [])
        theirs = c.patched.by_name.get(TRAMPOLINE + now.removeprefix(STATIC_CALL), [])
        if len(ours) == 1 == len(theirs) and ours[0].id not in c.to_patched and theirs[0].id not in c.to_original:
            c.pair(ours[0].id, theirs[0].id)


__all__ = [
    "InDoubt",
    "PairEvidence",
    "Renamed",
    "difference",
    "equal_strangers",
    "find_renamed",
    "is_state",
    "kind_of_memory",
    "referring",
    "source_name",
]
