# SPDX-License-Identifier: GPL-2.0-or-later
"""One JSON document, by the schemas in docs/schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from kgbuild.report.formats.answer import Answer, Format


def json_text(data: Any) -> str:
    """Plain data as kgbuild writes it everywhere, in standard output and in files."""
    return json.dumps(data, indent=1) + "\n"


def render_json(answer: Answer, unicode: bool) -> Iterator[str]:
    """The data of an answer; JSON as it is written here is always ASCII."""
    del unicode
    yield json_text(answer.data()).removesuffix("\n")


JSON = Format("json", render_json, of_data=True)
OFFERED = (JSON,)
