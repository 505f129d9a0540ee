# SPDX-License-Identifier: GPL-2.0-or-later
"""What of a kernel counts as freed after boot (kgbuild.kernel.vmlinux_image)."""

from __future__ import annotations

from pathlib import Path

from kgbuild.elf.read import read
from kgbuild.kernel.vmlinux_image import KernelImage
from tests.support.toolchain import compile_text, run

TEXT = """
__attribute__((section(".data..percpu"))) int mine = 5;
__attribute__((section(".init.data"))) int early = 6;
int later = 7;
"""
# The per-CPU variables of a kernel since 6.15: among what is freed, at addresses like those of everything else.
SCRIPT = """
SECTIONS {
  . = 0xffffffff81000000;
  .text : { *(.text) }
  .data : { *(.data) }
  __init_begin = .;
  .data..percpu : { *(.data..percpu) }
  .init.data : { *(.init.data) }
  __init_end = .;
}
"""


def test_the_address_of_a_per_cpu_variable_is_no_memory_that_goes(tmp_path: Path) -> None:
    (tmp_path / "unit.o").write_bytes(compile_text(TEXT, "-ffreestanding"))
    (tmp_path / "script").write_text(SCRIPT)
    run("ld", "-T", tmp_path / "script", "-e", "0", "-o", tmp_path / "vmlinux", tmp_path / "unit.o")
    image = KernelImage(read((tmp_path / "vmlinux").read_bytes()))
    found = {name: image.is_init(image.named(name)[0].value) for name in ("mine", "early", "later")}
    assert found == {"mine": False, "early": True, "later": False}
