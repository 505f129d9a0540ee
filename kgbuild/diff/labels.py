# SPDX-License-Identifier: GPL-2.0-or-later
"""Data that holds addresses inside functions: tables of labels for a computed goto (`goto *table[n]`), and what leads
to such tables.

Such data belongs to one body of its function. The kernel's own leads into the kernel's own body, also where its bytes
and the body's addresses look the same. So a body that goes into the module needs data of its own: constant data that
nothing else uses comes along as a copy, everything else is refused. gcc copies no function whose labels have their
address taken, and inlines none, so that only the function itself can jump to them.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from kgbuild.arch.base import HandedOut
from kgbuild.correlation.correlate import Correlation
from kgbuild.elf.consts import STB, STT
from kgbuild.objects.atoms import ANON, DATA, FUNCTION, Ambiguous, Atom, Ref
from kgbuild.objects.symbol_kinds import INIT_SECTIONS, is_anonymous
from kgbuild.objects.view import View

# Constant for the compiler, written by relocations; the linker script puts it among the constants (6.12 has its
# annotated tables of labels there).
_RELRO = ".data.rel.ro"


def family(name: str) -> str:
    """The function that a name belongs to, its cold half's too."""
    return name.partition(".cold")[0]


def families(atom: Atom) -> set[str]:
    """The functions that all names of an atom belong to, their cold halves' too."""
    return {family(n) for n in atom.names}


class Label(NamedTuple):
    """One address inside a function: the data's field (offset in bytes), the function's atom, the offset in it."""

    field: int
    function: int
    delta: int


class LabelTables:
    """The data of one object that holds addresses inside functions.

    labels  by atom, those addresses
    inside  by atom, the names of the functions (without .cold) to whose inside its addresses lead, also by way of
            other such data
    """

    def __init__(self, view: View) -> None:
        self.view = view
        self.labels: dict[int, list[Label]] = {}
        for atom in _candidates(view):
            found = [Label(r.offset, r.atom, r.delta) for r in _refs(view, atom) if is_label(view, r)]
            if found:
                self.labels[atom.id] = found
        self.inside: dict[int, frozenset[str]] = {
            i: frozenset().union(*(families(view.atoms[f.function]) for f in found)) for i, found in self.labels.items()
        }
        fresh = set(self.inside)
        while fresh:
            fresh = {holder.id for i in fresh for holder, _ in users(view, view.atoms[i]) if self._reaches(holder, i)}

    def _reaches(self, holder: Atom, target: int) -> bool:
        """Note that data leads to other data's labels; whether that is new."""
        if holder.kind == FUNCTION:
            return False
        before = self.inside.get(holder.id, frozenset())
        self.inside[holder.id] = before | self.inside[target]
        return self.inside[holder.id] != before

    def leads_into(self, atom: Atom, source: Atom) -> bool:
        """Whether data leads into the function `source`, or with other data to the same labels."""
        inside = self.inside.get(atom.id)
        if inside is None:
            return False
        return source.id in self.inside or (source.kind == FUNCTION and not inside.isdisjoint(families(source)))

    def is_own_constant(self, atom: Atom) -> bool:
        """Whether a copy of such data serves as well: it is constant, and only functions that it leads into, and other
        such data, refer to it."""
        return self.is_constant(atom) and not self.others(atom)

    def is_constant(self, atom: Atom) -> bool:
        """Whether nothing writes the data, and no other unit knows it."""
        section = self.view.section_name(atom)
        return atom.bind == STB.LOCAL and (self.view.is_const(atom) or section.startswith(_RELRO))

    def others(self, atom: Atom) -> list[str]:
        """Names of what refers to such data besides the functions that it leads into."""
        own = self.inside[atom.id]
        out: dict[str, None] = {}
        for user, _ in users(self.view, atom):
            if user.kind == FUNCTION and families(user).isdisjoint(own):
                out.setdefault(user.name)
            elif user.kind != FUNCTION and self.inside.get(user.id) != own:
                out.setdefault(user.name or self.view.section_name(user))
        return sorted(out)


def is_label(view: View, ref: Ref) -> bool:
    """Whether a reference of data means a place inside a function: nobody takes the address of a cold half."""
    target = view.atoms[ref.atom]
    return target.kind == FUNCTION and (ref.delta != 0 or any(".cold" in n for n in target.names))


def users(view: View, atom: Atom) -> Iterator[tuple[Atom, Ref]]:
    """What refers to an atom, code and data, each with the reference."""
    sections = view.sections_referring_to({atom.section}) | (
        {atom.section} if view.section_of(atom).executable else set()
    )
    for index in sections:
        for i in view.in_section.get(index, ()):
            for ref in _refs(view, view.atoms[i]):
                if ref.atom == atom.id:
                    yield view.atoms[i], ref


def _refs(view: View, atom: Atom) -> tuple[Ref, ...]:
    try:
        return view.refs(atom)
    except Ambiguous:  # refused where it is followed
        return ()


def _candidates(view: View) -> Iterable[Atom]:
    """Data with a relocation against a section of code with something added, or against its local labels."""
    shndx, kinds = view.obj.columns.shndx, view.obj.columns.kinds
    code = {s.index for s in view.obj.sections if s.executable}
    out: dict[int, None] = {}
    for index in view.sections_referring_to(code):
        section = view.obj.sections[index]
        if section.executable or section.name.startswith(INIT_SECTIONS) or not view.in_section.get(index):
            continue
        ids = view.in_section[index]
        starts = [view.atoms[i].offset for i in ids]
        for offset, _, sym, addend in view.obj.reloc_rows(index):
            if shndx[sym] not in code:
                continue
            # the symbol of a function alone is the function, and so is the start of most sections
            cold = view.obj.sections[shndx[sym]].name.startswith(".text.unlikely")
            if addend or cold or kinds[sym] not in (STT.FUNC, STT.SECTION):
                out[ids[max(bisect.bisect_right(starts, offset) - 1, 0)]] = None
    return [view.atoms[i] for i in out if view.atoms[i].kind in (DATA, ANON)]


def own_labels(view: View, atom: Atom) -> frozenset[int]:
    """Fields of a function's code that hold addresses inside the function."""
    return frozenset(r.offset for r in _refs(view, atom) if r.atom == atom.id and r.delta and not r.synthetic)


def addresses_handed_out(view: View, atom: Atom, fields: frozenset[int]) -> HandedOut:
    """What a function does with the addresses in some fields of its code."""
    return view.arch.handed_out(view.content(atom), fields, frozenset(r.offset for r in _refs(view, atom)))


def jumps_indirectly(view: View, atom: Atom) -> bool:
    """Whether a function jumps to where a register or memory says, by itself or through a thunk."""
    if addresses_handed_out(view, atom, frozenset()).jumps:
        return True
    thunks = {r.offset for r in _refs(view, atom) if view.atoms[r.atom].name.startswith(view.arch.indirect_thunks)}
    return any(i.field_offset in thunks and i.ends_flow for i in view.instructions(atom))


def given_away(view: View, atom: Atom, table: int) -> int | None:
    """Where a function lets the address of a table out, to memory, to its caller or to what it calls."""
    fields = frozenset(r.offset for r in _refs(view, atom) if r.atom == table)
    found = addresses_handed_out(view, atom, fields) if fields else None
    return min(found.kept | found.passed, default=None) if found is not None else None


def part_changed(correlation: Correlation) -> None:
    """Part the constant tables of labels whose labels are not at the same places of the same functions on both sides,
    and what leads to such: the patched object's then is a table of its own, and whoever uses it is another function."""
    pairs = [(orig, patched) for orig, patched in correlation.pairs(DATA)]
    orig_tables, patched_tables = LabelTables(correlation.orig), LabelTables(correlation.patched)
    again = bool(orig_tables.inside or patched_tables.inside)
    while again:
        again = False
        for orig, patched in pairs:
            if not (orig.id in orig_tables.inside or patched.id in patched_tables.inside) or not correlation.paired(
                orig.id, patched.id
            ):
                continue
            if (
                not orig_tables.is_constant(orig)
                or not patched_tables.is_constant(patched)
                or _alike(correlation, orig, patched)
            ):
                continue
            correlation.part(orig.id, patched.id)
            correlation.tables.add(patched.id)
            correlation.doubtful.update(user.id for user, _ in users(correlation.patched, patched))
            again = True

    for orig, patched in pairs:
        if correlation.paired(orig.id, patched.id) and _are_distances(
            correlation, orig_tables, orig, patched_tables, patched
        ):
            correlation.part(orig.id, patched.id)
            correlation.tables.add(patched.id)
            correlation.doubtful.update(user.id for user, _ in users(correlation.patched, patched))


def _are_distances(
    correlation: Correlation, orig_tables: LabelTables, orig: Atom, patched_tables: LabelTables, patched: Atom
) -> bool:
    """Whether constant data that differs may be distances between labels (`&&add - &&first`), which the assembler has
    worked out: a function with labels and an indirect jump has it for itself and does not let it out. Whatever it is,
    a copy then serves that function as well."""
    if (
        not orig_tables.is_constant(orig)
        or not patched_tables.is_constant(patched)
        or is_anonymous(correlation.patched, patched)
    ):
        return False
    if (
        _refs(correlation.orig, orig)
        or _refs(correlation.patched, patched)
        or correlation.orig.content(orig) == correlation.patched.content(patched)
    ):
        return False
    readers: set[str] = set()
    for view, table in ((correlation.orig, orig), (correlation.patched, patched)):
        own = {user.id: user for user, _ in users(view, table)}.values()
        if not own or any(user.kind != FUNCTION or given_away(view, user, table.id) is not None for user in own):
            return False
        if not any(own_labels(view, user) and jumps_indirectly(view, user) for user in own):
            return False
        readers |= {family(user.name) for user in own}
    return len(readers) == 1


def _alike(correlation: Correlation, orig: Atom, patched: Atom) -> bool:
    """Whether two tables lead to the same places, and other fields to what is paired."""
    orig_refs, patched_refs = _refs(correlation.orig, orig), _refs(correlation.patched, patched)
    if orig.size != patched.size or len(orig_refs) != len(patched_refs):
        return False
    for orig_ref, patched_ref in zip(orig_refs, patched_refs, strict=True):
        orig_target, patched_target = (
            correlation.orig.atoms[orig_ref.atom],
            correlation.patched.atoms[patched_ref.atom],
        )
        if orig_target.kind not in (FUNCTION, DATA) and patched_target.kind not in (FUNCTION, DATA):
            continue
        if (orig_ref.offset, orig_ref.delta) != (patched_ref.offset, patched_ref.delta) or not correlation.paired(
            orig_target.id, patched_target.id
        ):
            return False
    return True
