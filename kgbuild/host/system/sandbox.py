# SPDX-License-Identifier: GPL-2.0-or-later
"""Running a program where it sees only what it needs: bubblewrap (bwrap(1)).

What compiles is a stranger's text, and what builds a kernel's tree are that tree's makefiles. They see a root of their
own (a toolchain's directory, or the system's programs), the directories that they are given, at the paths that these
have outside, and nothing else: no network, no other processes, no home, no environment but what is listed.
"""

from __future__ import annotations

import os
import re
import select
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from kgbuild.errors import ToolError
from kgbuild.host.system.children import ChildLimits, child_environment
from kgbuild.host.system.left_files import check_left
from kgbuild.host.system.run import Completed, check_status, run, stream_lines

PROGRAM = "bwrap"
# Top-level directories of a system that hold programs and libraries; links among them stay links.
_SYSTEM = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")
# Directories of an installation prefix that programs read.
_INSTALLED = ("lib", "lib32", "lib64", "libexec", "share/qemu")
_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
_TRY_SECONDS = 20.0
_TMP_BYTES = 1 << 31
# How long the system may take to end all processes of a sandbox whose first one was killed.
_END_SECONDS = 30.0
_TOLD_BYTES = 10_000
_FAILED = "run it again; kgbuild doctor shows whether a sandbox works on this machine"
# What links in a system's usr/bin lead through.
_LINKS = Path("/etc/alternatives")


def own_directories(program: Path) -> tuple[Path, ...]:
    """What a program outside of /usr needs of the prefix that it was installed to: programs and libraries. The prefix
    itself may be somebody's home. Empty for a program of the system."""
    if program.is_relative_to("/usr"):
        return ()
    prefix = program.parents[1]
    targets = (folder for folder in sorted(prefix.glob("*-linux-*")) if (folder / "bin").is_dir())
    found = (program.parent, *(prefix / name for name in _INSTALLED), *targets)
    return tuple(dict.fromkeys(folder for folder in found if folder.is_dir()))


@dataclass(frozen=True)
class Sandbox:
    """What a program sees.

    root      directory whose usr, bin, lib... become the system; / for this machine's own
    readable  files and directories that are there, read-only, at their own paths
    writable  directories that can be written
    mounts    (directory, place): directories that are there, read-only, at another place
    devices   files of /dev beside the harmless ones that every sandbox has
    """

    root: Path = Path("/")
    readable: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = ()
    mounts: tuple[tuple[Path, Path], ...] = ()
    devices: tuple[Path, ...] = ()

    def with_writable(self, writable: Sequence[Path]) -> Sandbox:
        """This sandbox with more directories that can be written."""
        return replace(self, writable=(*self.writable, *writable)) if writable else self

    def command(self, argv: Sequence[str | Path], cwd: Path | None, env: Mapping[str, str]) -> list[str]:
        """The command that runs `argv` in the sandbox, in the directory `cwd`, with the environment `env` alone."""
        words = [PROGRAM, "--unshare-all", "--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL"]
        words += [*self._system(), "--proc", "/proc", "--dev", "/dev", "--size", str(_TMP_BYTES), "--tmpfs", "/tmp"]
        words += ["--dir", "/etc"]
        if self.root == Path("/") and _LINKS.is_dir():
            words += ["--ro-bind", str(_LINKS), str(_LINKS)]
        for path in self.devices:
            words += ["--dev-bind", str(path), str(path)]
        for path, place in self.mounts:
            words += ["--ro-bind", str(path), str(place)]
        for path in self.readable:
            words += ["--ro-bind", str(path), str(path)]
        for path in self.writable:
            words += ["--bind", str(path), str(path)]
        for name, value in {**env, "PATH": _PATH, "HOME": "/", "TMPDIR": "/tmp"}.items():
            if not name.startswith("LD_"):
                words += ["--setenv", name, value]
        if cwd is not None:
            words += ["--chdir", str(cwd)]
        return [*words, "--", *map(str, argv)]

    def _system(self) -> list[str]:
        words: list[str] = []
        for name in _SYSTEM:
            path = self.root / name
            if path.is_symlink():
                words += ["--symlink", str(path.readlink()), f"/{name}"]
            elif path.is_dir():
                words += ["--ro-bind", str(path), f"/{name}"]
        return words


def check_sandbox() -> None:
    """Raise ToolError where this machine can't run anything in a sandbox, with what it said and what to do."""
    said = _refusal()
    if said:
        raise ToolError(said[0], place=PROGRAM, remedy=said[1])


@cache
def _refusal() -> tuple[str, str] | None:
    """(fact, remedy) where a sandbox does not work here; looked at once."""
    if shutil.which(PROGRAM) is None:
        return "not found on this machine", "install bubblewrap, or say --no-sandbox to compile without protection"
    command = Sandbox().command(["/bin/true"], None, {})
    try:
        done = run(command, check=False, timeout=_TRY_SECONDS)
        if done.status == 0:
            return None
        said = (done.stderr.strip().splitlines() or [f"ended with status {done.status}"])[-1]
    except ToolError as error:
        said = error.fact
    return (
        f"can't make a sandbox here: {said}",
        "allow user namespaces to this user (sysctl kernel.unprivileged_userns_clone=1, or a rule of AppArmor for "
        "bwrap), or say --no-sandbox to compile without protection",
    )


def stream_in(
    sandbox: Sandbox, argv: Sequence[str | Path], *, cwd: Path, env: Mapping[str, str], limits: ChildLimits
) -> Iterator[str]:
    """The lines that a program prints in a sandbox (run.py's `stream_lines`). Raises ToolError as that does."""
    check_sandbox()
    try:
        with _ended() as status:
            command = _telling(sandbox.command(argv, cwd, {"LC_ALL": "C", **env}), status.descriptor)
            yield from stream_lines(
                command,
                cwd=cwd,
                env=child_environment(),
                limits=limits,
                writes=sandbox.writable,
                descriptors=(status.descriptor,),
            )
        if not status.was_run:
            raise ToolError("could not be started in a sandbox", place=" ".join(map(str, argv[:3])), remedy=_FAILED)
    except ToolError as error:
        raise _named(error, argv) from error
    check_left(sandbox.writable, sandbox.readable)


def _telling(command: list[str], told: int) -> list[str]:
    return [command[0], "--json-status-fd", str(told), *command[1:]]


class _Status:
    """What bubblewrap tells: `descriptor` is where; `was_run`, whether the program was started and ended by itself, as
    opposed to bubblewrap having failed before."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.was_run = False


@contextmanager
def _ended() -> Iterator[_Status]:
    """The descriptor by which bubblewrap tells which process is the first in the sandbox. When the context ends, that
    one has ended, and with it all that the program had started: bubblewrap ends with the program, a moment before."""
    read, write = os.pipe()
    status = _Status(write)
    try:
        yield status
    finally:
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            said = pipe.read(_TOLD_BYTES)
        found = re.search(rb'"child-pid": *(\d+)', said)
        status.was_run = b'"exit-code"' in said
        if found is not None:
            with suppress(ProcessLookupError):
                process = os.pidfd_open(int(found[1]))
                poll = select.poll()
                poll.register(process, select.POLLIN)
                poll.poll(_END_SECONDS * 1000)
                os.close(process)


def _named(error: ToolError, argv: Sequence[str | Path]) -> ToolError:
    """The error with the program that the user knows, not what it runs in."""
    place = " ".join(map(str, argv[:3])) if error.place.startswith(PROGRAM) else error.place
    return ToolError(error.fact, place=place, remedy=error.remedy)


def run_in(
    sandbox: Sandbox,
    argv: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    check: bool = True,
    timeout: float | None = None,
    stdin: str | None = None,
    limits: ChildLimits | None = None,
) -> Completed:
    """Run a program in a sandbox as `run` does outside of one. Raises ToolError as that does, and where there can be
    no sandbox on this machine."""
    check_sandbox()
    try:
        with _ended() as status:
            command = _telling(sandbox.command(argv, cwd, {"LC_ALL": "C", **(env or {})}), status.descriptor)
            done = run(
                command,
                check=False,
                timeout=timeout,
                stdin=stdin,
                limits=limits,
                writes=sandbox.writable,
                descriptors=(status.descriptor,),
            )
        own = [line for line in done.stderr.splitlines() if line.startswith(f"{PROGRAM}: ")]
        if own and done.status != 0 and done.stopped_by is None and not status.was_run:
            # what bubblewrap says of itself is no answer of the program
            raise ToolError(f"could not be started in a sandbox: {own[-1]}", place=command[0], remedy=_FAILED)
        if check:
            check_status(command, done)
    except ToolError as error:
        raise _named(error, argv) from error
    check_left(sandbox.writable, sandbox.readable)
    return done
