# SPDX-License-Identifier: GPL-2.0-or-later
"""How much code a patch adds is counted in its text, before a compiler takes hours over it."""

from __future__ import annotations

import pytest

from kgbuild.limits import ADDED_FUNCTIONS, NESTING_DEPTH, LimitError
from kgbuild.patch.added_code import CodeSize, check_added_code, measure_code


@pytest.mark.parametrize(
    ("text", "functions", "depth"),
    [
        ("", 0, 0),
        ("int x;\nint f(int a);\n", 0, 1),
        ("int f(void)\n{\n\treturn 1;\n}\n", 1, 1),
        ("int f(a) int a; { }\nint g(void) __init { }\n", 2, 1),
        ("struct s { int a; };\nint x[] = { 1, f(2) };\nenum { A, B };\n", 0, 2),
        ("void f(void) { if (a) b(); if (a) b(); while (a) b(); }", 1, 3),
        ("void f(void) { if (a) b(); else if (c) d(); else e(); }", 1, 6),
        ("void f(void) { if (a) if (b) for (;;) do x(); while (y); }", 1, 6),
        ("void f(void) { if (a) { b(); } else if (c) { d(); } e(); if (a) b(); }", 1, 6),
        ("int f(void) { return a ? b : c ? d : e; }", 1, 3),
        ('#define M(a) { ( ( (\\\n ( (\nint x; // ((((\n/* ((( */ char *s = "(((";\n', 0, 0),
        ("}}}} ))) int f(void) { }", 1, 1),
    ],
)
def test_size(text: str, functions: int, depth: int) -> None:
    assert measure_code(text.encode()) == CodeSize(functions, depth)


DEEP = 2 * NESTING_DEPTH.most


def else_if(count: int) -> bytes:
    return b"void f(void)\n{\n" + b"\tif (a)\n\t\tb();\n\telse\n" * count + b"\t\tc();\n}\n"


def functions(count: int) -> bytes:
    return b"".join(b"int f%d(int a)\n{\n\treturn a;\n}\n" % i for i in range(count))


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        (else_if(DEEP), NESTING_DEPTH),
        (b"int f(void) { return " + b"(" * DEEP + b"1" + b")" * DEEP + b"; }", NESTING_DEPTH),
        (b"int f(void) { return " + b"a ? b : " * DEEP + b"1; }", NESTING_DEPTH),
        (b"int f(void)" + b"{" * DEEP + b"}" * DEEP, NESTING_DEPTH),
        (functions(ADDED_FUNCTIONS.most + 1), ADDED_FUNCTIONS),
    ],
)
def test_too_much_is_refused_by_the_name_of_its_limit(text: bytes, limit: object) -> None:
    with pytest.raises(LimitError) as caught:
        check_added_code({"fs/x.c": (b"int x;\n", b"int x;\n" + text, len(text))})
    assert caught.value.limit in str(caught.value) and caught.value.place == "fs/x.c"
    assert caught.value.limit == getattr(limit, "name", None)
    # what was there before is not the patch's
    check_added_code({"fs/x.c": (text, text + b"int x;\n", 1 << 20)})


def test_functions_of_all_files_count_together() -> None:
    half = functions(ADDED_FUNCTIONS.most // 2 + 1)
    check_added_code({"a.c": (b"", half, len(half))})
    with pytest.raises(LimitError, match="added-functions"):
        check_added_code({name: (b"", half, len(half)) for name in ("a.c", "b.c")})
