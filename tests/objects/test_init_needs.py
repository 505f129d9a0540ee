# SPDX-License-Identifier: GPL-2.0-or-later
"""Changes of init code that may be left out, and those that the rest of the patch needs."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from kgbuild.diagnostics.refusals import IN_A_CALLBACK
from kgbuild.diff.changes import Changes, compute_changes
from kgbuild.diff.init_needs import find_needed, judge_init_refusals
from kgbuild.pipeline.object_diff import diff_objects, read_relocatable
from tests.support.kernel import compile_text, pair_flags, view

HEAD = """
#include "kernel.h"
#define INIT section(".init.text") noinline
struct pair {{ long one, two; }};
void register_ops(void *); void *make(int size); int check(void);
static int limit, other; static struct pair *space; static int table[8]; static struct pair both;
"""
PAIR = """
#ifdef PATCHED
{patched}
#else
{orig}
#endif
int keeps(int x) {{ return source(x) + limit + other++ + table[x] + both.one + (space ? space->one : 0); }}
void spares(void) {{ limit = source(1); other = source(2);
    space = make(3); table[1] = source(4); both.two = source(5); }}
"""
BEFORE = "int first(int x) { return source(x) + 1; }"


class InitCase(NamedTuple):
    """The original and the patched text, and what is said of init code by name: what it sets and who uses that."""

    name: str
    orig: str
    patched: str
    needed: dict[str, str] = {}  # noqa: RUF012


def setup(body: str, returned: str = "0") -> str:
    return f"INIT int setup(int x) {{ {body} return {returned}; }} "


def first(value: str) -> str:
    return f"int first(int x) {{ return source(x) + {value}; }} "


LOCKS = (
    "struct mutex { long n; }; struct mutex lock; void mutex_lock(struct mutex *); void mutex_unlock(struct mutex *); "
)
MASK = "extern const unsigned long mask[]; int _find_next_bit(const unsigned long *, int, int); "

NEEDED = [
    InitCase(
        "a new variable",
        setup("") + BEFORE,
        "static int fresh; " + setup("fresh = source(3);") + first("fresh"),
        {"setup": "it sets fresh, which first uses"},
    ),
    InitCase(
        "another constant",
        setup("limit = 5;") + BEFORE,
        setup("limit = 6;") + first("limit"),
        {"setup": "it sets limit, which first uses"},
    ),
    InitCase(
        "more memory",
        setup("space = make(16);") + BEFORE,
        setup("space = make(32);") + first("space->two"),
        {"setup": "it sets space, which first uses"},
    ),
    InitCase(
        "memory filled",
        setup("space = make(16); if (!space) return 1; space->one = 3;") + BEFORE,
        setup("space = make(16); if (!space) return 1; space->one = 3; space->two = 4;") + first("space->two"),
        {"setup": "it sets space, which first uses"},
    ),
    InitCase(
        "memory handed to what fills it",
        setup("space = make(16);") + BEFORE,
        setup("space = make(16); sink(space);") + first("space->two"),
        {"setup": "it sets space, which first uses"},
    ),
    InitCase(
        "what a pointer leads to",
        setup("if (space) space->one = 3;") + BEFORE,
        setup("if (space) { space->one = 3; space->two = 4; }") + first("space->two"),
        {"setup": "it sets space, which first uses"},
    ),
    InitCase(
        "a table filled otherwise",
        setup("for (int i = 0; i < 8; i++) table[i] = source(i) * 2;") + BEFORE,
        setup("for (int i = 0; i < 8; i++) table[i] = source(i) * 3;") + first("table[x]"),
        {"setup": "it sets table, which first uses"},
    ),
    InitCase(
        "a value computed otherwise",
        setup("limit = source(x) + 2;") + BEFORE,
        setup("limit = source(x) + 9;") + first("limit"),
        {"setup": "it sets limit, which first uses"},
    ),
    InitCase(
        "a condition",
        setup("limit = 5;") + BEFORE,
        setup("if (check()) limit = 5;") + first("limit"),
        {"setup": "it sets limit, which first uses"},
    ),
    InitCase(
        "a value from before a branch",
        setup("int n = source(x) * 2; if (check()) return 1; limit = n;") + BEFORE,
        setup("int n = source(x) * 3; if (check()) return 1; limit = n;") + first("limit"),
        {"setup": "it sets limit, which first uses"},
    ),
    InitCase(
        "a value that two ways lead to",
        setup("int n = 5; if (check()) n = source(7); limit = n;") + BEFORE,
        setup("int n = 6; if (check()) n = source(7); limit = n;") + first("limit"),
        {"setup": "it sets limit, which first uses"},
    ),
    InitCase(
        "no longer set",
        setup("limit = 5;") + BEFORE,
        setup("") + first("limit"),
        {"setup": "it sets limit, which first uses"},
    ),
    InitCase(
        "by a new helper in init memory",
        setup("") + BEFORE,
        "static int fresh; INIT static void helper(int x) { fresh = source(x); } "
        + setup("helper(x);")
        + first("fresh"),
        {"setup": "it sets fresh, which first uses", "helper": "it sets fresh, which first uses"},
    ),
    InitCase(
        "by a new call of what was there",
        "noinline void prepare(void) { limit = source(7); } " + setup("") + BEFORE,
        "noinline void prepare(void) { limit = source(7); } " + setup("prepare();") + first("limit"),
        {"setup": "it sets limit, which first uses"},
    ),
    InitCase(
        "by two calls",
        "noinline static void deep(void) { limit = source(7); } noinline void prepare(void) { deep(); source(1); } "
        + setup("")
        + BEFORE,
        "noinline static void deep(void) { limit = source(7); } noinline void prepare(void) { deep(); source(1); } "
        + setup("prepare();")
        + first("limit"),
        {"setup": "it sets limit, which first uses"},
    ),
    InitCase(
        "registered in a new table",
        setup("") + BEFORE,
        "static int hits; static void hit(void) { hits += source(1); } static void *ops[] = { hit }; "
        + setup("register_ops(ops);")
        + first("hits"),
        {"setup": "it sets hits, which first uses"},
    ),
    InitCase(
        "a table that was there is registered",
        "static int hits; static void hit(void) { hits += source(1); } void *ops[] = { hit }; " + setup("") + BEFORE,
        "static int hits; static void hit(void) { hits += source(1); } void *ops[] = { hit }; "
        + setup("register_ops(ops);")
        + first("hits"),
        {"setup": "it sets hits, which first uses"},
    ),
    InitCase(
        "a callback given to the kernel",
        setup("") + BEFORE,
        "static int hits; static void hit(void) { hits += source(1); } " + setup("register_ops(hit);") + first("hits"),
        {"setup": "it sets hits, which first uses"},
    ),
    InitCase(
        "a user that the changed code calls",
        "noinline int get(int x) { return source(x) * limit; } " + setup("") + BEFORE,
        "noinline int get(int x) { return source(x) * limit; } " + setup("limit = 5;") + first("get(x)"),
        {"setup": "it sets limit, which first uses"},
    ),
    InitCase(
        "a user in the cold half of the changed code",
        setup("") + BEFORE,
        setup("limit = 5;")
        + "cold void fail(int); int first(int x) "
        + "{ if (__builtin_expect(source(x) == 3, 0)) { fail(limit); fail(x); } return source(x); }",
        {"setup": "it sets limit, which first uses"},
    ),
    InitCase(
        "a variable of other units",
        "extern int shared; " + setup("") + BEFORE,
        "extern int shared; " + setup("shared = 5;") + first("shared"),
        {"setup": "it sets shared, which first uses"},
    ),
    InitCase(
        "the address handed on",
        "struct lock { int n; }; static struct lock l; void take(struct lock *); "
        + setup("")
        + BEFORE
        + " void *k = &l;",
        "struct lock { int n; }; static struct lock l; void take(struct lock *); "
        + setup("register_ops(&l);")
        + "int first(int x) { take(&l); return source(x); } void *k = &l;",
        {"setup": "it sets l, which first uses"},
    ),
    InitCase(
        "exit code that must clean up",
        'section(".exit.text") void done(void) { source(1); } ' + BEFORE,
        'static int armed; section(".exit.text") void done(void) { source(1); register_ops(&armed); } '
        "int first(int x) { register_ops(&armed); return source(x); }",
        {"done": "it sets armed, which first uses"},
    ),
    InitCase(
        "exit code that frees",
        'section(".exit.text") void done(void) { source(1); } ' + BEFORE,
        'static void *kept; section(".exit.text") void done(void) { source(1); register_ops(kept); } '
        "int first(int x) { kept = make(x); return source(x); }",
        {"done": "it sets kept, which first uses"},
    ),
    InitCase(
        "data that init code reads",
        'section(".init.data") int first_values[2] = { 1, 2 }; '
        + setup("for (int i = 0; i < 2; i++) table[i] = first_values[i];")
        + BEFORE,
        'section(".init.data") int first_values[2] = { 1, 5 }; '
        + setup("for (int i = 0; i < 2; i++) table[i] = first_values[i];")
        + first("table[x]"),
        {"first_values": "it sets table, which first uses"},
    ),
    InitCase(
        "only part of it is needed",
        setup("") + "INIT int again(int x) { return 0; } " + BEFORE,
        setup("other = 3;") + "INIT int again(int x) { limit = 3; return 0; } " + first("limit"),
        {"again": "it sets limit, which first uses"},
    ),
]
FREE = [
    InitCase("nothing of the rest", setup("") + BEFORE, setup("limit = 5;") + first("2")),
    InitCase("another variable", setup("limit = 5;") + BEFORE, setup("limit = 5; other = 7;") + first("limit")),
    InitCase(
        "what was set before",
        setup("limit = 5; sink(&other);") + BEFORE,
        setup("limit = 5; sink(&other); table[2] = 7;") + first("limit + other"),
    ),
    InitCase("only read", setup("limit = 5;") + BEFORE, setup("limit = 5;", "other") + first("other")),
    InitCase(
        "a check after memory was made",
        setup("space = make(16);") + BEFORE,
        setup("space = make(16); if (!space) return 1;") + first("limit"),
    ),
    InitCase(
        "a message",
        setup("space = make(16); limit = 4;") + BEFORE,
        setup('space = make(16); limit = 4; printk("made");') + first("limit"),
    ),
    InitCase(
        "a handler that only init code registers uses it",
        setup("") + BEFORE,
        "static int fresh; static void hit(void) { sink((void *)(long)fresh); } "
        + setup("fresh = 3; register_ops(hit);")
        + first("2"),
    ),
    InitCase(
        "a lock that both take",
        LOCKS + setup("") + BEFORE,
        LOCKS
        + setup("mutex_lock(&lock); other = 3; mutex_unlock(&lock);")
        + "int first(int x) { mutex_lock(&lock); x = source(x); mutex_unlock(&lock); return x; }",
    ),
    InitCase(
        "a lock that a function takes which it newly calls",
        LOCKS + "noinline void busy(void) { mutex_lock(&lock); source(1); mutex_unlock(&lock); } " + setup("") + BEFORE,
        LOCKS
        + "noinline void busy(void) { mutex_lock(&lock); source(1); mutex_unlock(&lock); } "
        + setup("busy();")
        + "int first(int x) { mutex_lock(&lock); x = source(x); mutex_unlock(&lock); return x; }",
    ),
    InitCase(
        "a set of bits that both search",
        MASK + setup("") + BEFORE,
        MASK
        + setup("for (int i = 0; i < 64; i = _find_next_bit(mask, 64, i)) other += source(i);")
        + "int first(int x) { return _find_next_bit(mask, 64, x); }",
    ),
    InitCase(
        "a mask of the kernel that both hand on",
        MASK + setup("") + BEFORE,
        MASK + setup("sink(mask);") + "int first(int x) { sink(mask); return source(x); }",
    ),
    InitCase("init code alone", setup("") + BEFORE, setup("limit = 5;") + BEFORE),
    InitCase(
        "what runs calls no init code",
        "INIT static int at_boot(int x) { limit = 7; return 0; } void *const hooks[] = { at_boot }; "
        + setup("")
        + BEFORE,
        "INIT static int at_boot(int x) { limit = 7; return 0; } void *const hooks[] = { at_boot }; "
        + setup("other = 4;")
        + first("limit"),
    ),
]


def changes_of(case: InitCase) -> Changes:
    text = HEAD.format() + PAIR.format(orig=case.orig, patched=case.patched).replace("{{", "{").replace("}}", "}")
    orig, patched = (view(compile_text(text, *pair_flags(d))) for d in ((), ("-DPATCHED",)))
    return compute_changes(orig, patched, "unit.c")


@pytest.mark.parametrize("case", [*NEEDED, *FREE], ids=lambda c: c.name)
def test_init_code_that_the_rest_needs(case: InitCase) -> None:
    changes = changes_of(case)
    symbols = {r.symbol for r in changes.refusals if r.code == "K3-init"}
    assert symbols
    found = find_needed([changes])
    assert found == {("unit.c", name): why for name, why in case.needed.items()}
    for ignore in (False, True):
        ((kept, left_out),) = judge_init_refusals([changes], ignore)
        offered = {r.symbol for r in [*kept, *left_out] if r.code == "K3-init" and "--ignore-init" in r.remedy}
        assert offered == symbols - case.needed.keys()
        assert {r.symbol for r in left_out} == (offered if ignore else set())
        assert all(r.remedy == IN_A_CALLBACK for r in kept if r.symbol in case.needed)


def test_units_share_what_is_global() -> None:
    one, two = (
        changes_of(case)
        for case in (
            InitCase("", "extern int shared; " + setup(""), "extern int shared; " + setup("shared = 5;")),
            InitCase("", "int shared; " + BEFORE, "int shared; " + first("shared")),
        )
    )
    assert find_needed([one, two]) == {("unit.c", "setup"): "it sets shared, which first uses"}


def test_what_init_code_calls_in_another_unit_of_the_patch() -> None:
    prepare = "noinline void prepare(void) { limit = source(7); } "
    one, two = (
        changes_of(case)
        for case in (
            InitCase("", "void prepare(void); " + setup(""), "void prepare(void); " + setup("prepare();")),
            InitCase("", prepare + BEFORE, prepare + first("limit")),
        )
    )
    assert find_needed([one, two]) == {("unit.c", "setup"): "it sets limit, which first uses"}


def test_two_objects_are_judged_as_patches_are() -> None:
    """`kgbuild diff --ignore-init` leaves out no more than a build does."""
    for case in (NEEDED[0], FREE[0]):
        text = HEAD.format() + PAIR.format(orig=case.orig, patched=case.patched)
        orig, patched = (read_relocatable(compile_text(text, *pair_flags(d)), "x.o") for d in ((), ("-DPATCHED",)))
        found = diff_objects(orig, patched, "unit.c", ignore_init=True)
        assert [r.symbol for r in found.ignored] == ([] if case.needed else ["setup"])
        assert [r.symbol for r in found.refusals] == [*case.needed]
