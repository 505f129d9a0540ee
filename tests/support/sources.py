# SPDX-License-Identifier: GPL-2.0-or-later
"""Python files as they are written, for tests of what code may say or do: each is read and parsed once a process."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path


@cache
def text_of(path: Path) -> str:
    """The text of a file."""
    return path.read_text(encoding="utf-8")


@cache
def nodes_of(path: Path) -> tuple[ast.AST, ...]:
    """Every node of a Python file's syntax tree, in the order of ast.walk()."""
    return tuple(ast.walk(ast.parse(text_of(path), str(path))))
