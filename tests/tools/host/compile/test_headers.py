# SPDX-License-Identifier: GPL-2.0-or-later
"""Which units a changed header concerns: on a small kernel tree, against preprocessing and compiling everything."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from kgbuild.arch import default_arch
from kgbuild.csource.header_impact import changed_names, read_pieces
from kgbuild.csource.include_graph import (
    ANGLED,
    QUOTED,
    TRACED,
    Include,
    IncludeGraph,
    Resolver,
    read_includes,
    trace_includers,
)
from kgbuild.csource.lexer import read_tokens
from kgbuild.csource.token_equality import same_header
from kgbuild.csource.token_pasting import PasteChain, Pastes, passes_on, read_chains, read_words
from kgbuild.diagnostics.refusals import Refusal
from kgbuild.errors import ToolError
from kgbuild.host.compile import preprocess, unit_selection
from kgbuild.host.compile.candidate_search import Selection, exceeds
from kgbuild.host.compile.overlay import Overlay, make_overlay
from kgbuild.host.compile.preprocess import Trees, differs
from kgbuild.host.kernels.compile_commands import write_units
from kgbuild.model import Kernel, KernelId, UnitCommand
from tests.support.header_changes import choose, compiled, compiler_proper
from tests.support.store import program, stored
from tests.support.toolchain import CC, empty_vmlinux


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ("int a; /* x */\n", "int a;\n\n// y\n", True),
        ("#define A 1 /* x\n y */\n", "#define A \\\n 1\n", True),
        ("#define f(x) 1\n", "#define f (x) 1\n", False),
        ("int a;\n#line 7\nint b;\n", "int a;\nint b;\n", True),
        ("f(a,\n#line 7\nb)\n", "f(a,\nb)\n", True),
        ("#define A 1\n#line 2\nint a;\n", "#define A 1\nint a;\n", True),
        ("a(b,c)\n", "a(b, c)\n", False),
        ("a(b,\n c)\n", "a(b, c)\n", True),
        ("- -x\n", "--x\n", False),
        ('"//" a\n', '"//" b\n', False),
        ("#if A\nint a;\n#endif\n", "#if B\nint a;\n#endif\n", False),
    ],
)
def test_same_header(before: str, after: str, same: bool) -> None:
    assert same_header(before.encode(), after.encode()) is same


def test_includes_are_found_however_they_are_written() -> None:
    text = b"""
#include <linux/a.h>
 # include "b.h" // c
/* x */ #include "c.h"
#inc\\
lude <d.h>
#define TRACE_INCLUDE_FILE sched
#define NAME "e.h"
#include NAME
#if 0
#include_next <f.h>
#endif
"""
    found = {(i.form, i.name) for i in read_includes(text)}
    assert found == {
        (ANGLED, "linux/a.h"),
        (QUOTED, "b.h"),
        (QUOTED, "c.h"),
        (ANGLED, "d.h"),
        (TRACED, "sched"),
        (QUOTED, "e.h"),
        (ANGLED, "f.h"),
    }


def test_names_are_resolved_as_the_compiler_does() -> None:
    files = ["include/linux/a.h", "fs/a.h", "fs/x/x.c", "arch/x86/include/asm/a.h", "./include/generated/a.h"]
    resolver = Resolver(files, ["include", "arch/x86/include", "./include", "fs"])
    assert resolver.resolve("fs/x.c", Include(QUOTED, "a.h")) == ("fs/a.h",)
    assert resolver.resolve("fs/x/x.c", Include(QUOTED, "../a.h")) == ("fs/a.h",)
    assert resolver.resolve("fs/x/x.c", Include(ANGLED, "linux/../linux/a.h")) == ("include/linux/a.h",)
    assert resolver.resolve("fs/x.c", Include(ANGLED, "a.h")) == ("fs/a.h",)
    assert resolver.resolve("fs/x.c", Include(ANGLED, "generated/a.h")) == ("./include/generated/a.h",)
    assert len(resolver.resolve("fs/x.c", Include(TRACED, "a"))) == 4
    graph = IncludeGraph({"fs/x/x.c": (Include(QUOTED, "../a.h"),)})
    above = trace_includers(graph, resolver, ["fs/a.h"])
    assert above.files == {"fs/a.h", "fs/x/x.c"}
    assert above.climbing == {"fs/x"}
    # `#define TRACE_INCLUDE_PATH ../../fs` climbs from where the #include of it is
    traced = trace_includers(IncludeGraph({"fs/x.c": (Include(TRACED, "a"),)}), resolver, ["fs/a.h"])
    assert traced.climbing == {"include/trace"}
    assert not trace_includers(IncludeGraph({"fs/x.c": (Include(TRACED, "b"),)}), resolver, ["fs/a.h"]).climbing


HEADER = b"""
#ifndef A_H
#define A_H
struct s { int a; };
struct t;
extern int counter;
int plain(struct s *s, int);
static inline int f(struct s *s)
{
#ifdef X
	return 1;
#endif
	return s->a;
}
#define TWICE(x) (f(x) * 2)
static DEFINE_THING(foo);
static inline MAKE(foo) { return 1; }
int shared(void) { return 2; }
#endif
"""


def test_pieces() -> None:
    pieces = read_pieces(HEADER)
    assert pieces is not None
    named = [(p.kind, sorted(p.names)) for p in pieces if p.names]
    assert named == [
        ("macro", [b"A_H"]),
        ("type", [b"s"]),
        ("type", [b"counter"]),
        ("declaration", [b"plain"]),
        ("function", [b"f"]),
        ("macro", [b"TWICE"]),
    ]
    assert read_pieces(b"#ifdef A\nint f(void) {\n#else\nint g(void) {\n#endif\n}\n") is None


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        (b"s->a;", b"s->a + 1;", {b"f"}),
        (b"* 2)", b"* 3)", {b"TWICE"}),
        (b"int plain", b"#define NEW 1\nint plain", {b"NEW"}),
        (b"int a;", b"int a, b;", {b"s"}),
        (b"MAKE(foo) { return 1", b"MAKE(foo) { return 3", None),
        (b"{ return 2; }", b"{ return 3; }", None),
        (b"#ifdef X\n", b"#ifdef Y\n", {b"f"}),
        (b"#define TWICE", b"#ifdef NEW\n#define TWICE", None),
        (b"#define TWICE", b"#ifdef NEW\nint g(int);\n#else\nstruct g;\n#define g(x) 0\n#endif\n#define TWICE", {b"g"}),
        (b"#define TWICE", b"#ifdef NEW\nextern int g;\n#endif\n#define TWICE", {b"g"}),
        (b"#endif\n", b"#ifdef A\n#define B 1\n#endif\n#endif\n", {b"B", b"f"}),
        (b"#ifndef A_H\n", b"#ifdef A\n#define B 1\n#endif\n#ifndef A_H\n", {b"B"}),
        (b"#ifndef A_H\n", b"#ifndef A_H\n#define B 1\n#endif\n#ifndef A_H\n", {b"B"}),  # the diff is shifted
        (b"#ifndef A_H\n", b"#ifndef B_H\n", None),
        (b"struct t;", b"struct t;\nenum e { X, Y = 3 };", {b"e", b"X", b"Y"}),
        (b"struct t;", b"struct t;\nenum e { LIST(X) };", None),
        (b"struct t;", b"struct t;\nenum e {\n#ifdef X\n X,\n#endif\n};", None),
        (b"struct t;", b"struct t;\ntypedef struct t *t_p;\nextern struct t *ts[];", {b"t_p", b"ts"}),
        (b"struct t;", b"struct t;\nextern DECLARE(a, b);", None),
        (b"struct t;", b"struct t;\nstruct u { struct_group_tagged(v, w, int a;); } __packed;", None),
        (b"struct t;", b"struct t;\nstruct u { int (*f)(void); struct v { int b; } w; } __packed;", {b"u", b"v"}),
        (b"struct t;", b"struct t;\nstruct u { int a; } w;", None),
        (b"struct t;", b"struct t;\nextern int memcpy_size; extern void *memcpy;", None),
    ],
)
def test_changed_names(old: bytes, new: bytes, names: set[bytes] | None) -> None:
    assert changed_names(HEADER, HEADER.replace(old, new)) == names


def test_pastes() -> None:
    text = b"#define flag(x) Page##x(p)\n#define GLUE(a, b) a##b\n#define SAME Lock\n"
    words = read_words(text + b"flag(Locked) set_ bit")
    assert {b"Locked", b"flag", b"set_"} <= words and b"x" not in words
    chains = list(read_chains(text))
    assert PasteChain(b"flag", (b"Page", None)) in chains
    pastes = Pastes(chains, [(b"SAME", b"Lock")], words.__contains__)
    assert pastes.making(b"PageLocked") == {
        (b"flag", frozenset({b"Locked"})),
        (b"GLUE", frozenset({b"Page", b"Locked"})),
    }
    assert pastes.making(b"set_bit") == {(b"GLUE", frozenset({b"set_", b"bit"}))}
    assert pastes.making(b"other_bit") == set()
    assert pastes.sources(b"Lock") == {b"Lock", b"SAME"}
    assert passes_on(read_tokens(b"#define A(x) GLUE(x, 1)\n")[1:-1], b"GLUE")
    assert passes_on(read_tokens(b"#define A GLUE\n")[1:-1], b"GLUE")
    assert not passes_on(read_tokens(b"#define A(x) x + GLUE(y, 1)\n")[1:-1], b"GLUE")


def test_a_feature_without_a_name_is_in_no_generated_table() -> None:
    path = "arch/x86/include/asm/cpufeatures.h"
    named = b'#define X86_FEATURE_A ( 7*32+ 1) /* Something */\n#define X86_FEATURE_B ( 7*32+ 2) /* "b" Other */\n'
    hidden = b'#define X86_FEATURE_C ( 7*32+ 3) /* "" Not shown */\n'
    assert not unit_selection._check_scripted(default_arch().platform, {path: named}, {path: named + hidden})
    assert not unit_selection._check_scripted(
        default_arch().platform, {path: named + hidden}, {path: named + hidden.replace(b"3)", b"4)")}
    )
    for other in (named + hidden.replace(b'""', b'"c"'), named.replace(b'"b"', b'""'), named.replace(b"+ 1", b"+ 5")):
        refusals = unit_selection._check_scripted(default_arch().platform, {path: named + hidden}, {path: other})
        assert [r.code for r in refusals] == ["P11-generated"]


# -- a small kernel ------------------------------------------------------------------------------------------------

COMMON = """
#ifndef COMMON_H
#define COMMON_H
#define LIMIT 10
#define page_flag(x) Page##x
#define GLUE_(a, b) a##b
#define GLUE(a, b) GLUE_(a, b)
#define LOCK Locked
struct item { int a; int b; };
int external(int x);
static inline int add(int x)
{
	return x + 1;
}
static inline int twice(int x)
{
	return add(x) * 2;
}
static inline int PageLocked(int x)
{
	return x & 4;
}
#define THRICE(x) (twice(x) + (x))
#define CALL_LOCK(x) page_flag(Locked)(x)
#endif
"""
OTHER = """
#include <linux/common.h>
static inline int limited(int x)
{
	return x < LIMIT ? x : LIMIT;
}
static inline int uses_thrice(int x)
{
	return THRICE(x);
}
"""
BODIES = [
    "int F(int x) { return x; }",
    "int F(int x) { return add(x); }",
    "int F(int x) { return THRICE(x); }",
    "int F(int x) { return limited(x); }",
    "int F(int x) { return page_flag(Locked)(x); }",
    "int F(int x) { return CALL_LOCK(x); }",
    "int F(int x) { return GLUE(ad, d)(x); }",
    "int F(int x) { return GLUE(Page, LOCK)(x); }",
    "int F(struct item *i) { return i->b; }",
    "int F(int x) { return uses_thrice(x); }",
    "#define MINE(x) twice(x)\nint F(int x) { return MINE(x); }",
    "int F(int x) { return external(x); }",
]
TRACING = '#include "trace.h"\nint traces(int x) { return traced(x); }\n'
INCLUDES = ["#include <linux/common.h>", "#include <linux/other.h>", '#include "../deep/local.h"', ""]


TRACER = """
#define STRING_(x) #x
#define STRING(x) STRING_(x)
#define TRACE_INCLUDE(file) STRING(TRACE_INCLUDE_PATH/file.h)
#define TRACE_READ 1
#include TRACE_INCLUDE(TRACE_INCLUDE_FILE)
"""
TRACE = """
#ifndef TRACE_READ
#define TRACE_INCLUDE_PATH ../../drivers/d0
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
#else
static inline int traced(int x) { return x; }
#endif
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Kernel:
    root = tmp_path_factory.mktemp("kernel")
    source, build = root / "source", root / "build"
    files = {
        "include/linux/common.h": COMMON,
        "include/linux/other.h": OTHER,
        "include/linux/first.h": "#define FIRST 1\n",
        "deep/local.h": '#include "inner.h"\n',
        "deep/inner.h": "#include <linux/other.h>\n",
        "include/trace/define_trace.h": TRACER,
        "drivers/d0/trace.h": TRACE,
        "init/main.c": "int main_unit;\n",
    }
    pick = random.Random(1)
    for number in range(2 * len(BODIES)):
        body = BODIES[number % len(BODIES)].replace("F(", f"f{number}(", 1)
        if body.startswith("#define"):
            body = body.replace("int F(", f"int f{number}(")
        include = INCLUDES[0] if number < len(BODIES) else pick.choice(INCLUDES)
        needs_other = "limited" in body or "uses_" in body
        if needs_other or (not include and number % len(BODIES)):
            include = INCLUDES[1 + number % 2]
        files[f"drivers/d{number % 3}/u{number}.c"] = f"{include}\n{body}\n"
    files["drivers/d0/traces.c"] = TRACING
    for name, text in files.items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    build.mkdir()
    argv = (CC, "-I{src}/include", "-include", "{src}/include/linux/first.h", "-O2", "-w", "-c")
    units = [UnitCommand(n, n[:-2] + ".o", n[:-2], "x", False, argv, ()) for n in sorted(files) if n.endswith(".c")]
    write_units(units, root / "units.sqlite")
    (root / "config").write_text("")
    nowhere = root / "none"
    return Kernel(
        KernelId("test", "1", "1", "00" * 20),
        root,
        source,
        build,
        root / "config",
        nowhere,
        empty_vmlinux(root),
        nowhere,
        None,
        root / "units.sqlite",
        CC,
        "",
    )


@pytest.fixture(scope="module", autouse=True)
def _originals_once() -> Iterator[None]:
    """The tree without a patch is the same for all tests: each of its units is preprocessed once."""
    made, known = preprocess._one, dict[tuple[object, ...], bytes | str]()

    def one(trees: Trees, unit: UnitCommand, options: Sequence[str], *, patched: bool) -> bytes | str:
        if patched or str(trees.scratch) in " ".join(options):
            return made(trees, unit, options, patched=patched)
        key = (trees.kernel.source, unit, *options)
        if key not in known:
            known[key] = made(trees, unit, options, patched=False)
        return known[key]

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(preprocess, "_one", one)
        yield


def brute_force(
    kernel: Kernel, selection: Selection, tmp_path: Path, *options: str, among: set[str] | None = None
) -> set[str]:
    """The units, all or `among` these, for which the compiler's output differs. What it makes of a tree is kept."""
    overlay = tmp_path / "overlay"
    real = [str(p.relative_to(kernel.source)) for p in kernel.source.rglob("*") if p.is_dir()]
    make_overlay(kernel.source, selection.files, overlay, real)
    texts = [p for p in sorted(kernel.source.rglob("*")) if p.is_file()]
    out = set()

    states = {}
    for tree in (kernel.source, overlay):
        files = [(str(p.relative_to(tree)), p.read_bytes()) for p in sorted(tree.rglob("*")) if p.is_file()]
        states[tree] = hashlib.sha256(repr(files).encode()).hexdigest()

    def output(tree: Path, name: str) -> bytes:
        key = ("unit", program(compiler_proper()), name, options, states[tree])
        return stored(key, lambda: b"\n".join(compiled(tree, name, options)))

    for path in (p for p in texts if p.suffix == ".c"):
        name = str(path.relative_to(kernel.source))
        if among is not None and name not in among:
            continue
        if output(kernel.source, name) != output(overlay, name):
            out.add(name)
    return out


CHANGES = {
    "inline": {"include/linux/common.h": ("return x + 1;", "return x + 2;")},
    "calling": {"include/linux/common.h": ("return add(x) * 2;", "return add(x) * 4;")},
    "pasted": {"include/linux/common.h": ("return x & 4;", "return x & 8;")},
    "macro": {"include/linux/common.h": ("#define LIMIT 10", "#define LIMIT 11")},
    "alias": {"include/linux/common.h": ("(twice(x) + (x))", "(twice(x) - (x))")},
    "structure": {"include/linux/common.h": ("int a; int b;", "int b; int a;")},
    "traced": {"drivers/d0/trace.h": ("return x; }", "return x + 8; }")},
    "first": {"include/linux/first.h": ("1", "2\nextern int first;")},
    "two": {
        "include/linux/other.h": ("x : LIMIT", "x : -LIMIT"),
        "include/linux/common.h": ("return x & 4;", "return x & 2;"),
    },
}


@pytest.mark.parametrize("name", CHANGES)
def test_no_unit_is_missed(kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Whether units are found by names, as in large changes, or by their tokens."""
    chosen = {}
    for few in (0, 1000):
        monkeypatch.setattr(unit_selection, "FEW", few)
        chosen[few] = choose(kernel, tmp_path, CHANGES[name])
        assert not chosen[few].refusals
    tokens = brute_force(kernel, chosen[0], tmp_path, "-E", "-P")
    assert set(chosen[1000].because) <= tokens
    # where the compiler reads the same, it makes the same
    wanted = brute_force(kernel, chosen[0], tmp_path / "again", among=tokens)
    assert wanted <= set(chosen[0].because) & set(chosen[1000].because)
    if name not in ("structure", "first"):
        assert len(chosen[0].because) < 2 * len(BODIES) + 1


@pytest.mark.parametrize("few", [0, 1000])
def test_nothing_is_compiled_for_nothing(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(unit_selection, "FEW", few)
    path = "include/linux/common.h"
    assert choose(kernel, tmp_path, {path: ("#define LIMIT", "/* c */\n#define LIMIT")}).because == {}
    assert choose(kernel, tmp_path, {path: ("#define LIMIT", "#define NOBODY 1\n#define LIMIT")}).because == {}


@pytest.mark.parametrize(
    ("total", "looked", "found", "limit", "expected"),
    [
        (4000, 0, 0, 100, False),
        (4000, 16, 16, 100, True),  # (1/40) ** 16
        (4000, 16, 4, 100, False),
        (4000, 320, 20, 100, False),
        (4000, 320, 40, 100, True),
        (4000, 1600, 100, 100, False),
        (4000, 1600, 101, 100, True),
        (120, 64, 64, 100, False),  # (5/6) ** 64
        (100, 100, 100, 100, False),
        (10, 8, 4, 3, True),
    ],
)
def test_the_bound_is_said_as_soon_as_it_is_sure(
    total: int, looked: int, found: int, limit: int, expected: bool
) -> None:
    assert exceeds(total, looked, found, limit) is expected


def test_no_selection_within_the_bound_exceeds_it() -> None:
    """In whatever order units come, those with at most `limit` that differ are hardly ever told to be too many."""
    draw = random.Random(1)
    for _ in range(300):
        units = [i < 20 for i in range(draw.randrange(21, 2000))]
        draw.shuffle(units)
        assert not any(exceeds(len(units), n, sum(units[:n]), 20) for n in range(0, len(units), 16))


def test_too_many_units(kernel: Kernel, tmp_path: Path) -> None:
    selection = choose(kernel, tmp_path, CHANGES["structure"], max_units=1)
    (refusal,) = selection.refusals
    assert refusal.code == "P12-too-many-units"
    assert "--max-units" in refusal.remedy and refusal.place == "include/linux/common.h"


def test_new_files(kernel: Kernel, tmp_path: Path) -> None:
    unit = "drivers/d0/u0.c"
    added = {
        "drivers/d0/new/a.c": ("", '#include "b.h"\nint a = B;\n'),
        "drivers/d0/new/b.h": ("", "#define B 1\n"),
        unit: ("int f0", '#include "new/a.c"\nint f0'),
    }
    selection = choose(kernel, tmp_path, added)
    assert selection.because == {unit: "changed"} and not selection.refusals
    del added[unit]
    (refusal,) = choose(kernel, tmp_path, added).refusals
    assert (refusal.code, refusal.place) == ("P6-not-in-kernel", "drivers/d0/new/a.c")


def test_a_new_header_can_hide_another(kernel: Kernel, tmp_path: Path) -> None:
    selection = choose(kernel, tmp_path, {"deep/linux/other.h": ("", "#define LIMIT 3\n")})
    assert selection.because == {}
    hiding = choose(kernel, tmp_path, {"include/linux/new.h": ("", "#define N 3\n")})
    assert hiding.because == {} and not hiding.refusals


def test_a_generated_file_that_is_nowhere(kernel: Kernel, tmp_path: Path) -> None:
    """What is made while a kernel is built can't be read: such a unit is the same only where all else is."""
    source = tmp_path / "source"
    (source / "include").mkdir(parents=True)
    (source / "list.c").write_text('#include <k.h>\nint list[] = {\n#include "made_list"\n};\n')
    (source / "include" / "k.h").write_text("#ifdef __clang__\nint clang;\n#endif\nint gcc;\n")
    unit = UnitCommand("list.c", "list.o", "list", "x", False, (CC, "-I{src}/include", "-c"), ())
    own = replace(kernel, source=source)

    def answer(old: str, new: str) -> bool | Refusal:
        text = (source / "include" / "k.h").read_text()
        assert old in text
        overlay = Overlay(own, {"include/k.h": text.replace(old, new).encode()}, tmp_path / "overlay")
        return differs(Trees(own, overlay, tmp_path), unit)

    assert answer("int clang;", "int other;") is False
    with pytest.raises(ToolError, match="made_list"):
        answer("int gcc;", "#define A 1\nint gcc;")


def test_an_overlay_replaces_what_a_killed_run_left(kernel: Kernel, tmp_path: Path) -> None:
    path = "include/linux/common.h"
    for text in (b"int first;\n", b"int second;\n"):
        make_overlay(kernel.source, {path: text}, tmp_path / "overlay")
        assert (tmp_path / "overlay" / path).read_bytes() == text
    assert (kernel.source / path).read_text() == COMMON
