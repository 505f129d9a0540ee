# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a changed declaration can reach what a unit emits: held against what the compiler makes."""

from __future__ import annotations

import re
import subprocess

import pytest

from kgbuild.csource.reached_changes import may_emit_other
from kgbuild.csource.unit_declarations import UnitText, code_of, read_declaration
from tests.support.toolchain import CC

UNIT = b"""# 1 "a.c"
typedef unsigned long size_t;
# 1 "a.h" 1
struct item { int a; int b; };
struct box { struct item *first; };
typedef struct item item_t;
enum kind { KIND_A, KIND_B };
extern void *memcpy(void *, const void *, size_t);
extern int counter;
int plain(struct item *);
int weak_one(int);
int other(int) __attribute__((__cold__));
static inline __attribute__((__gnu_inline__)) int helper(struct item *i)
{
 return i->b + plain(i);
}
static inline __attribute__((__gnu_inline__)) int unused_helper(item_t *i)
{
 static int once;
 extern int local_extern(int);
 return once++ + local_extern(helper(i)) + KIND_B;
}
extern int size_of_int(void);
extern inline __attribute__((__gnu_inline__)) int never(void) { return sizeof(item_t); }
int (*returns_pointer(int x))(int);
_Static_assert(sizeof(int) == 4, "; {");
# 5 "a.c" 2
static int table[3] = { 1, 2, 3 };
int (*hook)(int);
int use(struct box *box) { return helper(box->first); }
int kinds(enum kind k) { return k == KIND_A ? ({ struct { char c; } s = { "}"[0] }; s.c; }) : table[k]; }
int simple(int x) { return other(x) + 1; }
"""

SAME = {
    "a prototype": ("extern int counter;", "extern int counter; int fresh(struct item *, const char *);"),
    "an inline function": ("int plain(", "static inline int fresh(struct item *i) { return i->a; }\nint plain("),
    "an unused one changed": ("return once++", "return 2 + once++"),
    "an unused one gone": ("extern int local_extern(int);", "extern int local_other(int, int);"),
    "an unused prototype": ("extern int size_of_int(void)", "extern long size_of_int(int)"),
    "a macro-like enum": ("extern int counter;", "extern int counter; enum { NEW_A = 7, NEW_B };"),
    "a type": (
        "extern int counter;",
        "extern int counter; struct fresh { struct item *item; } __attribute__((packed));",
    ),
    "a typedef": ("extern int counter;", "extern int counter; typedef struct box box_t;"),
    "a forward": ("extern int counter;", "extern int counter; struct item; struct nobody;"),
    "an extern variable": ("extern int counter;", "extern int counter; extern struct item items[KIND_B];"),
    "gnu inline": ("return sizeof(item_t)", "return sizeof(item_t) + 1"),
    "blanks": ("int plain(struct item *);", "int  plain( struct item * ) ;"),
    "unused type": ("typedef struct item item_t;", "typedef struct item item_t, *item_p;\n"),
    "an order": (
        "extern int counter;\nint plain(struct item *);",
        "int never_used(int);\nextern int counter;\nint plain(struct item *);",
    ),
    "a pragma of warnings": ("extern int counter;", '\n#pragma GCC diagnostic ignored "-Wall"\nextern int counter;'),
}
REACHED = {
    "a helper": ("return i->b +", "return i->b -"),
    "a type": ("struct item { int a; int b; }", "struct item { int x; int a; int b; }"),
    "an enumerator": ("KIND_A,", "KIND_NEW, KIND_A,"),
    "a variable": ("extern int counter;", "extern int counter; int defined;"),
    "a static table": ("{ 1, 2, 3 }", "{ 1, 2, 4 }"),
    "a hook": ("int (*hook)(int);", "int (*hook)(int), (*hook_two)(int);"),
    "an attribute": ("extern int counter;", "extern int counter; int plain(struct item *) __attribute__((pure));"),
    "of a definition": ("extern int counter;", 'extern int counter; int simple(int) __attribute__((section(".s")));'),
    "weak": ("extern int counter;", "extern int counter; int simple(int) __attribute__((weak));"),
    "an alias": ("int (*hook)(int);", 'int (*hook)(int); int alias_of(int) __attribute__((alias("simple")));'),
    "a constructor": (
        "extern int counter;",
        "extern int counter; static inline __attribute__((constructor)) void ctor(void) { counter = 1; }",
    ),
    "used": (
        "extern int counter;",
        "static inline __attribute__((used)) int kept(void) { return 1; } extern int counter;",
    ),
    "assembly": ("extern int counter;", 'extern int counter; asm(".globl x; x = 3");'),
    "a label": ("extern int counter;", 'extern int counter; int other(int) __asm__("other_name");'),
    "pack": ("struct item {", "\n#pragma pack(1)\nstruct item {"),
    "a builtin": ("*memcpy(void *,", "*memcpy(void *restrict,"),
    "noreturn in a body": (
        "extern int local_extern(int);",
        "extern int plain(struct item *) __attribute__((noreturn));",
    ),
    "tentative": ("int (*hook)(int);", "int (*hook)(int); long tentative;"),
    "aligned": ("extern int counter;", "extern int counter; char aligned_one __attribute__((aligned(8)));"),
    "an array": ("extern int counter;", "extern int counter; char array_one[sizeof(int)];"),
    "extern with a value": ("extern int counter;", "extern int counter; extern int with_value = 1;"),
    "a plain inline function": (
        "extern int counter;",
        "extern int counter; __attribute__((gnu_inline)) inline int out(void) { return 1; }",
    ),
    "an order": (
        "int (*hook)(int);\nint use(struct box *box) { return helper(box->first); }",
        "int use(struct box *box) { return helper(box->first); }\nint (*hook)(int);",
    ),
}


def compiled(text: bytes) -> bytes:
    """The assembly that the compiler makes of a preprocessed text, without the numbers that it gives to labels."""
    words = [CC, "-O2", "-w", "-g0", "-x", "cpp-output", "-S", "-o", "-", "-"]
    done = subprocess.run(words, input=text, capture_output=True, check=True)
    return re.sub(rb"(\.L?[A-Z]*)\d+\b", rb"\1N", done.stdout)


def change(old: str, new: str) -> bytes:
    assert UNIT.count(old.encode()) == 1
    return UNIT.replace(old.encode(), new.encode())


@pytest.mark.parametrize("name", SAME)
def test_what_nothing_reaches(name: str) -> None:
    patched = change(*SAME[name])
    assert not may_emit_other(UNIT, patched)
    assert not may_emit_other(patched, UNIT)
    assert compiled(UNIT) == compiled(patched)


@pytest.mark.parametrize("name", REACHED)
def test_what_is_reached(name: str) -> None:
    patched = change(*REACHED[name])
    assert may_emit_other(UNIT, patched)
    assert may_emit_other(patched, UNIT)


def test_a_text_is_split_as_a_whole_and_beside_another() -> None:
    side = UnitText(UNIT)
    assert len(side) == 21 and all(side.judge(n) is not None for n in range(len(side)))
    for old, new in [*SAME.values(), *REACHED.values()]:
        patched = change(old, new)
        assert UnitText(patched, side).spans == UnitText(patched).spans


@pytest.mark.parametrize(
    ("text", "names", "emits"),
    [
        ("int f(void);", {"f"}, False),
        ("int (*f(int x))(int);", {"f"}, True),  # may be a variable, for all that this reader knows
        ("static inline int f(void) { return 1; }", {"f"}, False),
        ("inline int f(void) { return 1; }", {"f"}, True),
        ("static int f(void) { return 1; }", {"f"}, True),
        ("typedef int (*fn)(int), other;", {"fn", "other"}, False),
        (
            "typedef struct { int a; enum { X, Y = (1, 2), Z } e; struct in { int q; } i; } t;",
            {"t", "X", "Y", "Z", "in"},
            False,
        ),
        ("extern const char *const names[], *more;", {"names", "more"}, False),
        ('extern __attribute__((section(".data"))) __typeof__(int) per_cpu_x;', {"per_cpu_x"}, False),
        ("unsigned long long big;", {"big"}, True),
        ("struct s { int a; } x;", {"s", "x"}, True),
        ("struct s;", set(), False),
        ('_Static_assert(1, "");', set(), True),
        ("\n#pragma weak f", set(), True),
        ("int f(int a) __attribute__((unknown_attribute));", {"f"}, True),
    ],
)
def test_declarations(text: str, names: set[str], emits: bool) -> None:
    found = read_declaration(code_of(text.encode()))
    assert found is not None
    assert ({name.decode() for name in found.names}, found.emits) == (names, emits)


@pytest.mark.parametrize("text", ["int f(a) int a; { return a; }", "struct;", "int;x", "int f(void) { }; int", "1;"])
def test_what_is_not_understood(text: str) -> None:
    assert read_declaration(code_of(text.encode())) is None


def test_numbers_of_counter_shift() -> None:
    text = b"int __UNIQUE_ID_a%d = 1;\nint f(void) { extern void __compiletime_assert_%d(void); return %d; }\n"
    added = b"static inline int g(void) { int __UNIQUE_ID_b1 = 0; return __UNIQUE_ID_b1; }\n"
    assert not may_emit_other(text % (1, 2, 3), added + text % (2, 3, 3))
    assert may_emit_other(text % (1, 2, 3), added + text % (2, 3, 4))
    digits = b"static void *__UNIQUE_ID_ext4_update_sb%d = &f;\n"
    assert not may_emit_other(digits % 1, added + digits % 2)
    assert may_emit_other(digits % 1, added + digits.replace(b"ext4", b"ext5") % 1)
    twice = b"int f(int __UNIQUE_ID_a%d, int __UNIQUE_ID_a%d) { return __UNIQUE_ID_a%d; }\n"
    assert not may_emit_other(twice % (1, 2, 1), twice % (3, 4, 3))
    assert may_emit_other(twice % (1, 2, 1), twice % (3, 4, 4))


def test_a_tag_first_mentioned_in_parameters() -> None:
    """`struct s;` before a prototype with `struct s *` makes it another type, but only where none was declared."""
    early = b"int f(struct s *);\nstruct s { int a; };\nint g(struct s *s) { return f(s); }\n"
    assert may_emit_other(early, b"struct s;\n" + early)
    late = b"struct s;\n" + early
    assert not may_emit_other(late, b"int h(int);\n" + late.replace(b"int g(", b"struct s;\nint g("))


@pytest.mark.parametrize("text", [b"int f(void) { ", b"} int a;", b"struct s " + b"{} " * 200 + b";"])
def test_braces_that_do_not_match(text: bytes) -> None:
    assert may_emit_other(text, b"int b; " + text)
