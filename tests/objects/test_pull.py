# SPDX-License-Identifier: GPL-2.0-or-later
"""Who comes along when a function can't be redirected, where a mistake would be silent: a caller that is missed goes on
calling the old code, and nothing tells."""

from __future__ import annotations

import pytest

from kgbuild.callgraph.edge_kinds import EdgeKind
from kgbuild.closure.callers import users_in
from kgbuild.closure.model import Closure
from tests.support.kernel import GivenGraph, close_text, close_units, make_module
from tests.support.toolchain import compile_text, pair_flags, view

BY = """
#ifdef PATCHED
#define BY 5
#else
#define BY 3
#endif
"""
DEEP = BY + "notrace noinline int deep(int x) { barrier(); return source(x) * BY; }"


def roles(c: Closure) -> dict[str, str]:
    return {m.atom.name: m.role for m in c.members.values() if m.atom.kind == "function"}


def refused(c: Closure) -> list[str]:
    return sorted(f"{r.code}:{r.symbol}" for r in c.refusals)


def test_caller_in_another_unit() -> None:
    texts = {
        "a.c": DEEP,
        "b.c": "extern int deep(int); noinline int top(int x) { barrier(); return deep(x) + 1; }",
    }
    c = close_units(texts, GivenGraph({"deep": [("top", "b.c", EdgeKind.CALL)]}))
    assert not c.refusals
    assert roles(c) == {"deep": "changed", "top": "pulled"}
    assert [r.name for r in c.redirects] == ["top"]


def test_caller_that_the_patch_changes_as_well() -> None:
    """It is redirected once, and it is the patch that changes it."""
    top = BY + "extern int deep(int); noinline int top(int x) { barrier(); return deep(x) + BY; }"
    graph = GivenGraph({"deep": [("top", "b.c", EdgeKind.CALL)]})
    for texts in ({"a.c": DEEP, "b.c": top}, {"b.c": top, "a.c": DEEP}):
        c = close_units(texts, graph)
        assert not c.refusals
        assert roles(c) == {"deep": "changed", "top": "changed"}
        assert [r.name for r in c.redirects] == ["top"]


def test_caller_that_its_unit_does_not_show() -> None:
    """The kernel's call graph says that it calls; the object does not: one of them is not understood."""
    texts = {
        "a.c": DEEP,
        "b.c": "noinline int ghost(int x) { barrier(); return source(x) + 1; }",
    }
    c = close_units(texts, GivenGraph({"deep": [("ghost", "b.c", EdgeKind.CALL)]}))
    assert refused(c) == ["K15-pull:ghost"]


@pytest.mark.parametrize(
    "kind", [EdgeKind.STATIC_CALL, EdgeKind.ALTERNATIVE, EdgeKind.JUMP_TABLE, EdgeKind.ADDRESS_TAKEN]
)
def test_ways_to_a_function_that_are_no_call(kind: EdgeKind) -> None:
    texts = {
        "a.c": DEEP,
        "b.c": "extern int deep(int); noinline int top(int x) { barrier(); return deep(x) + 1; }",
    }
    c = close_units(texts, GivenGraph({"deep": [("top", "b.c", kind)]}))
    assert refused(c) == ["K4-not-traceable:deep"]
    assert "top" in c.refusals[0].fact


def test_code_without_a_symbol_that_leads_there() -> None:
    c = close_units({"a.c": DEEP}, GivenGraph({"deep": []}, [("deep", ".text at 0xffffffff81000100")]))
    assert refused(c) == ["K4-not-traceable:deep"]
    assert "0xffffffff81000100" in c.refusals[0].fact


def test_call_in_an_alternative() -> None:
    """Replacement code is no function of its own, but it calls."""
    p = close_text(
        BY
        + """
        static notrace noinline used int deep(int x) { barrier(); return source(x) * BY; }
        noinline int seen(int x) { barrier(); return deep(x) + 1; }
        noinline int top(int x) { alternative("call source", "call deep", 8); return x; }
        """
    )
    assert p.refused == ["K4-not-traceable:deep"]
    assert ".altinstr_replacement" in p.closure.refusals[0].fact


EXIT = """
static notrace noinline int deep(int x) { barrier(); return source(x) * 3; }
noinline int top(int x) { barrier(); return deep(x) + 1; }
noinline section(".exit.text") void leave(void) { barrier(); deep(7); }
noinline section(".init.text") void start(void) { barrier(); deep(8); }
"""


def test_init_and_exit_code_of_a_module_still_runs() -> None:
    """That of the kernel itself has run or is not there; a module's runs when it comes and goes, patched or not."""
    v = view(compile_text(f'#include "kernel.h"\n{EXIT}', *pair_flags()))
    deep = v.by_name["deep"][0]
    assert [a.name for a in users_in(v, deep, True).callers] == ["top"]
    of_module = users_in(v, deep, False)
    assert [a.name for a in of_module.callers] == ["top"]
    assert {*of_module.takers} == {"leave", "start"}


def test_a_function_that_is_gone_and_a_copy_of_its_caller() -> None:
    """A carried copy does not replace the kernel's function: that one goes on calling what is gone."""
    texts = {
        "a.c": "#ifdef PATCHED\nint other;\n#else\nint gone(int x) { return source(x); }\n#endif\n"
        + BY
        + "noinline int stays(int x) { barrier(); return source(x) * BY; }",
        "b.c": "extern int gone(int); noinline int user(int x) { barrier(); return source(x) + 1; }",
    }
    c = close_units(texts, GivenGraph({"gone": [("user", "b.c", EdgeKind.CALL)]}))
    assert "K14-vanished:gone" in refused(c)
    assert not [r for r in close_units(texts, GivenGraph({"gone": []})).refusals if r.code == "K14-vanished"]


def test_replacement_code_that_jumps_back_into_the_function_is_its_own() -> None:
    p = close_text(
        BY
        + """
        static notrace noinline int deep(int x)
        {
            asm goto("661: nop; nop; nop; nop; nop\\n662:\\n"
                     ".pushsection .altinstructions, \\"a\\"\\n"
                     ".long 661b - ., 6641f - .\\n.short 8\\n.byte 662b-661b, 6651f-6641f\\n"
                     ".popsection\\n.pushsection .altinstr_replacement, \\"ax\\"\\n"
                     "6641: jmp %l[yes]\\n6651:\\n.popsection" : : : : yes);
            return source(x) * BY;
        yes:
            return source(x + 1);
        }
        noinline int top(int x) { barrier(); return deep(x) + 1; }
        """
    )
    assert not p.refused
    assert roles(p.closure) == {"deep": "changed", "top": "pulled"}


TWO_NAMES = """
notrace noinline int deep(int x) { barrier(); return source(x) * 3; }
#ifdef PATCHED
notrace noinline int shallow(int x) { barrier(); return source(x) * 5; }
#else
extern __typeof__(deep) shallow __attribute__((alias("deep")));
#endif
"""


def test_name_that_the_patch_gives_to_another_function() -> None:
    """One body with two names becomes two functions, of which one changes. Who calls the other one must neither come
    along nor get the changed one. Found in the harness of tests/torture."""
    texts = {
        "a.c": TWO_NAMES,
        "b.c": "extern int deep(int), shallow(int); noinline int top(int x) { barrier(); return shallow(x) + 1; }"
        "noinline int both(int x) { barrier(); return shallow(x) + deep(x); }"
        "noinline int other(int x) { barrier(); return deep(x) + 2; }",
    }
    c = close_units(texts, GivenGraph({"deep": [(name, "b.c", EdgeKind.CALL) for name in ("top", "both", "other")]}))
    assert not c.refusals
    assert roles(c) == {"shallow": "changed", "top": "pulled", "both": "pulled"}
    assert sorted(r.name for r in c.redirects) == ["both", "top"]
    assert sorted(b.name for b in c.bound.values() if b.name in ("deep", "shallow") and b.how == "klp") == ["deep"]
    assert {c.members[member].atom.name for member in c.defined.values()} == {"shallow"}


HOOK = "notrace noinline int hook(int x) { barrier(); return source(x) * 7; }"


def test_new_definition_that_overrides_a_weak_one() -> None:
    """The kernel's callers of the weak one, in units that the patch does not touch, would go on calling it. Found in
    the harness of tests/torture."""
    texts = {
        "a.c": f"#ifdef PATCHED\n{HOOK}\n#endif\n" + BY + "int own(int x) { return source(x) * BY; }",
        "b.c": "weak int hook(int x) { return source(x); } int top(int x) { return hook(x) + 1; }",
    }
    c = close_units(texts, GivenGraph({"hook": [("top", "b.c", EdgeKind.CALL)]}))
    assert "K14-vanished:hook" in refused(c)
    assert any("top in b.c calls it" in r.fact for r in c.refusals)
    # nobody calls it: nothing is left behind
    assert not [r for r in close_units(texts, GivenGraph({"hook": []})).refusals if r.code == "K14-vanished"]


def test_variable_that_moves_to_another_unit() -> None:
    """It goes on as the kernel's. Without types it is not known to be the same: its state would be there twice."""
    texts = {
        "a.c": "#ifdef PATCHED\nextern int level;\n#else\nint level;\n#endif\nint set(int x) { return level = x; }",
        "b.c": "#ifdef PATCHED\nint level;\n#endif\n" + BY + "int own(int x) { return source(x) * BY; }",
    }
    c = close_units(texts, GivenGraph({}), ("-g",))
    assert refused(c) == []
    assert "level" not in {m.atom.name for m in c.members.values()}
    assert refused(close_units(texts, GivenGraph({}))) == ["K1-data:level", "K22-state:level"]


def test_new_name_in_two_units() -> None:
    texts = {
        "a.c": "#ifdef PATCHED\nweak int fresh(int x) { return source(x); }\n#endif\n"
        + BY
        + "int one(int x) { return source(x) * BY; }",
        "b.c": "#ifdef PATCHED\nint fresh(int x) { return source(x) + 1; }\n#endif\n"
        + BY
        + "int two(int x) { return source(x) * BY; }",
    }
    assert refused(close_units(texts, GivenGraph({}))) == ["K10-weak:fresh", "K10-weak:fresh"]


# -- a static function that the patch makes global ---------------------------------------------------------------------

PROMOTED = """
#ifdef PATCHED
#define STATIC
#else
#define STATIC static
#endif
STATIC %s noinline int aide(int x) { barrier(); return source(x) * %s; }
STATIC int state = 3;
noinline int user(int x) { barrier(); return aide(x) + state++; }
"""
CALLS = """
extern int aide(int);
extern int state;
#ifdef PATCHED
noinline int top(int x) { barrier(); return %s + state; }
#else
noinline int top(int x) { barrier(); return source(x); }
#endif
"""


def test_a_promoted_function_is_the_kernels() -> None:
    """And not the one of that name in another unit."""
    texts = {
        "a.c": PROMOTED % ("", 3),
        "b.c": CALLS % "aide(x)",
        "c.c": "static noinline int aide(int x) { barrier(); return source(x) * 9; }"
        "noinline int other(int x) { barrier(); return aide(x) + 8; }",
    }
    c = close_units(texts, GivenGraph({}))
    assert not c.refusals
    assert roles(c) == {"top": "changed"}
    bound = {b.name: (b.how, b.sympos) for b in c.bound.values()}
    assert bound["aide"] == ("klp", 1) and bound["state"] == ("klp", 0)
    make_module(c)
    texts = {"c.c": texts["c.c"], "b.c": texts["b.c"], "a.c": texts["a.c"]}
    assert {(b.name, b.sympos) for b in close_units(texts, GivenGraph({})).bound.values()} >= {("aide", 2)}


def test_a_promoted_function_that_changes_is_called_where_it_can_be_reached() -> None:
    changing = PROMOTED.replace("STATIC %s", BY + "STATIC %s") % ("", "BY")
    c = close_units({"a.c": changing, "b.c": CALLS % "aide(x)"}, GivenGraph({}))
    assert not c.refusals
    assert sorted(r.name for r in c.redirects) == ["aide", "top"]
    assert {b.how for b in c.bound.values() if b.name == "aide"} == {"klp"}
    assert not c.defined
    untraceable = PROMOTED.replace("STATIC %s", BY + "STATIC %s") % ("notrace", "BY")
    c = close_units({"a.c": untraceable, "b.c": CALLS % "aide(x)"}, GivenGraph({}))
    assert not c.refusals
    assert sorted(r.name for r in c.redirects) == ["top", "user"]
    assert [c.members[m].atom.name for m in c.defined.values()] == ["aide"]
    make_module(c)
    c = close_units({"a.c": untraceable, "b.c": CALLS % "(sink(aide), aide(x))"}, GivenGraph({}))
    assert refused(c) == ["K13-ambiguous:top"]
