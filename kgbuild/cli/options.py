# SPDX-License-Identifier: GPL-2.0-or-later
"""Options that mean the same everywhere, and the files that they name."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click

from kgbuild.cli import ui
from kgbuild.errors import ToolError


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
format_option = click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Normal output: text, or the report as JSON.",
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


@dataclass(frozen=True)
class Common:
    """What the user gave for the options that every command takes."""

    form: str
    report: Path | None
    quiet: bool
    verbose: bool
    no_color: bool
    offline: bool

    @property
    def silent(self) -> bool:
        """Whether no text is wanted: --quiet, or another form in its place."""
        return self.quiet or self.form != "text"

    def output(self) -> ui.Output:
        """Where a command prints to."""
        return ui.Output(quiet=self.silent, verbose=self.verbose and not self.silent, no_color=self.no_color)

    def write_report(self, record: Any) -> None:
        """Write a report where --report says, and print it with --format json. Raises ToolError."""
        text = json.dumps(record, indent=1) + "\n"
        if self.report is not None:
            write_file(self.report, text.encode())
        if self.form == "json":
            click.echo(text, nl=False)


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


def common_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command --format, --report, --quiet, --verbose, --no-color and --offline, as its argument `common`."""
    return common_options_with(format_option)(command)


def common_options_with(form: Callable[..., Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The same with another choice for --format."""
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
