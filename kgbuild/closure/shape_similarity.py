# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a variable could hold what another one of a different type held, by the shapes of their types."""

from __future__ import annotations

from kgbuild.correlation.pair_evidence import (
    source_name,
)
from kgbuild.elf.read import FormatError
from kgbuild.objects.atoms import Atom
from kgbuild.objects.variable_shapes import (
    ARRAY,
    NUMBER,
    POINTER,
    STRUCTURE,
    UNKNOWN,
    Shape,
    shape_of,
)
from kgbuild.objects.variable_types import types_of
from kgbuild.objects.view import View

# Structures by which the kernel finds the members of a collection (include/linux); one may take the place of another.
COLLECTIONS = frozenset(
    {"list_head", "hlist_head", "hlist_nulls_head", "hlist_bl_head", "llist_head", "plist_head", "rb_root"}
    | {"rb_root_cached", "xarray", "idr", "radix_tree_root", "maple_tree", "rhashtable", "rhltable", "klist"}
)


def could_hold_the_same(orig_view: View, orig: Atom, patched_view: View, patched: Atom) -> bool:
    """Whether two variables of different types could replace one another, or one a part of the other."""
    orig_shape, patched_shape = shape_of(orig_view, orig), shape_of(patched_view, patched)
    if UNKNOWN in (orig_shape.kind, patched_shape.kind):
        return True
    if (
        _alike(orig_shape, patched_shape)
        or _leads_to(orig_shape, patched_shape)
        or _leads_to(patched_shape, orig_shape)
        or (_is_collection(orig_shape) and _is_collection(patched_shape))
    ):
        return True
    return _is_part(orig_shape, source_name(orig), patched_shape, orig_view) or _is_part(
        patched_shape, source_name(patched), orig_shape, patched_view
    )


def _alike(one: Shape, other: Shape) -> bool:
    if ARRAY in (one.kind, other.kind):
        elements = [s.of[0][1] if s.kind == ARRAY else s for s in (one, other)]
        return _alike(*elements) if ARRAY not in (elements[0].kind, elements[1].kind) else True
    if one.kind != other.kind:
        return False
    if one.kind in (NUMBER, POINTER):
        return True
    if one.name and one.name == other.name:
        return True
    names = [{name for name, _ in shape.of if name} for shape in (one, other)]
    both = names[0] & names[1]
    return bool(both) and 2 * len(both) >= min(map(len, names))


def _is_collection(shape: Shape) -> bool:
    """Whether a variable is where the members of a collection are found."""
    if shape.kind == ARRAY:
        return _is_collection(shape.of[0][1])
    return shape.name in COLLECTIONS


def _leads_to(pointer: Shape, other: Shape) -> bool:
    """Whether what a pointer leads to may be the other variable itself: memory that was allocated is a variable now, or
    the other way round."""
    if pointer.kind != POINTER or not pointer.of:
        return False
    to = pointer.of[0][1]
    element = other.of[0][1] if other.kind == ARRAY else other
    if to.name or other.kind == STRUCTURE:
        return to.name == element.name or (to.kind == element.kind == STRUCTURE and _alike(to, element))
    return other.kind == ARRAY and to.kind != UNKNOWN and _alike(to, element)


def _is_part(part: Shape, name: str, whole: Shape, view: View) -> bool:
    """Whether a variable may have become a member of a structure, which then is one that the patch makes, or has a
    member of that name. `view` is the object that has the part."""
    if whole.kind == ARRAY:
        return _is_part(part, name, whole.of[0][1], view)
    if whole.kind != STRUCTURE:
        return False
    fitting = [n for n, s in whole.of if _alike(part, s)]
    if not fitting:
        return False
    try:
        known = bool(whole.name) and any((kind, whole.name) in types_of(view).named for kind in ("struct", "union"))
    except FormatError:
        known = False
    return not known or any(name in (n, n.lstrip("_")) for n in fitting)
