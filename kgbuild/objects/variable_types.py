# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a variable of the original and one of the patched object are of one type.

What the running kernel has in a variable was put there by code that knew the original's type; patched code reads it by
the patched one's. They are compared by structure (debuginfo/type_comparison.py), with everything that they lead to.
"""

from __future__ import annotations

from functools import cached_property
from weakref import WeakKeyDictionary

from kgbuild.debuginfo.btf import Moved, compare_names, other_values, with_last
from kgbuild.debuginfo.btf import TypeKey as Key
from kgbuild.debuginfo.type_comparison import Comparison, TypeDifference
from kgbuild.debuginfo.type_graph import TypedVariable, TypeGraph, read_types
from kgbuild.elf.read import FormatError
from kgbuild.errors import ToolError
from kgbuild.objects.atoms import Atom
from kgbuild.objects.view import View


class UnitTypes:
    """The types of an original and a patched object, compared. Raises FormatError or ToolError where they can't be
    read.

    `names` says which named types BTF finds suspect (None without BTF); `by_name` compares each type by itself, taking
    what it leads to by name; `whole` follows everything.
    """

    def __init__(self, orig: View, patched: View) -> None:
        self.names = compare_names(orig.obj, patched.obj)
        self.orig, self.patched = types_of(orig), types_of(patched)
        self.by_name = Comparison(self.orig, self.patched, by_name=True)

    @cached_property
    def changed(self) -> dict[Key, TypeDifference]:
        """The types of both sides that differ, by (kind, name): in their own members, not in what those lead to."""
        out = {}
        for key in sorted(self.suspects):
            for patched in self.patched.named[key]:
                found = [self.by_name.difference(orig, patched) for orig in self.orig.named[key]]
                if None not in found and found[0] is not None:
                    out[key] = found[0]
                    break
        return out

    @cached_property
    def suspects(self) -> set[Key]:
        """The named types of both sides that may differ."""
        if self.names is None:
            return self.orig.named.keys() & self.patched.named.keys()
        before = self.orig.aligned
        found = self.names.suspects | {key for key, align in self.patched.aligned.items() if align > before.get(key, 0)}
        return {key for key in found if key in self.orig.named and key in self.patched.named} if found else set()

    @property
    def values(self) -> tuple[Moved, ...]:
        """The enumerators that have another value."""
        if self.names is not None:
            return self.names.values
        found = []
        for graph in (self.orig, self.patched):
            each = (with_last({m.name: m.offset for m in members}) for members in graph.enumerations)
            found.append({name: one for several in each for name, one in several.items()})
        return other_values(*found)

    @property
    def gone(self) -> frozenset[Key]:
        """The named types of the original alone."""
        if self.names is None:
            return frozenset(self.orig.named.keys() - self.patched.named.keys())
        return self.names.gone

    @property
    def new(self) -> frozenset[Key]:
        """The named types of the patched object alone."""
        if self.names is None:
            return frozenset(self.patched.named.keys() - self.orig.named.keys())
        return self.names.new

    @cached_property
    def whole(self) -> Comparison:
        """Where no named type differs, what has the same name is the same with all that it leads to."""
        return Comparison(self.orig, self.patched) if self.changed else self.by_name


_graphs: WeakKeyDictionary[View, TypeGraph] = WeakKeyDictionary()
_units: WeakKeyDictionary[View, WeakKeyDictionary[View, UnitTypes]] = WeakKeyDictionary()


def types_of(view: View) -> TypeGraph:
    """The types of an object, read once. Raises FormatError."""
    found = _graphs.get(view)
    if found is None:
        found = _graphs[view] = read_types(view.obj)
    return found


def unit_types(orig: View, patched: View) -> UnitTypes:
    """The types of two objects, compared once. Raises FormatError or ToolError."""
    known = _units.setdefault(orig, WeakKeyDictionary())
    found = known.get(patched)
    if found is None:
        found = known[patched] = UnitTypes(orig, patched)
    return found


def variable_difference(orig_view: View, orig: Atom, patched_view: View, patched: Atom) -> str | None:
    """None where the types of two variables (file-scope or static local) are equal by structure, else the first
    difference in a phrase, like "limit: moves from byte 0 to byte 8"; a phrase that begins with "unknown" where the
    type of one of them is not known."""
    try:
        types = unit_types(orig_view, patched_view)
        orig_variable = types.orig.variable(orig.section, orig.offset)
        patched_variable = types.patched.variable(patched.section, patched.offset)
        if orig_variable is None or patched_variable is None or not orig_variable.type or not patched_variable.type:
            name = orig.name if orig_variable is None or not orig_variable.type else patched.name
            return f"unknown: debugging information does not say of what type {name} is"
        found = types.whole.difference(orig_variable.type, patched_variable.type)
    except (FormatError, ToolError) as error:
        return f"unknown: {error}"
    if found is not None:
        return str(found)
    orig_align = alignment(orig_view, orig, orig_variable)
    patched_align = alignment(patched_view, patched, patched_variable)
    if patched_align > orig_align:
        before = f"to {orig_align}" if orig_align else "not"
        return f"is aligned to {patched_align} bytes now, {before} before"
    return None


def alignment(view: View, atom: Atom, variable: TypedVariable) -> int:
    """What a variable is aligned to, in bytes; where others share its section, what its declaration asks for."""
    alone = len(view.in_section.get(atom.section, ())) == 1
    return max(variable.align, view.section_of(atom).align if alone else 0)
