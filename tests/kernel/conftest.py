# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests on a real kernel share: the kernel, the command line, the built cases."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kgbuild.host.acquire import ensure_kernel
from kgbuild.model import Kernel, SilentProgress

HERE = Path(__file__).parent
KERNEL_NAME = os.environ.get("KGBUILD_TEST_KERNEL", "debian:newest-6.1-cloud")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.kernel)


@dataclass(frozen=True)
class Ran:
    """What one run of the command left."""

    status: int
    stdout: str
    stderr: str


def kgbuild(*words: str | Path, cwd: Path | None = None, timeout: float = 300) -> Ran:
    """Run the real command in a process of its own."""
    argv = [sys.executable, "-m", "kgbuild.cli.main", *map(str, words)]
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False)
    return Ran(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True)
class Case:
    """One [[case]] of a cases file."""

    name: str
    fields: dict[str, Any] = field(repr=False)

    def list(self, key: str) -> list[str]:
        return list(self.fields.get(key, []))


def load_cases(path: Path) -> list[Case]:
    """Every [[case]] of a TOML file, in order."""
    return [Case(c["name"], c) for c in tomllib.loads(path.read_text())["case"]]


@pytest.fixture(scope="session")
def kernel() -> Kernel:
    """The real kernel, from the cache or fetched."""
    return ensure_kernel(KERNEL_NAME, progress=SilentProgress())


@pytest.fixture(scope="session")
def kernel_name(kernel: Kernel) -> str:
    """Its exact name, so that no test asks the archive again."""
    return f"{kernel.id.name}={kernel.id.version}"
