# SPDX-License-Identifier: GPL-2.0-or-later
"""Of which variables a fresh copy serves: told by what they are and what they guard, not by their names."""

from __future__ import annotations

import pytest

from kgbuild.objects.stateless import is_stateless
from tests.support.toolchain import compile_text, pair_flags, view

HEAD = """
#include "kernel.h"
#define once section(".data.once")
struct ratelimit_state { int interval, burst; };
extern int ___ratelimit(struct ratelimit_state *rs);
extern int setups, other_state;
"""
PRINTS = [
    'int f(int x) { static once bool w; if (x > 3 && !w) { w = true; printk("x %d\\n", x); } return source(x); }',
    # what follows is copied behind the message, and registers come back from the stack
    'int f(int x) { static once bool w; if (x > 3) { if (!w) { w = true; printk("x %d\\n", x); } }'
    " return x + setups; }",
    "int f(int x, int y) { static once bool w; int a = source(x), b = source(y), c = source(a);"
    ' if (!w) { w = true; printk("x %d %d\\n", a, b); } return a * b * c + x * y; }',
    'void f(int x) { static bool w; if (!w) { w = true; printk("x %d\\n", x); printk("y\\n"); } }',
    "int f(int x) { static struct ratelimit_state w = { 5, 10 }; return ___ratelimit(&w) ? source(x) : 0; }",
    "struct empty { }; extern void take(void *); int f(int x) { static struct empty w; sink(&w); return x; }",
]
STATE = [
    # DO_ONCE_LITE(setup): a call, and the same inlined
    "int f(int x) { static once bool w; if (!w) { w = true; source(1); } return x; }",
    "int f(int x) { static once bool w; if (!w) { w = true; setups += x; } return x; }",
    # a value, a way to return, a message and something else
    "int f(int x) { static once bool w; if (!w) { w = true; return 1; } return 0; }",
    'int f(int x) { static once bool w; int y = 3; if (!w) { w = true; printk("z\\n"); y = 5; } return source(y); }',
    'int f(int x) { static once bool w; if (!w) { w = true; printk("z\\n"); setups = 2; } return source(x); }',
    'int f(int x) { static once bool w; if (!w) { w = true; printk("z\\n"); return -22; } return source(x); }',
    # its value or its address goes elsewhere
    "int f(int x) { static once bool w; if (x) w = true; return w; }",
    'int f(int x) { static once bool w; if (!w) { w = true; printk("z\\n"); } sink(&w); return x; }',
    # names that macros use, for something else
    "int f(int x) { static int _rs; return source(x) + ++_rs; }",
    "int f(int x) { static int __key; sink(&__key); return __key; }",
    "int f(int x) { static int descriptor = 3; return source(x) * descriptor++; }",
    "int f(int x) { static bool __already_done; if (!__already_done) { __already_done = true; setups++; } return x; }",
]


def found(text: str, *flags: str) -> list[bool]:
    v = view(compile_text(HEAD + text, *pair_flags(("-g", *flags))))
    return [is_stateless(v, a) for a in v.data if not v.is_const(a)]


@pytest.mark.parametrize("text", PRINTS)
def test_a_fresh_one_serves(text: str) -> None:
    assert found(text) == [True]


@pytest.mark.parametrize("text", STATE)
def test_it_is_state(text: str) -> None:
    assert found(text) == [False]


def test_a_rate_limit_by_its_type_alone() -> None:
    text = "struct holder { struct ratelimit_state *l; }; int f(struct holder *h)"
    text += "{ static struct ratelimit_state w = { 5, 10 }; h->l = &w; return 0; }"
    assert found(text) == [True]


def test_what_others_may_reach_is_state() -> None:
    assert found('bool w; int f(int x) { if (!w) { w = true; printk("z\\n"); } return source(x); }') == [False]
