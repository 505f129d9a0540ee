# SPDX-License-Identifier: GPL-2.0-or-later
"""What the macros for authors leave in an object, and what the differ and the closure make of it."""

from __future__ import annotations

from kgbuild.diff.author_macros import check_authors, leave_out, read_author
from kgbuild.diff.changes import Changes, compute_changes, new_parameters
from tests.support.toolchain import compile_text, view

RECORD = """
struct object;
#define used(s) __attribute__((used, section(s)))
#define CALLBACK(kind, f) static void (*ptr_##f)(struct object *) used(".kgbuild.kpatch.callback." kind) = f
#define IGNORE(what, name, text) static const char rec_##name[] used(".kgbuild.kpatch.ignore." what) = text
#define STATE(n, i, v) static const struct { unsigned long id, version; } state_##n used(".kgbuild.state") = { i, v }
int table[2] = { 1, ENTRY };
__attribute__((noinline)) int change(int x) { asm volatile(""); return x * FACTOR + table[0]; }
__attribute__((noinline)) int other(int x) { asm volatile(""); return x + FACTOR; }
"""
FLAGS = ("-O2", "-ffunction-sections", "-fdata-sections")


def patched(text: str, entry: int = 2) -> Changes:
    before = compile_text(RECORD, *FLAGS, "-DFACTOR=3", "-DENTRY=2")
    after = compile_text(RECORD + text, *FLAGS, "-DFACTOR=5", f"-DENTRY={entry}")
    return compute_changes(view(before), view(after), "unit.c")


def names(changes: Changes) -> list[str]:
    return sorted(c.patched.name for c in changes.changed)


def test_callbacks_and_states() -> None:
    changes = patched(
        'static void before(struct object *o) { asm volatile(""); }\n'
        'CALLBACK("pre_patch", before);\nSTATE(a, 7, 2);\nSTATE(b, 9, 1);'
    )
    author, refusals = read_author(changes.patched, "unit.c")
    assert refusals == []
    assert [(kind, atom.name) for kind, atom in author.callbacks] == [("pre_patch", "before")]
    assert sorted(author.states) == [(7, 2), (9, 1)]
    assert author.families == {"kpatch"}
    assert names(changes) == ["change", "other"]
    assert [a.name for a in changes.new] == ["before"]


def test_a_callback_in_init_memory_is_refused() -> None:
    changes = patched(
        '__attribute__((section(".init.text"))) static void before(struct object *o) { asm volatile(""); }\n'
        'CALLBACK("pre_patch", before);'
    )
    _, refusals = read_author(changes.patched, "unit.c")
    assert [(r.code, r.fact) for r in refusals] == [("P14-callback", "the pre_patch callback is in init memory")]


def test_records_that_no_macro_makes_are_refused() -> None:
    """Somebody else's section of such a name: its meaning is not known."""
    for section in (".kgbuild.kpatch", ".kgbuild.other.ignore.function", ".kgbuild.kpatch.callback.often"):
        changes = patched(f'static const char odd[] used("{section}") = "x";')
        author, refusals = read_author(changes.patched, "unit.c")
        assert [(r.code, r.section) for r in refusals] == [("P14-callback", section)]
        assert not author.families


def test_ignored_function() -> None:
    changes = patched('IGNORE("function", a, "change");')
    author, _ = read_author(changes.patched, "unit.c")
    rest, lines = leave_out(changes, author)
    assert names(rest) == ["other"]
    assert len(lines) == 1
    assert lines[0].startswith("unit.c: change changes (")


def test_ignored_section() -> None:
    """The data of that section only: another change of data is refused as ever."""
    changes = patched('IGNORE("section", a, ".data.table");', entry=4)
    assert [r.code for r in changes.refusals] == ["K1-data"]
    author, _ = read_author(changes.patched, "unit.c")
    rest, lines = leave_out(changes, author)
    assert rest.refusals == ()
    assert names(rest) == ["change", "other"]
    assert "K1-data" in lines[0]
    elsewhere = patched('IGNORE("section", a, ".text.other");', entry=4)
    author, _ = read_author(elsewhere.patched, "unit.c")
    assert [r.code for r in leave_out(elsewhere, author)[0].refusals] == ["K1-data"]


def test_what_is_ignored_must_be_there() -> None:
    changes = patched('IGNORE("function", a, "nobody");\nIGNORE("section", b, ".nowhere");')
    author, _ = read_author(changes.patched, "unit.c")
    rest, _ = leave_out(changes, author)
    assert sorted(r.code for r in rest.refusals) == ["P15-ignore", "P15-ignore"]
    assert names(rest) == ["change", "other"]


def test_a_function_that_does_not_change_needs_no_macro() -> None:
    before = compile_text(RECORD, *FLAGS, "-DFACTOR=3", "-DENTRY=2")
    after = compile_text(RECORD + 'IGNORE("function", a, "change");', *FLAGS, "-DFACTOR=3", "-DENTRY=2")
    changes = compute_changes(view(before), view(after), "unit.c")
    author, _ = read_author(changes.patched, "unit.c")
    rest, lines = leave_out(changes, author)
    assert rest.nothing
    assert "not needed" in lines[0]


def test_one_callback_of_a_kind_for_an_object() -> None:
    text = 'static void before(struct object *o) { asm volatile(""); }\nCALLBACK("post_patch", before);'
    author, _ = read_author(patched(text).patched, "a.c")
    twice = [("a.c", "vmlinux", author), ("b.c", "vmlinux", author)]
    assert [r.code for r in check_authors(twice)] == ["P14-callback"]
    assert check_authors([("a.c", "vmlinux", author), ("b.c", "af_key", author)]) == []


def test_a_state_has_one_version() -> None:
    one, _ = read_author(patched("STATE(a, 7, 2);").patched, "a.c")
    two, _ = read_author(patched("STATE(a, 7, 3);").patched, "b.c")
    zero, _ = read_author(patched("STATE(a, 0, 3);").patched, "c.c")
    assert check_authors([("a.c", "vmlinux", one), ("b.c", "m", one)]) == []
    assert len(check_authors([("a.c", "vmlinux", one), ("b.c", "vmlinux", two)])) == 1
    assert len(check_authors([("c.c", "vmlinux", zero)])) == 1


PARAM = """
struct param { const char *name; void *mod, *ops; unsigned long flags; void *arg; };
#define IN_TABLE __attribute__((used, aligned(8), section("__param")))
#define PARAM(n, v) static struct param __param_##n IN_TABLE = { #n, 0, 0, 0, &v }
int level, depth;
PARAM(level, level);
#ifdef PATCHED
PARAM(depth, depth);
#endif
"""


def test_a_new_module_parameter() -> None:
    before, after = compile_text(PARAM, *FLAGS), compile_text(PARAM, *FLAGS, "-DPATCHED")
    changes = compute_changes(view(before), view(after), "unit.c")
    assert [a.name for a in new_parameters(changes.patched, changes.correlation)] == ["__param_depth"]
    assert changes.refusals == ()


def test_a_changed_module_parameter_is_refused() -> None:
    before = compile_text(PARAM, *FLAGS)
    after = compile_text(PARAM.replace("PARAM(level, level)", "PARAM(level, depth)"), *FLAGS)
    changes = compute_changes(view(before), view(after), "unit.c")
    assert [r.code for r in changes.refusals] == ["K7-export"]
