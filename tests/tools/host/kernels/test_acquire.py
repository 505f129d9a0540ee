# SPDX-License-Identifier: GPL-2.0-or-later
"""Build-ids, unpacking and local kernels, on files made here."""

from __future__ import annotations

import gzip
import io
import lzma
import shutil
import struct
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from kgbuild.elf.notes import find_build_id
from kgbuild.elf.records import LITTLE
from kgbuild.errors import ToolError, UserError
from kgbuild.host.archives.apt import Apt
from kgbuild.host.archives.recipe import PackageMember, Part
from kgbuild.host.archives.unpack import unpack_part
from kgbuild.host.kernels import generated_sources, local
from kgbuild.host.kernels.build_id import note_ranges, read_image_build_id, read_vmlinux_build_id
from kgbuild.host.kernels.fetch import check_same_build
from kgbuild.host.kernels.local import LocalKernel, add_kernel, copy_sources, is_clean
from kgbuild.host.system.cache import Cache
from kgbuild.host.system.run import tied
from kgbuild.progress import SilentProgress
from tests.support.toolchain import compile_text, run

ID = bytes(range(20))
OTHER = bytes(20)


def notes(build_id: bytes) -> bytes:
    """Two notes, the second of which is the build-id."""
    first = struct.pack("<III", 6, 3, 0x100) + b"Linux\0\0\0" + b"abc\0"
    return first + struct.pack("<III", 4, len(build_id), 3) + b"GNU\0" + build_id


def vmlinux(build_id: bytes, padding: int = 5000) -> bytes:
    """An ELF file with one note segment behind some padding."""
    data = notes(build_id)
    offset = 64 + 56 + padding
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 4, 4, offset, 0, 0, len(data), len(data), 4)
    return header + segment + bytes(padding) + data + bytes(2_000_000)


def image(payload: bytes) -> bytes:
    """A bzImage with this payload."""
    head = bytearray(1024)
    head[0x1F1] = 1
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", head, 0x206, 0x20F)
    struct.pack_into("<II", head, 0x248, 100, len(payload))
    return bytes(head) + bytes(100) + payload + bytes(64)


def test_notes() -> None:
    assert find_build_id(notes(ID), LITTLE) == ID.hex()
    assert find_build_id(b"", LITTLE) == ""
    assert find_build_id(notes(ID)[:30], LITTLE) == ""


@pytest.mark.parametrize("data", [b"", b"#!/bin/sh\n", b"\x7fELF\x01\x01", vmlinux(ID)[:60]])
def test_no_elf_file_has_no_notes(data: bytes) -> None:
    assert note_ranges(data.ljust(64, b"\0")) == []


def test_vmlinux(tmp_path: Path) -> None:
    (tmp_path / "vmlinux").write_bytes(vmlinux(ID))
    assert read_vmlinux_build_id(tmp_path / "vmlinux") == ID.hex()


@pytest.mark.parametrize("compress", [lzma.compress, gzip.compress, lambda d: lzma.compress(d, lzma.FORMAT_ALONE)])
def test_image(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    # The payload of a real one has its size behind it.
    (tmp_path / "bzImage").write_bytes(image(compress(vmlinux(ID)) + b"\x12\x34\x56\x78"))
    assert read_image_build_id(tmp_path / "bzImage") == ID.hex()


def test_zstd_image(tmp_path: Path) -> None:
    packed = zstandard.ZstdCompressor().compress(vmlinux(ID))
    (tmp_path / "bzImage").write_bytes(image(packed + b"\x12\x34\x56\x78"))
    assert read_image_build_id(tmp_path / "bzImage") == ID.hex()


@pytest.mark.parametrize(
    "payload", [b"", b"unknown compression", lzma.compress(b"no kernel" * 1000), b"\xfd7zXZ\0junk"]
)
def test_image_that_cannot_be_read(tmp_path: Path, payload: bytes) -> None:
    (tmp_path / "bzImage").write_bytes(image(payload))
    assert read_image_build_id(tmp_path / "bzImage") is None


def test_no_image(tmp_path: Path) -> None:
    (tmp_path / "bzImage").write_bytes(b"MZ" * 2000)
    with pytest.raises(UserError, match="not a bootable"):
        read_image_build_id(tmp_path / "bzImage")


def test_two_builds(tmp_path: Path) -> None:
    (tmp_path / "vmlinux").write_bytes(vmlinux(ID))
    (tmp_path / "bzImage").write_bytes(image(gzip.compress(vmlinux(OTHER))))
    with pytest.raises(ToolError, match="take both from one build"):
        check_same_build(tmp_path / "vmlinux", tmp_path / "bzImage")


def tar(files: dict[str, bytes], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A binary package with a few files and a source archive."""
    source = tar({"linux-6.1/Makefile": b"all:\n", "linux-6.1/fs/a.c": b"int a;\n"}, "w:xz")
    root = tmp_path / "root"
    for name, data in {
        "usr/lib/debug/boot/vmlinux-R": b"kernel",
        "usr/lib/modules/R/a.ko": b"module",
        "usr/src/headers-R/Makefile": b"x",
        "usr/src/headers-R/include/a.h": b"y",
        "usr/src/linux.tar.xz": source,
        "DEBIAN/control": b"Package: a\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b>\nDescription: a\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    subprocess.run(["dpkg-deb", "-b", "--root-owner-group", root, tmp_path / "a.deb"], check=True, capture_output=True)
    return tmp_path / "a.deb"


def part(**changes: object) -> Part:
    return Part(**{"name": "p", "title": "part", "packages": ("a",), "exact": True, "growth": 1.0, **changes})  # type: ignore[arg-type]


def test_members(package: Path, tmp_path: Path) -> None:
    members = (
        PackageMember(("./lib/modules/{release}", "./usr/lib/modules/{release}"), "modules"),
        PackageMember(("./usr/src/headers-{release}",), "build", ("Makefile", "none")),
    )
    target = tmp_path / "kernel"
    target.mkdir()
    counted: list[float] = []
    unpack_part(part(unpack=members), {"release": "R"}, package, target, counted.append, Apt())
    files = sorted(p.relative_to(target).as_posix() for p in target.rglob("*") if p.is_file())
    assert files == ["build/include/a.h", "modules/a.ko"]
    assert sum(counted) > 0


def test_first_member_only(package: Path, tmp_path: Path) -> None:
    members = (PackageMember(("./usr/lib/debug/boot/vmlinux-{release}",), "vmlinux"),)
    unpack_part(part(unpack=members, first_only=True), {"release": "R"}, package, tmp_path, lambda count: None, Apt())
    assert (tmp_path / "vmlinux").read_bytes() == b"kernel"


def test_missing_member(package: Path, tmp_path: Path) -> None:
    members = (PackageMember(("./none",), "none"),)
    with pytest.raises(ToolError, match=r"a\.deb: has no \./none"):
        unpack_part(part(unpack=members), {}, package, tmp_path, lambda count: None, Apt())


def test_source_archive(package: Path, tmp_path: Path) -> None:
    target = tmp_path / "source"
    unpack_part(part(tarball="./usr/src/linux.tar.xz"), {}, package, target, lambda count: None, Apt())
    assert (target / "fs" / "a.c").read_bytes() == b"int a;\n"


@pytest.mark.parametrize("tarball", ["", "./usr/src/linux.tar.xz"])
def test_cut_package(package: Path, tmp_path: Path, tarball: str) -> None:
    package.write_bytes(package.read_bytes()[:300])
    members = (PackageMember(("./usr",), "usr"),)
    with pytest.raises(ToolError):
        unpack_part(part(tarball=tarball, unpack=members), {}, package, tmp_path, lambda count: None, Apt())


def test_tied_program_runs_and_a_missing_one_is_still_missing() -> None:
    assert subprocess.run(tied(["true"]), check=False).returncode == 0
    assert tied(["no-such-program", "x"]) == ["no-such-program", "x"]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    source = tmp_path / "linux"
    for name in (
        "Kconfig",
        "scripts/Makefile.build",
        "fs/a.c",
        "fs/.gitignore",
        "lib/x.asn1_shipped",
        "lib/t.c_shipped",
    ):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    return source


def test_clean_tree(tree: Path) -> None:
    assert is_clean(tree)
    (tree / ".config").touch()
    assert not is_clean(tree)


def test_copy_leaves_build_products_out(tree: Path, tmp_path: Path) -> None:
    before = {p.relative_to(tree).as_posix() for p in tree.rglob("*") if p.is_file()}
    for name in (
        ".config",
        "vmlinux",
        "fs/a.o",
        "fs/.a.o.cmd",
        "fs/built-in.a",
        "include/generated/x.h",
        "include/config/auto.conf",
        ".git/HEAD",
        "scripts/kconfig/lexer.lex.c",
    ):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).touch()
    copy_sources(tree, tmp_path / "copy")
    after = {p.relative_to(tmp_path / "copy").as_posix() for p in (tmp_path / "copy").rglob("*") if p.is_file()}
    assert after == before


@pytest.fixture
def mine(tree: Path, tmp_path: Path) -> LocalKernel:
    (tmp_path / "vmlinux").write_bytes(vmlinux(ID))
    (tmp_path / "bzImage").write_bytes(image(gzip.compress(vmlinux(ID))))
    (tmp_path / "config").write_text("CONFIG_LIVEPATCH=y\n")
    (tmp_path / "symvers").touch()
    return LocalKernel(
        "mine", tree, tmp_path / "config", tmp_path / "vmlinux", tmp_path / "bzImage", tmp_path / "symvers"
    )


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("name", "a/b", "a name is"),
        ("name", "", "a name is"),
        ("config", "none", "No such file"),
        ("vmlinux", "none", "No such file"),
        ("image", "config", "not a bootable"),
        ("vmlinux", "config", "not a 64-bit x86 vmlinux"),
        ("source", "linux/fs", "not a kernel source tree"),
        ("modules", "none", "no such directory"),
    ],
)
def test_what_does_not_fit(mine: LocalKernel, tmp_path: Path, field: str, value: str, message: str) -> None:
    broken = LocalKernel(**{**vars(mine), field: value if field == "name" else tmp_path / value})
    with pytest.raises(UserError, match=message):
        add_kernel(broken, progress=SilentProgress(), cache=Cache(tmp_path / "cache"))
    assert not (tmp_path / "cache" / "kernels").exists()


def test_files_of_two_builds(mine: LocalKernel, tmp_path: Path) -> None:
    mine.image.write_bytes(image(gzip.compress(vmlinux(OTHER))))
    with pytest.raises(UserError, match=r"bzImage: vmlinux has build-id .* take both from one build"):
        add_kernel(mine, progress=SilentProgress(), cache=Cache(tmp_path / "cache"))


def test_missing_tools(mine: LocalKernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ToolError, match="apt-get install bc binutils bison flex make"):
        add_kernel(mine, progress=SilentProgress(), cache=Cache(tmp_path / "cache"))


def test_release_is_what_the_kernel_says(tmp_path: Path) -> None:
    """Distributions override what the source's Makefile says."""
    banner = "Linux version 6.1.0-99-mine-amd64 (me@here) (gcc-12 (x) 12.2.0, GNU ld 2.40) #1 SMP Mine 6.1.192-2"
    unit = compile_text(f'const char linux_banner[] = "{banner}";', "-ffreestanding")
    (tmp_path / "unit.o").write_bytes(unit)
    run("ld", "-Ttext=0xffffffff81000000", "-e", "0", "-o", tmp_path / "vmlinux", tmp_path / "unit.o")
    assert local.read_release(tmp_path / "vmlinux") == "6.1.0-99-mine-amd64"


def test_vmlinux_without_a_release(mine: LocalKernel, tmp_path: Path) -> None:
    (tmp_path / "unit.o").write_bytes(compile_text("int x;", "-ffreestanding"))
    with pytest.raises(UserError, match="says no kernel release"):
        local.read_release(tmp_path / "unit.o")
    with pytest.raises(UserError, match=r"vmlinux: .*no section headers; give the unstripped"):
        add_kernel(mine, progress=SilentProgress(), cache=Cache(tmp_path / "cache"))
    assert not (tmp_path / "cache" / "kernels").exists()


def test_config_that_kconfig_changes() -> None:
    given = {"LIVEPATCH": "y", "DEBUG_INFO_BTF_MODULES": "y", "PAHOLE_VERSION": "124", "MODULE_SIG_KEY": '"a"'}
    with pytest.raises(ToolError, match=r"1 options change: DEBUG_INFO_BTF_MODULES"):
        local._check_config_kept(given, {"LIVEPATCH": "y", "PAHOLE_VERSION": "0"})
    local._check_config_kept(given, {**given, "PAHOLE_VERSION": "0", "CC_HAS_X": "y"})


@pytest.mark.parametrize(("version", "says"), [("124", "v1.24"), ("105", "v1.05"), ("0", None), ("x", None)])
def test_pahole_for_kconfig(tmp_path: Path, version: str, says: str | None) -> None:
    program = local._write_pahole(tmp_path, version)
    if says is None:
        assert program is None
    else:
        assert program is not None
        assert subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout == f"{says}\n"


def test_generated_sources_are_found() -> None:
    lines = [
        "/src/security/selinux/Makefile:39: update target 'security/selinux/flask.h' due to: x\n",
        "/src/lib/Makefile:309: target 'lib/crc32table.h' does not exist\n",
        "/src/scripts/Makefile.build:250: update target 'fs/a.o' due to: fs/a.c FORCE\n",
        "/src/x:1: target 'arch/x86/entry/vdso/vdso-image-64.c' does not exist\n",
        "/src/x:1: target 'drivers/a.mod.c' does not exist\n",
        "gcc-12 -c -o fs/a.o fs/a.c\n",
    ]
    targets: set[str] = set()
    assert list(generated_sources.watch_targets(lines, targets)) == lines
    assert targets == {"security/selinux/flask.h", "lib/crc32table.h"}
