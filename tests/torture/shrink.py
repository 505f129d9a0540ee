# SPDX-License-Identifier: GPL-2.0-or-later
"""A smaller pair of programs that still shows a fault: units, functions, variables and statements are taken out of both
as long as it stays."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.torture.program import Function, Program

Pair = tuple[Program, Program]


@dataclass(frozen=True)
class Cut:
    """What to take out: a unit; a function or variable of a unit; a statement of a function (also a static local)."""

    unit: str
    name: str = ""
    statement: str = ""


def shrink(pair: Pair, fails: Callable[[Pair], bool], most: int = 400) -> Pair:
    """The smallest pair found with at most `most` attempts for which `fails` says true."""
    left = most
    progress = True
    while progress and left > 0:
        progress = False
        for cut in list(_cuts(pair)):
            smaller = copy.deepcopy(pair)
            for program in smaller:
                _take(program, cut)
            if left <= 0 or _size(smaller) == _size(pair):
                continue
            left -= 1
            if fails(smaller):
                pair, progress = smaller, True
    return pair


def _size(pair: Pair) -> int:
    return sum(len(repr(p)) for p in pair)


def _cuts(pair: Pair) -> Iterator[Cut]:
    seen: set[Cut] = set()
    for cut in _all_cuts(pair):
        if cut not in seen:
            seen.add(cut)
            yield cut


def _all_cuts(pair: Pair) -> Iterator[Cut]:
    if len(pair[0].units) > 1:
        yield from (Cut(u.name) for u in pair[0].units)
    for program in pair:
        for unit, f in program.functions():
            yield Cut(unit.name if unit is not None else "", f.name)
    for program in pair:
        for unit in program.units:
            yield from (Cut(unit.name, v.name) for v in unit.variables)
        for unit, f in program.functions():
            where = unit.name if unit is not None else ""
            yield from (Cut(where, f.name, s) for s in f.body)
            yield from (Cut(where, f.name, f"static {v.name}") for v in f.locals)


def _take(program: Program, cut: Cut) -> None:
    if not cut.name:
        for unit in [u for u in program.units if u.name == cut.unit]:
            program.units.remove(unit)
            for f in unit.functions:
                if not f.static:
                    _forget(program, f.name)
            for v in unit.variables:
                if not v.static:
                    _forget(program, v.name)
        return
    if cut.statement:
        for unit, f in program.functions():
            if f.name == cut.name and (unit.name if unit is not None else "") == cut.unit:
                _statement(f, cut.statement)
        return
    if not cut.unit:
        program.header = [f for f in program.header if f.name != cut.name]
        _forget(program, cut.name)
        return
    for unit in [u for u in program.units if u.name == cut.unit]:
        gone = [f for f in unit.functions if cut.name in (f.name, f.alias)]
        others = [v for v in unit.variables if v.name == cut.name or cut.name in v.init]
        unit.functions = [f for f in unit.functions if f not in gone]
        unit.variables = [v for v in unit.variables if v not in others]
        for one in [*gone, *others]:
            if one.static:
                for f in unit.functions:
                    _drop(f, one.name)
            else:
                _forget(program, one.name)


def _statement(f: Function, text: str) -> None:
    if text.startswith("static "):
        name = text.removeprefix("static ")
        f.locals = [v for v in f.locals if v.name != name]
        _drop(f, name)
    elif text in f.body:
        f.body.remove(text)


def _drop(f: Function, name: str) -> None:
    f.body = [s for s in f.body if not re.search(rf"\b{name}\b", s)]


def _forget(program: Program, name: str) -> None:
    for unit, f in program.functions():
        if unit is None or name not in {g.name for g in unit.functions if g.static}:
            _drop(f, name)
