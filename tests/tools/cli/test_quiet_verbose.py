# SPDX-License-Identifier: GPL-2.0-or-later
"""--quiet says less and --verbose more, in each command that answers a question."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from kgbuild.cli.main import main
from tests.support.cache_cases import TINY_PATCH, tiny_place
from tests.support.tinykernel import HEADER
from tests.support.toolchain import compile_pair_side

# what it adds is in the source
FIXED = f"--- a/include/tiny.h\n+++ b/include/tiny.h\n@@ -1 +1 @@\n-{HEADER.replace('2 *', '1 *')}+{HEADER}"
OF_PATCH = ("fix.patch", "--kernel", "local:tiny")
ASK: dict[str, tuple[str, ...]] = {
    "impact": ("impact", *OF_PATCH),
    "why": ("why", "twice", *OF_PATCH),
    "explain": ("explain", "one", *OF_PATCH),
    "facts": ("facts", "shared", "--kernel", "local:tiny"),
    "graph": ("graph", "--callers", "shared", "--kernel", "local:tiny"),
    "diff": ("diff", "a.o", "b.o"),
    "kernel list": ("kernel", "list"),
    "kernel show": ("kernel", "show", "local:tiny"),
    "affected": ("affected", "-C", "fixes"),
    "cache show": ("cache", "show"),
    "doctor": ("doctor",),
}
MORE = {"explain", "diff", "kernel list", "cache show", "affected"}  # with --verbose there is more to say of this input


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_place(tmp_path_factory.mktemp("quiet"))
    for name, flags in (("a.o", ()), ("b.o", ("-DPATCHED",))):
        (folder / name).write_bytes(compile_pair_side("static_locals_declared", "-g", *flags))
    kernel = 'version = 1\nkernels = ["local:tiny"]\n'
    (folder / "fixes").mkdir()
    (folder / "fixes" / "kgbuild.toml").write_text(kernel + '[[fix]]\nid = "old"\n[[fix]]\nid = "one"\n')
    for fix, patch in (("one", TINY_PATCH), ("old", FIXED)):
        (folder / "fixes" / "fixes" / fix).mkdir(parents=True)
        (folder / "fixes" / "fixes" / fix / "fix.patch").write_text(patch)
    return folder


@pytest.fixture
def say(place: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(place))
    monkeypatch.chdir(place)

    def run(*words: str) -> str:
        return CliRunner().invoke(main, list(words)).stdout

    return run


@pytest.mark.parametrize("name", sorted(ASK))
def test_less_and_more(name: str, say: Callable[..., str]) -> None:
    say(*ASK[name])  # what is made once is made
    plain = say(*ASK[name])
    quiet, verbose = say(*ASK[name], "--quiet"), say(*ASK[name], "--verbose")
    assert plain
    assert len(quiet) < len(plain)
    assert len(verbose) > len(plain) if name in MORE else len(verbose) >= len(plain)


def test_what_is_left_is_the_answer(say: Callable[..., str]) -> None:
    assert "one" in say(*ASK["why"], "--quiet").splitlines()
    assert say(*ASK["facts"], "--quiet").startswith("shared: can")
    assert "shared" in say(*ASK["graph"], "--quiet").splitlines()
    assert say(*ASK["explain"], "--quiet") == "one in fs/one.c: changed\n"
    assert say(*ASK["kernel list"], "--quiet") == "local:tiny\n"
    assert say(*ASK["kernel show"], "--quiet").startswith("local:tiny  ")
    assert say(*ASK["affected"], "--quiet").split() == ["tiny", "one", "affected"]
