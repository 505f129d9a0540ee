# SPDX-License-Identifier: GPL-2.0-or-later
"""Options that accept a risk say so where they accept nothing; what may be given once is not given twice."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from kgbuild.cli.main import main
from kgbuild.host.kernels.local import add_kernel
from kgbuild.host.system.cache import Cache
from kgbuild.progress import SilentProgress
from tests.support.cache_cases import local
from tests.support.guest_records import PLAN, encoded, session
from tests.support.live_kernel import LiveKernel, module_bytes
from tests.support.registry import commands
from tests.support.tinykernel import tiny_kernel
from tests.support.toolchain import compile_text, pair_flags

Case = Callable[..., str]
OPTIONS = ("--allow-compiler", "--allow-unproven", "--allow-type", "--ignore-init", "--assume-in-tree-callers")
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


def kgbuild_warns(*words: str) -> Case:
    """A case that runs the command with the option and its value, and gives the warnings that it says."""

    def run(directory: Path, *option: str) -> str:
        (directory / "x.patch").write_text(PATCH)
        made = [compile_text(f"int f(int x) {{ return x + {n}; }}", *pair_flags()) for n in (1, 2)]
        for name, data in zip(("orig.o", "patched.o"), made, strict=True):
            (directory / name).write_bytes(data)
        argv = [word.replace("{dir}", str(directory)) for word in words]
        done = CliRunner().invoke(main, [*argv, *option])
        assert done.exit_code == 0, done.output
        return done.output

    return run


def guest_warns(directory: Path, option: str, value: str) -> str:
    """What a boot says of a pattern, without booting."""
    del directory, option
    log = "<14>[    2.9] kgbuild: run 000 begins\n<4>[    3.0] WARNING: expected here\n"
    found = session(
        [
            "hello release=6.1 cpus=1 taint=0",
            f"log run=000 taint=0 text64={encoded(log)}",
            "phase run=000 step=log",
            "end",
        ],
        replace(PLAN, allow_log=(re.compile("expected"), re.compile(value))),
    )
    assert found.finished and "expected:" not in "".join(found.warnings)
    return "\n".join(found.warnings)


def machine_warns(command: str) -> Case:
    """What is said when a patch is loaded into a kernel without another one."""

    def run(directory: Path, *option: str) -> str:
        kernel = LiveKernel(directory / "machine")
        module = directory / "livepatch-2.ko"
        module.write_bytes(module_bytes("livepatch_2"))
        try:
            done = CliRunner().invoke(main, [command, str(module), *option], env={"LIVEPATCH_ROOT": str(kernel.root)})
        finally:
            kernel.end()
        assert done.exit_code == 0, done.output
        return done.output

    return run


KERNEL = ("{dir}/x.patch", "--kernel", "local:tiny")
BUILD = kgbuild_warns("impact", *KERNEL)
ESTIMATE = kgbuild_warns("impact", *KERNEL, "--no-compile")
WHY = kgbuild_warns("why", "one", *KERNEL)
EXPLAIN = kgbuild_warns("explain", "one", *KERNEL)
DIFF = kgbuild_warns("diff", "{dir}/orig.o", "{dir}/patched.o")
RISKS = re.compile(r"--(?:allow|ignore|accept|permit|skip|assume|no-check|unsafe)")
# (command, option) -> what runs it. The options of `build` are those of `impact`: both are one analysis.
CASES: dict[tuple[str, str], list[Case]] = {
    **{("build", name): [BUILD] for name in OPTIONS},
    **{("impact", name): [BUILD, ESTIMATE] for name in OPTIONS},
    **{("why", name): [WHY, WHY] for name in OPTIONS},  # the second answer is one that was kept
    **{("explain", name): [EXPLAIN] for name in OPTIONS},
    ("diff", "--ignore-init"): [DIFF],
    ("vm", "--allow-log"): [guest_warns],
    ("load", "--allow-unpatch"): [machine_warns("load")],
    ("install", "--allow-unpatch"): [machine_warns("install")],
}


FOUND = {
    (" ".join(path), name): option
    for path, command in commands()
    for option in command.params
    if isinstance(option, click.Option)
    for name in option.opts
    if RISKS.match(name)
}


def test_every_option_that_accepts_a_risk_has_a_case() -> None:
    assert set(FOUND) == set(CASES)


@pytest.mark.parametrize(("command", "option"), sorted(CASES))
def test_an_option_that_accepts_nothing_warns(kernel: str, tmp_path: Path, command: str, option: str) -> None:
    assert kernel == "local:tiny"
    value = () if FOUND[command, option].is_flag else ("nosuch",)
    for case in CASES[command, option]:
        said = [line for line in case(tmp_path, option, *value).splitlines() if f"{option} accepts nothing: " in line]
        assert len(said) == 1 and all(word in said[0] for word in value), said


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
