# SPDX-License-Identifier: GPL-2.0-or-later
"""What shows that a variable of the original and one of the patched object are the same: what they are, and where
references in equal code lead.

`PairEvidence` counts what references say; who counts is renamed_variables.py for one unit, and
closure/state_verdicts.py for all units of a patch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from kgbuild.correlation.alignment import CodeSide
from kgbuild.correlation.correlate import Correlation
from kgbuild.correlation.registration_tables import is_registration
from kgbuild.elf.consts import SHT
from kgbuild.objects.atoms import DATA, FUNCTION, STRING, Ambiguous, Atom, Ref
from kgbuild.objects.stateless import DEBUG_SECTIONS
from kgbuild.objects.symbol_kinds import INIT_SECTIONS, stem, variable
from kgbuild.objects.variable_types import variable_difference
from kgbuild.objects.view import View

RECORDS = ".kgbuild."
_NOT_STATE = (*INIT_SECTIONS, *DEBUG_SECTIONS, RECORDS, "__bug", ".discard", ".modinfo", ".note", "__ksymtab")
_LONG = 48  # bytes of code that are not equal by chance


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
    """The kind of memory that a variable is in, in words."""
    bss, special = memory_of(view, atom)
    return special or (".bss" if bss else ".data")


def source_name(atom: Atom) -> str:
    """What a variable is called in the source."""
    return variable(atom.name) or stem(atom.name)


def difference(orig_view: View, orig: Atom, patched_view: View, patched: Atom) -> str:
    """Why two variables are not the same kind of thing, "" where they are: type, size, kind of memory. Initial values
    are another question."""
    if orig.size != patched.size:
        return f"{orig.size} and {patched.size} bytes"
    orig_memory, patched_memory = kind_of_memory(orig_view, orig), kind_of_memory(patched_view, patched)
    if orig_memory != patched_memory:
        return f"in {orig_memory} and in {patched_memory}"
    found = variable_difference(orig_view, orig, patched_view, patched)
    return f"types: {found}" if found is not None else ""


def meaning_of(correlation: Correlation, asked: Callable[[View, Atom], bool]) -> Callable[[View, Ref], str]:
    """What references mean, the same for both sides; "" for variables that are asked for."""

    def meaning(view: View, ref: Ref) -> str:
        atom = view.atoms[ref.atom]
        if atom.kind == STRING:
            return f"text {view.content(atom)[max(ref.delta, 0) :]!r}"
        if asked(view, atom):
            return ""
        if atom.section >= 0 and view is correlation.patched:
            originals = correlation.to_original.get(atom.id, ())
            if originals:
                return f"{atom.kind} {originals[0]}"
        elif atom.section >= 0 and atom.id in correlation.to_patched:
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
        self.orig_count: Counter[object] = Counter()
        self.patched_count: Counter[object] = Counter()
        self.by_orig: dict[object, set[object]] = {}
        self.by_patched: dict[object, set[object]] = {}
        self.strong_by_orig: dict[object, set[object]] = {}
        self.strong_by_patched: dict[object, set[object]] = {}
        self.mapped_orig: Counter[object] = Counter()
        self.mapped_patched: Counter[object] = Counter()

    def add(self, orig: object, patched: object, whole: bool, where: str) -> None:
        (self.strong if whole else self.weak)[orig, patched] += 1
        if whole:
            self.strong_by_orig.setdefault(orig, set()).add(patched)
            self.strong_by_patched.setdefault(patched, set()).add(orig)
        self.by_orig.setdefault(orig, set()).add(patched)
        self.by_patched.setdefault(patched, set()).add(orig)
        self.mapped_orig[orig] += 1
        self.mapped_patched[patched] += 1
        self.functions.setdefault((orig, patched), set()).add(where)

    def agree(self, orig: object, patched: object) -> bool:
        """Whether all that is known leads from one to the other and back."""
        return self.by_orig.get(orig) == {patched} and self.by_patched.get(patched) == {orig}

    def covers_orig(self, orig: object) -> bool:
        """Whether it is known of every reference to a variable of the original where it leads."""
        return bool(self.orig_count[orig]) and self.mapped_orig[orig] >= self.orig_count[orig]

    def covers_patched(self, patched: object) -> bool:
        """Whether it is known of every reference to a variable of the patched object where it comes from."""
        return bool(self.patched_count[patched]) and self.mapped_patched[patched] >= self.patched_count[patched]

    def proves(self, orig: object, patched: object) -> bool:
        """Whether the one goes on as the other: all agree, and a function that is equal otherwise is among
        the witnesses, or every reference of both is."""
        return self.agree(orig, patched) and (
            bool(self.strong[orig, patched]) or (self.covers_orig(orig) and self.covers_patched(patched))
        )

    def words(self, orig: object, patched: object) -> str:
        """The evidence in words."""
        count = self.strong[orig, patched] + self.weak[orig, patched]
        where = sorted(self.functions.get((orig, patched), ()))
        named = ", ".join(where[:3]) + (f" and {len(where) - 3} more" if len(where) > 3 else "")
        return f"{count} reference{'s' * (count != 1)} in equal code of {named}"


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


def equal_strangers(
    gone: list[tuple[int, View, Atom]], new: list[tuple[int, View, Atom]]
) -> list[tuple[tuple[int, View, Atom], tuple[int, View, Atom]]]:
    """Functions that were renamed or moved to another unit: of equal code, the only ones of it, and of one name or of
    some length."""
    by_code = _by_code(gone), _by_code(new)
    both = by_code[0].keys() & by_code[1].keys()
    alike = ((by_code[0][key], by_code[1][key]) for key in both)
    pairs = [(orig[0], patched[0]) for orig, patched in alike if len(orig) == 1 == len(patched)]
    return [
        (orig, patched)
        for orig, patched in pairs
        if stem(orig[2].name) == stem(patched[2].name) or orig[2].size >= _LONG
    ]


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
