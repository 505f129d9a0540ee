# SPDX-License-Identifier: GPL-2.0-or-later
"""What gcc says of its own clones: the parser on texts of both forms, damaged ones, and on what this gcc writes."""

from __future__ import annotations

import random

import pytest

from kgbuild.callgraph.function_facts import compiler_facts
from kgbuild.debuginfo.compile_flags import PRODUCER, Flag
from kgbuild.diff.ipa_clones import COPIED, GccFunction, IpaClones, describe, parse_ipa_clones
from kgbuild.host.compile.result_cache import CompiledSide, unpack
from tests.support.toolchain import CC, KERNEL_FLAGS, run, scratch

NEW = """\
Callgraph clone;small;1;u.c;4;19;first;2;u.c;5;5;inlining to
Callgraph clone;first;2;u.c;5;5;outer;9;u.c;9;5;inlining to
Callgraph removal;small;1;u.c;4;19
Callgraph clone;three;4;u.c;7;38;three.constprop.0;13;u.c;7;38;constprop
Callgraph clone;three.constprop.0;13;u.c;7;38;three.constprop.0.isra.0;14;u.c;7;38;isra
Callgraph clone;rec;9;u.c;12;12;rec;16;u.c;12;12;(null)
"""
OLD = """\
Callgraph clone;set.part.3;48;fs/a.c;210;5;<-;set;91;fs/a.c;210;5;optimization:;inlining to
Callgraph removal;set;91;fs/a.c;210;5
Callgraph clone;set;91;fs/a.c;210;5;<-;set.part.3;48;fs/a.c;210;5;optimization:;part
"""


def test_form_of_gcc_7_and_later() -> None:
    found = parse_ipa_clones(NEW)
    assert found.complete and not found.unread
    assert len(found.steps) == 5
    assert found.removed == (GccFunction("small", 1, "u.c", 4, 19),)
    assert describe(found.history("three.constprop.0.isra.0")) == (
        "three.constprop.0 of three (constprop), three.constprop.0.isra.0 of three.constprop.0 (isra)"
    )
    assert [s.result.name for s in found.made_of("three")] == ["three.constprop.0"]
    assert found.inlined_into("small") == ["first", "outer"]
    assert found.inlines("outer") == ["first"]
    assert found.origin("first") is None and found.history("first") == []
    assert [s.kind for s in found.steps if s.source.name == "rec"] == [COPIED]
    assert found.made_of("rec") == []


def test_older_form() -> None:
    found = parse_ipa_clones(OLD)
    assert found.complete and not found.unread
    assert found.inlined_into("set.part.3") == ["set"]
    assert [(s.result.name, s.kind) for s in found.made_of("set")] == [("set.part.3", "part")]
    assert found.removed[0].file == "fs/a.c"


def test_nothing_and_a_file_that_is_cut() -> None:
    assert parse_ipa_clones("") == IpaClones()
    for end in range(1, len(NEW)):
        found = parse_ipa_clones(NEW[:end])
        whole = NEW[:end].count("\n")
        assert len(found.steps) + len(found.removed) == whole, end
        assert found.complete == NEW[:end].endswith("\n")
        assert not found.unread


@pytest.mark.parametrize(
    "line",
    [
        "something else",
        "Callgraph clone;a;1;f.c;1;1;b;2;f.c;1;1",
        "Callgraph clone;a;1;f.c;1;1;b;2;f.c;1;1;",
        "Callgraph clone;a;x;f.c;1;1;b;2;f.c;1;1;isra",
        "Callgraph clone;a;1;f.c;1;1;<-;b;2;f.c;1;1;isra",
        "Callgraph removal;;1;f.c;1;1",
        "Callgraph removal;a;-1;f.c;1;1",
    ],
)
def test_lines_of_no_known_form(line: str) -> None:
    found = parse_ipa_clones(f"{line}\n{NEW}")
    assert found.unread == (1,)
    assert found.steps == parse_ipa_clones(NEW).steps


def test_clones_in_a_circle_end() -> None:
    text = "Callgraph clone;a;1;f;1;1;b;2;f;1;1;isra\nCallgraph clone;b;2;f;1;1;a;1;f;1;1;isra\n"
    assert [s.kind for s in parse_ipa_clones(text).history("a")] == ["isra", "isra"]
    assert parse_ipa_clones(text.replace("isra", "inlining to")).inlined_into("a") == ["b"]


def test_damaged_texts_never_raise() -> None:
    rng = random.Random(7)
    for _ in range(3000):
        text = list(rng.choice((NEW, OLD)))
        for _ in range(rng.randrange(1, 6)):
            at = rng.randrange(len(text))
            text[at : at + rng.randrange(3)] = rng.choice(("", ";", "\n", "\0", "-", "٣", "x"))
        found = parse_ipa_clones("".join(text))
        assert len(found.steps) + len(found.removed) + len(found.unread) <= len("".join(text).split("\n"))
        for step in found.steps:
            found.history(step.result.name)
            found.inlined_into(step.source.name)


def test_facts_of_one_function() -> None:
    flags = (Flag("-pg", "profiled", PRODUCER),)
    c = compiler_facts(parse_ipa_clones(NEW), ["three.constprop.0"], flags, [("u.c", 3, "HERE")])
    assert [(m.name, m.of, m.how) for m in c.made] == [("three.constprop.0", "three", "constprop")]
    assert [(m.name, m.how) for m in c.clones] == [("three.constprop.0.isra.0", "isra")]
    assert c.complete and c.flags == flags and c.optimized == (("u.c", 3, "HERE"),)
    c = compiler_facts(parse_ipa_clones(NEW[:-1]), ["small"], (), (), 1)
    assert (c.into, c.into_count, c.holds_count, c.complete) == (("first",), 2, 0, False)


def test_a_result_is_kept_whole() -> None:
    for clones in ("", NEW, "\udcff;ü"):
        made = CompiledSide(b"\x7fELF\0rest", clones, (("lib/a.c", 7, 'optimize("O3")'),))
        assert unpack(made.packed) == made
    assert unpack(None) is None


UNIT = """
extern int source(int);
struct cfg { int a, b; };
static __attribute__((noinline)) int calc(struct cfg *c, int x) { return source(c->a) * x + source(x); }
static inline int small(int x) { return source(x) + 1; }
int first(struct cfg *c, int x) { return calc(c, x) + small(x); }
int second(struct cfg *c, int x) { return calc(c, x + 2) - small(x + 3); }
static __attribute__((noinline)) int three(int x, int k) { return source(x * k) + source(k); }
int third(int x) { return three(x, 3); }
int fourth(int x) { return three(x + 7, 3); }
"""


def test_what_this_compiler_writes() -> None:
    """And that asking for it changes nothing of the code."""
    folder = scratch() / "ipaclones"
    folder.mkdir(exist_ok=True)
    (folder / "unit.c").write_text(UNIT)
    dump = folder / "dump"
    run(CC, *KERNEL_FLAGS, f"-fdump-ipa-clones={dump}", "-c", "unit.c", "-o", "with.o", cwd=folder)
    run(CC, *KERNEL_FLAGS, "-c", "unit.c", "-o", "without.o", cwd=folder)
    assert (folder / "with.o").read_bytes() == (folder / "without.o").read_bytes()
    found = parse_ipa_clones(dump.read_text())
    assert found.complete and not found.unread
    assert [(s.source.name, s.kind) for s in found.history("calc.isra.0")] == [("calc", "isra")]
    assert [(s.source.name, s.kind) for s in found.history("three.constprop.0")] == [("three", "constprop")]
    assert found.inlined_into("small") == ["first", "second"]
    symbols = run("nm", folder / "with.o")
    assert " t calc.isra.0\n" in symbols and " t three.constprop.0\n" in symbols
