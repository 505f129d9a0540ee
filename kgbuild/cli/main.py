# SPDX-License-Identifier: GPL-2.0-or-later
"""The `kgbuild` command. Subcommands are imported when they are called, so that --help stays fast."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from kgbuild import __version__
from kgbuild.cli.contract.commands import Group
from kgbuild.errors import KgbuildError

if TYPE_CHECKING:
    from kgbuild.report.documents import ErrorRow

# name -> (module, attribute, one line for --help); the order is the order of --help
COMMANDS = {
    "build": ("kgbuild.cli.build", "build", "Build a live patch module from source diffs."),
    "impact": ("kgbuild.cli.impact", "impact", "Show what a patch would touch, and why."),
    "why": ("kgbuild.cli.impact", "why", "Show why a function is in a patch."),
    "explain": ("kgbuild.cli.review.explain", "explain", "Show a function's code before and after a patch."),
    "remedy": ("kgbuild.cli.remedy", "remedy", "Rewrite a refused patch with shadow variables or callbacks."),
    "report": ("kgbuild.cli.review.report", "report", "Make a page or a comment of a run's report."),
    "diff": ("kgbuild.cli.diff", "diff", "Compare two objects of one unit."),
    "verify": ("kgbuild.cli.verify", "verify", "Check a live patch module against a kernel."),
    "vm": ("kgbuild.cli.vm", "vm", "Boot the kernel in QEMU, load the patch, check, unload."),
    "reproduce": ("kgbuild.cli.delivery.reproduce", "reproduce", "Build a module again and compare."),
    "sign": ("kgbuild.cli.delivery.sign", "sign", "Sign a module."),
    "package": ("kgbuild.cli.delivery.package", "package", "Make packages of a release or a module."),
    "repo": ("kgbuild.cli.delivery.package", "repo", "Make a repository of packages that apt and dnf read."),
    "status": ("kgbuild.cli.delivery.machine", "status", "Show how the running kernel is patched."),
    "load": ("kgbuild.cli.delivery.machine", "load", "Load a live patch into the running kernel."),
    "unload": ("kgbuild.cli.delivery.machine", "unload", "Take a live patch out of the running kernel."),
    "install": ("kgbuild.cli.delivery.machine", "install", "Load a live patch now and at every boot."),
    "rollback": ("kgbuild.cli.delivery.machine", "rollback", "Go back to the live patch before."),
    "facts": ("kgbuild.cli.graph", "facts", "Show what is known about one function."),
    "graph": ("kgbuild.cli.graph", "graph", "Show who calls a function, or what it calls."),
    "audit": ("kgbuild.cli.review.audit", "audit", "Count what in a kernel stands in the way of patches."),
    "init": ("kgbuild.cli.releases.directory", "init", "Make a directory for fixes of many kernels."),
    "add": ("kgbuild.cli.releases.directory", "add", "Add a fix to a directory of fixes."),
    "affected": ("kgbuild.cli.releases.affected", "affected", "Show which kernels are affected by what fixes repair."),
    "matrix": ("kgbuild.cli.releases.matrix", "matrix", "Try all fixes on all kernels, as one table."),
    "backport": (
        "kgbuild.cli.releases.backport",
        "backport",
        "Write a fix's patch for a kernel that it conflicts with.",
    ),
    "release": ("kgbuild.cli.releases.release", "release", "Release a cumulative module for each kernel."),
    "vex": ("kgbuild.cli.releases.release", "vex", "Write what modules fix, as OpenVEX, CSAF or OSV."),
    "kernel": ("kgbuild.cli.kernel", "kernel", "Fetch, list, add and remove kernels."),
    "toolchain": ("kgbuild.cli.toolchain", "toolchain", "Show, fetch and remove compilers."),
    "cache": ("kgbuild.cli.cache", "cache", "Show what the cache holds, and make it smaller."),
    "doctor": ("kgbuild.cli.doctor", "doctor", "Show what is missing on this machine."),
    "man": ("kgbuild.cli.install.commands", "man", "Write man pages."),
    "completion": ("kgbuild.cli.install.commands", "completion", "Write the completion of a shell."),
}


class LazyGroup(Group):
    """A group whose commands are named in COMMANDS and imported only when used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            name, command, rest = super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, 1)
            if near:
                raise click.UsageError(f"{error.message} Did you mean {near[0]!r}?", ctx) from error
            raise
        if command is not None:
            check_given_once(command, rest, ctx)
        return name, command, rest

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])


def check_given_once(command: click.Command, words: Sequence[str], parent: click.Context) -> None:
    """Raise click.UsageError where an option of `command`, or of the command in its group that `words` name, stands in
    `words` more often than it may: click would silently take the last. Flags may be repeated, they say the same. Other
    faults are for click to find."""
    context = click.Context(command, parent=parent, info_name=command.name)
    try:
        _, rest, order = command.make_parser(context).parse_args(list(words))
    except click.UsageError:
        return
    for option in dict.fromkeys(order):
        once = isinstance(option, click.Option) and not (option.multiple or option.is_flag or option.count)
        times = sum(one is option for one in order)
        if once and times > 1:
            said = "twice" if times == 2 else f"{times} times"
            raise click.UsageError(f"{'/'.join(option.opts)} is given {said}; it may be given once.", context)
    if isinstance(command, click.Group) and rest:
        below = command.get_command(context, rest[0])
        if below is not None:
            check_given_once(below, rest[1:], context)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="kgbuild")
def main() -> None:
    """Turn a source diff into a live patch module for one exact kernel, and prove what can be proved.

    \b
    Example:
      kgbuild build fix.patch --kernel debian:newest-6.1-cloud -o livepatch-fix.ko
    """


def machine_fault(error: Exception) -> KgbuildError | None:
    """What to say of an error that only a machine with too little memory, or too few threads, gives; None for any
    other error."""
    from kgbuild.host.system.run import MORE_MEMORY

    said = str(error)
    if isinstance(error, MemoryError):
        return KgbuildError("there is not enough memory", remedy=MORE_MEMORY)
    if isinstance(error, ImportError) and "failed to map segment" in said:
        return KgbuildError("a library can't be loaded: there is not enough memory", remedy=MORE_MEMORY)
    if isinstance(error, RuntimeError) and "can't start new thread" in said:
        return KgbuildError("no thread can be started", remedy="allow more processes (ulimit -u) or memory (ulimit -v)")
    return None


def run() -> None:
    """Entry point: maps every error to one message, one JSON document where that is asked for, and the exit codes of
    the command-line contract."""
    import gc

    from kgbuild.cli.contract.line_width import fit_streams
    from kgbuild.cli.contract.outcome import DELIVERED, read_command_line, tell
    from kgbuild.cli.contract.safe_streams import guard_streams
    from kgbuild.host.system.children import stop_with_children

    # what is made lives as long as the run does; looking for garbage in it again and again is a tenth of a short one
    gc.set_threshold(100_000, 20, 20)
    DELIVERED.printed = DELIVERED.reported = False
    DELIVERED.closed = sys.stdout is None
    _open_streams()
    # the guard escapes what it is given, and hands lines on to be fitted
    fit_streams(sys.argv[1:])
    guard_streams()
    stop_with_children()
    status, errors = _run()
    if errors:
        tell(read_command_line(main, sys.argv[1:]), status, errors)
    if "lief" not in sys.modules:
        # Python looks for cycles once more when it ends, in all that is left: nothing waits for that, but LIEF, which
        # lists on standard error what of it was not freed
        gc.freeze()
    sys.exit(status)


def _run() -> tuple[int, list[ErrorRow]]:
    """Run the command; tell a person of the error that ends it. Returns the exit status, and the rows of the error."""
    from kgbuild.cli import ui
    from kgbuild.diagnostics import run_errors
    from kgbuild.report.documents import error_row, error_rows

    try:
        status = main.main(prog_name="kgbuild", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else error.format_message(), err=True)
        return 2, [error_row(run_errors.USAGE, "no command is given", "", "see kgbuild --help")]
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return 130, [error_row(run_errors.INTERRUPTED, "interrupted", "", "run the command again")]
    except click.exceptions.Exit as error:
        status = error.exit_code
    except click.ClickException as error:
        error.show()
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else "kgbuild"
        return 2, [error_row(run_errors.USAGE, error.format_message(), path, f"see {path} --help")]
    except KgbuildError as error:
        ui.show_error(error)
        return error.exit_code, error_rows(error)
    except BrokenPipeError:
        sys.stderr.close()
        return 0, []
    except OSError as error:
        return 3, error_rows(ui.show_os_error(error))
    except (MemoryError, ImportError, RuntimeError) as error:
        known = machine_fault(error)
        if known is None:
            return _internal(error)
        ui.show_error(known)
        return 3, error_rows(known)
    except Exception as error:
        return _internal(error)
    return status if isinstance(status, int) else 0, []


def _internal(error: Exception) -> tuple[int, list[ErrorRow]]:
    """A fault of kgbuild itself: its place for who fixes it, a document for who waits for one."""
    import traceback

    from kgbuild.diagnostics import run_errors
    from kgbuild.report.documents import error_row

    traceback.print_exc()
    fact = f"{type(error).__name__}: {error}"
    return 3, [error_row(run_errors.INTERNAL, fact, "", run_errors.RULES[run_errors.INTERNAL].remedy)]


def _open_streams() -> None:
    """Where a standard stream is closed, the next file that is opened would take its place, and be written over by what
    is meant for the stream: give it to /dev/null."""
    import os

    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


if __name__ == "__main__":
    run()
