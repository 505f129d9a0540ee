# SPDX-License-Identifier: GPL-2.0-or-later
"""Closing the difference of two objects without a kernel.

The original object stands in the kernel's place: what it has is taken to be there as it is, which is what parity proves
where there is a kernel. Positions come from the parent's symbol table where one is given, and are refused where that
does not decide; without one, references keep their plain names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from kgbuild.closure.binding import EXPORT, KLP, PLAIN, WEAK_NULL, Bound, NotBound, World
from kgbuild.closure.close import close_in
from kgbuild.closure.model import Closure, UnitResult
from kgbuild.diff.changes import Changes
from kgbuild.elf.consts import SHN, STB, STT
from kgbuild.elf.modinfo import modinfo_items
from kgbuild.elf.object import Object, Symbol
from kgbuild.kernel.vmlinux_image import KernelImage
from kgbuild.model import VMLINUX
from kgbuild.objects.symbol_kinds import INIT_SECTIONS
from kgbuild.objects.view import View
from kgbuild.proof.function_comparison import Binding
from kgbuild.proof.parity import EXACT, OVERRIDDEN, FunctionParity, ParityProof

if TYPE_CHECKING:
    from kgbuild.kernel.exports import Export
    from kgbuild.kernel.parent_symtab import ParentSymbols

_SHIFT = 40  # an address here is the section's index and the offset in it


class ObjectImage(KernelImage):
    """Lookups over the original object, as if it were what runs."""

    def __init__(self, obj: Object, parent: ParentSymbols | None) -> None:
        super().__init__(obj)
        self.parent = parent
        self._positions: dict[tuple[str, bool], int | None] = {}

    def symbol_at(self, index: int) -> Symbol:
        s = self.obj.symbol(index)
        return Symbol(s.index, s.name, address_of(s.shndx, s.value), s.size, s.bind, s.type, s.other, s.shndx)

    def section_at(self, address: int) -> str:
        index = address >> _SHIFT
        return self.obj.sections[index].name if index < len(self.obj.sections) else ""

    def is_init(self, address: int) -> bool:
        return self.section_at(address).startswith(INIT_SECTIONS)

    @cached_property
    def _names_at(self) -> dict[int, list[int]]:
        out: dict[int, list[int]] = {}
        for s in self.obj.iter_symbols():
            if s.type == STT.FUNC and 0 < s.shndx < SHN.LORESERVE:
                out.setdefault(address_of(s.shndx, s.value), []).append(s.index)
        return out

    @cached_property
    def groups(self) -> frozenset[int]:
        """The parent's STT_FILE groups that can be this unit."""
        if self.parent is None:
            return frozenset()
        symbols = list(self.obj.iter_symbols())
        file = next((s.name for s in symbols if s.type == STT.FILE), "")
        kept = [
            s.name
            for s in symbols
            if s.type in (STT.FUNC, STT.OBJECT)
            and s.bind == STB.LOCAL
            and 0 < s.shndx < SHN.LORESERVE
            and not self.obj.sections[s.shndx].name.startswith((*INIT_SECTIONS, ".discard", ".modinfo"))
            and self.parent.named(s.name)
        ]
        return self.parent.groups_of(file, kept)

    def sympos(self, name: str, address: int) -> int | None:
        if self.parent is None:
            return 0
        asked = name, not self.is_global(name, address)
        if asked not in self._positions:
            self._positions[asked] = self.parent.position(*asked, self.groups)
        return self._positions[asked]


def address_of(section: int, offset: int) -> int:
    """Where a place of the object is taken to be."""
    return (section << _SHIFT) + offset


@dataclass(frozen=True, eq=False, repr=False)
class ObjectWorld(World):
    """Binds references as far as the object, the parent's symbols and the exports say."""

    parent: ParentSymbols | None = None
    target: str = VMLINUX
    own: KernelImage | None = field(default=None, repr=False)

    def image(self, target: str) -> KernelImage:
        del target
        assert self.own is not None
        return self.own

    def at(self, target: str, name: str, address: int, proof: str, patched: str = "") -> Bound | NotBound | None:
        found = super().at(target, name, address, proof, patched)
        if isinstance(found, Bound) and self.parent is None:
            return Bound(name, PLAIN, target, 0, address, proof)
        return found

    def anchor(self, address: int) -> Bound | None:
        del address  # no object's sections stay together in the kernel
        return None

    def variable(self, name: str, size: int) -> Bound | NotBound:
        del size
        return Bound(name, PLAIN, "", proof="the name of a section")

    def external(self, target: str, name: str, weak: bool) -> Bound | NotBound:
        if self.exported(name) is not None:
            return Bound(name, EXPORT, proof="exported by vmlinux")
        if self.parent is None or ((export := self.exports.get(name)) is not None and export.module != target):
            return Bound(name, PLAIN, "", proof="undefined in the unit")
        if self.parent.named(name):
            sympos = self.parent.position(name, False, frozenset())
            if sympos is None:
                return NotBound("K13-ambiguous", f"refers to {name}, of which {self.parent.name} has several")
            return Bound(name, KLP, self.parent.name, sympos, 0, "the only global symbol of that name")
        if weak:
            return Bound(name, WEAK_NULL, "", proof="weak, and the kernel does not have it")
        if self.parent.module:
            # it may be vmlinux's or another module's: their tables are not here
            return Bound(name, PLAIN, "", proof="undefined in the unit")
        return NotBound("K5-symbol", f"refers to {name}, which {self.parent.name} does not have")


def assume_parity(view: View, parent: ParentSymbols | None) -> ParityProof:
    """A proof that says every function of the object is what runs. A weak one may be overridden elsewhere: that is
    told by the parent's table, in which the definition that won is still weak; without it, it is not known."""
    functions, bindings = [], {}
    for atom in view.atoms:
        if atom.section < 0 or not atom.names:
            continue
        address = address_of(atom.section, atom.offset)
        bindings[atom.id] = Binding(atom.id, address, "as in the original object")
        if atom.kind == "function":
            known = parent is not None and any(r.weak for r in parent.named(atom.name))
            weak = atom.bind == STB.WEAK and not known
            reason = "the kernel may have another definition" if weak else ""
            functions.append(FunctionParity(atom.id, atom.name, OVERRIDDEN if weak else EXACT, address, reason))
    return ParityProof(tuple(functions), bindings)


def is_of_module(obj: Object) -> bool:
    """Whether an object was compiled for a loadable module: it refers to its own `__this_module`, or its module
    information is not prefixed by a module's name, as that of built-in code is."""
    info = obj.section_named(".modinfo")
    if info is not None:
        return any("." not in key for key, _ in modinfo_items(obj.contents(info.index)))
    return b"\0__this_module\0" in bytes(obj.strtab)


def close_objects(changes: Changes, exports: Mapping[str, Export], parent: ParentSymbols | None) -> Closure:
    """Close the difference of one unit with the original in the kernel's place; refusals are in the result."""
    obj = changes.orig.obj
    module = parent.module if parent is not None else is_of_module(obj) or is_of_module(changes.patched.obj)
    target = (parent.name if parent is not None else "module") if module else VMLINUX
    image = ObjectImage(obj, parent)
    world = ObjectWorld(image, exports, {}, False, parent, target, image)
    return close_in((UnitResult(changes.place, changes, assume_parity(changes.orig, parent), target),), world)
