# SPDX-License-Identifier: GPL-2.0-or-later
"""Running other programs: one place, so that a missing tool or a failure is always the same kind of message."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from kgbuild.errors import ToolError
from kgbuild.host.system.required_packages import remedy_for

DISK_FULL = "free some space, or set XDG_CACHE_HOME (TMPDIR for temporary files) to a larger disk"


def disk_full(said: str) -> bool:
    """Whether a program that failed complained of a full disk or a used-up quota."""
    return os.strerror(errno.ENOSPC) in said or os.strerror(errno.EDQUOT) in said


def disk_remedy(error: OSError) -> str:
    """What to do where the disk is full; empty for other faults."""
    return DISK_FULL if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""


@dataclass(frozen=True)
class Completed:
    """What a program left: exit status, standard output, standard error."""

    status: int
    stdout: str
    stderr: str


def run(
    argv: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    check: bool = True,
    timeout: float | None = None,
    stdin: str | None = None,
) -> Completed:
    """Run a program to its end and return what it printed.

    Locale is C, so that messages can be parsed. Raises ToolError where the program is missing, took longer than
    `timeout` seconds, or (with `check`) ended with another status than 0.
    """
    args = [str(a) for a in argv]
    full_env = dict(os.environ if env is None else env)
    full_env["LC_ALL"] = "C"
    try:
        done = subprocess.run(
            args,
            cwd=cwd,
            env=full_env,
            text=True,
            errors="replace",
            capture_output=True,
            timeout=timeout,
            input=stdin if stdin is not None else "",
            check=False,
        )
    except FileNotFoundError as error:
        if cwd is not None and not cwd.is_dir():
            raise ToolError(f"directory {cwd} is gone", place=args[0]) from error
        raise ToolError("not found on this machine", place=args[0], remedy=remedy_for(args[0])) from error
    except subprocess.TimeoutExpired as error:
        raise ToolError(f"did not end within {timeout:.0f} s", place=args[0]) from error
    except OSError as error:
        raise ToolError(str(error), place=args[0]) from error
    if check and done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()[-8:]
        fact = f"ended with status {done.returncode}: " + "\n".join(lines)
        raise ToolError(fact, place=" ".join(args[:3]), remedy=DISK_FULL if disk_full(fact) else "")
    return Completed(done.returncode, done.stdout, done.stderr)


@cache
def _prefix() -> tuple[str, ...]:
    # PR_SET_PDEATHSIG, set by util-linux: doing it between fork and exec is not safe where there are threads.
    path = shutil.which("setpriv")
    return (path, "--pdeathsig", "KILL", "--") if path else ()


def tied(argv: Sequence[str]) -> list[str]:
    """The same command, killed by the system when the thread that started it ends, where this system can."""
    found = shutil.which(argv[0])
    return [*_prefix(), *argv] if found else list(argv)
