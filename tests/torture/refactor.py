# SPDX-License-Identifier: GPL-2.0-or-later
"""Refactorings of variables: another name, scope or type, members of one structure, a structure around one.

The patched source then means the same as before, and the state of the running program has to go on: the reference is
made of the program without the refactoring, the patch of the one with it. A builder that takes the variable for a new
one begins it anew, which the warm run shows; one that can't tell refuses.
"""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.torture.program import Function, Program, Unit, Variable, mapped

# Where a variable was: unit, function ("" for the file) and name.
Home = tuple[str, str, str]


@dataclass
class Refactored:
    """A program with refactored variables: what was done, and what each of them is called now, by where it was."""

    program: Program
    said: list[str] = field(default_factory=list)
    names: dict[Home, str] = field(default_factory=dict)
    retyped: bool = False


def refactor(program: Program, seed: int) -> Refactored:
    """The program with one or two refactorings of variables; none where none is possible."""
    rng = random.Random(f"refactor {seed}")
    out = Refactored(copy.deepcopy(program))
    from tests.torture.retype import RETYPINGS

    for _ in range(rng.choice((1, 1, 2))):
        retyped = rng.random() < 0.5
        text = rng.choice(RETYPINGS if retyped else REFACTORINGS)(out, rng)
        if text is not None:
            out.said.append(text)
            out.retyped |= retyped
    return out


def _statics(out: Refactored, kinds: tuple[str, ...] = ("u32", "array", "cfg", "hook")) -> list[tuple[Unit, Variable]]:
    """Writable variables of a file that no other variable begins with and that were left alone so far."""
    done = set(out.names.values())
    return [
        (u, v)
        for u in out.program.units
        for v in u.variables
        if v.static and not v.const and v.kind in kinds and v.name not in done and not _held(u, v)
    ]


def _held(unit: Unit, v: Variable) -> bool:
    return any(v.name in w.init for w in unit.variables)


def _put(out: Refactored, unit: Unit, v: Variable, text: str) -> None:
    """Write `text` for a variable of a file wherever it is named."""
    for f in unit.functions:
        if not any(w.name == v.name for w in f.locals):
            f.body = [mapped(s, {v.name: text}) for s in f.body]


def _fresh(out: Refactored, rng: random.Random, stem: str) -> str:
    return f"{stem}_{rng.choice(('now', 'kept', 'all'))}{rng.randrange(100)}"


def _renamed(out: Refactored, rng: random.Random) -> str | None:
    found = _statics(out)
    if not found:
        return None
    unit, v = rng.choice(found)
    name = _fresh(out, rng, v.name)
    _put(out, unit, v, name)
    out.names[unit.name, "", v.name] = name
    old, v.name = v.name, name
    return f"{unit.name}: {old} is called {name}"


def _to_file(out: Refactored, rng: random.Random) -> str | None:
    """A static local becomes a variable of the file."""
    taken = set(out.names.values())
    found = [
        (u, f, v)
        for u in out.program.units
        for f in u.functions
        for v in f.locals
        if not v.const and v.kind == "u32" and v.name not in taken and (u.name, f.name, v.name) not in out.names
    ]
    if not found:
        return None
    unit, f, v = rng.choice(found)
    free = not any(w.name == v.name for w in unit.variables) and not _named_elsewhere(unit, f, v)
    name = v.name if free and rng.random() < 0.5 else _fresh(out, rng, f"{f.name}_{v.name}")
    f.body = [mapped(s, {v.name: name}) for s in f.body]
    f.locals.remove(v)
    out.names[unit.name, f.name, v.name] = name
    unit.variables.insert(0, Variable(name, v.kind, list(v.init), section=v.section))
    return f"{unit.name}: {v.name} of {f.name} becomes {name} of the file"


def _named_elsewhere(unit: Unit, f: Function, v: Variable) -> bool:
    pattern = re.compile(rf"\b{v.name}\b")
    return any(pattern.search(s) for g in unit.functions if g is not f for s in g.body)


def _to_local(out: Refactored, rng: random.Random) -> str | None:
    """A variable of the file that one function uses becomes its static local."""
    places = []
    for unit, v in _statics(out, ("u32",)):
        users = [f for f in unit.functions if any(re.search(rf"\b{v.name}\b", s) for s in f.body)]
        users = [f for f in users if not any(w.name == v.name for w in f.locals)]
        # two copies of an inline function would still share it, and the reference knows one home only
        if len(users) == 1 and "inline" not in users[0].attributes:
            places.append((unit, v, users[0]))
    if not places:
        return None
    unit, v, f = rng.choice(places)
    unit.variables.remove(v)
    f.locals.append(Variable(v.name, v.kind, list(v.init), section=v.section))
    out.names[unit.name, "", v.name] = v.name
    return f"{unit.name}: {v.name} becomes a static local of {f.name}"


def _grouped(out: Refactored, rng: random.Random) -> str | None:
    """Two variables become members of one structure."""
    units = [u for u in out.program.units if len([1 for w, _ in _statics(out, ("u32",)) if w is u]) > 1]
    if not units:
        return None
    unit = rng.choice(units)
    first, second = rng.sample([v for w, v in _statics(out, ("u32",)) if w is unit], 2)
    name = _fresh(out, rng, "group")
    for v in (first, second):
        _put(out, unit, v, f"{name}.{v.name}")
        unit.variables.remove(v)
        out.names[unit.name, "", v.name] = name
    unit.variables.insert(0, Variable(name, "group", [f"{v.name} {v.init[0]}" for v in (first, second)]))
    return f"{unit.name}: {first.name} and {second.name} become members of {name}"


def _wrapped(out: Refactored, rng: random.Random) -> str | None:
    """A variable becomes a structure of one member, of the same size and name."""
    found = _statics(out, ("u32",))
    if not found:
        return None
    unit, v = rng.choice(found)
    _put(out, unit, v, f"{v.name}.only")
    out.names[unit.name, "", v.name] = v.name
    v.kind, v.init = "group", [f"only {v.init[0]}"]
    return f"{unit.name}: {v.name} becomes a structure"


def _made_global(out: Refactored, rng: random.Random) -> str | None:
    """A variable of a file becomes one of its object. Code of other files that means another of that name would mean it
    then."""
    program, places = out.program, []
    for unit, v in _statics(out):
        named = [u for u in program.units if u is not unit and u.target == unit.target]
        text = " ".join(s for u in named for f in u.functions for s in f.body)
        if v.name not in program.defined(unit.target) and not re.search(rf"\b{v.name}\b", text):
            places.append((unit, v))
    if not places:
        return None
    unit, v = rng.choice(places)
    v.static = False
    out.names[unit.name, "", v.name] = v.name
    return f"{unit.name}: {v.name} becomes global"


REFACTORINGS: tuple[Callable[[Refactored, random.Random], str | None], ...] = (
    _renamed,
    _renamed,
    _to_file,
    _to_file,
    _to_local,
    _grouped,
    _wrapped,
    _made_global,
)
