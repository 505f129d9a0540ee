# SPDX-License-Identifier: GPL-2.0-or-later
"""What is the same for every command: options, exit statuses, the files that options name."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import click
import jsonschema
import pytest

from kgbuild.cli import options
from kgbuild.cli.build_lines import name_places
from kgbuild.cli.main import COMMANDS, main
from kgbuild.errors import ToolError
from tests.support.command import run_command

SCHEMA = json.loads((Path(__file__).parents[3] / "docs" / "schema" / "report-1.json").read_text())
COMMON = {"--format", "--report", "--quiet", "--verbose", "--no-color", "--offline"}
FETCHES = ["build", "verify", "vm", "kernel fetch", "kernel add"]
PATCH = "--- a/fs/proc/version.c\n+++ b/fs/proc/version.c\n@@ -1 +1 @@\n-a\n+b\n"


def all_commands() -> dict[str, click.Command]:
    context = click.Context(main)
    found = {name: main.get_command(context, name) for name in COMMANDS}
    for group in [name for name, command in found.items() if isinstance(command, click.Group)]:
        below = found.pop(group)
        assert isinstance(below, click.Group)
        found |= {f"{group} {name}": command for name, command in below.commands.items()}
    return {name: command for name, command in found.items() if command is not None}


def run(*words: str | Path, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return run_command(*words, cwd=cwd, env={**os.environ, "XDG_CACHE_HOME": str(cwd / "cache"), **env})


@pytest.mark.parametrize("name", sorted(all_commands()))
def test_options_that_mean_the_same_everywhere(name: str) -> None:
    offered = {option for parameter in all_commands()[name].params for option in parameter.opts}
    wanted = COMMON | ({"--jobs"} if name in FETCHES else set())
    assert wanted <= offered


@pytest.mark.parametrize("option", ["-o", "--report"])
@pytest.mark.parametrize(("target", "fact"), [("none/x", "does not exist"), (".", "is a directory")])
def test_output_that_cannot_be_written_is_said_first(tmp_path: Path, option: str, target: str, fact: str) -> None:
    (tmp_path / "a.patch").write_text(PATCH)
    ran = run("build", "a.patch", "--kernel", "debian:newest-6.1-cloud", option, target, cwd=tmp_path)
    assert ran.returncode == 2
    assert fact in ran.stderr
    assert not (tmp_path / "cache").exists()


def test_patches_are_read_before_a_kernel_is_fetched(tmp_path: Path) -> None:
    ran = run("build", "a.patch", "--kernel", "nonsense", "-o", "a.ko", "--report", "r.json", cwd=tmp_path)
    assert ran.returncode == 2
    assert "a.patch: No such file" in ran.stderr
    report = json.loads((tmp_path / "r.json").read_text())
    jsonschema.validate(report, SCHEMA)
    assert report["error"]["exit_status"] == 2
    assert report["error"]["place"] == "a.patch"


def test_every_patch_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.patch").touch()
    ran = run("build", "a.patch", "empty.patch", "--kernel", "nonsense", cwd=tmp_path)
    assert ran.returncode == 2
    assert "2 patches can't be used" in ran.stderr
    assert "a.patch: No such file" in ran.stderr
    assert "empty.patch: is empty" in ran.stderr


def test_offline(tmp_path: Path) -> None:
    (tmp_path / "a.patch").write_text(PATCH)
    words = ["build", "a.patch", "--kernel", "debian:newest-6.1-cloud", "--offline", "--format", "json"]
    ran = run(*words, cwd=tmp_path)
    assert ran.returncode == 3
    assert "--offline downloads nothing" in ran.stderr
    jsonschema.validate(json.loads(ran.stdout), SCHEMA)


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (["--help"], 0, "Commands:"),
        (["biuld"], 2, "Did you mean 'build'?"),
        (["verify", "x.ko"], 2, "--kernel"),
        (["verify", "x.ko", "--kernel", "local:x"], 2, "x.ko: No such file"),
        (["vm", "x.ko", "--kernel", "local:x", "--timeout", "0"], 2, "--timeout"),
        (["kernel", "show", "local:x"], 2, "kgbuild kernel add"),
        (["kernel", "list"], 0, "no kernel"),
        (["kernel", "list", "--quiet"], 0, ""),
        (["kernel", "list", "--format", "json"], 0, "[]"),
    ],
)
def test_statuses(tmp_path: Path, words: list[str], status: int, says: str) -> None:
    ran = run(*words, cwd=tmp_path)
    assert ran.returncode == status, ran.stderr
    assert says in ran.stdout + ran.stderr
    assert bool(ran.stdout + ran.stderr) == bool(says)
    assert "Traceback" not in ran.stderr


def test_no_color_is_for_errors_and_bars_too(tmp_path: Path) -> None:
    """On a terminal, that is: elsewhere nothing is coloured anyway."""
    command = f"{sys.executable} -m kgbuild.cli.main verify x.ko --kernel local:x"
    env = {k: v for k, v in os.environ.items() if k != "NO_COLOR"} | {"TERM": "xterm"}
    said = {}
    for flag in ("", " --no-color"):
        argv = ["script", "-qec", command + flag, "/dev/null"]
        said[flag] = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, check=False, timeout=60).stdout
    assert b"\x1b[" in said[""]
    assert b"error" in said[" --no-color"]
    assert b"\x1b[" not in said[" --no-color"]


def test_help_is_quick(tmp_path: Path) -> None:
    """Nothing that is slow to import is imported for it; the time itself is measured by benchmarks."""
    slow = ["numpy", "lief", "rich", "elftools", "sqlite3", "kgbuild.host.system.cache", "kgbuild.pipeline.build"]
    code = f"""
import sys
from kgbuild.cli.main import main
main(["--help"], standalone_mode=False)
sys.exit(str([name for name in {slow!r} if name in sys.modules] or ""))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.stderr.strip() == ""
    assert "Commands:" in done.stdout


def test_file_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options.write_file(tmp_path / "a", b"one")

    def full(path: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ToolError, match="No space left") as caught:
        options.write_file(tmp_path / "a", b"two")
    assert "larger disk" in caught.value.remedy
    assert caught.value.place == str(tmp_path / "a")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a", b"one")]


def test_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("real")
    options.write_file(tmp_path / "link", b"x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"x"


def test_devices_and_pipes_are_written_into(tmp_path: Path) -> None:
    """`--report /dev/null` as root must not make a file of it."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        options.write_file(pipe, b"report")
        assert os.read(reader, 100) == b"report"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    options.write_file(Path("/dev/null"), b"report")
    assert Path("/dev/null").is_char_device()
    assert [p.name for p in tmp_path.iterdir()] == ["pipe"]


def changed(function: str, target: str, unit: str) -> dict[str, str]:
    return {"function": function, "object": target, "unit": unit, "reason": "code"}


def test_a_function_alone_in_its_object_needs_no_place() -> None:
    one = [changed("a", "vmlinux", "fs/x.c"), changed("b", "vmlinux", "fs/y.c")]
    assert list(name_places(one)) == ["", ""]


def test_functions_of_several_objects_are_told_by_object() -> None:
    several = [changed("a", "liquidio", "x.c"), changed("a", "liquidio_vf", "x.c"), changed("b", "vmlinux", "y.c")]
    assert list(name_places(several)) == ["  in liquidio", "  in liquidio_vf", "  in vmlinux"]


def test_functions_of_one_name_in_one_object_are_told_by_unit() -> None:
    alike = [changed("show", "vmlinux", "a.c"), changed("show", "vmlinux", "b.c"), changed("other", "vmlinux", "b.c")]
    assert list(name_places(alike)) == ["  in a.c", "  in b.c", ""]
    alike.append(changed("show", "ext4", "c.c"))
    assert list(name_places(alike)) == ["  in vmlinux, a.c", "  in vmlinux, b.c", "  in vmlinux", "  in ext4"]
