# SPDX-License-Identifier: GPL-2.0-or-later
"""Out-of-tree modules without a kernel: what is taken for one, and where it was built. The rest needs kbuild and is in
tests/kernel/test_oot.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from kgbuild.errors import UserError
from kgbuild.host.modules.images import name_modules
from kgbuild.host.modules.out_of_tree import _built_in, check_folder, digest_tree
from kgbuild.model import UnitCommand


def unit(source: str, modname: str = "mine") -> UnitCommand:
    return UnitCommand(source, source.replace(".c", ".o"), modname, modname, True, ("gcc",), ())


def test_the_place_of_a_build_is_read_from_the_module() -> None:
    data = b"\0text\0/var/lib/dkms/mine/1.0/build/sub/a.c\0more\0"
    assert _built_in({"mine": data}, unit("sub/a.c"), "?") == "/var/lib/dkms/mine/1.0/build/"
    assert _built_in({"other": data}, unit("sub/a.c"), "/src/") == "/src/"
    assert _built_in({"mine": data}, unit("a.c"), "?") == "/var/lib/dkms/mine/1.0/build/sub/"
    assert _built_in({"mine": data}, unit("b.c"), "/src/") == "/src/"


def test_two_places_decide_nothing() -> None:
    assert _built_in({"mine": b"\0/one/a.c\0/two/a.c\0"}, unit("a.c"), "/src/") == "/src/"
    # since 6.13 kbuild goes to the directory of such a module and compiles there
    assert _built_in({"mine": b"\0sub/a.c\0"}, unit("sub/a.c"), "?") == ""
    assert _built_in({"mine": b"\00012/a.c\0"}, unit("12/a.c"), "?") == ""
    assert _built_in({"mine": b"\0sub/a.c\0"}, unit("a.c"), "?") == "?"
    assert _built_in({"mine": b"\0a.c\0/one/a.c\0"}, unit("a.c"), "?") == "/one/"
    assert _built_in({"mine": b"\0/one/a.c\0/one/a.c\0"}, unit("a.c"), "?") == "/one/"


def test_a_folder_needs_a_makefile(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither Kbuild nor Makefile"):
        check_folder(tmp_path)
    with pytest.raises(UserError, match="no such directory"):
        check_folder(tmp_path / "nowhere")
    (tmp_path / "Makefile").write_text("obj-m := mine.o\n")
    check_folder(tmp_path)


def test_what_is_no_module_is_said_so(tmp_path: Path) -> None:
    text = tmp_path / "mine.ko"
    text.write_text("no module")
    with pytest.raises(UserError, match="is no kernel module"):
        name_modules([text])
    with pytest.raises(UserError, match="No such file"):
        name_modules([tmp_path / "other.ko"])


def test_the_digest_is_of_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("bc")
    first = digest_tree(tmp_path)
    assert digest_tree(tmp_path) == first
    (tmp_path / "a").write_text("b")
    (tmp_path / "c").write_text("")
    second = digest_tree(tmp_path)
    (tmp_path / "c").unlink()
    (tmp_path / "d").symlink_to("a")
    assert len({first, second, digest_tree(tmp_path)}) == 3
