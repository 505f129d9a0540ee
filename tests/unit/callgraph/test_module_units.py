# SPDX-License-Identifier: GPL-2.0-or-later
"""Which unit of a module a function comes from: by the text of the sources, and by the order of the code."""

from __future__ import annotations

import pytest

from kgbuild.callgraph.unit_lookup import BY_ORDER, BY_TEXT, Placed, assign_units


def assigned(texts: dict[str, str], *names: str, section: str = ".text") -> list[str]:
    functions = [Placed(i, section, i * 16, frozenset({name})) for i, name in enumerate(names)]
    found = assign_units(functions, {source: text.encode() for source, text in texts.items()})
    return [found.get(i, ("", ""))[0] for i in range(len(names))]


@pytest.mark.parametrize(
    "text",
    [
        "int f(int x) { return x; }",
        "static struct a *f(int x)\n{\n}",
        "static int\nf(\n\tint x)\n{\n}",
        "int g(int);\nint f(int (*h)(int), int y)\n{\n}",
        "static inline __init long f (void)\n{\n}",
        "__attribute__((noipa)) int f(int x) { return x; }",
        "static int f(int x) __acquires(x)\n{\n}",
    ],
)
def test_definitions(text: str) -> None:
    assert assigned({"a.c": text, "b.c": "int f(int x);\nint k(void) { return f(3); }"}, "f") == ["a.c"]


@pytest.mark.parametrize(
    "text",
    ["int f(int x);", "extern int f(int x),\n\tk(int);", "int k(void)\n{\n\treturn f(3);\n}", "#define f(x) (x)\n"],
)
def test_what_is_no_definition(text: str) -> None:
    assert assigned({"a.c": text, "b.c": ""}, "f") == [""]


def test_defined_twice_is_not_known() -> None:
    both = "static int f(int x) { return x; }"
    assert assigned({"a.c": both, "b.c": both}, "f") == [""]


A = "int a1(void) { }\nint a2(void) { }\nint a3(void) { }\n"
B = "int b1(void) { }\nint b2(void) { }\n"


def test_what_lies_between_two_of_a_unit_is_of_it() -> None:
    texts = {"a.c": A, "b.c": B}
    names = ("made_by_macro", "a1", "made_by_macro", "a2", "between", "b1", "x", "b2", "last")
    assert assigned(texts, *names) == ["", "a.c", "a.c", "a.c", "", "b.c", "b.c", "b.c", ""]
    functions = [Placed(0, ".text", 0, frozenset({"a1"})), Placed(1, ".text", 16, frozenset({"m"}))]
    functions.append(Placed(2, ".text", 32, frozenset({"a2"})))
    found = assign_units(functions, {"a.c": A.encode()})
    assert [found[i][1] for i in range(3)] == [BY_TEXT, BY_ORDER, BY_TEXT]


def test_sections_have_their_own_order() -> None:
    functions = [Placed(0, ".text", 0, frozenset({"a1"})), Placed(1, ".exit.text", 0, frozenset({"m"}))]
    functions.append(Placed(2, ".text", 32, frozenset({"a2"})))
    assert 1 not in assign_units(functions, {"a.c": A.encode()})


def test_a_unit_inside_anothers_piece_was_a_mistake() -> None:
    """The text of b.c seems to define what stands in the middle of a.c's code: that is under an #if there."""
    texts = {"a.c": A.replace("int a2(void) { }", "MACRO(a2) { }"), "b.c": B + "int a2(void) { }"}
    assert assigned(texts, "a1", "a2", "a3", "b1", "b2") == ["a.c", "", "", "b.c", "b.c"]
