# SPDX-License-Identifier: GPL-2.0-or-later
"""Output formats: a file each, and the registry by which --format finds them.

A format makes lines of an answer (`answer.Answer`). A new one is a file here and a name in FORMATS; a command that
offers it names it (`cli/options.py`: common_options).
"""

from __future__ import annotations

from kgbuild.report.formats.answer import Answer, Format
from kgbuild.report.formats.csv import CSV
from kgbuild.report.formats.dot import DOT
from kgbuild.report.formats.github import GITHUB
from kgbuild.report.formats.graphml import GRAPHML
from kgbuild.report.formats.json import JSON, json_text
from kgbuild.report.formats.junit import JUNIT
from kgbuild.report.formats.markdown import MARKDOWN
from kgbuild.report.formats.mermaid import MERMAID
from kgbuild.report.formats.sarif import SARIF
from kgbuild.report.formats.text import TEXT
from kgbuild.report.formats.vex import VEX_FORMATS

FORMATS: dict[str, Format] = {
    f.name: f for f in (TEXT, JSON, CSV, DOT, GRAPHML, MARKDOWN, MERMAID, SARIF, JUNIT, GITHUB, *VEX_FORMATS)
}

FOR_REVIEW = (MARKDOWN.name, SARIF.name, JUNIT.name, GITHUB.name)
"""The formats for merge requests and CI, made of a document alone."""


def render(answer: Answer, form: str, *, unicode: bool = True) -> str:
    """An answer in a format of FORMATS, ended by a line end; "" where there is nothing to say."""
    lines = list(FORMATS[form].render(answer, unicode))
    return "\n".join(lines) + "\n" if lines else ""


__all__ = ["FORMATS", "FOR_REVIEW", "JSON", "Answer", "Format", "json_text", "render"]
