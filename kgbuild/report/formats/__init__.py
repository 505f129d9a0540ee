# SPDX-License-Identifier: GPL-2.0-or-later
"""Output formats: a file each, and the registry by which --format finds them.

A format makes lines of an answer (`answer.Answer`). A new one is a file here and a row in _MODULES; a command that
offers it names it (`cli/options.py`: common_options).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module

from kgbuild.report.formats.answer import Answer, Format
from kgbuild.report.formats.json import JSON, json_text

# name of a format: the file that has it. A file is imported when its format is asked for, since most runs need one.
_MODULES = {
    "text": "text",
    "json": "json",
    "csv": "csv",
    "dot": "dot",
    "graphml": "graphml",
    "markdown": "markdown",
    "mermaid": "mermaid",
    "sarif": "sarif",
    "junit": "junit",
    "github": "github",
    "openvex": "vex",
    "csaf": "vex",
    "osv": "vex",
}


class _Formats(Mapping[str, Format]):
    """All formats by name, in the order in which help texts list them."""

    def __getitem__(self, name: str) -> Format:
        module = import_module(f"{__name__}.{_MODULES[name]}")
        found: Format = next(item for item in module.OFFERED if item.name == name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(_MODULES)

    def __len__(self) -> int:
        return len(_MODULES)

    def __contains__(self, name: object) -> bool:
        return name in _MODULES


FORMATS: Mapping[str, Format] = _Formats()

FOR_REVIEW = ("markdown", "sarif", "junit", "github")
"""The formats for merge requests and CI, made of a document alone."""


def render(answer: Answer, form: str, *, unicode: bool = True) -> str:
    """An answer in a format of FORMATS, ended by a line end; "" where there is nothing to say."""
    lines = list(FORMATS[form].render(answer, unicode))
    return "\n".join(lines) + "\n" if lines else ""


__all__ = ["FORMATS", "FOR_REVIEW", "JSON", "Answer", "Format", "json_text", "render"]
