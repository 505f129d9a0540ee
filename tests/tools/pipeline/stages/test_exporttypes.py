# SPDX-License-Identifier: GPL-2.0-or-later
"""Exports keep their type: by structure, from BTF; by the CRC of a genksyms; and what need not be looked at."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from kgbuild.csource.preprocessor_conditions import Conditions
from kgbuild.debuginfo.prototypes import compare_prototypes
from kgbuild.elf.read import read
from kgbuild.errors import ToolError
from kgbuild.estimation.export_types import exported_names, judge_exports, may_change_types, parse_genksyms
from kgbuild.host.compile.compile import compile_units
from kgbuild.host.system.cache import Cache
from kgbuild.kernel.exports import Export, parse_symvers
from kgbuild.model import Kernel, KernelId, UnitCommand
from kgbuild.pipeline.stages.export_types import check_exports
from kgbuild.progress import SilentProgress
from tests.support.toolchain import CC, compile_text, empty_vmlinux, pair_flags

# -- by structure ---------------------------------------------------------------------------------------------------

BASE = """
typedef unsigned int u32; typedef unsigned int __u32; typedef u32 __be32; typedef u32 gfp_t;
typedef signed long long s64; typedef s64 ktime_t; typedef _Bool bool;
struct hidden;
struct other { int x; };
struct twin { int x; };
enum mode { ONE = 1, TWO };
struct ops { int (*call)(struct ops *ops, int value); const char *name; };
struct list { struct list *next, *prev; };
struct s { int a; u32 flag : 3; struct other *o; struct hidden *h; struct ops *ops; struct list list; s64 big; };
int f(struct s *s, u32 n, char *text, enum mode mode) { return s->a + n + (text != 0) + mode; }
char *result(void) { return 0; }
struct twin *second(struct other *o) { return (void *)o; }
int more(int n, ...) { return 0; }
void nothing(void) { }
struct other values[3] = { { 1 } };
const char *label = "x";
int (*hook)(int);
ktime_t time(ktime_t t) { return t; }
"""
NAMES = ["f", "result", "second", "more", "nothing", "values", "label", "hook", "time"]


def differences(old: str, new: str, allowed: tuple[str, ...] = ()) -> dict[str, str | None]:
    sides = [read(compile_text(text, *pair_flags(("-gbtf",)))) for text in (old, new)]
    return compare_prototypes(sides[0], sides[1], NAMES, allowed)


def changed(old: str, new: str) -> str:
    assert old in BASE
    return BASE.replace(old, new)


HARMLESS = {
    "same": ("int f(", "int f("),
    "argument_named_anew": (
        "char *text, enum mode mode) { return s->a + n + (text != 0)",
        "char *t, enum mode mode) { return s->a + n + (t != 0)",
    ),
    "spelled_otherwise": ("struct s *s, u32 n", "struct s *s, unsigned n"),
    "plain_typedef": ("struct s *s, u32 n", "struct s *s, __u32 n"),
    "callee_promises_more": ("char *text", "const char *text"),
    "value_const": ("u32 n, char", "const u32 n, char"),
    "member_named_anew": ("struct s { int a;", "struct s { int b;"),
    "structure_becomes_known": ("struct hidden;", "struct hidden { int now; };"),
    "member_in_a_hole": ("u32 flag : 3;", "u32 flag : 3; u32 new : 1;"),
    "overlaid": ("s64 big; };", "union { s64 big; u32 half; }; };"),
    "grouped": ("struct list list; s64 big;", "struct { struct list list; s64 big; };"),
    "value_added": ("ONE = 1, TWO }", "ONE = 1, TWO, THREE }"),
    "tag_renamed": ("struct list", "struct chain"),
    "member_const": ("const char *name; };", "char *name; };"),
    "void_as_nothing": ("char *result(void)", "char *result()"),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_callers_can_not_see_is_no_difference(name: str) -> None:
    old, new = HARMLESS[name]
    text = changed(old, new)
    if name == "member_named_anew":
        text = text.replace("s->a", "s->b")
    if name == "member_const":
        text = text.replace("const char *name", "char *name")
    assert differences(BASE, text) == dict.fromkeys(NAMES, "")


DIFFERENT = {
    "argument_more": ("enum mode mode)", "enum mode mode, int x)", {"f": "it takes 5 arguments, it took 4 arguments"}),
    "argument_gone": (
        "int more(int n, ...)",
        "int more(int n)",
        {"more": "it takes 1 argument, it took 1 argument and more"},
    ),
    "argument_wider": ("u32 n, char", "unsigned long n, char", {"f": "argument 2 is long unsigned int, was u32"}),
    "argument_signed": ("u32 n, char", "int n, char", {"f": "argument 2 is int, was u32"}),
    "meaning": ("u32 n, char", "__be32 n, char", {"f": "argument 2 is __be32, was u32"}),
    "flags": ("u32 n, char", "gfp_t n, char", {"f": "argument 2 is gfp_t, was u32"}),
    "time": ("ktime_t time(ktime_t t)", "ktime_t time(s64 t)", {"time": "argument 1 is s64, was ktime_t"}),
    "argument_is_a_pointer": (
        "int more(int n,",
        "int more(struct other *n,",
        {"more": "argument 1 is struct other *, was int"},
    ),
    "arguments_exchanged": (
        "u32 n, char *text",
        "char *text, u32 n",
        {"f": "argument 2 is char *, was u32"},
    ),
    "another_structure": (
        "*second(struct other *o)",
        "*second(struct twin *o)",
        {"second": "argument 1 is struct twin *, was struct other *"},
    ),
    "enum_to_int": ("enum mode mode)", "int mode)", {"f": "argument 4 is int, was enum mode"}),
    "value": ("ONE = 1, TWO }", "ONE = 1, TWO = 5 }", {"f": "enum mode: TWO is 5, was 2"}),
    "result": ("char *result(void)", "const char *result(void)", {"result": "its result is const char *, was char *"}),
    "returns_now": (
        "void nothing(void) { }",
        "int nothing(void) { return 0; }",
        {"nothing": "its result is int, was void"},
    ),
    "callback": (
        "(struct ops *ops, int value)",
        "(struct ops *ops, int value, int more)",
        {"f": "struct ops.call: it takes 3 arguments, it took 2 arguments"},
    ),
    "member_reused": ("s64 big; };", "void *big; };", {"f": "struct s.big is void *, was s64"}),
    "members_exchanged": (
        "struct other *o; struct hidden *h;",
        "struct hidden *h; struct other *o;",
        {"f": "struct s: o is not at byte 8 any more"},
    ),
    "list_becomes_another": (
        "struct list { struct list *next, *prev; }",
        "struct list { struct list *next, **prev; }",
        {"f": "struct list.prev is struct list **, was struct list *"},
    ),
    "size": ("struct hidden *h;", "struct hidden *h, *i;", {"f": "struct s is 64 bytes, was 56"}),
    "array": (
        "struct other values[3] = { { 1 } };",
        "struct other values[4] = { { 1 } };",
        {"values": "it is struct other[4], was struct other[3]"},
    ),
    "variable": ('const char *label = "x";', 'char label[8] = "x";', {"label": "it is char[8], was const char *"}),
    "hook": ("int (*hook)(int);", "int (*hook)(long);", {"hook": "argument 1 is long int, was int"}),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_callers_rely_on_is_said(name: str) -> None:
    old, new, facts = DIFFERENT[name]
    assert differences(BASE, changed(old, new)) == dict.fromkeys(NAMES, "") | facts


def test_a_type_that_may_differ() -> None:
    new = changed("struct hidden *h;", "struct hidden *h, *i;")
    for allowed in ("s", "struct s"):
        assert differences(BASE, new, (allowed,)) == dict.fromkeys(NAMES, "")


def test_what_an_object_does_not_tell() -> None:
    without = read(compile_text(BASE, *pair_flags(())))
    assert compare_prototypes(without, without, ["f"]) == {"f": None}
    told = read(compile_text(BASE, *pair_flags(("-gbtf",))))
    assert compare_prototypes(told, told, ["f", "elsewhere"]) == {"f": "", "elsewhere": None}


def test_broken_type_information() -> None:
    data = bytearray(compile_text(BASE, *pair_flags(("-gbtf",))))
    at = data.index(b"\x9f\xeb\x01\x00")
    data[at + 24 : at + 1024] = b"\xff" * 1000
    with pytest.raises(ToolError):
        compare_prototypes(read(bytes(data)), read(bytes(data)), ["f"])


# -- what need not be looked at -------------------------------------------------------------------------------------

FILE = b"""
#include <linux/a.h>
#define LIMIT 3
struct s { int a; };
static int count = 1;
int shown = 2;
static int helper(int a) { return a; }
int f(struct s *s, int n)
{
	if (n) {
		s->a = helper(n);
	}
	return n;
}
EXPORT_SYMBOL(f);
struct __attribute__((packed)) t { int a; };
#ifdef UNDECIDED
int g(int a) {
#else
int g(void) {
#endif
	return 1;
}
SYSCALL_DEFINE1(call, int, fd) { return fd; }
MAKE(a) { return 1; }
"""


@pytest.mark.parametrize(
    ("old", "new", "may"),
    [
        (b"return n;", b"return n + 1;", False),
        (b"static int helper(int a) {", b"static int more(void) { return 1; }\nstatic int helper(int a) {", False),
        (b"static int helper(int a)", b"static int helper(long a)", False),
        (b"static int count = 1;", b"static long count = 1;", False),
        (b"static int count = 1;", b"", False),
        (b"static int count = 1;", b"static int count = 1, f_more(void);", False),
        (b"return fd;", b"return fd + 1;", False),
        (b"int n)", b"long n)", True),
        (b"int n)", b"int m)", True),
        (b"int shown = 2;", b"long shown = 2;", True),
        (b"#define LIMIT 3", b"#define LIMIT 4", False),
        (b"if (n) {", b"\n#define s t\nif (n) {", True),
        (b"#include <linux/a.h>", b"", True),
        (b"struct s { int a; };", b"struct s { long a; };", True),
        (b"packed)) t { int a; }", b"packed)) t { long a; }", True),
        (b"int g(void) {", b"long g(void) {", True),
        (b"MAKE(a) { return 1; }", b"MAKE(a) { return 2; }", True),
        (b"static int count = 1;", b"static struct n { int a; } count;", False),
        (b"int f(", b"struct n { int a; };\nint f(", False),
        (b"int f(", b"static DEFINE_MUTEX(lock);\nint f(", False),
        (b"int f(", b"extern int h(void);\nint f(", False),
        (b"int f(", b"int h(void) { return 1; }\nint f(", False),
        (b"return n;", b"/* n */ return n;", False),
    ],
)
def test_only_what_may_change_a_type_is_looked_at(old: bytes, new: bytes, may: bool) -> None:
    assert old in FILE
    assert may_change_types(FILE, FILE.replace(old, new, 1), Conditions({}, False), header=False) is may


BRANCHES = b"#ifdef A\ntypedef int t;\n#else\ntypedef long t;\n#endif\nt f(void) { return 1; }\n"


@pytest.mark.parametrize(
    ("old", "new", "may"),
    [
        (b"#ifdef A", b"#ifdef B", True),
        (b"#ifdef A", b"#if defined(A) \\\n && B", True),
        (b"#ifdef A", b"#ifdef A /* x */", False),
        (b"#else\ntypedef long t;", b"typedef long t;\n#else", True),
        (b"int t;\n#else\ntypedef long", b"long t;\n#else\ntypedef int", True),
        (b"return 1;", b"return 2;", False),
        (b"#ifdef A", b"#pragma pack(1)\n#ifdef A", True),
    ],
)
def test_the_branch_of_an_if_counts(old: bytes, new: bytes, may: bool) -> None:
    assert old in BRANCHES
    assert may_change_types(BRANCHES, BRANCHES.replace(old, new), Conditions({}, False)) is may


@pytest.mark.parametrize(
    ("before", "after", "header", "may"),
    [
        (b"", b"#define A 1\n", False, False),
        (b"", b"#define A 1\n", True, True),
        (b"int f(void) { return B; }\n", b"#define B 1\nint f(void) { return B; }\n", False, False),
        (b"int f(T x) { return x; }\n", b"#define T long\nint f(T x) { return x; }\n", False, True),
        (b"#include <a.h>\n", b"#define A 1\n#include <a.h>\n", False, True),
        (b"#include <a.h>\n", b"#include <a.h>\n#define A 1\n", False, False),
        (b"#define C A\nint f(C);\n", b"#define A 1\n#define C A\nint f(C);\n", False, True),
        (b"#define A 1\nint a[A];\n", b"#define A 2\nint a[A];\n", False, True),
    ],
)
def test_macros(before: bytes, after: bytes, header: bool, may: bool) -> None:
    assert may_change_types(before, after, Conditions({}, False), header=header) is may


def test_exports_of_an_object_before_and_since_6_4() -> None:
    marks = 'asm(".section .export_symbol,\\"a\\"\\n__export_symbol_f:\\n.quad f\\n.previous");'
    old = 'static const int __ksymtab_f __attribute__((used, section("___ksymtab+f"))) = 1;'
    for text in (marks, old):
        assert exported_names(read(compile_text("int f(void) { return 1; }\n" + text, *pair_flags()))) == ["f"]


def test_both_forms_of_what_genksyms_prints() -> None:
    text = "#SYMVER f 0x00000012\n__crc_g = 0xabcdef01;\n__crc_h = 0x1 ;\nnoise\n"
    assert parse_genksyms(text) == {"f": 0x12, "g": 0xABCDEF01}


def test_verdicts() -> None:
    kernel = {"f": Export("f", 1, "vmlinux", "EXPORT_SYMBOL", "")}

    def codes(fact: str | None, before: Mapping[str, int], after: Mapping[str, int]) -> list[str]:
        return [r.fact for r in judge_exports("u.c", {"f": fact}, kernel, before, after)]

    assert codes("", {"f": 1}, {"f": 2}) == []
    assert codes(None, {"f": 3}, {"f": 3}) == []
    assert codes(None, {}, {}) == ["whether the export keeps its type can't be told"]
    assert codes(None, {"f": 1}, {}) == ["whether the export keeps its type can't be told"]
    other = "the export would have another type"
    assert codes(None, {"f": 1}, {"f": 2}) == [
        f"{other} (its CRC would be 0x00000002, the running kernel's is 0x00000001)"
    ]
    assert codes("x", {"f": 3}, {"f": 2}) == [
        f"{other}: x (its CRC would be 0x00000002, of the unpatched source it is 0x00000003)"
    ]
    assert codes("x", {}, {}) == [f"{other}: x"]
    (together,) = judge_exports("u.c", dict.fromkeys("abcdefg", "x"), kernel, {}, {})
    assert (together.code, together.symbol) == ("K8-crc", "a")
    assert together.fact == f"{other}: x; so would 6 more: b, c, d, e, ..."


# -- the whole, on a kernel of one unit -----------------------------------------------------------------------------

UNIT = """
#include "s.h"
#ifdef __GENKSYMS__
#define EXPORT(x) __export(x)
#else
#define EXPORT(x) static const int __ksymtab_##x __attribute__((used)) = 1
#endif
int f(struct s *s, int n) { return s->a + n; }
EXPORT(f);
int g(struct s *s) { return step(s); }
EXPORT(g);
"""
HEADER = """
struct s { int a; long b; };
static inline int step(struct s *s) { return s->a; }
"""
# As genksyms does: the text outside of functions counts, here every line with a prototype or a structure.
GENKSYMS = """#!/usr/bin/env python3
import re, sys, zlib
text = sys.stdin.read()
shapes = "".join(re.findall(r"^struct .*;$", text, re.M))
for name in re.findall(r"__export\\((\\w+)\\)", text):
    line = re.search(rf"^.*\\b{name}\\(.*?\\)(?= {{)", text, re.M)[0]
    print(f"#SYMVER {name} {zlib.crc32((shapes + line).encode()):#010x}")
"""


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    root = tmp_path / "kernel"
    source, build = root / "source", root / "build"
    (source / "drivers").mkdir(parents=True)
    (source / "drivers" / "u.c").write_text(UNIT)
    (source / "drivers" / "s.h").write_text(HEADER)
    genksyms = build / "scripts" / "genksyms" / "genksyms"
    genksyms.parent.mkdir(parents=True)
    genksyms.write_text(GENKSYMS)
    genksyms.chmod(0o755)
    (root / "config").write_text("CONFIG_MODVERSIONS=y\n")
    shape = "struct s { int a; long b; };"
    lines = {"f": "int f(struct s *s, int n)", "g": "int g(struct s *s)"}
    rows = [
        f"{zlib.crc32((shape + line).encode()):#010x}\t{n}\tvmlinux\tEXPORT_SYMBOL\t\n" for n, line in lines.items()
    ]
    (root / "symvers").write_text("".join(rows))
    return Kernel(
        KernelId("test", "1", "1", "00" * 20),
        root,
        source,
        build,
        root / "config",
        root / "symvers",
        empty_vmlinux(root),
        root / "none",
        None,
        root / "none",
        CC,
        "",
    )


def refused(kernel: Kernel, tmp_path: Path, changes: dict[str, tuple[str, str]]) -> list[str]:
    """What is refused for a patch that replaces one text by another in files of the unit."""
    argv = (CC, "-nostdinc", "-O2", "-w", "-c")
    unit = UnitCommand("drivers/u.c", "drivers/u.o", "drivers/u", "u", False, argv, ())
    files = {}
    for name, (old, new) in changes.items():
        before = (kernel.source / "drivers" / name).read_text()
        assert old in before
        files[f"drivers/{name}"] = before.replace(old, new).encode()
    cache = Cache(tmp_path / "cache")
    compiled = compile_units(kernel, [unit], files, cache, SilentProgress())
    exports = parse_symvers(kernel.symvers.read_text())
    found = check_exports(kernel, compiled, files, (), lambda: exports, cache)
    assert {r.code for r in found} <= {"K8-crc"}
    return [f"{r.place}: {r.fact}" for r in found]


MORE = {"u.c": ("struct s *s, int n)", "struct s *s, int n, int m)")}
REUSED = {"s.h": ("long b;", "void *b;")}
NO_CHANGES = {
    "body": {"u.c": ("s->a + n", "s->a - n")},
    "inline": {"s.h": ("return s->a;", "return s->a + 1;")},
    "member_named_anew": {"s.h": ("long b;", "long c;")},
    "macro": {"u.c": ("int f(", "#define MORE 1\nint f(")},
    "include": {"s.h": ("struct s {", "struct more { int x; };\nstruct s {")},
}


@pytest.mark.parametrize("name", NO_CHANGES)
@pytest.mark.parametrize("versions", [True, False])
def test_near_misses_build(kernel: Kernel, tmp_path: Path, name: str, versions: bool) -> None:
    if not versions:
        kernel.config.write_text("")
    assert refused(kernel, tmp_path, NO_CHANGES[name]) == []


def test_the_kernels_own_genksyms_is_asked(kernel: Kernel, tmp_path: Path) -> None:
    (fact,) = refused(kernel, tmp_path, MORE)
    own = parse_symvers(kernel.symvers.read_text())["f"].crc
    assert fact.startswith(
        "drivers/u.c: f: the export would have another type: it takes 3 arguments, it took 2 arguments"
    )
    assert fact.endswith(f", the running kernel's is {own:#010x})")


def test_a_header_alone_changes_exports(kernel: Kernel, tmp_path: Path) -> None:
    (fact,) = refused(kernel, tmp_path, REUSED)
    assert "drivers/u.c: f: the export would have another type: struct s.b is void *, was long int (its CRC" in fact
    assert fact.endswith("so would 1 more: g")


def test_without_crcs_the_structure_tells(kernel: Kernel, tmp_path: Path) -> None:
    kernel.config.write_text("")
    other = "the export would have another type"
    assert refused(kernel, tmp_path, MORE) == [f"drivers/u.c: f: {other}: it takes 3 arguments, it took 2 arguments"]
    assert refused(kernel, tmp_path, REUSED) == [
        f"drivers/u.c: f: {other}: struct s.b is void *, was long int; so would 1 more: g"
    ]


def test_genksyms_is_not_started_for_a_body(kernel: Kernel, tmp_path: Path) -> None:
    """Starting it would fail here, and the type of no export could be told. Without a sandbox, so that it can leave a
    file."""
    kernel = replace(kernel, sandboxed=False)
    (kernel.build / "scripts" / "genksyms" / "genksyms").write_text("#!/bin/sh\ntouch started\n")
    assert refused(kernel, tmp_path, NO_CHANGES["body"]) == []
    assert not (kernel.build / "started").exists()
    refused(kernel, tmp_path, {"s.h": ("long b;", "long c;")})
    assert (kernel.build / "started").exists()
