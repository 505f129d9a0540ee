# SPDX-License-Identifier: GPL-2.0-or-later
"""String literals and constants without a name that the kernel has already.

What the kernel keeps a pointer to (the name of an interrupt, of a resource, of a class) must outlive the patch module,
and two functions of a unit may compare the address of one literal. So an address of such a constant that patched code
takes is that of the kernel's own bytes, where the patch left the content as it was and parity has read in the code that
runs where they are, or the initial value of a variable leads there. Only vmlinux is laid out as a whole: there, an
exported symbol of the same section and a distance say where they are, and the ordinary loader does the rest. In a
module nothing stands beside its strings by which they could be found; its patched code has copies. So has everything
that only reads the value, and all code where no place, or more than one, was read. The name of a function (`__func__`)
is a copy too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kgbuild.arch.base import Doing
from kgbuild.closure.binding import World
from kgbuild.closure.model import Literal
from kgbuild.model import VMLINUX
from kgbuild.objects.atoms import ANON, DATA, FUNCTION, STRING, Ambiguous, Atom, Ref
from kgbuild.objects.symbol_kinds import is_anonymous, is_init, variable
from kgbuild.objects.view import View

if TYPE_CHECKING:
    from kgbuild.closure.model import UnitResult

COPIED = ("__func__", "__FUNCTION__", "__PRETTY_FUNCTION__")


# what identifies a constant: whether it is a string, the bytes of one of its characters, its own bytes
_Content = tuple[bool, int, bytes]


def _content(view: View, atom: Atom) -> _Content | None:
    """What identifies a constant. None for anything else, for constants with references (tables of jumps and of
    strings), and for constants that are freed after boot."""
    if atom.kind == STRING:
        section = view.section_of(atom)
        found = (True, section.entsize, view.content(atom))
    elif atom.kind == ANON or is_anonymous(view, atom):
        section = view.section_of(atom)
        if section.writable or section.executable or not atom.size:
            return None
        if any(variable(n) in COPIED for n in atom.names) or view.refs(atom):
            return None
        found = (False, 0, view.content(atom))
    else:
        return None
    return None if is_init(view, atom) else found


@dataclass(eq=False, repr=False)
class Literals:
    """The kernel's constants of one unit of vmlinux, for its patched code."""

    unit: UnitResult
    world: World

    def __post_init__(self) -> None:
        self._places: dict[_Content, dict[int, str]] | None = None
        self._pointed: dict[_Content, dict[int, str]] | None = None
        self._taken: dict[int, frozenset[int]] = {}

    def _known(self) -> Mapping[_Content, Mapping[int, str]]:
        """Every place that parity read of the original's constants, by content."""
        if self._places is None:
            self._places = {}
            view, parity = self.unit.changes.orig, self.unit.parity
            found = dict(parity.literals)
            for atom in view.data:
                binding = parity.bindings.get(atom.id)
                if binding is not None and is_anonymous(view, atom):
                    found[atom.id] = {binding.address: binding.evidence}
            for number, places in found.items():
                try:
                    content = _content(view, view.atoms[number])
                except Ambiguous:
                    continue
                if content is not None:
                    self._places.setdefault(content, {}).update(places)
        return self._places

    def _in_variables(self) -> Mapping[_Content, Mapping[int, str]]:
        """Where the initial values of the kernel's variables lead: places that no code need refer to. By content."""
        if self._pointed is None:
            self._pointed = {}
            view, image = self.unit.changes.orig, self.world.vmlinux
            for atom in view.data:
                address = self._place_of(atom)
                try:
                    refs = view.refs(atom) if address is not None else ()
                except Ambiguous:
                    continue
                for ref in refs:
                    target = view.atoms[ref.atom]
                    if target.kind not in (STRING, ANON) or ref.type != view.arch.pointer_reloc:
                        continue
                    content = _content(view, target)
                    raw = image.read((address or 0) + ref.offset, ref.size) if content is not None else None
                    if content is None or raw is None:
                        continue
                    place = view.obj.number(raw) - ref.delta
                    if image.read(place, len(content[2])) == content[2]:
                        known = self._pointed.setdefault(content, {})
                        known.setdefault(place, f"read in {atom.name}+{ref.offset:#x}")
        return self._pointed

    def _place_of(self, atom: Atom) -> int | None:
        """Where the kernel has a variable of the original: as parity read it, or as its name says that no other has."""
        known = self.unit.parity.bindings.get(atom.id)
        if known is not None:
            return known.address
        places = {s.value for s in self.world.vmlinux.named(atom.name)}
        return places.pop() if len(places) == 1 else None

    def takes_address(self, source: Atom, ref: Ref) -> bool:
        """Whether a reference puts the address into a register or memory, rather than reading what is there."""
        view = self.unit.changes.patched
        if source.kind == DATA or (source.kind == ANON and not view.section_of(source).executable):
            return True
        if source.kind != FUNCTION:
            return False
        if source.id not in self._taken:
            kinds = (STRING, ANON, DATA)
            fields = [r.offset for r in view.refs(source) if view.atoms[r.atom].kind in kinds]
            uses = view.arch.uses_of(view.content(source), fields)
            self._taken[source.id] = frozenset(u.field for u in uses if u.doing == Doing.ADDRESS)
        return ref.offset in self._taken[source.id]

    def find(self, source: Atom, ref: Ref) -> Literal | None:
        """The kernel's constant that a reference of a member means; None where the member needs a copy of it."""
        view = self.unit.changes.patched
        target = view.atoms[ref.atom]
        if self.unit.target != VMLINUX or target.kind not in (STRING, ANON, DATA):
            return None
        content = _content(view, target)
        if content is None or ref.type not in view.arch.relocs.loadable or ref.synthetic:
            return None
        places = self._known().get(content) or self._in_variables().get(content, {})
        if len(places) != 1 or not 0 <= ref.delta <= target.size or not self.takes_address(source, ref):
            return None
        ((address, evidence),) = places.items()
        bound = self.world.anchor(address)
        return Literal(bound, address, content[2], evidence) if bound is not None else None
