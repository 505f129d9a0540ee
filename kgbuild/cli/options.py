# SPDX-License-Identifier: GPL-2.0-or-later
"""Options that mean the same everywhere, and the files that they name."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click

from kgbuild.cli import ui
from kgbuild.errors import ToolError
from kgbuild.report.formats import FORMATS, Answer, json_text, render
from kgbuild.report.formats.json import JSON
from kgbuild.report.formats.text import TEXT

_Decorator = Callable[[Callable[..., None]], Callable[..., None]]


class OutputFile(click.Path):
    """A file to write. That it can't be is said before any work is done (exit 2)."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = Path(value)
        if path.is_dir():
            self.fail(f"{path} is a directory; name a file in it", param, ctx)
        if not path.parent.is_dir():
            self.fail(f"directory {path.parent} does not exist", param, ctx)
        if not os.access(path if path.exists() and not path.is_file() else path.parent, os.W_OK):
            self.fail(f"{path} can't be written to", param, ctx)
        return path


class NewDirectory(click.Path):
    """A directory to fill. It must not exist, or be empty: no file of the user's is in danger (exit 2)."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = Path(value)
        if path.exists() or path.is_symlink():
            if not path.is_dir():
                self.fail(f"{path} is not a directory", param, ctx)
            if any(path.iterdir()):
                self.fail(f"{path} is not empty; name a new directory", param, ctx)
        elif not path.parent.is_dir():
            self.fail(f"directory {path.parent} does not exist", param, ctx)
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            self.fail(f"{path} can't be written to", param, ctx)
        return path


kernel_option = click.option(
    "--kernel",
    "kernel_name",
    required=True,
    metavar="NAME",
    help="Name of the kernel, e.g. debian:newest-6.1-cloud; see kgbuild kernel --help.",
)
report_option = click.option(
    "--report", type=OutputFile(), metavar="FILE", help="Write a JSON report beside the normal output."
)
against_option = click.option(
    "--against",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="MODULE",
    help="Warn of functions that this live patch module replaces too.",
)
jobs_option = click.option(
    "--jobs", "-j", type=click.IntRange(1), default=lambda: os.cpu_count() or 1, help="Programs run at a time [CPUs]."
)
pull_option = click.option(
    "--pull",
    type=click.Choice(["proof", "always"]),
    default="proof",
    show_default=True,
    help="Which callees stay in the kernel: those that are proven to be the same, or no clone that gcc made.",
)
backend_option = click.option(
    "--backend",
    type=click.Choice(["klp", "kallsyms", "kgraft"]),
    help="How the module reaches what the kernel does not export [klp where the kernel has it].",
)


@dataclass(frozen=True)
class Common:
    """What the user gave for the options that every command takes. Here alone is decided what --format means."""

    form: str
    report: Path | None
    quiet: bool
    verbose: bool
    no_color: bool
    offline: bool

    def output(self, answer_to: Path | None = None, *, spoken: bool = True) -> ui.Output:
        """Where a command tells of its work: nowhere where another form than text takes standard output, which it does
        not where the answer goes to a file. Not `spoken`: something else takes it, and only findings are told."""
        replaced = self.form != TEXT.name
        quiet = self.quiet or not spoken or (replaced and answer_to is None)
        return ui.Output(quiet=quiet, verbose=self.verbose and not quiet, no_color=self.no_color, replaced=replaced)

    def details(self) -> ui.Output:
        """Where a command whose answer is text tells of its work: with --verbose alone."""
        return ui.Output(quiet=not self.verbose, no_color=self.no_color)

    def deliver(
        self, answer: Answer, to: Path | None = None, *, out: ui.Output | None = None, unless_quiet: bool = False
    ) -> None:
        """Write the report where --report says, and the answer in the form of --format: to a file, which `out` is told
        of, or to standard output. `unless_quiet`: --quiet leaves out lines on standard output. Raises ToolError."""
        if self.report is not None:
            write_file(self.report, json_text(answer.data()).encode())
        unicode = "utf" in (sys.stdout.encoding or "").lower()
        if to is None and unless_quiet and self.quiet and self.form == TEXT.name:
            return
        text = render(answer, self.form, unicode=unicode)
        if to is None:
            click.echo(text, nl=False)
            return
        write_file(to, text.encode())
        if out is not None:
            out.line("wrote", str(to))


_COMMON = (
    click.option("--offline", is_flag=True, help="Use what the cache holds; download nothing."),
    click.option("--no-color", is_flag=True, help="No colour (also: NO_COLOR)."),
    click.option("--verbose", "-v", is_flag=True, help="Print details of each step."),
    click.option("--quiet", "-q", is_flag=True, help="Print errors and findings only."),
    report_option,
)


oot_module_option = click.option(
    "--oot-module",
    "oot_modules",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.ko",
    help="An out-of-tree module, as it is loaded (repeatable).",
)


def oot_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command --oot and --oot-module, as `oot` and `oot_modules`."""
    option = click.option(
        "--oot",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="DIR",
        help="Source of an out-of-tree module, with its Kbuild; patches are relative to it.",
    )
    return option(oot_module_option(command))


def common_options(*more: str, about: str = "Normal output: text, or the report as JSON.") -> _Decorator:
    """Give a command --format, --report, --quiet, --verbose, --no-color and --offline, as its argument `common`. It
    offers text, JSON and the formats that `more` names; `about` is the help of --format."""
    offered = [TEXT.name, JSON.name, *(FORMATS[name].name for name in more)]
    form = click.option("--format", "form", type=click.Choice(offered), default="text", show_default=True, help=about)
    return lambda command: _common(command, form)


def _common(command: Callable[..., None], form: Callable[..., Any]) -> Callable[..., None]:
    @functools.wraps(command)
    def with_common(*args: Any, **values: Any) -> None:
        common = Common(**{field.name: values.pop(field.name) for field in fields(Common)})
        if common.no_color:
            # for all that looks at it: error messages, which know no options, and the bars
            os.environ["NO_COLOR"] = "1"
        command(*args, common=common, **values)

    wrapped: Callable[..., None] = with_common
    for option in (*_COMMON, form):
        wrapped = option(wrapped)
    return wrapped


def write_file(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; a device or a pipe is written into. Raises ToolError."""
    target = path.resolve()
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        if target.exists() and not target.is_file():
            with target.open("wb") as stream:
                stream.write(data)
            return
        try:
            temporary.write_bytes(data)
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ToolError(error.strerror or str(error), place=str(path), remedy=ui.disk_remedy(error)) from error


def write_directory(path: Path, files: Mapping[str, bytes]) -> None:
    """Write these files, in order, into a directory that is made where there is none. Raises ToolError."""
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise ToolError(error.strerror or str(error), place=str(path), remedy=ui.disk_remedy(error)) from error
    for name, data in files.items():
        write_file(path / name, data)
