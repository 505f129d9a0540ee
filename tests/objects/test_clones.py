# SPDX-License-Identifier: GPL-2.0-or-later
"""Clones of the running kernel that the patch's code calls: bound to where gcc made the same one, else carried along.

The kernel is compiled from the same source, but for what makes gcc choose another number, another convention, or no
clone at all."""

from __future__ import annotations

import pytest

from kgbuild.proof.parity import ABSENT, DIFFERS, EXACT
from tests.support.clones import ISRA, SECOND, again
from tests.support.compare import Disassembly
from tests.support.kernel import Patched, check_module, close_text, make_module

CLONING = ("-fipa-cp-clone", "--param=ipa-cp-eval-threshold=1", "--param=ipa-cp-unit-growth=400")


def status(p: Patched, name: str) -> str:
    unit = p.closure.units[0]
    found = unit.parity.of(unit.changes.orig.by_name[name][0].id)
    assert found is not None
    return found.status


def bound_to(p: Patched) -> set[str]:
    return {b.symbol for b in p.closure.bound.values() if b.how == "klp"}


def means_the_same(p: Patched) -> None:
    """The module's functions mean what the patched object's meant."""
    _, module = make_module(p.closure)
    patched, output = Disassembly(p.patched), Disassembly(module)
    names = [m.atom.name for m in p.closure.members.values() if m.atom.kind == "function"]
    assert names
    for name in names:
        assert output.function(name) == patched.function(name), name
    check_module(p, module)


def test_the_same_clone_is_bound_to() -> None:
    p = close_text(ISRA + SECOND)
    assert not p.closure.refusals
    assert status(p, "calc.isra.0") == EXACT
    assert ".klp.sym.vmlinux.calc.isra.0,0" in bound_to(p)
    assert p.roles("carried") == []
    bound = next(b for b in p.closure.bound.values() if b.name == "calc.isra.0")
    assert (bound.proof, bound.unproven) == ("own bytes", False)


def test_pull_always_carries_what_is_proven_too() -> None:
    p = again(close_text(ISRA + SECOND), always=True)
    assert not p.closure.refusals
    assert p.roles("carried") == ["calc.isra.0"]
    assert "calc.isra.0" not in p.bound
    (member,) = (m for m in p.closure.members.values() if m.role == "carried")
    assert "--pull always" in member.reason and "first" in member.reason
    assert [r.name for r in p.closure.redirects] == ["first"]
    means_the_same(p)


def test_pull_always_leaves_functions_that_are_no_clones() -> None:
    p = again(close_text(ISRA.replace("c->a", "c->a + c->b").replace("x) {", "x) { sink(c);", 1)), always=True)
    assert not p.closure.refusals
    assert p.bound["calc"] == "klp" and p.roles("carried") == []


def test_pull_always_follows_what_the_copy_calls() -> None:
    inner = "static noinline int inner(int x, int by) { return source(x * by) + source(by); }\n"
    text = ISRA.replace("static noinline int calc", inner + "static noinline int calc")
    text = text.replace("source(x);", "source(x) + inner(x, 7);", 1)
    p = again(close_text(text + SECOND), always=True)
    assert not p.closure.refusals
    assert p.roles("carried") == ["calc.isra.0", "inner.constprop.0"]
    chain = {m.atom.name: m for m in p.closure.members.values()}
    assert chain["inner.constprop.0"].via == (0, chain["calc.isra.0"].atom.id)
    means_the_same(p)


def test_pull_always_and_clones_that_are_folded() -> None:
    """One body with the names of two functions' tails, as gcc makes it of equal ones."""
    text = """
    #ifdef PATCHED
    #define STEP 5
    #else
    #define STEP 4
    #endif
    static noinline int tail(int x) asm("one.part.0");
    static noinline int tail(int x) { sink(NULL); return source(x) + 3; }
    static int other(int x) asm("two.part.0");
    static int other(int x) __attribute__((alias("one.part.0")));
    noinline int first(int x) { return x > 3 ? other(x + STEP) : 0; }
    noinline int second(int x) { return x > 4 ? tail(x) : 1; }
    """
    p = again(close_text(text), always=True)
    assert not p.closure.refusals
    (body,) = (a for a in p.closure.units[0].changes.patched.functions if "one.part.0" in a.names)
    assert sorted(body.names) == ["one.part.0", "two.part.0"]
    assert p.roles("carried") == [body.name]
    means_the_same(p)


def test_same_clone_under_another_number() -> None:
    """Of two clones of one function, the kernel's are counted the other way round: bound to by content."""
    text = """
    #ifdef PATCHED
    #define STEP 5
    #else
    #define STEP 4
    #endif
    static noinline int work(int x, int by) { barrier(); return source(x * by) + source(x + by) * by; }
    noinline int three(int x) { barrier(); return work(x + STEP, 3) + 1; }
    noinline int five(int x) { barrier(); return work(x + 2, 5) + 2; }
    noinline int any(int x) { barrier(); return work(x + 6, x) + 6; }
    """
    p = close_text(text, flags=CLONING)
    names = sorted(a.name for a in p.closure.units[0].changes.orig.functions if a.name.startswith("work."))
    assert names == ["work.constprop.0", "work.constprop.1"]
    mine = next(b.name for b in p.closure.bound.values() if b.name.startswith("work."))
    lines = text.splitlines(keepends=True)
    at = next(i for i, line in enumerate(lines) if " three(" in line)
    lines[at], lines[at + 1] = lines[at + 1], lines[at]
    q = close_text(text, flags=CLONING, kernel_text="".join(lines))
    theirs = next((b for b in q.closure.bound.values() if b.name.startswith("work.")), None)
    assert not q.closure.refusals
    assert theirs is not None and {mine, theirs.name} == set(names)
    assert [status(q, n) for n in names] == [EXACT, EXACT]
    (symbol,) = q.image.named(theirs.name)
    code = q.image.read(symbol.value, symbol.size)
    assert code is not None and theirs.address == symbol.value
    (other,) = q.image.named(mine)
    assert q.image.read(other.value, other.size) != code, "both are the same, so nothing is tested"
    means_the_same(q)


def test_another_convention_under_the_same_name() -> None:
    """In the kernel calc.isra.0 takes one more member; what calls it there is refused."""
    other = ISRA.replace("source(c->a)", "source(c->a + c->b)")
    p = close_text(ISRA + SECOND, kernel_text=other + SECOND)
    assert status(p, "calc.isra.0") == DIFFERS
    assert p.refused == ["Y1-parity:first", "Y1-parity:second"]
    assert "calc.isra.0" not in p.bound
    accepted = again(p, "first", "second")
    assert not accepted.closure.refusals
    assert accepted.roles("carried") == ["calc.isra.0"]
    (member,) = (m for m in accepted.closure.members.values() if m.role == "carried")
    assert "not the same clone in the kernel" in member.reason
    assert [w for w in accepted.closure.warnings if "first: not proven" in w and "--allow-unproven" in w]
    means_the_same(accepted)


def test_only_a_replaced_function_calls_the_other_clone() -> None:
    """It is the same but for what it adds: the caller is proven, the callee is not. The patch replaces the only caller,
    so that the kernel's clone runs no more, and the copy comes along."""
    other = ISRA.replace("* x + source(x)", "* x - source(x)")
    p = close_text(ISRA, kernel_text=other)
    assert (status(p, "first"), status(p, "calc.isra.0")) == (EXACT, DIFFERS)
    assert not p.closure.refusals
    assert p.roles("carried") == ["calc.isra.0"] and "calc.isra.0" not in p.bound
    means_the_same(p)


def test_a_function_that_stays_calls_the_other_clone() -> None:
    """Then the kernel's clone goes on running, with whatever of the changed code gcc put into it."""
    other = ISRA.replace("* x + source(x)", "* x - source(x)")
    p = close_text(ISRA + SECOND, kernel_text=other + SECOND)
    assert status(p, "second") == EXACT
    assert p.refused == ["Y1-parity:calc.isra.0"]


def test_no_such_clone_in_the_kernel() -> None:
    """There calc keeps its convention, since something points to it."""
    p = close_text(ISRA, kernel_text=ISRA + "noinline void give(void) { sink(calc); }\n", flags=("-fno-ipa-cp",))
    assert status(p, "calc.isra.0") == ABSENT
    assert p.refused == ["Y1-parity:first"]
    accepted = again(p, "first")
    assert not accepted.closure.refusals
    assert accepted.roles("carried") == ["calc.isra.0"]
    means_the_same(accepted)


@pytest.mark.parametrize("always", [False, True])
def test_an_accepted_clone_is_bound_to_and_said_to_be_unproven(always: bool) -> None:
    """The name of the function itself is the only way to what is not proven."""
    other = ISRA.replace("* x + source(x)", "* x - source(x)")
    p = close_text(ISRA + SECOND, kernel_text=other + SECOND)
    for name, bound in (("calc.isra.0", not always), ("unit.c", False)):
        accepted = again(p, name, always=always)
        assert not accepted.closure.refusals
        assert [w for w in accepted.closure.warnings if "calc.isra.0: not proven" in w]
        assert ("calc.isra.0" in accepted.bound) is bound
        assert accepted.roles("carried") == ([] if bound else ["calc.isra.0"])
        if bound:
            found = next(b for b in accepted.closure.bound.values() if b.name == "calc.isra.0")
            assert found.unproven and found.proof.startswith("not proven (") and "--allow-unproven" in found.proof
