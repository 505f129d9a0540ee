# SPDX-License-Identifier: GPL-2.0-or-later
"""`kgbuild man` and `kgbuild completion`: what a package installs, made from the commands themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from kgbuild.cli import options
from kgbuild.cli.contract.commands import KgbuildCommand
from kgbuild.errors import UserError
from kgbuild.report.documents import schema_name
from kgbuild.report.formats import Answer

SHELLS = ("bash", "zsh", "fish")


def all_commands() -> dict[tuple[str, ...], click.Command]:
    """Every command by its words, beginning with kgbuild, groups before what is in them."""
    from kgbuild.cli.main import main

    return dict(_below(("kgbuild",), main))


def _below(path: tuple[str, ...], command: click.Command) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=" ".join(path))
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None:
                yield from _below((*path, name), found)


@click.command(cls=KgbuildCommand, short_help="Write man pages.")
@click.argument("command", nargs=-1)
@click.option(
    "-o",
    "--output",
    type=options.NewDirectory(),
    metavar="DIR",
    help="Write the pages of all commands into this new directory.",
)
@options.common_options()
def man(command: tuple[str, ...], output: Path | None, common: options.Common) -> None:
    """Write the man page of COMMAND, or of kgbuild, to standard output; with -o all pages into a directory, as packages
    install them in man1.

    --verbose lists each file that is written, --quiet nothing.

    \b
    Example:
      kgbuild man build | man -l -
      kgbuild man -o man1
    """
    from kgbuild.cli.install.roff import man_page, page_name

    found = all_commands()
    path = ("kgbuild", *command)
    if path not in found or (command and output is not None):
        fact = "is no command" if path not in found else "names one command, and -o writes the pages of all"
        raise UserError(fact, place=" ".join(path), remedy="see kgbuild --help")
    names = [page_name(each) for each in found]
    pages = {page_name(each): man_page(each, one, _see(each, names)) for each, one in found.items()}
    wanted = pages if output is not None else {page_name(path): pages[page_name(path)]}
    out = common.output(spoken=output is not None)
    if output is not None:
        options.write_directory(output, {f"{name}.1": text.encode() for name, text in pages.items()})
    rows = [{"name": f"{name}.1", "text": text} for name, text in wanted.items()]
    data = {"schema": schema_name("man"), "schema_version": 1, "pages": rows}
    text = pages[page_name(path)].splitlines()
    common.deliver(Answer(lambda: data, (lambda unicode: text) if output is None else None))
    if output is not None:
        out.line("wrote", f"{output}  {len(pages)} pages")
        for name in wanted:
            out.note(f"{output / name}.1")


def _see(path: tuple[str, ...], names: list[str]) -> list[str]:
    """Pages to see as well: the command's group and what is in it, for kgbuild itself all others."""
    own = "-".join(path)
    above = "-".join(path[:-1]) or own
    return [n for n in names if n != own and (n == above or n.startswith(f"{own}-") or n.rpartition("-")[0] == above)]


@click.command(cls=KgbuildCommand, short_help="Write the completion of a shell.")
@click.argument("shell", type=click.Choice(SHELLS))
@options.common_options()
def completion(shell: str, common: options.Common) -> None:
    """Write the script by which SHELL completes kgbuild's commands: options, kernels of the cache, functions of a
    kernel's index, codes of refusals.

    \b
    Example:
      kgbuild completion bash > ~/.local/share/bash-completion/completions/kgbuild
      kgbuild completion zsh > ~/.zfunc/_kgbuild
      kgbuild completion fish > ~/.config/fish/completions/kgbuild.fish
    """
    script = _script(shell)
    data = {"schema": schema_name("completion"), "schema_version": 1, "shell": shell, "script": script}
    common.deliver(Answer(lambda: data, lambda unicode: script.rstrip("\n").split("\n")))


def _script(shell: str) -> str:
    """click's script; for bash our own, which knows that names of kernels have a colon."""
    from importlib.resources import files

    from click.shell_completion import get_completion_class

    from kgbuild.cli.main import main

    if shell == "bash":
        return (files("kgbuild") / "data" / "completion.bash").read_text(encoding="utf-8")
    kind = get_completion_class(shell)
    assert kind is not None
    made = kind(main, {}, "kgbuild", "_KGBUILD_COMPLETE")
    return made.source_template % made.source_vars()
