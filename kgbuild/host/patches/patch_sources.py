# SPDX-License-Identifier: GPL-2.0-or-later
"""The forms in which patches are kept, each read into texts in the order in which they are applied.

    FILE             a diff, a mail or a mailbox; also compressed (gzip, xz, zstd)
    series           a list of patches as quilt(1) keeps it, and a directory with one (also DIR/patches/series)
    FILE.dsc#NAME    one of the patches of a Debian source package; so is DIR#NAME of an unpacked one, and of a series

A git tree is read by host/patches/git_patches.py.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Sequence
from pathlib import Path

from kgbuild.decompression import decompress, packed_with
from kgbuild.errors import UserError
from kgbuild.host.system.input_files import path_within, read_input
from kgbuild.limits import PATCH_BYTES, PATCH_FILES
from kgbuild.shown_text import printable

NamedText = tuple[str, bytes]
_GIVE = "give a patch file"
_SERIES = ("series", "patches/series", "debian/patches/series")
_LINE = re.compile(r"(?P<name>[^\s#]+)(?P<options>(?:\s+-\S+)*)\s*(?:#.*)?")
_STRIP = re.compile(r"-p\s*(?:\d|ab)")
_CHECKSUMS = re.compile(r"^Checksums-Sha256:\n((?: .*\n?)+)", re.MULTILINE)
_TARBALL = re.compile(r"[^/\s]+\.(?:debian\.tar|diff)\.(?:gz|xz|bz2|zst)")
_MOST_NAMED = 5


def read_patch_source(path: Path) -> list[NamedText]:
    """What a user named as a patch: each patch in it with a name for messages.

    Raises UserError where it can't be read or is of no known form, LimitError where it is too large.
    """
    if not path.exists() and "#" in path.name:
        before, _, wanted = str(path).rpartition("#")
        while before and not Path(before).exists() and "#" in before:
            before, _, more = before.rpartition("#")
            wanted = f"{more}#{wanted}"
        return [_choose(Path(before), wanted)]
    if not path.exists() and "#" in str(path):
        before, _, wanted = str(path).partition("#")
        return [_choose(Path(before), wanted)]
    if path.is_dir():
        series = next((path / name for name in _SERIES if (path / name).is_file()), None)
        if series is None:
            fact = "is a directory without a list of patches (series)"
            raise UserError(fact, place=str(path), remedy="give the patches in it, in their order")
        if series == path / _SERIES[2]:
            names = [name for name, _ in _read_names(series)]
            raise UserError(f"is a source package of {_count(names)}", place=str(path), remedy=_name_one(path, names))
        return _read_series(series)
    if path.suffix == ".dsc":
        patches = _read_package(path)
        raise UserError(
            f"is a source package of {_count(list(patches))}", place=path.name, remedy=_name_one(path, list(patches))
        )
    text = unpack_patch(read_input(path, PATCH_BYTES, _GIVE), path.name)
    if path.name == "series" or (text.strip() and _is_series(text)):
        return _read_series(path)
    return [(path.name, text)]


def unpack_patch(data: bytes, name: str) -> bytes:
    """A patch's text, decompressed where its first bytes say that it is compressed. Raises DamagedError, LimitError."""
    kind = packed_with(data)
    return decompress(data, kind, name, PATCH_BYTES) if kind else data


def _choose(path: Path, wanted: str) -> NamedText:
    """One patch of a source package or series, by its name or the end of it."""
    if path.is_dir():
        series = next((path / name for name in reversed(_SERIES) if (path / name).is_file()), None)
        if series is None:
            raise UserError("has no list of patches (series)", place=str(path), remedy=_GIVE)
        names = [name for name, _ in _read_names(series)]
        found = _find(path, names, wanted)
        return found, unpack_patch(read_input(_inside(series.parent, found, str(series)), PATCH_BYTES, _GIVE), found)
    if path.suffix == ".dsc":
        patches = _read_package(path)
        found = _find(path, list(patches), wanted)
        return found, unpack_patch(patches[found], found)
    raise UserError("No such file or directory", place=f"{path}#{wanted}", remedy=_GIVE)


def _find(path: Path, names: Sequence[str], wanted: str) -> str:
    wanted = wanted.removeprefix("debian/patches/")
    fitting = [name for name in names if name == wanted] or [name for name in names if name.endswith(f"/{wanted}")]
    if len(fitting) != 1:
        fact = f"has {len(fitting)} patches of that name" if fitting else "has no patch of that name"
        near = fitting or [name for name in names if wanted.rpartition("/")[2] in name]
        raise UserError(fact, place=f"{path}#{printable(wanted)}", remedy=_name_one(path, near or names))
    return fitting[0]


def _count(names: Sequence[str]) -> str:
    return f"{len(names)} patch{'es' * (len(names) != 1)}"


def _name_one(path: Path, names: Sequence[str]) -> str:
    if not names:
        return "give another file"
    more = f", and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"name one, as {path}#{names[0]}; there are {', '.join(names[:_MOST_NAMED])}{more}"


def _is_series(text: bytes) -> bool:
    """Whether every line of a text is the name of a patch or a comment."""
    lines = [line.strip() for line in text.split(b"\n")]
    names = [line for line in lines if line and not line.startswith(b"#")]
    return bool(names) and all(re.fullmatch(rb"[^\s/+-][^\s]*\.(?:patch|diff)(?:\s+-p\d)?", name) for name in names)


def _read_names(series: Path) -> list[tuple[str, int]]:
    """The names in a series, each with its line. Raises UserError for a line that is none."""
    text = read_input(series, PATCH_BYTES, _GIVE).decode("utf-8", "surrogateescape")
    out = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = _LINE.fullmatch(line.strip())
        place = f"{series}:{number}"
        if found is None:
            raise UserError(f"`{printable(line.strip())[:60]}` names no patch", place=place, remedy="correct the line")
        for option in found["options"].split():
            if option == "-R":
                fact = f"{printable(found['name'])} is to be applied in reverse"
                raise UserError(fact, place=place, remedy="give the reversed patch")
            if not _STRIP.fullmatch(option):
                raise UserError(f"the option {printable(option)} is not known", place=place, remedy="leave it out")
        out.append((found["name"], number))
        PATCH_FILES.check(len(out), str(series))
    return out


def _read_series(series: Path) -> list[NamedText]:
    names = _read_names(series)
    if not names:
        raise UserError("lists no patch", place=str(series), remedy="give the patches in their order")
    out, seen = [], set()
    for name, number in names:
        if name in seen:
            remedy = "leave one of the two out"
            raise UserError(f"{printable(name)} is listed twice", place=f"{series}:{number}", remedy=remedy)
        seen.add(name)
        path = _inside(series.parent, name, f"{series}:{number}")
        out.append((name, unpack_patch(read_input(path, PATCH_BYTES, _GIVE), name)))
    return out


def _inside(folder: Path, name: str, place: str) -> Path:
    """A file below a folder, links followed. Raises UserError for one that is elsewhere."""
    path = path_within(folder, name)
    if path is None:
        fact = f"`{printable(name)}` leads out of the directory of the list"
        raise UserError(fact, place=place, remedy="name patches beside the list")
    return path


def _read_package(dsc: Path) -> dict[str, bytes]:
    """The patches of a Debian source package (format 3.0 (quilt)) in the order of its series, by name below
    debian/patches. The archive beside the .dsc is checked against the digest in it."""
    text = read_input(dsc, PATCH_BYTES, "give a .dsc file").decode("utf-8", "replace").replace("\r\n", "\n")
    found = _CHECKSUMS.search(text)
    rows = [line.split() for line in found[1].splitlines()] if found else []
    archive = next((row for row in rows if len(row) == 3 and _TARBALL.fullmatch(row[2])), None)
    if archive is None:
        fact = "names no archive of patches (Checksums-Sha256 with a .debian.tar)"
        raise UserError(fact, place=dsc.name, remedy="give the .dsc of a source package of format 3.0 (quilt)")
    path = dsc.parent / archive[2]
    data = read_input(path, PATCH_BYTES, "put it beside the .dsc")
    import tarfile  # few patches are read from a package

    if hashlib.sha256(data).hexdigest() != archive[0]:
        raise UserError(f"is not the file that {dsc.name} names", place=path.name, remedy="fetch both again")
    kind = packed_with(data) or ("bzip2" if data[:3] == b"BZh" else "")
    unpacked = decompress(data, kind, path.name, PATCH_BYTES) if kind else data
    members: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(unpacked), mode="r:") as tar:
            for member in tar:
                _, slash, name = member.name.partition("debian/patches/")
                content = tar.extractfile(member) if slash and member.isreg() else None
                if content is not None:
                    members[name] = content.read()
    except tarfile.TarError as error:
        raise UserError(f"is no tar archive ({error})", place=path.name, remedy="fetch it again") from error
    series = members.get("series", b"").decode("utf-8", "surrogateescape").split("\n")
    names = [line.split()[0] for line in series if line.strip() and not line.lstrip().startswith("#")]
    return {name: members[name] for name in names if name in members}
