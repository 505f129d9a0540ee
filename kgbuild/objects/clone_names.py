# SPDX-License-Identifier: GPL-2.0-or-later
"""What a symbol's name and place say about what the compiler did: clone families, halves, folded bodies.

gcc names what it derives from a function by appending to its name; suffixes stack (`f.constprop.0.isra.0`). Sources:
gcc's symtab_node / clone_function_name and the passes ipa-sra, ipa-cp, ipa-split, ipa-icf; for LTO and clang their
own suffixes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

# what is appended -> what was done; numbers follow some of them
SUFFIXES = {
    "isra": "parameters removed or passed by value (ipa-sra)",
    "constprop": "parameters replaced by constants (ipa-cp)",
    "part": "tail of a function whose head is inlined into its callers (partial inlining)",
    "cold": "unlikely half of a function",
    "lto_priv": "local symbol made unique by LTO",
    "localalias": "local alias of a global",
    "llvm": "local symbol promoted by ThinLTO",
    "warn": "unlikely half of a function",
    "resolver": "resolver of an indirect function",
}
PAD_PREFIX = "__pfx_"
# What is a function of its own, with a calling convention of its own.
CLONES = frozenset(("isra", "constprop", "part"))
_SUFFIX = re.compile(r"\.(" + "|".join(SUFFIXES) + r")(?:\.[0-9A-Fa-f]+)*(?=\.|$)")


class Clone(NamedTuple):
    """A derived name: the function it comes from, and what was done, first to last ("constprop", "isra")."""

    family: str
    kinds: tuple[str, ...]


def clone_of(name: str) -> Clone | None:
    """What a symbol name was derived from, or None for a name of its own.

    `f.constprop.0.isra.0` gives Clone("f", ("constprop", "isra")); a call pad `__pfx_f` gives Clone("f", ("pad",)).
    A dot that no known suffix explains leaves the name whole.
    """
    if name.startswith(PAD_PREFIX) and len(name) > len(PAD_PREFIX):
        inner = clone_of(name[len(PAD_PREFIX) :])
        family = inner.family if inner is not None else name[len(PAD_PREFIX) :]
        return Clone(family, (*(inner.kinds if inner is not None else ()), "pad"))
    start = name.find(".")
    if start <= 0:
        return None
    kinds = []
    at = start
    while at < len(name):
        found = _SUFFIX.match(name, at)
        if found is None:
            return None
        kinds.append(found.group(1))
        at = found.end()
    return Clone(name[:start], tuple(kinds))


def clone_key(name: str) -> str:
    """What a clone is called without the numbers that gcc counts clones by: `f.isra` for `f.isra.3`, `f.isra.cold` for
    its cold half; "" for a name that is not of a clone."""
    clone = clone_of(name)
    if clone is None or not CLONES.intersection(clone.kinds) or name.startswith(PAD_PREFIX):
        return ""
    return ".".join((clone.family, *clone.kinds))


def is_half(name: str, other: str) -> bool:
    """Whether one of two names is the cold half of the other: a jump between them stays within one function."""
    for whole, half in ((name, other), (other, name)):
        if half.startswith(whole) and half[len(whole) :].startswith((".cold", ".warn")):
            return True
    return False


class Shared(NamedTuple):
    """One body with several names. `folded` is True where gcc must have merged them (identical code folding), False
    where the source declares them aliases of one another, None where the symbol table can't tell."""

    names: tuple[str, ...]
    folded: bool | None
    evidence: str


def judge_shared(names: Sequence[tuple[str, bool]]) -> Shared:
    """What several names of one address and size mean.

    Input: (name, whether the symbol is local) of each. A clone's name can't be written in a declaration, and two
    static functions are seldom aliases; a global and a local name may be either (`init_module` is an alias of a
    module's own init function, system calls are aliases of their bodies).
    """
    plain = tuple(name for name, _ in names)
    clones = [name for name, _ in names if clone_of(name) is not None]
    if len(plain) - len(clones) <= 1 and clones:
        return Shared(plain, True, f"equal address and size, and {clones[0]} is a name only gcc gives")
    if len(plain) >= 2 and all(local for _, local in names):
        return Shared(plain, True, "equal address and size, and all of them are local")
    if clones:
        return Shared(plain, True, f"equal address and size, and {clones[0]} is a name only gcc gives")
    return Shared(plain, None, "equal address and size; an alias in the source would look the same")
