# SPDX-License-Identifier: GPL-2.0-or-later
"""A man page (man-pages(7), man(7)) from a command: its help, options and exit statuses."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import click

from kgbuild import __version__
from kgbuild.cli.contract.commands import EVERY_STATUS, STATUSES

_WIDE = 66  # columns of an example
_SEE = "https://docs.kernel.org/livepatch/livepatch.html"


def escape(text: str) -> str:
    """Text as roff shows it: no character of it is a request or an escape, a hyphen is one that can be copied."""
    shown = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\`")
    return re.sub(r"^\.", r"\\&.", shown, flags=re.MULTILINE)


def page_name(path: Sequence[str]) -> str:
    """The name of a command's page: kgbuild-kernel-fetch."""
    return "-".join(path)


def man_page(path: Sequence[str], command: click.Command, others: Sequence[str]) -> str:
    """The page of a command. `path`: its words, beginning with kgbuild; `others`: names of pages to see as well."""
    return "\n".join(_lines(path, command, others)) + "\n"


def _lines(path: Sequence[str], command: click.Command, others: Sequence[str]) -> Iterator[str]:
    name, full = page_name(path), " ".join(path)
    context = click.Context(command, info_name=full)
    yield f'.TH "{escape(name.upper())}" "1" "" "kgbuild {escape(__version__)}" "User Commands"'
    yield from (".SH NAME", f"{escape(name)} \\- {escape(command.get_short_help_str(200).rstrip('.'))}")
    yield from (".SH SYNOPSIS", f".B {escape(full)}")
    yield escape(" ".join(command.collect_usage_pieces(context)))
    yield ".SH DESCRIPTION"
    description, examples = _split(command.help or command.get_short_help_str(200))
    for paragraph in description:
        yield from (".PP", escape(paragraph))
    if isinstance(command, click.Group):
        yield ".SH COMMANDS"
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            said = found.get_short_help_str(200) if found is not None else ""
            yield from (".TP", f".BR {escape(page_name([*path, below]))} (1)", escape(said))
    options = [
        record
        for param in command.params
        if isinstance(param, click.Option) and (record := param.get_help_record(context))
    ]
    if options:
        yield ".SH OPTIONS"
        for option, said in options:
            yield from (".TP", f".B {escape(option)}", escape(said or "This text."))
    yield ".SH EXIT STATUS"
    statuses = STATUSES.get(" ".join(path[1:]), EVERY_STATUS)
    for status, said in {**statuses, 130: "interrupted"}.items():
        yield from (".TP", f".B {status}", escape(said))
    if examples:
        yield from (".SH EXAMPLES", ".nf", *map(escape, examples), ".fi")
    yield from (".SH FILES", ".TP", ".I ~/.cache/kgbuild", "kernels, toolchains and results (XDG_CACHE_HOME)")
    yield ".SH ENVIRONMENT"
    yield from (".TP", ".B NO_COLOR", "No colour.")
    yield ".SH SEE ALSO"
    yield ",\n".join(f".BR {escape(other)} (1)" for other in others).replace(",\n.BR", " ,\n.BR")
    yield from (".PP", escape(_SEE))


def _split(text: str) -> tuple[list[str], list[str]]:
    """The paragraphs of a help text, and the lines of its examples (after click's mark for text kept as it is)."""
    paragraphs, examples = [], []
    for block in text.replace("\r", "").split("\n\n"):
        lines = block.split("\n")
        if lines[0].strip() == "\b":
            kept = [line.strip() for line in lines[1:] if line.strip() not in ("", "Example:", "Examples:")]
            joined = "\n".join(kept).replace(" \\\n", " ").split("\n")
            examples += [part for line in joined for part in _folded(line)]
        else:
            paragraphs.append(" ".join(" ".join(lines).split()))
    return [p for p in paragraphs if p], examples


def _folded(command: str) -> list[str]:
    """A command as lines that fit a page, as a shell reads them."""
    words = command.split(" ")
    lines = [words[0]]
    for word in words[1:]:
        if len(lines[-1]) + len(word) > _WIDE:
            lines.append(f"    {word}")
        else:
            lines[-1] += f" {word}"
    return [f"{line} \\" for line in lines[:-1]] + lines[-1:]
