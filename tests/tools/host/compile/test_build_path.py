# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a kernel's source was compiled, from the names of files in its debugging information."""

from __future__ import annotations

from pathlib import Path

import pytest

from kgbuild.host.compile.build_path import _find, overlap, shows_path
from kgbuild.model import UnitCommand


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([b"/build/reproducible-path/linux-7.3.4/init/main.c"], b"/build/reproducible-path/linux-7.3.4"),
        ([b"/home/u/linux/init/main.c", b"init/main.c"], b"/home/u/linux"),
        # what is no directory that an empty root can have, or is not absolute, is no answer
        ([b"init/main.c", b"../init/main.c"], b""),
        ([b"/usr/src/linux/init/main.c"], b""),
        ([b"/tmp/linux/init/main.c", b"/etc/init/main.c", b"/proc/self/init/main.c"], b""),
        ([b"/a/../b/init/main.c", b"/a b/init/main.c", b"/a/./b/init/main.c", b"//a/init/main.c"], b""),
        ([b"/b/linux/init/main.cpp"], b""),
        ([], b""),
    ],
)
def test_the_path_is_the_one_of_a_unit_that_every_kernel_has(
    names: list[bytes], expected: bytes, tmp_path: Path
) -> None:
    vmlinux = tmp_path / "vmlinux"
    vmlinux.write_bytes(b"\x7fELF\0" + b"\0".join([*names, b"/x/fs/file.c", b""]))
    assert _find(vmlinux) == expected


def test_directories_that_overlap() -> None:
    one = Path("/a/b")
    assert overlap(one, one) and overlap(one, Path("/a")) and overlap(Path("/a"), one)
    assert not overlap(one, Path("/a/bc")) and not overlap(one, Path("/c"))


@pytest.mark.parametrize(
    ("word", "shown"), [("-fsanitize=bounds-strict", True), ("-fno-sanitize=all", False), ("-O2", False)]
)
def test_only_sanitizers_show_it(word: str, shown: bool) -> None:
    unit = UnitCommand("a.c", "a.o", "a", "a", False, ("gcc", word), ())
    assert shows_path(unit) == shown
