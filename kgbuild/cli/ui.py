# SPDX-License-Identifier: GPL-2.0-or-later
"""What a person sees: the left column of labels, progress bars, errors. The only writer to the terminal."""

from __future__ import annotations

import os
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, TextIO

import click

from kgbuild.cli.contract.safe_streams import raw_stderr
from kgbuild.diagnostics.refusals import Refusal, Refused
from kgbuild.errors import KgbuildError
from kgbuild.shown_text import indent_lines, printable

if TYPE_CHECKING:
    from kgbuild.accounting.account import Accounting
    from kgbuild.progress import Task

LABEL_WIDTH = 10
# More refusals than these are a summary and a file.
MOST_REFUSALS = 50
_SHOWN_OF_MANY = 10
# colours and the like take no room (ECMA-48 SGR)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# a label or a column of a table: text behind two blanks or more is where what follows should stand
_COLUMN = re.compile(r"\s*\S+(?: \S+)*?\s{2,}(?=\S)")
_PIECE = re.compile(r"\s+|(?:\x1b\[[0-9;]*m|[^\s\x1b])+|\x1b")
_LEAST = 20  # columns that are left for text at least, else it begins at the left


def colour_wanted(no_color: bool = False) -> bool:
    """Colour goes to terminals only, never where NO_COLOR or --no-color says otherwise."""
    return not no_color and not os.environ.get("NO_COLOR") and sys.stdout is not None and sys.stdout.isatty()


def width_of(text: str) -> int:
    """Columns that a text takes; wide characters of East Asian scripts take two."""
    bare = _COLOUR.sub("", text)
    if bare.isascii():
        return len(bare)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in bare)


def fit_line(line: str, width: int) -> list[str]:
    """A line as lines of at most `width` columns. It is broken at blanks; a word that is longer is broken, too."""
    if width_of(line) <= width:
        return [line]
    indent = len(line) - len(line.lstrip(" "))
    column = _COLUMN.match(_COLOUR.sub("", line))
    hang = column.end() if column is not None and indent < 4 else indent + 2
    hang = hang if width - hang >= _LEAST else 2
    out: list[str] = []
    now = ""
    for piece in _pieces(line, width - max(hang, indent)):
        if now.strip() and width_of(now + piece.rstrip(" ")) > width:
            out.append(now.rstrip(" "))
            now = " " * hang + piece.lstrip(" ")
        else:
            now += piece
    return [*out, now.rstrip(" ")] if now.strip() else out


def _pieces(line: str, longest: int) -> Iterator[str]:
    """Words and blanks of a line; a word that no line could hold in parts, two columns a character at most."""
    for found in _PIECE.finditer(line):
        piece = found[0]
        if width_of(piece) <= longest or piece.isspace():
            yield piece
            continue
        step = longest if piece.isascii() else max(1, longest // 2)
        bare = _COLOUR.sub("", piece)
        yield from (bare[at : at + step] for at in range(0, len(bare), step))


class FittingStream:
    """A terminal's stream on which no line is wider than the terminal. Everything but writing is the stream's own."""

    # what moves the cursor is not text: progress bars
    _MOVES = re.compile(r"\r|\x1b(?!\[[0-9;]*m)")

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write text, its lines broken where they are too wide. Returns the number of characters given."""
        if self._MOVES.search(text):
            self._stream.write(text)
        else:
            import shutil

            width = shutil.get_terminal_size().columns
            lines = text.split("\n")
            self._stream.write("\n".join("\n".join(fit_line(line, width)) if line else "" for line in lines))
        return len(text)


def fit_streams(words: Sequence[str]) -> None:
    """Break too wide lines of standard output and standard error from here on, where these are terminals. `words` are
    those of the command line: data that was asked for (--format, a patch) is not touched."""
    data = {"json", "dot", "graphml"} & {word.removeprefix("--format=") for word in words} or "remedy" in words[:1]
    if not data and sys.stdout is not None and sys.stdout.isatty():
        sys.stdout = FittingStream(sys.stdout)
    if sys.stderr is not None and sys.stderr.isatty():
        sys.stderr = FittingStream(sys.stderr)


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
        took = f"{seconds:8.1f} s" if seconds is not None else ""
        click.echo(f"{shown}{text:<64}{took}".rstrip(), err=self.err)

    def say(self, text: str | bytes, *, err: bool = False, nl: bool = True) -> None:
        """What --quiet leaves: findings, and an answer that is text."""
        if not self.replaced:
            click.echo(text, err=err or self.err, nl=nl)

    def refused(self, refusals: Sequence[Refusal]) -> None:
        """The reasons against a patch, where they are not in another form of the answer."""
        if refusals and not self.replaced:
            show_error(Refused(list(refusals)))

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
        count = len(error.refusals)
        click.echo(f"{head('refused')}   {count} reason{'s' if count != 1 else ''}", err=True)
        shown = error.refusals
        if count > MOST_REFUSALS:
            click.echo(summarise_refusals(error.refusals), err=True)
            shown = shown[:_SHOWN_OF_MANY]
        for refusal in shown:
            place, fact, remedy = printable(refusal.place), indent_lines(refusal.fact), indent_lines(refusal.remedy)
            click.echo(f"\n{refusal.code}   {place}\n  {fact}\n  -> {remedy}", err=True)
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


def summarise_refusals(refusals: Sequence[Refusal]) -> str:
    """What many refusals have in common: how many there are of each code, and a file with all of them, which is written
    to the directory for temporary files."""
    import tempfile

    counts = Counter(refusal.code for refusal in refusals)
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
