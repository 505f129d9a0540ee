# SPDX-License-Identifier: GPL-2.0-or-later
"""The files that a command writes for its user. Before anything starts it is checked that no file of the user's is lost
by them; each is written whole or not at all."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from kgbuild.errors import ToolError, UserError
from kgbuild.host.system.output_kinds import OutputKind
from kgbuild.host.system.sealed import replace_durably
from kgbuild.limits import Limit

STDOUT, STDIN = Path("/dev/stdout"), Path("/dev/stdin")  # what "-" means
_SINKS = frozenset({(1, 3), (1, 5), (1, 7)})  # null, zero, full: nothing that is written there is kept
_TERMINALS = frozenset({4, 5, *range(136, 144)})  # major numbers
_Key = tuple[object, ...]
_OTHER = "name another file"


class PlannedOutput(NamedTuple):
    """A file that is to be written, by which option, and what it will be. kind None: a directory to fill."""

    option: str
    path: Path
    kind: OutputKind | None


class Input(NamedTuple):
    """A file or a directory that is read, and by which option or argument it was named."""

    name: str
    path: Path


class OutputRefused(UserError):
    """A file can't be written without the loss of another. `faults` are all of the run, each with place and fact."""

    code = "E8-output"

    def __init__(self, faults: Sequence[UserError]) -> None:
        first = faults[0]
        super().__init__(first.fact, place=first.place, remedy=first.remedy)
        self.faults = tuple(faults)


def is_standard_output(path: Path) -> bool:
    """Whether a path leads to this process' standard output: /dev/stdout, /dev/fd/1, its terminal. A regular file that
    standard output happens to be is meant by such a name only."""
    if path == STDOUT:
        return True
    try:
        found, out = path.stat(), os.fstat(1)
    except OSError:
        return False
    if (found.st_dev, found.st_ino) != (out.st_dev, out.st_ino) or _is_sink(found):
        return False
    return not stat.S_ISREG(found.st_mode) or str(path.absolute()).startswith(("/dev/", "/proc/"))


def check_outputs(
    outputs: Sequence[PlannedOutput], inputs: Sequence[Input], *, force: bool, kept: Sequence[Path] = ()
) -> None:
    """Raise OutputRefused where an output is an input, the same file as another output, or a file that is there already
    and no earlier output of its kind; `force` lets the last pass. In the directories `kept` nothing may be written.

    Links are followed, and a file that has several names is one. Nothing is changed.
    """
    faults: list[UserError] = []
    read = {key: one for one in inputs if (key := _key(one.path)) is not None}
    known = _Known(read, [one for one in inputs if one.path.is_dir()], dict(_streams()), kept)
    for key, name in known.written.items():
        if key in read:
            faults.append(UserError(f"is an input of this run ({read[key].name})", place=name, remedy=_OTHER))
    for output in outputs:
        fault = _fault(output, known, force) or _inside(output, outputs, inputs)
        if fault is not None:
            fact, remedy = fault
            faults.append(UserError(fact, place=f"{output.option} {output.path}", remedy=remedy))
    if faults:
        raise OutputRefused(faults)


class _Known(NamedTuple):
    """Inputs by what they are known by, those that are directories, what is written by which option, and directories in
    which nothing may be written."""

    read: Mapping[_Key, Input]
    trees: Sequence[Input]
    written: dict[_Key, str]
    kept: Sequence[Path]


def _inside(output: PlannedOutput, outputs: Sequence[PlannedOutput], inputs: Sequence[Input]) -> tuple[str, str] | None:
    """What stands against an output for where it is: a directory that is filled holds nothing else of this run."""
    target = Path(os.path.realpath(output.path))
    for other in outputs:
        if other.kind is None and other is not output and target.is_relative_to(os.path.realpath(other.path)):
            return f"is in the directory of {other.option}", _OTHER
    for one in inputs if output.kind is None else ():
        if Path(os.path.realpath(one.path)).is_relative_to(target):
            return f"holds an input of this run ({one.name})", _OTHER
    return None


def _fault(output: PlannedOutput, known: _Known, force: bool) -> tuple[str, str] | None:
    """What stands against one output, and what to do; it is added to what is written."""
    path, other = output.path, _OTHER
    read, trees, written, kept = known
    key = _key(path) if path != STDOUT else ("standard output",)
    if key is None:
        return "can't be looked at", other
    if key in read:
        return f"is an input of this run ({read[key].name})", other
    if key in written:
        return f"is the same file as {written[key]}", other
    if key != ("sink",):
        written[key] = output.option
    if path == STDOUT:
        return None
    target = Path(os.path.realpath(path))
    for folder in kept:
        if target.is_relative_to(os.path.realpath(folder)):
            return "is in kgbuild's cache", other
    there = _stat(path)
    if there is None or output.kind is None:
        return None
    for tree in trees:
        inside = target.is_relative_to(os.path.realpath(tree.path))
        if inside and not (stat.S_ISREG(there.st_mode) and _is_earlier(output.kind, path)):
            return f"is a file of an input of this run ({tree.name})", other
    return _overwrites(output.kind, path, there, force)


def _overwrites(kind: OutputKind, path: Path, there: os.stat_result, force: bool) -> tuple[str, str] | None:
    """What stands against writing over what is there."""
    mode = there.st_mode
    if stat.S_ISFIFO(mode) or _is_sink(there) or (stat.S_ISCHR(mode) and os.major(there.st_rdev) in _TERMINALS):
        return None
    if not stat.S_ISREG(mode):
        what = "a block device" if stat.S_ISBLK(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"
        return f"is {what}", "name a file"
    if force or not there.st_size or _is_earlier(kind, path):
        return None
    return f"is there already, and is not {kind.about}", "name another file, or give --force to overwrite it"


def _is_earlier(kind: OutputKind, path: Path) -> bool:
    try:
        return kind.is_one(path)
    except (OSError, ValueError):
        return False


def _streams() -> Iterator[tuple[_Key, str]]:
    """Standard output and standard error, where they are regular files: text is written there."""
    for number, name in ((1, "standard output"), (2, "standard error")):
        try:
            found = os.fstat(number)
        except OSError:
            continue
        if stat.S_ISREG(found.st_mode):
            yield ("file", found.st_dev, found.st_ino), name


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _is_sink(found: os.stat_result) -> bool:
    return stat.S_ISCHR(found.st_mode) and (os.major(found.st_rdev), os.minor(found.st_rdev)) in _SINKS


def _key(path: Path) -> _Key | None:
    """What a file is known by, whatever leads to it: its inode; for one that is not there, its name and its directory.
    None where neither can be told (a circle of links, a directory that can't be entered)."""
    try:
        found = path.stat()
        return ("sink",) if _is_sink(found) else ("file", found.st_dev, found.st_ino)
    except FileNotFoundError:
        target = Path(os.path.realpath(path))
        folder = _stat(target.parent)
        return ("new", folder.st_dev, folder.st_ino, target.name) if folder is not None else ("none", str(target))
    except OSError:
        return None


def write_file(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; a device or a pipe is written into. What is there already keeps its mode and
    owner. Raises ToolError."""
    target = Path(os.path.realpath(path))
    try:
        there = _stat(target)
        if there is not None and not stat.S_ISREG(there.st_mode):
            with path.open("wb") as stream:
                stream.write(data)
            return
        try:
            _replace(target, data, there)
        except PermissionError:
            # the directory, or the owner of the file, can't be written to or kept, and the file itself perhaps can
            if there is None:
                raise
            with target.open("r+b") as stream:
                stream.write(data)
                stream.truncate()
    except OSError as error:
        raise _not_written(error, path) from error


def _not_written(error: OSError, path: Path) -> ToolError:
    from kgbuild.host.system.run import disk_remedy

    return ToolError(error.strerror or str(error), place=str(path), remedy=disk_remedy(error))


def _replace(target: Path, data: bytes, there: os.stat_result | None) -> None:
    """Put a file of these bytes in the place of another, with that one's mode and owner."""
    temporary = target.with_name(f".{target.name[:200]}.{os.getpid()}.tmp")
    try:
        if there is not None:
            temporary.touch(mode=0o600)
        temporary.write_bytes(data)
        if there is not None:
            made = temporary.stat()
            if (made.st_uid, made.st_gid) != (there.st_uid, there.st_gid):
                os.chown(temporary, there.st_uid, there.st_gid)
            temporary.chmod(stat.S_IMODE(there.st_mode))
        replace_durably(temporary, target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def write_directory(path: Path, files: Mapping[str, bytes]) -> None:
    """Write these files, in order, into a directory that is made where there is none. Raises ToolError."""
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise _not_written(error, path) from error
    for name, data in files.items():
        write_file(path / name, data)


def read_standard_input(limit: Limit) -> bytes:
    """What is given on standard input. Raises UserError if it is closed or can't be read, LimitError if it is larger
    than `limit`."""
    if sys.stdin is None:
        raise UserError("standard input is closed", place="-", remedy="give a patch file")
    try:
        data = sys.stdin.buffer.read(limit.most + 1)
    except (OSError, ValueError) as error:
        fact = f"standard input can't be read: {getattr(error, 'strerror', None) or error}"
        raise UserError(fact, place="-", remedy="give a patch file") from error
    limit.check(len(data), "standard input")
    return data
