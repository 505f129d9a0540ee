# SPDX-License-Identifier: GPL-2.0-or-later
"""Annotations of a GitHub workflow: one command a line (docs.github.com, "Workflow commands for GitHub Actions")."""

from __future__ import annotations

from collections.abc import Iterator

from kgbuild.report.formats.annotations import ERROR, annotations_of, command_of, kernel_name, outcome_of
from kgbuild.report.formats.answer import Answer, Format
from kgbuild.shown_text import printable


def _data(text: str) -> str:
    """The message of a command. It may not end its line, or begin another command."""
    return printable(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def render_github(answer: Answer, unicode: bool) -> Iterator[str]:
    """An annotation for each refusal, finding and warning; a notice of how the run ended."""
    del unicode
    document = answer.data()
    for found in annotations_of(document):
        properties = [f"title={_property(f'kgbuild {found.code}')}"]
        if found.path:
            properties.insert(0, f"file={_property(found.path)}")
        if found.line:
            properties.insert(1, f"line={found.line}")
        yield f"::{'error' if found.level == ERROR else 'warning'} {','.join(properties)}::{_data(found.text)}"
    command, kernel = command_of(document), kernel_name(document)
    said = f"kgbuild {command}".strip() + (f" for {kernel}" if kernel else "") + f": {outcome_of(document)}"
    yield f"::notice title=kgbuild::{_data(said)}"


OFFERED = (Format("github", render_github, of_data=True),)
