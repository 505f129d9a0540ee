# SPDX-License-Identifier: GPL-2.0-or-later
"""A table that points to another function which the kernel has already: the module has a copy, and the old function is
redirected to it."""

from __future__ import annotations

import pytest

from tests.support.kernel import close_text, make_module

TEXT = """
struct ops { int (*get)(int); int (*set)(int); };
static int count;
static noinline int there(int x) { barrier(); count++; return source(x) * 3 + count + BY; }
const struct ops others used = { there, 0 };
noinline int calls(int x) { barrier(); return there(x) * 2; }
#ifndef PATCHED
static noinline int old(int x) { barrier(); return source(x) + 1; }
const struct ops table used = { old, 0 };
#else
const struct ops table used = { there, 0 };
#endif
"""


@pytest.mark.parametrize(
    ("by", "redirected"), [("0", ["old"]), ("9", ["there", "old"])], ids=["as it was", "changed as well"]
)
def test_the_old_one_is_redirected_to_a_copy(by: str, redirected: list[str]) -> None:
    patched = close_text(f"#ifdef PATCHED\n#define BY {by}\n#else\n#define BY 0\n#endif\n{TEXT}")
    assert patched.refused == []
    assert [(r.name, r.atom.name) for r in patched.closure.redirects] == [(name, "there") for name in redirected]
    assert patched.bound["count"] == "klp"  # the kernel's own state, shared with its own copy of the function
    assert {m.atom.name: m.role for m in patched.closure.members.values()} == {"there": "changed"}
    make_module(patched.closure)
