# SPDX-License-Identifier: GPL-2.0-or-later
"""The file of an index: its schema number, its path, and its errors."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from kgbuild.errors import ToolError, UserError
from kgbuild.host.kernels.compile_commands import open_database
from kgbuild.model import Kernel

# Increase it whenever the meaning of the tables changes: an index with another number is made again.
SCHEMA = 3


class NoBody(UserError):
    """The name belongs to a function that gcc inlined wherever it is called."""


class IndexDamaged(ToolError):
    """The file can't be read as an index."""


def index_path(kernel: Kernel) -> Path:
    """The path of a kernel's index, whether it exists or not."""
    return kernel.root / "index.sqlite"


def open_index(path: Path) -> sqlite3.Connection:
    """An index, to read. Raises sqlite3.Error."""
    return open_database(path)
