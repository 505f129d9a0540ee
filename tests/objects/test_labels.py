# SPDX-License-Identifier: GPL-2.0-or-later
"""Data that holds addresses inside functions: tables of labels come along with the body that they lead into, and what
can't come along is refused."""

from __future__ import annotations

import pytest

from kgbuild.arch import arch_of
from kgbuild.diff.changes import compute_changes
from kgbuild.elf.read import read
from kgbuild.objects.view import View
from tests.support.kernel import Patched, close_text, make_module
from tests.support.toolchain import CC, CLANG, compile_text, pair_flags, view

HEAD = '#pragma GCC diagnostic ignored "-Wdangling-pointer"\n'
TABLE = "static const void *const table[] = { &&add, &&mul, &&out };"
RUN = """
noinline int run(volatile unsigned char *p, int x) {
	%s
	goto *table[*p++];
add:
#ifdef PATCHED
	%s
#else
	x += 100;
#endif
	goto *table[*p++];
mul:
	x *= 3;
	goto *table[*p++];
out:
	return x;
}
noinline int beside(int x) { return source(x); }
"""
SAME_SIZE, LONGER = "x += 120;", "x = source(x) + 5;"


def changed(p: Patched) -> list[str]:
    return [c.patched.name for u in p.closure.units for c in u.changes.changed]


def tables(p: Patched) -> dict[str, set[str]]:
    """For each variable of the module with relocations, the functions it leads into."""
    found = View(read(make_module(p.closure)[0]))
    return {
        a.name.partition(".")[0]: {found.atoms[r.atom].name for r in found.refs(a) if r.delta}
        for a in found.data
        if found.refs(a) and not found.section_name(a).startswith((".rodata.kgbuild", "__bug"))
    }


@pytest.mark.parametrize("change", [SAME_SIZE, LONGER])
@pytest.mark.parametrize(
    "table",
    [
        TABLE,
        TABLE.replace("[]", '[] section(".rodata..c_jump_table,\\"a\\",@progbits #")'),
        TABLE.replace("[]", '[] section(".data.rel.ro.c_jump_table")'),
        "static const void *table[] = { &&add, &&mul, &&out };",
    ],
    ids=["plain", "annotated in 6.1", "annotated in 6.12", "constant for gcc"],
)
def test_a_table_of_labels_comes_along(table: str, change: str) -> None:
    p = close_text(HEAD + RUN % (table, change))
    assert not p.closure.refusals
    assert changed(p) == ["run"]
    assert tables(p) == {"table": {"run"}}


@pytest.mark.parametrize("table", ["{ &&mul, &&add, &&out }", "{ &&add, &&mul, &&out, &&add }"])
def test_another_table_is_another_function(table: str) -> None:
    old = "{ &&add, &&mul, &&out }"
    text = RUN % (f"\n#ifdef PATCHED\n{TABLE.replace(old, table)}\n#else\n{TABLE}\n#endif\n", "x += 100;")
    p = close_text(HEAD + text)
    assert not p.closure.refusals
    assert [(c.patched.name, c.reason.kind) for c in p.closure.units[0].changes.changed] == [("run", "reference")]
    assert "holds other places" in p.closure.units[0].changes.changed[0].reason.detail
    assert tables(p) == {"table": {"run"}}


def test_clang_gives_the_table_a_plain_name() -> None:
    text = '#include "kernel.h"\n' + RUN % ("TABLE", "x += 100;")
    sides = [
        view(
            compile_text(
                text.replace("TABLE", TABLE.replace("&&add, &&mul", order)), *pair_flags(compiler=CLANG), compiler=CLANG
            )
        )
        for order in ("&&add, &&mul", "&&mul, &&add")
    ]
    assert [c.patched.name for c in compute_changes(*sides, "unit.c").changed] == ["run"]


LONGER_MUL = "#ifdef PATCHED\n\tx = source(x) * 3 + 4;\n#else\n\tx *= 3;\n#endif"
DISTANCES = RUN.replace("*table[*p++]", "*(&&out + table[*p++])").replace("\tx *= 3;", LONGER_MUL)
TO_OUT = "static const int table[] = { &&add - &&out, &&mul - &&out, &&out - &&out };%s"


def test_a_table_of_distances_comes_along() -> None:
    p = close_text(HEAD + DISTANCES % (TO_OUT % "", "x += 100;"))
    changes = p.closure.units[0].changes
    tables = [view.data[0] for view in (changes.orig, changes.patched)]
    assert changes.orig.content(tables[0]) != changes.patched.content(tables[1])
    assert not p.closure.refusals
    assert changed(p) == ["run"]
    assert p.roles("data") == ["table.0"]


def test_a_table_of_distances_that_is_let_out_is_refused() -> None:
    p = close_text(HEAD + DISTANCES % (TO_OUT % " if (!p) sink(table);", "x += 100;"))
    assert p.refused == ["K1-data:table.0"]


def test_tables_of_tables_come_along() -> None:
    text = """
noinline int run(volatile unsigned char *p, int x, int mode) {
	static const void *const a[] = { &&add, &&mul, &&out };
	static const void *const b[] = { &&mul, &&add, &&out };
	static const void *const *const both[] = { a, b };
	const void *const *t = both[mode];
	goto *t[*p++];
add:	x += 100;
#ifdef PATCHED
	x = source(x);
#endif
	goto *t[*p++];
mul:	x *= 3; goto *t[*p++];
out:	return x;
}
"""
    p = close_text(HEAD + text)
    assert not p.closure.refusals
    assert set(tables(p)) == {"a", "b", "both"}


def test_a_function_that_is_pulled_in_brings_its_table() -> None:
    text = """
static noinline notrace int leaf(int x) {
#ifdef PATCHED
	return x * 5 + source(x);
#else
	return x * 3 + source(x);
#endif
}
"""
    p = close_text(HEAD + text + RUN.replace("x *= 3;", "x = leaf(x);") % (TABLE, "x += 100;"))
    assert not p.closure.refusals
    assert p.roles("pulled") == ["run"]
    assert tables(p) == {"table": {"run"}}


def test_only_the_changed_functions_table_comes_along() -> None:
    text = RUN % (TABLE, SAME_SIZE)
    p = close_text(HEAD + text + text.replace("run", "other").replace("beside", "more").replace("PATCHED", "NEVER"))
    assert changed(p) == ["run"]
    assert tables(p) == {"table": {"run"}}


def test_a_label_in_the_cold_half() -> None:
    text = """
void __attribute__((__cold__)) complain(int n);
noinline int run(volatile unsigned char *p, int x) {
	static const void *const table[] = { &&add, &&slow, &&out };
	goto *table[*p++];
slow:	complain(x); x = 7; goto *table[*p++];
add:	x += 100;
#ifdef PATCHED
	x++;
#endif
	goto *table[*p++];
out:	return x;
}
"""
    p = close_text(HEAD + text)
    assert not p.closure.refusals
    assert p.roles("cold") == ["run.cold"]
    assert set(tables(p)) == {"table"}


NEAR_MISSES = {
    "differences, which are the same in both bodies": RUN.replace("*table[*p++]", "*(&&add + table[*p++])")
    % ("static const int table[] = { &&add - &&add, &&mul - &&add, &&out - &&add };", SAME_SIZE),
    "a table on the stack": RUN % ("void *volatile table[] = { &&add, &&mul, &&out };", SAME_SIZE),
    "an address that says where the code is": """
struct lock { int (*take)(int); };
noinline int run(struct lock *l, int x) {
	sink(({ __label__ here; here: &&here; }));
#ifdef PATCHED
	x += 120;
#else
	x += 100;
#endif
	return l->take(x);
}
""",
    "a function beside": RUN.replace("PATCHED", "NEVER") % (TABLE, "x += 100;")
    + "#ifdef PATCHED\nint own(int x) { return x + 2; }\n#else\nint own(int x) { return x + 1; }\n#endif\n",
}


@pytest.mark.parametrize("text", NEAR_MISSES.values(), ids=NEAR_MISSES)
def test_near_misses_are_built(text: str) -> None:
    p = close_text(HEAD + text)
    assert not p.closure.refusals
    assert len(changed(p)) == 1
    assert not tables(p)


STATE = """
noinline int run(%s int x) {
	%s
	goto %s;
add:	x += 100;
#ifdef PATCHED
	x++;
#endif
	%s = &&mul; return x;
mul:	%s = &&add; return x * 3;
}
"""
REFUSED = {
    "a variable that begins with a label": (
        STATE % ("", "static void *state = &&add;", "*state", "state", "state"),
        {"state.0", "run"},
    ),
    "a label that is stored in a variable": (
        STATE % ("", "static void *state; if (!state) goto add;", "*state", "state", "state"),
        {"run"},
    ),
    "a label that is stored in a structure": (
        "struct state { void *at; };\n" + STATE % ("struct state *s,", "", "*s->at", "s->at", "s->at"),
        {"run"},
    ),
    "a table that is filled at run time": (
        RUN
        % (
            "static void *table[3]; if (!table[0]) { table[0] = &&add; table[1] = &&mul; table[2] = &&out; }",
            SAME_SIZE,
        ),
        {"run"},
    ),
    "a table that is published": (
        "const void *const *published;\n" + RUN % (TABLE + " if (!p) { published = table; return 0; }", SAME_SIZE),
        {"table.0"},
    ),
    "a table that is returned": (
        RUN % (TABLE + " if (!p) return (int)(long)table;", SAME_SIZE),
        {"table.0"},
    ),
    "a table that is passed on": (RUN % (TABLE + " if (!p) sink(table);", SAME_SIZE), {"table.0"}),
    "a table that leads through what is written": (
        RUN.replace("*table[*p++]", "*now[*p++]")
        % (TABLE + " static const void *const *now = table; if (x == 9) now = table + 1;", SAME_SIZE),
        {"table.1", "now.0"},
    ),
    "an entry in a section of its own": (
        RUN % (TABLE + ' static void *entry section("my_table") used = &&mul;', SAME_SIZE),
        {"entry.1"},
    ),
}


@pytest.mark.parametrize(("text", "symbols"), REFUSED.values(), ids=REFUSED)
def test_what_leads_into_another_body_is_refused(text: str, symbols: set[str]) -> None:
    p = close_text(HEAD + text)
    assert {r.symbol for r in p.closure.refusals if r.code == "K23-label"} == symbols
    assert {r.code for r in p.closure.refusals} <= {"K23-label", "K1-data"}


def test_what_code_does_with_an_address() -> None:
    text = """
static int a, b, c, d, e, f;
void four(void) { sink(&f); }
struct { void *p; } *place;
void *one(int x) { place->p = &a; return x ? &b : 0; }
void two(void) { volatile struct { void *p; } s = { &c }; sink(&d); sink(s.p); }
int three(int i) { return (&e)[i]; }
"""
    found = view(compile_text(f'#include "kernel.h"\n{text}', *pair_flags(), compiler=CC))
    out: dict[str, set[str]] = {"kept": set(), "passed": set()}
    for function in found.functions:
        named = {r.offset: found.atoms[r.atom].name for r in found.refs(function)}
        given = arch_of(found.obj.machine).handed_out(found.content(function), frozenset(named), frozenset(named))
        assert not given.jumps
        out["kept"] |= {named[o] for o in given.kept}
        out["passed"] |= {named[o] for o in given.passed}
    assert out == {"kept": {"a", "b"}, "passed": {"d", "f"}}


def test_an_empty_section_with_a_relocation() -> None:
    """It has no bytes, so that nothing in it can lead into a function; `.reloc` writes what no compiler does."""
    empty = '__asm__(".section .data.x,\\"aw\\"\\n.reloc 0, R_X86_64_NONE, .text.f+4\\n.text");'
    text = "int g(int);\nint f(int x) { return g(x) + %d; }\n" + empty
    orig, patched = (View(read(compile_text(text % n, "-c", "-O2", "-ffunction-sections"))) for n in (1, 2))
    assert [c.patched.name for c in compute_changes(orig, patched, "unit.c").changed] == ["f"]
