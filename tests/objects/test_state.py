# SPDX-License-Identifier: GPL-2.0-or-later
"""Variables of the running kernel that go on in the patched source under another name, in another place, or not."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from kgbuild.closure.model import Closure
from tests.support.kernel import GivenGraph, close_text, close_units

FLAGS = ("-g",)
# both sides use the variable V; another number shows that something else changes too
RENAMED = """
#ifdef PATCHED
#define V {now}
#define X 3
#else
#define V {was}
#define X 2
#endif
"""
USERS = """
int first(int x) { V += x; return source(V); }
int second(int x) { if (x) V++; return source(x) + V; }
int third(int x) { return source(x) * X + V; }
"""
SAME_STATE = """
struct kgbuild_same { const volatile void *now; const char *was; };
#define SAME(new, old) static const struct kgbuild_same same_##new used section(".kgbuild.same") = { &(new), old }
"""


def renamed(declaration: str, users: str = USERS, was: str = "count", now: str = "total") -> str:
    return RENAMED.format(was=was, now=now) + declaration + users


def states(closure: Closure) -> list[str]:
    """What is said of each variable: `total same count`."""
    return sorted(f"{s.variable} {s.verdict} {s.orig}".strip() for s in closure.state.values())


def refused(closure: Closure) -> list[str]:
    return sorted(f"{r.code}:{r.symbol}" for r in closure.refusals)


class StateCase(NamedTuple):
    """A text, what is changed (functions), what is said of its variables, what is refused, what comes along anew."""

    name: str
    text: str
    changed: str
    states: list[str]
    refused: list[str] = []  # noqa: RUF012
    data: str = ""


LIST = "struct list { struct list *next, *prev; };\n"
KEY = """
struct key { int n; void *p; };
static inline bool on(struct key *const k)
{
    asm goto("1: .byte 0x0f,0x1f,0x44,0,0\\n .pushsection __jump_table, \\"aw\\"\\n .balign 8\\n"
         ".long 1b - ., %l[yes] - .\\n .quad %c0 - .\\n .popsection" : : "i"(k) : : yes);
    return 0;
yes:    return 1;
}
"""
CASES = [
    StateCase("renamed", renamed("static int V;"), "third", ["total same count"]),
    StateCase(
        "list",
        renamed(
            LIST + "static struct list V = { &V, &V };",
            "int first(int x) { sink(&V); return source(x); }\nint third(int x) { return V.next ? source(X) : 0; }",
        ),
        "third",
        ["total same count"],
    ),
    StateCase("per-cpu", renamed('static section(".data..percpu") int V;'), "third", ["total same count"]),
    StateCase(
        "static key",
        renamed(
            KEY + "static struct key V;",
            "int first(int x) { return on(&V) ? source(1) : source(x); }\n"
            "int third(int x) { return on(&V) ? source(2) * X : source(x); }",
        ),
        "third",
        ["total same count"],
    ),
    StateCase(
        "in a table",
        renamed(
            'static int V = 7; struct row { const char *n; void *p; } rows[2] = { { "x", &V }, { } };',
            "int first(int x) { sink(rows); return source(x) * V * X; }",
        ),
        "first",
        ["total same count"],
    ),
    StateCase(
        "exchanged",
        """
#ifdef PATCHED
#define A b
#define B a
#define X 3
#else
#define A a
#define B b
#define X 2
#endif
static int A, B;
int first(int x) { A += x; return source(A); }
int second(int x) { if (x) B += 2; return source(x) * B; }
int third(int x) { return source(x) + X + A; }
int fourth(int x) { return source(x) * 2 + X + B * 3; }
""",
        "fourth third",
        ["a same b", "b same a"],
    ),
    StateCase(
        "its name is given to another",
        """
#ifdef PATCHED
static int total, count;
#define V total
int third(int x) { return source(x) + ++count; }
#else
static int count;
#define V count
int third(int x) { return source(x); }
#endif
int first(int x) { V += x; return source(V); }
int second(int x) { if (x) V++; return source(x) + V; }
""",
        "third",
        ["count new"],
        data="count",
    ),
    StateCase(
        "from function to file",
        """
#ifdef PATCHED
static u32 secret;
int first(int x) { if (!secret) { secret = source(7); sink("set"); } return source(x + secret) + secret; }
#else
int first(int x) { static u32 secret; if (!secret) secret = source(7); return source(x + secret); }
#endif
""",
        "first",
        ["secret same secret.0"],
    ),
    StateCase(
        "into a helper",
        """
#ifdef PATCHED
static noinline int next_id(void) { static int id; return ++id; }
int first(int x) { return source(x) + next_id() + 1; }
#else
int first(int x) { static int id; return source(x) + ++id; }
#endif
""",
        "first",
        ["id.0 same id.0"],
    ),
    StateCase(
        "into an inline helper of two",
        """
#ifdef PATCHED
static inline int next_id(void) { static int id; return ++id; }
int first(int x) { return source(x) + next_id(); }
int second(int x) { return source(x) * next_id(); }
#else
int first(int x) { static int id; return source(x) + ++id; }
int second(int x) { return source(x); }
#endif
""",
        "second",
        [],
    ),
    StateCase(
        "declared",
        SAME_STATE
        + """
#ifdef PATCHED
static u32 total;
SAME(total, "first.secret");
int first(int x) { if (x == 5) return 17; total ^= x; return source(x + total) * 2; }
#else
int first(int x) { static u32 secret; if (!secret) secret = source(7); return source(x + secret); }
#endif
""",
        "first",
        ["total declared secret.0"],
    ),
    # near misses: really new
    StateCase(
        "new",
        """
#ifdef PATCHED
static int fresh;
int first(int x) { return source(x) + ++fresh; }
#else
int first(int x) { return source(x); }
#endif
static int old;
int second(int x) { return source(x) + old++; }
""",
        "first",
        ["fresh new"],
        data="fresh",
    ),
    StateCase(
        "went away alone",
        """
#ifdef PATCHED
int first(int x) { return source(x); }
#else
static int count;
int first(int x) { count += x; return source(count); }
#endif
""",
        "first",
        [],
    ),
    StateCase(
        "another lock beside the old one",
        """
static int lock_a;
#ifdef PATCHED
static int lock_b;
int first(int x) { sink(&lock_b); return source(x); }
int second(int x) { sink(&lock_a); return source(x) + 1; }
#else
int first(int x) { sink(&lock_a); return source(x); }
int second(int x) { sink(&lock_a); return source(x); }
#endif
""",
        "first second",
        ["lock_b new"],
        data="lock_b",
    ),
    StateCase(
        "of another kind",
        LIST
        + """
static struct list known = { &known, &known };
int other(int x) { sink(&known); return source(x); }
#ifdef PATCHED
static struct list fresh = { &fresh, &fresh };
int first(int x) { sink(&fresh); return source(x); }
#else
static int count;
int first(int x) { count += x; return source(count); }
#endif
""",
        "first",
        ["fresh new"],
        data="fresh",
    ),
    StateCase(
        "what the compiler had left out",
        """
static int lo, hi;
#ifdef PATCHED
int first(int x) { return source(x) + hi; }
int third(int x) { lo = x + 5; hi = x * 3; return source(lo); }
#else
int first(int x) { return source(x) + lo; }
int third(int x) { lo = x; hi = x; return source(x); }
#endif
""",
        "first third",
        ["hi new"],
        data="hi",
    ),
    # refused
    StateCase(
        "only user changes",
        """
#ifdef PATCHED
static u32 total;
int first(int x) { if (x == 5) return 17; total ^= x; return source(x + total) * 2; }
#else
static u32 secret;
int first(int x) { if (!secret) secret = source(7); return source(x + secret); }
#endif
""",
        "first",
        [],
        ["K22-state:total"],
    ),
    StateCase(
        "to another function",
        """
#ifdef PATCHED
int first(int x) { return source(x); }
int second(int x) { static int count; count += x; return count + source(x); }
#else
int first(int x) { static int count; count += x; return count + source(x); }
int second(int x) { return source(x); }
#endif
""",
        "first second",
        [],
        ["K22-state:count.0"],
    ),
    StateCase(
        "grouped",
        """
#ifdef PATCHED
static struct { int count; long sum; } st;
#define count st.count
#define sum st.sum
#else
static int count; static long sum;
#endif
int first(int x) { count++; sum += x; return source(sum); }
int second(int x) { return source(x) + count; }
""",
        "first second",
        [],
        ["K22-state:st"],
    ),
    StateCase(
        "taken apart",
        """
#ifdef PATCHED
static int count; static long sum;
#else
static struct { int count; long sum; } st;
#define count st.count
#define sum st.sum
#endif
int first(int x) { count++; sum += x; return source(sum); }
int second(int x) { return source(x) + count; }
""",
        "first second",
        [],
        ["K22-state:count", "K22-state:sum"],
    ),
    StateCase(
        "split",
        """
#ifdef PATCHED
static int in, out;
#else
static int count;
#define in count
#define out count
#endif
int first(int x) { in += x; return source(in); }
int second(int x) { if (x) out++; return source(x) + out; }
""",
        "first second",
        [],
        ["K22-state:in", "K22-state:out"],
    ),
    StateCase(
        "merged",
        """
#ifdef PATCHED
static int count;
#define in count
#define out count
#else
static int in, out;
#endif
int first(int x) { in += x; return source(in); }
int second(int x) { if (x) out++; return source(x) + out; }
""",
        "first second",
        [],
        ["K22-state:count"],
    ),
    StateCase(
        "other initial value",
        """
#ifdef PATCHED
static int total = 5;
#define V total
#else
static int count = 4;
#define V count
#endif
int first(int x) { V += x; return source(V); }
""",
        "first",
        [],
        ["K22-state:total"],
    ),
    StateCase(
        "other memory",
        """
#ifdef PATCHED
static int total = 5;
#define V total
#else
static int count;
#define V count
#endif
int first(int x) { V += x; return source(V); }
""",
        "first",
        [],
        ["K22-state:total"],
    ),
    StateCase(
        "other length",
        """
#ifdef PATCHED
static int total[16];
#define V total
#else
static int count[8];
#define V count
#endif
int first(int x) { V[x & 7] += x; return source(V[1]); }
""",
        "first",
        [],
        ["K22-state:total"],
    ),
    StateCase(
        "other type in the same place",
        """
#ifdef PATCHED
static long total;
int first(int x) { total += 2 * x; return source(total); }
#else
static int count;
int first(int x) { count += x; return source(count); }
#endif
""",
        "first",
        [],
        ["K22-state:total"],
    ),
    StateCase(
        "its name is left to a pointer that gcc leaves out, of the same type behind it",
        """
#ifdef PATCHED
static int room[4] = { 7, 5, 2, 8 };
static int *row = room;
#define X 3
#else
static int row[4] = { 7, 5, 2, 8 };
#define X 2
#endif
int first(int x) { row[x & 3] += x; return source(row[1]); }
int second(int x) { return source(x) * X + row[x & 3]; }
""",
        "second",
        ["room same row"],
    ),
    StateCase(
        "its name is left to a pointer that gcc leaves out",
        """
#ifdef PATCHED
static int room[8] = { 7, 5, 2, 8 };
static int *row = room;
#else
static int row[4] = { 7, 5, 2, 8 };
#endif
int first(int x) { row[x & 3] += x; return source(row[1]); }
""",
        "first",
        [],
        ["K22-state:room"],
    ),
    StateCase(
        "its name is left to another variable that is never read",
        """
#ifdef PATCHED
static long count;
static int total;
int first(int x) { count = x; total += x; return source(total) + 1; }
#else
static int count;
int first(int x) { count += x; return source(count); }
#endif
""",
        "first",
        ["total same count"],
    ),
    StateCase(
        "never read any more, beside a new one",
        """
static int count;
#ifdef PATCHED
static int total;
int first(int x) { count = x; total += x; return source(total) + 1; }
#else
int first(int x) { count += x; return source(count); }
#endif
""",
        "first",
        ["total new"],
        data="total",
    ),
    StateCase(
        "memory that was allocated is a variable now",
        """
struct counts { long reads, writes; };
#ifdef PATCHED
static struct counts own;
int first(int x) { own.reads += x; return source(own.reads); }
#else
static struct counts *made;
int first(int x) { if (!made) made = (void *)(long)source(16); made->reads += x; return source(made->reads); }
#endif
""",
        "first",
        [],
        ["K22-state:own"],
    ),
    StateCase(
        "an array is allocated now",
        """
#ifdef PATCHED
static int *made;
int first(int x) { if (!made) made = (void *)(long)source(64); made[x & 15] += 2; return source(made[x & 15]); }
#else
static int own[16];
int first(int x) { own[x & 15] += 1; return source(own[x & 15]); }
#endif
""",
        "first",
        [],
        ["K22-state:made"],
    ),
    StateCase(
        "a pointer, and what it can't have led to",
        """
struct counts { long reads, writes; };
struct limits { int low, high; };
#ifdef PATCHED
static struct limits own;
static int number;
int first(int x) { own.low += x; number += own.low; return source(number); }
#else
static struct counts *made;
static int *numbers;
int first(int x) { made->reads += x; numbers[x & 1]++; return source(x); }
#endif
""",
        "first",
        ["number new", "own new"],
        data="number own",
    ),
    StateCase(
        "a tree in a list's place",
        """
struct list_head { struct list_head *next, *prev; };
struct rb_node { long color; struct rb_node *right, *left; };
struct rb_root { struct rb_node *node; };
#ifdef PATCHED
static struct rb_root tree;
int first(int x) { return source(x) + (tree.node != 0); }
int second(struct rb_node *n) { tree.node = n; return source(2); }
#else
static struct list_head list = { &list, &list };
int first(int x) { return source(x) + (list.next != &list); }
int second(struct list_head *n) { list.next = n; return source(1); }
#endif
""",
        "first second",
        [],
        ["K22-state:tree"],
    ),
    StateCase(
        "a lock in a list's place",
        """
struct list_head { struct list_head *next, *prev; };
struct spinlock { unsigned lock; unsigned owner; };
#ifdef PATCHED
static struct spinlock lock;
int first(int x) { return source(x) + (lock.lock++ != 0); }
#else
static struct list_head list = { &list, &list };
int first(int x) { list.prev = list.next; return source(x) + (list.next != &list); }
#endif
""",
        "first",
        ["lock new"],
        data="lock",
    ),
    StateCase(
        "exchanged, and a user changes",
        """
#ifdef PATCHED
#define A b
#define B a
#else
#define A a
#define B b
#endif
static int A, B;
int first(int x) { A += x; return source(A); }
int second(int x) { if (x) B += 2; return source(x) * B; }
#ifdef PATCHED
int third(int x) { int i; for (i = 0; i < x; i++) B ^= A * i; return B; }
#else
int third(int x) { return source(x) + A * 3 + B; }
#endif
""",
        "first second third",
        [],
        ["K22-state:a", "K22-state:b"],
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_verdict(case: StateCase) -> None:
    p = close_text(case.text, flags=FLAGS)
    changes = p.closure.units[0].changes
    assert " ".join(sorted(c.patched.name for c in changes.changed)) == case.changed
    assert refused(p.closure) == case.refused
    assert states(p.closure) == case.states
    assert p.roles("data") == [*case.data.split()] or case.name == "from function to file"
    for s in p.closure.state.values():
        assert not s.orig or p.bound[s.orig] == "klp"


def test_the_refusal_names_both_and_the_ways_out() -> None:
    case = next(c for c in CASES if c.name == "only user changes")
    (refusal,) = close_text(case.text, flags=FLAGS).closure.refusals
    assert "total" in refusal.fact and "secret" in refusal.fact
    for way in ("keep the name", "KGBUILD_SAME_STATE", "callback"):
        assert way in refusal.remedy


def test_without_types_nothing_is_the_same() -> None:
    assert refused(close_text(renamed("static int V;")).closure) == ["K22-state:total"]


def units(**texts: str) -> Closure:
    return close_units({f"{name}.c": text for name, text in texts.items()}, GivenGraph({}), FLAGS)


def test_global_renamed_in_all_its_units() -> None:
    c = units(
        one=renamed("int V = 4;"),
        two=renamed("extern int V;", "int fourth(int x) { return source(x) + V * X; }\nint fifth(void) { return V; }"),
    )
    assert (refused(c), states(c)) == ([], ["total same count"])
    assert {b.name for b in c.bound.values() if b.how == "klp"} == {"count"}


def test_moved_to_another_unit_under_another_name() -> None:
    c = units(
        one="#ifdef PATCHED\nextern int total;\n#define V total\n#else\n"
        "static int count = 4;\n#define V count\n#endif\n"
        "int first(int x) { V += x; return source(V); }",
        two="#ifdef PATCHED\nint total = 4;\nint other(int x) { return source(x) + total; }\n"
        "#else\nint other(int x) { return source(x); }\n#endif\n",
    )
    assert (refused(c), states(c)) == ([], ["total same count"])
    assert [s.orig_unit for s in c.state.values()] == ["one.c"]
    assert not [m for m in c.members.values() if m.atom.name == "total"]


def test_moved_to_another_unit_without_a_trace_is_refused() -> None:
    c = units(
        one="#ifdef PATCHED\nint first(int x) { return source(x); }\n#else\n"
        "static int count;\nint first(int x) { count += x; return source(count); }\n#endif\n",
        two="#ifdef PATCHED\nstatic int total;\nint other(int x) { total ^= x; return source(x) + total; }\n"
        "#else\nint other(int x) { return source(x); }\n#endif\n",
    )
    assert refused(c) == ["K22-state:total"]
    assert "count of one.c" in c.refusals[0].fact


def test_declared_to_be_of_another_unit() -> None:
    c = units(
        one="#ifdef PATCHED\nint first(int x) { return source(x); }\n#else\n"
        "int first(int x) { static int count; count += x; return source(count); }\n#endif\n",
        two=SAME_STATE + '#ifdef PATCHED\nint other(int x) { static int total; SAME(total, "one.c:first.count");\n'
        "total ^= x; return source(x) + total; }\n#else\nint other(int x) { return source(x); }\n#endif\n",
    )
    assert (refused(c), states(c)) == ([], ["total.0 declared count.0"])


@pytest.mark.parametrize(
    ("declared", "use", "fact"),
    [
        ("long total", "total", "has 4 bytes"),
        ("struct { short low, high; } total", "total.high", "types differ"),
        ("int total", "total", "no variable"),
        ('int total section(".data..percpu")', "total", "total in .data..percpu"),
    ],
)
def test_wrong_declarations_are_refused(declared: str, use: str, fact: str) -> None:
    text = "absent" if fact == "no variable" else "count"
    c = units(
        one=f'{SAME_STATE}#ifdef PATCHED\nstatic {declared};\nSAME(total, "{text}");\n'
        f"int first(int x) {{ if (x == 5) return 17; {use} ^= x; return source(x + {use}) * 2; }}\n"
        "#else\nstatic int count;\nint first(int x) { count += x; return source(count); }\n#endif\n"
    )
    assert refused(c) == ["K22-state:total"]
    assert fact in c.refusals[0].fact


def test_a_callback_may_fill_it() -> None:
    c = units(
        one="struct object;\n#ifdef PATCHED\nstatic int total;\n"
        "static void fill(struct object *o) { total = source(9); }\n"
        'static void (*ptr)(struct object *) used section(".kgbuild.kpatch.callback.pre_patch") = fill;\n'
        "int first(int x) { total ^= x; return source(x) + total; }\n"
        "#else\nstatic int count;\nint first(int x) { count += x; return source(count); }\n#endif\n"
    )
    assert (refused(c), states(c)) == ([], ["total filled"])
