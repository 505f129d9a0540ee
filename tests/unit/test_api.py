# SPDX-License-Identifier: GPL-2.0-or-later
"""kgbuild for programs: what needs no kernel. tests/kernel/test_api.py has the rest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import kgbuild
from kgbuild import api
from tests.support.toolchain import compile_text, pair_flags

BEFORE = "int f(int x) { return x + 1; }\nint g(int x) { return x * 3; }\n"
AFTER = BEFORE.replace("x + 1", "x + 2")


def test_names_of_the_package_are_those_of_the_api() -> None:
    assert {name for name in dir(kgbuild) if name in kgbuild._API} == set(kgbuild._API) <= set(api.__all__)
    assert kgbuild.build is api.build
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = kgbuild.nothing


def test_the_package_imports_nothing_by_itself() -> None:
    code = "import sys, kgbuild; print([m for m in ('numpy', 'click', 'kgbuild.api') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_objects_as_files_and_as_bytes(tmp_path: Path) -> None:
    before, after = (compile_text(text, *pair_flags()) for text in (BEFORE, AFTER))
    found = kgbuild.diff_objects(before, after, place="b.o")
    assert found.to_json()["changed"] == ["f"]
    paths = [tmp_path / "a.o", tmp_path / "b.o"]
    for path, data in zip(paths, (before, after), strict=True):
        path.write_bytes(data)
    assert kgbuild.diff_objects(*paths).to_json() == found.to_json()
    assert kgbuild.diff_objects(before, before).nothing


def test_what_can_not_be_read_is_said_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(kgbuild.UserError) as error:
        kgbuild.diff_objects(tmp_path / "gone.o", b"")
    assert error.value.place == str(tmp_path / "gone.o")
    with pytest.raises(kgbuild.UserError):
        kgbuild.diff_objects(b"no object", b"")
    with pytest.raises(kgbuild.UserError) as error:
        kgbuild.build(["no patch at all"], "debian:newest-6.1-cloud")
    assert "patch-1" in str(error.value)


class _Stops(kgbuild.SilentObserver):
    def reached(self, event: object) -> None:
        raise kgbuild.Cancelled("stopped", remedy="start it again")


def test_an_observer_stops_a_run() -> None:
    text = "--- a/fs/proc/version.c\n+++ b/fs/proc/version.c\n@@ -1,1 +1,1 @@\n-a\n+b\n"
    with pytest.raises(kgbuild.Cancelled):
        kgbuild.build([text], "debian:newest-6.1-cloud", observer=_Stops())
