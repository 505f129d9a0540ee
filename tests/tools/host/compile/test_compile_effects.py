# SPDX-License-Identifier: GPL-2.0-or-later
"""Code with the time in it, or for another processor, however it is written; read from gcc's own preprocessor."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from kgbuild.patch.compile_effects import DATE_TIME, EPOCH, find_effects, may_hide, told_by_compiler
from tests.support.toolchain import CC

ORIGINAL = """
/* what the kernel has itself */
#define __no_sse __attribute__((__target__("no-sse")))
__no_sse int old(int a) { return a; }
const char *age = "07:06:43";
"""

TIMES = (
    '#pragma GCC diagnostic ignored "-Wdate-time"\nconst char *f(void) { return __DATE__; }',
    '#pragma GCC diagnostic ignored "-Wdate-time"\nconst char *f(void) { return __TIMESTAMP__; }',
    '_Pragma("GCC diagnostic ignored \\"-Wdate-time\\"") const char *f(void) { return __TIME__; }',
    "#define P(a, b) a##b\nconst char *f(void) { return P(__DA, TE__); }",
    '# 1 "x.h" 3\nconst char *f(void) { return __DATE__; }',
    "#define F __TIME__\n#define G F\nchar g(void) { return G[3]; }",
)
TARGETS = (
    '__attribute__((target("sse2"))) int f(int a) { return a; }',
    '__attribute__((noinline, __target__ ("avx"))) int f(int a) { return a; }',
    'int f(int a) __attribute__((target_clones("avx", "default")));',
    '[[gnu::target("sse2")]] int f(int a) { return a; }',
    '#pragma GCC target("sse2")\nint f(int a) { return a; }',
    '%:pragma GCC target "sse2"\nint f(int a) { return a; }',
    '_Pragma("GCC target(\\"sse2\\")") int f(int a) { return a; }',
    '#define P(a, b) a##b\n__attribute__((P(tar, get)("sse2"))) int f(int a) { return a; }',
    '#define A(x) __attribute__((x))\n#define T target\nA(T("sse2")) int f(int a) { return a; }',
    '__attribute__((\\\ntar\\\nget("sse2"))) int f(int a) { return a; }',
    '__no_sse __attribute__((__target__("no-sse"))) int f(int a) { return a; }',
)
FINE = (
    "int f(int target) { return target; }",
    '/* __attribute__((target("sse2"))) __DATE__ */ int f(int a) { return a; }',
    'const char *f(void) { return "target(\\"sse2\\") __DATE__"; }',
    '#define UNUSED __DATE__ __attribute__((target("sse2")))',
    '#if 0\n#pragma GCC target("sse2")\n__DATE__\n#endif',
    "__attribute__((noinline)) int f(int a) { return a; }",
    "#define P(a, b) a##b\nint P(f, g)(int a) { return a; }",
    'int target(const char *name); int f(int a) { return target("a"); }',
)


def preprocess(text: str, tmp_path: Path) -> bytes:
    (tmp_path / "x.c").write_text(text)
    argv = [CC, "-std=gnu11", "-E", "-Wno-date-time", "x.c"]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": EPOCH}
    return subprocess.run(argv, cwd=tmp_path, env=environment, check=True, capture_output=True).stdout


def effects(added: str, tmp_path: Path) -> list[str]:
    orig, patched = (preprocess(text, tmp_path) for text in (ORIGINAL, ORIGINAL + added + "\n"))
    return [refusal.code for refusal in find_effects("x.c", orig, patched)]


@pytest.mark.parametrize("added", TIMES)
def test_the_time_is_found(added: str, tmp_path: Path) -> None:
    assert "P20-build-time" in effects(added, tmp_path)
    assert may_hide(ORIGINAL.encode(), (ORIGINAL + added).encode())


@pytest.mark.parametrize("added", TARGETS)
def test_another_target_is_found(added: str, tmp_path: Path) -> None:
    assert effects(added, tmp_path) == ["P21-target"]
    assert may_hide(ORIGINAL.encode(), (ORIGINAL + added).encode())


@pytest.mark.parametrize("added", FINE)
def test_what_only_looks_so_is_not_refused(added: str, tmp_path: Path) -> None:
    assert not effects(added, tmp_path)


def test_what_the_kernel_has_itself_is_not_refused(tmp_path: Path) -> None:
    text = preprocess(ORIGINAL, tmp_path)
    assert not find_effects("x.c", text, text)
    assert not may_hide(ORIGINAL.encode(), ORIGINAL.replace("{ return a; }", "{ return a + 1; }").encode())
    # a word in a comment is no word of the code, neither before nor after
    assert may_hide(ORIGINAL.encode() + b"/* pragma */", ORIGINAL.encode() + b"_Pragma(x)")


@pytest.mark.parametrize("name", ["__DATE__", "__TIME__", "__TIMESTAMP__"])
def test_the_compiler_tells_of_the_time(name: str, tmp_path: Path) -> None:
    (tmp_path / "x.c").write_text(f"const char *f(void) {{ return {name}; }}\n")
    done = subprocess.run([CC, DATE_TIME, "-c", "x.c"], cwd=tmp_path, text=True, capture_output=True, check=False)
    assert [(r.code, r.fact) for r in told_by_compiler("x.c", done.stderr)] == [
        ("P20-build-time", f"the code uses {name}")
    ]
    assert not told_by_compiler("x.c", "x.c: error: expected ';'")
