# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a variable of the original and one of the patched object are of one type.

What the running kernel has in a variable was put there by code that knew the original's type; patched code reads it by
the patched one's. They are held against each other by structure (`typecompare`), with everything that they lead to.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

from kgbuild.analysis.dwarftypes import TypeGraph, read_types
from kgbuild.analysis.typecompare import Comparison
from kgbuild.elf.read import FormatError
from kgbuild.special.view import Atom, View

_graphs: WeakKeyDictionary[View, TypeGraph] = WeakKeyDictionary()
_comparisons: WeakKeyDictionary[View, WeakKeyDictionary[View, Comparison]] = WeakKeyDictionary()


def types_of(view: View) -> TypeGraph:
    """The types of an object, read once. Raises FormatError."""
    found = _graphs.get(view)
    if found is None:
        found = _graphs[view] = read_types(view.obj)
    return found


def comparison_of(original: View, patched: View) -> Comparison:
    """What compares the types of two objects; kept, with what it has found. Raises FormatError."""
    known = _comparisons.setdefault(original, WeakKeyDictionary())
    found = known.get(patched)
    if found is None:
        found = known[patched] = Comparison(types_of(original), types_of(patched))
    return found


def variable_difference(orig: View, o: Atom, patched: View, p: Atom) -> str | None:
    """None where the types of two variables (file-scope or static local) are equal by structure, else the first
    difference in a phrase, like "limit: moves from byte 0 to byte 8"; a phrase that begins with "unknown" where the
    type of one of them is not known."""
    try:
        comparison = comparison_of(orig, patched)
        left = comparison.o.variables.get((o.section, o.offset))
        right = comparison.p.variables.get((p.section, p.offset))
        if left is None or right is None or not left.type or not right.type:
            name = o.name if left is None or not left.type else p.name
            return f"unknown: debugging information does not say of what type {name} is"
        found = comparison.difference(left.type, right.type)
    except FormatError as error:
        return f"unknown: {error}"
    return str(found) if found is not None else None
