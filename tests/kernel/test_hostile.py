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
    "a plugin of the compiler": (['#pragma GCC optimize ("fplugin={secret}")', "#error end"], "bad option", 1),
    "a dump by an option": (
        ['#pragma GCC optimize ("-fdump-tree-all={folder}/dump")', "int q(void) {{ return 1; }}"],
        "",
        4,
    ),
    "precompiled headers": (['#pragma GCC pch_preprocess "{secret}"'], "absolute path", 1),
    "up and down": (['asm(".incbin \\"../../../../../../../../..{secret}\\"");'], "the assembler would read a file", 1),
    "a section's name": (
        ['__attribute__((section(".x\\",\\"a\\"\\n.incbin \\"{secret}\\"\\n#"))) int inj = 1;'],
        "the assembler would read a file",
        1,
    ),
    "a register's name": (
        ['register int inj asm("rax\\n.incbin \\"{secret}\\"");', "int q(void) {{ return inj; }}"],
        "the assembler would read a file",
        1,
    ),
    "a file of the assembler's messages": (['asm(".linefile 1 \\"{secret}\\" 1\\n.err");'], ".err encountered", 1),
    "the terminal": (['asm(".error \\"\\033[2J\\033]0;x\\007\\"");'], "\\x1b[2J", 1),
    "many sections": (
        [
            'asm(".macro mk\\n.pushsection .s.\\\\@,\\"a\\"\\n.byte 1\\n.popsection\\n.endm");',
            'asm(".rept 200000\\nmk\\n.endr");',
        ],
        "sections",
        1,
    ),
    "a build-id of its own": (
        ['asm(".pushsection .note.gnu.build-id,\\"a\\"\\n.long 4,20,3\\n.zero 24\\n.popsection");'],
        "build-id",
        1,
    ),
    "a relocation section by name": (
        ['asm(".pushsection .klp.rela.vmlinux..text,\\"a\\"\\n.zero 48\\n.popsection");'],
        "K2-special",
        1,
    ),
    "more than there is": (['asm(".pushsection .bss\\n.zero 1<<40\\n.popsection");'], "can't be used", 1),
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
