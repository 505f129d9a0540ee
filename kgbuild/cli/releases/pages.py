# SPDX-License-Identifier: GPL-2.0-or-later
"""The pages of a matrix or a release: the table, and beside it one page for each kernel that has a module."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from kgbuild.cli import options
from kgbuild.cli.review.pages import make_page
from kgbuild.host.system.output_kinds import PAGE
from kgbuild.report.documents import ErrorRow, with_outcome

html_option = click.option(
    "--html",
    type=options.OutputFile(PAGE),
    metavar="FILE.html",
    help="Write the table as a page too, with a page for each kernel in a folder of that name.",
)


def write_pages(
    path: Path | None,
    document: Mapping[str, Any],
    found: Mapping[str, Mapping[str, bytes]],
    common: options.Common,
    *,
    status: int = 0,
    errors: Sequence[ErrorRow] = (),
) -> None:
    """Write the pages where --html names a file.

    document  of `matrix` or `release`
    found     for each kernel as it was asked for, what its jobs have made: "report.json", "vm.json"
    Raises ToolError.
    """
    if path is None:
        return
    alone = path == options.STDOUT
    pages = {} if alone else {name: page for name, files in found.items() if (page := _page(files))}
    named = {name: f"{_word(name)}.html" for name in pages}
    folder = path.with_suffix("")
    if folder == path:
        folder = path.with_name(f"{path.name}.d")
    rows = [_linked(row, folder.name, named) for row in document["kernels"]]
    table = make_page([with_outcome({**document, "kernels": rows}, status, errors)])
    if pages:
        options.write_directory(folder, {named[name]: pages[name] for name in pages})
    common.write(path, table.encode("utf-8", "backslashreplace"))


def _linked(row: Mapping[str, Any], folder: str, named: Mapping[str, str]) -> dict[str, Any]:
    page = named.get(str(row.get("requested")))
    return {**row, "page": f"{folder}/{page}" if page is not None else ""}


def _page(files: Mapping[str, bytes]) -> bytes:
    """The page of one kernel; b"" where it has no module."""
    documents = [json.loads(files[name]) for name in ("report.json", "vm.json") if name in files]
    return make_page(documents).encode("utf-8", "backslashreplace") if "report.json" in files else b""


def _word(name: str) -> str:
    """A kernel's name as that of a file."""
    return "".join(char if (char.isalnum() and char.isascii()) or char in "+-." else "-" for char in name).lstrip(".-")


def kernel_files(results: Iterable[Any]) -> dict[str, dict[str, bytes]]:
    """For each kernel, what its jobs have made (`JobResult`)."""
    out: dict[str, dict[str, bytes]] = {}
    for result in results:
        kept = {name: data for name, data in result.files.items() if name in ("report.json", "vm.json")}
        out.setdefault(result.id.kernel, {}).update(kept)
    return out
