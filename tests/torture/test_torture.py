# SPDX-License-Identifier: GPL-2.0-or-later
"""The harness held to account: what is right passes, and closures that are spoilt on purpose are found wrong."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from kgbuild.closure.binding import KLP, Bound
from kgbuild.closure.model import Closure, Member
from kgbuild.elf.read import read
from tests.torture import case
from tests.torture.case import REFUSED, SAME, UNCHANGED, WRONG, Result, run_case
from tests.torture.change import change
from tests.torture.generate import generate
from tests.torture.patching import BadModule, load, make_patch, start
from tests.torture.program import KERNEL, MODULE, Function, Program, Unit, Variable, reference, render
from tests.torture.refactor import Refactored
from tests.torture.retype import RETYPINGS
from tests.torture.run import run_program
from tests.torture.shrink import shrink

NOINLINE = ["noinline"]
Value = TypeVar("Value")
Retyping = Callable[[Refactored, random.Random], str | None]


def program(*units: Unit, flags: tuple[str, ...] = ()) -> Program:
    return Program(flags, list(units))


def two_units() -> Program:
    """Static functions and variables of one name in both; a notrace function with a caller in each."""
    units = []
    for letter, by in (("a", "3"), ("b", "7")):
        helper = Function("helper", "plain", 10, attributes=list(NOINLINE))
        helper.body = ["barrier();", f"r = r * {by} + source(a);", "count += r;", "trace(count);"]
        entry = Function(f"entry_{letter}0", "entry", 100, static=False)
        entry.body = ["r += helper(a, b);", "r += deep(r, a);"]
        other = Function(f"entry_{letter}1", "entry", 100, static=False)
        other.body = ["r ^= helper(b, a) + count;"]
        units.append(Unit(f"{letter}.c", [Variable("count", "u32", ["0"])], [helper, entry, other]))
    deep = Function("deep", "plain", 5, static=False, attributes=["noinline", "notrace"])
    deep.body = ["barrier();", "r = source(r) + a * 3;"]
    units[0].functions.append(deep)
    return program(*units)


def edited(before: Program, unit: int, name: str, body: Callable[[list[str]], list[str]]) -> Program:
    after = copy.deepcopy(before)
    (f,) = [f for f in after.units[unit].functions if f.name == name]
    f.body = body(f.body)
    return after


def attempt(
    folder: Path, before: Program, after: Program, sabotage: Callable[[Closure], Closure] | None = None
) -> Result:
    return run_case(start(folder, before), after, 1, sabotage)


def _without(table: Mapping[tuple[int, int], Value], key: tuple[int, int]) -> dict[tuple[int, int], Value]:
    return {other: value for other, value in table.items() if other != key}


def drop_redirect(name: str) -> Callable[[Closure], Closure]:
    def spoil(closure: Closure) -> Closure:
        (gone,) = [r for r in closure.redirects if r.name == name]
        return replace(closure, redirects=tuple(r for r in closure.redirects if r != gone))

    return spoil


def test_callers_in_both_units_come_along(tmp_path: Path) -> None:
    before = two_units()
    after = edited(before, 0, "deep", lambda body: [*body, "r += 5;"])
    result = attempt(tmp_path, before, after)
    assert (result.end, result.facts) == (SAME, [])
    assert "pulled" in result.roles and "several units" in result.roles


@pytest.mark.parametrize("name", ["entry_a0", "entry_b0"])
def test_a_caller_that_does_not_come_along_is_found(tmp_path: Path, name: str) -> None:
    before = two_units()
    after = edited(before, 0, "deep", lambda body: [*body, "r += 5;"])
    result = attempt(tmp_path, before, after, drop_redirect(name))
    assert result.end == WRONG
    assert any("cold" in f for f in result.facts) and any("warm" in f for f in result.facts)


@pytest.mark.parametrize("symbol", ["helper", "count"])
def test_the_other_symbol_of_the_name_is_found(tmp_path: Path, symbol: str) -> None:
    """A unit's own static is bound by its position; another position is another unit's."""
    before = two_units()
    after = edited(before, 1, "entry_b1", lambda body: [*body, "r += 1 + count;"])

    def spoil(closure: Closure) -> Closure:
        keys = [key for key, b in closure.bound.items() if b.name == symbol]
        assert len(keys) == 1 and closure.bound[keys[0]].sympos in (1, 2)
        bound = closure.bound[keys[0]]
        return replace(closure, bound={**closure.bound, keys[0]: bound._replace(sympos=3 - bound.sympos)})

    assert attempt(tmp_path, before, after).end == SAME
    assert attempt(tmp_path, before, after, spoil).end == WRONG


def test_a_variable_in_two_places_is_found(tmp_path: Path) -> None:
    """State that comes along as a copy is state that the rest of the program does not see."""
    before = two_units()
    after = edited(before, 0, "entry_a1", lambda body: [*body, "r += 1 + count;"])

    def spoil(closure: Closure) -> Closure:
        (key,) = [key for key, b in closure.bound.items() if b.name == "count"]
        atom = closure.units[key[0]].changes.patched.atoms[key[1]]
        copied = {**closure.members, key: Member(key[0], atom, "data", "spoilt")}
        return replace(closure, bound=_without(closure.bound, key), members=copied)

    assert attempt(tmp_path, before, after, spoil).end == WRONG


def test_a_function_that_stays_old_is_found(tmp_path: Path) -> None:
    before = two_units()
    after = edited(before, 0, "helper", lambda body: [*body, "r += 9;"])
    after = edited(after, 1, "helper", lambda body: [*body, "r += 11;"])

    def spoil(closure: Closure) -> Closure:
        assert [r.name for r in closure.redirects] == ["helper", "helper"]
        return replace(closure, redirects=closure.redirects[:-1])

    assert attempt(tmp_path, before, after).end == SAME
    assert attempt(tmp_path, before, after, spoil).end == WRONG


def test_a_write_to_read_only_memory_is_found(tmp_path: Path) -> None:
    """A static that nothing wrote to lies in .rodata; written there instead of in the new one it faults."""
    level = Variable("level", "u32", ["3"])
    read = Function("get", "plain", 10, attributes=list(NOINLINE), body=["barrier();", "r += READ_ONCE(level);"])
    entry = Function("entry_a0", "entry", 100, static=False, body=["r += get(a, b);"])
    before = program(Unit("a.c", [level], [read, entry]))
    after = edited(before, 0, "entry_a0", lambda body: [*body, "level = a;"])
    assert attempt(tmp_path, before, after).end == SAME

    def spoil(closure: Closure) -> Closure:
        key = next(key for key, m in closure.members.items() if m.atom.name == "level")
        unit = closure.units[key[0]]
        old = next(a for a in unit.changes.orig.data if a.name == "level")
        binding = unit.parity.bindings[old.id]
        bound = {**closure.bound, key: Bound("level", KLP, "vmlinux", 0, binding.address, "spoilt")}
        return replace(closure, bound=bound, members=_without(closure.members, key))

    result = attempt(tmp_path, before, after, spoil)
    assert result.end == WRONG and "signal 11" in result.facts[0]


def test_a_function_without_a_site_can_not_be_redirected(tmp_path: Path) -> None:
    before = two_units()
    after = edited(before, 0, "deep", lambda body: [*body, "r += 5;"])

    def spoil(closure: Closure) -> Closure:
        number, deep = next((m.unit, m.atom) for m in closure.members.values() if m.atom.name == "deep")
        first = closure.redirects[0]._replace(unit=number, atom=deep, name="deep", sympos=0)
        return replace(closure, redirects=(first, *closure.redirects[1:]))

    result = attempt(tmp_path, before, after, spoil)
    assert result.end == WRONG and "no ftrace site" in result.facts[0]


def test_a_position_that_is_not_there_is_no_module(tmp_path: Path) -> None:
    before = two_units()
    running = start(tmp_path, before)
    after = edited(before, 1, "entry_b1", lambda body: [*body, "r += 1;"])

    def spoil(closure: Closure) -> Closure:
        (key,) = [key for key, b in closure.bound.items() if b.name == "helper"]
        return replace(closure, bound={**closure.bound, key: closure.bound[key]._replace(sympos=0)})

    patch = make_patch(running, after, spoil)
    with pytest.raises(BadModule, match="helper,0 among 2"):
        load(patch.module, running.image, running.exports)


def test_what_has_no_right_patch_is_refused(tmp_path: Path) -> None:
    before = two_units()
    after = copy.deepcopy(before)
    after.units[0].variables[0].init = ["4"]
    result = attempt(tmp_path, before, after)
    assert (result.end, result.codes) == (REFUSED, ["K1-data"])


def test_nothing_to_patch(tmp_path: Path) -> None:
    before = two_units()
    after = copy.deepcopy(before)
    after.units[0].functions.reverse()
    assert attempt(tmp_path, before, after).end == UNCHANGED


def test_spoilt_closures_of_random_programs_are_found(tmp_path: Path) -> None:
    """Without one of its redirections a random patch does something else, unless nothing that was called depends on
    it."""
    ends = []
    for seed in range(1, 13):
        folder = tmp_path / str(seed)
        folder.mkdir()
        before = generate(seed)
        running = start(folder, before)
        after, _ = change(before, seed)

        def spoil(closure: Closure) -> Closure:
            return replace(closure, redirects=closure.redirects[:-1])

        ends.append(run_case(running, after, seed, spoil).end)
    assert ends.count(WRONG) >= 4, ends


def test_programs_come_from_their_seed_alone() -> None:
    for seed in (3, 4, 5):
        one, other = generate(seed), generate(seed)
        assert [render(one, u) for u in one.units] == [render(other, u) for u in other.units]
        assert change(one, seed)[1] == change(other, seed)[1]
        assert reference(one, change(one, seed)[0]) == reference(other, change(other, seed)[0])
    assert render(generate(3), generate(3).units[0]) != render(generate(4), generate(4).units[0])


def test_shrinking_keeps_what_fails() -> None:
    before = generate(7)
    after, _ = change(before, 7)
    kept = {s for _, f in after.functions() for s in f.body}
    needed = max((s for _, f in before.functions() for s in f.body if s in kept), key=len)

    def fails(pair: tuple[Program, Program]) -> bool:
        return all(any(needed in f.body for _, f in p.functions()) for p in pair)

    small = shrink((before, after), fails)
    assert fails(small)
    assert sum(len(f.body) for _, f in small[0].functions()) == 1


# -- two objects -------------------------------------------------------------------------------------------------------


def two_objects() -> Program:
    """A kernel and a module with functions and variables of one name: static ones and global ones."""
    units = []
    for letter, target in (("a", KERNEL), ("m", MODULE)):
        helper = Function("helper", "plain", 10, attributes=list(NOINLINE))
        helper.body = ["barrier();", "r = r * 3 + source(a);", "count += r;", "trace(count);"]
        shown = Function("shown", "plain", 9, static=False, attributes=list(NOINLINE))
        shown.body = ["barrier();", "total += r;", "trace(total);"]
        entry = Function(
            f"entry_{letter}0", "entry", 100, static=False, body=["r += helper(a, b);", "r += shown(r, a);"]
        )
        other = Function(f"entry_{letter}1", "entry", 100, static=False, body=["r ^= helper(b, a) + count;"])
        variables = [Variable("count", "u32", ["0"]), Variable("total", "u32", ["3"], static=False)]
        units.append(Unit(f"{letter}.c", variables, [helper, shown, entry, other], target))
    return program(*units)


def with_new(before: Program, *places: int) -> Program:
    """A new global function and a new global variable, of the same names in every unit that is given."""
    after = copy.deepcopy(before)
    for number in places:
        unit = after.units[number]
        unit.variables.append(Variable("fresh", "u32", ["5"], static=False))
        added = Function("added", "plain", 4, static=False, attributes=list(NOINLINE))
        added.body = ["fresh += a;", "r += fresh;", "total++;"]
        unit.functions.insert(0, added)
        unit.functions[1].body.append("r += added(r, a);")
    return after


@pytest.mark.parametrize("seed", [1, 2], ids=["kallsyms", "klp"])
@pytest.mark.parametrize("places", [(0,), (1,), (0, 1)], ids=["kernel", "module", "both"])
def test_names_that_both_objects_have(tmp_path: Path, seed: int, places: tuple[int, ...]) -> None:
    before = two_objects()
    result = run_case(start(tmp_path, before), with_new(before, *places), seed)
    assert (result.end, result.facts) == (SAME, [])


@pytest.mark.parametrize("name", ["fresh", "total", "added"])
def test_the_other_objects_is_found(tmp_path: Path, name: str) -> None:
    """What the module's code means is the module's, not the kernel's of that name."""
    before = two_objects()
    if name == "total":
        after = edited(before, 1, "shown", lambda body: [*body, "r += 5 * total;"])
    else:
        after = with_new(before, 0, 1)

    def spoil(closure: Closure) -> Closure:
        if name == "total":
            (key,) = [key for key, b in closure.bound.items() if b.name == name]
            return replace(closure, bound={**closure.bound, key: closure.bound[key]._replace(object=KERNEL)})
        of_module, of_kernel = (
            next(key for key, m in closure.members.items() if m.unit == n and m.atom.name == name) for n in (1, 0)
        )
        defined = {**closure.defined, of_module: of_kernel}
        return replace(closure, members=_without(closure.members, of_module), defined=defined)

    result = attempt(tmp_path, before, after, spoil)
    assert result.end == WRONG, result


def test_a_module_that_comes_again_begins_anew(tmp_path: Path) -> None:
    """Data of the patch that is not written when the module comes again is found."""
    before = two_objects()
    after = with_new(before, 1)
    running = start(tmp_path, before)
    patch = make_patch(running, after)
    (section,) = [s for s in read(patch.module).sections if s.name == ".rodata.kgbuild_initial"]
    assert run_case(running, after, 2).end == SAME

    def forget(module: bytes) -> bytes:
        found = read(module)
        at = found.sections[section.index].offset
        return module[:at] + bytes(section.size) + module[at + section.size :]

    with pytest.MonkeyPatch.context() as patched:
        made = case.make_patch

        def make(*given: object) -> object:
            out = made(*given)  # type: ignore[arg-type]
            out.module = forget(out.module)
            return out

        patched.setattr(case, "make_patch", make)
        result = run_case(running, after, 2)
    assert result.end == WRONG and [f.partition(":")[0] for f in result.facts] == ["reloaded"]


def test_a_weak_reference_finds_what_its_object_has(tmp_path: Path) -> None:
    """A new function of the kernel is not the module's; a new one of the module is."""
    before = two_objects()
    unit = before.units[1]
    unit.weak["added"] = "plain"
    unit.functions[2].body.append("r += added ? added(r, 3) : 77;")
    for places in ((0,), (1,)):
        folder = tmp_path / str(places[0])
        folder.mkdir()
        result = run_case(start(folder, before), with_new(before, *places), 2)
        assert (result.end, result.facts) == (SAME, []), places


@pytest.mark.parametrize("retype", RETYPINGS, ids=lambda f: f.__name__.strip("_"))
def test_a_variable_of_another_type_is_right_or_refused(tmp_path: Path, retype: Retyping) -> None:
    before = two_units()
    table = Variable("table", "array", ["3", "9", "4", "1"])
    before.units[0].variables += [table, Variable("halves", "bits", ["3", "5"]), Variable("ends", "links", ["table"])]
    before.units[0].variables.append(Variable("row", "array", ["7", "5", "2", "8"]))
    (deep,) = [f for f in before.units[0].functions if f.name == "entry_a1"]
    deep.body += ["halves.lo = (halves.lo + a) & 511;", "r += halves.hi;", "halves.hi = r & 65535;"]
    deep.body += ["ends.next = &table[a & 3];", "r += *ends.next + *ends.prev;", "ends.prev = &table[r & 3];"]
    deep.body += ["row[r & 3] += a;", "r += row[a & 3] + table[1];"]
    out = Refactored(copy.deepcopy(before))
    assert retype(out, random.Random(5)), "nothing was done"
    result = run_case(start(tmp_path, before), before, 2, refactored=out)
    assert result.end in (SAME, UNCHANGED, REFUSED), result.facts
    changed = {"wide", "two_fields", "cut", "swapped", "hopping"}
    assert (result.end == REFUSED) or retype.__name__.strip("_") not in changed


def test_a_weak_reference_of_a_unit_that_stays(tmp_path: Path) -> None:
    """Code that the patch does not replace goes on without a function that the patched source gives it."""
    before = two_objects()
    user = Function("entry_b0", "entry", 100, static=False, body=["r += added ? added(r, 3) : 77;"])
    before.units.insert(1, Unit("b.c", [], [user], weak={"added": "plain"}))
    running = start(tmp_path, before)
    after = with_new(before, 0)
    result = run_case(running, after, 2)
    assert (result.end, result.codes) == (REFUSED, ["K14-vanished"]) and "entry_b0" in result.facts[0]
    replaced = edited(after, 1, "entry_b0", lambda body: [*body, "r += 3;"])
    result = run_case(running, replaced, 2)
    assert (result.end, result.facts) == (SAME, [])


def test_a_weak_definition_of_the_module_is_overridden(tmp_path: Path) -> None:
    """Its caller is in a unit that the patch does not change, and that the module's file does not name."""
    before = two_objects()
    hook = Function("hook", "plain", 15, static=False, attributes=["weak", "noinline"], body=["barrier();", "r += 2;"])
    before.units[1].functions.insert(0, hook)
    before.units[1].functions[-1].body.append("r += hook(r, a);")
    entry = Function("entry_n0", "entry", 100, static=False, body=["trace(a);"])
    before.units.append(Unit("n.c", [], [entry], MODULE))
    after = copy.deepcopy(before)
    new = Function("hook", "plain", 15, static=False, attributes=list(NOINLINE), body=["barrier();", "r += 70;"])
    after.units[2].functions.insert(0, new)
    result = run_case(start(tmp_path, before), after, 2)
    assert (result.end, result.codes) == (REFUSED, ["K14-vanished"]), result


def test_what_one_side_only_writes_and_the_other_only_reads_is_held_by_neither() -> None:
    """gcc leaves the variable out of both objects: patched code has its initial value, and so has the reference."""
    outcome = run_program((300000094, [1]))
    assert [result.end for _, _, result in outcome.results] == [SAME]
