# SPDX-License-Identifier: GPL-2.0-or-later
"""C files cut into definitions: shapes that are easy to take for something else."""

from __future__ import annotations

import pytest

from kgbuild.csource.definitions import (
    CALL,
    DECLARATION,
    FUNCTION,
    INCLUDE,
    MACRO,
    OTHER,
    TYPE,
    VARIABLE,
    SourceItem,
    read_items,
)
from kgbuild.csource.preprocessor_conditions import Conditions
from kgbuild.kernel.config import parse_config

CONFIG = parse_config('CONFIG_A=y\nCONFIG_M=m\nCONFIG_HZ=250\nCONFIG_S="x"\n# CONFIG_N is not set\n')


def items(text: str, module: bool = False) -> list[SourceItem]:
    return read_items(text.encode(), Conditions(CONFIG, module))


def shapes(text: str) -> list[tuple[str, str, int, int]]:
    return [(i.kind, i.name, i.start, i.end) for i in items(text)]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("int f(void) { return 1; }", "f"),
        ("static noinline int *f(struct a *p, int (*g)(void)) { }", "f"),
        ("static struct a *f(void) { struct a b = { 1 }; return g(); }", "f"),
        ("struct a f(void)\n{\n}", "f"),
        ("static int __attribute__((noinline, aligned(8))) f(void) { }", "f"),
        ("__attribute__((cold)) static int f(int x) { }", "f"),
        ("static __printf(1, 2) void f(const char *s, ...) { }", "f"),
        ("static int f(void)\n\t__acquires(&lock)\n\t__releases(x)\n{ }", "f"),
        ("int (*f(int x))(void) { }", "f"),
        ("void f(a, b)\n\tint a;\n\tchar *b;\n{\n}", "f"),
        ("int f(a) int a[3]; { }", "f"),
        ("static DEFINE_LOG(x)\nint f(void) { }", "f"),
        ("static u32 __init_or_module f(void) { }", "f"),
        ("asmlinkage __visible void f(struct pt_regs *r) { }", "f"),
        ("static typeof(x) f(void) { }", "f"),
        ("static int f(void) { char c = '{'; return g(\"}{\", '\"') /* } */; }", "f"),
        ("int f(void) {\n#ifdef UNKNOWN\n\tif (a) {\n#else\n\tif (b) {\n#endif\n\t}\n}", "f"),
    ],
)
def test_functions(text: str, name: str) -> None:
    """Each is one function to its end, and what follows is another item."""
    found = items(text + "\nint after;")
    assert [(i.kind, i.name) for i in found] == [(FUNCTION, name), (VARIABLE, "after")]
    assert (found[0].start, found[0].end) == (1, text.count("\n") + 1)


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        ("int f(void);", DECLARATION, "f"),
        ("static int f(int a) __must_check;", DECLARATION, "f"),
        ("extern int x;", DECLARATION, "x"),
        ("struct a;", DECLARATION, "struct a"),
        ("struct a { int x; int (*f)(void); };", TYPE, "struct a"),
        ("struct a { int x; } __packed __aligned(8);", TYPE, "struct a"),
        ("union u { int x; };", TYPE, "union u"),
        ("enum e { A, B = 1 };", TYPE, "enum e"),
        ("typedef int (*fn)(void);", TYPE, "fn"),
        ("typedef struct { int x; } name_t;", TYPE, "name_t"),
        ("static int x = 1;", VARIABLE, "x"),
        ("static int x[3];", VARIABLE, "x"),
        ("static int x __read_mostly;", VARIABLE, "x"),
        ("static const struct ops o = { .f = f, .g = g };", VARIABLE, "o"),
        ("static struct { int x; } s = { 1 };", VARIABLE, "s"),
        ('static const char * const names[] = { [A] = "a;}", };', VARIABLE, "names"),
        ("static DEFINE_PER_CPU(struct a, y) = { 1 };", VARIABLE, "y"),
        ("EXPORT_SYMBOL(f);", CALL, "EXPORT_SYMBOL"),
        ("static DEFINE_MUTEX(m);", CALL, "DEFINE_MUTEX"),
        ("module_param(x, int, 0444);", CALL, "module_param"),
        ("#define F(x) do { \\\n\t(x)++; \\\n} while (0)", MACRO, "F"),
        ("#include <linux/a.h>", INCLUDE, "<linux/a.h>"),
        (";", OTHER, ""),
    ],
)
def test_the_rest(text: str, kind: str, name: str) -> None:
    found = items(text + "\nint after(void) { }")
    assert [(i.kind, i.name) for i in found] == [(kind, name), (FUNCTION, "after")]


def test_functions_that_macros_make() -> None:
    found = items("SYSCALL_DEFINE3(read, unsigned int, fd, char __user *, buf, size_t, count)\n{\n\treturn 0;\n}\n")
    assert [(i.kind, i.name, i.start, i.end) for i in found] == [(FUNCTION, "SYSCALL_DEFINE3", 1, 4)]
    assert found[0].arguments[0] == "read"


def test_lines_through_comments_and_continuations() -> None:
    text = '/* one\n two */\n#define A \\\n 1\n\n// {\nint f(void)\n{ /* } \n*/\n\tg("\\\n");\n}\n'
    assert shapes(text) == [(MACRO, "A", 3, 4), (FUNCTION, "f", 7, 12)]


def test_what_the_configuration_leaves_out() -> None:
    text = "#ifdef CONFIG_A\nint f(void) { return 1; }\n#else\nint f(void) { return 2; }\n#endif\n"
    assert [i.start for i in items(text)] == [2]
    assert [i.start for i in items(text.replace("CONFIG_A", "CONFIG_N"))] == [4]
    # what is not decided counts both ways
    assert [i.start for i in items(text.replace("CONFIG_A", "OTHER"))] == [2, 4]
    inside = (
        "int f(void)\n{\n#if IS_ENABLED(CONFIG_N)\n\tg();\n#elif defined(CONFIG_A)\n\th();\n#else\n\ti();\n#endif\n}\n"
    )
    (f,) = items(inside)
    assert b"h" in f.tokens and b"g" not in f.tokens and b"i" not in f.tokens
    nested = "#ifdef CONFIG_N\n#ifdef OTHER\nint x;\n#else\nint y;\n#endif\n#endif\nint z;\n"
    assert [i.name for i in items(nested)] == ["z"]


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("1", True),
        ("0x0", False),
        ("defined CONFIG_A", True),
        ("!defined(CONFIG_N)", True),
        ("defined(CONFIG_M)", False),
        ("defined(CONFIG_M_MODULE)", True),
        ("IS_ENABLED(CONFIG_M)", True),
        ("IS_BUILTIN(CONFIG_M)", False),
        ("IS_MODULE(CONFIG_M)", True),
        ("IS_REACHABLE(CONFIG_M)", False),
        ("CONFIG_HZ > 100 && CONFIG_HZ <= 250", True),
        ("CONFIG_HZ == 100 || CONFIG_N", False),
        ("CONFIG_N && SOMETHING(1, 2)", False),
        ("SOMETHING || CONFIG_A", True),
        ("SOMETHING || CONFIG_N", None),
        ("CONFIG_A == 1 || SOMETHING", True),
        ("SOMETHING", None),
        ("(1 ? 0 : 1)", False),
        ("2 + 3 - 1 << 1 == 8", True),
        ("defined(MODULE)", False),
        ("", None),
        ("1 1", None),
        ("(((", None),
    ],
)
def test_conditions(condition: str, holds: bool | None) -> None:
    words = [t for _, t, _ in _words(condition)]
    assert Conditions(CONFIG, False).holds(words) is holds


def _words(text: str) -> list[tuple[str, bytes, int]]:
    from kgbuild.csource.definitions import _lines

    return [token for line in _lines(text.encode()) for token in line]


def test_anything_is_read_to_its_end() -> None:
    for text in (
        "int f(void) {",
        "}}}",
        "#if\n#else\n#endif\n#endif",
        '"',
        "'",
        "/*",
        "((((",
        "f(a) int a; int",
        "#define",
        "#",
    ):
        items(text)
