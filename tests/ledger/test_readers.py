# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of who reads which section, and the page that is made from it; and that the ledger stands alone."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from kgbuild.kernel.section_readers import BOOT, BORDERS, NEVER, REFERRED, RUNNING, reader_of
from kgbuild.report.reference_docs import render_sections

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("section", "when"),
    [
        (".text.f", REFERRED),
        (".data..percpu..read_mostly", REFERRED),
        (".sched.text", BORDERS),
        (".initcall6.init", BOOT),
        ("___ksymtab_gpl+kfree", BOOT),
        ("__governor_thermal_table", BOOT),
        ("__earlycon_of_table", BOOT),
        (".BTF_ids", RUNNING),
        (".pci_fixup_final", RUNNING),
        (".discard.addressable", NEVER),
        (".data..mine", ""),
        ("my_table", ""),
        (".textual", ""),
    ],
)
def test_rows(section: str, when: str) -> None:
    row = reader_of(section)
    assert (row.when if row is not None else "") == when


@pytest.mark.parametrize("version", ["7.2", "7.3"])
def test_every_section_of_newer_kernels_is_known(version: str) -> None:
    """Names from the linker scripts and the module loader of Debian's linux-source packages, as
    tests/support/ledger/sections.py finds them; 6.1 and 6.12 are
    held against the sources themselves (tests/kernel/test_sections.py)."""
    names = (Path(__file__).parent / f"sections-{version}.txt").read_text().split()
    assert len(names) > 150 and {".BTF_ids", "__param", "___kflagstab+", "__kflagstab"} <= set(names)
    assert not [name for name in names if reader_of(name) is None and reader_of(f"{name}.x") is None]


def test_the_page_is_made_of_the_table() -> None:
    assert (ROOT / "docs" / "sections.md").read_text() == render_sections(), "docs/sections.md is old: run make docs"


@pytest.mark.parametrize(
    "name", ["pieces", *sorted(p.stem for p in (ROOT / "kgbuild" / "analysis").glob("ledger*.py"))]
)
def test_the_ledger_shares_nothing_with_the_differ(name: str) -> None:
    """Beside the ELF reader it takes the facts of the architecture."""
    tree = ast.parse((ROOT / "kgbuild" / "ledger" / f"{name}.py").read_text())
    taken = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module}
    ours = {m for m in taken if m.startswith("kgbuild")}
    allowed = ("kgbuild.elf.", "kgbuild.arch", "kgbuild.ledger.pieces", "kgbuild.ledger.ledger")
    assert ours and all(m.startswith(allowed) for m in ours)
