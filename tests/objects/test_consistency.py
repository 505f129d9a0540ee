# SPDX-License-Identifier: GPL-2.0-or-later
"""Warnings about what the kernel's consistency model can't do: from compiled C, linked and indexed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kgbuild.diagnostics.warnings import (
    NMI,
    NOINSTR,
    PATCHED,
    RULES,
    STACK,
    UNKNOWN,
    UNREAD,
    UNSEEN,
    ConsistencyWarning,
)
from kgbuild.elf.read import read
from kgbuild.errors import UserError
from kgbuild.host.index.queries import Index
from kgbuild.host.index.store import load_index
from kgbuild.host.modules.loaded_patches import read_others
from kgbuild.host.system.cache import Cache
from kgbuild.livepatch.consistency import Consistency, check_against, thread_functions
from kgbuild.livepatch.cumulative import Patched
from kgbuild.livepatch.foreign_patches import read_other
from kgbuild.livepatch.unchecked_code import find_unseen
from kgbuild.pipeline.stages.warnings import check_consistency
from kgbuild.progress import SilentProgress
from tests.support.kernel import close_text, make_module
from tests.support.smallkernel import small_kernel
from tests.support.toolchain import KERNEL_FLAGS, compile_text

THREADS = """
#define noipa __attribute__((noipa))
struct task;
noipa struct task *kthread_create_on_node(int (*fn)(void *), void *data, int node, const char *f) { return data; }
noipa void init_work(void (*fn)(void *)) { asm volatile("" :: "r"(fn)); }
noipa void __schedule(void) { asm volatile(""); }
noipa void schedule(void) { __schedule(); asm volatile(""); }
noipa long schedule_timeout(long x) { schedule(); return x; }
noipa void do_task_dead(void) { __schedule(); for (;;) ; }
noipa int work(int x) { return x * 3; }
noipa int nap(void *d) { return schedule_timeout(9) + work(1); }
noipa int loop(void *d) { for (;;) { nap(d); work(2); } }
noipa int tail(void *d) { for (;;) { nap(d); work(4); } }
noipa int entry(void *d) { return tail(d); }
noipa void callback(void *d) { work(5); }
noipa void start(void *d) { init_work(callback); kthread_create_on_node(loop, d, 0, "loop"); work(6); }
noipa void start_other(void *d) { kthread_create_on_node(entry, d, 0, "other"); work(7); }
noipa void waits_once(void) { schedule_timeout(3); work(8); }
noipa void do_exit(int code) { work(code); do_task_dead(); work(9); }
void __fentry__(void) {}
"""
NMIS = """
#define noipa __attribute__((noipa))
struct nmiaction { void *list[2]; int (*handler)(int); };
noipa int __register_nmi_handler(int type, struct nmiaction *a) { asm volatile("" :: "r"(a)); return type; }
noipa int _printk(const char *f) { asm volatile(""); return 1; }
noipa int deep(int x) { asm volatile(""); return x + 1; }
noipa int third(int x) { return deep(x) + 3; }
noipa int second(int x) { return third(x) + 2; }
noipa int handler(int x) { return second(x) * 2; }
noipa int other(int x) { return x * 5; }
noipa int elsewhere(int x) { return other(x) * 5; }
noipa int shown(int x) { return x * 7; }
noipa void start(void)
{
	static struct nmiaction handler_na = { .handler = handler };
	static struct nmiaction plain = { .handler = elsewhere };
	__register_nmi_handler(1, &handler_na);
	__register_nmi_handler(2, &plain);
}
noipa void exc_nmi(int x) { second(x); }
__attribute__((section(".noinstr.text"))) noipa void enter(int x) { shown(x); }
void __fentry__(void) {}
"""


def index_of(folder: Path, text: str) -> Index:
    kernel = small_kernel(folder / "kernel", {"core.c": text}, {}, {}, (*KERNEL_FLAGS, "-g"))
    return load_index(kernel, SilentProgress(), Cache(folder / "cache"))


def warned(index: Index, name: str) -> dict[str, ConsistencyWarning]:
    return {w.code: w for w in Consistency(index, index.noinstr).check(index.choose(name).id)}


@pytest.fixture
def threads(tmp_path: Path) -> Index:
    return index_of(tmp_path, THREADS)


def test_what_is_handed_over_to_be_a_thread(threads: Index) -> None:
    """Not the address that an earlier call takes."""
    assert {threads.function(n).name for n in thread_functions(threads)} == {"loop", "entry"}


@pytest.mark.parametrize(
    ("name", "evidence"),
    [
        ("loop", ["start+", "address taken of loop", "call of kthread_create_on_node"]),
        ("tail", ["address taken of entry", "tail call of tail"]),
        ("nap", ["loop+", "call of nap", "call of schedule_timeout"]),
        ("schedule", ["call of __schedule"]),
        ("__schedule", ["by its name"]),
        ("do_exit", ["call of do_task_dead"]),
    ],
)
def test_what_may_never_leave_a_stack(threads: Index, name: str, evidence: list[str]) -> None:
    found = warned(threads, name)
    assert list(found) == [STACK]
    assert found[STACK].function == name and found[STACK].unit == "core.c" and found[STACK].object == "vmlinux"
    text = "\n".join(found[STACK].evidence)
    assert all(part in text for part in evidence), text


@pytest.mark.parametrize("name", ["work", "callback", "start", "waits_once"])
def test_what_leaves_it(threads: Index, name: str) -> None:
    assert warned(threads, name) == {}


def test_nmi_and_noinstr(tmp_path: Path) -> None:
    index = index_of(tmp_path, NMIS)
    assert "exc_nmi -> second -> third" in warned(index, "third")[NMI].fact
    assert warned(index, "handler")[NMI].evidence == ()
    # three calls from where it begins, and not what is no handler by its name
    assert NMI in warned(index, "deep")
    assert NMI not in warned(index, "elsewhere") and NMI not in warned(index, "other")
    shown = warned(index, "shown")
    assert list(shown) == [NOINSTR] and "enter+" in shown[NOINSTR].evidence[0]
    exc = index.choose("exc_nmi")
    by_extent = Consistency(index, {exc.id})
    assert NOINSTR in {w.code for w in by_extent.check(index.choose("second").id)}


BY = """
#ifdef PATCHED
#define BY 5
#else
#define BY 3
#endif
extern cold void complain(int n);
"""


def unseen(text: str) -> dict[str, str]:
    patched = close_text(BY + text)
    assert not patched.refused
    found = find_unseen(patched.closure)
    assert {w.code for w in found} <= {UNSEEN}
    return {w.function: " ".join(w.evidence) for w in found}


def test_cold_halves() -> None:
    sleeps = (
        "noinline int top(int x) { if (unlikely(x < 0)) { complain(2); return source(x) + BY; } return source(x); }"
    )
    assert "calls complain, source" in unseen(sleeps)["top.cold"]
    message = "noinline int top(int x) { if (x == BY) panic(x); return source(x) * BY; }"
    assert unseen("extern cold int panic(int);" + message) == {}


def test_without_an_index_what_is_not_known_is_said() -> None:
    patched = close_text(BY + "noinline int top(int x) { return source(x) * BY; }")
    (warning,) = check_consistency(patched.closure, None, (), "6.1", replace=True)
    assert warning.code == UNKNOWN and "no index" in warning.fact and "impact" in warning.remedy


HELPERS = """
#ifdef PATCHED
static noinline used int last(int x) { barrier(); return source(x) + 9; }
static noinline used int fresh(int x) { barrier(); return last(x) * 7; }
#else
#define fresh source
#endif
"""


def test_helper_that_is_called() -> None:
    """It has the caller's return address below it, and so has what it calls."""
    assert unseen(HELPERS + "noinline int top(int x) { barrier(); return fresh(x) * BY; }") == {}


def test_helper_that_is_jumped_to() -> None:
    found = unseen(HELPERS + "noinline int top(int x) { barrier(); return fresh(x * BY); }")
    assert "jump to fresh" in found["fresh"] and "call to last" in found["last"]


def test_what_a_pointer_of_the_module_leads_to() -> None:
    text = """
    extern void take(int (*f)(int));
    #ifdef PATCHED
    static noinline used int later(int x) { barrier(); return source(x) + 9; }
    noinline int top(int x) { take(later); return source(x); }
    #else
    noinline int top(int x) { return source(x); }
    #endif
    """
    assert "pointer to later" in unseen(text)["later"]


OURS = "noinline int top(int x) { barrier(); return source(x) * BY; }"
PLAIN = """
struct module; extern struct module __this_module;
struct klp_func { const char *old_name; void *new_func; unsigned long old_sympos; void *rest[9]; };
struct klp_object { const char *name; struct klp_func *funcs; void *callbacks[4]; void *rest[7]; };
struct klp_patch { struct module *mod; struct klp_object *objs; _Bool replace; void *rest[5]; };
static int new_one(int x) { return x + 1; }
static int new_two(int x) { return x + 2; }
static void called_back(void) { }
static struct klp_func of_kernel[] = { { "one", new_one, 2 }, { "two", new_two }, { } };
static struct klp_func of_module[] = { { "three", new_two }, { } };
static struct klp_object objs[] = {
	{ .funcs = of_kernel, .callbacks = { called_back } }, { .name = "some_module", .funcs = of_module }, { }
};
static struct klp_patch patch = { &__this_module, objs };
struct { struct module *owner; void *open; } fops = { &__this_module, called_back };
extern int klp_enable_patch(struct klp_patch *);
int init_module(void) { return klp_enable_patch(&patch); }
"""
INFO = """
static const char info[] __attribute__((section(".modinfo"), used)) = "livepatch=Y\\0vermagic=6.1.0-1-test SMP";
"""
EXTERNAL = """
struct klp_func_ext { const char *old_name; void *new_func; unsigned long sympos; };
struct klp_object_ext { const char *name; struct klp_func_ext *funcs; void *callbacks[5]; unsigned nr_funcs; };
static int new_one(int x) { return x + 1; }
static __attribute__((section(".init.klp_funcs"), used)) struct klp_func_ext funcs[] = {
	{ "one", new_one, 2 }, { "two", new_one }, { "three", new_one } };
static __attribute__((section(".init.klp_objects"), used)) struct klp_object_ext objects[] = {
	{ 0, funcs, { 0 }, 2 }, { "some_module", funcs + 2, { 0 }, 1 } };
"""
KPATCH = """
struct kpatch_patch_func { void *new_addr; unsigned long new_size, old_addr, old_size; POSITION char *name, *objname; };
static int new_one(int x) { return x + 1; }
static __attribute__((section(".kpatch.funcs"), used)) struct kpatch_patch_func funcs[] = {
	{ .new_addr = new_one, .name = "one", .objname = "vmlinux" SET },
	{ .new_addr = new_one, .name = "two", .objname = "vmlinux" },
	{ .new_addr = new_one, .name = "three", .objname = "some_module" } };
"""


def other(text: str) -> list[tuple[str, str, int]] | None:
    found = read_other(read(compile_text(text, *KERNEL_FLAGS)), "other.ko").functions
    return None if found is None else [(f.object, f.name, f.sympos) for f in found]


def test_forms_of_other_builders() -> None:
    expected = [("some_module", "three", 0), ("vmlinux", "one", 2), ("vmlinux", "two", 0)]
    assert other(PLAIN + INFO) == expected
    assert other(EXTERNAL + INFO) == expected
    newer = KPATCH.replace("POSITION", "unsigned long sympos;").replace("SET", ", .sympos = 2")
    assert other(newer + INFO) == expected
    older = KPATCH.replace("POSITION", "").replace("SET", "")
    assert other(older + INFO) == [(o, n, 0) for o, n, _ in expected]


def test_our_own_form() -> None:
    """Before the last link there is no .modinfo; what reads the table does not need it."""
    from kgbuild.livepatch.foreign_patches import _Fields, _read_own

    _, module = make_module(close_text(BY + OURS).closure)
    assert [(f.object, f.name, f.sympos) for f in _read_own(_Fields(read(module)))] == [("vmlinux", "top", 0)]


def test_modules_that_tell_nothing() -> None:
    assert other("int init_module(void) { return 0; }") is None
    unread = read_other(read(compile_text(INFO + "int init_module(void) { return 0; }", *KERNEL_FLAGS)), "x.ko")
    (warning,) = check_against({}, [unread], "6.1.0-1-test", replace=True)
    assert warning.code == UNREAD and "known forms" in warning.fact


def test_functions_that_both_patch() -> None:
    them = read_other(read(compile_text(PLAIN + INFO, *KERNEL_FLAGS)), "other.ko")
    ours = {Patched("vmlinux", "two", 0): "a.c", Patched("vmlinux", "three", 0): "b.c"}
    found = check_against(ours, [them], "6.1.0-1-test", replace=True)
    assert [(w.code, w.function, w.unit) for w in found] == [(PATCHED, "two", "a.c"), (PATCHED, "", "")]
    assert "three, one" in found[1].fact
    assert [w.function for w in check_against(ours, [them], "6.1.0-1-test", replace=False)] == ["two"]
    # another position is another function; without a position in one of the two, it may be the same
    assert not check_against({Patched("vmlinux", "one", 1): ""}, [them], "6.1.0-1-test", replace=False)
    assert check_against({Patched("vmlinux", "one", 0): ""}, [them], "6.1.0-1-test", replace=False)
    (first,) = check_against(ours, [them], "6.1.0-2-test", replace=False)
    assert first.code == UNREAD and "6.1.0-1-test" in first.fact


def test_every_code_has_a_rule() -> None:
    assert [code.split("-")[0] for code in RULES] == [f"W{n}" for n in range(1, len(RULES) + 1)]
    assert all(rule.rule and rule.remedy for rule in RULES.values())


def test_a_file_that_is_no_module(tmp_path: Path) -> None:
    for name, data in (("short.ko", b"x"), ("text.ko", b"#!/bin/sh\n" * 100)):
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(UserError, match=re.escape(name)):
            read_others([path])
    with pytest.raises(UserError, match="gone"):
        read_others([tmp_path / "gone.ko"])
