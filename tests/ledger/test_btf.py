# SPDX-License-Identifier: GPL-2.0-or-later
"""What BPF reads of types: said where it can have no effect, refused where it must fit code that changes."""

from __future__ import annotations

import random

import pytest

from kgbuild.accounting.account import no_effects
from kgbuild.elf.object import Object
from kgbuild.ledger.difference import NAMES, TYPE
from kgbuild.ledger.ledger import compute_ledger
from kgbuild.pipeline.object_diff import diff_objects, read_relocatable
from tests.support.toolchain import compile_text, pair_flags

# a set as include/linux/btf_ids.h makes it, with flags behind each entry
IDS = """
typedef unsigned int u32; typedef int s32; typedef unsigned long u64; typedef u32 flags_t;
struct thing { int a, b; }; struct other { long c; };
struct thing *keep_thing; struct other *keep_other; long sink(u64);
#define KFUNC(name) asm(".pushsection .BTF_ids, \\"a\\"; .local __BTF_ID__set8__kfuncs; __BTF_ID__set8__kfuncs: " \\
    ".zero 8; .local __BTF_ID__func__" #name "__7; __BTF_ID__func__" #name "__7: .zero 4; " \\
    ".size __BTF_ID__func__" #name "__7, 4; .long 1; .popsection")
#define NAMED(kind, name) asm(".pushsection .BTF_ids, \\"a\\"; .local __BTF_ID__" #kind "__" #name "__8; " \\
    "__BTF_ID__" #kind "__" #name "__8: .zero 4; .popsection")
"""
KEPT = "BPF programs are checked by the running kernel's BTF, which stays as it is"
SIZED = "KFUNC(kf); long kf(void *buf, u32 %s) { return sink((u64)buf); }"
BODY = "KFUNC(kf); long kf(%s) { return sink((u64)p + %d); }"


def built(text: str) -> Object:
    return read_relocatable(compile_text(IDS + text, *pair_flags(("-g", "-gbtf"))), "x.o")


def ends(before: str, after: str) -> tuple[str, list[str]]:
    """What comes of a pair, and the lines that a user is told."""
    found = diff_objects(built(before), built(after), "unit.c")
    codes = " ".join(sorted({r.code for r in found.refusals}))
    return codes or ("nothing" if found.nothing else "changed"), no_effects([found.accounting])


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        (SIZED % "len", SIZED % "len__sz", "u32 len -> u32 len__sz"),
        (SIZED % "len__sz", SIZED % "len__szk", "u32 len__sz -> u32 len__szk"),
        (BODY % ("void *p", 0), BODY % ("struct thing *p", 0), "void * p -> struct thing * p"),
        (BODY % ("struct thing *p", 0), BODY % ("const struct thing *p", 0), "-> const struct thing * p"),
        (
            "NAMED(struct, thing2); struct thing2 { int a; int b; }; struct thing2 v;",
            "NAMED(struct, thing2); struct thing2 { int a; int renamed; }; struct thing2 v;",
            "int b -> int renamed",
        ),
        (
            "typedef void (*btf_trace_ev)(void *__data, int cpu); btf_trace_ev *v;",
            "typedef void (*btf_trace_ev)(void *__data, u32 cpu); btf_trace_ev *v;",
            "int -> u32",
        ),
        (
            "struct ops { int (*open)(int x); }; struct bpf_struct_ops_ops { struct ops o; } v;"
            "int ops__open(int x) { return 1; }",
            "struct ops { int (*open)(int x); }; struct bpf_struct_ops_ops { struct ops o; } v;"
            "int ops__open(int x__nullable) { return 1; }",
            "int x -> int x__nullable",
        ),
    ],
)
def test_types_for_bpf_alone(before: str, after: str, shown: str) -> None:
    what, lines = ends(before, after)
    assert what == "nothing"
    assert len(lines) == 1 and shown in lines[0] and KEPT in lines[0], lines


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (("struct thing *p", 0), ("struct other *p", 1)),
        (("void *p", 0), ("struct thing *p", 1)),
        (("u32 p", 0), ("u64 p", 0)),
        (("struct thing *p", 0), ("struct thing *p, u32 more", 1)),
    ],
)
def test_a_function_that_bpf_calls_and_another_prototype(before: tuple[str, int], after: tuple[str, int]) -> None:
    """The verifier would let programs call the new code by the old prototype."""
    assert ends(BODY % before, BODY % after)[0] == "K26-unaccounted"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (("struct thing *p", 0), ("struct thing *p", 1), 0),
        (("struct thing *p", 0), ("struct thing *p__ign", 1), 1),
        (("u32 p", 0), ("s32 p", 1), 1),
        (("u32 p", 0), ("flags_t p", 1), 1),
        (("struct thing *p", 0), ("const struct thing *p", 1), 1),
    ],
)
def test_code_that_still_fits_the_prototype(before: tuple[str, int], after: tuple[str, int], said: int) -> None:
    text = BODY % after
    what, lines = ends(BODY % before, text.replace("(u64)p", "(u64)p__ign") if "__ign" in text else text)
    assert what == "changed" and len(lines) == said, lines


def test_functions_that_bpf_does_not_name() -> None:
    """Another prototype of any other function is compared by code."""
    assert ends("long f(u32 len) { return sink(len); }", "long f(u32 len__sz) { return sink(len__sz); }") == (
        "nothing",
        [],
    )


def test_a_set_without_flags_is_of_names_alone() -> None:
    """What is on a deny list is called by nobody: its prototype may change with its code."""
    text = "NAMED(func, f); long f(%s p) { return sink(p + %d); }"
    what, lines = ends(text % ("u32", 0), text % ("u64", 1))
    assert what == "changed" and len(lines) == 1


def test_types_that_cannot_be_read() -> None:
    """Cut in the middle, they are refused rather than ignored."""
    obj = compile_text(IDS + SIZED % "len", *pair_flags(("-g", "-gbtf")))
    section = read_relocatable(obj, "x.o").section_named(".BTF")
    assert section is not None
    broken = bytearray(obj)
    broken[section.offset : section.offset + 2] = b"\0\0"
    found = diff_objects(read_relocatable(obj, "x.o"), read_relocatable(bytes(broken), "x.o"), "unit.c")
    assert [r.code for r in found.refusals] == ["K26-unaccounted"]


def test_broken_types_are_differences() -> None:
    """Whatever is wrong with them, nothing is raised."""
    data = compile_text(IDS + SIZED % "len", *pair_flags(("-g", "-gbtf")))
    orig = read_relocatable(data, "x.o")
    section = orig.section_named(".BTF")
    assert section is not None
    chance = random.Random(7)
    kinds: set[str] = set()
    for _ in range(200):
        broken = bytearray(data)
        broken[section.offset + chance.randrange(section.size)] ^= 1 << chance.randrange(8)
        found = compute_ledger(orig, read_relocatable(bytes(broken), "x.o")).differences
        assert {d.section for d in found} <= {".BTF"}
        kinds |= {d.kind for d in found}
    assert {TYPE, NAMES} <= kinds
