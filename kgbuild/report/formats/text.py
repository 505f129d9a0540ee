# SPDX-License-Identifier: GPL-2.0-or-later
"""Text for a terminal. Commands that say what they find while they run have none left at the end."""

from __future__ import annotations

from collections.abc import Iterator

from kgbuild.report.formats.answer import Answer, Format


def render_text(answer: Answer, unicode: bool) -> Iterator[str]:
    """The lines of an answer."""
    if answer.lines is not None:
        yield from answer.lines(unicode)


TEXT = Format("text", render_text)
OFFERED = (TEXT,)
