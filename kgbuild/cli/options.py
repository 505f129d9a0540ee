# SPDX-License-Identifier: GPL-2.0-or-later
"""Options that mean the same everywhere, and the files that they name."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kgbuild.cli import ui
from kgbuild.cli.contract.completers import complete_kernels
from kgbuild.cli.contract.outcome import DELIVERED
from kgbuild.errors import ToolError
from kgbuild.host.system.output_files import (
    STDIN,
    STDOUT,
    Input,
    PlannedOutput,
    check_outputs,
    is_standard_output,
    read_standard_input,
    write_directory,
    write_file,
)
from kgbuild.host.system.output_kinds import PAGE, REPORT, OutputKind
from kgbuild.limits import PATCH_BYTES
from kgbuild.report.documents import ErrorRow, with_outcome
from kgbuild.report.formats import FORMATS, Answer, json_text, render
from kgbuild.report.formats.json import JSON
from kgbuild.report.formats.text import TEXT

if TYPE_CHECKING:
    from kgbuild.host.compile.apply_patches import PatchInput

__all__ = ["STDOUT", "write_directory", "write_file"]
_Decorator = Callable[[Callable[..., None]], Callable[..., None]]


class OutputFile(click.Path):
    """A file to write, or "-" for standard output. That it can't be is said before any work is done (exit 2).

    kind        what is written, by which an earlier one is known
    fallback    what is written where the option is not given, from the values of the others; None: nothing
    is_answer   standard output is where the command's answer goes anyway, in the form of --format
    as_json     standard output means --format json
    """

    def __init__(
        self,
        kind: OutputKind = REPORT,
        *,
        fallback: Callable[[Mapping[str, Any]], Path | None] | None = None,
        is_answer: bool = False,
        as_json: bool = False,
    ) -> None:
        super().__init__(path_type=Path)
        self.kind, self.fallback, self.is_answer, self.as_json = kind, fallback, is_answer, as_json

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "-":
            return STDOUT
        path = Path(value)
        if is_standard_output(path):
            return STDOUT
        target = Path(os.path.realpath(path))
        if target.is_dir() or str(value).endswith("/"):
            self.fail(f"{path} is a directory; name a file in it", param, ctx)
        if not target.parent.is_dir():
            self.fail(f"directory {target.parent if path.is_symlink() else path.parent} does not exist", param, ctx)
        own = os.path.lexists(target) and os.access(target, os.W_OK)
        if not (own or (not os.path.lexists(target) and os.access(target.parent, os.W_OK))):
            self.fail(f"{path} can't be written to", param, ctx)
        return path


class NewDirectory(click.Path):
    """A directory to fill. It must not exist, or be empty, so that no file of the user's is in danger (exit 2); with
    --force it may hold files."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = Path(value)
        forced = ctx is not None and bool(ctx.params.get("force"))
        if path.exists() or path.is_symlink():
            if not path.is_dir():
                self.fail(f"{path} is not a directory", param, ctx)
            if any(path.iterdir()) and not forced:
                self.fail(f"{path} is not empty; name a new directory", param, ctx)
        elif not path.parent.is_dir():
            self.fail(f"directory {path.parent} does not exist", param, ctx)
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            self.fail(f"{path} can't be written to", param, ctx)
        return path


class KeepDirectory(click.Path):
    """A directory in which each stage leaves its files, below names of its own. What an earlier run left is written
    over, other files are not, without --force (exit 2)."""

    STAGES: Mapping[str, Callable[[str], bool]] = {
        "1-compile": lambda name: name.endswith((".orig.o", ".patched.o")),
        "2-link": lambda name: name in ("output.o", "linked.ko") or name.endswith(".mod.c"),
    }

    def __init__(self) -> None:
        super().__init__(path_type=Path, file_okay=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path: Path = super().convert(value, param, ctx)  # type: ignore[assignment]
        forced = ctx is not None and bool(ctx.params.get("force"))
        for stage, is_ours in self.STAGES.items():
            folder = path / stage
            if os.path.lexists(folder) and (folder.is_symlink() or not folder.is_dir()):
                self.fail(f"{folder} is no directory", param, ctx)
            others = [f for f in folder.rglob("*") if not f.is_dir() and (f.is_symlink() or not is_ours(f.name))]
            if others and not forced:
                self.fail(f"{others[0]} was not left by an earlier run; name a new directory", param, ctx)
        return path


class PatchFile(click.Path):
    """A patch to read; "-" is standard input, which may be named once."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return (
            STDIN if value in ("-", str(STDIN), "/dev/fd/0", "/proc/self/fd/0") else super().convert(value, param, ctx)
        )


git_option = click.option(
    "--git",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    metavar="DIR",
    help="A kernel's git tree; patches are commits or ranges (A..B) of it.",
)


def patches_of(patches: Sequence[PatchInput], git: Path | None) -> tuple[PatchInput, ...]:
    """The patches that a command is given: as they are, or those of the commits of a git tree that they name. Raises
    UserError."""
    if git is None:
        return tuple(patches)
    from kgbuild.host.compile.apply_patches import NamedPatch
    from kgbuild.host.patches.git_patches import GitTree

    if not all(isinstance(name, Path) for name in patches):
        raise click.UsageError("with --git, patches are commits of that tree; leave out -")
    return tuple(NamedPatch(*found) for found in GitTree(git).patches([str(name) for name in patches]))


kernel_option = click.option(
    "--kernel",
    "kernel_name",
    required=True,
    metavar="NAME",
    shell_complete=complete_kernels,
    help="Name of the kernel, e.g. debian:newest-6.1-cloud; see kgbuild kernel --help.",
)
report_option = click.option(
    "--report",
    type=OutputFile(REPORT),
    metavar="FILE",
    help="Write a JSON report beside the normal output; - is standard output.",
)
html_option = click.option(
    "--html",
    type=OutputFile(PAGE),
    metavar="FILE",
    help="Write a page for reviewers: one file that loads nothing; - is standard output.",
)
against_option = click.option(
    "--against",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="MODULE",
    help="Warn of functions that this live patch module replaces too.",
)
assume_callers_option = click.option(
    "--assume-in-tree-callers",
    is_flag=True,
    help="Where an exported function can't be redirected, take along its callers in the kernel and its modules; the "
    "module refuses to load beside others. Recorded.",
)
all_reasons_option = click.option(
    "--all-reasons",
    is_flag=True,
    help="Where the first units show that the patch is refused, go on with all others, and list every reason.",
)
dynamic_keys_option = click.option(
    "--no-dynamic-keys",
    is_flag=True,
    help="Refuse patched code that needs a static key or static call of its module, instead of reading it at run time.",
)
jobs_option = click.option(
    "--jobs", "-j", type=click.IntRange(1), default=lambda: os.cpu_count() or 1, help="Programs run at a time [CPUs]."
)
pull_option = click.option(
    "--pull",
    type=click.Choice(["proof", "always"]),
    default="proof",
    show_default=True,
    help="Which callees stay in the kernel: those proven to be the same, or no clone that gcc made.",
)
backend_option = click.option(
    "--backend",
    type=click.Choice(["klp", "kallsyms", "kgraft"]),
    help="How the module reaches what the kernel does not export [klp if the kernel supports it].",
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
    taken: bool = False  # standard output is a file that the user asked for: text goes to standard error

    def output(self, answer_to: Path | None = None, *, spoken: bool = True) -> ui.Output:
        """Where a command tells of its work: nowhere where another form than text takes standard output, which a
        drawing does not where it goes to a file. Not `spoken`: something else takes it, and only findings are told."""
        replaced = self.form != TEXT.name
        quiet = self.quiet or not spoken or (replaced and (answer_to is None or FORMATS[self.form].of_data))
        verbose = self.verbose and not quiet
        return ui.Output(quiet=quiet, verbose=verbose, no_color=self.no_color, replaced=replaced, err=self.taken)

    def details(self) -> ui.Output:
        """Where a command whose answer is text tells of its work: with --verbose alone."""
        quiet = not self.verbose or self.form != TEXT.name
        return ui.Output(quiet=quiet, no_color=self.no_color, err=self.taken)

    def deliver(
        self,
        answer: Answer,
        to: Path | None = None,
        *,
        out: ui.Output | None = None,
        unless_quiet: bool = False,
        status: int = 0,
        errors: Sequence[ErrorRow] = (),
    ) -> None:
        """Write the report where --report says, and the answer in the form of --format: to a file, which `out` is told
        of, or to standard output; a JSON document to both. `status` is what the run ends with, `errors` why.
        `unless_quiet`: --quiet leaves out lines on standard output. Raises ToolError."""
        if FORMATS[self.form].of_data or self.report is not None:
            data = with_outcome(answer.data(), status, errors)
            answer = answer._replace(data=lambda: data)
        if self.report is not None:
            DELIVERED.reported = True
            self.write(self.report, json_text(answer.data()).encode())
        encoding = (sys.stderr if self.taken else sys.stdout).encoding if sys.stdout is not None else ""
        hidden = to is None and unless_quiet and self.quiet and self.form == TEXT.name
        text = "" if hidden else render(answer, self.form, unicode="utf" in (encoding or "").lower())
        if to is not None:
            self.write(to, text.encode())
        if to is None or self.form == JSON.name:
            if text and DELIVERED.closed and not self.taken:
                raise ToolError("standard output is closed", remedy="open it, or name a file with --report")
            DELIVERED.printed = True
            click.echo(text, nl=False, err=self.taken)
        if to is not None and out is not None:
            out.line("wrote", str(to))

    def deliver_data(self, answer: Answer, *, status: int, errors: Sequence[ErrorRow]) -> None:
        """Deliver the answer of a run that failed: in a form that is made of data, since there is nothing to draw."""
        form = self.form if FORMATS[self.form].of_data else TEXT.name
        replace(self, form=form).deliver(answer, status=status, errors=errors)

    def write(self, path: Path, data: bytes) -> None:
        """Write a file that the user asked for; STDOUT is standard output. Raises ToolError."""
        if path == STDOUT:
            click.echo(data, nl=False)
        else:
            write_file(path, data)


_COMMON = (
    click.option("--force", is_flag=True, is_eager=True, help="Overwrite files that kgbuild did not make."),
    click.option("--offline", is_flag=True, help="Use only the cache; download nothing."),
    click.option("--no-color", is_flag=True, help="No colour (also: NO_COLOR)."),
    click.option("--verbose", "-v", is_flag=True, help="Print details of each step."),
    click.option("--quiet", "-q", is_flag=True, help="Print errors and findings only."),
    report_option,
)


def tool_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command --toolchain, --no-sandbox, --mirror and --compile-timeout, as its argument `tools`
    (model.ToolChoice)."""

    @functools.wraps(command)
    def with_tools(
        *args: Any, toolchain: str, no_sandbox: bool, mirror: str, compile_timeout: int, **values: Any
    ) -> None:
        from kgbuild.model import ToolChoice

        command(*args, tools=ToolChoice(toolchain == "host", not no_sandbox, mirror, compile_timeout), **values)

    wrapped: Callable[..., None] = with_tools
    for option in (
        click.option(
            "--compile-timeout",
            type=click.IntRange(1, 86400),
            default=600,
            show_default=True,
            metavar="SECONDS",
            help="How long one compile may take.",
        ),
        click.option("--mirror", default="", metavar="URL", help="Mirror of the kernel's distribution."),
        click.option(
            "--no-sandbox", is_flag=True, help="Compile without a sandbox, by this machine's programs; recorded."
        ),
        click.option(
            "--toolchain",
            type=click.Choice(["exact", "host"]),
            default="exact",
            show_default=True,
            help="Programs that compile: those that built the kernel, or this machine's own.",
        ),
    ):
        wrapped = option(wrapped)
    return wrapped


def sign_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command --sign-key and --sign-cert, as `sign_key` and `sign_cert`."""
    certificate = click.option(
        "--sign-cert",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="CERT",
        help="Certificate of --sign-key, in PEM.",
    )
    key = click.option(
        "--sign-key",
        metavar="KEY",
        help="Sign with this key: a PEM file or a pkcs11: URI; KGBUILD_SIGN_PIN has its passphrase or PIN.",
    )
    return key(certificate(command))


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


ABOUT_REVIEW = (
    "Normal output: text, the report as JSON, a comment for a merge request, a drawing, or what CI systems read."
)


def common_options(*more: str, about: str = "Normal output: text, or the report as JSON.") -> _Decorator:
    """Give a command --format, --report, --quiet, --verbose, --no-color and --offline, as its argument `common`. It
    offers text, JSON and the formats that `more` names; `about` is the help of --format."""
    offered = [TEXT.name, JSON.name, *(FORMATS[name].name for name in more)]
    form = click.option("--format", "form", type=click.Choice(offered), default="text", show_default=True, help=about)
    return lambda command: _common(command, form)


def _common(command: Callable[..., None], form: Callable[..., Any]) -> Callable[..., None]:
    @functools.wraps(command)
    def with_common(*args: Any, **values: Any) -> None:
        values["taken"] = _settle_files(click.get_current_context().command, values)
        common = Common(**{field.name: values.pop(field.name) for field in fields(Common)})
        if common.no_color:
            # for all that looks at it: error messages, which know no options, and the bars
            os.environ["NO_COLOR"] = "1"
        command(*args, common=common, **values)

    wrapped: Callable[..., None] = with_common
    for option in (*_COMMON, form):
        wrapped = option(wrapped)
    return wrapped


def _settle_files(command: click.Command, values: dict[str, Any]) -> bool:
    """Check all files that a command is to write against all that it reads, for every command in this one place, and
    read standard input where it is a patch. Changes `values`; says whether an output takes standard output.

    Raises OutputRefused and UsageError, before anything is done.
    """
    outputs, inputs, waiting = [], [], []
    for param in command.params:
        if isinstance(param.type, OutputFile) and param.type.as_json and values[param.name or ""] == STDOUT:
            values[param.name or ""], values["form"] = None, JSON.name
    standard = ["the output of --format"] if values["form"] != TEXT.name else []
    for param in command.params:
        name, kind = param.name or "", param.type
        if isinstance(kind, OutputFile):
            path = values[name]
            if path is None and kind.fallback is not None:
                path = values[name] = kind.fallback(values)
            if path == STDOUT and kind.is_answer:
                values[name] = None
            elif path == STDOUT:
                standard.append(param.opts[0])
            elif path is not None:
                outputs.append(PlannedOutput(param.opts[0], path, kind.kind))
        elif isinstance(kind, NewDirectory) and values[name] is not None:
            outputs.append(PlannedOutput(param.opts[0], values[name], None))
        elif isinstance(kind, KeepDirectory) and values[name] is not None:
            outputs += [PlannedOutput(param.opts[0], values[name] / stage, None) for stage in kind.STAGES]
        elif isinstance(kind, click.Path) and not isinstance(kind, (NewDirectory, KeepDirectory)):
            given = values[name] if isinstance(values[name], tuple) else (values[name],)
            called = param.opts[0] if isinstance(param, click.Option) else param.human_readable_name
            inputs += [Input(called, path) for path in given if path not in (None, STDIN)]
            if STDIN in given:
                waiting.append(name)
                if given.count(STDIN) > 1:
                    raise click.UsageError("standard input can be read once: give - once")
    force = values.pop("force")
    if len(standard) > 1:
        raise click.UsageError(f"standard output is asked for twice: {' and '.join(standard)}")
    kept = []
    if outputs:
        inputs += _kernel_files(values.get("kernel_name", ""), outputs) if force else []
        from kgbuild.host.system.ownership import cache_root

        kept.append(cache_root())
    check_outputs(outputs, inputs, force=force, kept=kept)
    for name in waiting:
        values[name] = tuple(read_standard_input(PATCH_BYTES) if path == STDIN else path for path in values[name])
    return bool(standard) and values["form"] == TEXT.name


def _kernel_files(name: str, outputs: Sequence[PlannedOutput]) -> list[Input]:
    """The files of the kernel that are read: a kernel that was added by hand has them in the user's directories. Looked
    for only where something is there that would be overwritten."""
    if not name or not any(output.path.exists() for output in outputs):
        return []
    from kgbuild.errors import KgbuildError
    from kgbuild.host.kernels.acquire import find_kernel

    try:
        kernel = find_kernel(name, offline=True)
    except KgbuildError:
        return []
    if kernel is None:
        return []
    files = (kernel.config, kernel.symvers, kernel.vmlinux, kernel.image, kernel.source, kernel.build, kernel.modules)
    return [Input("--kernel", path) for path in files if path is not None]
