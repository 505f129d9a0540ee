# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a function of the patched object is that of the original.

It is only if its bytes, the entity behind each of its references, the anonymous data it reads and its entries in the
special sections are the same. Names prove nothing by themselves: at a folded address the assembler writes whichever
name it likes. Accidental differences are set aside by the rules of `noise`, and which were is kept.
"""

from __future__ import annotations

from typing import NamedTuple

from kgbuild.correlation import noise
from kgbuild.correlation.correlate import Correlation, same_stateless
from kgbuild.correlation.noise import Noise
from kgbuild.correlation.section_references import may_mean, same_surroundings
from kgbuild.diff.quick_match import same_at_first_sight
from kgbuild.diff.shared_flags import SharedFlags
from kgbuild.objects.atoms import ABSOLUTE, ANON, DATA, FUNCTION, STRING, Ambiguous, Atom, Ref
from kgbuild.objects.special_entries import Entries, SpecialEntry
from kgbuild.objects.stateless import DEBUG_SECTIONS, is_stateless
from kgbuild.objects.symbol_kinds import INIT_SECTIONS, is_anonymous, stem
from kgbuild.objects.view import View

_DEPTH = 8
_NESTED = 120  # levels of functions folded on one side, and of data between them; what lies deeper counts as changed
_TEXT = (".text", ".text.unlikely", ".text.hot", ".text.startup")


class Reason(NamedTuple):
    """Why a function counts as changed: `kind` (code, reference, entry, cold, ambiguous), where, what."""

    kind: str
    offset: int
    detail: str

    def __str__(self) -> str:
        where = f" at +{self.offset:#x}" if self.offset >= 0 else ""
        return f"{self.kind}{where}: {self.detail}" if self.detail else f"{self.kind}{where}"


def first_difference(a: bytes, b: bytes) -> int:
    """Offset of the first byte that differs, -1 where one is the beginning of the other."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), -1)


class Comparer:
    """Compares functions and data of two correlated objects; results are kept. `noise` grows as functions are found
    to be the same but for accidents."""

    def __init__(self, correlation: Correlation, left: Entries, right: Entries) -> None:
        self.c = correlation
        self.o, self.p = correlation.original, correlation.patched
        self.oe, self.pe = left, right
        self._flags = SharedFlags(correlation, left, right)
        self.noise: set[Noise] = set()
        same, found = same_at_first_sight(self.o, self.p, correlation.other_names())
        self.noise |= found
        self._memo: dict[tuple[int, int], Reason | None] = dict.fromkeys(s for s in same if s[1] not in self.c.doubtful)
        self._active: set[tuple[int, int]] = set()
        self._assumed = False
        self._rules: set[str] = set()
        self._pair = (-1, -1)
        self._place: dict[int, int] | None = None
        # data found to be the same for the function at hand: tables of tables are met again and again
        self._alike: set[tuple[int, int, bool]] = set()
        self._nested = 0

    def compare(self, o: Atom, p: Atom, depth: int = 0) -> Reason | None:
        """None where o and p are the same function, else the first difference. `depth` counts the levels of data
        through which another function leads here."""
        key = (o.id, p.id)
        if key in self._memo:
            return self._memo[key]
        if key in self._active:
            # functions that call each other: the same if nothing else differs
            self._assumed = True
            return None
        if self._nested >= _NESTED:
            return Reason("ambiguous", -1, "too many folded functions call one another")
        if not self._active:
            self._assumed = False
        self._active.add(key)
        outer = self._rules, self._pair, self._place, self._alike, self._nested
        self._rules, self._pair, self._place, self._alike = set(), key, None, set()
        self._nested += 1 + depth
        try:
            reason = self._compare(o, p)
        except Ambiguous as error:
            reason = Reason("ambiguous", -1, ": ".join(error.args))
        if reason is None:
            self.noise |= {Noise(p.name, rule) for rule in self._rules}
        self._rules, self._pair, self._place, self._alike, self._nested = outer
        self._active.discard(key)
        if reason is not None or not self._assumed or not self._active:
            self._memo[key] = reason
        return reason

    def _compare(self, o: Atom, p: Atom) -> Reason | None:
        left, right = self.o.refs(o), self.p.refs(p)
        was, now = self.o.masked(o), self.p.masked(p)
        if was != now:
            if self.c.lines and noise.differ_in_lines_only(self.o, o, self.p, p):
                self._rules.add(noise.LINE_ARGUMENT)
            else:
                place = self._same_but_for_widths(o, p)
                if place is None:
                    first = first_difference(was, now)
                    first = first if first >= 0 else min(len(was), len(now))
                    return Reason("code", first, f"{o.size} -> {p.size} bytes" if o.size != p.size else "")
                self._place = place
                self._rules.add(noise.BRANCH_WIDTH)
                return self._compare_entries(o, p)
        if len(left) != len(right):
            return Reason("reference", -1, f"{len(left)} -> {len(right)} references")
        for a, b in zip(left, right, strict=True):
            if not self._same_field(a, b) or not self.same_target(a, b):
                return self._other_reference(a, b)
        self._note_section(o, p)
        return self._compare_entries(o, p)

    def _same_field(self, a: Ref, b: Ref) -> bool:
        """Whether two references are written at one place in one way. The assembler has another type for a call where
        the symbol is local; in the kernel both mean the same."""
        if a.offset != b.offset:
            return False
        return a.type == b.type or {a.type, b.type} <= {self.p.arch.call_reloc, self.p.arch.per_field_pcrel32}

    def _other_reference(self, a: Ref, b: Ref) -> Reason:
        old, new = self.o.atoms[a.atom], self.p.atoms[b.atom]
        if (a.loose or b.loose) and self.c.paired(old.id, new.id) and a.delta == b.delta:
            return Reason("ambiguous", a.offset, may_mean(self.p, new))
        if new.id in self.c.tables:
            return Reason("reference", a.offset, f"{new.name} holds other places in functions")
        return Reason("reference", a.offset, f"{self._show(self.o, old, a)} -> {self._show(self.p, new, b)}")

    def _show(self, view: View, atom: Atom, ref: Ref) -> str:
        if atom.kind == STRING:
            return repr(view.content(atom)[max(ref.delta, 0) :].rstrip(b"\0").decode("utf-8", "replace"))
        name = atom.name or view.section_name(atom)
        return f"{name}{ref.delta:+#x}" if ref.delta else name

    def _note_section(self, o: Atom, p: Atom) -> None:
        was, now = (_kind_of_text(view.section_name(a)) for view, a in ((self.o, o), (self.p, p)))
        if was != now and not was.startswith(INIT_SECTIONS) and not now.startswith(INIT_SECTIONS):
            self._rules.add(noise.SECTION)

    # -- where only the width of branches differs ---------------------------------------------------------------

    def _same_but_for_widths(self, o: Atom, p: Atom) -> dict[int, int] | None:
        """Where each offset of o is in p, if instruction by instruction nothing but the width of branches differs."""
        ours, theirs = self.o.instructions(o), self.p.instructions(p)
        if len(ours) != len(theirs):
            return None
        place = {a.offset: b.offset for a, b in zip(ours, theirs, strict=True)}
        place[o.size] = p.size
        left, right = {r.offset: r for r in self.o.refs(o)}, {r.offset: r for r in self.p.refs(p)}
        was, now = self.o.masked(o), self.p.masked(p)
        self._place = place
        for a, b in zip(ours, theirs, strict=True):
            x = [left[i] for i in range(a.offset, a.offset + a.length) if i in left]
            y = [right[i] for i in range(b.offset, b.offset + b.length) if i in right]
            if len(x) != len(y) or not all(self.same_target(r, s) for r, s in zip(x, y, strict=True)):
                return None
            if a.is_branch and b.is_branch:
                if a.mnemonic != b.mnemonic or a.target is None or b.target is None:
                    return None
                if not x and place.get(a.target) != b.target:
                    return None
            elif was[a.offset : a.offset + a.length] != now[b.offset : b.offset + b.length] or [
                (r.offset - a.offset, r.type) for r in x
            ] != [(s.offset - b.offset, s.type) for s in y]:
                return None
        return place

    # -- what a reference means ----------------------------------------------------------------------------------

    def same_target(self, a: Ref, b: Ref, depth: int = 0) -> bool:
        """Whether two references mean the same entity."""
        x, y = self.o.atoms[a.atom], self.p.atoms[b.atom]
        if x.section < 0 or y.section < 0:
            if x.kind == ABSOLUTE and (x.offset, x.size) != (y.offset, y.size):
                return False
            return x.kind == y.kind and x.name == y.name and a.delta == b.delta
        if STRING in (x.kind, y.kind):
            return x.kind == y.kind and self._same_string(x, a.delta, y, b.delta)
        if self._place is not None and (x.id, y.id) == self._pair:
            return self._place.get(a.delta) == b.delta
        if a.delta != b.delta or x.kind != y.kind:
            return False
        if x.kind == ANON or (is_anonymous(self.o, x) and is_anonymous(self.p, y)):
            if depth >= _DEPTH or not self.same_content(x, y, depth):
                return False
            if x.name != y.name:
                self._rules.add(noise.CONSTANT)
            return True
        if not self.c.paired(x.id, y.id) and not self._fresh_serves(x, y):
            return False
        if (a.loose or b.loose) and not same_surroundings(self.c, x, y):
            return False
        if x.name != y.name:
            self._note_name(x, y)
        if x.kind == DATA and self.p.section_name(y) in DEBUG_SECTIONS and self.o.masked(x) != self.p.masked(y):
            self._rules.add(noise.LINE_DEBUG)
        if set(x.names) != set(y.names) and (len(x.names) > 1 or len(y.names) > 1) and x.kind == FUNCTION:
            # folded on one side: the same entity only if the body meant is the body there was
            return self.compare(x, y, depth) is None
        return True

    def _fresh_serves(self, x: Atom, y: Atom) -> bool:
        """Whether two once-flags or their like are of one kind, so that it does not matter which is meant, and are
        shared by the same functions, so that as many are used."""
        if x.kind != DATA or not is_stateless(self.o, x) or not is_stateless(self.p, y):
            return False
        return stem(x.name) == stem(y.name) and same_stateless(self.c, x, y) and self._flags.same_users(x, y)

    def judge(
        self, a: Ref, b: Ref, pair: tuple[int, int] = (-1, -1), place: dict[int, int] | None = None
    ) -> tuple[bool, frozenset[str]]:
        """Whether two references mean the same entity, and the noise rules which that takes. `place` says where each
        offset of the first atom of `pair` is in the second."""
        outer = self._rules, self._pair, self._place
        self._rules, self._pair, self._place = set(), pair, place
        try:
            same = self.same_target(a, b)
            return same, frozenset(self._rules)
        except Ambiguous:
            return False, frozenset()
        finally:
            self._rules, self._pair, self._place = outer

    def _note_name(self, x: Atom, y: Atom) -> None:
        if x.kind == DATA and not set(x.names).isdisjoint(y.names):
            self._rules.add(noise.LABEL)
        elif ".llvm." in x.name and stem(x.name) == stem(y.name):
            self._rules.add(noise.MODULE_HASH)
        elif x.kind == FUNCTION and stem(x.name) == stem(y.name):
            self._rules.add(noise.CLONE)
        elif x.kind == DATA:
            self._rules.add(noise.ONCE_FLAG if is_stateless(self.p, y) else noise.STATIC_LOCAL)

    def _same_string(self, x: Atom, i: int, y: Atom, j: int) -> bool:
        if not (0 <= i <= x.size and 0 <= j <= y.size):
            return False
        if i == x.size or j == y.size:  # the end of a string, as in `p < "abc" + 4`
            return i == j and self.o.content(x) == self.p.content(y)
        was, now = self.o.content(x)[i:], self.p.content(y)[j:]
        if was == now:
            return True
        if not self.c.lines or noise.without_lines(was) != noise.without_lines(now):
            return False
        self._rules.add(noise.LINE_STRING)
        return True

    def same_content(self, x: Atom, y: Atom, depth: int = 0) -> bool:
        """Whether two pieces of data hold the same, references compared by the entity they mean."""
        if x.size != y.size:
            return False
        key = (x.id, y.id, self._place is None)
        if key in self._alike:
            return True
        left, right = self.o.refs(x), self.p.refs(y)
        if not left and not right and self.o.content(x) == self.p.content(y):
            return True
        if len(left) != len(right):
            return False
        if self.o.masked(x) != self.p.masked(y) and not self._same_location(x, y):
            return False
        same = all(
            self._same_field(a, b) and self.same_target(a, b, depth + 1) for a, b in zip(left, right, strict=True)
        )
        if same:
            self._alike.add(key)
        return same

    def _same_location(self, x: Atom, y: Atom) -> bool:
        """Whether two pieces of unnamed data differ in the line of a source location only."""
        if not self.c.lines or x.kind != ANON or not noise.is_location(self.o, x) or not noise.is_location(self.p, y):
            return False
        was, now = bytearray(self.o.masked(x)), bytearray(self.p.masked(y))
        was[8:12] = now[8:12] = bytes(4)
        if was != now:
            return False
        self._rules.add(noise.LINE_DATA)
        return True

    # -- entries of special sections -----------------------------------------------------------------------------

    def _compare_entries(self, o: Atom, p: Atom) -> Reason | None:
        left, right = self.oe.compared(o.id), self.pe.compared(p.id)
        for section in sorted({e.section for e in left} | {e.section for e in right}):
            a = [e for e in left if e.section == section]
            b = [e for e in right if e.section == section]
            if len(a) != len(b):
                return Reason("entry", -1, f"{section}: {len(a)} -> {len(b)} entries")
            for x, y in zip(a, b, strict=True):
                if not self._same_entry(x, y):
                    return Reason("entry", y.owner_offset, f"{section} differs")
        return None

    def _placed(self, x: SpecialEntry) -> int | None:
        """Where in the other function the place of an entry should be. Most lead to an instruction, those of constants
        to a field inside one."""
        assert self._place is not None
        if not x.spec.constant:
            return self._place.get(x.owner_offset)
        start = max((a for a in self._place if a <= x.owner_offset), default=None)
        return self._place[start] + x.owner_offset - start if start is not None else None

    def _same_entry(self, x: SpecialEntry, y: SpecialEntry) -> bool:
        spec = x.spec
        place = self._placed(x) if self._place is not None else x.owner_offset
        if place != y.owner_offset or len(x.refs) != len(y.refs):
            return False
        a, b = bytearray(x.data), bytearray(y.data)
        for start, length in spec.ignore:
            if start + length > len(a):
                continue
            if a[start : start + length] != b[start : start + length]:
                self._rules.add(noise.LINE_BUG)
            a[start : start + length] = b[start : start + length] = bytes(length)
        for raw in (a, b):
            self.p.arch.relocs.clear(raw, x.refs, self.p.obj.order)
        if a != b:
            return False
        for m, n in zip(x.refs, y.refs, strict=True):
            if (m.offset, m.type) != (n.offset, n.type):
                return False
            if m.offset != spec.owner and not self.same_target(m, n):
                return False
        return True


def _kind_of_text(section: str) -> str:
    """The part of a section's name that says what kind of code it holds, without the function's name."""
    for kind in sorted(_TEXT, key=len, reverse=True):
        if section == kind or section.startswith(kind + "."):
            return kind
    return section
