# SPDX-License-Identifier: GPL-2.0-or-later
"""Patches that want to read what is not theirs, or to take all of the machine: each ends with one clear error within
its limit, shows nothing of a file outside, and leaves nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.booting.cases import kgbuild

TOKEN = "4711-is-the-secret-of-this-machine"
HEAD = "--- a/fs/proc/version.c\n+++ b/fs/proc/version.c\n@@ -1,2 +1,{count} @@\n // SPDX-License-Identifier: GPL-2.0\n"
JOIN = ["#define P(a, b) a##b", "#define S(x) #x", "#define X(x) S(x)"]
DOUBLING = [f"#define D{n + 1} {' '.join([f'D{n}'] * 8)}" for n in range(9)]
# name -> (lines that are added, what is said, the exit status)
CASES: dict[str, tuple[list[str], str, int]] = {
    "incbin": (['asm(".incbin \\"{secret}\\"");'], "the assembler would read a file", 1),
    "incbin pasted by macros": ([*JOIN, 'asm("." X(P(inc,bin)) " \\"{secret}\\"");'], "not found", 1),
    "include of the assembler, pasted": ([*JOIN, 'asm("." X(P(inc,lude)) " \\"{secret}\\"");'], "open", 1),
    "include made by an assembler's macro": (
        ['asm(".macro m a b\\n.\\\\a\\\\b \\"{secret}\\"\\n.endm\\nm incl ude");'],
        "open",
        1,
    ),
    "a path": (['#include "{secret}"'], "absolute path", 1),
    "a path by a macro": (['#define F "{secret}"', "#include F"], "only the preprocessor knows", 1),
    "a directive with an escape": (['#\\u0069nclude "{secret}"'], "not a valid universal character", 1),
    "a pragma made by a macro": (["#define Q(x) _Pragma(#x)", 'Q(GCC dependency "{secret}")'], "No such file", 1),
    "whether a file is there": (
        ["#define H(a, b) a##b", '#if H(__has_,include)("{secret}")', "#error it is there", "#endif"],
        "",
        4,
    ),
    "a line of another file, warned of": (['#line 1 "{secret}"', "#warning look"], "absolute path", 1),
    "a line of another file, an error": (['# 1 "{secret}"', "int x = not_there;"], "absolute path", 1),
    "a line number by a macro": (['#define L 1 "{secret}"', "#line L"], "only the preprocessor knows", 1),
    "embed": (["const char e[] = {{", '#embed "{secret}"', "}};"], "absolute path", 1),
    "a trace header": (
        [
            "#define TRACE_INCLUDE_PATH {folder}",
            "#define TRACE_INCLUDE_FILE secret",
            "#define CREATE_TRACE_POINTS",
            "#include <trace/define_trace.h>",
        ],
        "No such file",
        1,
    ),
    "a header of a header": (
        ['#define GENL_MAGIC_INCLUDE_FILE "{secret}"', "#include <linux/genl_magic_struct.h>"],
        "P10-compile",
        1,
    ),
    "a FIFO by a macro": ([*JOIN, 'asm("." X(P(inc,bin)) " \\"{fifo}\\"");'], "not found", 1),
    "a device by a macro": ([*JOIN, 'asm("." X(P(inc,bin)) " \\"/dev/zero\\"");'], "unable to include", 1),
    "the environment": ([*JOIN, 'asm("." X(P(inc,bin)) " \\"/proc/self/environ\\"");'], "", 1),
    "itself": (['#include "version.c"'], "include nested depth", 1),
    "macros that double": (["#define D0 +1", *DOUBLING, "int z = 0 D9;"], "limit", 1),
    "two gigabytes": (['asm(".pushsection .data\\n.skip 2000000000\\n.popsection");'], "limit compile-output", 1),
    "three gigabytes": (["char big[3000000000UL];"], "can't be used", 1),
    "a loop of the assembler": (['asm(".rept 100000000\\n.quad 1\\n.endr");'], "limit", 1),
}


@pytest.fixture
def secret(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "theirs"
    folder.mkdir()
    path = folder / "secret"
    path.write_text(f"{TOKEN}\n")
    (folder / "secret.h").write_text(f"#error {TOKEN}\n")
    os.mkfifo(folder / "fifo")
    yield path


@pytest.mark.parametrize("name", CASES)
def test_ends_with_one_error_and_reads_nothing(name: str, secret: Path, kernel_name: str, tmp_path: Path) -> None:
    lines, said, status = CASES[name]
    names = {"secret": secret, "fifo": secret.parent / "fifo", "folder": secret.parent}
    added = [f"+{line.format(**names)}\n" for line in lines]
    patch, module = tmp_path / "x.patch", tmp_path / "livepatch-x.ko"
    patch.write_text(HEAD.format(count=len(added) + 2) + "".join(added) + " #include <linux/fs.h>\n")
    ran = kgbuild("build", patch, "--kernel", kernel_name, "-o", module, "--compile-timeout", "30", "--offline")
    everything = ran.stdout + ran.stderr
    assert ran.status == status, everything
    assert said in everything
    assert TOKEN not in everything and "Traceback" not in everything and os.environ["PATH"] not in everything
    assert sorted(p.name for p in tmp_path.iterdir()) == ["theirs", "x.patch"]
