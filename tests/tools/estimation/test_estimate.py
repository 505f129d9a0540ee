# SPDX-License-Identifier: GPL-2.0-or-later
"""From a change of the text to the functions of a small kernel: by debugging information, and without."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from kgbuild.csource.definitions import read_items
from kgbuild.csource.preprocessor_conditions import Conditions
from kgbuild.estimation.estimate import Estimate, UnitView, estimate
from kgbuild.estimation.source_changes import Change, compare_items, spread
from kgbuild.host.index.queries import Index, read_unit_at
from kgbuild.host.index.store import load_index
from kgbuild.host.kernels.compile_commands import write_units
from kgbuild.host.system.cache import Cache
from kgbuild.model import Kernel, KernelId
from kgbuild.progress import SilentProgress
from kgbuild.report.estimate import render_estimate
from kgbuild.report.formats.dot import render_drawing
from kgbuild.report.formats.graphml import render_graph
from kgbuild.report.patch_graph import draw_patch, graph_of_estimate, graph_of_patch
from tests.support.toolchain import KERNEL_FLAGS, compile_text, run

UNIT = """
#define LIMIT 7
#define TWICE (LIMIT * 2)
#define DEFINE_CALL(name) int do_##name(int x); int call_##name(int x) { return do_##name(x + 1); } int do_##name(int x)
enum level { LOW, HIGH = 5, TOP };
struct pair { int a, b; };
extern int sink(int), outside(int);
int table[2] = { LIMIT, 2 };
static inline __attribute__((always_inline)) int small(int x) { return sink(x) * 3; }
static __attribute__((noinline)) int large(int x) { return sink(x) + sink(x + 1); }
static __attribute__((noinline)) int reads(struct pair *p, int x) { return p->a + sink(x); }
int user(int x) { return small(x) + large(x); }
int limited(int x) { return x > TWICE ? sink(x) : 0; }
int level(int x) { return x == TOP ? sink(1) : 2; }
int pairs(struct pair *p) { return reads(p, p->b); }
__attribute__((noinline, no_instrument_function)) int hidden(int x) { return sink(x) + 4; }
int shows(int x) { return hidden(x) + 1; }
__attribute__((noinline, no_instrument_function)) int deeper(int x) { return sink(x) + 14; }
__attribute__((noinline, no_instrument_function)) int deep(int x) { return deeper(x) + 9; }
int surface(int x) { return deep(x) + 1; }
__attribute__((noinline, no_instrument_function)) int held(int x) { return sink(x) + 24; }
int (*holder)(int) = held;
__attribute__((section(".init.text"))) int starts(int x) { return sink(x); }
DEFINE_CALL(thing) { return sink(x) + 77; }
"""
OTHER = """
__attribute__((noipa)) int sink(int x) { return x; }
int hidden(int);
int outside(int x) { return hidden(x) * 2; }
void __fentry__(void) {}
"""
SOURCE = "unit.c"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    root = tmp_path_factory.mktemp("kernel")
    flags = (*KERNEL_FLAGS, "-fno-optimize-sibling-calls", "-g")
    for name, text in (("unit", UNIT), ("other", OTHER)):
        (root / f"{name}.o").write_bytes(compile_text(text, *flags, name=f"{name}.c"))
    run("ld", "-q", "-Ttext=0xffffffff81000000", "-e", "sink", "-o", "vmlinux", "unit.o", "other.o", cwd=root)
    (root / "symvers").write_text("0x0\toutside\tvmlinux\tEXPORT_SYMBOL\t\n")
    write_units([], root / "units.sqlite")
    kernel = Kernel(
        KernelId("test", "1.0", "1", "00" * 20),
        root,
        root,
        root,
        root / ".config",
        root / "symvers",
        root / "vmlinux",
        root / "bzImage",
        None,
        root / "units.sqlite",
        "gcc",
        "gcc",
    )
    return load_index(kernel, SilentProgress(), Cache(root / "cache"))


def view(index: Index, after: str, *, facts: bool = True) -> UnitView:
    conditions = Conditions({}, False)
    offsets = index.unit_offsets(SOURCE)
    assert len(offsets) == 1
    found, why = read_unit_at(index.kernel, offsets[0])
    assert found is not None, why
    before = tuple(read_items(UNIT.encode(), conditions))
    functions = tuple(index.functions_of("vmlinux", SOURCE))
    assert functions
    items = tuple(read_items(after.encode(), conditions))
    return UnitView(SOURCE, "vmlinux", before, items, functions, found if facts else None)


def place(change: Change) -> tuple[str, str]:
    return SOURCE, f"hunk of {change.name}"


def names(result: Estimate, role: str = "changed") -> list[str]:
    return sorted(t.function.name for t in result.of(role))


Answer = Callable[..., Estimate]


@pytest.fixture(params=[True, False], ids=["debug information", "call graph"])
def answer(request: pytest.FixtureRequest, index: Index) -> Answer:
    """An estimate after the first text was replaced by the second in the unit."""

    def of(old: str, new: str) -> Estimate:
        assert UNIT.count(old) == 1
        return estimate([view(index, UNIT.replace(old, new), facts=request.param)], index, place)

    return of


def test_debugging_information_tells_where_functions_are(index: Index) -> None:
    facts = view(index, UNIT).facts
    assert facts is not None
    lines = {d.name: d.line for d in facts.declared if d.file == SOURCE}
    text = UNIT.splitlines()
    for name in ("small", "large", "user", "starts"):
        assert f" {name}(" in text[lines[name] - 1]
    # both functions of the macro are at its line
    assert lines["do_thing"] == lines["call_thing"] == next(i for i, t in enumerate(text, 1) if "thing" in t)


def test_nothing_changed(answer: Answer) -> None:
    result = answer("int user(int x) { return", "/* said */ int user(int x)\n{\n\treturn")
    assert not result.touched and not result.possible and not result.refusals


def test_a_function_with_a_body(answer: Answer) -> None:
    result = answer("sink(x + 1)", "sink(x + 2)")
    assert names(result) == ["large"]
    assert result.of("changed")[0].reason == "hunk of large"


def test_an_inlined_function_changes_its_holders(answer: Answer) -> None:
    result = answer("sink(x) * 3", "sink(x) * 4")
    assert names(result) == ["user"]
    assert [(name, into.name) for name, into in result.inlined] == [("small", "user")]
    assert result.of("changed")[0].reason == "small is inlined into it: hunk of small"


def test_a_clone_stands_for_its_function(answer: Answer) -> None:
    (clone,) = names(answer("p->a + sink(x)", "p->a + sink(x + 9)"))
    assert clone.startswith("reads.")


def test_a_macro_changes_those_who_use_it(answer: Answer) -> None:
    result = answer("#define LIMIT 7", "#define LIMIT 8")
    assert names(result) == ["limited"]
    assert result.of("changed")[0].reason == "uses macro LIMIT"
    assert [(r.code, r.symbol) for r in result.possible] == [("K1-data", "table")]


def test_an_enumerator_that_moves(answer: Answer) -> None:
    assert names(answer("TOP };", "MIDDLE, TOP };")) == ["level"]
    assert names(answer("TOP };", "TOP, LAST };")) == []


def test_a_function_that_a_macro_makes(index: Index) -> None:
    text = UNIT.replace("sink(x) + 77", "sink(x) + 78")
    by_line = estimate([view(index, text)], index, place)
    # the macro's line is that of both functions it makes, which of them has the body is not in the text
    assert names(by_line) == ["call_thing", "do_thing"]
    by_argument = estimate([view(index, text, facts=False)], index, place)
    assert names(by_argument) == ["call_thing", "do_thing"]


def test_types_and_data_may_be_refused(answer: Answer) -> None:
    grown = answer("int a, b;", "int a, b, c;")
    assert [(r.code, r.place) for r in grown.possible] == [("K9-type-layout", "unit.c: struct pair")]
    assert [r.code for r in answer("{ LIMIT, 2 }", "{ LIMIT, 3 }").possible] == ["K1-data"]


def test_what_cannot_be_redirected_pulls_its_callers(answer: Answer) -> None:
    result = answer("sink(x) + 4;", "sink(x) + 5;")
    assert names(result) == ["hidden"]
    # in its own unit and in another
    assert names(result, "pulled") == ["outside", "shows"]
    assert {t.via for t in result.of("pulled")} == {t.function.id for t in result.of("changed")}
    assert not result.refusals


def test_to_the_fixed_point(answer: Answer) -> None:
    result = answer("sink(x) + 14", "sink(x) + 15")
    assert names(result) == ["deeper"] and names(result, "pulled") == ["deep", "surface"]


def test_a_pointer_is_a_refusal(answer: Answer) -> None:
    result = answer("sink(x) + 24", "sink(x) + 25")
    assert [r.code for r in result.refusals] == ["K4-not-traceable"]
    assert "holder" in result.refusals[0].fact


def test_init_code_is_a_refusal(index: Index) -> None:
    text = UNIT.replace("int starts(int x) { return sink(x)", "int starts(int x) { return 1 + sink(x)")
    result = estimate([view(index, text)], index, place)
    assert [(r.code, r.symbol) for r in result.refusals] == [("K3-init", "starts")]
    assert not estimate([view(index, text)], index, place, ignore_init=True).touched


def test_new_and_gone(answer: Answer) -> None:
    result = answer("int user(int x) {", "static int fresh(int x) { return sink(x); }\nint user(int x) {")
    assert result.new == [("fresh", "unit.c")] and not result.touched
    gone = answer("int surface(int x) { return deep(x) + 1; }\n", "")
    assert gone.removed == [("surface", "unit.c")] and not gone.touched
    assert [r.code for r in gone.possible] == ["K14-vanished"]


def test_what_it_refers_to(answer: Answer) -> None:
    result = answer("return hidden(x) + 1;", "return hidden(x) + 1 + outside(x);")
    assert {(r.name, r.how) for r in result.references} == {("hidden", "local"), ("outside", "export")}


def test_dead_code_is_not_inlined(index: Index) -> None:
    """Where there is no debugging information, none of what it calls shows that a function is not there."""
    calls = "static int gone(int x) { return large(x) + hidden(x) + level(x); }\n"
    dead = calls + "int user(int x) { if (0) return gone(x); return"
    unit = view(index, UNIT, facts=False)
    before = UNIT.replace("int user(int x) { return", dead)
    other = before.replace("gone(int x) { return large(x)", "gone(int x) { return pairs(0)")
    sides = [
        tuple(read_items(text.encode(), Conditions({}, False))) for text in (other, other.replace("+ hid", "- hid"))
    ]
    assert names(estimate([replace(unit, orig=sides[0], patched=sides[1])], index, place)) == []


def test_items_are_paired_by_name_and_tokens() -> None:
    def items(text: str) -> list:  # type: ignore[type-arg]
        return read_items(text.encode(), Conditions({}, False))

    before = items("int f(void) { return 1; }\nint g(void) { return 2; }\n#define A 1\n#define B A\n")
    after = items(
        "int g(void) { return 2; }\nint f(const void) { return 3; }\nint h(void) { }\n#define A 2\n#define B A\n"
    )
    found = [(c.status, c.kind, c.name) for c in compare_items(before, after)]
    assert found == [("changed", "function", "f"), ("new", "function", "h"), ("changed", "macro", "A")]
    assert set(spread(compare_items(before, after), before)) == {"A", "B"}
    same = items("int f(void) { const int x = 1; return x; }"), items("int f(void) { int x = 1; return x; }")
    assert compare_items(*same) == []


def test_lines_and_graphs(index: Index) -> None:
    text = UNIT.replace("sink(x) + 14", "sink(x) + 15").replace("sink(x) * 3", "sink(x) * 4")
    result = estimate([view(index, text)], index, place)
    lines = list(render_estimate(result, 0.94, unicode=False, every=False))
    assert lines[0] == "estimate from the kernel's debug information (0.9 s; compile for the exact answer)"
    assert lines[1] == "2 functions to patch, 2 pulled in, 0 refused"
    assert [line.split()[1] for line in lines[2:4]] == ["deeper", "`-"]
    at = next(i for i, line in enumerate(lines) if "surface" in line)
    assert lines[at].startswith("|     `- surface")
    assert "small is inlined into: user (vmlinux)" in "\n".join(lines)
    graph = graph_of_estimate(result)
    assert {(n.name, n.role) for n in graph.nodes} >= {("small", "source"), ("user", "changed"), ("deep", "pulled")}
    ids = {n.id for n in graph.nodes}
    assert len(ids) == len(graph.nodes) and all({a.source, a.target} <= ids for a in graph.arrows)
    assert 'label="small' in "\n".join(render_drawing(draw_patch(graph)))
    assert "surface" in "\n".join(render_graph(graph_of_patch(graph)))


def test_long_lists_are_cut(index: Index) -> None:
    result = estimate([view(index, UNIT.replace("#define LIMIT 7", "#define LIMIT 8"))], index, place)
    result.new += [(f"f{i}", SOURCE) for i in range(12)]
    shown = "\n".join(render_estimate(result, 0.1, unicode=True, every=False))
    assert "f7, 4 more: --all" in shown
    assert "f11" in "\n".join(render_estimate(result, 0.1, unicode=True, every=True))
