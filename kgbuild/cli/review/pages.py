# SPDX-License-Identifier: GPL-2.0-or-later
"""Pages are written here, for all commands: from documents, and from the templates that come with kgbuild."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from kgbuild.cli import options
from kgbuild.errors import UserError
from kgbuild.host.system.input_files import read_input
from kgbuild.limits import REPORT_BYTES
from kgbuild.report.documents import ErrorRow, with_outcome
from kgbuild.report.formats import Answer, render

_WANTED = "give a file that kgbuild wrote with --report or --format json"
# what a document of another form than its schema's makes of reading it
_MISSHAPEN = (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError, RecursionError)


def page_parts() -> dict[str, str]:
    """The templates, the style and the script of pages, by file name."""
    folder = files("kgbuild") / "data" / "page"
    return {entry.name: entry.read_text(encoding="utf-8") for entry in folder.iterdir() if entry.is_file()}


def write_page(
    path: Path | None,
    data: Callable[[], Mapping[str, Any]],
    common: options.Common,
    *,
    status: int,
    errors: Sequence[ErrorRow],
) -> None:
    """Write the page of a run where --html names a file; `data` is asked for only then. Raises ToolError."""
    if path is not None:
        common.write(path, make_page([with_outcome(data(), status, errors)]).encode("utf-8", "backslashreplace"))


def make_page(documents: Sequence[Mapping[str, Any]]) -> str:
    """The page of documents: a review of a patch with what a guest said, the audit of a kernel, or a table of kernels.

    Raises UserError where a document does not have the form of its schema.
    """
    from jinja2 import TemplateError

    from kgbuild.report.page.render import BY_SCHEMA, render_review

    with _of_its_form((*_MISSHAPEN, TemplateError)):
        for document in documents:
            make = BY_SCHEMA.get(str(document["schema"]).split("/")[1])
            if make is not None:
                return make(document, page_parts())
        return render_review(documents, page_parts())


def answer_of(document: Mapping[str, Any], form: str) -> tuple[Answer, int, list[ErrorRow]]:
    """A document that was read from a file, as the answer to show in a format of FOR_REVIEW, with the status and the
    errors of the run that it is of. Raises UserError where it does not have the form of its schema."""
    with _of_its_form():
        status, errors = int(document.get("exit_status", 0)), list(document.get("errors", ()))
        answer = Answer(lambda: with_outcome(document, status, errors))
        render(answer, form)
    return answer, status, errors


@contextmanager
def _of_its_form(kinds: tuple[type[Exception], ...] = _MISSHAPEN) -> Iterator[None]:
    try:
        yield
    except kinds as error:
        fact = f"is no document of the form that its schema describes ({type(error).__name__}: {error})"
        raise UserError(fact, place="report", remedy=_WANTED) from error


def read_document(path: Path) -> dict[str, Any]:
    """A document that kgbuild wrote. Raises UserError for any other file, LimitError for one that is too large."""
    raw = read_input(path, REPORT_BYTES, _WANTED)
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise UserError(f"is no JSON ({error})", place=str(path), remedy=_WANTED) from error
    named = document.get("schema") if isinstance(document, dict) else None
    if not isinstance(named, str) or not named.startswith("kgbuild/") or named.count("/") != 2:
        raise UserError("is no report of kgbuild", place=str(path), remedy=_WANTED)
    return dict(document)
