# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs of two objects: the kernel, and a module with functions and variables of the same names.

What a name means is what the link of each object finds (kgbuild/closure/name_lookup.py): the module's own first, then
what the kernel exports; the kernel finds nothing of the module's, and a weak reference that finds nothing is NULL. The
changes here bring names into one object that the other has, or refers to.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from tests.torture.generate import Context, call, constant, cost_of, statement
from tests.torture.program import KERNEL, MODULE, Function, Program, Unit, Variable

MAYBE = ("maybe_one", "maybe_two")  # names that nobody has at first
MOST = 1500
READ = {"u32": "r += {0};", "array": "r += {0}[r & 3];", "cfg": "r ^= {0}.a;\n\tr += {0}.b;"}
WRITE = {
    "u32": "{0} += r & 7;\n\tr ^= {0};",
    "array": "{0}[a & 3] += r & 3;\n\tr += {0}[r & 3];",
    "cfg": "{0}.b++;\n\tr += {0}.b;",
}


def same_names(rng: random.Random, program: Program) -> None:
    """Give the module's functions and variables names that the kernel has, and choose what the kernel exports. Called
    before there are bodies."""
    kernel = [u for u in program.units if u.target == KERNEL]
    names = [f.name for u in kernel for f in u.functions if f.kind != "entry" and not f.alias and not f.weak]
    variables = [v.name for u in kernel for v in u.variables]
    for unit in (u for u in program.units if u.target == MODULE):
        aliased = {f.alias for f in unit.functions}
        for f in unit.functions:
            if f.kind != "entry" and not (f.alias or f.weak or f.name in aliased) and rng.random() < 0.45:
                _rename(rng, program, unit, f, names)
        for v in unit.variables:
            if rng.random() < 0.45:
                _rename(rng, program, unit, v, variables)
    shown = [f for u in kernel for f in u.functions if not (f.static or f.weak or f.kind == "entry")]
    program.exports = {x.name for x in [*shown, *(v for u in kernel for v in u.variables)] if not x.static}
    program.exports = {n for n in sorted(program.exports) if rng.random() < 0.6}


def _rename(rng: random.Random, program: Program, unit: Unit, thing: Function | Variable, names: list[str]) -> None:
    taken = {x.name for x in [*unit.functions, *unit.variables]}
    if not thing.static:
        taken |= {x.name for u in program.units if u.target == MODULE for x in [*u.functions, *u.variables]}
    taken |= program.defined(MODULE)
    free = [n for n in names if n not in taken]
    if not free:
        return
    old, thing.name = thing.name, rng.choice(free)
    for v in unit.variables:
        v.init = [thing.name if n == old else n for n in v.init]


def weak_uses(rng: random.Random, program: Program) -> None:
    """References that are used where something is found."""
    for unit in program.units:
        if rng.random() < 0.7:
            _weak_use(rng, program, unit)


def _weak_use(rng: random.Random, program: Program, unit: Unit) -> str | None:
    other = KERNEL if unit.target == MODULE else MODULE
    own = {x.name for x in [*unit.functions, *unit.variables]} | program.defined(unit.target)
    # what the module's code calls weakly in one place it must not call otherwise in another
    used = " ".join(s for f in unit.functions for s in f.body)
    found = {
        f.name: f
        for u in program.units
        if u.target == other
        for f in u.functions
        if f.kind == "plain" and not f.static and f.name not in own and not re.search(rf"\b{f.name}\b", used)
    }
    choice = [*found, *(n for n in MAYBE if n not in own)]
    name = rng.choice(choice)
    rank = found[name].rank if name in found else 4
    users = [f for f in unit.functions if f.rank > max(rank, 4) and not f.alias]
    if name in unit.weak or not users:
        return None
    f = rng.choice(users)
    line = f"r += {name} ? {name}(r, {constant(rng)}) : {constant(rng)};"
    if cost_of(program, f, [*f.body, line]) > MOST:
        return None
    unit.weak[name] = "plain"
    f.body.insert(rng.randrange(len(f.body) + 1), line)
    return f"{f.name}: uses {name} where there is one"


# -- changes -----------------------------------------------------------------------------------------------------------


def _users(rng: random.Random, unit: Unit, rank: int) -> Function | None:
    found = [f for f in unit.functions if f.rank > rank and not f.alias]
    return rng.choice(found) if found else None


def _new_name(program: Program, rng: random.Random) -> str | None:
    """A new function of one object, or of both, of a name that the other has or asks for."""
    if not program.has_module():
        return None
    unit = rng.choice(program.units)
    other = KERNEL if unit.target == MODULE else MODULE
    theirs = {
        f.name: f
        for u in program.units
        if u.target == other
        for f in u.functions
        if f.kind == "plain" and not (f.alias or f.weak)
    }
    asked = {n for u in program.units for n in u.weak}
    name = rng.choice(sorted({*theirs, *asked, *MAYBE}))
    said = _add_function(program, rng, unit, name, theirs[name].rank if name in theirs else 4)
    if said is not None and rng.random() < 0.3:
        twins = [u for u in program.units if u.target == other]
        both = _add_function(program, rng, rng.choice(twins), name, 4)
        said += f"; {both}" if both else ""
    return said


def _add_function(program: Program, rng: random.Random, unit: Unit, name: str, rank: int) -> str | None:
    everywhere = [u for u in program.units if u.target == unit.target]
    if any(x.name == name for u in everywhere for x in [*u.functions, *u.variables]):
        return None
    new = Function(name, "plain", rank, static=rng.random() < 0.2, attributes=list(rng.choice(((), ("noinline",)))))
    if new.static and name in unit.weak:
        return None
    unit.functions.insert(0, new)
    if rng.random() < 0.5:
        new.locals.append(Variable("count", "u32", [rng.choice(("0", "3"))]))
    for _ in range(rng.randint(1, 3)):
        new.body.append(statement(Context(program, unit, new, rng)))
    # another unit's code that refers to the kernel's export of that name finds this one instead
    user = _users(rng, unit, rank)
    if user is not None and rng.random() < 0.8:
        user.body.insert(rng.randrange(len(user.body) + 1), f"r += {call(Context(program, unit, user, rng), new)};")
    return f"{unit.target}: new {name}"


def _new_variable_name(program: Program, rng: random.Random) -> str | None:
    """A new variable of one object, or of both, of a name that the other has."""
    if not program.has_module():
        return None
    unit = rng.choice(program.units)
    other = KERNEL if unit.target == MODULE else MODULE
    theirs = [v for u in program.units if u.target == other for v in u.variables if v.kind in READ]
    if not theirs:
        return None
    return _add_variable(program, rng, unit, rng.choice(theirs))


def _add_variable(program: Program, rng: random.Random, unit: Unit, model: Variable) -> str | None:
    everywhere = [u for u in program.units if u.target == unit.target]
    if any(x.name == model.name for u in everywhere for x in [*u.functions, *u.variables]):
        return None
    used = [f for u in everywhere for f in u.functions if any(re.search(rf"\b{model.name}\b", s) for s in f.body)]
    if used and model.const:
        return None
    v = Variable(model.name, model.kind, list(model.init), static=rng.random() < 0.3)
    user = _users(rng, unit, 5)
    if user is None or any(w.name == v.name for w in user.locals):
        return None
    unit.variables.insert(0, v)
    line = rng.choice((READ, WRITE, WRITE))[v.kind].format(v.name)
    user.body.insert(rng.randrange(len(user.body) + 1), line)
    return f"{unit.target}: a variable {v.name} of its own"


def _reach(program: Program, rng: random.Random) -> str | None:
    """The module's code refers to something of the kernel: exported or not."""
    units = [u for u in program.units if u.target == MODULE]
    if not units:
        return None
    unit = rng.choice(units)
    own = {x.name for x in [*unit.functions, *unit.variables]} | program.defined(MODULE) | unit.weak.keys()
    kernel = [u for u in program.units if u.target == KERNEL]
    functions = [f for u in kernel for f in u.functions if not f.static and not f.weak and f.name not in own]
    variables = [v for u in kernel for v in u.variables if not v.static and v.kind in READ and v.name not in own]
    if not functions + variables:
        return None
    thing = rng.choice([*functions, *variables])
    user = _users(rng, unit, thing.rank if isinstance(thing, Function) else 5)
    if user is None or any(w.name == thing.name for w in user.locals):
        return None
    if isinstance(thing, Function):
        if thing.kind == "entry":
            return None
        line = f"r ^= {call(Context(program, unit, user, rng), thing)};"
    else:
        line = (READ if thing.const else rng.choice((READ, WRITE)))[thing.kind].format(thing.name)
    user.body.insert(rng.randrange(len(user.body) + 1), line)
    return f"{user.name}: the module uses {thing.name} of the kernel"


def _linkage(program: Program, rng: random.Random) -> str | None:
    """A static function becomes global."""
    if not program.has_module():
        return None
    found = [
        (u, f)
        for u in program.units
        for f in u.functions
        if f.static and "inline" not in f.attributes and not any(f.name in v.init for v in u.variables)
    ]
    if not found:
        return None
    unit, x = rng.choice(found)
    same = [y for u in program.units if u.target == unit.target for y in [*u.functions, *u.variables, *program.header]]
    if sum(y.name == x.name for y in same) > 1 or x.name in unit.weak:
        return None
    # code of the object that means the kernel's export of that name would mean this one: another kind would not compile
    theirs = [y for u in program.units if u.target != unit.target for y in [*u.functions, *u.variables]]
    if any(y.name == x.name and (type(y) is not type(x) or y.kind != x.kind) for y in theirs):
        return None
    x.static = False
    return f"{unit.target}: {x.name} becomes global"


def _new_weak(program: Program, rng: random.Random) -> str | None:
    return _weak_use(rng, program, rng.choice(program.units)) if program.has_module() else None


OBJECT_CHANGES: tuple[tuple[Callable[[Program, random.Random], str | None], float], ...] = (
    (_new_name, 7),
    (_new_variable_name, 6),
    (_reach, 4),
    (_linkage, 2),
    (_new_weak, 3),
)
