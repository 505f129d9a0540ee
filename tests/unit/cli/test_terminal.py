# SPDX-License-Identifier: GPL-2.0-or-later
"""Nothing that comes from outside makes a terminal do anything: run on one, with hostile names everywhere."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from kgbuild.shown_text import escape_controls, indent_lines, printable
from tests.support.command import run_on_pty
from tests.support.toolchain import compile_text, pair_flags

ROOT = Path(__file__).resolve().parents[3]
# A title, a colour, a carriage return, a C1 control, a direction override, a line of our own, a bell.
HOSTILE = "a\x1b]0;t\x07\x1b[31mb\rc\x9b31m\u202ed\u2066e\u200f\nrefused   0 reasons\x08"
OWN = re.compile(rb"\x1b\[[0-9;]*m")


def environment(folder: Path) -> dict[str, str]:
    return {
        **{name: os.environ[name] for name in ("PATH", "HOME")},
        **{"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder / "cache"), "TERM": "xterm", "LC_ALL": "C.UTF-8"},
    }


def check_harmless(out: bytes) -> None:
    text = OWN.sub(b"", out).decode("utf-8").replace("\r\n", "\n")
    odd = {c for c in text if not (c.isprintable() or c == "\n")}
    assert not odd, (odd, text)
    # only what kgbuild colours is coloured
    assert b"\x1b[31mb" not in out
    assert not re.search(r"^refused   0 reasons", text, re.MULTILINE), text


def cases(folder: Path) -> dict[str, list[str]]:
    kernel = ["--kernel", "debian:6.1.0-1", "--offline"]
    strange = folder / HOSTILE.replace("/", "")
    strange.write_text("no patch")
    (folder / "x.patch").write_text(f"--- a/{HOSTILE}\n+++ b/{HOSTILE}\n@@ -1 +1 @@\n-a\n")
    name = HOSTILE.encode()
    for number in (1, 2):
        plain = "f" * len(name)
        code = compile_text(f"int {plain}(int x) {{ return x + {number}; }}", *pair_flags())
        (folder / f"{number}.o").write_bytes(code.replace(plain.encode(), name))
    return {
        "an option": ["build", f"--{HOSTILE}"],
        "a command": [HOSTILE],
        "a kernel": ["build", "x.patch", "--kernel", HOSTILE, "--offline"],
        "a file's name": ["build", str(strange), *kernel],
        "a file that is not there": ["verify", f"{HOSTILE}.ko", *kernel],
        "a name in a patch": ["build", "x.patch", *kernel],
        "symbols": ["diff", "1.o", "2.o"],
        "symbols as reasons": ["diff", "1.o", "2.o", "--explain", HOSTILE],
        "a choice": ["diff", "1.o", "2.o", "--format", HOSTILE],
    }


@pytest.mark.parametrize("case", list(range(9)))
def test_a_terminal_is_not_told_anything(case: int, tmp_path: Path) -> None:
    name, arguments = list(cases(tmp_path).items())[case]
    out = run_on_pty(arguments, tmp_path, environment(tmp_path))
    assert len(out) > 20, name
    check_harmless(out)


def test_every_control_character_is_an_escape() -> None:
    for code in [
        *range(0x20),
        *range(0x7F, 0xA0),
        0xAD,
        *range(0x200B, 0x2010),
        *range(0x2028, 0x202F),
        0x2066,
        0xFEFF,
    ]:
        char = chr(code)
        assert all(c.isprintable() for c in printable(f"a{char}b")), hex(code)
        if char not in "\n\t":
            assert char not in escape_controls(f"a{char}b") and "a" in escape_controls(f"a{char}b")
    assert escape_controls("Grüße, 世界 \t\n") == "Grüße, 世界 \t\n"
    assert printable(b"\xff\xfe") == "\\xff\\xfe" and printable("\udcff") == "\\xff"
    assert indent_lines("a\nrefused   1 reason") == "a\n  refused   1 reason"
