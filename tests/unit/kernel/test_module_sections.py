# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of what a section is in a module."""

from __future__ import annotations

import pytest

from kgbuild.arch.x86_64.table import ARCH
from kgbuild.kernel.module_loader import READ_WITH_THE_MODULE, TABLE, is_per_cpu, loadable_name, row_of
from kgbuild.objects.symbol_kinds import INIT_SECTIONS


@pytest.mark.parametrize(
    ("section", "name"),
    [
        (".data.x", ".data.*"),
        (".data.once", ".data.*"),
        (".data..once", ".data..once"),
        (".data..do_once", ".data..do_once"),
        (".data.rel.ro.local.x", ".data.*"),
        (".data..read_mostly", ".data..read_mostly"),
        (".bss.x", ".bss.*"),
        (".text.unlikely.f", ".text.*"),
        (".text.f.isra.0", ".text.*"),
        (".rodata.str1.8", ".rodata.*"),
        (".rodata..c_jump_table", ".rodata..c_jump_table"),
        (".data..percpu", ".data..percpu"),
        (".data..percpu..shared_aligned", ".data..percpu..shared_aligned"),
    ],
)
def test_the_row_of_a_section(section: str, name: str) -> None:
    row = row_of(section)
    assert row is not None
    assert row.name == name


@pytest.mark.parametrize(
    "section",
    [
        ".data..what",
        ".bss..what",
        ".text..what",
        ".data..percpu..what",
        "my_section",
        ".database",
        ".vvar_x",
        "__ksymtab",
    ],
)
def test_a_section_that_is_not_known_has_no_row(section: str) -> None:
    assert row_of(section) is None


def test_names_that_the_loader_looks_up() -> None:
    assert loadable_name(".data..percpu..read_mostly") == ".data..percpu"
    assert loadable_name(".data..ro_after_init") == ".data"
    assert loadable_name(".noinstr.text") == ".noinstr.text"
    assert loadable_name(".data.x") == ".data.x"
    assert is_per_cpu(".data..percpu..what")
    assert not is_per_cpu(".data..percpu_x")


def test_rows_are_of_one_kind() -> None:
    names = [row.name for row in TABLE]
    assert len(names) == len(set(names))
    for row in TABLE:
        assert not (row.refused and row.reinitialised), row
        assert not row.name.startswith(INIT_SECTIONS), row
        assert ARCH.special_of(row.name) is None, row
        assert row.name not in READ_WITH_THE_MODULE, row
