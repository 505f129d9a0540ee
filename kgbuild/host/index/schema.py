# SPDX-License-Identifier: GPL-2.0-or-later
"""The file of an index: its format number, its place, and what can be wrong with it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from kgbuild.errors import ToolError, UserError
from kgbuild.host.kernels.compile_commands import open_database
from kgbuild.model import Kernel

# Raise it whenever what the tables mean changes: an index of another number is made anew.
SCHEMA = 3


class NoBody(UserError):
    """The name is that of a function which gcc inlined wherever it is called."""


class IndexDamaged(ToolError):
    """The file can't be read as what it should be."""


def index_path(kernel: Kernel) -> Path:
    """Where a kernel's index is or will be."""
    return kernel.root / "index.sqlite"


def open_index(path: Path) -> sqlite3.Connection:
    """An index, to read. Raises sqlite3.Error."""
    return open_database(path)
