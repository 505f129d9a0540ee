# SPDX-License-Identifier: GPL-2.0-or-later
"""Variables that get another type, with code that gives the same results for the same state.

Where the bits mean the same the state has to go on. Where they do not (a pointer for an array, another width, bit
fields that are cut in another way, list_head against hlist_node) a live patch can't be right and has to be refused;
unless nothing of the state differs from what the new variable begins with.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from tests.torture.program import Unit, Variable
from tests.torture.refactor import Refactored, _fresh, _put, _statics


def _typed(out: Refactored, unit: Unit, v: Variable, text: str, use: str, said: str) -> str:
    """Give a variable the definition `text`, in which @ stands for its name, and write `use` where it is named."""
    _put(out, unit, v, use.replace("@", v.name))
    out.names[unit.name, "", v.name] = v.name
    v.kind, v.init = "typed", [text, *v.init]
    return f"{unit.name}: {v.name} {said}"


def _u32(out: Refactored, rng: random.Random, *, address: bool = True) -> tuple[Unit, Variable] | None:
    found = [
        (u, v)
        for u, v in _statics(out, ("u32",))
        if address or not any(f"READ_ONCE({v.name})" in s for f in u.functions for s in f.body)
    ]
    return rng.choice(found) if found else None


def _named(out: Refactored, rng: random.Random) -> str | None:
    """A typedef, of a typedef."""
    found = _u32(out, rng)
    if found is None:
        return None
    text = f"typedef u32 level_t; typedef level_t inner_t; static inner_t @ = {found[1].init[0]};"
    return _typed(out, *found, text, "@", "is of a type with a name")


def _signed(out: Refactored, rng: random.Random) -> str | None:
    found = _u32(out, rng)
    if found is None:
        return None
    return _typed(out, *found, f"static int @ = {found[1].init[0]};", "(*(u32 *)&@)", "is signed")


def _wide(out: Refactored, rng: random.Random) -> str | None:
    found = _u32(out, rng)
    if found is None:
        return None
    return _typed(out, *found, f"static u64 @ = {found[1].init[0]};", "(*(u32 *)&@)", "has 64 bits")


def _field(out: Refactored, rng: random.Random) -> str | None:
    """A bit field as wide as the variable."""
    found = _u32(out, rng, address=False)
    if found is None:
        return None
    text = f"static struct {{ u32 only : 32; }} @ = {{ {found[1].init[0]} }};"
    return _typed(out, *found, text, "@.only", "is a bit field")


def _two_fields(out: Refactored, rng: random.Random) -> str | None:
    """The value behind a flag that is new."""
    found = _u32(out, rng)
    if found is None:
        return None
    text = f"static struct {{ u32 flags, value; }} @ = {{ 0, {found[1].init[0]} }};"
    return _typed(out, *found, text, "@.value", "is a structure with a member more")


def _in_structure(out: Refactored, rng: random.Random) -> str | None:
    found = _statics(out, ("array",))
    if not found:
        return None
    unit, v = rng.choice(found)
    text = f"static struct {{ u32 a[{len(v.init)}]; }} @ = {{ {{ {', '.join(v.init)} }} }};"
    return _typed(out, unit, v, text, "@.a", "is a structure with an array")


def _behind_pointer(out: Refactored, rng: random.Random) -> str | None:
    """An array becomes a pointer to one."""
    found = _statics(out, ("array",))
    if not found:
        return None
    unit, v = rng.choice(found)
    room = _fresh(out, rng, "room")
    array = Variable(room, "array", list(v.init))
    volatile = rng.random() < 0.5  # else gcc finds out where it leads
    text = f"static u32 *{'volatile ' if volatile else ''}@ = {room};"
    said = _typed(out, unit, v, text, "@", "is a pointer")
    out.names[unit.name, "", v.name] = room
    unit.variables.insert(0, array)
    return said


def _cut(out: Refactored, rng: random.Random) -> str | None:
    found = _statics(out, ("bits",))
    if not found:
        return None
    unit, v = rng.choice(found)
    lo = rng.choice((10, 16))
    text = f"static struct {{ u32 lo : {lo}, hi : {32 - lo}; }} @ = {{ {', '.join(v.init)} }};"
    return _typed(out, unit, v, text, "@", "has other bit fields")


def _swapped(out: Refactored, rng: random.Random) -> str | None:
    """Members of one size in another order."""
    found = _statics(out, ("bits", "cfg"))
    if not found:
        return None
    unit, v = rng.choice(found)
    if v.kind == "cfg" and any(f"&{v.name}" in s for f in unit.functions for s in f.body):
        return None
    if v.kind == "bits":
        text = f"static struct {{ u32 hi : 20, lo : 12; }} @ = {{ .lo = {v.init[0]}, .hi = {v.init[1]} }};"
    else:
        values = ", ".join(f".{n} = {i}" for n, i in zip(("a", "b", "mode", "name"), v.init, strict=True))
        text = f"static struct {{ u32 b, a, mode; const char *name; }} @ = {{ {values} }};"
    return _typed(out, unit, v, text, "@", "has its members in another order")


def _hopping(out: Refactored, rng: random.Random) -> str | None:
    """A pointer to what a pointer leads to, as hlist_node has where list_head has not."""
    found = _statics(out, ("links",))
    if not found:
        return None
    unit, v = rng.choice(found)
    hop, array = _fresh(out, rng, "hop"), v.init[0]
    for f in unit.functions:
        f.body = [re.sub(rf"\b{v.name}\.prev\b", f"(*{v.name}.pprev)", s) for s in f.body]
    text = f"static u32 *{hop} = &{array}[2]; static struct {{ u32 *next, **pprev; }} @ = {{ {array}, &{hop} }};"
    return _typed(out, unit, v, text, "@", "has a pointer to a pointer")


RETYPINGS: tuple[Callable[[Refactored, random.Random], str | None], ...] = (
    _named,
    _signed,
    _wide,
    _field,
    _two_fields,
    _in_structure,
    _behind_pointer,
    _behind_pointer,
    _cut,
    _swapped,
    _hopping,
)
