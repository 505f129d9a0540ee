# SPDX-License-Identifier: GPL-2.0-or-later
"""Random programs with the shapes that gcc's interprocedural optimisations take hold of.

Everything comes from a seed. Of undefined behaviour there is none: arithmetic is unsigned, shifts and indices are
bounded, calls lead to lower ranks only, and how much a call costs is bounded too.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from tests.torture.program import KERNEL, MODULE, WORD, Function, Program, Unit, Variable

# Options that a kernel's units have beside those of every unit, one set for a program.
FLAG_SETS = (
    (),
    (),
    (),
    ("-fno-jump-tables",),
    ("-fno-jump-tables", "-fconserve-stack"),
    ("-fipa-cp-clone",),
    ("-O3",),
    ("-Os",),
    ("-fno-optimize-sibling-calls", "-fno-jump-tables"),
)
TWO_OBJECTS = 0.4  # share of the programs that have a module
MOST = 1500  # what one call may cost, in calls
ATTRIBUTES = (
    ("noinline",),
    ("noinline",),
    ("noinline",),
    ("noinline",),
    (),
    (),
    (),
    ("inline",),
    ("noinline", "notrace"),
    ("notrace",),
    ("noinline", 'section(".sched.text")'),
    ("noinline", 'section(".sched.text")', "notrace"),
    ("noinline", '__attribute__((optimize("no-tree-vectorize")))'),
    ("noinline", '__attribute__((optimize("O3")))'),
    ("noinline", "cold"),
    ("__attribute__((noclone))", "noinline"),
    ("__attribute__((flatten))",),
    ("noinline", '__attribute__((optimize("no-ipa-sra")))'),
)
POOL = ("helper", "update", "check", "account", "reset_one")
LOCALS = ("count", "last", "seen", "count", "level")
SECTIONS = (".data..read_mostly", ".data..read_mostly", ".data..cacheline_aligned")
TEXTS = ("ready", "late", "lost", "ready to go", "go", "state changed", "x", "not found")


@dataclass
class Context:
    """Where a statement goes."""

    program: Program
    unit: Unit
    function: Function
    random: random.Random

    def callees(self, kind: str) -> list[Function]:
        found = [
            f
            for f in self.program.visible(self.unit)
            if f.kind == kind and f.rank < self.function.rank and not (f.static and f in self.program.header)
        ]
        return found + [f for f in self.program.header if f.kind == kind and f.rank < self.function.rank]

    def variables(self, *, kind: str, written: bool = False) -> list[Variable]:
        foreign = self.program.reachable(self.unit)
        here = self.function.locals + ([] if self.function in self.program.header else self.unit.variables + foreign)
        return [v for v in here if v.kind == kind and not (written and v.const)]


def constant(rng: random.Random) -> str:
    return str(rng.choice((1, 2, 3, 5, 7, 9, 12, 17, 31, 64, 99, 127, 255, 1000)))


def call(ctx: Context, f: Function) -> str:
    """A call of a function, as an expression."""
    rng = ctx.random
    first = rng.choice(("r", "a", "r ^ 5", "a + 1", "r & 15", constant(rng)))
    if f.kind == "one":
        return f"{f.name}({first})"
    last = f.fixed if f.fixed and rng.random() < 0.85 else rng.choice(("a", "r", constant(rng), constant(rng)))
    if f.kind == "cfg":
        known = ctx.variables(kind="cfg")
        if known and rng.random() < 0.4:
            return f"{f.name}(&{rng.choice(known).name}, {last})"
        mode = f.fixed if f.fixed and rng.random() < 0.7 else constant(rng)
        text = f'&(struct cfg){{ .a = {first}, .b = r, .mode = {mode}, .name = "{rng.choice(TEXTS)}" }}'
        return f"{f.name}({text}, {last})"
    third = f", {constant(rng)}" if f.kind == "wide" else ""
    return f"{f.name}({first}, {last}{third})"


def statement(ctx: Context) -> str:
    """One random statement, of those that are possible here."""
    rng = ctx.random
    for _ in range(40):
        made = rng.choices(_MAKERS, _WEIGHTS)[0](ctx)
        if made is not None and cost_of(ctx.program, ctx.function, [*ctx.function.body, made]) <= MOST:
            return made
    return "r = r * 5 + 1;"


def _arithmetic(ctx: Context) -> str:
    k = constant(ctx.random)
    return ctx.random.choice(
        (
            f"r = r * 33 + {k};",
            f"r ^= r >> {int(k) % 31};",
            f"r += a & {k};",
            f"if (r > {k})\n\t\tr -= {k};",
            "barrier();",
        )
    )


def _call(ctx: Context) -> str | None:
    kind = ctx.random.choice(("plain", "plain", "plain", "plain", "cfg", "cfg", "one", "wide"))
    found = ctx.callees(kind)
    if not found:
        return None
    own = [f for f in found if f in ctx.unit.functions]
    f = ctx.random.choice(own if own and ctx.random.random() < 0.6 else found)
    text = call(ctx, f)
    return ctx.random.choice(
        (
            f"r += {text};",
            f"r ^= {text};",
            f"if (r & 4)\n\t\tr = {text};",
            f"r = {text} + {text};",
            f"for (u32 i = 0; i < 3; i++)\n\t\tr += {text};",
            f"if (unlikely((r & 31) == 3))\n\t\tr = {text};",
            f"if (a & 1)\n\t\treturn {text};",
        )
    )


def _around(ctx: Context) -> str | None:
    """A value that may be kept in a register over a call, or read only once."""
    found, known = ctx.callees("plain"), ctx.variables(kind="u32")
    if not found or not known:
        return None
    f, v = ctx.random.choice(found), ctx.random.choice(known).name
    return f"r += {v};\n\tr ^= {call(ctx, f)};\n\tr = r * 3 + {v};"


def _itself(ctx: Context) -> str | None:
    f = ctx.function
    if f.kind not in ("plain", "one") or f.rank > 60 or any(f.name in s for s in f.body):
        return None
    rest = "" if f.kind == "one" else f", {f.fixed or 'r'}"
    return f"if (a > 1 && a < 9)\n\t\tr += {f.name}(a - 2{rest});"


def _hook(ctx: Context) -> str | None:
    found = ctx.variables(kind="hook")
    if not found or ctx.function.rank < 20:
        return None
    v = ctx.random.choice(found)
    known = [f.name for f in ctx.unit.functions if f.kind == "one" and f.rank < 20]
    theirs = [w for u in ctx.program.units if u.target != ctx.unit.target for w in u.variables]
    # a pointer into the module, kept by the kernel, would outlive the module
    if v.const or not known or any(v is w for w in theirs) or ctx.random.random() < 0.75:
        return f"r += {v.name}(r);"
    return f"if (a == {ctx.random.randrange(8)})\n\t\t{v.name} = {ctx.random.choice(known)};"


def _place(ctx: Context) -> str | None:
    found = ctx.variables(kind="place")
    if not found:
        return None
    v = ctx.random.choice(found)
    target = next((w for w in ctx.unit.variables if w.name == v.init[0]), None)
    reads = (f"r += *{v.name};", f"r ^= {v.name}[r & 1];")
    if target is None or ctx.random.random() < 0.6:
        return ctx.random.choice(reads)
    return ctx.random.choice((f"*{v.name} += 3;", f"{v.name}[r & 1] ^= r;"))


def _local(ctx: Context) -> str | None:
    found = [v for v in ctx.function.locals if v.kind == "u32"]
    if not found:
        return None
    v = ctx.random.choice(found).name
    return ctx.random.choice((f"{v} += r & 7;\n\tr ^= {v};", f"r += {v}++;", f"{v} = a;", f"r += {v};"))


def _variable(ctx: Context) -> str | None:
    found = ctx.variables(kind="u32")
    if not found:
        return None
    v = ctx.random.choice(found)
    reads = (f"r += {v.name};", f"if ({v.name} > 3)\n\t\tr ^= {constant(ctx.random)};", f"r ^= READ_ONCE({v.name});")
    writes = (f"{v.name} += r & 3;", f"{v.name} = r;", f"{v.name}++;\n\tr += {v.name};")
    return ctx.random.choice(reads if v.const or ctx.random.random() < 0.6 else writes)


def _array(ctx: Context) -> str | None:
    found = ctx.variables(kind="array")
    if not found:
        return None
    v = ctx.random.choice(found)
    n = len(v.init)
    reads = (
        f"r += {v.name}[r & {n - 1}];",
        f"for (const u32 *q = {v.name}; q != {v.name} + {n}; q++)\n\t\tr = r * 3 + *q;",
        f"for (const u32 *q = {v.name} + {n}; q != {v.name};)\n\t\tr = r * 5 + *--q;",
        f"r ^= {v.name}[{ctx.random.randrange(n)}];",
    )
    writes = (f"{v.name}[a & {n - 1}] += r & 7;", f"{{ u32 *q = &{v.name}[r & {n - 1}]; *q += 1; r += *q; }}")
    return ctx.random.choice(reads if v.const or ctx.random.random() < 0.6 else writes)


def _struct(ctx: Context) -> str | None:
    found = ctx.variables(kind="cfg")
    if not found:
        return None
    v = ctx.random.choice(found)
    reads = (f"r += {v.name}.mode;", f"say({v.name}.name);", f"r ^= {v.name}.a + {v.name}.b;")
    writes = (f"{v.name}.mode = r & 15;", f"{v.name}.a++;")
    return ctx.random.choice(reads if v.const or ctx.random.random() < 0.6 else writes)


def _parameter(ctx: Context) -> str | None:
    if ctx.function.kind != "cfg":
        return None
    return ctx.random.choice(
        ("r += p->a;", "r ^= p->mode;", "if (!p->b)\n\t\treturn 4;", "r += p->a * p->mode;", "say(p->name);")
    )


def _bits(ctx: Context) -> str | None:
    """Small enough values, whatever bit fields hold them."""
    found = ctx.variables(kind="bits")
    if not found:
        return None
    v = ctx.random.choice(found).name
    return ctx.random.choice(
        (f"{v}.lo = ({v}.lo + a) & 511;", f"r += {v}.lo;", f"{v}.hi = r & 65535;\n\tr += {v}.lo;", f"r ^= {v}.hi;")
    )


def _links(ctx: Context) -> str | None:
    found = [v for v in ctx.variables(kind="links") if any(v is w for w in ctx.unit.variables)]
    if not found:
        return None
    v = ctx.random.choice(found)
    name, array = v.name, v.init[0]
    return ctx.random.choice(
        (
            f"r += *{name}.next;",
            f"r ^= *{name}.prev;",
            f"{name}.next = &{array}[a & 3];",
            f"{name}.prev = &{array}[r & 3];\n\tr += *{name}.next;",
            f"*{name}.next += 3;",
        )
    )


def _table(ctx: Context) -> str | None:
    found = ctx.variables(kind="ops")
    if not found or ctx.function.rank < 20:
        return None
    v = ctx.random.choice(found)
    return ctx.random.choice(
        (f"r += {v.name}.get(r);", f"r ^= {v.name}.put(a);", f"if (r & 2)\n\t\tr = {v.name}.get(a);")
    )


def _kept(ctx: Context) -> str | None:
    if ctx.function.rank < 20:
        return None
    found = [f for f in ctx.callees("one") if f.rank < 20]
    slot = ctx.random.randrange(3)
    if not found or ctx.random.random() < 0.4:
        return f"r += call_kept({slot}, r);"
    f = ctx.random.choice(found).name
    return ctx.random.choice(
        (f"keep({slot}, {f});", f"r += is_kept({slot}, {f});", f"if (a == 3)\n\t\tkeep({slot}, {f});")
    )


def _switch(ctx: Context) -> str:
    rng = ctx.random
    values = [rng.randrange(200) for _ in range(rng.choice((4, 6, 8)))]
    what = rng.choice(("r = {};", "r += {};", "r = r * {};", "trace({}); r ^= {};"))
    cases = "".join(f"\n\tcase {i}: {what.format(v, v)} break;" for i, v in enumerate(values))
    return f"switch (r & {rng.choice((7, 15))}) {{{cases}\n\tdefault: r += 3;\n\t}}"


def _labels(ctx: Context) -> str:
    """Jumps through a table of addresses within the function."""
    rng = ctx.random
    first, second = (rng.choice(("r += {};", "r ^= {};", "trace(r + {});")).format(rng.randrange(200)) for _ in "ab")
    kept = rng.choice(("static const void *const", "static const void *const", "static const void *"))
    through = rng.choice(("goto *t[r % 3];", "goto *t[a & 1];"))
    return (
        f"{{ __label__ one, two, end;\n\t{kept} t[] = {{ &&one, &&two, &&end }};\n\t{through}\n"
        f"\tone: {first} if (a & 8) goto end;\n\ttwo: {second}\n\tend: barrier(); }}"
    )


def _text(ctx: Context) -> str:
    text = ctx.random.choice(TEXTS)
    return ctx.random.choice(
        (f'say("{text}");', f'if (r & 1)\n\t\tsay("{text}");', f'r += "{text}"[0];', "say(__func__);")
    )


def _temporary(ctx: Context) -> str:
    """An array on the stack that begins with values: gcc keeps them in a constant without a name."""
    n = ctx.random.choice((4, 8))
    values = ", ".join(str(ctx.random.randrange(99)) for _ in range(n))
    const = ctx.random.choice(("", "static const ", "static const ", "static const "))
    written = "" if const else f"t[a & {n - 1}] += r; "
    return f"{{ {const}u32 t[{n}] = {{ {values} }}; {written}r += t[r & {n - 1}]; }}"


def _literal(ctx: Context) -> str | None:
    found = ctx.variables(kind="literal")
    if not found:
        return None
    v = ctx.random.choice(found).name
    return ctx.random.choice(
        (f"r += {v}->mode;", f"say({v}->name);", f"{v}->a++;", f"{v}->b += r & 3;\n\tr ^= {v}->b;")
    )


def _rare(ctx: Context) -> str:
    rng = ctx.random
    mask, k = rng.choice((31, 63, 127)), rng.randrange(31)
    what = rng.choice(("complain(r);", f"complain({k});", f"die({k});", f'say("{rng.choice(TEXTS)}"); return {k};'))
    return f"if (unlikely((r & {mask}) == {k})) {{ {what} }}"


def _outside(ctx: Context) -> str:
    return ctx.random.choice(("trace(r);", "r ^= source(a) & 15;", "trace(a + 7);", "r += source(r) & 3;"))


def _head(ctx: Context) -> str:
    k = ctx.random.choice((1, 2, 4, 8))
    return ctx.random.choice((f"if (!(a & {k}))\n\t\treturn {constant(ctx.random)};", f"if (a == {k})\n\t\treturn r;"))


_MAKERS = (
    _arithmetic,
    _call,
    _local,
    _variable,
    _array,
    _struct,
    _parameter,
    _table,
    _kept,
    _switch,
    _text,
    _rare,
    _outside,
    _head,
    _around,
    _itself,
    _hook,
    _place,
    _temporary,
    _literal,
    _labels,
    _bits,
    _links,
)
_WEIGHTS = (5, 10, 4, 5, 3, 3, 6, 3, 2, 1.5, 2, 2, 2, 1.5, 2, 0.7, 2, 1.5, 1.5, 2, 0.6, 2, 2)


# -- cost --------------------------------------------------------------------------------------------------------------


def costs(program: Program) -> dict[str, int]:
    """What a call of each function costs at most, by name; the greatest where several have a name."""
    found: dict[str, int] = {}
    indirect = 60
    for _, f in sorted(program.functions(), key=lambda item: item[1].rank):
        total = found.get(f.alias, 1) if f.alias else _cost(f.body, found, indirect, f.name)
        found[f.name] = max(found.get(f.name, 0), total)
    return found


def cost_of(program: Program, function: Function, body: list[str]) -> int:
    return _cost(body, costs(program) if len(body) else {}, 60, skip=function.name)


def _cost(body: list[str], known: dict[str, int], indirect: int, skip: str = "") -> int:
    total, again = 1, 1
    for s in body:
        times = 8 if "for (" in s else 1
        words = WORD.findall(s)
        if skip and skip in words:
            again = 6
        total += times * sum(known.get(w, 0) for w in words if w != skip)
        total += times * indirect * len(re.findall(r"\b(?:get|put|call_kept|hook\w*)\(", s))
    return total * again


# -- programs ----------------------------------------------------------------------------------------------------------


def make_variable(rng: random.Random, name: str, kind: str, callbacks: list[str]) -> Variable:
    v = _make_variable(rng, name, kind, callbacks)
    if not v.const and rng.random() < 0.2:
        v.section = rng.choice(SECTIONS)
    return v


def _make_variable(rng: random.Random, name: str, kind: str, callbacks: list[str]) -> Variable:
    const = rng.random() < (0.5 if kind in ("array", "ops") else 0.15)
    if kind == "u32":
        return Variable(name, kind, [rng.choice(("0", "0", "3", "7"))], const=const)
    if kind == "array":
        return Variable(name, kind, [str(rng.randrange(50)) for _ in range(rng.choice((4, 8)))], const=const)
    if kind in ("cfg", "literal"):
        init = [str(rng.randrange(9)), str(rng.randrange(9)), str(rng.randrange(9)), f'"{rng.choice(TEXTS)}"']
        return Variable(name, kind, init, const=const)
    if kind == "hook":
        return Variable(name, kind, [rng.choice(callbacks)], const=rng.random() < 0.1)
    return Variable(name, "ops", [rng.choice(callbacks), rng.choice(callbacks)], const=const)


def generate(seed: int, size: int = 3) -> Program:
    """The program of a seed: `size` is how many units it has at most; smaller ones have fewer functions too."""
    rng, objects = random.Random(seed), random.Random(f"objects {seed}")
    two = size > 1 and objects.random() < TWO_OBJECTS
    program = Program(rng.choice(FLAG_SETS))
    count = rng.randint(1, size)
    for number in range(count):
        program.units.append(Unit(f"{'abcdef'[number]}.c"))
    if two:
        del program.units[2:]
        program.units += [Unit(f"{letter}.c", target=MODULE) for letter in "mn"[: objects.randint(1, 2)]]
    many = 3 if size == 1 else rng.randint(4, 8)
    for unit in program.units:
        _callbacks(rng, program, unit)
    for unit in program.units:
        _variables(rng, program, unit)
    for unit in program.units:
        letter = unit.name[0]
        for number in range(many):
            _function(rng, program, unit, f"{letter}{number}", rng.randrange(20, 90))
    if rng.random() < 0.6:
        for number in range(rng.randint(1, 2)):
            attributes = list(rng.choice((("inline",), ("inline",), ("noinline",), (), ("noinline", "notrace"))))
            program.header.append(Function(f"shared{number}", "plain", rng.randrange(3, 20), attributes=attributes))
    for target in (KERNEL, MODULE):
        units = [u for u in program.units if u.target == target]
        if len(units) < 2 or rng.random() >= 0.4:
            continue
        one, other = rng.sample(units, 2)
        one.functions.append(Function("arch_hook", "plain", 15, static=False, attributes=["weak", "noinline"]))
        if rng.random() < 0.7:
            other.functions.append(Function("arch_hook", "plain", 15, static=False, attributes=["noinline"]))
    for unit in program.units:
        for number in range(2):
            f = Function(f"entry_{unit.name[0]}{number}", "entry", 100, static=False)
            unit.functions.append(f)
    if two:
        from tests.torture.objects import same_names, weak_uses

        same_names(objects, program)
    _bodies(rng, program)
    if two:
        weak_uses(objects, program)
    for unit in program.units:
        if rng.random() < 0.5:
            _part(rng, program, unit)
        if rng.random() < 0.4:
            _fail(rng, program, unit)
    _use_all(rng, program)
    for unit in program.units:
        _twins(rng, unit)
        rng.shuffle(unit.functions)
        unit.functions.sort(key=lambda f: bool(f.alias))
    return program


def _callbacks(rng: random.Random, program: Program, unit: Unit) -> None:
    for number in range(rng.randint(1, 3)):
        f = Function(f"{unit.name[0]}_cb{number}", "one", rng.randrange(5, 20), static=rng.random() < 0.8)
        f.attributes = list(rng.choice(((), ("noinline",), ("noinline", "notrace"))))
        unit.functions.append(f)


def _variables(rng: random.Random, program: Program, unit: Unit) -> None:
    callbacks = [f.name for f in unit.functions if f.kind == "one"]
    for number in range(rng.randint(2, 6)):
        kind = rng.choice(("u32", "u32", "u32", "u32", "array", "array", "array", "cfg", "ops", "hook", "literal"))
        free = [n for n in ("total", "limit", "table", "state") if n not in {v.name for v in unit.variables}]
        name = rng.choice(free) if free and rng.random() < 0.3 else f"{unit.name[0]}_v{number}"
        if kind == "hook":
            name = f"hook_{unit.name[0]}{number}"
        v = make_variable(rng, name, kind, callbacks)
        taken = {w.name for u in program.units if u.target == unit.target for w in u.variables if not w.static}
        if name not in taken and rng.random() < 0.15:
            v.static = False
        elif v.kind == "array" and rng.random() < 0.2:
            unit.variables.append(Variable(f"{name}_same", "array", list(v.init), const=v.const))
        unit.variables.append(v)
    arrays = [v for v in unit.variables if v.kind == "array" and not v.const]
    if arrays and rng.random() < 0.4:
        unit.variables.append(Variable(f"{unit.name[0]}_place", "place", [rng.choice(arrays).name, "2"]))
    if rng.random() < 0.3:
        unit.variables.append(Variable(f"{unit.name[0]}_bits", "bits", [str(rng.randrange(9)), str(rng.randrange(9))]))
    if arrays and rng.random() < 0.3:
        unit.variables.append(Variable(f"{unit.name[0]}_links", "links", [rng.choice(arrays).name]))


def _function(rng: random.Random, program: Program, unit: Unit, stem: str, rank: int) -> None:
    names = {f.name for f in unit.functions}
    pool = [n for n in POOL if n not in names]
    repeated = pool and rng.random() < 0.25
    name = rng.choice(pool) if repeated else f"f_{stem}"
    kind = rng.choice(("plain", "plain", "plain", "cfg", "cfg", "one", "wide"))
    f = Function(name, kind, rank, attributes=list(rng.choice(ATTRIBUTES)))
    known = {g.name for u in program.units if u.target == unit.target for g in u.functions if not g.static}
    if name not in known and rng.random() < (0.1 if repeated else 0.2):
        f.static = False
        f.attributes = [a for a in f.attributes if a != "inline"]
    if kind != "one" and rng.random() < 0.6:
        f.fixed = constant(rng)
    unit.functions.append(f)
    if not f.static and rng.random() < 0.3:
        alias = Function(f"{name}_alias", kind, rank, static=False, alias=name)
        unit.functions.append(alias)


def _bodies(rng: random.Random, program: Program) -> None:
    for unit, f in sorted(program.functions(), key=lambda item: item[1].rank):
        if f.alias:
            continue
        home = unit or program.units[0]
        if rng.random() < (0.35 if unit is not None else 0.15):
            name = rng.choice(LOCALS) if rng.random() < 0.35 else f"count_{f.name}"
            f.locals.append(Variable(name, "u32", [rng.choice(("0", "0", "5"))]))
        ctx = Context(program if unit is not None else Program((), [], program.header), home, f, rng)
        if unit is None:
            ctx.unit = Unit("")
        long = rng.random() < 0.3
        for _ in range(rng.randint(5, 9) if long else rng.randint(1, 4)):
            f.body.append(statement(ctx))
        if long and rng.random() < 0.5:
            f.body.insert(0, _head(ctx))


def _part(rng: random.Random, program: Program, unit: Unit) -> None:
    """A function with a small head and a large tail, called from several places: gcc splits it."""
    f = Function(f"{unit.name[0]}_part", "plain", 30)
    unit.functions.append(f)
    ctx = Context(program, unit, f, rng)
    loop = "for (u32 i = 0; i < 3; i++)\n\t\ttrace(r + i);"
    made = [_outside(ctx), loop, _variable(ctx) or 'say("late");', "r += source(r) & 7;", loop, _outside(ctx)]
    head = f"if (__builtin_expect(!(a & {rng.choice((1, 2, 4))}), 1))\n\t\treturn {constant(rng)};"
    # the tail takes parameters only: what was worked out before the head can not be passed to it
    f.body = [head, "r = a * 7;", *made]
    above = [g for g in unit.functions if g.rank > f.rank and not g.alias and "inline" not in g.attributes]
    for g in rng.sample(above, min(len(above), 4)):
        line = f"r += {call(Context(program, unit, g, rng), f)};"
        if cost_of(program, g, [*g.body, line]) <= MOST:
            g.body.insert(rng.randrange(len(g.body) + 1), line)


def _fail(rng: random.Random, program: Program, unit: Unit) -> None:
    """A function that gcc finds never to return: nothing of its callers is left behind the call."""
    f = Function(f"{unit.name[0]}_fail", "plain", 4, attributes=["noinline", *rng.choice(((), ("cold",)))])
    f.body = [f"die({rng.randrange(99)});"]
    unit.functions.append(f)
    above = [g for g in unit.functions if g.rank > f.rank and not g.alias and "inline" not in g.attributes]
    for g in rng.sample(above, min(len(above), 2)):
        line = f"if (unlikely((r & 15) == {rng.randrange(16)}))\n\t\tr += {call(Context(program, unit, g, rng), f)};"
        g.body.insert(rng.randrange(len(g.body) + 1), line)


def _use_all(rng: random.Random, program: Program) -> None:
    """Nothing should be unused: what nobody calls is called by somebody above it."""
    for unit in program.units:
        for f in unit.functions:
            if f.kind == "entry" or f.alias or f.name.endswith("_fail"):
                continue
            text = " ".join(s for _, g in program.functions() for s in g.body)
            if re.search(rf"\b{f.name}\b", text) and rng.random() < 0.6:
                continue
            above = [g for g in unit.functions if g.rank > f.rank and not g.alias]
            for g in rng.sample(above, min(len(above), rng.randint(1, 3))):
                ctx = Context(program, unit, g, rng)
                made = f"r += {call(ctx, f)};"
                if cost_of(program, g, [*g.body, made]) <= MOST:
                    g.body.insert(rng.randrange(len(g.body) + 1), made)


def _twins(rng: random.Random, unit: Unit) -> None:
    """Functions and variables with the same contents, for identical code folding."""
    if rng.random() > 0.7:
        return
    kinds = ("plain", "one", "cfg", "entry")
    found = [f for f in unit.functions if f.kind in kinds and not f.locals and not f.alias and f.body]
    if not found:
        return
    f = rng.choice([f for f in found if not f.weak] or found)
    if f.weak:
        return
    twin = Function(f"{f.name}_twin", f.kind, f.rank, f.static, list(f.attributes), [], list(f.body), f.fixed)
    unit.functions.append(twin)
    for v in unit.variables:
        if v.kind in ("ops", "hook") and rng.random() < 0.5:
            v.init = [twin.name if n == f.name and rng.random() < 0.6 else n for n in v.init]
    for g in unit.functions:
        if g.rank > f.rank and rng.random() < 0.4:
            for i, s in enumerate(g.body):
                if re.search(rf"\b{f.name}\b", s) and rng.random() < 0.6:
                    g.body[i] = re.sub(rf"\b{f.name}\b", twin.name, s)
