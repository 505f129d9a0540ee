# SPDX-License-Identifier: GPL-2.0-or-later
"""No line is wider than the terminal, for an outcome of every command on a small kernel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kgbuild.host.kernels.local import add_kernel
from kgbuild.host.releases.directory import make_directory
from kgbuild.host.system.cache import Cache
from kgbuild.pipeline.releases.add import add_patches
from kgbuild.progress import SilentProgress
from tests.support.cache_cases import local
from tests.support.registry import commands
from tests.support.terminal_widths import LONG, PATCH, WIDE, check_widths, place_of_its_own
from tests.support.tinykernel import tiny_kernel
from tests.support.toolchain import compile_text, pair_flags

EVERY = [" ".join(path) for path, _ in commands()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with a small kernel in a cache, and files of all kinds with long and wide names."""
    path = tmp_path_factory.mktemp("width")
    with place_of_its_own(path):
        tiny_kernel(path / "kernel")
        add_kernel(local(path / "kernel"), progress=SilentProgress(), cache=Cache())
        (path / "x.patch").write_text(PATCH)
        (path / f"{LONG}.patch").write_text(PATCH)
        (path / f"{WIDE[:60]}.patch").write_text(PATCH.replace("5", WIDE))
        (path / "bad.patch").write_text(PATCH.replace("shared(x) +", f"no_{LONG}(x) +"))
        (path / "new.patch").write_text(
            PATCH.replace("+ 5", f"+ {LONG}(x)").replace("+int", f"+int {LONG}(int x);\n+int")
        )
        for name, number in (("orig.o", 1), ("patched.o", 2)):
            text = f"int {LONG}(int x) {{ return x + {number}; }}\nint v = {number};\n"
            (path / name).write_bytes(compile_text(text, *pair_flags()))
        (path / f"{LONG}.ko").write_bytes(b"no module")
        make_directory(path / "fixes")
        add_patches(path / "fixes", "one", [path / "x.patch"])
        listed = path / "fixes" / "kgbuild.toml"
        listed.write_text(listed.read_text().replace("kernels = []", 'kernels = ["local:tiny", "local:gone"]'))
        yield path


TINY = ["--kernel", "local:tiny"]
OUTCOMES: list[list[str]] = [
    ["build", "x.patch", *TINY, "-v", "--force"],
    ["build", f"{LONG}.patch", *TINY, "--allow-type", LONG, "--allow-unproven", WIDE, "--ignore-init"],
    ["build", f"{WIDE[:60]}.patch", *TINY],
    ["build", "bad.patch", *TINY],
    ["build", "new.patch", *TINY],
    ["impact", "x.patch", *TINY, "--accounting", "-v"],
    ["impact", "x.patch", *TINY, "--no-compile", "--all"],
    ["impact", f"{LONG}.patch", *TINY, "--no-compile", "--allow-type", LONG],
    ["why", "one", "x.patch", *TINY],
    ["why", LONG, "x.patch", *TINY],
    ["remedy", "x.patch", *TINY, "--code", "K1-data"],
    ["diff", "orig.o", "patched.o", "-v"],
    ["diff", "orig.o", "patched.o", "--explain", LONG],
    ["verify", f"{LONG}.ko", *TINY],
    ["vm", f"{LONG}.ko", *TINY],
    ["facts", "one", *TINY],
    ["facts", LONG, *TINY],
    ["graph", "--callers", "one", *TINY],
    ["kernel", "list"],
    ["kernel", "show", "local:tiny"],
    [
        "kernel",
        "add",
        LONG,
        "--source",
        ".",
        "--config",
        "x.patch",
        "--vmlinux",
        "x.patch",
        "--image",
        "x.patch",
        "--symvers",
        "x",
    ],
    ["toolchain", "list"],
    ["toolchain", "show", LONG],
    ["toolchain", "fetch", "local:tiny"],
    ["toolchain", "remove", "x"],
    ["cache", "show"],
    ["status"],
    ["load", f"{LONG}.ko"],
    ["unload", LONG],
    ["install", f"{LONG}.ko"],
    ["rollback"],
    ["package", f"{LONG}.ko", "--release", "1"],
    ["repo", LONG],
    ["reproduce", f"{LONG}.ko", "--provenance", "x.patch"],
    ["sign", f"{LONG}.ko", "-o", "s.ko", "--sign-key", LONG, "--sign-cert", LONG],
    ["cache", "prune", "--older", "1d", "-n"],
    ["init", LONG],
    ["add", "fix", "x.patch"],
    ["add", LONG, "x.patch", "-C", "fixes"],
    ["affected", "-C", "fixes", "--offline"],
    ["affected", LONG, "-C", "fixes"],
    ["matrix", "-C", "fixes", "--offline"],
    ["backport", "one", *TINY, "-C", "fixes", "--offline"],
    ["release", "1", "-C", "fixes", "--no-vm", "--offline"],
    ["vex", f"{LONG}.ko"],
    ["doctor"],
    ["man", "build"],
    ["completion", "zsh"],
    ["report", "x.patch"],
    ["explain", LONG, "x.patch", *TINY],
    ["audit", *TINY],
]


def test_every_command_has_an_outcome() -> None:
    away = {"kernel fetch", "kernel search", "kernel remove"}  # they ask an archive, or a person
    assert {name for name in EVERY if any(argv[: name.count(" ") + 1] == name.split() for argv in OUTCOMES)} == {
        *EVERY
    } - away


@pytest.mark.parametrize("argv", OUTCOMES, ids=lambda argv: " ".join(argv)[:30])
def test_outcomes(folder: Path, argv: list[str]) -> None:
    assert folder.is_dir()
    check_widths([argv])
