# SPDX-License-Identifier: GPL-2.0-or-later
"""Formats in which vulnerabilities are exchanged. An answer that is offered in them has the finished documents in its
data, by name (releases/vex.py makes them)."""

from __future__ import annotations

from collections.abc import Iterator

from kgbuild.report.formats.answer import Answer, Format
from kgbuild.report.formats.json import json_text


def _format(name: str) -> Format:
    def render(answer: Answer, unicode: bool) -> Iterator[str]:
        del unicode
        yield from json_text(answer.data()["documents"][name]).splitlines()

    return Format(name, render)


OFFERED = tuple(_format(name) for name in ("openvex", "csaf", "osv"))
