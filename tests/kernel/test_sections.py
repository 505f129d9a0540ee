# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of who reads which section, held against the kernel's own linker scripts and its module loader."""

from __future__ import annotations

import re

import pytest

from kgbuild.host.kernels.acquire import ensure_kernel
from kgbuild.kernel.section_readers import BORDERS, TABLE, reader_of
from kgbuild.model import Kernel
from kgbuild.progress import SilentProgress
from tests.support.booting.cases import KERNEL_NAME, NEWER_NAME
from tests.support.ledger.sections import SCRIPTS, asked, linked


@pytest.fixture(scope="module", params=[KERNEL_NAME, NEWER_NAME])
def any_kernel(request: pytest.FixtureRequest) -> Kernel:
    return ensure_kernel(request.param, progress=SilentProgress())


def test_every_section_of_the_linker_scripts_is_known(any_kernel: Kernel) -> None:
    names = linked(any_kernel.source)
    assert len(names) > 100
    assert not sorted(name for name in names if reader_of(name) is None and reader_of(f"{name}.x") is None)


def test_every_section_that_the_module_loader_asks_for_is_known(any_kernel: Kernel) -> None:
    names = asked(any_kernel.source)
    assert len(names) > 20
    assert not sorted(name for name in names if reader_of(name) is None)


def test_sections_whose_borders_the_kernel_has_as_symbols(any_kernel: Kernel) -> None:
    """`__kprobes_text_start` and its like: code between them is asked for, and is no plain text for us."""
    text = (any_kernel.source / SCRIPTS[0]).read_text()
    names = set(re.findall(r"__(\w+)_text_start = \.;", text)) - {"static_call", "noinstr", "unittest"}
    assert {"sched", "kprobes", "irqentry", "entry"} <= names
    for name in names:
        row = reader_of({"lock": ".spinlock.text"}.get(name, f".{name}.text"))
        assert row is not None and row.when == BORDERS, name


def test_every_section_of_shipped_modules_is_known(any_kernel: Kernel) -> None:
    from kgbuild.elf.section_headers import read_sections
    from kgbuild.host.modules.files import index_modules, read_module_bytes

    unknown: set[str] = set()
    for path in sorted(index_modules(any_kernel.modules).values())[::4]:
        sections = read_sections(read_module_bytes(path)).sections
        unknown |= {s.name for s in sections if s.flags & 2 and s.size and reader_of(s.name) is None}
    assert not unknown


def test_no_row_is_there_twice() -> None:
    names = [row.section for row in TABLE]
    assert len(names) == len(set(names))
