# SPDX-License-Identifier: GPL-2.0-or-later
"""Variables and types of changed code: what the running kernel has in them must be what the patched code reads."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from kgbuild.diff.changes import Changes, compute_changes
from kgbuild.diff.types_in_use import check_types, compute_type_changes
from kgbuild.elf.read import read
from kgbuild.errors import ToolError
from kgbuild.objects.view import View
from tests.support.toolchain import compile_text, pair_flags, without_btf

# what a kernel's headers would bring: both sides have all of it
HEADERS = """
typedef unsigned int __u32; typedef __u32 u32; typedef unsigned char u8; typedef unsigned short u16;
typedef long long s64; typedef unsigned long long u64; typedef s64 ktime_t; typedef __u32 __be32; typedef _Bool bool;
typedef u64 dma_addr_t; typedef u64 phys_addr_t; typedef phys_addr_t resource_size_t; typedef int pid_t;
typedef long long __kernel_loff_t; typedef __kernel_loff_t loff_t; typedef unsigned long size_t;
struct list_head { struct list_head *next, *prev; };
struct hlist_node { struct hlist_node *next, **pprev; };
typedef struct { int counter; } atomic_t;
struct A { int x; struct A *n; }; struct same_as_A { int x; struct same_as_A *n; }; struct B { long y; int z; };
enum E { E_A, E_B };
extern void *alloc(size_t n); extern void sink(void *p);
__be32 h1; ktime_t h2; dma_addr_t h3; resource_size_t h4; pid_t h5; loff_t h6; struct list_head h7;
struct hlist_node h8; atomic_t h9; struct A h10; struct same_as_A h11; struct B h12; enum E h13; u16 h14; u8 h15;
"""
# reads and changes what is called `v`, and is not the same on the two sides
USER = "\nint user(int k) { sink((void *)&v); return k + %d; }\n"


def changes(old: str, new: str, debug: tuple[str, ...] = ("-g", "-gbtf"), user: str = USER) -> Changes:
    return compare(sides_of(old, new, debug, user))


def sides_of(old: str, new: str, debug: tuple[str, ...], user: str) -> list[bytes]:
    texts = (HEADERS + text + (user % n if "%" in user else user) for n, text in enumerate((old, new)))
    return [compile_text(text, *pair_flags(debug)) for text in texts]


def compare(sides: Iterable[bytes]) -> Changes:
    return compute_changes(*(View(read(data)) for data in sides), "unit.c", lines=False)


def told(old: str, new: str, user: str = USER) -> list[str]:
    """What is refused, by BTF and DWARF; by DWARF alone it is the same."""
    sides = sides_of(old, new, ("-g", "-gbtf"), user)
    found = [
        [f"{c.what}: {c.fact}" for c in compute_type_changes(compare(datas)).refused]
        for datas in (sides, map(without_btf, sides))
    ]
    assert found[0] == found[1]
    return found[0]


REFUSED = {
    # the first is w07 of the samples, in other forms
    "unnamed structure": ("static struct { long uses, limit; } v;", "static struct { long limit, uses; } v;"),
    "unnamed structure in one": (
        "static struct { int n; struct { short a, b; } in[4]; } v;",
        "static struct { int n; struct { short b, a; } in[4]; } v;",
    ),
    "unnamed union": (
        "static union { struct { int lo, hi; }; long all; } v;",
        "static union { struct { int hi, lo; }; long all; } v;",
    ),
    "unnamed enumeration": ("static enum { OFF, ON } v;", "static enum { OFF, IDLE, ON } v;"),
    "enumeration in an unnamed structure": (
        "static struct { enum { OFF, ON } s; } v;",
        "static struct { enum { ON, OFF } s; } v;",
    ),
    "bit fields": ("static struct { u32 a : 3, b : 5; } v;", "static struct { u32 b : 5, a : 3; } v;"),
    "bit fields' widths": ("static struct { u32 a : 3, b : 5; } v;", "static struct { u32 a : 4, b : 4; } v;"),
    "a bit field in what was free": ("static struct { u32 a : 3; } v;", "static struct { u32 a : 3, b : 1; } v;"),
    "typedef of an unnamed structure": (
        "typedef struct { int a, b; } t; static t v;",
        "typedef struct { int b, a; } t; static t v;",
    ),
    "per-CPU": (
        'static __attribute__((section(".data..percpu"))) struct { long a, b; } v;',
        'static __attribute__((section(".data..percpu"))) struct { long b, a; } v;',
    ),
    # w10, in other forms
    "array and pointer": ("static char v[8];", "static const char *v;"),
    "array of others": ("static u16 v[4];", "static u64 v;"),
    "array of as many bytes": ("static u16 v[4];", "static u8 v[8];"),
    "big endian": ("static u32 v;", "static __be32 v;"),
    "big endian, from a plain type": ("static unsigned int v;", "static __be32 v;"),
    "plain type, from a typedef": ("static pid_t v;", "static int v;"),
    "typedef of another": ("typedef u32 id_t; static id_t v;", "typedef __be32 id_t; static id_t v;"),
    "no longer big endian": ("static struct { int a; __be32 b; } v;", "static struct { int a; u32 b; } v;"),
    "jiffies and ktime_t": ("static long v;", "static ktime_t v;"),
    "bus address": ("static u64 v;", "static dma_addr_t v;"),
    "two addresses": ("static dma_addr_t v;", "static phys_addr_t v;"),
    "list and hash list": ("static struct list_head v;", "static struct hlist_node v;"),
    "atomic": ("static atomic_t v;", "static int v;"),
    "number and pointer": ("static unsigned long v;", "static void *v;"),
    "pointer and number in an array": ("static struct { void *p; } v[3];", "static struct { long p; } v[3];"),
    "pointer to a pointer": ("static struct A **v;", "static struct A *v;"),
    "boolean": ("static u8 v;", "static bool v;"),
    "pointer to another structure": ("static struct A *v;", "static struct B *v;"),
    "pointer to other numbers": ("static u16 *v;", "static u32 *v;"),
    "prototype": ("static int (*v)(int);", "static int (*v)(long);"),
    "prototype with a parameter more": ("static void (*v)(void *);", "static void (*v)(void *, int);"),
    "prototype with another structure": ("static void (*v)(struct A *);", "static void (*v)(struct B *);"),
    "what is returned": ("static int (*v)(void);", "static void *(*v)(void);"),
    "any parameters": ("static int (*v)(int);", "static int (*v)(int, ...);"),
    "union gets a member": ("static union { int a; long b; } v;", "static union { int a; long b; void *c; } v;"),
    "declared elsewhere": ("extern char v[];", "extern char *v;"),
    "other dimensions": ("static int v[2][3];", "static int v[3][2];"),
    # w92, in other forms
    "another name and another layout": (
        "struct ctx { long uses, limit; }; static struct ctx *v;",
        "struct state { long limit, uses; }; static struct state *v;",
    ),
    "another name and a member more": (
        "struct ctx { long uses, limit; }; static struct ctx *v;",
        "struct state { long uses, limit, more; }; static struct state *v;",
    ),
    "in an array of pointers": (
        "struct ctx { long uses, limit; }; static struct { int n; struct ctx *all[4]; } v;",
        "struct state { long limit, uses; }; static struct { int n; struct state *all[4]; } v;",
    ),
    "far away": (
        "struct c { int a, b; }; struct ctx { struct c *c; }; struct top { struct ctx **in; }; static struct top *v;",
        "struct d { int b, a; }; struct ctx { struct d *c; }; struct top { struct ctx **in; }; static struct top *v;",
    ),
    "grows behind a pointer": (
        "struct s { int a; }; static struct s *v;",
        "struct s { int a, b; }; static struct s *v;",
    ),
    "grouped in another order": (
        "static struct { long uses, limit; } v;",
        "static struct { struct { long limit, uses; } in; } v;",
    ),
    "aligned variable": ("static u8 v[64];", "static u8 v[64] __attribute__((aligned(128)));"),
    "aligned structure": (
        "struct s { u8 b[64]; }; static struct s *v;",
        "struct s { u8 b[64]; } __attribute__((aligned(64))); static struct s *v;",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    assert len(told(*REFUSED[name])) == 1


BUILDS = {
    "member renamed": ("static struct { long uses, limit; } v;", "static struct { long used, limit; } v;"),
    "bit field renamed": ("static struct { u32 a : 3, b : 5; } v;", "static struct { u32 a : 3, c : 5; } v;"),
    "structure renamed": (
        "struct ctx { long uses; struct ctx *next; }; static struct ctx *v;",
        "struct state { long uses; struct state *next; }; static struct state *v;",
    ),
    "structure gets a name": ("static struct { int a, b; } v;", "static struct pair { int a, b; } v;"),
    "structure loses its typedef": (
        "typedef struct { int a, b; } t; static t *v;",
        "struct pair { int a, b; }; static struct pair *v;",
    ),
    "two structures of one shape": ("static struct A *v;", "static struct same_as_A *v;"),
    "integer by another name": ("static struct { unsigned int a; } v;", "static struct { u32 a; } v;"),
    "long and long long": ("static unsigned long v;", "static u64 v;"),
    "sign": ("static struct { int a; } v;", "static struct { unsigned a; } v;"),
    "sign of characters": ("static char v[8];", "static u8 v[8];"),
    "const": ("static int *v;", "static const int *v;"),
    "typedef renamed": ("typedef u32 old_t; static old_t v;", "typedef u32 new_t; static new_t v;"),
    "typedef of its own": ("static u32 v;", "typedef u32 count_t; static count_t v;"),
    "alias of a typedef": ("static phys_addr_t v;", "static resource_size_t v;"),
    "the kernel's own name": ("static loff_t v;", "static __kernel_loff_t v;"),
    "number gets an enumeration": ("static unsigned v;", "static enum E v;"),
    "enumeration gains values": ("static enum { OFF, ON } v;", "static enum { OFF, ON, IDLE } v;"),
    "enumerator renamed": ("static enum { OFF, ON } v;", "static enum { OFF, RUNNING } v;"),
    "group": ("static struct { int a, b, c; } v;", "static struct { int a; struct { int b, c; }; } v;"),
    "named group": (
        "static struct { int a, b, c; } v;",
        "static struct { int a; union { struct { int b, c; }; struct { int b, c; } both; }; } v;",
    ),
    "group in a list": (
        "struct s { struct s *next; int a, b; }; static struct s *v;",
        "struct t { struct t *next; struct { int a, b; } in; }; static struct t *v;",
    ),
    "flexible array": (
        "struct s { int n; char text[0]; }; static struct s *v;",
        "struct s { int n; char text[]; }; static struct s *v;",
    ),
    "pointer gets its type": ("static void *v;", "static struct A *v;"),
    "alignment that is there": (
        "struct s { long b; }; static struct s v;",
        "struct s { long b; } __attribute__((aligned(8))); static struct s v;",
    ),
    "less alignment": ("static u8 v[64] __attribute__((aligned(128)));", "static u8 v[64];"),
    "function pointer's typedef": (
        "static int (*v)(struct A *);",
        "typedef int (*handler)(struct A *); static handler v;",
    ),
    "new type": ("static int v;", "struct fresh { int a; }; static int v; int g(struct fresh *p) { return p->a; }"),
}


@pytest.mark.parametrize("name", BUILDS)
def test_builds(name: str) -> None:
    assert told(*BUILDS[name]) == []


IN_FUNCTION = "int user(int k) { struct in { %s }; static struct in v; v.a += k; return --v.b + %d; }"


def test_structure_inside_a_function() -> None:
    old = IN_FUNCTION % ("int a, b;", 1)
    assert told(old, IN_FUNCTION % ("int a, b;", 2), "") == []
    assert told(old, IN_FUNCTION % ("int b, a;", 2), "") == [
        "v.0: its type changes, and user uses it: b moves from byte 4 to byte 0"
    ]


def test_static_local_of_an_inlined_function() -> None:
    text = "static inline int next(int k) { static %s v; return v += k; }\nint user(int k) { return next(k) + %d; }"
    assert told(text % ("long", 1), text % ("s64", 2), "") == []
    assert told(text % ("long", 1), text % ("ktime_t", 2), "") == [
        "v.0: its type changes, and user uses it: long int -> ktime_t"
    ]


PRIVATE = "int user(void *private) { struct %s *%s = private; return ++%s->uses + %d; }"


def test_renamed_structure_that_only_a_local_variable_leads_to() -> None:
    old = "struct ctx { long uses, limit; };" + PRIVATE % ("ctx", "c", "c", 1)
    assert told(old, "struct state { long uses, limit; };" + PRIVATE % ("state", "c", "c", 2), "") == []
    assert told(old, "struct state { long limit, uses; };" + PRIVATE % ("state", "c", "c", 2), "") == [
        "struct state: takes the place of struct ctx (c of user): limit moves from byte 8 to byte 0"
    ]
    # the variable has another name too
    assert told(old, "struct state { long limit, uses; };" + PRIVATE % ("state", "s", "s", 2), "") == [
        "struct state: takes the place of struct ctx (both have uses, limit): limit moves from byte 8 to byte 0"
    ]
    # another structure altogether, that another variable leads to
    other = "struct span { int first; long uses; char *last; };" + PRIVATE % ("span", "s", "s", 2)
    assert told(old, other, "") == []


def test_renamed_structure_of_a_parameter() -> None:
    text = "struct %s { %s }; int user(struct %s *%s) { return %s->uses + %d; }"
    old = text % ("ctx", "int uses, limit;", "ctx", "c", "c", 1)
    new = text % ("state", "int limit, uses;", "state", "c", "c", 2)
    assert len(told(old, new, "")) == 1


@pytest.mark.parametrize(("old", "new"), [("u32", "__be32"), ("long", "ktime_t"), ("struct A *", "struct B *")])
def test_variable_that_no_changed_code_uses(old: str, new: str) -> None:
    """As it is where only what sparse checks was mended: the code stays the kernel's."""
    text = "static %s v; void keep(void) { sink((void *)&v); }\nint user(int k) { return k + %d; }"
    assert told(text % (old, 1), text % (new, 2), "") == []
    text = "static %s v; void keep(void) { sink((void *)&v); }\nint user(int k) { sink((void *)&v); return k + %d; }"
    assert len(told(text % (old, 1), text % (new, 2), "")) == 1


def test_constants_are_what_their_bytes_are() -> None:
    assert told("static const u16 v[2] = {1, 0};", "static const u32 v = 1;") == []
    assert len(told("static u16 v[2] = {1, 0};", "static u32 v = 1;")) == 1


def test_sign_is_said() -> None:
    old, new = "struct s { int limit; }; static struct s *v; static int w;", USER + "int w_user(void) { return w++; }"
    found = check_types(changes(old + "", old.replace("int ", "unsigned "), user=new), frozenset())
    assert found[0] == []
    assert [w.partition(": bits that")[0] for w in found[1]] == ["unit.c: struct s: limit: int -> unsigned int"]


def test_what_a_user_allows() -> None:
    old, new = REFUSED["another name and another layout"]
    for name in ("v", "struct state", "state", "ctx"):
        refusals, warnings = check_types(changes(old, new), frozenset((name,)))
        assert refusals == []
        assert len(warnings) == 1
        assert "accepted by --allow-type" in warnings[0]
    local = IN_FUNCTION % ("int a, b;", 1), IN_FUNCTION % ("int b, a;", 2)
    for name in ("v", "v.0"):
        assert check_types(changes(*local, user=""), frozenset((name,)))[0] == []
    refusals, _ = check_types(changes(old, new), frozenset(("other",)))
    assert [(r.code, r.place) for r in refusals] == [("K9-type-layout", "unit.c: v")]
    assert "--allow-type" in refusals[0].remedy


def test_alignment_that_the_kernel_has() -> None:
    found = changes("static u8 v[64];", "static u8 v[64] __attribute__((aligned(128)));")
    assert compute_type_changes(found, lambda atom: 0xFFFFFFFF81000080).refused == ()
    (refused,) = compute_type_changes(found, lambda atom: 0xFFFFFFFF81000020).refused
    assert "in the running kernel it is at 0xffffffff81000020" in refused.fact


def test_object_that_does_not_say() -> None:
    with pytest.raises(ToolError, match="does not describe its types"):
        check_types(changes("static int v;", "static int v;", ()), frozenset())


def test_pointer_to_what_the_original_does_not_know() -> None:
    assert told("static void *v;", "struct fresh { int a; }; static struct fresh *v;") == [
        "v: its type changes, and user uses it: void * -> struct fresh *, which is new"
    ]


def test_enumeration_of_other_things() -> None:
    both = "enum F { F_A, F_B }; enum F g;"
    assert len(told(both + "static enum E v;", both + "static enum F v;")) == 1
    assert told("static enum E v;", "enum G { G_A, G_B }; static enum G v;") == []


def test_bit_field_of_another_type() -> None:
    assert told("static struct { u32 a : 8, b : 8; } v;", "static struct { u16 a : 8, b : 8; u16 : 16; } v;") == []
    assert told("static struct { u32 a : 8; u32 b; } v;", "static struct { u8 a; u32 b; } v;") == []


def test_aligned_variable_among_others() -> None:
    """In a section of several variables, each is aligned as its declaration says."""
    section = '__attribute__((section(".data..read_mostly")))'
    old = f"static long {section} w; static u8 {section} v[8]; void keep(void) {{ sink(&w); }}"
    new = old.replace("w;", "w __attribute__((aligned(256)));", 1)
    assert told(old, new) == []
    assert len(told(old, old.replace("v[8];", "v[8] __attribute__((aligned(32)));"))) == 1


CONSTANTS = "enum { %s }; static int v; int user(int k) { v = k ? BUSY : IDLE; return v + %d; }"


def test_constants_without_a_type() -> None:
    """States are often kept in an int; only the enumerators say what its values mean."""
    old = CONSTANTS % ("IDLE, BUSY, NR_STATES", 1)
    assert told(old, CONSTANTS % ("IDLE, BUSY, DEAD, NR_STATES", 2), "") == []
    assert told(old, CONSTANTS % ("IDLE, WAITING, BUSY, NR_STATES", 2), "") == [
        "enumerator BUSY: BUSY changes from 1 to 2: what is stored already means something else"
    ]
    tagged = (
        old.replace("enum {", "enum old {"),
        old.replace("enum {", "enum new {").replace("IDLE, BUSY", "BUSY, IDLE", 1),
    )
    assert told(*tagged, "") == [
        "enumerator BUSY: BUSY changes from 1 to 0, and 1 more change: what is stored already means something else"
    ]


def test_renamed_structure_behind_a_cast() -> None:
    text = "struct %s { %s }; int user(void *p) { return ((struct %s *)p)->uses + %d; }"
    old = text % ("ctx", "long uses, limit;", "ctx", 1)
    assert told(old, text % ("state", "long uses, limit;", "state", 2), "") == []
    assert len(told(old, text % ("state", "long limit, uses;", "state", 2), "")) == 1


def test_a_structure_is_told_once() -> None:
    """By the one of the same name that holds it; not again as what takes another's place."""
    text = (
        "struct %s { long %s; }; struct top { const struct %s *in; int n; }; static struct top *v; static struct %s w;"
    )
    old, new = text % ("a", "x, y", "a", "a"), text % ("b", "y, x", "b", "b")
    assert told(old, new) == ["struct top: in: struct a -> struct b, y moves from byte 8 to byte 0"]
