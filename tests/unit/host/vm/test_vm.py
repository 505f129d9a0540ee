# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's channel, what is made of it, QEMU's command line. No guest is booted here; tests/kernel does that."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from kgbuild.arch import default_arch
from kgbuild.diagnostics.guest_findings import RULES
from kgbuild.elf.write import OutObject, write
from kgbuild.errors import ToolError, UserError
from kgbuild.guest.channel import ChannelParser, GuestRecord, parse_guest_record
from kgbuild.guest.session import group_stalled
from kgbuild.host.system.cache import Cache
from kgbuild.host.vm import kvm
from kgbuild.host.vm import run as host
from kgbuild.host.vm.qemu import Machine, confined, die_with_us, own_status, qemu_command
from kgbuild.host.vm.run import PatchRun, run_vm
from kgbuild.model import Kernel, KernelId
from kgbuild.progress import SilentProgress
from tests.support.guest_records import PLAN, channel, codes, encoded, session
from tests.support.module_files import modinfo_object

EMULATOR = default_arch().platform.emulator
LOG = "<14>[    2.9] kgbuild: run 000 begins\n<5>[    3.1] livepatch: enabling patch 'lp'\n"
GOOD = [
    "hello release=6.1.0-56-cloud-amd64 cpus=1 taint=0",
    "run run=000",
    "begin run=000 step=before index=0",
    f"command run=000 step=before index=0 status=1 took=7 out64={encoded('')}",
    "phase run=000 step=before",
    "begin run=000 step=load",
    "load run=000 status=0 took=3 out64=",
    "begin run=000 step=transition",
    f"transition run=000 step=load done=1 took=12 enabled=1 functions64={encoded('vmlinux/f,1/' + chr(10))}",
    "phase run=000 step=load",
    "begin run=000 step=after index=0",
    f"command run=000 step=after index=0 status=0 took=7 out64={encoded('yes')}",
    "phase run=000 step=after",
    "begin run=000 step=disable",
    "disable run=000 status=0 took=3 out64=",
    "transition run=000 step=disable done=1 took=10",
    "begin run=000 step=unload",
    "unload run=000 present=0 status=0 took=2 out64=",
    "phase run=000 step=disable",
    "begin run=000 step=disabled index=0",
    "command run=000 step=disabled index=0 status=1 took=7 out64=",
    "phase run=000 step=disabled",
    f"log run=000 taint=32768 text64={encoded(LOG)}",
    "phase run=000 step=log",
    "end",
]


def changed(old: str, new: str) -> list[str]:
    assert any(old in body for body in GOOD)
    return [body.replace(old, new) for body in GOOD]


# The channel


def test_record() -> None:
    record = parse_guest_record(f"kgb 7 12.34 command run=001 out64={encoded('a b' + chr(10))} empty= .")
    assert record == GuestRecord(7, 12.34, "command", {"run": "001", "out": "a b\n", "empty": ""})
    assert record.number("run") == 1
    assert record.number("absent") == record.number("out") == 0


@pytest.mark.parametrize(
    "line",
    [
        "",
        "kgb",
        "kgb 1 2.0 end",
        "kgb 1 2.0 command out64=YQ= .",
        "kgb x 2.0 end .",
        "kgb 1 2.0 end . trailing",
        "[    1.0] kgb 1 2.0 end .",
        "kgb 1 2.0 end k=\u00e9 .",
        "kgb 1 2.0 end kgb 2 2.0 end .",
    ],
)
def test_what_is_no_record(line: str) -> None:
    assert parse_guest_record(line) is None


def test_garbage_and_cuts_are_counted() -> None:
    parser = ChannelParser()
    data = b"\xff\xfe\0garbage\r\n" + channel(["hello", "run run=0"]) + b"kgb 2 3.0 pha" + channel(["x"])
    assert [record.kind for record in parser.feed(data)] == ["hello", "run"]
    assert parser.garbage == 2
    assert [record.kind for record in parser.feed(b"kgb 5 4.0 end .\r\n")] == ["end"]
    assert parser.lost == 3
    assert list(parser.feed(b"kgb 5 4.0 end .\n")) == []
    assert list(parser.feed(b"kgb 6 4.0 end")) == []


def test_any_cutting_of_the_stream_gives_the_same() -> None:
    data = channel(GOOD)
    whole = list(ChannelParser().feed(data))
    assert len(whole) == len(GOOD)
    for size in (1, 7, 64):
        parser = ChannelParser()
        pieces = [data[i : i + size] for i in range(0, len(data), size)]
        assert [record for piece in pieces for record in parser.feed(piece)] == whole


# What is made of it


def test_a_good_run() -> None:
    result = session(GOOD)
    assert result.findings == []
    assert result.finished
    assert not result.incomplete
    assert [phase.phase for phase in result.phases] == ["before", "load", "after", "disable", "disabled", "log"]
    assert all(phase.ok for phase in result.phases)
    assert result.phases[0].fact == "check fails, as it should"
    assert result.phases[1].fact == "1 function, transition complete"
    assert result.phases[1].functions == ("vmlinux/f,1",)
    assert result.phases[2].commands[0].output == "yes"
    assert result.phases[5].fact == "no warning, no oops"
    assert result.release == "6.1.0-56-cloud-amd64"


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("step=before index=0 status=1", "step=before index=0 status=0", "G1-before"),
        ("step=after index=0 status=0", "step=after index=0 status=1", "G5-after"),
        ("step=after index=0 status=0", "step=after index=0 status=timeout", "G5-after"),
        ("step=disabled index=0 status=1", "step=disabled index=0 status=0", "G8-disabled"),
        ("load run=000 status=0", "load run=000 status=timeout", "G2-load"),
        ("step=load done=1", "step=load done=0", "G3-transition"),
        ("step=disable done=1", "step=disable done=0", "G3-transition"),
        ("enabled=1", "enabled=0", "G4-sysfs"),
        (f"functions64={encoded('vmlinux/f,1/' + chr(10))}", "functions64=", "G4-sysfs"),
        ("disable run=000 status=0", "disable run=000 status=1", "G6-disable"),
        ("present=0", "present=1", "G7-unload"),
        ("unload run=000 present=0 status=0", "unload run=000 present=0 status=1", "G7-unload"),
        ("taint=32768", "taint=33408", "G11-taint"),
        (encoded(LOG), encoded(LOG + "<4>[    4.0] WARNING: x\n"), "G9-log"),
        (encoded(LOG), encoded(LOG.partition("\n")[2]), "G9-log"),
    ],
)
def test_each_fault_is_found(old: str, new: str, code: str) -> None:
    result = session(changed(old, new))
    assert codes(result) == [code]
    assert code in RULES
    assert result.findings[0].place == "lp"
    assert sum(not phase.ok for phase in result.phases) == 1


def test_expected_warnings_are_allowed_in_log_and_taint() -> None:
    warned = [
        body.replace(encoded(LOG), encoded(LOG + "<4>[    4.0] WARNING: at f+0x1\n")).replace("32768", "33280")
        for body in GOOD
    ]
    assert codes(session(warned)) == ["G9-log"]
    allowing = dataclasses.replace(PLAN, allow_log=(re.compile(r"at f\+"),))
    result = session(warned, allowing)
    assert result.findings == []
    assert result.phases[-1].fact == "nothing but what was expected"


def test_missing_functions_are_named() -> None:
    result = session(GOOD, dataclasses.replace(PLAN, functions=("vmlinux/f", "vmlinux/g")))
    assert codes(result) == ["G4-sysfs"]
    assert "vmlinux/g" in result.findings[0].fact
    assert "vmlinux/f," not in result.findings[0].fact


def test_a_refused_module_is_explained_by_the_kernel() -> None:
    refused = f"load run=000 status=1 took=3 out64={encoded('insmod: invalid module format')}"
    said = LOG + "<3>[    3.2] lp: version magic 'a' should be 'b'\n"
    bodies = [b for b in GOOD if re.search(r"^hello|^run|before|^phase.*=load|^phase.*=log|^end", b)]
    bodies[5:5] = [refused]
    bodies[-2:-2] = [f"log run=000 taint=0 text64={encoded(said)}"]
    result = session(bodies)
    assert codes(result) == ["G2-load"]
    assert "invalid module format" in result.findings[0].fact
    assert "version magic 'a' should be 'b'" in result.findings[0].fact
    assert "livepatch: enabling" not in result.findings[0].fact
    assert not result.incomplete


def test_tasks_with_one_stack_are_one_stack() -> None:
    stack = "    [<0>] kthread+0x1/0x2\n    [<0>] ret\n"
    text = "".join(f"kworker/{n} {n}\n{stack}" for n in range(42)) + "other 99\n    [<0>] sleep\nbare 100\n"
    count, shown = group_stalled(text)
    assert count == 44 and shown.count("kthread+0x1/0x2") == 1
    assert shown.startswith("42 tasks with one stack: kworker/0 0, kworker/1 1, ")
    assert "kworker/41 41\n    [<0>] kthread" in shown
    assert shown.endswith("other 99\n    [<0>] sleep\nbare 100")
    assert group_stalled("") == (0, "")


def test_stalled_tasks_are_listed() -> None:
    stalled = encoded("kswapd0 36\n    [<0>] kswapd+0x380/0x3a0\n")
    result = session(changed("step=load done=1 took=12", f"step=load done=0 took=6000 stalled64={stalled}"))
    assert "60 s; 1 stalled task:\nkswapd0 36\n    [<0>] kswapd" in result.findings[0].fact


@pytest.mark.parametrize("lost", range(1, len(GOOD) - 1))
def test_no_lost_record_makes_a_yes_of_a_no(lost: int) -> None:
    """Whatever record is lost, the run isn't both complete and without findings, unless it only announced a step."""
    result = session(GOOD[:lost] + GOOD[lost + 1 :])
    assert result.incomplete or result.findings or GOOD[lost].startswith(("begin", "run"))


def test_every_patch_must_have_reported() -> None:
    other = dataclasses.replace(PLAN, name="other")
    assert session(GOOD, PLAN, other).incomplete


def test_the_step_is_known_when_the_guest_dies() -> None:
    before = session(GOOD[:3])
    assert not before.loading
    assert before.step == "`grep x f` (before of lp)"
    result = session(GOOD[:6])
    assert result.loading
    result.died("the kernel died")
    assert codes(result) == ["G10-panic"]
    assert result.findings[0].place == "lp"


def test_output_is_cut_at_its_limit() -> None:
    result = session(changed(encoded("yes"), encoded("é" * 40000)))
    run = result.phases[2].commands[0]
    assert run.truncated
    assert len(run.output.encode()) == 65536


def test_binary_output_is_replaced() -> None:
    result = session(changed(encoded("yes"), encoded(b"\xff\0\r\n")))
    assert result.phases[2].commands[0].output == "\ufffd\0\r\n"


def test_records_of_unknown_runs_are_ignored() -> None:
    result = session([*GOOD[:-1], "phase run=007 step=load", "phase run=x step=load", "phase run=000 step=y", "end"])
    assert result.finished
    assert len(result.phases) == 6


# The machine


def test_qemu_command() -> None:
    argv = qemu_command(Machine(EMULATOR, 3, 700, "qemu64", "nokaslr a='b c'"), "tcg", Path("/k/vmlinuz"), 5, 6)
    text = " ".join(argv)
    assert argv[0] == "qemu-system-x86_64"
    for part in ("-accel tcg", "-smp 3", "-m 700", "-cpu qemu64", "-kernel /k/vmlinuz", "-no-reboot", "-nodefaults"):
        assert part in text
    assert "-initrd /proc/self/fd/5" in text
    # one thread for several CPUs; one CPU needs none of that, and KVM knows no such thing
    assert argv[argv.index("-accel") + 1] == "tcg,thread=single"
    for accel, smp in (("tcg", 1), ("kvm", 3)):
        other = qemu_command(Machine(EMULATOR, smp), accel, Path("/k/vmlinuz"), 5, 6)
        assert other[other.index("-accel") + 1] == accel
    append = argv[argv.index("-append") + 1]
    assert append.startswith("console=ttyS0 panic=-1")
    assert " no_timer_check " in append
    assert append.endswith(" nokaslr a='b c'")
    serials = [argv[i + 1] for i, word in enumerate(argv) if word == "-serial"]
    assert serials == ["chardev:console", "chardev:channel"]


@pytest.mark.parametrize("machine", [Machine(EMULATOR, 0), Machine(EMULATOR, 256), Machine(EMULATOR, memory=64)])
def test_impossible_machines(machine: Machine) -> None:
    with pytest.raises(UserError):
        machine.check()


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    image = tmp_path / "vmlinuz"
    image.write_bytes(b"x")
    there = tmp_path
    vmlinux = tmp_path / "vmlinux"
    vmlinux.write_bytes(write(OutObject(default_arch().machine)))
    found = Kernel(
        KernelId("debian", "6.1.0", "1", "ab" * 20),
        *(there,) * 6,
        image=image,
        modules=None,
        units=there,
        cc="gcc",
        compiler="",
    )
    return dataclasses.replace(found, vmlinux=vmlinux, sandboxed=False)  # the programs in its place are outside


@pytest.fixture
def module(tmp_path: Path) -> Path:
    path = tmp_path / "lp.ko"
    path.write_bytes(modinfo_object(livepatch="Y", name="lp"))
    return path


@pytest.fixture
def stub_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in QEMU's place that says what is in the file `says`, then runs the file `then`."""
    monkeypatch.setattr(host.initramfs, "find_busybox", lambda arch: (b"", []))
    place = tmp_path / "bin"
    place.mkdir()
    program = place / "qemu-system-x86_64"
    program.write_text(
        f"#!/bin/sh\nfor a; do case $a in file,id=console,path=*) con=${{a##*=}};; esac; done\n"
        f"cat {tmp_path}/console >$con 2>/dev/null\ncat {tmp_path}/says\n. {tmp_path}/then\n"
    )
    program.chmod(0o755)
    (tmp_path / "says").write_bytes(channel(GOOD))
    (tmp_path / "then").write_text("exec sleep 600\n")
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    return tmp_path


def boot(kernel: Kernel, module: Path, **options: object) -> host.TestRun:
    patch = PatchRun(module, checks=["grep x f"])
    return run_vm(kernel, [patch], progress=SilentProgress(), accel="tcg", **options)  # type: ignore[arg-type]


def test_a_finished_guest_is_not_waited_for(stub_qemu: Path, kernel: Kernel, module: Path) -> None:
    (stub_qemu / "console").write_text("[    1.0] hello\r\n")
    phases: list[str] = []
    began = time.monotonic()
    result = boot(kernel, module, on_phase=lambda phase: phases.append(phase.phase))
    assert time.monotonic() - began < 20
    assert result.verdict
    assert result.log == "[    1.0] hello\n"
    assert phases == ["before", "load", "after", "disable", "disabled", "log"]
    assert result.of("lp")["load"].ok
    document = json.loads(json.dumps(result.to_json()))
    assert document["schema"] == "kgbuild/vm/1"
    assert document["phases"][0]["commands"][0]["cmd"] == "grep x f"


def test_a_guest_that_does_not_boot(stub_qemu: Path, kernel: Kernel, module: Path) -> None:
    (stub_qemu / "says").write_bytes(b"")
    (stub_qemu / "console").write_text("[    1.0] Kernel panic - not syncing: no init\n")
    (stub_qemu / "then").write_text("exit 0\n")
    kept: list[str] = []
    with pytest.raises(ToolError, match=r"did not boot(?s:.*)no init"):
        boot(kernel, module, on_console=kept.append)
    assert kept == ["[    1.0] Kernel panic - not syncing: no init\n"]


def test_a_kernel_that_dies_early_is_booted_once_more(stub_qemu: Path, kernel: Kernel, module: Path) -> None:
    """The emulator's timer can be too late for the kernel's test of it."""
    panic = "Kernel panic - not syncing: IO-APIC + timer doesn't work!"
    program = stub_qemu / "bin" / "qemu-system-x86_64"
    lines = program.read_text().splitlines(True)
    for before in (channel([]), channel(GOOD[:3])):
        (stub_qemu / "boots").write_text("")
        (stub_qemu / "first").write_bytes(before)
        first = (
            f'echo x >>{stub_qemu}/boots; if [ "$(grep -c x {stub_qemu}/boots)" = 1 ]; then '
            f'echo "{panic}" >$con; cat {stub_qemu}/first; exit 0; fi\n'
        )
        program.write_text("".join([*lines[:2], first, *lines[2:]]))
        result = boot(kernel, module)
        assert result.verdict and result.outcome == "ok"
        assert (stub_qemu / "boots").read_text() == "x\nx\n"
        assert [p.phase for p in result.phases] == ["before", "load", "after", "disable", "disabled", "log"]


def test_a_kernel_that_dies_with_the_patch_is_not_booted_again(stub_qemu: Path, kernel: Kernel, module: Path) -> None:
    (stub_qemu / "says").write_bytes(channel(GOOD[:6]))
    (stub_qemu / "console").write_text("[    3.0] Kernel panic - not syncing: in init\n")
    (stub_qemu / "then").write_text(f"echo x >>{stub_qemu}/boots; exit 0\n")
    assert boot(kernel, module).outcome == "no"
    assert (stub_qemu / "boots").read_text() == "x\n"


def test_qemus_own_complaint_is_shown(stub_qemu: Path, kernel: Kernel, module: Path) -> None:
    (stub_qemu / "says").write_bytes(b"")
    (stub_qemu / "then").write_text("echo 'unable to find CPU model' >&2; exit 1\n")
    with pytest.raises(ToolError, match="could not start the guest: unable to find CPU model"):
        boot(kernel, module)


def test_a_guest_that_hangs(stub_qemu: Path, kernel: Kernel, module: Path) -> None:
    (stub_qemu / "says").write_bytes(channel(GOOD[:6]))
    with pytest.raises(ToolError, match="did not finish within 1 s; it was at load of lp"):
        boot(kernel, module, timeout=1)


def test_a_panic_after_loading_began_is_a_verdict(stub_qemu: Path, kernel: Kernel, module: Path) -> None:
    (stub_qemu / "says").write_bytes(channel(GOOD[:6]))
    (stub_qemu / "console").write_text("[    3.0] Kernel panic - not syncing: in init\n")
    (stub_qemu / "then").write_text("exit 0\n")
    result = boot(kernel, module)
    assert not result.verdict
    assert [finding.code for finding in result.findings] == ["G10-panic"]
    assert "in init" in result.findings[0].fact


def test_a_panic_before_loading_is_no_verdict(stub_qemu: Path, kernel: Kernel, module: Path) -> None:
    (stub_qemu / "says").write_bytes(channel(GOOD[:3]))
    (stub_qemu / "console").write_text("[    3.0] Kernel panic - not syncing: early\n")
    (stub_qemu / "then").write_text("exit 0\n")
    with pytest.raises(ToolError, match="early"):
        boot(kernel, module)


def test_a_killed_qemu_is_no_verdict(stub_qemu: Path, kernel: Kernel, module: Path) -> None:
    (stub_qemu / "says").write_bytes(channel(GOOD[:6]))
    (stub_qemu / "then").write_text("kill -9 $$\n")
    with pytest.raises(ToolError, match="killed by signal 9"):
        boot(kernel, module)


def test_an_oops_on_a_silent_guest_ends_the_wait(
    stub_qemu: Path, kernel: Kernel, module: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "HUNG_SECONDS", 0.5)
    (stub_qemu / "says").write_bytes(channel(GOOD[:6]))
    (stub_qemu / "console").write_text("[    3.0] BUG: kernel NULL pointer dereference, address: 8\n")
    result = boot(kernel, module, timeout=60)
    assert not result.verdict
    assert "hung at load of lp: BUG: kernel NULL" in result.findings[0].fact
    assert result.seconds < 30


def test_lost_records_are_no_verdict(stub_qemu: Path, kernel: Kernel, module: Path) -> None:
    (stub_qemu / "says").write_bytes(channel([body for body in GOOD if body != "phase run=000 step=after"]))
    with pytest.raises(ToolError, match="not complete"):
        boot(kernel, module)


def test_no_file_and_no_process_is_left(stub_qemu: Path, kernel: Kernel, module: Path) -> None:
    (stub_qemu / "says").write_bytes(channel(GOOD[:6]))
    (stub_qemu / "then").write_text(f"echo $$ >{stub_qemu}/pid; exec sleep 600\n")
    with pytest.raises(ToolError):
        boot(kernel, module, timeout=1)
    pid = int((stub_qemu / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    names = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            names.append(str(descriptor.readlink()))
    assert not any("memfd:kgbuild-" in name for name in names)


def test_what_is_no_live_patch(kernel: Kernel, tmp_path: Path, stub_qemu: Path) -> None:
    plain = tmp_path / "plain.ko"
    plain.write_bytes(modinfo_object(name="plain"))
    text = tmp_path / "text.ko"
    text.write_text("no module")
    for path in (plain, text):
        with pytest.raises(UserError, match="not a live patch"):
            boot(kernel, path)
    with pytest.raises(UserError):
        boot(kernel, tmp_path / "absent.ko")
    evil = tmp_path / "evil.ko"
    evil.write_bytes(modinfo_object(livepatch="Y", name="../x"))
    with pytest.raises(UserError, match="no module can have"):
        boot(kernel, evil)


def test_bad_requests(kernel: Kernel, module: Path, stub_qemu: Path) -> None:
    with pytest.raises(UserError, match="regular expression"):
        run_vm(kernel, [PatchRun(module, allow_log=["("])], progress=SilentProgress())
    with pytest.raises(UserError, match="two of the modules"):
        run_vm(kernel, [PatchRun(module), PatchRun(module)], progress=SilentProgress())
    with pytest.raises(UserError, match="for no loadable module"):
        run_vm(kernel, [PatchRun(module, absent=["true"])], progress=SilentProgress())
    with pytest.raises(UserError, match="no patch"):
        run_vm(kernel, [], progress=SilentProgress())


def test_no_qemu(kernel: Kernel, module: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match="not found") as caught:
        boot(kernel, module)
    assert "qemu-system-x86" in caught.value.remedy


# KVM


def test_kvm_answers_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probes: list[str] = []
    monkeypatch.setattr(kvm, "DEVICE", tmp_path)
    monkeypatch.setattr(kvm, "probe_acceleration", lambda emulator, accel, cpu, smp: probes.append(cpu) or True)
    cache = Cache(tmp_path / "cache")
    assert kvm.kvm_works(EMULATOR, "max", 1, cache)
    assert kvm.kvm_works(EMULATOR, "max", 1, cache)
    assert probes == ["max"]
    assert kvm.kvm_works(EMULATOR, "host", 1, cache)
    assert probes == ["max", "host"]
    kvm.remember(EMULATOR, "max", 1, False, cache)
    assert not kvm.kvm_works(EMULATOR, "max", 1, cache)
    (cache.root / "kvm.json").write_text("{broken")
    assert kvm.kvm_works(EMULATOR, "max", 1, cache)


def test_no_kvm_device_no_probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kvm, "DEVICE", tmp_path / "absent")
    monkeypatch.setattr(kvm, "probe_acceleration", lambda *_: pytest.fail("probed"))
    assert not kvm.kvm_works(EMULATOR, "max", 1, Cache(tmp_path / "cache"))


def test_limited_programs_are_killed() -> None:
    began = time.monotonic()
    assert kvm.run_limited(["sleep", "600"], 0.2) is None
    assert time.monotonic() - began < 5
    assert kvm.run_limited(["sh", "-c", "exit 33"], 5) == 33
    assert kvm.run_limited(["/nonexistent"], 5) is None


def test_boot_sector_is_bootable() -> None:
    sector = default_arch().platform.emulator.probe.disk
    assert sector[510:512] == b"\x55\xaa"
    assert len(sector) % 512 == 0


def test_qemu_dies_with_us(tmp_path: Path, stub_qemu: Path) -> None:
    """Even a killed kgbuild leaves no QEMU behind."""
    assert die_with_us(), "no setpriv: apt-get install util-linux"
    (stub_qemu / "then").write_text(f"echo $$ >{stub_qemu}/pid; exec sleep 600\n")
    code = (
        "import subprocess\nfrom kgbuild.host.vm.qemu import die_with_us\n"
        "subprocess.Popen([*die_with_us(), 'qemu-system-x86_64']).wait()"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
    limit = time.monotonic() + 20
    while not (stub_qemu / "pid").exists() or not (stub_qemu / "pid").read_text().strip():
        assert time.monotonic() < limit
        time.sleep(0.05)
    pid = int((stub_qemu / "pid").read_text())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    stat = Path(f"/proc/{pid}/stat")
    while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < limit
        time.sleep(0.05)


def test_qemu_sees_the_kernel_and_nothing_else(tmp_path: Path) -> None:
    image = tmp_path / "vmlinuz"
    image.write_bytes(b"x")
    words = confined(["qemu-system-x86_64", "-m", "1"], image, "tcg", {"PATH": "/usr/bin"})
    bound = {words[i + 2] for i, word in enumerate(words) if word in ("--ro-bind", "--bind", "--dev-bind")}
    assert str(image) in bound and "/dev/kvm" not in bound
    assert all(path.startswith(("/usr", "/bin", "/sbin", "/lib", "/etc/alternatives")) for path in bound - {str(image)})
    assert "--unshare-all" in words and words[-2:] == ["-m", "1"]
    assert "/dev/kvm" in confined(["qemu-system-x86_64"], image, "kvm", {})


def test_the_status_of_a_program_in_a_sandbox() -> None:
    assert [own_status(s, True) for s in (0, 1, 137, None)] == [0, 1, -9, None]
    assert own_status(137, False) == 137
