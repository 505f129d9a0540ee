# SPDX-License-Identifier: GPL-2.0-or-later
"""A pair of which gcc makes a clone, for tests of what becomes of clones."""

from __future__ import annotations

from kgbuild.closure.close import close
from tests.support.kernel import EXPORTS, Patched

# gcc makes calc.isra.0 of it, which takes the member by value
ISRA = """
struct cfg { int a, b; };
#ifdef PATCHED
#define STEP 5
#else
#define STEP 4
#endif
static noinline int calc(struct cfg *c, int x) { return source(c->a) * x + source(x); }
noinline int first(struct cfg *c, int x) { barrier(); return calc(c, x + STEP) + 1; }
"""


SECOND = "noinline int second(struct cfg *c, int x) { barrier(); return calc(c, x + 9) + 2; }\n"


def again(p: Patched, *allowed: str, always: bool = False) -> Patched:
    """A pair closed again, with what a user can say."""
    closure = close(p.closure.units, p.image, EXPORTS, frozenset(allowed), pull_always=always)
    return Patched(closure, p.orig, p.patched, p.image)
