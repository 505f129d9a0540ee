# SPDX-License-Identifier: GPL-2.0-or-later
"""Reports of real runs (of Debian's 6.1 cloud kernel), for tests of what is made of them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "reports"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))


@cache
def _text(name: str) -> str:
    return (FOLDER / f"{name}.json").read_text(encoding="utf-8")


def report(name: str) -> dict[str, Any]:
    """A report by its name, a new one each time."""
    document = json.loads(_text(name))
    assert isinstance(document, dict)
    return document
