# SPDX-License-Identifier: GPL-2.0-or-later
"""What programs that kgbuild runs may have of this machine: environment, time, memory, disk; and that none outlives it.

Each program gets a process group of its own, so that what it starts can be stopped with it. A small shell, the watcher,
knows the groups that are alive; it waits for the end of a pipe, which comes however this process ends, and kills what
is left. The environment of a program is made of an allow-list: dozens of variables change what gcc, tar or make do.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from types import FrameType
from typing import TYPE_CHECKING, NamedTuple

from kgbuild.limits import (
    COMPILE_MEMORY,
    COMPILE_OUTPUT,
    COMPILE_PROCESSES,
    COMPILE_SECONDS,
    COMPILE_WAIT,
    PREPARE_SECONDS,
    PREPARE_WAIT,
    WRITTEN_BYTES,
    Limit,
)

if TYPE_CHECKING:
    from pathlib import Path

_EVERY = ("PATH", "HOME", "USER", "LOGNAME", "LD_LIBRARY_PATH")
_NETWORK = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy", "APT_CONFIG", "SSL_CERT_FILE")


def child_environment(network: bool = False) -> dict[str, str]:
    """The environment of a program: of the user's own only what is on the list, and messages in English.

    network   whether it downloads something: then it is told of proxies
    """
    names = (*_EVERY, *_NETWORK, *(name.upper() for name in _NETWORK)) if network else _EVERY
    return {**{name: os.environ[name] for name in names if name in os.environ}, "LC_ALL": "C", "LANG": "C"}


class ChildLimits(NamedTuple):
    """What one program, and all that it starts, may take; what is exceeded is named by the limit."""

    seconds: Limit
    wait: Limit
    memory: Limit
    output: Limit
    processes: Limit
    written: Limit = WRITTEN_BYTES


COMPILE_LIMITS = ChildLimits(COMPILE_SECONDS, COMPILE_WAIT, COMPILE_MEMORY, COMPILE_OUTPUT, COMPILE_PROCESSES)
PREPARE_LIMITS = ChildLimits(PREPARE_SECONDS, PREPARE_WAIT, COMPILE_MEMORY, COMPILE_OUTPUT, COMPILE_PROCESSES)

# What programs say, or the shell and gcc say of them, where a limit stopped them. Matched against the end of messages.
_STOPPED = (
    ("memory", re.compile(r"out of memory|memory exhausted|cannot allocate memory|bad_alloc", re.IGNORECASE)),
    ("output", re.compile(r"file too large|file size limit exceeded", re.IGNORECASE)),
    ("seconds", re.compile(r"cpu time limit exceeded", re.IGNORECASE)),
    ("processes", re.compile(r"fork\S*: resource temporarily unavailable", re.IGNORECASE)),
)
_SIGNALS = {signal.SIGXCPU: "seconds", signal.SIGXFSZ: "output"}
_MARGIN = 5  # seconds
_SAID = 20_000  # characters at the end of what a program said


def limit_that_stopped(limits: ChildLimits, status: int, said: str) -> Limit | None:
    """Which limit made a program fail, by its exit status (negative: a signal) and what it said; None for another
    cause."""
    number = -status if status < 0 else status - 128
    name = next((name for at, name in _SIGNALS.items() if at == number), "")
    if not name and status:
        name = next((name for name, pattern in _STOPPED if pattern.search(said[-_SAID:])), "")
    return getattr(limits, name) if name else None


def wrapped(
    argv: Sequence[str], limits: ChildLimits | None, cwd: Path | None, environment: Mapping[str, str]
) -> list[str]:
    """The command with util-linux's programs before it that set its limits and have it die with this thread; the
    command itself where there are none, or the program does not exist (so that starting it says so)."""
    if not _exists(argv[0], cwd, environment.get("PATH", os.defpath)):
        return list(argv)
    return [*_tied(), *(_bounds(limits) if limits is not None else ()), *argv]


def _exists(program: str, cwd: Path | None, path: str) -> bool:
    if "/" in program:
        return os.access(os.path.join(cwd or "", program), os.X_OK)  # noqa: PTH118 # as exec does
    import shutil

    return shutil.which(program, path=path) is not None


@cache
def _tied() -> tuple[str, ...]:
    # PR_SET_PDEATHSIG, set by util-linux: doing it between fork and exec is not safe where there are threads.
    import shutil

    path = shutil.which("setpriv")
    return (path, "--pdeathsig", "KILL", "--") if path else ()


@cache
def _bounds(limits: ChildLimits) -> tuple[str, ...]:
    import shutil

    path = shutil.which("prlimit")
    if path is None:
        return ()
    wanted = (
        ("cpu", resource.RLIMIT_CPU, limits.seconds.most + _MARGIN),
        ("as", resource.RLIMIT_AS, limits.memory.most),
        ("fsize", resource.RLIMIT_FSIZE, limits.output.most),
        ("nproc", resource.RLIMIT_NPROC, _tasks_of_user() + limits.processes.most),
        ("core", resource.RLIMIT_CORE, 0),
    )
    options = []
    for name, number, most in wanted:
        # what the user allows less of stays so
        soft, hard = (most if now == resource.RLIM_INFINITY else min(now, most) for now in resource.getrlimit(number))
        # at the hard limit of time comes SIGKILL, which does not say why; SIGXCPU, at the soft one, does
        soft = min(soft, hard) if name != "cpu" else max(min(soft, hard - _MARGIN), 1)
        options.append(f"--{name}={soft}:{hard}")
    return (path, *options, "--")


def _tasks_of_user() -> int:
    """How many processes and threads the user has: RLIMIT_NPROC counts them all."""
    count = 0
    with suppress(OSError):
        for entry in os.scandir("/proc"):
            with suppress(OSError):
                if entry.name.isdigit() and entry.stat().st_uid == os.getuid():
                    count += sum(1 for _ in os.scandir(f"/proc/{entry.name}/task"))
    return count


# Reads "+ GROUP" and "- GROUP"; at the end of its input it kills the groups that are left.
_WATCHER = """\
trap '' INT TERM HUP QUIT
groups=' '
while read -r sign group; do
	case $sign in
	+) groups="$groups$group " ;;
	-) case $groups in *" $group "*) groups="${groups%% "$group" *} ${groups#* "$group" }" ;; esac ;;
	esac
done
for group in $groups; do kill -s KILL -- "-$group"; done
"""


class Children:
    """The process groups of programs that this process runs. One object serves all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pipe = -1
        self._owner = 0
        self._groups: set[int] = set()
        self.stopping = False  # a signal said that this process is to end: no program is started any more

    def prepare(self) -> None:
        """Have the watcher ready before a program is started, so that the program is known to it at once."""
        with suppress(OSError):
            self._watcher()

    def add(self, group: int) -> None:
        """A program was started, with a process group of its own."""
        self._groups.add(group)
        self._tell(f"+ {group}\n")

    def end(self, group: int) -> None:
        """Kill what is left of a group. To be called before its leader is waited for, whose number is then free."""
        self.kill(group)
        self._tell(f"- {group}\n")
        self._groups.discard(group)

    def kill(self, group: int) -> None:
        """Kill a group of ours."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)

    def stop(self) -> None:
        """Kill every group, and let none begin any more. May be called by a signal's handler."""
        self.stopping = True
        for group in list(self._groups):
            self.kill(group)

    def _tell(self, line: str) -> None:
        with suppress(OSError):
            os.write(self._watcher(), line.encode())

    def _watcher(self) -> int:
        """The pipe to the watcher of this process, which is started by the first program."""
        if self._owner == os.getpid():
            return self._pipe
        import subprocess

        with self._lock:
            if self._owner != os.getpid():
                read, self._pipe = os.pipe()
                try:
                    subprocess.Popen(
                        ["/bin/sh", "-c", _WATCHER],
                        stdin=read,
                        stdout=subprocess.DEVNULL,
                        stderr=subprocess.DEVNULL,
                        cwd="/",
                        env={},
                        start_new_session=True,
                    ).returncode = 0  # nobody waits for it: it ends after this process
                finally:
                    os.close(read)
                self._owner = os.getpid()
        return self._pipe


CHILDREN = Children()


def stop_with_children() -> None:
    """From now on, SIGINT, SIGTERM and SIGHUP kill every program that runs and raise KeyboardInterrupt in the main
    thread.

    SIGINT also where it was ignored, as a shell does for what it starts in the background: who sends it means it.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        del frame
        CHILDREN.stop()
        raise KeyboardInterrupt(signal.Signals(number).name)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, stop)
