# SPDX-License-Identifier: GPL-2.0-or-later
"""Random changes to a program: what patches do to source code, and what hurts.

A change takes a program, changes it in place and says what it did; None where it is not possible here.
"""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Callable

from tests.torture.generate import (
    MOST,
    SECTIONS,
    TEXTS,
    Context,
    call,
    constant,
    costs,
    make_variable,
    statement,
)
from tests.torture.objects import OBJECT_CHANGES
from tests.torture.program import KERNEL, MODULE, Function, Program, Unit, Variable

Change = Callable[[Program, random.Random], str | None]


def change(program: Program, seed: int) -> tuple[Program, list[str]]:
    """The program with one to three random changes, and what they are."""
    rng = random.Random(f"change {seed}")
    for _ in range(20):
        after, said = copy.deepcopy(program), []
        for _ in range(rng.choice((1, 1, 2, 3))):
            two = program.has_module() and rng.random() < 0.4
            made = OBJECT_CHANGES if two else CHANGES
            text = rng.choices([c for c, _ in made], [w for _, w in made])[0](after, rng)
            if text is not None:
                said.append(text)
        if said and max(costs(after).values()) <= 4 * MOST and valid(after):
            return after, said
    return copy.deepcopy(program), ["nothing"]


def valid(program: Program) -> bool:
    """Whether what a change left still makes sense: every function that is called is there."""
    for unit in program.units:
        names = [f.name for f in unit.functions]
        if len(names) != len(set(names)):
            return False
    for target in (KERNEL, MODULE):
        found = [
            x.name
            for u in program.units
            if u.target == target
            for x in [*u.functions, *u.variables]
            if not x.static and not (isinstance(x, Function) and x.weak)
        ]
        if len(found) != len(set(found)):
            return False
    return True


def _pick(program: Program, rng: random.Random, *, header: bool = True) -> tuple[Unit, Function] | None:
    """A function with a body, and its unit (any, for one of the header)."""
    found = [(u, f) for u, f in program.functions() if not f.alias and (u is not None or header)]
    if not found:
        return None
    u, f = rng.choice(found)
    return u or Unit(""), f


def _context(program: Program, unit: Unit, f: Function, rng: random.Random) -> Context:
    return Context(program if unit.name else Program((), [], program.header), unit, f, rng)


def _constant(program: Program, rng: random.Random) -> str | None:
    picked = _pick(program, rng)
    if picked is None:
        return None
    _, f = picked
    places = [
        (i, m)
        for i, s in enumerate(f.body)
        if "for (" not in s and "case" not in s
        for m in re.finditer(r"(?<![\w\"&\[])\d+\b(?!\])", re.sub(r'"[^"]*"', lambda q: "x" * len(q[0]), s))
        if not re.search(r"\b(keep|call_kept|is_kept)\($", s[: m.start()])
        and ">> " not in s[max(0, m.start() - 3) : m.start()]
    ]
    if not places:
        return None
    i, m = rng.choice(places)
    new = str(int(m[0]) + rng.choice((1, 2, 16)))
    f.body[i] = f.body[i][: m.start()] + new + f.body[i][m.end() :]
    return f"{f.name}: {m[0]} becomes {new}"


def _insert(program: Program, rng: random.Random) -> str | None:
    picked = _pick(program, rng)
    if picked is None:
        return None
    unit, f = picked
    made = statement(_context(program, unit, f, rng))
    f.body.insert(rng.randrange(len(f.body) + 1), made)
    return f"{f.name}: new statement {made!r}"


def _delete(program: Program, rng: random.Random) -> str | None:
    picked = _pick(program, rng)
    if picked is None or not picked[1].body:
        return None
    gone = picked[1].body.pop(rng.randrange(len(picked[1].body)))
    return f"{picked[1].name}: without {gone!r}"


def _replace(program: Program, rng: random.Random) -> str | None:
    picked = _pick(program, rng)
    if picked is None or not picked[1].body:
        return None
    unit, f = picked
    i = rng.randrange(len(f.body))
    old = f.body.pop(i)
    f.body.insert(i, statement(_context(program, unit, f, rng)))
    return f"{f.name}: {f.body[i]!r} for {old!r}"


def _swap_statements(program: Program, rng: random.Random) -> str | None:
    picked = _pick(program, rng)
    if picked is None or len(picked[1].body) < 2:
        return None
    body = picked[1].body
    i = rng.randrange(len(body) - 1)
    body[i], body[i + 1] = body[i + 1], body[i]
    return f"{picked[1].name}: statements {i} and {i + 1} change places"


def _callee(program: Program, rng: random.Random) -> str | None:
    """A call leads to another function."""
    places = []
    for unit in program.units:
        for f in unit.functions:
            known = {g.name: g for g in program.visible(unit)}
            for i, s in enumerate(f.body):
                for name in set(re.findall(r"\b(\w+)\(", s)) & known.keys():
                    others = [
                        g for g in known.values() if g.kind == known[name].kind and g.rank < f.rank and g.name != name
                    ]
                    places += [(f, i, name, g.name) for g in others]
    if not places:
        return None
    f, i, name, other = rng.choice(places)
    f.body[i] = re.sub(rf"\b{name}\b", other, f.body[i])
    return f"{f.name}: {other} for {name}"


def _argument(program: Program, rng: random.Random) -> str | None:
    """One call passes something that the others do not."""
    picked = _pick(program, rng, header=False)
    if picked is None:
        return None
    unit, f = picked
    found = [g for g in unit.functions if g.rank < f.rank and g.fixed and g.static]
    if not found:
        return None
    g = rng.choice(found)
    fixed, g.fixed = g.fixed, constant(rng)
    made = f"r += {call(Context(program, unit, f, rng), g)};"
    g.fixed = fixed
    f.body.insert(rng.randrange(len(f.body) + 1), made)
    return f"{f.name}: {made!r}"


def _attributes(program: Program, rng: random.Random) -> str | None:
    picked = _pick(program, rng, header=False)
    if picked is None or picked[1].kind == "entry" or picked[1].weak:
        return None
    f = picked[1]
    toggled = rng.choice(("noinline", "noinline", "notrace", "cold"))
    if "inline" in f.attributes:
        return None
    if toggled in f.attributes:
        f.attributes.remove(toggled)
    else:
        f.attributes.append(toggled)
    return f"{f.name}: {toggled} toggled"


def _one_of_twins(program: Program, rng: random.Random) -> str | None:
    found = [f for u in program.units for f in u.functions if f.name.endswith("_twin") and not f.alias]
    if not found:
        return None
    f = rng.choice(found)
    f.body.insert(rng.randrange(len(f.body) + 1), rng.choice(("r += 77;", "trace(r + 5);", "r ^= 1234;")))
    return f"{f.name}: no longer a twin"


def _both_twins(program: Program, rng: random.Random) -> str | None:
    """Functions of one body change, each in its own way or both in the same."""
    found = [(u, f) for u in program.units for f in u.functions if f.name.endswith("_twin") and not f.alias]
    if not found:
        return None
    unit, f = rng.choice(found)
    others = [g for g in unit.functions if f.name == f"{g.name}_twin"]
    if not others:
        return None
    lines = rng.choice((("r += 77;", "r += 77;"), ("r += 77;", "r += 78;"), ("trace(r);", "trace(r);")))
    for g, line in zip((f, others[0]), lines, strict=True):
        g.body.insert(0, line)
    return f"{f.name}: both twins change ({lines})"


def _returns(program: Program, rng: random.Random) -> str | None:
    """What never returned returns."""
    found = [f for u in program.units for f in u.functions if f.name.endswith("_fail") and f.body]
    if not found:
        return None
    f = rng.choice(found)
    f.body = [rng.choice(("trace(a);", "if (a & 1) { die(3); }", "r += 8;"))]
    return f"{f.name}: returns"


def _own_body(program: Program, rng: random.Random) -> str | None:
    """What was another name of a function becomes one of its own."""
    found = [(u, f) for u in program.units for f in u.functions if f.alias]
    if not found:
        return None
    unit, f = rng.choice(found)
    (target,) = [g for g in unit.functions if g.name == f.alias]
    if target.kind != f.kind:
        return None
    f.alias, f.body, f.attributes = "", [*target.body, rng.choice(("r += 3;", "trace(r);"))], list(target.attributes)
    f.body = [s for s in f.body if not any(re.search(rf"\b{v.name}\b", s) for v in target.locals)]
    return f"{f.name}: a body of its own"


def _override(program: Program, rng: random.Random) -> str | None:
    """A weak definition is overridden, by a unit that did not."""
    found = [(u, f) for u in program.units for f in u.functions if f.weak]
    if not found:
        return None
    unit, f = rng.choice(found)
    units = [u for u in program.units if u.target == unit.target and u is not unit]
    if not units or any(g.name == f.name and not g.weak for u in units for g in u.functions):
        return None
    new = Function(f.name, f.kind, f.rank, static=False, attributes=["noinline"], body=[*f.body, "r += 5;"])
    new.body = [s for s in new.body if not any(re.search(rf"\b{v.name}\b", s) for v in f.locals + unit.variables)]
    new.body = [s for s in new.body if not any(re.search(rf"\b{g.name}\b", s) for g in unit.functions if g.static)]
    rng.choice(units).functions.insert(0, new)
    return f"{f.name}: overridden"


def _move(program: Program, rng: random.Random) -> str | None:
    """A global variable moves to another unit."""
    found = [(u, v) for u in program.units for v in u.variables if not v.static and v.kind in ("u32", "array")]
    if not found or len(program.units) < 2:
        return None
    unit, v = rng.choice(found)
    units = [u for u in program.units if u.target == unit.target and u is not unit]
    if not units:
        return None
    to = rng.choice(units)
    used = any(w.kind in ("place", "links") and w.init[0] == v.name for w in unit.variables)
    if used or any(w.name == v.name for w in to.variables):
        return None
    unit.variables.remove(v)
    to.variables.insert(0, v)
    return f"{v.name}: moves to {to.name}"


def _variable_goes(program: Program, rng: random.Random) -> str | None:
    """A variable of a file goes, and so does every statement that names it."""
    found = [
        (u, v)
        for u in program.units
        for v in u.variables
        if v.static and not any(v.name in w.init for w in u.variables)
    ]
    if not found:
        return None
    unit, v = rng.choice(found)
    unit.variables.remove(v)
    for f in unit.functions:
        if not any(w.name == v.name for w in f.locals):
            f.body = [s for s in f.body if not re.search(rf"\b{v.name}\b", s)]
    return f"{v.name}: gone"


def _section(program: Program, rng: random.Random) -> str | None:
    found = [v for u in program.units for v in u.variables if v.static and not v.const]
    if not found:
        return None
    v = rng.choice(found)
    v.section = "" if v.section else rng.choice(SECTIONS)
    return f"{v.name}: in section {v.section or 'of its kind'}"


def _become_twins(program: Program, rng: random.Random) -> str | None:
    pairs = [
        (f, g)
        for u in program.units
        for f in u.functions
        for g in u.functions
        if f is not g
        and f.kind == g.kind == "plain"
        and not (f.alias or g.alias or f.locals or g.locals)
        and f.rank <= g.rank
        and not f.weak
        and not g.weak
    ]
    if not pairs:
        return None
    f, g = rng.choice(pairs)
    g.body = list(f.body)
    g.attributes = [a for a in f.attributes if a != "inline" or g.static]
    return f"{g.name}: the same as {f.name}"


def _new_function(program: Program, rng: random.Random) -> str | None:
    picked = _pick(program, rng, header=False)
    if picked is None:
        return None
    unit, f = picked
    if f.rank < 4:
        return None
    static = rng.random() < 0.8
    new = Function(f"new_{unit.name[0]}{rng.randrange(1000)}", rng.choice(("plain", "cfg")), f.rank - 1, static=static)
    new.attributes = list(rng.choice(((), ("noinline",), ("noinline", "notrace"))))
    if rng.random() < 0.4:
        new.locals.append(Variable(rng.choice(("count", "fresh")), "u32", [rng.choice(("0", "4"))]))
    unit.functions.insert(rng.randrange(len(unit.functions) + 1), new)
    unit.functions.sort(key=lambda g: bool(g.alias))
    for _ in range(rng.randint(1, 4)):
        new.body.append(statement(Context(program, unit, new, rng)))
    f.body.insert(rng.randrange(len(f.body) + 1), f"r += {call(Context(program, unit, f, rng), new)};")
    return f"{f.name}: calls the new {new.name}"


def _gone(program: Program, rng: random.Random) -> str | None:
    """A static function goes, and so does every statement that names it."""
    found = [(u, f) for u in program.units for f in u.functions if f.static and f.kind != "entry" and not f.alias]
    found = [(u, f) for u, f in found if not any(f.name in v.init for v in u.variables)]
    if not found:
        return None
    unit, f = rng.choice(found)
    unit.functions.remove(f)
    for g in unit.functions:
        g.body = [s for s in g.body if not re.search(rf"\b{f.name}\b", s)]
    return f"{f.name}: gone"


def _folded_in(program: Program, rng: random.Random) -> str | None:
    """A static function without a return of its own becomes part of its one kind of caller."""
    return _gone(program, rng)


def _static_local(program: Program, rng: random.Random) -> str | None:
    picked = _pick(program, rng, header=False)
    if picked is None:
        return None
    _, f = picked
    name = rng.choice(("count", "last", "fresh"))
    if any(v.name == name for v in f.locals):
        return None
    f.locals.append(Variable(name, "u32", [rng.choice(("0", "9"))]))
    f.body.insert(rng.randrange(len(f.body) + 1), f"{name} += a;\n\tr += {name};")
    return f"{f.name}: a static local {name}"


def _local_goes(program: Program, rng: random.Random) -> str | None:
    found = [f for _, f in program.functions() if f.locals]
    if not found:
        return None
    f = rng.choice(found)
    v = f.locals.pop(rng.randrange(len(f.locals)))
    f.body = [s for s in f.body if not re.search(rf"\b{v.name}\b", s)]
    return f"{f.name}: without its static {v.name}"


def _first_write(program: Program, rng: random.Random) -> str | None:
    """A variable that nothing wrote to."""
    places = []
    for unit in program.units:
        text = " ".join(s for f in unit.functions for s in f.body)
        for v in unit.variables:
            if v.kind == "u32" and v.static and not v.const and not re.search(rf"\b{v.name}(\+\+| \+?= )", text):
                places.append((unit, v))
    if not places:
        return None
    unit, v = rng.choice(places)
    f = rng.choice(
        [g for g in unit.functions if not g.alias and g.rank > 4] or [g for g in unit.functions if not g.alias]
    )
    f.body.insert(rng.randrange(len(f.body) + 1), rng.choice((f"{v.name} = a;", f"{v.name} += r & 7;", f"{v.name}++;")))
    return f"{f.name}: first write to {v.name}"


def _last_write(program: Program, rng: random.Random) -> str | None:
    """Nothing writes to a variable any more."""
    unit = rng.choice(program.units)
    found = [v for v in unit.variables if v.static and not v.const and v.kind == "u32"]
    if not found:
        return None
    v = rng.choice(found)
    for f in unit.functions:
        f.body = [s for s in f.body if not re.search(rf"\b{v.name}(\+\+| \+?= )", s)]
    return f"{v.name}: never written"


def _new_variable(program: Program, rng: random.Random) -> str | None:
    picked = _pick(program, rng, header=False)
    if picked is None:
        return None
    unit, f = picked
    callbacks = [g.name for g in unit.functions if g.kind == "one"]
    kind = rng.choice(("u32", "array", "cfg"))
    v = make_variable(rng, f"fresh_{unit.name[0]}{rng.randrange(1000)}", kind, callbacks)
    v.static = rng.random() < 0.8
    unit.variables.insert(rng.randrange(len(unit.variables) + 1), v)
    use = {
        "u32": "{0} += r;\n\tr ^= {0};",
        "array": "{0}[a & 3] += 2;\n\tr += {0}[r & 3];",
        "cfg": "{0}.a++;\n\tr += {0}.a;",
    }
    read = {"u32": "r += {0};", "array": "r += {0}[r & 3];", "cfg": "r += {0}.b;\n\tsay({0}.name);"}
    f.body.insert(rng.randrange(len(f.body) + 1), (read if v.const else use)[kind].format(v.name))
    return f"{f.name}: uses the new {v.name}"


def _initial_value(program: Program, rng: random.Random) -> str | None:
    unit = rng.choice(program.units)
    found = [v for v in unit.variables if v.kind in ("u32", "array")]
    if not found:
        return None
    v = rng.choice(found)
    i = rng.randrange(len(v.init))
    v.init[i] = str(int(v.init[i]) + 1)
    return f"{v.name}: begins with {v.init[i]}"


def _string(program: Program, rng: random.Random) -> str | None:
    places = [(f, i) for _, f in program.functions() for i, s in enumerate(f.body) if '"' in s]
    if not places:
        return None
    f, i = rng.choice(places)
    f.body[i] = re.sub(r'"[^"]*"', f'"{rng.choice(TEXTS)}"', f.body[i], count=1)
    return f"{f.name}: another string"


def _switch_case(program: Program, rng: random.Random) -> str | None:
    places = [(f, i) for _, f in program.functions() for i, s in enumerate(f.body) if "case" in s]
    if not places:
        return None
    f, i = rng.choice(places)
    found = list(re.finditer(r"case (\d+): [^;]*?(\d+)", f.body[i]))
    m = rng.choice(found)
    f.body[i] = f.body[i][: m.start(2)] + str(rng.randrange(200)) + f.body[i][m.end(2) :]
    return f"{f.name}: another case {m[1]}"


def _order(program: Program, rng: random.Random) -> str | None:
    """Functions change places in the file; this alone changes nothing."""
    unit = rng.choice(program.units)
    rng.shuffle(unit.functions)
    unit.functions.sort(key=lambda f: bool(f.alias))
    return f"{unit.name}: functions in another order"


def _variable_order(program: Program, rng: random.Random) -> str | None:
    unit = rng.choice(program.units)
    rng.shuffle(unit.variables)
    unit.variables.sort(key=lambda v: v.kind in ("place", "links"))  # behind what it points into
    return f"{unit.name}: variables in another order"


def _parameter(program: Program, rng: random.Random) -> str | None:
    """A function gets a third parameter."""
    found = [
        (u, f)
        for u in program.units
        for f in u.functions
        if f.kind == "plain"
        and f.static
        and not f.weak
        and not f.alias
        and not any(g.alias == f.name for g in u.functions)
    ]
    if not found:
        return None
    unit, f = rng.choice(found)
    f.kind = "wide"
    value = constant(rng)
    for g in unit.functions:
        g.body = [_with_argument(s, f.name, value) for s in g.body]
    return f"{f.name}: a third parameter"


def _with_argument(text: str, name: str, value: str) -> str:
    out, at = "", 0
    for m in re.finditer(rf"\b{name}\(", text):
        depth, end = 1, m.end()
        while depth:
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        out += text[at : end - 1] + f", {value}"
        at = end - 1
    return out + text[at:]


def _table_entry(program: Program, rng: random.Random) -> str | None:
    places = [(u, v) for u in program.units for v in u.variables if v.kind == "ops"]
    if not places:
        return None
    unit, v = rng.choice(places)
    found = [f.name for f in unit.functions if f.kind == "one" and f.rank < 20]
    i = rng.randrange(2)
    old, v.init[i] = v.init[i], rng.choice(found)
    return f"{v.name}: {v.init[i]} for {old}"


def _impure(program: Program, rng: random.Random) -> str | None:
    """A function that had no side effect gets one: calls that were merged are made twice."""
    found = [
        (u, f)
        for u in program.units
        for f in u.functions
        if not f.alias
        and f.kind != "entry"
        and f.rank < 60
        and not re.search(
            r"trace|say|\+\+|\+=|source|complain|die|keep", " ".join(s for s in f.body if "r +=" not in s)
        )
    ]
    if not found:
        return None
    _, f = rng.choice(found)
    made = rng.choice(("trace(a);", "r += source(1) & 1;", "if (unlikely(a == 77)) { die(9); }", 'say("x");'))
    f.body.insert(0, made)
    return f"{f.name}: a side effect {made!r}"


def _early(program: Program, rng: random.Random) -> str | None:
    """A new head, or none."""
    picked = _pick(program, rng)
    if picked is None:
        return None
    f = picked[1]
    if f.body and f.body[0].startswith("if (!(a &"):
        gone = f.body.pop(0)
        return f"{f.name}: without the head {gone!r}"
    f.body.insert(0, f"if (!(a & {rng.choice((1, 2, 4))}))\n\t\treturn {constant(rng)};")
    return f"{f.name}: a head"


CHANGES: tuple[tuple[Change, float], ...] = (
    (_constant, 8),
    (_insert, 8),
    (_delete, 4),
    (_replace, 5),
    (_swap_statements, 3),
    (_callee, 4),
    (_argument, 4),
    (_attributes, 3),
    (_one_of_twins, 6),
    (_become_twins, 3),
    (_both_twins, 3),
    (_returns, 4),
    (_section, 0.4),
    (_override, 0.6),
    (_move, 0.4),
    (_own_body, 1.5),
    (_new_function, 4),
    (_gone, 2),
    (_static_local, 3),
    (_local_goes, 2),
    (_first_write, 4),
    (_last_write, 2),
    (_new_variable, 3),
    (_variable_goes, 2),
    (_initial_value, 1),
    (_string, 3),
    (_switch_case, 2),
    (_order, 2),
    (_variable_order, 1),
    (_parameter, 3),
    (_table_entry, 0.7),
    (_impure, 4),
    (_early, 4),
)
