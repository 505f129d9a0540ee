# SPDX-License-Identifier: GPL-2.0-or-later
"""Why a function counts as changed or not: the comparison of `diff/compare.py`, taken apart for a person.

The verdict is the comparison's own. What is worked out here is where: instruction by instruction, entry by entry of
the special sections, and in the data behind a reference where the code looks the same.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

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
from kgbuild.report.explanation import (
    CHANGED,
    NEW,
    NOISE,
    REMOVED,
    SAME,
    Block,
    ComparedRow,
    Explanation,
    first_changed,
    with_entries,
)
from kgbuild.report.listing import AlignedLine, align_listings, read_listing, target_name

_BECAUSE = {
    "code": "its code differs",
    "reference": "a reference in it means something else",
    "entry": "an entry of a special section that belongs to it differs",
    "cold": "its cold half differs",
    "prefix": "the padding before it differs",
    "ambiguous": "what a reference in it means can't be told",
}


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
        pairs = [
            (orig, patched)
            for patched in patched_functions
            for orig in self._partners(self.correlation.to_original, self.orig, patched)
        ]
        pairs += [
            (orig, patched)
            for orig in orig_functions
            for patched in self._partners(self.correlation.to_patched, self.patched, orig)
            if (orig, patched) not in pairs
        ]
        # a name that was one of several of a folded body: what became of that name, before the others
        named = [(orig, patched) for orig, patched in pairs if function in orig.names and function in patched.names]
        out = [self._pair(function, orig, patched) for orig, patched in named or pairs]
        paired = {atom.id for _, atom in pairs}, {atom.id for atom, _ in pairs}
        out += [
            self._alone(function, self.patched, patched, NEW)
            for patched in patched_functions
            if patched.id not in paired[0]
        ]
        out += [self._alone(function, self.orig, orig, REMOVED) for orig in orig_functions if orig.id not in paired[1]]
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

    def _pair(self, name: str, orig: Atom, patched: Atom) -> Explanation:
        family = [(orig, patched), *self._halves(orig, patched)]
        steps = self._align(family)
        blocks = []
        details: list[tuple[str, str]] = []
        for (orig_part, patched_part), pairs in zip(family, steps, strict=True):
            entries = self._entries(orig_part, patched_part, family)
            details += [(state, text) for state, text, _ in entries]
            marked = {at: state for state, _, at in entries if at >= 0}
            rows = tuple(
                with_entries(self._row(orig_part, patched_part, orig_line, patched_line, family), marked)
                for orig_line, patched_line in pairs
            )
            if (orig_part, patched_part) == (orig, patched) or any(row.state != SAME for row in rows):
                blocks.append(
                    Block(self._title(self.orig, orig_part, name), self._title(self.patched, patched_part, name), rows)
                )
        sentences: list[str] = []
        reason = self._reason(orig, patched)
        members = {orig_line.name for _, orig_line in family}
        for orig_part, patched_part in family:
            self.comparer.compare(orig_part, patched_part)
        # the comparison names a half by itself, the changes its function
        known = (*self.changes.noise, *self.comparer.noise)
        rules = sorted({n.rule for n in known if n.function in members})
        if reason is not None:
            verdict = "changed"
            if reason.kind == "code" and blocks:
                reason = reason._replace(offset=first_changed(blocks[0], reason.offset))
            sentences.append(self._because(reason))
            if reason.kind in ("cold", "prefix"):
                blocks += self._half_alone(orig, patched, {id(orig_line) for pair in family for orig_line in pair})
        else:
            verdict = "not changed"
            sentences.append("the same but for accidents" if rules else "the same in both objects")
        for rule in rules:
            row = noise.RULES[rule]
            sentences.append(f"noise rule {rule}: {row.what}: {row.why}")
        sentences += self._moves(orig, patched)
        sentences += self._standing(name, [(self.patched, patched), (self.orig, orig)], reason is not None)
        return Explanation(name, verdict, tuple(sentences), tuple(details), tuple(blocks))

    def _reason(self, orig: Atom, patched: Atom) -> Reason | None:
        for change in self.changes.changed:
            if (change.orig.id, change.patched.id) == (orig.id, patched.id):
                return change.reason
        # halves, prefixes and init code are not among the changed
        return self.comparer.compare(orig, patched)

    def _because(self, reason: Reason) -> str:
        words = _BECAUSE.get(reason.kind, reason.kind)
        where = f" at +{reason.offset:#x}" if reason.offset >= 0 else ""
        detail = reason.detail.removesuffix(" differs")
        orig, arrow, patched = detail.partition(" -> ")
        if arrow and orig == patched:
            detail = f"{orig} is not the same"
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

    def _halves(self, orig: Atom, patched: Atom) -> list[tuple[Atom, Atom]]:
        patched_functions = self._attached(self.patched, patched)
        return [
            (orig_half, patched_half)
            for orig_half in self._attached(self.orig, orig)
            for patched_half in patched_functions
            if self.correlation.paired(orig_half.id, patched_half.id)
        ]

    def _half_alone(self, orig: Atom, patched: Atom, shown: set[int]) -> list[Block]:
        out = []
        for view, atom, side in ((self.orig, orig, 0), (self.patched, patched, 1)):
            for half in self._attached(view, atom):
                if id(half) not in shown:
                    steps = read_listing(view, half, frozenset({atom.id}), self.lines[side])
                    title = self._title(view, half)
                    rows = tuple(ComparedRow(None, s, NEW) if side else ComparedRow(s, None, REMOVED) for s in steps)
                    out.append(Block("", title, rows) if side else Block(title, "", rows))
        return out

    # -- code ----------------------------------------------------------------------------------------------------

    def _align(self, family: list[tuple[Atom, Atom]]) -> list[list[tuple[AlignedLine | None, AlignedLine | None]]]:
        orig_functions, patched_functions = (
            frozenset(orig.id for orig, _ in family),
            frozenset(patched.id for _, patched in family),
        )
        out = []
        self.places = {}
        for orig, patched in family:
            orig_lines, patched_lines = (
                read_listing(self.orig, orig, orig_functions, self.lines[0]),
                read_listing(self.patched, patched, patched_functions, self.lines[1]),
            )
            pairs = align_listings(orig_lines, patched_lines)
            place = {
                orig_line.offset: patched_line.offset
                for orig_line, patched_line in pairs
                if orig_line is not None and patched_line is not None
            }
            place[orig.size] = patched.size
            self.places[orig.id, patched.id] = place
            out.append(pairs)
        return out

    def _row(
        self,
        orig: Atom,
        patched: Atom,
        orig_line: AlignedLine | None,
        patched_line: AlignedLine | None,
        family: Sequence[tuple[Atom, Atom]],
    ) -> ComparedRow:
        if orig_line is None or patched_line is None:
            return ComparedRow(orig_line, patched_line, NEW if orig_line is None else REMOVED)
        rules: set[str] = set()
        notes: list[str] = []
        same = self._same_bytes(orig, patched, orig_line, patched_line, rules)
        if len(orig_line.refs) != len(patched_line.refs):
            same = False
        else:
            for orig_ref, patched_ref in zip(orig_line.refs, patched_line.refs, strict=True):
                meant, needed = self._judge(orig_ref, patched_ref, family)
                rules |= needed
                if not meant:
                    same = False
                    notes += self._behind(orig_ref, patched_ref)
        if not same:
            return ComparedRow(orig_line, patched_line, CHANGED, "; ".join(notes))
        return ComparedRow(orig_line, patched_line, NOISE if rules else SAME, ", ".join(sorted(rules)))

    def _same_bytes(
        self, orig: Atom, patched: Atom, orig_line: AlignedLine, patched_line: AlignedLine, rules: set[str]
    ) -> bool:
        if orig_line.target is not None or patched_line.target is not None:
            # inside the function: where it leads, not how far that is
            if orig_line.target is None or patched_line.target is None or orig_line.mnemonic != patched_line.mnemonic:
                return False
            if orig_line.length != patched_line.length:
                rules.add(noise.BRANCH_WIDTH)
            return self.places[orig.id, patched.id].get(orig_line.target) == patched_line.target
        if orig_line.masked == patched_line.masked:
            return True
        if (
            orig_line.mnemonic == patched_line.mnemonic
            and orig_line.operands == patched_line.operands
            and orig_line.refs
            and patched_line.refs
        ):
            # the same branch out of the function in another width
            rules.add(noise.BRANCH_WIDTH)
            return True
        lines = self._line_arguments(orig, patched)
        if orig_line.length == patched_line.length and all(
            orig_line.offset + i in lines[0] and patched_line.offset + i in lines[1]
            for i, (orig_byte, patched_byte) in enumerate(zip(orig_line.masked, patched_line.masked, strict=True))
            if orig_byte != patched_byte
        ):
            rules.add(noise.LINE_ARGUMENT)
            return True
        return False

    def _line_arguments(self, orig: Atom, patched: Atom) -> tuple[set[int], set[int]]:
        key = (orig.id, patched.id)
        if getattr(self, "_lines_of", None) != key:
            self._lines_of = key
            self._line_bytes = noise.line_arguments(self.orig, orig), noise.line_arguments(self.patched, patched)
        return self._line_bytes

    def _judge(
        self, orig_ref: Ref, patched_ref: Ref, family: Iterable[tuple[Atom, Atom]]
    ) -> tuple[bool, frozenset[str]]:
        for orig, patched in family:
            same, rules = self.comparer.judge(
                orig_ref, patched_ref, (orig.id, patched.id), self.places[orig.id, patched.id]
            )
            if same:
                return same, rules
        return False, frozenset()

    # -- what the code does not show -----------------------------------------------------------------------------

    def _behind(self, orig_ref: Ref, patched_ref: Ref) -> list[str]:
        """Why two references of one name don't mean the same."""
        orig, patched = self.orig.atoms[orig_ref.atom], self.patched.atoms[patched_ref.atom]
        if STRING in (orig.kind, patched.kind) or orig.section < 0 or patched.section < 0:
            return []
        if self._is_unnamed(self.orig, orig) and self._is_unnamed(self.patched, patched):
            return [self._data_difference(orig, patched)]
        if orig.kind != patched.kind or (
            orig_ref.delta != patched_ref.delta and self.correlation.paired(orig.id, patched.id)
        ):
            return []
        if not self.correlation.paired(orig.id, patched.id):
            if orig.name == patched.name:
                return [f"{orig.name} of the original is not the {patched.name} of the patched object"]
            return []
        out = [
            f"in the {side} object {', '.join(atom.names)} are one body"
            for side, atom in (("original", orig), ("patched", patched))
            if len(atom.names) > 1
        ]
        reason = self.comparer.compare(orig, patched) if orig.kind == FUNCTION else None
        if reason is not None:
            out.append(f"the body of {patched.name} is another: {reason}")
        return out

    def _is_unnamed(self, view: View, atom: Atom) -> bool:
        return atom.kind == ANON or is_anonymous(view, atom)

    def _data_difference(self, orig: Atom, patched: Atom) -> str:
        name = patched.name or self.patched.section_name(patched)
        if orig.size != patched.size:
            return f"{name}: {orig.size} -> {patched.size} bytes"
        orig_refs, patched_refs = self.orig.refs(orig), self.patched.refs(patched)
        for orig_ref, patched_ref in zip(orig_refs, patched_refs, strict=False):
            if (orig_ref.offset, orig_ref.type) != (patched_ref.offset, patched_ref.type) or not self.comparer.judge(
                orig_ref, patched_ref
            )[0]:
                return f"{name} at +{patched_ref.offset:#x}: {self._pointed(orig_ref, patched_ref)}"
        orig_bytes, patched_bytes = self.orig.masked(orig), self.patched.masked(patched)
        at = first_difference(orig_bytes, patched_bytes)
        if at < 0:
            return f"{name}: {len(orig_refs)} -> {len(patched_refs)} references"
        count = sum(pair[0] != pair[1] for pair in zip(orig_bytes, patched_bytes, strict=True))
        more = f" and {count - 1} bytes more" if count > 1 else ""
        return f"{name} at +{at:#x}: {orig_bytes[at]:#04x} -> {patched_bytes[at]:#04x}{more}"

    def _pointed(self, orig_ref: Ref, patched_ref: Ref) -> str:
        orig, patched = self.orig.atoms[orig_ref.atom], self.patched.atoms[patched_ref.atom]
        return (
            f"{target_name(self.orig, orig, orig_ref.delta)} -> {target_name(self.patched, patched, patched_ref.delta)}"
        )

    def _moves(self, orig: Atom, patched: Atom) -> list[str]:
        orig_section, patched_section = self.orig.section_name(orig), self.patched.section_name(patched)
        moved = orig_section != patched_section and orig.name == patched.name
        out = [f"it moves from {orig_section} to {patched_section}"] if moved else []
        if orig.is_local != patched.is_local:
            out.append(f"it becomes {'local' if patched.is_local else 'global'}")
        return out

    # -- entries of special sections -----------------------------------------------------------------------------

    def _entries(self, orig: Atom, patched: Atom, family: Sequence[tuple[Atom, Atom]]) -> list[tuple[str, str, int]]:
        """What differs in the entries of a pair, with the offset in p where both have one, else -1."""
        place = self.places[orig.id, patched.id]
        orig_entries = [entry for entry in self.changes.original_entries.of(orig.id) if entry.spec.compared]
        patched_entries = [entry for entry in self.changes.patched_entries.of(patched.id) if entry.spec.compared]
        out: list[tuple[str, str, int]] = []
        for section in sorted({entry.section for entry in (*orig_entries, *patched_entries)}):
            unmatched = [entry for entry in patched_entries if entry.section == section]
            for entry in (entry for entry in orig_entries if entry.section == section):
                at = place.get(entry.owner_offset)
                twin = next((other for other in unmatched if other.owner_offset == at), None)
                if twin is None:
                    out.append((REMOVED, f"{self._where(entry)}: gone{self._content(self.orig, entry)}", -1))
                    continue
                unmatched.remove(twin)
                out += [(state, text, twin.owner_offset) for state, text in self._entry(entry, twin, family)]
            out += [(NEW, f"{self._where(entry)}: new{self._content(self.patched, entry)}", -1) for entry in unmatched]
        return out

    def _where(self, entry: SpecialEntry) -> str:
        return f"{entry.section} at +{entry.owner_offset:#x}"

    def _fields(self, view: View, entry: SpecialEntry) -> dict[str, str]:
        """What an entry holds, as text; the line of a bug entry too."""
        refs = {ref.offset: ref for ref in entry.refs}
        out = {}
        for name, (at, size) in entry.spec.fields.get(entry.size, {}).items():
            ref = refs.get(at)
            out[name] = (
                target_name(view, view.atoms[ref.atom], ref.delta)
                if ref is not None
                else str(view.obj.number(entry.data[at : at + size]))
            )
        if entry.replacement is not None:
            steps = read_listing(view, view.atoms[entry.replacement])
            out["replacement"] = "; ".join(" ".join(s.text.split()) for s in steps) or "nothing"
        elif (
            entry.size in entry.spec.replacement
            and (ref := refs.get(entry.spec.replacement[entry.size][0])) is not None
        ):
            out["replacement"] = target_name(view, view.atoms[ref.atom], ref.delta)
        return out

    def _content(self, view: View, entry: SpecialEntry) -> str:
        return "".join(f", {name} {value}" for name, value in self._fields(view, entry).items())

    def _entry(
        self, orig: SpecialEntry, patched: SpecialEntry, family: Sequence[tuple[Atom, Atom]]
    ) -> list[tuple[str, str]]:
        spec = patched.spec
        orig_fields, patched_fields = self._fields(self.orig, orig), self._fields(self.patched, patched)
        layout = spec.fields.get(patched.size, {})
        orig_refs, patched_refs = {r.offset: r for r in orig.refs}, {r.offset: r for r in patched.refs}
        out = []
        for name in (n for n in patched_fields if n in orig_fields):
            at = layout.get(name, (-1, 0))[0] if name != "replacement" else spec.replacement[patched.size][0]
            orig_ref, patched_ref = orig_refs.get(at), patched_refs.get(at)
            rules: frozenset[str] = frozenset()
            if orig_ref is not None and patched_ref is not None:
                same, rules = self._judge(orig_ref, patched_ref, family)
                if same and not rules:
                    continue
                behind = (
                    "; ".join(self._behind(orig_ref, patched_ref)) if orig_fields[name] == patched_fields[name] else ""
                )
                text = f"{self._where(patched)}: {name} {orig_fields[name]} -> {patched_fields[name]}"
                out.append((NOISE if same else CHANGED, f"{text}{': ' if behind else ''}{behind}"))
            elif orig_fields[name] != patched_fields[name]:
                ignored = any(start <= at < start + size for start, size in spec.ignore.get(len(orig.data), ()))
                out.append(
                    (
                        NOISE if ignored else CHANGED,
                        f"{self._where(patched)}: {name} {orig_fields[name]} -> {patched_fields[name]}",
                    )
                )
        return out
