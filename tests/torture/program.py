# SPDX-License-Identifier: GPL-2.0-or-later
"""A generated program as values: units with variables and functions, and how they become C.

Statements are text. All of them read and write `r`, and read `a`; any of them can be taken out, put in or moved without
another becoming wrong. Names that repeat (statics of several units, static locals of several functions) repeat on
purpose.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

KERNEL, MODULE = "vmlinux", "modb"  # the objects of a program: the kernel, and a module that can go and come
WORD = re.compile(r"\b[A-Za-z_]\w*\b")
# Parameters by the kind of function. `entry` is what the outside world calls, `one` what tables hold.
SIGNATURES = {
    "entry": "u64 {}(u32 a, u32 b)",
    "plain": "u32 {}(u32 a, u32 b)",
    "wide": "u32 {}(u32 a, u32 b, u32 c)",
    "one": "u32 {}(u32 a)",
    "cfg": "u32 {}(const struct cfg *p, u32 a)",
}
START = {
    "entry": "u32 r = a + b * 3;",
    "plain": "u32 r = a ^ b;",
    "wide": "u32 r = a + b * c;",
    "one": "u32 r = a + 1;",
    "cfg": "u32 r = a ^ p->mode;",
}
ARGUMENTS = {"entry": "a, b", "plain": "a, b", "wide": "a, b, c", "one": "a", "cfg": "p, a"}


@dataclass
class Variable:
    """A variable. `kind` is u32, array (of u32), cfg, ops, hook (a function pointer), place (a pointer into an array)
    literal (a pointer to a cfg that has no name), bits (bit fields), links (two pointers into an array), group (a
    structure without a name, of u32 members) or typed (retype.py); `init` the numbers, or the names, it begins with, of
    a group each with the member's name before it, of typed the definition, with @ for the name, and what was there."""

    name: str
    kind: str
    init: list[str]
    static: bool = True
    const: bool = False
    section: str = ""

    def declare(self, name: str | None = None, *, plain: bool = False) -> str:
        """Its definition in C, without `static`; `plain` leaves its section out."""
        name = name or self.name
        const = "const " if self.const else ""
        where = f' section("{self.section}")' if self.section and not plain else ""
        if self.kind == "u32":
            return f"{const}u32 {name}{where} = {self.init[0]};"
        if self.kind == "array":
            return f"{const}u32 {name}[{len(self.init)}]{where} = {{ {', '.join(self.init)} }};"
        if self.kind == "hook":
            return f"u32 (*{const}{name})(u32){where} = {self.init[0]};"
        if self.kind == "place":
            return f"u32 *{const}{name}{where} = &{self.init[0]}[{self.init[1]}];"
        if self.kind == "literal":
            return f"struct cfg *{const}{name}{where} = &(struct cfg){{ {', '.join(self.init)} }};"
        if self.kind == "group":
            members = " ".join(f"u32 {i.split()[0]};" for i in self.init)
            values = ", ".join(f".{i.replace(' ', ' = ')}" for i in self.init)
            return f"struct {{ {members} }} {name}{where} = {{ {values} }};"
        if self.kind == "links":
            return f"struct links {name}{where} = {{ &{self.init[0]}[0], &{self.init[0]}[2] }};"
        return f"{const}struct {self.kind} {name}{where} = {{ {', '.join(self.init)} }};"

    def define(self) -> str:
        """Its definition, as a unit has it."""
        if self.kind == "typed":
            where = f' section("{self.section}")' if self.section else ""
            text, _, rest = self.init[0].rpartition("@")
            return text.replace("@", self.name) + self.name + where + rest
        return ("static " if self.static else "") + self.declare()

    def external(self) -> str:
        const = "const " if self.const else ""
        if self.kind == "hook":
            return f"extern u32 (*{const}{self.name})(u32);"
        if self.kind == "place":
            return f"extern u32 *{const}{self.name};"
        if self.kind == "literal":
            return f"extern struct cfg *{const}{self.name};"
        kind = "u32" if self.kind in ("u32", "array") else f"struct {self.kind}"
        return f"extern {const}{kind} {self.name}{'[]' if self.kind == 'array' else ''};"


@dataclass
class Function:
    """A function. It may call only what has a lower rank, so that every call ends. `fixed` is what nearly all callers
    pass for its last parameter; `alias` names the function that this is another name of."""

    name: str
    kind: str
    rank: int
    static: bool = True
    attributes: list[str] = field(default_factory=list)
    locals: list[Variable] = field(default_factory=list)
    body: list[str] = field(default_factory=list)
    fixed: str = ""
    alias: str = ""

    def head(self, name: str | None = None, *, attributes: bool = True) -> str:
        words = [a for a in self.attributes if a != "inline"] if attributes else []
        inline = "inline " if attributes and "inline" in self.attributes else ""
        static = "static " if self.static else ""
        return f"{static}{inline}{' '.join([*words, ''])}{SIGNATURES[self.kind].format(name or self.name)}"

    @property
    def weak(self) -> bool:
        return "weak" in self.attributes

    def text(self, name: str | None = None, *, plain: bool = False) -> str:
        """The definition in C; `plain` leaves attributes out and static locals to the caller."""
        if self.alias:
            return f'{self.head()} __attribute__((alias("{self.alias}")));'
        lines = [self.head(name, attributes=not plain), "{"]
        if not plain:
            lines += [f"\tstatic {v.declare()}" for v in self.locals]
        lines += [f"\t{START[self.kind]}", *(f"\t{s}" for s in self.body), "\treturn r;", "}"]
        return "\n".join(lines) + "\n"


@dataclass
class Unit:
    """A C file of one object. `weak` are functions, kind by name, that its code uses if its object's link finds any."""

    name: str
    variables: list[Variable] = field(default_factory=list)
    functions: list[Function] = field(default_factory=list)
    target: str = KERNEL
    weak: dict[str, str] = field(default_factory=dict)


@dataclass
class Program:
    """`header` holds the static inline functions that every unit includes. `flags` are the compiler's, `exports` what
    the kernel exports to the module."""

    flags: tuple[str, ...]
    units: list[Unit] = field(default_factory=list)
    header: list[Function] = field(default_factory=list)
    exports: set[str] = field(default_factory=set)

    def functions(self) -> list[tuple[Unit | None, Function]]:
        return [(None, f) for f in self.header] + [(u, f) for u in self.units for f in u.functions]

    def entries(self, target: str = "") -> list[str]:
        """What the outside world calls, of one object or of all."""
        return [f.name for u in self.units if target in ("", u.target) for f in u.functions if f.kind == "entry"]

    def has_module(self) -> bool:
        return any(u.target == MODULE for u in self.units)

    def visible(self, unit: Unit) -> list[Function]:
        """The functions that code of a unit can call: a name of its own first, then of its object, then an export."""
        own = {f.name for f in unit.functions}
        foreign = [
            f
            for u in self.units
            if u is not unit and u.target == unit.target
            for f in u.functions
            if not f.static and not f.weak and f.name not in own
        ]
        if unit.target == MODULE:
            taken = own | self.defined(MODULE)
            exported = [f for u in self.units if u.target == KERNEL for f in u.functions if not f.static and not f.weak]
            foreign += [f for f in exported if f.name in self.exports and f.name not in taken]
        return self.header + unit.functions + foreign

    def reachable(self, unit: Unit) -> list[Variable]:
        """The variables of other units that code of a unit can use, by the same rule."""
        own = {v.name for v in unit.variables}
        found = [
            v
            for u in self.units
            if u is not unit and u.target == unit.target
            for v in u.variables
            if not v.static and v.name not in own
        ]
        if unit.target == MODULE:
            taken = own | self.defined(MODULE)
            exported = [v for u in self.units if u.target == KERNEL for v in u.variables if not v.static]
            found += [v for v in exported if v.name in self.exports and v.name not in taken]
        return found

    def defined(self, target: str) -> set[str]:
        """The global names of an object."""
        units = [u for u in self.units if u.target == target]
        return {x.name for u in units for x in [*u.functions, *u.variables] if not x.static}


def render(program: Program, unit: Unit) -> str:
    """The C text of one unit."""
    lines = ['#include "torture.h"', ""]
    own = {f.name for f in unit.functions} | {v.name for v in unit.variables}
    weak = dict(unit.weak)
    hidden = own | weak.keys()
    if unit.target == MODULE:
        hidden |= program.defined(MODULE)
    for other in program.units:
        if other is unit or (other.target == MODULE and unit.target == KERNEL):
            continue
        known = own | weak.keys() if other.target == unit.target else hidden
        lines += [v.external() for v in other.variables if not v.static and v.name not in known]
        lines += [f.head(attributes=False) + ";" for f in other.functions if not f.static and f.name not in known]
    lines += [f"extern weak {SIGNATURES[k].format(n)};" for n, k in weak.items() if n not in own]
    lines += [f.head() + ";" for f in program.header]
    lines += [f.text() for f in program.header]
    lines += [f.head() + ";" for f in unit.functions]
    lines += [v.define() for v in unit.variables]
    lines += [f.text() for f in unit.functions]
    return "\n".join(lines) + "\n"


# -- the reference -----------------------------------------------------------------------------------------------------

FLAG = "torture_patched"


def reference(before: Program, after: Program) -> str:
    """Both programs in one C text, which does what the original does until FLAG is set, and what the patched one does
    from then on. Variables that both have are one: this is what a live patch is to do.

    A name of a unit becomes `UNIT_name`, a static local `UNIT_function_name`, a global of the module `modb_name`, so
    that all of it fits in one file.
    """
    return _Reference(before, after).text()


def flat(unit: Unit, name: str, function: str = "") -> str:
    """What a static is called in the reference."""
    object_name = [unit.target] if unit.target == MODULE else []
    return "_".join([*object_name, unit.name.partition(".")[0], *([function] if function else []), name])


def of_object(target: str, name: str) -> str:
    """What a global is called in the reference."""
    return f"{target}_{name}" if target == MODULE else name


class _Reference:
    def __init__(self, before: Program, after: Program) -> None:
        self.sides = (before, after)

    def text(self) -> str:
        heads: list[str] = []
        data: list[str] = []
        bodies: list[str] = []
        for number, unit in enumerate(self.sides[0].units):
            units = (unit, self.sides[1].units[number])
            names = self._names(units)
            for side in (0, 1):
                self._variables(units, side, names[side], heads, data)
            self._functions(units, names, heads, data, bodies)
        self._globals(heads, data, bodies)
        lines = ['#include "torture.h"', f"u32 {FLAG} = 0;", *heads, *data, *bodies]
        return "\n".join(dict.fromkeys(lines)) + "\n"

    # A variable, or a static function, that is not the same on both sides gets a name for each. What is global may have
    # moved to another unit.

    def _names(self, units: tuple[Unit, Unit]) -> tuple[dict[str, str], dict[str, str]]:
        out: tuple[dict[str, str], dict[str, str]] = ({}, {})
        target = units[0].target
        variables = [{v.name: v for v in u.variables} for u in units]
        functions = [{f.name: f for f in self._all(side, units[side])} for side in (0, 1)]
        for side in (0, 1):
            other = 1 - side
            # the module's own globals hide the kernel's
            for owner in (KERNEL, target) if target != KERNEL else (KERNEL,):
                for name in self._functions_of(side, owner):
                    out[side][name] = of_object(owner, name)
                for name, v in self._variables_of(side, owner).items():
                    twin = self._variables_of(other, owner).get(name)
                    own = of_object(owner, name)
                    out[side][name] = own if twin is not None and shared(v, twin) else f"{own}__{side}"
            for name, kind in units[side].weak.items():
                if not self._finds(side, target, name):
                    out[side][name] = f"(({SIGNATURES[kind].format('(*)')})0)"
            for name, v in variables[side].items():
                if v.static:
                    twin = variables[other].get(name)
                    own = flat(units[side], name)
                    out[side][name] = own if twin is not None and shared(v, twin) else f"{own}__{side}"
            for f in functions[side].values():
                own = flat(units[side], f.name) if f.static else of_object(target, f.name)
                if f.static:
                    twin_function = functions[other].get(f.name)
                    same = twin_function is not None and twin_function.static and twin_function.kind == f.kind
                    out[side][f.name] = own if same else f"{own}__{side}"
                else:
                    out[side][f.name] = own
        return out

    def _variables_of(self, side: int, target: str) -> dict[str, Variable]:
        units = [u for u in self.sides[side].units if u.target == target]
        return {v.name: v for u in units for v in u.variables if not v.static}

    def _functions_of(self, side: int, target: str) -> set[str]:
        return {f.name for u in self.sides[side].units if u.target == target for f in u.functions if not f.static}

    def _finds(self, side: int, target: str, name: str) -> bool:
        """Whether the link of an object finds a name that it refers to weakly."""
        program = self.sides[side]
        if name in program.defined(target):
            return True
        return target == MODULE and name in program.exports and name in program.defined(KERNEL)

    def _all(self, side: int, unit: Unit) -> list[Function]:
        return self.sides[side].header + unit.functions

    def _variables(
        self, units: tuple[Unit, Unit], side: int, names: Mapping[str, str], heads: list[str], data: list[str]
    ) -> None:
        for v in units[side].variables:
            heads.append(_external(v, names[v.name]))
            data.append(mapped(v.declare(plain=True), names))

    def _functions(
        self,
        units: tuple[Unit, Unit],
        names: tuple[dict[str, str], dict[str, str]],
        heads: list[str],
        data: list[str],
        bodies: list[str],
    ) -> None:
        found = [{f.name: f for f in self._all(side, units[side]) if f.static} for side in (0, 1)]
        for name in dict.fromkeys([*found[0], *found[1]]):
            versions = [found[side].get(name) for side in (0, 1)]
            texts = [self._version(versions, side, units[side], names[side], data) for side in (0, 1)]
            self._both(versions, texts, names, name, heads, bodies)

    def _globals(self, heads: list[str], data: list[str], bodies: list[str]) -> None:
        for target in (KERNEL, MODULE):
            self._globals_of(target, heads, data, bodies)

    def _globals_of(self, target: str, heads: list[str], data: list[str], bodies: list[str]) -> None:
        homes = [
            {
                f.name: (n, f)
                for n, u in enumerate(p.units)
                if u.target == target
                for f in u.functions
                if not f.static and not self._overridden(s, target, f)
            }
            for s, p in enumerate(self.sides)
        ]
        for name in dict.fromkeys([*homes[0], *homes[1]]):
            versions, texts = [], []
            for side in (0, 1):
                home = homes[side].get(name)
                versions.append(home[1] if home is not None else None)
            for side in (0, 1):
                home = homes[side].get(name)
                if home is None:
                    texts.append("")
                    continue
                units = (self.sides[0].units[home[0]], self.sides[1].units[home[0]])
                texts.append(self._version(versions, side, units[side], self._names(units)[side], data))
            shown = {name: of_object(target, name)}
            self._both(versions, texts, (shown, shown), name, heads, bodies)

    def _version(
        self, versions: list[Function | None], side: int, unit: Unit, names: Mapping[str, str], data: list[str]
    ) -> str:
        """One side's definition, with its static locals among the data."""
        f = versions[side]
        if f is None:
            return ""
        own = dict(names)
        for v in f.locals:
            shown = flat(unit, v.name, f.name)
            other = versions[1 - side] or self._named(1 - side, unit, f.name)
            other = other or (f if side == 0 else Function("", f.kind, 0))
            twin = next((w for w in other.locals if w.name == v.name), None)
            own[v.name] = shown if twin is not None and shared(v, twin) else f"{shown}__{side}"
            data.append(v.declare(own[v.name], plain=True))
        return self._one(f, own)

    def _named(self, side: int, unit: Unit, name: str) -> Function | None:
        """The function of a name that a unit has on a side: static, or global."""
        units = [u for u in self.sides[side].units if u.name == unit.name]
        return next((f for u in units for f in u.functions if f.name == name), None)

    def _one(self, f: Function, names: Mapping[str, str]) -> str:
        if f.alias:
            target = names.get(f.alias, f.alias)
            return f"{mapped(f.head(attributes=False), names)}\n{{\n\treturn {target}({ARGUMENTS[f.kind]});\n}}\n"
        return mapped(f.text(plain=True), names).replace("__func__", f'"{f.name}"')

    def _overridden(self, side: int, target: str, f: Function) -> bool:
        units = [u for u in self.sides[side].units if u.target == target]
        return f.weak and any(g.name == f.name and not g.weak for u in units for g in u.functions)

    def _both(
        self,
        versions: list[Function | None],
        texts: list[str],
        names: tuple[dict[str, str], dict[str, str]],
        name: str,
        heads: list[str],
        bodies: list[str],
    ) -> None:
        shown = [names[side].get(name, name) for side in (0, 1)]
        for f, text, own in zip(versions, texts, shown, strict=True):
            if f is not None and text:
                heads.append(_signature(f, own) + ";")
        if texts[0] == texts[1] or not texts[0] or not texts[1] or shown[0] != shown[1]:
            bodies += [t.removeprefix("static ") for t in texts if t]
            return
        f = versions[0]
        assert f is not None
        for side in (0, 1):
            own = f"{shown[side]}__{side}"
            heads.append(_signature(f, own) + ";")
            bodies.append(re.sub(rf"\b{re.escape(shown[side])}\b", own, texts[side], count=1).removeprefix("static "))
        call = ARGUMENTS[f.kind]
        bodies.append(
            f"{_signature(f, shown[0])}\n{{\n\treturn {FLAG} ? {shown[1]}__1({call}) : {shown[0]}__0({call});\n}}\n"
        )


def shared(a: Variable, b: Variable) -> bool:
    """Whether two definitions of a variable on both sides are one variable: the same state."""
    return a == b or (a.kind == b.kind and not a.const and not b.const and a.init == b.init and a.static == b.static)


def _signature(f: Function, name: str) -> str:
    return SIGNATURES[f.kind].format(name)


def _external(v: Variable, name: str) -> str:
    return re.sub(rf"(?<!\w){re.escape(v.name)}(?!\w)", name, v.external(), count=1)


def mapped(text: str, names: Mapping[str, str]) -> str:
    """C text with names replaced, those in string literals and behind `.` or `->` aside."""
    parts = re.split(r'("(?:[^"\\]|\\.)*")', text)
    for i in range(0, len(parts), 2):
        parts[i] = re.sub(r"(?<![.>\w])[A-Za-z_]\w*", lambda m: names.get(m[0], m[0]), parts[i])
    return "".join(parts)
