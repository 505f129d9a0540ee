# SPDX-License-Identifier: GPL-2.0-or-later
"""The make rules that gcc (-MD) and its assembler (--MD) write: which files a compile has read."""

from __future__ import annotations

from pathlib import Path


def read_dependencies(path: Path) -> list[str]:
    """The files that a compile read, from the make rule that -MD wrote."""
    text = path.read_text(errors="surrogateescape").replace("\\\n", " ").replace("{standard input}", "")
    return text.partition(":")[2].split()
