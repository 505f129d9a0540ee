# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a function of the patched object is that of the original.

It is only if its bytes, the entity behind each of its references, the anonymous data it reads and its entries in the
special sections are the same. Names prove nothing by themselves: at a folded address the assembler writes whichever
name it likes. Accidental differences are set aside by the rules of `noise`, and which were is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from kgbuild.arch.base import Instruction
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


def first_difference(orig: bytes, patched: bytes) -> int:
    """Offset of the first byte that differs, -1 where one is the beginning of the other."""
    pairs = zip(orig, patched, strict=False)
    return next((i for i, (orig_byte, patched_byte) in enumerate(pairs) if orig_byte != patched_byte), -1)


@dataclass(slots=True, eq=False, repr=False)
class _OuterComparison:
    """One comparison from outside, with all that it leads to: the pairs of functions under way, and whether one of them
    was met again and taken to be the same."""

    active: set[tuple[int, int]] = field(default_factory=set)
    assumed: bool = False


@dataclass(slots=True, eq=False, repr=False)
class _Scope:
    """What the comparison of one pair of functions has to go by, and what it finds.

    walk    the comparison from outside that it is part of, None outside of any
    pair    the two functions
    places  where each offset of the original function is in the patched one; None where nothing moved
    nested  levels of functions and data through which the walk came here
    rules   the noise rules that were needed so far
    alike   data found to be the same for these functions, and whether nothing moved: tables of tables are met again
            and again
    """

    walk: _OuterComparison | None = None
    pair: tuple[int, int] = (-1, -1)
    places: dict[int, int] | None = None
    nested: int = 0
    rules: set[str] = field(default_factory=set)
    alike: set[tuple[int, int, bool]] = field(default_factory=set)


class Comparer:
    """Compares functions and data of two correlated objects; results are kept. `noise` grows as functions are found
    to be the same but for accidents."""

    def __init__(self, correlation: Correlation, orig_entries: Entries, patched_entries: Entries) -> None:
        self.correlation = correlation
        self.orig, self.patched = correlation.orig, correlation.patched
        self.orig_entries, self.patched_entries = orig_entries, patched_entries
        self._flags = SharedFlags(correlation, orig_entries, patched_entries)
        self.noise: set[Noise] = set()
        same, found = same_at_first_sight(self.orig, self.patched, correlation.other_names())
        self.noise |= found
        doubtful = correlation.doubtful
        self._memo: dict[tuple[int, int], Reason | None] = dict.fromkeys(s for s in same if s[1] not in doubtful)
        self._outside = _Scope()

    # -- what is asked from outside ------------------------------------------------------------------------------

    def compare(self, orig: Atom, patched: Atom) -> Reason | None:
        """None where an original and a patched function are the same, else the first difference."""
        return self._compare(orig, patched, self._outside, 0)

    def same_content(self, orig: Atom, patched: Atom) -> bool:
        """Whether two pieces of data hold the same, references compared by the entity they mean. Raises Ambiguous."""
        return self._same_content(orig, patched, self._outside, 0)

    def judge(
        self,
        orig_ref: Ref,
        patched_ref: Ref,
        pair: tuple[int, int] = (-1, -1),
        places: dict[int, int] | None = None,
    ) -> tuple[bool, frozenset[str]]:
        """Whether two references mean the same entity, and the noise rules which that takes. `places` says where each
        offset of the first atom of `pair` is in the second."""
        scope = _Scope(pair=pair, places=places, alike=self._outside.alike)
        try:
            return self._same_target(orig_ref, patched_ref, scope, 0), frozenset(scope.rules)
        except Ambiguous:
            return False, frozenset()

    # -- functions -----------------------------------------------------------------------------------------------

    def _compare(self, orig: Atom, patched: Atom, outer: _Scope, depth: int) -> Reason | None:
        """Compare two functions to which `outer` leads through `depth` levels of data."""
        key = (orig.id, patched.id)
        if key in self._memo:
            return self._memo[key]
        walk = outer.walk or _OuterComparison()
        if key in walk.active:
            # functions that call each other: the same if nothing else differs
            walk.assumed = True
            return None
        if outer.nested >= _NESTED:
            return Reason("ambiguous", -1, "too many folded functions call one another")
        walk.active.add(key)
        scope = _Scope(walk, key, nested=outer.nested + 1 + depth)
        try:
            reason = self._compare_code(orig, patched, scope)
        except Ambiguous as error:
            reason = Reason("ambiguous", -1, ": ".join(error.args))
        if reason is None:
            self.noise |= {Noise(patched.name, rule) for rule in scope.rules}
        walk.active.discard(key)
        if reason is not None or not walk.assumed or not walk.active:
            self._memo[key] = reason
        return reason

    def _compare_code(self, orig: Atom, patched: Atom, scope: _Scope) -> Reason | None:
        orig_refs, patched_refs = self.orig.refs(orig), self.patched.refs(patched)
        if not self.orig.same_masked(orig, self.patched, patched):
            if self.correlation.lines and noise.differ_in_lines_only(self.orig, orig, self.patched, patched):
                scope.rules.add(noise.LINE_ARGUMENT)
            else:
                scope.places = self._same_but_for_widths(orig, patched, scope)
                if scope.places is None:
                    orig_code, patched_code = self.orig.masked(orig), self.patched.masked(patched)
                    first = first_difference(orig_code, patched_code)
                    first = first if first >= 0 else min(len(orig_code), len(patched_code))
                    sizes = f"{orig.size} -> {patched.size} bytes" if orig.size != patched.size else ""
                    return Reason("code", first, sizes)
                scope.rules.add(noise.BRANCH_WIDTH)
                return self._compare_entries(orig, patched, scope)
        if len(orig_refs) != len(patched_refs):
            return Reason("reference", -1, f"{len(orig_refs)} -> {len(patched_refs)} references")
        for orig_ref, patched_ref in zip(orig_refs, patched_refs, strict=True):
            if not self._same_field(orig_ref, patched_ref) or not self._same_target(orig_ref, patched_ref, scope, 0):
                return self._other_reference(orig_ref, patched_ref)
        if self._moved_section(orig, patched):
            scope.rules.add(noise.SECTION)
        return self._compare_entries(orig, patched, scope)

    def _same_field(self, orig_ref: Ref, patched_ref: Ref) -> bool:
        """Whether two references are written at one place in one way. The assembler has another type for a call where
        the symbol is local; in the kernel both mean the same."""
        if orig_ref.offset != patched_ref.offset:
            return False
        if orig_ref.type == patched_ref.type:
            return True
        calls = {self.patched.arch.call_reloc, self.patched.arch.per_field_pcrel32}
        return {orig_ref.type, patched_ref.type} <= calls

    def _other_reference(self, orig_ref: Ref, patched_ref: Ref) -> Reason:
        orig, patched = self.orig.atoms[orig_ref.atom], self.patched.atoms[patched_ref.atom]
        loose, offset = orig_ref.loose or patched_ref.loose, orig_ref.offset
        if loose and self.correlation.paired(orig.id, patched.id) and orig_ref.delta == patched_ref.delta:
            return Reason("ambiguous", offset, may_mean(self.patched, patched))
        if patched.id in self.correlation.tables:
            return Reason("reference", offset, f"{patched.name} holds other places in functions")
        shown = f"{_show(self.orig, orig, orig_ref)} -> {_show(self.patched, patched, patched_ref)}"
        return Reason("reference", offset, shown)

    def _moved_section(self, orig: Atom, patched: Atom) -> bool:
        """Whether a function moved between the sections of code that stays."""
        orig_kind = _kind_of_text(self.orig.section_name(orig))
        patched_kind = _kind_of_text(self.patched.section_name(patched))
        init = orig_kind.startswith(INIT_SECTIONS) or patched_kind.startswith(INIT_SECTIONS)
        return orig_kind != patched_kind and not init

    # -- where only the width of branches differs ---------------------------------------------------------------

    def _same_but_for_widths(self, orig: Atom, patched: Atom, scope: _Scope) -> dict[int, int] | None:
        """Where each offset of the original function is in the patched one, if instruction by instruction nothing but
        the width of branches differs. Leaves the places in the scope while it looks at references."""
        counts = {
            len(view.arch.boundaries(view.content(a))) for view, a in ((self.orig, orig), (self.patched, patched))
        }
        if len(counts) != 1:
            return None
        orig_code, patched_code = self.orig.instructions(orig), self.patched.instructions(patched)
        places = {
            orig_instruction.offset: patched_instruction.offset
            for orig_instruction, patched_instruction in zip(orig_code, patched_code, strict=True)
        }
        places[orig.size] = patched.size
        orig_refs = {r.offset: r for r in self.orig.refs(orig)}
        patched_refs = {r.offset: r for r in self.patched.refs(patched)}
        orig_bytes, patched_bytes = self.orig.masked(orig), self.patched.masked(patched)
        scope.places = places
        for orig_instruction, patched_instruction in zip(orig_code, patched_code, strict=True):
            here, there = _refs_in(orig_instruction, orig_refs), _refs_in(patched_instruction, patched_refs)
            if len(here) != len(there):
                return None
            if not all(self._same_target(r, s, scope, 0) for r, s in zip(here, there, strict=True)):
                return None
            if orig_instruction.is_branch and patched_instruction.is_branch:
                if (
                    orig_instruction.mnemonic != patched_instruction.mnemonic
                    or orig_instruction.target is None
                    or patched_instruction.target is None
                ):
                    return None
                if not here and places.get(orig_instruction.target) != patched_instruction.target:
                    return None
            elif orig_bytes[
                orig_instruction.offset : orig_instruction.offset + orig_instruction.length
            ] != patched_bytes[
                patched_instruction.offset : patched_instruction.offset + patched_instruction.length
            ] or [(r.offset - orig_instruction.offset, r.type) for r in here] != [
                (s.offset - patched_instruction.offset, s.type) for s in there
            ]:
                return None
        return places

    # -- what a reference means ----------------------------------------------------------------------------------

    def _same_target(self, orig_ref: Ref, patched_ref: Ref, scope: _Scope, depth: int) -> bool:
        """Whether two references mean the same entity; `depth` counts the levels of data that lead to them."""
        orig, patched = self.orig.atoms[orig_ref.atom], self.patched.atoms[patched_ref.atom]
        same_delta = orig_ref.delta == patched_ref.delta
        if orig.section < 0 or patched.section < 0:
            if orig.kind == ABSOLUTE and (orig.offset, orig.size) != (patched.offset, patched.size):
                return False
            return orig.kind == patched.kind and orig.name == patched.name and same_delta
        if STRING in (orig.kind, patched.kind):
            if orig.kind != patched.kind:
                return False
            return self._same_string(orig, orig_ref.delta, patched, patched_ref.delta, scope)
        if scope.places is not None and (orig.id, patched.id) == scope.pair:
            return scope.places.get(orig_ref.delta) == patched_ref.delta
        if self._in_special(orig_ref, patched_ref):
            return self._same_own_entry(orig_ref, patched_ref, scope)
        if not same_delta or orig.kind != patched.kind:
            return False
        if orig.kind == ANON or (is_anonymous(self.orig, orig) and is_anonymous(self.patched, patched)):
            if depth >= _DEPTH or not self._same_content(orig, patched, scope, depth):
                return False
            if orig.name != patched.name:
                scope.rules.add(noise.CONSTANT)
            return True
        if not self.correlation.paired(orig.id, patched.id) and not self._fresh_serves(orig, patched):
            return False
        loose = orig_ref.loose or patched_ref.loose
        if loose and not same_surroundings(self.correlation, orig, patched):
            return False
        return self._same_named(orig, patched, scope, depth)

    def _in_special(self, orig_ref: Ref, patched_ref: Ref) -> bool:
        """Whether both references lead into one special section, as those of code whose WARN is a call (since 6.19)."""
        orig, patched = self.orig.atoms[orig_ref.atom], self.patched.atoms[patched_ref.atom]
        same = self.orig.section_name(orig) == self.patched.section_name(patched)
        return same and self.orig.is_entry(orig) and self.patched.is_entry(patched)

    def _same_own_entry(self, orig_ref: Ref, patched_ref: Ref, scope: _Scope) -> bool:
        """Whether two functions refer to the same entry of their own; what it holds is compared as an entry."""
        numbers = []
        for view, entries, ref, function in (
            (self.orig, self.orig_entries, orig_ref, scope.pair[0]),
            (self.patched, self.patched_entries, patched_ref, scope.pair[1]),
        ):
            atom = view.atoms[ref.atom]
            own = [e for e in entries.of(function) if e.section_index == atom.section] if function >= 0 else []
            number = next((n for n, e in enumerate(own) if e.index * e.size == atom.offset), None)
            if number is None or ref.delta:
                return False
            numbers.append((number, len(own)))
        return numbers[0] == numbers[1]

    def _same_named(self, orig: Atom, patched: Atom, scope: _Scope, depth: int) -> bool:
        """Whether a function or variable is the one that it is paired with; notes what has another name."""
        if orig.name != patched.name and (rule := self._name_rule(orig, patched)):
            scope.rules.add(rule)
        if orig.kind == DATA:
            shown = self.patched.section_name(patched) in DEBUG_SECTIONS
            if shown and self.orig.masked(orig) != self.patched.masked(patched):
                scope.rules.add(noise.LINE_DEBUG)
        folded = len(orig.names) > 1 or len(patched.names) > 1
        if folded and orig.kind == FUNCTION and set(orig.names) != set(patched.names):
            # folded on one side: the same entity only if the body meant is the body there was
            return self._compare(orig, patched, scope, depth) is None
        return True

    def _fresh_serves(self, orig: Atom, patched: Atom) -> bool:
        """Whether two once-flags or their like are of one kind, so that it does not matter which is meant, and are
        shared by the same functions, so that as many are used."""
        if orig.kind != DATA or not is_stateless(self.orig, orig) or not is_stateless(self.patched, patched):
            return False
        if stem(orig.name) != stem(patched.name) or not same_stateless(self.correlation, orig, patched):
            return False
        return self._flags.same_users(orig, patched)

    def _name_rule(self, orig: Atom, patched: Atom) -> str:
        """The noise rule by which a function or variable may have another name, "" for none."""
        same_stem = stem(orig.name) == stem(patched.name)
        if orig.kind == DATA and not set(orig.names).isdisjoint(patched.names):
            return noise.LABEL
        if ".llvm." in orig.name and same_stem:
            return noise.MODULE_HASH
        if orig.kind == FUNCTION and same_stem:
            return noise.CLONE
        if orig.kind == DATA:
            return noise.ONCE_FLAG if is_stateless(self.patched, patched) else noise.STATIC_LOCAL
        return noise.SUCCESSOR if orig.kind == FUNCTION else ""

    def _same_string(self, orig: Atom, orig_at: int, patched: Atom, patched_at: int, scope: _Scope) -> bool:
        if not (0 <= orig_at <= orig.size and 0 <= patched_at <= patched.size):
            return False
        if orig_at == orig.size or patched_at == patched.size:  # the end of a string, as in `p < "abc" + 4`
            return orig_at == patched_at and self.orig.content(orig) == self.patched.content(patched)
        orig_text, patched_text = self.orig.content(orig)[orig_at:], self.patched.content(patched)[patched_at:]
        if orig_text == patched_text:
            return True
        if not self.correlation.lines or noise.without_lines(orig_text) != noise.without_lines(patched_text):
            return False
        scope.rules.add(noise.LINE_STRING)
        return True

    def _same_content(self, orig: Atom, patched: Atom, scope: _Scope, depth: int) -> bool:
        if orig.size != patched.size:
            return False
        key = (orig.id, patched.id, scope.places is None)
        if key in scope.alike:
            return True
        orig_refs, patched_refs = self.orig.refs(orig), self.patched.refs(patched)
        if not orig_refs and not patched_refs and self.orig.content(orig) == self.patched.content(patched):
            return True
        if len(orig_refs) != len(patched_refs):
            return False
        if not self.orig.same_masked(orig, self.patched, patched) and not self._same_location(orig, patched, scope):
            return False
        same = all(
            self._same_field(orig_ref, patched_ref) and self._same_target(orig_ref, patched_ref, scope, depth + 1)
            for orig_ref, patched_ref in zip(orig_refs, patched_refs, strict=True)
        )
        if same:
            scope.alike.add(key)
        return same

    def _same_location(self, orig: Atom, patched: Atom, scope: _Scope) -> bool:
        """Whether two pieces of unnamed data differ in the line of a source location only."""
        if not self.correlation.lines or orig.kind != ANON:
            return False
        if not noise.is_location(self.orig, orig) or not noise.is_location(self.patched, patched):
            return False
        orig_data, patched_data = bytearray(self.orig.masked(orig)), bytearray(self.patched.masked(patched))
        orig_data[8:12] = patched_data[8:12] = bytes(4)
        if orig_data != patched_data:
            return False
        scope.rules.add(noise.LINE_DATA)
        return True

    # -- entries of special sections -----------------------------------------------------------------------------

    def _compare_entries(self, orig: Atom, patched: Atom, scope: _Scope) -> Reason | None:
        orig_entries = self.orig_entries.compared(orig.id)
        patched_entries = self.patched_entries.compared(patched.id)
        for section in sorted({e.section for e in orig_entries} | {e.section for e in patched_entries}):
            here = [e for e in orig_entries if e.section == section]
            there = [e for e in patched_entries if e.section == section]
            if len(here) != len(there):
                return Reason("entry", -1, f"{section}: {len(here)} -> {len(there)} entries")
            for orig_entry, patched_entry in zip(here, there, strict=True):
                if not self._same_entry(orig_entry, patched_entry, scope):
                    return Reason("entry", patched_entry.owner_offset, f"{section} differs")
        return None

    def _same_entry(self, orig: SpecialEntry, patched: SpecialEntry, scope: _Scope) -> bool:
        spec = orig.spec
        place = orig.owner_offset if scope.places is None else _placed(orig, scope.places)
        if place != patched.owner_offset or len(orig.refs) != len(patched.refs):
            return False
        orig_data, patched_data = bytearray(orig.data), bytearray(patched.data)
        for start, length in spec.ignore.get(len(orig_data), ()):
            if orig_data[start : start + length] != patched_data[start : start + length]:
                scope.rules.add(noise.LINE_BUG)
            orig_data[start : start + length] = patched_data[start : start + length] = bytes(length)
        for data in (orig_data, patched_data):
            self.patched.arch.relocs.clear(data, orig.refs, self.patched.obj.order)
        if orig_data != patched_data:
            return False
        for orig_ref, patched_ref in zip(orig.refs, patched.refs, strict=True):
            if (orig_ref.offset, orig_ref.type) != (patched_ref.offset, patched_ref.type):
                return False
            if orig_ref.offset != spec.owner and not self._same_target(orig_ref, patched_ref, scope, 0):
                return False
        return True


def _show(view: View, atom: Atom, ref: Ref) -> str:
    if atom.kind == STRING:
        return repr(view.content(atom)[max(ref.delta, 0) :].rstrip(b"\0").decode("utf-8", "replace"))
    name = atom.name or view.section_name(atom)
    return f"{name}{ref.delta:+#x}" if ref.delta else name


def _refs_in(instruction: Instruction, refs: dict[int, Ref]) -> list[Ref]:
    """The references of one instruction, of those of its function by offset."""
    end = instruction.offset + instruction.length
    return [refs[i] for i in range(instruction.offset, end) if i in refs]


def _placed(entry: SpecialEntry, places: dict[int, int]) -> int | None:
    """Where in the patched function the place of an entry should be. Most lead to an instruction, those of constants to
    a field inside one."""
    if not entry.spec.constant:
        return places.get(entry.owner_offset)
    start = max((at for at in places if at <= entry.owner_offset), default=None)
    return places[start] + entry.owner_offset - start if start is not None else None


def _kind_of_text(section: str) -> str:
    """The part of a section's name that says what kind of code it holds, without the function's name."""
    for kind in sorted(_TEXT, key=len, reverse=True):
        if section == kind or section.startswith(kind + "."):
            return kind
    return section
