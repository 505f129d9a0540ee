# SPDX-License-Identifier: GPL-2.0-or-later
"""That a run which is asked for JSON gives one document, however it ends.

Commands deliver their document (cli/options.py). Where a run ends without, this writes one of the error, also where the
command line could not be read: what it says of --format and --report is then taken from the words themselves.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import click

if TYPE_CHECKING:
    from kgbuild.report.documents import ErrorRow


@dataclass(eq=False, repr=False)
class Delivered:
    """What the run has written already."""

    printed: bool = False
    reported: bool = False
    closed: bool = False  # there is no standard output to print to


DELIVERED = Delivered()


class CommandLine(NamedTuple):
    """What the words of a command line ask for, as far as they can be read."""

    command: str = ""
    form: str = ""  # the format that is asked for, where it is one that a failed run has too
    report: str = ""
    others: tuple[str, ...] = ()  # every other word, and the value in it: what may name a file too


def read_command_line(group: click.Group, words: Sequence[str]) -> CommandLine:
    """What a command line asks for. Never fails: a line that means nothing asks for nothing."""
    from kgbuild.report.formats import FORMATS

    rest = list(words)
    path: list[str] = []
    at: click.Command = group
    while isinstance(at, click.Group):
        named = next((i for i, word in enumerate(rest) if not word.startswith("-")), None)
        found = at.get_command(click.Context(at), rest[named]) if named is not None else None
        if named is None or found is None:
            break
        path.append(rest.pop(named))
        at = found
    form, report = "", ""
    for option, value in _options(at, rest):
        if option == "--format":
            form = value
        elif option == "--report":
            report = value
        elif option == "--json" and value == "-":
            form = "json"
    known = FORMATS.get(form)
    form = form if known is not None and known.of_data else ""
    return CommandLine(" ".join(path), form, report, tuple(_others(words, report)))


def _others(words: Sequence[str], report: str) -> Iterator[str]:
    before = ""
    for word in words:
        if word != f"--report={report}" and not (before == "--report" and word == report):
            yield word
            yield word.partition("=")[2] if word.startswith("--") else word[2:] if word.startswith("-") else ""
        before = word


def _options(command: click.Command, words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each option with its value, "" for one that has none."""
    takes = {"--format", "--report"}
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.is_flag and not parameter.count:
            takes.update(parameter.opts)
    waiting = iter(words)
    for word in waiting:
        if word == "--":
            return
        name, is_set, value = word.partition("=")
        if word.startswith("--"):
            yield name, value if is_set else next(waiting, "") if name in takes else ""
        elif word in takes:  # a short option, whose value is a word of its own
            next(waiting, "")


def tell(asked: CommandLine, status: int, errors: Sequence[ErrorRow]) -> None:
    """Write what of the document was not written. What can't be written any more is left out."""
    from pathlib import Path

    from kgbuild.errors import KgbuildError
    from kgbuild.host.system.output_files import Input, PlannedOutput, check_outputs, is_standard_output, write_file
    from kgbuild.host.system.output_kinds import REPORT
    from kgbuild.report.documents import error_document
    from kgbuild.report.formats import Answer, json_text, render
    from kgbuild.report.formats.json import JSON

    document = error_document(asked.command, status, errors)
    text = json_text(document)
    if asked.report and not DELIVERED.reported:
        path = Path(asked.report)
        if asked.report == "-" or is_standard_output(path):
            asked = CommandLine(asked.command, JSON.name)
        else:
            try:
                named = [Input("another word", Path(word)) for word in asked.others if word]
                check_outputs([PlannedOutput("--report", path, REPORT)], named, force=False)
                if not path.is_dir():
                    waits = os.open(path, os.O_WRONLY | os.O_NONBLOCK) if path.is_fifo() else None  # nobody may read it
                    write_file(path, text.encode())
                    if waits is not None:
                        os.close(waits)
            except (KgbuildError, OSError):
                pass  # the error that is told is why, or another one that comes first
    if asked.form and not DELIVERED.printed:
        with suppress(OSError):  # nobody reads it
            click.echo(render(Answer(lambda: document), asked.form), nl=False)
