# SPDX-License-Identifier: GPL-2.0-or-later
"""Takes what is needed out of a package, streamed: nothing is written that is not kept.

The archive says how a package becomes a tar archive; that of a source package holds another one. Here the programs
that read them are put into pipelines, with a count of the bytes that went through for the progress
bar.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from kgbuild.errors import ToolError
from kgbuild.host.archives.archive import Archive
from kgbuild.host.archives.recipe import Part
from kgbuild.host.system.children import child_environment
from kgbuild.host.system.required_packages import remedy_for
from kgbuild.host.system.run import DISK_FULL, disk_full, tied

_CHUNK = 1 << 20
# a program like the others, so that it reads and writes beside them
_UNZSTD = "import sys, zstandard as z; z.ZstdDecompressor().copy_stream(sys.stdin.buffer, sys.stdout.buffer)"
_DECOMPRESS = {
    ".xz": ("xz", "-dc", "-T0"),
    ".zst": (sys.executable, "-I", "-c", _UNZSTD),
    ".gz": ("gzip", "-dc"),
    ".bz2": ("bzip2", "-dc"),
}

Advance = Callable[[float], None]

# tar ends with the same status where a file that was asked for is not in the archive and where the disk is full: only
# its words tell.
_NOT_THERE = re.compile(r"tar: .*: Not found in archive|tar: Exiting with failure status due to previous errors")
_WROTE_PART = re.compile(r"tar: .*: Wrote only \d+ of \d+ bytes$")  # as the first word of a full disk
_SAID = 20_000  # bytes kept of what a program says


def unpack_part(
    part: Part, groups: Mapping[str, str], package: Path, target: Path, advance: Advance, archive: Archive
) -> None:
    """Unpack the members of a part that the recipe names into `target`; `advance` gets bytes unpacked.

    Raises ToolError where a member is missing, or a program is missing or fails.
    """
    if part.tarball:
        member = part.tarball.format_map(groups)
        _extract_tarball(archive.members(package), package, member, target, lambda count: advance(count * part.growth))
        return
    with tempfile.TemporaryDirectory(dir=target, prefix=f".{part.name}-") as name:
        directory = Path(name)
        wanted = [[pattern.format_map(groups) for pattern in item.names] for item in part.unpack]
        members = [member for members in wanted for member in members]
        _extract_members(archive.members(package), members, directory, advance, stop_early=part.first_only)
        for item, candidates in zip(part.unpack, wanted, strict=True):
            found = next((path for path in (directory / c for c in candidates) if path.exists()), None)
            if found is None:
                raise ToolError(f"has no {candidates[0]}", place=package.name, remedy="the recipe does not fit it")
            destination = target / item.to
            destination.parent.mkdir(parents=True, exist_ok=True)
            found.rename(destination)
            for dropped in item.drop:
                _drop(destination / dropped)


def _drop(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _extract_members(
    opened: Sequence[str], members: Sequence[str], directory: Path, advance: Advance, *, stop_early: bool
) -> None:
    early = ["--occurrence=1"] if stop_early else []
    commands = [
        opened,
        ["tar", "-x", "--warning=none", "--no-same-owner", *early, "-C", str(directory), "--", *members],
    ]
    # of several alternatives not every one is there: what is missing is found by looking
    tolerated = {1: _says_not_there, **({0: _anything} if stop_early else {})}
    _pipeline(commands, pumped_at=1, advance=advance, tolerated=tolerated)


def _says_not_there(said: Sequence[str]) -> bool:
    return bool(said) and all(_NOT_THERE.fullmatch(line) for line in said)


def _anything(said: Sequence[str]) -> bool:
    """For a program whose reader stops early, which ends it: whether it wrote enough is known from the reader."""
    del said
    return True


def _extract_tarball(opened: Sequence[str], package: Path, member: str, directory: Path, advance: Advance) -> None:
    suffix = Path(member).suffix
    decompress = _DECOMPRESS.get(suffix)
    if decompress is None:
        raise ToolError(f"{member} has an unknown compression", place=package.name)
    directory.mkdir(parents=True, exist_ok=True)
    commands = [
        opened,
        ["tar", "-x", "-O", "--occurrence=1", "--", member],
        list(decompress),
        ["tar", "-x", "--no-same-owner", "--strip-components=1", "-C", str(directory)],
    ]
    _pipeline(commands, pumped_at=2, advance=advance, tolerated={0: _anything})


def _pipeline(
    commands: Sequence[Sequence[str]],
    *,
    pumped_at: int,
    advance: Advance,
    tolerated: Mapping[int, Callable[[Sequence[str]], bool]],
) -> None:
    """Run commands, each reading what the one before writes; bytes into command `pumped_at` are counted.

    `tolerated` has, by index of a command, what tells from the lines that it said whether its failure is none. Raises
    ToolError for every other failure.
    """
    processes: list[subprocess.Popen[bytes]] = []
    said: list[_Said] = []
    try:
        upstream: IO[bytes] | None = None
        source: IO[bytes] | None = None
        for index, argv in enumerate(commands):
            last = index == len(commands) - 1
            process = _start(
                argv,
                stdin=subprocess.PIPE if index == pumped_at else upstream or subprocess.DEVNULL,
                stdout=subprocess.DEVNULL if last else subprocess.PIPE,
            )
            processes.append(process)
            said.append(_Said(process))
            if index == pumped_at:
                source = upstream
            elif upstream is not None:
                upstream.close()
            upstream = process.stdout
        target = processes[pumped_at].stdin
        assert source is not None and target is not None
        _pump(source, target, advance)
        for process in processes:
            process.wait()
    finally:
        for process in processes:
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()
    for index, process in enumerate(processes):
        lines = said[index].lines()
        if process.returncode and not (index in tolerated and tolerated[index](lines)):
            full = any(disk_full(line) or _WROTE_PART.match(line) for line in lines)
            raise ToolError(
                "; ".join(lines[-2:]) or f"ended with status {process.returncode}",
                place=" ".join(commands[index][:2]),
                remedy=DISK_FULL if full else "run the command again; if it fails again, check the disk",
            )


class _Said:
    """What a program says on standard error, read beside it: on a full disk, a file would not hold it."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        self._stream = process.stderr
        self._data = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with self._stream as stream:
            while piece := os.read(stream.fileno(), _SAID):
                self._data = (self._data + piece)[:_SAID]

    def lines(self) -> list[str]:
        """The lines of the beginning of it, once the program has ended."""
        self._reader.join()
        return self._data.decode(errors="replace").strip().splitlines()


def _start(argv: Sequence[str], *, stdin: int | IO[bytes], stdout: int) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(tied(argv), stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, env=child_environment())
    except FileNotFoundError as error:
        raise ToolError("not found on this machine", place=argv[0], remedy=remedy_for(argv[0])) from error


def _pump(source: IO[bytes], target: IO[bytes], advance: Advance) -> None:
    """Copy until the source ends or the reader has enough."""
    try:
        while chunk := source.read(_CHUNK):
            target.write(chunk)
            advance(len(chunk))
    except BrokenPipeError:
        pass
    finally:
        with suppress(BrokenPipeError):
            target.close()
        source.close()
