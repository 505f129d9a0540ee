# SPDX-License-Identifier: GPL-2.0-or-later
"""What sort of symbol an atom is, by its name and place."""

from __future__ import annotations

import re
from functools import lru_cache

from kgbuild.objects.atoms import DATA, FUNCTION, Atom, Ref
from kgbuild.objects.stateless import is_stateless
from kgbuild.objects.view import View

_NUMBER = re.compile(r"\.\d+(?=\.|$)")


_UNIQUE = re.compile(r"(^|\.)(__UNIQUE_ID_[A-Za-z_]*?)\d+")


# Anonymous read-only data that happens to have a name: by content.
ANONYMOUS = ("CSWTCH", "__func__", "__FUNCTION__", "__PRETTY_FUNCTION__", "__msg", "C")


# What is freed after boot, or runs only when its module goes.
INIT_SECTIONS = (".init", ".exit", ".meminit", ".cpuinit", ".devinit", ".ref.text.init")


@lru_cache(1 << 16)
def stem(name: str) -> str:
    """A name without the numbers that compilers append: `f.constprop.0.isra.1` gives `f.constprop.isra`."""
    return _UNIQUE.sub(r"\1\2", _NUMBER.sub("", name))


def variable(name: str) -> str:
    """What a static local is called in the source, or "" for a name that none has: `count.3` of gcc and `first.count`
    or `first.count.3` of clang, which puts the function before it, are `count`."""
    return stem(name).rpartition(".")[2] if "." in name else ""


def is_anonymous(view: View, atom: Atom) -> bool:
    """True for a constant whose name says nothing: compared and carried by content."""
    return atom.kind == DATA and view.is_const(atom) and any(variable(n) in ANONYMOUS for n in atom.names)


PREFIXES = ("__pfx_", "__cfi_")


PARAMETERS = "__param"


def is_cold(atom: Atom) -> bool:
    """True for the half of a function that gcc moved out of its way."""
    return any(".cold" in n for n in atom.names)


def is_prefix(atom: Atom) -> bool:
    """True for the padding before a function that has a symbol of its own (CONFIG_CALL_PADDING, kCFI)."""
    return atom.kind == FUNCTION and all(n.startswith(PREFIXES) for n in atom.names)


def cold_parents(atom: Atom, view: View) -> list[Atom]:
    """The functions of `view` that a `.cold` half belongs to, by each of its names (it may have others as well)."""
    return [parent for name in cold_parent_names(atom) for parent in view.by_name.get(name, [])]


def cold_parent_names(atom: Atom) -> list[str]:
    """The names of the function a `.cold` half belongs to."""
    return list(dict.fromkeys(n[: n.index(".cold")] for n in atom.names if ".cold" in n))


def is_init(view: View, atom: Atom) -> bool:
    """True for an atom in memory that is freed after boot."""
    return view.section_name(atom).startswith(INIT_SECTIONS)


def is_branch(view: View, source: Atom, ref: Ref) -> bool:
    """Whether a reference is the target of a call or jump, not a pointer being taken."""
    if not view.section_of(source).executable:
        return False
    return any(i.is_branch and i.field_offset == ref.offset for i in view.instructions(source))


_SCALAR = 4  # bytes; int


def may_be_array(view: View, atom: Atom) -> bool:
    """Whether code may have a pointer behind a variable's end, or before its start: not of a once-flag and its like,
    nor of what is as small as one number."""
    return atom.size > _SCALAR and not is_stateless(view, atom)


def means_one(view: View, atom: Atom) -> bool:
    """Whether a reference by section and offset that leads to an atom can mean nothing else: what lies beside it is no
    array."""
    return not any(other is not None and may_be_array(view, other) for other in view.neighbours(atom))
