# SPDX-License-Identifier: GPL-2.0-or-later
"""What a person sees: the left column of labels, progress bars, errors. The only writer to the terminal."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

import click

from kgbuild.cli.contract.line_width import terminal_width, width_of
from kgbuild.cli.contract.safe_streams import raw_stderr
from kgbuild.diagnostics.reasons import RefusalReason, reasons_of
from kgbuild.diagnostics.refusals import Refusal, Refused
from kgbuild.errors import KgbuildError
from kgbuild.shown_text import indent_lines, printable

if TYPE_CHECKING:
    from kgbuild.accounting.account import Accounting
    from kgbuild.progress import Task

LABEL_WIDTH = 10
_WIDTH = 84  # of a line with its seconds, where the terminal has room
# More refusals than these are a summary and a file.
MOST_REFUSALS = 50
_SHOWN_OF_MANY = 10


def colour_wanted(no_color: bool = False) -> bool:
    """Colour goes to terminals only, never where NO_COLOR or --no-color says otherwise."""
    return not no_color and not os.environ.get("NO_COLOR") and sys.stdout is not None and sys.stdout.isatty()


class Output:
    """Prints `label   text   1.2 s` lines to standard output; implements the model's Progress."""

    def __init__(
        self,
        *,
        quiet: bool = False,
        verbose: bool = False,
        no_color: bool = False,
        replaced: bool = False,
        err: bool = False,
    ) -> None:
        self.quiet = quiet
        self.err = err  # standard output is taken: lines go to standard error
        self.replaced = replaced  # another form of the answer takes the place of text
        self.verbose = verbose
        self.colour = colour_wanted(no_color)

    def line(self, label: str, text: str = "", seconds: float | None = None, style: str = "") -> None:
        """One finished step: label in its column, text, seconds at the right."""
        if self.quiet:
            return
        text = printable(text)
        shown = click.style(f"{label:<{LABEL_WIDTH}}", fg=style) if self.colour and style else f"{label:<{LABEL_WIDTH}}"
        if seconds is not None:
            took = f"{seconds:8.1f} s"
            stream = sys.stderr if self.err else sys.stdout
            wide = terminal_width(stream) if stream is not None and stream.isatty() else _WIDTH
            room = min(wide, _WIDTH) - LABEL_WIDTH - len(took)
            text += " " * (room - width_of(text)) + took
        click.echo(f"{shown}{text}".rstrip(), err=self.err)

    def say(self, text: str | bytes, *, err: bool = False, nl: bool = True) -> None:
        """What --quiet leaves: findings, and an answer that is text."""
        if not self.replaced:
            click.echo(text, err=err or self.err, nl=nl)

    def refused(self, refusals: Sequence[Refusal]) -> None:
        """The reasons against a patch, where they are not in another form of the answer."""
        if refusals and not self.replaced:
            show_error(Refused(list(refusals)))

    def warn(self, texts: Iterable[str]) -> None:
        """Warnings of a command whose answer is text: they go to standard error."""
        for text in texts if not self.quiet else ():
            click.echo(f"{'warning':<{LABEL_WIDTH}}{printable(text)}", err=True)

    def note(self, text: str) -> None:
        """A detail, printed only with --verbose."""
        if self.verbose:
            self.line("", text)

    def step(self, title: str, total: float | None = None, unit: str = "") -> AbstractContextManager[Task]:
        """A long step: a bar on a terminal, else one line when it is done. unit "bytes" shows sizes and rates."""
        return self._step(title, total, unit)

    @contextmanager
    def _step(self, title: str, total: float | None, unit: str) -> Iterator[Task]:
        began = time.monotonic()
        label, _, text = title.partition(" ")
        if self.quiet or not sys.stderr.isatty():
            yield _PlainTask()
        else:
            yield from _rich_task(title, total, unit)
        self.line(label, text, time.monotonic() - began)


def show_accounting(out: Output, accountings: Sequence[Accounting]) -> None:
    """How many differences of two objects there are and what becomes of them, for a build and for a comparison; a line
    for each that is lost, by its nature."""
    from kgbuild.accounting.account import no_effects, summary

    counted = summary(accountings)
    if counted:
        out.line("accounted", counted)
    for text in no_effects(accountings):
        out.line("no effect", text, style="yellow")


class _PlainTask:
    def advance(self, amount: float = 1) -> None:
        del amount

    def total(self, total: float) -> None:
        del total


def _rich_task(title: str, total: float | None, unit: str) -> Iterator[Task]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    counts = [DownloadColumn(), TransferSpeedColumn()] if unit == "bytes" else [MofNCompleteColumn()] if total else []
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        *counts,
        TimeRemainingColumn(),
        console=Console(file=raw_stderr()),
        transient=True,
    )

    class Shown:
        def advance(self, amount: float = 1) -> None:
            progress.advance(task, amount)

        def total(self, total: float) -> None:
            progress.update(task, total=total)

    with progress:
        task = progress.add_task(printable(title), total=total)
        yield Shown()


def show_error(error: KgbuildError) -> None:
    """One message on standard error: every refusal with code, place, fact and remedy, or the single fault."""
    colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR")

    def head(text: str) -> str:
        return click.style(text, fg="red", bold=True) if colour else text

    if isinstance(error, Refused):
        reasons = reasons_of(error.refusals)
        count = len(reasons)
        click.echo(f"{head('refused')}   {count} reason{'s' if count != 1 else ''}", err=True)
        if error.not_examined:
            click.echo(f"          {indent_lines(error.not_examined)}", err=True)
        if count > MOST_REFUSALS:
            click.echo(summarise_refusals(error.refusals), err=True)
            reasons = reasons[:_SHOWN_OF_MANY]
        for reason in reasons:
            click.echo(f"\n{_reason_text(reason)}", err=True)
        return
    for fault in getattr(error, "faults", ()):
        click.echo(f"{head('error')}   {fault.place}: {fault.fact}\n  -> {fault.remedy}", err=True)
    if getattr(error, "faults", ()):
        return
    label = "no change" if error.exit_code == 4 else "error"
    fact = indent_lines(error.fact)
    text = f"{printable(error.place)}: {fact}" if error.place else fact
    click.echo(f"{head(label)}   {text}", err=True)
    if error.remedy:
        click.echo(f"  -> {indent_lines(error.remedy)}", err=True)


def _reason_text(reason: RefusalReason) -> str:
    one = reason.first
    also = f"\n  also {printable(reason.others)}" if reason.others else ""
    return f"{one.code}   {printable(one.place)}{also}\n  {indent_lines(one.fact)}\n  -> {indent_lines(one.remedy)}"


def summarise_refusals(refusals: Sequence[Refusal]) -> str:
    """What many refusals have in common: how many there are of each code, and a file with all of them, which is written
    to the directory for temporary files."""
    import tempfile

    counts = Counter(reason.first.code for reason in reasons_of(refusals))
    rows = [f"  {number:>7}  {code}" for code, number in counts.most_common()]
    lines = [f"{r.code}   {printable(r.place)}\n  {indent_lines(r.fact)}\n  -> {r.remedy}\n" for r in refusals]
    try:
        with tempfile.NamedTemporaryFile("w", prefix="kgbuild-reasons-", suffix=".txt", delete=False) as file:
            file.write("\n".join(lines))
        rows.append(f"\nAll are in {file.name} (and, as data, in the file of --report); the first {_SHOWN_OF_MANY}:")
    except OSError:
        rows.append(f"\nAll are in the file of --report; the first {_SHOWN_OF_MANY}:")
    return "\n".join(rows)


def show_os_error(error: OSError) -> KgbuildError:
    """Tell of a file or disk fault that no stage named better. Returns it as an error with place, fact and remedy."""
    from kgbuild.diagnostics.run_errors import SYSTEM
    from kgbuild.host.system.run import disk_remedy

    fact = error.strerror or str(error)
    named = KgbuildError(fact, place=str(error.filename or ""), remedy=disk_remedy(error))
    named.code = SYSTEM
    show_error(named)
    return named
