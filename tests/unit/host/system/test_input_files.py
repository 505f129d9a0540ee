# SPDX-License-Identifier: GPL-2.0-or-later
"""What a user names is read up to a limit, whatever stands behind the name; what is compressed is never trusted."""

from __future__ import annotations

import ast
import bz2
import gzip
import io
import lzma
import os
import random
import re
import socket
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from kgbuild import limits
from kgbuild.decompression import DamagedError, decompress, packed_with
from kgbuild.errors import KgbuildError, ToolError, UserError
from kgbuild.host.compile.apply_patches import read_patches
from kgbuild.host.kernels.local import copy_sources
from kgbuild.host.modules.files import read_modinfo, read_module_bytes
from kgbuild.host.modules.images import name_modules
from kgbuild.host.modules.loaded_patches import read_older_modules, read_others
from kgbuild.host.system.cache import Cache
from kgbuild.host.system.input_files import map_input, read_input, read_limited, read_packed
from kgbuild.limits import LIMITS, UNPACKED_BYTES, Limit, LimitError
from kgbuild.pipeline.stages.verify import read_record
from kgbuild.report.reference_docs import render_input_limits
from tests.support.sources import nodes_of, text_of

PACKAGE = Path(__file__).resolve().parents[4] / "kgbuild"
FEW = Limit("few", 100, "bytes", "a test")
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "gzip": gzip.compress,
    "zlib": zlib.compress,
    "bzip2": bz2.compress,
    "zstd": lambda data: zstandard.ZstdCompressor().compress(data),
}


# Every reader of a file that a command is given. A new one belongs here.
READERS: dict[str, Callable[[Path], object]] = {
    "a patch": lambda path: read_patches([path]),
    "a module": read_module_bytes,
    "an out-of-tree module": lambda path: name_modules([path]),
    "--on-top-of": lambda path: read_older_modules([path]),
    "--against": lambda path: read_others([path]),
    "--proof": read_record,
    "an object": lambda path: map_input(path, FEW),
}


def special(tmp_path: Path) -> dict[str, Path]:
    """What can stand behind a name and is no file to read, by how a message calls it."""
    pipe, sparse, place = tmp_path / "pipe.ko", tmp_path / "sparse.ko", tmp_path / "socket"
    os.mkfifo(pipe)
    with sparse.open("wb") as file:
        file.truncate(30 << 30)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(place))
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "to-zero").symlink_to("/dev/zero")
    return {
        "a directory": tmp_path,
        "a pipe": pipe,
        "a device": Path("/dev/zero"),
        "a device, not": tmp_path / "to-zero",
        "a socket": place,
        "32,212,254,720 bytes": sparse,
        "symbolic links": tmp_path / "loop",
        "No such file": tmp_path / "nothing",
    }


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_refuses_what_is_no_file_at_once(
    reader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    for said, path in special(tmp_path).items():
        with pytest.raises(UserError) as raised:
            READERS[reader](path)
        assert said in raised.value.fact, (reader, path)
        assert str(path) == raised.value.place


def test_a_file_that_grows_while_it_is_read_is_not_read_beyond_the_limit() -> None:
    assert read_limited(io.BytesIO(b"x" * 100), FEW, "standard input") == b"x" * 100
    with pytest.raises(LimitError, match=r"standard input: .*the limit few is 100 bytes"):
        read_limited(io.BytesIO(b"x" * 101), FEW, "standard input")


def test_a_name_that_is_none_is_one_message() -> None:
    with pytest.raises(UserError, match="is no file name"):
        read_input(Path("a\0b"), FEW)


@pytest.mark.parametrize("kind", COMPRESS)
def test_what_was_compressed_comes_back(kind: str) -> None:
    noise = random.Random(kind).randbytes(300_000)
    for data in (b"", b"x", noise, bytes(900_000), noise + bytes(1 << 20)):
        packed = COMPRESS[kind](data)
        assert decompress(packed, kind, "x") == data
        assert decompress(packed + packed, kind, "x") == data + data
        assert decompress(packed + bytes(40), kind, "x") == data, "padding"


@pytest.mark.parametrize("kind", COMPRESS)
def test_what_grows_beyond_a_limit_is_refused_before_it_is_there(kind: str) -> None:
    bomb = COMPRESS[kind](bytes(20 << 20))
    with pytest.raises(LimitError) as raised:
        decompress(bomb, kind, "bomb.ko")
    assert raised.value.limit == "unpacked-ratio" and "the limit unpacked-ratio is 200" in str(raised.value)
    with pytest.raises(LimitError, match="the limit few is 100 bytes"):
        decompress(COMPRESS[kind](b"x" * 101), kind, "x", FEW)


@pytest.mark.parametrize("kind", COMPRESS)
def test_damaged_streams_are_one_kind_of_error(kind: str) -> None:
    rng = random.Random(kind)
    packed = COMPRESS[kind](rng.randbytes(2000) + bytes(2000))
    refused = 0
    for number in range(400):
        damaged = bytearray(packed)
        if number % 2:
            del damaged[rng.randrange(1, len(damaged)) :]
        else:
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        try:
            decompress(bytes(damaged), kind, "x")
        except (DamagedError, LimitError):
            refused += 1
    assert refused > 100


def test_a_module_is_known_by_its_bytes_not_by_its_name(tmp_path: Path) -> None:
    module = b"\x7fELF" + bytes(100)
    for suffix, kind in ((".xz", "xz"), (".gz", "gzip"), (".zst", "zstd"), ("", "xz")):
        path = tmp_path / f"a.ko{suffix}"
        path.write_bytes(COMPRESS[kind](module))
        assert read_packed(path) == module
        path.write_bytes(module)
        assert read_packed(path) == module
        path.write_bytes(b"nonsense")
        if suffix:
            with pytest.raises(UserError, match="is not compressed with"):
                read_packed(path)
    assert packed_with(b"") == packed_with(b"\x7fELF") == ""


def test_modinfo_of_anything_is_a_dictionary() -> None:
    for data in (b"", b"\x7fELF", bytes(64), random.Random(1).randbytes(500)):
        assert read_modinfo(data) == {}


def test_limits_have_names_of_their_own_and_say_them() -> None:
    names = [limit.name for limit in LIMITS]
    assert len(set(names)) == len(names) > 20
    for limit in LIMITS:
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", limit.name) and limit.most > 0
        limit.check(limit.most, "x")
        with pytest.raises(KgbuildError, match=f"the limit {limit.name} is "):
            limit.check(limit.most + 1, "x")
    assert UNPACKED_BYTES.amount == "1 GiB" and Limit("a", 1500, "files", "").amount == "1,500 files"


def test_the_page_of_limits_is_the_table() -> None:
    page = PACKAGE.parent / "docs" / "input-limits.md"
    assert page.read_text(encoding="utf-8") == render_input_limits(), "run make docs"


# These read what kgbuild itself, the kernel's packages or the system wrote; none reads a file that a user names.
OWN_FILES = {
    "api.py",
    "cli/contract/outcome.py",  # opens what it writes
    "cli/main.py",  # opens /dev/null
    "host/system/locks.py",
    "host/system/output_files.py",  # opens what it writes
    "host/system/output_kinds.py",  # looks at regular files that are about to be overwritten, up to a size
    "host/system/sealed.py",
    "host/system/sealed_trees.py",
    "cli/install/commands.py",  # what comes with kgbuild, as the next
    "cli/review/pages.py",
    "pipeline/stages/source_edits.py",  # the source of a kernel
    "host/system/watch.py",  # /proc
    "host/system/tree_manifest.py",  # source trees in the cache
    "host/delivery",  # what comes with kgbuild, and what openssl, dpkg-deb and rpmbuild have just made
    "host/patches/patch_sources.py",  # an archive in memory
    "host/releases/release_files.py",  # what a release has written
    "host/releases/store.py",
    "host/releases/workers.py",  # /proc
    "pipeline/delivery/provenance.py",  # a kernel in the cache, as the next
    "pipeline/releases/affected.py",
    "pipeline/releases/backport.py",  # what git has just made
    "pipeline/kernels.py",  # the configuration of a kernel in the cache
    "data",
    "host/archives",
    "host/compile",
    "host/index",
    "host/kernels",
    "host/link",
    "host/modules/out_of_tree.py",
    "host/modules/running.py",
    "host/system/cache.py",
    "host/system/input_files.py",
    "host/toolchains",
    "host/vm",
    "pipeline/estimate.py",
    "pipeline/stages/export_types.py",
    "pipeline/stages/kept_changes.py",
    "pipeline/stages/verify.py",
    "cli/kernel.py",
    "cli/options.py",
}


CALLS = ("read_bytes", "read_text", "open", "mmap")


def test_nothing_but_the_reader_reads_files_of_the_user() -> None:
    strange = []
    for path in sorted(PACKAGE.rglob("*.py")):
        where = path.relative_to(PACKAGE).as_posix()
        if any(where == own or where.startswith(f"{own}/") for own in OWN_FILES):
            continue
        for node in nodes_of(path) if any(name in text_of(path) for name in CALLS) else ():
            called = node.func if isinstance(node, ast.Call) else None
            if isinstance(called, ast.Attribute) and called.attr in CALLS:
                strange.append(f"{where}:{node.lineno}")
    assert not strange


def test_every_limit_is_used() -> None:
    names = {name for name, value in vars(limits).items() if isinstance(value, Limit)}
    used = set[str]()
    for path in PACKAGE.rglob("*.py"):
        if path.name != "limits.py":
            used |= names & set(re.findall(r"\w+", path.read_text(encoding="utf-8")))
    assert names == used


@pytest.mark.parametrize("name", ["a b", "a#b", "a%b", "a:b", "a'b", 'a"b', "a\\b", "a$b", "a,b", "a\nb"])
def test_a_cache_in_which_no_kernel_can_be_built_is_one_message(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    said = r"can't work in a directory with .* in its path; set XDG_CACHE_HOME"
    with pytest.raises(ToolError, match=said), Cache(tmp_path / name).scratch("x"):
        pass
    with Cache(tmp_path / "ü+a_b.c@d=e~f-1").scratch("x") as folder:
        assert folder.is_dir()


def test_a_scratch_directory_goes_also_where_the_work_fails(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Cache(tmp_path).scratch("x") as folder:
        (folder / "left").touch()
        raise KeyboardInterrupt
    assert not list((tmp_path / "tmp").iterdir())


def test_special_files_among_sources_are_not_copied(tmp_path: Path) -> None:
    for name in ("pipe", "sparse"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "Kbuild").write_text("obj-m := x.o\n")
        (folder / "link").symlink_to("/dev/zero")
        copy_sources(folder, tmp_path / f"{name}.fine")
        assert (tmp_path / f"{name}.fine" / "link").is_symlink()
        if name == "pipe":
            os.mkfifo(folder / "x.c")
        else:
            with (folder / "x.c").open("wb") as file:
                file.truncate(30 << 30)
        with pytest.raises(UserError, match=r"x\.c: (is a pipe|.*the limit source-bytes)"):
            copy_sources(folder, tmp_path / f"{name}.copy")
