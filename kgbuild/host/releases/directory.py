# SPDX-License-Identifier: GPL-2.0-or-later
"""A directory of fixes on disk: kgbuild.toml, and the patches and fix.toml of each fix (docs/releases.md)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kgbuild.errors import UserError
from kgbuild.host.patches.patch_sources import unpack_patch
from kgbuild.host.system.input_files import path_within, read_input
from kgbuild.host.system.output_files import write_file
from kgbuild.limits import CONFIG_BYTES, PATCH_BYTES
from kgbuild.patch.unified_diff import ParsedPatch, parse_patch
from kgbuild.releases.config import (
    CONFIG,
    FIX_FILE,
    FIXES,
    PATCH,
    Config,
    ConfigError,
    FixEntry,
    FixMetadata,
    matches_kernel,
    parse_config,
    parse_fix,
    quote,
    render_fix,
)

_GIT_IGNORE = "# what kgbuild matrix keeps between runs\n.kgbuild/\n"
_CI = """\
# Tries every fix on every kernel: one job, to be called by the CI of your choice.
#
#   pip install kgbuild && sh ci/livepatch.sh
set -eu
kgbuild doctor
kgbuild affected
kgbuild matrix --build --resume
"""
_EMPTY = """\
# A directory of fixes for kgbuild; docs/releases.md of kgbuild lists the keys.
version = 1
module = "livepatch-{release}"
kernels = []          # names, patterns and @groups: "debian:newest-6.1-cloud", "debian:6.12*", "@mine"

[groups]
# mine = ["debian:newest-6.1-cloud", "debian:newest-6.12-cloud"]
"""


@dataclass(frozen=True)
class Fix:
    """One fix, read: what kgbuild.toml and fix.toml say of it, and `inputs`, the bytes of each of its files by path
    relative to the directory."""

    entry: FixEntry
    metadata: FixMetadata
    inputs: Mapping[str, bytes] = field(repr=False)

    @property
    def id(self) -> str:
        """Its name."""
        return self.entry.id

    @property
    def cves(self) -> tuple[str, ...]:
        """Its CVE numbers; its own name where that is one."""
        return self.metadata.cves or ((self.id,) if self.id.startswith("CVE-") else ())

    def patch_for(self, names: Sequence[str]) -> str:
        """The path of the patch for a kernel that has these names (`debian:RELEASE`, `RELEASE`)."""
        for pattern, name in self.metadata.patches.items():
            if matches_kernel(pattern, names):
                return f"{self.entry.folder}/{name}"
        return f"{self.entry.folder}/{PATCH}"

    def parse(self, path: str) -> ParsedPatch:
        """One of its patches, parsed; it is called ID, or ID and the file's name. Raises UserError."""
        name = path.rpartition("/")[2]
        return parse_patch(self.id if name == PATCH else f"{self.id}/{name}", self.inputs[path])


@dataclass(frozen=True)
class Directory:
    """A directory of fixes: where it is, its kgbuild.toml, and its fixes by id, in order."""

    path: Path
    config: Config
    fixes: Mapping[str, Fix] = field(repr=False)

    def of(self, entries: Iterable[FixEntry]) -> list[Fix]:
        """The fixes of these entries."""
        return [self.fixes[entry.id] for entry in entries]


def read_directory(path: Path) -> Directory:
    """Read a directory and every fix in it. Raises UserError with all that is wrong with its files: each fault has its
    file, with line and column where it has one."""
    config = read_config(path)
    faults: list[UserError] = []
    fixes: dict[str, Fix] = {}
    for entry in config.fixes:
        try:
            fixes[entry.id] = _read_fix(path, entry)
        except ConfigError as error:
            faults += [fault for fault in error.faults if isinstance(fault, UserError)]
        except UserError as error:
            faults.append(error)
    faults += _given_twice(fixes.values()) if not faults else []
    if len(faults) == 1:
        raise faults[0]
    if faults:
        raise ConfigError(faults)
    return Directory(path, config, fixes)


def read_config(path: Path) -> Config:
    """Read kgbuild.toml of a directory. Raises UserError."""
    file = path / CONFIG
    if not file.exists():
        raise UserError(f"has no {CONFIG}", place=str(path), remedy=f"kgbuild init {path} makes one")
    return parse_config(_text(file), _shown(file))


def _shown(path: Path) -> str:
    return str(path).removeprefix("./")


def _text(path: Path) -> str:
    data = read_input(path, CONFIG_BYTES)
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UserError("is no UTF-8 text", place=f"{_shown(path)}:{line}", remedy="save it as UTF-8") from error


def _read_fix(root: Path, entry: FixEntry) -> Fix:
    folder = root / entry.folder
    if not folder.is_dir():
        remedy = f"kgbuild add {entry.id} PATCH makes it, or take the fix out of {CONFIG}"
        raise UserError("there is no such directory", place=_shown(folder), remedy=remedy)
    file = folder / FIX_FILE
    metadata = FixMetadata()
    inputs: dict[str, bytes] = {}
    if file.exists():
        inputs[f"{entry.folder}/{FIX_FILE}"] = read_input(check_inside(root, file), CONFIG_BYTES)
        metadata = parse_fix(_text(file), _shown(file))
    names = dict.fromkeys([*metadata.patches.values()])
    if (folder / PATCH).exists() or not names:
        names = {PATCH: None, **names}
    for name in names:
        path = check_inside(root, folder / name)
        text = read_input(path, PATCH_BYTES, f"kgbuild add {entry.id} PATCH writes it")
        inputs[f"{entry.folder}/{name}"] = unpack_patch(text, name)
    fix = Fix(entry, metadata, inputs)
    for name in names:
        parse_patch(_shown(folder / name), inputs[f"{entry.folder}/{name}"])
    return fix


def check_inside(root: Path, path: Path) -> Path:
    """The path, if no link leads out of the directory. Raises UserError."""
    if path_within(root, str(path.relative_to(root))) is None:
        raise UserError("leads out of the directory", place=_shown(path), remedy="put a copy of the file there")
    return path


def _given_twice(fixes: Iterable[Fix]) -> list[UserError]:
    """A fault for each fix whose patch another fix has too."""
    seen: dict[str, str] = {}
    out = []
    for fix in fixes:
        path = f"{fix.entry.folder}/{PATCH}"
        if path not in fix.inputs:
            continue
        digest = hashlib.sha256(fix.inputs[path]).hexdigest()
        if digest in seen:
            fact = f"is the same patch as that of {seen[digest]}: the fix is given twice"
            out.append(UserError(fact, place=path, remedy="leave one of the two out"))
        seen.setdefault(digest, fix.id)
    return out


def make_directory(path: Path) -> list[str]:
    """Make an empty directory of fixes; the names of what was written. Files that are there stay as they are. Raises
    UserError where there is a kgbuild.toml already."""
    if (path / CONFIG).exists():
        raise UserError("is there already", place=_shown(path / CONFIG), remedy="kgbuild add adds a fix to it")
    if path.exists() and not path.is_dir():
        raise UserError("is no directory", place=str(path), remedy="name a new directory")
    files = {CONFIG: _EMPTY, ".gitignore": _GIT_IGNORE, "ci/livepatch.sh": _CI}
    written = []
    try:
        (path / FIXES).mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            if not (path / name).exists():
                (path / name).parent.mkdir(exist_ok=True)
                write_file(path / name, text.encode())
                written.append(name)
    except OSError as error:
        remedy = "name a directory that can be written to"
        raise UserError(error.strerror or str(error), place=str(error.filename or path), remedy=remedy) from error
    return [*written, f"{FIXES}/"]


def add_fix(root: Path, name: str, text: bytes, metadata: FixMetadata) -> list[str]:
    """Add a fix at the end of kgbuild.toml; the paths of what was written. Raises UserError where there is one of that
    name, or of the same patch."""
    config = read_config(root)
    folder = root / FIXES / name
    if any(fix.id == name for fix in config.fixes):
        raise UserError("there is a fix of that name already", place=name, remedy="choose another name")
    if folder.exists() or folder.is_symlink():
        raise UserError("is there already", place=_shown(folder), remedy="choose another name, or remove it")
    check_inside(root, root / FIXES)
    for fix in config.fixes:
        there = root / fix.folder / PATCH
        if there.is_file() and there.stat().st_size == len(text) and read_input(there, PATCH_BYTES) == text:
            raise UserError(f"is the patch of {fix.id}: the fix is given twice", place=name, remedy="leave it out")
    listed = read_input(root / CONFIG, CONFIG_BYTES).decode()
    row = f"\n[[fix]]\nid = {quote(name)}\n"
    longer = listed + ("" if listed.endswith("\n") or not listed else "\n") + row
    parse_config(longer, _shown(root / CONFIG))  # an array `fix = [...]` can't be continued so
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise UserError(error.strerror or str(error), place=_shown(folder), remedy="choose another name") from error
    write_file(folder / PATCH, text)
    write_file(folder / FIX_FILE, render_fix(metadata).encode())
    write_file(root / CONFIG, longer.encode())
    return [f"{FIXES}/{name}/{PATCH}", f"{FIXES}/{name}/{FIX_FILE}", CONFIG]
