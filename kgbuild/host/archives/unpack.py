# SPDX-License-Identifier: GPL-2.0-or-later
"""Takes what is needed out of a package, streamed: nothing is written that is not kept.

The archive says how a package becomes a tar archive; that of a source package holds another one. Here the programs
that read them are put into pipelines, with a count of the bytes that went through for the progress
bar.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO

from kgbuild.errors import ToolError
from kgbuild.host.archives.archive import Archive
from kgbuild.host.archives.recipe import Part
from kgbuild.host.system.children import child_environment
from kgbuild.host.system.required_packages import remedy_for
from kgbuild.host.system.run import tied

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
        ["tar", "-x", "--no-same-owner", *early, "-C", str(directory), "--", *members],
    ]
    # tar's status is 2 where one of several alternatives is not there: what is missing is found by looking.
    _pipeline(commands, pumped_at=1, advance=advance, tolerated={0: None if stop_early else (0,), 1: (0, 2)})


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
    _pipeline(commands, pumped_at=2, advance=advance, tolerated={0: None})


def _pipeline(
    commands: Sequence[Sequence[str]],
    *,
    pumped_at: int,
    advance: Advance,
    tolerated: Mapping[int, tuple[int, ...] | None],
) -> None:
    """Run commands, each reading what the one before writes; bytes into command `pumped_at` are counted.

    `tolerated` gives the statuses that are no failure by index of the command (None: any, for a command whose
    reader stops early); 0 where it says nothing.
    """
    processes: list[subprocess.Popen[bytes]] = []
    with ExitStack() as stack:
        errors = [stack.enter_context(tempfile.TemporaryFile()) for _ in commands]
        try:
            upstream: IO[bytes] | None = None
            source: IO[bytes] | None = None
            for index, argv in enumerate(commands):
                last = index == len(commands) - 1
                process = _start(
                    argv,
                    stdin=subprocess.PIPE if index == pumped_at else upstream or subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL if last else subprocess.PIPE,
                    stderr=errors[index],
                )
                processes.append(process)
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
            accepted = tolerated.get(index, (0,))
            if accepted is not None and process.returncode not in accepted:
                errors[index].seek(0)
                text = errors[index].read().decode(errors="replace").strip().splitlines()
                raise ToolError(
                    "; ".join(text[-2:]) or f"ended with status {process.returncode}",
                    place=" ".join(commands[index][:2]),
                    remedy="run the command again; if it fails again, check the disk",
                )


def _start(argv: Sequence[str], *, stdin: int | IO[bytes], stdout: int, stderr: IO[bytes]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(tied(argv), stdin=stdin, stdout=stdout, stderr=stderr, env=child_environment())
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
