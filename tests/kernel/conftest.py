# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures of the tests on a real kernel: the two kernels, and what the guests are given."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kgbuild.host.kernels.acquire import ensure_kernel
from kgbuild.model import Kernel
from kgbuild.progress import SilentProgress
from tests.support.booting.cases import HERE, KERNEL_NAME, NEWER_NAME, make_guest_files
from tests.support.hazards.lab import build_modules

# What takes long or fetches much: make test-all
LONG = ["test_suite_boots.py", "test_suite_hazards.py", "test_other_host.py", "test_release_list.py"]
collect_ignore = [] if os.environ.get("KGBUILD_TEST_SUITES") else LONG


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.kernel)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests of a `case` without cases of their own have those of the file that they stand in, or are imported into."""
    marked = [mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")]
    if "case" in metafunc.fixturenames and "case" not in marked:
        metafunc.parametrize("case", metafunc.module.CASES, ids=lambda c: c.name)


@pytest.fixture(scope="session")
def kernel() -> Kernel:
    """The real kernel, from the cache or fetched."""
    return ensure_kernel(KERNEL_NAME, progress=SilentProgress())


@pytest.fixture(scope="session")
def kernel_name(kernel: Kernel) -> str:
    """Its exact name, so that no test asks the archive again."""
    return f"{kernel.id.name}={kernel.id.version}"


@pytest.fixture(scope="session")
def newer() -> Kernel:
    """The newer kernel, from the cache or fetched."""
    return ensure_kernel(NEWER_NAME, progress=SilentProgress())


@pytest.fixture(scope="session")
def guest_modules(kernel: Kernel, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The modules of tests/kernel/guest/modules, built; by name."""
    return build_modules(kernel, tmp_path_factory.mktemp("guest-modules"), HERE / "guest" / "modules")


@pytest.fixture(scope="session")
def guest_files(kernel: Kernel, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """make_guest_files for the kernel of most tests."""
    return make_guest_files(kernel, tmp_path_factory.mktemp("guest"))
