# SPDX-License-Identifier: GPL-2.0-or-later
"""The script that is on the server, in both shells, before a kernel of files."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest

from kgbuild.delivery.patch_facts import read_facts
from tests.support.live_kernel import RELEASE, SCRIPT, SHELLS, LiveKernel, module_bytes

BOTH = pytest.mark.parametrize("shell", sorted(SHELLS))
ROOT = Path(__file__).resolve().parents[3]
DOCUMENT = json.loads((ROOT / "docs/schema/livepatch-1.json").read_text())
STATUS = DOCUMENT["properties"]["status"]["oneOf"][1]


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[LiveKernel]:
    made = LiveKernel(tmp_path / "root")
    yield made
    made.end()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    for number in (2, 3):
        data = module_bytes(f"livepatch_{number}")
        (folder / f"livepatch-{number}.ko").write_bytes(data)
        facts = read_facts(data, "x.ko", number, [f"CVE-2026-1000{number}", "CVE-2026-2000"])
        (folder / f"livepatch-{number}.info").write_text(facts.info)
    return folder


def status(kernel: LiveKernel, shell: str) -> dict[str, object]:
    ran = kernel.run(shell, "status", "--json")
    found: dict[str, object] = json.loads(ran.stdout)
    assert ran.returncode == {"covered": 0, "not-covered": 1, "in-transition": 4}[str(found["state"])], ran.stderr
    assert found.pop("schema") == "kgbuild-livepatch-status-1"
    jsonschema.validate(found, STATUS)  # every state that a test comes to
    return found


@BOTH
def test_load_status_unload(kernel: LiveKernel, files: Path, shell: str) -> None:
    assert status(kernel, shell)["state"] == "not-covered"
    ran = kernel.run(shell, "load", files / "livepatch-2.ko")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert kernel.patches == {"livepatch_2": "10"}
    found = status(kernel, shell)
    assert (found["state"], found["taint_flags"], found["build_id"]) == ("covered", "OK", bytes(range(20)).hex())
    (patch,) = found["patches"]  # type: ignore[misc]
    assert (patch["release"], patch["cves"]) == (2, ["CVE-2026-10002", "CVE-2026-2000"])
    assert abs(patch["since"] - time.time()) < 1000
    assert patch["objects"] == [{"name": "vmlinux", "waiting": False, "functions": ["old,1"]}]
    text = kernel.run(shell, "status")
    assert text.returncode == 0
    assert "livepatch_2  in force since" in text.stdout and "1 function in vmlinux" in text.stdout
    again = kernel.run(shell, "load", files / "livepatch-2.ko")
    assert (again.returncode, again.stdout) == (0, "livepatch_2: is in force already\n")
    gone = kernel.run(shell, "unload")
    assert (gone.returncode, gone.stdout) == (0, "livepatch_2: unloaded\n")
    assert (kernel.patches, kernel.modules) == ({}, [])
    assert kernel.run(shell, "unload").returncode == 1


@BOTH
def test_replace_in_one_transition(kernel: LiveKernel, files: Path, shell: str) -> None:
    assert kernel.run(shell, "load", files / "livepatch-2.ko").returncode == 0
    assert kernel.run(shell, "load", files / "livepatch-3.ko").returncode == 0
    assert (kernel.patches, kernel.modules) == ({"livepatch_3": "10"}, ["livepatch_3"])
    assert "disable livepatch_2" not in kernel.log


@BOTH
def test_what_would_not_be_patched_any_more(kernel: LiveKernel, files: Path, shell: str) -> None:
    more = files / "more.ko"
    more.write_bytes(module_bytes("more", ["vmlinux/old,1", "ext4/second,2"]))
    assert kernel.run(shell, "load", more).returncode == 0
    ran = kernel.run(shell, "load", files / "livepatch-2.ko")
    assert ran.returncode == 1
    assert "more ext4/second,2" in ran.stderr and "vmlinux/old" not in ran.stderr
    assert kernel.patches == {"more": "10"}
    (patch,) = status(kernel, shell)["patches"]  # type: ignore[misc]
    assert [o["name"] for o in patch["objects"] if o["waiting"]] == ["ext4"]
    assert "waits for ext4 to be loaded" in kernel.run(shell, "status").stdout
    assert kernel.run(shell, "load", files / "livepatch-2.ko", "--allow-unpatch").returncode == 0
    assert kernel.patches == {"livepatch_2": "10"}


@BOTH
def test_several_that_do_not_replace(kernel: LiveKernel, files: Path, shell: str) -> None:
    for name in ("first", "second"):
        path = files / f"{name}.ko"
        path.write_bytes(module_bytes(name, [f"vmlinux/{name},1"], replace=False))
        assert kernel.run(shell, "load", path).returncode == 0
    assert kernel.patches == {"first": "10", "second": "10"}
    ran = kernel.run(shell, "unload")
    assert ran.returncode == 2 and "first second" in ran.stderr
    assert kernel.run(shell, "unload", "first").returncode == 0
    assert kernel.patches == {"second": "10"}


@BOTH
def test_stalled_is_shown_and_taken_back(kernel: LiveKernel, files: Path, shell: str) -> None:
    assert kernel.run(shell, "load", files / "livepatch-2.ko").returncode == 0
    kernel.slow.add("livepatch_3")
    stack = "[<0>] {}+0x1/0x2\n[<0>] wait_for_news+0x10/0x20\n"
    for number in range(10, 20):
        kernel.task(number, f"worker{number}", 0, stack.format("same"))
    kernel.task(30, "other\x1b[31m", 0, stack.format("else"))
    kernel.task(31, "changed", 1, "")
    ran = kernel.run(shell, "load", files / "livepatch-3.ko", "--timeout", "1")
    assert ran.returncode == 1
    assert ran.stderr.count("wait_for_news+0x10/0x20") == 2
    assert "worker10 10, worker11 11" in ran.stderr and "and 2 more" in ran.stderr
    assert "changed" not in ran.stderr.replace("have not changed", "").replace("not all tasks have changed", "")
    assert "\x1b" not in ran.stderr and "other?[31m 30" in ran.stderr
    assert "taken back; the system is as it was" in ran.stderr
    assert (kernel.patches, kernel.modules) == ({"livepatch_2": "10"}, ["livepatch_2"])


@BOTH
def test_older_kernels_are_asked_for_their_signal(kernel: LiveKernel, files: Path, shell: str, tmp_path: Path) -> None:
    script = tmp_path / "livepatch"
    script.write_text(SCRIPT.read_text().replace("SIGNAL_AFTER=15", "SIGNAL_AFTER=1"))
    kernel.slow.add("livepatch_2")
    argv = [*SHELLS[shell], str(script), "load", str(files / "livepatch-2.ko"), "--timeout", "20"]
    with subprocess.Popen(argv, env=kernel.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        until(lambda: "livepatch_2" in kernel.patches)
        signal_file = "sys/kernel/livepatch/livepatch_2/signal"
        kernel.write(signal_file, "0\n")
        until(lambda: kernel.read(signal_file) == "1")
        kernel.slow.clear()
        process.communicate()
        assert process.returncode == 0


@BOTH
def test_in_transition(kernel: LiveKernel, files: Path, shell: str) -> None:
    kernel.slow.add("livepatch_2")
    kernel.task(10, "sleeper", 0, "[<0>] f+0x1/0x2\n")
    with subprocess.Popen(kernel.argv(shell, "load", files / "livepatch-2.ko"), env=kernel.env, **QUIET) as process:
        until(lambda: "livepatch_2" in kernel.patches)
        found = status(kernel, shell)
        assert (found["state"], found["tasks_left"]) == ("in-transition", 1)
        assert "1 tasks have not changed yet" in kernel.run(shell, "status").stdout
        second = kernel.run(shell, "load", files / "livepatch-3.ko")
        assert second.returncode == 3 and f"process {process.pid}" in second.stderr
        kernel.slow.clear()
        assert process.wait() == 0


QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def until(ready: object) -> None:
    for _ in range(4000):
        if ready():  # type: ignore[operator]
            return
        time.sleep(0.005)
    raise AssertionError("never came")


@BOTH
@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_ended_in_the_middle_takes_it_back(kernel: LiveKernel, files: Path, shell: str, signal_number: int) -> None:
    kernel.slow.add("livepatch_2")
    with subprocess.Popen(kernel.argv(shell, "load", files / "livepatch-2.ko"), env=kernel.env, **QUIET) as process:
        until(lambda: "livepatch_2" in kernel.patches)
        process.send_signal(signal_number)
        assert process.wait() == 128 + signal_number
    assert (kernel.patches, kernel.modules) == ({}, [])
    assert list((kernel.root / "run/livepatch").glob("*")) == []


@BOTH
def test_killed_at_any_moment(kernel: LiveKernel, files: Path, shell: str) -> None:
    """What a run leaves that is killed after so many milliseconds does not stop the next one."""
    for milliseconds in range(0, 300, 20):
        path = files / f"livepatch-{2 + milliseconds // 20 % 2}.ko"
        with subprocess.Popen(kernel.argv(shell, "load", path), env=kernel.env, **QUIET) as process:
            time.sleep(milliseconds / 1000)
            process.kill()
        for number in (3, 2):
            ran = kernel.run(shell, "load", files / f"livepatch-{number}.ko")
            assert ran.returncode == 0, ran.stderr
            assert kernel.patches == {f"livepatch_{number}": "10"}
            assert kernel.modules == [f"livepatch_{number}"]
    assert kernel.run(shell, "unload").returncode == 0
    assert list((kernel.root / "run/livepatch").glob("lock.*")) == []


@BOTH
def test_two_at_once_never_both(kernel: LiveKernel, files: Path, shell: str) -> None:
    kernel.slow.add("livepatch_2")
    started = [
        subprocess.Popen(kernel.argv(shell, "load", files / "livepatch-2.ko"), env=kernel.env, **QUIET)
        for _ in range(6)
    ]
    until(lambda: sum(p.poll() is not None for p in started) == 5)
    kernel.slow.clear()
    assert sorted(p.wait() for p in started) == [0, 3, 3, 3, 3, 3]
    assert kernel.log.count("insmod livepatch-2.ko") == 1


@BOTH
def test_not_for_this_kernel(kernel: LiveKernel, files: Path, shell: str) -> None:
    path = files / "other.ko"
    path.write_bytes(module_bytes("other", build_ids={"vmlinux": "ab" * 20}))
    ran = kernel.run(shell, "load", path)
    assert ran.returncode == 1
    assert "ab" * 20 in ran.stderr and bytes(range(20)).hex() in ran.stderr
    assert kernel.log == []


@BOTH
@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (b"", "is no kernel module"),
        (b"\x7fELF" + bytes(60), "is no kernel module"),
        (b"#!/bin/sh\nreboot\n" * 10, "is no kernel module"),
        (module_bytes("x")[:200], "is damaged"),
        (module_bytes("x").replace(b".note.kgbuild", b".note.another"), "is no live patch of kgbuild"),
        (module_bytes("x").replace(b"name=x", b"nama=x"), "does not say its name"),
        (module_bytes("$(reboot)"), "does not say its name"),
    ],
)
def test_not_ours(kernel: LiveKernel, files: Path, shell: str, content: bytes, fact: str) -> None:
    path = files / "strange.ko"
    path.write_bytes(content)
    ran = kernel.run(shell, "load", path)
    assert ran.returncode == 1, ran.stderr
    assert fact in ran.stderr
    assert kernel.log == []


@BOTH
@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("Key was rejected by service", "does not trust"),
        ("Required key not available", "does not know the key"),
        ("Operation not permitted", "signed modules only"),
        ("Device or resource busy", "kprobe"),
        ("Invalid module format", "stripped"),
        ("No such device", "another build"),
        ("something \x1b]0;new", "kernel's log"),
    ],
)
def test_refused_by_the_kernel(kernel: LiveKernel, files: Path, shell: str, said: str, remedy: str) -> None:
    kernel.refuses = said
    ran = kernel.run(shell, "load", files / "livepatch-2.ko")
    assert ran.returncode == 1
    assert remedy in ran.stderr
    assert "\x1b" not in ran.stderr
    assert kernel.patches == {}


@BOTH
def test_signature_policy(kernel: LiveKernel, files: Path, shell: str) -> None:
    signed = files / "livepatch-3.ko"
    signed.write_bytes(signed.read_bytes() + b"not looked at" + bytes(12) + b"~Module signature appended~\n")
    for place, text in (
        ("sys/module/module/parameters/sig_enforce", "Y\n"),
        ("sys/kernel/security/lockdown", "none [integrity] confidentiality\n"),
    ):
        kernel.write(place, text)
        ran = kernel.run(shell, "load", files / "livepatch-2.ko")
        assert ran.returncode == 1
        assert "takes signed modules only" in ran.stderr and "--sign-key" in ran.stderr
        assert kernel.log == []
        (kernel.root / place).unlink()
    kernel.write("sys/module/module/parameters/sig_enforce", "Y\n")
    assert kernel.run(shell, "load", signed).returncode == 0


@BOTH
def test_install_upgrade_rollback_remove(kernel: LiveKernel, files: Path, shell: str) -> None:
    store = kernel.root / "var/lib/livepatch"
    for number in (2, 3):
        assert kernel.run(shell, "install", files / f"livepatch-{number}.ko").returncode == 0
        assert kernel.patches == {f"livepatch_{number}": "10"}
    assert sorted(p.name for p in (store / RELEASE).iterdir()) == [
        f"livepatch_{n}.{kind}" for n in (2, 3) for kind in ("info", "ko")
    ]
    ran = kernel.run(shell, "rollback")
    assert ran.returncode == 0, ran.stderr
    assert kernel.patches == {"livepatch_2": "10"}
    assert status(kernel, shell)["installed"] == "livepatch_2"
    assert kernel.run(shell, "rollback").returncode == 0
    assert kernel.patches == {}
    assert kernel.run(shell, "rollback").returncode == 1
    assert kernel.run(shell, "boot").returncode == 0
    assert kernel.patches == {}
    assert kernel.run(shell, "install", files / "livepatch-3.ko").returncode == 0
    assert kernel.patches == {"livepatch_3": "10"}
    assert kernel.run(shell, "remove", RELEASE).returncode == 0
    assert (kernel.patches, kernel.modules) == ({}, [])
    assert not (store / RELEASE).exists()


@BOTH
def test_rollback_that_is_refused_changes_nothing(kernel: LiveKernel, files: Path, shell: str) -> None:
    for number in (2, 3):
        assert kernel.run(shell, "install", files / f"livepatch-{number}.ko").returncode == 0
    kernel.refuses = "Cannot allocate memory"
    assert kernel.run(shell, "rollback").returncode == 1
    assert kernel.patches == {"livepatch_3": "10"}
    kernel.refuses = ""
    found = status(kernel, shell)
    assert (found["installed"], found["state"]) == ("livepatch_3", "covered")


@BOTH
def test_boot(kernel: LiveKernel, files: Path, shell: str) -> None:
    for number in (2, 3):
        assert kernel.run(shell, "install", "--no-load", files / f"livepatch-{number}.ko").returncode == 0
    assert kernel.patches == {}
    assert status(kernel, shell)["state"] == "not-covered"
    kernel.write("proc/cmdline", "quiet livepatch=0 splash\n")
    ran = kernel.run(shell, "boot")
    assert (ran.returncode, kernel.patches) == (0, {})
    assert "livepatch=0" in ran.stdout
    kernel.write("proc/cmdline", "quiet livepatch=01\n")
    assert kernel.run(shell, "disable-at-boot").returncode == 0
    assert kernel.run(shell, "boot").returncode == 0
    assert (kernel.patches, status(kernel, shell)["at_boot"]) == ({}, "disabled")
    assert kernel.run(shell, "enable-at-boot").returncode == 0
    assert kernel.run(shell, "boot").returncode == 0
    assert kernel.patches == {"livepatch_3": "10"}
    assert kernel.read("var/lib/livepatch/attempt") == "livepatch_3 boot-1"
    assert kernel.run(shell, "booted").returncode == 0
    assert not (kernel.root / "var/lib/livepatch/attempt").exists()


@BOTH
def test_a_boot_that_did_not_come_up_is_the_last(kernel: LiveKernel, files: Path, shell: str) -> None:
    assert kernel.run(shell, "install", files / "livepatch-2.ko").returncode == 0
    assert kernel.run(shell, "unload").returncode == 0
    assert kernel.run(shell, "boot").returncode == 0
    for number in (2, 3, 4):
        assert kernel.run(shell, "unload").returncode == (0 if number == 2 else 1)
        kernel.write("proc/sys/kernel/random/boot_id", f"boot-{number}\n")
        ran = kernel.run(shell, "boot")
        assert (ran.returncode, kernel.patches) == (0, {})
        assert "a boot with livepatch_2 did not come up" in ran.stderr
    found = status(kernel, shell)
    assert (found["at_boot"], found["state"]) == ("stopped-after-failed-boot", "not-covered")
    assert kernel.run(shell, "enable-at-boot").returncode == 0
    assert kernel.run(shell, "boot").returncode == 0
    assert kernel.patches == {"livepatch_2": "10"}


@BOTH
def test_patches_for_another_kernel_are_left_alone_and_said(kernel: LiveKernel, files: Path, shell: str) -> None:
    other = files / "other.ko"
    other.write_bytes(module_bytes("other", build_ids={"vmlinux": "ab" * 20}))
    ran = kernel.run(shell, "install", other)
    assert ran.returncode == 0 and "does not run now" in ran.stdout
    boot = kernel.run(shell, "boot")
    assert boot.returncode == 0 and "another build of 6.1.0-test" in boot.stdout
    assert "left alone" in kernel.run(shell, "status").stdout
    kernel.program("uname", "#!/bin/sh\necho 6.9.9-next\n")
    assert "no patch is installed for 6.9.9-next; for other kernels: 6.1.0-test" in kernel.run(shell, "boot").stdout
    assert kernel.log == []


@BOTH
def test_full_disk(kernel: LiveKernel, files: Path, shell: str) -> None:
    """A program in place of `cat` that finds no room."""
    kernel.program("cat", "#!/bin/sh\necho 'cat: write error: No space left on device' >&2\nexit 1\n")
    if shell == "busybox":  # its own cat comes first unless a path is given
        (kernel.root / "var/lib/livepatch" / RELEASE).mkdir(parents=True)
        (kernel.root / "var/lib/livepatch" / RELEASE / "livepatch_2.ko.new").mkdir()
    ran = kernel.run(shell, "install", files / "livepatch-2.ko")
    assert ran.returncode == 3
    assert "nothing was installed" in ran.stderr
    assert kernel.patches == {}
    assert list((kernel.root / "var/lib/livepatch" / RELEASE).glob("*.ko")) == []


@BOTH
def test_not_mounted(kernel: LiveKernel, files: Path, shell: str) -> None:
    (kernel.root / "sys").rename(kernel.root / "elsewhere")
    for words in (["status"], ["load", files / "livepatch-2.ko"], ["unload"], ["rollback"]):
        ran = kernel.run(shell, *words)  # type: ignore[arg-type]
        assert ran.returncode == 3 and "/sys is not mounted" in ran.stderr
    (kernel.root / "sys/kernel").mkdir(parents=True)
    assert "CONFIG_LIVEPATCH" in kernel.run(shell, "status").stderr


@BOTH
@pytest.mark.parametrize(
    "name", ["a b;touch pwned.ko", "$(touch pwned).ko", "-v.ko", "x\ny.ko", "`touch pwned`.ko", "'\".ko"]
)
def test_hostile_names_of_files(kernel: LiveKernel, files: Path, shell: str, name: str) -> None:
    (files / "livepatch-2.ko").rename(files / name)
    argv = kernel.argv(shell, "load", "--", name)
    ran = subprocess.run(argv, env=kernel.env, cwd=files, capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert kernel.patches == {"livepatch_2": "10"}
    assert not (files / "pwned").exists()


@BOTH
def test_hostile_info(kernel: LiveKernel, files: Path, shell: str) -> None:
    text = 'cves=CVE-1"; $(touch pwned) `touch pwned` \\ \x1b[2J * \xe9 \u202e\nrelease=3; reboot\npatch=\x07\n'
    (files / "livepatch-2.info").write_text(text)
    assert kernel.run(shell, "load", files / "livepatch-2.ko").returncode == 0
    ran = kernel.run(shell, "status")
    assert ran.returncode == 0 and ran.stdout.isascii() and "\x1b" not in ran.stdout
    (patch,) = status(kernel, shell)["patches"]  # type: ignore[misc]
    assert patch["release"] is None
    assert patch["cves"][0] == 'CVE-1";' and "*" in patch["cves"]
    assert list(kernel.root.parent.rglob("pwned")) == []


@BOTH
def test_hostile_note(kernel: LiveKernel, files: Path, shell: str) -> None:
    """What a note says in a text of its own is not taken for what it says."""
    inner = '"build_ids":{"vmlinux":"' + "cd" * 20 + '"},"replace":true'
    path = files / "a.ko"
    path.write_bytes(module_bytes("a", allowed=[inner], patches=[{"name": inner, "sha256": "\x1b"}]))
    assert kernel.run(shell, "load", path).returncode == 0
    path.write_bytes(module_bytes("b", ["vmlinux/x,0"], replace=False, allowed=[inner]))
    assert kernel.run(shell, "load", path).returncode == 0
    assert kernel.patches == {"a": "10", "b": "10"}


@BOTH
@pytest.mark.parametrize(
    "words",
    [[], ["nonsense"], ["load"], ["load", "a", "b"], ["status", "x"], ["load", "a", "--timeout", "x"], ["--json=1"],
     ["unload", "../../etc"], ["remove", "../.."], ["unload", "a", "b"], ["load", "/none.ko"], ["load", "/"]],
)  # fmt: skip
def test_usage(kernel: LiveKernel, shell: str, words: list[str]) -> None:
    ran = kernel.run(shell, *words)
    assert ran.returncode == 2 and ran.stderr
    assert kernel.log == []


@BOTH
def test_a_patch_of_others(kernel: LiveKernel, shell: str) -> None:
    place = kernel.root / "sys/kernel/livepatch/kpatch_x"
    (place / "vmlinux/f,1").mkdir(parents=True)
    for name, text in (("seen", "1"), ("transition", "0\n"), ("enabled", "1\n")):
        (place / name).write_text(text)
    assert "not made by kgbuild" in kernel.run(shell, "status").stdout
    (patch,) = status(kernel, shell)["patches"]  # type: ignore[misc]
    assert (patch["made_by_kgbuild"], patch["since"]) == (False, None)


@BOTH
def test_unload_that_stalls_leaves_it_in_force(kernel: LiveKernel, files: Path, shell: str) -> None:
    assert kernel.run(shell, "load", files / "livepatch-2.ko").returncode == 0
    kernel.stuck.add("livepatch_2")
    kernel.task(10, "sleeper", 1, "[<0>] f+0x1/0x2\n")
    with subprocess.Popen(
        kernel.argv(shell, "unload", "--timeout", "1"), env=kernel.env, stderr=subprocess.PIPE, text=True
    ) as process:
        until(lambda: kernel.patches == {"livepatch_2": "01"})
        until(lambda: kernel.patches == {"livepatch_2": "11"})
        kernel.stuck.clear()
        _, said = process.communicate()
    assert process.returncode == 1
    assert "sleeper 10" in said and "stays in force" in said
    assert kernel.patches == {"livepatch_2": "10"}


@BOTH
def test_what_was_installed_last_is_what_boots_load(kernel: LiveKernel, files: Path, shell: str) -> None:
    """A package that is downgraded, and modules without a release."""
    for number, data in ((n, module_bytes(f"livepatch_{n}")) for n in (4, 5)):
        (files / f"livepatch-{number}.ko").write_bytes(data)
        (files / f"livepatch-{number}.info").write_text(f"release={number}\n")
    for number in (3, 4, 5, 2):
        assert kernel.run(shell, "install", files / f"livepatch-{number}.ko").returncode == 0
        assert kernel.patches == {f"livepatch_{number}": "10"}
        assert status(kernel, shell)["installed"] == f"livepatch_{number}"
    store = kernel.root / "var/lib/livepatch" / RELEASE
    assert sorted(p.name for p in store.glob("*.ko")) == ["livepatch_2.ko", "livepatch_4.ko", "livepatch_5.ko"]
    assert kernel.run(shell, "install", files / "livepatch-5.ko").returncode == 0
    assert status(kernel, shell)["installed"] == "livepatch_5"
    assert kernel.run(shell, "remove", RELEASE).returncode == 0
    for name in ("second", "first"):
        (files / f"{name}.ko").write_bytes(module_bytes(name))
        assert kernel.run(shell, "install", files / f"{name}.ko").returncode == 0
        assert status(kernel, shell)["installed"] == name


@BOTH
def test_status_of_every_state(kernel: LiveKernel, files: Path, shell: str) -> None:
    """disabled, being disabled, coming into force; several; replaced; a target that comes later; no object yet."""
    kernel.end()  # what is written here stays
    place = kernel.root / "sys/kernel/livepatch"
    rows = {"off": "00", "leaves": "01", "comes": "11", "is": "10", "other": "10"}
    for name, (enabled, moving) in rows.items():
        (place / name / "ext4" / "f,1").mkdir(parents=True)
        (place / name / "transition").write_text(f"{moving}\n")
        (place / name / "enabled").write_text(f"{enabled}\n")
    (place / "empty").mkdir()
    (place / "empty/enabled").write_text("0\n")
    found = status(kernel, shell)
    assert found["state"] == "in-transition"
    assert {p["name"]: p["state"] for p in found["patches"]} == {  # type: ignore[attr-defined]
        "off": "disabled",
        "leaves": "being-disabled",
        "comes": "coming-into-force",
        "is": "in-force",
        "other": "in-force",
        "empty": "disabled",
    }
    said = kernel.run(shell, "status").stdout
    assert "leaves  being disabled" in said and said.count("waits for ext4") == 5


@BOTH
def test_an_insmod_that_a_killed_run_left_is_waited_for(kernel: LiveKernel, files: Path, shell: str) -> None:
    kernel.write("sys/module/livepatch_2/initstate", "coming\n")
    with subprocess.Popen(kernel.argv(shell, "load", files / "livepatch-2.ko"), env=kernel.env, **QUIET) as process:
        until(lambda: list((kernel.root / "run/livepatch").glob("lock.*")))
        time.sleep(0.3)
        assert process.poll() is None and kernel.log == []
        (kernel.root / "sys/module/livepatch_2/initstate").unlink()
        (kernel.root / "sys/module/livepatch_2").rmdir()
        assert process.wait() == 0
    assert kernel.patches == {"livepatch_2": "10"}


@BOTH
def test_nobody_hears_and_no_path(kernel: LiveKernel, files: Path, shell: str) -> None:
    """Standard output is full, PATH has no place of system programs, the locale is another."""
    env = {**kernel.env, "PATH": "/usr/bin", "LC_ALL": "C.UTF-8", "LANG": "de_DE.UTF-8", "CDPATH": "/", "ENV": "/none"}
    with Path("/dev/full").open("w") as full:
        argv = kernel.argv(shell, "load", files / "livepatch-2.ko")
        ran = subprocess.run(argv, env=env, stdout=full, stderr=subprocess.PIPE, check=False)
    assert ran.returncode == 0 and kernel.patches == {"livepatch_2": "10"}


def test_shellcheck_finds_nothing() -> None:
    """For a POSIX shell: what dash and busybox do not have is a finding too. (SC1091: Debian's init functions.)"""
    folder = SCRIPT.parent
    files = [SCRIPT, folder / "livepatch.init", folder / "livepatch-booted.init"]
    ran = subprocess.run(
        ["shellcheck", "-s", "sh", "-e", "SC1091", *files], capture_output=True, text=True, check=False
    )
    assert ran.stdout == ""
