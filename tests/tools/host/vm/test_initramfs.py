# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's archive, read back by a reader of our own and, where it is installed, by cpio."""

from __future__ import annotations

import gzip
import lzma
import stat
import subprocess
from pathlib import Path

import pytest

from kgbuild.arch import default_arch
from kgbuild.errors import ToolError, UserError
from kgbuild.host.modules import files
from kgbuild.host.vm import initramfs
from kgbuild.host.vm.initramfs import ArchiveEntry, directory, regular, symlink, write_cpio
from tests.support.module_files import modinfo_object


def read_cpio(data: bytes) -> dict[str, tuple[int, bytes, dict[str, int]]]:
    """name -> (mode, contents, header fields), in order; checks magic, padding and trailer."""
    text = "ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check"
    names = text.split()
    result = {}
    at = 0
    while True:
        assert data[at : at + 6] == b"070701"
        fields = {n: int(data[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i, n in enumerate(names)}
        at += 110
        name = data[at : at + fields["namesize"]]
        assert name.endswith(b"\0")
        at = (at + len(name) + 3) & ~3
        content = data[at : at + fields["filesize"]]
        assert len(content) == fields["filesize"]
        at = (at + len(content) + 3) & ~3
        if name == b"TRAILER!!!\0":
            assert at == len(data)
            return result
        assert name[:-1].decode() not in result
        result[name[:-1].decode()] = (fields["mode"], content, fields)


ENTRIES = [
    directory("dev"),
    ArchiveEntry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
    regular("init", b"#!/bin/sh\n", 0o755),
    regular("a/b/c", b"12345"),
    regular("a/b/empty", b""),
    symlink("bin/sh", "busybox"),
    directory("a"),
]


def test_archive_reads_back() -> None:
    tree = read_cpio(write_cpio(ENTRIES))
    assert list(tree) == ["dev", "dev/console", "init", "a", "a/b", "a/b/c", "a/b/empty", "bin", "bin/sh"]
    assert tree["a/b/c"][:2] == (stat.S_IFREG | 0o644, b"12345")
    assert tree["init"][0] == stat.S_IFREG | 0o755
    assert tree["bin/sh"][:2] == (stat.S_IFLNK | 0o777, b"busybox")
    assert stat.S_ISDIR(tree["a/b"][0])
    console = tree["dev/console"]
    assert stat.S_ISCHR(console[0])
    assert (console[2]["rdevmajor"], console[2]["rdevminor"]) == (5, 1)
    inodes = [fields["ino"] for _, _, fields in tree.values()]
    assert len(set(inodes)) == len(inodes)
    assert 0 not in inodes


def test_archive_is_the_same_each_time() -> None:
    assert write_cpio(ENTRIES) == write_cpio(ENTRIES)


def test_cpio_reads_it() -> None:
    done = subprocess.run(["cpio", "-t"], input=write_cpio(ENTRIES), capture_output=True, check=True)
    assert done.stdout.decode().split() == list(read_cpio(write_cpio(ENTRIES)))


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", ""])
def test_paths_outside_the_root_are_refused(path: str) -> None:
    with pytest.raises(UserError):
        write_cpio([regular(path, b"")])


def test_base_tree_has_what_the_kernel_needs() -> None:
    tree = read_cpio(write_cpio(initramfs.base_tree(b"ELF", ["busybox", "sh", "[", "ls"])))
    assert tree["init"][1].startswith(b"#!/bin/busybox sh\n")
    assert tree["init"][0] & 0o111
    assert stat.S_ISCHR(tree["dev/console"][0])
    assert tree["bin/busybox"][1] == b"ELF"
    assert tree["bin/["][1] == b"busybox"


def test_init_is_a_shell_script() -> None:
    init = read_cpio(write_cpio(initramfs.base_tree(b"", [])))["init"][1]
    done = subprocess.run(["sh", "-n"], input=init, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_commands_keep_every_character() -> None:
    text = "printf 'it'\"'\"'s \"$x\" `id`\n\\n'\n# end"
    tree = read_cpio(write_cpio(initramfs.run_tree(3, "lp", b"KO", {"before": [text, "true"], "after": []})))
    assert tree["kgbuild/runs/003/before/000"][1].decode() == text
    assert tree["kgbuild/runs/003/before/001"][1] == b"true"
    assert tree["kgbuild/runs/003/module.ko"][1] == b"KO"
    assert tree["kgbuild/runs/003/name"][1] == b"lp\n"
    with pytest.raises(UserError, match="NUL"):
        initramfs.run_tree(0, "lp", b"", {"after": ["a\0b"]})


def test_user_files(tmp_path: Path) -> None:
    script = tmp_path / "s"
    script.write_bytes(b"x")
    script.chmod(0o640)
    tree = read_cpio(write_cpio(initramfs.user_files({"/opt/t": b"y", "etc/s": script})))
    assert tree["opt/t"][:2] == (stat.S_IFREG | 0o755, b"y")
    assert tree["etc/s"][:2] == (stat.S_IFREG | 0o640, b"x")
    with pytest.raises(UserError):
        initramfs.user_files({"/x": tmp_path / "absent"})


def test_modinfo() -> None:
    assert files.read_modinfo(modinfo_object(livepatch="Y", name="lp"))["name"] == "lp"
    assert files.read_modinfo(b"no elf at all") == {}
    assert files.read_modinfo(modinfo_object(livepatch="Y")[:100]) == {}


def test_modules_come_with_what_they_need_in_order(tmp_path: Path) -> None:
    plain = tmp_path / "kernel/a"
    plain.mkdir(parents=True)
    (plain / "top-one.ko").write_bytes(modinfo_object(depends="mid,built_in"))
    (plain / "mid.ko.xz").write_bytes(lzma.compress(modinfo_object(depends="low")))
    (plain / "low.ko.gz").write_bytes(gzip.compress(modinfo_object(depends="")))
    (plain / "other.ko").write_bytes(modinfo_object(depends=""))
    (tmp_path / "modules.builtin").write_text("kernel/drivers/built-in.ko\n")
    found = initramfs.collect_modules(tmp_path, ["top_one", "low", "built_in"])
    assert [name for name, _ in found] == ["low", "mid", "top_one"]
    assert files.read_modinfo(found[1][1])["depends"] == "low"
    assert initramfs.collect_modules(None, []) == []


def test_unknown_modules_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.ko").write_bytes(modinfo_object(depends="gone"))
    with pytest.raises(UserError, match=r"gone.*needed by a"):
        initramfs.collect_modules(tmp_path, ["a"])
    with pytest.raises(UserError, match="not among"):
        initramfs.collect_modules(tmp_path, ["b"])
    with pytest.raises(UserError):
        initramfs.collect_modules(None, ["b"])


def test_broken_compression_is_one_message(tmp_path: Path) -> None:
    broken = tmp_path / "a.ko.xz"
    broken.write_bytes(b"nonsense")
    with pytest.raises(UserError, match="is not compressed with xz"):
        files.read_module_bytes(broken)
    broken = tmp_path / "a.ko.gz"
    broken.write_bytes(b"nonsense")
    with pytest.raises(UserError):
        files.read_module_bytes(broken)


def test_busybox_must_be_there_and_static(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(initramfs.shutil, "which", lambda *_, **__: None)
    with pytest.raises(ToolError, match="busybox") as caught:
        initramfs.find_busybox(default_arch())
    assert caught.value.remedy == "apt-get install busybox-static"
    fake = tmp_path / "busybox"
    fake.write_bytes(b"#!/bin/sh\n")
    monkeypatch.setattr(initramfs.shutil, "which", lambda *_, **__: str(fake))
    with pytest.raises(ToolError, match="shared libraries"):
        initramfs.find_busybox(default_arch())
