# SPDX-License-Identifier: GPL-2.0-or-later
"""Warnings of what a patch can't undo or can't reach: addresses that outlive the module, read-only memory, variables
that became constants, init code without its mark, new data that has no page. Each case says which codes it gives, in
which function; most give none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kgbuild.closure.model import Redirect
from kgbuild.diagnostics.warnings import HANDED, INIT_ONLY, LAST_WRITE, READ_ONLY, RULES, UNKNOWN, UNSEEN, VMALLOC
from kgbuild.diff.ipa_clones import parse_ipa_clones
from kgbuild.kernel.module_image import ModuleImage
from kgbuild.livepatch.init_only import find_init_only
from kgbuild.pipeline.stages.warnings import check_consistency
from tests.support.kernel import ANCHOR, WITH_ANCHOR, close_text

COMMON = """
#ifdef PATCHED
#define S(a, ...) __VA_ARGS__
#else
#define S(a, ...) a
#endif
#define __ro_after_init section(".data..ro_after_init")
#define __initcall(fn) static int (*__initcall_##fn)(void) used section(".initcall6.init") = fn
#define __exit section(".exit.text") cold notrace used
#define __exitcall(fn) static void (*__exitcall_##fn)(void) used section(".exitcall.exit") = fn
struct list { struct list *next; };
struct timer { struct list l; void (*fn)(struct timer *); int n; };
struct ops { int (*open)(int); int (*shut)(int); const char *name; };
struct dev { const struct ops *ops; struct timer t; void *p; int n; };
typedef int (*compare)(const void *, const void *);
extern void timer_setup(struct timer *t, void (*fn)(struct timer *)), mod_timer(struct timer *t, long when);
extern int timer_delete_sync(struct timer *t);
extern void call_rcu(void *head, void (*fn)(void *)), sort(void *base, u64 n, u64 size, compare c, void *swap);
extern void notifier_register(void *chain, void *block), mutex_lock(void *), memcpy_to(void *, const void *);
extern void *memset(void *, int, u64), *memcpy(void *, const void *, u64);
extern int request_threaded_irq(int irq, void *handler, void *fn, long flags, const char *name, void *dev);
extern void sg_init_one(void *sg, const void *buf, u32 n), static_key_enable(struct static_key *);
extern void dma_map_single_attrs(void *dev, void *p, u64 n), spi_transfer(void *p);
extern u64 phys_base;
static inline int is(const char *a, const char *b) { return a == b; }
#define __pa(x) ({ u64 y = (u64)(x) - 0xffffffff80000000UL, x2 = (u64)(x); y + (x2 > y ? phys_base : 0x1234000UL); })
"""
BESIDE = (
    ANCHOR
    + """
#define F(name) weak notrace long name(long x) { return x + __COUNTER__; }
F(timer_setup) F(mod_timer) F(timer_delete_sync) F(call_rcu) F(sort) F(notifier_register) F(mutex_lock) F(memcpy_to)
F(request_threaded_irq) F(sg_init_one) F(static_key_enable) F(dma_map_single_attrs) F(spi_transfer)
weak notrace void *memset(void *d, int c, u64 n) { return d + n; }
weak notrace void *memcpy(void *d, const void *s, u64 n) { return d + n; }
u64 phys_base;
"""
)
FIRE = 'S(, static void fire(struct timer *t) { printk("fired"); })\n'
OPEN = "S(, static noinline int open_new(int x) { return source(x) + 1; })\n"
FREE = "S(, static void free_it(void *p) { sink(p); })\n"
ORDER = "S(, static int order(const void *a, const void *b) { return *(int *)a - *(int *)b; })\n"

CASES: list[tuple[str, str, dict[str, str]]] = [
    # an address of the patch module that is left behind
    ("timer set up", FIRE + "void f(struct dev *d) { S(, timer_setup(&d->t, fire)); source(1); }", {HANDED: "fire"}),
    ("static timer", FIRE + "S(, static struct timer t = { .fn = fire });\n"
     "void f(int x) { S(, mod_timer(&t, 3)); source(x); }",
     {HANDED: "fire"}),
    ("rcu callback", FREE + "void f(void *p) { S(sink(p), call_rcu(p, free_it)); }", {HANDED: "free_it"}),
    ("stored in an object", FIRE + "void f(struct dev *d) { S(, d->t.fn = fire); source(1); }", {HANDED: "fire"}),
    ("stored in a variable", OPEN + "int (*hook)(int);\nvoid f(int x) { S(, hook = open_new); source(x); }",
     {HANDED: "open_new"}),
    ("table of operations", OPEN + "S(, static const struct ops o = { open_new });\n"
     "void f(struct dev *d) { S(, d->ops = &o); source(1); }", {HANDED: "open_new"}),
    ("table in a table", OPEN + "S(, static const struct ops o = { open_new }; static const struct dev all = { &o });\n"
     "void f(struct dev *d) { S(, sink(&all)); source(1); }", {HANDED: "open_new"}),
    ("table copied", OPEN + "S(, static struct ops o = { open_new, 0, 0 };)\n"
     "void f(struct ops *d) { S(, *d = o); source(1); }", {HANDED: "open_new"}),
    ("notifier", OPEN + "S(, static struct ops block = { .open = open_new });\nextern int chain[4];\n"
     "void f(int *c) { S(, notifier_register(c, &block)); source(1); }", {HANDED: "open_new"}),
    ("returned", OPEN + "void *f(int x) { S(, if (x) return open_new); return 0; }", {HANDED: "open_new"}),
    ("by a helper", FIRE + "S(, static noinline void arm(struct timer *t) { timer_setup(t, fire); })\n"
     "void f(struct dev *d) { S(, arm(&d->t)); source(1); }", {HANDED: "fire"}),
    ("in a branch",
     FIRE + "void f(struct dev *d) { S(, if (d->n > 3) timer_setup(&d->t, fire); else sink(d)); source(1); }",
     {HANDED: "fire"}),
    ("a new name", "int f(int x) { S(, request_threaded_irq(x, 0, 0, 0, \"fresh\", 0)); return source(x); }",
     {HANDED: "f"}),
    ("the function's name", "int f(int x) { return request_threaded_irq(x, 0, 0, S(0, 4), __func__, 0); }",
     {HANDED: "f"}),
    ("a new text stored", "void f(struct ops *o) { S(, o->name = \"fresh\"); source(1); }", {HANDED: "f"}),
    ("a new text kept by a function of the unit",
     "static const char *kept;\nvoid noinline keep(int k, const char *s) { source(k); kept = s; }\n"
     "const char *last(void) { return kept; }\n"
     "void noinline between(const char *s) { source(3); keep(2, s); source(1); }\n"
     "void f(int x) { S(, between(\"fresh\")); source(x); }", {HANDED: "f"}),
    ("a new text returned", "const char *f(int x) { S(, if (x == 7) return \"fresh\"); source(x); return 0; }",
     {HANDED: "f"}),
    ("a new text returned, or another", "const char *f(int x) { return x == S(2, 3) ? \"a\" : S(0, \"fresh\"); }",
     {HANDED: "f"}),
    ("a new text compared", "int f(const char *s) { return source(1) + S(0, is(s, \"fresh\")); }", {HANDED: "f"}),
    # and such as is not
    ("a new text read by a function of the unit",
     "int noinline look(int k, const char *s) { return source(k) + s[0]; }\n"
     "void f(int x) { S(, look(2, \"fresh\")); source(x); }", {}),
    ("an old text returned", "const char *f(int x) { source(S(1, 2)); return x ? \"old\" : 0; }", {}),
    ("an old text compared", "int f(const char *s) { return source(S(1, 2)) + is(s, \"old\"); }", {}),
    ("an old text stored", "void f(struct ops *o) { o->name = \"old\"; source(S(1, 2)); }", {}),
    ("a new text on the stack", "void f(int x) { S(, struct ops o = { .name = \"fresh\" }; sink(&o)); source(x); }",
     {}),
    ("a callback on the stack", OPEN + "void f(int x) { S(, struct ops o = { open_new }; sink(&o)); source(x); }", {}),
    ("a seventh argument", "void f(int x) { S(, printk(\"%d%d%d%d%d%s\", 1, 2, 3, 4, 5, \"a\", x)); source(x); }",
     {}),
    ("the kernel's name", "int f(int x) { return request_threaded_irq(x, 0, 0, S(0, 4), \"old\", 0); }", {}),
    ("the object's name", "int f(const char *n) { return request_threaded_irq(3, 0, 0, S(0, 4), n, 0); }", {}),
    ("called", OPEN + "int f(int x) { return S(x, open_new(x)); }", {}),
    ("sorted by", ORDER + "void f(int *a) { S(, sort(a, 8, 4, order, 0)); source(1); }", {}),
    ("compared", OPEN + "int f(struct ops *o) { return S(1, o->open == open_new ? 2 : 3); }", {}),
    ("table called through", OPEN + "S(, static int (*const t[3])(int) = { open_new, source, open_new };)\n"
     "int f(unsigned x) { return S(x, t[x % 3](x)); }", {}),
    ("a changed function's", "int (*hook)(int);\nstatic noinline int open_it(int x) { return x S(, + source(1)); }\n"
     "int g(int x) { return open_it(x); }\nvoid f(int x) { hook = open_it; S(, source(x)); }", {}),
    ("a kernel function's", "int (*hook)(int);\nvoid f(int x) { S(, hook = source); source(x); }", {}),
    ("the old timer", "static void old(struct timer *t) { printk(\"old\"); }\n"
     "void g(struct dev *d) { timer_setup(&d->t, old); }\n"
     "void f(struct dev *d) { S(, timer_setup(&d->t, old)); source(1); }", {}),
    ("new data without one", "S(, static int counts[8]);\nvoid f(int x) { S(, sink(counts)); source(x); }", {}),
    ("a lock of new data", OPEN + "S(, static struct { int (*fn)(int); int lock; } o = { open_new, 0 };)\n"
     "int f(int x) { S(, mutex_lock(&o.lock)); return source(x); }", {}),
    ("a switch",
     "int f(int x) { switch (x) { case 0: return source(3); case 1: return source(1); case 2: return source(x); "
     "case 3: x++; case 4: return source(x) + 1; case 5: return 7 + S(1, source(2)); } return 0; }", {}),
    # read-only memory
    ("ro written", "static int limit __ro_after_init = 3;\n__init void g(int x) { limit = x; }\n"
     "int f(int x) { S(, if (x > 9) limit = x); return limit; }", {READ_ONLY: "f"}),
    ("ro array", "static int table[8] __ro_after_init = {3};\n__init void g(int x) { table[x] = x; }\n"
     "int f(int x) { S(, table[x & 7] = 1); return table[x & 3]; }", {READ_ONLY: "f"}),
    ("ro by a pointer", "static struct { int a, b[40]; } r __ro_after_init = {3};\n__init void g(int x) { r.a = x; }\n"
     "int f(int x) { S(, memset(&r, 0, sizeof(r))); return r.a + r.b[x]; }", {READ_ONLY: "f"}),
    ("ro incremented", "static int n __ro_after_init = 3;\n__init void g(int x) { n = x; }\n"
     "int f(int x) { S(, n++); return n; }", {READ_ONLY: "f"}),
    ("ro bit", "static u64 flags __ro_after_init = 3;\n__init void g(int x) { flags = x; }\n"
     "int f(int x) { S(, asm volatile(\"lock; btsq %1, %0\" : \"+m\"(flags) : \"r\"(3UL))); return flags; }",
     {READ_ONLY: "f"}),
    ("ro list", "static struct list head __ro_after_init = { &head };\n"
     "__init void g(struct list *l) { head.next = l; }\n"
     "void f(struct list *l) { S(, l->next = head.next; head.next = l); sink(&head); }", {READ_ONLY: "f"}),
    ("ro key", "static struct static_key key __ro_after_init;\n__init void g(void) { key.enabled = 1; }\n"
     "int f(int x) { S(, static_key_enable(&key)); return key.enabled; }", {READ_ONLY: "f"}),
    ("constant", "static const int limit = 4; const int *where(void) { return &limit; }\n"
     "int f(int x) { S(, *(int *)&limit = x); return x; }", {READ_ONLY: "f"}),
    ("by a new helper", "static int limit __ro_after_init = 3;\n__init void g(int x) { limit = x; }\n"
     "S(, static noinline void set(int x) { limit = x; })\n"
     "int f(int x) { S(, set(x)); return limit; }", {READ_ONLY: "set"}),
    ("ro read", "static int limit __ro_after_init = 3;\n__init void g(int x) { limit = x; }\n"
     "int f(int x) { return x > limit ? S(1, limit + x) : 0; }", {}),
    ("ro printed", "static char name[8] __ro_after_init = \"ab\";\n__init void g(int x) { name[0] = x; }\n"
     "void f(int x) { printk(name); S(, sink(name)); }", {}),
    ("ro written as before", "static int limit __ro_after_init = 3;\n"
     "int f(int x) { limit = x S(, + 1); return limit; }\n"
     "int g(int x) { return limit; }", {}),
    ("ro written by what it called", "static int limit __ro_after_init = 3;\n"
     "static S(noinline, always_inline) void put(int x) { limit = x + 1; }\n"
     "int f(int x) { put(x); return source(x); }\nint g(int x) { return limit; }", {}),
    ("copied from ro", "static struct { int b[40]; } r __ro_after_init;\n__init void g(int x) { r.b[x] = x; }\n"
     "int f(void *d, int x) { S(, memcpy(d, &r, sizeof(r))); return r.b[x]; }", {}),
    ("plain data", "static int limit = 3;\nint f(int x) { S(, limit = x); return source(x) + limit; }\n"
     "void g(int x) { limit = x; }", {}),
    # the last write is gone
    ("last write", "static int mode = 1;\nvoid set(int x) { S(mode = x, source(x)); }\n"
     "int f(int x) { return mode + x; }",
     {LAST_WRITE: ""}),
    ("last write of init code", "static int mode;\n__init void set(int x) { mode = x; }\n"
     "int f(int x) { return mode + S(x, 1); }",
     {}),
    ("last write to a local", "int f(int x) { static int n = 5; S(if (x) n++, source(x)); return n; }",
     {LAST_WRITE: "f"}),
    ("last write, by address", "static int mode = 1;\nvoid set(int x) { S(sink(&mode), source(x)); }\n"
     "int f(int x) { return mode + x; }", {LAST_WRITE: ""}),
    ("last increment", "static int users;\nvoid get(int x) { S(users++, source(x)); }\n"
     "int f(int x) { return users ? x : source(x); }", {LAST_WRITE: ""}),
    ("one write left", "static int mode = 1;\nvoid set(int x) { S(mode = x, source(x)); }\n"
     "void other(int x) { mode = x; }\n"
     "int f(int x) { return mode + x; }", {}),
    ("gone with its readers", "S(static int mode = 1,);\nvoid set(int x) { S(mode = x, source(x)); }\n"
     "int f(int x) { return S(mode, 1) + x; }", {}),
    ("kept a variable", "static int mode = 1;\nvoid set(int x) { S(mode = x, source(x)); }\n"
     "int f(int x) { asm volatile(\"\" :: \"r\"(&mode) : \"memory\"); return mode + x; }", {}),
    ("never written", "static int mode = 1;\nint f(int x) { return mode + S(x, 2); }", {}),
    ("global", "int mode = 1;\nvoid set(int x) { S(mode = x, source(x)); }\nint f(int x) { return mode + x; }", {}),
    # only init code calls it
    ("local", "static noinline int setup(int x) { return source(x) + S(1, 2); }\n"
     "__init int boot(int x) { return setup(x); }",
     {INIT_ONLY: "setup"}),
    ("chain", "static noinline int inner(int x) { return source(x) + S(1, 2); }\n"
     "static noinline int setup(int x) { return inner(x) + 3; }\n__init int boot(int x) { return setup(x); }",
     {INIT_ONLY: "inner"}),
    ("initcall", "static noinline int setup(void) { return source(S(1, 2)); }\n"
     "__initcall(setup);", {INIT_ONLY: "setup"}),
    ("global one", "noinline int setup(int x) { return source(x) + S(1, 2); }\n"
     "__init int boot(int x) { return setup(x); }",
     {INIT_ONLY: "setup"}),
    ("and exit code", "static noinline int setup(int x) { return source(x) + S(1, 2); }\n"
     "__init int boot(int x) { return setup(x); }\n"
     "__exit int leave(int x) { return setup(x + 3); }", {INIT_ONLY: "setup"}),
    ("init and later", "static noinline int setup(int x) { return source(x) + S(1, 2); }\n"
     "__init int boot(int x) { return setup(x); }\n"
     "int again(int x) { return setup(x + 2); }", {}),
    ("address taken", "static noinline int setup(int x) { return source(x) + S(1, 2); }\n"
     "__init void boot(int x) { setup(x); sink(setup); }", {}),
    ("in a table", "static noinline int setup(int x) { return source(x) + S(1, 2); }\nconst struct ops o = { setup };\n"
     "__init int boot(int x) { return setup(x); }", {}),
    ("the patch calls it", "static noinline int setup(int x) { return source(x) + S(1, 2); }\n"
     "__init int boot(int x) { return setup(x); }\nvoid f(int x) { S(, setup(x)); source(x + 1); }", {}),
    ("the patch calls the global one", "noinline int setup(int x) { return source(x) + S(1, 2); }\n"
     "__init int boot(int x) { return setup(x); }\nvoid f(int x) { S(, setup(x)); source(x + 1); }", {}),
    ("nobody", "int setup(int x) { return source(x) + S(1, 2); }\n", {}),
    ("global, called", "noinline int setup(int x) { return source(x) + S(1, 2); }\nint f(int x) { return setup(x); }\n"
     "__init int boot(int x) { return setup(x); }", {}),
    ("global, pointed to", "noinline int setup(int x) { return source(x) + S(1, 2); }\nint (*hook)(int) = setup;\n"
     "__init int boot(int x) { return setup(x); }", {}),
    # new data that has no page
    ("scatterlist", "S(, static char buf[16] = \"abc\");\n"
     "void f(void *sg) { S(, sg_init_one(sg, buf, 16)); source(1); }",
     {VMALLOC: "f"}),
    ("physical address", "S(, static char buf[16] = \"abc\");\n"
     "u64 f(int x) { return S(x, __pa(buf)); }", {VMALLOC: "f"}),
    ("mapped for DMA", "S(, static char buf[16] = \"abc\");\n"
     "void f(void *d) { S(, dma_map_single_attrs(d, buf, 16)); source(1); }",
     {VMALLOC: "f"}),
    ("a new string", "void f(void *sg) { S(, sg_init_one(sg, \"fresh text\", 11)); source(1); }", {VMALLOC: "f"}),
    ("the kernel's buffer", "static char buf[16] = \"abc\";\nvoid g(int x) { buf[0] = x; }\n"
     "void f(void *sg) { S(, sg_init_one(sg, buf, 16)); sink(buf); }", {}),
    ("the caller's buffer", "S(, static int seen);\n"
     "void f(void *sg, void *p) { S(, seen++; sg_init_one(sg, p, 16)); source(1); }",
     {}),
    ("beside a conversion", "S(, static char name[16] = \"abc\");\n"
     "u64 f(void *p) { S(, printk(name)); return __pa(p) + S(1, 2); }",
     {}),
    ("a new array indexed", "S(, static int seen[8]);\nint f(int x) { return S(x, ++seen[x & 7]); }", {}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "expected"), CASES, ids=[c[0] for c in CASES])
def test_what_is_warned_of(name: str, text: str, expected: dict[str, str]) -> None:
    patched = close_text(COMMON + text, beside=(BESIDE,), flags=("-g",), exports=WITH_ANCHOR)
    assert not patched.refused, (name, patched.closure.refusals)
    found = check_consistency(patched.closure, None, (), "", replace=True, images={"vmlinux": patched.image})
    told = {w.code: w.function for w in found if w.code not in (UNKNOWN, UNSEEN)}
    assert told == expected, found
    assert all(w.evidence and w.remedy and "{" not in w.fact for w in found if w.code in expected)


def test_of_a_module_it_says_when_it_takes_effect() -> None:
    text = (
        "static noinline int setup(int x) { return source(x) + S(1, 2); }\n__init int boot(int x) { return setup(x); }"
    )
    closure = close_text(COMMON + text).closure
    (unit,) = closure.units
    redirects = tuple(Redirect(*r[:5], object="fat") for r in closure.redirects)
    closure = replace(closure, units=(unit._replace(target="fat"),), redirects=redirects)
    (warning,) = (w for w in check_consistency(closure, None, (), "", replace=True) if w.code == INIT_ONLY)
    assert "when fat is loaded again while the patch is active" in warning.fact


@pytest.mark.parametrize(
    ("callers", "warned"),
    [
        ("__init int boot(int x) { return setup(x); }", ["setup"]),
        ("__init int boot(int x) { return setup(x); }\nint f(int x) { return setup(x); }", []),
        ("__init void boot(int x) { setup(x); sink(setup); }", []),
        ("__init int boot(int x) { return setup(x); }\nint (*hook)(int) = setup;", []),
        ('__init int boot(int x) { return setup(x); }\nlong listed section("__ksymtab") = 1;\n'
         'asm(".set __ksymtab_setup, listed");', []),
        ("", []),
    ],
)  # fmt: skip
def test_global_functions_of_a_module_by_its_relocations(callers: str, warned: list[str]) -> None:
    text = f"{COMMON}noinline int setup(int x) {{ return source(x) + S(1, 2); }}\n{callers}"
    closure = close_text(text).closure
    (unit,) = closure.units
    image = ModuleImage(unit.changes.orig.obj, "fat")
    (place,) = image.named("setup")
    redirects = tuple(Redirect(*r[:4], place.value, "fat") for r in closure.redirects)
    closure = replace(closure, units=(unit._replace(target="fat"),), redirects=redirects)
    assert [w.function for w in find_init_only(closure, {}, None, {"fat": image})] == warned


def test_what_is_inlined_elsewhere_takes_effect_there() -> None:
    text = (
        "static noinline int setup(int x) { return source(x) + S(1, 2); }\nint f(int x) { return source(x); }\n"
        "__init int boot(int x) { return setup(x); }"
    )
    closure = close_text(COMMON + text).closure
    (unit,) = closure.units
    told = []
    for holder in ("boot", "f"):
        row = f"Callgraph clone;setup;1;unit.c;1;1;{holder};2;unit.c;2;2;inlining to\n"
        closure = replace(closure, units=(unit._replace(clones=parse_ipa_clones(row)),))
        told.append([w.function for w in find_init_only(closure, {}, None)])
    assert told == [["setup"], []]


def test_every_code_is_raised_by_a_case() -> None:
    assert {HANDED, READ_ONLY, LAST_WRITE, INIT_ONLY, VMALLOC} == {c for _, _, e in CASES for c in e}
    assert {c for _, _, e in CASES for c in e} < set(RULES)
