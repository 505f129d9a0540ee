# SPDX-License-Identifier: GPL-2.0-or-later
"""The `kgbuild` command in a process of its own, without the time that Python and the imports take for each.

One process a test process imports the commands and then only forks: each run is such a fork, with its own standard
streams, environment, directory and limits, and ends as a process does. What a test says of the start of a process (its
imports, variables that Python itself reads, little memory) needs a process from the beginning: subprocess.run().
"""

from __future__ import annotations

import atexit
import fcntl
import json
import os
import pty
import socket
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from tests.support.documents import check_run

_SERVER = """
import importlib, io, json, os, resource, signal, socket, sys
from kgbuild.cli import main
for module, _, _ in main.COMMANDS.values():
    importlib.import_module(module)

def serve(request):
    for name, most in request["limits"].items():
        resource.setrlimit(getattr(resource, name), (most, most))
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = ["kgbuild", *request["words"]]
    sys.stdin, sys.stdout, sys.stderr = (
        io.TextIOWrapper(open(fd, mode, closefd=False), "utf-8", errors, line_buffering=fd == 2 or os.isatty(fd))
        for fd, mode, errors in ((0, "rb", "strict"), (1, "wb", "strict"), (2, "wb", "backslashreplace"))
    )
    try:
        main.run()
    except SystemExit as end:
        status = end.code or 0
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)

channel = socket.socket(fileno=int(sys.argv[1]))
while True:
    data, fds, _, _ = socket.recv_fds(channel, 1 << 20, 3)
    if not data:
        break
    child = os.fork()
    if child == 0:
        channel.close()
        os.setsid()
        for number, fd in enumerate(fds):
            os.dup2(fd, number)
        for fd in fds:
            os.close(fd)
        try:
            serve(json.loads(data))
        finally:
            os._exit(70)
    for fd in fds:
        os.close(fd)
    _, status, used = os.wait4(child, 0)
    channel.send(b"%d %d" % (os.waitstatus_to_exitcode(status), used.ru_maxrss << 10))
"""


@cache
def _server() -> socket.socket:
    """How to reach the process that forks. It ends where nobody has the other end any more."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    argv = [sys.executable, "-c", _SERVER, str(there.fileno())]
    # one thread: those of a library would not be in the forks
    process = subprocess.Popen(argv, pass_fds=[there.fileno()], env={**os.environ, "OPENBLAS_NUM_THREADS": "1"})
    there.close()
    here.settimeout(120)

    def end() -> None:
        here.close()
        process.wait()

    atexit.register(end)
    return here


def run_on(
    words: Sequence[str | Path], streams: tuple[int, int, int], cwd: Path, env: Mapping[str, str], **limits: int
) -> tuple[int, int]:
    """Exit status and peak memory (bytes) of one run with these three descriptors as its standard streams, which stay
    the caller's.

    limits   names of the resource module, each with the most that is allowed
    """
    _start(words, streams, cwd, env, limits)
    return _end()


def _start(
    words: Sequence[str | Path],
    streams: tuple[int, int, int],
    cwd: Path,
    env: Mapping[str, str],
    limits: dict[str, int],
) -> None:
    request = {"words": [*map(str, words)], "cwd": str(cwd), "env": dict(env), "limits": dict(limits)}
    socket.send_fds(_server(), [json.dumps(request).encode()], streams)


def _end() -> tuple[int, int]:
    """Exit status and peak memory (bytes), what the process had at its start included."""
    status, memory = _server().recv(100).split()
    return int(status), int(memory)


def run_on_pty(words: Sequence[str | Path], cwd: Path, env: Mapping[str, str], columns: int = 0) -> bytes:
    """All that one run writes to a terminal, which is so many columns wide (0: it does not say)."""
    here, there = pty.openpty()
    if columns:
        fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    _start(words, (there, there, there), cwd, env, {})
    os.close(there)
    out = b""
    with suppress(OSError):  # the terminal is gone with its last user
        while piece := os.read(here, 1 << 16):
            out += piece
    os.close(here)
    _end()
    return out


def run_command(
    *words: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None, **limits: int
) -> subprocess.CompletedProcess[str]:
    """One run: its exit status, and what it wrote to each stream. The documents that it wrote are held against their
    schemas (documents.py)."""
    where = cwd or Path.cwd()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, Path(os.devnull).open("rb") as nothing:
        streams = (nothing.fileno(), out.fileno(), err.fileno())
        status, _ = run_on(words, streams, where, os.environ if env is None else env, **limits)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode())
    check_run([*map(str, words)], status, texts[0], where)
    return subprocess.CompletedProcess(["kgbuild", *map(str, words)], status, *texts)
