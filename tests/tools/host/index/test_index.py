# SPDX-License-Identifier: GPL-2.0-or-later
"""The index of a small kernel of our own: vmlinux and two modules that call each other's exports."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import jsonschema
import networkx
import pytest

from kgbuild.callgraph.edge_kinds import EdgeKind
from kgbuild.callgraph.function_facts import compiler_facts
from kgbuild.callgraph.model import CALLEES, CALLERS
from kgbuild.callgraph.traversal import reach, reach_with_ways
from kgbuild.debuginfo.compile_flags import Flag
from kgbuild.diff.ipa_clones import parse_ipa_clones
from kgbuild.errors import UserError
from kgbuild.host.index import writer
from kgbuild.host.index.queries import Index
from kgbuild.host.index.schema import SCHEMA, index_path
from kgbuild.host.index.store import load_index, with_index
from kgbuild.host.system.cache import Cache
from kgbuild.host.system.sealed import seal
from kgbuild.model import Kernel
from kgbuild.pipeline.function_facts import read_facts
from kgbuild.progress import SilentProgress, Task
from kgbuild.report.callgraph import answer_of_calls, graph_json, render_tree, summarise_ways
from kgbuild.report.formats import render
from kgbuild.report.function_facts import facts_json, render_facts
from tests.support.smallkernel import small_kernel

SCHEMA_FOLDER = Path(__file__).resolve().parents[4] / "docs" / "schema"
CORE = """
__attribute__((noipa)) int shared(int x) { return x * 3; }
static __attribute__((noinline)) int show(int x) { return shared(x) + 1; }
static inline int tiny(int x) { return x * 11; }
int open_core(int x) { return show(x) + tiny(shared(x)); }
int ring_b(int x);
__attribute__((noinline)) int ring_a(int x) { return x ? ring_b(x - 1) + 1 : 0; }
__attribute__((noinline)) int ring_b(int x) { return x ? ring_a(x - 2) + 2 : 0; }
void __fentry__(void) {}
"""
OTHER = """
int shared(int);
static __attribute__((noinline)) int show(int x) { return shared(x) + 7; }
int (*handlers[2])(int) = { show, shared };
int open_other(int x) { return show(x) * 2; }
"""
ONE = "int shared(int); int from_two(int); int of_one(int x) { return shared(x) + from_two(x) + 1; }"
TWO = """
__attribute__((noipa)) int from_two(int x) { return x + 5; }
int idle(int x) { return from_two(x) + from_two(x + 1); }
"""
MORE = "int from_two(int);\nint more(void) { return from_two(3); }\n"


class Noting(SilentProgress):
    """Remembers the titles of steps."""

    def __init__(self) -> None:
        self.titles: list[str] = []

    @contextmanager
    def _noted(self, title: str) -> Iterator[Task]:
        self.titles.append(title)
        with super().step(title) as task:
            yield task

    def step(self, title: str, total: float | None = None, unit: str = ""):  # type: ignore[no-untyped-def]
        del total, unit
        return self._noted(title)


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return small_kernel(
        tmp_path / "kernel",
        {"core.c": CORE, "other.c": OTHER},
        {"one": ("fs/one", {"fs/one.c": ONE}), "two-b": ("fs/two-b", {"fs/two.c": TWO, "fs/more.c": MORE})},
        {"shared": "vmlinux", "from_two": "fs/two-b"},
    )


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def index(kernel: Kernel, cache: Cache) -> Index:
    return load_index(kernel, SilentProgress(), cache)


def callers_of(index: Index, name: str) -> set[tuple[str, str, EdgeKind]]:
    number = index.choose(name).id
    found = [(index.function(e.caller), e.kind) for e in index.callers(number)]
    return {(f.object, f.name, kind) for f, kind in found}


def test_callers_across_objects(index: Index) -> None:
    assert callers_of(index, "shared") == {
        ("vmlinux", "show", EdgeKind.CALL),
        ("vmlinux", "open_core", EdgeKind.CALL),
        ("one", "of_one", EdgeKind.CALL),
    }
    # an export of a module that is read after the one that uses it, and a call within one section of a module
    assert callers_of(index, "from_two") == {
        ("one", "of_one", EdgeKind.CALL),
        ("two_b", "idle", EdgeKind.CALL),
        ("two_b", "more", EdgeKind.TAIL_CALL),
    }


def test_callers_by_function(index: Index) -> None:
    number = index.choose("from_two").id
    count, first = index.callers_by_function(number, taken=False, limit=2)
    assert count == 3 and len(first) == 2
    (idle,) = [n for n in first if index.function(n).name == "idle"]
    assert [kind for _, kind in first[idle]] == [EdgeKind.CALL, EdgeKind.CALL]
    assert index.callers_by_function(number, taken=False)[1].keys() == {e.caller for e in index.callers(number)}
    assert index.callers_by_function(number, taken=True) == (0, {})


def test_each_place_is_evidence(index: Index) -> None:
    idle, target = index.choose("idle"), index.choose("from_two")
    places = [e.offset for e in index.callees(idle.id) if e.callee == target.id]
    assert len(places) == 2 and 0 < places[0] < places[1] < idle.size


def test_names_positions_units(index: Index) -> None:
    found = index.functions_named("show")
    assert [f.unit for f in found] == ["core.c", "other.c"]
    for position, function in enumerate(found, 1):
        (name,) = index.aliases(function.id)
        assert (name.sympos, name.bind, name.exported) == (position, "local", False)
        assert index.choose(f"show,{position}") == function
        assert index.choose(f"show@{function.unit}") == function
        assert index.function_at("vmlinux", function.address + function.size - 1) == function
        assert index.trace_site(function.id) == 0
    assert index.aliases(index.choose("shared").id)[0].exported
    assert index.function_at("vmlinux", 0x1234) is None


def test_unit_of_a_module_with_several(index: Index) -> None:
    assert index.unit_of(index.choose("of_one").id) == "fs/one.c"
    function = index.choose("from_two@two_b")
    assert function.unit == ""
    assert index.candidate_units(function.id) == ["fs/more.c", "fs/two.c"]
    # a prototype and a call in the other file are no definition
    assert index.unit_with_evidence(function.id) == ("fs/two.c", "the text of the module's sources")


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("shaerd", ["nearest: shared"]),
        ("show", ["2 functions have this name", "show,1", "other.c"]),
        ("show,9", ["show,1", "show,2"]),
        ("show@nowhere.c", ["core.c", "other.c"]),
        ("show,x", ["is no position"]),
        ("tiny", ["no body of its own", "inlined into open_core (core.c)"]),
        ("tiny@core.c", ["inlined into open_core (core.c)"]),
        ("tiny@other.c", ["no function of that name"]),
    ],
)
def test_names_that_choose_nothing(index: Index, name: str, texts: list[str]) -> None:
    with pytest.raises(UserError) as error:
        index.choose(name)
    assert error.value.exit_code == 2
    assert all(text in str(error.value) for text in texts), str(error.value)


def test_who_holds_an_address(index: Index) -> None:
    (taker,) = index.address_takers(index.choose("show@other.c").id)
    assert (taker.object, taker.name, taker.offset) == ("vmlinux", "handlers", 0)


def test_facts(index: Index, kernel: Kernel) -> None:
    facts = read_facts(index, kernel, index.choose("show@other.c"))
    assert facts.traceable and not facts.exported and facts.why_not_redirectable == ""
    assert [(h.name, h.offset) for h in facts.holders] == [("handlers", 0)]
    assert [c.name for c in facts.callers] == ["open_other"]
    text = "\n".join(render_facts(facts))
    assert "position 2" in text and "handlers" in text
    assert json.loads(json.dumps(facts_json(facts)))["function"]["name"] == "show"
    # no build has compiled its unit: that is said, and nothing is compiled for it
    assert facts.compiler is None and "no build has compiled its unit yet" in text
    dump = parse_ipa_clones("Callgraph clone;show;1;a.c;1;1;open_other;2;a.c;1;1;inlining to\n")
    flags = (Flag("-pg", "profiled", "DW_AT_producer"),)
    known = replace(facts, compiler=compiler_facts(dump, ["show"], flags, [("a.c", 9, "HERE")]))
    text = "\n".join(render_facts(known))
    assert "into open_other (.ipa-clones)" in text and "-pg  profiled (DW_AT_producer)" in text
    assert "a.c:9: HERE" in text
    assert json.loads(json.dumps(facts_json(known)))["compiler"]["into"] == ["open_other"]


def test_a_cycle_ends_and_depth_bounds(index: Index) -> None:
    root = index.choose("ring_a").id
    found = reach(index, root, CALLERS, 50, 0)
    assert {f.name for f in found.functions.values()} == {"ring_a", "ring_b"}
    assert found.complete and not networkx.is_directed_acyclic_graph(found.digraph())
    tree = list(render_tree(found, unicode=False))
    assert len(tree) == 3 and tree[-1].endswith("(again)") and all(line.isascii() for line in tree)
    far = reach(index, index.choose("shared").id, CALLERS, 1, 0)
    assert {f.name for f in far.functions.values()} == {"shared", "show", "open_core", "of_one"}


def test_bounded_output_says_so(index: Index) -> None:
    found = reach(index, index.choose("shared").id, CALLERS, 3, 1)
    assert len(found.functions) == 2 and not found.complete
    assert found.uncut[found.root] == 4
    lines = list(render_tree(found, unicode=True))
    assert "called by 4 functions" in lines[0]
    assert any("3 more: --limit 0 shows all" in line for line in lines)
    assert graph_json(found)["complete"] is False


def test_who_can_reach_a_function(index: Index) -> None:
    """Callers, and what no call shows: data that holds an address, an export, nothing at all."""
    found = reach_with_ways(index, index.choose("show@other.c").id, 6, 0)
    names = {found.functions[n].name: [(w.kind, w.place) for w in ways] for n, ways in found.ways.items()}
    assert names == {"show": [("pointer", "handlers+0x0")]}
    assert [found.functions[n].name for n in found.ends] == ["open_other"] and not found.further
    text = "\n".join(render_tree(found, unicode=False))
    assert "* its address is in handlers+0x0  vmlinux" in text and text.isascii()
    assert summarise_ways(found) == "ways in beside calls: 1 pointer; no way in is known to open_other"
    dot = render(answer_of_calls(found), "dot")
    assert '[label="handlers+0x0"' in dot and '[label="pointer"' in dot
    graph = found.digraph()
    assert graph.edges["vmlinux:handlers+0x0", found.root]["kinds"] == ["pointer"]
    shared = reach_with_ways(index, index.choose("shared").id, 1, 0)
    assert ("export", "shared") in {(w.kind, w.place) for w in shared.ways[shared.root]}
    assert {shared.functions[n].name for n in shared.further} == {"show"} and "not followed" in summarise_ways(shared)
    cut = reach_with_ways(index, index.choose("shared").id, 3, 1)
    assert "--limit" in summarise_ways(cut)


@pytest.mark.parametrize("limit", [0, 1])
def test_answers_have_their_published_form(index: Index, kernel: Kernel, limit: int) -> None:
    graph, facts = (json.loads((SCHEMA_FOLDER / f"{name}-1.json").read_text()) for name in ("graph", "facts"))
    for name in ("show@other.c", "shared", "ring_a", "of_one"):
        number = index.choose(name).id
        for found in (
            reach(index, number, CALLERS, 3, limit),
            reach(index, number, CALLEES, 3, limit),
            reach_with_ways(index, number, 3, limit),
        ):
            jsonschema.validate(json.loads(json.dumps(graph_json(found))), graph)
        record = facts_json(read_facts(index, kernel, index.choose(name), limit))
        jsonschema.validate(json.loads(json.dumps(record)), facts)


def test_forms_for_other_programs(index: Index, tmp_path: Path) -> None:
    found = reach(index, index.choose("of_one").id, CALLEES, 2, 0)
    path = tmp_path / "g.graphml"
    path.write_text(render(answer_of_calls(found), "graphml"))
    read = networkx.read_graphml(path)
    names = {data["name"] for _, data in read.nodes(data=True)}
    assert names == {"of_one", "shared", "from_two"} and read.number_of_edges() == 2
    dot = render(answer_of_calls(found), "dot")
    assert dot.startswith("digraph") and dot.count(" -> ") == 2 and '"from_two"' in dot
    edges = graph_json(found)["edges"]
    assert all(edge["evidence"].startswith("of_one+0x") for edge in edges)


def test_any_client_opens_it(index: Index) -> None:
    with sqlite3.connect(index.path) as database:
        rows = database.execute("SELECT caller, kind FROM call_list WHERE callee = 'from_two'").fetchall()
        assert ("of_one", "call") in rows
        (address,) = database.execute("SELECT address FROM function_list WHERE name = 'shared'").fetchone()
        assert address.startswith("0xffffffff81")


def change(path: Path, statement: str) -> None:
    database = sqlite3.connect(path)
    database.execute(statement)
    database.commit()
    database.close()
    seal(path)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("version", f"schema {SCHEMA + 1}"),
        ("kernel", "another kernel"),
        ("cut", "damaged"),
        ("garbage", "damaged"),
        ("empty", "damaged"),
    ],
)
def test_an_index_that_is_no_use_is_made_again(kernel: Kernel, cache: Cache, what: str, said: str) -> None:
    load_index(kernel, SilentProgress(), cache)
    path = index_path(kernel)
    data = path.read_bytes()
    match what:
        case "version":
            change(path, f"UPDATE meta SET value = '{SCHEMA + 1}' WHERE key = 'schema'")
        case "kernel":
            change(path, "UPDATE meta SET value = 'other' WHERE key = 'build_id'")
        case "cut":
            path.write_bytes(data[: len(data) // 2])
        case "garbage":
            path.write_bytes(b"x" * len(data))
        case _:
            path.write_bytes(b"")
    noting = Noting()
    index = load_index(kernel, noting, cache)
    assert len(noting.titles) == 1 and said in noting.titles[0]
    assert index.functions_named("shared")
    load_index(kernel, noting, cache)
    assert len(noting.titles) == 1


def test_damage_met_while_reading_is_mended(kernel: Kernel, cache: Cache) -> None:
    load_index(kernel, SilentProgress(), cache)
    path = index_path(kernel)
    data = bytearray(path.read_bytes())
    page = int.from_bytes(data[16:18], "big")
    with sqlite3.connect(path) as database:
        (root,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'calls'").fetchone()
    data[(root - 1) * page : root * page] = b"\xff" * page
    path.write_bytes(data)
    noting = Noting()
    found = with_index(kernel, noting, lambda index: callers_of(index, "from_two"), cache)
    assert len(found) == 3
    assert len(noting.titles) == 1 and "damaged" in noting.titles[0]


def test_a_stopped_run_begins_again(kernel: Kernel, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    read = writer.read_module_bytes

    def stop(path: Path) -> bytes:
        if path.name == "two-b.ko":
            raise KeyboardInterrupt
        return read(path)

    monkeypatch.setattr(writer, "read_module_bytes", stop)
    with pytest.raises(KeyboardInterrupt):
        load_index(kernel, SilentProgress(), cache)
    assert not [path for path in kernel.root.iterdir() if "index" in path.name]
    monkeypatch.setattr(writer, "read_module_bytes", read)
    assert load_index(kernel, SilentProgress(), cache).functions_named("shared")


def index_place(index: Index, number: int) -> str:
    function = index.function(number)
    return f"{function.object}:{function.address:#x}"
