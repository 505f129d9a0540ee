# SPDX-License-Identifier: GPL-2.0-or-later
"""Running other programs: one place, so that a missing tool or a failure is always the same kind of message."""

from __future__ import annotations

import errno
import os
import selectors
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

from kgbuild.errors import ToolError
from kgbuild.host.system.children import CHILDREN, ChildLimits, child_environment, limit_that_stopped, wrapped
from kgbuild.host.system.required_packages import remedy_for
from kgbuild.host.system.watch import EVERY, Watch
from kgbuild.limits import LISTING_BYTES, LISTING_LINE, MESSAGE_BYTES, Limit

_PIECE = 1 << 16
DISK_FULL = "free some space (in /tmp too), or set XDG_CACHE_HOME to a larger disk"

MORE_MEMORY = "allow more memory (ulimit -v)"


def disk_full(said: str) -> bool:
    """Whether a program that failed complained of a full disk or a used-up quota."""
    return os.strerror(errno.ENOSPC) in said or os.strerror(errno.EDQUOT) in said


def disk_remedy(error: OSError) -> str:
    """What to do where the disk is full; empty for other faults."""
    return DISK_FULL if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""


class Completed(NamedTuple):
    """What a program left: exit status (negative: the signal that ended it), standard output, standard error, and the
    limit that stopped it, if one did."""

    status: int
    stdout: str
    stderr: str
    stopped_by: Limit | None = None


def run(
    argv: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    check: bool = True,
    timeout: float | None = None,
    stdin: str | None = None,
    limits: ChildLimits | None = None,
    writes: Sequence[Path] = (),
    descriptors: Sequence[int] = (),
) -> Completed:
    """Run a program to its end and return what it printed. All that it started ends with it, and with this process.

    env      its environment; `child_environment` where none is given. Locale is C, so that messages can be parsed.
    limits   what it may take of the machine; where one is exceeded, the result says so, whatever `timeout` is
    writes   the directories that it writes into, where `limits` say how much it may write
    descriptors   open files of this process that it has too, by the same numbers
    Raises ToolError where the program is missing, took longer than `timeout` seconds, printed more than the limit
    message-bytes, or (with `check`) ended with another status than 0.
    """
    args = [str(a) for a in argv]
    process = _start(
        args, cwd, env, limits, subprocess.DEVNULL if stdin is None else subprocess.PIPE, subprocess.PIPE, descriptors
    )
    watch = Watch(process.pid, limits, writes) if limits is not None else None
    allowed = limits.wait.most if limits is not None else timeout
    try:
        talk = _Talk(process, (stdin or "").encode("utf-8", "surrogateescape"), allowed, watch)
        done = talk.to_the_end()
    finally:
        CHILDREN.end(process.pid)
        process.wait()
    said = talk.texts()
    stopped_by = None
    if not done:
        if talk.too_much and limits is None:
            raise ToolError(f"was stopped: it printed too much ({MESSAGE_BYTES.statement})", place=args[0])
        if limits is None:
            raise ToolError(f"did not end within {timeout:.0f} s", place=args[0])
        stopped_by = MESSAGE_BYTES if talk.too_much else talk.exceeded or limits.wait
    elif limits is not None:
        stopped_by = limit_that_stopped(limits, process.returncode, said[1])
    if CHILDREN.stopping:
        raise ToolError("was stopped: kgbuild was told to end", place=args[0])
    completed = Completed(process.returncode, *said, stopped_by)
    if check:
        check_status(args, completed)
    return completed


def check_status(args: Sequence[str], done: Completed) -> None:
    """Raise ToolError where a program ended with another status than 0, or a limit stopped it."""
    if done.status == 0:
        return
    lines = (done.stderr or done.stdout).strip().splitlines()[-8:]
    fact = f"ended with status {done.status}: " + "\n".join(lines)
    fact = f"was stopped: {done.stopped_by.statement}" if done.stopped_by is not None else fact
    raise ToolError(fact, place=" ".join(args[:3]), remedy=DISK_FULL if disk_full(fact) else "")


def _start(
    args: list[str],
    cwd: Path | None,
    env: Mapping[str, str] | None,
    limits: ChildLimits | None,
    stdin: int,
    stderr: int | IO[bytes],
    descriptors: Sequence[int],
) -> subprocess.Popen[bytes]:
    full_env = {**(child_environment() if env is None else env), "LC_ALL": "C"}
    if CHILDREN.stopping:
        raise ToolError("not started: kgbuild was told to end", place=args[0])
    CHILDREN.prepare()
    try:
        process = subprocess.Popen(
            wrapped(args, limits, cwd, full_env),
            cwd=cwd,
            env=full_env,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
            pass_fds=descriptors,
            process_group=0,
        )
    except FileNotFoundError as error:
        if cwd is not None and not cwd.is_dir():
            raise ToolError(f"directory {cwd} is gone", place=args[0]) from error
        raise ToolError("not found on this machine", place=args[0], remedy=remedy_for(args[0])) from error
    except OSError as error:
        raise ToolError(error.strerror or str(error), place=args[0]) from error
    CHILDREN.add(process.pid)
    return process


def stream_lines(
    argv: Sequence[str | Path],
    *,
    cwd: Path,
    env: Mapping[str, str],
    limits: ChildLimits,
    writes: Sequence[Path] = (),
    descriptors: Sequence[int] = (),
) -> Iterator[str]:
    """The lines that a program prints, while it runs; its errors and its status are not looked at. All that it started
    ends with it, and where the caller asks for no more lines.

    Raises ToolError where the program is missing or a limit stopped it (listing-bytes and listing-line among them).
    """
    args = [str(a) for a in argv]
    with tempfile.TemporaryFile() as errors:  # as large as a file may be
        process = _start(args, cwd, env, limits, subprocess.DEVNULL, errors, descriptors)
        watch = Watch(process.pid, limits, writes)
        try:
            assert process.stdout is not None
            with selectors.DefaultSelector() as selector, process.stdout as stream:
                selector.register(stream, selectors.EVENT_READ)
                end, total, rest = time.monotonic() + limits.wait.most, 0, [b""]  # the pieces of an unfinished line
                while True:
                    ready = selector.select(min(EVERY, max(end - time.monotonic(), 0)))
                    exceeded = watch.exceeded() or (limits.wait if time.monotonic() > end else None)
                    piece = os.read(stream.fileno(), _PIECE) if ready else b""
                    total += len(piece)
                    whole, newline, tail = piece.rpartition(b"\n")
                    lines = b"".join([*rest, whole]).split(b"\n") if newline else []
                    rest = [tail] if newline else [*rest, piece] if piece else rest
                    exceeded = LISTING_LINE if sum(map(len, rest)) > LISTING_LINE.most else exceeded
                    exceeded = LISTING_BYTES if total > LISTING_BYTES.most else exceeded
                    if exceeded is not None:
                        raise ToolError(f"was stopped: {exceeded.statement}", place=args[0])
                    yield from (line.decode("utf-8", "replace") for line in lines)
                    if ready and not piece:
                        break
                if any(rest):
                    yield b"".join(rest).decode("utf-8", "replace")
        finally:
            CHILDREN.end(process.pid)
            process.wait()


class _Talk:
    """Writes to a program and reads from it, until it has ended, a time is over, or it has said too much."""

    def __init__(
        self, process: subprocess.Popen[bytes], text: bytes, seconds: float | None, watch: Watch | None
    ) -> None:
        assert process.stdout is not None and process.stderr is not None
        self._process = process
        self._left = memoryview(text)
        self._end = time.monotonic() + seconds if seconds is not None else None
        self._pieces: dict[int, list[bytes]] = {process.stdout.fileno(): [], process.stderr.fileno(): []}
        self._total = 0
        self._watch = watch
        self.exceeded: Limit | None = None  # what it took too much of, beside time

    @property
    def too_much(self) -> bool:
        return self._total > MESSAGE_BYTES.most

    def texts(self) -> tuple[str, str]:
        """What came on standard output and standard error."""
        out, err = (b"".join(pieces).decode("utf-8", "replace") for pieces in self._pieces.values())
        return _lines(out), _lines(err)

    def to_the_end(self) -> bool:
        """Whether the program ended by itself."""
        with selectors.DefaultSelector() as selector:
            for stream in (self._process.stdout, self._process.stderr):
                assert stream is not None
                selector.register(stream, selectors.EVENT_READ)
            if self._process.stdin is not None:
                os.set_blocking(self._process.stdin.fileno(), False)
                selector.register(self._process.stdin, selectors.EVENT_WRITE)
            try:
                while selector.get_map():
                    ready = selector.select(self._pause())
                    if self.too_much or self._is_watched_out() or (not ready and self._seconds() == 0):
                        return False
                    for key, _ in ready:
                        if not self._move(key.fd, key.events):
                            selector.unregister(key.fileobj)
                            key.fileobj.close()  # type: ignore[union-attr]
            finally:
                for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
                    if stream is not None:
                        with suppress(OSError):
                            stream.close()
        return self._has_ended()

    def _seconds(self) -> float | None:
        return None if self._end is None else max(self._end - time.monotonic(), 0)

    def _pause(self) -> float | None:
        """How long to wait for a piece, in seconds."""
        left = self._seconds()
        return left if self._watch is None else EVERY if left is None else min(EVERY, left)

    def _is_watched_out(self) -> bool:
        self.exceeded = self._watch.exceeded() if self._watch is not None else None
        return self.exceeded is not None

    def _move(self, descriptor: int, events: int) -> bool:
        """Read or write one piece; whether there may be more."""
        if events & selectors.EVENT_WRITE:
            with suppress(BrokenPipeError):
                self._left = self._left[os.write(descriptor, self._left[:_PIECE]) :]
                return bool(self._left)
            return False
        piece = os.read(descriptor, _PIECE)
        self._pieces[descriptor].append(piece)
        self._total += len(piece)
        return bool(piece)

    def _has_ended(self) -> bool:
        """Wait for the program, without taking its number from it."""
        flags = os.WEXITED | os.WNOWAIT
        if self._end is None and self._watch is None:
            os.waitid(os.P_PID, self._process.pid, flags)
            return True
        pause = 0.001
        while os.waitid(os.P_PID, self._process.pid, flags | os.WNOHANG) is None:
            if self._seconds() == 0 or self._is_watched_out():
                return False
            time.sleep(pause)
            pause = min(2 * pause, 0.05)
        return True


def _lines(text: str) -> str:
    """A text with LF as the only line end."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def tied(argv: Sequence[str]) -> list[str]:
    """The command, changed so that the system kills it when the thread that started it ends, if the system supports
    it."""
    return wrapped(argv, None, None, os.environ)
