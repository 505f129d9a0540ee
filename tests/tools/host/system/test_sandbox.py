# SPDX-License-Identifier: GPL-2.0-or-later
"""What a program sees and can do in the sandbox, tried by programs that want more."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kgbuild.errors import ToolError
from kgbuild.host.system.children import ChildLimits
from kgbuild.host.system.run import Completed
from kgbuild.host.system.sandbox import Sandbox, check_sandbox, own_directories, run_in
from kgbuild.limits import MIB, Limit


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A directory that is read, one that is written, and one that nobody is given."""
    made = tuple(tmp_path / name for name in ("read", "write", "secret"))
    for folder in made:
        folder.mkdir()
        (folder / "file").write_text(f"{folder.name}\n")
    return made  # type: ignore[return-value]


def sh(trees: tuple[Path, Path, Path], script: str, **more: object) -> Completed:
    sandbox = Sandbox(readable=(trees[0],), writable=(trees[1],))
    values = {"check": False, "cwd": trees[0], **more}
    return run_in(sandbox, ["/bin/sh", "-c", script], **values)  # type: ignore[arg-type]


def test_this_machine_has_a_sandbox() -> None:
    check_sandbox()


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "/etc/shadow", "/root", "/home", "/var", "/boot", "/sys", "/run", "/srv", "/opt/x", "/mnt"],
)
def test_nothing_of_the_system_but_programs_is_there(trees: tuple[Path, Path, Path], path: str) -> None:
    assert sh(trees, f"test ! -e {path}").status == 0


def test_what_is_not_given_is_not_there(trees: tuple[Path, Path, Path]) -> None:
    assert sh(trees, f"cat {trees[2]}/file").status != 0
    assert sh(trees, f"ls {trees[2].parent}").stdout.split() == ["read", "write"]


@pytest.mark.parametrize(
    "script",
    [
        "echo x > {read}/file",
        "echo x > {read}/new",
        "rm {read}/file",
        "mv {read}/file {write}/other",
        "chmod 777 {read}/file",
        "echo x > /usr/bin/x",
        "mount --bind {write} {read}",
        "mount -o remount,rw {read}",
        "ln -s {secret} {write}/way && cat {write}/way/file; s=$?; rm {write}/way; exit $s",
        "cat /proc/1/root{secret}/file",
        "cat /proc/1/environ | tr '\\0' '\\n' | grep KGBUILD_SECRET",
        "mknod {write}/disk b 8 0",
        "chroot / /bin/true",
        "kill -9 {parent}",
    ],
)
def test_what_is_given_to_read_can_not_be_changed(
    trees: tuple[Path, Path, Path], script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KGBUILD_SECRET", "1")
    names = {"read": trees[0], "write": trees[1], "secret": trees[2], "parent": os.getpid()}
    assert sh(trees, script.format(**names)).status != 0
    assert [(f / "file").read_text() for f in trees] == ["read\n", "write\n", "secret\n"]
    assert sorted(p.name for p in trees[0].iterdir()) == ["file"]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("ln -s {secret}/file {write}/result", "a link to"),
        ("ln -s ../secret/file {write}/result", "a link to"),
        ("ln -s {secret} {write}/result", "a link to"),
        ("ln -s /etc/passwd {write}/result", "a link to"),
        ("ln -s {read}/../secret/file {write}/result", "a link to"),
        ("ln -s two {write}/result; ln -s /etc {write}/two", "a link to"),
        ("ln -s /proc/self/environ {write}/result", "a link to"),
        ("mkdir {write}/deep; ln -s ../../secret/file {write}/deep/result", "a link to"),
        ("mkfifo {write}/result", "a FIFO"),
        ("mkdir {write}/.deep; mkfifo {write}/.deep/result", "a FIFO"),
    ],
)
def test_what_would_lead_its_reader_out_is_refused(trees: tuple[Path, Path, Path], script: str, said: str) -> None:
    """kgbuild reads what a program left outside of the sandbox."""
    names = {"read": trees[0], "write": trees[1], "secret": trees[2]}
    with pytest.raises(ToolError, match=said) as caught:
        sh(trees, script.format(**names))
    assert "result" in caught.value.place or "two" in caught.value.place
    assert not os.path.lexists(caught.value.place)


def test_links_inside_of_what_it_was_given_stay(trees: tuple[Path, Path, Path]) -> None:
    script = (
        f"cd {trees[1]} && mkdir a && ln -s {trees[0]}/file one && ln -s ../file a/two && ln -s a three && ln -s x y"
    )
    assert sh(trees, script).status == 0
    assert (trees[1] / "one").read_text() == "read\n" and (trees[1] / "a" / "two").read_text() == "write\n"


def test_work_is_written_and_temporary_files_go_away(trees: tuple[Path, Path, Path]) -> None:
    assert (
        sh(trees, f"echo made > {trees[1]}/new && echo x > /tmp/kgbuild-left && cat /tmp/kgbuild-left").stdout == "x\n"
    )
    assert (trees[1] / "new").read_text() == "made\n"
    assert not Path("/tmp/kgbuild-left").exists()


def test_the_environment_is_what_was_listed(trees: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "x")
    said = sh(trees, "env", env={"ARCH": "x86", "LD_PRELOAD": "/evil.so"}).stdout
    names = {line.partition("=")[0] for line in said.splitlines()}
    assert names <= {"ARCH", "LC_ALL", "PATH", "HOME", "TMPDIR", "PWD", "OLDPWD", "SHLVL", "_"}


def test_there_is_no_network(trees: tuple[Path, Path, Path]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = f"import socket; socket.create_connection(('127.0.0.1', {port}), 2)"
        sandbox = Sandbox(readable=(Path(sys.base_prefix),))
        done = run_in(sandbox, [os.path.realpath(sys.executable), "-I", "-c", code], check=False)
    assert done.status != 0 and ("refused" in done.stderr or "unreachable" in done.stderr)


def test_other_processes_are_not_seen(trees: tuple[Path, Path, Path]) -> None:
    numbers = [n for n in sh(trees, "ls /proc").stdout.split() if n.isdigit()]
    assert len(numbers) < 6 and str(os.getpid()) not in numbers


def limits(**given: int) -> ChildLimits:
    most = {
        "seconds": 20,
        "wait": 20,
        "memory": 512 * MIB,
        "output": 8 * MIB,
        "processes": 400,
        "written": 1 << 40,
        **given,
    }
    return ChildLimits(**{name: Limit(name, value, "bytes", name) for name, value in most.items()})


@pytest.mark.parametrize(
    ("script", "bounds", "by"),
    [
        ("exec sleep 60", {"wait": 1}, "wait"),
        ("while :; do :; done", {"wait": 1}, "wait"),
        ("dd if=/dev/zero of={write}/big bs=1M count=50 2>/dev/null", {"output": MIB}, "output"),
        ("sleep 60 & sleep 60 & wait", {"wait": 1}, "wait"),
        # a superuser has no limit of processes that the system would keep
        ("n=0; while [ $n -lt 200 ]; do sleep 60 & n=$((n + 1)); done; wait", {"processes": 50}, "processes"),
        ("n=0; while [ $n -lt 200 ]; do setsid sleep 60 & n=$((n + 1)); done; wait", {"processes": 50}, "processes"),
        ("n=0; while :; do head -c 1M /dev/zero > {write}/$n; n=$((n + 1)); done", {"written": 20 * MIB}, "written"),
    ],
)
def test_limits_hold(trees: tuple[Path, Path, Path], script: str, bounds: dict[str, int], by: str) -> None:
    done = sh(trees, script.format(write=trees[1]), limits=limits(**bounds))
    assert done.stopped_by is not None and done.stopped_by.name == by
    assert not [p for p in trees[1].iterdir() if p.stat().st_size > 2 * MIB]


@pytest.mark.parametrize("ending", ["exit 0", "exit 1", "kill -9 $$", "wait"])
def test_nothing_is_written_any_more_once_a_program_has_ended(trees: tuple[Path, Path, Path], ending: str) -> None:
    """What it left behind is gone before anybody reads its results."""
    one = f"setsid sh -c 'while :; do echo x >> {trees[1]}/log; done' >/dev/null 2>&1 </dev/null &"
    for _ in range(2):
        sh(trees, f"{one} {one} {one} sleep 0.1; {ending}", limits=limits(wait=1))
        size = (trees[1] / "log").stat().st_size
        time.sleep(0.02)
        assert (trees[1] / "log").stat().st_size == size > 0


def test_what_runs_ends_with_kgbuild(trees: tuple[Path, Path, Path]) -> None:
    """Killed, not asked: nothing can be cleaned up by the process that started it."""
    mark = f"{86400 + os.getpid()}"
    code = (
        "from pathlib import Path; from kgbuild.host.system.sandbox import Sandbox, run_in;"
        f"run_in(Sandbox(writable=(Path({str(trees[1])!r}),)),"
        f" ['/bin/sh', '-c', 'setsid sleep {mark} & wait'])"
    )
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    while not sleepers(mark):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for _ in range(500):
        if not sleepers(mark):
            return
        time.sleep(0.02)
    raise AssertionError("it goes on")


def sleepers(mark: str) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[:2] == [b"sleep", mark.encode()]:
                found.append(entry.name)
    return found


def test_a_directory_as_the_system(tmp_path: Path) -> None:
    """The root of a toolchain: what is not in it is not there, whatever this machine has."""
    root = tmp_path / "root"
    (root / "usr" / "bin").mkdir(parents=True)
    (root / "bin").symlink_to("usr/bin")
    assert "/bin" in Sandbox(root).command(["x"], None, {})
    with pytest.raises(ToolError):
        run_in(Sandbox(root), ["/bin/sh", "-c", "true"])


@pytest.mark.parametrize("prefix", ["home/u", "home/u/.local", "opt/gcc-14"])
def test_a_compiler_of_somebodys_own_brings_no_home_along(tmp_path: Path, prefix: str) -> None:
    base = tmp_path / prefix
    for name in (
        "bin",
        "lib/gcc",
        "libexec",
        "share/keyrings",
        "share/qemu",
        ".ssh",
        "x86_64-linux-gnu/bin",
        "my-linux-notes",
    ):
        (base / name).mkdir(parents=True)
    (base / "bin" / "gcc").write_text("")
    given = own_directories(base / "bin" / "gcc")
    assert {str(p.relative_to(base)) for p in given} == {"bin", "lib", "libexec", "share/qemu", "x86_64-linux-gnu"}
    assert own_directories(Path("/usr/bin/gcc")) == ()
