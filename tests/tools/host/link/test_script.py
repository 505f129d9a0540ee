# SPDX-License-Identifier: GPL-2.0-or-later
"""The linker script for modules: what it merges, and what must stay apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from kgbuild.elf.read import read
from kgbuild.host.link.link import keep_apart
from kgbuild.module_abi import OWN_SECTIONS, RESOLVE_SECTION
from tests.support.toolchain import run

OLD = "SECTIONS {\n /DISCARD/ : { *(.discard) }\n __bug_table 0 : ALIGN(8) { KEEP(*(__bug_table)) }\n}\n"
NEW = (
    "SECTIONS {\n .text 0 : {\n  *(.text .text.[0-9a-zA-Z_]*)\n }\n"
    " .rodata 0 : {\n  *(.rodata .rodata.[0-9a-zA-Z_]*)\n  *(.rodata..L*)\n }\n}\n"
)


def test_a_script_that_merges_nothing_is_used_as_it_is(tmp_path: Path) -> None:
    script = tmp_path / "module.lds"
    script.write_text(OLD)
    assert keep_apart(script, tmp_path / "work") == script


@pytest.mark.parametrize("changed", [False, True])
def test_sections_of_ours_stay_apart(tmp_path: Path, changed: bool) -> None:
    script, work = tmp_path / "module.lds", tmp_path / "work"
    work.mkdir()
    script.write_text(NEW)
    text = "".join(f'.section {name},"a{"x" * (".text" in name)}"\n.quad 1\n' for name in (*OWN_SECTIONS, ".rodata.x"))
    (work / "a.s").write_text(text)
    run("as", "-o", work / "a.o", work / "a.s")
    chosen = keep_apart(script, work) if changed else script
    run("ld", "-r", "-T", chosen, "-o", work / "out.o", work / "a.o")
    obj = read((work / "out.o").read_bytes())
    names = {section.name for section in obj.sections if section.size and section.alloc}
    # what has two dots in its name stays apart by itself
    assert names == ({*OWN_SECTIONS, ".rodata"} if changed else {".rodata", ".text", RESOLVE_SECTION})
