# SPDX-License-Identifier: GPL-2.0-or-later
"""Why a function counts as changed or not: the comparison of `diff/compare.py`, taken apart for a person.

The verdict is the comparison's own. What is worked out here is where: instruction by instruction, entry by entry of
the special sections, and in the data behind a reference where the code looks the same.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from kgbuild.closure.model import Closure
from kgbuild.correlation import noise
from kgbuild.debuginfo.line_table import SourceLine, read_lines
from kgbuild.diff.changes import Changes
from kgbuild.diff.compare import Comparer, Reason, first_difference
from kgbuild.errors import UserError
from kgbuild.objects.atoms import ANON, FUNCTION, STRING, Atom, Ref
from kgbuild.objects.special_entries import SpecialEntry
from kgbuild.objects.symbol_kinds import cold_parent_names, is_anonymous, is_cold, is_init, is_prefix, stem
from kgbuild.objects.view import View
from kgbuild.report.listing import AlignedLine, align, read_listing, target_name

SAME, NOISE, CHANGED, NEW, REMOVED = "same", "noise", "changed", "new", "removed"

_BECAUSE = {
    "code": "its code differs",
    "reference": "a reference in it means something else",
    "entry": "an entry of a special section that belongs to it differs",
    "cold": "its cold half differs",
    "prefix": "the padding before it differs",
    "ambiguous": "what a reference in it means can't be told",
}


@dataclass(frozen=True)
class ComparedRow:
    """One line of code on either side, None where it has none; SAME, NOISE, CHANGED, NEW or REMOVED; and what the code
    itself does not show."""

    left: AlignedLine | None
    right: AlignedLine | None
    state: str
    note: str = ""


@dataclass(frozen=True)
class Block:
    """The code of one symbol: what stands above either side, and the rows."""

    left: str
    right: str
    rows: tuple[ComparedRow, ...]


@dataclass(frozen=True)
class Explanation:
    """All about one function: its name, the verdict in a word or two, sentences, what is not in its code (each with
    SAME, NOISE, CHANGED, NEW or REMOVED), code."""

    name: str
    verdict: str
    sentences: tuple[str, ...]
    details: tuple[tuple[str, str], ...]
    blocks: tuple[Block, ...]


def explain(changes: Changes, closure: Closure | None, function: str) -> tuple[Explanation, ...]:
    """Everything that can be said of a function, by its name in either object; several values where several functions
    have that name. Raises UserError with the nearest names where neither object has it."""
    return _Explainer(changes, closure).explain(function)


class _Explainer:
    def __init__(self, changes: Changes, closure: Closure | None) -> None:
        self.changes, self.closure = changes, closure
        self.orig, self.patched, self.correlation = changes.orig, changes.patched, changes.correlation
        self.comparer = Comparer(self.correlation, changes.original_entries, changes.patched_entries)
        self.lines: tuple[dict[int, list[SourceLine]], dict[int, list[SourceLine]]] = ({}, {})
        self.places: dict[tuple[int, int], dict[int, int]] = {}

    def explain(self, function: str) -> tuple[Explanation, ...]:
        orig_functions, patched_functions = (
            self._functions(self.orig, function),
            self._functions(self.patched, function),
        )
        if not orig_functions and not patched_functions:
            raise self._unknown(function)
        self.lines = (read_lines(self.orig.obj), read_lines(self.patched.obj))
        pairs = [(o, p) for p in patched_functions for o in self._partners(self.correlation.to_original, self.orig, p)]
        pairs += [
            (o, p)
            for o in orig_functions
            for p in self._partners(self.correlation.to_patched, self.patched, o)
            if (o, p) not in pairs
        ]
        # a name that was one of several of a folded body: what became of that name, before the others
        named = [(o, p) for o, p in pairs if function in o.names and function in p.names]
        out = [self._pair(function, o, p) for o, p in named or pairs]
        paired = {a.id for _, a in pairs}, {a.id for a, _ in pairs}
        out += [self._alone(function, self.patched, p, NEW) for p in patched_functions if p.id not in paired[0]]
        out += [self._alone(function, self.orig, o, REMOVED) for o in orig_functions if o.id not in paired[1]]
        return tuple(out)

    def _functions(self, view: View, name: str) -> list[Atom]:
        return [a for a in view.by_name.get(name, []) if a.kind == FUNCTION]

    def _partners(self, table: dict[int, tuple[int, ...]], view: View, atom: Atom) -> list[Atom]:
        return [view.atoms[i] for i in table.get(atom.id, ())]

    def _unknown(self, name: str) -> UserError:
        for view in (self.patched, self.orig):
            for atom in view.by_name.get(name, []):
                return UserError(
                    f"{name} is data in {view.section_name(atom)}, not a function", place=self.changes.place
                )
        names = sorted({n for view in (self.orig, self.patched) for a in view.functions for n in a.names})
        near = [n for n in names if stem(n).split(".")[0] == name]
        near += [n for n in difflib.get_close_matches(name, names, 5, 0.6) if n not in near]
        undefined = any(a.section < 0 and name in a.names for view in (self.orig, self.patched) for a in view.atoms)
        fact = f"{name} is called, but not defined in these objects" if undefined else f"no function is named {name}"
        return UserError(fact, place=self.changes.place, remedy=f"nearest names: {', '.join(near)}" if near else "")

    # -- verdicts ------------------------------------------------------------------------------------------------

    def _pair(self, name: str, o: Atom, p: Atom) -> Explanation:
        family = [(o, p), *self._halves(o, p)]
        steps = self._align(family)
        blocks = []
        details: list[tuple[str, str]] = []
        for (x, y), pairs in zip(family, steps, strict=True):
            entries = self._entries(x, y, family)
            details += [(state, text) for state, text, _ in entries]
            marked = {at: state for state, _, at in entries if at >= 0}
            rows = tuple(_with_entries(self._row(x, y, a, b, family), marked) for a, b in pairs)
            if (x, y) == (o, p) or any(r.state != SAME for r in rows):
                blocks.append(Block(self._title(self.orig, x, name), self._title(self.patched, y, name), rows))
        sentences: list[str] = []
        reason = self._reason(o, p)
        members = {a.name for _, a in family}
        for x, y in family:
            self.comparer.compare(x, y)
        # the comparison names a half by itself, the changes its function
        known = (*self.changes.noise, *self.comparer.noise)
        rules = sorted({n.rule for n in known if n.function in members})
        if reason is not None:
            verdict = "changed"
            if reason.kind == "code" and blocks:
                reason = reason._replace(offset=_first_changed(blocks[0], reason.offset))
            sentences.append(self._because(reason))
            if reason.kind in ("cold", "prefix"):
                blocks += self._half_alone(o, p, {id(a) for pair in family for a in pair})
        else:
            verdict = "not changed"
            sentences.append("the same but for accidents" if rules else "the same in both objects")
        for rule in rules:
            r = noise.RULES[rule]
            sentences.append(f"noise rule {rule}: {r.what}: {r.why}")
        sentences += self._moves(o, p)
        sentences += self._standing(name, [(self.patched, p), (self.orig, o)], reason is not None)
        return Explanation(name, verdict, tuple(sentences), tuple(details), tuple(blocks))

    def _reason(self, o: Atom, p: Atom) -> Reason | None:
        for c in self.changes.changed:
            if (c.orig.id, c.patched.id) == (o.id, p.id):
                return c.reason
        # halves, prefixes and init code are not among the changed
        return self.comparer.compare(o, p)

    def _because(self, reason: Reason) -> str:
        words = _BECAUSE.get(reason.kind, reason.kind)
        where = f" at +{reason.offset:#x}" if reason.offset >= 0 else ""
        detail = reason.detail.removesuffix(" differs")
        was, arrow, now = detail.partition(" -> ")
        if arrow and was == now:
            detail = f"{was} is not the same"
        return f"{words}{where}{': ' if detail else ''}{detail}"

    def _alone(self, name: str, view: View, atom: Atom, state: str) -> Explanation:
        """A function that only one of the objects has."""
        here, there = ("patched", "original") if state == NEW else ("original", "patched")
        lines = self.lines[1 if state == NEW else 0]
        steps = read_listing(view, atom, frozenset(), lines)
        rows = tuple(ComparedRow(None, s, NEW) if state == NEW else ComparedRow(s, None, REMOVED) for s in steps)
        title = self._title(view, atom, name)
        block = Block("", title, rows) if state == NEW else Block(title, "", rows)
        sentences = [f"only the {here} object has it"]
        other = self.orig if state == NEW else self.patched
        base = stem(atom.name).split(".")[0]
        like = sorted({n for a in other.functions for n in a.names if stem(n).split(".")[0] == base and n != name})
        if like:
            sentences.append(f"the {there} object has {', '.join(like)}, which is not the same")
        for key, sides in self.correlation.undecided.items():
            if atom.id in sides[1 if state == NEW else 0]:
                sentences.append(
                    f"which one corresponds to it can't be told: several are named {key.rpartition(' ')[2]}"
                )
        sentences += self._standing(name, [(view, atom)], True)
        return Explanation(name, state, tuple(sentences), (), (block,))

    def _standing(self, name: str, sides: list[tuple[View, Atom]], changed: bool) -> list[str]:
        """What else is to be known: other and folded names, halves, init memory, refusals, why it goes along. `sides`
        are the patched object's function and the original's, or the one that there is."""
        out = []
        for view, atom in reversed(sides):
            side = self._side(view)
            if name not in atom.names:
                out.append(f"in the {side} object it is {atom.name}")
            others = [n for n in atom.names if n != name]
            if name in atom.names and others:
                out.append(f"in the {side} object one body with {', '.join(others)}")
        _, last = sides[0]
        if is_cold(last):
            out.append(f"the cold half of {cold_parent_names(last)[0]}, and a part of it")
        if is_prefix(last):
            out.append(f"the padding before {last.name.split('_', 3)[-1]}, and a part of it")
        init = next((f"in {view.section_name(a)}" for view, a in sides if is_init(view, a)), "")
        if init:
            out.append(f"{init}, memory that is freed after it ran{': a change there takes no effect' * changed}")
        if self.closure is not None:
            out += [f"refused, {r.code}: {r.fact}" for r in self.closure.refusals if r.symbol == name]
            member = self.closure.members.get((0, last.id)) if sides[0][0] is self.patched else None
            if member is not None and member.role == "carried":
                out.append(f"it comes along all the same: {member.reason}")
        return list(dict.fromkeys(out))

    def _side(self, view: View) -> str:
        return "patched" if view is self.patched else "original"

    def _title(self, view: View, atom: Atom, name: str = "") -> str:
        shown = name if name in atom.names else atom.name
        return f"{self._side(view)}: {shown}, {atom.size} bytes in {view.section_name(atom)}"

    # -- halves --------------------------------------------------------------------------------------------------

    def _attached(self, view: View, atom: Atom) -> list[Atom]:
        """The `.cold` half and the prefix of a function."""
        return [
            a
            for a in view.functions
            if (is_cold(a) and not is_cold(atom) and not set(cold_parent_names(a)).isdisjoint(atom.names))
            or (is_prefix(a) and a is not atom and any(a.name.endswith("_" + n) for n in atom.names))
        ]

    def _halves(self, o: Atom, p: Atom) -> list[tuple[Atom, Atom]]:
        patched_functions = self._attached(self.patched, p)
        return [
            (x, y)
            for x in self._attached(self.orig, o)
            for y in patched_functions
            if self.correlation.paired(x.id, y.id)
        ]

    def _half_alone(self, o: Atom, p: Atom, shown: set[int]) -> list[Block]:
        out = []
        for view, atom, side in ((self.orig, o, 0), (self.patched, p, 1)):
            for half in self._attached(view, atom):
                if id(half) not in shown:
                    steps = read_listing(view, half, frozenset({atom.id}), self.lines[side])
                    title = self._title(view, half)
                    rows = tuple(ComparedRow(None, s, NEW) if side else ComparedRow(s, None, REMOVED) for s in steps)
                    out.append(Block("", title, rows) if side else Block(title, "", rows))
        return out

    # -- code ----------------------------------------------------------------------------------------------------

    def _align(self, family: list[tuple[Atom, Atom]]) -> list[list[tuple[AlignedLine | None, AlignedLine | None]]]:
        orig_functions, patched_functions = frozenset(o.id for o, _ in family), frozenset(p.id for _, p in family)
        out = []
        self.places = {}
        for o, p in family:
            left, right = (
                read_listing(self.orig, o, orig_functions, self.lines[0]),
                read_listing(self.patched, p, patched_functions, self.lines[1]),
            )
            pairs = align(left, right)
            place = {a.offset: b.offset for a, b in pairs if a is not None and b is not None}
            place[o.size] = p.size
            self.places[o.id, p.id] = place
            out.append(pairs)
        return out

    def _row(
        self, o: Atom, p: Atom, a: AlignedLine | None, b: AlignedLine | None, family: Sequence[tuple[Atom, Atom]]
    ) -> ComparedRow:
        if a is None or b is None:
            return ComparedRow(a, b, NEW if a is None else REMOVED)
        rules: set[str] = set()
        notes: list[str] = []
        same = self._same_bytes(o, p, a, b, rules)
        if len(a.refs) != len(b.refs):
            same = False
        else:
            for x, y in zip(a.refs, b.refs, strict=True):
                meant, needed = self._judge(x, y, family)
                rules |= needed
                if not meant:
                    same = False
                    notes += self._behind(x, y)
        if not same:
            return ComparedRow(a, b, CHANGED, "; ".join(notes))
        return ComparedRow(a, b, NOISE if rules else SAME, ", ".join(sorted(rules)))

    def _same_bytes(self, o: Atom, p: Atom, a: AlignedLine, b: AlignedLine, rules: set[str]) -> bool:
        if a.target is not None or b.target is not None:
            # inside the function: where it leads, not how far that is
            if a.target is None or b.target is None or a.mnemonic != b.mnemonic:
                return False
            if a.length != b.length:
                rules.add(noise.BRANCH_WIDTH)
            return self.places[o.id, p.id].get(a.target) == b.target
        if a.masked == b.masked:
            return True
        if a.mnemonic == b.mnemonic and a.operands == b.operands and a.refs and b.refs:
            # the same branch out of the function in another width
            rules.add(noise.BRANCH_WIDTH)
            return True
        lines = self._line_arguments(o, p)
        if a.length == b.length and all(
            a.offset + i in lines[0] and b.offset + i in lines[1]
            for i, (x, y) in enumerate(zip(a.masked, b.masked, strict=True))
            if x != y
        ):
            rules.add(noise.LINE_ARGUMENT)
            return True
        return False

    def _line_arguments(self, o: Atom, p: Atom) -> tuple[set[int], set[int]]:
        key = (o.id, p.id)
        if getattr(self, "_lines_of", None) != key:
            self._lines_of = key
            self._line_bytes = noise.line_arguments(self.orig, o), noise.line_arguments(self.patched, p)
        return self._line_bytes

    def _judge(self, a: Ref, b: Ref, family: Iterable[tuple[Atom, Atom]]) -> tuple[bool, frozenset[str]]:
        for o, p in family:
            same, rules = self.comparer.judge(a, b, (o.id, p.id), self.places[o.id, p.id])
            if same:
                return same, rules
        return False, frozenset()

    # -- what the code does not show -----------------------------------------------------------------------------

    def _behind(self, a: Ref, b: Ref) -> list[str]:
        """Why two references of one name don't mean the same."""
        x, y = self.orig.atoms[a.atom], self.patched.atoms[b.atom]
        if STRING in (x.kind, y.kind) or x.section < 0 or y.section < 0:
            return []
        if self._is_unnamed(self.orig, x) and self._is_unnamed(self.patched, y):
            return [self._data_difference(x, y)]
        if x.kind != y.kind or (a.delta != b.delta and self.correlation.paired(x.id, y.id)):
            return []
        if not self.correlation.paired(x.id, y.id):
            if x.name == y.name:
                return [f"{x.name} of the original is not the {y.name} of the patched object"]
            return []
        out = [
            f"in the {side} object {', '.join(atom.names)} are one body"
            for side, atom in (("original", x), ("patched", y))
            if len(atom.names) > 1
        ]
        reason = self.comparer.compare(x, y) if x.kind == FUNCTION else None
        if reason is not None:
            out.append(f"the body of {y.name} is another: {reason}")
        return out

    def _is_unnamed(self, view: View, atom: Atom) -> bool:
        return atom.kind == ANON or is_anonymous(view, atom)

    def _data_difference(self, x: Atom, y: Atom) -> str:
        name = y.name or self.patched.section_name(y)
        if x.size != y.size:
            return f"{name}: {x.size} -> {y.size} bytes"
        left, right = self.orig.refs(x), self.patched.refs(y)
        for a, b in zip(left, right, strict=False):
            if (a.offset, a.type) != (b.offset, b.type) or not self.comparer.judge(a, b)[0]:
                return f"{name} at +{b.offset:#x}: {self._pointed(a, b)}"
        was, now = self.orig.masked(x), self.patched.masked(y)
        at = first_difference(was, now)
        if at < 0:
            return f"{name}: {len(left)} -> {len(right)} references"
        count = sum(i != j for i, j in zip(was, now, strict=True))
        more = f" and {count - 1} bytes more" if count > 1 else ""
        return f"{name} at +{at:#x}: {was[at]:#04x} -> {now[at]:#04x}{more}"

    def _pointed(self, a: Ref, b: Ref) -> str:
        old, new = self.orig.atoms[a.atom], self.patched.atoms[b.atom]
        return f"{target_name(self.orig, old, a.delta)} -> {target_name(self.patched, new, b.delta)}"

    def _moves(self, o: Atom, p: Atom) -> list[str]:
        was, now = self.orig.section_name(o), self.patched.section_name(p)
        out = [f"it moves from {was} to {now}"] if was != now and o.name == p.name else []
        if o.is_local != p.is_local:
            out.append(f"it becomes {'local' if p.is_local else 'global'}")
        return out

    # -- entries of special sections -----------------------------------------------------------------------------

    def _entries(self, o: Atom, p: Atom, family: Sequence[tuple[Atom, Atom]]) -> list[tuple[str, str, int]]:
        """What differs in the entries of a pair, with the offset in p where both have one, else -1."""
        place = self.places[o.id, p.id]
        left = [e for e in self.changes.original_entries.of(o.id) if e.spec.compared]
        right = [e for e in self.changes.patched_entries.of(p.id) if e.spec.compared]
        out: list[tuple[str, str, int]] = []
        for section in sorted({e.section for e in (*left, *right)}):
            patched_functions = [e for e in right if e.section == section]
            for e in (e for e in left if e.section == section):
                at = place.get(e.owner_offset)
                twin = next((f for f in patched_functions if f.owner_offset == at), None)
                if twin is None:
                    out.append((REMOVED, f"{self._where(e)}: gone{self._content(self.orig, e)}", -1))
                    continue
                patched_functions.remove(twin)
                out += [(state, text, twin.owner_offset) for state, text in self._entry(e, twin, family)]
            out += [(NEW, f"{self._where(e)}: new{self._content(self.patched, e)}", -1) for e in patched_functions]
        return out

    def _where(self, e: SpecialEntry) -> str:
        return f"{e.section} at +{e.owner_offset:#x}"

    def _fields(self, view: View, e: SpecialEntry) -> dict[str, str]:
        """What an entry holds, as text; the line of a bug entry too."""
        refs = {r.offset: r for r in e.refs}
        out = {}
        for name, (at, size) in e.spec.fields.get(e.size, {}).items():
            r = refs.get(at)
            out[name] = (
                target_name(view, view.atoms[r.atom], r.delta)
                if r is not None
                else str(view.obj.number(e.data[at : at + size]))
            )
        if e.replacement is not None:
            steps = read_listing(view, view.atoms[e.replacement])
            out["replacement"] = "; ".join(" ".join(s.text.split()) for s in steps) or "nothing"
        elif e.size in e.spec.replacement and (r := refs.get(e.spec.replacement[e.size][0])) is not None:
            out["replacement"] = target_name(view, view.atoms[r.atom], r.delta)
        return out

    def _content(self, view: View, e: SpecialEntry) -> str:
        return "".join(f", {name} {value}" for name, value in self._fields(view, e).items())

    def _entry(self, e: SpecialEntry, f: SpecialEntry, family: Sequence[tuple[Atom, Atom]]) -> list[tuple[str, str]]:
        spec = f.spec
        mine, other = self._fields(self.orig, e), self._fields(self.patched, f)
        layout = spec.fields.get(f.size, {})
        left, right = {r.offset: r for r in e.refs}, {r.offset: r for r in f.refs}
        out = []
        for name in (n for n in other if n in mine):
            at = layout.get(name, (-1, 0))[0] if name != "replacement" else spec.replacement[f.size][0]
            a, b = left.get(at), right.get(at)
            rules: frozenset[str] = frozenset()
            if a is not None and b is not None:
                same, rules = self._judge(a, b, family)
                if same and not rules:
                    continue
                behind = "; ".join(self._behind(a, b)) if mine[name] == other[name] else ""
                text = f"{self._where(f)}: {name} {mine[name]} -> {other[name]}{': ' if behind else ''}{behind}"
                out.append((NOISE if same else CHANGED, text))
            elif mine[name] != other[name]:
                ignored = any(start <= at < start + size for start, size in spec.ignore)
                out.append((NOISE if ignored else CHANGED, f"{self._where(f)}: {name} {mine[name]} -> {other[name]}"))
        return out


def _first_changed(block: Block, otherwise: int) -> int:
    """Offset in the original of the first row that differs; inserted code is named by what comes behind it. Bytes can
    differ before, where a branch only leads further."""
    for number, row in enumerate(block.rows):
        if row.state in (CHANGED, NEW, REMOVED):
            return next((r.left.offset for r in block.rows[number:] if r.left is not None), otherwise)
    return otherwise


def _with_entries(row: ComparedRow, marked: dict[int, str]) -> ComparedRow:
    """A row of equal code whose entry in a special section differs."""
    if row.state != SAME or row.right is None:
        return row
    begin = row.right.offset
    states = {marked[at] for at in range(begin, begin + row.right.length) if at in marked}
    state = CHANGED if CHANGED in states else NOISE if states else SAME
    return replace(row, state=state)
