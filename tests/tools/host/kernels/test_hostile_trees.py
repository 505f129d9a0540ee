# SPDX-License-Identifier: GPL-2.0-or-later
"""`kernel add` of a tree whose makefiles attack (kgbuild.host.kernels.local): each ends with one clear error within its
limit, or does no harm; it reads nothing outside, and leaves nothing."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import run_command
from tests.support.tinykernel import TinyKernel, tiny_kernel

TOKEN = "4711-is-the-secret-of-this-machine"
MARK = f"{86400 + os.getpid()}"  # how long what is left behind would sleep
SECONDS = "2"

# name -> (lines before those of the top Makefile, lines before those of scripts/Makefile.build, what is said, status)
ATTACKS: dict[str, tuple[str, str, str, int]] = {
    "reads a file and shows it": ("$(error it says $(shell cat {secret}))", "", "it says", 3),
    "reads a file by an include": ("include {secret}", "", "No such file", 3),
    "reads the users": ("$(error it says $(shell cat /etc/passwd /etc/shadow))", "", "it says", 3),
    "reads the environment": ("$(error it says $(shell env; cat /proc/1/environ))", "", "it says", 3),
    "writes outside": ("$(shell echo x > {folder}/written)", "", "", 0),
    "writes into the sources": ("$(shell echo x >> {source}/Makefile; rm {source}/Kconfig)", "", "", 0),
    "writes beside its build": ("$(shell echo x > $(O)/../units.sqlite; echo x > $(O)/../../x)", "", "", 0),
    "leaves a process": ("$(shell setsid sleep {mark} > /dev/null 2>&1 &)", "", "", 0),
    "leaves a process that has its output": ("$(shell setsid sleep {mark} &)", "", "prepare-wait", 3),
    "leaves a process in the listing": ("", "$(shell setsid sleep {mark} > /dev/null 2>&1 &)", "", 0),
    "asks the network": (
        "SHELL := /bin/bash\n$(if $(shell : > /dev/tcp/127.0.0.1/{port} && echo yes),$(error connected),)",
        "",
        "",
        0,
    ),
    "kills all it can": ("$(shell kill -9 -1)", "", "make", 3),
    "starts thousands": ("$(shell for i in $$(seq 4000); do sleep {mark} & done; wait)", "", "compile-processes", 3),
    "starts thousands in the listing": (
        "",
        "$(shell for i in $$(seq 4000); do sleep {mark} & done; wait)",
        "compile-processes",
        3,
    ),
    "says no end": ("olddefconfig: more\nmore: ; @yes", "", "message-bytes", 3),
    "complains without end": ("$(shell yes >&2)", "", "message-bytes", 3),
    "hangs": ("$(shell sleep {mark})", "", "prepare-wait is 2 seconds", 3),
    "loops": ("$(shell while :; do :; done)", "", "prepare-wait is 2 seconds", 3),
    "hangs in the listing": ("", "$(shell sleep {mark})", "prepare-wait is 2 seconds", 3),
    "lists no end": ("", "all: more\nmore: ; +@yes", "prepare-wait is 2 seconds", 3),
    "lists a line without end": ("", "all: more\nmore: ; +@cat /dev/zero", "listing-line", 3),
    "lists nothing": ("", "$(error no)", "no compile command", 3),
    "calls itself": ("$(shell $(MAKE) -C $(CURDIR) O=$(O))", "", "", 3),
    "has a configuration that is a link": ("$(shell ln -sf {secret} $(O)/.config)", "", "a link to", 3),
    "has exports that are a link": ("$(shell ln -sf {secret} $(O)/Module.symvers)", "", "a link to", 3),
    "has a directory that is a link": ("$(shell ln -s {folder} $(O)/include)", "", "a link to", 3),
    "has a link in the listing": ("", "$(shell ln -s {folder} $(O)/include)", "a link to", 3),
    "has a FIFO for a file": ("$(shell rm -f $(O)/.config; mkfifo $(O)/.config)", "", "a FIFO", 3),
    "has a directory for a file": ("$(shell rm -f $(O)/.config; mkdir $(O)/.config)", "", ".config", 3),
    "has no configuration any more": ("$(shell rm -rf $(O)/.config)", "", ".config", 3),
    "has another configuration": ("$(shell echo CONFIG_KASAN=y >> $(O)/.config)", "", "options change", 3),
    "has an environment of its own": (
        "$(shell for d in /tmp/*/kgbuild-work-env-*; do touch $$d/x $$d/-1; done)",
        "",
        "",
        0,
    ),
    "has a directory as environment": (
        "$(shell for d in {tmp}/kgbuild-work-env-*; do mkdir $$d/9; done)",
        "",
        "Is a directory",
        3,
    ),
    "has an environment that is a link": (
        "$(shell for d in {tmp}/kgbuild-work-env-*; do ln -s {secret} $$d/9; done)",
        "",
        "a link to",
        3,
    ),
    "has an environment without end": (
        "$(shell for d in {tmp}/kgbuild-work-env-*; do truncate -s 500M $$d/9; done)",
        "",
        "",
        0,
    ),
    "has an environment before": ("$(shell echo x > $(O)/.kgbuild-env)", "", "", 0),
    "has a directory for a seal": ("$(shell mkdir -p $(O)/..kgbuild-env.sum)", "", "Is a directory", 3),
    "has names of all kinds": (
        "$(shell cd $(O); touch \"$$(printf 'a\\nb\\377\\033]0;x')\" ' ' '-rf' '$$(id)')",
        "",
        "",
        0,
    ),
    "is very deep": (
        "$(shell cd $(O); for i in $$(seq 3000); do mkdir dddddddd && cd dddddddd || exit; done)",
        "",
        "",
        0,
    ),
    "says things to the terminal": ("$(error $(shell printf '\\033]0;evil\\007\\033[2J'))", "", "\\x1b", 3),
}


@pytest.fixture
def tiny(tmp_path: Path) -> TinyKernel:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "secret").write_text(f"{TOKEN}\n")
    (tmp_path / "tmp").mkdir()
    return tiny_kernel(tmp_path / "kernel")


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def sleepers() -> list[str]:
    """Processes that an attack left."""
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if line == f"sleep {MARK}"]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_of_a_tree(name: str, tiny: TinyKernel, port: int, tmp_path: Path) -> None:
    top, listing, said, status = ATTACKS[name]
    names = {"folder": tmp_path / "theirs", "secret": tmp_path / "theirs" / "secret", "source": tiny.root / "source"}
    names |= {"tmp": tmp_path / "tmp"}
    for file, lines in (("Makefile", top), ("scripts/Makefile.build", listing)):
        path, text = tiny.root / "source" / file, lines
        for word, value in {**names, "mark": MARK, "port": port}.items():
            text = text.replace(f"{{{word}}}", str(value))
        path.write_text(f"{text}\n{path.read_text()}")
    before = contents(tiny.root), contents(tmp_path / "theirs")
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "TMPDIR": str(tmp_path / "tmp"), "TOKEN": TOKEN}
    ran = run_command(
        "kernel", "add", *tiny.options, "--compile-timeout", SECONDS if "prepare-wait" in said else "600", env=env
    )
    everything = ran.stdout + ran.stderr
    assert ran.returncode == status, everything
    assert said in everything
    assert TOKEN not in everything and "root:" not in everything and "Traceback" not in everything
    assert sum(line.startswith("error") for line in ran.stderr.splitlines()) == (status != 0), ran.stderr
    assert (contents(tiny.root), contents(tmp_path / "theirs")) == before
    assert list((tmp_path / "tmp").iterdir()) == []
    assert sleepers() == []
    cache = tmp_path / "cache" / "kgbuild"
    assert len(list((cache / "kernels").iterdir())) == (status == 0)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache", "kernel", "theirs", "tmp"]
    # and the kernel can be removed, or added once its makefiles are other ones
    if status == 0:
        assert run_command("kernel", "remove", "local:tiny", "--yes", env=env).returncode == 0
        assert list((cache / "kernels").iterdir()) == []
