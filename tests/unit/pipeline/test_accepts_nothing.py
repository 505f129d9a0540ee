# SPDX-License-Identifier: GPL-2.0-or-later
"""Options that accept a risk say so where they accept nothing; what may be given once is not given twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from kgbuild.cli.main import main
from kgbuild.errors import KgbuildError
from kgbuild.host.kernels.local import add_kernel
from kgbuild.host.system.cache import Cache
from kgbuild.pipeline.build import analyse
from kgbuild.pipeline.stages.options import Options
from kgbuild.pipeline.stages.trail import Trail
from kgbuild.progress import SilentProgress
from tests.support.cache_cases import local
from tests.support.tinykernel import UNITS, tiny_kernel

PATCH = """--- a/fs/one.c
+++ b/fs/one.c
@@ -1,3 +1,3 @@
 #include "tiny.h"
 extern int shared(int);
-int one(int x) { return shared(x) + twice(x); }
+int one(int x) { return shared(x) + twice(x) + 5; }
"""


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    tiny_kernel(tmp_path / "kernel")
    add_kernel(local(tmp_path / "kernel"), progress=SilentProgress(), cache=Cache())
    return "local:tiny"


def warnings(kernel: str, options: Options) -> list[str]:
    assert PATCH.splitlines()[5][1:] in UNITS["fs/one.c"]
    trail = Trail()
    try:
        analyse([PATCH], kernel, options, trail)
    except KgbuildError as error:
        raise AssertionError(str(error)) from error
    return [text for text in trail.report()["warnings"] if "nothing" in text]


def test_options_that_accept_nothing_warn(kernel: str) -> None:
    assert warnings(kernel, Options()) == []
    found = warnings(
        kernel,
        Options(allow_compiler=True, allow_types=frozenset({"nosuch", "other"}), ignore_init=True),
    )
    assert [text.split(" accepts")[0].split(" leaves")[0] for text in found] == [
        "--allow-compiler",
        "nosuch: --allow-type",
        "other: --allow-type",
        "--ignore-init",
    ]


@pytest.mark.parametrize(
    "argv",
    [
        "build x.patch --kernel a --kernel b",
        "build x.patch --kernel a -o a.ko -o b.ko",
        "build x.patch --kernel=a --kernel a",
        "impact x.patch --kernel a --format json --format text",
        "vm x.ko --smp 1 --kernel a --smp 2",
        "kernel add x --cc gcc --cc clang",
        "cache prune --older 1d --older 2d",
        "facts main -j1",
    ],
)
def test_an_option_that_may_be_given_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: str) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("x.patch", "x.ko"):
        (tmp_path / name).write_text("")
    done = CliRunner().invoke(main, argv.split())
    assert done.exit_code == 2
    assert ("is given twice; it may be given once" in done.output) == ("-j1" not in argv)


@pytest.mark.parametrize(
    "argv", ["vm --check a --check b --help", "build --allow-type a --allow-type b --help", "doctor -v -v --help"]
)
def test_what_may_be_repeated(argv: str) -> None:
    assert CliRunner().invoke(main, argv.split()).exit_code == 0
