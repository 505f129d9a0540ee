# SPDX-License-Identifier: GPL-2.0-or-later
"""Pairs of small objects for the ledger: two texts that differ, and what is answered."""

from __future__ import annotations

from kgbuild.pipeline.object_diff import ObjectDiff, diff_objects, read_relocatable
from tests.support.toolchain import compile_text, pair_flags

K30 = "K26-unaccounted"


NOTHING, CHANGED = "nothing", "changed"


# What all pairs have: a function that stays, and one that may be made to change beside the difference.
COMMON = """
#define SECTION(name) __attribute__((section(name)))
#define noinline __attribute__((noinline))
#define used __attribute__((used))
#define INFO(name, text) static const char name[] used SECTION(".modinfo") __attribute__((aligned(1))) = text
void sink(long); extern volatile long source;
int one = 1, two = 2, zero, nought;
noinline long stays(long x) { return x + source; }
long beside(long x) { return stays(x) BESIDE; }
#define TABLE(section, flags, body) asm(".pushsection " section ", \\"" flags "\\"; " body "; .popsection")
"""


def table(section: str, body: str, flags: str = "a") -> str:
    """Assembly of a section by itself."""
    return f'TABLE("{section}", "{flags}", "{body}");'


def answer(before: str, after: str, beside: str = "") -> ObjectDiff:
    """The comparison of two texts; `beside` is what a function beside them does in the second."""
    sides = [
        read_relocatable(compile_text(COMMON + text, *pair_flags(("-Wno-attributes", f"-DBESIDE={more}"))), "x.o")
        for text, more in ((before, ""), (after, beside))
    ]
    return diff_objects(*sides, "unit.c")


def outcome(found: ObjectDiff) -> str:
    """What comes of a comparison, in one word or as codes."""
    codes = sorted({r.code for r in found.refusals})
    return " ".join(codes) or (NOTHING if found.nothing else CHANGED)
