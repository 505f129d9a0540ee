# SPDX-License-Identifier: GPL-2.0-or-later
"""One case: a program, a change, and whether the program that was patched does what a patched program does.

Six runs of the same calls are held against each other, in pairs that must be equal whatever the change is:

- **cold**: the program is patched before its first call; nothing has happened, so all state is the initial one. It must
  do what the patched source does, freshly compiled.
- **warm**: calls, then the patch, then more calls. It must do what the *reference* does: one program that holds both
  versions of all that changed, compiled without optimisation, and switches at that point. Variables of both are one.

- **replaced**: as warm, then the same patch is loaded once more and replaces itself, and there are more calls. What is
  new begins anew with it; the program's own state goes on.

A program with a module has two more:

- **reloaded**: as warm, then the module goes, the kernel is called alone, the module comes again at another place, and
  there are more calls. The module's variables begin anew, those of the patch that belong to it too; the kernel's go on.
- **late**: the patch is there before the module comes.

Two more runs guard the harness itself: the reference that is switched at once must do what the freshly compiled program
does, or the generator has made something that C leaves undefined.

State that one of the two objects does not have (a variable that is only written, or never) can't be carried over by a
live patch. In the warm run the reference gives such a variable its initial value at the switch. Where several static
locals of a unit have one name and the objects have fewer of them than the source, it can't be told which are meant, and
the warm run is left out.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kgbuild.closure.model import Closure
from kgbuild.elf.consts import STT
from kgbuild.elf.object import Object
from kgbuild.elf.read import read
from tests.torture.loader import BadModule, Module
from tests.torture.machine import FLAGS, PATCH, REPLACEMENT, TARGET, compile_c, link, run_jobs
from tests.torture.patching import Patch, Running, link_both, load, make_patch
from tests.torture.program import KERNEL, Program, flat, reference, shared
from tests.torture.refactor import Home, Refactored
from tests.torture.scenes import PatchedScene, ReferenceScene, Scene

SAME, UNCHANGED, REFUSED, WRONG, SKIPPED, HARNESS = "same", "unchanged", "refused", "WRONG", "skipped", "HARNESS"
CALLS = 24


@dataclass
class Result:
    """How a case ended, with the refusal codes, or what was wrong; `warm` says what became of the warm run."""

    end: str
    codes: list[str] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)
    warm: str = ""
    members: int = 0
    roles: list[str] = field(default_factory=list)


def run_case(
    running: Running,
    after: Program,
    seed: int,
    sabotage: Callable[[Closure], Closure] | None = None,
    refactored: Refactored | None = None,
) -> Result:
    """Patch the running program into `after`, every other program with the back end kallsyms, and compare. With
    `refactored` the patch is made of that; what it must do is still what `after` does."""
    backend = "kallsyms" if seed % 2 and sabotage is None else "klp"
    patch = make_patch(running, refactored.program if refactored is not None else after, sabotage, backend)
    if patch.refusals:
        return Result(REFUSED, patch.codes, [f"{r.code} {r}" for r in patch.refusals])
    objects = {n: patch.objects.get(n, o) for n, o in running.objects.items()}
    image, ko = link_both(running.folder, after, objects, "fresh")
    fresh = [image, *([Module(read(ko), TARGET, image, running.exports, strict=False)] if ko else [])]
    text = reference(running.program, after)
    compile_c(running.folder, text, "reference.c", "reference.o", [f for f in FLAGS if f not in _TRACED] + ["-O0"])
    oracle = link(running.folder, [running.folder / "reference.o"], "reference")
    entries = [n for n in after.entries() if n in before_entries(running)]
    resets, undecided = lost_state(running.program, after, patch, refactored.names if refactored is not None else {})
    first, then, alone = calls(entries, f"{seed} first"), calls(entries, f"{seed} then"), []
    if running.placed:
        alone = calls([n for n in entries if n in running.image.symbols], f"{seed} alone")
    side = ReferenceScene(oracle, first, then, alone, resets)
    compiled = Scene()
    compiled.load(*fresh)
    compiled.make(then)
    jobs = [compiled, side.switched(cold=True), side.switched(), side.replaced(), side.reloaded(), side.late()]
    try:
        bases = (PATCH, REPLACEMENT)
        loaded = [load(patch.module, running.image, running.exports, base) for base in bases] if patch.module else []
        ours = PatchedScene(running, loaded, first, then, alone)
        jobs += [ours.cold(), ours.warm(), ours.replaced(), ours.reloaded(), ours.late()]
    except BadModule as error:
        return Result(WRONG, facts=[f"the kernel would not take the module: {error}"])
    if not running.placed:
        jobs = [j for i, j in enumerate(jobs) if i not in (4, 5, 9, 10)]
    return _judge(patch, run_jobs(jobs), bool(undecided), bool(resets))


def before_entries(running: Running) -> set[str]:
    return set(running.program.entries()) & set().union(running.image.symbols, *(m.symbols for m in running.placed))


_TRACED = ("-pg", "-mfentry", "-mrecord-mcount", "-O2")


def _judge(patch: Patch, runs: list[list[str]], undecided: bool, resets: bool) -> Result:
    new, at_once, turned, turned_again = runs[:4]
    two = len(runs) > 7
    left, right = (runs[4:6], runs[9:]) if two else ([], [])
    cold, warm, replaced = runs[6:9] if two else runs[4:7]
    members = patch.closure.members.values() if patch.closure is not None else ()
    result = Result(SAME if patch.module else UNCHANGED, members=len(members))
    roles = {m.role for m in members}
    if len({m.unit for m in members}) > 1:
        roles.add("several units")
    if patch.closure is not None and any(patch.closure.units[m.unit].target != KERNEL for m in members):
        roles.add("in the module")
    result.roles = sorted(roles)
    result.warm = "left out" if undecided else "with state lost" if resets else "whole"
    if any("signal 14" in run[-1] for run in (new, at_once, turned, *left)):
        return Result(SKIPPED, facts=["takes too long"])
    if at_once != new or not all(run[-1].endswith("E 0") for run in (new, turned, *left)):
        return Result(HARNESS, facts=[_difference("reference", at_once, "freshly compiled", new), turned[-1]])
    if cold != new:
        result.end = WRONG
        result.facts.append("cold: " + _difference("patched", cold, "freshly compiled", new))
    if warm[:CALLS] != turned[:CALLS]:
        return Result(HARNESS, facts=[_difference("program", warm, "reference", turned)])
    if warm != turned and not undecided:
        result.end = WRONG
        result.facts.append("warm: " + _difference("patched", warm, "reference", turned))
    elif replaced != turned_again and not undecided and not resets:
        result.end = WRONG
        result.facts.append("replaced: " + _difference("patched", replaced, "reference", turned_again))
    for name, (wanted, got) in zip(("reloaded", "late"), zip(left, right, strict=True), strict=False):
        if got != wanted and not undecided and not resets:
            result.end = WRONG
            result.facts.append(f"{name}: " + _difference("patched", got, "reference", wanted))
    return result


def _difference(one: str, left: list[str], other: str, right: list[str]) -> str:
    at = next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))
    shown = [lines[at] if at < len(lines) else "nothing" for lines in (left, right)]
    return f"call {at}: {one} {shown[0]!r}, {other} {shown[1]!r}"


def calls(entries: list[str], seed: str) -> list[tuple[str, int, int]]:
    rng = random.Random(seed)
    return [(rng.choice(entries), rng.randrange(40), rng.randrange(200)) for _ in range(CALLS)]


# -- state that is lost ------------------------------------------------------------------------------------------------


def lost_state(before: Program, after: Program, patch: Patch, names: Mapping[Home, str]) -> tuple[list[str], list[str]]:
    """(variables, by their name in the reference, that one of the objects does not have as state; names of which that
    can't be told). `names` is what refactored variables are called in the patched object."""
    resets: list[str] = []
    undecided: list[str] = []
    for number, unit in enumerate(before.units):
        if unit.name not in patch.objects:
            continue
        other = after.units[number]
        theirs = {(f.name, v.name): v for f in other.functions + after.header for v in f.locals}
        theirs |= {("", v.name): v for v in other.variables}
        mine = {(f.name, v.name): v for f in unit.functions + before.header for v in f.locals}
        mine |= {("", v.name): v for v in unit.variables if v.static}
        for (function, name), v in mine.items():
            twin = theirs.get((function, name))
            if twin is None or v.const or not shared(v, twin):
                continue
            now = names.get((unit.name, function, name), name)
            wanted = [sum(n == name for _, n in side) for side in (mine, theirs)]
            there = [_writable(patch.before[unit.name], name), _writable(patch.after[unit.name], now)]
            if now != name:
                wanted[1] = 1
            else:
                wanted[1] -= sum(u == unit.name and n == name != new for (u, _, n), new in names.items())
            if there == wanted or (there == [0, 0] and v.kind != "u32"):
                continue  # carried over, or gcc goes by what a pointer leads to
            # [0, 0]: only written before, and only read now; else of no consequence in either
            if wanted == [1, 1] or 0 in there:
                resets.append(flat(unit, name, function))
            else:
                undecided.append(name)
    return resets, undecided


def _writable(obj: Object, name: str) -> int:
    """How many variables of a name an object has, the compiler's numbers aside."""
    pattern = re.compile(rf"{re.escape(name)}(\.\d+)?")
    return sum(
        s.type == STT.OBJECT and bool(pattern.fullmatch(s.name)) and obj.sections[s.shndx].writable
        for s in obj.iter_symbols()
        if 0 < s.shndx < len(obj.sections)
    )


def describe(before: Program, after: Program, folder: Path) -> None:
    """Write both programs out, for a person."""
    from tests.torture.program import render

    folder.mkdir(parents=True, exist_ok=True)
    for number, unit in enumerate(before.units):
        (folder / f"{unit.name}").write_text(render(before, unit))
        (folder / f"{unit.name}.patched").write_text(render(after, after.units[number]))
