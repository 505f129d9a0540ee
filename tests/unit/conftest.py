# SPDX-License-Identifier: GPL-2.0-or-later
"""The tests of this folder are quick: what needs compilers of its own, browsers, shells, package tools or a scheduler
is in tests/tools, and a test that starts such a program here fails."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

STARTED: list[str] = []
# Besides Python: what kgbuild starts others by, scripts and terminals of a test's own, and the compiler of a small
# object, which is kept (support/store.py).
ALLOWED = frozenset({"setpriv", "sh", "script", "sleep", "nonexistent", "gcc-12", "gcc", "cc1", "as"})


def _listen(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "subprocess.Popen":
        program = Path(os.fsdecode(arguments[0] or arguments[1][0])).name
        if program not in ALLOWED and not program.startswith("python"):
            STARTED.append(program)


sys.addaudithook(_listen)


@pytest.fixture(autouse=True)
def only_quick_programs() -> Iterator[None]:
    """Fail where a test has started another program."""
    STARTED.clear()
    yield
    assert not STARTED, f"starts {', '.join(sorted(set(STARTED)))}: it belongs into tests/tools"
