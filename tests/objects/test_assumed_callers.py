# SPDX-License-Identifier: GPL-2.0-or-later
"""Exported functions that can't be redirected: their known callers come along where the user takes it that there are no
others, and the module says which functions those are."""

from __future__ import annotations

import pytest

from kgbuild import module_abi as abi
from kgbuild.callgraph.edge_kinds import EdgeKind
from kgbuild.closure.model import Closure
from kgbuild.diagnostics.refusals import Refused
from kgbuild.elf.read import read
from kgbuild.emit.backends import BACKENDS
from kgbuild.kernel.exports import Export
from kgbuild.kernel.feature_probes import MODULES_REFUSED
from kgbuild.pipeline.stages.assemble import check_assumed
from tests.support.kernel import EXPORTS, GivenGraph, close_units, make_module

BY = "#ifdef PATCHED\n#define BY 5\n#else\n#define BY 3\n#endif\n"
DEEP = BY + "notrace noinline int deep(int x) { barrier(); return source(x) * BY; }"
TOP = "extern int deep(int); noinline int top(int x) { barrier(); return deep(x) + 1; }"
CALLED = GivenGraph({"deep": [("top", "b.c", EdgeKind.CALL)]})


def close_exported(
    texts: dict[str, str], graph: GivenGraph = CALLED, assume: bool = True, names: tuple[str, ...] = ("deep",)
) -> Closure:
    exports = {**EXPORTS, **{name: Export(name, 0, "vmlinux", "EXPORT_SYMBOL", "") for name in names}}
    return close_units(texts, graph, exports=exports, assume_callers=assume)


def refused(closure: Closure) -> list[str]:
    return sorted(f"{r.code}:{r.symbol}" for r in closure.refusals)


def test_without_the_option_it_is_offered() -> None:
    closure = close_exported({"a.c": DEEP, "b.c": TOP}, assume=False)
    (refusal,) = closure.refusals
    assert (refusal.code, refusal.symbol) == ("K4-not-traceable", "deep")
    assert "--assume-in-tree-callers" in refusal.remedy and not closure.assumed


def test_callers_come_along_and_it_is_said() -> None:
    closure = close_exported({"a.c": DEEP, "b.c": TOP})
    assert not closure.refusals
    assert [r.name for r in closure.redirects] == ["top"]
    assert closure.assumed == ("deep",)
    (warning,) = [w for w in closure.warnings if "deep" in w]
    assert warning.startswith("a.c: deep: ") and "--assume-in-tree-callers" in warning


def test_the_module_names_them_for_its_own_init() -> None:
    both = DEEP + "notrace noinline int deeper(int x) { barrier(); return source(x) + BY; }"
    top = TOP + "extern int deeper(int); noinline int over(int x) { barrier(); return deeper(x) + 1; }"
    graph = GivenGraph({"deep": [("top", "b.c", EdgeKind.CALL)], "deeper": [("over", "b.c", EdgeKind.CALL)]})
    closure = close_exported({"a.c": both, "b.c": top}, graph, names=("deep", "deeper"))
    assert closure.assumed == ("deep", "deeper")
    _, module = make_module(closure)
    assert table_names(module) == ["deep", "deeper"]
    _, module = make_module(close_units({"a.c": DEEP, "b.c": TOP}, CALLED, assume_callers=True))
    assert table_names(module) == []


def table_names(module: bytes) -> list[str]:
    """The rows of the table of a module, as its wrapper reads them."""
    obj = read(module)
    found = [s for s in obj.iter_symbols() if s.name == abi.ASSUMED.symbol]
    if not found:
        return []
    section = found[0].shndx
    strings = {offset: (sym, addend) for offset, _, sym, addend in obj.reloc_rows(section)}
    assert found[0].size == abi.ASSUMED.size * (len(strings) + 1)
    out = []
    for offset in sorted(strings):
        sym, addend = strings[offset]
        symbol = next(s for s in obj.iter_symbols() if s.index == sym)
        out.append(bytes(obj.contents(symbol.shndx))[symbol.value + addend :].partition(b"\0")[0].decode())
    return out


@pytest.mark.parametrize("kind", [EdgeKind.STATIC_CALL, EdgeKind.ALTERNATIVE, EdgeKind.ADDRESS_TAKEN])
def test_ways_that_are_no_call_are_refused_all_the_same(kind: EdgeKind) -> None:
    closure = close_exported({"a.c": DEEP, "b.c": TOP}, GivenGraph({"deep": [("top", "b.c", kind)]}))
    assert refused(closure) == ["K4-not-traceable:deep"]
    assert "top reaches it another way" in closure.refusals[0].fact


def test_whose_address_is_held_in_its_own_unit() -> None:
    closure = close_exported({"a.c": DEEP + " int (*const held)(int) = deep;", "b.c": TOP})
    assert refused(closure) == ["K4-not-traceable:deep"]
    assert "held holds its address" in closure.refusals[0].fact


def test_a_caller_that_is_exported_and_not_redirected_either() -> None:
    """Then its callers come along too, and both are named."""
    top = "extern int deep(int); notrace noinline int top(int x) { barrier(); return deep(x) + 1; }"
    over = "extern int top(int); noinline int over(int x) { barrier(); return top(x) + 1; }"
    graph = GivenGraph({"deep": [("top", "b.c", EdgeKind.CALL)], "top": [("over", "c.c", EdgeKind.CALL)]})
    closure = close_exported({"a.c": DEEP, "b.c": top, "c.c": over}, graph, names=("deep", "top"))
    assert not closure.refusals
    assert [r.name for r in closure.redirects] == ["over"]
    assert closure.assumed == ("deep", "top")


def test_callers_in_units_that_are_not_compiled_yet_are_asked_for() -> None:
    closure = close_exported({"a.c": DEEP})
    assert closure.needs == {"b.c": ("top calls deep, which can't be redirected",)}


def test_what_can_be_redirected_needs_nothing() -> None:
    text = BY + "noinline int deep(int x) { barrier(); return source(x) * BY; }"
    closure = close_exported({"a.c": text, "b.c": TOP})
    assert not closure.refusals and closure.assumed == () and [r.name for r in closure.redirects] == ["deep"]


def test_a_back_end_or_kernel_that_can_not_keep_modules_out() -> None:
    closure = close_exported({"a.c": DEEP, "b.c": TOP})
    knows = frozenset({MODULES_REFUSED})
    for backend in BACKENDS.values():
        if backend.wrapper == "main.c":
            check_assumed(closure, backend, knows)
    for backend, features, who in (
        (BACKENDS["klp"], frozenset[str](), "this kernel"),
        (BACKENDS["kgraft"], knows, "kgraft"),
    ):
        with pytest.raises(Refused) as error:
            check_assumed(closure, backend, features)
        (refusal,) = error.value.refusals
        assert refusal.symbol == "deep" and who in refusal.fact
