# SPDX-License-Identifier: GPL-2.0-or-later
"""Functions, edges and pointers read from code that gcc made, and from the same code linked without relocations."""

from __future__ import annotations

import subprocess
from collections import Counter

import pytest

from kgbuild.callgraph.edge_kinds import EdgeKind
from kgbuild.callgraph.object_graph import ObjectGraph, read_graph
from kgbuild.callgraph.unit_lookup import units_by_file
from kgbuild.elf.read import read
from tests.support.toolchain import KERNEL_FLAGS, compile_text, pair_flags, run, scratch

CODE = """
struct ops { int (*go)(int); int (*stop)(int); };
int far(int);
int mark(const struct ops *);
extern int counter;
static __attribute__((noinline)) int near(int x) { return far(x) + counter; }
static __attribute__((noinline)) int tail(int x) { counter = x; return near(x); }
static __attribute__((noinline)) int handler(int x) { return x + counter; }
static const struct ops table = { .go = handler, .stop = far };
int both(int x) { return near(x) + tail(x) + near(x + 1); }
int again(int x) { return x > 100 ? far(again(x / 2)) : x; }
int setup(void) { return mark(&table); }
void *pointer(void) { return (void *)handler; }
__attribute__((cold)) int out_of_the_way(int x) { return far(x + 2); }
int likely(int x) { if (__builtin_expect(x == 7, 0)) { out_of_the_way(x); counter++; out_of_the_way(3); } return x; }
"""
FAR = """
int counter;
int far(int x) { return x * 3; }
struct ops;
int mark(const struct ops *o) { return o != 0; }
void __fentry__(void) {}
"""


def object_graph() -> ObjectGraph:
    return read_graph(read(compile_text(CODE, *KERNEL_FLAGS)))


def edges_of(graph: ObjectGraph) -> set[tuple[str, str, str]]:
    """(caller, callee, kind) by name; the callee of another object by its symbol's name."""
    names, e = graph.functions.name, graph.edges
    return {
        (names[a], names[b] if b >= 0 else graph.layout.obj.name_of(s), EdgeKind(k).label)
        for a, b, s, k in zip(e.caller.tolist(), e.callee.tolist(), e.symbol.tolist(), e.kind.tolist(), strict=True)
    }


@pytest.fixture(scope="module")
def linked() -> bytes:
    """Both files linked as vmlinux is, with the relocations kept."""
    folder = scratch() / "linked"
    folder.mkdir(exist_ok=True)
    for name, text in (("unit", CODE), ("far", FAR)):
        (folder / f"{name}.o").write_bytes(compile_text(text, *KERNEL_FLAGS, name=f"{name}.c"))
    run("ld", "-q", "-Ttext=0xffffffff81000000", "-e", "both", "-o", "vmlinux", "unit.o", "far.o", cwd=folder)
    return (folder / "vmlinux").read_bytes()


def test_calls_without_a_relocation_are_found() -> None:
    obj = read(compile_text(CODE, *KERNEL_FLAGS))
    section = obj.section_named(".text")
    assert section is not None
    relocated = {obj.name_of(int(s)) for s in obj.relocs(section.index)["sym"]}
    # that the assembler left none for the local functions is what the test is about
    assert "near" not in relocated
    found = edges_of(object_graph())
    assert {("both", "near", "call"), ("both", "tail", "call"), ("tail", "near", "tail call")} <= found


def test_every_kind_of_edge() -> None:
    found = edges_of(object_graph())
    assert ("near", "far", "call") in found
    assert ("again", "again", "call") in found
    assert ("pointer", "handler", "address taken") in found
    assert ("setup", "mark", "tail call") in found
    assert ("likely", "likely.cold", "split") in found
    assert not any(callee == "__fentry__" for _, callee, _ in found)


def test_each_site_is_an_edge() -> None:
    graph = object_graph()
    names, e = graph.functions.name, graph.edges
    sites = Counter((names[a], names[b]) for a, b in zip(e.caller.tolist(), e.callee.tolist(), strict=True) if b >= 0)
    assert sites["both", "near"] == 2


def test_the_place_is_that_of_the_opcode(linked: bytes) -> None:
    graph = read_graph(read(linked))
    e, place = graph.edges, graph.functions.bodies.place
    opcodes = set()
    for caller, offset, kind in zip(e.caller.tolist(), e.offset.tolist(), e.kind.tolist(), strict=True):
        if kind != EdgeKind.ADDRESS_TAKEN:
            at = int(place[caller]) + offset
            opcodes.add(graph.layout.read(at, at + 1))
    assert b"\xe8" in opcodes
    assert opcodes <= {b"\xe8", b"\xe9", b"\xeb", b"\x0f", *(bytes([b]) for b in range(0x70, 0x80))}


def test_letters_for_xen_are_no_jump() -> None:
    # arch/x86/include/asm/emulate_prefix.h: ud2, "xen"; `x` and `e` would be js +0x65, here into the next function
    text = 'asm(".type a,@function\\na: ud2\\n.ascii \\"xen\\"\\ncpuid\\nret\\n.size a, .-a\\n.skip 94, 0x90\\n");'
    text += 'asm(".type b,@function\\nb: .skip 32, 0x90\\nret\\n.size b, .-b\\n");'
    assert edges_of(read_graph(read(compile_text(text, *KERNEL_FLAGS)))) == set()
    jump = text.replace("ud2", "nop\\n nop")
    assert edges_of(read_graph(read(compile_text(jump, *KERNEL_FLAGS)))) == {("a", "b", "tail call")}


def test_data_that_holds_functions_and_who_hands_it_on() -> None:
    graph = object_graph()
    p, names = graph.pointers, graph.functions.name
    held = {
        (p.name[h], o, names[f] if f >= 0 else graph.layout.obj.name_of(s))
        for h, o, f, s in zip(p.holder.tolist(), p.offset.tolist(), p.function.tolist(), p.symbol.tolist(), strict=True)
    }
    assert held == {("table", 0, "handler"), ("table", 8, "far")}
    users = {(p.name[h], names[f]) for h, f in zip(*(column.tolist() for column in graph.users), strict=True)}
    assert users == {("table", "setup")}


def test_trace_sites() -> None:
    functions = object_graph().functions
    sites = dict(zip(functions.name, functions.trace_site.tolist(), strict=True))
    assert sites["both"] == 0 and sites["near"] == 0
    assert sites["likely.cold"] == -1


def test_linked_with_and_without_relocations_agree(linked: bytes) -> None:
    obj = read(linked)
    graphs = [read_graph(obj, ignore_relocations=ignore) for ignore in (False, True)]
    assert graphs[0].edges.relocated and not graphs[1].edges.relocated
    assert edges_of(graphs[0]) == edges_of(graphs[1])
    assert ("near", "far", "call") in edges_of(graphs[1])
    for graph in graphs:
        names = [graph.functions.name[f] for f in graph.pointers.function.tolist()]
        assert sorted(names) == ["far", "handler"]


def test_calls_are_those_of_objdump(linked: bytes) -> None:
    path = scratch() / "linked" / "vmlinux"
    text = subprocess.run(["objdump", "-d", "--no-show-raw-insn", path], capture_output=True, text=True, check=True)
    expected, here = set(), ""
    for line in text.stdout.splitlines():
        if line.endswith(">:"):
            here = line.split("<")[1].split(">")[0]
        elif "\tcall " in line and "__fentry__" not in line:
            expected.add((here, line.split("<")[1].split(">")[0]))
    found = {(a, b) for a, b, kind in edges_of(read_graph(read(linked))) if kind == "call"}
    assert found == expected and len(found) >= 5


def test_units_of_the_symbol_table(linked: bytes) -> None:
    graph = read_graph(read(linked))
    files, units = units_by_file(graph.layout, graph.functions)
    of = {name: files[u] if u >= 0 else "" for name, u in zip(graph.functions.name, units.tolist(), strict=True)}
    assert of["near"] == "unit.c" and of["handler"] == "unit.c"
    # between two locals of one file
    assert of["far"] == ""


def test_nested_bodies() -> None:
    asm = (
        'asm(".globl outer\\n.type outer,@function\\nouter: nop\\n.globl inner\\ninner: nop\\ncall far\\nret\\n'
        '.size outer, .-outer\\n");'
    )
    graph = read_graph(read(compile_text(asm, *KERNEL_FLAGS)))
    assert sorted(graph.functions.name) == ["inner", "outer"]
    # the call is in the routine, not in the label
    assert edges_of(graph) == {("outer", "far", "call")}


def test_positions_of_one_name(linked: bytes) -> None:
    first, second = (f"static __attribute__((noinline,used)) int same(int x) {{ return x * {n}; }}" for n in (3, 5))
    folder = scratch() / "same"
    folder.mkdir(exist_ok=True)
    for name, text in (("a", first), ("b", second), ("f", FAR)):
        (folder / f"{name}.o").write_bytes(compile_text(text, *KERNEL_FLAGS, name=f"{name}.c"))
    run("ld", "-q", "-Ttext=0xffffffff81000000", "-e", "far", "-o", "v", "a.o", "b.o", "f.o", cwd=folder)
    functions = read_graph(read((folder / "v").read_bytes())).functions
    ranks = [
        int(p) for n, p in zip(functions.symbol_name, functions.symbol_sympos.tolist(), strict=True) if n == "same"
    ]
    assert ranks == [1, 2]


def test_code_without_a_symbol_is_not_passed_over() -> None:
    """It belongs to no function, so no caller can be named; that it is there is known."""
    text = """
        #include "kernel.h"
        noinline int deep(int x) { return source(x) * 3; }
        asm(".section .text.lost, \\"ax\\"\\n\\tcall deep\\n\\tret\\n.text");
    """
    graph = read_graph(read(compile_text(text, *pair_flags())))
    assert [graph.functions.name[i] for i in graph.edges.strays[0].tolist()] == ["deep"]
